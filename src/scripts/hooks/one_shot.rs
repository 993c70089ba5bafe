//! A one-shot script: started for each event, with the request on standard input; its whole output is the answer.

use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};

use crate::process::child::{self, ChildSpec};
use crate::scripts::hooks::answer::{self, LONGEST_ANSWER};
use crate::scripts::hooks::failure::{HookFailure, stderr_tail};
use crate::scripts::hooks::lifetime::HookLifetime;
use crate::scripts::hooks::lines::DRAIN;
use crate::scripts::hooks::payload::Object;
use crate::scripts::hooks::step_result::{StepFailure, StepResult};

/// Runs the script once. When `ended` resolves first, returns at once; the script is then stopped in the background,
/// which [`super::Hooks::shutdown`] waits for.
pub(super) async fn run(
    spec: &ChildSpec,
    input: &Object,
    limit: Duration,
    lifetime: &HookLifetime,
    ended: impl Future<Output = ()>,
) -> StepResult {
    let grace = lifetime.timeouts.grace;
    let mut child = child::spawn(spec).await.map_err(HookFailure::Start)?;
    let (stdin, stdout, tail) = (child.stdin.take(), child.stdout.take(), child.tail());
    let mut output = ScriptOutput::default();
    let exit = {
        let io = async {
            tokio::join!(write(stdin, input), output.read(stdout));
        };
        tokio::pin!(io);
        let finish = async {
            tokio::select! {
                exit = child.wait() => {
                    // Its child processes may hold the pipes open: they are not waited for.
                    let _ = tokio::time::timeout(DRAIN, io).await;
                    exit
                }
                // It has closed its pipes, but still runs.
                () = &mut io => child.wait().await,
            }
        };
        tokio::select! {
            exit = tokio::time::timeout(limit, finish) => exit.ok(),
            () = ended => {
                lifetime.tasks.spawn(async move { child.stop(Signal::TERM, grace).await });
                return Err(StepFailure::Stopped);
            }
        }
    };
    let Some(exit) = exit else {
        child.stop(Signal::TERM, grace).await;
        return Err(HookFailure::Timeout { limit, words: stderr_tail(&tail) }.into());
    };
    if !exit.success() {
        return Err(HookFailure::Exit { exit, words: stderr_tail(&tail) }.into());
    }
    Ok(answer::of_output(&output.bytes, output.cut))
}

/// Writes the request as one line. A script need not read it.
async fn write(stdin: Option<ChildStdin>, input: &Object) {
    let Some(mut stdin) = stdin else { return };
    let mut request = serde_json::to_vec(input).unwrap_or_default();
    request.push(b'\n');
    let _ = stdin.write_all(&request).await;
}

/// The end of a script's output.
#[derive(Debug, Default)]
struct ScriptOutput {
    bytes: Vec<u8>,
    /// The beginning is missing.
    cut: bool,
}

impl ScriptOutput {
    async fn read(&mut self, stdout: Option<ChildStdout>) {
        let Some(mut stdout) = stdout else { return };
        // A failing pipe is treated like a closed one.
        while matches!(stdout.read_buf(&mut self.bytes).await, Ok(1..)) {
            if self.bytes.len() > 2 * LONGEST_ANSWER {
                self.shorten();
            }
        }
        self.shorten();
    }

    fn shorten(&mut self) {
        if let Some(surplus) = self.bytes.len().checked_sub(LONGEST_ANSWER).filter(|surplus| *surplus > 0) {
            self.bytes.drain(..surplus);
            self.cut = true;
        }
    }
}
