//! What the node shows to those who ask. The node fills it in as its parts start.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::config::{AdminConfig, Config, Mode, StorageConfig};
use crate::delivery::outbox::Outbox;
use crate::fleet::availability::Availability;
use crate::hls::recordings::HlsRecordings;
use crate::nats::Nats;
use crate::protocol::ids::RecorderId;
use crate::recording::operator_stop::OperatorStops;
use crate::recording::signals::RecordingSignals;
use crate::store::uploads::Uploads;
use crate::telemetry::metrics::Metrics;

/// What the node shows; clones share it.
#[derive(Clone)]
pub struct NodeState {
    /// What recordings tell, and the node's numbers.
    pub recordings: RecordingSignals,
    pub availability: Availability,
    /// The connection to NATS, once there is one.
    pub nats: Arc<OnceLock<Nats>>,
    /// The parts that are there when the node has started.
    pub parts: Arc<OnceLock<NodeParts>>,
    pub id: RecorderId,
    pub mode: Mode,
    /// MP4s on their way into the store, once the node delivers.
    pub uploads: Arc<OnceLock<Uploads>>,
    /// What becomes HLS, where there are [`Self::uploads`].
    pub hls: Arc<OnceLock<HlsRecordings>>,
    pub(super) admin: AdminConfig,
    pub(super) storage: StorageConfig,
    pub dirs: NodeDirs,
    pub(super) max_limit: u32,
    pub(super) kept: Arc<Mutex<KeptWork>>,
}

/// The parts of a node that has started.
pub struct NodeParts {
    /// Recordings and broadcasts running.
    pub running: watch::Receiver<usize>,
    pub outbox: Outbox,
    /// Stops one of them.
    pub stops: OperatorStops,
    /// Share of the processors in use, 0…1.
    pub load: watch::Receiver<f64>,
}

#[derive(Clone)]
pub struct NodeDirs {
    pub main_path: PathBuf,
    pub temporary_dir: PathBuf,
    pub state_dir: PathBuf,
    /// Of this node's recordings, in `main_path`.
    pub sub_path: PathBuf,
}

/// What `state_dir` says of work that nobody does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KeptWork {
    /// Recordings and broadcasts that are not handed over, those in hand included.
    pub recordings: usize,
    /// Jobs that this node goes on with, those in hand included.
    pub jobs: usize,
    pub jobs_given_up: usize,
    /// How long the job in hand still takes that takes longest, in seconds, as ffmpeg counts; 0: none is being made.
    pub jobs_remaining_s: u64,
}

impl NodeState {
    /// `config`: with its `state_dir` chosen.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let recorder = &config.recorder;
        Self {
            recordings: RecordingSignals::default(),
            availability: Availability::default(),
            nats: Arc::default(),
            parts: Arc::default(),
            id: recorder.id.clone(),
            mode: recorder.mode,
            uploads: Arc::default(),
            hls: Arc::default(),
            admin: config.admin.clone(),
            storage: config.storage.clone(),
            dirs: NodeDirs {
                main_path: recorder.main_path.clone(),
                temporary_dir: recorder.temporary_dir.clone(),
                state_dir: recorder.state_dir.clone(),
                sub_path: recorder.sub_path.clone(),
            },
            max_limit: recorder.max_limit,
            kept: Arc::default(),
        }
    }

    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.recordings.metrics.clone()
    }

    /// Recordings and broadcasts running.
    pub(super) fn running(&self) -> usize {
        self.parts.get().map_or(0, |parts| *parts.running.borrow())
    }

    pub(super) fn kept(&self) -> KeptWork {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_kept(&self, kept: KeptWork) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }
}
