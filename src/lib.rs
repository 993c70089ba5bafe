//! plugnmeet-recorder: records plugNmeet meetings and turns the recordings into MP4s.
//!
//! ARCHITECTURE.md is the map of these modules; [`run`] is the wiring.

pub mod admin;
pub mod backoff;
pub mod capture;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod fleet;
pub mod nats;
pub mod preflight;
pub mod process;
pub mod protocol;
pub mod recording;
pub mod rigs;
pub mod scripts;
pub mod storage;
pub mod telemetry;
pub mod tls;
pub mod transcode;
pub mod wall_clock;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use backoff::Ladder;
use capture::rig::LiveRig;
use capture::{browser, leftovers, owner, sandbox, trust};
use config::{Config, Stage};
use delivery::courier::Courier;
use delivery::outbox::Outbox;
use fleet::heartbeat::Heartbeat;
use fleet::load;
use fleet::permits::Permits;
use nats::{ConnectError, Nats};
use protocol::request::Kind;
use recording::driver::Surroundings;
use recording::journal::Journal;
use recording::publish::Publisher;
use recording::room::RoomClient;
use recording::service::Service;
use recording::session::Limits;
use recording::summary::Summaries;
use recording::traces::Traces;
use rigs::Rigs;
use scripts::hooks::Hooks;
use storage::lock::StateLock;
use storage::space::{self, Room, Verdict};
use transcode::worker;

/// What is still to be told or published when everything else has ended gets this much longer; the rest waits in the outbox.
const DELIVERY_GRACE: Duration = Duration::from_secs(10);

/// How the node is told to end.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Take nothing on any more; what runs goes on.
    pub drain: CancellationToken,
    /// End what runs, properly. Implies the other.
    pub end: CancellationToken,
}

impl Shutdown {
    /// Ends all of it.
    pub fn end_now(&self) {
        self.drain.cancel();
        self.end.cancel();
    }
}

/// Runs the node until `shutdown`; back when recordings are closed, jobs handed back and the server told.
///
/// # Errors
/// Where the host lacks something the node needs, or the configuration turns out to be unusable.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let _secrets: Vec<_> = config.secrets().into_iter().map(telemetry::redact::register).collect();
    let recorder = config.recorder.id.clone();
    let mode = config.recorder.mode;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), id = %recorder, mode = mode.as_str(), pid = std::process::id(), "starting");
    tls::provide_crypto();
    check_host(&config)?;
    let _lock = StateLock::take(&config.recorder.state_dir)?;
    // The lock is ours, so whatever bears our mark is of a run that is dead.
    let swept = leftovers::sweep(&std::env::temp_dir(), &owner::name(&config.recorder.state_dir)).await;
    if swept != leftovers::Swept::default() {
        tracing::warn!(
            rigs = swept.rigs,
            processes = swept.processes,
            displays = swept.displays,
            kept = swept.kept,
            "an earlier run of the recorder was killed: removed what it has left"
        );
    }

    let courier = Courier::new(&config.server, Outbox::open(&config.recorder.state_dir)?)?;
    courier.outbox().sweep().await;
    // Before there is NATS: the server may be told without it.
    courier.take_up().await;
    let nats = match Nats::connect(&config.nats, &config.server, &recorder, &shutdown.drain).await {
        Ok(nats) => nats,
        Err(ConnectError::Cancelled) => {
            courier.shutdown(DELIVERY_GRACE).await;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    courier.connect(nats.clone());

    let hooks = Hooks::start(&config.hooks, &stages(&config));
    let (tasks, failed) = (TaskTracker::new(), CancellationToken::new());
    let node = Node { config, shutdown, nats, courier, hooks, tasks, failed };
    node.start().await?;
    node.tasks.close();
    node.tasks.wait().await;
    node.hooks.shutdown().await;
    node.courier.shutdown(DELIVERY_GRACE).await;
    anyhow::ensure!(!node.failed.is_cancelled(), "stopped because a part of the node has ended by itself");
    tracing::info!("stopped");
    Ok(())
}

/// What the parts of a node share.
struct Node {
    config: Config,
    shutdown: Shutdown,
    nats: Nats,
    courier: Courier,
    hooks: Hooks,
    tasks: TaskTracker,
    failed: CancellationToken,
}

impl Node {
    /// Starts every part that the mode asks for.
    async fn start(&self) -> anyhow::Result<()> {
        let Shutdown { drain, end } = self.shutdown.clone();
        let (load, loads) = watch::channel(0.0);
        self.vital("load", load::measure(load, end.clone()));
        self.limit_drain();
        self.start_recording(&loads).await?;
        if self.config.recorder.mode.transcodes() {
            let (nats, courier) = (self.nats.clone(), self.courier.clone());
            let settings = transcode::settings::Settings::from(&self.config);
            let hooks = self.hooks.clone();
            self.vital("transcoder", async move {
                if let Some(jobs) = nats.jobs(&drain).await {
                    worker::run(nats, jobs, courier, hooks, settings, loads, drain, end).await;
                }
            });
        }
        Ok(())
    }

    /// Ends what still runs when draining has taken too long.
    fn limit_drain(&self) {
        let Some(limit) = self.config.recorder.drain_timeout else { return };
        let Shutdown { drain, end } = self.shutdown.clone();
        self.tasks.spawn(async move {
            drain.cancelled().await;
            if end.run_until_cancelled(tokio::time::sleep(limit)).await.is_some() {
                tracing::info!(
                    drain_timeout_s = limit.as_secs(),
                    "recorder.drain_timeout is over: recordings are closed now"
                );
                end.cancel();
            }
        });
    }

    /// Whether there is room on the disks, looked at until the end.
    fn watch_space(&self) -> watch::Receiver<Verdict> {
        let recorder = &self.config.recorder;
        let places = vec![
            ("recorder.copy_to_path.main_path", recorder.main_path.clone()),
            ("recorder.temporary_dir", recorder.temporary_dir.clone()),
            ("recorder.state_dir", recorder.state_dir.clone()),
        ];
        let (sender, room) = watch::channel(Verdict::default());
        self.tasks.spawn(space::watch(places, recorder.min_free_space, sender, self.shutdown.end.clone()));
        room
    }

    /// Whether this node takes anything on: it neither drains nor lacks room.
    fn takes_on(&self, mut room: watch::Receiver<Verdict>) -> watch::Receiver<bool> {
        let (sender, takes_on) = watch::channel(true);
        let drain = self.shutdown.drain.clone();
        self.tasks.spawn(async move {
            loop {
                let open = !drain.is_cancelled() && room.borrow_and_update().room == Room::Enough;
                sender.send_if_modified(|was| std::mem::replace(was, open) != open);
                tokio::select! {
                    changed = room.changed() => if changed.is_err() { return },
                    () = drain.cancelled(), if !drain.is_cancelled() => {}
                }
            }
        });
        takes_on
    }

    /// Takes up what an earlier run has left, also where nothing is recorded any more; then takes requests.
    async fn start_recording(&self, loads: &watch::Receiver<f64>) -> anyhow::Result<()> {
        let Config { recorder, .. } = &self.config;
        let (id, records) = (recorder.id.clone(), recorder.mode.records());
        let Shutdown { drain, end } = self.shutdown.clone();
        let permits = Permits::new(recorder.max_limit);
        let journal = Journal::new(&recorder.state_dir);
        let publisher = Publisher {
            recorder: id.clone(),
            hooks: self.hooks.clone(),
            courier: self.courier.clone(),
            waits: Ladder::MINUTES,
            drain: drain.clone(),
            end: end.clone(),
        };
        let surroundings = Surroundings {
            recorder: id.clone(),
            courier: self.courier.clone(),
            publisher,
            summaries: Summaries::new(&recorder.state_dir),
            room: RoomClient::new(&self.config.server)?,
            limits: Limits { max_duration: recorder.max_duration, end_when_idle: recorder.end_when_idle },
        };
        let sandbox = records && chrome_sandbox(&self.config).await;
        if records {
            trust::prepare(&recorder.state_dir, &self.config.server).await?;
        }
        let rigs = Arc::new(Rigs::new(self.config.clone(), sandbox));
        self.tasks.spawn(Traces::new(recorder).watch(end.clone()));
        let progress = permits.running();
        let room = self.watch_space();
        let mut service = Service::<LiveRig>::new(surroundings, permits, rigs, journal, room.clone());
        service.recover(records).await;
        if !records {
            self.tasks.spawn(async move {
                drain.cancelled().await;
                service.finish().await;
                end.cancel();
            });
            return Ok(());
        }
        let requests = self.nats.requests().await?;
        let heartbeat = Heartbeat {
            nats: self.nats.clone(),
            recorder: id,
            max_limit: recorder.max_limit,
            total_cores: load::total_cores(),
            progress,
            load: loads.clone(),
            takes_on: self.takes_on(room),
        };
        let ended = end.clone();
        self.vital("requests", async move {
            service.run(requests, drain, ended.clone()).await;
            // The last recording is over: nothing keeps the rest of the node.
            ended.cancel();
        });
        // Listening first, announcing second: no request is missed.
        self.vital("heartbeat", heartbeat.run(end));
        Ok(())
    }

    /// Runs a part that the node cannot do without: should it end before the node does, so does the node.
    fn vital(&self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let (shutdown, failed) = (self.shutdown.clone(), self.failed.clone());
        self.tasks.spawn(async move {
            // In a task of its own, so that a panic ends here.
            let ended = tokio::spawn(part).await;
            if shutdown.drain.is_cancelled() && ended.is_ok() {
                return;
            }
            let ended = ended.err().map_or("it returned".to_owned(), |error| error.to_string());
            tracing::error!(
                part = name,
                ended,
                "a part of the node has ended by itself: shutting down; restart the recorder"
            );
            failed.cancel();
            shutdown.end_now();
        });
    }
}

/// The stages of a recording that this node comes to: a node that does not record any more may still have one to publish.
fn stages(config: &Config) -> Vec<Stage> {
    let Config { recorder, .. } = config;
    let mut stages = Stage::of(recorder.mode);
    if !recorder.mode.records() && Journal::new(&recorder.state_dir).has_any(Kind::Recording) {
        stages.push(Stage::PostRecording);
    }
    stages
}

/// Names everything the host lacks, and what of the configuration is not heeded.
fn check_host(config: &Config) -> anyhow::Result<()> {
    let faults = preflight::check(config);
    for fault in &faults {
        tracing::error!("{fault}");
    }
    anyhow::ensure!(
        faults.is_empty(),
        "this host is not ready: {}",
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    );
    for flag in browser::ignored_flags(&config.chrome.flags) {
        tracing::warn!(flag, "chrome_settings.flags: this flag is the recorder's own and is not heeded");
    }
    if browser::takes_any_certificate(&config.chrome.flags) {
        tracing::warn!(
            "chrome_settings.flags: with ignore-certificate-errors Chrome hands the access token to whoever answers for the \
             meeting page; better name the CA in plugNmeet_info.ca_file"
        );
    }
    Ok(())
}

async fn chrome_sandbox(config: &Config) -> bool {
    match sandbox::check().await {
        // The operator may still turn it off (chrome_settings.flags).
        Ok(()) => !config.chrome.flags.iter().any(|flag| flag.name == "no-sandbox"),
        Err(reason) => {
            tracing::warn!(%reason, "Chrome runs without its sandbox");
            false
        }
    }
}
