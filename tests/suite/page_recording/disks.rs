//! `record` with a disk that hangs when it begins, or at its end: it says which, and ends. Without Chrome.

use std::time::Duration;

use futures::future::join_all;
use plugnmeet_recorder::page_recording::mp4::{self, Mp4Error};
use plugnmeet_recorder::page_recording::output::OutputFiles;
use plugnmeet_recorder::storage::placement::IfExists;
use rustix::process::Signal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Place, Running};
use crate::recorder::SOON;
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_at_the_start_is_named_with_what_to_do_and_a_signal_waits_for_none() {
    let place = Place::new();
    let (backing, share) = (place.path("backing"), place.path("share"));
    let disk = FaultyFs::mount(&backing, &share, Abilities::ALL);
    // Dropped before the processes that hang on it.
    let cases = [
        (&["-o", "share/page.mp4"][..], "-o: share"),
        (&["-o", "page.mp4", "--temp", "share"], "--temp: share"),
        (&["-o", "page.mp4", "--hls", "share/segments"], "--hls: share/segments"),
        (&["--rtmp", "@share/live.url"], "--rtmp: share/live.url"),
        (&["-o", "page.mp4", "--ca-file", "share/ca.pem"], "--ca-file: share/ca.pem"),
        (&["-o", "page.mp4"], "TMPDIR: "),
    ];
    let start = |options: &[&str], in_share: bool| {
        let mut command = place.command(&[&["http://127.0.0.1:9/"], options].concat());
        if in_share {
            command.env("TMPDIR", &share);
        }
        Running::of(command)
    };
    disk.break_down(Requests::All, Fault::Hang);
    let mut told = Vec::new();
    for (options, wanted) in cases {
        told.push((start(options, wanted.starts_with("TMPDIR")), wanted));
    }
    let mut stopped = start(&["-o", "share/page.mp4", "--no-sound"], false);
    disk.wait_until_hanging(cases.len()).await;
    stopped.signal(Signal::INT);
    stopped.says("stopped before anything was recorded").await;
    stopped.wait_until_over().await;
    join_all(told.iter_mut().map(async |(running, wanted)| {
        running.says(&format!("PNR-1237 error: {wanted}")).await;
        running.wait_until_over().await;
    }))
    .await;
    // The kernel ends a process only when its disk has answered.
    disk.heal();
    assert_eq!(stopped.ended().await.code, Some(130));
    for (running, wanted) in told {
        let ended = running.ended().await;
        assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{ended:?}");
        let path = if wanted == "TMPDIR: " { share.display().to_string() } else { wanted.to_owned() };
        let line = format!("{path} does not answer for 8 s: its disk or network share hangs; check it");
        assert!(ended.err.contains(&line) && !ended.err.contains("Recording"), "{ended:?}");
    }
    assert_eq!(std::fs::read_dir(&backing).unwrap().count(), 0, "nothing is left on the disk");
    drop(disk);
    let mut files = place.files();
    files.sort();
    assert_eq!(files, ["backing", "share"]);
}

#[tokio::test]
async fn a_disk_that_hangs_at_the_end_is_named_and_the_raw_file_stays() {
    let place = Place::new();
    let (backing, share) = (place.path("backing"), place.path("share"));
    let disk = FaultyFs::mount(&backing, &share, Abilities::ALL);
    let prepare = |name| OutputFiles::prepare(share.join(name), false).unwrap();
    let (mut kept, mut removed) = (prepare("kept.mp4"), prepare("removed.mp4"));
    for file in [kept.raw(), kept.part(), removed.raw(), place.path("stored.mp4")] {
        std::fs::write(file, "media").unwrap();
    }
    let (raw, hangs) = (kept.raw(), "does not answer for 8 s: its disk or network share hangs");
    disk.break_down(Requests::All, Fault::Hang);
    tokio::time::pause();
    let cancel = CancellationToken::new();
    let (part, mp4) = (place.path("stored.mp4"), share.join("stored.mp4"));
    let end = async {
        let stored = mp4::store(&part, &mp4, IfExists::Refuse, &cancel).await;
        let begun = Instant::now();
        let (named, why) = kept.keep_raw().await;
        let left = removed.remove().await;
        (stored, named, why, left, begun.elapsed())
    };
    let ended = tokio::time::timeout(Duration::from_secs(3600), end).await.expect("it ends");
    let (stored, named, why, left, waited) = ended;
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    cancel.cancel();
    assert_eq!(
        mp4::store(&part, &mp4, IfExists::Refuse, &cancel).await,
        Err(Mp4Error::Stopped),
        "a signal waits for none"
    );
    tokio::time::resume();
    let dir = share.display();
    assert_eq!(stored, Err(Mp4Error::Failed(format!("{dir} does not answer: its disk or share hangs, check it"))));
    assert_eq!(named, Some(raw.clone()), "it is there as far as anybody knows");
    assert!(why.as_ref().unwrap().ends_with(hangs), "{why:?}");
    let left = left.unwrap_err();
    assert!(left.contains(hangs) && left.contains("; remove it when its disk is well: rm -r '/"), "{left}");

    // What the disk has held is done when it is well.
    disk.heal();
    let done = async {
        let entries = || std::fs::read_dir(&backing).unwrap().count();
        while !backing.join("stored.mp4").exists() || entries() != 2 || kept.part().exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, done).await.expect("the raw file's directory and the MP4 are left");
    assert_eq!(std::fs::read(raw).unwrap(), b"media");
    assert_eq!(std::fs::read(backing.join("stored.mp4")).unwrap(), b"media");
}
