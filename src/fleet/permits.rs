//! The admission policy, shared: a permit for each task that is taken on, freed exactly once, whatever becomes of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::protocol::ids::RecordingId;
use crate::protocol::request::Kind;

use super::admission::{Admission, Refusal};

/// Hands out permits; clones share the node's places.
#[derive(Clone, Debug)]
pub struct Permits {
    places: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    admission: Mutex<Admission>,
    running: watch::Sender<usize>,
}

/// The right to run one task; dropping it frees the place.
#[derive(Debug)]
pub struct Permit {
    places: Arc<Places>,
    room_table_id: i64,
    kind: Kind,
}

impl Permits {
    /// `max_limit`: recordings and broadcasts at once.
    #[must_use]
    pub fn new(max_limit: u32) -> Self {
        let max_limit = usize::try_from(max_limit).unwrap_or(usize::MAX);
        let places = Places { admission: Mutex::new(Admission::new(max_limit)), running: watch::Sender::new(0) };
        Self { places: Arc::new(places) }
    }

    /// Takes a task on.
    ///
    /// # Errors
    /// As for [`Admission::admit`].
    pub fn admit(&self, room_table_id: i64, kind: Kind, recording: RecordingId) -> Result<Permit, Refusal> {
        let mut admission = self.places.lock();
        admission.admit(room_table_id, kind, recording)?;
        self.places.running.send_replace(admission.running());
        Ok(Permit { places: Arc::clone(&self.places), room_table_id, kind })
    }

    /// Takes a task on that this node has had already, full or not. `None` where one of its kind runs for the room.
    pub fn hold(&self, room_table_id: i64, kind: Kind, recording: RecordingId) -> Option<Permit> {
        let mut admission = self.places.lock();
        admission.hold(room_table_id, kind, recording).then(|| {
            self.places.running.send_replace(admission.running());
            Permit { places: Arc::clone(&self.places), room_table_id, kind }
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

impl Places {
    fn lock(&self) -> MutexGuard<'_, Admission> {
        // The policy has no step in between that a panic could leave behind.
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
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
        let permits = Permits::new(1);
        let mut running = permits.running();
        let id = RecordingId::parse("a").unwrap();
        let permit = permits.admit(7, Kind::Recording, id.clone()).unwrap();
        assert_eq!(*running.borrow_and_update(), 1);
        assert_eq!(permits.holds(7, Kind::Recording), Some(id.clone()));
        assert!(permits.clone().admit(8, Kind::Recording, RecordingId::parse("b").unwrap()).is_err());
        drop(permit);
        assert!(running.has_changed().unwrap());
        assert_eq!(*running.borrow_and_update(), 0);
        assert_eq!(permits.holds(7, Kind::Recording), None);
        permits.drain();
        assert_eq!(permits.admit(7, Kind::Recording, id).unwrap_err(), Refusal::Draining);
    }
}
