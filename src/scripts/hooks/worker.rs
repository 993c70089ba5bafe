//! One process of a long-lived script: one request on its standard input, one answer on its standard output, one
//! request at a time.
//!
//! A process that has written anything without a request, or has not read a request to its end, is out of sync and gets
//! no further request. Late output looks like the next answer; so a process must be silent for a moment after its start
//! (some print a greeting) and after each answer before it gets a request.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, ChildStdout};

use crate::codes;
use crate::process::child::{self, Child, ChildSpec, Exit, SpawnError};
use crate::process::output::OutputTail;
use crate::scripts::hooks::answer::{self, NoAnswer};
use crate::scripts::hooks::lines::{DRAIN, Line, Lines};
use crate::scripts::hooks::payload::{self, Object};

/// The number of lines that a script may print before its first request.
const MAX_GREETINGS: usize = 16;

/// The number of answers for other recordings that are skipped while waiting for the right one.
const MAX_FOREIGN_ANSWERS: usize = 16;

/// A running process.
#[derive(Debug)]
pub(super) struct ScriptProcess {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<ChildStdout>,
    since: Instant,
    /// How long the process must be silent before a request, and since when it is.
    quiet_period: Duration,
    quiet_since: tokio::time::Instant,
    /// It has had a request.
    asked: bool,
    greetings: usize,
}

/// The result of a request.
#[derive(Debug)]
pub(super) enum Exchange {
    /// `in_sync`: the process may get another request.
    Answered { answer: Result<Object, NoAnswer>, in_sync: bool },
    /// The process ended, or closed a pipe.
    Died,
    /// The process got no request, since it had written this (made printable) without one.
    OutOfSync(String),
}

/// What an idle process did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IdleEvent {
    /// It wrote this (made printable) before its first request, which is allowed.
    Greeting(String),
    /// It wrote this without a request, and is out of sync.
    Output(String),
    Died,
}

impl ScriptProcess {
    /// Starts a process. `quiet_period`: how long it must be silent before a request.
    pub(super) async fn start(spec: &ChildSpec, quiet_period: Duration) -> Result<Self, SpawnError> {
        let mut child = child::spawn(spec).await?;
        let no_pipe = || SpawnError {
            name: spec.name.clone(),
            program: spec.program.display().to_string(),
            source: std::io::Error::other("it was started without pipes"),
        };
        let stdin = child.stdin.take().ok_or_else(no_pipe)?;
        let lines = Lines::new(child.stdout.take().ok_or_else(no_pipe)?);
        let quiet_since = tokio::time::Instant::now();
        Ok(Self { child, stdin, lines, since: Instant::now(), quiet_period, quiet_since, asked: false, greetings: 0 })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) fn tail(&self) -> OutputTail {
        self.child.tail()
    }

    /// Sends one request. Where this is cancelled, the process is out of sync.
    pub(super) async fn ask(&mut self, input: &Object) -> Exchange {
        match self.wait_quiet().await {
            None => {}
            // A new process cannot have written this for an earlier request: it is useless.
            Some(IdleEvent::Output(text)) if self.asked => return Exchange::OutOfSync(text),
            Some(_) => return Exchange::Died,
        }
        if self.asked && self.lines.is_readable() {
            return Exchange::OutOfSync("more is in its pipe".to_owned());
        }
        self.asked = true;
        let answered = self.exchange(input).await;
        self.quiet_since = tokio::time::Instant::now();
        answered
    }

    /// Waits until the process was silent for long enough; else returns what it did.
    async fn wait_quiet(&mut self) -> Option<IdleEvent> {
        let until = self.quiet_since + self.quiet_period;
        loop {
            match tokio::time::timeout_at(until, self.idle()).await {
                Err(_) => return None,
                Ok(IdleEvent::Greeting(text)) => self.log_greeting(&text),
                Ok(other) => return Some(other),
            }
        }
    }

    pub(super) fn log_greeting(&self, text: &str) {
        tracing::warn!(
            code = %codes::HOOK_UNASKED, pid = self.pid(),
            "it put out something before it was asked: {text}; dropped"
        );
    }

    async fn exchange(&mut self, input: &Object) -> Exchange {
        let mut request = serde_json::to_vec(input).unwrap_or_default();
        request.push(b'\n');
        let Self { child, stdin, lines, .. } = self;
        let write = async {
            stdin.write_all(&request).await?;
            stdin.flush().await
        };
        tokio::pin!(write);
        let (mut written, mut in_sync, mut foreign) = (false, true, 0);
        // How long its pipe is still read once the process cannot answer any more.
        let mut read_deadline = None;
        loop {
            tokio::select! {
                biased;
                line = lines.next() => {
                    let answer = match line {
                        Line::End => return Exchange::Died,
                        Line::TooLong(line) => {
                            in_sync = false;
                            Err(NoAnswer::TooLong { first: answer::printable(&line) })
                        }
                        Line::Whole(line) => answer::of_line(&line),
                    };
                    match answer {
                        Ok(answer) if foreign < MAX_FOREIGN_ANSWERS && payload::names_other_recording(input, &answer) => {
                            foreign += 1;
                            in_sync = false;
                            tracing::warn!(
                                code = %codes::HOOK_UNASKED,
                                "{}; dropped, its own answer is waited for", NoAnswer::other_recording(&answer)
                            );
                        }
                        answer => return Exchange::Answered { answer, in_sync: in_sync && written && read_deadline.is_none() },
                    }
                }
                done = &mut write, if !written => {
                    written = true;
                    if done.is_err() {
                        read_deadline.get_or_insert(tokio::time::Instant::now() + DRAIN);
                    }
                }
                _ = child.wait(), if read_deadline.is_none() => {
                    read_deadline = Some(tokio::time::Instant::now() + DRAIN);
                }
                () = until(read_deadline), if read_deadline.is_some() => return Exchange::Died,
            }
        }
    }

    /// Waits until the idle process does anything. Cancel-safe.
    pub(super) async fn idle(&mut self) -> IdleEvent {
        let line = tokio::select! {
            biased;
            line = self.lines.next() => line,
            _ = self.child.wait() => return IdleEvent::Died,
        };
        match line {
            Line::End => IdleEvent::Died,
            Line::Whole(line) if !self.asked && self.greetings < MAX_GREETINGS => {
                self.greetings += 1;
                IdleEvent::Greeting(answer::printable(&line))
            }
            Line::Whole(line) | Line::TooLong(line) => IdleEvent::Output(answer::printable(&line)),
        }
    }

    /// Ends the process: closes its pipes, SIGTERM, after `grace` SIGKILL. It is reaped when this returns.
    pub(super) async fn end(self, grace: Duration) -> Exit {
        let Self { mut child, stdin, lines, .. } = self;
        drop((stdin, lines));
        child.stop(Signal::TERM, grace).await
    }
}

async fn until(moment: Option<tokio::time::Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment).await;
    }
}
