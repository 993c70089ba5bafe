//! The HLS of a recording in a real Chromium, played by hls.js: it seeks, and plays to the end; while it is recorded it comes
//! late, and goes back to the beginning.

use plugnmeet_recorder::config::VideoRate;
use serde::Deserialize;

use super::live::{self, Published};
use super::packages::{config, package};
use super::player::{play, play_beside};
use super::{SECONDS, mp4};
use crate::recorder::{SOON, alone};

const RUN: &str = r#"const run = async () => {
  const seen = { seeks: [], errors: [], levels: 0, height: 0 };
  const hls = new Hls({ startLevel: 1, maxBufferLength: 3, maxMaxBufferLength: 3, backBufferLength: 0, startFragPrefetch: false });
  hls.on(Hls.Events.ERROR, (_, data) => seen.errors.push(`${data.details} ${data.fatal}`));
  const there = next("loadeddata");
  hls.loadSource("/hls/master.m3u8");
  hls.attachMedia(video);
  await there;
  seen.levels = hls.levels.length;
  seen.height = video.videoHeight;
  seen.duration = video.duration;
  for (const share of [0.25, 0.5, 0.75]) {
    const sought = next("seeked");
    video.currentTime = video.duration * share;
    await sought;
    seen.seeks.push([video.duration * share, video.currentTime, video.readyState]);
  }
  const back = next("seeked");
  video.currentTime = 0.1;
  await back;
  // Whoever watches at twice the speed sees each frame as well.
  video.playbackRate = 2;
  const ended = next("ended");
  await video.play();
  await ended;
  seen.ended_at = video.currentTime;
  const quality = video.getVideoPlaybackQuality();
  seen.corrupted = quality.corruptedVideoFrames;
  return seen;
};"#;

#[derive(Debug, Deserialize)]
struct Seen {
    levels: usize,
    duration: f64,
    /// Where it was sent, where it is, what it has there.
    seeks: Vec<(f64, f64, u32)>,
    errors: Vec<String>,
    /// Of the picture.
    height: u32,
    ended_at: f64,
    corrupted: u32,
}

#[tokio::test]
async fn hls_js_seeks_and_plays_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rec.mp4");
    mp4(&file, "expr:gte(t,n_forced*4)", true);
    let rates = [(360, Some(VideoRate::BitRate(2_000_000))), (180, Some(VideoRate::BitRate(60_000)))];
    let hls = package(&file, &config(&rates)).await;
    let _turn = alone().await;
    let seen: Seen = play(hls, RUN).await;
    assert_eq!((seen.levels, seen.corrupted), (2, 0), "{seen:?}");
    assert!(!seen.errors.iter().any(|error| error.ends_with("true")), "{seen:?}");
    assert!((seen.duration - SECONDS).abs() < 0.1 && (seen.ended_at - SECONDS).abs() < 0.2, "{seen:?}");
    for (wanted, there, ready) in &seen.seeks {
        assert!((wanted - there).abs() < 0.2 && *ready >= 2, "{seen:?}");
    }
    assert_eq!((seen.seeks.len(), seen.height), (3, 360), "{seen:?}");
}

/// Comes late, near the end of what is there; goes back to the beginning; asks for the rest, and plays on to its end.
const LATE_RUN: &str = r#"const run = async () => {
  const seen = { errors: [] };
  const hls = new Hls({ liveSyncDuration: 3 });
  hls.on(Hls.Events.ERROR, (_, data) => seen.errors.push(`${data.details} ${data.fatal}`));
  const there = next("loadeddata");
  hls.loadSource("/hls/master.m3u8");
  hls.attachMedia(video);
  await there;
  seen.is_live = hls.levels[hls.currentLevel < 0 ? 0 : hls.currentLevel].details.live;
  seen.joined_at = Math.max(video.currentTime, hls.liveSyncPosition);
  const back = next("seeked");
  video.currentTime = 0;
  await back;
  seen.back_at = video.currentTime;
  await fetch("/signal", { method: "POST" });
  const ended = next("ended");
  video.playbackRate = 4;
  await video.play();
  await ended;
  seen.ended_at = video.currentTime;
  seen.corrupted = video.getVideoPlaybackQuality().corruptedVideoFrames;
  return seen;
};"#;

#[derive(Debug, Deserialize)]
struct SeenLate {
    errors: Vec<String>,
    is_live: bool,
    joined_at: f64,
    back_at: f64,
    ended_at: f64,
    corrupted: u32,
}

#[tokio::test(flavor = "multi_thread")]
async fn hls_js_comes_late_to_a_recording_that_runs_goes_back_to_its_beginning_and_plays_to_its_end() {
    let mut published = Published::start(live::live_config(&[(360, None), (180, None)]), 3 * SOON);
    let (first, second) = (published.file("raw.part1.mkv"), published.file("raw.part2.mkv"));
    live::part(&first, 22);
    live::part(&second, 5);
    let whole = std::fs::read(&first).unwrap();
    let cut = whole.len() * 15 / 16;
    std::fs::write(&first, &whole[..cut]).unwrap();
    published.live.part_opened(1, first.clone(), published.file("none"));
    published.wait_for("180p.m3u8", 4).await;
    let _turn = alone().await;
    let (dir, goes_on) = (published.dir.clone(), published.file("none"));
    let rest = async {
        std::fs::write(&first, &whole).unwrap();
        published.live.part_opened(2, second, goes_on);
        std::mem::replace(&mut published.live, live::idle()).finish().await;
    };
    let seen: SeenLate = play_beside(dir, LATE_RUN, rest).await;
    assert!(seen.is_live && seen.joined_at > 3.0 && seen.back_at < 0.2, "{seen:?}");
    assert!((seen.ended_at - 27.0).abs() < 0.5 && seen.corrupted == 0, "{seen:?}");
    assert!(!seen.errors.iter().any(|error| error.ends_with("true")), "{seen:?}");
}
