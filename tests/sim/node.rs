//! One node of the simulated fleet: the real connection, requests, admission, journal, outbox and heartbeat; only what
//! would capture is a rig that opens at once and does nothing, and the load is computed from what runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use plugnmeet_recorder::archive::archives::Archives;
use plugnmeet_recorder::capture::rig::{CaptureReport, OpenError, Rig};
use plugnmeet_recorder::capture::rig_failure::RigFailure;
use plugnmeet_recorder::config::{HooksConfig, NatsConfig, ServerConfig};
use plugnmeet_recorder::delivery::dispatcher::Dispatcher;
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::fleet::availability::{Availability, Obstacle};
use plugnmeet_recorder::fleet::heartbeat::Heartbeat;
use plugnmeet_recorder::fleet::id_claim::{self, IdClaim};
use plugnmeet_recorder::fleet::slots::Slots;
use plugnmeet_recorder::nats::Nats;
use plugnmeet_recorder::protocol::ids::{AccessToken, InvalidName, RecorderId};
use plugnmeet_recorder::protocol::request::{RecordingInfo, Start};
use plugnmeet_recorder::recording::driver::RecordingContext;
use plugnmeet_recorder::recording::job_handoff::JobHandoff;
use plugnmeet_recorder::recording::journal::RecordingJournal;
use plugnmeet_recorder::recording::open_failures::OpenFailures;
use plugnmeet_recorder::recording::opening_turns::OpeningTurns;
use plugnmeet_recorder::recording::raw_file::RawFile;
use plugnmeet_recorder::recording::referrals::Referrals;
use plugnmeet_recorder::recording::requests::RequestService;
use plugnmeet_recorder::recording::rig_factory::RigFactory;
use plugnmeet_recorder::recording::room_client::RoomClient;
use plugnmeet_recorder::recording::session::SessionLimits;
use plugnmeet_recorder::recording::signals::RecordingSignals;
use plugnmeet_recorder::recording::summary::SummaryStore;
use plugnmeet_recorder::retry::RetrySchedule;
use plugnmeet_recorder::scripts::hooks::Hooks;
use plugnmeet_recorder::storage::disk_space::DiskStatus;
use plugnmeet_recorder::storage::lock::StateLock;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::standin::Standin;

/// Processors that one recording takes, and the share of a node's processors that is busy anyway.
const CORES_PER_RECORDING: f64 = 0.8;
const IDLE_LOAD: f64 = 0.03;
/// Outages of a node's own connection are no part of the simulation.
const END_LIMIT: Duration = Duration::from_secs(20);

/// What a node of the fleet is.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    pub id: String,
    pub cores: usize,
    pub max_limit: u32,
    pub when_full: WhenFull,
}

/// What a node does that is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WhenFull {
    /// It leaves the server's choice, and refers a START that reaches it all the same to other nodes.
    #[default]
    Refer,
    /// It leaves the server's choice, and refuses a START.
    Refuse,
    /// It stays in the server's choice, as reference recorders do, and refuses a START.
    Stay,
}

/// A running node.
pub struct Node {
    spec: NodeSpec,
    slots: NodeSlots,
    _disk: watch::Sender<DiskStatus>,
    drain: CancellationToken,
    end: CancellationToken,
    requests: JoinHandle<()>,
    heartbeat: JoinHandle<()>,
    watches: [JoinHandle<()>; 2],
    _lock: StateLock,
}

/// The slots of a node as they are, whatever the bucket says.
#[derive(Clone)]
pub struct NodeSlots {
    pub cores: usize,
    pub max_limit: usize,
    pub hides: bool,
    running: watch::Receiver<usize>,
    drain: CancellationToken,
}

impl NodeSlots {
    /// Recordings and broadcasts that run.
    pub fn running(&self) -> usize {
        *self.running.borrow()
    }

    pub fn drains(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Slots that a START could have.
    pub fn free(&self) -> usize {
        if self.drains() { 0 } else { self.max_limit.saturating_sub(self.running()) }
    }
}

/// Opens at once and runs until it is told to finish.
struct IdleRig;

impl Rig for IdleRig {
    type Spec = ();

    async fn open((): (), _: CancellationToken) -> Result<Self, OpenError> {
        Ok(Self)
    }

    async fn broken(&mut self) -> RigFailure {
        std::future::pending().await
    }

    fn idle(&self) -> Duration {
        Duration::ZERO
    }

    async fn finish(&mut self) -> (CaptureReport, Result<(), String>) {
        (CaptureReport::default(), Ok(()))
    }

    async fn close(self) {}
}

struct IdleRigs(PathBuf);

impl RigFactory<IdleRig> for IdleRigs {
    fn rig(&self, _: &Start, _: &AccessToken, _: Option<&Path>) {}

    fn screenshot(&self, _: &Start) -> Option<PathBuf> {
        None
    }

    fn raw_file(&self, info: &RecordingInfo) -> Result<RawFile, InvalidName> {
        RawFile::new(&self.0, &self.0, Path::new("sim"), &info.recording_id, &info.room_id)
    }
}

impl Node {
    /// Starts it with its files below `dir`. It is in the bucket some moments later.
    pub async fn start(standin: &Standin, spec: NodeSpec, dir: &Path) -> anyhow::Result<Self> {
        let id = RecorderId::parse(&spec.id).context("the id of a node")?;
        let (server, config) = connection(standin);
        let (drain, end) = (CancellationToken::new(), CancellationToken::new());
        let nats = Nats::connect(&config, &server, &id, &drain).await?;
        let state = dir.join(&spec.id);
        let dispatcher = Dispatcher::new(&server, Outbox::open(&state)?)?;
        dispatcher.connect(nats.clone());
        let handoff = JobHandoff {
            raw_store: None,
            recorder: id.clone(),
            hooks: Hooks::start(&HooksConfig::default(), &[]),
            dispatcher: dispatcher.clone(),
            waits: RetrySchedule::MINUTES,
            drain: drain.clone(),
            end: end.clone(),
        };
        let context = RecordingContext {
            recorder: id.clone(),
            dispatcher,
            handoff,
            summaries: SummaryStore::new(&state),
            room: RoomClient::new(&server)?,
            limits: SessionLimits::default(),
            turns: OpeningTurns::new(spec.cores),
            open_failures: OpenFailures::default(),
            signals: RecordingSignals::default(),
            early_copies: None,
            archives: Archives::default(),
            hls: None,
        };
        let availability = Availability::default();
        let slots = Slots::of_node(spec.max_limit, None, availability.clone());
        let running = slots.running();
        let (disk, room) = watch::channel(DiskStatus::default());
        let rigs = Arc::new(IdleRigs(state.clone()));
        let journal = RecordingJournal::new(&state);
        let load = watch::Sender::new(IDLE_LOAD);
        let mut service = RequestService::<IdleRig>::new(context, slots, rigs, journal, availability.clone(), room);
        if spec.when_full == WhenFull::Refer {
            service = service.referring(Referrals {
                recorder: id.clone(),
                api_secret: server.api_secret.clone(),
                max_limit: spec.max_limit,
                total_cores: spec.cores,
                load: load.subscribe(),
            });
        }
        service.recover(true)?;
        let (sender, requests) = oneshot::channel();
        let _ = sender.send(nats.requests().await?);
        let requests = tokio::spawn(service.run(requests, drain.clone(), end.clone()));

        // Who does not hide announces that it drains, and never that it is full.
        let shown = if spec.when_full == WhenFull::Stay { Availability::default() } else { availability.clone() };
        let watches = [
            tokio::spawn(note_drain(drain.clone(), [availability, shown.clone()])),
            tokio::spawn(measure(load.clone(), running.clone(), spec.cores)),
        ];
        let lock = StateLock::take(&state)?;
        let claim = IdClaim::at_start(&nats, id, id_claim::this_process(&lock), &running, &drain);
        let heartbeat = Heartbeat {
            nats: nats.clone(),
            claim: claim.await?.context("a node was asked to end while it started")?,
            max_limit: spec.max_limit,
            total_cores: spec.cores,
            progress: running.clone(),
            load: load.subscribe(),
            availability: shown,
        };
        let heartbeat = tokio::spawn(heartbeat.run(end.clone()));
        let slots = NodeSlots {
            cores: spec.cores,
            max_limit: spec.max_limit as usize,
            hides: spec.when_full != WhenFull::Stay,
            running,
            drain: drain.clone(),
        };
        Ok(Self { spec, slots, _disk: disk, drain, end, requests, heartbeat, watches, _lock: lock })
    }

    pub fn id(&self) -> &str {
        &self.spec.id
    }

    pub fn slots(&self) -> NodeSlots {
        self.slots.clone()
    }

    /// As at a SIGTERM: what runs goes on to its end, then the node leaves the fleet.
    pub async fn drain(mut self) -> anyhow::Result<NodeSpec> {
        self.drain.cancel();
        (&mut self.requests).await.context("the requests of a node")?;
        self.leave().await
    }

    /// As at a second SIGTERM.
    pub async fn end(mut self) -> anyhow::Result<NodeSpec> {
        self.end.cancel();
        (&mut self.requests).await.context("the requests of a node")?;
        self.leave().await
    }

    async fn leave(self) -> anyhow::Result<NodeSpec> {
        self.end.cancel();
        tokio::time::timeout(END_LIMIT, self.heartbeat).await.context("a heartbeat did not end")??;
        self.watches.iter().for_each(JoinHandle::abort);
        Ok(self.spec)
    }
}

/// How a node reaches the deployment.
/// How a recorder reaches the stand-in.
pub fn connection(standin: &Standin) -> (ServerConfig, NatsConfig) {
    let deployment = &standin.deployment;
    let server = ServerConfig {
        host: standin.host(),
        api_key: deployment.api_key.clone(),
        api_secret: deployment.api_secret.clone(),
        join_host: None,
        ca_file: None,
    };
    let nats = NatsConfig {
        urls: standin.nats_urls(),
        recorder_channel: deployment.channel.clone(),
        recorder_info_kv: deployment.bucket.clone(),
        transcoding_jobs_subject: deployment.jobs.clone(),
    };
    (server, nats)
}

async fn note_drain(drain: CancellationToken, availability: [Availability; 2]) {
    drain.cancelled().await;
    for noted in availability {
        noted.block(Obstacle::Draining, "the node was asked to end");
    }
}

/// The load as it would be measured: once a second, over the last five.
async fn measure(load: watch::Sender<f64>, running: watch::Receiver<usize>, cores: usize) {
    let mut window = std::collections::VecDeque::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let busy = IDLE_LOAD + CORES_PER_RECORDING * *running.borrow() as f64 / cores as f64;
        window.push_back(busy.min(1.0));
        if window.len() > 5 {
            window.pop_front();
        }
        load.send_replace(window.iter().sum::<f64>() / window.len() as f64);
    }
}
