//! The operator's own programs, run at fixed points of a recording's way.
//!
//! In: what is known of a recording or job. Out: what [`hooks`] answer, which may change where its files are, and whether the
//! [`post_processing`] scripts succeeded. No shell is started, each program has a time limit, and what it leaves running is
//! ended; no output of a program is trusted before it is checked.

use std::path::Path;

use crate::process::interpreter::missing_interpreter;
use crate::process::programs::find_program;

pub mod hooks;
pub mod post_processing;

/// Why `program` cannot be run, as far as can be seen; `None` where it can.
fn why_not_runnable(program: &Path) -> Option<String> {
    if let Some(found) = find_program(program) {
        return missing_interpreter(&found);
    }
    let why = match std::fs::metadata(program) {
        // As exec does: a name without a slash is searched on PATH only.
        _ if program.components().count() == 1 && !program.is_absolute() => {
            "no executable of this name is on PATH (for a file in the working directory write ./NAME)"
        }
        Ok(metadata) if metadata.is_dir() => "it is a directory",
        Ok(_) => "it is not executable (chmod +x it)",
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "there is no such file",
        Err(_) => "it cannot be read",
    };
    Some(why.to_owned())
}
