//! Shares the admission policy between tasks: each accepted task has a slot, which is freed exactly once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::protocol::ids::RecordingId;
use crate::protocol::request::Kind;

use crate::fleet::admission::{Admission, Refusal};

/// The node's slots; clones share them.
#[derive(Clone, Debug)]
pub struct Slots {
    table: Arc<SlotTable>,
}

#[derive(Debug)]
struct SlotTable {
    admission: Mutex<Admission>,
    running: watch::Sender<usize>,
}

/// The right to run one task; dropping it frees the slot.
#[derive(Debug)]
pub struct Slot {
    table: Arc<SlotTable>,
    room_table_id: i64,
    kind: Kind,
}

impl Slots {
    /// `max_limit`: recordings and broadcasts at once.
    #[must_use]
    pub fn new(max_limit: u32) -> Self {
        let max_limit = usize::try_from(max_limit).unwrap_or(usize::MAX);
        let table = SlotTable { admission: Mutex::new(Admission::new(max_limit)), running: watch::Sender::new(0) };
        Self { table: Arc::new(table) }
    }

    /// Accepts a task.
    ///
    /// # Errors
    /// As for [`Admission::admit`].
    pub fn admit(&self, room_table_id: i64, kind: Kind, recording: RecordingId) -> Result<Slot, Refusal> {
        let mut admission = self.table.lock();
        admission.admit(room_table_id, kind, recording)?;
        self.table.running.send_replace(admission.running());
        Ok(Slot { table: Arc::clone(&self.table), room_table_id, kind })
    }

    /// Accepts a task from before a restart, full or not. `None` where one of the same kind runs for the room.
    pub fn readmit(&self, room_table_id: i64, kind: Kind, recording: RecordingId) -> Option<Slot> {
        let mut admission = self.table.lock();
        admission.readmit(room_table_id, kind, recording).then(|| {
            self.table.running.send_replace(admission.running());
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
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut admission = self.table.lock();
        admission.release(self.room_table_id, self.kind);
        self.table.running.send_replace(admission.running());
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
}
