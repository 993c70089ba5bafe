//! The life of one recording or broadcast: events in, effects out. Pure: no clock, no I/O, no async; time is an
//! argument.
//!
//! ```text
//!          Opened             Stop, Broke(not a fault)    Finished  Closed   Checked   EndNotified
//! Starting ───────▶ Capturing ─────────────────▶ Stopping: finishing ▶ closing ▶ checking ▶ notifying ──▶ Ended
//!   │                │     ▲                                              ▲          ▲
//!   │          Broke │     │ Opened                                       │ Stop     │ Stop while opening, or given up
//!   │                ▼     │                                              │          │
//!   │               Resuming: finishing ▶ closing ▶ opening ──────────────┴──────────┤
//!   └ Stop (the opening is cancelled), or given up ────────────────────────▶ notifying
//!
//! opening, of Starting and of Resuming:   queued ──TurnCame──▶ running ──Opened──▶ Capturing
//!                                           ▲                     │
//!                                           └──── waiting ◀───────┘ OpenFailed
//! ```
//!
//! The notice of the end says what is known when the capture has ended, and does not wait for the file: storing that
//! begins after `Ended` (`storing.rs`) and is tried for as long as it takes.
//!
//! A recording whose capture breaks resumes with a new rig, as its next part. It is given up when the meeting is over,
//! when it cannot be recorded, or when no media has flowed for `recorder.rejoin_for`; never after a number of failures.
//! What has captured nothing yet is tried for [`START_FOR`]. A broadcast resumes in the same way, with a new stream to the
//! same far end. It ends when the far end itself is given up (its relay has tried that), or refuses a new broadcast.
//!
//! The end of the meeting is the normal end of a recording. But if the capture broke before, and the meeting ended
//! before it could be joined again, that fault is the recording's cause: a piece of the meeting is missing.
//!
//! Each state has a time limit, except for the wait for a turn, which other openings end; a tick past the limit gives
//! up the current work and goes on. A stop ends the wait for a turn. So after a stop, ticks alone always bring a
//! session to `Ended`. The notice of the start is sent at most once and that of the end exactly once, in this order.

pub mod events;
pub mod states;

use std::time::Duration;

use crate::protocol::notice::Outcome;
use crate::protocol::request::Kind;
pub use crate::recording::session::events::{Effect, Interruption, OpenFailure, SessionEvent};
pub use crate::recording::session::states::{OpeningStep, Resuming, SessionState, StopStep};

use crate::recording::session::states::STARTING_LIMIT;

/// How the causes of ffmpeg and of the pipe into it begin. A new broadcast is not tried again with options that ffmpeg
/// does not take.
const ENCODER: [&str; 2] = ["ffmpeg:", "stream:"];
/// How the causes of a broadcast's far end begin. It has refused the stream, or was tried for `rtmp.reconnect_for`.
const FAR_END: &str = "far end:";
/// How long a recording that has captured nothing is tried, from its first turn on: long enough for a Chrome that starts
/// slowly from a cold disk and for a restart of the web server. The users, who wait for the sign that the recording is
/// on, are told while they still wait, and may ask again, perhaps another node.
pub const START_FOR: Duration = Duration::from_secs(120);
/// The default of `recorder.rejoin_for`.
pub const REJOIN_FOR: Duration = Duration::from_secs(30 * 60);
/// The fault of a recording of an earlier run of the program.
const RESTARTED: &str = "the recorder itself ended (killed, or the host went down)";
/// Added to a fault where the meeting ended before it could be joined again.
const TOO_LATE: &str = "the meeting had ended before it could be joined again";
/// After a capture of this length the waits between openings begin anew.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// The wait in seconds before the next opening after one failure, two, …; the last one is the cap.
const WAITS: [u64; 6] = [0, 2, 5, 10, 20, 30];

/// The limits that end a recording; `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// From the first frame on.
    pub max_duration: Option<Duration>,
    /// Of time with neither sound nor movement.
    pub end_when_idle: Option<Duration>,
    /// How long joining the meeting again is tried, since media last flowed.
    pub rejoin_for: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { max_duration: None, end_when_idle: None, rejoin_for: REJOIN_FOR }
    }
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
    /// The end was requested while a rig was being opened or was to be.
    stopped: bool,
    /// Failures in a row, of captures and openings together: they only set the wait before the next opening.
    failures: u32,
    /// Since when joining is tried: the end of the latest capture, this run's beginning, or the first turn of a new
    /// recording.
    trying_since: Option<Duration>,
}

impl Session {
    /// A new session, and what to do first.
    #[must_use]
    pub fn begin(kind: Kind, limits: SessionLimits, now: Duration) -> (Self, Vec<Effect>) {
        (Self::at(kind, limits, SessionState::Starting(OpeningStep::Queued), now), vec![Effect::AwaitTurn])
    }

    /// The session of a recording of an earlier run of the program, and what to do first.
    #[must_use]
    pub fn recover(
        kind: Kind,
        interrupted: InterruptedRecording,
        limits: SessionLimits,
        now: Duration,
    ) -> (Self, Vec<Effect>) {
        match interrupted {
            InterruptedRecording::Running => {
                let opening = SessionState::Resuming(Resuming::Opening(OpeningStep::Queued));
                let session = Self {
                    fault: Some(RESTARTED.to_owned()),
                    // Not since the crash: while the host was down, nothing could be tried.
                    trying_since: Some(now),
                    ..Self::at(kind, limits, opening, now)
                };
                (session, vec![Effect::AwaitTurn])
            }
            InterruptedRecording::Stopped(cause) if kind == Kind::Broadcast => {
                let checking = SessionState::Stopping(StopStep::Checking);
                let mut session = Self { cause, ..Self::at(kind, limits, checking, now) };
                let effects = session.end_without_file(now);
                (session, effects)
            }
            InterruptedRecording::Stopped(cause) => {
                let checking = SessionState::Stopping(StopStep::Checking);
                let session = Self { cause: cause.clone(), ..Self::at(kind, limits, checking, now) };
                (session, vec![Effect::CheckParts { cause }])
            }
        }
    }

    fn at(kind: Kind, limits: SessionLimits, state: SessionState, now: Duration) -> Self {
        Self {
            kind,
            limits,
            state,
            since: now,
            began: None,
            cause: None,
            fault: None,
            stopped: false,
            failures: 0,
            trying_since: None,
        }
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

    /// Whether a rig is being opened, or will be.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        matches!(self.state, SessionState::Starting(_) | SessionState::Resuming(_)) && !self.stopped
    }

    /// Handles an event at `now` (of any monotonic clock) and returns what is to be done. An event that does not belong
    /// to the state came too late and has no effect.
    pub fn on(&mut self, now: Duration, event: SessionEvent) -> Vec<Effect> {
        match (self.state, event) {
            (SessionState::Ended, _) => Vec::new(),
            (_, SessionEvent::Tick { idle }) => self.on_tick(now, idle),
            (SessionState::Starting(step) | SessionState::Resuming(Resuming::Opening(step)), event) => {
                self.opening(now, step, event)
            }
            (SessionState::Capturing, event) => self.capturing(now, event),
            (SessionState::Resuming(step), event) => self.resuming(now, step, event),
            (SessionState::Stopping(step), event) => self.stopping(now, step, event),
        }
    }

    fn opening(&mut self, now: Duration, step: OpeningStep, event: SessionEvent) -> Vec<Effect> {
        use OpeningStep::{Cancelled, Queued, Running, Waiting};
        match (step, event) {
            (Queued, SessionEvent::TurnCame) => {
                self.trying_since.get_or_insert(now);
                self.enter_opening(now, Running);
                vec![Effect::OpenRig]
            }
            // The turn came just before the cancellation: no rig was opened.
            (Cancelled, SessionEvent::TurnCame) => self.opening_failed(now, OpenFailure::Cancelled),
            (Running | Cancelled, SessionEvent::Opened) => self.opened(now),
            (Queued | Running | Cancelled, SessionEvent::OpenFailed(failure)) => self.opening_failed(now, failure),
            (step, SessionEvent::Stop(reason)) if !self.stopped => {
                self.set_cause(reason);
                self.stopped = true;
                match step {
                    Waiting { .. } => self.nothing_opened(now),
                    Queued | Running => {
                        self.enter_opening(now, Cancelled);
                        vec![Effect::CancelOpening]
                    }
                    Cancelled => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }

    fn capturing(&mut self, now: Duration, event: SessionEvent) -> Vec<Effect> {
        match event {
            SessionEvent::Stop(reason) => self.stop(now, reason),
            SessionEvent::Broke { after: Interruption::MeetingOver, .. } => self.stop(now, None),
            SessionEvent::Broke { cause, after } if after == Interruption::Final || cause.starts_with(FAR_END) => {
                self.stop(now, Some(cause))
            }
            SessionEvent::Broke { cause, after } => {
                self.fault = (after == Interruption::Fault).then_some(cause);
                if now.saturating_sub(self.since) >= HEALTHY_AFTER {
                    self.failures = 0;
                }
                self.failures = self.failures.saturating_add(1);
                self.trying_since = Some(now);
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
            (_, SessionEvent::Stop(reason)) => {
                self.set_cause(reason);
                self.stopped = true;
                Vec::new()
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
            SessionState::Starting(step) | SessionState::Resuming(Resuming::Opening(step)) => match step {
                OpeningStep::Waiting { .. } => return self.queue(now),
                OpeningStep::Queued => return Vec::new(),
                OpeningStep::Running => {
                    self.enter_opening(now, OpeningStep::Cancelled);
                    return vec![Effect::CancelOpening];
                }
                OpeningStep::Cancelled => {
                    (late("closing what was opened"), self.opening_failed(now, OpenFailure::Cancelled))
                }
            },
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

    /// Media flows. Where the end was requested just before, this opening is closed again and what it captured is kept.
    fn opened(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = vec![Effect::NotifyStarted];
        effects.retain(|_| self.began.is_none());
        self.began.get_or_insert(now);
        self.fault = None;
        if self.stopped {
            effects.extend(self.stop(now, None));
        } else {
            self.enter(now, SessionState::Capturing);
        }
        effects
    }

    fn opening_failed(&mut self, now: Duration, failure: OpenFailure) -> Vec<Effect> {
        let resuming = matches!(self.state, SessionState::Resuming(_));
        let cause = match failure {
            OpenFailure::Cancelled if self.stopped => return self.nothing_opened(now),
            OpenFailure::Cancelled => format!("opening the meeting took more than {} s", STARTING_LIMIT.as_secs()),
            OpenFailure::Over(cause) => {
                let fault = self.fault.take();
                self.set_cause(match fault {
                    Some(fault) if resuming => Some(format!("{fault}; {TOO_LATE}")),
                    None if resuming => None,
                    // The failure before tells more than that the room is over by now.
                    fault => Some(fault.unwrap_or(cause)),
                });
                return self.nothing_opened(now);
            }
            OpenFailure::Unrecordable(cause) => {
                self.set_cause(Some(cause));
                return self.nothing_opened(now);
            }
            OpenFailure::Refused(cause) if !resuming => {
                // The page may have said why before, in its own words.
                let fault = self.fault.take();
                self.set_cause(Some(fault.map_or(cause.clone(), |fault| format!("{fault}; {cause}"))));
                return self.nothing_opened(now);
            }
            OpenFailure::Refused(cause) | OpenFailure::Failed(cause) => cause,
        };
        self.failures = self.failures.saturating_add(1);
        let tried = now.saturating_sub(self.trying_since.unwrap_or(now));
        let given_up = match (resuming, self.kind) {
            (false, Kind::Broadcast) if ENCODER.iter().chain([&FAR_END]).any(|part| cause.starts_with(part)) => {
                Some(cause.clone())
            }
            (false, _) => (tried >= START_FOR)
                .then(|| format!("{cause} (tried {} times in {} s)", self.failures, tried.as_secs())),
            (true, _) => (tried >= self.limits.rejoin_for).then(|| {
                let limit = humantime::format_duration(self.limits.rejoin_for);
                format!("given up after {limit} without media (recorder.rejoin_for); the last try: {cause}")
            }),
        };
        if !resuming {
            self.fault = Some(cause);
        }
        if given_up.is_some() || self.stopped {
            self.set_cause(given_up);
            return self.nothing_opened(now);
        }
        self.reopen(now)
    }

    /// Nothing was opened and nothing will be: what was captured before is stored.
    fn nothing_opened(&mut self, now: Duration) -> Vec<Effect> {
        if matches!(self.state, SessionState::Resuming(_)) {
            return self.closed(now);
        }
        // Stopped before media flowed: if it could have flowed, that is why it did not.
        let fault = self.fault.take();
        self.set_cause(fault);
        self.end_without_file(now)
    }

    /// Opens a rig again, at once or after a wait.
    fn reopen(&mut self, now: Duration) -> Vec<Effect> {
        if self.stopped {
            return self.closed(now);
        }
        let attempts = usize::try_from(self.failures.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait = Duration::from_secs(WAITS[attempts.min(WAITS.len() - 1)]);
        if wait.is_zero() {
            return self.queue(now);
        }
        self.enter_opening(now, OpeningStep::Waiting { until: now + wait });
        Vec::new()
    }

    fn queue(&mut self, now: Duration) -> Vec<Effect> {
        self.enter_opening(now, OpeningStep::Queued);
        vec![Effect::AwaitTurn]
    }

    fn enter_opening(&mut self, now: Duration, step: OpeningStep) {
        let state = match self.state {
            SessionState::Starting(_) => SessionState::Starting(step),
            _ => SessionState::Resuming(Resuming::Opening(step)),
        };
        self.enter(now, state);
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
