//! The daemon under a soak: its lives, its directory, the processes of its recordings.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::disk::Disk;
use super::run::{Options, files};
use super::schedule::{Part, Place};
use crate::standin::Standin;
use crate::standin::child::Child;

pub const ID: &str = "soak";
/// Where a configuration says whether MP4s are encoded.
const CONVERT: &str = "@CONVERT@";
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Everything but the process itself.
#[derive(Clone, Debug)]
pub struct Places {
    root: PathBuf,
    pub main_path: PathBuf,
    pub temporary_dir: PathBuf,
    pub state_dir: PathBuf,
    /// Its `TMPDIR`.
    pub runtime_dir: PathBuf,
    pub log: PathBuf,
    /// Recordings are archived and published as HLS.
    pub publish: bool,
}

pub struct Node {
    pub places: Places,
    child: Child,
    binary: PathBuf,
    config: String,
    disks: [(Place, Arc<Mutex<Disk>>); 3],
    /// Last field: removed when nothing is mounted in it any more.
    _dir: TempDir,
}

impl Node {
    /// Its first life begins.
    pub fn start(standin: &Standin, options: &Options) -> anyhow::Result<Self> {
        let Options { binary, recordings, publish, .. } = options;
        let dir = tempfile::Builder::new().prefix("pnm-soak-").tempdir()?;
        let places = Places {
            root: dir.path().to_owned(),
            main_path: dir.path().join("recordings"),
            state_dir: dir.path().join("state"),
            temporary_dir: dir.path().join("temporary"),
            runtime_dir: dir.path().join("tmp"),
            log: dir.path().join("recorder.log"),
            publish: *publish,
        };
        fs::create_dir_all(&places.runtime_dir)?;
        // That of a file:// store is a mount point, which nobody makes.
        fs::create_dir_all(places.archive())?;
        let disk = |place, path: &Path| (place, Arc::new(Mutex::new(Disk::new(path, &dir.path().join("behind")))));
        let disks = [
            disk(Place::Temporary, &places.temporary_dir),
            disk(Place::Main, &places.main_path),
            disk(Place::State, &places.state_dir),
        ];
        let config = configuration(standin, &places, *recordings);
        let child = launch(&places, binary, &config, false)?;
        Ok(Self { places, child, binary: binary.clone(), config, disks, _dir: dir })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Held while it is broken.
    pub fn disk(&self, place: Place) -> &Arc<Mutex<Disk>> {
        let disk = self.disks.iter().find(|(of, _)| *of == place);
        &disk.expect("one for each place").1
    }

    /// `None` while it runs.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.ended()
    }

    /// SIGKILL; it has ended when this returns.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().map(drop)
    }

    /// SIGTERM, and waits for its end. `None`: it took too long and was killed.
    pub async fn end(&mut self, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        self.child.signal(Signal::TERM);
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(status) = self.child.ended()? {
                return Ok(Some(status));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.kill()?;
        Ok(None)
    }

    /// Begins its next life, once it has ended.
    pub fn launch(&mut self, convert: bool) -> anyhow::Result<()> {
        if self.ended()?.is_none() {
            bail!("the recorder still runs");
        }
        self.child = launch(&self.places, &self.binary, &self.config, convert)?;
        Ok(())
    }

    /// The open rigs, in order of their directories.
    pub fn rigs(&self) -> Vec<Rig> {
        let mut rigs = BTreeMap::<String, Vec<Process>>::new();
        for process in children(self.pid()) {
            if let Some(rig) = process.rig.clone() {
                rigs.entry(rig).or_default().push(process);
            }
        }
        rigs.into_values().map(|processes| Rig { processes }).collect()
    }
}

/// The ffmpeg that makes an MP4 for the daemon with this pid.
pub fn transcoder(daemon: u32) -> Option<Process> {
    let makes = |process: &Process| process.rig.is_none() && process.command.contains(".mp4.");
    children(daemon).into_iter().find(|process| process.name == "ffmpeg" && makes(process))
}

fn children(of: u32) -> Vec<Process> {
    let is_child = |pid: &u32| stat(*pid).is_some_and(|(_, parent)| parent == of);
    pids().into_iter().filter(is_child).filter_map(process).collect()
}

impl Places {
    /// Where recordings are archived while they run.
    fn archive(&self) -> PathBuf {
        self.root.join("archive")
    }

    /// The recordings that are not over, as the archive says.
    pub fn archived(&self) -> Vec<PathBuf> {
        let rooms = files(&self.archive().join(".running").join(ID));
        rooms.iter().flat_map(|room| files(room)).collect()
    }

    /// Where recordings are published.
    pub fn hls(&self) -> PathBuf {
        self.main_path.join(ID).join("hls")
    }

    /// What names this directory on its command line or in its environment, and is no zombie.
    pub fn processes(&self) -> Vec<String> {
        let root = self.root.display().to_string();
        let ours = |process: &Process| process.command.contains(&root) || read(process.pid, "environ").contains(&root);
        let shown = |process: Process| {
            format!("{} {}: {}", process.pid, process.name, process.command.chars().take(120).collect::<String>())
        };
        processes().into_iter().filter(ours).map(shown).collect()
    }
}

/// The processes of one recording's capture.
pub struct Rig {
    processes: Vec<Process>,
}

impl Rig {
    /// Which recording, once its ffmpeg runs.
    pub fn recording(&self) -> Option<String> {
        let ffmpeg = self.part(Part::Ffmpeg)?;
        let (before, _) = ffmpeg.command.rsplit_once("_raw.part")?;
        before.rsplit_once('/').map(|(_, id)| id.to_owned())
    }

    pub fn part(&self, part: Part) -> Option<&Process> {
        let is = |name: &str| match part {
            Part::Ffmpeg => name == "ffmpeg",
            Part::Xvfb => name == "Xvfb",
            Part::PulseAudio => name == "pulseaudio",
            Part::Chrome => name.starts_with("chrom"),
        };
        self.processes.iter().find(|process| is(&process.name))
    }

    /// What paints its page.
    pub fn renderers(&self) -> Vec<Process> {
        let Some(chrome) = self.part(Part::Chrome) else { return Vec::new() };
        let all = processes();
        let mut family = vec![chrome.pid];
        let mut next = 0;
        while let Some(parent) = family.get(next).copied() {
            family.extend(all.iter().filter(|process| process.parent == parent).map(|process| process.pid));
            next += 1;
        }
        let paints = |process: &Process| process.command.contains("--type=renderer");
        all.into_iter().filter(|process| family.contains(&process.pid) && paints(process)).collect()
    }
}

#[derive(Clone, Debug)]
pub struct Process {
    pid: u32,
    parent: u32,
    /// `comm`
    name: String,
    /// Its arguments with spaces between them.
    command: String,
    /// The directory of the rig that it belongs to.
    rig: Option<String>,
}

impl Process {
    /// False where it has ended.
    pub fn signal(&self, signal: Signal) -> bool {
        let pid = Pid::from_raw(self.pid.cast_signed());
        let Some(handle) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return false };
        // The number may be another's by now; from here on the handle is this one's.
        let same = process(self.pid).is_some_and(|now| now.parent == self.parent && now.command == self.command);
        same && pidfd_send_signal(handle, signal).is_ok()
    }
}

fn processes() -> Vec<Process> {
    pids().into_iter().filter_map(process).collect()
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// `None` if it has ended; also a zombie is no process any more.
pub fn process(pid: u32) -> Option<Process> {
    let (name, parent) = stat(pid)?;
    let environment = read(pid, "environ");
    let rig = environment.split('\0').find_map(|variable| variable.strip_prefix("PNM_RIG="));
    let command = read(pid, "cmdline").replace('\0', " ");
    Some(Process { pid, parent, name, command, rig: rig.map(str::to_owned) })
}

/// Name and parent of one that has not ended.
fn stat(pid: u32) -> Option<(String, u32)> {
    let stat = read(pid, "stat");
    // `pid (name) state parent …`, and the name may hold anything: proc(5).
    let (name, fields) = stat.split_once('(')?.1.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let parent = fields.next().filter(|state| *state != "Z").and_then(|_| fields.next())?;
    Some((name.to_owned(), parent.parse().ok()?))
}

fn read(pid: u32, file: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()).into_owned()
}

fn launch(places: &Places, binary: &Path, config: &str, convert: bool) -> anyhow::Result<Child> {
    let file = places.root.join("config.yaml");
    fs::write(&file, config.replace(CONVERT, if convert { "true" } else { "false" }))?;
    // A panic would be told here.
    let output = OpenOptions::new().create(true).append(true).open(places.root.join("output"))?;
    let errors = output.try_clone()?;
    Child::spawn("the recorder", binary.to_str().context("its path is no text")?, |command| {
        command.arg("--config").arg(&file).current_dir(&places.root).env("TMPDIR", &places.runtime_dir);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
    })
}

fn configuration(standin: &Standin, places: &Places, recordings: usize) -> String {
    let deployment = &standin.deployment;
    let archive = places.archive();
    let publish = format!(
        "storage:\n  archive: \"file://{}\"\nhls:\n  live: true\n  renditions: [{{height: 720}}, {{height: 180}}]\n",
        archive.display()
    );
    format!(
        r#"recorder:
  id: {ID}
  mode: both
  # One that no answer reached the server of is on top, until its room has ended.
  max_limit: {most}
  transcoding_cpu_limit_both_mode: 0
  cpu_overload_limit: 0
  min_free_space: 0
  self_test: false
  drain_timeout: 2s
  post_mp4_convert: {CONVERT}
  temporary_dir: "{temporary}"
  state_dir: "{state}"
  copy_to_path:
    main_path: "{main}"
    sub_path: "{ID}"
ffmpeg_settings:
  # From some seconds on.
  early_mp4_from_mb: 1
log_settings:
  log_file: "{log}"
  log_output: file
  log_format: json
  log_level: debug
  maxsize: 4000
plugNmeet_info:
  host: "{host}"
  api_key: "{key}"
  api_secret: "{secret}"
nats_info:
  nats_urls:
    - "{nats}"
  recorder:
    recorder_channel: "{channel}"
    recorder_info_kv: "{bucket}"
    transcoding_jobs_subject: "{jobs}"
admin:
  listen: ""
{publish}"#,
        most = recordings + 4,
        temporary = places.temporary_dir.display(),
        state = places.state_dir.display(),
        main = places.main_path.display(),
        log = places.log.display(),
        host = standin.host(),
        key = deployment.api_key,
        secret = deployment.api_secret,
        nats = standin.nats_url(),
        channel = deployment.channel,
        bucket = deployment.bucket,
        jobs = deployment.jobs,
        publish = if places.publish { publish.as_str() } else { "" },
    )
}
