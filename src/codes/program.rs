//! Codes of child programs, libraries and the log. Pure.

use crate::codes::code::room;

room! {
    PROGRAM: "Programs and the log";

    LIBRARY = 1001;
        means: "A library that this program uses warns of something.";
        cause: "The line names the library in brackets, and has its words.";
        remedy: "Mostly nothing: what matters has a line of its own. Report it where it repeats with a fault.";

    PANIC = 1002;
        means: "A part of the program has panicked.";
        cause: "A fault of this program.";
        remedy: "Report the line. The recording or job concerned goes on by itself or is tried again; see the lines \
                 after it.";

    CHILD_NOT_AWAITED = 1003;
        means: "The end of a program cannot be waited for.";
        cause: "The kernel refuses it: another part has taken the process over.";
        remedy: "Nothing. Report it where it repeats.";

    CHILD_KILLED = 1004;
        means: "A program does not end in its time and is killed.";
        cause: "It hangs, or the machine is overloaded.";
        remedy: "Look at the program's own lines, and at the load.";

    CHILD_STUCK = 1005;
        means: "A program was killed, but does not end.";
        cause: "It waits for a disk that does not answer (state D in `ps`).";
        remedy: "Bring the disk back, or unmount it (`umount -l`).";

    OUTPUT_LEFT_OUT = 1006;
        means: "A program writes more than the log takes; the rest of the minute is left out.";
        cause: "A script logs very much, or Chrome or ffmpeg repeat a complaint.";
        remedy: "Let a script write a file of its own, see docs/logs.md.";

    CHILD_SAYS = 1007;
        means: "A program that the recorder runs has written this line.";
        cause: "`child` names the program: ffmpeg, Chrome, Xvfb, PulseAudio, or a script.";
        remedy: "Read the line together with those of the recording around it. By itself it ends nothing.";

    START_HELD_UP = 1008;
        means: "The start of a program was held up by a disk that answers again.";
        cause: "The disk or share with the program did not answer.";
        remedy: "Look at that disk. What was to be started was given up meanwhile.";

    PROCESSES_STUCK = 1009;
        means: "Processes of Chrome do not end, although they were killed.";
        cause: "They wait for a disk that does not answer (state D in `ps`).";
        remedy: "Bring the disk back, or restart the host where they stay.";

    LOG_STANDS_STILL = 1010;
        means: "An output of the log has stood still for 10 s.";
        cause: "The disk of the log file hangs, or nobody reads standard output.";
        remedy: "Look at the disk, or at journald or whatever reads the output.";

    LOG_LINES_LOST = 1011;
        means: "Lines of the log are lost.";
        cause: "An output stood still for so long that its queue was full.";
        remedy: "Look at the disk of the log, or at whatever reads standard output. Recordings are not concerned.";
}
