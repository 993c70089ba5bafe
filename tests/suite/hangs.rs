//! Parts of a rig that stand still instead of dying: they are noticed within 15 s and named, what was recorded before can be
//! read, and the rig closes all the same. A thread that panics is told like any other part that breaks.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use plugnmeet_recorder::capture::audio::pulseaudio::{PulseAudio, SAMPLE_RATE};
use plugnmeet_recorder::capture::audio::recorder::{AudioRecorder, CHANNELS};
use plugnmeet_recorder::capture::component_error::ComponentError;
use plugnmeet_recorder::capture::encoder::matroska::Tracks;
use plugnmeet_recorder::capture::encoder::stream::{self, StreamWriter};
use plugnmeet_recorder::capture::encoder::stream_queue::StreamSender;
use plugnmeet_recorder::capture::rig::{LiveRig, OpenError, Rig as _};
use plugnmeet_recorder::capture::video::display::Display;
use plugnmeet_recorder::capture::video::grabber::Grabber;
use plugnmeet_recorder::capture::video::pacer::FramePacing;
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use crate::breaks::{CLOSE_LIMIT, NOTICE_LIMIT, Part, assert_one_of, broken_and_still_by, broken_by};
use crate::measure;
use crate::recorder::{processes_of, turn};
use crate::recording::standin;
use crate::rig::{self, Live, go_on};
use crate::standin::Meeting;
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};

const LIMIT: Duration = Duration::from_secs(20);
const SIZE: (u32, u32) = (640, 360);

#[tokio::test(flavor = "multi_thread")]
async fn an_ffmpeg_that_is_stopped_is_noticed() {
    let (cause, still) = broken_and_still_by(Signal::STOP, Part::Ffmpeg).await;
    assert_one_of(&cause, &["ffmpeg hangs: it has encoded and written nothing"]);
    assert_eq!(still, None, "the threads of the capture go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_display_that_is_stopped_is_noticed() {
    let (cause, still) = broken_and_still_by(Signal::STOP, Part::Xvfb).await;
    // Not Chrome, which hangs with it.
    assert_one_of(&cause, &["Xvfb hangs: it has not answered"]);
    // Where the watchdog itself did not end the capture, `/healthz` would tell of its thread.
    assert!(still.as_ref().is_some_and(|still| still.contains("the thread `screen`")), "{still:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_server_that_is_stopped_is_noticed() {
    assert_one_of(&broken_by(Signal::STOP, Part::PulseAudio).await, &["PulseAudio hangs: no samples have come"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_is_noticed_holds_nobody_and_keeps_what_was_recorded() {
    let _turn = turn().await;
    let standin = standin().await;
    let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
    let place = standin.dir().join("disk");
    let disk = FaultyFs::mount(&standin.dir().join("behind"), &place, Abilities::ALL);
    let spec = rig::spec(&standin, &room, &place).await;
    let live = rig::open(spec.clone(), room).await;
    let Live { mut rig, raw, dir, .. } = live;
    go_on(3.0).await;
    disk.break_down(Requests::All, Fault::Hang);
    let began = Instant::now();
    let found = tokio::time::timeout(NOTICE_LIMIT, rig.broken()).await.map(|found| found.cause);
    println!("noticed after {:.2} s: {found:?}", began.elapsed().as_secs_f64());
    let (closing, closed) = (
        Instant::now(),
        tokio::time::timeout(CLOSE_LIMIT, async {
            let (_, outcome) = rig.finish().await;
            rig.close().await;
            outcome
        }),
    );
    let closed = Box::pin(closed).await;
    println!("finished and closed after {:.2} s more: {closed:?}", closing.elapsed().as_secs_f64());
    let again = Box::pin(LiveRig::open(spec, CancellationToken::new())).await.map(drop);
    println!("then, with processes {:?}: {again:?}", processes_of(&place));
    let held = processes_of(&place);
    disk.heal();

    let cause = found.expect("noticed");
    assert_one_of(&cause, &["recorder.temporary_dir does not answer: its disk or share hangs"]);
    assert_one_of(
        &closed.expect("closed").unwrap_err(),
        &["it hung; it was killed, but does not end: it waits for a disk"],
    );
    assert!(!dir.exists(), "{} was left behind", dir.display());
    assert_eq!(held.len(), 1, "ffmpeg is held by its disk, and nothing else is left: {held:?}");
    let Err(OpenError::Failed(why)) = again else { panic!("{again:?}") };
    assert_one_of(&why, &["recorder.temporary_dir does not answer: its disk or share hangs"]);
    let until = Instant::now() + LIMIT;
    while !processes_of(&place).is_empty() {
        assert!(Instant::now() < until, "{:?}", processes_of(&place));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let info = measure::probe(&raw).unwrap();
    assert!(info.video().is_ok() && info.audio().is_ok() && info.duration > 2.0, "{info:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chrome_that_answers_and_composes_no_picture_is_noticed() {
    assert_one_of(&broken_by(Signal::STOP, Part::Compositor).await, &["Chrome hangs", "Xvfb hangs"]);
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

/// The end that a thread has reported.
fn told(reports: &mpsc::Receiver<ComponentError>) -> String {
    reports.recv_timeout(LIMIT).expect("the thread reports its panic").to_string()
}

/// What is not to wait for a thread.
async fn unheld<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("a thread that stands still holds nobody")
}

fn panics() {
    panic!("provoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_screen_thread_that_panics_breaks_the_rig_and_one_that_stands_still_holds_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let display = Display::start(dir.path(), SIZE.0, SIZE.1, 96).await.unwrap();
    let (sender, mut stream) = stream_into_nothing(|error| panic!("{error}"));
    let (failed, reported) = reports();
    let pacing = FramePacing::Changes { framerate: 30, ahead: 0 };
    let grab = |failed: Box<dyn FnOnce(ComponentError) + Send>, sender| {
        Grabber::start(display.address(), SIZE, pacing, Instant::now(), sender, failed).unwrap()
    };
    let mut grabber = grab(Box::new(failed), sender.clone());
    grabber.pulse().at_next_turn(panics);
    let cause = told(&reported);
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
    assert!(!unheld(grabber.stop(Duration::from_millis(50))).await);
    assert_eq!(grabber.pulse().turns(), turns);
    // Its sender is alive, and yet the stream ends.
    assert!(unheld(stream.finish(LIMIT)).await, "the stream waits for the end of its sender");
    drop(release);
    assert!(grabber.stop(LIMIT).await);
    display.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_thread_that_panics_breaks_the_rig() {
    let dir = tempfile::tempdir().unwrap();
    let server = PulseAudio::start(dir.path()).await.unwrap();
    let (failed, reported) = reports();
    let (sender, mut stream) = stream_into_nothing(|error| panic!("{error}"));
    let mut recorder = AudioRecorder::start(server.address(), None, failed).unwrap();
    recorder.feed(Instant::now(), sender);
    recorder.pulse().at_next_turn(panics);
    let cause = told(&reported);
    assert!(cause.starts_with("sound: its thread `sound` panicked (provoked)"), "{cause}");
    assert!(recorder.stop(LIMIT).await && stream.finish(LIMIT).await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_thread_that_panics_breaks_the_rig() {
    let (failed, reported) = reports();
    let (sender, mut stream) = stream_into_nothing(failed);
    stream.pulse().at_next_turn(panics);
    let cause = told(&reported);
    assert!(cause.starts_with("stream: its thread `stream` panicked (provoked)"), "{cause}");
    assert!(stream.finish(LIMIT).await);
    assert!(sender.send_audio(Duration::ZERO, vec![0; 4]).is_err());
}
