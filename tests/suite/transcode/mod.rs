//! Transcoding jobs with the real ffmpeg: raw files as this program, a reference recorder and a crash leave them.

mod early;
mod failing_disk;
mod failures;
mod inputs;
mod once;
mod repeats;
mod results;
mod scripts;
mod shapes;
mod spliced;
mod storage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use plugnmeet_recorder::archive::archives::Archives;
use plugnmeet_recorder::config::{FfmpegOptions, HookStage, HooksConfig, Reserve};
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::job::{Job, RawFileName, Work};
use plugnmeet_recorder::protocol::notice::{Notice, NoticeEvent};
use plugnmeet_recorder::protocol::request::RecordingInfo;
use plugnmeet_recorder::scripts::hooks::Hooks;
use plugnmeet_recorder::scripts::hooks::cleanup::ProtectedPaths;
use plugnmeet_recorder::storage::main_path::{MainPath, StoreAbilities};
use plugnmeet_recorder::telemetry::metrics::Metrics;
use plugnmeet_recorder::transcode::claim;
use plugnmeet_recorder::transcode::job::{self, FilesToRemove, JobContext, JobNotifier, JobOutcome};
use plugnmeet_recorder::transcode::journal::{JobEntry, JobJournal, JobRecord};
use plugnmeet_recorder::transcode::settings::TranscodeSettings;
use tokio_util::sync::CancellationToken;

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
            archives: Archives::default(),
            recorder_id: RecorderId::parse("node_02").unwrap(),
            main_path: dir.path().join("main"),
            temporary_dir: dir.path().join("tmp"),
            reserve: Reserve::Size(0),
            state_dir: dir.path().join("state"),
            convert,
            ffmpeg: FfmpegOptions { pre_input: words("-loglevel error"), post_input: words(post_input) },
            store: MainPath::unwatched(&dir.path().join("main"), StoreAbilities::ALL),
            scripts: Vec::new(),
            script_timeout: Duration::from_secs(20),
            cpu_limit: None,
            sub_path: "node_02".into(),
            max_wait: Duration::from_secs(60),
            max_jobs: 1,
            nice: 0,
            protected: ProtectedPaths { main_path: dir.path().join("main"), dirs: vec![dir.path().join("state")] },
            metrics: Metrics::default(),
            raw_store: None,
            uploads: None,
            hls: None,
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
        let work = job::run(job, entry, JobContext { settings, hooks: &hooks, notifier: &tell, cancel });
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
    fn forget_result(&self, _: &RecordingId) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn notify(&self, notice: Notice) -> BoxFuture<'static, ()> {
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
    JobOutcome::Done(FilesToRemove { raw, claim, remuxed: false, object: None })
}

fn assert_mp4(path: &Path, seconds: f64) -> MediaInfo {
    let made = measure::probe(path).unwrap();
    assert!((made.duration - seconds).abs() < 0.3, "{made:?}");
    assert_eq!(made.video().unwrap().codec, "h264");
    assert_eq!((made.video().unwrap().width, made.video().unwrap().height), (320, 180));
    assert_eq!(made.audio().unwrap().codec, "aac");
    made
}
