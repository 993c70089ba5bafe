//! Codes of scripts and hooks. Pure.

use crate::codes::code::room;

room! {
    SCRIPTS: "Scripts and hooks";

    SCRIPT_NOT_RUN = 601;
        means: "A post-processing script was not run, as the program shuts down.";
        cause: "The program was ended while a job was at its scripts.";
        remedy: "Nothing: another attempt runs it, unless the line stands at the last one.";

    SCRIPT_FAILED = 602;
        means: "A post-processing script failed.";
        cause: "It ended with an error, or took longer than its limit. Its own lines are above.";
        remedy: "Run the script by hand as the recorder's user. The recording itself is delivered.";

    HOOK_SENT_AGAIN = 603;
        means: "The HTTP request of a hook failed and is sent once more.";
        cause: "Its server closed the connection, or answered with an error.";
        remedy: "Look at that server where it repeats.";

    HOOK_STOPPED = 604;
        means: "A hook was stopped before it answered.";
        cause: "The program shuts down.";
        remedy: "Nothing: its step is done again later.";

    HOOK_NO_ANSWER = 605;
        means: "A hook gave no usable answer; what it was given goes on.";
        cause: "Its output is no JSON object, or of another recording.";
        remedy: "Correct the hook's output, see docs/hooks.md.";

    HOOK_NOT_STARTED = 606;
        means: "The script of a hook cannot be started.";
        cause: "The file is missing or not executable, or the machine has no process left.";
        remedy: "Correct the path, or `chmod +x` the script. It is tried again.";

    HOOK_UNASKED = 607;
        means: "A hook put out something that nobody asked for; it is dropped.";
        cause: "The script writes to its standard output, which is for answers only.";
        remedy: "Let it log to standard error.";

    HOOK_DIED = 608;
        means: "The script of a hook has ended and is started again.";
        cause: "It failed, or does not loop over its input. Its last words are in the line.";
        remedy: "Mend the script: it is to read requests until its input ends, see docs/hooks.md.";

    HOOK_GIVEN_UP = 609;
        means: "A request to a hook was given up, so its process is replaced.";
        cause: "The recording or job that asked was ended.";
        remedy: "Nothing.";

    HOOK_OUT_OF_STEP = 610;
        means: "A hook's process is not in step with its requests and is replaced.";
        cause: "It answered twice, or late.";
        remedy: "Let the script give exactly one line for each request.";
}
