//! What comes into an archive after another node has taken a recording over: it is in the MP4, or its lack is named.

use std::path::Path;
use std::sync::Arc;

use plugnmeet_recorder::archive::archives::Archives;
use plugnmeet_recorder::archive::description::PartDescription;
use plugnmeet_recorder::archive::handle::Archive;
use plugnmeet_recorder::archive::part_upload::{ArchivedFile, PartUpload};
use plugnmeet_recorder::config::store_url::StoreUrl;
use plugnmeet_recorder::config::{Reserve, StorageConfig};
use plugnmeet_recorder::media::ffprobe;
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId};
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::request::{Output, Start};
use plugnmeet_recorder::recording::archived_parts;
use plugnmeet_recorder::recording::driver::{self, RecordingTask};
use plugnmeet_recorder::recording::journal::{RecordingEntry, RecordingPart, StopRequest};
use plugnmeet_recorder::recording::raw_file::RawFile;
use plugnmeet_recorder::recording::session::InterruptedRecording;
use plugnmeet_recorder::storage::growing_file::Growth;
use plugnmeet_recorder::telemetry::metrics::Metrics;
use plugnmeet_recorder::unix_time::unix_ms;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Leaves, Node, Paper, PaperRig};
use crate::archive::pieces;
use crate::recorder::SOON;
use crate::standin::object_store::{Kind, ObjectStore};
use crate::standin::store_line::{Ask, Fault, StoreLine};
use crate::transcode::ffmpeg;

/// An archive, and a recording of 20 s at 25 pictures a second of a node that is gone, in five pieces.
struct Fleet {
    node: Node,
    gone: Archive,
    file: ArchivedFile,
    raw: RawFile,
    /// When the gone node's part began, in Unix milliseconds.
    began_at: u64,
}

impl Fleet {
    async fn new(url: &str, gone_url: &str) -> Self {
        let mut node = Node::new().await;
        let storage = StorageConfig { archive: Some(StoreUrl::parse(url).unwrap()), ..StorageConfig::default() };
        let me = RecorderId::parse("node_01").unwrap();
        node.context.archives = Archives::new(&storage, &me, Reserve::Size(0), &Metrics::default());
        let gone = pieces::archive(gone_url, "node_09");
        let began_at = unix_ms() - 60_000;
        let file = pieces::file(&gone, &pieces::raw(node.standin.dir()));
        let description =
            PartDescription { began_at: Some(began_at), recording_began_at: Some(began_at), ..file.description };
        let file = ArchivedFile { description, ..file };
        let dir = node.standin.dir();
        let (temporary, main) = (dir.join("temporary"), dir.join("main"));
        let (recording, room) = (RecordingId::parse("RM_1").unwrap(), RoomId::parse("room01").unwrap());
        let raw = RawFile::new(&temporary, &main, "node_01".as_ref(), &recording, &room).unwrap();
        Self { node, gone, file, raw, began_at }
    }

    fn archive(&self) -> &Archive {
        &self.node.context.archives.all()[0]
    }

    /// Takes the recording over with what the archive has, and notes a part of 5 s of its own from then on.
    async fn take_over(&self, own_began_s: u64) -> RecordingEntry {
        let (archive, recording) = (self.archive(), pieces::recording());
        let listing = archive.listing(&recording).await.unwrap();
        let found = archived_parts::find(archive, &recording, listing).await.unwrap();
        let mut parts = archived_parts::fetch(archive, &recording, &self.raw, &[], &found).await.unwrap();
        let own = RecordingPart {
            file: self.raw.part_name(2),
            began_at: Some(self.began_at + own_began_s * 1000),
            archived_as: vec![archive.new_part()],
            ..RecordingPart::default()
        };
        short(&self.raw.part(&own.file));
        parts.push(own);
        let start = Start { info: pieces::info(), access: self.node.access(), output: Output::File };
        let entry = self.node.journal.entry(&start);
        entry
            .update(|record| {
                (record.parts, record.lease, record.archived) = (parts, 1, true);
                record.stop = Some(StopRequest { reason: None });
            })
            .await;
        entry
    }

    /// Has the recording end.
    fn end(&self, entry: RecordingEntry) -> JoinHandle<()> {
        let rigs = Arc::new(Paper { raw: self.raw.clone(), leaves: Leaves::default() });
        let task = RecordingTask::<PaperRig> {
            start: entry.record().start().unwrap(),
            rigs,
            raw: Some(self.raw.clone()),
            entry,
            interrupted: Some(InterruptedRecording::Stopped(None)),
            slot: None,
            stops: mpsc::channel(1).1,
        };
        tokio::spawn(driver::run(task, self.node.context.clone()))
    }

    /// Pictures of its raw file, and its summary.
    async fn delivered(&self, running: JoinHandle<()>) -> (u64, Value) {
        tokio::time::timeout(2 * SOON, running).await.unwrap().unwrap();
        let media = ffprobe::measure(&self.raw.place()).await.unwrap();
        let ended = self.node.standin.notices.wait_for(RecordingTasks::EndRecording, "RM_1", SOON).await.unwrap();
        assert!(ended.message.status, "{}", ended.message.msg);
        (media.video().unwrap().packets.unwrap(), serde_json::from_str(&self.node.kept("RM_1")).unwrap())
    }
}

/// Five seconds, written as [`pieces::raw`].
fn short(file: &Path) {
    ffmpeg(
        "-f lavfi -i testsrc2=s=320x180:r=25:d=5 -f lavfi -i sine=d=5 -c:v libx264 -preset ultrafast -c:a aac \
         -cluster_time_limit 1000 -f matroska",
        file,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_that_was_cut_off_hands_in_late_is_in_the_recording_up_to_what_its_taker_has() {
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let mut line = StoreLine::to(store.port).await;
    let (url, gone_url) = (ObjectStore::url(store.port, "live"), ObjectStore::url(line.port, "live"));
    let fleet = Fleet::new(&url, &gone_url).await;
    // Its description and two pieces; then the line is cut.
    line.fails(Ask::Put, Fault::Pass, 3);
    line.fails(Ask::Put, Fault::Cut, usize::MAX);
    let upload = PartUpload::start(&fleet.gone, fleet.file.clone(), Growth::Growing);
    line.wait_for(Ask::Put, 4).await;
    let entry = fleet.take_over(15).await;
    let taken = entry.record().parts[0].taken.clone().unwrap();
    assert_eq!((taken.files[0].pieces, taken.used_ms), (2, None), "{taken:?}");

    // It is back, says so, and the recording ends here meanwhile.
    line.is_well();
    fleet.gone.hand_in(&pieces::recording(), false).await.unwrap();
    let running = fleet.end(entry);
    upload.finish().await;
    fleet.gone.hand_in(&pieces::recording(), true).await.unwrap();
    let (pictures, summary) = fleet.delivered(running).await;
    // 15 of its 20 s, and 5 s: the cut is at a packet.
    assert!((15 * 25 + 5 * 25 - 2..=15 * 25 + 5 * 25 + 2).contains(&pictures), "{pictures} {summary}");
    assert_eq!(summary["parts"], 2, "{summary}");
    let [gap] = &summary["gaps"].as_array().unwrap()[..] else { panic!("{summary}") };
    assert_eq!(gap["cause"], "its recorder node_09 was gone or cut off");
    assert!(gap["length_s"].as_f64().unwrap() < 0.2 && (gap["at_s"].as_f64().unwrap() - 15.0).abs() < 0.2, "{gap}");
    assert!(store.keys().iter().all(|key| !key.contains("handing-in")), "{:?}", store.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_archive_lacks_is_a_gap_that_the_summary_names() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    let fleet = Fleet::new(&url, &url).await;
    PartUpload::start(&fleet.gone, fleet.file.clone(), Growth::Complete).finish().await;
    let part = dir.path().join("room01/RM_1").join(&fleet.file.part);
    let lost = std::fs::read_dir(&part).unwrap().map(|entry| entry.unwrap().path());
    let lost = lost.into_iter().find(|path| path.to_str().unwrap().contains("/000002-")).unwrap();
    std::fs::remove_file(&lost).unwrap();
    let times: Vec<f64> =
        lost.file_stem().unwrap().to_str().unwrap().split('-').map(|n| n.parse::<f64>().unwrap() / 1e3).collect();
    // It stays away.
    let entry = fleet.take_over(40).await;
    let (pictures, summary) = fleet.delivered(fleet.end(entry)).await;
    let gaps = summary["gaps"].as_array().unwrap();
    let [lacking, away] = &gaps[..] else { panic!("{summary}") };
    let (at, length) = (lacking["at_s"].as_f64().unwrap(), lacking["length_s"].as_f64().unwrap());
    assert_eq!(lacking["cause"], "the archive of the fleet lacks this piece");
    assert!((at - times[1]).abs() < 0.1 && (length - times[2]).abs() < 0.1, "{times:?} {summary}");
    assert!(pictures < 22 * 25 && pictures > 19 * 25, "{pictures}");
    assert!((away["length_s"].as_f64().unwrap() - 20.0).abs() < 0.3, "{summary}");
}
