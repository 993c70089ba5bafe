//! Codes of the check of this host. Pure.

use crate::codes::code::room;

room! {
    CHECK: "The check of this host";

    CHECK_FOUND = 1301;
        means: "The check at the start found something that is not well.";
        cause: "The line names the check and what to do.";
        remedy: "Follow the line; docs/check.md describes each check. `plugnmeet-recorder check` looks again.";

    CHECK_CONFIGURATION = 1302;
        means: "The configuration cannot be used, or a part of it has no effect.";
        cause: "A key is wrong, missing, unknown or deprecated. The line names it.";
        remedy: "Correct the keys that the line names; config_sample.yaml shows every setting.";

    CHECK_FFMPEG = 1303;
        means: "ffmpeg is missing, does not run, or is not of a version that is known to work.";
        cause: "It is not on the service's PATH, older than 5.1, newer than 9, or built without libx264 or aac.";
        remedy: "Install the ffmpeg of Debian 12 or Ubuntu 24.04 or later.";

    CHECK_XVFB = 1304;
        means: "Xvfb is missing or does not run.";
        cause: "The package is not installed, or not on the service's PATH.";
        remedy: "`apt-get install xvfb`.";

    CHECK_PULSEAUDIO = 1305;
        means: "PulseAudio is missing, does not run, or is too old.";
        cause: "The package is not installed, not on the service's PATH, or older than 15.";
        remedy: "`apt-get install pulseaudio`, of Debian 12 or Ubuntu 24.04 or later.";

    CHECK_CHROME = 1306;
        means: "Chrome is missing, does not run, or is old.";
        cause: "It is not on PATH, chrome_settings.custom_chrome_path is wrong, or it was not updated for 120 days.";
        remedy: "`apt-get install chromium`, or update Chrome.";

    CHECK_SANDBOX = 1307;
        means: "Chrome will run without its sandbox.";
        cause: "The kernel allows this user no user namespaces, or the recorder runs as root or in a container that \
                forbids them.";
        remedy: "See PNR-0107.";

    CHECK_SHARED_MEMORY = 1308;
        means: "/dev/shm is missing or too small for max_limit recordings.";
        cause: "Containers get 64 MiB by default.";
        remedy: "`docker run --shm-size=2g`, or `shm_size` in the compose file: 128 MiB for each recording.";

    CHECK_OPEN_FILES = 1309;
        means: "This user may open too few files for max_limit recordings.";
        cause: "The limit of the service or the shell is low.";
        remedy: "Raise `LimitNOFILE=` of the unit, or `ulimit -n`.";

    CHECK_PROCESSES = 1310;
        means: "This user may have too few processes for max_limit recordings.";
        cause: "The limit of the user or of the control group is low; Chrome has many threads.";
        remedy: "Raise `TasksMax=` of the unit, the container's `pids_limit`, or `ulimit -u`.";

    CHECK_MEMORY = 1311;
        means: "There is too little memory for max_limit recordings.";
        cause: "The machine, or its control group, has less than they need.";
        remedy: "Lower recorder.max_limit, or give the machine or container more memory.";

    CHECK_PROCESSORS = 1312;
        means: "There are too few processors for max_limit recordings.";
        cause: "The machine, or its control group, has fewer than they need.";
        remedy: "Lower recorder.max_limit, or give the machine or container more processors.";

    CHECK_PROCESS_1 = 1313;
        means: "Process 1 does not wait for orphans, so ended programs stay as zombies.";
        cause: "The container runs a program as process 1 that is no init.";
        remedy: "Run it with `docker run --init`, or `init: true` in the compose file.";

    CHECK_CERTIFICATES = 1314;
        means: "The certificates that are configured cannot be used, or one has expired.";
        cause: "plugNmeet_info.ca_file is missing, unreadable or expired, or the program `certutil` is missing.";
        remedy: "Put the server's present CA there; `apt-get install libnss3-tools`.";

    CHECK_STATE_DIR = 1315;
        means: "recorder.state_dir cannot be written, does not answer, or is not on a local disk.";
        cause: "It belongs to another user, its disk is full or hangs, or it is on a share or in memory.";
        remedy: "Set it to a directory on a local disk that the recorder's user owns.";

    CHECK_TEMPORARY_DIR = 1316;
        means: "recorder.temporary_dir cannot be written, has too little room, or is not on a local disk.";
        cause: "It belongs to another user, its disk is full or hangs, or it is on a share or in memory.";
        remedy: "Set it to a directory on a local disk with room for the parts of max_limit recordings.";

    CHECK_MAIN_PATH = 1317;
        means: "main_path cannot be used, or cannot do all that a disk can.";
        cause: "It is not mounted, read-only, belongs to another user, hangs, or is not the file system that this \
                node knows.";
        remedy: "Mount the right share, writable for the recorder's user.";

    CHECK_FILE_SYSTEMS = 1318;
        means: "Recordings are copied, not moved, from temporary_dir to main_path.";
        cause: "The two are on different file systems.";
        remedy: "Nothing, where that is meant. On one file system a recording is stored at once.";

    CHECK_HOOKS = 1319;
        means: "A hook cannot be run.";
        cause: "Its file is missing or not executable, its interpreter is missing, or its URL is none.";
        remedy: "Correct the path or URL, or `chmod +x` the script.";

    CHECK_SCRIPTS = 1320;
        means: "A post-processing script cannot be run.";
        cause: "Its file is missing or not executable, or its interpreter is missing.";
        remedy: "Correct the path, or `chmod +x` the script.";

    CHECK_SERVER = 1321;
        means: "The plugNmeet server does not answer, or another one answers for it.";
        cause: "plugNmeet_info.host is wrong, the server is down, a proxy or firewall is between, or its certificate \
                is not trusted.";
        remedy: "`curl -v` the host from here. Name a CA of your own in plugNmeet_info.ca_file.";

    CHECK_KEY = 1322;
        means: "The server refuses this node's key or signature.";
        cause: "plugNmeet_info.api_key or api_secret is not the server's.";
        remedy: "Copy both from the server's configuration (client.api_key and client.secret).";

    CHECK_MEETING_PAGE = 1323;
        means: "The meeting page does not answer, is no page, or will not work without TLS.";
        cause: "plugNmeet_info.host or join_host is wrong, or is plain http on another name than localhost.";
        remedy: "Open the address in a browser; use https.";

    CHECK_NATS = 1324;
        means: "A NATS server cannot be used.";
        cause: "Its address is wrong, a firewall is between, or it refuses the token.";
        remedy: "Follow the line: addresses, api_key and api_secret, TLS. plugnmeet-server has to run, as it answers \
                 for NATS.";

    CHECK_BUCKET = 1325;
        means: "The bucket of recorders is not there, or does not answer.";
        cause: "The plugNmeet server makes it at its start, and has not started, or uses another name.";
        remedy: "Start the server, and compare nats_info.recorder.recorder_info_kv with its configuration.";

    CHECK_JOB_QUEUE = 1326;
        means: "The queue of transcoding jobs is not there, or does not answer.";
        cause: "The plugNmeet server makes it at its start, and has not started, or uses another name.";
        remedy: "Start the server, and compare nats_info.recorder.transcoding_jobs_subject with its configuration.";

    CHECK_RIGHTS = 1327;
        means: "NATS refuses something that a recorder does.";
        cause: "The names in nats_info.recorder are not those of the server's configuration, or a right was taken \
                away.";
        remedy: "Compare nats_info.recorder with the same names in the server's configuration.";

    CHECK_CLOCK = 1328;
        means: "The clock of this host differs from the server's or that of NATS.";
        cause: "No time service runs here or there.";
        remedy: "Run chrony or systemd-timesyncd on all hosts; tokens are refused when clocks differ by minutes.";

    CHECK_STATE_DIR_SPEED = 1329;
        means: "The disk of recorder.state_dir is slow at writing a record.";
        cause: "It is a slow, overloaded or remote disk.";
        remedy: "Set recorder.state_dir to a fast local disk. Starts are refused at 0.8 s.";

    CHECK_TEMPORARY_DIR_SPEED = 1330;
        means: "The disk of recorder.temporary_dir is slow for max_limit recordings.";
        cause: "It is a slow, overloaded or remote disk.";
        remedy: "Set recorder.temporary_dir to a faster disk, or lower recorder.max_limit.";

    CHECK_FONTS = 1331;
        means: "Chrome draws boxes instead of some letters.";
        cause: "Fonts for these scripts are not installed.";
        remedy: "`apt-get install fonts-noto-core fonts-noto-cjk fonts-noto-color-emoji`.";

    CHECK_SELF_RECORDING = 1332;
        means: "The recording of a built-in page has failed, or is not as it should be.";
        cause: "Chrome, Xvfb, PulseAudio or ffmpeg do not work together here, or the machine is overloaded. The line \
                names what is wrong.";
        remedy: "See self-test in docs/troubleshooting.md, and run the check again while nothing else runs.";
}
