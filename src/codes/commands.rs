//! Codes of commands that fail. Pure.

use crate::codes::code::room;

room! {
    COMMANDS: "Commands";

    WRONG_USAGE = 1201;
        means: "The command line cannot be understood.";
        cause: "A flag, command or value is misspelt or missing.";
        remedy: "`plugnmeet-recorder --help` shows the commands, and `plugnmeet-recorder COMMAND --help` what one \
                 takes.";

    CONFIGURATION_UNREADABLE = 1202;
        means: "The configuration file cannot be read.";
        cause: "Without `-config PATH` it is config.yaml in the working directory; or this user may not read it. The \
                line names file and error.";
        remedy: "`sudo -u plugnmeet-recorder plugnmeet-recorder -config /etc/plugnmeet-recorder/config.yaml COMMAND` \
                 asks an installed recorder; give that file to the recorder's user (`chown`).";

    CONFIGURATION_INVALID = 1203;
        means: "The configuration cannot be used.";
        recordings: "The recorder does not start with it. One that runs goes on with what it has read.";
        cause: "A value is wrong or missing, or an environment variable in it is not set. Each line names the key, \
                its line in the file, and what is allowed.";
        remedy: "Correct these keys; config_sample.yaml shows every setting with its default. `plugnmeet-recorder \
                 check --quick` reads it again.";

    LOG_NOT_OPENED = 1204;
        means: "The log file cannot be opened, so the recorder does not start.";
        recordings: "No recording begins; those of an earlier run wait.";
        cause: "The directory of log_settings.log_file cannot be made or written: it belongs to another user, is \
                read-only or full. The line names it.";
        remedy: "Give the directory to the recorder's user (`chown`) or free room (`df -h`), or leave \
                 log_settings.log_file out: the log then goes to standard output.";

    NOT_STARTED_AS_CHILD = 1205;
        means: "The recorder is process 1 and cannot start itself as a child.";
        cause: "The container has no /proc, or allows no further process.";
        remedy: "Run it under an init (`docker run --init`), and raise the container's limit of processes \
                 (`--pids-limit`).";

    OUTPUT_NOT_WRITTEN = 1206;
        means: "The answer of a command cannot be written to standard output.";
        recordings: "Not concerned. An order to a job or a message was carried out all the same.";
        cause: "It goes into a closed pipe, or into a file on a full disk.";
        remedy: "See where the output goes, and ask again.";

    NO_STATE = 1207;
        means: "There is no recorder.state_dir, so the command has nothing to tell.";
        cause: "No recorder has run with this configuration yet, or it runs with another one, as another user or \
                from another directory. The line names the path that was looked for.";
        remedy: "`sudo -u plugnmeet-recorder plugnmeet-recorder -config /etc/plugnmeet-recorder/config.yaml \
                 COMMAND`, from the `WorkingDirectory=` of the unit where paths of the configuration are relative.";

    STATE_UNREADABLE = 1208;
        means: "A file or directory of recorder.state_dir cannot be read.";
        cause: "This user may not read it, or its disk fails. The line names file and error.";
        remedy: "Run the command as the recorder's user: `sudo -u plugnmeet-recorder plugnmeet-recorder -config PATH \
                 COMMAND`. If it is the disk, `dmesg -T`.";

    UNKNOWN_JOB = 1209;
        means: "This node holds no such job.";
        cause: "The id is misspelt, the job is in the queue or on another node, or it is done.";
        remedy: "`plugnmeet-recorder jobs list` shows the jobs of this node; ask the other nodes for theirs, and \
                 look for the MP4 under main_path.";

    JOB_UNREADABLE = 1210;
        means: "The record of a job cannot be used by the command.";
        recordings: "The raw file that the job is about is not touched.";
        cause: "The file is damaged or of a newer version, or its disk fails. The line names it and why.";
        remedy: "Look at that disk (`dmesg -T`). If the file is damaged, move it out of recorder.state_dir, and make \
                 the MP4 of `<recording_id>_raw.mkv` with `ffmpeg`.";

    JOB_ORDER_REFUSED = 1211;
        means: "The order about a job was refused, and nothing was changed.";
        recordings: "The raw file is not touched.";
        cause: "The job is in hand, or comes again by itself, or its files are not there, or this node does not \
                transcode. The line says which.";
        remedy: "Do what the line says. `plugnmeet-recorder jobs list` shows the state of each job, and when it is \
                 tried again.";

    JOB_ORDER_NOT_WRITTEN = 1212;
        means: "The order about a job could not be written down.";
        recordings: "Nothing was changed.";
        cause: "This user may not write in recorder.state_dir, or its disk is full or fails. The line names file and \
                error.";
        remedy: "Run the command as the recorder's user: `sudo -u plugnmeet-recorder plugnmeet-recorder -config PATH \
                 jobs retry ID`. Else see whether the disk is full (`df -h`).";

    UNKNOWN_MESSAGES = 1213;
        means: "This node has no messages about this recording.";
        cause: "The id is misspelt, another node has recorded it, or all was told more than a day ago.";
        remedy: "`plugnmeet-recorder outbox list --all` shows what this node has.";

    OUTBOX_ORDER_REFUSED = 1214;
        means: "The order about messages was refused, and nothing was changed.";
        cause: "They are delivered or dropped already, there is no such message, another order of a moment ago is \
                not carried out yet, or they belong to another user. The line says which.";
        remedy: "Do what the line says. `plugnmeet-recorder outbox list --all` shows the state of each; the recorder \
                 looks for orders every 5 s.";

    OUTBOX_ORDER_NOT_WRITTEN = 1215;
        means: "The order about messages could not be written down.";
        recordings: "Nothing was changed.";
        cause: "This user may not write in recorder.state_dir, or its disk is full or fails. The line names file and \
                error.";
        remedy: "Run the command as the recorder's user: `sudo -u plugnmeet-recorder plugnmeet-recorder -config PATH \
                 outbox retry ID`. Else see whether the disk is full (`df -h`).";

    UNKNOWN_RECORDING = 1216;
        means: "This node knows no recording of this id, so its hooks cannot be tried with it.";
        cause: "The id is misspelt, or another node has recorded it, in another main_path.";
        remedy: "`plugnmeet-recorder recordings list` and `plugnmeet-recorder jobs list` show ids. Without \
                 `--recording-id` the hooks get made-up data.";

    COMMAND_NOT_STARTED = 1217;
        means: "The command cannot begin its work.";
        cause: "This user has too many processes or open files, or the host has no memory left; or an id in the \
                configuration cannot be used. The line names the error.";
        remedy: "Look at `ulimit -a` and at the memory (`free -h`), then try again.";

    FLEET_NOT_ASKED = 1218;
        means: "The fleet cannot be asked.";
        recordings: "Not concerned by this command.";
        cause: "No server of nats_info.nats_urls answers, the token is refused, or the plugNmeet server has not made \
                the bucket. The line says which.";
        remedy: "Follow the line; `plugnmeet-recorder check` tries each server by itself.";

    HOOKS_FAIL = 1219;
        means: "A stage of hooks would fail.";
        recordings: "Not concerned by this test. With these hooks they would wait, or stay where they are.";
        cause: "A script or URL of the stage ended with an error, took too long or refused the data. The lines above \
                show what each got and answered.";
        remedy: "Mend that step (docs/hooks.md), and test again. Nothing of the recorder has to be restarted for a \
                 script that is started for each recording.";

    UNKNOWN_CODE = 1220;
        means: "There is no such code in this version.";
        cause: "It is misspelt, or of another version of the recorder. The line names codes that may be meant.";
        remedy: "`plugnmeet-recorder explain --list` shows all codes. Ask the version that wrote the line: \
                 `plugnmeet-recorder --version`.";

    CHECK_INTERRUPTED = 1221;
        means: "Not everything was checked.";
        recordings: "Not concerned.";
        cause: "Ctrl-C or SIGTERM came.";
        remedy: "Run it again; `plugnmeet-recorder check --quick` leaves out what takes long.";

    CHECK_NOT_DONE = 1222;
        means: "The check could not be carried out or shown.";
        recordings: "Not concerned.";
        cause: "Standard output cannot be written to, or this user has too many processes or open files. The line \
                names the error.";
        remedy: "See where the output goes, and look at `ulimit -a`; then run the check again.";

    RECORD_FAILED = 1230;
        means: "The page was recorded, but there is no MP4.";
        recordings: "A raw file is kept where the line says so; with it nothing is lost.";
        cause: "ffmpeg failed, the disk is full, or the page crashed before there was an MP4. The line names the \
                cause.";
        remedy: "Mend the cause. Where a raw file is named, the last line is the command that makes an MP4 of it.";

    RECORD_OUTPUT = 1231;
        means: "The output of `record` cannot be written, and nothing was recorded.";
        cause: "The file is there already, its directory is missing, full, or belongs to another user, or an option \
                cannot be used. The line says which.";
        remedy: "Name another file with `-o`, replace it with `--force`, or correct the directory.";

    RECORD_HOST = 1232;
        means: "This machine cannot record, and nothing was recorded.";
        cause: "Chrome, Xvfb, PulseAudio or ffmpeg is missing or does not work. The line names which.";
        remedy: "Install what the line names (`apt-get install chromium xvfb pulseaudio ffmpeg`). With `--verbose` \
                 the command tells what went before.";

    RECORD_PAGE = 1233;
        means: "The page cannot be recorded, and nothing was recorded.";
        cause: "It does not load, its certificate is not trusted, or an element that was waited for did not come \
                within 30 s. The line says which.";
        remedy: "`curl -v` the page from this machine. Compare `--click`, `--wait-for` and `--until-gone` with it in \
                 a browser; for a CA of your own, `--ca-file`.";

    RECORD_BROKE_OFF = 1234;
        means: "The recording broke off; there is an MP4 of what came before.";
        recordings: "The MP4 holds what came before; the rest was not recorded.";
        cause: "The page crashed, hung or lost its network, or Xvfb, PulseAudio or ffmpeg died. The line names \
                which.";
        remedy: "Look at the memory and load of the machine (`journalctl -k`, `top`), and record again. With \
                 `--verbose` the command tells more.";

    RECORD_STOPPED = 1235;
        means: "`record` was stopped by a signal before there was an MP4.";
        recordings: "A raw file is kept where the line says so.";
        cause: "Ctrl-C came before anything was recorded, or twice.";
        remedy: "Where a raw file is named, the last line is the command that makes an MP4 of it. One Ctrl-C ends a \
                 recording with its MP4.";

    RECORD_OUTLET = 1236;
        means: "All was recorded, but what `--hls` or `--rtmp` wrote is not complete.";
        recordings: "The MP4, if one was asked for, is complete.";
        cause: "The directory's disk was full or did not answer, or the far end refused or did not take the \
                broadcast. The line says which.";
        remedy: "See whether that disk is full (`df -h`). Compare address and stream key with the far end's, and see \
                 whether its server is up and the line to it takes 5 Mbit/s.";

    RECORD_DISK_HANGS = 1237;
        means: "A disk that `record` needs does not answer: it has not begun, or, as a warning, could not tidy up.";
        recordings: "As an error, nothing was recorded. As a warning, the MP4 or the raw file that the other lines \
                     name is there.";
        cause: "The network share of the directory or file that the line names is lost, or its disk fails.";
        remedy: "Mount the share anew (`findmnt`, `dmesg -T`), or name a place on another disk with `-o` or \
                 `--temp`. When the disk is well, remove the directory that a warning names. Until then the kernel may \
                 keep the process, even after `kill -9`.";

    SIZE_FAILED = 1240;
        means: "The machine could not be measured, or the number could not be written.";
        recordings: "Not concerned.";
        cause: "A program of a recording broke or hung, or the configuration cannot be written. The line names it; \
                what was measured before is shown.";
        remedy: "Measure again. If it comes again, `plugnmeet-recorder check` tries each program, and \
                 `plugnmeet-recorder size --verbose` tells more.";

    SIZE_USAGE = 1241;
        means: "`size` cannot begin with these options or this configuration.";
        cause: "The configuration cannot be read, used or changed, or the node is one in mode `transcoderOnly`, \
                which records nothing. The line says which.";
        remedy: "Correct what the line names. Without `--write` the configuration need not be writable; without a \
                 configuration a recorder of the defaults is measured.";

    SIZE_REFUSED = 1242;
        means: "Nothing is measured, as something is being recorded on this machine.";
        recordings: "The running recordings are not disturbed.";
        cause: "A recorder, `record` or another `size` has recordings on this machine, which would lose frames; or \
                recorder.state_dir or /proc does not answer. The line says which.";
        remedy: "Drain the node by the button of its page, or by `POST /drain` at admin.listen; wait until \
                 `plugnmeet-recorder recordings list` is empty; measure; then undrain it there.";

    SIZE_STOPPED = 1243;
        means: "`size` was stopped by a signal.";
        recordings: "Not concerned.";
        cause: "Ctrl-C or SIGTERM came before the last scene was measured.";
        remedy: "Measure again. Nothing is left of the measurement.";

    NO_STORE = 1250;
        means: "There is no store that could be checked.";
        cause: "storage.deliver is not set, or the URL that was given is none. The line says what is wrong with it.";
        remedy: "Set storage.deliver, or give a URL: `plugnmeet-recorder store check s3://bucket/prefix`. docs/stores.md \
                 shows the forms.";

    UNKNOWN_UPLOAD = 1251;
        means: "This node delivers no such recording into a store.";
        recordings: "Not concerned.";
        cause: "The id is misspelt, the recording is in the store already, or another node delivers it.";
        remedy: "`plugnmeet-recorder store list` on the node that made the MP4 shows what waits.";

    UPLOAD_ORDER_NOT_WRITTEN = 1252;
        means: "The order to deliver a recording no more cannot be written.";
        recordings: "Not concerned: it is delivered as before.";
        cause: "The disk of recorder.state_dir is full or read-only, or the command runs as another user than the \
                recorder.";
        remedy: "Give the command as the recorder's user (`sudo -u plugnmeet-recorder`), and look at that disk (`df -h`).";
}
