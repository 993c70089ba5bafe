//! hls.js on a line that becomes slow and fast again: it changes to the lower rendition and back, without a gap.

use std::time::Duration;

use plugnmeet_recorder::config::{HlsConfig, VideoRate};
use serde::Deserialize;

use super::packages::{config, package};
use super::player::play;
use crate::recorder::alone;
use crate::transcode::ffmpeg;

const SECONDS: f64 = 30.0;
const SEGMENT: Duration = Duration::from_secs(2);

/// At three times the speed the higher rendition needs 375 kB/s, the lower one 75, the sound 25. The line is slow from the
/// third segment on, until two segments of the lower rendition are there. hls.js takes each answer for one of 50 ms at
/// least, and weighs it by how long it took: where all come at once, only a short memory sees that the line is fast again.
const RUN: &str = r#"
const run = async () => {
  const seen = { shown: [], loaded: [], heights: [], errors: [], waits: 0 };
  const hls = new Hls({
    startLevel: 1, maxBufferLength: 8, maxMaxBufferLength: 8, startFragPrefetch: false,
    abrEwmaFastVoD: 0.05, abrEwmaSlowVoD: 0.1,
  });
  let is = "fast";
  hls.on(Hls.Events.ERROR, (_, data) => seen.errors.push(`${data.details} ${data.fatal}`));
  hls.on(Hls.Events.FRAG_BUFFERED, (_, { frag }) => {
    if (frag.type !== "main" || frag.sn === "initSegment") return;
    seen.loaded.push([frag.level, frag.start, frag.end, Math.round(hls.bandwidthEstimate)]);
    const low = seen.loaded.filter(([level]) => level === 0).length;
    if (is === "fast" && frag.sn >= 2) { is = "slow"; line(150e3); }
    if (is === "slow" && low >= 2) { is = "fast again"; line(0); }
  });
  hls.on(Hls.Events.FRAG_CHANGED, (_, { frag }) => seen.shown.push(frag.level));
  video.addEventListener("resize", () => seen.heights.push(video.videoHeight));
  video.addEventListener("waiting", () => seen.waits += 1);
  const there = next("loadeddata");
  hls.loadSource("/hls/master.m3u8");
  hls.attachMedia(video);
  await there;
  video.playbackRate = 3;
  const ended = next("ended");
  await video.play();
  await ended;
  seen.ended_at = video.currentTime;
  seen.buffered = [];
  for (let n = 0; n < video.buffered.length; n++) seen.buffered.push([video.buffered.start(n), video.buffered.end(n)]);
  seen.corrupted = video.getVideoPlaybackQuality().corruptedVideoFrames;
  return seen;
};"#;

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "what a failure shows")]
struct Seen {
    /// The renditions of the segments that were shown, 0 the lower one.
    shown: Vec<u32>,
    /// The segments that were loaded: rendition, begin, end, the bits a second that the line carries as hls.js has it.
    loaded: Vec<(u32, f64, f64, f64)>,
    /// Of the picture, each time it has changed.
    heights: Vec<u32>,
    errors: Vec<String>,
    waits: u32,
    ended_at: f64,
    buffered: Vec<(f64, f64)>,
    corrupted: u32,
}

#[tokio::test]
async fn a_player_goes_down_on_a_slow_line_and_up_again_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rec.mp4");
    // Noise costs the bits that it is given.
    ffmpeg(
        "-f lavfi -i testsrc2=s=640x360:r=12:d=30,noise=alls=30:allf=t -f lavfi -i sine=r=48000:d=30 -c:v libx264 -preset \
         ultrafast -bf 0 -crf 30 -pix_fmt yuv420p -force_key_frames expr:gte(t,n_forced*2) -c:a aac -f mp4",
        &file,
    );
    let rates = [(360, Some(VideoRate::BitRate(1_000_000))), (180, Some(VideoRate::BitRate(200_000)))];
    let hls = package(&file, &HlsConfig { segment: SEGMENT, ..config(&rates) }).await;
    let _turn = alone().await;
    let seen: Seen = play(hls, RUN).await;
    println!("{seen:?}");
    // One change is one run of equal numbers.
    let runs = |values: &[u32]| {
        let mut runs = values.to_vec();
        runs.dedup();
        runs
    };
    assert_eq!(runs(&seen.shown), [1, 0, 1], "{seen:?}");
    assert_eq!(runs(&seen.heights), [360, 180, 360], "{seen:?}");
    assert!(!seen.errors.iter().any(|error| error.ends_with("true") || error.contains("Hole")), "{seen:?}");
    assert_eq!((seen.buffered.len(), seen.corrupted), (1, 0), "{seen:?}");
    let (begin, end) = seen.buffered[0];
    assert!(begin < 0.1 && (end - SECONDS).abs() < 0.2 && (seen.ended_at - SECONDS).abs() < 0.2, "{seen:?}");
}
