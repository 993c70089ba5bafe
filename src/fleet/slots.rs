//! The admission policy, shared: a slot for each task that is taken on, freed exactly once, whatever becomes of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::protocol::ids::RecordingId;
use crate::protocol::request::Kind;

use crate::fleet::admission::{Admission, Refusal};

/// Hands out slots; clones share the node's places.
#[derive(Clone, Debug)]
pub struct Slots {
    places: Arc<SlotTable>,
}

#[derive(Debug)]
struct SlotTable {
    admission: Mutex<Admission>,
    running: watch::Sender<usize>,
}

/// The right to run one task; dropping it frees the place.
#[derive(Debug)]
pub struct Slot {
    places: Arc<SlotTable>,
    room_table_id: i64,
    kind: Kind,
}

impl Slots {
    /// `max_limit`: recordings and broadcasts at once.
    #[must_use]
    pub fn new(max_limit: u32) -> Self {
        let max_limit = usize::try_from(max_limit).unwrap_or(usize::MAX);
        let places = SlotTable { admission: Mutex::new(Admission::new(max_limit)), running: watch::Sender::new(0) };
        Self { places: Arc::new(places) }
    }

    /// Takes a task on.
    ///
    /// # Errors
    /// As for [`Admission::admit`].
    pub fn admit(&self, room_table_id: i64, kind: Kind, recording: RecordingId) -> Result<Slot, Refusal> {
        let mut admission = self.places.lock();
        admission.admit(room_table_id, kind, recording)?;
        self.places.running.send_replace(admission.running());
        Ok(Slot { places: Arc::clone(&self.places), room_table_id, kind })
    }

    /// Takes a task on that this node has had already, full or not. `None` where one of its kind runs for the room.
    pub fn hold(&self, room_table_id: i64, kind: Kind, recording: RecordingId) -> Option<Slot> {
        let mut admission = self.places.lock();
        admission.hold(room_table_id, kind, recording).then(|| {
            self.places.running.send_replace(admission.running());
            Slot { places: Arc::clone(&self.places), room_table_id, kind }
        })
    }

    /// The recording of this task, where this node holds it.
    #[must_use]
    pub fn holds(&self, room_table_id: i64, kind: Kind) -> Option<RecordingId> {
        self.places.lock().holds(room_table_id, kind).cloned()
    }

    /// Recordings and broadcasts that run, and every change of it: what the heartbeat announces.
    #[must_use]
    pub fn running(&self) -> watch::Receiver<usize> {
        self.places.running.subscribe()
    }

    /// From now on nothing is taken on.
    pub fn drain(&self) {
        self.places.lock().drain();
    }
}

impl SlotTable {
    fn lock(&self) -> MutexGuard<'_, Admission> {
        // The policy has no step in between that a panic could leave behind.
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut admission = self.places.lock();
        admission.release(self.room_table_id, self.kind);
        self.places.running.send_replace(admission.running());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_permit_frees_its_place_and_says_so() {
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
