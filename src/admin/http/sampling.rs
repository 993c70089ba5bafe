//! Measures at intervals what would make those who ask wait: disks, `/proc`, the queue, the plugNmeet server.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use crate::admin::http::measurement::Measurement;
use crate::admin::http::node_state::{KeptWork, NodeState};
use crate::admin::http::readiness;
use crate::capture::cpu_use::CaptureCpu;
use crate::config::ServerConfig;
use crate::http;
use crate::nats::Nats;
use crate::process::cgroup::{Cgroups, Memory};
use crate::protocol::request::Kind;
use crate::recording::journal;
use crate::storage::disk_space::{self, DiskSpace};
use crate::storage::files;
use crate::telemetry::metrics::NodeGauge;
use crate::transcode::journal::{JobJournal, JobState};
use crate::unix_time::unix_ms;

const LOCAL_INTERVAL: Duration = Duration::from_secs(5);
const QUEUE_INTERVAL: Duration = Duration::from_secs(15);
const SERVER_INTERVAL: Duration = Duration::from_secs(30);

/// Measures for as long as it is polled.
pub(super) async fn run(node: &NodeState, server: &ServerConfig) {
    tokio::join!(local(node), queue(node), reach(node, server));
}

/// Sets what is known without waiting.
pub(super) fn refresh(node: &NodeState) {
    let (metrics, used) = (node.metrics(), node.running());
    let ready = readiness::reasons(node).is_empty();
    let used = u32::try_from(used).unwrap_or(u32::MAX);
    let total = if node.mode.records() { node.max_limit } else { 0 };
    metrics.set(NodeGauge::SlotsTotal, total);
    metrics.set(NodeGauge::SlotsUsed, used);
    metrics.set(NodeGauge::SlotsFree, if ready { total.saturating_sub(used) } else { 0 });
    metrics.set(NodeGauge::Busy, used > 0 || metrics.get(NodeGauge::JobsRunning) > 0.0);
    metrics.set(NodeGauge::Ready, ready);
    metrics.set(NodeGauge::NatsConnected, node.nats.get().is_some_and(Nats::is_connected));
    metrics.set(NodeGauge::JobsGivenUp, count(node.kept().jobs_given_up));
    metrics.set(NodeGauge::JobsRemaining, Duration::from_secs(node.kept().jobs_remaining_s).as_secs_f64());
    let Some(parts) = node.parts.get() else { return };
    let backlog = parts.outbox.backlog();
    let age = backlog.oldest.map_or(0, |oldest| unix_ms().saturating_sub(oldest));
    metrics.set(NodeGauge::OutboxMessages, count(backlog.messages));
    metrics.set(NodeGauge::OutboxOldestAge, Duration::from_millis(age).as_secs_f64());
    metrics.set_load("cpu", *parts.load.borrow());
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn every(interval: Duration) -> Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The resources of this machine, and what `state_dir` holds.
async fn local(node: &NodeState) {
    let metrics = node.metrics();
    let places = [
        ("main_path", node.dirs.main_path.clone()),
        ("temporary_dir", node.dirs.temporary_dir.clone()),
        ("state_dir", node.dirs.state_dir.clone()),
    ];
    let mut places = places.map(|(place, path)| (place, path, Measurement::<io::Result<DiskSpace>>::new("space")));
    let (mut kept, mut cpu) = (Measurement::new("kept-work"), Measurement::new("capture-cpu"));
    let mut used = Some(CaptureCpu::default());
    let groups = Cgroups::of_this_process();
    let mut ticks = every(LOCAL_INTERVAL);
    loop {
        ticks.tick().await;
        let mut fullest = 0.0f64;
        for (place, path, measurement) in &mut places {
            let path = path.clone();
            if let Some(Ok(space)) = measurement.take(move || disk_space::free(&path)).await {
                metrics.set_disk_free(place, space.free);
                fullest = fullest.max(used_share(space));
            }
        }
        metrics.set_load("disk", fullest);
        if let Some(share) = memory(&groups) {
            metrics.set_load("memory", share);
        }
        let dir = node.dirs.state_dir.clone();
        if let Some(Ok(found)) = kept.take(move || kept_work(&dir)).await {
            node.set_kept(found);
        }
        let mut before = used.take().unwrap_or_default();
        let look = move || {
            let time = before.used();
            (time, before)
        };
        if let Some((time, now)) = cpu.take(look).await {
            metrics.capture_used(time);
            used = Some(now);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn used_share(DiskSpace { free, total }: DiskSpace) -> f64 {
    if total == 0 { 0.0 } else { 1.0 - free as f64 / total as f64 }
}

/// The share of the memory that is in use: of the limit that is nearest, of a control group or of the machine.
#[expect(clippy::cast_precision_loss, reason = "a share")]
pub(super) fn memory(groups: &Cgroups) -> Option<f64> {
    let used = |memory: &Memory| 1.0 - memory.free as f64 / memory.limit.max(1) as f64;
    groups.memory().iter().map(used).reduce(f64::max).map(|share| share.clamp(0.0, 1.0))
}

fn kept_work(state_dir: &Path) -> io::Result<KeptWork> {
    let mut kept = KeptWork::default();
    for kind in [Kind::Recording, Kind::Broadcast] {
        match files::records(&state_dir.join(journal::dir_of(kind))) {
            Ok(records) => kept.recordings += records.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for record in JobJournal::new(state_dir).all() {
        // What was noted before a crash is no progress.
        let progress = record.progress.filter(|_| matches!(record.state, JobState::Working));
        let remaining = progress.and_then(|progress| progress.eta_s).unwrap_or_default();
        kept.jobs_remaining_s = kept.jobs_remaining_s.max(remaining);
        match record.state {
            JobState::GivenUp { .. } => kept.jobs_given_up += 1,
            JobState::Working | JobState::Waiting { .. } | JobState::Retry => kept.jobs += 1,
            JobState::HandedBack { .. } | JobState::Remuxed { .. } => {}
        }
    }
    Ok(kept)
}

async fn queue(node: &NodeState) {
    let mut ticks = every(QUEUE_INTERVAL);
    loop {
        ticks.tick().await;
        let Some(nats) = node.nats.get() else {
            // Not connected yet: looked at again soon.
            ticks.reset_after(Duration::from_secs(1));
            continue;
        };
        if let Some(queue) = nats.queue().await {
            #[expect(clippy::cast_precision_loss, reason = "a count of jobs")]
            node.metrics().set(NodeGauge::JobsPending, queue.pending as f64);
        }
    }
}

/// Whether the plugNmeet server answers: anything but a gateway without a server behind it.
async fn reach(node: &NodeState, server: &ServerConfig) {
    // The parts that need it say why there is no client.
    let Ok((client, url)) = http::server_client(server, "/") else { return };
    let mut ticks = every(SERVER_INTERVAL);
    loop {
        ticks.tick().await;
        let answer = client.head(url.clone()).send().await;
        let reachable = answer.is_ok_and(|answer| !matches!(answer.status().as_u16(), 502..=504));
        node.metrics().set(NodeGauge::ServerReachable, reachable);
    }
}
