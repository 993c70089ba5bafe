//! What the page is told, in parts. One task makes it for all viewers, and ends with the last of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::admin::error::AdminError;
use crate::admin::http::measurement::Measurement;
use crate::admin::http::node_state::NodeState;
use crate::admin::http::page::processes::{ProcessMeter, RigUse};
use crate::admin::http::page::{finished, picture, processes};
use crate::admin::state_dir::StateDir;
use crate::admin::{list, status};
use crate::storage::disk_space::{self, DiskSpace};
use crate::telemetry::{recent, redact};
use crate::unix_time::unix_ms;

const LIVE_INTERVAL: Duration = Duration::from_secs(1);
const LISTS_INTERVAL: Duration = Duration::from_secs(2);
const SLOW_INTERVAL: Duration = Duration::from_secs(5);
const FINISHED_INTERVAL: Duration = Duration::from_secs(10);
/// How long NATS may take to tell of the fleet.
const FLEET_LIMIT: Duration = Duration::from_secs(10);
/// Rows of a list, and lines of the log.
const MOST_ROWS: usize = 200;
const MOST_LINES: usize = 50;

/// The parts, each an event of its own.
#[derive(Clone, Copy)]
enum Part {
    Live,
    Lists,
    Disks,
    Finished,
    Fleet,
    Log,
}

pub(super) const NAMES: [&str; 6] = ["live", "lists", "disks", "finished", "fleet", "log"];

/// Each part as JSON; empty where it is not known yet.
pub(super) type Told = [Arc<str>; NAMES.len()];

/// What is told; clones tell the same.
#[derive(Clone)]
pub(super) struct Feed {
    node: NodeState,
    told: Arc<watch::Sender<Told>>,
    /// Whether the task runs.
    running: Arc<Mutex<bool>>,
    /// One look at a time also over several runs of the task: a disk that hangs holds one thread.
    sources: Arc<tokio::sync::Mutex<Sources>>,
    rigs: Arc<Mutex<BTreeMap<String, RigUse>>>,
}

struct Sources {
    lists: Measurement<Result<Value, AdminError>>,
    places: [(&'static str, Measurement<io::Result<DiskSpace>>); 3],
    finished: Measurement<io::Result<Value>>,
    processes: Measurement<processes::Processes>,
}

impl Feed {
    pub fn new(node: &NodeState) -> Self {
        let place = |name| (name, Measurement::new("page-space"));
        let sources = Sources {
            lists: Measurement::new("page-lists"),
            places: [place("main_path"), place("temporary_dir"), place("state_dir")],
            finished: Measurement::new("page-finished"),
            processes: Measurement::new("page-proc"),
        };
        Self {
            node: node.clone(),
            told: Arc::new(watch::Sender::new(Told::default())),
            running: Arc::default(),
            sources: Arc::new(tokio::sync::Mutex::new(sources)),
            rigs: Arc::default(),
        }
    }

    /// Receives what is told from now on; the task that makes it runs until the last receiver is dropped.
    pub fn watch(&self) -> watch::Receiver<Told> {
        let mut running = lock(&self.running);
        if !*running {
            *running = true;
            self.told.send_replace(Told::default());
            tokio::spawn(self.clone().tell());
        }
        self.told.subscribe()
    }

    async fn tell(self) {
        let mut sources = self.sources.lock().await;
        let Sources { lists, places, finished, processes } = &mut *sources;
        let all = async {
            tokio::join!(
                self.live(),
                self.lists(lists),
                self.disks(places),
                self.finished(finished),
                self.processes(processes),
                self.fleet()
            )
        };
        tokio::select! {
            _ = all => {}
            () = self.nobody_looks() => {}
        }
    }

    async fn nobody_looks(&self) {
        loop {
            self.told.closed().await;
            let mut running = lock(&self.running);
            if self.told.receiver_count() == 0 {
                *running = false;
                return;
            }
        }
    }

    fn set(&self, part: Part, value: &Value) {
        let text: Arc<str> = value.to_string().into();
        self.told.send_if_modified(|told| {
            let changed = told[part as usize] != text;
            if changed {
                told[part as usize] = text;
            }
            changed
        });
    }

    async fn live(&self) {
        let mut ticks = every(LIVE_INTERVAL);
        loop {
            ticks.tick().await;
            let rigs = lock(&self.rigs).clone();
            self.set(Part::Live, &picture::live(&self.node, &rigs));
            let lines = recent::lines();
            self.set(Part::Log, &json!(&lines[lines.len().saturating_sub(MOST_LINES)..]));
        }
    }

    async fn lists(&self, lists: &mut Measurement<Result<Value, AdminError>>) {
        let mut ticks = every(LISTS_INTERVAL);
        loop {
            ticks.tick().await;
            let state = StateDir::of_node(&self.node);
            match lists.take(move || list::all(&state, MOST_ROWS, unix_ms())).await {
                Some(Ok(lists)) => self.set(Part::Lists, &lists),
                Some(Err(error)) => self.set(Part::Lists, &failed(&error.to_string())),
                None => self.set(Part::Lists, &failed("recorder.state_dir does not answer")),
            }
        }
    }

    async fn disks(&self, places: &mut [(&'static str, Measurement<io::Result<DiskSpace>>); 3]) {
        let dirs = &self.node.dirs;
        let paths = [&dirs.main_path, &dirs.temporary_dir, &dirs.state_dir];
        let mut ticks = every(SLOW_INTERVAL);
        loop {
            ticks.tick().await;
            let mut disks = Vec::new();
            for ((place, measurement), path) in places.iter_mut().zip(paths) {
                let at = path.clone();
                let (space, why) = match measurement.take(move || disk_space::free(&at)).await {
                    Some(Ok(space)) => (Some(space), None),
                    Some(Err(error)) => (None, Some(error.to_string())),
                    None => (None, Some("it does not answer".to_owned())),
                };
                disks.push(json!({
                    "place": place, "path": path.display().to_string(), "error": why,
                    "free": space.map(|space| space.free), "total": space.map(|space| space.total),
                }));
            }
            self.set(Part::Disks, &json!(disks));
        }
    }

    async fn finished(&self, measurement: &mut Measurement<io::Result<Value>>) {
        let mut ticks = every(FINISHED_INTERVAL);
        loop {
            ticks.tick().await;
            let dirs = self.node.dirs.clone();
            match measurement.take(move || finished::list(&dirs)).await {
                Some(Ok(list)) => self.set(Part::Finished, &list),
                Some(Err(error)) => self.set(Part::Finished, &failed(&error.to_string())),
                None => self.set(Part::Finished, &failed("a disk does not answer")),
            }
        }
    }

    async fn processes(&self, measurement: &mut Measurement<processes::Processes>) {
        let (mut ticks, mut meter) = (every(SLOW_INTERVAL), ProcessMeter::default());
        loop {
            ticks.tick().await;
            if let Some(found) = measurement.take(processes::read).await {
                *lock(&self.rigs) = meter.take(&found);
            }
        }
    }

    async fn fleet(&self) {
        let mut ticks = every(SLOW_INTERVAL);
        loop {
            ticks.tick().await;
            let fleet = match self.node.nats.get() {
                None => failed("there is no connection to NATS yet"),
                Some(nats) => match tokio::time::timeout(FLEET_LIMIT, status::fleet(nats, unix_ms)).await {
                    Ok(Ok(fleet)) => serde_json::to_value(&fleet).unwrap_or_default(),
                    Ok(Err(error)) => failed(&error.to_string()),
                    Err(_) => failed("NATS does not answer"),
                },
            };
            self.set(Part::Fleet, &fleet);
        }
    }
}

fn failed(why: &str) -> Value {
    json!({"error": redact::scrub(why)})
}

fn every(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is consistent at every point that could panic.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
