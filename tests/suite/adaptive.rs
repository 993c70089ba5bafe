//! A broadcast whose far end takes less than it sends, and later all again: a capture of made-up frames and sound, real
//! encoders that follow each other, the relay, a slow line, and nginx with its RTMP module. No Chrome.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plugnmeet_recorder::capture::capture_report::FarEndStats;
use plugnmeet_recorder::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
use plugnmeet_recorder::capture::encoder::ffmpeg::Encoder;
use plugnmeet_recorder::capture::encoder::matroska::Tracks;
use plugnmeet_recorder::capture::encoder::replacement::EncoderReplacement;
use plugnmeet_recorder::capture::encoder::stream::{self, StreamWriter};
use plugnmeet_recorder::capture::encoder::stream_queue::StreamSender;
use plugnmeet_recorder::capture::encoder_handover::EncoderHandover;
use plugnmeet_recorder::capture::rtmp::relay::Relay;
use plugnmeet_recorder::capture::video::damage::Box as Area;
use plugnmeet_recorder::capture::video::frame::Frame;
use plugnmeet_recorder::protocol::ids::RtmpUrl;

use rustix::process::{Pid, Signal, kill_process};

use crate::far_end::{IN_STEP_MS, assert_sync};
use crate::logs::Logs;
use crate::measure::{self, Crop, Packet};
use crate::standin::nginx_rtmp::NginxRtmp;
use crate::standin::slow_line::SlowLine;

const SOON: Duration = Duration::from_secs(60);
const TRACKS: Tracks = Tracks { width: 320, height: 180, framerate: 30, sample_rate: 48_000, channels: 2 };
/// The left half is white for a tenth of a second when the beep begins; the right half is noise.
const FLASH: Crop = Crop::new(0, 0, 160, 180);
/// What the line takes while it is slow, in bytes a second: a third of what the operator has set.
const SLOW: u64 = 500_000 / 8;

/// Sends a frame each thirtieth of a second, and its sound, until it is told to stop.
fn capture(sender: &StreamSender, started: Instant, stop: &AtomicBool) {
    let mut noise = 1_u32;
    let (width, height) = (TRACKS.width, TRACKS.height);
    for n in 0_u64.. {
        let at = Duration::from_micros(n * 1_000_000 / 30);
        std::thread::sleep(at.saturating_sub(started.elapsed()));
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let beeps = n % 30 < 3;
        let mut frame = Frame::black(width, height).unwrap();
        let mut pixels = Vec::with_capacity((width * height * 4) as usize);
        for at in 0..width * height {
            let value = if at % width >= width / 2 {
                noise ^= noise << 13;
                noise ^= noise >> 17;
                noise ^= noise << 5;
                noise.to_le_bytes()[0]
            } else {
                u8::from(beeps) * 255
            };
            pixels.extend_from_slice(&[value, value, value, 0]);
        }
        frame.update(Area { x: 0, y: 0, width, height }, &pixels).unwrap();
        let sample = |n: u64| {
            if beeps { (f64::sin(n as f64 * 1000.0 * std::f64::consts::TAU / 48_000.0) * 12_000.0) as i16 } else { 0 }
        };
        let samples = (n * 1600..(n + 1) * 1600).flat_map(|n| [sample(n).to_le_bytes(); 2]).flatten().collect();
        if sender.send_frame(at, Arc::new(frame)).is_err() || sender.send_audio(at, samples).is_err() {
            return;
        }
    }
}

/// A broadcast through a [`SlowLine`], with a capture that goes on until the end.
struct Broadcast {
    encoder: Encoder,
    writer: StreamWriter,
    handover: EncoderHandover,
    started: Instant,
    stop: Arc<AtomicBool>,
    capturing: std::thread::JoinHandle<()>,
}

impl Broadcast {
    async fn start(line: &SlowLine, dir: &Path, adaptive: bool) -> Self {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let encoder = "-c:v libx264 -preset ultrafast -tune zerolatency -b:v 1500k -maxrate 1500k -bufsize 1500k";
        let settings = EncoderSettings::new(&words("-loglevel error"), &words(&format!("{encoder} -c:a aac -b:a 64k")));
        let url = RtmpUrl::parse(&format!("rtmp://127.0.0.1:{}/live/key-1", line.port)).unwrap();
        let target = EncoderTarget::Rtmp { url, reconnect_for: Duration::from_secs(60), adaptive };
        let (encoder, stdin) = Encoder::start(&settings, (TRACKS.width, TRACKS.height), &target, dir).await.unwrap();
        let (sender, _, writer) = stream::start(stdin, TRACKS, |error| panic!("{error}")).unwrap();
        let replacement = EncoderReplacement { settings, target, tracks: TRACKS, dir: dir.to_owned() };
        let failed = tokio::sync::mpsc::unbounded_channel().0;
        let handover =
            EncoderHandover::of_broadcast(replacement, encoder.relay().unwrap(), sender.stream_switch(), failed);
        let (started, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let capturing = std::thread::spawn(move || capture(&sender, started, &stopped));
        Self { encoder, writer, handover, started, stop, capturing }
    }

    /// The next change of encoders, as a rig makes it. Returns when it was, in milliseconds of the broadcast.
    async fn change(&mut self, logs: &Logs) -> u32 {
        let next = tokio::time::timeout(SOON, self.handover.ready());
        let next = next.await.unwrap_or_else(|_| panic!("no other encoder: {}", logs.text()));
        let (mut encoder, writer) = next.take_over(self.handover.switch(), self.started.elapsed());
        encoder.take_over(&mut self.encoder);
        let old = std::mem::replace(&mut self.encoder, encoder);
        self.handover.retire(old, std::mem::replace(&mut self.writer, writer));
        u32::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    /// In kbit/s.
    fn lowest_bit_rate(&self) -> u32 {
        let stats = self.encoder.relay().map(Relay::far_end_stats).unwrap();
        stats.lowest_bit_rate.expect("no bit rate was lowered")
    }

    async fn end(self) -> FarEndStats {
        let Self { mut encoder, mut writer, handover, stop, capturing, .. } = self;
        stop.store(true, Ordering::Relaxed);
        capturing.join().unwrap();
        handover.finish().await;
        assert!(writer.finish(SOON).await);
        let stats = encoder.relay().map(Relay::far_end_stats).unwrap();
        encoder.finish(SOON).await.unwrap();
        stats
    }
}

#[tokio::test]
async fn the_bit_rate_follows_what_the_far_end_takes_in_one_stream_without_a_gap() {
    let logs = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    let nginx = NginxRtmp::start(dir.path()).await.unwrap();
    let line = SlowLine::to(RtmpUrl::parse(&nginx.url("key-1")).unwrap().port());
    let mut broadcast = Broadcast::start(&line, dir.path(), true).await;
    let file = nginx.wait_for_media("key-1", 1, 4000, SOON).await.unwrap();
    line.takes(SLOW);
    let mut lowered_ms = broadcast.change(&logs).await;
    // On a busy machine the first measurement holds some of what the line took before.
    while broadcast.lowest_bit_rate() >= 500 {
        lowered_ms = broadcast.change(&logs).await;
    }
    let lowered_to = broadcast.lowest_bit_rate();
    nginx.wait_for_media("key-1", 1, lowered_ms + 6000, SOON).await.unwrap();
    line.takes(u64::MAX);
    let mut raised_ms = broadcast.change(&logs).await;
    // On a busy machine what was measured before may lower it once more first.
    while logs.lines("with a higher bit rate").is_empty() {
        raised_ms = broadcast.change(&logs).await;
    }
    nginx.wait_for_media("key-1", 1, raised_ms + 4000, SOON).await.unwrap();
    let stats = broadcast.end().await;

    assert_eq!((nginx.received("key-1").len(), stats.losses), (1, 0), "{}", logs.text());
    let lowest = stats.lowest_bit_rate.unwrap_or_else(|| panic!("{}", logs.text()));
    assert!((100..500).contains(&lowest), "{lowest}");
    let packets = measure::packets(&file).unwrap();
    assert_whole(&packets);
    let slow = f64::from(lowered_ms) / 1000.0 + 1.0..f64::from(lowered_ms) / 1000.0 + 5.0;
    let in_slow = packets.iter().filter(|packet| packet.is_video && slow.contains(&packet.at));
    let kbit_per_s = in_slow.map(|packet| packet.size).sum::<u64>() as f64 * 8.0 / 1000.0 / 4.0;
    assert!(kbit_per_s < f64::from(lowered_to) * 1.3, "{kbit_per_s} instead of {lowered_to} kbit/s");
    // The change to the higher rate costs no picture.
    let raised = f64::from(raised_ms) / 1000.0 - 1.0..f64::from(raised_ms) / 1000.0 + 2.0;
    let pictures: Vec<f64> = packets
        .iter()
        .filter(|packet| packet.is_video && raised.contains(&packet.at))
        .map(|packet| packet.at)
        .collect();
    assert!(pictures.windows(2).all(|pair| pair[1] - pair[0] < 0.07), "{pictures:?}");
    assert_sync(&file, FLASH, 15, IN_STEP_MS);
    for line in ["with a lower bit rate", "with a higher bit rate"] {
        assert!(!logs.lines(line).is_empty(), "{line}: {}", logs.text());
    }
    assert!(!logs.text().contains("key-1"), "{}", logs.text());
}

#[tokio::test]
async fn an_encoder_that_hangs_when_it_is_replaced_does_not_end_the_broadcast() {
    let logs = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    let nginx = NginxRtmp::start(dir.path()).await.unwrap();
    let line = SlowLine::to(RtmpUrl::parse(&nginx.url("key-1")).unwrap().port());
    let mut broadcast = Broadcast::start(&line, dir.path(), true).await;
    let file = nginx.wait_for_media("key-1", 1, 4000, SOON).await.unwrap();
    line.takes(SLOW);
    // It still reads nothing and ends at nothing when the next one is there.
    let stopped = Pid::from_raw(broadcast.encoder.pid().cast_signed()).unwrap();
    while logs.lines("with a lower bit rate").is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    kill_process(stopped, Signal::STOP).unwrap();
    let changed_ms = broadcast.change(&logs).await;
    line.takes(u64::MAX);
    nginx
        .wait_for_media("key-1", 1, changed_ms + 4000, SOON)
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", logs.text()));
    let stats = broadcast.end().await;
    assert_eq!((nginx.received("key-1").len(), stats.losses), (1, 0), "{}", logs.text());
    assert!(!logs.lines("the encoder that was replaced did not end well").is_empty(), "{}", logs.text());
    assert!(rustix::process::test_kill_process(stopped).is_err(), "it is left behind");
    assert_sync(&file, FLASH, 5, IN_STEP_MS);
}

#[tokio::test]
async fn a_slow_far_end_costs_pictures_and_no_sound_where_the_bit_rate_stays() {
    let logs = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    let nginx = NginxRtmp::start(dir.path()).await.unwrap();
    let line = SlowLine::to(RtmpUrl::parse(&nginx.url("key-1")).unwrap().port());
    let broadcast = Broadcast::start(&line, dir.path(), false).await;
    let file = nginx.wait_for_media("key-1", 1, 3000, SOON).await.unwrap();
    line.takes(SLOW);
    let left_out = async {
        while logs.lines("pictures are left out, the sound is not").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, left_out).await.unwrap_or_else(|_| panic!("{}", logs.text()));
    // The kernel would give up a far end that is slow for more than the ten seconds in which it must take something.
    let slow_ms = u32::try_from(broadcast.started.elapsed().as_millis()).unwrap();
    let received = nginx.wait_for_media("key-1", 1, slow_ms + 11_000, SOON).await;
    received.unwrap_or_else(|e| panic!("{e:#}\n{}", logs.text()));
    line.takes(u64::MAX);
    let well_ms = u32::try_from(broadcast.started.elapsed().as_millis()).unwrap();
    nginx.wait_for_media("key-1", 1, well_ms + 4000, SOON).await.unwrap();
    let stats = broadcast.end().await;
    assert_eq!((nginx.received("key-1").len(), stats.losses, stats.lowest_bit_rate), (1, 0, None), "{}", logs.text());
    let packets = measure::packets(&file).unwrap();
    assert_whole(&packets);
    // All but those that were left out have come, up to what was on its way at the end.
    let came = packets.iter().filter(|packet| packet.is_video).count() as u64;
    let made = (packets.last().unwrap().at * 30.0) as u64;
    assert!(
        stats.pictures_left_out >= 60 && (came + stats.pictures_left_out).abs_diff(made) <= 15,
        "{stats:?} {came} of {made}"
    );
    assert_sync(&file, FLASH, 5, IN_STEP_MS);
}

/// Times only go forward, and no sound is missing.
fn assert_whole(packets: &[Packet]) {
    let times =
        |video| packets.iter().filter(|packet| packet.is_video == video).map(|packet| packet.at).collect::<Vec<_>>();
    let gaps: Vec<f64> =
        times(false).windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| !(0.0..0.1).contains(gap)).collect();
    assert!(gaps.is_empty(), "the sound has gaps: {gaps:?}");
    assert!(times(true).windows(2).all(|pair| pair[1] >= pair[0]), "times run backwards");
}
