//! The real program, as an operator runs it: a configuration file, a process, a log, a signal at the end.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use plugnmeet_recorder::capture::rig_directory;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::rig;
use crate::standin::Standin;
use crate::standin::child::Child;

/// The longest anything of a recording may take here; these machines are shared.
pub const SOON: Duration = Duration::from_secs(60);

/// Two Chromes fill a small machine: the tests that start any take turns.
const CHROMES: u32 = 2;
static TURNS: Semaphore = Semaphore::const_new(CHROMES as usize);

/// For a test with one Chrome, most of whose time is waiting: another one may run beside it.
pub async fn turn() -> SemaphorePermit<'static> {
    TURNS.acquire().await.unwrap()
}

/// For a test that measures what is captured, that has several Chromes, or that ends whatever Chrome it finds.
pub async fn alone() -> SemaphorePermit<'static> {
    TURNS.acquire_many(CHROMES).await.unwrap()
}

/// What differs from one test's configuration to the next.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Lines of the `recorder` section, each with two spaces before it.
    pub recorder: String,
    /// Lines of the `plugNmeet_info` section, each with two spaces before it.
    pub server: String,
    /// `plugNmeet_info.host`, instead of the stand-in's.
    pub host: Option<String>,
    /// Further sections.
    pub sections: String,
    /// Instead of the stand-in's.
    pub nats_url: Option<String>,
    /// Instead of the test's.
    pub path: Option<String>,
    /// Added to the environment.
    pub env: Vec<(&'static str, String)>,
    pub main_path: Option<PathBuf>,
    pub mode: Option<&'static str>,
    /// `temporary_dir` is a disk of its own, of so many MiB, that only the recorder sees (see [`Recorder::inside`]).
    pub small_disk: Option<u32>,
    /// `$STATE_DIRECTORY`, by which `state_dir` is found, and which is not set then.
    pub state_directory: Option<PathBuf>,
    /// A file that says how far the recorder's wall clock is from the true one, in seconds (`+3600`), and may be changed.
    pub clock: Option<PathBuf>,
}

/// A running recorder and everything it may write to.
pub struct Recorder {
    pub id: String,
    /// `recorder.copy_to_path.main_path`
    pub main_path: PathBuf,
    /// `recorder.temporary_dir`
    pub temporary_dir: PathBuf,
    child: Child,
    dir: Place,
    setup: Setup,
}

/// Where a recorder and all that it starts have their files.
struct Place(TempDir);

impl Place {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Place {
    /// Where a test fails, the recorder is killed, and what it had started still writes for a moment.
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let left = pids_of(self.path());
            for pid in &left {
                let _ = kill_process(*pid, Signal::KILL);
            }
            if left.is_empty() || Instant::now() > end {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Recorder {
    /// Starts it, without waiting for anything.
    pub fn spawn(standin: &Standin, id: &str, setup: &Setup) -> Self {
        let dir = Place(tempfile::Builder::new().prefix("pnm-test-").tempdir().unwrap());
        let main_path = setup.main_path.clone().unwrap_or_else(|| dir.path().join("recordings"));
        let temporary_dir = dir.path().join("temporary");
        for made in ["tmp", "temporary"] {
            std::fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        let config = dir.path().join("config.yaml");
        let deployment = &standin.deployment;
        // A default would be the host's own.
        let default = setup.state_directory.is_some() || setup.recorder.contains("state_dir:");
        let state = format!("  state_dir: {}/.state-{id}\n", temporary_dir.display());
        // No limit on the processors: the machine that runs the tests may be busy with others.
        let text = format!(
            "recorder:\n  id: {id}\n  mode: {mode}\n  transcoding_cpu_limit_both_mode: 0\n  cpu_overload_limit: 0\n{space}{state}{self_test}  temporary_dir: {temporary}\n  copy_to_path:\n    main_path: {main}\n    \
             sub_path: {id}\n{recorder}log_settings:\n  log_file: {log}\n  log_level: debug\nplugNmeet_info:\n  host: {host}\n  \
             api_key: {key}\n  api_secret: {secret}\n{server}nats_info:\n  nats_urls:\n    - {nats}\n  recorder:\n    \
             recorder_channel: {channel}\n    recorder_info_kv: {bucket}\n    transcoding_jobs_subject: {jobs}\n{admin}{sections}",
            mode = setup.mode.unwrap_or("both"),
            // Nor a reserve on its disk, nor a Chrome before the test's own.
            space = if setup.recorder.contains("min_free_space") { "" } else { "  min_free_space: 0\n" },
            state = if default { String::new() } else { state },
            self_test = if setup.recorder.contains("self_test") { "" } else { "  self_test: false\n" },
            temporary = temporary_dir.display(),
            main = main_path.display(),
            recorder = setup.recorder,
            log = dir.path().join("logs/recorder.log").display(),
            host = setup.host.clone().unwrap_or_else(|| standin.host()),
            server = setup.server,
            key = deployment.api_key,
            secret = deployment.api_secret,
            nats = setup.nats_url.clone().unwrap_or_else(|| standin.nats_urls().join("\n    - ")),
            channel = deployment.channel,
            bucket = deployment.bucket,
            jobs = deployment.jobs,
            // Two nodes of one test, and two tests, would want the same port.
            admin = if setup.sections.contains("admin:") { "" } else { "admin:\n  listen: \"\"\n" },
            sections = setup.sections,
        );
        std::fs::write(&config, text).unwrap();
        let child = launch(dir.path(), setup);
        Self { id: id.to_owned(), main_path, temporary_dir, child, dir, setup: setup.clone() }
    }

    /// SIGKILL; it has ended when this returns. What it leaves behind stays, files and processes.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Starts it once more with the same configuration and directories, without waiting for anything. The log goes on
    /// where it was.
    pub fn restart(&mut self) {
        assert!(self.child.ended().unwrap().is_some(), "it still runs:\n{}", self.log());
        self.child = launch(self.dir.path(), &self.setup);
    }

    /// Starts it and waits until the server would choose it.
    pub async fn start(standin: &Standin, id: &str, setup: &Setup) -> Self {
        let recorder = Self::spawn(standin, id, setup);
        if let Err(error) = standin.fleet.wait_selectable(id, SOON).await {
            panic!("{error:#}\n{}", recorder.log());
        }
        recorder
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// A path as the recorder itself sees it, who may have a disk that nobody else has.
    pub fn inside(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid())).join(path.strip_prefix("/").unwrap())
    }

    /// What `recorder.state_dir` is unless the test sets another one.
    pub fn state_dir(&self) -> PathBuf {
        self.temporary_dir.join(format!(".state-{}", self.id))
    }

    /// Its configuration, for an operator's command.
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("config.yaml")
    }

    /// Its `TMPDIR`, where its rigs have their directories.
    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.path().join("tmp")
    }

    pub fn log_dir(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    /// The log file, with what went to the console before there was one.
    pub fn log(&self) -> String {
        let read = |path: &str| std::fs::read_to_string(self.dir.path().join(path)).unwrap_or_default();
        let log = read("logs/recorder.log");
        if log.is_empty() { read("output") } else { log }
    }

    /// Waits until the log says this.
    pub async fn wait_for_log(&self, text: &str) {
        let end = Instant::now() + SOON;
        while !self.log().contains(text) {
            assert!(Instant::now() < end, "the log never says {text:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until media has begun to flow so many times, in all its runs.
    pub async fn wait_for_started(&self, times: usize) {
        self.wait_until("media flows", || self.log().matches("media flows").count() >= times).await;
    }

    /// Waits until the server would not choose it any more.
    pub async fn wait_until_gone_from_choice(&self, standin: &Standin) {
        let end = Instant::now() + SOON;
        while standin.fleet.select().await.unwrap().as_deref() == Some(self.id.as_str()) {
            assert!(Instant::now() < end, "it is still chosen:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until something is so.
    pub async fn wait_until(&self, what: &str, so: impl Fn() -> bool) {
        let end = Instant::now() + SOON;
        while !so() {
            assert!(Instant::now() < end, "never: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for it to end by itself.
    pub async fn wait_for_end(&mut self) -> ExitStatus {
        let end = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.ended().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The daemon's own children of this name.
    pub fn children(&self, name: &str) -> Vec<u32> {
        let is = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
        parents().into_iter().filter(|(_, parent)| *parent == self.pid()).map(|(pid, _)| pid).filter(is).collect()
    }

    /// Closes Chrome's window in the one recording that runs.
    pub fn close_window(&self) {
        rig::close_window(&rig_directory::name(&self.state_dir()));
    }

    /// Kills the process that paints the meeting page of the one recording that runs.
    pub fn crash_page(&self) {
        let mut killed = 0;
        for pid in descendants(self.pid()) {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains("--type=renderer") {
                kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
                killed += 1;
            }
        }
        assert!(killed > 0, "no page runs:\n{}", self.log());
    }

    /// SIGTERM; it must end well, leave no process, no runtime directory and no secret in its log. The log is returned.
    pub fn stop(self, secrets: &[&str]) -> String {
        let state_dir = self.state_dir();
        let Self { mut child, dir, temporary_dir, .. } = self;
        let log_file = dir.path().join("logs/recorder.log");
        let status = child.stop(SOON).unwrap();
        let log = std::fs::read_to_string(&log_file).unwrap_or_default();
        assert!(status.success(), "on SIGTERM it ended with {status}:\n{log}");
        let left = processes_of(dir.path());
        assert!(left.is_empty(), "left running: {left:?}\n{log}");
        let files = |dir: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        assert_eq!(files(&dir.path().join("tmp")), [] as [PathBuf; 0], "runtime files left behind:\n{log}");
        let mut temporary = files(&temporary_dir);
        temporary.retain(|path| *path != state_dir);
        assert_eq!(temporary, [] as [PathBuf; 0], "temporary files left behind:\n{log}");
        let output = std::fs::read_to_string(dir.path().join("output")).unwrap_or_default();
        for secret in secrets {
            assert!(!log.contains(secret) && !output.contains(secret), "a secret is in the log: {secret}\n{log}");
        }
        log
    }
}

/// Puts a small disk where `$1` is, and becomes the program behind.
const ON_SMALL_DISK: &str = r#"mount -t tmpfs -o "size=$2m" small "$1" && shift 2 && exec "$@""#;

fn launch(dir: &Path, setup: &Setup) -> Child {
    let output = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("output")).unwrap();
    let binary = env!("CARGO_BIN_EXE_plugnmeet-recorder");
    let program = if setup.small_disk.is_some() { "unshare" } else { binary };
    Child::spawn("the recorder", program, |command| {
        if let Some(size) = setup.small_disk {
            // Whoever is not root is so in a namespace of his own.
            let root = rustix::process::geteuid().is_root();
            command.args([if root { "-m" } else { "-rm" }, "--", "sh", "-c", ON_SMALL_DISK, "sh"]);
            command.arg(dir.join("temporary")).arg(size.to_string()).arg(binary);
        }
        command.arg("--config").arg(dir.join("config.yaml")).current_dir(dir).env("TMPDIR", dir.join("tmp"));
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        command.env_remove("STATE_DIRECTORY").envs(setup.state_directory.iter().map(|dir| ("STATE_DIRECTORY", dir)));
        if let Some(clock) = &setup.clock {
            command
                .env("LD_PRELOAD", libfaketime())
                .env("FAKETIME_TIMESTAMP_FILE", clock)
                .env("FAKETIME_NO_CACHE", "1");
            // The wall clock alone, and not what files bear.
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
        }
        command.envs(setup.env.iter().cloned());
        if let Some(path) = &setup.path {
            // setpriv, which starts it, must still be found.
            command.env("PATH", path);
        }
    })
    .unwrap()
}

/// Debian's package `faketime` has it, in the directory of the machine's architecture.
fn libfaketime() -> PathBuf {
    let dirs = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut libraries = dirs.map(|dir| dir.path().join("faketime/libfaketime.so.1"));
    libraries.find(|library| library.exists()).expect("tools/install-deps installs faketime")
}

/// Every process and its parent.
fn parents() -> Vec<(u32, u32)> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    // `pid (name) state parent …`, and the name may hold anything.
    let parse = |stat: String| {
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        Some((stat.split(' ').next()?.parse().ok()?, parent))
    };
    stats.filter_map(parse).collect()
}

/// Every process that this one has started, directly or not.
pub fn descendants(of: u32) -> Vec<u32> {
    let parents = parents();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// All processes that name a path of this test.
fn pids_of(dir: &Path) -> Vec<Pid> {
    let dir = dir.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let names_it = |process: &std::fs::DirEntry| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(dir)
    };
    let processes = processes.filter(names_it);
    processes.filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?)).collect()
}

/// Command lines of all processes that name a path of this test.
pub fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(dir))
        .collect()
}

/// Every command line of the machine, for the check that none holds a secret.
pub fn command_lines() -> String {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned() + "\n").collect()
}
