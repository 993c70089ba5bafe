//! The jobs that this node has in hand, by recording.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::nats::JobMessage;
use crate::protocol::ids::RecordingId;

/// The jobs in hand. `Some`: the job is done, and waits for its acknowledgement; further deliveries of it go there.
#[derive(Debug, Default)]
pub(super) struct RunningJobs(Mutex<HashMap<String, Option<watch::Sender<Arc<JobMessage>>>>>);

impl RunningJobs {
    pub fn contains(&self, recording: &str) -> bool {
        self.lock().contains_key(recording)
    }

    /// Marks the recording's job as running. `None`: it is in hand already.
    pub fn take(&self, recording: &RecordingId) -> Option<RunningJob<'_>> {
        match self.lock().entry(recording.to_string()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(vacant) => vacant.insert(None),
        };
        Some(RunningJob { all: self, recording: recording.clone() })
    }

    /// Where further deliveries of a job go that is done and waits for its acknowledgement.
    pub fn deliveries(&self, recording: &RecordingId) -> Option<watch::Sender<Arc<JobMessage>>> {
        self.lock().get(recording.as_str()).cloned().flatten()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<watch::Sender<Arc<JobMessage>>>>> {
        // The map is consistent at every point that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job in hand, until this is dropped.
pub(super) struct RunningJob<'a> {
    all: &'a RunningJobs,
    pub recording: RecordingId,
}

impl RunningJob<'_> {
    /// The job is done. Its deliveries, this one and further ones.
    pub fn wait_for_ack(&self, message: JobMessage) -> watch::Receiver<Arc<JobMessage>> {
        let (sender, deliveries) = watch::channel(Arc::new(message));
        self.all.lock().insert(self.recording.to_string(), Some(sender));
        deliveries
    }
}

impl Drop for RunningJob<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(self.recording.as_str());
    }
}
