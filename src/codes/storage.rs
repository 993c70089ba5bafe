//! Codes of storage: disks, records, `main_path`. Pure.

use crate::codes::code::room;

room! {
    STORAGE: "Storage: disks, records, main_path";

    RECORD_PUT_ASIDE = 901;
        means: "A record cannot be read and is put aside.";
        cause: "The file is damaged, was changed by hand, or is of another version.";
        remedy: "Look at the file that the line names. Its recording may need `recordings list` and a look at \
                 temporary_dir.";

    RECORD_NOT_PUT_ASIDE = 902;
        means: "A record cannot be read, nor put aside.";
        cause: "The file is damaged, and its directory is not writable.";
        remedy: "Look at the disk of recorder.state_dir, and move the file away by hand.";

    RECORDS_NOT_LISTED = 903;
        means: "The records in a directory cannot be read.";
        cause: "The disk of recorder.state_dir fails, or the directory belongs to another user.";
        remedy: "Look at that disk and the directory's owner.";

    RECORDS_NOT_WRITTEN = 904;
        means: "Records cannot be written: the work goes on from memory.";
        cause: "The disk of recorder.state_dir is full, read-only or does not answer.";
        remedy: "Look at that disk now: a crash would lose what is not written.";

    ROOM_UNKNOWN = 905;
        means: "How much room a disk has left cannot be seen.";
        cause: "The disk or share does not answer, or the directory is gone.";
        remedy: "Look at the directory that the line names.";

    DISK_NEARLY_FULL = 906;
        means: "A disk is nearly full, so no new recordings are taken.";
        cause: "The free space is below recorder.min_free_space.";
        remedy: "Free room, or give the directory a larger disk. Running recordings go on.";

    DISK_FULL = 907;
        means: "A disk is full: running recordings are ended, so that they can be saved.";
        cause: "The free space is below a tenth of recorder.min_free_space, or so low that files could not be closed.";
        remedy: "Free room at once. `recordings list` and `outbox list` show what waits.";

    MARKER_REMOVED = 908;
        means: "The file by which main_path is known was removed; it is written again.";
        cause: "Somebody cleans up in main_path.";
        remedy: "Leave the file that the line names there.";

    MEMORY_REMOVED = 909;
        means: "The file that remembers main_path was removed, so what is there now is accepted.";
        cause: "Somebody has removed it from recorder.state_dir, as one does after a move to another share.";
        remedy: "Nothing, where that was meant. Else see that the right share is mounted.";

    MAIN_PATH_NOT_REMEMBERED = 910;
        means: "Which file system main_path is cannot be written down.";
        cause: "The disk of recorder.state_dir is full or fails.";
        remedy: "Look at that disk. Until then a missing mount would not be noticed after a restart.";

    MAIN_PATH_AWAY = 911;
        means: "main_path is away, another file system, or not writable; what is to be stored waits.";
        cause: "A share is not mounted, hangs, or another one is mounted in its place. The line names the fault.";
        remedy: "Mount the right share; work goes on within 5 s. Where another one is meant, remove main_path.json in \
                 recorder.state_dir.";

    NEWER_STATE = 912;
        means: "A newer version has written recorder.state_dir, so this one does not start.";
        cause: "The program was put back to an older version, which cannot read the records and would lose them. \
                Nothing in the directory was changed.";
        remedy: "Install the version that the line names, or a newer one. Or set recorder.state_dir to another \
                 directory: what the old one holds then waits until a newer version runs on it.";

    STATE_VERSION_UNKNOWN = 913;
        means: "The file version.json in recorder.state_dir does not tell a version, and is written anew.";
        cause: "The file is damaged, was changed by hand, or its disk fails.";
        remedy: "Nothing, where the line comes once. Else look at the disk of recorder.state_dir.";

    STATE_VERSION_NOT_WRITTEN = 914;
        means: "The version of recorder.state_dir cannot be written, so that an older version would not refuse it.";
        cause: "The disk of recorder.state_dir is full, read-only or fails.";
        remedy: "Look at that disk before the program is put back to an older version. The next start tries again.";
}
