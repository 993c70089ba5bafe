//! What recordings leave in `main_path` where a reference transcoder did their job: it removes the raw file, and does not know
//! of the summary beside it; and it writes into a room's directory that it does not make (PROTOCOL 6), which is made for it.
//! Both are looked after for as long as this node remembers a recording, by the summary that it keeps of each.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::config::RecorderConfig;
use crate::protocol::ids::{RecordingId, RoomId};
use crate::recording::raw_file::RawFile;
use crate::recording::summary::SummaryStore;
use crate::storage::files::{self, on_disk};

const EVERY: Duration = Duration::from_secs(10 * 60);
/// A summary is at least so old when it goes: its raw file may only be on its way between two directories.
const SUMMARY_STAYS: Duration = Duration::from_secs(10 * 60);
/// An empty directory is at least so old when it goes: another node may have asked for it too, and asks again every 10 min.
const EMPTY_STAYS: Duration = Duration::from_secs(60 * 60);

/// Looks after what recordings of this node have left.
#[derive(Clone, Debug)]
pub struct ReferenceFiles {
    recorder: RecorderConfig,
}

/// What is read of a kept summary.
#[derive(Deserialize)]
struct KeptSummary {
    kind: String,
    recording_id: String,
    room_id: String,
}

impl ReferenceFiles {
    #[must_use]
    pub fn new(recorder: &RecorderConfig) -> Self {
        Self { recorder: recorder.clone() }
    }

    /// At once, and then every 10 min until `end`.
    pub async fn watch(self, end: CancellationToken) {
        loop {
            let traces = self.clone();
            let looked = on_disk(move || traces.look(SystemTime::now()));
            match end.run_until_cancelled(looked).await {
                None => return,
                Some(Err(error)) => {
                    tracing::warn!(%error, "what recordings have left beside their raw files is not looked after");
                }
                Some(Ok(())) => {}
            }
            if end.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// Goes through all summaries once.
    ///
    /// # Errors
    /// Where they cannot be listed.
    pub fn look(&self, now: SystemTime) -> io::Result<()> {
        let (mut awaited, mut gone) = (Vec::new(), Vec::new());
        for (_, path) in files::records(&SummaryStore::new(&self.recorder.state_dir).dir())? {
            let kept = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<KeptSummary>(&bytes).ok());
            let Some(raw) = kept.and_then(|kept| self.raw_file(&kept)) else { continue };
            match std::fs::symlink_metadata(raw.dir.join(raw.name.as_str())) {
                Ok(_) => {
                    raw.make_reference_dirs();
                    awaited.extend(raw.reference_dirs().to_vec());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => gone.push(raw),
                // A share that is away says nothing of what is there.
                Err(_) => {}
            }
        }
        for raw in &gone {
            clear(raw, &awaited, now);
        }
        Ok(())
    }

    fn raw_file(&self, kept: &KeptSummary) -> Option<RawFile> {
        if kept.kind != "recording" {
            return None;
        }
        let (recording, room) = (RecordingId::parse(&kept.recording_id).ok()?, RoomId::parse(&kept.room_id).ok()?);
        let RecorderConfig { temporary_dir, main_path, sub_path, reference_sub_paths, .. } = &self.recorder;
        let raw = RawFile::new(temporary_dir, main_path, sub_path, &recording, &room).ok()?;
        Some(raw.for_references(main_path, reference_sub_paths))
    }
}

/// Removes what the recording has left: its raw file is gone. `awaited`: what others of the room still need.
fn clear(raw: &RawFile, awaited: &[PathBuf], now: SystemTime) {
    if let Some(summary) = raw.summary().filter(|summary| is_old(summary, SUMMARY_STAYS, now)) {
        match std::fs::remove_file(&summary) {
            Ok(()) => tracing::debug!(summary = %summary.display(), "removed: its raw file is gone"),
            Err(error) => {
                tracing::warn!(summary = %summary.display(), %error, "the raw file is gone, but the summary beside it cannot be removed");
            }
        }
    }
    for dir in raw.reference_dirs().iter().filter(|dir| !awaited.contains(*dir) && is_old(dir, EMPTY_STAYS, now)) {
        // One that is not empty stays: it has the results.
        if std::fs::remove_dir(dir).is_ok() {
            tracing::debug!(dir = %dir.display(), "removed: nobody has written into it");
        }
    }
}

fn is_old(path: &Path, limit: Duration, now: SystemTime) -> bool {
    let modified = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| now.duration_since(modified).unwrap_or_default() >= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A node that records into `dir/main/node_01`, and remembers the recordings `rec-1` and `rec-2` of room `room01`.
    fn node(dir: &Path) -> ReferenceFiles {
        let text = format!(
            "recorder:\n  id: node_01\n  state_dir: {0}/state\n  copy_to_path:\n    main_path: {0}/main\n    sub_path: node_01\n    \
             reference_sub_paths: [node_02, node_01]\nplugNmeet_info: {{host: 'https://a', api_key: k, api_secret: s}}\n\
             nats_info: {{nats_urls: [a]}}\n",
            dir.display()
        );
        let (config, _) = crate::config::parse(&text, "config.yaml").unwrap_or_else(|problems| panic!("{problems}"));
        let summaries = SummaryStore::new(&config.recorder.state_dir).dir();
        std::fs::create_dir_all(&summaries).unwrap();
        for id in ["rec-1", "rec-2"] {
            let kept = format!(r#"{{"kind": "recording", "recording_id": "{id}", "room_id": "room01", "bytes": 7}}"#);
            std::fs::write(summaries.join(format!("{id}.json")), kept).unwrap();
        }
        for hostile in [r#"{"kind": "recording", "recording_id": "../x", "room_id": ".."}"#, "{}", "no JSON"] {
            std::fs::write(summaries.join(format!("hostile{}.json", hostile.len())), hostile).unwrap();
        }
        ReferenceFiles::new(&config.recorder)
    }

    #[test]
    fn the_summary_goes_once_its_raw_file_is_gone_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let traces = node(dir.path());
        let room = dir.path().join("main/node_01/room01");
        std::fs::create_dir_all(&room).unwrap();
        for name in
            ["rec-1_raw.mkv", "rec-1_raw.json", "rec-2_raw.json", "rec-3_raw.json", "rec-2.mp4", "rec-2.mp4.json"]
        {
            std::fs::write(room.join(name), "x").unwrap();
        }
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(&room).unwrap().map(|file| file.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let all = names();
        traces.look(SystemTime::now()).unwrap();
        assert_eq!(names(), all, "it may only be on its way");
        traces.look(SystemTime::now() + HOUR).unwrap();
        // That of rec-3 is another node's.
        assert_eq!(names(), ["rec-1_raw.json", "rec-1_raw.mkv", "rec-2.mp4", "rec-2.mp4.json", "rec-3_raw.json"]);
    }

    #[test]
    fn the_rooms_directory_of_a_reference_transcoder_is_there_as_long_as_the_raw_file() {
        let dir = tempfile::tempdir().unwrap();
        let traces = node(dir.path());
        let (room, theirs) = (dir.path().join("main/node_01/room01"), dir.path().join("main/node_02/room01"));
        std::fs::create_dir_all(&room).unwrap();
        std::fs::write(room.join("rec-1_raw.mkv"), "x").unwrap();
        traces.look(SystemTime::now()).unwrap();
        assert!(theirs.is_dir());
        std::fs::remove_dir(&theirs).unwrap();
        traces.look(SystemTime::now() + 2 * HOUR).unwrap();
        assert!(theirs.is_dir(), "a job may still come to a reference transcoder");

        std::fs::remove_file(room.join("rec-1_raw.mkv")).unwrap();
        traces.look(SystemTime::now()).unwrap();
        assert!(theirs.is_dir(), "another node may have asked for it");
        std::fs::write(theirs.join("rec-1.mp4"), "x").unwrap();
        traces.look(SystemTime::now() + 2 * HOUR).unwrap();
        assert!(theirs.is_dir() && room.is_dir(), "it has the result, and ours is the server's to remove");
        std::fs::remove_file(theirs.join("rec-1.mp4")).unwrap();
        traces.look(SystemTime::now() + 2 * HOUR).unwrap();
        assert!(!theirs.exists());
    }
}
