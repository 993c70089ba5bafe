//! Codes of the node: start, host, directories, end. Pure.

use crate::codes::code::room;

room! {
    NODE: "Node: start, host, directories, end";

    START_FAILED = 101;
        means: "The node cannot start, or a fault has ended it.";
        cause: "The line names the phase and its error. Faults of the host have lines with codes of their own above \
                it.";
        remedy: "Remedy what the line names, then start the recorder again. `plugnmeet-recorder check` looks at \
                 everything at once.";

    CONFIGURATION_WARNING = 102;
        means: "A part of the configuration has no effect, or will lose it.";
        cause: "A key is unknown, misspelt or deprecated. The line names the file, the line and mostly the key that \
                was meant.";
        remedy: "Correct or remove the key. The node runs with the default in its place.";

    PART_ENDED = 103;
        means: "A part of the node has ended by itself, and the node shuts down.";
        cause: "A fault of this program: such a part runs until the node ends. A line `panic` may stand above it.";
        remedy: "Restart the recorder, which systemd does by itself; recordings go on then. Report the line and the \
                 panic above it.";

    START_SLOW = 104;
        means: "The start takes long, and the line names the step.";
        cause: "A disk or share that this step needs does not answer, or answers slowly.";
        remedy: "Look at the mounts of main_path, temporary_dir and state_dir (`mount`, `dmesg`). The start goes on \
                 when the disk answers.";

    END_NOT_ON_DISK = 105;
        means: "The program ends although not everything that it knows is on disk.";
        cause: "The disk of recorder.state_dir does not answer.";
        remedy: "Bring the disk back, then start the recorder: it takes up what state_dir holds. Recordings that ended \
                 meanwhile may need `recordings list`.";

    KILLED_EARLIER = 106;
        means: "Processes, displays and files of an earlier run were removed at the start.";
        cause: "The recorder was killed: by `kill -9`, by the kernel when memory ran out, or by a loss of power.";
        remedy: "Nothing is to be done here; recordings go on by themselves. Look in `journalctl -k` for `Out of \
                 memory`, and at systemd's `TimeoutStopSec`.";

    NO_SANDBOX = 107;
        means: "Chrome runs without its sandbox.";
        cause: "The kernel allows this user no user namespaces, or the recorder runs as root or in a container that \
                forbids them. The line names the reason.";
        remedy: "Run as a user of its own and allow user namespaces (`sysctl kernel.unprivileged_userns_clone=1`, an \
                 AppArmor profile for Chrome, or a seccomp profile for the container).";

    SELF_TEST_BEGINS = 108;
        means: "Several recordings in a row could not be started, so this node tests whether it can record.";
        cause: "The meetings' page failed, or Chrome, Xvfb or PulseAudio of this node do.";
        remedy: "Wait for the result. The lines of the failed recordings above it name their causes.";

    SELF_TEST_FAILED = 109;
        means: "The self-test failed: this node cannot record and takes nothing on until it can.";
        cause: "Chrome, Xvfb, PulseAudio or ffmpeg do not work on this host: an update, a full disk, too little memory \
                or shared memory. The line names the cause.";
        remedy: "Remedy the cause; the test is repeated by itself. `plugnmeet-recorder check` tells more. See \
                 self-test in docs/troubleshooting.md.";

    SERVICE_MANAGER_DEAF = 110;
        means: "systemd is not told how this node is, and may end it as hung.";
        cause: "The socket in NOTIFY_SOCKET does not take messages: it is gone, or in a container it is not mounted.";
        remedy: "Unset NOTIFY_SOCKET where no service manager runs; else check `NotifyAccess=` and the mount of the \
                 socket.";

    OLD_STATE_DIR = 111;
        means: "Records of an earlier version are in its default state directory, so that one stays in use.";
        cause: "The default of recorder.state_dir has changed, and the records of unfinished work are at the old \
                place.";
        remedy: "Nothing is lost. To move: wait until `recordings list`, `jobs list` and `outbox list` are empty, then \
                 restart the recorder.";

    STATE_DIR_REMOTE = 112;
        means: "recorder.state_dir is on a network file system, which may hang.";
        cause: "The directory is on NFS, SMB, FUSE or the like.";
        remedy: "Set recorder.state_dir to a local disk, as /var/lib/plugnmeet-recorder. While the share hangs, this \
                 node takes no work.";

    STATE_DIR_VOLATILE = 113;
        means: "recorder.state_dir does not outlive this host or container.";
        cause: "It is on tmpfs or on the writable layer of a container.";
        remedy: "Set recorder.state_dir to a directory on a disk, or mount a volume there. Until then a restart \
                 forgets unfinished recordings.";

    STATE_DIR_KIND_UNKNOWN = 114;
        means: "The kind of file system of recorder.state_dir cannot be found out.";
        cause: "The file system does not answer `statfs`, or forbids it.";
        remedy: "See that the directory is on a local disk. The node works on.";

    MAIN_PATH_MADE = 120;
        means: "recorder.copy_to_path.main_path is not there and is made.";
        cause: "This node has never seen the directory. A share that should be mounted there may be missing.";
        remedy: "Where main_path is a share: stop the recorder, mount it, remove what was made below, start again. \
                 Else nothing.";

    FLAG_IGNORED = 121;
        means: "A flag of chrome_settings.flags is not heeded.";
        cause: "The recorder sets this flag itself and needs its value.";
        remedy: "Remove the flag from the configuration.";

    CERTIFICATES_NOT_CHECKED = 122;
        means: "Chrome is told to ignore errors of certificates.";
        cause: "chrome_settings.flags has ignore-certificate-errors. Whoever answers for the meeting page then gets \
                the access token.";
        remedy: "Remove the flag, and name the CA of the server in plugNmeet_info.ca_file.";

    TEMPORARY_DIR_NOT_MADE = 123;
        means: "recorder.temporary_dir cannot be made.";
        cause: "Its parent directory belongs to another user, is read-only, full, or not mounted.";
        remedy: "Make the directory and give it to the recorder's user, or mount its disk. Recordings fail until then.";

    TEMPORARY_DIR_UNFIT = 124;
        means: "recorder.temporary_dir is in a main_path that cannot do what recordings need.";
        cause: "main_path is an object store mounted as files, or another share that cannot rewrite, rename or sync. \
                The line names what is missing.";
        remedy: "Set recorder.temporary_dir to a directory on a local disk.";

    CERTIFICATE_EXPIRED = 125;
        means: "A certificate in plugNmeet_info.ca_file has expired.";
        cause: "The file holds an old CA beside or instead of the new one.";
        remedy: "Put the server's present CA into the file and remove the expired one.";

    CERTIFICATES_UNREADABLE = 126;
        means: "Not all of SSL_CERT_FILE or SSL_CERT_DIR can be read.";
        cause: "A file there is missing, damaged, or not for the recorder's user.";
        remedy: "Correct the variable in the service's environment, or the file that the line names.";

    CERTUTIL_WANTED = 127;
        means: "Chrome does not trust the certificates that were added to this host.";
        cause: "The program `certutil` is missing, by which Chrome learns of them.";
        remedy: "`apt-get install libnss3-tools` where the meeting page has such a certificate. Else nothing.";

    PROGRAM_MISSING = 130;
        means: "A program that this mode needs is missing.";
        cause: "It is not installed, or not on the PATH of the service. The line names it and its package.";
        remedy: "Install the package that the line names, then start the recorder again.";

    CHROME_MISSING = 131;
        means: "Chrome is missing.";
        cause: "None is on PATH, or chrome_settings.custom_chrome_path is no executable file.";
        remedy: "`apt-get install chromium`, or correct chrome_settings.custom_chrome_path.";

    INTERPRETER_MISSING = 132;
        means: "A program is a script whose interpreter is missing.";
        cause: "The first line of the script (`#!`) names a program that is not there.";
        remedy: "Install the interpreter, or correct the first line of the script.";

    CA_FILE_UNUSABLE = 133;
        means: "plugNmeet_info.ca_file cannot be used.";
        cause: "The file is missing, unreadable for the recorder's user, has no certificate in PEM, or all of them \
                have expired.";
        remedy: "Put the server's present CA there as PEM, readable by the recorder's user.";

    CERTUTIL_MISSING = 134;
        means: "The program `certutil` is missing, and certificates are configured for Chrome.";
        cause: "Chrome learns of plugNmeet_info.ca_file, SSL_CERT_FILE and SSL_CERT_DIR by this program only.";
        remedy: "`apt-get install libnss3-tools`, then start the recorder again.";

    DIRECTORY_NOT_WRITABLE = 135;
        means: "A directory of the configuration cannot be written to.";
        cause: "It belongs to another user, is read-only, full, or its disk is not mounted. systemd's \
                `ReadWritePaths=` may not name it.";
        remedy: "Create it, mount it, or give it to the user that the recorder runs as (`chown`), then start the \
                 recorder again.";

    SCRIPT_UNUSABLE = 136;
        means: "A post-processing script of the configuration cannot be run.";
        cause: "The file is missing, not executable, or its interpreter is missing.";
        remedy: "Correct the path, or `chmod +x` the script, as the recorder's user sees it.";

    HOOK_UNUSABLE = 137;
        means: "A hook of the configuration cannot be run.";
        cause: "The file is missing, not executable, its interpreter is missing, or its URL is none.";
        remedy: "Correct the path or URL, or `chmod +x` the script, as the recorder's user sees it.";
}
