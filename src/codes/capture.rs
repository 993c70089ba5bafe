//! Codes of capture: Chrome, picture, sound, encoder. Pure.

use crate::codes::code::room;

room! {
    CAPTURE: "Capture: Chrome, picture, sound, encoder";

    CLEANUP_NOT_DONE = 301;
        means: "What killed recorders have left behind was not looked for.";
        recordings: "Not concerned. Processes of a killed recorder may go on and take memory.";
        cause: "The directory for temporary files (`/tmp`, or TMPDIR) cannot be listed. The line names the error.";
        remedy: "See that the recorder's user may read and write there. Look for old processes: `ps -u \
                 plugnmeet-recorder -f`.";

    LEFTOVER_KEPT = 302;
        means: "What a killed recording or command has left cannot be removed: a temporary directory, a process of it, or \
                a copy of the configuration, which a killed `plugnmeet-recorder size --write` leaves beside it.";
        recordings: "Safe: no media are in it.";
        cause: "It belongs to another user, its disk fails or is read-only for the recorder, or a process in it does not \
                end. The line names the path.";
        remedy: "Remove what the line names, as root if need be: a copy of the configuration has its secrets in it. The \
                 next start tries it again.";

    RIG_DIR_KEPT = 303;
        means: "The temporary directory of a recording that has ended cannot be removed.";
        recordings: "Safe: no media are in it.";
        cause: "A process of Chrome still writes there, or the disk of `/tmp` (TMPDIR) fails. The line names \
                directory and error.";
        remedy: "Nothing where the line comes once; the next start removes it. Else see whether `/tmp` is full or \
                 fails (`df -h`, `dmesg -T`).";

    NO_CAPTURE_DIR = 304;
        means: "Nothing can be recorded into recorder.temporary_dir.";
        recordings: "The meeting is not recorded until the disk takes it. What was captured before is kept.";
        cause: "It is full, away, read-only, or does not answer within 4 s. The line names directory and error.";
        remedy: "Free room there or bring the disk back now (`df -h`, `dmesg -T`). The meeting is tried again by \
                 itself: of a new recording for two minutes, else for recorder.rejoin_for.";

    DISPLAY_NOT_NOTED = 305;
        means: "The number of a virtual screen is not written down for the clean-up after a crash.";
        recordings: "Not concerned.";
        cause: "The directory for temporary files (`/tmp`, or TMPDIR) cannot be written at this moment.";
        remedy: "See whether it is full (`df -h /tmp`). Were the recorder killed now, a socket would stay in \
                 /tmp/.X11-unix; remove it by hand.";

    NO_SCREENSHOT = 306;
        means: "No screenshot of the failed page could be kept.";
        recordings: "Not concerned.";
        cause: "Xvfb is gone or does not answer, or the directory of the log file (recorder.temporary_dir where \
                there is none) cannot be written.";
        remedy: "Nothing. See that the recorder's user may write in the directory of log_settings.log_file.";

    FFMPEG_ENDED = 307;
        means: "ffmpeg takes no more of its input at the end of a part, and is killed.";
        recordings: "What ffmpeg had written is kept; the last seconds of this part may be missing.";
        cause: "ffmpeg waits for the disk or, of a broadcast, for its far end; or the host is overloaded. The line \
                names why.";
        remedy: "See whether the disk of recorder.temporary_dir hangs (`dmesg -T`) and how busy the host is (`top`). \
                 ffmpeg's own lines (PNR-1007) are above.";

    THREAD_LEFT = 308;
        means: "A thread of a recording does not end and is left behind.";
        recordings: "The recording goes on to its next part or its end; the thread only takes memory.";
        cause: "Xvfb, PulseAudio, ffmpeg or a disk does not answer this thread. The line names it.";
        remedy: "Look for a disk that hangs (`dmesg -T`) and for processes in state D (`ps axo \
                 pid,stat,wchan,comm`). Where such lines are many, drain the node and restart the recorder.";

    SILENT_MEETING = 309;
        means: "The recording is silent although the page plays sound.";
        recordings: "The picture is recorded. What is said now is not, if somebody does speak.";
        cause: "Everybody is muted or quiet for recorder.silence_warning, or their sound does not get here.";
        remedy: "Ask in the meeting whether somebody can be heard. If so, see that chrome_settings.flags have no \
                 `mute-audio`, and have the recording stopped and started again.";

    CALLS_NOT_SYNCHRONISED = 310;
        means: "The sound of calls may come later than their picture.";
        recordings: "The recording goes on; lips and voices may be apart by some tenths of a second.";
        cause: "Chrome did not take the script by which the page is prepared for it. The line has its answer.";
        remedy: "Update Chrome; `plugnmeet-recorder check --quick` names its version and age.";

    DIALOGS_NOT_CLOSED = 311;
        means: "Dialogs of the page are not closed: they may be recorded, and may hold the page up.";
        recordings: "The recording goes on. If a dialog holds the page up, its capture breaks and the meeting is \
                     joined again.";
        cause: "Chrome did not take the order by which dialogs are closed. The line has its answer.";
        remedy: "Update Chrome; `plugnmeet-recorder check --quick` names its version and age.";

    PAGE_NOT_LOADED_YET = 312;
        means: "The meeting page cannot be loaded yet.";
        recordings: "The meeting is not recorded meanwhile. What was captured before is kept.";
        cause: "The plugNmeet server or a proxy does not answer, its name is not found, or its certificate is not \
                trusted. The line names the error.";
        remedy: "`curl -v` the address in plugNmeet_info.host (plugNmeet_info.join_host, where it is set) from this \
                 host. The page is loaded again each second, for 30 s, and then with a new Chrome.";

    CHROME_PORT_FAILS = 313;
        means: "The recorder cannot reach its Chrome: the port on 127.0.0.1 fails.";
        recordings: "The meeting is not recorded until it works; it is tried again.";
        cause: "The loopback interface is down or filtered, or no port is free. The line names the error.";
        remedy: "See that 127.0.0.1 works in this host or container: `ip addr show lo`, and the firewall.";

    PAGE_NOT_CLOSED = 314;
        means: "A page that the meeting page has opened cannot be closed.";
        recordings: "The recording goes on; that page is not seen in it, but may be heard.";
        cause: "Chrome did not carry out the order. The line has its answer.";
        remedy: "Nothing. Where it repeats, see what opens pages in the meeting.";

    PAGE_RELOADED = 315;
        means: "The meeting page was loaded anew, and is joined again in the same part.";
        recordings: "The recording goes on in the same part; some seconds of the meeting's dialog are in it.";
        cause: "The page reloaded itself, as after an update of the plugNmeet client or a lost connection.";
        remedy: "Nothing.";

    WINDOWS_NOT_HIDDEN = 316;
        means: "Menus and dialogs of Chrome may be recorded.";
        recordings: "The recording goes on; a menu or dialog of Chrome may be seen in it.";
        cause: "The Xvfb of this host lacks the extension Composite or XFixes. The line names the error.";
        remedy: "`apt-get install --reinstall xvfb`: that of the distribution has both.";

    FFMPEG_KILLED = 317;
        means: "ffmpeg was killed and still does not end.";
        recordings: "What ffmpeg had written is kept and delivered when its disk answers.";
        cause: "It waits in the kernel for a disk that does not answer, mostly that of recorder.temporary_dir.";
        remedy: "Bring that disk back, or unmount it (`umount -f`, `umount -l`); `dmesg -T` names it. The process \
                 then ends by itself.";

    FFMPEG_SLOW_END = 318;
        means: "ffmpeg does not end in its time and is sent SIGTERM.";
        recordings: "What it has written is kept; the last seconds of this part may be missing.";
        cause: "The host is overloaded, a disk is slow, or the far end of a broadcast takes nothing.";
        remedy: "Look at the load (`top`) and at the disk of recorder.temporary_dir (`iostat -x 1`). Where it \
                 repeats, lower recorder.max_limit.";

    FRAMES_LOST = 319;
        means: "Frames are being lost, so that the picture jerks.";
        recordings: "The recording goes on, and its sound is whole.";
        cause: "ffmpeg cannot keep up (`dropped` in the line), or the host is overloaded (`late`).";
        remedy: "Lower recorder.max_limit, or set a faster `-preset` in ffmpeg_settings.recording.post_input, or a \
                 smaller recorder.width and recorder.height. `plugnmeet-recorder size` measures what this host \
                 holds.";

    FALLBACK_NOT_STARTED = 321;
        means: "A recording could not change to its fast encoder, and goes on with the one it has.";
        recordings: "The recording goes on, and may lose frames.";
        cause: "A second ffmpeg did not start in time, or could not write its file: the host is overloaded, the \
                program `ffmpeg` is gone, or the disk of recorder.temporary_dir is full or hangs. The line names why.";
        remedy: "Look at the load (`top`) and at the disk (`df`). It is tried again by itself, after `retry_s` seconds; \
                 `ffmpeg_settings.one_pass: false` records with the fast encoder from the start.";
}
