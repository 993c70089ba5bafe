//! Codes of the check of this host. Pure.

use crate::codes::code::room;

room! {
    CHECK: "The check of this host";

    CHECK_FOUND = 1301;
        means: "The check at the start found something that is not well.";
        recordings: "The recorder has started and goes on.";
        cause: "The line names the check and what to do.";
        remedy: "Do what the line says; docs/check.md describes each check. `plugnmeet-recorder check` looks again.";

    CHECK_CONFIGURATION = 1302;
        means: "The configuration cannot be used, or a part of it has no effect.";
        recordings: "With what cannot be used, the recorder does not start. The rest does not concern recordings.";
        cause: "A key is wrong, missing, unknown or deprecated. The line names it, and its line in the file.";
        remedy: "Correct the keys that the line names; config_sample.yaml shows every setting.";

    CHECK_FFMPEG = 1303;
        means: "ffmpeg is missing, does not run, or is not of a version that is known to work.";
        recordings: "Without ffmpeg nothing is recorded. A newer one may work.";
        cause: "It is not on the service's PATH, older than 5.1, newer than 9, or built without libx264 or aac. The \
                line says which.";
        remedy: "`apt-get install ffmpeg` on Debian 12, Ubuntu 24.04 or later. Remove another ffmpeg that comes \
                 first on PATH (`type -a ffmpeg`).";

    CHECK_XVFB = 1304;
        means: "Xvfb is missing or does not run.";
        recordings: "Without it nothing is recorded.";
        cause: "The package is not installed, or not on the service's PATH.";
        remedy: "`apt-get install xvfb`.";

    CHECK_PULSEAUDIO = 1305;
        means: "PulseAudio is missing, does not run, or is too old.";
        recordings: "Without it nothing is recorded.";
        cause: "The package is not installed, not on the service's PATH, older than 15, or does not tell its \
                version.";
        remedy: "`apt-get install pulseaudio` on Debian 12, Ubuntu 24.04 or later.";

    CHECK_CHROME = 1306;
        means: "Chrome is missing, does not run, or is old.";
        recordings: "Without it nothing is recorded. An old one records, and is not secure.";
        cause: "None is on the service's PATH, chrome_settings.custom_chrome_path is wrong, or its file is more than \
                120 days old.";
        remedy: "`apt-get update`, then `apt-get install chromium` (or the package of your Chrome): running \
                 recordings keep the old one.";

    CHECK_SANDBOX = 1307;
        means: "Chrome will run without its sandbox.";
        recordings: "Not concerned; a page that breaks out of Chrome could reach this user's files.";
        cause: "The kernel allows this user no user namespaces, or the recorder runs as root or in a container that \
                forbids them.";
        remedy: "Run it as a user of its own (`User=` of the unit). Allow user namespaces: `sysctl \
                 kernel.unprivileged_userns_clone=1`, on Ubuntu also `sysctl \
                 kernel.apparmor_restrict_unprivileged_userns=0`; in Docker a seccomp profile that allows them. \
                 `plugnmeet-recorder explain PNR-0107` is about the same.";

    CHECK_SHARED_MEMORY = 1308;
        means: "/dev/shm is missing, or too small for recorder.max_limit recordings.";
        recordings: "Where it runs full, Chrome crashes; the meeting is joined again.";
        cause: "Containers get 64 MiB by default; 128 MiB are wanted for each recording.";
        remedy: "`docker run --shm-size=2g`, or `shm_size` in the compose file; else `mount -o remount,size=2g \
                 /dev/shm`.";

    CHECK_OPEN_FILES = 1309;
        means: "This user may open too few files for recorder.max_limit recordings.";
        recordings: "Where they run out, recordings break off or do not start.";
        cause: "The limit of the service or the shell is low. The line has the numbers.";
        remedy: "Raise `LimitNOFILE=` of the unit (`systemctl edit plugnmeet-recorder`), or `ulimit -n`, or lower \
                 recorder.max_limit.";

    CHECK_PROCESSES = 1310;
        means: "This user may have too few processes for recorder.max_limit recordings.";
        recordings: "Where they run out, recordings break off or do not start.";
        cause: "The limit of the user or of the control group is low; Chrome has many threads. The line names the \
                limit.";
        remedy: "Raise `TasksMax=` or `LimitNPROC=` of the unit, `--pids-limit` of the container, or `ulimit -u`; or \
                 lower recorder.max_limit.";

    CHECK_MEMORY = 1311;
        means: "There is too little memory for recorder.max_limit recordings.";
        recordings: "Starts are refused when memory is short; before that, the kernel may kill a Chrome, and its \
                     meeting is joined again.";
        cause: "The machine, or its control group, has less than recordings with webcams may need. The line has the \
                numbers.";
        remedy: "Lower recorder.max_limit (`plugnmeet-recorder size` measures it), or give the machine or container \
                 more memory.";

    CHECK_PROCESSORS = 1312;
        means: "There are too few processors for recorder.max_limit recordings.";
        recordings: "Where they are busy, recordings lose frames.";
        cause: "The machine, or its control group, has fewer than recordings with webcams may need. The line has the \
                numbers.";
        remedy: "Lower recorder.max_limit (`plugnmeet-recorder size` measures it), or give the machine or container \
                 more processors.";

    CHECK_PROCESS_1 = 1313;
        means: "Process 1 does not wait for orphans, so ended programs stay as zombies.";
        recordings: "Not concerned until the zombies fill the container's limit of processes.";
        cause: "The container runs a program as process 1 that is no init.";
        remedy: "Run it with `docker run --init`, or `init: true` in the compose file.";

    CHECK_CERTIFICATES = 1314;
        means: "The certificates that are configured cannot be used, or one has expired.";
        recordings: "Where the plugNmeet server or NATS needs them, no recording begins.";
        cause: "plugNmeet_info.ca_file is missing, unreadable or expired, or the program `certutil` is missing.";
        remedy: "Put the server's present CA into plugNmeet_info.ca_file; `apt-get install libnss3-tools` for \
                 `certutil`.";

    CHECK_STATE_DIR = 1315;
        means: "recorder.state_dir cannot be written, does not answer, or is not on a local disk.";
        recordings: "Where it cannot be written, no recording is taken on. On a share that hangs or in memory, \
                     unfinished recordings may be forgotten.";
        cause: "It belongs to another user, its disk is full or hangs, or it is on a share or in memory. The line \
                says which.";
        remedy: "Set recorder.state_dir to a directory on a local disk that the recorder's user owns (`chown`).";

    CHECK_TEMPORARY_DIR = 1316;
        means: "recorder.temporary_dir cannot be written, has too little room, or is not on a local disk.";
        recordings: "Where it cannot be written or is full, nothing is recorded. In memory or on a share that hangs, \
                     what is being recorded may be lost.";
        cause: "It belongs to another user, its disk is full or hangs, or it is on a share or in memory. The line \
                says which.";
        remedy: "Set recorder.temporary_dir to a directory on a local disk with room for recorder.max_limit \
                 recordings (`df -h`), owned by the recorder's user.";

    CHECK_MAIN_PATH = 1317;
        means: "main_path cannot be used, or cannot do all that a disk can.";
        recordings: "While it cannot be used, no recording is taken on, and what has ended waits in \
                     recorder.temporary_dir.";
        cause: "It is not mounted, read-only, belongs to another user, hangs, is not the file system that this node \
                knows, or cannot rewrite, rename or sync. The line says which.";
        remedy: "Mount the right share at recorder.copy_to_path.main_path, writable for the recorder's user \
                 (`findmnt -T`). Where it is an object store, set recorder.temporary_dir to a local disk.";

    CHECK_FILE_SYSTEMS = 1318;
        means: "Recordings are copied, not renamed, from recorder.temporary_dir to main_path.";
        recordings: "Safe; storing a long one takes minutes, and room for both copies.";
        cause: "The two are on different file systems.";
        remedy: "Nothing, where that is meant, as with a share. Else leave recorder.temporary_dir out: then it is in \
                 main_path.";

    CHECK_HOOKS = 1319;
        means: "A hook cannot be run.";
        recordings: "The recorder does not start with it.";
        cause: "Its file is missing or not executable, its interpreter is missing, or its `http-request` has no \
                valid URL. The line names stage and script.";
        remedy: "Correct it under `hooks` in the configuration, or `chmod +x` the script; `plugnmeet-recorder hooks \
                 test STAGE` tries it.";

    CHECK_SCRIPTS = 1320;
        means: "A post-processing script cannot be run.";
        recordings: "The recorder does not start with it.";
        cause: "Its file is missing or not executable, or its interpreter is missing. The line names it.";
        remedy: "Correct the path in recorder.post_processing_scripts, or `chmod +x` the script.";

    CHECK_SERVER = 1321;
        means: "The plugNmeet server does not answer, or another one answers for it.";
        recordings: "The server cannot be told of recordings; what is recorded is kept until it can.";
        cause: "plugNmeet_info.host is wrong, the server is down, a proxy or firewall is between, or its certificate \
                is not trusted. The line names the answer.";
        remedy: "`curl -v` the address in plugNmeet_info.host from here. Name a CA of your own in \
                 plugNmeet_info.ca_file.";

    CHECK_KEY = 1322;
        means: "The server refuses this node's key or signature.";
        recordings: "The server cannot be told of recordings; what is recorded is kept until it can.";
        cause: "plugNmeet_info.api_key or plugNmeet_info.api_secret is not the server's. As a warning (!): the \
                server knows a room that cannot exist.";
        remedy: "Copy both from the server's configuration (`client.api_key` and `client.secret`), and restart the \
                 recorder. Of the warning, see that plugNmeet_info.host is a plugNmeet server.";

    CHECK_MEETING_PAGE = 1323;
        means: "The meeting page does not answer, is no page, or will not work without TLS.";
        recordings: "No meeting can be recorded.";
        cause: "plugNmeet_info.host or plugNmeet_info.join_host is wrong or down, or is plain http on another name \
                than localhost.";
        remedy: "Open the address in a browser; set it to `https://` where the line says so.";

    CHECK_NATS = 1324;
        means: "A NATS server cannot be used.";
        recordings: "Where no server can be used, no recording begins here. Where another one can, recordings go on.";
        cause: "Its address is wrong, a firewall is between, it refuses the token, or the plugNmeet server, which \
                answers for NATS, does not run. The line says which.";
        remedy: "Correct nats_info.nats_urls, plugNmeet_info.api_key or plugNmeet_info.api_secret as the line says, \
                 and see that the plugNmeet server runs.";

    CHECK_BUCKET = 1325;
        means: "The bucket of recorders is not there, or does not answer.";
        recordings: "No recording begins here.";
        cause: "The plugNmeet server makes it at its start, and has not started, or uses another name.";
        remedy: "Start the plugNmeet server, and set nats_info.recorder.recorder_info_kv to the name in its \
                 configuration.";

    CHECK_JOB_QUEUE = 1326;
        means: "The queue of transcoding jobs is not there, or does not answer.";
        recordings: "Recordings are kept as raw files; no MP4 is made.";
        cause: "The plugNmeet server makes it at its start, and has not started, or uses another name.";
        remedy: "Start the plugNmeet server, and set nats_info.recorder.transcoding_jobs_subject to the name in its \
                 configuration.";

    CHECK_RIGHTS = 1327;
        means: "NATS refuses something that a recorder does.";
        recordings: "Depending on the right no recording begins here, or no MP4 is made. The line names it.";
        cause: "The names in nats_info.recorder are not those of the server's configuration, or a right was taken \
                away.";
        remedy: "Set the three names in nats_info.recorder as they are in the plugNmeet server's configuration.";

    CHECK_CLOCK = 1328;
        means: "The clock of this host differs from the server's or that of NATS.";
        recordings: "From a minute on, tokens may be refused, so that no recording begins. Below that recordings are \
                     not concerned.";
        cause: "No time service runs here or there. The line has the difference.";
        remedy: "Run a time service on all hosts: `apt-get install systemd-timesyncd`, then `timedatectl` shows \
                 whether the clock is synchronised.";

    CHECK_STATE_DIR_SPEED = 1329;
        means: "The disk of recorder.state_dir is slow at writing a record.";
        recordings: "A START that waits 0.8 s for this disk is refused. Running recordings go on.";
        cause: "It is a slow, overloaded or remote disk. The line has its time.";
        remedy: "Set recorder.state_dir to a fast local disk; `iostat -x 1` shows what keeps it busy.";

    CHECK_TEMPORARY_DIR_SPEED = 1330;
        means: "The disk of recorder.temporary_dir is slow for recorder.max_limit recordings.";
        recordings: "Where the disk cannot keep up, recordings lose frames.";
        cause: "It is a slow, overloaded or remote disk. The line has its speed.";
        remedy: "Set recorder.temporary_dir to a faster disk, or lower recorder.max_limit; `iostat -x 1` shows what \
                 keeps it busy.";

    CHECK_FONTS = 1331;
        means: "Chrome draws boxes instead of some letters.";
        recordings: "Recordings show boxes for such letters for ever.";
        cause: "Fonts for these scripts are not installed. The line names scripts and packages.";
        remedy: "`apt-get install fonts-dejavu-core fonts-noto-cjk fonts-noto-color-emoji`. Recordings that begin \
                 afterwards have them.";

    CHECK_SELF_RECORDING = 1332;
        means: "The recording of a built-in page has failed, or is not as it should be.";
        recordings: "Meetings would be recorded in the same way, or not at all.";
        cause: "Chrome, Xvfb, PulseAudio or ffmpeg do not work together here, or the machine is overloaded. The line \
                names what is wrong.";
        remedy: "Run `plugnmeet-recorder check` again while nothing else runs. If it stays, do what the line says, \
                 and see `the self-test failed` in docs/troubleshooting.md.";

    CHECK_STORE = 1333;
        means: "The store of storage.deliver cannot do all that is asked of it.";
        recordings: "Safe: MP4s stay in main_path until the store takes them.";
        cause: "It is away, refuses the credentials, or lacks something. The line names what failed.";
        remedy: "Do what the line says; `plugnmeet-recorder store check` tries the store alone.";
}
