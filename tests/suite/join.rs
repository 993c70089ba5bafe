//! Parts of an interrupted recording become one file: with the real ffmpeg, on parts as our own recording options make them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plugnmeet_recorder::capture::encoder::arguments::{EncoderSettings, EncoderTarget, arguments};
use plugnmeet_recorder::media::concat::{ConcatError, ConcatReport, ConcatTarget as Into, concat};
use plugnmeet_recorder::media::concat_plan::ConcatMethod;
use plugnmeet_recorder::media::ffmpeg::FfmpegError;
use plugnmeet_recorder::media::ffprobe;
use tokio_util::sync::CancellationToken;

use crate::measure::{self, Crop, Packet, picture, sound, sync};

/// The default of the configuration.
const POST_INPUT: &str = "-c:v libx264 -bf 0 -x264-params keyint=120:scenecut=0 -preset ultrafast -crf 23 -c:a copy -movflags frag_keyframe+empty_moov+default_base_moof -flush_packets 1 -tune zerolatency -y";
const TONE: f64 = 1000.0;

/// A directory with the parts of one recording.
struct Parts {
    dir: tempfile::TempDir,
}

/// What is recorded as one part.
struct Film<'a> {
    size: (u32, u32),
    seconds: f64,
    /// How many Hz of sampling; 0: no sound.
    sound: u32,
    post_input: &'a str,
}

impl Default for Film<'_> {
    fn default() -> Self {
        Self { size: (640, 360), seconds: 4.7, sound: 48_000, post_input: POST_INPUT }
    }
}

impl Parts {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As a recording is made: raw frames at an uneven pace and PCM in a live Matroska stream, through the recording
    /// ffmpeg's own command line. Each second, at its half, there is a flash of 200 ms with a beep.
    fn record(&self, name: &str, film: &Film) -> PathBuf {
        let path = self.path(name);
        let ((width, height), seconds) = (film.size, film.seconds);
        let uneven = "select='if(lt(mod(t,1),0.4),not(mod(n,4)),1)',settb=1/1000";
        let picture = format!(
            "testsrc2=s={width}x{height}:r=25:d={seconds},drawbox=c=black:t=fill,\
             drawbox=c=white:t=fill:enable='between(mod(t,1),0.479,0.679)',format=yuv420p,{uneven}"
        );
        let mut page = Command::new("ffmpeg");
        page.args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", &picture]);
        if film.sound > 0 {
            let beep = format!(
                "aevalsrc='0.5*sin(2*PI*{TONE}*t)*between(mod(t,1),0.48,0.68)':s={}:d={seconds}:c=stereo",
                film.sound
            );
            page.args(["-f", "lavfi", "-i", &beep]);
        }
        page.args(["-fps_mode", "passthrough", "-enc_time_base:v", "1:1000", "-c:v", "rawvideo", "-c:a", "pcm_s16le"]);
        page.args(["-f", "matroska", "-"]).stdout(Stdio::piped());
        let mut page = page.spawn().unwrap();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let settings = EncoderSettings::new(&words("-loglevel error -framerate 25"), &words(film.post_input));
        let encoder = Command::new("ffmpeg")
            .args(arguments(&settings, film.size, &EncoderTarget::File(path.clone()), None))
            .stdin(page.stdout.take().unwrap())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(page.wait().unwrap().success() && encoder.success(), "{name}");
        path
    }

    /// A copy of a part without its end.
    fn cut(&self, part: &Path, name: &str, length: usize) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, &std::fs::read(part).unwrap()[..length]).unwrap();
        path
    }

    async fn join(&self, parts: &[&PathBuf]) -> (PathBuf, ConcatReport) {
        let into = self.path("joined.mkv");
        let parts: Vec<PathBuf> = parts.iter().map(|part| (*part).clone()).collect();
        let joined =
            concat(&parts, Into::raw(&into), &CancellationToken::new()).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(!self.names().iter().any(|name| name.starts_with('.')), "left behind: {:?}", self.names());
        (into, joined)
    }

    fn names(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// Where each part begins, in seconds of the joined file.
fn begins(joined: &ConcatReport) -> Vec<f64> {
    joined.parts.iter().map(|part| part.begin.as_secs_f64()).collect()
}

/// The packets of one stream.
fn packets(path: &Path, is_video: bool) -> Vec<Packet> {
    measure::packets(path).unwrap().into_iter().filter(|packet| packet.is_video == is_video).collect()
}

/// Every packet of every part is in the joined file, in order, with its size, and its part's times moved as a whole.
#[track_caller]
fn assert_lossless(into: &Path, joined: &ConcatReport) {
    assert_eq!(joined.how, ConcatMethod::Copied);
    for is_video in [true, false] {
        let expected = joined.parts.iter().flat_map(|part| {
            let begin = part.begin.as_secs_f64();
            packets(&part.path, is_video).into_iter().map(move |packet| (packet.size, packet.at + begin))
        });
        let expected: Vec<_> = expected.collect();
        let made = packets(into, is_video);
        assert_eq!(made.len(), expected.len(), "video {is_video}");
        for (packet, (size, at)) in made.iter().zip(expected) {
            assert_eq!(packet.size, size, "at {at}");
            assert!((packet.at - at).abs() < 0.0001, "{packet:?} is not at {at}");
        }
    }
    assert_eq!(measure::decode(into).unwrap(), [] as [String; 0]);
}

/// Beeps and flashes of the parts that have both are where they were in their part, and so still in step.
#[track_caller]
fn assert_in_step(into: &Path, joined: &ConcatReport) {
    let beeps = sound::beeps(into, TONE).unwrap();
    let flashes = picture::flashes(into, Crop::new(200, 160, 100, 40)).unwrap();
    for (part, begin) in joined.parts.iter().zip(begins(joined)) {
        let was = measure::probe(&part.path).unwrap();
        let crop = Crop::new(0, 0, 100, 40);
        let expected_flashes = was.video().map_or(vec![], |_| picture::flashes(&part.path, crop).unwrap());
        let expected_beeps = was.audio().map_or(vec![], |_| sound::beeps(&part.path, TONE).unwrap());
        for (what, expected, found) in [("flash", expected_flashes, &flashes), ("beep", expected_beeps, &beeps)] {
            for at in expected.iter().map(|at| at + begin) {
                // The measure of sound leaves gaps of up to 5 ms as they are, and so is that much early behind one.
                assert!(found.iter().any(|one| (one - at).abs() < 0.006), "no {what} at {at}: {found:?}");
            }
        }
    }
    let sync = sync::pair(&beeps, &flashes, beeps.len());
    println!("{sync}");
    assert!(sync.worst().abs() < 25.0, "{sync}");
}

#[tokio::test]
async fn parts_that_are_alike_are_joined_packet_by_packet() {
    let parts = Parts::new();
    let whole = [0, 1, 2].map(|n| {
        let seconds = 3.3 + f64::from(n) * 0.77;
        parts.record(&format!("part{n}.mkv"), &Film { seconds, ..Film::default() })
    });
    let length = usize::try_from(std::fs::metadata(&whole[1]).unwrap().len()).unwrap();
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
    // Somewhere in its second half, and near the end at bytes that follow each other: wherever in a block.
    let anywhere = length / 2 + usize::try_from(u64::from_le_bytes(random) % (length as u64 / 2)).unwrap();
    for cut in [anywhere, length - 9001, length - 9000, length - 8999, length - 8000, length - 700] {
        let cut_off = parts.cut(&whole[1], "cut.mkv", cut);
        let (into, joined) = parts.join(&[&whole[0], &cut_off, &whole[2]]).await;
        assert_eq!((joined.parts.len(), joined.left_out.len()), (3, 0), "cut at byte {cut} of {length}: {joined:?}");
        assert_lossless(&into, &joined);
        assert_in_step(&into, &joined);
        // Again: the same file, so that a join that was interrupted by a crash is simply repeated.
        let first = std::fs::read(&into).unwrap();
        parts.join(&[&whole[0], &cut_off, &whole[2]]).await;
        assert!(first == std::fs::read(&into).unwrap(), "cut at byte {cut} of {length}: another file");
    }
}

#[tokio::test]
async fn a_single_part_that_was_cut_off_gets_a_header_with_its_duration() {
    let parts = Parts::new();
    let whole = parts.record("whole.mkv", &Film::default());
    let length = usize::try_from(std::fs::metadata(&whole).unwrap().len()).unwrap();
    let cut = parts.cut(&whole, "cut.mkv", length * 2 / 3);
    let (into, joined) = parts.join(&[&cut]).await;
    assert_lossless(&into, &joined);
    let (header, measured) = (ffprobe::probe(&into).await.unwrap(), ffprobe::measure(&into).await.unwrap());
    assert!(header.duration.abs_diff(measured.duration).as_millis() < 50, "{header:?} {measured:?}");
    assert!(joined.media.duration.as_secs_f64() < 4.0, "{joined:?}");
}

#[tokio::test]
async fn parts_without_sound_are_joined_and_their_last_frames_stay_apart() {
    let parts = Parts::new();
    let film = Film { seconds: 2.5, sound: 0, ..Film::default() };
    let (one, two) = (parts.record("one.mkv", &film), parts.record("two.mkv", &film));
    let (into, joined) = parts.join(&[&one, &two]).await;
    assert_lossless(&into, &joined);
}

#[tokio::test]
async fn parts_that_differ_are_joined_in_the_size_of_the_first_one() {
    let parts = Parts::new();
    let one = parts.record("one.mkv", &Film::default());
    let large = parts.record("large.mkv", &Film { size: (1280, 720), sound: 0, seconds: 3.4, ..Film::default() });
    let other = "-c:v libvpx -deadline realtime -cpu-used 8 -c:a aac -ac 1";
    let other = parts.record("other.mkv", &Film { size: (320, 240), sound: 44_100, seconds: 3.2, post_input: other });
    let blind = parts.path("blind.mkv");
    let silent = "-c:v libx264 -preset ultrafast -an";
    let last = parts.record("last.mkv", &Film { post_input: silent, seconds: 2.3, ..Film::default() });
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(&one)
        .args(["-map", "0:a", "-c", "copy"])
        .arg(&blind)
        .status()
        .unwrap();
    assert!(made.success());
    let all = [&one, &large, &other, &blind, &last];
    let (into, joined) = parts.join(&all).await;
    assert_eq!((joined.how, joined.parts.len(), joined.left_out.len()), (ConcatMethod::Encoded, 5, 0));
    let made = measure::probe(&into).unwrap();
    let (video, audio) = (made.video().unwrap(), made.audio().unwrap());
    assert_eq!((video.codec.as_str(), video.width, video.height), ("h264", 640, 360));
    assert_eq!((audio.codec.as_str(), audio.sample_rate, audio.channels), ("pcm_s16le", 48_000, 2));
    assert_in_step(&into, &joined);
    assert_eq!(measure::decode(&into).unwrap(), [] as [String; 0]);
    // Every frame of every part is there, at its own time.
    let frames = packets(&into, true);
    for (part, begin) in joined.parts.iter().zip(begins(&joined)) {
        for at in packets(&part.path, true).iter().map(|frame| frame.at + begin) {
            assert!(
                frames.iter().any(|frame| (frame.at - at).abs() < 0.0011),
                "{}: no frame at {at}",
                part.path.display()
            );
        }
    }
    // A picture of 4:3 stands between black bars, and where a part has no picture it is black.
    let at = begins(&joined)[2] + 0.55;
    assert!(picture::mean_colour(&into, at, Crop::new(4, 100, 60, 60)).unwrap().iter().all(|colour| *colour < 24));
    assert!(picture::mean_colour(&into, at, Crop::new(300, 100, 60, 60)).unwrap().iter().all(|colour| *colour > 200));
    let at = begins(&joined)[3] + 1.55;
    assert!(picture::mean_colour(&into, at, Crop::new(300, 100, 60, 60)).unwrap().iter().all(|colour| *colour < 24));
}

#[tokio::test]
async fn names_of_parts_are_only_names() {
    let parts = Parts::new();
    let plain = parts.record("plain.mkv", &Film { seconds: 1.5, ..Film::default() });
    let names = ["it's a 'part'.mkv", "-i x.mkv", "a:b %03d #1.mkv", r"back\slash $(x) `y`.mkv", "' duration 99.mkv"];
    let hostile: Vec<PathBuf> = names.iter().map(|name| parts.path(name)).collect();
    for path in &hostile {
        std::fs::copy(&plain, path).unwrap();
    }
    let all: Vec<&PathBuf> = hostile.iter().collect();
    let (into, joined) = parts.join(&all).await;
    assert_eq!(joined.parts.len(), names.len());
    assert_lossless(&into, &joined);

    let broken = parts.path("line\nbreak.mkv");
    std::fs::copy(&plain, &broken).unwrap();
    // ffmpeg's list of files cannot hold such a name; its command line can.
    let (_, joined) = parts.join(&[&plain, &broken]).await;
    assert_eq!((joined.how, joined.parts.len()), (ConcatMethod::Encoded, 2));
}

#[tokio::test]
async fn what_cannot_be_played_is_left_out_and_named() {
    let parts = Parts::new();
    let film = Film { seconds: 2.0, ..Film::default() };
    let (one, two) = (parts.record("one.mkv", &film), parts.record("two.mkv", &film));
    let garbage = parts.path("garbage.mkv");
    std::fs::write(&garbage, b"no film at all\n".repeat(5000)).unwrap();
    // A list of files is no film either: nothing that it names may be opened.
    let list = parts.path("list.mkv");
    std::fs::write(&list, format!("ffconcat version 1.0\nfile 'file:{}'\n", one.display())).unwrap();
    let empty = parts.path("empty.mkv");
    std::fs::write(&empty, "").unwrap();
    let header = parts.cut(&one, "header.mkv", 600);
    let missing = parts.path("missing.mkv");
    let (into, joined) = parts.join(&[&garbage, &one, &list, &empty, &header, &missing, &two]).await;
    assert_lossless(&into, &joined);
    assert_eq!(joined.parts.iter().map(|part| &part.path).collect::<Vec<_>>(), [&one, &two]);
    let left_out: Vec<_> = joined.left_out.iter().map(|part| &part.path).collect();
    assert_eq!(left_out, [&garbage, &list, &empty, &header, &missing]);
    for part in &joined.left_out {
        assert!(part.cause.contains(part.path.to_str().unwrap()), "{part:?}");
    }

    let into = parts.path("nothing.mkv");
    let nothing = concat(&[garbage, missing], Into::raw(&into), &CancellationToken::new()).await.unwrap_err();
    assert!(nothing.to_string().starts_with("none of 2 parts can be played; the first:"), "{nothing}");
    assert!(!into.exists());
}

#[tokio::test]
async fn a_part_is_never_written_over_and_a_join_that_fails_leaves_nothing() {
    let parts = Parts::new();
    let one = parts.record("one.mkv", &Film { seconds: 1.5, ..Film::default() });
    let bytes = std::fs::read(&one).unwrap();
    let link = parts.path("link.mkv");
    std::os::unix::fs::symlink(&one, &link).unwrap();
    for into in [&one, &link] {
        let itself = concat(std::slice::from_ref(&one), Into::raw(into), &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(itself, ConcatError::Itself(_)), "{itself}");
    }
    let cancel = CancellationToken::new();
    cancel.cancel();
    let stopped = concat(std::slice::from_ref(&one), Into::raw(&parts.path("into.mkv")), &cancel).await.unwrap_err();
    assert!(matches!(stopped, ConcatError::Run { source: FfmpegError::Stopped, .. }), "{stopped}");
    let nowhere = parts.path("no/such/directory.mkv");
    let error = concat(std::slice::from_ref(&one), Into::raw(&nowhere), &CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("no/such"), "{error}");
    assert!(std::fs::read(&one).unwrap() == bytes);
    assert_eq!(parts.names(), ["link.mkv", "one.mkv"]);
}
