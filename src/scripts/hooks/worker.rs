//! One process of a long-lived script: one request on its standard input, one answer on its standard output, one request
//! at a time.
//!
//! Whoever has put out anything that it was not asked for, or has not read a request to its end, is no longer in step, and
//! must not be asked again. What is said a moment too late looks like the next answer; so a process is heard out for a
//! moment after its start (some greet) and after each answer before it is asked again.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, ChildStdout};

use crate::process::child::{self, Child, ChildSpec, Exit, OutputTail, SpawnError};
use crate::scripts::hooks::answer::{self, NoAnswer};
use crate::scripts::hooks::lines::{DRAIN, Line, Lines};
use crate::scripts::hooks::payload::{self, Object};

/// So many lines may a script greet with before its first request.
const MOST_GREETINGS: usize = 16;

/// So many answers to another request are passed over in search of its own.
const MOST_OF_OTHERS: usize = 16;

/// A running process.
#[derive(Debug)]
pub(super) struct ScriptProcess {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<ChildStdout>,
    since: Instant,
    /// How long it is heard out, and since when.
    settle: Duration,
    quiet_since: tokio::time::Instant,
    /// It was asked at least once.
    asked: bool,
    greetings: usize,
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Exchange {
    /// `in_step`: the process may be asked again.
    Answered { answer: Result<Object, NoAnswer>, in_step: bool },
    /// It ended, or closed a pipe.
    Died,
    /// It was not asked, as it had said something unasked before; that, printable.
    OutOfStep(String),
}

/// What a process did that was not asked anything.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IdleEvent {
    /// It said something and stays in step; what it said, printable.
    Greeted(String),
    /// It is out of step.
    Spoke(String),
    Died,
}

impl ScriptProcess {
    /// `settle`: how long it is heard out before it is asked.
    pub(super) async fn start(spec: &ChildSpec, settle: Duration) -> Result<Self, SpawnError> {
        let mut child = child::spawn(spec).await?;
        let no_pipe = || SpawnError {
            name: spec.name.clone(),
            program: spec.program.display().to_string(),
            source: std::io::Error::other("it was started without pipes"),
        };
        let stdin = child.stdin.take().ok_or_else(no_pipe)?;
        let lines = Lines::new(child.stdout.take().ok_or_else(no_pipe)?);
        let quiet_since = tokio::time::Instant::now();
        Ok(Self { child, stdin, lines, since: Instant::now(), settle, quiet_since, asked: false, greetings: 0 })
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

    /// Asks once. Given up in between, the process is out of step.
    pub(super) async fn ask(&mut self, given: &Object) -> Exchange {
        match self.hear_out().await {
            None => {}
            // Nothing of an earlier request can have come from a fresh one: it is useless.
            Some(IdleEvent::Spoke(text)) if self.asked => return Exchange::OutOfStep(text),
            Some(_) => return Exchange::Died,
        }
        if self.asked && self.lines.is_readable() {
            return Exchange::OutOfStep("more is in its pipe".to_owned());
        }
        self.asked = true;
        let answered = self.exchange(given).await;
        self.quiet_since = tokio::time::Instant::now();
        answered
    }

    /// Waits until it has been quiet for long enough; else what it did.
    async fn hear_out(&mut self) -> Option<IdleEvent> {
        let until = self.quiet_since + self.settle;
        loop {
            match tokio::time::timeout_at(until, self.idle()).await {
                Err(_) => return None,
                Ok(IdleEvent::Greeted(text)) => self.greeted(&text),
                Ok(other) => return Some(other),
            }
        }
    }

    pub(super) fn greeted(&self, text: &str) {
        tracing::warn!(pid = self.pid(), "it put out something before it was asked: {text}; dropped");
    }

    async fn exchange(&mut self, given: &Object) -> Exchange {
        let mut request = serde_json::to_vec(given).unwrap_or_default();
        request.push(b'\n');
        let Self { child, stdin, lines, .. } = self;
        let write = async {
            stdin.write_all(&request).await?;
            stdin.flush().await
        };
        tokio::pin!(write);
        let (mut written, mut in_step, mut of_others) = (false, true, 0);
        // When the process cannot answer any more, so much longer its pipe is read.
        let mut last_look = None;
        loop {
            tokio::select! {
                biased;
                line = lines.next() => {
                    let answer = match line {
                        Line::End => return Exchange::Died,
                        Line::TooLong(line) => {
                            in_step = false;
                            Err(NoAnswer::TooLong { first: answer::printable(&line) })
                        }
                        Line::Whole(line) => answer::of_line(&line),
                    };
                    match answer {
                        Ok(answer) if of_others < MOST_OF_OTHERS && payload::names_another(given, &answer) => {
                            of_others += 1;
                            in_step = false;
                            tracing::warn!("{}; dropped, its own answer is waited for", NoAnswer::another(&answer));
                        }
                        answer => return Exchange::Answered { answer, in_step: in_step && written && last_look.is_none() },
                    }
                }
                done = &mut write, if !written => {
                    written = true;
                    if done.is_err() {
                        last_look.get_or_insert(tokio::time::Instant::now() + DRAIN);
                    }
                }
                _ = child.wait(), if last_look.is_none() => {
                    last_look = Some(tokio::time::Instant::now() + DRAIN);
                }
                () = until(last_look), if last_look.is_some() => return Exchange::Died,
            }
        }
    }

    /// Waits until it does anything unasked. Cancel-safe.
    pub(super) async fn idle(&mut self) -> IdleEvent {
        let line = tokio::select! {
            biased;
            line = self.lines.next() => line,
            _ = self.child.wait() => return IdleEvent::Died,
        };
        match line {
            Line::End => IdleEvent::Died,
            Line::Whole(line) if !self.asked && self.greetings < MOST_GREETINGS => {
                self.greetings += 1;
                IdleEvent::Greeted(answer::printable(&line))
            }
            Line::Whole(line) | Line::TooLong(line) => IdleEvent::Spoke(answer::printable(&line)),
        }
    }

    /// Ends it: its pipes are closed, SIGTERM, after `grace` SIGKILL. Reaped when this returns.
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
