//! `record` with a Chrome and an ffmpeg that stand still: it ends by itself, and makes an MP4 of what came before.

use rustix::process::{Pid, Signal, kill_process};

use super::{Ended, Place, Running, header};
use crate::measure;
use crate::recorder::{alone, processes_of};
use crate::standin::plain_page::{COOKIE, PlainPage};

/// The processes of a recording whose programs are named so; without those that report crashes, which Chrome leaves to
/// init.
fn processes(place: &Place, program: &str) -> Vec<Pid> {
    let rig = format!("PNM_RIG={}", place.temp.path().display());
    let entries = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_it = |path: &std::path::PathBuf| {
        let read = |name| String::from_utf8_lossy(&std::fs::read(path.join(name)).unwrap_or_default()).into_owned();
        let line = read("cmdline");
        let of_rig = read("environ").contains(&rig) || line.contains(place.temp.path().to_str().unwrap());
        of_rig
            && !line.contains("crashpad")
            && line.split(['\0', ' ']).next().is_some_and(|name| name.contains(program))
    };
    entries.filter(is_it).filter_map(|path| Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?)).collect()
}

/// Records, stops all processes of this program, and waits for the end.
async fn ended_by(place: &Place, page: &PlainPage, program: &str, options: &[&str]) -> Ended {
    let header = header();
    let visit = [&*page.url, "--cookie", COOKIE, "--header", &*header, "--size", "640x360"];
    let mut running = Running::start(place, &[&visit[..], options].concat()).await;
    // So that there is something of it: a cluster is written each second.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let stopped = processes(place, program);
    assert!(!stopped.is_empty(), "{program}");
    for pid in stopped {
        kill_process(pid, Signal::STOP).unwrap();
    }
    running.says("The recording broke off: ").await;
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert_eq!(processes(place, ""), [], "{:?}", processes_of(place.temp.path()));
    place.assert_no_rig();
    ended
}

#[tokio::test]
async fn what_stands_still_ends_the_recording_which_keeps_what_came_before() {
    let _turn = alone().await;
    let page = PlainPage::start().await.unwrap();
    let (of_chrome, of_ffmpeg) = (Place::new(), Place::new());
    let (chrome, ffmpeg) = tokio::join!(
        ended_by(&of_chrome, &page, "chrom", &["--hls", "segments"]),
        ended_by(&of_ffmpeg, &page, "ffmpeg", &["-o", "page.mp4", "--summary"]),
    );
    assert!(chrome.err.contains("The recording broke off: Chrome hangs (its process"), "{chrome:?}");
    assert_eq!(of_chrome.files(), ["segments"]);
    let playlist = of_chrome.path("segments/index.m3u8");
    let segments = measure::probe(&playlist).unwrap();
    assert!(segments.duration >= 2.0 && segments.audio().is_ok() && segments.video().is_ok(), "{segments:?}");
    assert!(std::fs::read_to_string(playlist).unwrap().trim_end().ends_with("#EXT-X-ENDLIST"));

    assert!(ffmpeg.err.contains("The recording broke off: ffmpeg hangs"), "{ffmpeg:?}");
    let summary: serde_json::Value = serde_json::from_str(&ffmpeg.out).unwrap();
    let error = summary["error"].as_str().unwrap();
    assert!(error.starts_with("ffmpeg hangs") && summary["code"] == "PNR-1234", "{summary}");
    assert_eq!(of_ffmpeg.files(), ["page.mp4"]);
    let media = measure::probe(&of_ffmpeg.path("page.mp4")).unwrap();
    // But for its last second, which ffmpeg held.
    assert!(media.duration >= 0.5 && media.audio().is_ok() && media.video().is_ok(), "{media:?}");
}
