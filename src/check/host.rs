//! What this host or container allows, and whether its first process waits for orphans.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::check::command::text_of;
use crate::check::limits;
use crate::check::report::Finding;
use crate::config::Config;
use crate::process::cgroup::Cgroups;
use crate::process::cgroup_files;
use crate::process::procfs::Process;

/// Shared memory of Chrome.
const SHARED_MEMORY: &str = "/dev/shm";
/// How long an orphan that has ended may be a zombie.
const REAP_LIMIT: Duration = Duration::from_secs(3);
const REAP_POLL: Duration = Duration::from_millis(50);
const SHELL_LIMIT: Duration = Duration::from_secs(5);

/// The limits that recordings meet.
pub fn limits(config: &Config) -> Vec<Finding> {
    let max_limit = config.recorder.max_limit;
    let shared = match rustix::fs::statvfs(SHARED_MEMORY) {
        Ok(space) => {
            limits::shared_memory((space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize), max_limit)
        }
        Err(error) => Finding::fault("/dev/shm", format!("{error}: mount a tmpfs there, Chrome needs it")),
    };
    let files = limits::finite(getrlimit(Resource::Nofile).current);
    let mut tasks: Vec<(String, u64)> = pids_limits();
    tasks.extend(limits::finite(getrlimit(Resource::Nproc).current).map(|limit| ("ulimit -u".to_owned(), limit)));
    let groups = Cgroups::of_this_process();
    let memory = groups.memory().into_iter().min_by_key(|memory| memory.limit);
    let memory = match memory {
        Some(memory) => limits::memory(&memory.name, memory.limit, max_limit),
        None => Finding::skipped("memory", "/proc/meminfo cannot be read"),
    };
    #[expect(clippy::cast_precision_loss, reason = "no host has 2^52 processors")]
    let host_cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    let cores = groups.cpu_quota().map_or(host_cores, |quota| quota.min(host_cores));
    vec![
        shared,
        limits::open_files(files, max_limit),
        limits::processes(&tasks, max_limit),
        memory,
        limits::processors(cores, max_limit),
    ]
}

/// `pids.max` of this process's control groups.
fn pids_limits() -> Vec<(String, u64)> {
    let read = |name: &str| std::fs::read_to_string(Path::new("/proc/self").join(name)).unwrap_or_default();
    let groups = cgroup_files::controller_dirs(&read("cgroup"), &read("mountinfo"), "pids");
    let limit = |dir: &std::path::PathBuf| {
        let file = dir.join("pids.max");
        let limit = cgroup_files::byte_limit(&std::fs::read_to_string(&file).ok()?)?;
        Some((file.display().to_string(), limit))
    };
    groups.dirs.iter().filter_map(limit).collect()
}

/// Whether orphans are waited for. Each Chrome leaves some, and where nobody waits for them they fill the process table.
pub async fn process_1() -> Finding {
    let name = std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
    let name = name.trim();
    match orphan_is_reaped().await {
        Ok(true) => Finding::ok("process 1", format!("{name} waits for orphans")),
        Ok(false) => Finding::fault(
            "process 1",
            format!(
                "{name} does not wait for orphans, so that each recording leaves zombies: run the container with an init \
                 (docker run --init), or the recorder itself as its process 1"
            ),
        ),
        Err(why) => Finding::skipped("process 1", why),
    }
}

async fn orphan_is_reaped() -> Result<bool, String> {
    // The shell ends, and with it its process group is killed: the other process is an orphan by then.
    let told = text_of(Path::new("/bin/sh"), &["-c", "sleep 60 >/dev/null 2>&1 & echo $!"], SHELL_LIMIT).await?;
    let orphan: u32 = told.trim().parse().map_err(|_| "the shell does not tell its child".to_owned())?;
    let started = Process::read(orphan).map(|process| process.started);
    let gone = async {
        // Another process may get its number.
        while started.is_some() && Process::read(orphan).map(|process| process.started) == started {
            tokio::time::sleep(REAP_POLL).await;
        }
    };
    Ok(tokio::time::timeout(REAP_LIMIT, gone).await.is_ok())
}
