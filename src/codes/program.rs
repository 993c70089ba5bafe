//! Codes of child programs, libraries and the log. Pure.

use crate::codes::code::room;

room! {
    PROGRAM: "Programs and the log";

    LIBRARY = 1001;
        means: "A library in this program warns of something.";
        recordings: "Not concerned by this line alone.";
        cause: "The line names the library, and has its words.";
        remedy: "Nothing: what matters has a line of its own. Report it where it comes together with a fault.";

    PANIC = 1002;
        means: "A part of the program has panicked.";
        recordings: "The recording or job concerned goes on by itself or is tried again: the lines after it say how.";
        cause: "A fault of this program, at the place in its source that the line names.";
        remedy: "Report the line with those before it. Restart the recorder only if PNR-0103 follows and systemd \
                 does not.";

    CHILD_NOT_AWAITED = 1003;
        means: "The exit code of a program that has ended cannot be had.";
        recordings: "Not concerned.";
        cause: "The kernel refuses it: another part has taken the process over.";
        remedy: "Nothing. Report it where it repeats.";

    CHILD_KILLED = 1004;
        means: "A program does not end in its time and is killed.";
        recordings: "Safe; where it was a hook or script, its own line says what follows.";
        cause: "It hangs, or the host is overloaded. `child` names the program.";
        remedy: "Nothing where the line comes once. Else look at the load (`top`) and, of a script, at what it waits \
                 for.";

    CHILD_STUCK = 1005;
        means: "A program was killed, but does not end.";
        recordings: "The recording goes on without it. What it has written is kept.";
        cause: "It waits in the kernel for a disk that does not answer (state D in `ps`). `child` names the program.";
        remedy: "Bring the disk back, or unmount it (`umount -f`, `umount -l`); `dmesg -T` names it. The process \
                 then ends by itself.";

    OUTPUT_LEFT_OUT = 1006;
        means: "A program writes more than the log takes; the rest of the minute is left out.";
        recordings: "Not concerned.";
        cause: "A script logs more than 600 lines or 64 KiB a minute, or ffmpeg repeats a complaint. `child` names \
                it.";
        remedy: "Let a script write into a file of its own (docs/logs.md). Of ffmpeg, read the lines above this one.";

    CHILD_SAYS = 1007;
        means: "ffmpeg has written this line while it recorded or broadcast.";
        recordings: "By itself the line ends nothing. If ffmpeg fails, PNR-0203 or PNR-0210 follows.";
        cause: "Mostly an option that it does not like, a disk that it cannot write, or a warning about time stamps.";
        remedy: "Nothing where the recording goes on without further lines. Else read it together with the lines \
                 that follow.";

    START_HELD_UP = 1008;
        means: "The start of a program hung on a disk, which answers again.";
        recordings: "A recording, job or hook that needed the program was tried again, as its own lines say.";
        cause: "The disk or share on which the program is did not answer. The line names it.";
        remedy: "Nothing for now. Put the program on a local disk if it is on a share, and look at that disk (`dmesg \
                 -T`).";

    PROCESSES_STUCK = 1009;
        means: "Processes of Chrome do not end, although they were killed.";
        recordings: "The recording goes on to its next part or its end. What was captured is kept.";
        cause: "They wait in the kernel for a disk that does not answer (state D in `ps`). The line has their \
                numbers.";
        remedy: "Bring the disk back or unmount it (`umount -f`, `umount -l`); `dmesg -T` names it. Where they stay, \
                 drain the node and restart the host.";

    LOG_STANDS_STILL = 1010;
        means: "An output of the log has taken nothing for 10 s.";
        recordings: "Not concerned. Lines of the log will be lost.";
        cause: "The disk of log_settings.log_file hangs, or nobody reads standard output. `output` says which.";
        remedy: "Look at that disk (`dmesg -T`), or at who reads standard output: `systemctl status \
                 systemd-journald`, or the container's log driver.";

    LOG_LINES_LOST = 1011;
        means: "Lines of the log are lost.";
        recordings: "Not concerned.";
        cause: "An output took nothing for so long that its queue of 8,192 lines was full. The line says how many \
                are lost.";
        remedy: "Look at the disk of log_settings.log_file, or at who reads standard output: `systemctl status \
                 systemd-journald`, or the container's log driver.";
}
