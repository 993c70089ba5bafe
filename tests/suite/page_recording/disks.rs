//! `record` with a disk that hangs when it begins: it says which, and ends. Without Chrome.

use futures::future::join_all;
use rustix::process::Signal;

use super::{Place, Running};
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
