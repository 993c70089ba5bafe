//! One MP4 into renditions: frames, times and playlists.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plugnmeet_recorder::config::{HlsConfig, HlsRendition, VideoRate};
use plugnmeet_recorder::hls::packager::{Package, Packager};
use tokio_util::sync::CancellationToken;

use super::{Parsed, SECONDS, mp4, parse};
use crate::measure::{self, Crop, picture, sound, sync};

/// A time is rounded to the unit of its file.
const ROUNDING: f64 = 0.001;

pub fn config(renditions: &[(u32, Option<VideoRate>)]) -> HlsConfig {
    let renditions = renditions.iter().map(|&(height, rate)| HlsRendition { height, rate }).collect();
    HlsConfig { renditions, segment: Duration::from_secs(4), live: false }
}

/// Packages the MP4 into a directory `hls` beside it, with the final names.
pub async fn package(mp4: &Path, config: &HlsConfig) -> PathBuf {
    let (work, dir) = (mp4.with_file_name("work"), mp4.with_file_name("hls"));
    std::fs::create_dir_all(&work).unwrap();
    std::fs::create_dir_all(&dir).unwrap();
    let packager = Packager { mp4, dir: &work, config, cancel: &CancellationToken::new() };
    let Package { media, playlists } = packager.run().await.unwrap();
    for (from, name) in media {
        std::fs::rename(from, dir.join(name)).unwrap();
    }
    for (name, text) in playlists {
        std::fs::write(dir.join(name), text).unwrap();
    }
    dir
}

/// When the frames of a file are shown.
fn frames(path: &Path) -> Vec<f64> {
    let packets = measure::packets(path).unwrap();
    packets.iter().filter(|packet| packet.is_video).map(|packet| packet.at).collect()
}

fn assert_same_times(times: &[f64], expected: &[f64], what: &str) {
    assert_eq!(times.len(), expected.len(), "{what}: frames");
    for (time, expected) in times.iter().zip(expected) {
        assert!((time - expected).abs() <= ROUNDING, "{what}: a frame at {time} instead of {expected}");
    }
}

/// Each segment alone, with the file's beginning before it, as a player gets it.
fn assert_segments(dir: &Path, parsed: &Parsed, name: &str, expected: &[f64]) {
    let playlist = &parsed.media[name];
    let map = playlist.segments[0].map.as_ref().unwrap();
    let bytes = std::fs::read(dir.join(&map.uri)).unwrap();
    let range = map.byte_range.as_ref().unwrap();
    assert_eq!(range.offset, Some(0));
    let header = &bytes[..usize::try_from(range.length).unwrap()];
    let (mut next, mut all, mut begin) = (header.len(), Vec::new(), 0.0);
    for segment in &playlist.segments {
        assert_eq!(segment.uri, map.uri, "{name}");
        let range = segment.byte_range.as_ref().unwrap();
        let (at, length) = (range.offset.unwrap(), range.length);
        assert_eq!(usize::try_from(at).unwrap(), next, "{name}: a gap in the file");
        next += usize::try_from(length).unwrap();
        let alone = dir.with_file_name("segment.mp4");
        std::fs::write(&alone, [header, &bytes[next - usize::try_from(length).unwrap()..next]].concat()).unwrap();
        let packets = measure::packets(&alone).unwrap();
        assert!(packets[0].is_key, "{name}: a segment does not begin with a keyframe");
        assert!((packets[0].at - begin).abs() < 0.03, "{name}: a segment of {begin} begins at {}", packets[0].at);
        assert_eq!(measure::decode(&alone).unwrap(), [] as [String; 0], "{name}");
        all.extend(packets.iter().map(|packet| packet.at));
        let target = u16::try_from(playlist.target_duration).unwrap();
        assert!(segment.duration.round() <= f32::from(target), "{name}");
        begin += f64::from(segment.duration);
    }
    assert_eq!(next, bytes.len(), "{name}: what no segment holds");
    assert!((begin - SECONDS).abs() < 0.05, "{name} lasts {begin} s");
    assert_same_times(&all, expected, name);
}

#[tokio::test]
async fn every_rendition_has_the_frames_of_the_mp4_at_their_times_cut_at_the_same_keyframes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rec.mp4");
    mp4(&file, "expr:gte(t,n_forced*4)", false);
    let rates = [(1080, None), (240, Some(VideoRate::Crf(28))), (120, Some(VideoRate::BitRate(100_000)))];
    let hls = package(&file, &config(&rates)).await;
    let parsed = parse(&hls);
    let sizes: Vec<_> = parsed.master.variants.iter().map(|one| one.resolution.unwrap()).collect();
    assert_eq!(
        sizes.iter().map(|size| (size.width, size.height)).collect::<Vec<_>>(),
        [(640, 360), (426, 240), (214, 120)]
    );
    let times = frames(&file);
    assert_eq!(times.len(), 150 + 1 + 6);
    for variant in &parsed.master.variants {
        assert_segments(&hls, &parsed, &variant.uri, &times);
        assert!(variant.codecs.as_ref().unwrap().starts_with("avc1."), "{variant:?}");
        assert!(variant.codecs.as_ref().unwrap().ends_with(",mp4a.40.2"), "{variant:?}");
        assert!(variant.bandwidth >= variant.average_bandwidth.unwrap(), "{variant:?}");
        assert_eq!(variant.audio.as_deref(), Some(parsed.master.alternatives[0].group_id.as_str()));
    }
    let cuts: Vec<Vec<f32>> = parsed.master.variants.iter().map(|one| durations(&parsed, &one.uri)).collect();
    assert!(cuts.windows(2).all(|pair| pair[0] == pair[1]), "{cuts:?}");
    // The picture that stands still is one frame, and one segment.
    assert!(cuts[0].iter().any(|lasts| *lasts >= 10.0), "{cuts:?}");
    let targets: Vec<_> = parsed.media.values().map(|playlist| playlist.target_duration).collect();
    assert!(targets.windows(2).all(|pair| pair[0] == pair[1]), "{targets:?}");
    assert!(parsed.media.values().all(|playlist| playlist.end_list && playlist.independent_segments));
    // The highest is the MP4's own picture: to the byte.
    let pictures: Vec<_> = [file.clone(), hls.join(&parsed.media["360p.m3u8"].segments[0].uri)]
        .iter()
        .map(|path| measure::packets(path).unwrap().iter().filter(|one| one.is_video).map(|one| one.size).collect())
        .collect::<Vec<Vec<u64>>>();
    assert_eq!(pictures[0], pictures[1]);
    // The sound, without its lead-in, in step with the picture of each rendition.
    let sound_of = hls.join(&parsed.media["audio.m3u8"].segments[0].uri);
    let of_mp4 = measure::packets(&file).unwrap();
    let expected: Vec<f64> = of_mp4.iter().filter(|one| !one.is_video && one.at >= 0.0).map(|one| one.at).collect();
    assert_segments(&hls, &parsed, "audio.m3u8", &expected);
    let beeps = sound::beeps(&sound_of, 1000.0).unwrap();
    for (name, height) in [("360p.m3u8", 360), ("240p.m3u8", 240)] {
        let media = hls.join(&parsed.media[name].segments[0].uri);
        let flashes = picture::flashes(&media, Crop::new(10, 10, height, height / 2)).unwrap();
        let sync = sync::pair(&beeps, &flashes, 3);
        assert!(sync.offsets.len() >= 2 && sync.worst().abs() < 25.0, "{name}: {sync}: {:?}", sync.offsets);
    }
}

fn durations(parsed: &Parsed, name: &str) -> Vec<f32> {
    parsed.media[name].segments.iter().map(|segment| segment.duration).collect()
}

#[tokio::test]
async fn a_picture_whose_keyframes_are_too_far_apart_is_encoded_with_more_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rec.mp4");
    // One keyframe, at the beginning.
    mp4(&file, "expr:0", false);
    let hls = package(&file, &config(&[(1080, None)])).await;
    let parsed = parse(&hls);
    assert!(durations(&parsed, "360p.m3u8").len() >= 4, "{:?}", durations(&parsed, "360p.m3u8"));
    assert_segments(&hls, &parsed, "360p.m3u8", &frames(&file));
}
