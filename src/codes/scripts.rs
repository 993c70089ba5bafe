//! Codes of scripts and hooks. Pure.

use crate::codes::code::room;

room! {
    SCRIPTS: "Scripts and hooks";

    SCRIPT_NOT_RUN = 601;
        means: "A post-processing script was not run, as the program shuts down.";
        recordings: "The recording is delivered. Where the job was at its last attempt, nobody runs this script for \
                     it.";
        cause: "The recorder was stopped while a job was at its scripts. The line names the script.";
        remedy: "Look whether a later line says that the script was run for this recording. If not, run it by hand.";

    SCRIPT_FAILED = 602;
        means: "A post-processing script failed.";
        recordings: "The recording is delivered. What the script should have done with it, as an upload, is not.";
        cause: "It ended with an error, or took longer than recorder.post_processing_timeout. The line names it and \
                the error; its own lines are above.";
        remedy: "Run the script by hand as the recorder's user, with the JSON argument that \
                 post_processing_scripts/README.md describes. Under the unit it has fewer rights than in a shell.";

    HOOK_SENT_AGAIN = 603;
        means: "The HTTP request of a hook failed and is sent once more.";
        recordings: "Safe. The hook's server may get the same request twice.";
        cause: "Its server could not be reached, or closed the connection before it answered. The line names stage \
                and URL.";
        remedy: "Nothing where the line comes once. Else look at that server.";

    HOOK_STOPPED = 604;
        means: "A hook was stopped before it answered.";
        recordings: "Safe: its step is done again after the next start, or by another node.";
        cause: "The program shuts down.";
        remedy: "Nothing. The hook may see the same recording twice.";

    HOOK_NO_ANSWER = 605;
        means: "A hook gave no usable answer; what it was given goes on.";
        recordings: "The recording goes on as if the hook had answered nothing. If the hook has moved its file, the \
                     next step does not find it.";
        cause: "Its output is no JSON object, is longer than 1 MiB, or names another recording. The line names the \
                hook and quotes the beginning.";
        remedy: "Let it print one JSON object, and log to standard error (docs/hooks.md). `plugnmeet-recorder hooks \
                 test STAGE` shows what it prints.";

    HOOK_NOT_STARTED = 606;
        means: "The script of a hook cannot be started.";
        recordings: "Safe; it waits for the hook.";
        cause: "The file is missing or not executable, its disk does not answer, or the host has no process left. \
                The line names file and error.";
        remedy: "Correct the path, or `chmod +x` the script. It is tried again by itself.";

    HOOK_UNASKED = 607;
        means: "A hook printed something that nobody asked for; it is dropped.";
        recordings: "Safe. The hook's process is replaced, or its own answer waited for.";
        cause: "The script writes to standard output before it was asked, more than its answer, or the answer to \
                another recording.";
        remedy: "Let it print exactly one line of JSON for each request, and log to standard error (docs/hooks.md).";

    HOOK_DIED = 608;
        means: "The script of a long-lived hook has ended, and is started again.";
        recordings: "Safe: a fresh process is asked once more.";
        cause: "It failed, or does not read requests in a loop. Its last words are in the line.";
        remedy: "Mend the script: it is to read requests until its input ends (docs/hooks.md). If it is to be \
                 started for each recording, set `is_one_shot: true`.";

    HOOK_GIVEN_UP = 609;
        means: "Nobody waits for a hook's answer any more, so its process is replaced.";
        recordings: "Safe; what becomes of it is in its own lines.";
        cause: "The recording or job that asked was ended, or the program shuts down.";
        remedy: "Nothing.";

    HOOK_OUT_OF_STEP = 610;
        means: "After its answer a hook's process can no longer be trusted to answer the right request, and is \
                replaced.";
        recordings: "Safe, and has the hook's answer.";
        cause: "It answered another request before, did not read all of this one, or was late.";
        remedy: "Let it read each request whole and print exactly one line for it (docs/hooks.md).";
}
