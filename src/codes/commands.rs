//! Codes of commands that fail. Pure.

use crate::codes::code::room;

room! {
    COMMANDS: "Commands";

    WRONG_USAGE = 1201;
        means: "The command line cannot be understood.";
        cause: "A flag, command or value is misspelt or missing.";
        remedy: "Follow the line; `plugnmeet-recorder --help` and `plugnmeet-recorder COMMAND --help` show what there \
                 is.";

    CONFIGURATION_UNREADABLE = 1202;
        means: "The configuration file cannot be read.";
        cause: "It is not at this path (relative to the working directory), or this user may not read it.";
        remedy: "Name it with `-config PATH`, or correct its owner and mode.";

    CONFIGURATION_INVALID = 1203;
        means: "The configuration cannot be used.";
        cause: "A value is wrong or missing. Each line names the key, its line in the file, and what is allowed.";
        remedy: "Correct these keys; config_sample.yaml shows every setting with its default.";

    LOG_NOT_OPENED = 1204;
        means: "The log cannot be opened.";
        cause: "The directory of log_settings.log_file is missing, full, or belongs to another user.";
        remedy: "Create the directory and give it to the recorder's user, or set another log_file.";

    NOT_STARTED_AS_CHILD = 1205;
        means: "The recorder is process 1 and cannot start itself as a child.";
        cause: "The container has no /proc, or allows no further process.";
        remedy: "Run it under an init, as `docker run --init` does, and look at the container's limit of processes.";

    OUTPUT_NOT_WRITTEN = 1206;
        means: "Standard output cannot be written to.";
        cause: "It is closed, or goes into a file on a full disk.";
        remedy: "Look at where the output goes, and try again.";

    NO_STATE = 1207;
        means: "There is no state directory.";
        cause: "No recorder has run with this configuration yet, or it runs from another working directory or as \
                another user.";
        remedy: "Name the recorder's configuration with `-config PATH`, and run the command as its user and from its \
                 working directory.";

    STATE_UNREADABLE = 1208;
        means: "A file or directory of recorder.state_dir cannot be read.";
        cause: "This user may not read it, or its disk fails.";
        remedy: "Run the command as the user that the recorder runs as (`sudo -u`).";

    UNKNOWN_JOB = 1209;
        means: "This node holds no such job.";
        cause: "The id is misspelt, another node has the job, or it is done.";
        remedy: "`plugnmeet-recorder jobs list` shows the jobs of this node.";

    JOB_UNREADABLE = 1210;
        means: "The record of a job cannot be read.";
        cause: "The file is damaged or of a newer version, or its disk fails.";
        remedy: "Look at the file that the line names. The raw file that the job is about is not touched.";

    JOB_ORDER_REFUSED = 1211;
        means: "The order about a job was refused.";
        cause: "The job is not in a state for it, or its files are not there. The line says which.";
        remedy: "Follow the line; `plugnmeet-recorder jobs list` shows the state of each job.";

    JOB_ORDER_NOT_WRITTEN = 1212;
        means: "The order about a job could not be written down.";
        cause: "This user may not write in recorder.state_dir, or its disk is full or fails.";
        remedy: "Run the command as the recorder's user, and look at that disk.";

    UNKNOWN_MESSAGES = 1213;
        means: "This node has nothing to tell of this recording.";
        cause: "The id is misspelt, or another node has recorded it.";
        remedy: "`plugnmeet-recorder outbox list --all` shows what this node has.";

    OUTBOX_ORDER_REFUSED = 1214;
        means: "The order about messages was refused.";
        cause: "They are delivered or dropped already, or there is no such message.";
        remedy: "Follow the line; `plugnmeet-recorder outbox list --all` shows the state of each.";

    OUTBOX_ORDER_NOT_WRITTEN = 1215;
        means: "The order about messages could not be written down.";
        cause: "This user may not write in recorder.state_dir, or its disk is full or fails.";
        remedy: "Run the command as the recorder's user, and look at that disk.";

    UNKNOWN_RECORDING = 1216;
        means: "This node knows no such recording.";
        cause: "The id is misspelt, or another node has recorded it.";
        remedy: "`plugnmeet-recorder recordings list` and `jobs list` show ids. Without `--recording-id` the hooks get \
                 made-up data.";

    COMMAND_NOT_STARTED = 1217;
        means: "The command cannot begin its work.";
        cause: "This user has too many processes or open files, or the machine has no memory left.";
        remedy: "Look at `ulimit -a` and at the memory of the machine, then try again.";

    FLEET_NOT_ASKED = 1218;
        means: "The fleet cannot be asked, as NATS does not answer.";
        cause: "No server of nats_info.nats_urls answers, the token is refused, or the bucket is missing.";
        remedy: "Follow the advice in the line; `plugnmeet-recorder check` tries each server by itself.";

    HOOKS_FAIL = 1219;
        means: "A stage of hooks would fail.";
        cause: "A script or URL of the stage ended with an error, took too long or gave no usable answer.";
        remedy: "Mend the step that the lines above name, see docs/hooks.md, and test again.";

    UNKNOWN_CODE = 1220;
        means: "There is no such code in this version.";
        cause: "It is misspelt, or of another version of the recorder.";
        remedy: "`plugnmeet-recorder explain --list` shows all codes. Ask the version that wrote the line.";

    CHECK_INTERRUPTED = 1221;
        means: "Not everything was checked.";
        cause: "The check was interrupted by a signal.";
        remedy: "Run it again; `check --quick` leaves out what takes long.";

    CHECK_NOT_DONE = 1222;
        means: "Nothing can be checked.";
        cause: "Standard output cannot be written to, or this user has too many processes or open files.";
        remedy: "Look at the error that the line names, and run the check again.";

    RECORD_FAILED = 1230;
        means: "The page was recorded, but there is no MP4.";
        cause: "ffmpeg failed, or the output could not be stored. The line names the cause.";
        remedy: "Remedy the cause. Where a raw file is named, make the MP4 with the command in the next line.";

    RECORD_OUTPUT = 1231;
        means: "The output of `record` cannot be written.";
        cause: "The file is there already, or its directory is missing, full, or belongs to another user.";
        remedy: "Name another output with `-o`, replace a file with `--force`, or correct the directory.";

    RECORD_HOST = 1232;
        means: "This machine cannot record.";
        cause: "Chrome, Xvfb, PulseAudio or ffmpeg are missing or do not work. The line names which.";
        remedy: "Install what the line names. `--verbose` tells what went before.";

    RECORD_PAGE = 1233;
        means: "The page cannot be recorded.";
        cause: "It does not load, its certificate is not trusted, or an element that was waited for did not come.";
        remedy: "Open the page in a browser on this machine, and compare `--click` and `--wait-for` with it.";

    RECORD_BROKE_OFF = 1234;
        means: "The recording broke off; there is an MP4 of what came before.";
        cause: "Chrome, the display, the sound or ffmpeg died or hung. The line names which.";
        remedy: "Look at the memory and load of the machine, and record again. `--verbose` tells more.";

    RECORD_STOPPED = 1235;
        means: "`record` was stopped by a signal before there was an MP4.";
        cause: "Ctrl-C came before anything was recorded, or twice.";
        remedy: "Record again; one Ctrl-C ends a recording with its MP4.";

    RECORD_OUTLET = 1236;
        means: "All was recorded, but what --hls or --rtmp wrote is not complete.";
        cause: "The directory's disk is full or does not answer, or the far end refuses or does not take the broadcast. The line \
                says which.";
        remedy: "Look at that disk, or at the address and key of the far end. The MP4, where one was asked for, is complete.";

    RECORD_DISK_HANGS = 1237;
        means: "A disk that `record` needs does not answer, so it has not begun.";
        cause: "The network share of the directory or file that the line names is lost, or its disk fails.";
        remedy: "Look at `mount` and `dmesg`, mount the share anew, or name a place on another disk. Until that disk \
                 answers the kernel may keep the process, even after `kill -9`.";

    SIZE_FAILED = 1240;
        means: "The machine could not be measured, or the number could not be written.";
        cause: "A program of a recording broke or hung, or a disk is full. The line names it.";
        remedy: "Measure again. If it comes again, `plugnmeet-recorder check` and `--verbose` tell more.";

    SIZE_USAGE = 1241;
        means: "`size` cannot begin with this configuration.";
        cause: "It cannot be used or changed, or the node is one that records nothing.";
        remedy: "Follow the line; without `--write` the configuration need not be writable.";

    SIZE_REFUSED = 1242;
        means: "Nothing is measured, as something is being recorded on this machine.";
        cause: "A recorder, `record` or another `size` has recordings here, which would lose frames.";
        remedy: "Drain the node, wait until `plugnmeet-recorder recordings list` is empty, and measure then.";

    SIZE_STOPPED = 1243;
        means: "`size` was stopped by a signal.";
        cause: "Ctrl-C or SIGTERM came before the last scene was measured.";
        remedy: "Measure again. Nothing is left of the measurement.";
}
