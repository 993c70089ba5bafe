//! Codes of storage: disks, records, `main_path`. Pure.

use crate::codes::code::room;

room! {
    STORAGE: "Storage: disks, records, main_path";

    RECORD_PUT_ASIDE = 901;
        means: "A record has no usable content and is put aside.";
        recordings: "Its recording is not delivered by itself any more, if it was unfinished: its parts or its raw \
                     file stay where they are.";
        cause: "The file is damaged, as after a loss of power, was changed by hand, or is of another version. The \
                line names the new name `*.unreadable`, and why.";
        remedy: "The file's name has the recording's id: look for `<recording_id>_raw*` in recorder.temporary_dir \
                 and under main_path, and copy what is there. If a newer version wrote the record, start that \
                 version and give the file its name back.";

    RECORD_NOT_PUT_ASIDE = 902;
        means: "A record cannot be read, nor put aside.";
        recordings: "Its recording is not delivered by itself, if it was unfinished: its parts or its raw file stay \
                     where they are.";
        cause: "The file is damaged, and its directory cannot be written. The line names both.";
        remedy: "Make recorder.state_dir writable (`df -h`, `dmesg -T`, `chown`), and move the file away by hand. \
                 Look for `<recording_id>_raw*` in recorder.temporary_dir and under main_path.";

    RECORDS_NOT_LISTED = 903;
        means: "The records in a directory cannot be read.";
        recordings: "Unfinished work of an earlier run waits. Nothing of it is removed.";
        cause: "The disk of recorder.state_dir fails, or the directory belongs to another user. The line names it.";
        remedy: "Mend that disk (`dmesg -T`), or give the directory to the recorder's user (`chown`). If nothing \
                 goes on then, restart the recorder.";

    RECORDS_NOT_WRITTEN = 904;
        means: "Records cannot be written: the work goes on from memory.";
        recordings: "Running recordings go on from memory. A crash now would leave the newest of their parts to you, \
                     in recorder.temporary_dir. No new one is taken.";
        cause: "The disk of recorder.state_dir is full, read-only or does not answer. The line names directory and \
                error.";
        remedy: "Free room there or bring it back now (`df -h`, `dmesg -T`), and do not restart the recorder before. \
                 `are written again` follows by itself.";

    ROOM_UNKNOWN = 905;
        means: "How much room a disk has left cannot be found out.";
        recordings: "Recordings go on; a disk that fills up is not noticed until then.";
        cause: "The disk or share does not answer, or the directory is gone. The line names it.";
        remedy: "Mount the directory that the line names, or bring its disk back (`df -h`, `dmesg -T`).";

    DISK_NEARLY_FULL = 906;
        means: "A disk is nearly full, so no new recordings are taken.";
        recordings: "Running recordings go on. They are ended when the disk is full (PNR-0907).";
        cause: "The free space is below recorder.min_free_space. The line names the directory.";
        remedy: "Free room there (`df -h`, `du -xsh`), now if recordings run. New ones are taken again by \
                 themselves.";

    DISK_FULL = 907;
        means: "A disk is full: running recordings are ended, so that they can be saved.";
        recordings: "What was captured is kept. The rest of these meetings is not recorded.";
        cause: "The free space is below a tenth of recorder.min_free_space, at least 256 MiB. The line names the \
                directory.";
        remedy: "Free room there at once (`df -h`, `du -xsh`), then have the recordings started again. \
                 `plugnmeet-recorder recordings list` shows what waits to be stored.";

    MARKER_REMOVED = 908;
        means: "The file by which main_path is known was removed; it is written again.";
        recordings: "Safe.";
        cause: "Somebody has cleaned up in main_path. The line names the file.";
        remedy: "Nothing. Leave the hidden file `.plugnmeet-recorder` there: without it a share that is not mounted \
                 would not be noticed.";

    MEMORY_REMOVED = 909;
        means: "What is at main_path now is accepted as the storage of this node.";
        recordings: "Recordings are stored there from now on. Those on an earlier share stay on it.";
        cause: "Somebody has removed main_path.json from recorder.state_dir, as one does after a move to another \
                share.";
        remedy: "Nothing, where that was meant. Else see at once that the right share is mounted (`findmnt -T` on \
                 main_path).";

    MAIN_PATH_NOT_REMEMBERED = 910;
        means: "This node cannot write down which file system main_path is.";
        recordings: "Safe now. After a restart with the share not mounted, they would be stored beside it.";
        cause: "The disk of recorder.state_dir is full or fails. The line names file and error.";
        remedy: "Free room there or mend it (`df -h`, `dmesg -T`). It is tried again by itself.";

    MAIN_PATH_AWAY = 911;
        means: "main_path is away, another file system, read-only or does not answer.";
        recordings: "Nothing is lost: what is to be stored waits in recorder.temporary_dir, if that is on another \
                     disk, and running recordings go on there. No new one is taken.";
        cause: "A share is not mounted, hangs, or another one is mounted in its place. The line names the fault.";
        remedy: "Mount the right share (`findmnt -T` on main_path); work goes on within 5 s. Where another one is \
                 meant, remove main_path.json from recorder.state_dir.";

    NEWER_STATE = 912;
        means: "A newer version has written recorder.state_dir, so this one does not start.";
        recordings: "Recordings wait, and nothing in the directory was changed.";
        cause: "The program was put back to an older version, which cannot read the records and would lose them.";
        remedy: "Install the version that the line names, or a newer one. Or set recorder.state_dir to another \
                 directory: what the old one holds then waits until a newer version runs on it.";

    STATE_VERSION_UNKNOWN = 913;
        means: "version.json in recorder.state_dir does not tell a version, and is written anew.";
        recordings: "Safe.";
        cause: "The file is damaged, was changed by hand, or its disk fails.";
        remedy: "Nothing, where the line comes once. Else look at the disk of recorder.state_dir.";

    STATE_VERSION_NOT_WRITTEN = 914;
        means: "This version cannot be noted in recorder.state_dir.";
        recordings: "Safe. An older version that is started on this directory would not refuse it, and might put \
                     records aside.";
        cause: "The disk of recorder.state_dir is full, read-only or fails. The line names the error.";
        remedy: "Free room there or mend it (`df -h`, `dmesg -T`) before an older version is installed. The next \
                 start tries again.";
}
