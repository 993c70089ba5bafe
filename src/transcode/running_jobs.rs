//! The jobs that this node has in hand, by recording.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::nats::JobMessage;
use crate::protocol::ids::RecordingId;
use crate::telemetry::metrics::{Metrics, NodeGauge};

/// The jobs in hand. `Some`: the job is done, and waits for its acknowledgement; further deliveries of it go there.
#[derive(Debug)]
pub(super) struct RunningJobs {
    all: Mutex<HashMap<String, Option<watch::Sender<Arc<JobMessage>>>>>,
    metrics: Metrics,
}

impl RunningJobs {
    pub fn new(metrics: Metrics) -> Self {
        Self { all: Mutex::default(), metrics }
    }

    pub fn contains(&self, recording: &str) -> bool {
        self.lock().contains_key(recording)
    }

    /// Marks the recording's job as running. `None`: it is in hand already.
    pub fn take(&self, recording: &RecordingId) -> Option<RunningJob<'_>> {
        let mut all = self.lock();
        match all.entry(recording.to_string()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(vacant) => vacant.insert(None),
        };
        self.count(all.len());
        Some(RunningJob { all: self, recording: recording.clone() })
    }

    /// Where further deliveries of a job go that is done and waits for its acknowledgement.
    pub fn deliveries(&self, recording: &RecordingId) -> Option<watch::Sender<Arc<JobMessage>>> {
        self.lock().get(recording.as_str()).cloned().flatten()
    }

    fn count(&self, running: usize) {
        self.metrics.set(NodeGauge::JobsRunning, u32::try_from(running).unwrap_or(u32::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<watch::Sender<Arc<JobMessage>>>>> {
        // The map is consistent at every point that could panic.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut all = self.all.lock();
        all.remove(self.recording.as_str());
        self.all.count(all.len());
    }
}
