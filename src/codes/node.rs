//! Codes of the node: start, host, directories, end. Pure.

use crate::codes::code::room;

room! {
    NODE: "Node: start, host, directories, end";

    START_FAILED = 101;
        means: "The node does not start, or a fault has ended it.";
        recordings: "Recordings of an earlier run wait for the next start; their files are kept.";
        cause: "The line names the step and its error. Each fault of the host (a program, a directory, a script) has \
                a line with a code of its own above it.";
        remedy: "Mend what the lines name, then `systemctl restart plugnmeet-recorder`. `plugnmeet-recorder check` \
                 shows everything that is wrong at once.";

    CONFIGURATION_WARNING = 102;
        means: "A key of the configuration is ignored, deprecated or dangerous; the node runs all the same.";
        recordings: "Not concerned, unless the line says so.";
        cause: "The key is unknown or misspelt, an older name of another one, or its value does not do what it seems \
                to. The line names the file, the line in it and, where it can, the key that was meant.";
        remedy: "Correct the key that the line names and restart the recorder at the next occasion. What is ignored \
                 has the default of config_sample.yaml meanwhile.";

    PART_ENDED = 103;
        means: "A part of this program has ended by itself, so the node ends with code 1.";
        recordings: "Running recordings are closed properly now. The next start stores and delivers them; it does \
                     not join their meetings again.";
        cause: "A fault of this program: such a part runs as long as the node. A line PNR-1002 may stand above it.";
        remedy: "Start the recorder, which systemd does by itself (`systemctl status plugnmeet-recorder`). Have the \
                 recordings that ended asked for again, and report this line with those above it.";

    START_SLOW = 104;
        means: "A step of the start hangs or takes long; the node takes no work yet.";
        recordings: "Recordings of an earlier run wait, and nothing of them is lost.";
        cause: "A disk or share that this step needs does not answer, or answers slowly. The line names the step.";
        remedy: "Find the mount that hangs: `stat` on recorder.state_dir, recorder.temporary_dir and \
                 recorder.copy_to_path.main_path, and `dmesg -T`. The start goes on when the disk answers.";

    END_NOT_ON_DISK = 105;
        means: "The program ends although the newest records are not on disk.";
        recordings: "Captured media are in recorder.temporary_dir. What was to be told or stored since the disk hung \
                     may be forgotten.";
        cause: "The disk of recorder.state_dir is full, read-only, or does not answer.";
        remedy: "Bring that disk back (`df -h`, `dmesg -T`), then start the recorder: it goes on from what the \
                 directory holds. Compare `plugnmeet-recorder recordings list` with the files in \
                 recorder.temporary_dir.";

    KILLED_EARLIER = 106;
        means: "An earlier run was killed; its processes, displays and temporary files are removed.";
        recordings: "Nothing is lost but the time without a recorder: recordings whose meetings go on are joined \
                     again, the others are delivered.";
        cause: "Somebody used `kill -9`, memory ran out, the host lost its power, or systemd's `TimeoutStopSec=` \
                passed.";
        remedy: "Nothing for the recordings. Look for the killer: `journalctl -k` (`Out of memory`) and `journalctl \
                 -u plugnmeet-recorder`.";

    NO_SANDBOX = 107;
        means: "Chrome runs without its sandbox.";
        recordings: "Not concerned; a page that breaks out of Chrome could reach this user's files.";
        cause: "The kernel allows this user no user namespaces, or the recorder runs as root or in a container that \
                forbids them. The line names the reason.";
        remedy: "Run it as a user of its own (`User=` of the unit). Allow user namespaces: `sysctl \
                 kernel.unprivileged_userns_clone=1`, on Ubuntu also `sysctl \
                 kernel.apparmor_restrict_unprivileged_userns=0`; in Docker a seccomp profile that allows them.";

    SELF_TEST_BEGINS = 108;
        means: "Three recordings in a row could not be started, so this node tests whether it can record.";
        recordings: "The three have failed, as their own lines say. Running recordings go on, and new ones are taken \
                     meanwhile.";
        cause: "The meeting page does not answer, or Chrome, Xvfb, PulseAudio or ffmpeg of this node do not work.";
        remedy: "Read the causes of the last three PNR-0209. If PNR-0109 follows, this host is at fault; if not, \
                 look at the plugNmeet server.";

    SELF_TEST_FAILED = 109;
        means: "The self-test failed: this node cannot record and takes nothing on until it can.";
        recordings: "This node takes no new recordings until a test passes; running ones go on.";
        cause: "Xvfb, PulseAudio, Chrome or ffmpeg do not work on this host: after an update, with a full disk, or \
                with too little memory or shared memory. The line names the cause.";
        remedy: "`plugnmeet-recorder check` tries each part by itself. See whether `/tmp`, `/dev/shm` and \
                 recorder.temporary_dir are full (`df -h`). The test is repeated by itself, after 5 min at the \
                 latest.";

    SERVICE_MANAGER_DEAF = 110;
        means: "systemd does not hear how this node is, and may end it as hung.";
        recordings: "Running recordings are at risk: systemd kills the program after `WatchdogSec=`. The next start \
                     goes on with them.";
        cause: "The socket in NOTIFY_SOCKET takes no messages: `NotifyAccess=` of the unit is not `main`, the \
                variable was set by hand, or the socket is not mounted in the container.";
        remedy: "Set `Type=notify` and `NotifyAccess=main` in the unit, as the packaged one has them. Where no \
                 systemd runs, unset NOTIFY_SOCKET.";

    OLD_STATE_DIR = 111;
        means: "Records of an earlier version are at its default place, so recorder.state_dir stays there.";
        recordings: "Safe.";
        cause: "The default of recorder.state_dir has changed since, and unfinished work is at the old place.";
        remedy: "Nothing. To move: wait until `plugnmeet-recorder recordings list`, `plugnmeet-recorder jobs list` \
                 and `plugnmeet-recorder outbox list` are empty, then restart the recorder.";

    STATE_DIR_REMOTE = 112;
        means: "recorder.state_dir is on a network file system, which may hang.";
        recordings: "While the share hangs, no recording is taken on, and a crash loses what running ones have not \
                     written.";
        cause: "The directory is on NFS, SMB, FUSE or the like. The line names the kind.";
        remedy: "Set recorder.state_dir to a local disk, as /var/lib/plugnmeet-recorder, and restart the recorder \
                 when `plugnmeet-recorder recordings list` is empty.";

    STATE_DIR_VOLATILE = 113;
        means: "recorder.state_dir does not outlive this host or container.";
        recordings: "A restart of the host or container forgets unfinished recordings: their parts stay in \
                     recorder.temporary_dir, and nobody delivers them.";
        cause: "It is on tmpfs or on the writable layer of a container. The line names the kind.";
        remedy: "Set recorder.state_dir to a directory on a disk, or mount a volume there, before the next meeting.";

    STATE_DIR_KIND_UNKNOWN = 114;
        means: "Whether recorder.state_dir is on a local disk cannot be found out.";
        recordings: "Safe if it is.";
        cause: "The file system does not answer `statfs`, or forbids it. The line names the error.";
        remedy: "`findmnt -T` on the directory in the line shows its file system: it should be a local disk.";

    MAIN_PATH_MADE = 120;
        means: "recorder.copy_to_path.main_path is not there and is made.";
        recordings: "If a share should be mounted there, recordings of this node are stored beside it, where the \
                     server does not see them.";
        cause: "This node has never used the directory, and nothing is mounted there.";
        remedy: "Nothing, where main_path is a directory of this host. Where it is a share: stop the recorder, move \
                 away what is in the directory, mount the share, start the recorder, and move the recordings into \
                 it.";

    FLAG_IGNORED = 121;
        means: "A flag in chrome_settings.flags has no effect.";
        recordings: "Not concerned.";
        cause: "The recorder sets this flag itself and needs its value: window size, display, sound. The line names \
                the flag.";
        remedy: "Remove the flag from chrome_settings.flags. For the size, set recorder.width and recorder.height.";

    CERTIFICATES_NOT_CHECKED = 122;
        means: "Chrome is told to ignore errors of certificates.";
        recordings: "Recordings work, but whoever answers in place of the meeting page gets the access token of the \
                     meeting.";
        cause: "chrome_settings.flags has `ignore-certificate-errors`.";
        remedy: "Remove the flag, and name the server's own CA in plugNmeet_info.ca_file.";

    TEMPORARY_DIR_NOT_MADE = 123;
        means: "recorder.temporary_dir cannot be made.";
        recordings: "Every new recording fails until then.";
        cause: "Its parent directory belongs to another user, is read-only, full, or not mounted. The line names \
                directory and error.";
        remedy: "`install -d -o USER` with the recorder's user, or mount its disk. No restart is needed.";

    TEMPORARY_DIR_UNFIT = 124;
        means: "recorder.temporary_dir is in a main_path that cannot do what recordings need.";
        recordings: "Recordings and MP4s fail while they are made there.";
        cause: "main_path is an object store mounted as files, or another share that cannot rewrite, rename or sync, \
                and recorder.temporary_dir is in it (as it is by default). The line names what is missing.";
        remedy: "Set recorder.temporary_dir to a directory on a local disk with room for all running recordings and \
                 the largest MP4, and restart the recorder.";

    CERTIFICATE_EXPIRED = 125;
        means: "A certificate in plugNmeet_info.ca_file has expired.";
        recordings: "Recordings go on as long as the server's own certificate is signed by another one in the file.";
        cause: "The file holds an old CA beside the new one. The line says on which day it has expired.";
        remedy: "Put the server's present CA into the file, remove the expired one, and restart the recorder: the \
                 file is read at the start.";

    CERTIFICATES_UNREADABLE = 126;
        means: "Not all of SSL_CERT_FILE or SSL_CERT_DIR can be read.";
        recordings: "Where the plugNmeet server or NATS needs the missing certificate, no recording begins.";
        cause: "A file there is missing, damaged, or not for the recorder's user. The line names it.";
        remedy: "Correct the variable in the unit (`systemctl edit plugnmeet-recorder`), or the file that the line \
                 names.";

    CERTUTIL_WANTED = 127;
        means: "Chrome does not trust the certificates that were added to this host.";
        recordings: "Where the meeting page needs one of them, no recording begins.";
        cause: "The program `certutil` is missing, by which Chrome learns of them.";
        remedy: "`apt-get install libnss3-tools` and restart the recorder, where the meeting page has a certificate \
                 of your own CA. Else nothing.";

    PROGRAM_MISSING = 130;
        means: "A program that this mode needs is missing.";
        recordings: "The recorder does not start; recordings of an earlier run wait.";
        cause: "It is not installed, or not on the PATH of the service. The line names it and its package.";
        remedy: "`apt-get install` the package that the line names, then `systemctl restart plugnmeet-recorder`.";

    CHROME_MISSING = 131;
        means: "Chrome is missing.";
        recordings: "The recorder does not start; recordings of an earlier run wait.";
        cause: "None is on the service's PATH, or chrome_settings.custom_chrome_path is no executable file. The line \
                names what was looked for.";
        remedy: "`apt-get install chromium`, or correct chrome_settings.custom_chrome_path, then start the recorder \
                 again.";

    INTERPRETER_MISSING = 132;
        means: "A program that the recorder needs is a script whose interpreter is missing.";
        recordings: "The recorder does not start; recordings of an earlier run wait.";
        cause: "The first line of the script (`#!`) names a program that is not there; with the line ends of \
                Windows, one whose name ends in a carriage return. The line names both.";
        remedy: "Install that interpreter, or correct the first line; `sed -i 's/\\r$//'` on the file removes such \
                 line ends. Then start the recorder again.";

    CA_FILE_UNUSABLE = 133;
        means: "plugNmeet_info.ca_file cannot be used.";
        recordings: "The recorder does not start; recordings of an earlier run wait.";
        cause: "The file is missing, unreadable for the recorder's user, has no certificate in PEM, or all of them \
                have expired.";
        remedy: "Put the server's present CA there as PEM, readable by the recorder's user, then start the recorder \
                 again. The line names the file and what is wrong with it.";

    CERTUTIL_MISSING = 134;
        means: "The program `certutil` is missing, and certificates are configured for Chrome.";
        recordings: "The recorder does not start; recordings of an earlier run wait.";
        cause: "Chrome learns of plugNmeet_info.ca_file, SSL_CERT_FILE and SSL_CERT_DIR by this program only.";
        remedy: "`apt-get install libnss3-tools`, then start the recorder again.";

    DIRECTORY_NOT_WRITABLE = 135;
        means: "A directory of the configuration cannot be written to.";
        recordings: "The recorder does not start; recordings of an earlier run wait.";
        cause: "It belongs to another user, is read-only, full, or its disk is not mounted; or `ReadWritePaths=` of \
                the unit does not name it. The line names the key, the directory and the error.";
        remedy: "Mount it, or give it to the recorder's user (`chown`); for the unit, `systemctl edit \
                 plugnmeet-recorder`. Then start the recorder again.";

    SCRIPT_UNUSABLE = 136;
        means: "A post-processing script of the configuration cannot be run.";
        recordings: "The recorder does not start; recordings of an earlier run wait.";
        cause: "The file is missing, not executable, or its interpreter is missing. The line names it.";
        remedy: "Correct the path in recorder.post_processing_scripts, or `chmod +x` the file, then start the \
                 recorder again. The recorder's user must reach it, and under the unit nothing in /home is there.";

    HOOK_UNUSABLE = 137;
        means: "A hook of the configuration cannot be run.";
        recordings: "The recorder does not start; recordings of an earlier run wait.";
        cause: "The file is missing, not executable, its interpreter is missing, or its `http-request` has no valid \
                URL. The line names the stage and the script.";
        remedy: "Correct it under `hooks` in the configuration, or `chmod +x` the file, then start the recorder \
                 again. `plugnmeet-recorder hooks test STAGE` tries it.";
}
