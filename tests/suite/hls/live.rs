//! Recordings that are published while they run: what their playlists say as they grow, which frames are in their segments,
//! what becomes of them when they have ended, and when their ffmpeg stands still.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use m3u8_rs::{MediaPlaylist, MediaPlaylistType};
use plugnmeet_recorder::config::store_url::StoreUrl;
use plugnmeet_recorder::config::{HlsConfig, StorageConfig};
use plugnmeet_recorder::hls::live::note::{LiveNote, LiveState, NOTE};
use plugnmeet_recorder::hls::live::publisher::{LiveHls, LiveRecording, LiveSettings};
use plugnmeet_recorder::storage::main_path::{MainPath, StoreAbilities};
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::packages::config;
use super::{node, parse};
use crate::measure;
use crate::recorder::SOON;
use crate::store::{Sender, pictures};
use crate::transcode::names;

const DIR: &str = "node_01/hls/room01/RM_1";

/// A part of a raw file as the fast encoder writes it: 25 frames a second for 5 s, then one a second; a keyframe every 4 s.
pub fn part(path: &Path, seconds: u32) {
    let picture = format!("testsrc2=s=640x360:r=25:d={seconds},select='lt(t\\,5)+not(mod(n\\,25))'");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", &picture])
        .args(["-f", "lavfi", "-i", &format!("sine=f=1000:r=48000:d={seconds}")])
        .args("-fps_mode vfr -enc_time_base:v 1:1000 -c:v libx264 -preset ultrafast -bf 0 -pix_fmt yuv420p".split(' '))
        .args(["-force_key_frames", "expr:gte(t,n_forced*4)", "-c:a", "pcm_s16le", "-ac", "2"])
        .args("-f matroska -cluster_time_limit 1000 -flush_packets 1 -y".split(' '))
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

/// A recording that is published into a directory and a `file://` store.
pub struct Published {
    pub live: LiveHls,
    /// In `main_path`.
    pub dir: PathBuf,
    store: PathBuf,
    stores: TaskTracker,
    sender: Sender,
    seen: BTreeMap<String, String>,
}

impl Published {
    pub fn start(config: HlsConfig, limit: Duration) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let store = dir.path().join("store");
        std::fs::create_dir_all(&store).unwrap();
        let url = StoreUrl::parse(&format!("file://{}", store.display())).unwrap();
        let storage = StorageConfig { deliver: Some(url.clone()), ..StorageConfig::default() };
        let sender = Sender::start_with(Arc::clone(&dir), storage, pictures());
        let main_path = MainPath::unwatched(&dir.path().join("main"), StoreAbilities::ALL);
        let (uploads, stores) = (sender.uploads.clone(), TaskTracker::new());
        let dir = main_path.path().join(DIR);
        let (node, encoding) = ("node_01".to_owned(), None);
        let settings = LiveSettings { config, copies: true, encoding, node, main_path, uploads, limit };
        let stop_store = CancellationToken::new();
        let recording = LiveRecording { dir: DIR.to_owned(), store: Some(url), stop_store };
        let live = LiveHls::start(settings, recording, &stores);
        let store = store.join(DIR);
        Self { live, dir, store, stores, sender, seen: BTreeMap::new() }
    }

    /// Where a test puts the file of a part.
    pub fn file(&self, name: &str) -> PathBuf {
        self.sender.dir.path().join(name)
    }

    /// Looks at the playlists until this many segments of a track are there, and the master playlist.
    pub async fn wait_for(&mut self, playlist: &str, segments: usize) {
        let end = Instant::now() + 2 * SOON;
        let is_there = |dir: &Path| dir.join("master.m3u8").exists();
        while self.look().get(playlist).is_none_or(|found| found.segments.len() < segments) || !is_there(&self.dir) {
            assert!(Instant::now() < end, "{playlist}: {:?}", self.seen);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The playlists as they are now: lines are only ever added.
    pub fn look(&mut self) -> BTreeMap<String, MediaPlaylist> {
        let mut found = BTreeMap::new();
        let files = if self.dir.exists() { names(&self.dir) } else { Vec::new() };
        let is_playlist = |name: &String| Path::new(name).extension().is_some_and(|end| end == "m3u8");
        for name in files.into_iter().filter(|name| is_playlist(name) && !name.starts_with(['.', 'm'])) {
            let text = std::fs::read_to_string(self.dir.join(&name)).unwrap();
            let before = self.seen.insert(name.clone(), text.clone()).unwrap_or_default();
            assert!(text.starts_with(&before), "{name} was changed:\n{before}\nand now\n{text}");
            let playlist = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
            assert_eq!((playlist.media_sequence, &playlist.playlist_type), (0, &Some(MediaPlaylistType::Event)));
            assert!(playlist.independent_segments && playlist.target_duration == 8, "{text}");
            for segment in &playlist.segments {
                assert!(segment.duration.round() <= 8.0 && self.dir.join(&segment.uri).exists(), "{text}");
            }
            found.insert(name, playlist);
        }
        found
    }

    pub fn note(&self) -> Option<LiveNote> {
        LiveNote::read(&self.dir).unwrap()
    }
}

/// Packets of all segments of each part, as players put them together.
fn parts(dir: &Path, playlist: &MediaPlaylist) -> Vec<Vec<measure::Packet>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut header = Vec::new();
    for segment in &playlist.segments {
        let media = std::fs::read(dir.join(&segment.uri)).unwrap();
        if let Some(map) = &segment.map {
            header = std::fs::read(dir.join(&map.uri)).unwrap();
            assert_eq!(segment.discontinuity, !parts.is_empty());
            parts.push(header.clone());
        }
        let alone = dir.with_file_name("alone.mp4");
        std::fs::write(&alone, [&header[..], &media].concat()).unwrap();
        assert!(measure::packets(&alone).unwrap()[0].is_key, "{}", segment.uri);
        parts.last_mut().unwrap().extend(media);
    }
    let packets = |bytes: Vec<u8>| {
        let whole = dir.with_file_name("whole.mp4");
        std::fs::write(&whole, bytes).unwrap();
        assert_eq!(measure::decode(&whole).unwrap(), [] as [String; 0]);
        measure::packets(&whole).unwrap()
    };
    parts.into_iter().map(packets).collect()
}

fn of_kind(packets: &[measure::Packet], is_video: bool) -> Vec<measure::Packet> {
    packets.iter().filter(|packet| packet.is_video == is_video).copied().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_runs_is_published_segment_by_segment_and_its_end_is_the_end_of_its_playlists() {
    let mut published = Published::start(live_config(&[(360, None), (180, None)]), 3 * SOON);
    let (first, second) = (published.file("raw.part1.mkv"), published.file("raw.part2.mkv"));
    part(&first, 14);
    part(&second, 6);
    let whole = std::fs::read(&first).unwrap();
    // Most of it: the moving part and some more.
    let cut = whole.len() * 7 / 8;
    std::fs::write(&first, &whole[..cut]).unwrap();
    published.live.part_opened(1, first.clone(), published.file("none"));
    published.wait_for("360p.m3u8", 2).await;
    published.wait_for("180p.m3u8", 2).await;
    published.wait_for("audio.m3u8", 2).await;
    let parsed = parse(&published.dir);
    let states: Vec<_> = parsed.media.values().map(|playlist| playlist.end_list).collect();
    assert_eq!((states, published.note().unwrap().state), (vec![false; 3], LiveState::Running));
    let codecs: Vec<_> = parsed.master.variants.iter().map(|one| one.codecs.clone().unwrap()).collect();
    assert!(codecs.iter().all(|codecs| codecs.starts_with("avc1.") && codecs.ends_with(",mp4a.40.2")), "{codecs:?}");
    let mut file = std::fs::OpenOptions::new().append(true).open(&first).unwrap();
    file.write_all(&whole[cut..]).unwrap();
    published.live.part_is_complete();
    published.live.part_opened(2, second.clone(), published.file("none"));
    published.wait_for("360p.m3u8", 5).await;
    let Published { live, dir, store, stores, .. } = &mut published;
    let (dir, store) = (dir.clone(), store.clone());
    let ended = LiveHls::finish(std::mem::replace(live, idle()));
    ended.await;
    stores.close();
    tokio::time::timeout(SOON, stores.wait()).await.unwrap();

    let playlists = published.look();
    assert!(playlists.values().all(|playlist| playlist.end_list) && playlists.len() == 3, "{playlists:?}");
    for (name, playlist) in &playlists {
        let is_video = name != "audio.m3u8";
        let found = parts(&dir, playlist);
        assert_eq!(found.len(), 2, "{name}");
        for (packets, raw) in found.iter().zip([&first, &second]) {
            let expected = of_kind(&measure::packets(raw).unwrap(), is_video);
            if !is_video {
                let lasts = expected.last().unwrap().at;
                let steps = packets.windows(2).map(|pair| pair[1].at - pair[0].at);
                assert!(packets[0].at.abs() < 0.03 && (packets.last().unwrap().at - lasts).abs() < 0.1, "{name}");
                assert!(steps.into_iter().all(|step| (step - 1024.0 / 48_000.0).abs() < 0.001), "{name}");
                continue;
            }
            assert_eq!(packets.len(), expected.len(), "{name}: frames");
            for (packet, expected) in packets.iter().zip(&expected) {
                assert!((packet.at - expected.at).abs() < 0.001, "{name}: {} instead of {}", packet.at, expected.at);
                // The highest is the picture of the raw file.
                assert!(name == "180p.m3u8" || packet.size == expected.size, "{name}: {}", packet.at);
            }
        }
        let lasts: f32 = playlist.segments.iter().map(|segment| segment.duration).sum();
        // The last frame of the second part is shown for as long as all others.
        assert!((lasts - 20.0).abs() < if is_video { 1.0 } else { 0.1 }, "{name}: {lasts}");
    }
    let master = parse(&dir).master;
    assert!(master.variants.iter().all(|one| one.bandwidth >= one.average_bandwidth.unwrap()), "{master:?}");
    // The store has the same.
    let note = published.note().unwrap();
    assert_eq!((note.state, LiveNote::read(&store).unwrap()), (LiveState::Complete, Some(note.clone())));
    let mut files = [note.files, vec![NOTE.to_owned()]].concat();
    files.sort();
    assert_eq!((names(&dir), names(&store)), (files.clone(), files.clone()));
    for name in files {
        assert_eq!(std::fs::read(dir.join(&name)).unwrap(), std::fs::read(store.join(&name)).unwrap(), "{name}");
    }
}

pub fn live_config(renditions: &[(u32, Option<plugnmeet_recorder::config::VideoRate>)]) -> HlsConfig {
    HlsConfig { live: true, ..config(renditions) }
}

/// One that has nothing to do.
pub fn idle() -> LiveHls {
    Published::start(live_config(&[(360, None)]), SOON).live
}

/// The processes of this test that make segments of this length.
fn ffmpegs(segment_us: u32) -> Vec<Pid> {
    let is_it = |pid: &Pid| {
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("-frag_duration\0{segment_us}\0"))
    };
    let pids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw).filter(is_it).collect()
}

/// Publishes half of a file until something of it is there, where `begun`, and does this to its ffmpeg: the playlists end, and
/// nothing happens to the file.
async fn ends_with(signal: Signal, segment_us: u32, limit: Duration, begun: bool) {
    let segment = Duration::from_micros(segment_us.into());
    let config = HlsConfig { segment, ..live_config(&[(360, None), (180, None)]) };
    let mut published = Published::start(config, limit);
    let file = published.file("raw.part1.mkv");
    part(&file, 30);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    published.live.part_opened(1, file.clone(), published.file("none"));
    if begun {
        published.wait_for("180p.m3u8", 1).await;
    }
    let is_running = |published: &Published| published.note().is_none_or(|note| note.state == LiveState::Running);
    let mut rest = Some(&whole[whole.len() / 2..]);
    let end = Instant::now() + 3 * SOON;
    while is_running(&published) {
        assert!(Instant::now() < end, "it is published on");
        for ffmpeg in ffmpegs(segment_us) {
            // It may have ended just now.
            let _ = kill_process(ffmpeg, signal);
            if let Some(rest) = rest.take() {
                std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(rest).unwrap();
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(published.note().unwrap().state, LiveState::Abandoned);
    let playlists = published.look();
    assert!(playlists.values().all(|playlist| playlist.end_list) && (!begun || playlists.len() == 3), "{playlists:?}");
    // One that was told to end has ended a moment later.
    while !ffmpegs(segment_us).is_empty() {
        assert!(Instant::now() < end, "{signal:?}: its ffmpeg is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(rest.is_some() || std::fs::read(&file).unwrap() == whole);
    tokio::time::timeout(SOON, std::mem::replace(&mut published.live, idle()).finish()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ffmpeg_that_stands_still_or_is_killed_ends_the_playlists_and_not_the_raw_file() {
    // On a busy machine it may be behind by so much before it is stopped, which comes to the same.
    ends_with(Signal::STOP, 3_999_000, Duration::from_secs(4), false).await;
    ends_with(Signal::KILL, 3_998_000, 3 * SOON, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_is_the_hls_of_a_recording_only_where_it_is_all_of_it() {
    let mut published = Published::start(live_config(&[(360, None), (180, None)]), 3 * SOON);
    let file = published.file("raw.mkv");
    super::raw(&file);
    published.live.part_opened(1, file, published.file("none"));
    std::mem::replace(&mut published.live, idle()).finish().await;
    let note = published.note().unwrap();
    assert_eq!(note.state, LiveState::Complete);
    node::made_of(&published.dir, &note).await;
}
