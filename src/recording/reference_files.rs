//! Files that remain in `main_path` where a reference transcoder, or an earlier version of this program, did the job: it
//! removes the raw file but not the summary and the early MP4 beside it, and it writes into a room directory that it does not create (PROTOCOL 6), so that is created for
//! it. Both are watched for as long as this node keeps the recording's summary.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::config::RecorderConfig;
use crate::media::early_mp4::EarlyMp4;
use crate::protocol::ids::{RecordingId, RoomId};
use crate::recording::raw_file::RawFile;
use crate::recording::summary::SummaryStore;
use crate::storage::journal::{ReadError, read_json};
use crate::storage::main_path::MainPath;
use crate::storage::{detached, files};

const CHECK_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// The minimum age of a summary to be removed: its raw file may only be on its way between two directories.
const SUMMARY_MIN_AGE: Duration = Duration::from_secs(10 * 60);
/// The minimum age of an empty directory to be removed: another node may need it too, and renews its time every 10 min.
const EMPTY_DIR_MIN_AGE: Duration = Duration::from_secs(60 * 60);

/// Creates and removes the files for reference transcoders.
#[derive(Clone, Debug)]
pub struct ReferenceFiles {
    recorder: RecorderConfig,
}

/// The part of a kept summary that is read.
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

    /// Checks at once, and then every 10 min until `end`.
    pub async fn watch(self, store: MainPath, end: CancellationToken) {
        loop {
            let (files, store) = (self.clone(), store.clone());
            // A share that is not mounted does not tell what is on it.
            let check = move || if store.check().is_ok() { files.check(SystemTime::now()) } else { Ok(()) };
            let checked = detached::run("reference-files", check);
            match end.run_until_cancelled(checked).await {
                None => return,
                Some(Err(error)) => {
                    tracing::warn!(
                        code = %codes::LEFTOVERS_NOT_WATCHED, %error,
                        "what recordings have left beside their raw files is not looked after"
                    );
                }
                Some(Ok(())) => {}
            }
            if end.run_until_cancelled(tokio::time::sleep(CHECK_INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    /// Checks all kept summaries once.
    ///
    /// # Errors
    /// Where the summaries cannot be listed.
    pub fn check(&self, now: SystemTime) -> io::Result<()> {
        let (mut needed, mut gone) = (Vec::new(), Vec::new());
        // Which directories are needed is known only once every summary was read.
        let mut all_known = true;
        for (_, path) in files::records(&SummaryStore::new(&self.recorder.state_dir).dir())? {
            let kept = read_json::<KeptSummary>(&path);
            all_known &= !matches!(&kept, Err(ReadError::Io(_)));
            let Some(raw) = kept.ok().and_then(|kept| self.raw_file(&kept)) else { continue };
            match std::fs::symlink_metadata(raw.dir.join(raw.name.as_str())) {
                Ok(_) => {
                    raw.make_reference_dirs();
                    needed.extend(raw.reference_dirs().to_vec());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => gone.push(raw),
                // A share that fails does not tell what is on it.
                Err(_) => needed.extend(raw.reference_dirs().to_vec()),
            }
        }
        for raw in gone.iter().filter(|_| all_known) {
            remove_leftovers(raw, &needed, now);
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

/// Removes the files of a recording whose raw file is gone. `needed`: directories that other recordings still need.
fn remove_leftovers(raw: &RawFile, needed: &[PathBuf], now: SystemTime) {
    if let Some(summary) = raw.summary().filter(|summary| is_old(summary, SUMMARY_MIN_AGE, now)) {
        match std::fs::remove_file(&summary) {
            Ok(()) => tracing::debug!(summary = %summary.display(), "removed: its raw file is gone"),
            Err(error) => {
                tracing::warn!(
                    code = %codes::LEFTOVER_NOT_REMOVED, summary = %summary.display(), %error,
                    "the raw file is gone, but the summary beside it cannot be removed"
                );
            }
        }
    }
    let early = EarlyMp4::of(&raw.place());
    if [&early.mp4, &early.note].iter().any(|file| is_old(file, SUMMARY_MIN_AGE, now))
        && let Err(error) = early.remove()
    {
        tracing::warn!(
            code = %codes::LEFTOVER_NOT_REMOVED, mp4 = %early.mp4.display(), %error,
            "the raw file is gone, but the MP4 that was written while its recording ran cannot be removed"
        );
    }
    for dir in raw.reference_dirs().iter().filter(|dir| !needed.contains(*dir) && is_old(dir, EMPTY_DIR_MIN_AGE, now)) {
        // A directory with results in it is not empty, and stays.
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

    /// A node that records into `dir/main/node_01` and keeps the summaries of `rec-1` and `rec-2` of room `room01`.
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
    fn only_the_summary_and_the_early_mp4_are_removed_once_their_raw_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let files = node(dir.path());
        let room = dir.path().join("main/node_01/room01");
        std::fs::create_dir_all(&room).unwrap();
        for name in
            ["rec-1_raw.mkv", "rec-1_raw.json", "rec-2_raw.json", "rec-3_raw.json", "rec-2.mp4", "rec-2.mp4.json"]
        {
            std::fs::write(room.join(name), "x").unwrap();
        }
        for early in [".rec-1_raw.mkv.early.mp4", ".rec-2_raw.mkv.early.mp4", ".rec-2_raw.mkv.early.json"] {
            std::fs::write(room.join(early), "x").unwrap();
        }
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(&room).unwrap().map(|file| file.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let all = names();
        files.check(SystemTime::now()).unwrap();
        assert_eq!(names(), all, "it may only be on its way");
        files.check(SystemTime::now() + HOUR).unwrap();
        // The summary of rec-3 belongs to another node.
        let left = ["rec-1_raw.json", "rec-1_raw.mkv", "rec-2.mp4", "rec-2.mp4.json", "rec-3_raw.json"];
        assert_eq!(names(), [&[".rec-1_raw.mkv.early.mp4"][..], &left].concat());
    }

    #[test]
    fn a_reference_transcoders_room_directory_exists_as_long_as_the_raw_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = node(dir.path());
        let (room, theirs) = (dir.path().join("main/node_01/room01"), dir.path().join("main/node_02/room01"));
        std::fs::create_dir_all(&room).unwrap();
        std::fs::write(room.join("rec-1_raw.mkv"), "x").unwrap();
        files.check(SystemTime::now()).unwrap();
        assert!(theirs.is_dir());
        std::fs::remove_dir(&theirs).unwrap();
        files.check(SystemTime::now() + 2 * HOUR).unwrap();
        assert!(theirs.is_dir(), "a job may still come to a reference transcoder");

        std::fs::remove_file(room.join("rec-1_raw.mkv")).unwrap();
        files.check(SystemTime::now()).unwrap();
        assert!(theirs.is_dir(), "another node may have asked for it");
        std::fs::write(theirs.join("rec-1.mp4"), "x").unwrap();
        files.check(SystemTime::now() + 2 * HOUR).unwrap();
        assert!(theirs.is_dir() && room.is_dir(), "it has the result, and ours is the server's to remove");
        std::fs::remove_file(theirs.join("rec-1.mp4")).unwrap();
        files.check(SystemTime::now() + 2 * HOUR).unwrap();
        assert!(!theirs.exists());
    }
}
