//! Codes of capture: Chrome, picture, sound, encoder. Pure.

use crate::codes::code::room;

room! {
    CAPTURE: "Capture: Chrome, picture, sound, encoder";

    CLEANUP_NOT_DONE = 301;
        means: "What killed recorders have left behind was not looked for.";
        cause: "recorder.temporary_dir or /tmp cannot be listed.";
        remedy: "Look at the directory that the line names, and its owner.";

    LEFTOVER_KEPT = 302;
        means: "Something that a killed recorder has left cannot be removed.";
        cause: "It belongs to another user, or its disk fails.";
        remedy: "Remove it by hand, as root if need be.";

    RIG_DIR_KEPT = 303;
        means: "The temporary directory of a recording cannot be removed.";
        cause: "A program still writes there, or the disk of recorder.temporary_dir fails.";
        remedy: "Look at that disk. The next start removes the directory.";

    NO_CAPTURE_DIR = 304;
        means: "Nothing can be recorded into recorder.temporary_dir.";
        cause: "The directory is full, away, read-only, or does not answer.";
        remedy: "Free room, or bring the disk back. The recording is tried again.";

    DISPLAY_NOT_NOTED = 305;
        means: "The number of a display is not noted.";
        cause: "recorder.temporary_dir cannot be written at this moment.";
        remedy: "Nothing. Were the recorder killed now, a socket would stay in /tmp/.X11-unix.";

    NO_SCREENSHOT = 306;
        means: "No picture of the page could be kept.";
        cause: "The display is gone or does not answer, or the log's directory is not writable.";
        remedy: "Nothing for the recording. See that the recorder's user may write beside the log file.";

    FFMPEG_ENDED = 307;
        means: "ffmpeg is ended because its input cannot be closed in the proper way.";
        cause: "ffmpeg or the thread that feeds it does not get on. The line names why.";
        remedy: "Look at ffmpeg's lines and at the disk of temporary_dir. The file is kept up to there.";

    THREAD_LEFT = 308;
        means: "A thread of a recording does not end and is left behind.";
        cause: "The X server, PulseAudio or a disk does not answer this thread.";
        remedy: "Look for processes in state D (`ps`). Where such lines grow in number, restart the recorder after a \
                 drain.";

    SILENT_MEETING = 309;
        means: "The recording is silent although the page plays sound.";
        cause: "Everybody is muted or quiet, or their sound does not get here.";
        remedy: "Check in the meeting that somebody can be heard, and that chrome_settings.flags do not mute Chrome.";

    CALLS_NOT_SYNCHRONISED = 310;
        means: "The sound of calls may come later than their picture.";
        cause: "The page could not be prepared for it: Chrome did not take the script.";
        remedy: "See that Chrome is of a supported version. The recording goes on.";

    DIALOGS_NOT_CLOSED = 311;
        means: "Dialogs of the page may be recorded and may stop it.";
        cause: "Chrome did not accept the connection by which dialogs are closed.";
        remedy: "See that Chrome is of a supported version. The recording goes on.";

    PAGE_NOT_LOADED_YET = 312;
        means: "The meeting page cannot be loaded yet.";
        cause: "The server or a proxy does not answer, its name is not found, or its certificate is not trusted. The \
                line names the error.";
        remedy: "Open plugNmeet_info.host from this host (`curl -v`). It is tried again.";

    CHROME_PORT_FAILS = 313;
        means: "Chrome cannot be steered: the loopback port fails.";
        cause: "The loopback interface is missing or filtered, or no port is free.";
        remedy: "See that 127.0.0.1 works in this host or container (`ip link show lo`).";

    PAGE_NOT_CLOSED = 314;
        means: "A page that the meeting page has opened cannot be closed.";
        cause: "Chrome does not answer to that.";
        remedy: "Nothing: it is not seen, but may be heard.";

    PAGE_RELOADED = 315;
        means: "The meeting page was loaded anew, and is joined again in the same part.";
        cause: "The page reloaded itself, as after an update of the server or a lost connection.";
        remedy: "Nothing. Some seconds of the meeting's dialog may be in the recording.";

    WINDOWS_NOT_HIDDEN = 316;
        means: "Menus and dialogs of Chrome may be recorded.";
        cause: "The X server lacks the Composite or XFixes extension.";
        remedy: "Install Xvfb of the distribution.";

    FFMPEG_KILLED = 317;
        means: "ffmpeg was killed, as it did not end.";
        cause: "It waits for a disk or a far end that does not answer.";
        remedy: "Look at the disk of temporary_dir. What was written is kept.";

    FFMPEG_SLOW_END = 318;
        means: "ffmpeg does not end in its time and is asked to stop.";
        cause: "The machine is overloaded, or a disk is slow.";
        remedy: "Look at the load and the disk of temporary_dir.";

    FRAMES_LOST = 319;
        means: "Frames are being lost, so the picture jerks; the sound is whole.";
        cause: "ffmpeg cannot keep up (`dropped`), or the machine is overloaded (`late`).";
        remedy: "Fewer recordings at once (max_limit), a faster -preset or a smaller picture.";
}
