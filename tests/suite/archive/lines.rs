//! Pieces on their way over a line that stands still, or takes less than is recorded: the local file is whole, and all of it
//! comes once the line heals.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use plugnmeet_recorder::archive::handle::Archive;
use plugnmeet_recorder::archive::part_upload::PartUpload;
use plugnmeet_recorder::storage::growing_file::Growth;
use plugnmeet_recorder::store::connect::StoreTimes;

use super::pieces::{archive, fetched, file, raw};
use crate::recorder::SOON;
use crate::standin::object_store::{Kind, ObjectStore};
use crate::standin::slow_line::SlowLine;
use crate::standin::store_line::{Ask, Fault, StoreLine};

/// Pieces of the twenty seconds that are recorded.
const PIECES: usize = 5;

async fn wait_until(what: &str, archive: &Archive, so: impl Fn(usize) -> bool) {
    let end = tokio::time::Instant::now() + 2 * SOON;
    while !so(archive.waiting()) {
        assert!(tokio::time::Instant::now() < end, "never: {what}; {} wait", archive.waiting());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Records all of it into a new file: who records waits for no store.
fn record(whole: &[u8], path: &Path) {
    let mut growing = std::fs::File::create(path).unwrap();
    for bytes in whole.chunks(whole.len() / 20) {
        growing.write_all(bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_stands_still_has_pieces_wait_and_is_taken_anew_when_it_heals() {
    let (store, dir) = (ObjectStore::start(Kind::Moto).await.unwrap(), tempfile::tempdir().unwrap());
    let mut line = StoreLine::to(store.port).await;
    let times = StoreTimes { stall: Duration::from_secs(1), answer: Duration::from_secs(2), slowest: 1 << 20 };
    let archive = archive(&ObjectStore::url(line.port, "live"), "node_01").with_times(times);
    let whole = std::fs::read(raw(dir.path())).unwrap();
    let path = dir.path().join("growing.mkv");
    // Its description and a piece are taken, and then nothing is answered any more.
    line.fails(Ask::Put, Fault::Pass, 2);
    line.fails(Ask::Put, Fault::Stall, usize::MAX);
    let upload = PartUpload::start(&archive, file(&archive, &path), Growth::Growing);
    record(&whole, &path);
    // Given up and begun anew.
    line.wait_for(Ask::Put, 4).await;
    // The last piece is none before the file is complete.
    wait_until("all but the first wait", &archive, |waiting| waiting == PIECES - 2).await;
    assert!(std::fs::read(&path).unwrap() == whole);
    line.is_well();
    upload.finish().await;
    assert!(fetched(&archive, dir.path()).await == whole);
    assert_eq!(archive.waiting(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_takes_less_than_is_recorded_has_pieces_wait_and_loses_none() {
    let (store, dir) = (ObjectStore::start(Kind::Moto).await.unwrap(), tempfile::tempdir().unwrap());
    let line = SlowLine::to(store.port);
    let archive = archive(&ObjectStore::url(line.port, "live"), "node_01");
    let whole = std::fs::read(raw(dir.path())).unwrap();
    let path = dir.path().join("growing.mkv");
    // A piece takes a minute.
    line.takes(whole.len() as u64 / PIECES as u64 / 60);
    let upload = PartUpload::start(&archive, file(&archive, &path), Growth::Growing);
    record(&whole, &path);
    wait_until("all complete pieces wait", &archive, |waiting| waiting == PIECES - 1).await;
    assert!(std::fs::read(&path).unwrap() == whole);
    line.takes(u64::MAX);
    upload.finish().await;
    assert!(fetched(&archive, dir.path()).await == whole);
    assert_eq!(archive.waiting(), 0);
}
