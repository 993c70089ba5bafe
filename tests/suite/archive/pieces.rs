//! A growing file in the archive, piece by piece, with real stores.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use plugnmeet_recorder::archive::description::PartDescription;
use plugnmeet_recorder::archive::handle::Archive;
use plugnmeet_recorder::archive::names::ArchivedRecording;
use plugnmeet_recorder::archive::part_upload::{ArchivedFile, PartUpload};
use plugnmeet_recorder::config::Reserve;
use plugnmeet_recorder::config::store_url::StoreUrl;
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::request::RecordingInfo;
use plugnmeet_recorder::storage::growing_file::Growth;
use plugnmeet_recorder::telemetry::metrics::Metrics;

use crate::recorder::SOON;
use crate::standin::object_store::{Kind, ObjectStore};
use crate::standin::store_line::{Ask, Fault, StoreLine};
use crate::transcode::{ffmpeg, names};

pub fn info() -> RecordingInfo {
    RecordingInfo {
        room_table_id: 7,
        room_id: RoomId::parse("room01").unwrap(),
        room_sid: RoomSid::default(),
        recording_id: RecordingId::parse("RM_1").unwrap(),
    }
}

pub fn recording() -> ArchivedRecording {
    ArchivedRecording::of_dir("room01/RM_1").unwrap()
}

pub fn archive(url: &str, node: &str) -> Archive {
    plugnmeet_recorder::tls::provide_crypto();
    Archive::new(
        &StoreUrl::parse(url).unwrap(),
        &RecorderId::parse(node).unwrap(),
        Reserve::Size(0),
        Metrics::default(),
    )
}

/// Twenty seconds, as ffmpeg writes a raw file.
pub fn raw(dir: &Path) -> PathBuf {
    let raw = dir.join("raw.mkv");
    ffmpeg(
        "-f lavfi -i testsrc2=s=320x180:r=25:d=20 -f lavfi -i sine=d=20 -c:v libx264 -preset ultrafast -c:a aac \
         -cluster_time_limit 1000 -f matroska",
        &raw,
    );
    raw
}

pub fn file(archive: &Archive, file: &Path) -> ArchivedFile {
    let description = PartDescription::new(&info(), archive.node(), 1);
    ArchivedFile { recording: recording(), part: archive.new_part(), description, file: file.to_owned() }
}

/// The bytes that come out of the archive.
pub async fn fetched(archive: &Archive, dir: &Path) -> Vec<u8> {
    let listing = archive.listing(&recording()).await.unwrap();
    let [part] = &listing.parts[..] else { panic!("{listing:?}") };
    assert_eq!(part.gaps(), []);
    let to = dir.join("fetched.mkv");
    archive.fetch(&recording(), part, 0, &to).await.unwrap();
    std::fs::read(to).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pieces_of_a_file_that_grows_are_the_file_and_all_of_them_go() {
    for kind in [Kind::Rclone, Kind::Moto] {
        let (store, dir) = (ObjectStore::start(kind).await.unwrap(), tempfile::tempdir().unwrap());
        let archive = archive(&ObjectStore::url(store.port, "live"), "node_01");
        let whole = std::fs::read(raw(dir.path())).unwrap();
        let path = dir.path().join("growing.mkv");
        let mut growing = std::fs::File::create(&path).unwrap();
        archive.begin(&recording()).await.unwrap();
        let upload = PartUpload::start(&archive, file(&archive, &path), Growth::Growing);
        for bytes in whole.chunks(whole.len() / 7 + 1) {
            growing.write_all(bytes).unwrap();
        }
        upload.finish().await;
        let keys = store.keys();
        let pieces: Vec<_> =
            keys.iter().filter(|key| !key.contains("part.json") && !key.contains(".running")).collect();
        assert_eq!(pieces.len(), 5, "{keys:?}");
        assert!(pieces[1].contains("/000001-00000"), "{keys:?}");
        assert_eq!(keys.len(), 7, "five pieces, what they are of, and whose: {keys:?}");
        assert!(fetched(&archive, dir.path()).await == whole, "{kind:?}");
        assert_eq!(archive.waiting(), 0);
        let running = archive.running().await.unwrap();
        assert_eq!(running, [(archive.node().clone(), recording())]);

        archive.end(&recording()).await.unwrap();
        assert!(archive.has_ended(&recording()).await.unwrap() && archive.running().await.unwrap().is_empty());
        assert_eq!(archive.remove_ended_before(std::time::SystemTime::UNIX_EPOCH).await.unwrap(), 0);
        archive.remove(&recording()).await.unwrap();
        assert_eq!(store.keys(), ["live/.ended/room01/RM_1"], "{kind:?}");
        let later = std::time::SystemTime::now() + SOON;
        assert_eq!(archive.remove_ended_before(later).await.unwrap(), 1);
        assert_eq!(store.keys(), [] as [String; 0], "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_gets_what_waits_and_only_what_it_lacks() {
    let (store, dir) = (ObjectStore::start(Kind::Moto).await.unwrap(), tempfile::tempdir().unwrap());
    let mut line = StoreLine::to(store.port).await;
    let archive = archive(&ObjectStore::url(line.port, "live"), "node_01");
    let path = raw(dir.path());
    let whole = std::fs::read(&path).unwrap();
    // The description and a piece are taken; the answer to the next piece is lost, and then nothing is answered.
    line.fails(Ask::Put, Fault::Pass, 2);
    line.fails(Ask::Put, Fault::LoseAnswer, 1);
    line.fails(Ask::Put, Fault::Answer(503, "SlowDown"), usize::MAX);
    let file = file(&archive, &path);
    let upload = PartUpload::start(&archive, file.clone(), Growth::Growing);
    line.wait_for(Ask::Put, 6).await;
    let end = std::time::Instant::now() + SOON;
    while archive.waiting() < 3 {
        assert!(std::time::Instant::now() < end, "{}", archive.waiting());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The recorder is killed, and its next run hands in what is missing.
    drop(upload);
    line.is_well();
    let before = line.seen(Ask::Put).len();
    PartUpload::start(&archive, file, Growth::Complete).finish().await;
    assert!(fetched(&archive, dir.path()).await == whole);
    let sent = line.seen(Ask::Put).len() - before;
    assert!((3..=4).contains(&sent), "{sent} of five pieces were sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_not_leave_the_reserve_on_the_disk_is_not_fetched() {
    let (dir, at) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("file://{}", at.path().display());
    let first = archive(&url, "node_01");
    PartUpload::start(&first, file(&first, &raw(dir.path())), Growth::Complete).finish().await;
    let second = RecorderId::parse("node_02").unwrap();
    let second =
        Archive::new(&StoreUrl::parse(&url).unwrap(), &second, Reserve::Size(u64::MAX / 2), Metrics::default());
    let listing = second.listing(&recording()).await.unwrap();
    let to = dir.path().join("fetched.mkv");
    let why = second.fetch(&recording(), &listing.parts[0], 0, &to).await.unwrap_err();
    assert!(why.to_string().contains("must stay free (recorder.min_free_space)"), "{why}");
    assert_eq!(names(dir.path()), ["raw.mkv"]);

    // What was fetched in part is completed, also behind what an interrupted attempt has left.
    first.fetch(&recording(), &listing.parts[0], 0, &to).await.unwrap();
    let whole = std::fs::read(&to).unwrap();
    std::fs::write(&to, [&whole[..whole.len() / 2], &[7; 100]].concat()).unwrap();
    let have = whole.len() as u64 / 2;
    let pieces = &listing.parts[0].pieces;
    let is_there = |n: &usize| pieces[..*n].iter().map(|piece| piece.bytes).sum::<u64>() <= have;
    let from = (1..pieces.len()).take_while(is_there).count();
    assert!(from > 0);
    first.fetch(&recording(), &listing.parts[0], from, &to).await.unwrap();
    assert!(std::fs::read(&to).unwrap() == whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_of_the_nodes_that_want_a_recording_gets_it() {
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    for url in [ObjectStore::url(store.port, "live"), format!("file://{}", dir.path().display())] {
        let nodes: Vec<_> = (0..5).map(|n| archive(&url, &format!("node_{n}"))).collect();
        let wanted = nodes.iter().map(async |node| node.take_over(&recording(), 1).await.unwrap());
        let got: Vec<bool> = futures::future::join_all(wanted).await;
        assert_eq!(got.iter().filter(|got| **got).count(), 1, "{url}: {got:?}");
        let winner = &nodes[got.iter().position(|got| *got).unwrap()];
        assert_eq!(winner.holder(&recording(), 1).await.unwrap().as_deref(), Some(winner.node().as_str()));
        // One that did not hear the answer asks again.
        assert!(winner.take_over(&recording(), 1).await.unwrap());
        assert_eq!(winner.listing(&recording()).await.unwrap().lease, 1);
    }
}
