//! The life of one recording or broadcast: events in, effects out. Pure: no clock, no I/O, no async; time is an argument.
//!
//! ```text
//!            Opened                 Stop, Broke            Finished  Closed   Stored   Published
//! Starting ──────────▶ Capturing ───────────────▶ Stopping: finishing ▶ closing ▶ storing ▶ publishing ──▶ Ended
//!     │ OpenFailed (also after Stop: the opening is cancelled)                                              ▲
//!     └─────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Each state has a limit; a tick past it gives up what is being done and goes on, so that ticks alone always reach
//! `Ended`. The server is told of the start at most once and of the end exactly once, in that order. A broadcast has
//! nothing to store or to publish.

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
/// Copying a raw file of many GB onto a slow network disk.
pub const STORING_LIMIT: Duration = Duration::from_secs(6 * 3600);
/// Waiting for a NATS server that is away.
pub const PUBLISHING_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The rig is open and media flows.
    Opened,
    /// The rig could not be opened and is closed again. `None`: it was cancelled.
    OpenFailed(Option<String>),
    /// A part failed or the meeting ended.
    Broke(String),
    /// The server asks for the end (`None`), or the program ends (the reason).
    Stop(Option<String>),
    /// The encoder has ended.
    Finished(Result<(), String>),
    /// The rig is closed.
    Closed,
    /// The raw file is verified and in its final place, or not.
    Stored(Result<(), String>),
    /// The job is in the work queue, or not.
    Published(Result<(), String>),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    OpenRig,
    /// Ends in [`Event::OpenFailed`].
    CancelOpening,
    FinishEncoder,
    CloseRig,
    Store,
    /// The job names the raw file that was stored.
    PublishJob,
    TellStarted,
    TellEnded(Outcome),
    /// What is being done takes too long: drop it, and the rig with it if it has that in hand.
    GiveUp(String),
    /// The node has room for another one.
    FreePlace,
}

/// Where in its life a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Starting { cancelled: bool },
    Capturing,
    Stopping(Step),
    Ended,
}

/// What is left to do once the end was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Finishing,
    Closing,
    Storing,
    Publishing,
}

/// One recording or broadcast.
#[derive(Clone, Debug)]
pub struct Session {
    kind: Kind,
    state: State,
    /// When the current state began.
    since: Duration,
    /// Why it ends, if not because it was asked to.
    cause: Option<String>,
}

impl Session {
    /// A session at its start, and what to do first.
    #[must_use]
    pub fn begin(kind: Kind, now: Duration) -> (Self, Vec<Effect>) {
        let session = Self { kind, state: State::Starting { cancelled: false }, since: now, cause: None };
        (session, vec![Effect::OpenRig])
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Takes an event at `now` (any monotonic clock) and says what is to be done. What does not belong to the state is
    /// late news and changes nothing.
    pub fn on(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        match (self.state, event) {
            (State::Ended, _) => Vec::new(),
            (_, Event::Tick) => self.on_tick(now),

            (State::Starting { cancelled: false }, Event::Opened) => {
                self.enter(now, State::Capturing);
                vec![Effect::TellStarted]
            }
            // Media flowed just as the end was asked for: there is something to keep.
            (State::Starting { cancelled: true }, Event::Opened) => {
                self.enter(now, State::Stopping(Step::Finishing));
                vec![Effect::TellStarted, Effect::FinishEncoder]
            }
            (State::Starting { .. }, Event::OpenFailed(cause)) => {
                self.blame(cause);
                self.end_without_file(now)
            }
            (State::Starting { cancelled: false }, Event::Stop(reason)) => {
                self.blame(reason);
                self.enter(now, State::Starting { cancelled: true });
                vec![Effect::CancelOpening]
            }

            (State::Capturing, Event::Stop(reason)) => self.stop(now, reason),
            (State::Capturing, Event::Broke(cause)) => self.stop(now, Some(cause)),

            (State::Stopping(Step::Finishing), Event::Finished(result)) => {
                self.blame(result.err());
                self.enter(now, State::Stopping(Step::Closing));
                vec![Effect::CloseRig]
            }
            (State::Stopping(Step::Closing), Event::Closed) => self.closed(now),
            (State::Stopping(Step::Storing), Event::Stored(result)) => self.stored(now, result),
            (State::Stopping(Step::Publishing), Event::Published(_)) => {
                self.enter(now, State::Ended);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The current state's limit.
    fn limit(&self) -> Option<Duration> {
        match self.state {
            State::Starting { cancelled: false } => Some(STARTING_LIMIT),
            State::Starting { cancelled: true } => Some(CANCELLING_LIMIT),
            State::Capturing | State::Ended => None,
            State::Stopping(Step::Finishing) => Some(FINISHING_LIMIT),
            State::Stopping(Step::Closing) => Some(CLOSING_LIMIT),
            State::Stopping(Step::Storing) => Some(STORING_LIMIT),
            State::Stopping(Step::Publishing) => Some(PUBLISHING_LIMIT),
        }
    }

    fn on_tick(&mut self, now: Duration) -> Vec<Effect> {
        let Some(limit) = self.limit().filter(|limit| now.saturating_sub(self.since) >= *limit) else {
            return Vec::new();
        };
        let late = |what: &str| format!("{what} took more than {} s", limit.as_secs());
        let (why, mut next) = match self.state {
            State::Starting { cancelled: false } => {
                self.blame(Some(late("opening the meeting")));
                self.enter(now, State::Starting { cancelled: true });
                return vec![Effect::CancelOpening];
            }
            State::Starting { cancelled: true } => (late("closing what was opened"), self.end_without_file(now)),
            State::Stopping(Step::Finishing) => {
                let why = late("ending the encoder");
                self.blame(Some(why.clone()));
                (why, self.closed(now))
            }
            State::Stopping(Step::Closing) => (late("closing the capture"), self.closed(now)),
            State::Stopping(Step::Storing) => {
                let why = late("storing the raw file");
                (why.clone(), self.stored(now, Err(why)))
            }
            State::Stopping(Step::Publishing) => {
                self.enter(now, State::Ended);
                (late("publishing the job"), Vec::new())
            }
            State::Capturing | State::Ended => return Vec::new(),
        };
        next.insert(0, Effect::GiveUp(why));
        next
    }

    fn stop(&mut self, now: Duration, cause: Option<String>) -> Vec<Effect> {
        self.blame(cause);
        self.enter(now, State::Stopping(Step::Finishing));
        vec![Effect::FinishEncoder]
    }

    /// The rig is gone; for a recording there is a file to look after.
    fn closed(&mut self, now: Duration) -> Vec<Effect> {
        match self.kind {
            Kind::Recording => {
                self.enter(now, State::Stopping(Step::Storing));
                vec![Effect::FreePlace, Effect::Store]
            }
            Kind::Broadcast => self.end_without_file(now),
        }
    }

    fn stored(&mut self, now: Duration, result: Result<(), String>) -> Vec<Effect> {
        if let Err(why) = result {
            self.cause = Some(match self.cause.take() {
                Some(cause) => format!("{cause}; {why}"),
                None => why,
            });
            self.enter(now, State::Ended);
            return vec![Effect::TellEnded(self.outcome())];
        }
        self.enter(now, State::Stopping(Step::Publishing));
        vec![Effect::TellEnded(self.outcome()), Effect::PublishJob]
    }

    fn end_without_file(&mut self, now: Duration) -> Vec<Effect> {
        self.enter(now, State::Ended);
        vec![Effect::FreePlace, Effect::TellEnded(self.outcome())]
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

    fn enter(&mut self, now: Duration, state: State) {
        self.state = state;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Runs a recording through these events, one a second.
    fn run(kind: Kind, events: Vec<Event>) -> (Session, Vec<Effect>) {
        let (mut session, mut effects) = Session::begin(kind, at(0));
        for (i, event) in (1..).zip(events) {
            effects.extend(session.on(at(i), event));
        }
        (session, effects)
    }

    #[test]
    fn a_recording_from_start_to_job() {
        let events = vec![
            Event::Opened,
            Event::Stop(None),
            Event::Finished(Ok(())),
            Event::Closed,
            Event::Stored(Ok(())),
            Event::Published(Ok(())),
        ];
        let (session, effects) = run(Kind::Recording, events);
        assert_eq!(session.state(), State::Ended);
        assert_eq!(
            effects,
            [
                Effect::OpenRig,
                Effect::TellStarted,
                Effect::FinishEncoder,
                Effect::CloseRig,
                Effect::FreePlace,
                Effect::Store,
                Effect::TellEnded(Ok(())),
                Effect::PublishJob,
            ]
        );
    }

    #[test]
    fn a_broadcast_has_nothing_to_store() {
        let events = vec![Event::Opened, Event::Stop(None), Event::Finished(Ok(())), Event::Closed];
        let (session, effects) = run(Kind::Broadcast, events);
        assert_eq!(session.state(), State::Ended);
        assert!(effects.ends_with(&[Effect::CloseRig, Effect::FreePlace, Effect::TellEnded(Ok(()))]));
    }

    #[test]
    fn the_first_cause_is_told_and_the_file_is_kept() {
        let events = vec![
            Event::Opened,
            Event::Broke("Chrome ended (signal 9)".into()),
            Event::Finished(Err("ffmpeg: ended with exit code 255".into())),
            Event::Closed,
            Event::Stored(Ok(())),
        ];
        let (_, effects) = run(Kind::Recording, events);
        assert!(effects.ends_with(&[Effect::TellEnded(Err("Chrome ended (signal 9)".into())), Effect::PublishJob]));
    }

    #[test]
    fn an_unreadable_raw_file_is_told_and_makes_no_job() {
        let events = vec![
            Event::Opened,
            Event::Stop(None),
            Event::Finished(Ok(())),
            Event::Closed,
            Event::Stored(Err("the raw file is empty".into())),
        ];
        let (session, effects) = run(Kind::Recording, events);
        assert_eq!(session.state(), State::Ended);
        assert_eq!(effects.last(), Some(&Effect::TellEnded(Err("the raw file is empty".into()))));
    }

    #[test]
    fn a_stop_before_media_flows_cancels_the_opening_and_is_no_fault() {
        let (session, effects) = run(Kind::Recording, vec![Event::Stop(None), Event::OpenFailed(None)]);
        assert_eq!(session.state(), State::Ended);
        assert_eq!(effects, [Effect::OpenRig, Effect::CancelOpening, Effect::FreePlace, Effect::TellEnded(Ok(()))]);
        // The opening was faster than its cancellation: what flowed is kept.
        let (session, effects) = run(Kind::Recording, vec![Event::Stop(None), Event::Opened]);
        assert_eq!(session.state(), State::Stopping(Step::Finishing));
        assert!(effects.ends_with(&[Effect::TellStarted, Effect::FinishEncoder]));
    }

    #[test]
    fn what_takes_too_long_is_given_up_and_the_file_still_kept() {
        let (mut session, _) = run(Kind::Recording, vec![Event::Opened, Event::Stop(None)]);
        assert_eq!(session.on(at(1) + FINISHING_LIMIT, Event::Tick), []);
        let effects = session.on(at(2) + FINISHING_LIMIT, Event::Tick);
        assert!(matches!(&effects[..], [Effect::GiveUp(_), Effect::FreePlace, Effect::Store]), "{effects:?}");
    }

    fn event() -> impl Strategy<Value = Event> {
        let result = || prop_oneof![Just(Ok(())), Just(Err("why".to_owned()))];
        prop_oneof![
            Just(Event::Opened),
            prop_oneof![Just(None), Just(Some("why".to_owned()))].prop_map(Event::OpenFailed),
            Just(Event::Broke("why".into())),
            prop_oneof![Just(None), Just(Some("why".to_owned()))].prop_map(Event::Stop),
            result().prop_map(Event::Finished),
            Just(Event::Closed),
            result().prop_map(Event::Stored),
            result().prop_map(Event::Published),
            Just(Event::Tick),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_it_ends_well_told(
            kind in prop_oneof![Just(Kind::Recording), Just(Kind::Broadcast)],
            events in proptest::collection::vec((event(), 0u64..200_000), 0..40),
            stop_at in 0usize..40,
        ) {
            let (mut session, mut effects) = Session::begin(kind, at(0));
            let mut now = at(0);
            for (i, (event, later)) in events.into_iter().enumerate() {
                now += Duration::from_millis(later);
                if i == stop_at {
                    effects.extend(session.on(now, Event::Stop(None)));
                }
                effects.extend(session.on(now, event));
            }
            // Asked to stop, ticks alone bring it to its end.
            effects.extend(session.on(now, Event::Stop(None)));
            for _ in 0..10 {
                now += PUBLISHING_LIMIT;
                effects.extend(session.on(now, Event::Tick));
            }
            prop_assert_eq!(session.state(), State::Ended);

            let position = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted);
            let count = |wanted: fn(&Effect) -> bool| effects.iter().filter(|effect| wanted(effect)).count();
            prop_assert_eq!(count(|e| matches!(e, Effect::OpenRig)), 1);
            prop_assert!(count(|e| matches!(e, Effect::TellStarted)) <= 1);
            prop_assert_eq!(count(|e| matches!(e, Effect::TellEnded(_))), 1);
            prop_assert_eq!(count(|e| matches!(e, Effect::FreePlace)), 1);
            prop_assert!(count(|e| matches!(e, Effect::Store)) <= 1);
            prop_assert!(count(|e| matches!(e, Effect::PublishJob)) <= 1);
            let ended = position(|e| matches!(e, Effect::TellEnded(_)));
            prop_assert!(position(|e| matches!(e, Effect::TellStarted)) < ended);
            if let Some(closed) = position(|e| matches!(e, Effect::CloseRig)) {
                prop_assert!(position(|e| matches!(e, Effect::FinishEncoder)).is_some_and(|finish| finish < closed));
            }
            // After the end is told, only the job is left to be published.
            for effect in &effects[ended.unwrap_or(0) + 1..] {
                prop_assert!(matches!(effect, Effect::PublishJob | Effect::GiveUp(_)), "{:?}", effect);
            }
        }
    }
}
