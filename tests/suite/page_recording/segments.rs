//! What becomes of `--hls` where its disk or that of the raw file fails. From a raw file that is there, without Chrome.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use plugnmeet_recorder::page_recording::outlet::hls;
use plugnmeet_recorder::page_recording::outlet::outlets::{Outlet, Outlets};
use plugnmeet_recorder::page_recording::summary::{OutletSummary, Tracks};

use crate::measure;
use crate::recorder::SOON;
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};

const SECONDS: u32 = 10;
const FRAMES: u32 = 30 * SECONDS;

/// A raw file as the recorder writes it, in this directory.
fn raw(dir: &Path) -> PathBuf {
    let file = dir.join("raw.mkv");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", &format!("testsrc2=s=320x180:r=30:d={SECONDS}")])
        .args(["-f", "lavfi", "-i", &format!("sine=r=48000:d={SECONDS}")])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "60", "-c:a", "pcm_s16le"])
        .arg(&file)
        .status();
    assert!(made.unwrap().success());
    file
}

fn start(raw: &Path, segments: &Path) -> Outlets {
    Outlets::start(&[Outlet::Hls(segments.to_owned())], raw, Tracks { picture: true, sound: true }, false)
}

/// What became of it when all is recorded.
async fn finish(outlets: Outlets) -> OutletSummary {
    let finished = tokio::time::timeout(SOON, outlets.finish()).await.expect("it ends");
    let [(_, summary)] = &finished[..] else { panic!("{finished:?}") };
    summary.clone()
}

#[tokio::test]
async fn a_segment_that_could_not_be_written_is_noticed_though_ffmpeg_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let segments = dir.path().join("segments");
    hls::prepare(&segments, false).unwrap();
    // The disk has room before and after it.
    symlink("/dev/full", segments.join("segment00001.ts.tmp")).unwrap();
    let summary = finish(start(&raw(dir.path()), &segments)).await;
    let why = summary.error.unwrap();
    assert!(why.starts_with("the segments hold ") && why.ends_with(&format!(" of {FRAMES} frames")), "{why}");
    assert_eq!((summary.complete, summary.code.as_deref()), (false, Some("PNR-1236")));
}

#[tokio::test]
async fn segments_are_written_once_more_at_the_end_where_their_disk_is_well_again_and_else_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    for heals in [true, false] {
        let place = |name| dir.path().join(format!("{name}-{heals}"));
        let (backing, segments) = (place("backing"), place("segments"));
        let disk = FaultyFs::mount(&backing, &segments, Abilities::ALL);
        disk.break_down(Requests::Changes, Fault::Error(rustix::io::Errno::NOSPC.raw_os_error()));
        let mut outlets = start(&raw, &segments);
        let told = async {
            loop {
                match outlets.news() {
                    Some(news) => break news,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let told = tokio::time::timeout(SOON, told).await.unwrap();
        let full = format!("{} cannot be written to: No space left on device (os error 28)", segments.display());
        assert!(told.starts_with(&format!("--hls: {full}; it is written anew")), "{told}");
        if heals {
            disk.heal();
        }
        let summary = finish(outlets).await;
        assert_eq!((summary.complete, summary.interruptions), (heals, 1), "{summary:?}");
        if heals {
            let media = measure::probe(&backing.join("index.m3u8")).unwrap();
            assert!((media.duration - f64::from(SECONDS)).abs() < 0.2, "{media:?}");
        } else {
            assert_eq!(summary.error, Some(full), "no ffmpeg is started where nothing can be written");
            assert_eq!(std::fs::read_dir(&backing).unwrap().count(), 0);
        }
    }
}

#[tokio::test]
async fn a_raw_file_whose_disk_hangs_is_not_waited_for_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let [backing, share, segments] = ["backing", "share", "segments"].map(|name| dir.path().join(name));
    let disk = FaultyFs::mount(&backing, &share, Abilities::ALL);
    hls::prepare(&segments, false).unwrap();
    raw(&backing);
    disk.break_down(Requests::ReadsBeyond(0), Fault::Hang);
    let outlets = start(&share.join("raw.mkv"), &segments);
    let late = async {
        disk.wait_until_hanging(1).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(21)).await;
        tokio::time::resume();
    };
    let (summary, ()) = tokio::join!(finish(outlets), late);
    assert_eq!(summary.error.unwrap(), "the raw file cannot be read: its disk hangs for 20 s");
}
