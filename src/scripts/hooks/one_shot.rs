//! A one-shot script: started for each event, its request on standard input, its answer what it put out until its end.

use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};

use crate::process::child::{self, ChildSpec};
use crate::scripts::hooks::answer::{self, LONGEST_ANSWER};
use crate::scripts::hooks::failure::{HookFailure, last_words};
use crate::scripts::hooks::lines::DRAIN;
use crate::scripts::hooks::payload::Object;
use crate::scripts::hooks::{HookLifetime, StepFailure, StepResult};

/// Runs the script once. When `ended` comes first it is given up at once; the script then ends in the background, where
/// [`super::Hooks::shutdown`] waits for it.
pub(super) async fn run(
    spec: &ChildSpec,
    given: &Object,
    limit: Duration,
    life: &HookLifetime,
    ended: impl Future<Output = ()>,
) -> StepResult {
    let grace = life.patience.grace;
    let mut child = child::spawn(spec).await.map_err(HookFailure::Start)?;
    let (stdin, stdout, tail) = (child.stdin.take(), child.stdout.take(), child.tail());
    let mut output = ScriptOutput::default();
    let exit = {
        let speak = async {
            tokio::join!(write(stdin, given), output.read(stdout));
        };
        tokio::pin!(speak);
        let talk = async {
            tokio::select! {
                exit = child.wait() => {
                    // What it started elsewhere may hold the pipes open; it must not hold us.
                    let _ = tokio::time::timeout(DRAIN, speak).await;
                    exit
                }
                // It has said all it has to say, but goes on.
                () = &mut speak => child.wait().await,
            }
        };
        tokio::select! {
            exit = tokio::time::timeout(limit, talk) => exit.ok(),
            () = ended => {
                life.tasks.spawn(async move { child.stop(Signal::TERM, grace).await });
                return Err(StepFailure::Stopped);
            }
        }
    };
    let Some(exit) = exit else {
        child.stop(Signal::TERM, grace).await;
        return Err(HookFailure::Timeout { limit, words: last_words(&tail) }.into());
    };
    if !exit.success() {
        return Err(HookFailure::Exit { exit, words: last_words(&tail) }.into());
    }
    Ok(answer::of_output(&output.bytes, output.cut))
}

/// One line, and the end. A script need not read it.
async fn write(stdin: Option<ChildStdin>, given: &Object) {
    let Some(mut stdin) = stdin else { return };
    let mut request = serde_json::to_vec(given).unwrap_or_default();
    request.push(b'\n');
    let _ = stdin.write_all(&request).await;
}

/// The last of what a script has put out.
#[derive(Debug, Default)]
struct ScriptOutput {
    bytes: Vec<u8>,
    /// Its beginning is missing.
    cut: bool,
}

impl ScriptOutput {
    async fn read(&mut self, stdout: Option<ChildStdout>) {
        let Some(mut stdout) = stdout else { return };
        // A pipe that fails has nothing more to say, like one that is closed.
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
