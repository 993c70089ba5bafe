//! Tells systemd, or another manager that sets `NOTIFY_SOCKET`, that this node is up, what it does, that it lives, and
//! that it drains. The node never waits for it.

use std::ffi::OsString;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::codes;
use crate::fleet::availability::Obstacles;
use crate::nats::Nats;
use crate::node::service_status::{LifePhase, NodeStatus, ServiceReport};
use crate::node::shutdown::Shutdown;
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::metrics::{Metrics, NodeGauge};

/// The longest time between two messages; less where the manager's watchdog asks for more.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time limit for one message: a manager that does not read holds nothing up.
const SEND_LIMIT: Duration = Duration::from_secs(1);

/// What a node knows of itself, as it comes to know it.
#[derive(Clone, Debug, Default)]
struct Sources {
    /// Recordings and broadcasts running; `None` while the node starts.
    running: Option<watch::Receiver<usize>>,
    /// `None` where this node takes no recordings.
    obstacles: Option<watch::Receiver<Obstacles>>,
    /// They hold how many jobs are in work; `None` where this node does none.
    jobs: Option<Metrics>,
    /// `None` before the first connection.
    nats: Option<Nats>,
}

/// What the service manager is told of a node, until this is dropped.
#[derive(Debug)]
pub(super) struct ServiceManager {
    sources: watch::Sender<Sources>,
    /// `None`: there is no service manager that listens.
    task: Option<JoinHandle<()>>,
}

impl ServiceManager {
    /// Begins to tell.
    pub fn start(shutdown: Shutdown) -> Self {
        let (sources, changes) = watch::channel(Sources::default());
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let task = socket.map(|path| tokio::spawn(tell(path, changes, shutdown)));
        Self { sources, task }
    }

    /// The node is up. `obstacles`: where it takes recordings; `jobs`: its metrics, where it does jobs.
    pub fn ready(
        &self,
        running: watch::Receiver<usize>,
        obstacles: Option<watch::Receiver<Obstacles>>,
        jobs: Option<Metrics>,
    ) {
        self.sources.send_modify(|sources| {
            sources.running = Some(running);
            sources.obstacles = obstacles;
            sources.jobs = jobs;
        });
    }

    /// NATS was reached.
    pub fn connected(&self, nats: Nats) {
        self.sources.send_modify(|sources| sources.nats = Some(nats));
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Sources {
    fn status(&self, shutdown: &Shutdown) -> NodeStatus {
        let phase = match (&self.running, shutdown.drain.is_cancelled(), shutdown.end.is_cancelled()) {
            (_, _, true) => LifePhase::Closing,
            (_, true, false) => LifePhase::Draining,
            (Some(_), false, false) => LifePhase::Running,
            (None, false, false) => LifePhase::Starting,
        };
        let obstacle = self.obstacles.as_ref().and_then(|obstacles| {
            let obstacles = obstacles.borrow();
            obstacles.first_key_value().map(|(obstacle, _)| obstacle.refusal())
        });
        let running = self.running.as_ref().map(|running| *running.borrow());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of jobs")]
        let count = |metrics: &Metrics| metrics.get(NodeGauge::JobsRunning) as usize;
        NodeStatus {
            phase,
            recordings: running.filter(|count| *count > 0 || self.obstacles.is_some()),
            jobs: self.jobs.as_ref().map(count),
            connected: self.nats.as_ref().is_some_and(Nats::is_connected),
            obstacle,
        }
    }

    /// Only later changes are news: a clone does not know what was seen before.
    fn mark_unchanged(&mut self) {
        if let Some(running) = &mut self.running {
            running.mark_unchanged();
        }
        if let Some(obstacles) = &mut self.obstacles {
            obstacles.mark_unchanged();
        }
    }

    /// Resolves when the number of recordings or the obstacles change.
    async fn changed(&mut self) {
        tokio::select! {
            () = change_of(self.running.as_mut()) => {}
            () = change_of(self.obstacles.as_mut()) => {}
        }
    }
}

/// Never resolves where there is nothing to watch, or nobody who changes it.
async fn change_of<T>(watched: Option<&mut watch::Receiver<T>>) {
    if let Some(watched) = watched
        && watched.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Sends a message at every change, and at least every [`INTERVAL`], by which it also learns of jobs.
async fn tell(path: OsString, mut changes: watch::Receiver<Sources>, shutdown: Shutdown) {
    let interval = sd_notify::watchdog_enabled().map_or(INTERVAL, |limit| INTERVAL.min(limit / 3));
    let mut report = ServiceReport::default();
    let mut throttle = LogThrottle::default();
    loop {
        let mut sources = changes.borrow_and_update().clone();
        sources.mark_unchanged();
        let message = report.message(&sources.status(&shutdown));
        if let Err(error) = send(&path, &message).await
            && throttle.due(Instant::now())
        {
            tracing::warn!(
                code = %codes::SERVICE_MANAGER_DEAF,
                socket = %path.to_string_lossy(), %error,
                "the service manager is not told how this node is, and may end it as hung: its socket does not take messages; \
                 is NOTIFY_SOCKET right?"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = sources.changed() => {}
            told = changes.changed() => if told.is_err() { return },
            () = shutdown.drain.cancelled(), if !shutdown.drain.is_cancelled() => {}
            () = shutdown.end.cancelled(), if !shutdown.end.is_cancelled() => {}
        }
    }
}

async fn send(path: &OsString, message: &str) -> std::io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let sent = tokio::time::timeout(SEND_LIMIT, socket.send_to(message.as_bytes(), path)).await;
    sent.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?.map(drop)
}
