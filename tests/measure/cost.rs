//! The processor time of the daemon and of everything it has started, read from `/proc`.

use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// `USER_HZ`: what `/proc` counts in, on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// One process, told from a later one with the same id by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessId {
    pub pid: u32,
    started: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    id: ProcessId,
    parent: u32,
    name: String,
    /// User and system time.
    ticks: u64,
}

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Grabbing, converting and encoding: the recorder itself, Xvfb, PulseAudio, ffmpeg.
    Capture,
    Browser,
}

/// Processor seconds since the meter was started.
#[derive(Debug, Clone, Default)]
pub struct Cost {
    pub capture: f64,
    pub browser: f64,
    /// Capture by name, the dearest first.
    pub parts: Vec<(String, f64)>,
}

/// Follows one process and its descendants.
pub struct Meter {
    root: u32,
    /// Ticks when the meter was started.
    before: HashMap<ProcessId, u64>,
    latest: HashMap<ProcessId, Entry>,
}

impl Meter {
    pub fn start(root: u32) -> Self {
        let latest = family(root);
        let before = latest.iter().map(|(id, entry)| (*id, entry.ticks)).collect();
        Self { root, before, latest }
    }

    /// Counts from now on; what has been seen stays known.
    pub fn restart(&mut self) {
        self.latest.extend(family(self.root));
        self.before = self.latest.iter().map(|(id, entry)| (*id, entry.ticks)).collect();
    }

    /// Looks again; what has ended since counts as it was last seen.
    pub fn read(&mut self) -> Cost {
        self.latest.extend(family(self.root));
        let mut cost = Cost::default();
        let mut parts = HashMap::<&str, f64>::new();
        for (id, entry) in &self.latest {
            let ticks = entry.ticks - self.before.get(id).copied().unwrap_or(0);
            let seconds = f64::from(u32::try_from(ticks).unwrap_or(u32::MAX)) / TICKS_PER_SECOND;
            match part(&entry.name) {
                Part::Capture => {
                    cost.capture += seconds;
                    *parts.entry(&entry.name).or_default() += seconds;
                }
                Part::Browser => cost.browser += seconds,
            }
        }
        cost.parts = parts.into_iter().map(|(name, seconds)| (name.to_owned(), seconds)).collect();
        cost.parts.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        cost
    }

    /// Kills everything that has been seen and still runs, and names it.
    pub fn kill_survivors(&self) -> Vec<String> {
        let now: HashMap<ProcessId, Entry> = processes().into_iter().map(|entry| (entry.id, entry)).collect();
        let alive = self.latest.keys().filter_map(|id| now.get(id));
        alive
            .map(|entry| {
                if let Some(pid) = i32::try_from(entry.id.pid).ok().and_then(Pid::from_raw) {
                    // It may have ended since.
                    let _ = kill_process(pid, Signal::KILL);
                }
                format!("{} ({})", entry.name, entry.id.pid)
            })
            .collect()
    }
}

/// The memory of a process that is in RAM, in bytes (`VmRSS`); 0 if it has ended.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|kib| kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn part(name: &str) -> Part {
    if name.contains("chrom") { Part::Browser } else { Part::Capture }
}

/// The process and all its descendants.
fn family(root: u32) -> HashMap<ProcessId, Entry> {
    let all = processes();
    let mut found: HashMap<ProcessId, Entry> = HashMap::new();
    let mut parents = vec![root];
    found.extend(all.iter().filter(|entry| entry.id.pid == root).map(|entry| (entry.id, entry.clone())));
    while let Some(parent) = parents.pop() {
        for entry in all.iter().filter(|entry| entry.parent == parent) {
            if found.insert(entry.id, entry.clone()).is_none() {
                parents.push(entry.id.pid);
            }
        }
    }
    found
}

fn processes() -> Vec<Entry> {
    let Ok(directory) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = directory.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(process).collect()
}

/// `None` if it has ended meanwhile; also a zombie is no process any more.
fn process(pid: u32) -> Option<Entry> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so it is taken from the outermost brackets: proc(5).
    let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    if fields[0] == "Z" {
        return None;
    }
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Entry {
        id: ProcessId { pid, started: number(22)? },
        parent: fields.get(1)?.parse().ok()?,
        name: name.to_owned(),
        ticks: number(14)? + number(15)?,
    })
}
