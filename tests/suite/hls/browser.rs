//! The HLS of a recording in a real Chromium, played by hls.js: it seeks, and plays to the end.

use plugnmeet_recorder::config::VideoRate;
use serde::Deserialize;

use super::packages::{config, package};
use super::player::play;
use super::{SECONDS, mp4};
use crate::recorder::alone;

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
