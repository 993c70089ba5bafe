//! The code of each check. Pure.

use crate::codes::{self, Code};

/// The code of what this check finds that is not well.
#[must_use]
pub fn of_check(check: &str) -> Code {
    match check {
        "configuration" => codes::CHECK_CONFIGURATION,
        "ffmpeg" => codes::CHECK_FFMPEG,
        "Xvfb" => codes::CHECK_XVFB,
        "PulseAudio" => codes::CHECK_PULSEAUDIO,
        "Chrome" => codes::CHECK_CHROME,
        "sandbox" => codes::CHECK_SANDBOX,
        "/dev/shm" => codes::CHECK_SHARED_MEMORY,
        "open files" => codes::CHECK_OPEN_FILES,
        "processes" => codes::CHECK_PROCESSES,
        "memory" => codes::CHECK_MEMORY,
        "processors" => codes::CHECK_PROCESSORS,
        "process 1" => codes::CHECK_PROCESS_1,
        "certificates" => codes::CHECK_CERTIFICATES,
        "state_dir" => codes::CHECK_STATE_DIR,
        "temporary_dir" => codes::CHECK_TEMPORARY_DIR,
        "main_path" => codes::CHECK_MAIN_PATH,
        "file systems" => codes::CHECK_FILE_SYSTEMS,
        "hooks" => codes::CHECK_HOOKS,
        "scripts" => codes::CHECK_SCRIPTS,
        "server" => codes::CHECK_SERVER,
        "key" => codes::CHECK_KEY,
        "meeting page" => codes::CHECK_MEETING_PAGE,
        "NATS" => codes::CHECK_NATS,
        "bucket" => codes::CHECK_BUCKET,
        "job queue" => codes::CHECK_JOB_QUEUE,
        "rights" => codes::CHECK_RIGHTS,
        "clock" => codes::CHECK_CLOCK,
        "state_dir speed" => codes::CHECK_STATE_DIR_SPEED,
        "temporary_dir speed" => codes::CHECK_TEMPORARY_DIR_SPEED,
        "fonts" => codes::CHECK_FONTS,
        "self-recording" => codes::CHECK_SELF_RECORDING,
        "store" => codes::CHECK_STORE,
        _ => codes::CHECK_FOUND,
    }
}
