//! What the simulation costs: processor time of this process without the threads that stand in for the server, and of
//! the nats-server (proc(5)).

use std::fs;
use std::path::Path;
use std::time::Duration;

/// The names of the threads that are no node's.
pub const SERVER_THREADS: [&str; 2] = ["standin", "sim-server"];
/// Clock ticks a second, on every Linux.
const TICKS: f64 = 100.0;

/// Processor time since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    pub nodes: Duration,
    pub nats_server: Duration,
}

impl CpuTime {
    pub fn now() -> Self {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let server: Duration = tasks
            .filter(|task| {
                let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                SERVER_THREADS.contains(&name.trim())
            })
            .map(|task| cpu(&task.path()).1)
            .sum();
        // What has ended counts for the process.
        let own = cpu(Path::new("/proc/self")).1;
        let me = std::process::id();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let nats_server = processes
            .filter(|process| {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                name.trim() == "nats-server" && cpu(&process.path()).0 == me
            })
            .map(|process| cpu(&process.path()).1)
            .sum();
        Self { nodes: own.saturating_sub(server), nats_server }
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            nodes: self.nodes.saturating_sub(before.nodes),
            nats_server: self.nats_server.saturating_sub(before.nats_server),
        }
    }
}

/// The parent and the processor time of a process or thread, by its `stat`.
#[expect(clippy::cast_precision_loss, reason = "ticks of some minutes")]
fn cpu(dir: &Path) -> (u32, Duration) {
    let stat = fs::read_to_string(dir.join("stat")).unwrap_or_default();
    // `pid (name) state parent …`, and the name may hold anything. `utime` and `stime` are the fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let ticks = number(14) + number(15);
    (u32::try_from(number(4)).unwrap_or(0), Duration::from_secs_f64(ticks as f64 / TICKS))
}
