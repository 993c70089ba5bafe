//! Whether this node takes new work, and why not: every part of the program that can see an obstacle notes and clears
//! its own. While there is one, starts are refused with it and the heartbeat takes the node out of the server's choice.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::codes::{self, Code};

/// What stands in the way of new work. A lower one is named first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// This node has not taken its id yet. Starts are not even answered: they may be for another one that has it.
    Starting,
    /// Another recorder has this node's id. Starts are not even answered: they are for the one that has it.
    NotUnique,
    /// The program finishes what runs and ends.
    Draining,
    /// An operator wants it to take nothing on, until it is told otherwise or ends.
    Drained,
    /// A disk has less free space than `recorder.min_free_space`.
    DiskSpace,
    /// `recorder.copy_to_path.main_path` is not the file system that it was.
    MainPath,
    /// `recorder.state_dir` cannot be written.
    StateDir,
    /// The recording of a built-in page fails.
    SelfTest,
    /// Memory is short.
    Memory,
    /// The processors have been busy for a minute (`recorder.cpu_overload_limit`).
    Overload,
    /// The running recordings leave no room for one more in `recorder.max_load`. Noted by the slots only.
    MaxLoad,
    /// All slots are taken (`recorder.max_limit`). Noted by the slots only, in one step with the task that takes the last.
    Full,
}

impl Obstacle {
    /// What a user is told. It names no path of this host; the detail is in the log.
    #[must_use]
    pub fn refusal(self) -> &'static str {
        match self {
            Self::Starting => "this recorder is starting",
            Self::NotUnique => "another recorder has this recorder's id",
            Self::Draining => "this recorder is shutting down",
            Self::Drained => "this recorder is drained by its operator",
            Self::DiskSpace => "this recorder's disk is nearly full",
            Self::MainPath => "this recorder does not reach the storage of its recordings",
            Self::StateDir => "this recorder cannot write down what it takes on",
            Self::SelfTest => "this recorder has not passed its self-test",
            Self::Memory => "this recorder has too little memory for one more recording",
            Self::Overload => "this recorder is overloaded",
            Self::MaxLoad => "this recorder has too little processor time for one more recording",
            Self::Full => "this recorder is full",
        }
    }

    /// The code in the log and in the page.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::Starting => codes::REFUSED_STARTING,
            Self::NotUnique => codes::REFUSED_NOT_UNIQUE,
            Self::Draining => codes::REFUSED_DRAINING,
            Self::Drained => codes::REFUSED_DRAINED,
            Self::DiskSpace => codes::REFUSED_DISK_SPACE,
            Self::MainPath => codes::REFUSED_MAIN_PATH,
            Self::StateDir => codes::REFUSED_STATE_DIR,
            Self::SelfTest => codes::REFUSED_SELF_TEST,
            Self::Memory => codes::REFUSED_MEMORY,
            Self::Overload => codes::REFUSED_OVERLOAD,
            Self::MaxLoad => codes::REFUSED_MAX_LOAD,
            Self::Full => codes::REFUSED_FULL,
        }
    }

    /// The name in `/readyz` and in `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::NotUnique => "not_unique",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::DiskSpace => "disk_space",
            Self::MainPath => "main_path",
            Self::StateDir => "state_dir",
            Self::SelfTest => "self_test",
            Self::Memory => "memory",
            Self::Overload => "overload",
            Self::MaxLoad => "max_load",
            Self::Full => "full",
        }
    }
}

impl Obstacle {
    /// Whether the slots note it by their own tasks. These come last in the order.
    #[must_use]
    pub fn is_of_slots(self) -> bool {
        self >= Self::MaxLoad
    }
}

/// The obstacles and the detail of each: one line for the log, with the paths, and what to do.
pub type Obstacles = BTreeMap<Obstacle, String>;

/// The obstacles of this node; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Availability {
    obstacles: Arc<watch::Sender<Obstacles>>,
    announced: Arc<watch::Sender<bool>>,
}

impl Availability {
    /// Notes an obstacle, or replaces its detail. Who notes it also logs it.
    pub fn block(&self, obstacle: Obstacle, detail: impl Into<String>) {
        let detail = detail.into();
        self.obstacles.send_if_modified(|noted| noted.insert(obstacle, detail.clone()).as_ref() != Some(&detail));
    }

    /// Clears an obstacle. True where it was noted.
    pub fn clear(&self, obstacle: Obstacle) -> bool {
        self.obstacles.send_if_modified(|noted| noted.remove(&obstacle).is_some())
    }

    /// Whether an obstacle is noted.
    #[must_use]
    pub fn is_noted(&self, obstacle: Obstacle) -> bool {
        self.obstacles.borrow().contains_key(&obstacle)
    }

    /// The first obstacle and its detail; `None` where new work is taken.
    #[must_use]
    pub fn obstacle(&self) -> Option<(Obstacle, String)> {
        self.obstacles.borrow().first_key_value().map(|(obstacle, detail)| (*obstacle, detail.clone()))
    }

    /// Whether the bucket holds what the heartbeat has last written.
    pub fn set_announced(&self, announced: bool) {
        self.announced.send_if_modified(|before| std::mem::replace(before, announced) != announced);
    }

    #[must_use]
    pub fn is_announced(&self) -> bool {
        *self.announced.borrow()
    }

    /// The first obstacle that is not the slots' own, and its detail.
    #[must_use]
    pub fn obstacle_besides_slots(&self) -> Option<(Obstacle, String)> {
        self.obstacle().filter(|(obstacle, _)| !obstacle.is_of_slots())
    }

    /// All obstacles, as they change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Obstacles> {
        self.obstacles.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_work_when_the_last_obstacle_is_cleared() {
        let availability = Availability::default();
        let mut watched = availability.clone().watch();
        assert_eq!(availability.obstacle(), None);
        availability.block(Obstacle::SelfTest, "Xvfb does not start");
        availability.block(Obstacle::DiskSpace, "/tmp: 1 GiB free");
        assert_eq!(availability.obstacle(), Some((Obstacle::DiskSpace, "/tmp: 1 GiB free".to_owned())));
        assert_eq!(watched.borrow_and_update().len(), 2);
        availability.block(Obstacle::SelfTest, "Xvfb does not start");
        assert!(!watched.has_changed().unwrap(), "nothing new");
        assert!(availability.clear(Obstacle::DiskSpace) && !availability.clear(Obstacle::DiskSpace));
        assert_eq!(availability.obstacle().unwrap().0, Obstacle::SelfTest);
        assert!(availability.clear(Obstacle::SelfTest));
        assert!(watched.borrow_and_update().is_empty() && availability.obstacle().is_none());
    }
}
