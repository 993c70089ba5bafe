//! Parts of a rig that stand still instead of dying: they are noticed within 15 s and named, what was recorded before can be
//! read, and the rig closes all the same. A thread that panics is told like any other part that breaks.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use plugnmeet_recorder::capture::audio::pulseaudio::{PulseAudio, SAMPLE_RATE};
use plugnmeet_recorder::capture::audio::recorder::{AudioRecorder, CHANNELS};
use plugnmeet_recorder::capture::component_error::ComponentError;
use plugnmeet_recorder::capture::encoder::matroska::Tracks;
use plugnmeet_recorder::capture::encoder::stream::{self, StreamSender, StreamWriter};
use plugnmeet_recorder::capture::video::display::Display;
use plugnmeet_recorder::capture::video::grabber::Grabber;
use plugnmeet_recorder::capture::video::pacer::FramePacing;
use rustix::process::Signal;

use crate::breaks::{Part, assert_one_of, broken_by};

const LIMIT: Duration = Duration::from_secs(20);
const SIZE: (u32, u32) = (640, 360);

#[tokio::test(flavor = "multi_thread")]
async fn an_ffmpeg_that_is_stopped_is_noticed() {
    assert_one_of(&broken_by(Signal::STOP, Part::Ffmpeg).await, &["ffmpeg hangs: it has encoded and written nothing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_display_that_is_stopped_is_noticed() {
    // Not Chrome, which hangs with it.
    assert_one_of(&broken_by(Signal::STOP, Part::Xvfb).await, &["Xvfb hangs: it has not answered"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_server_that_is_stopped_is_noticed() {
    assert_one_of(&broken_by(Signal::STOP, Part::PulseAudio).await, &["PulseAudio hangs: no samples have come"]);
}

/// A stream into a pipe that a thread reads.
fn stream_into_nothing(failed: impl FnOnce(ComponentError) + Send + 'static) -> (StreamSender, StreamWriter) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let tracks = Tracks { width: SIZE.0, height: SIZE.1, framerate: 30, sample_rate: SAMPLE_RATE, channels: CHANNELS };
    let (sender, _, thread) = stream::start(writer.into(), tracks, failed).unwrap();
    (sender, thread)
}

/// Where a thread reports its end, and what it reported.
fn reports() -> (impl FnOnce(ComponentError) + Send + 'static, mpsc::Receiver<ComponentError>) {
    let (sender, reports) = mpsc::channel();
    (move |error| sender.send(error).unwrap(), reports)
}

fn panics() {
    panic!("provoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_screen_thread_that_panics_breaks_the_rig_and_one_that_stands_still_holds_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let display = Display::start(dir.path(), SIZE.0, SIZE.1, 96).await.unwrap();
    let (sender, mut stream) = stream_into_nothing(|error| panic!("{error}"));
    let (failed, told) = reports();
    let pacing = FramePacing::Changes { framerate: 30 };
    let grab = |failed: Box<dyn FnOnce(ComponentError) + Send>, sender| {
        Grabber::start(display.address(), SIZE, pacing, Instant::now(), sender, failed).unwrap()
    };
    let mut grabber = grab(Box::new(failed), sender.clone());
    grabber.pulse().at_next_turn(panics);
    let cause = told.recv_timeout(LIMIT).unwrap().to_string();
    assert!(cause.starts_with("picture: its thread `screen` panicked (provoked)"), "{cause}");
    assert!(grabber.stop(LIMIT).await);

    let mut grabber = grab(Box::new(|error| panic!("{error}")), sender);
    let (release, held) = mpsc::channel::<()>();
    let (arrived, arrival) = mpsc::channel();
    grabber.pulse().at_next_turn(move || {
        arrived.send(()).unwrap();
        let _ = held.recv();
    });
    arrival.recv_timeout(LIMIT).unwrap();
    let turns = grabber.pulse().turns();
    assert!(!grabber.stop(Duration::from_millis(50)).await);
    assert_eq!(grabber.pulse().turns(), turns);
    // Its sender is alive, and yet the stream ends.
    assert!(stream.finish(LIMIT).await);
    drop(release);
    assert!(grabber.stop(LIMIT).await);
    display.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_thread_that_panics_breaks_the_rig() {
    let dir = tempfile::tempdir().unwrap();
    let server = PulseAudio::start(dir.path()).await.unwrap();
    let (failed, told) = reports();
    let (sender, mut stream) = stream_into_nothing(|error| panic!("{error}"));
    let mut recorder = AudioRecorder::start(server.address(), None, failed).unwrap();
    recorder.feed(Instant::now(), sender);
    recorder.pulse().at_next_turn(panics);
    let cause = told.recv_timeout(LIMIT).unwrap().to_string();
    assert!(cause.starts_with("sound: its thread `sound` panicked (provoked)"), "{cause}");
    assert!(recorder.stop(LIMIT).await && stream.finish(LIMIT).await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_thread_that_panics_breaks_the_rig() {
    let (failed, told) = reports();
    let (sender, mut stream) = stream_into_nothing(failed);
    stream.pulse().at_next_turn(panics);
    let cause = told.recv_timeout(LIMIT).unwrap().to_string();
    assert!(cause.starts_with("stream: its thread `stream` panicked (provoked)"), "{cause}");
    assert!(stream.finish(LIMIT).await);
    assert!(sender.send_audio(Duration::ZERO, vec![0; 4]).is_err());
}
