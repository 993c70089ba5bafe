//! Transcoding jobs with the real ffmpeg: raw files as this program, a reference recorder and a crash leave them.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use plugnmeet_recorder::config::{FfmpegOptions, HookStage, HooksConfig};
use plugnmeet_recorder::media::decode_check;
use plugnmeet_recorder::media::ffprobe::{self, StreamKind};
use plugnmeet_recorder::media::progress::FfmpegProgress;
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::job::{Job, RawFileName, Work};
use plugnmeet_recorder::protocol::notice::{Notice, NoticeEvent};
use plugnmeet_recorder::protocol::request::RecordingInfo;
use plugnmeet_recorder::scripts::hooks::Hooks;
use plugnmeet_recorder::scripts::hooks::cleanup::Protected;
use plugnmeet_recorder::transcode::ffmpeg_arguments::FfmpegArguments;
use plugnmeet_recorder::transcode::job::{self, FilesToRemove, JobContext, JobNotifier, JobOutcome};
use plugnmeet_recorder::transcode::journal::{JobEntry, JobJournal, JobRecord};
use plugnmeet_recorder::transcode::settings::TranscodeSettings;
use plugnmeet_recorder::transcode::{self, claim};
use tokio_util::sync::CancellationToken;

use crate::logs::Logs;
use crate::measure::{self, MediaInfo};

/// The reference's own default.
pub const REFERENCE_OPTIONS: &str = "-c:v libx264 -profile:v baseline -pix_fmt yuv420p -preset veryfast -movflags faststart -y -c:a aac -af highpass=f=200,lowpass=f=4000,afftdn";
/// Frames of [`raw_like_ours`]: one a second for 6 s, then 25 a second for 4 s.
const FRAMES: u64 = 106;

pub fn ffmpeg(line: &str, output: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(line.split_whitespace())
        .arg(format!("file:{}", output.display()))
        .status()
        .unwrap();
    assert!(status.success(), "ffmpeg {line}");
}

const MOVING: &str = "-f lavfi -i testsrc2=s=320x180:r=25:d=10 -f lavfi -i sine=d=10:r=48000 -vf select='if(lt(t,6),not(mod(n,25)),1)',settb=1/1000 -fps_mode passthrough -enc_time_base 1:1000 -c:v libx264 -preset ultrafast -bf 0 -g 25";

/// 10 s as this program records: H.264 of a variable frame rate and PCM in Matroska.
pub fn raw_like_ours(path: &Path) {
    ffmpeg(&format!("{MOVING} -c:a pcm_s16le -ac 2 -f matroska"), path);
}

/// 10 s as a reference recorder leaves them: a constant rate and AAC in fragmented MP4.
fn raw_like_the_reference(path: &Path) {
    ffmpeg(
        "-f lavfi -i testsrc2=s=320x180:r=30:d=10 -f lavfi -i sine=d=10:r=48000 -c:v libx264 -preset ultrafast -bf 0 -g 30 -c:a aac -movflags frag_keyframe+empty_moov+default_base_moof -f mp4",
        path,
    );
}

fn truncate(path: &Path, share: f64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share"
    )]
    file.set_len((file.metadata().unwrap().len() as f64 * share) as u64).unwrap();
}

/// A node with its `main_path`, and all it told the server.
pub struct Node {
    pub dir: tempfile::TempDir,
    pub settings: TranscodeSettings,
    pub hooks: HooksConfig,
    told: Arc<Mutex<Vec<NoticeEvent>>>,
    pub cancel: CancellationToken,
}

impl Node {
    pub fn new(convert: bool) -> Self {
        Self::with_options(convert, REFERENCE_OPTIONS)
    }

    pub fn with_options(convert: bool, post_input: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        let settings = TranscodeSettings {
            recorder_id: RecorderId::parse("node_02").unwrap(),
            main_path: dir.path().join("main"),
            temporary_dir: dir.path().join("tmp"),
            state_dir: dir.path().join("state"),
            convert,
            ffmpeg: FfmpegOptions { pre_input: words("-loglevel error"), post_input: words(post_input) },
            scripts: Vec::new(),
            script_timeout: Duration::from_secs(20),
            cpu_limit: None,
            sub_path: "node_02".into(),
            max_wait: Duration::from_secs(60),
            max_jobs: 1,
            nice: 0,
            protected: Protected { main_path: dir.path().join("main"), dirs: vec![dir.path().join("state")] },
        };
        fs::create_dir_all(settings.main_path.join("node_01/room01")).unwrap();
        Self { dir, settings, hooks: HooksConfig::default(), told: Arc::default(), cancel: CancellationToken::new() }
    }

    pub fn room(&self) -> PathBuf {
        self.settings.main_path.join("node_01/room01")
    }

    pub fn mp4(&self) -> PathBuf {
        self.room().join("rec-1.mp4")
    }

    pub async fn run(&self, job: &Job, delivered: u64) -> JobOutcome {
        let entry = self.entry(job, delivered).await;
        let verdict = self.go_on(job, &entry).await;
        entry.remove().await;
        verdict
    }

    /// The job's record, as the worker begins with.
    pub async fn entry(&self, job: &Job, delivered: u64) -> JobEntry {
        let record = JobRecord::new(job, &job.encode(), Some("ack".to_owned()), delivered);
        JobJournal::new(&self.settings.state_dir).begin(record).await
    }

    pub async fn go_on(&self, job: &Job, entry: &JobEntry) -> JobOutcome {
        let (tell, settings, cancel) = (Told(Arc::clone(&self.told)), &self.settings, &self.cancel);
        let hooks = Hooks::start(&self.hooks, &[HookStage::PreTranscoding, HookStage::PostTranscoding]);
        let work = job::run(job, entry, JobContext { settings, hooks: &hooks, tell: &tell, cancel });
        let verdict = tokio::time::timeout(Duration::from_secs(120), work).await.unwrap().0;
        hooks.shutdown().await;
        if let JobOutcome::Done(FilesToRemove { claim: Some(claim), .. }) = &verdict {
            claim::release(claim).unwrap();
        }
        verdict
    }

    pub fn told(&self) -> Vec<NoticeEvent> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    /// What the server is told of a job that went well.
    fn assert_told_success(&self) {
        let size = fs::metadata(self.mp4()).unwrap().len();
        let proceeded = NoticeEvent::Proceeded {
            file_path: "node_01/room01/rec-1.mp4".into(),
            file_size: size,
            variant: 1,
            note: None,
        };
        assert_eq!(self.told(), [proceeded, NoticeEvent::Finished(Ok(()))]);
    }

    /// Nothing unfinished is left in the room's directory.
    pub fn assert_holds(&self, expected: &[&str]) {
        assert_eq!(names(&self.room()), expected);
    }
}

/// What is in a directory, by name; nothing where it is not there.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What is told, in order.
struct Told(Arc<Mutex<Vec<NoticeEvent>>>);

impl JobNotifier for Told {
    fn anew(&self, _: &RecordingId) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn tell(&self, notice: Notice) -> BoxFuture<'static, ()> {
        assert_eq!(notice.info.recording_id.as_str(), "rec-1");
        self.0.lock().unwrap().push(notice.event);
        Box::pin(std::future::ready(()))
    }
}

pub fn job_for(dir: &Path, raw_name: &str) -> Job {
    Job {
        info: RecordingInfo {
            room_table_id: 852,
            room_id: RoomId::parse("room01").unwrap(),
            room_sid: RoomSid::parse("RM_1").unwrap(),
            recording_id: RecordingId::parse("rec-1").unwrap(),
        },
        recorder_id: RecorderId::parse("node_01").unwrap(),
        work: Work::PostRecording { dir: dir.to_owned(), file_name: RawFileName::parse(raw_name).unwrap(), variant: 1 },
    }
}

pub fn remove(raw: &Path) -> JobOutcome {
    done(raw, Some(raw.to_owned()))
}

/// The job is done; `raw` may go.
fn done(beside: &Path, raw: Option<PathBuf>) -> JobOutcome {
    let claim = Some(claim::path(&beside.with_file_name("rec-1.mp4")));
    JobOutcome::Done(FilesToRemove { raw, claim, remuxed: false })
}

/// Names of an MP4's top-level boxes, in order (ISO/IEC 14496-12, 4.2).
fn boxes(path: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    let (mut at, mut names) = (0, Vec::new());
    while at + 8 <= bytes.len() {
        names.push(String::from_utf8_lossy(&bytes[at + 4..at + 8]).into_owned());
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        assert!(size >= 8, "{names:?}");
        at += size;
    }
    names
}

fn assert_plays_at_once(path: &Path) {
    let boxes = boxes(path);
    let at = |name: &str| boxes.iter().position(|found| found == name);
    assert!(at("moov").unwrap() < at("mdat").unwrap(), "{boxes:?}");
}

fn assert_mp4(path: &Path, seconds: f64) -> MediaInfo {
    let made = measure::probe(path).unwrap();
    assert!((made.duration - seconds).abs() < 0.3, "{made:?}");
    assert_eq!(made.video().unwrap().codec, "h264");
    assert_eq!((made.video().unwrap().width, made.video().unwrap().height), (320, 180));
    assert_eq!(made.audio().unwrap().codec, "aac");
    made
}

/// Times of the frames in seconds, in order.
fn frame_times(path: &Path) -> Vec<f64> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    let mut times: Vec<f64> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.trim_end_matches(',').parse().unwrap())
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

#[tokio::test]
async fn a_raw_file_becomes_an_mp4_with_the_frames_own_times() {
    let node = Node::new(true);
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    let times = frame_times(&raw);
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    let made = assert_mp4(&node.mp4(), 10.0);
    assert_eq!(made.video().unwrap().packets, FRAMES);
    for (made, raw) in frame_times(&node.mp4()).iter().zip(times) {
        assert!((made - raw).abs() < 0.002, "{made} {raw}");
    }
    assert_plays_at_once(&node.mp4());
    node.assert_told_success();
    node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);
}

#[tokio::test]
async fn an_operator_who_sets_the_frame_rate_gets_it() {
    let node = Node::with_options(true, "-c:v libx264 -preset ultrafast -r 10 -c:a aac");
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    let frames = assert_mp4(&node.mp4(), 10.0).video().unwrap().packets;
    assert!((99..=102).contains(&frames), "{frames}");
}

/// When each frame is shown and when it is decoded, in seconds.
fn shown_and_decoded(path: &Path) -> Vec<(f64, f64)> {
    let show = ["-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time,dts_time", "-of", "csv=p=0"];
    let output = std::process::Command::new("ffprobe").args(show).arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let times = text.lines().map(|line| line.trim_end_matches(',').split_once(',').unwrap());
    times.map(|(shown, decoded)| (shown.parse().unwrap(), decoded.parse().unwrap())).collect()
}

#[tokio::test]
async fn a_remux_of_a_meeting_that_hardly_moves_decodes_its_frames_when_they_are_due() {
    let logs = Logs::capture();
    // One frame a second; then also such a one whose second frame is there at once, which took ffmpeg in most.
    let still = "not(mod(n,30))+gt(t,10)*lt(t,13)";
    let late = "lt(n,2)+gt(t,3)*not(mod(n,20))";
    let reference = "-bf 0 -x264-params keyint=120:scenecut=0 -preset ultrafast -crf 23 -tune zerolatency";
    // Frames that may lie between a frame's decoding and its showing.
    for (frames, encoder, reordered) in
        [(still, reference, 0), (late, reference, 0), (still, "-preset medium", 2), (late, "-preset medium", 2)]
    {
        let node = Node::new(false);
        let raw = node.room().join("rec-1_raw.mkv");
        let made = std::process::Command::new("ffmpeg")
            .args(
                "-v error -nostdin -f lavfi -i testsrc2=size=320x180:rate=30:duration=20 -f lavfi -i sine=duration=20"
                    .split(' '),
            )
            .args(["-vf", &format!("select='{frames}'"), "-force_key_frames", "expr:gte(t,n_forced*4)"])
            .args("-fps_mode vfr -enc_time_base:v 1:1000 -c:v libx264".split(' '))
            .args(encoder.split(' '))
            .args("-c:a pcm_s16le -f matroska -cluster_time_limit 1000 -flush_packets 1 -y".split(' '))
            .arg(&raw)
            .status();
        assert!(made.unwrap().success());
        let shown = |path: &Path| {
            let mut shown = frame_times(path);
            shown.sort_by(f64::total_cmp);
            shown
        };
        let recorded = shown(&raw);
        assert!(matches!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, JobOutcome::Done(_)));
        let times = shown_and_decoded(&node.mp4());
        assert_eq!(times.len(), recorded.len());
        for (at, (shown, decoded)) in times.iter().enumerate() {
            assert!(decoded <= shown, "{frames} {encoder}: {times:?}");
            assert!(at == 0 || times[at - 1].1 < *decoded, "{frames} {encoder}: {times:?}");
            // It is decoded no earlier than the frames that it may follow are shown.
            let due = at.checked_sub(reordered).map(|at| recorded[at]);
            assert!(due.is_none_or(|due| decoded + 0.001 >= due), "{frames} {encoder}: {at} {times:?}");
        }
        let mut shown: Vec<f64> = times.iter().map(|(shown, _)| *shown).collect();
        shown.sort_by(f64::total_cmp);
        assert!(shown.iter().zip(&recorded).all(|(now, then)| (now - then).abs() < 0.002), "{shown:?} {recorded:?}");
    }
    for said in ["Invalid DTS", "Non-monotonous", "non monotonically", "Could not find codec parameters"] {
        assert!(!logs.text().contains(said), "{}", logs.text());
    }
    // What is said on every run is no news.
    assert_eq!(logs.lines("Guessed Channel Layout").iter().filter(|line| !line.contains("DEBUG")).count(), 0);
}

#[tokio::test]
async fn a_remux_keeps_every_frame_and_plays_at_once() {
    let node = Node::new(false);
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    assert_eq!(assert_mp4(&node.mp4(), 10.0).video().unwrap().packets, FRAMES);
    assert_plays_at_once(&node.mp4());
    node.assert_told_success();
}

#[tokio::test]
async fn raw_files_of_a_reference_recorder_are_taken_even_when_cut_off() {
    for (convert, share) in [(true, 1.0), (true, 0.7), (false, 1.0), (false, 0.7)] {
        let node = Node::new(convert);
        let raw = node.room().join("rec-1_raw.mp4");
        raw_like_the_reference(&raw);
        truncate(&raw, share);
        let there = ffprobe::measure(&raw).await.unwrap().duration.as_secs_f64();
        assert!(there > 5.0 && (share > 0.9 || there < 9.9), "{there}");
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mp4"), 1).await, remove(&raw));
        assert_mp4(&node.mp4(), there);
        node.assert_told_success();
        // Handed out again, it is recognised, cut within a packet or not, and not made once more.
        let made = fs::metadata(node.mp4()).unwrap().modified().unwrap();
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mp4"), 2).await, remove(&raw));
        assert_eq!(fs::metadata(node.mp4()).unwrap().modified().unwrap(), made);
        assert!(!boxes(&node.mp4()).contains(&"moof".to_owned()));
        node.assert_told_success();
    }
}

#[tokio::test]
async fn raw_files_of_every_kind_that_a_fleet_makes_become_mp4s() {
    let source = "-f lavfi -i testsrc2=s=320x180:r=30:d=4 -f lavfi -i sine=d=4:r=48000 -ac 2";
    // QuickTime's kind is read like that in a fragmented MP4, which an ffmpeg of 6 and later writes.
    let pcm = "-c:v libx264 -preset ultrafast -c:a pcm_s16le -movflags frag_keyframe+empty_moov -f mov";
    for (name, options) in [
        ("rec-1_raw.mp4", pcm),
        ("rec-1_raw.mkv", "-c:v ffv1 -c:a pcm_s16le -f matroska"),
        ("rec-1_raw.mkv", "-c:v ffv1 -c:a flac -f matroska"),
    ] {
        for convert in [true, false] {
            let node = Node::new(convert);
            let raw = node.room().join(name);
            ffmpeg(&format!("{source} {options}"), &raw);
            assert_eq!(node.run(&job_for(&node.room(), name), 1).await, remove(&raw), "{options}");
            assert_mp4(&node.mp4(), 4.0);
            node.assert_told_success();
        }
    }
}

/// A raw file of a reference recorder on a host with ffmpeg 9.0.2, made by its options from `smptebars` and `sine`.
#[tokio::test]
async fn pcm_in_a_fragmented_mp4_of_a_newer_ffmpeg_is_taken() {
    for convert in [true, false] {
        let node = Node::new(convert);
        let raw = node.room().join("rec-1_raw.mp4");
        fs::copy("tests/golden/fragmented_pcm.mp4", &raw).unwrap();
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mp4"), 1).await, remove(&raw));
        assert_mp4(&node.mp4(), 4.0);
        assert!(measure::sound::loudness(&node.mp4()).unwrap() > 0.03);
        node.assert_told_success();
    }
}

#[tokio::test]
async fn a_reference_transcoder_can_take_our_raw_files() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, mp4) = (dir.path().join("rec-1_raw.mkv"), dir.path().join("rec-1.mp4"));
    raw_like_ours(&raw);
    // Its whole command line: the operator's options around the input.
    ffmpeg(&format!("-loglevel error -i {} {REFERENCE_OPTIONS}", raw.display()), &mp4);
    assert_mp4(&mp4, 10.0);
}

#[tokio::test]
async fn a_matroska_file_that_was_cut_off_is_measured_by_what_is_there() {
    for convert in [true, false] {
        let node = Node::new(convert);
        let raw = node.room().join("rec-1_raw.mkv");
        raw_like_ours(&raw);
        truncate(&raw, 0.7);
        // The header still tells of all of it.
        assert!((ffprobe::probe(&raw).await.unwrap().duration.as_secs_f64() - 10.0).abs() < 0.1);
        let there = ffprobe::measure(&raw).await.unwrap().duration.as_secs_f64();
        assert!(there > 5.0 && there < 9.0, "{there}");
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
        assert_mp4(&node.mp4(), there);
    }
}

#[tokio::test]
async fn the_duration_of_a_killed_writers_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let killed = dir.path().join("killed.mkv");
    let mut writer = Command::new("ffmpeg")
        .args("-v error -nostdin -re -f lavfi -i testsrc2=s=320x180:r=25 -re -f lavfi -i sine=r=48000 -c:v libx264 -preset ultrafast -g 25 -c:a pcm_s16le -flush_packets 1 -f matroska".split(' '))
        .arg(&killed)
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(4));
    writer.kill().unwrap();
    writer.wait().unwrap();
    let media = ffprobe::verify_raw(&killed).await.unwrap();
    let seconds = media.duration.as_secs_f64();
    assert!((2.0..5.0).contains(&seconds), "{seconds}");
    assert_eq!(media.video().map(|video| (video.width, video.height)), Some((320, 180)));
    assert_eq!(media.audio().map(|audio| (audio.kind, audio.codec.as_str())), Some((StreamKind::Audio, "pcm_s16le")));
}

#[tokio::test]
async fn a_raw_file_is_verified_before_anyone_is_told_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    fs::write(file("empty.mkv"), "").unwrap();
    fs::write(file("garbage.mkv"), b"\x1a\x45\xdf\xa3 no matroska at all".repeat(100)).unwrap();
    ffmpeg("-f lavfi -i sine=d=1 -c:a pcm_s16le -f matroska", &file("-i mute:picture.mkv"));
    ffmpeg("-f lavfi -i testsrc2=s=64x64:d=1 -c:v libx264 -f matroska", &file("silent.mkv"));
    let refused = async |name: &str| ffprobe::verify_raw(&file(name)).await.unwrap_err().to_string();
    assert!(refused("empty.mkv").await.contains("empty.mkv"));
    assert!(refused("garbage.mkv").await.contains("cannot be read as media"));
    assert!(refused("missing.mkv").await.contains("No such file"));
    assert!(refused("-i mute:picture.mkv").await.contains("no picture"));
    assert!(refused("silent.mkv").await.contains("no sound"));
}

#[tokio::test]
async fn no_file_makes_ffmpeg_open_another() {
    let node = Node::new(true);
    raw_like_ours(&node.room().join("other.mkv"));
    let raw = node.room().join("rec-1_raw.mkv");
    for list in ["#EXTM3U\n#EXTINF:10,\nother.mkv\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile other.mkv\n"] {
        fs::write(&raw, list).unwrap();
        assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 3).await, JobOutcome::GivenUp);
        let [NoticeEvent::Finished(Err(_))] = node.told()[..] else { panic!() };
    }
    node.assert_holds(&["other.mkv", "rec-1_raw.mkv"]);
}

#[tokio::test]
async fn names_with_spaces_quotes_and_colons_are_only_names() {
    let mut node = Node::new(false);
    node.settings.main_path = node.dir.path().join("-main: it's \"1\"");
    let room = node.settings.main_path.join("a b/room01");
    fs::create_dir_all(&room).unwrap();
    let name = "concat:it's %d a 'raw' — file|\"x\".mkv";
    raw_like_ours(&room.join(name));
    // As a node names it that sees main_path elsewhere.
    let verdict = node.run(&job_for(Path::new("/mnt/a b/room01/"), name), 1).await;
    assert_eq!(verdict, remove(&room.join(name)));
    assert_mp4(&room.join("rec-1.mp4"), 10.0);
    let told = node.told();
    let NoticeEvent::Proceeded { file_path, .. } = &told[0] else { panic!() };
    assert_eq!(file_path, "a b/room01/rec-1.mp4");
}

#[tokio::test]
async fn a_missing_raw_file_is_tried_again_and_then_told_with_the_path() {
    let node = Node::new(true);
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    for (delivered, wait) in [(1, 30), (2, 120)] {
        assert_eq!(node.run(&job, delivered).await, JobOutcome::Again(Duration::from_secs(wait)));
        assert_eq!(node.told(), []);
    }
    assert_eq!(node.run(&job, 3).await, JobOutcome::GivenUp);
    let [NoticeEvent::Finished(Err(cause))] = &node.told()[..] else { panic!() };
    assert!(cause.contains("rec-1_raw.mkv") && cause.contains(node.room().to_str().unwrap()), "{cause}");
}

#[tokio::test]
async fn nothing_outside_main_path_is_read() {
    let node = Node::new(true);
    let secret = node.dir.path().join("secret");
    fs::create_dir(&secret).unwrap();
    raw_like_ours(&secret.join("rec-1_raw.mkv"));
    std::os::unix::fs::symlink(&secret, node.settings.main_path.join("link")).unwrap();
    for dir in [secret.clone(), node.settings.main_path.join("link")] {
        assert_eq!(node.run(&job_for(&dir, "rec-1_raw.mkv"), 3).await, JobOutcome::GivenUp);
        let [NoticeEvent::Finished(Err(cause))] = &node.told()[..] else { panic!() };
        assert!(cause.contains("symbolic link") || cause.contains("no such directory"), "{cause}");
    }
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
}

#[tokio::test]
async fn garbage_fails_with_a_cause_and_is_kept() {
    let node = Node::new(true);
    let raw = node.room().join("rec-1_raw.mkv");
    fs::write(&raw, "this is no recording\n".repeat(1000)).unwrap();
    // What this node was writing when it was killed goes, whatever comes of the job now.
    fs::write(node.room().join(".rec-1.mp4.node_02.part"), "half of it").unwrap();
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    assert_eq!(node.run(&job, 1).await, JobOutcome::Again(Duration::from_secs(30)));
    assert_eq!(node.run(&job, 3).await, JobOutcome::GivenUp);
    let [NoticeEvent::Finished(Err(cause))] = &node.told()[..] else { panic!() };
    assert!(cause.contains("Invalid data found"), "{cause}");
    node.assert_holds(&["rec-1_raw.mkv"]);
}

#[tokio::test]
async fn what_cannot_be_encoded_is_at_last_delivered_as_it_was_recorded_and_its_raw_file_kept() {
    for (post_input, words) in [
        ("-c:v no_such_codec", "Unknown encoder 'no_such_codec'"),
        // A result that is not the whole recording is none.
        ("-c:v libx264 -preset ultrafast -c:a aac -t 3", "the result lasts 3"),
    ] {
        let mut node = Node::with_options(true, post_input);
        let raw = node.room().join("rec-1_raw.mkv");
        raw_like_ours(&raw);
        fs::write(node.room().join("rec-1_raw.json"), "{\"duration_s\": 10.0}").unwrap();
        let job = job_for(&node.room(), "rec-1_raw.mkv");
        for (delivered, wait) in [(1, 30), (2, 120)] {
            assert_eq!(node.run(&job, delivered).await, JobOutcome::Again(Duration::from_secs(wait)));
            assert_eq!(node.told(), []);
            node.assert_holds(&["rec-1_raw.json", "rec-1_raw.mkv"]);
        }
        let entry = node.entry(&job, 3).await;
        let remuxed = |verdict| matches!(verdict, JobOutcome::Done(FilesToRemove { raw: None, remuxed: true, .. }));
        assert!(remuxed(node.go_on(&job, &entry).await));
        assert_eq!(assert_mp4(&node.mp4(), 10.0).video().unwrap().packets, FRAMES);
        let told = node.told();
        let [NoticeEvent::Proceeded { note: Some(said), .. }, NoticeEvent::Finished(Ok(()))] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(said.contains("could not be encoded") && said.contains(words), "{said}");
        let summary: serde_json::Value =
            serde_json::from_slice(&fs::read(node.room().join("rec-1_raw.json")).unwrap()).unwrap();
        assert_eq!(summary["duration_s"], 10.0);
        assert!(summary["remuxed_because"].as_str().unwrap().contains(words), "{summary}");
        // Killed before it was acknowledged: the next start still knows that the raw file is the better one.
        assert!(remuxed(node.go_on(&job, &entry).await));
        assert!(matches!(&node.told()[0], NoticeEvent::Proceeded { note: Some(_), .. }));
        // The operator has mended the options and wants it tried again.
        node.settings.ffmpeg.post_input = REFERENCE_OPTIONS.split_whitespace().map(str::to_owned).collect();
        entry.update(|record| (record.steps.anew, record.steps.remuxed) = (true, None)).await;
        assert_eq!(node.go_on(&job, &entry).await, remove(&raw));
        node.assert_told_success();
        node.assert_holds(&["rec-1.mp4", "rec-1_raw.json", "rec-1_raw.mkv"]);
    }
}

#[tokio::test]
async fn what_cannot_even_be_remuxed_is_given_up_with_both_causes() {
    let node = Node::with_options(true, "-c:v no_such_codec");
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    let entry = node.entry(&job_for(&node.room(), "rec-1_raw.mkv"), 3).await;
    // Where the part should grow there is a directory: no ffmpeg can write there.
    fs::create_dir_all(node.room().join(".rec-1.mp4.node_02.part/in the way")).unwrap();
    assert_eq!(node.go_on(&job_for(&node.room(), "rec-1_raw.mkv"), &entry).await, JobOutcome::GivenUp);
    let told = node.told();
    let [NoticeEvent::Finished(Err(cause))] = &told[..] else { panic!("{told:?}") };
    assert!(cause.contains("Unknown encoder") && cause.contains("nor can it be remuxed"), "{cause}");
    assert_eq!(entry.record().steps.remuxed, None);
    node.assert_holds(&[".rec-1.mp4.node_02.part", "rec-1_raw.mkv"]);
}

#[tokio::test]
async fn a_result_that_cannot_be_decoded_anywhere_is_no_result() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.mp4"), dir.path().join("bad.mp4"));
    ffmpeg(
        "-f lavfi -i testsrc2=s=320x180:r=25:d=20 -f lavfi -i sine=d=20:r=48000 -c:v libx264 -preset ultrafast -g 25 -c:a aac -movflags faststart -f mp4",
        &good,
    );
    let media = ffprobe::measure(&good).await.unwrap();
    decode_check::check(&good, &media, 0).await.unwrap();
    let elsewhere = dir.path().join("elsewhere.mp4");
    let bytes = fs::read(&good).unwrap();
    for (place, at) in [("start", 0.03), ("middle", 0.5), ("end", 0.93)] {
        let mut broken = bytes.clone();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share"
        )]
        let from = (bytes.len() as f64 * at) as usize;
        let length = broken.len() / 20;
        broken[from..from + length].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(97));
        fs::write(&bad, broken).unwrap();
        // It still opens, and has all its packets.
        assert_eq!(ffprobe::measure(&bad).await.unwrap().duration, media.duration);
        let error = decode_check::check(&bad, &media, 0).await.unwrap_err().to_string();
        assert!(error.contains(place), "{place}: {error}");
        // Nor for a raw file that is broken too, but at another place; only where both are alike.
        if elsewhere.exists() {
            decode_check::check_made(&bad, &media, &elsewhere, 0).await.unwrap_err();
        }
        decode_check::check_made(&bad, &media, &bad, 0).await.unwrap();
        fs::copy(&bad, &elsewhere).unwrap();
    }

    // Nor does a raw file go for it: it is made again.
    let node = Node::new(false);
    let raw = node.room().join("rec-1_raw.mkv");
    ffmpeg(&format!("-i {} -c copy -f matroska", good.display()), &raw);
    fs::copy(&bad, node.mp4()).unwrap();
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    decode_check::check(&node.mp4(), &media, 0).await.unwrap();
}

#[tokio::test]
async fn it_is_told_how_far_ffmpeg_is() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, part) = (dir.path().join("raw.mkv"), dir.path().join("part"));
    raw_like_ours(&raw);
    let (progress, mut report) = tokio::sync::watch::channel(FfmpegProgress::default());
    let recipe = FfmpegArguments::convert(&FfmpegOptions::default(), &ffprobe::measure(&raw).await.unwrap());
    let total = Duration::from_secs(10);
    let task = transcode::ffmpeg::Task { recipe: &recipe, raw: &raw, total, part: &part, nice: 5 };
    let never = CancellationToken::new();
    let (ran, seen) = tokio::join!(transcode::ffmpeg::run(task, &progress, &never), async {
        report.changed().await.unwrap();
        *report.borrow()
    });
    assert!(ran.unwrap().cpu.is_some() && seen.total == total);
    let last = *progress.borrow();
    assert!(last.percent() > 95.0 && last.speed.is_some(), "{last:?}");
}

#[tokio::test]
async fn a_job_that_comes_again_is_only_announced_again() {
    let node = Node::new(false);
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    node.run(&job, 1).await;
    node.assert_told_success();
    let made = fs::metadata(node.mp4()).unwrap().modified().unwrap();
    // Before the raw file was removed, and after.
    assert_eq!(node.run(&job, 2).await, remove(&raw));
    node.assert_told_success();
    fs::remove_file(&raw).unwrap();
    assert_eq!(node.run(&job, 2).await, JobOutcome::Again(Duration::from_secs(120)), "another node may have finished");
    assert_eq!(node.told(), []);
    assert_eq!(node.run(&job, 3).await, done(&raw, None));
    node.assert_told_success();
    assert_eq!(fs::metadata(node.mp4()).unwrap().modified().unwrap(), made);
}

#[tokio::test]
async fn a_half_written_result_of_another_transcoder_is_replaced() {
    let node = Node::new(false);
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    fs::write(node.mp4(), "half").unwrap();
    // And what a killed worker of this node left.
    fs::write(node.room().join(".rec-1.mp4.node_02.part"), "stale").unwrap();
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 2).await, remove(&raw));
    assert_mp4(&node.mp4(), 10.0);
    node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);
}

#[tokio::test]
async fn a_shutdown_leaves_no_half_result_and_hands_the_job_back() {
    let node = Node::with_options(true, "-c:v libx264 -preset placebo -c:a aac");
    let raw = node.room().join("rec-1_raw.mkv");
    ffmpeg(
        "-f lavfi -i testsrc2=s=1280x720:r=25:d=30 -f lavfi -i sine=d=30 -c:v libx264 -preset ultrafast -c:a pcm_s16le -f matroska",
        &raw,
    );
    let part = node.room().join(".rec-1.mp4.node_02.part");
    let cancel = node.cancel.clone();
    let stop = async {
        while !part.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.cancel();
    };
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    let (verdict, ()) = tokio::join!(node.run(&job, 1), stop);
    assert_eq!(verdict, JobOutcome::Again(Duration::from_secs(1)));
    assert_eq!(node.told(), []);
    node.assert_holds(&["rec-1_raw.mkv"]);
}

#[tokio::test]
async fn scripts_run_between_the_two_notices_and_cannot_undo_the_recording() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut node = Node::new(false);
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    let (script, seen) = (node.dir.path().join("keep.sh"), node.dir.path().join("seen"));
    let told = node.dir.path().join("told");
    let text = format!(
        "#!/bin/sh\nprintf '%s' \"$1\" >'{}'\ncat \"$PNM_SUMMARY\" >'{}'\nexit 3\n",
        seen.display(),
        told.display()
    );
    fs::write(&script, text).unwrap();
    // As the recording node leaves it; only a file of its own counts.
    fs::write(node.room().join("rec-1_raw.json"), "{\"duration_s\": 10.0}").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    node.settings.scripts = vec![script];
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    node.assert_told_success();
    let argument: serde_json::Value = serde_json::from_str(&fs::read_to_string(seen).unwrap()).unwrap();
    let size = fs::metadata(node.mp4()).unwrap().len();
    assert_eq!(
        argument,
        serde_json::json!({
            "recording_id": "rec-1", "room_table_id": 852, "room_id": "room01", "room_sid": "RM_1",
            "file_name": "rec-1.mp4", "file_path": node.mp4(), "recorder_id": "node_01",
            "file_size": plugnmeet_recorder::scripts::post_processing::megabytes(size),
        })
    );
    assert_eq!(fs::read_to_string(told).unwrap(), "{\"duration_s\": 10.0}");
    // It goes with the raw file, once the job is acknowledged.
    node.assert_holds(&["rec-1.mp4", "rec-1_raw.json", "rec-1_raw.mkv"]);
}

#[tokio::test]
async fn a_link_is_no_summary_and_neither_is_one_beside_a_reference_recorders_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let (mut node, secret) = (Node::new(false), tempfile::NamedTempFile::new().unwrap());
    let (script, told) = (node.dir.path().join("keep.sh"), node.dir.path().join("told"));
    fs::write(&script, format!("#!/bin/sh\nprintf '%s' \"${{PNM_SUMMARY-unset}}\" >'{}'\n", told.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    node.settings.scripts = vec![script];
    std::os::unix::fs::symlink(secret.path(), node.room().join("rec-1_raw.json")).unwrap();
    raw_like_ours(&node.room().join("rec-1_raw.mkv"));
    node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await;
    assert_eq!(fs::read_to_string(&told).unwrap(), "unset");

    fs::remove_file(node.room().join("rec-1_raw.json")).unwrap();
    fs::write(node.room().join("rec-1_raw.json"), "{}").unwrap();
    fs::rename(node.room().join("rec-1_raw.mkv"), node.room().join("rec-1_raw.mp4")).unwrap();
    node.run(&job_for(&node.room(), "rec-1_raw.mp4"), 1).await;
    assert_eq!(fs::read_to_string(&told).unwrap(), "unset");
}
