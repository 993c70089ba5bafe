//! Gathers what became of the recordings of a soak: notices, the daemon's log, what is left on disk and running.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use serde_json::Value;

use super::ledger::{Evidence, Film, Recording, Told};
use super::node::Places;
use super::run::{Entry, LOOK_EVERY, Soak, files};
use crate::measure;

/// Chrome's last processes notice that it is gone.
const GONE_LIMIT: Duration = Duration::from_secs(30);

impl Soak {
    /// Everything that is known once the daemon has ended.
    pub(super) async fn gather(&self, places: &Places, seed: u64) -> anyhow::Result<Evidence> {
        let until = Instant::now() + GONE_LIMIT;
        let mut processes = places.processes();
        while !processes.is_empty() && Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
            processes = places.processes();
        }
        let (mut evidence, lines) = (Evidence { seed, processes, ..Evidence::default() }, Lines::read(&places.log)?);
        let mut left = everything_left(places);
        let queue = self.standin.fleet.queue().await?;
        let book = self.book.lock().unwrap();
        for entry in &book.takes {
            evidence.recordings.push(self.recording(entry, &lines, places, &mut left));
        }
        evidence.kills.clone_from(&book.kills);
        evidence.terms.clone_from(&book.terms);
        evidence.full.clone_from(&book.full);
        evidence.unwritten.clone_from(&book.unwritten);
        evidence.memory.clone_from(&book.memory);
        evidence.faults = book.faults.iter().map(|(fault, times)| (fault.clone(), *times)).collect();
        evidence.loose.clone_from(&book.wrong);
        evidence.loose.extend(left.into_iter().map(|path| path.display().to_string()));
        evidence.loose.extend(lines.panics);
        evidence.loose.extend(self.standin.violations());
        evidence.loose.extend(self.standin.notices.refused().into_iter().map(|refused| format!("{refused:?}")));
        if queue.messages > 0 {
            evidence.loose.push(format!("in the work queue: {queue:?}"));
        }
        Ok(evidence)
    }

    /// Takes what is its own out of `left`.
    fn recording(&self, entry: &Entry, lines: &Lines, places: &Places, left: &mut Vec<PathBuf>) -> Recording {
        let notices = self.standin.notices.of(&entry.id);
        let mp4 = notices.iter().find(|notice| notice.task() == RecordingTasks::RecordingProceeded);
        let mp4 = mp4.map(|notice| places.main_path.join(&notice.message.file_path));
        let told = notices.iter().map(|notice| Told {
            at: self.at(notice.at),
            task: notice.task(),
            ok: notice.message.status,
            msg: notice.message.msg.clone(),
        });
        let mut its = Vec::new();
        let own = format!("/{}/", entry.room.id);
        left.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // Behind an id comes `.`, `_` or the end: not one of `soak-1-10` for `soak-1-1`.
            let named = name.trim_start_matches('.').strip_prefix(&entry.id);
            let is = named.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
                || path.to_str().is_some_and(|path| path.contains(&own));
            if is && mp4.as_ref() != Some(path) {
                its.push(path.display().to_string());
            }
            !is
        });
        if let Some(mp4) = mp4.as_ref().filter(|_| places.publish) {
            let room = mp4.parent().and_then(Path::file_name).unwrap_or_default();
            its.extend(hls_faults(&places.hls().join(room).join(&entry.id)));
        }
        let seconds = |times: &BTreeMap<String, Vec<SystemTime>>| -> Vec<f64> {
            let times = times.get(&entry.id).into_iter().flatten();
            times.map(|time| time.duration_since(self.began.1).unwrap_or_default().as_secs_f64()).collect()
        };
        Recording {
            id: entry.id.clone(),
            asked_at: entry.asked_at,
            answer: entry.answer.clone(),
            stopped_at: entry.stopped_at,
            flows: seconds(&lines.flows),
            breaks: seconds(&lines.breaks).into_iter().chain(entry.struck.iter().copied()).collect(),
            told: told.collect(),
            film: mp4.map(|path| film(&path).map_err(|error| format!("{error:#}"))),
            left: its,
        }
    }
}

/// What is wrong with the HLS in this directory.
fn hls_faults(dir: &Path) -> Vec<String> {
    let texts: Vec<(PathBuf, String)> = files(dir)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "m3u8"))
        .filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)))
        .collect();
    let mut faults = Vec::new();
    if !texts.iter().any(|(path, _)| path.ends_with("master.m3u8")) {
        faults.push(format!("no master playlist in {}", dir.display()));
    }
    for (path, text) in texts.iter().filter(|(path, _)| !path.ends_with("master.m3u8")) {
        if !text.ends_with("#EXT-X-ENDLIST\n") {
            faults.push(format!("{} without an end", path.display()));
        }
        let named = text.lines().filter(|line| !line.starts_with('#'));
        faults.extend(
            named.filter(|name| !dir.join(name).is_file()).map(|name| format!("{} without {name}", path.display())),
        );
    }
    if dir.join("live.json").exists() {
        faults.push(format!("{} with a note that it is not seen to", dir.display()));
    }
    faults
}

fn film(path: &Path) -> anyhow::Result<Film> {
    Ok(Film { complaints: measure::decode(path)?, seconds: measure::probe(path)?.duration })
}

/// What the log says of each recording.
#[derive(Default)]
struct Lines {
    flows: BTreeMap<String, Vec<SystemTime>>,
    breaks: BTreeMap<String, Vec<SystemTime>>,
    panics: Vec<String>,
}

impl Lines {
    fn read(log: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
        let mut lines = Self::default();
        for line in text.lines() {
            // A kill may cut the last line of a life.
            let Ok(Value::Object(line)) = serde_json::from_str(line) else { continue };
            let get = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
            let message = get("message");
            if message.contains("panicked") || message.contains("internal error") {
                lines.panics.push(format!("{} {message}", get("timestamp")));
            }
            let times = match message {
                "media flows" => &mut lines.flows,
                message if message.starts_with("the capture broke off") => &mut lines.breaks,
                message if message.starts_with("the meeting is over") => &mut lines.breaks,
                _ => continue,
            };
            let time = humantime::parse_rfc3339(get("timestamp")).context("a line of the log has no time")?;
            times.entry(get("recording_id").to_owned()).or_default().push(time);
        }
        Ok(lines)
    }
}

/// Every file that the daemon's directories hold, but for what it keeps: summaries, the outbox's memory, and by what it
/// knows `main_path`.
fn everything_left(places: &Places) -> Vec<PathBuf> {
    let mut kept: Vec<_> =
        ["summaries", "outbox", "lock", "main_path.json"].map(|name| places.state_dir.join(name)).into();
    kept.push(places.main_path.join(".plugnmeet-recorder"));
    let mut left = places.archived();
    if places.publish {
        // What is in it is looked at beside its MP4.
        kept.push(places.hls());
        let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        left.extend(files(&places.hls()).iter().flat_map(|room| files(room)).filter(hidden));
    }
    let mut dirs = vec![places.main_path.clone(), places.temporary_dir.clone()];
    while let Some(dir) = dirs.pop() {
        for path in files(&dir) {
            if kept.contains(&path) {
                continue;
            }
            if path.is_dir() { dirs.push(path) } else { left.push(path) }
        }
    }
    // Here not even an empty directory may stay.
    left.extend(files(&places.runtime_dir));
    left
}
