//! Draws requests for recordings from a seed, so that a share of the fleet's slots is taken, and ends each after its
//! time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::stream::{StreamExt as _, TryStreamExt as _};
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

use super::cost::{CpuTime, SERVER_THREADS};
use super::node::{Node, NodeSlots, NodeSpec, WhenFull};
use super::report::{Machines, Phase, Report};
use super::server::{Choice, Outcome};
use crate::dice::Dice;
use crate::standin::fleet::Announcement;
use crate::standin::notices::Notice;
use crate::standin::{Deployment, Meeting, Room, Standin};

/// Nodes that connect at once: the auth callout is one task.
const CONNECTS: usize = 25;
/// How long the fleet may take to be in the bucket, and what was stopped to be told.
const SOON: Duration = Duration::from_secs(60);
/// Between two looks at the slots.
const SAMPLE: Duration = Duration::from_millis(250);
/// From this share of the wanted ones on, the slots are looked at.
const REACHED: f64 = 0.95;

#[derive(Clone, Debug)]
pub struct Options {
    pub nodes: usize,
    /// Requests for one, in all phases together.
    pub recordings: usize,
    pub seed: u64,
    /// The shortest and the longest recording, in seconds.
    pub lengths: (f64, f64),
    /// Requests a second, at the most.
    pub rate: f64,
    /// The shares of all slots that are to be taken, in percent, one after the other.
    pub shares: Vec<usize>,
    pub when_full: WhenFull,
    /// The server asks nobody before its cache has what the last START changed: else two may meet on their way.
    pub settled: bool,
    /// While the load is on, nodes are restarted, one after the other: each drains and starts again.
    pub restarts: bool,
}

struct Sim {
    standin: Standin,
    choice: Choice,
    /// Its token is every recording's.
    room: Room,
    nodes: Mutex<BTreeMap<String, NodeSlots>>,
    /// Requests that are not answered yet.
    open: AtomicUsize,
    phases: Mutex<Vec<Phase>>,
    answers: Mutex<Vec<Duration>>,
    taken: Mutex<Vec<String>>,
    faults: Mutex<Vec<String>>,
}

/// The server's own threads, which are not counted as the nodes'.
struct Server(Option<Runtime>);

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// 2, 4 and 8 cores, and a slot for each two of them.
fn fleet(nodes: usize, when_full: WhenFull) -> impl Iterator<Item = NodeSpec> {
    (0..nodes).map(move |n| {
        let cores = match n % 10 {
            0..5 => 2,
            5..8 => 4,
            _ => 8,
        };
        NodeSpec { id: format!("node_{n:03}"), cores, max_limit: cores as u32 / 2, when_full }
    })
}

/// Runs it. The nodes run on the runtime that this is called from.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(SERVER_THREADS[1])
        .enable_all()
        .build()?;
    let server = Server(Some(runtime));
    let handle = server.0.as_ref().context("just made")?.handle().clone();
    // The states of a whole fleet on one disk would measure that disk.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let files = tempfile::Builder::new().prefix("pnm-sim-").tempdir_in(place)?;
    let standin = Standin::start(Deployment::default()).await?;
    let (standin, choice) = handle
        .spawn(async move {
            let choice = Choice::open(&standin).await;
            choice.map(|choice| (standin, choice))
        })
        .await??;
    let specs: Vec<NodeSpec> = fleet(options.nodes, options.when_full).collect();
    let starts = specs.into_iter().map(|spec| Node::start(&standin, spec, files.path()));
    let nodes: Vec<Node> = futures::stream::iter(starts).buffer_unordered(CONNECTS).try_collect().await?;
    choice
        .wait_until(SOON, |known| known.values().filter(|one| one.last_ping.is_some()).count() == nodes.len())
        .await?;
    let views = nodes.iter().map(|node| (node.id().to_owned(), node.slots())).collect();
    let sim = Arc::new(Sim {
        room: standin.meeting(Meeting::default()),
        standin,
        choice,
        nodes: Mutex::new(views),
        open: AtomicUsize::new(0),
        phases: Mutex::default(),
        answers: Mutex::default(),
        taken: Mutex::default(),
        faults: Mutex::default(),
    });
    let slots = sim.slots().iter().map(|node| node.max_limit).sum();

    let (began, before, messages) = (Instant::now(), CpuTime::now(), sim.choice.messages());
    let load = handle.spawn(load(Arc::clone(&sim), options.clone()));
    let (nodes, restarts) = if options.restarts { restart(&sim, nodes, files.path()).await? } else { (nodes, 0) };
    load.await??;
    let (lasted, cpu) = (began.elapsed(), CpuTime::now().since(before));
    let messages = sim.choice.messages() - messages;

    sim.judge_ends().await;
    let ends = nodes.into_iter().map(Node::end);
    futures::stream::iter(ends).buffer_unordered(CONNECTS).try_collect::<Vec<_>>().await?;
    let mut answers = sim.answers.lock().unwrap().clone();
    answers.sort();
    let phases = sim.phases.lock().unwrap().clone();
    let not_ended_well = sim.faults.lock().unwrap().clone();
    Ok(Report {
        nodes: options.nodes,
        slots,
        when_full: options.when_full,
        phases,
        lasted,
        messages,
        cpu,
        answers,
        not_ended_well,
        restarts,
        violations: sim.standin.violations(),
    })
}

/// Requests recordings until there were enough, and returns when the last one was stopped.
async fn load(sim: Arc<Sim>, options: Options) -> anyhow::Result<()> {
    let mut dice = Dice::seeded(options.seed);
    let tasks = TaskTracker::new();
    let each = options.recordings / options.shares.len().max(1);
    for (at, share) in options.shares.iter().copied().enumerate() {
        sim.phases.lock().unwrap().push(Phase { share, ..Phase::default() });
        let wanted = sim.slots().iter().map(|node| node.max_limit).sum::<usize>() * share / 100;
        let mut used = Samples::default();
        let mut requested = 0;
        while requested < each {
            // As independent users come: exponentially distributed gaps.
            let gap = -(1.0 - dice.seconds(1.0)).ln() / options.rate;
            tokio::time::sleep(Duration::from_secs_f64(gap)).await;
            used.look(&sim, wanted);
            if sim.running() + sim.open.load(Ordering::SeqCst) >= wanted {
                continue;
            }
            let n = at * each + requested;
            requested += 1;
            let length = options.lengths.0 + dice.seconds(options.lengths.1 - options.lengths.0);
            let length = Duration::from_secs_f64(length);
            sim.open.fetch_add(1, Ordering::SeqCst);
            let one = Arc::clone(&sim);
            let request = async move {
                let node = one.request(at, n).await?;
                anyhow::Ok((one, node))
            };
            if options.settled {
                let (one, node) = request.await?;
                if let Some(node) = &node {
                    sim.choice.wait_until(SOON, |known| sim.is_known(known, node)).await?;
                }
                tasks.spawn(one.stop_after(node, n, length));
            } else {
                tasks.spawn(async move {
                    let (one, node) = request.await?;
                    one.stop_after(node, n, length).await
                });
            }
        }
        sim.phases.lock().unwrap()[at].machines = used.machines(&sim);
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Each node drains and starts again, one after the other.
async fn restart(sim: &Sim, nodes: Vec<Node>, files: &Path) -> anyhow::Result<(Vec<Node>, usize)> {
    let mut again = Vec::new();
    for node in nodes {
        let spec = node.drain().await?;
        let id = spec.id.clone();
        let node = Node::start(&sim.standin, spec, files).await?;
        sim.nodes.lock().unwrap().insert(id.clone(), node.slots());
        sim.choice.wait_until(SOON, |known| known.get(&id).is_some_and(|one| one.last_ping > Some(0))).await?;
        again.push(node);
    }
    let restarts = again.len();
    Ok((again, restarts))
}

impl Sim {
    fn slots(&self) -> Vec<NodeSlots> {
        self.nodes.lock().unwrap().values().cloned().collect()
    }

    fn running(&self) -> usize {
        self.nodes.lock().unwrap().values().map(NodeSlots::running).sum()
    }

    fn has_room(&self) -> bool {
        self.nodes.lock().unwrap().values().any(|node| node.free() > 0)
    }

    /// Whether the server knows what a node has taken.
    fn is_known(&self, known: &BTreeMap<String, Announcement>, id: &str) -> bool {
        let nodes = self.nodes.lock().unwrap();
        let (Some(node), Some(one)) = (nodes.get(id), known.get(id)) else { return true };
        let progress = one.current_progress == u32::try_from(node.running()).ok();
        progress && (node.free() > 0 || !node.hides || one.last_ping == Some(0))
    }

    /// Requests a recording; the node that has taken it.
    async fn request(&self, phase: usize, n: usize) -> anyhow::Result<Option<String>> {
        let mut request = self.room.request(RecordingTasks::StartRtmp, &recording_id(n), "");
        request.room_table_id = room_table_id(n);
        request.rtmp_url = Some("rtmp://localhost/live/key".to_owned());
        let before = self.has_room();
        let outcome = self.choice.start(&self.standin, request).await;
        let room = before && self.has_room();
        self.open.fetch_sub(1, Ordering::SeqCst);
        let outcome = outcome?;
        let phase = &mut self.phases.lock().unwrap()[phase];
        phase.requests += 1;
        match outcome {
            Outcome::Taken { node, took } => {
                phase.taken += 1;
                self.answers.lock().unwrap().push(took);
                self.taken.lock().unwrap().push(recording_id(n));
                return Ok(Some(node));
            }
            Outcome::Refused { why, .. } => {
                *phase.refusals.entry(why).or_default() += 1;
                phase.refused += 1;
                phase.refused_with_room += usize::from(room);
            }
            Outcome::Silent { node } => {
                phase.silent += 1;
                self.fault(format!("{node} did not answer a START"));
            }
            Outcome::NoNode => {
                phase.no_node += 1;
                phase.no_node_with_room += usize::from(room);
            }
        }
        Ok(None)
    }

    async fn stop_after(self: Arc<Self>, node: Option<String>, n: usize, length: Duration) -> anyhow::Result<()> {
        if node.is_none() {
            return Ok(());
        }
        tokio::time::sleep(length).await;
        let mut stop = self.room.request(RecordingTasks::StopRtmp, &recording_id(n), "");
        stop.room_table_id = room_table_id(n);
        let response = self.standin.fleet.request(&stop).await?.response;
        if !response.is_some_and(|response| response.status) {
            self.fault(format!("{}: nobody took its STOP", recording_id(n)));
        }
        Ok(())
    }

    fn fault(&self, what: String) {
        self.faults.lock().unwrap().push(what);
    }

    /// Each that was taken was told to have begun and to have ended well, once.
    async fn judge_ends(&self) {
        let wanted = [(RecordingTasks::StartRtmp, true), (RecordingTasks::EndRtmp, true)];
        let taken = self.taken.lock().unwrap().clone();
        let notices = &self.standin.notices;
        let told = || {
            let mut told = BTreeMap::<String, Vec<(RecordingTasks, bool)>>::new();
            for notice in notices.all().into_iter().filter(Notice::taken) {
                let (task, status) = (notice.task(), notice.message.status);
                told.entry(notice.message.recording_id).or_default().push((task, status));
            }
            told
        };
        notices.wait_until(SOON, || (notices.count() >= 2 * taken.len()).then_some(())).await;
        let told = told();
        for id in taken {
            let of_it = told.get(&id).map(Vec::as_slice).unwrap_or_default();
            if of_it != wanted {
                self.fault(format!("{id}: {of_it:?}"));
            }
        }
    }
}

fn recording_id(n: usize) -> String {
    format!("sim-{n}")
}

fn room_table_id(n: usize) -> i64 {
    1_000_000 + i64::try_from(n).expect("thousands")
}

/// The share of its slots that each node had taken, while the wanted share of all was reached.
#[derive(Default)]
struct Samples {
    looked: Option<Instant>,
    looks: usize,
    used: BTreeMap<String, f64>,
}

impl Samples {
    fn look(&mut self, sim: &Sim, wanted: usize) {
        let is_due = self.looked.is_none_or(|at| at.elapsed() >= SAMPLE);
        if !is_due || (sim.running() as f64) < REACHED * wanted as f64 {
            return;
        }
        self.looked = Some(Instant::now());
        self.looks += 1;
        for (id, node) in sim.nodes.lock().unwrap().iter() {
            *self.used.entry(id.clone()).or_default() += node.running() as f64 / node.max_limit as f64;
        }
    }

    fn machines(&self, sim: &Sim) -> Vec<Machines> {
        let mut kinds = BTreeMap::<(usize, usize), Vec<f64>>::new();
        for (id, node) in sim.nodes.lock().unwrap().iter() {
            let used = self.used.get(id).map(|used| used / self.looks.max(1) as f64);
            kinds.entry((node.cores, node.max_limit)).or_default().extend(used);
        }
        kinds.into_iter().map(|((cores, max_limit), used)| Machines::of(cores, max_limit, &used)).collect()
    }
}
