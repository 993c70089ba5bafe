//! Which tasks this node accepts: the policy alone, pure and without synchronization of its own (see
//! [`crate::fleet::slots`]).

use std::collections::HashMap;

use crate::codes::{self, Code};
use crate::fleet::availability::Obstacle;
use crate::protocol::ids::RecordingId;
use crate::protocol::messages::StatusCode;
use crate::protocol::request::Kind;

/// One task of a kind per room (PROTOCOL 3): `room_table_id` and kind.
pub type SlotKey = (i64, Kind);

/// Why a task was refused; the user sees this text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The reference's text, which the server knows.
    #[error("this request in progress")]
    InProgress,
    #[error("this recorder is full: {running} of {max_limit} recordings and broadcasts are running")]
    Full { running: usize, max_limit: usize },
    #[error("this recorder is shutting down")]
    Draining,
    /// `recorder.max_load`; `detail` is for the log only.
    #[error("{}", Obstacle::MaxLoad.refusal())]
    MaxLoad { detail: String },
}

impl Refusal {
    /// The status code of the answer (PROTOCOL 3).
    #[must_use]
    pub fn status_code(&self) -> StatusCode {
        match self {
            Self::InProgress => StatusCode::Conflict,
            Self::Full { .. } | Self::Draining | Self::MaxLoad { .. } => StatusCode::Internal,
        }
    }

    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::InProgress => codes::REFUSED_IN_PROGRESS,
            Self::Full { .. } => codes::REFUSED_FULL,
            Self::Draining => codes::REFUSED_DRAINING,
            Self::MaxLoad { .. } => codes::REFUSED_MAX_LOAD,
        }
    }

    /// What the log says besides.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::MaxLoad { detail } => Some(detail),
            Self::InProgress | Self::Full { .. } | Self::Draining => None,
        }
    }
}

/// The running tasks, and whether more are accepted.
#[derive(Debug)]
pub struct Admission {
    max_limit: usize,
    draining: bool,
    tasks: HashMap<SlotKey, RecordingId>,
}

impl Admission {
    /// `max_limit`: the number of simultaneous recordings and broadcasts.
    #[must_use]
    pub fn new(max_limit: usize) -> Self {
        Self { max_limit, draining: false, tasks: HashMap::new() }
    }

    /// Accepts a task.
    ///
    /// # Errors
    /// Where one of the same kind runs for the room or with the same recording id (they would share files), the node is
    /// full, or it drains. A repeated request is refused as in progress even when the node drains.
    pub fn admit(&mut self, room_table_id: i64, kind: Kind, recording: RecordingId) -> Result<(), Refusal> {
        self.check(room_table_id, kind, &recording)?;
        self.tasks.insert((room_table_id, kind), recording);
        Ok(())
    }

    /// Whether [`Self::admit`] would accept the task.
    ///
    /// # Errors
    /// As for [`Self::admit`].
    pub fn check(&self, room_table_id: i64, kind: Kind, recording: &RecordingId) -> Result<(), Refusal> {
        let task = (room_table_id, kind);
        let same_files = self.tasks.iter().any(|((_, other), id)| *other == kind && id == recording);
        if same_files || self.tasks.contains_key(&task) {
            return Err(Refusal::InProgress);
        }
        if self.draining {
            return Err(Refusal::Draining);
        }
        let running = self.running();
        if running >= self.max_limit {
            return Err(Refusal::Full { running, max_limit: self.max_limit });
        }
        Ok(())
    }

    /// Accepts a task that the node had before its restart, whatever the limit. False where one of the same kind runs
    /// for the room.
    pub fn readmit(&mut self, room_table_id: i64, kind: Kind, recording: RecordingId) -> bool {
        let free = !self.tasks.contains_key(&(room_table_id, kind));
        if free {
            self.tasks.insert((room_table_id, kind), recording);
        }
        free
    }

    /// Removes an ended task. Returns its recording, `None` where there was no such task.
    pub fn release(&mut self, room_table_id: i64, kind: Kind) -> Option<RecordingId> {
        self.tasks.remove(&(room_table_id, kind))
    }

    /// The recording of this task, if it runs here.
    #[must_use]
    pub fn holds(&self, room_table_id: i64, kind: Kind) -> Option<&RecordingId> {
        self.tasks.get(&(room_table_id, kind))
    }

    /// The number of recordings and broadcasts.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Whether no slot is free. More tasks than the limit may run after a restart.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.running() >= self.max_limit
    }

    #[must_use]
    pub fn max_limit(&self) -> usize {
        self.max_limit
    }

    /// From now on new tasks are refused.
    pub fn drain(&mut self) {
        self.draining = true;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> RecordingId {
        RecordingId::parse(text).unwrap()
    }

    #[test]
    fn a_refusal_says_why() {
        let mut admission = Admission::new(2);
        admission.admit(1, Kind::Recording, id("a")).unwrap();
        assert_eq!(admission.admit(1, Kind::Recording, id("b")), Err(Refusal::InProgress));
        assert_eq!(admission.admit(2, Kind::Recording, id("a")), Err(Refusal::InProgress));
        admission.admit(1, Kind::Broadcast, id("a")).unwrap();
        let full = admission.admit(2, Kind::Recording, id("c")).unwrap_err();
        assert_eq!(full.to_string(), "this recorder is full: 2 of 2 recordings and broadcasts are running");
        admission.drain();
        admission.release(1, Kind::Broadcast);
        assert_eq!(admission.admit(2, Kind::Recording, id("c")), Err(Refusal::Draining));
        assert_eq!(admission.admit(1, Kind::Recording, id("a")), Err(Refusal::InProgress));
        assert_eq!(admission.holds(1, Kind::Recording), Some(&id("a")));
        assert_eq!(admission.holds(1, Kind::Broadcast), None);
        // Tasks from before a restart are accepted again, though the node is full and drains.
        assert!(admission.readmit(8, Kind::Recording, id("d")) && admission.readmit(9, Kind::Recording, id("e")));
        assert!(!admission.readmit(8, Kind::Recording, id("f")));
        assert_eq!(admission.running(), 3);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Admit(i64, Kind, u8),
        Release(i64, Kind),
        Drain,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let kind = || prop_oneof![Just(Kind::Recording), Just(Kind::Broadcast)];
        let step = prop_oneof![
            8 => (0..6i64, kind(), 0..8u8).prop_map(|(room, kind, id)| Step::Admit(room, kind, id)),
            6 => (0..6i64, kind()).prop_map(|(room, kind)| Step::Release(room, kind)),
            1 => Just(Step::Drain),
        ];
        proptest::collection::vec(step, 0..80)
    }

    proptest! {
        #[test]
        fn never_too_many_never_two_of_a_kind_freed_exactly_once(limit in 0..5usize, steps in steps()) {
            let mut admission = Admission::new(limit);
            let mut held: HashSet<SlotKey> = HashSet::new();
            let mut drained = false;
            for step in steps {
                match step {
                    Step::Admit(room, kind, number) => {
                        let taken = admission.admit(room, kind, id(&format!("r{number}"))).is_ok();
                        prop_assert!(!(taken && drained), "taken on while draining");
                        if taken {
                            prop_assert!(held.insert((room, kind)), "two of a kind in one room");
                        }
                    }
                    Step::Release(room, kind) => {
                        prop_assert_eq!(admission.release(room, kind).is_some(), held.remove(&(room, kind)));
                        prop_assert!(admission.release(room, kind).is_none(), "freed twice");
                    }
                    Step::Drain => {
                        admission.drain();
                        drained = true;
                    }
                }
                prop_assert!(admission.running() <= limit);
                prop_assert_eq!(admission.running(), held.len());
                for &(room, kind) in &held {
                    prop_assert!(admission.holds(room, kind).is_some());
                }
            }
        }
    }
}
