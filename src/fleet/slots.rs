//! Shares the admission policy between tasks: each accepted task has a slot, which is freed exactly once.
//!
//! A task is checked and given its slot in one step, under one lock: however many starts come at once, no more than
//! `max_limit` are accepted. In the same step the node is noted as full, so that nobody sees a full node that is not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::protocol::ids::RecordingId;
use crate::protocol::request::Kind;

use crate::fleet::admission::{Admission, Refusal};
use crate::fleet::availability::{Availability, Obstacle};

/// The node's slots; clones share them.
#[derive(Clone, Debug)]
pub struct Slots {
    table: Arc<SlotTable>,
}

#[derive(Debug)]
struct SlotTable {
    admission: Mutex<Admission>,
    running: watch::Sender<usize>,
    availability: Availability,
}

/// The right to run one task; dropping it frees the slot.
#[derive(Debug)]
pub struct Slot {
    table: Arc<SlotTable>,
    room_table_id: i64,
    kind: Kind,
}

impl Slots {
    /// `max_limit`: recordings and broadcasts at once. Nothing else stands in the way of a task.
    #[must_use]
    pub fn new(max_limit: u32) -> Self {
        Self::of_node(max_limit, Availability::default())
    }

    /// `availability`: what else stands in the way of a task, and where it is noted that all slots are taken.
    #[must_use]
    pub fn of_node(max_limit: u32, availability: Availability) -> Self {
        let max_limit = usize::try_from(max_limit).unwrap_or(usize::MAX);
        let admission = Mutex::new(Admission::new(max_limit));
        Self { table: Arc::new(SlotTable { admission, running: watch::Sender::new(0), availability }) }
    }

    /// Accepts a task.
    ///
    /// # Errors
    /// As for [`Admission::admit`]; and where something else stands in the way.
    pub fn admit(&self, room_table_id: i64, kind: Kind, recording: RecordingId) -> Result<Slot, Refusal> {
        let mut admission = self.table.lock();
        admission.check(room_table_id, kind, &recording)?;
        if let Some((obstacle, detail)) = self.table.availability.obstacle_besides_slots() {
            return Err(Refusal::Unavailable { obstacle, detail });
        }
        admission.admit(room_table_id, kind, recording)?;
        self.table.announce(&admission);
        Ok(Slot { table: Arc::clone(&self.table), room_table_id, kind })
    }

    /// Accepts a task from before a restart, full or not. `None` where one of the same kind runs for the room.
    pub fn readmit(&self, room_table_id: i64, kind: Kind, recording: RecordingId) -> Option<Slot> {
        let mut admission = self.table.lock();
        admission.readmit(room_table_id, kind, recording).then(|| {
            self.table.announce(&admission);
            Slot { table: Arc::clone(&self.table), room_table_id, kind }
        })
    }

    /// The recording of this task, if it runs here.
    #[must_use]
    pub fn holds(&self, room_table_id: i64, kind: Kind) -> Option<RecordingId> {
        self.table.lock().holds(room_table_id, kind).cloned()
    }

    /// The number of running recordings and broadcasts, as the heartbeat announces it.
    #[must_use]
    pub fn running(&self) -> watch::Receiver<usize> {
        self.table.running.subscribe()
    }

    /// From now on new tasks are refused.
    pub fn drain(&self) {
        self.table.lock().drain();
    }
}

impl SlotTable {
    fn lock(&self) -> MutexGuard<'_, Admission> {
        // The policy is consistent at every point that could panic.
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces the running tasks. Called with the lock held, so that the last change is the last one announced.
    fn announce(&self, admission: &Admission) {
        let running = admission.running();
        if admission.is_full() {
            let detail = format!(
                "{running} of {} recordings and broadcasts are running (recorder.max_limit): if that is so often, \
                 add a node, or raise it where the processors allow",
                admission.max_limit()
            );
            self.availability.block(Obstacle::Full, detail);
        } else {
            self.availability.clear(Obstacle::Full);
        }
        self.running.send_replace(running);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut admission = self.table.lock();
        admission.release(self.room_table_id, self.kind);
        self.table.announce(&admission);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_slot_is_freed_and_announced() {
        let slots = Slots::new(1);
        let mut running = slots.running();
        let id = RecordingId::parse("a").unwrap();
        let slot = slots.admit(7, Kind::Recording, id.clone()).unwrap();
        assert_eq!(*running.borrow_and_update(), 1);
        assert_eq!(slots.holds(7, Kind::Recording), Some(id.clone()));
        assert!(slots.clone().admit(8, Kind::Recording, RecordingId::parse("b").unwrap()).is_err());
        drop(slot);
        assert!(running.has_changed().unwrap());
        assert_eq!(*running.borrow_and_update(), 0);
        assert_eq!(slots.holds(7, Kind::Recording), None);
        slots.drain();
        assert_eq!(slots.admit(7, Kind::Recording, id).unwrap_err(), Refusal::Draining);
    }

    #[test]
    fn a_full_node_is_out_of_the_choice_from_the_last_slot_on_and_until_one_is_freed() {
        let availability = Availability::default();
        let slots = Slots::of_node(2, availability.clone());
        let id = |text: &str| RecordingId::parse(text).unwrap();
        let _first = slots.admit(1, Kind::Recording, id("a")).unwrap();
        assert_eq!(availability.obstacle(), None);
        let last = slots.admit(2, Kind::Recording, id("b")).unwrap();
        let (obstacle, detail) = availability.obstacle().unwrap();
        assert_eq!(obstacle, Obstacle::Full);
        assert!(detail.starts_with("2 of 2 recordings and broadcasts are running (recorder.max_limit): "), "{detail}");
        let full = Refusal::Full { running: 2, max_limit: 2 };
        assert_eq!(slots.admit(3, Kind::Recording, id("c")).unwrap_err(), full);
        // One of before a restart, beyond the limit.
        let beyond = slots.readmit(4, Kind::Recording, id("d")).unwrap();
        assert!(availability.obstacle().unwrap().1.starts_with("3 of 2 "));
        drop(last);
        assert_eq!(availability.obstacle().unwrap().0, Obstacle::Full);
        drop(beyond);
        assert_eq!(availability.obstacle(), None);
        // What others have noted refuses too, and takes no slot.
        availability.block(Obstacle::DiskSpace, "/srv: 1 GiB free");
        let refusal = slots.admit(3, Kind::Recording, id("c")).unwrap_err();
        assert_eq!(refusal.to_string(), "this recorder's disk is nearly full");
        assert_eq!((refusal.detail(), *slots.running().borrow()), (Some("/srv: 1 GiB free"), 1));
    }
}
