//! Starts the parts of a node, in order, and ends them.
//!
//! ```text
//! 1 host      programs, directories, certificates; without them nothing is started
//! 2 state     the state directory's lock; whether main_path is mounted; the remains of a killed run's rigs are removed
//! 3 delivery  the outbox: messages are delivered, notices also without NATS
//! 4 hooks     the operator's long-lived scripts
//! 5 watches   load, disk space, main_path, time limit of a drain
//! 6 recording recordings of an earlier run are resumed, and uploads into the store, and HLS
//! 7 NATS      connected, however long that takes
//! 8 requests  stops are obeyed; the recorder id is taken, and the node announced; then starts are answered
//! 9 jobs      taken from the work queue
//! ```
//!
//! At the end, 9 and 8 end what runs (or let it finish, in a drain), then 4 and 3 are ended, since 9 and 8 still use
//! them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin;
use crate::admin::http::node_state::{NodeParts, NodeState};
use crate::archive::archives::Archives;
use crate::archive::handle::Archive;
use crate::capture::cleanup::{self, CleanupReport};
use crate::capture::rig::LiveRig;
use crate::capture::rig_directory;
use crate::check;
use crate::codes;
use crate::config::Config;
use crate::delivery::dispatcher::Dispatcher;
use crate::delivery::outbox::Outbox;
use crate::fleet::availability::{Availability, Obstacle};
use crate::fleet::heartbeat::Heartbeat;
use crate::fleet::holder::Holder;
use crate::fleet::id_claim::{self, IdClaim};
use crate::fleet::load;
use crate::fleet::slots::Slots;
use crate::hls::recordings::HlsRecordings;
use crate::nats::{ConnectError, Nats, Requests};
use crate::node::self_test::SelfTest;
use crate::node::service_manager::ServiceManager;
use crate::node::shutdown::Shutdown;
use crate::node::start_watch::StartWatch;
use crate::node::state_dir::StateDirectories;
use crate::node::supervisor::Supervisor;
use crate::node::{
    availability, command_leftovers, hls, outbox_cleanup, overload, preflight, rigs, state_dir, uploads,
};
use crate::protocol::request::Kind;
use crate::recording::driver::RecordingContext;
use crate::recording::early_copy::EarlyCopies;
use crate::recording::job_handoff::JobHandoff;
use crate::recording::journal::RecordingJournal;
use crate::recording::open_failures::OpenFailures;
use crate::recording::opening_turns::OpeningTurns;
use crate::recording::operator_stop::OperatorStops;
use crate::recording::reference_files::ReferenceFiles;
use crate::recording::referrals::Referrals;
use crate::recording::requests::RequestService;
use crate::recording::room_client::RoomClient;
use crate::recording::session::SessionLimits;
use crate::recording::summary::SummaryStore;
use crate::recording::takeover::Takeover;
use crate::retry::RetrySchedule;
use crate::scripts::hooks::Hooks;
use crate::storage::disk_space::{self, DiskStatus};
use crate::storage::lock::StateLock;
use crate::storage::main_path::{self, MainPath};
use crate::storage::record_writer::RecordWriter;
use crate::storage::state_version;
use crate::store::probe;
use crate::store::raw_store::RawStore;
use crate::store::uploads::Uploads;
use crate::telemetry::redact;
use crate::transcode::settings::TranscodeSettings;
use crate::transcode::worker;

/// How long delivery is tried when everything else has ended; what then remains is in the outbox.
const DELIVERY_GRACE: Duration = Duration::from_secs(10);

/// Recordings of other nodes that wait to be gone on with.
const TAKEOVERS: usize = 16;

/// How long the end waits for a disk that has not taken everything yet.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Runs the node until `shutdown`; returns when recordings are closed, jobs handed back and messages delivered or kept.
/// `config_file`: the path that `config` was read from.
///
/// # Errors
/// Where the host lacks something the node needs, or the configuration is unusable.
pub async fn run(
    mut config: Config,
    config_file: PathBuf,
    shutdown: Shutdown,
    start: StartWatch,
) -> anyhow::Result<()> {
    let _secrets: Vec<_> = config.secrets().into_iter().map(redact::register).collect();
    let service_manager = ServiceManager::start(shutdown.clone());
    start.enter("looking for the state directory");
    config.recorder.state_dir = state_dir::choose(&config.recorder, &StateDirectories::of_process(), true);
    let recorder = &config.recorder;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), id = %recorder.id, mode = recorder.mode.as_str(), pid = std::process::id(),
        state_dir = %recorder.state_dir.display(),
        "starting"
    );
    // Before anything is made in it, the lock included.
    state_version::check(&recorder.state_dir)?;

    // 1 host
    start.enter("checking the host and its directories");
    crate::tls::provide_crypto();
    preflight::require(&config)?;

    let state = NodeState::new(&config);
    let _admin = admin::http::start(&config, &state);

    // 2 state
    start.enter("locking recorder.state_dir, and removing what a killed run has left");
    state_dir::warn_unsuitable(&recorder.state_dir);
    let lock = StateLock::take(&recorder.state_dir)?;
    state_dir::own(&recorder.state_dir)?;
    let holder = id_claim::this_process(&lock);
    let store = MainPath::new(&recorder.main_path, &recorder.state_dir);
    main_path::first_look(&store).await;
    preflight::prepare_temporary_dir(&config, &store);
    // This process holds the lock, so everything with this node's tag is of a dead run.
    let report = cleanup::clean_up(&std::env::temp_dir(), &rig_directory::name(&recorder.state_dir)).await;
    if report != CleanupReport::default() {
        let CleanupReport { rigs, processes, displays, kept } = report;
        tracing::warn!(
            code = %codes::KILLED_EARLIER,
            rigs,
            processes,
            displays,
            kept,
            "an earlier run of the recorder was killed: removed what it has left"
        );
    }

    // 3 delivery
    start.enter("reading the outbox in recorder.state_dir");
    let dispatcher = Dispatcher::new(&config.server, Outbox::open(&recorder.state_dir)?)?;
    dispatcher.resume_outbox().await;

    // 4 hooks
    let hooks = Hooks::start(&config.hooks, &state_dir::hook_stages(&config));

    let journal = RecordingJournal::new(&config.recorder.state_dir);
    let supervisor = Supervisor::new(shutdown);
    let uploads = uploads::of_node(&config, &store, state.metrics(), &dispatcher, supervisor.shutdown.end.clone());
    let archives = Archives::new(&config.storage, &recorder.id, recorder.min_free_space, &state.metrics());
    let raw_store = uploads::raw_store(&config);
    let hls = hls::of_node(&config, &store, state.metrics(), &uploads, supervisor.shutdown.end.clone());
    let node = Node {
        config,
        state,
        service_manager,
        store,
        supervisor,
        dispatcher,
        hooks,
        journal,
        holder,
        uploads,
        archives,
        raw_store,
        hls,
    };
    let (config, draining) = (Arc::new(node.config.clone()), &node.supervisor.shutdown.drain);
    node.supervisor.tasks.spawn(check::log_quick_part(config.clone(), draining.clone()));
    node.supervisor.tasks.spawn(command_leftovers::remove(config, config_file, draining.clone()));
    // 5 watches
    let watches = node.start_watches();
    // 6 recording
    start.enter("taking up the recordings of an earlier run");
    let recordings = node.start_recording(&watches).await?;
    start.finish();
    node.start_outbox_cleanup();
    node.start_uploads();
    // 7 NATS, 8 requests, 9 jobs
    let connected = node.connect(&watches, recordings).await;
    if connected.is_err() {
        // What was resumed is closed properly.
        node.supervisor.shutdown.end_now();
    }

    let ended = node.supervisor.wait().await;
    node.hooks.shutdown().await;
    node.dispatcher.shutdown(DELIVERY_GRACE).await;
    node.flush().await;
    connected.and(ended)?;
    tracing::info!("stopped");
    Ok(())
}

/// What the parts of a node share.
struct Node {
    config: Config,
    /// What is shown to those who watch the node.
    state: NodeState,
    service_manager: ServiceManager,
    /// `main_path`.
    store: MainPath,
    supervisor: Supervisor,
    dispatcher: Dispatcher,
    hooks: Hooks,
    journal: RecordingJournal,
    /// This process, as the holder of the recorder id.
    holder: Holder,
    /// MP4s on their way into the store.
    uploads: Uploads,
    /// Where recordings are archived while they run.
    archives: Archives,
    /// The store by which raw files travel.
    raw_store: Option<RawStore>,
    /// MP4s that become HLS.
    hls: HlsRecordings,
}

/// What connects the recordings with NATS, once there is a connection.
struct RecordingLink {
    requests: oneshot::Sender<Requests>,
    /// Recordings and broadcasts running.
    running: watch::Receiver<usize>,
    availability: Availability,
    /// Take the recordings of other nodes over, each from an archive.
    takeovers: Vec<Takeover<LiveRig>>,
}

/// Measurements of the host.
struct Watches {
    load: watch::Receiver<f64>,
    disk: watch::Receiver<DiskStatus>,
}

impl Node {
    fn start_watches(&self) -> Watches {
        let (recorder, shutdown) = (&self.config.recorder, &self.supervisor.shutdown);
        let (load_sender, load) = watch::channel(0.0);
        self.supervisor.spawn_vital("load", load::measure(load_sender, shutdown.end.clone()));
        let (dispatcher, drain) = (self.dispatcher.clone(), shutdown.drain.clone());
        self.supervisor.tasks.spawn(async move {
            drain.cancelled().await;
            dispatcher.hurry();
        });
        if let Some(limit) = recorder.drain_timeout {
            self.supervisor.tasks.spawn(shutdown.clone().limit_drain(limit));
        }
        let places = vec![
            ("recorder.copy_to_path.main_path", recorder.main_path.clone()),
            ("recorder.temporary_dir", recorder.temporary_dir.clone()),
            ("recorder.state_dir", recorder.state_dir.clone()),
        ];
        let (disk_sender, disk) = watch::channel(DiskStatus::default());
        let disks = disk_space::watch(places, recorder.min_free_space, disk_sender, shutdown.end.clone());
        self.supervisor.tasks.spawn(disks);
        self.supervisor.tasks.spawn(main_path::watch(self.store.clone(), shutdown.end.clone()));
        Watches { load, disk }
    }

    /// Resumes the recordings of an earlier run, also where this node does not record any more. `None`: this node accepts
    /// no recordings.
    async fn start_recording(&self, watches: &Watches) -> anyhow::Result<Option<RecordingLink>> {
        let recorder = &self.config.recorder;
        let records = recorder.mode.records();
        let Shutdown { drain, end } = self.supervisor.shutdown.clone();
        let (availability, open_failures) = (self.state.availability.clone(), OpenFailures::default());
        let slots = Slots::of_node(recorder.max_limit, overload::cost_limit(recorder), availability.clone());
        let running = slots.running();
        let one_pass = records.then(|| rigs::one_pass(&self.config, &slots, &self.supervisor)).flatten();
        let rigs = rigs::factory(&self.config, &self.store, one_pass).await?;
        let (stops, operator) = OperatorStops::channel();
        let parts = NodeParts {
            stops,
            running: running.clone(),
            outbox: self.dispatcher.outbox().clone(),
            load: watches.load.clone(),
        };
        self.supervisor.tasks.spawn(ReferenceFiles::new(recorder).watch(self.store.clone(), end.clone()));
        let journal = self.journal.clone();
        let context = self.recording_context(open_failures.clone())?;
        let faults: Vec<_> = self.writers().map(RecordWriter::fault).collect();
        let (taken, taken_over) = mpsc::channel(TAKEOVERS);
        let takeover = |archive: &Archive| Takeover {
            archive: archive.clone(),
            journal: journal.clone(),
            rigs: rigs.clone(),
            room: context.room.clone(),
            availability: availability.clone(),
            records: taken.clone(),
            keep: self.config.storage.archive_keep,
            after: self.config.storage.takeover_after,
            state_dir: recorder.state_dir.clone(),
            temporary_dir: recorder.temporary_dir.clone(),
        };
        let takeovers = self.archives.all().iter().map(takeover).collect();
        let mut service = RequestService::<LiveRig>::new(
            context,
            slots.clone(),
            rigs.clone(),
            journal,
            availability.clone(),
            watches.disk.clone(),
        )
        .obeying(operator)
        .taking_over(taken_over)
        .referring(Referrals {
            recorder: recorder.id.clone(),
            api_secret: self.config.server.api_secret.clone(),
            max_limit: recorder.max_limit,
            total_cores: load::total_cores(),
            load: watches.load.clone(),
        });
        service.recover(records).context("the recordings of an earlier run cannot be listed")?;
        // Nobody sets it a second time.
        let _ = self.state.parts.set(parts);
        let (disk, store) = (watches.disk.clone(), self.store.watch());
        self.supervisor.tasks.spawn(availability::watch(disk, store, drain.clone(), availability.clone()));
        let (obstacles, jobs) = (availability.watch(), self.state.metrics());
        let jobs = recorder.mode.transcodes().then_some(jobs);
        self.service_manager.ready(running.clone(), records.then_some(obstacles), jobs);
        if !records {
            self.supervisor.tasks.spawn(async move {
                service.recover_until(&drain).await;
                service.finish().await;
                end.cancel();
            });
            return Ok(None);
        }
        availability.block(Obstacle::Starting, "the recorder id is not taken yet");
        if recorder.self_test {
            let file = recorder.temporary_dir.join(format!(".self-test-{}.mkv", recorder.id));
            let test = SelfTest { rigs, file, availability: availability.clone(), failures: open_failures };
            test.prepare();
            self.supervisor.tasks.spawn(test.run(drain.clone()));
        }
        let watch = overload::watch(recorder, slots, watches.load.clone(), availability.clone(), end.clone());
        self.supervisor.tasks.spawn(watch);
        self.supervisor.tasks.spawn(availability::watch_state_dir(faults, end.clone(), availability.clone()));
        let (sender, requests) = oneshot::channel();
        self.supervisor.spawn_vital("requests", async move {
            service.run(requests, drain, end.clone()).await;
            // The last recording has ended: the rest of the node may end.
            end.cancel();
        });
        Ok(Some(RecordingLink { requests: sender, running, availability, takeovers }))
    }

    /// Connects to NATS, however long that takes, and starts what needs it.
    async fn connect(&self, watches: &Watches, recordings: Option<RecordingLink>) -> anyhow::Result<()> {
        let Config { nats, server, recorder, .. } = &self.config;
        let Shutdown { drain, end } = self.supervisor.shutdown.clone();
        let nats = match Nats::connect(nats, server, &recorder.id, &drain).await {
            Ok(nats) => nats,
            Err(ConnectError::Cancelled) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.dispatcher.connect(nats.clone());
        let _ = self.state.nats.set(nats.clone());
        self.service_manager.connected(nats.clone());
        if let Some(RecordingLink { requests, running, availability, takeovers }) = recordings {
            // Subscribed before the node is announced, so that no request is missed, and before it has its id, since stops of
            // resumed recordings are obeyed. Nobody receives where the recordings have ended already.
            let _ = requests.send(nats.requests().await?);
            let claim = IdClaim::at_start(&nats, recorder.id.clone(), self.holder.clone(), &running, &drain);
            let Some(claim) = claim.await? else { return Ok(()) };
            let heartbeat = Heartbeat {
                nats: nats.clone(),
                claim,
                max_limit: recorder.max_limit,
                total_cores: load::total_cores(),
                progress: running,
                load: watches.load.clone(),
                availability,
            };
            self.supervisor.spawn_vital("heartbeat", heartbeat.run(end));
            for takeover in takeovers {
                self.supervisor.tasks.spawn(takeover.run(nats.clone(), drain.clone()));
            }
        }
        if recorder.mode.transcodes() {
            self.start_jobs(nats, watches);
        }
        Ok(())
    }

    /// What writes to `state_dir` for recordings.
    fn writers(&self) -> impl Iterator<Item = &RecordWriter> {
        let journals = [Kind::Recording, Kind::Broadcast].map(|kind| Some(self.journal.writer(kind)));
        let raw = self.raw_store.as_ref().map(RawStore::writer);
        let uploads = [Some(self.uploads.writer()), raw, Some(self.hls.writer())];
        let others = [self.dispatcher.outbox().writer()].into_iter().chain(uploads);
        journals.into_iter().chain(others).flatten()
    }

    /// Waits a moment for what is not on disk yet.
    async fn flush(&self) {
        let files: usize =
            futures::future::join_all(self.writers().map(|writer| writer.flush(FLUSH_LIMIT))).await.iter().sum();
        if files > 0 {
            tracing::error!(
                code = %codes::END_NOT_ON_DISK,
                files, dir = %self.config.recorder.state_dir.display(),
                "ending although not everything is on disk: recorder.state_dir does not answer, and the next start takes up what it holds"
            );
        }
    }

    /// What every recording needs from the rest of the node.
    fn recording_context(&self, open_failures: OpenFailures) -> anyhow::Result<RecordingContext> {
        let recorder = &self.config.recorder;
        let Shutdown { drain, end } = self.supervisor.shutdown.clone();
        let handoff = JobHandoff {
            recorder: recorder.id.clone(),
            hooks: self.hooks.clone(),
            dispatcher: self.dispatcher.clone(),
            raw_store: self.raw_store.clone(),
            waits: RetrySchedule::MINUTES,
            drain,
            end,
        };
        Ok(RecordingContext {
            recorder: recorder.id.clone(),
            dispatcher: self.dispatcher.clone(),
            handoff,
            summaries: SummaryStore::new(&recorder.state_dir),
            room: RoomClient::new(&self.config.server)?,
            limits: SessionLimits {
                max_duration: recorder.max_duration,
                end_when_idle: recorder.end_when_idle,
                rejoin_for: recorder.rejoin_for,
            },
            turns: OpeningTurns::new(load::total_cores()),
            open_failures,
            signals: self.state.recordings.clone(),
            // What is beside a raw file in main_path does not go into a store with it.
            early_copies: EarlyCopies::new(&self.config).filter(|_| self.raw_store.is_none()),
            archives: self.archives.clone(),
            hls: Some(self.hls.clone()).filter(|_| self.config.hls.as_ref().is_some_and(|hls| hls.live)),
        })
    }

    fn start_outbox_cleanup(&self) {
        let (outbox, end) = (self.dispatcher.outbox().clone(), self.supervisor.shutdown.end.clone());
        self.supervisor.tasks.spawn(outbox_cleanup::run(outbox, self.config.recorder.state_dir.clone(), end));
    }

    /// Goes on with the uploads of an earlier run, and tries the stores; neither holds up the start.
    fn start_uploads(&self) {
        let (tasks, uploads) = (&self.supervisor.tasks, &self.uploads);
        tasks.spawn(uploads.clone().run());
        let drain = &self.supervisor.shutdown.drain;
        tasks.spawn(self.hls.clone().run());
        let stores: Vec<_> = self.config.storage.upload_stores().into_iter().cloned().collect();
        if !stores.is_empty() {
            // Nobody sets them a second time.
            let _ = self.state.uploads.set(uploads.clone());
            let _ = self.state.hls.set(self.hls.clone());
        }
        let raw = self.raw_store.as_ref().map(|raw_store| raw_store.url().clone());
        let archives = self.archives.all().iter().map(|archive| archive.url().clone());
        for url in stores.into_iter().chain(raw).chain(archives) {
            tasks.spawn(probe::watch(url, drain.clone()));
        }
    }

    fn start_jobs(&self, nats: Nats, watches: &Watches) {
        let (dispatcher, hooks) = (self.dispatcher.clone(), self.hooks.clone());
        let metrics = self.state.metrics();
        let uploads = Some(self.uploads.clone()).filter(|uploads| !uploads.storage().upload_stores().is_empty());
        let hls = Some(self.hls.clone()).filter(HlsRecordings::is_wanted);
        let settings = TranscodeSettings {
            metrics,
            raw_store: self.raw_store.clone(),
            uploads,
            archives: self.archives.clone(),
            hls,
            ..TranscodeSettings::new(&self.config, &self.store)
        };
        let obstacles = self.state.availability.watch();
        let load = watches.load.clone();
        let Shutdown { drain, end } = self.supervisor.shutdown.clone();
        self.supervisor.spawn_vital("transcoder", async move {
            if let Some(jobs) = nats.jobs(&drain).await {
                worker::run(nats, jobs, dispatcher, hooks, settings, load, obstacles, drain, end).await;
            }
        });
    }
}
