//! The life of one recording or broadcast: events in, effects out. Pure: no clock, no I/O, no async; time is an argument.
//!
//! ```text
//!            Opened             Stop, Broke(not a fault)    Finished  Closed   Stored    Delivered
//! Starting ─────────▶ Capturing ─────────────────▶ Stopping: finishing ▶ closing ▶ storing ▶ delivering ──▶ Ended
//!     │                │     ▲                                              ▲          ▲
//!     │          Broke │     │ Opened                                       │ Stop     │ OpenFailed
//!     │                ▼     │                                              │          │
//!     │               Mending: finishing ▶ closing ▶ waiting ▶ opening ─────┴──────────┤
//!     │                                                 ▲ OpenFailed │                 │ too often, or the meeting is over
//!     │                                                 └────────────┘─────────────────┘
//!     └ OpenFailed (also after Stop: the opening is cancelled) ──────────────────────▶ delivering
//! ```
//!
//! A recording whose capture breaks goes on with a fresh one, as its next part, for as long as the meeting takes it. It gives
//! up after [`MOST_FAILURES`] failures in a row. A broadcast ends with its first break: its far end has ended then.
//!
//! The end of the meeting is the normal end of a recording. Where a fault was before it, and the meeting could not be joined
//! again in time, that fault is its cause: something of the meeting is missing.
//!
//! Each state has a limit; a tick past it gives up what is being done and goes on, so that ticks alone always bring one that
//! was asked to stop to `Ended`. The server is told of the start at most once and of the end exactly once, in that order.

use std::time::Duration;

use crate::protocol::notice::Outcome;
use crate::protocol::request::Kind;

/// Chrome's start, the page's 30 s, the first frame's 20 s, and some air; each has a limit of its own.
pub const STARTING_LIMIT: Duration = Duration::from_secs(100);
/// Closing again what was opened, once opening was cancelled.
pub const CANCELLING_LIMIT: Duration = Duration::from_secs(30);
/// ffmpeg's last words, with its own ladder inside.
pub const FINISHING_LIMIT: Duration = Duration::from_secs(120);
/// Ending the other processes.
pub const CLOSING_LIMIT: Duration = Duration::from_secs(60);
/// Joining parts, and copying a raw file of many GB onto a slow network disk.
pub const STORING_LIMIT: Duration = Duration::from_secs(6 * 3600);
/// Writing a few small files.
pub const DELIVERING_LIMIT: Duration = Duration::from_secs(300);
/// Failures in a row, breaks and openings together, after which it is not tried again.
pub const MOST_FAILURES: u32 = 5;
/// Openings of a recording that has not begun that may fail at once before the server is told that it cannot be recorded.
pub const MOST_FIRST_FAILURES: u32 = 2;
/// A failure within this time is one of the rig's parts; a page that does not come takes longer.
pub const FAILED_AT_ONCE: Duration = Duration::from_secs(15);
/// What kept a recording of an earlier run of the program from going on.
const RESTARTED: &str = "the recorder itself ended (killed, or the host went down)";
/// What is missing where the meeting ended after that.
const TOO_LATE: &str = "the meeting had ended before it could be joined again";
/// Why an opening counts as failed that was cancelled for its slowness.
const LATE: &str = "opening the meeting again took too long";
/// A capture that lasted so long was a good one: what fails after it begins a new row.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// How long it waits before the next opening, after one failure, two, …
const WAITS: [Duration; 4] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10)];

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The rig is open and media flows.
    Opened,
    /// The rig could not be opened and is closed again.
    OpenFailed(OpenFailure),
    /// The capture does not go on.
    Broke { cause: String, after: Interruption },
    /// The server asks for the end (`None`), or the program does (the reason).
    Stop(Option<String>),
    /// The encoder has ended.
    Finished(Result<(), String>),
    /// The rig is closed.
    Closed,
    /// The raw file is whole and in its final place, or not.
    Stored(Result<(), String>),
    /// What others are to be told is in the outbox.
    Delivered,
    /// Time has passed; for how long now there was neither sound nor movement.
    Tick { idle: Duration },
}

/// What has interrupted a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// A part of it failed: the meeting goes on.
    Fault,
    /// The page left the meeting, which goes on: it lost its connection, or was removed.
    PageLeft,
    /// The meeting has ended, or its last participant has left.
    MeetingOver,
    /// Nothing can be recorded here any more: the disk is full.
    Final,
}

/// Why there is no rig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenFailure {
    Cancelled,
    /// The meeting has ended: in the page's own words, or as the server says.
    Over(String),
    /// The meeting cannot be recorded, however often it is tried.
    Unrecordable(String),
    Failed(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Of the next part.
    OpenRig,
    /// Ends in [`SessionEvent::OpenFailed`].
    CancelOpening,
    FinishEncoder,
    CloseRig,
    /// Join the parts and move the whole to its place. From now on it is at its end, for this cause if not as it was asked to.
    Store {
        cause: Option<String>,
    },
    TellStarted,
    /// Tell of the end, and where there is a raw file hand it over as a job.
    Deliver {
        outcome: Outcome,
        job: bool,
    },
    /// What is being done takes too long: drop it, and the rig with it if it has that in hand.
    GiveUp(String),
    /// The node has room for another one.
    FreePlace,
}

/// Where in its life a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    Starting {
        cancelled: bool,
    },
    Capturing,
    /// A part broke; the next one is on its way.
    Mending(Resuming),
    Stopping(StopStep),
    Ended,
}

/// How far the mending is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resuming {
    Finishing,
    Closing,
    Waiting { until: Duration },
    Opening { cancelled: bool },
}

/// What is left to do once the end was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopStep {
    Finishing,
    Closing,
    Storing,
    Delivering,
}

/// What ends a recording that nobody stops; `None`: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// From its first frame on.
    pub max_duration: Option<Duration>,
    /// Of neither sound nor movement.
    pub end_when_idle: Option<Duration>,
}

/// What an earlier run of the program has left of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterruptedRecording {
    /// It was not stopped: it goes on.
    Running,
    /// It was stopped, for this reason if not by the server.
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
    /// Why it ends, if not because it was asked to or the meeting has ended.
    cause: Option<String>,
    /// The fault since which nothing was captured.
    fault: Option<String>,
    /// The end was asked for while it was being mended.
    stopped: bool,
    /// In a row.
    failures: u32,
}

impl Session {
    /// A session at its start, and what to do first.
    #[must_use]
    pub fn begin(kind: Kind, limits: SessionLimits, now: Duration) -> (Self, Vec<Effect>) {
        (Self::at(kind, limits, SessionState::Starting { cancelled: false }, now), vec![Effect::OpenRig])
    }

    /// A recording that an earlier run of the program has left behind, and what to do first.
    #[must_use]
    pub fn recover(left: InterruptedRecording, limits: SessionLimits, now: Duration) -> (Self, Vec<Effect>) {
        match left {
            InterruptedRecording::Running => {
                let opening = SessionState::Mending(Resuming::Opening { cancelled: false });
                let fault = Some(RESTARTED.to_owned());
                (Self { fault, ..Self::at(Kind::Recording, limits, opening, now) }, vec![Effect::OpenRig])
            }
            InterruptedRecording::Stopped(cause) => {
                let storing = SessionState::Stopping(StopStep::Storing);
                let session = Self { cause: cause.clone(), ..Self::at(Kind::Recording, limits, storing, now) };
                (session, vec![Effect::Store { cause }])
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

    /// Whether there is anything of it that was captured, or may be.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.began.is_some() || matches!(self.state, SessionState::Mending(_))
    }

    /// Takes an event at `now` (any monotonic clock) and says what is to be done. What does not belong to the state is
    /// late news and changes nothing.
    pub fn on(&mut self, now: Duration, event: SessionEvent) -> Vec<Effect> {
        match (self.state, event) {
            (SessionState::Ended, _) => Vec::new(),
            (_, SessionEvent::Tick { idle }) => self.on_tick(now, idle),
            (SessionState::Starting { cancelled }, event) => self.starting(now, cancelled, event),
            (SessionState::Capturing, event) => self.capturing(now, event),
            (SessionState::Mending(mend), event) => self.mending(now, mend, event),
            (SessionState::Stopping(step), event) => self.stopping(now, step, event),
        }
    }

    fn starting(&mut self, now: Duration, cancelled: bool, event: SessionEvent) -> Vec<Effect> {
        match event {
            SessionEvent::Opened => self.opened(now, cancelled),
            SessionEvent::OpenFailed(OpenFailure::Cancelled) => self.end_without_file(now),
            // A part that failed at once, not a page that did not come: worth another try before somebody waits in vain.
            SessionEvent::OpenFailed(OpenFailure::Failed(cause)) if !cancelled && self.may_start_again(now) => {
                self.failures += 1;
                self.fault = Some(cause);
                self.enter(now, SessionState::Starting { cancelled: false });
                vec![Effect::OpenRig]
            }
            SessionEvent::OpenFailed(OpenFailure::Over(cause)) => {
                // What the page said at first is nearer to it than that the room is over by now.
                let first = self.fault.take();
                self.blame(Some(first.unwrap_or(cause)));
                self.end_without_file(now)
            }
            SessionEvent::OpenFailed(OpenFailure::Unrecordable(cause) | OpenFailure::Failed(cause)) => {
                self.blame(Some(cause));
                self.end_without_file(now)
            }
            SessionEvent::Stop(reason) if !cancelled => {
                self.blame(reason);
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
                self.enter(now, SessionState::Mending(Resuming::Finishing));
                vec![Effect::FinishEncoder]
            }
            _ => Vec::new(),
        }
    }

    fn mending(&mut self, now: Duration, mend: Resuming, event: SessionEvent) -> Vec<Effect> {
        match (mend, event) {
            (Resuming::Finishing, SessionEvent::Finished(_)) => {
                self.enter(now, SessionState::Mending(Resuming::Closing));
                vec![Effect::CloseRig]
            }
            (Resuming::Closing, SessionEvent::Closed) => self.open_again(now),
            (Resuming::Opening { cancelled }, SessionEvent::Opened) => self.opened(now, cancelled),
            (Resuming::Opening { .. }, SessionEvent::OpenFailed(OpenFailure::Cancelled)) if self.stopped => {
                self.store(now)
            }
            (Resuming::Opening { .. }, SessionEvent::OpenFailed(OpenFailure::Cancelled)) => {
                self.opening_failed(now, LATE)
            }
            (Resuming::Opening { .. }, SessionEvent::OpenFailed(OpenFailure::Over(_))) => {
                let fault = self.fault.take();
                self.blame(fault.map(|fault| format!("{fault}; {TOO_LATE}")));
                self.store(now)
            }
            (Resuming::Opening { .. }, SessionEvent::OpenFailed(OpenFailure::Unrecordable(cause))) => {
                self.blame(Some(cause));
                self.store(now)
            }
            (Resuming::Opening { .. }, SessionEvent::OpenFailed(OpenFailure::Failed(cause))) => {
                self.opening_failed(now, &cause)
            }
            (mend, SessionEvent::Stop(reason)) => {
                self.blame(reason);
                self.stopped = true;
                match mend {
                    Resuming::Waiting { .. } => self.store(now),
                    Resuming::Opening { cancelled: false } => {
                        self.enter(now, SessionState::Mending(Resuming::Opening { cancelled: true }));
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
                self.blame(result.err());
                self.enter(now, SessionState::Stopping(StopStep::Closing));
                vec![Effect::CloseRig]
            }
            (StopStep::Closing, SessionEvent::Closed) => self.closed(now),
            (StopStep::Storing, SessionEvent::Stored(result)) => self.stored(now, result),
            (StopStep::Delivering, SessionEvent::Delivered) => {
                self.enter(now, SessionState::Ended);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The current state's limit.
    fn limit(&self) -> Option<Duration> {
        match self.state {
            SessionState::Starting { cancelled: false }
            | SessionState::Mending(Resuming::Opening { cancelled: false }) => Some(STARTING_LIMIT),
            SessionState::Starting { cancelled: true }
            | SessionState::Mending(Resuming::Opening { cancelled: true }) => Some(CANCELLING_LIMIT),
            SessionState::Mending(Resuming::Waiting { until }) => Some(until.saturating_sub(self.since)),
            SessionState::Capturing | SessionState::Ended => None,
            SessionState::Mending(Resuming::Finishing) | SessionState::Stopping(StopStep::Finishing) => {
                Some(FINISHING_LIMIT)
            }
            SessionState::Mending(Resuming::Closing) | SessionState::Stopping(StopStep::Closing) => Some(CLOSING_LIMIT),
            SessionState::Stopping(StopStep::Storing) => Some(STORING_LIMIT),
            SessionState::Stopping(StopStep::Delivering) => Some(DELIVERING_LIMIT),
        }
    }

    fn on_tick(&mut self, now: Duration, idle: Duration) -> Vec<Effect> {
        if self.state == SessionState::Capturing {
            return self.runaway(now, idle).map_or_else(Vec::new, |cause| self.stop(now, Some(cause)));
        }
        let Some(limit) = self.limit().filter(|limit| now.saturating_sub(self.since) >= *limit) else {
            return Vec::new();
        };
        let late = |what: &str| format!("{what} took more than {} s", limit.as_secs());
        let (why, mut next) = match self.state {
            SessionState::Starting { cancelled: false } => {
                self.blame(Some(late("opening the meeting")));
                self.enter(now, SessionState::Starting { cancelled: true });
                return vec![Effect::CancelOpening];
            }
            SessionState::Mending(Resuming::Opening { cancelled: false }) => {
                self.enter(now, SessionState::Mending(Resuming::Opening { cancelled: true }));
                return vec![Effect::CancelOpening];
            }
            SessionState::Mending(Resuming::Waiting { .. }) => return self.open(now),
            SessionState::Starting { cancelled: true } => (late("closing what was opened"), self.end_without_file(now)),
            SessionState::Mending(Resuming::Opening { cancelled: true }) if self.stopped => {
                (late("closing what was opened"), self.store(now))
            }
            SessionState::Mending(Resuming::Opening { cancelled: true }) => {
                (late("closing what was opened"), self.opening_failed(now, LATE))
            }
            SessionState::Mending(Resuming::Finishing) => (late("ending the encoder"), self.open_again(now)),
            SessionState::Mending(Resuming::Closing) => (late("closing the capture"), self.open_again(now)),
            SessionState::Stopping(StopStep::Finishing) => {
                let why = late("ending the encoder");
                self.blame(Some(why.clone()));
                (why, self.closed(now))
            }
            SessionState::Stopping(StopStep::Closing) => (late("closing the capture"), self.closed(now)),
            SessionState::Stopping(StopStep::Storing) => {
                let why = late("storing the raw file");
                (why.clone(), self.stored(now, Err(why)))
            }
            SessionState::Stopping(StopStep::Delivering) => {
                self.enter(now, SessionState::Ended);
                (late("writing what the server is to be told"), Vec::new())
            }
            SessionState::Capturing | SessionState::Ended => return Vec::new(),
        };
        next.insert(0, Effect::GiveUp(why));
        next
    }

    /// Why it has to end although nobody asks for it.
    fn runaway(&self, now: Duration, idle: Duration) -> Option<String> {
        let lasted = now.saturating_sub(self.began?);
        if let Some(most) = self.limits.max_duration.filter(|most| lasted >= *most) {
            return Some(format!("the recording has reached recorder.max_duration ({} s)", most.as_secs()));
        }
        let most = self.limits.end_when_idle.filter(|most| idle >= *most)?;
        Some(format!("neither sound nor movement for recorder.end_when_idle ({} s)", most.as_secs()))
    }

    /// Whether a recording that could not be opened is opened once more.
    fn may_start_again(&self, now: Duration) -> bool {
        self.kind == Kind::Recording
            && self.failures < MOST_FIRST_FAILURES
            && now.saturating_sub(self.since) < FAILED_AT_ONCE
    }

    /// Media flows; `unwanted` where the end was asked for just before: then there still is something to keep.
    fn opened(&mut self, now: Duration, unwanted: bool) -> Vec<Effect> {
        let mut effects = vec![Effect::TellStarted];
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

    /// One failure more; the cause, where it was one too many.
    fn failed(&mut self, cause: &str) -> Option<String> {
        self.failures += 1;
        (self.failures > MOST_FAILURES)
            .then(|| format!("given up after {} failures in a row; the last: {cause}", self.failures))
    }

    fn opening_failed(&mut self, now: Duration, cause: &str) -> Vec<Effect> {
        match self.failed(cause) {
            Some(cause) => {
                self.blame(Some(cause));
                self.store(now)
            }
            None => self.open_again(now),
        }
    }

    /// The rig is gone, the recording not.
    fn open_again(&mut self, now: Duration) -> Vec<Effect> {
        if self.stopped {
            return self.closed(now);
        }
        let tried = usize::try_from(self.failures.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait = WAITS[tried.min(WAITS.len() - 1)];
        if wait.is_zero() {
            return self.open(now);
        }
        self.enter(now, SessionState::Mending(Resuming::Waiting { until: now + wait }));
        Vec::new()
    }

    fn open(&mut self, now: Duration) -> Vec<Effect> {
        self.enter(now, SessionState::Mending(Resuming::Opening { cancelled: false }));
        vec![Effect::OpenRig]
    }

    fn stop(&mut self, now: Duration, cause: Option<String>) -> Vec<Effect> {
        self.blame(cause);
        self.enter(now, SessionState::Stopping(StopStep::Finishing));
        vec![Effect::FinishEncoder]
    }

    /// The rig is gone; for a recording there is a file to look after.
    fn closed(&mut self, now: Duration) -> Vec<Effect> {
        match self.kind {
            Kind::Recording => self.store(now),
            Kind::Broadcast => self.end_without_file(now),
        }
    }

    fn store(&mut self, now: Duration) -> Vec<Effect> {
        self.enter(now, SessionState::Stopping(StopStep::Storing));
        vec![Effect::FreePlace, Effect::Store { cause: self.cause.clone() }]
    }

    fn stored(&mut self, now: Duration, result: Result<(), String>) -> Vec<Effect> {
        let job = result.is_ok();
        if let Err(why) = result {
            self.cause = Some(match self.cause.take() {
                Some(cause) => format!("{cause}; {why}"),
                None => why,
            });
        }
        self.enter(now, SessionState::Stopping(StopStep::Delivering));
        vec![Effect::Deliver { outcome: self.outcome(), job }]
    }

    fn end_without_file(&mut self, now: Duration) -> Vec<Effect> {
        self.enter(now, SessionState::Stopping(StopStep::Delivering));
        vec![Effect::FreePlace, Effect::Deliver { outcome: self.outcome(), job: false }]
    }

    fn outcome(&self) -> Outcome {
        self.cause.clone().map_or(Ok(()), Err)
    }

    /// The first cause is the real one: what fails after it fails because of it.
    fn blame(&mut self, cause: Option<String>) {
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
