//! Runs a program for what it prints.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use crate::process::child::{self, ChildSpec};

/// Time limit for the end of a program that has closed its output.
const END_GRACE: Duration = Duration::from_secs(1);

/// What a program prints to its standard output, `limit` bytes of it at most. It is killed with all that it has started
/// when this returns, or is dropped.
///
/// # Errors
/// Where it cannot be started, fails, or has not ended in time; with its last words.
pub async fn output_of<A: Into<OsString>>(
    program: &Path,
    args: impl IntoIterator<Item = A>,
    env: &[(&str, &Path)],
    bytes: u64,
    limit: Duration,
) -> Result<Vec<u8>, String> {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let mut spec = ChildSpec::new(name, program).args(args);
    (spec.pipe_stdout, spec.log_level) = (true, tracing::Level::TRACE);
    spec.env.extend(env.iter().map(|(key, value)| (OsString::from(key), value.as_os_str().to_owned())));
    let run = async {
        let mut child = child::spawn(&spec).await.map_err(|error| error.to_string())?;
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            // What was read until an error is judged.
            let _ = stdout.take(bytes).read_to_end(&mut output).await;
        }
        let exit = child.end_within(END_GRACE).await;
        if exit.success() {
            return Ok(output);
        }
        Err(format!("{} ends with {exit}: {}", program.display(), child.tail().last_lines(2)))
    };
    let ran = tokio::time::timeout(limit, run).await;
    ran.unwrap_or_else(|_| Err(format!("{} does not end within {} s", program.display(), limit.as_secs())))
}

/// [`output_of`], as text.
pub async fn text_of(program: &Path, args: &[&str], limit: Duration) -> Result<String, String> {
    let output = output_of(program, args, &[], 256 * 1024, limit).await?;
    Ok(String::from_utf8_lossy(&output).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_and_one_that_fails_is_heard() {
        let shell = Path::new("/bin/sh");
        let limit = Duration::from_secs(20);
        assert_eq!(text_of(shell, &["-c", "echo 7.1"], limit).await.unwrap(), "7.1\n");
        let failed = text_of(shell, &["-c", "echo no library >&2; exit 3"], limit).await.unwrap_err();
        assert_eq!(failed, "/bin/sh ends with exit code 3: no library");
        let hung = text_of(shell, &["-c", "sleep 1000"], Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(hung, "/bin/sh does not end within 1 s");
    }
}
