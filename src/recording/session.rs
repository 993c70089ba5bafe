//! The life of one recording or broadcast: events in, effects out. Pure: no clock, no I/O, no async; time is an
//! argument.
//!
//! ```text
//!            Opened             Stop, Broke(not a fault)    Finished  Closed   Checked    EndNotified
//! Starting ─────────▶ Capturing ─────────────────▶ Stopping: finishing ▶ closing ▶ checking ▶ notifying ──▶ Ended
//!     │                │     ▲                                              ▲          ▲
//!     │          Broke │     │ Opened                                       │ Stop     │ OpenFailed
//!     │                ▼     │                                              │          │
//!     │               Resuming: finishing ▶ closing ▶ waiting ▶ opening ────┴──────────┤
//!     │                                                 ▲ OpenFailed │                 │ too often, or the meeting is over
//!     │                                                 └────────────┘─────────────────┘
//!     └ OpenFailed (also after Stop: the opening is cancelled) ─────────────────────▶ notifying
//! ```
//!
//! The notice of the end says what is known when the capture has ended, and does not wait for the file: storing that
//! begins after `Ended` (`storing.rs`) and is tried for as long as it takes.
//!
//! A recording whose capture breaks resumes with a new rig, as its next part, for as long as the meeting can be joined.
//! It is given up after [`MOST_FAILURES`] failures in a row. A broadcast ends with its first break, since its stream
//! has ended then.
//!
//! The end of the meeting is the normal end of a recording. But if the capture broke before, and the meeting ended
//! before it could be joined again, that fault is the recording's cause: a piece of the meeting is missing.
//!
//! Each state has a time limit; a tick past it gives up the current work and goes on, so that ticks alone always bring
//! a stopped session to `Ended`. The notice of the start is sent at most once and that of the end exactly once, in this
//! order.

pub mod events;
pub mod states;

use std::time::Duration;

use crate::protocol::notice::Outcome;
use crate::protocol::request::Kind;
pub use crate::recording::session::events::{Effect, Interruption, OpenFailure, SessionEvent};
pub use crate::recording::session::states::{Resuming, SessionState, StopStep};

/// Failures in a row, of captures and openings together, after which a recording is given up.
pub const MOST_FAILURES: u32 = 5;
/// How often the first opening may fail at once before the recording is reported as failed.
pub const MOST_FIRST_FAILURES: u32 = 2;
/// A failure within this time is one of the rig's processes; a page that does not load takes longer.
pub const FAILED_AT_ONCE: Duration = Duration::from_secs(15);
/// The fault of a recording of an earlier run of the program.
const RESTARTED: &str = "the recorder itself ended (killed, or the host went down)";
/// Added to a fault where the meeting ended before it could be joined again.
const TOO_LATE: &str = "the meeting had ended before it could be joined again";
/// The cause of an opening that was cancelled because it was too slow.
const OPENING_TOO_SLOW: &str = "opening the meeting again took too long";
/// After a capture of this length the count of failures starts again.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// The wait before the next opening after one failure, two, …
const WAITS: [Duration; 4] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10)];
/// The limits that end a recording; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// From the first frame on.
    pub max_duration: Option<Duration>,
    /// Of time with neither sound nor movement.
    pub end_when_idle: Option<Duration>,
}

/// A recording of an earlier run of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterruptedRecording {
    /// It was running: it is resumed.
    Running,
    /// It was stopped, by the server (`None`) or for this reason.
    Stopped(Option<String>),
}

/// One recording or broadcast.
#[derive(Clone, Debug)]
pub struct Session {
    kind: Kind,
    limits: SessionLimits,
    state: SessionState,
    /// When the current state began.
    since: Duration,
    /// When media first flowed.
    began: Option<Duration>,
    /// Why it failed; `None`: it ends as requested, or because the meeting is over.
    cause: Option<String>,
    /// The fault since which nothing was captured.
    fault: Option<String>,
    /// The end was requested while it was being resumed.
    stopped: bool,
    /// Failures in a row.
    failures: u32,
}

impl Session {
    /// A new session, and what to do first.
    #[must_use]
    pub fn begin(kind: Kind, limits: SessionLimits, now: Duration) -> (Self, Vec<Effect>) {
        (Self::at(kind, limits, SessionState::Starting { cancelled: false }, now), vec![Effect::OpenRig])
    }

    /// The session of a recording of an earlier run of the program, and what to do first.
    #[must_use]
    pub fn recover(interrupted: InterruptedRecording, limits: SessionLimits, now: Duration) -> (Self, Vec<Effect>) {
        match interrupted {
            InterruptedRecording::Running => {
                let opening = SessionState::Resuming(Resuming::Opening { cancelled: false });
                let fault = Some(RESTARTED.to_owned());
                (Self { fault, ..Self::at(Kind::Recording, limits, opening, now) }, vec![Effect::OpenRig])
            }
            InterruptedRecording::Stopped(cause) => {
                let checking = SessionState::Stopping(StopStep::Checking);
                let session = Self { cause: cause.clone(), ..Self::at(Kind::Recording, limits, checking, now) };
                (session, vec![Effect::CheckParts { cause }])
            }
        }
    }

    fn at(kind: Kind, limits: SessionLimits, state: SessionState, now: Duration) -> Self {
        Self { kind, limits, state, since: now, began: None, cause: None, fault: None, stopped: false, failures: 0 }
    }

    #[must_use]
    pub fn state(&self) -> SessionState {
        self.state
    }

    /// Whether something was captured, or may have been.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.began.is_some() || matches!(self.state, SessionState::Resuming(_))
    }

    /// Handles an event at `now` (of any monotonic clock) and returns what is to be done. An event that does not belong
    /// to the state came too late and has no effect.
    pub fn on(&mut self, now: Duration, event: SessionEvent) -> Vec<Effect> {
        match (self.state, event) {
            (SessionState::Ended, _) => Vec::new(),
            (_, SessionEvent::Tick { idle }) => self.on_tick(now, idle),
            (SessionState::Starting { cancelled }, event) => self.starting(now, cancelled, event),
            (SessionState::Capturing, event) => self.capturing(now, event),
            (SessionState::Resuming(step), event) => self.resuming(now, step, event),
            (SessionState::Stopping(step), event) => self.stopping(now, step, event),
        }
    }

    fn starting(&mut self, now: Duration, cancelled: bool, event: SessionEvent) -> Vec<Effect> {
        match event {
            SessionEvent::Opened => self.opened(now, cancelled),
            SessionEvent::OpenFailed(OpenFailure::Cancelled) => self.end_without_file(now),
            // A process failed at once, not the page: worth another try before the start is reported as failed.
            SessionEvent::OpenFailed(OpenFailure::Failed(cause)) if !cancelled && self.may_start_again(now) => {
                self.failures += 1;
                self.fault = Some(cause);
                self.enter(now, SessionState::Starting { cancelled: false });
                vec![Effect::OpenRig]
            }
            SessionEvent::OpenFailed(OpenFailure::Over(cause)) => {
                // The first failure tells more than that the room is over by now.
                let first = self.fault.take();
                self.set_cause(Some(first.unwrap_or(cause)));
                self.end_without_file(now)
            }
            SessionEvent::OpenFailed(OpenFailure::Unrecordable(cause) | OpenFailure::Failed(cause)) => {
                self.set_cause(Some(cause));
                self.end_without_file(now)
            }
            SessionEvent::Stop(reason) if !cancelled => {
                self.set_cause(reason);
                self.enter(now, SessionState::Starting { cancelled: true });
                vec![Effect::CancelOpening]
            }
            _ => Vec::new(),
        }
    }

    fn capturing(&mut self, now: Duration, event: SessionEvent) -> Vec<Effect> {
        match event {
            SessionEvent::Stop(reason) => self.stop(now, reason),
            SessionEvent::Broke { after: Interruption::MeetingOver, .. } => self.stop(now, None),
            SessionEvent::Broke { cause, after } if after == Interruption::Final || self.kind == Kind::Broadcast => {
                self.stop(now, Some(cause))
            }
            SessionEvent::Broke { cause, after } => {
                self.fault = (after == Interruption::Fault).then(|| cause.clone());
                if now.saturating_sub(self.since) >= HEALTHY_AFTER {
                    self.failures = 0;
                }
                if let Some(cause) = self.failed(&cause) {
                    return self.stop(now, Some(cause));
                }
                self.enter(now, SessionState::Resuming(Resuming::Finishing));
                vec![Effect::FinishEncoder]
            }
            _ => Vec::new(),
        }
    }

    fn resuming(&mut self, now: Duration, step: Resuming, event: SessionEvent) -> Vec<Effect> {
        match (step, event) {
            (Resuming::Finishing, SessionEvent::Finished(_)) => {
                self.enter(now, SessionState::Resuming(Resuming::Closing));
                vec![Effect::CloseRig]
            }
            (Resuming::Closing, SessionEvent::Closed) => self.reopen(now),
            (Resuming::Opening { cancelled }, SessionEvent::Opened) => self.opened(now, cancelled),
            (Resuming::Opening { .. }, SessionEvent::OpenFailed(OpenFailure::Cancelled)) if self.stopped => {
                self.check_parts(now)
            }
            (Resuming::Opening { .. }, SessionEvent::OpenFailed(OpenFailure::Cancelled)) => {
                self.opening_failed(now, OPENING_TOO_SLOW)
            }
            (Resuming::Opening { .. }, SessionEvent::OpenFailed(OpenFailure::Over(_))) => {
                let fault = self.fault.take();
                self.set_cause(fault.map(|fault| format!("{fault}; {TOO_LATE}")));
                self.check_parts(now)
            }
            (Resuming::Opening { .. }, SessionEvent::OpenFailed(OpenFailure::Unrecordable(cause))) => {
                self.set_cause(Some(cause));
                self.check_parts(now)
            }
            (Resuming::Opening { .. }, SessionEvent::OpenFailed(OpenFailure::Failed(cause))) => {
                self.opening_failed(now, &cause)
            }
            (step, SessionEvent::Stop(reason)) => {
                self.set_cause(reason);
                self.stopped = true;
                match step {
                    Resuming::Waiting { .. } => self.check_parts(now),
                    Resuming::Opening { cancelled: false } => {
                        self.enter(now, SessionState::Resuming(Resuming::Opening { cancelled: true }));
                        vec![Effect::CancelOpening]
                    }
                    Resuming::Opening { cancelled: true } | Resuming::Finishing | Resuming::Closing => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }

    fn stopping(&mut self, now: Duration, step: StopStep, event: SessionEvent) -> Vec<Effect> {
        match (step, event) {
            (StopStep::Finishing, SessionEvent::Finished(result)) => {
                self.set_cause(result.err());
                self.enter(now, SessionState::Stopping(StopStep::Closing));
                vec![Effect::CloseRig]
            }
            (StopStep::Closing, SessionEvent::Closed) => self.closed(now),
            (StopStep::Checking, SessionEvent::Checked(result)) => self.checked(now, result),
            (StopStep::Notifying, SessionEvent::EndNotified) => {
                self.enter(now, SessionState::Ended);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn on_tick(&mut self, now: Duration, idle: Duration) -> Vec<Effect> {
        if self.state == SessionState::Capturing {
            return self.limit_reached(now, idle).map_or_else(Vec::new, |cause| self.stop(now, Some(cause)));
        }
        let Some(limit) = self.state.limit(self.since).filter(|limit| now.saturating_sub(self.since) >= *limit) else {
            return Vec::new();
        };
        let late = |what: &str| format!("{what} took more than {} s", limit.as_secs());
        let (why, mut next) = match self.state {
            SessionState::Starting { cancelled: false } => {
                self.set_cause(Some(late("opening the meeting")));
                self.enter(now, SessionState::Starting { cancelled: true });
                return vec![Effect::CancelOpening];
            }
            SessionState::Resuming(Resuming::Opening { cancelled: false }) => {
                self.enter(now, SessionState::Resuming(Resuming::Opening { cancelled: true }));
                return vec![Effect::CancelOpening];
            }
            SessionState::Resuming(Resuming::Waiting { .. }) => return self.open(now),
            SessionState::Starting { cancelled: true } => (late("closing what was opened"), self.end_without_file(now)),
            SessionState::Resuming(Resuming::Opening { cancelled: true }) if self.stopped => {
                (late("closing what was opened"), self.check_parts(now))
            }
            SessionState::Resuming(Resuming::Opening { cancelled: true }) => {
                (late("closing what was opened"), self.opening_failed(now, OPENING_TOO_SLOW))
            }
            SessionState::Resuming(Resuming::Finishing) => (late("ending the encoder"), self.reopen(now)),
            SessionState::Resuming(Resuming::Closing) => (late("closing the capture"), self.reopen(now)),
            SessionState::Stopping(StopStep::Finishing) => {
                let why = late("ending the encoder");
                self.set_cause(Some(why.clone()));
                (why, self.closed(now))
            }
            SessionState::Stopping(StopStep::Closing) => (late("closing the capture"), self.closed(now)),
            SessionState::Stopping(StopStep::Checking) => {
                // A disk that does not answer says nothing about what is on it.
                (late("reading the parts"), self.checked(now, Ok(())))
            }
            SessionState::Stopping(StopStep::Notifying) => {
                self.enter(now, SessionState::Ended);
                (late("writing what the server is to be told"), Vec::new())
            }
            SessionState::Capturing | SessionState::Ended => return Vec::new(),
        };
        next.insert(0, Effect::GiveUp(why));
        next
    }

    /// Which of the limits is reached.
    fn limit_reached(&self, now: Duration, idle: Duration) -> Option<String> {
        let lasted = now.saturating_sub(self.began?);
        if let Some(most) = self.limits.max_duration.filter(|most| lasted >= *most) {
            return Some(format!("the recording has reached recorder.max_duration ({} s)", most.as_secs()));
        }
        let most = self.limits.end_when_idle.filter(|most| idle >= *most)?;
        Some(format!("neither sound nor movement for recorder.end_when_idle ({} s)", most.as_secs()))
    }

    /// Whether a recording whose first opening failed is opened once more.
    fn may_start_again(&self, now: Duration) -> bool {
        self.kind == Kind::Recording
            && self.failures < MOST_FIRST_FAILURES
            && now.saturating_sub(self.since) < FAILED_AT_ONCE
    }

    /// Media flows. `unwanted`: the end was requested just before, so this opening is closed again and what it captured
    /// is kept.
    fn opened(&mut self, now: Duration, unwanted: bool) -> Vec<Effect> {
        let mut effects = vec![Effect::NotifyStarted];
        effects.retain(|_| self.began.is_none());
        self.began.get_or_insert(now);
        self.fault = None;
        if unwanted || self.stopped {
            effects.extend(self.stop(now, None));
        } else {
            self.enter(now, SessionState::Capturing);
        }
        effects
    }

    /// Counts a failure; returns the cause to end for where there were too many.
    fn failed(&mut self, cause: &str) -> Option<String> {
        self.failures += 1;
        (self.failures > MOST_FAILURES)
            .then(|| format!("given up after {} failures in a row; the last: {cause}", self.failures))
    }

    fn opening_failed(&mut self, now: Duration, cause: &str) -> Vec<Effect> {
        match self.failed(cause) {
            Some(cause) => {
                self.set_cause(Some(cause));
                self.check_parts(now)
            }
            None => self.reopen(now),
        }
    }

    /// Opens the next part, at once or after a wait.
    fn reopen(&mut self, now: Duration) -> Vec<Effect> {
        if self.stopped {
            return self.closed(now);
        }
        let attempts = usize::try_from(self.failures.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait = WAITS[attempts.min(WAITS.len() - 1)];
        if wait.is_zero() {
            return self.open(now);
        }
        self.enter(now, SessionState::Resuming(Resuming::Waiting { until: now + wait }));
        Vec::new()
    }

    fn open(&mut self, now: Duration) -> Vec<Effect> {
        self.enter(now, SessionState::Resuming(Resuming::Opening { cancelled: false }));
        vec![Effect::OpenRig]
    }

    fn stop(&mut self, now: Duration, cause: Option<String>) -> Vec<Effect> {
        self.set_cause(cause);
        self.enter(now, SessionState::Stopping(StopStep::Finishing));
        vec![Effect::FinishEncoder]
    }

    /// The rig is closed; a recording has a file to store.
    fn closed(&mut self, now: Duration) -> Vec<Effect> {
        match self.kind {
            Kind::Recording => self.check_parts(now),
            Kind::Broadcast => self.end_without_file(now),
        }
    }

    fn check_parts(&mut self, now: Duration) -> Vec<Effect> {
        self.enter(now, SessionState::Stopping(StopStep::Checking));
        vec![Effect::FreeSlot, Effect::CheckParts { cause: self.cause.clone() }]
    }

    fn checked(&mut self, now: Duration, result: Result<(), String>) -> Vec<Effect> {
        let file = result.is_ok();
        if let Err(why) = result {
            self.cause = Some(match self.cause.take() {
                Some(cause) => format!("{cause}; {why}"),
                None => why,
            });
        }
        self.enter(now, SessionState::Stopping(StopStep::Notifying));
        vec![Effect::NotifyEnded { outcome: self.outcome(), file }]
    }

    fn end_without_file(&mut self, now: Duration) -> Vec<Effect> {
        self.enter(now, SessionState::Stopping(StopStep::Notifying));
        vec![Effect::FreeSlot, Effect::NotifyEnded { outcome: self.outcome(), file: false }]
    }

    fn outcome(&self) -> Outcome {
        self.cause.clone().map_or(Ok(()), Err)
    }

    /// Sets the cause unless there is one: later failures follow from the first.
    fn set_cause(&mut self, cause: Option<String>) {
        if self.cause.is_none() {
            self.cause = cause;
        }
    }

    fn enter(&mut self, now: Duration, state: SessionState) {
        self.state = state;
        self.since = now;
    }
}

#[cfg(test)]
mod tests;
