//! A recording that is to go on with its fast encoder, while that cannot be started, or its file cannot be written: a
//! capture of made-up frames and sound, real encoders, and a file system that fails and hangs. No Chrome.

#![expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plugnmeet_recorder::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
use plugnmeet_recorder::capture::encoder::ffmpeg::Encoder;
use plugnmeet_recorder::capture::encoder::matroska::Tracks;
use plugnmeet_recorder::capture::encoder::replacement::EncoderReplacement;
use plugnmeet_recorder::capture::encoder::stream::{self, StreamWriter};
use plugnmeet_recorder::capture::encoder::stream_queue::StreamSender;
use plugnmeet_recorder::capture::encoder_fallback::{EncoderFallback, FallbackLimits};
use plugnmeet_recorder::capture::encoder_handover::EncoderHandover;
use plugnmeet_recorder::capture::video::damage::Box as Area;
use plugnmeet_recorder::capture::video::frame::Frame;
use plugnmeet_recorder::protocol::ids::{RecordingId, RoomId};
use plugnmeet_recorder::recording::journal::RecordingPart;
use plugnmeet_recorder::recording::raw_file::{RawFile, StoreFailure, continuation};
use plugnmeet_recorder::retry::RetrySchedule;
use rustix::io::Errno;
use tokio::sync::watch;

use crate::logs::Logs;
use crate::measure::{self, Crop, picture, sound};
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};

const SOON: Duration = Duration::from_secs(60);
const TRACKS: Tracks = Tracks { width: 320, height: 180, framerate: 30, sample_rate: 48_000, channels: 2 };
const WHOLE: Crop = Crop::new(0, 0, 320, 180);
/// So many frames a second, and one white one each second.
const FRAMES: u64 = 30;
/// What an attempt has here, and until the next: it may be tried once more where the machine is busy.
const LIMITS: FallbackLimits =
    FallbackLimits { ready: Duration::from_millis(1500), retry: RetrySchedule([Duration::from_millis(100); 3]) };

/// Sends frames and a steady tone until it is told to stop; how much of them there is.
fn capture(sender: &StreamSender, started: Instant, stop: &AtomicBool) -> Duration {
    let (width, height) = (TRACKS.width, TRACKS.height);
    for n in 0_u64.. {
        let at = Duration::from_micros(n * 1_000_000 / FRAMES);
        std::thread::sleep(at.saturating_sub(started.elapsed()));
        if stop.load(Ordering::Relaxed) {
            return at;
        }
        let mut frame = Frame::black(width, height).unwrap();
        let value = u8::from(n % FRAMES < 3) * 255;
        frame.update(Area { x: 0, y: 0, width, height }, &vec![value; (width * height * 4) as usize]).unwrap();
        let sample = |n: u64| (f64::sin(n as f64 * 1000.0 * std::f64::consts::TAU / 48_000.0) * 12_000.0) as i16;
        sender.send_frame(at, Arc::new(frame)).unwrap();
        // What was played since the last one.
        if let Some(last) = n.checked_sub(1) {
            let samples = (last * 1600..n * 1600).flat_map(|n| [sample(n).to_le_bytes(); 2]).flatten().collect();
            sender.send_audio(Duration::from_micros(last * 1_000_000 / FRAMES), samples).unwrap();
        }
    }
    unreachable!()
}

/// A capture that is to change to its fast encoder as soon as that is ready.
struct Capture {
    raw: RawFile,
    encoder: Encoder,
    writer: StreamWriter,
    handover: EncoderHandover,
    started: Instant,
    stop: Arc<AtomicBool>,
    capturing: std::thread::JoinHandle<Duration>,
    _wanted: watch::Sender<bool>,
}

impl Capture {
    /// `fast`: options before the input of the fast encoder.
    async fn start(raw: RawFile, next: PathBuf, fast: &[&str], dir: &Path) -> Self {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let settings = EncoderSettings::new(
            &words("-loglevel error"),
            &words("-c:v libx264 -bf 0 -preset ultrafast -tune zerolatency -c:a copy"),
        );
        let target = EncoderTarget::File(raw.part(&raw.part_name(1)));
        let (encoder, stdin) = Encoder::start(&settings, (TRACKS.width, TRACKS.height), &target, dir).await.unwrap();
        let (sender, counters, writer) = stream::start(stdin, TRACKS, |error| panic!("{error}")).unwrap();
        let mut settings = settings;
        settings.capture.rest.extend(fast.iter().map(|word| (*word).to_owned()));
        let target = EncoderTarget::File(next);
        let replacement = EncoderReplacement { settings, target, tracks: TRACKS, dir: dir.to_owned() };
        let (wanted, is_wanted) = watch::channel(true);
        let fallback = EncoderFallback::new(is_wanted, counters).with_limits(LIMITS);
        let failed = tokio::sync::mpsc::unbounded_channel().0;
        let handover = EncoderHandover::of_recording(replacement, fallback, sender.stream_switch(), failed);
        let (started, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let capturing = std::thread::spawn(move || capture(&sender, started, &stopped));
        Self { raw, encoder, writer, handover, started, stop, capturing, _wanted: wanted }
    }

    /// Nothing takes over before the log says this.
    async fn not_ready_until(&mut self, logs: &Logs, says: &[&str]) {
        let until = Instant::now() + SOON;
        while !says.iter().all(|text| logs.text().contains(text)) {
            assert!(Instant::now() < until, "{says:?} is not in the log: {}", logs.text());
            let ready = tokio::time::timeout(Duration::from_millis(20), self.handover.ready()).await;
            assert!(ready.is_err(), "an encoder took over: {}", logs.text());
        }
    }

    /// As a rig makes it.
    async fn change(&mut self, logs: &Logs) {
        let next = tokio::time::timeout(SOON, self.handover.ready());
        let next = next.await.unwrap_or_else(|_| panic!("no other encoder: {}", logs.text()));
        let (encoder, writer) = next.take_over(self.handover.switch(), self.started.elapsed());
        let old = std::mem::replace(&mut self.encoder, encoder);
        self.handover.retire(old, std::mem::replace(&mut self.writer, writer));
    }

    /// Ends it; what was captured.
    async fn end(mut self) -> (RawFile, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let (captured, _) =
            tokio::join!(tokio::task::spawn_blocking(move || self.capturing.join().unwrap()), self.handover.finish());
        assert!(self.writer.finish(SOON).await);
        self.encoder.finish(SOON).await.unwrap();
        (self.raw, captured.unwrap())
    }
}

fn raw_file(dir: &Path) -> RawFile {
    raw_file_of(dir, "rec-1")
}

fn raw_file_of(dir: &Path, id: &str) -> RawFile {
    let (temporary, main) = (dir.join("temporary"), dir.join("main"));
    std::fs::create_dir_all(&temporary).unwrap();
    let ids = (RecordingId::parse(id).unwrap(), RoomId::parse("room01").unwrap());
    RawFile::new(&temporary, &main, "node_01".as_ref(), &ids.0, &ids.1).unwrap()
}

fn part(raw: &RawFile) -> RecordingPart {
    RecordingPart { file: raw.part_name(1), began_at: Some(1), ..RecordingPart::default() }
}

/// All that was captured is in the raw file, once: no moment of its sound is missing, nor one of its flashes.
async fn assert_delivered(raw: &RawFile, captured: Duration) {
    raw.store_parts(&[part(raw)], false, std::future::ready(()), None).await.unwrap();
    assert_stored(raw, captured).await;
}

async fn assert_stored(raw: &RawFile, captured: Duration) {
    let parts = [part(raw)];
    assert!(!raw.remove_parts(&[parts[0].file.clone()], true).await.unwrap(), "a part was kept");
    let whole = raw.dir.join(raw.name.as_str());
    let info = measure::probe(&whole).unwrap();
    assert!((info.duration - captured.as_secs_f64()).abs() < 0.05, "{} s of {captured:?}", info.duration);
    let samples = sound::samples(&whole).unwrap();
    let silent = samples.chunks(480).position(|chunk| chunk.iter().all(|sample| sample.abs() < 0.1));
    // The last look may be a few samples.
    assert!(silent.is_none_or(|at| at + 1 >= samples.len() / 480), "silence at {silent:?}, in hundredths of a second");
    let flashes = picture::flashes(&whole, WHOLE).unwrap();
    for (flash, wanted) in flashes.iter().zip((0_u32..).map(f64::from)) {
        assert!((flash - wanted).abs() < 0.05, "{flashes:?}");
    }
    assert!(flashes.len() >= captured.as_secs() as usize, "{flashes:?} in {captured:?}");
}

#[tokio::test]
async fn a_disk_that_is_full_or_hangs_for_the_next_file_only_leaves_a_recording_as_it_is_until_it_is_well() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), Logs::capture());
    let place = dir.path().join("disk");
    let disk = FaultyFs::mount(&dir.path().join("behind"), &place, Abilities::ALL);
    let raw = raw_file(dir.path());
    let next = place.join("next.mkv");
    disk.break_down(Requests::Contents, Fault::Error(Errno::NOSPC.raw_os_error()));
    let mut capture = Capture::start(raw, next.clone(), &[], dir.path()).await;
    capture.not_ready_until(&logs, &["PNR-0321", "No space left on device"]).await;
    disk.break_down(Requests::Contents, Fault::Hang);
    capture
        .not_ready_until(&logs, &["recorder.temporary_dir does not answer", "does not end: it waits for a disk"])
        .await;
    // Its ffmpeg could still write there: no other may.
    let attempts = || logs.text().matches("this recording goes on with the fast encoder").count();
    let before = attempts();
    let waiting = tokio::time::timeout(Duration::from_millis(400), capture.handover.ready()).await;
    assert!(waiting.is_err() && attempts() == before, "{}", logs.text());
    disk.heal();
    capture.change(&logs).await;
    // A second with the fast encoder.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (raw, captured) = capture.end().await;
    std::fs::copy(&next, continuation(&raw.part(&raw.part_name(1)))).unwrap();
    assert_delivered(&raw, captured).await;
    assert!(logs.text().contains("the fast encoder takes over"), "{}", logs.text());
}

#[tokio::test]
async fn a_recording_ends_and_is_stored_while_its_next_file_hangs_for_ever() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), Logs::capture());
    let raw = raw_file(dir.path());
    let temporary = dir.path().join("temporary");
    let disk = FaultyFs::mount(&dir.path().join("behind"), &temporary, Abilities::ALL);
    disk.break_down(Requests::ContentsOf(".on.mkv"), Fault::Hang);
    let next = continuation(&raw.part(&raw.part_name(1)));
    let mut capture = Capture::start(raw, next, &[], dir.path()).await;
    capture.not_ready_until(&logs, &["PNR-0321", "does not end: it waits for a disk"]).await;
    let (raw, captured) = tokio::time::timeout(SOON, capture.end()).await.unwrap();
    let parts = [part(&raw)];
    let stored = raw.store_parts(&parts, false, std::future::ready(()), None);
    tokio::time::timeout(SOON, stored).await.expect("the next file holds it up").unwrap();
    disk.heal();
    assert_stored(&raw, captured).await;
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "something is left");
}

#[tokio::test]
async fn an_ffmpeg_that_hangs_or_ends_makes_no_encoder_ready_whatever_file_an_earlier_one_has_left() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), Logs::capture());
    let raw = raw_file(dir.path());
    let next = continuation(&raw.part(&raw.part_name(1)));
    std::fs::write(&next, vec![1; 700]).unwrap();
    // It waits for someone to open the other end.
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let fast = ["-f", "u8", "-i", pipe.to_str().unwrap()];
    let mut capture = Capture::start(raw, next.clone(), &fast, dir.path()).await;
    capture.not_ready_until(&logs, &["PNR-0321", "it has not begun to write its file within 1.5s"]).await;
    std::fs::remove_file(&pipe).unwrap();
    capture.not_ready_until(&logs, &["No such file or directory"]).await;
    // The end comes while one is made ready.
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    capture.not_ready_until(&logs, &["No such file or directory"]).await;
    let _ = tokio::time::timeout(Duration::from_millis(300), capture.handover.ready()).await;
    let (raw, captured) = capture.end().await;
    assert_delivered(&raw, captured).await;
    assert_eq!(std::fs::read_dir(dir.path().join("temporary")).unwrap().count(), 0, "something is left");
}

#[tokio::test]
async fn a_next_file_whose_encoder_never_took_over_is_not_in_the_recording() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw_file(dir.path());
    let (first, next) = (raw.part(&raw.part_name(1)), dir.path().join("next.mkv"));
    let mut capture = Capture::start(raw, next.clone(), &[], dir.path()).await;
    let ready = tokio::time::timeout(SOON, capture.handover.ready()).await.unwrap();
    let switch = capture.handover.switch().clone();
    // As a recorder that is killed leaves them: its ffmpeg sees the end of its input, or is killed.
    let (_, captured) = capture.end().await;
    let (mut encoder, mut writer) = ready.take_over(&switch, captured);
    assert!(writer.finish(SOON).await);
    encoder.finish(SOON).await.unwrap();
    let left = std::fs::read(&next).unwrap();
    let header = left.windows(4).position(|four| four == [0x1f, 0x43, 0xb6, 0x75]).expect("a cluster");
    // It took over as the recording ended.
    let moment = dir.path().join("moment.mkv");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "color=s=320x180:r=30:d=0.03", "-f", "lavfi", "-i", "sine=d=0.03"])
        .args(["-c:v", "libx264", "-c:a", "pcm_s16le"])
        .arg(&moment)
        .status();
    assert!(made.unwrap().success());
    let moment = std::fs::read(&moment).unwrap();
    for (n, left) in [&left[..], &left[..header], &[], &moment].into_iter().enumerate() {
        let raw = raw_file_of(dir.path(), &format!("rec-{}", n + 2));
        let part = raw.part(&raw.part_name(1));
        std::fs::copy(&first, &part).unwrap();
        std::fs::write(continuation(&part), left).unwrap();
        assert_delivered(&raw, captured).await;
        // It was moved, not joined.
        let whole = std::fs::read(raw.dir.join(raw.name.as_str())).unwrap();
        assert!(whole == std::fs::read(&first).unwrap(), "{} bytes", left.len());
        // Nothing but that is no recording.
        std::fs::write(continuation(&part), left).unwrap();
        assert!(raw_file_of(dir.path(), &format!("rec-{}", n + 2)).existing().is_some());
        std::fs::remove_file(raw.dir.join(raw.name.as_str())).unwrap();
        let none = raw.captured(&[self::part(&raw)], false).await;
        assert!(matches!(none, Err(StoreFailure::Nothing(_))), "{none:?}");
        let kept = raw.remove_parts(&[raw.part_name(1)], false).await.unwrap();
        assert_eq!(kept, left == moment, "{} bytes", left.len());
        assert!(!raw.remove_parts(&[raw.part_name(1)], true).await.unwrap());
    }
    std::fs::remove_file(&first).unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("temporary")).unwrap().count(), 0, "something is left");
}
