//! What a command prints.

use std::io::{self, Write};

use crate::admin::error::AdminError;

/// Prints `text`; a reader that has closed the pipe is no error.
///
/// # Errors
/// Where standard output cannot be written to.
pub(super) fn print(out: &mut (dyn Write + Send), text: &str) -> Result<(), AdminError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader has closed the pipe, as `| head` does.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(AdminError::Output(error)),
        _ => Ok(()),
    }
}
