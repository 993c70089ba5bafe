//! A recording's driver with real NATS, HTTP, ffprobe and files, and a rig that stands in for Chrome and its company: for
//! the ends that the real ones do not come to on demand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use plugnmeet_recorder::capture::audio::av_sync::SyncCorrections;
use plugnmeet_recorder::capture::browser::call_sync::CallOffset;
use plugnmeet_recorder::capture::quality::{AudioStats, VideoStats};
use plugnmeet_recorder::capture::rig::{CaptureReport, OpenError, Rig};
use plugnmeet_recorder::capture::rig_failure::RigFailure;
use plugnmeet_recorder::config::{self, HooksConfig, NatsConfig, ServerConfig};
use plugnmeet_recorder::delivery::dispatcher::{Delivery, Dispatcher};
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::fleet::slots::Slots;
use plugnmeet_recorder::media::concat::{ConcatTarget, concat};
use plugnmeet_recorder::nats::Nats;
use plugnmeet_recorder::protocol::access::RoomAccess;
use plugnmeet_recorder::protocol::ids::{AccessToken, InvalidName, RecorderId, RecordingId, RoomId, RoomSid, RtmpUrl};
use plugnmeet_recorder::protocol::job::{Job, Work};
use plugnmeet_recorder::protocol::messages::{self, RecorderToPlugNmeet, RecordingTasks};
use plugnmeet_recorder::protocol::notice::{Notice, NoticeEvent};
use plugnmeet_recorder::protocol::request::{Kind, Output, RecordingInfo, Start};
use plugnmeet_recorder::recording::driver::{self, RecordingContext, RecordingTask};
use plugnmeet_recorder::recording::job_handoff::JobHandoff;
use plugnmeet_recorder::recording::journal::{Journal, RecordingRecord, RecordingStage, StopRequest};
use plugnmeet_recorder::recording::raw_file::RawFile;
use plugnmeet_recorder::recording::requests::RequestService;
use plugnmeet_recorder::recording::rig_factory::RigFactory;
use plugnmeet_recorder::recording::room_client::RoomClient;
use plugnmeet_recorder::recording::session::SessionLimits;
use plugnmeet_recorder::recording::summary::SummaryStore;
use plugnmeet_recorder::retry::RetrySchedule;
use plugnmeet_recorder::scripts::hooks::Hooks;
use plugnmeet_recorder::storage::disk_space::DiskStatus;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::standin::{Deployment, Meeting, Standin};
use crate::{hooks, measure};

/// Opens at once; leaves these bytes as its part.
struct PaperRig(Leaves);

#[derive(Clone, Default)]
struct Leaves {
    path: PathBuf,
    /// `None`: no file at all.
    bytes: Option<Vec<u8>>,
    /// It breaks, for this cause.
    breaks: Option<&'static str>,
    /// It was over before it was joined.
    refuses: Option<&'static str>,
    summary: CaptureReport,
}

impl Rig for PaperRig {
    type Spec = Leaves;

    async fn open(spec: Leaves, _: CancellationToken) -> Result<Self, OpenError> {
        match spec.refuses {
            Some(cause) => Err(OpenError::Over(cause.to_owned())),
            None => Ok(Self(spec)),
        }
    }

    async fn broken(&mut self) -> RigFailure {
        match self.0.breaks {
            Some(cause) => RigFailure::of(cause),
            None => std::future::pending().await,
        }
    }

    fn idle(&self) -> Duration {
        Duration::ZERO
    }

    async fn finish(&mut self) -> (CaptureReport, Result<(), String>) {
        if let Some(bytes) = &self.0.bytes {
            std::fs::write(&self.0.path, bytes).unwrap();
        }
        (self.0.summary, Ok(()))
    }

    async fn close(self) {}
}

/// Every part is the same.
struct Paper {
    raw: RawFile,
    leaves: Leaves,
}

impl RigFactory<PaperRig> for Paper {
    fn rig(&self, _: &Start, _: &AccessToken, part: Option<&Path>) -> Leaves {
        Leaves { path: part.map(Path::to_owned).unwrap_or_default(), ..self.leaves.clone() }
    }

    fn screenshot(&self, _: &Start) -> Option<PathBuf> {
        None
    }

    fn raw_file(&self, _: &RecordingInfo) -> Result<RawFile, InvalidName> {
        Ok(self.raw.clone())
    }
}

const LIMIT: Duration = Duration::from_secs(30);

/// What a driver has around it.
struct Node {
    standin: Standin,
    context: RecordingContext,
    journal: Journal,
    slots: Slots,
}

impl Node {
    async fn new() -> Self {
        Self::with_hooks(&HooksConfig::default()).await
    }

    async fn with_hooks(hooks: &HooksConfig) -> Self {
        let standin = Standin::start(Deployment::default()).await.unwrap();
        let deployment = &standin.deployment;
        let me = RecorderId::parse("node_01").unwrap();
        let server = ServerConfig {
            host: standin.host(),
            api_key: deployment.api_key.clone(),
            api_secret: deployment.api_secret.clone(),
            join_host: None,
            ca_file: None,
        };
        let config = NatsConfig {
            urls: vec![standin.nats_url()],
            recorder_channel: deployment.channel.clone(),
            recorder_info_kv: deployment.bucket.clone(),
            transcoding_jobs_subject: deployment.jobs.clone(),
        };
        let cancel = CancellationToken::new();
        let nats = Nats::connect(&config, &server, &me, &cancel).await.unwrap();
        let state = standin.dir().join("state");
        let dispatcher = Dispatcher::new(&server, Outbox::open(&state).unwrap()).unwrap();
        dispatcher.connect(nats);
        let handoff = JobHandoff {
            recorder: me.clone(),
            hooks: Hooks::start(hooks, &[config::HookStage::PostRecording]),
            dispatcher: dispatcher.clone(),
            waits: RetrySchedule([Duration::from_millis(300); 3]),
            drain: CancellationToken::new(),
            end: CancellationToken::new(),
        };
        let context = RecordingContext {
            recorder: me.clone(),
            dispatcher,
            handoff,
            summaries: SummaryStore::new(&state),
            room: RoomClient::new(&server).unwrap(),
            limits: SessionLimits::default(),
        };
        let journal = Journal::new(&state);
        std::fs::create_dir_all(standin.dir().join("temporary")).unwrap();
        std::fs::create_dir_all(standin.dir().join("main")).unwrap();
        Self { standin, context, journal, slots: Slots::new(1) }
    }

    /// Runs one from its start to its end.
    async fn run(&self, kind: Kind, id: &str, leaves: Leaves) -> (RawFile, RecorderToPlugNmeet) {
        let info = RecordingInfo {
            room_table_id: 7,
            room_id: RoomId::parse("room01").unwrap(),
            room_sid: RoomSid::default(),
            recording_id: RecordingId::parse(id).unwrap(),
        };
        let (temporary, main) = (self.standin.dir().join("temporary"), self.standin.dir().join("main"));
        let raw = RawFile::new(&temporary, &main, "node_01".as_ref(), &info.recording_id, &info.room_id).unwrap();
        // The place of the one before is free again, though it ended badly.
        let slot = self.slots.admit(7, kind, info.recording_id.clone()).unwrap();
        let (stop, stops) = mpsc::channel(1);
        let breaks = leaves.breaks.is_some();
        let output = match kind {
            Kind::Recording => Output::File,
            Kind::Broadcast => Output::Rtmp(RtmpUrl::parse("rtmp://localhost/live/key").unwrap()),
        };
        let start = Start { info, access: self.access(), output };
        let entry = self.journal.begin(&start).await;
        let stored = (kind == Kind::Recording).then(|| raw.clone());
        let plan = Arc::new(Paper { raw: raw.clone(), leaves });
        let task = RecordingTask::<PaperRig> { start, plan, raw: stored, entry, left: None, slot: Some(slot), stops };
        let running = tokio::spawn(driver::run(task, self.context.clone()));
        let (started, ended) = match kind {
            Kind::Recording => (RecordingTasks::StartRecording, RecordingTasks::EndRecording),
            Kind::Broadcast => (RecordingTasks::StartRtmp, RecordingTasks::EndRtmp),
        };
        let notices = &self.standin.notices;
        notices.wait_for(started, id, LIMIT).await.unwrap();
        if !breaks {
            stop.send(None).await.unwrap();
        }
        let told = notices.wait_for(ended, id, LIMIT).await.unwrap().message;
        tokio::time::timeout(LIMIT, running).await.unwrap().unwrap();
        assert_eq!(notices.tasks_of(id), [started, ended], "{id}");
        (raw, told)
    }

    /// To a room that goes on.
    fn access(&self) -> RoomAccess {
        RoomAccess::Token(AccessToken::parse(&self.standin.meeting(Meeting::default()).token).unwrap())
    }

    /// What is kept of one, as it is in the file.
    fn kept(&self, id: &str) -> String {
        std::fs::read_to_string(self.standin.dir().join(format!("state/summaries/{id}.json"))).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_or_unreadable_raw_file_is_told_with_its_cause_and_makes_no_job() {
    let node = Node::new().await;
    // Too much for the beginning of a file whose writer was killed at once.
    let garbage = b"this is no Matroska ".repeat(10_000);
    for (id, bytes, breaks, wanted, kept) in [
        ("none", None, None, "there is no raw file", false),
        ("empty", Some(&b""[..]), None, "the raw file is empty", false),
        ("garbage", Some(&garbage[..]), None, "the raw file is unusable", true),
        (
            "broke",
            Some(&b""[..]),
            Some("ffmpeg: No space left on device"),
            "ffmpeg: No space left on device; the raw file is empty",
            false,
        ),
    ] {
        let leaves = Leaves { bytes: bytes.map(<[u8]>::to_vec), breaks, ..Leaves::default() };
        let (raw, ended) = node.run(Kind::Recording, id, leaves).await;
        assert!(!ended.status && ended.msg.starts_with(wanted), "{id}: {}", ended.msg);
        assert_eq!(raw.kept().is_some(), kept, "{id}");
        assert!(!raw.summary().unwrap().exists(), "{id}: there is no raw file for it to be beside");
        let summary: Value = serde_json::from_str(&node.kept(id)).unwrap();
        assert_eq!((&summary["outcome"], &summary["cause"]), (&"failed".into(), &ended.msg.into()), "{id}");
    }
    assert!(node.standin.fleet.published_jobs().is_empty());
    assert_eq!(*node.slots.running().borrow(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_is_kept_of_everything_and_lies_beside_a_raw_file() {
    let node = Node::new().await;
    let summary = CaptureReport {
        duration: Duration::from_micros(3_500_400),
        frames_sent: 90,
        frames_dropped: 2,
        frames_late: 3,
        picture: VideoStats { longest_freeze: Duration::from_millis(1234), black_share: 0.25 },
        sound: AudioStats {
            silence_share: 1.0 / 3.0,
            longest_silence: Duration::from_millis(700),
            peak_dbfs: Some(-6.0206),
            mean_dbfs: None,
        },
        corrections: SyncCorrections { gaps: 1, gaps_ms: 700, offsets: 3, put_in_ms: 1, left_out_ms: 2 },
        call_offset: CallOffset { seconds: 3, mean_ms: 67.89, max_ms: 73.0 },
        parts: 1,
        bytes: 123_456,
        meeting_until: None,
    };
    let media = node.standin.dir().join("media.mkv");
    let made = std::process::Command::new("ffmpeg")
        .args("-v error -f lavfi -i testsrc2=s=64x64:r=5:d=1 -f lavfi -i sine=d=1 -c:a pcm_s16le".split(' '))
        .arg(&media)
        .status();
    assert!(made.unwrap().success());
    // What is a month old goes.
    let summaries = node.standin.dir().join("state/summaries");
    std::fs::create_dir_all(&summaries).unwrap();
    let old = std::fs::File::create(summaries.join("old.json")).unwrap();
    old.set_modified(SystemTime::now() - Duration::from_secs(31 * 24 * 3600)).unwrap();

    let bytes = Some(std::fs::read(&media).unwrap());
    let (raw, ended) = node.run(Kind::Recording, "file", Leaves { bytes, summary, ..Leaves::default() }).await;
    assert!(ended.status, "{}", ended.msg);
    assert!(raw.dir.join("file_raw.mkv").exists());
    assert_eq!(std::fs::read_to_string(raw.dir.join("file_raw.json")).unwrap(), node.kept("file"));
    assert!(!summaries.join("old.json").exists());
    let mut found: Value = serde_json::from_str(&node.kept("file")).unwrap();
    let [began, over] = ["started_at", "ended_at"].map(|key| {
        let at = found.as_object_mut().unwrap().remove(key).unwrap();
        humantime::parse_rfc3339(at.as_str().unwrap()).unwrap()
    });
    assert!(began <= over && over <= SystemTime::now() && over.elapsed().unwrap() < 2 * LIMIT);
    let expected = json!({
        "recording_id": "file", "room_table_id": 7, "room_id": "room01", "room_sid": "", "recorder_id": "node_01",
        "kind": "recording", "outcome": "success", "cause": null, "ended_by": null,
        "duration_s": 1.0, "parts": 1, "gaps": [], "bytes": 123_456,
        "frames_sent": 90, "frames_dropped": 2, "frames_late": 3, "longest_freeze_s": 1.234, "black_share": 0.25,
        "silence_share": 0.3333, "longest_silence_s": 0.7, "peak_dbfs": -6.02, "mean_dbfs": null,
        "sound_gaps": 1, "sound_gaps_ms": 700,
        "offset_corrections": 3, "offset_put_in_ms": 1, "offset_left_out_ms": 2,
        "call_offset_mean_ms": 67.9, "call_offset_max_ms": 73.0,
    });
    assert_eq!(found, expected);

    let files = || std::fs::read_dir(&raw.dir).unwrap().count();
    let before = files();
    let leaves = Leaves { breaks: Some("ffmpeg: Broken pipe"), summary, ..Leaves::default() };
    node.run(Kind::Broadcast, "live", leaves).await;
    let found: Value = serde_json::from_str(&node.kept("live")).unwrap();
    assert_eq!((&found["kind"], &found["cause"]), (&"broadcast".into(), &"ffmpeg: Broken pipe".into()));
    assert_eq!((&found["duration_s"], &found["frames_sent"]), (&3.5.into(), &90.into()));
    assert_eq!(files(), before, "a broadcast leaves nothing beside the recordings");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_dir_that_cannot_be_written_costs_no_recording() {
    let node = Node::new().await;
    let state = node.standin.dir().join("state");
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::write(state, "in the way").unwrap();
    let (_, ended) = node.run(Kind::Broadcast, "live", Leaves::default()).await;
    assert!(ended.status, "{}", ended.msg);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_not_on_disk_keeps_its_record_for_the_next_start() {
    let node = Node::new().await;
    let whole = node.standin.dir().join("whole.mkv");
    media(&whole);
    let outbox = node.standin.dir().join("state/outbox");
    std::fs::remove_dir_all(&outbox).unwrap();
    std::fs::write(&outbox, "in the way").unwrap();
    let bytes = Some(std::fs::read(&whole).unwrap());
    // It is told from memory all the same.
    let (raw, ended) = node.run(Kind::Recording, "file", Leaves { bytes, ..Leaves::default() }).await;
    assert!(ended.status && raw.dir.join("file_raw.mkv").exists(), "{}", ended.msg);
    let record = RecordingRecord::read(&node.standin.dir().join("state/recordings/file.json")).unwrap();
    assert_eq!(record.stage, RecordingStage::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn post_recording_hooks_that_fail_keep_the_raw_file_and_are_tried_until_they_say_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (asked, open) = (dir.path().join("asked"), dir.path().join("open"));
    // Fails until it is let through.
    let text = format!(
        "read -r line; echo \"$line\" >>'{}'; [ -e '{}' ] || {{ echo 'the store is closed' >&2; exit 4; }}\n\
         echo '{{\"output_path\": \"s3://bucket/room01\", \"file_name\": \"kept.mkv\"}}'",
        asked.display(),
        open.display()
    );
    let hook = hooks::script(dir.path(), "store.sh", &text);
    let node = Node::with_hooks(&hooks::config(vec![hooks::step(&hook, true)], 1, hooks::LIMIT)).await;
    let whole = node.standin.dir().join("whole.mkv");
    media(&whole);
    let leaves = Leaves { bytes: Some(std::fs::read(&whole).unwrap()), ..Leaves::default() };
    let record = node.standin.dir().join("state/recordings/file.json");
    let hooked = || RecordingRecord::read(&record).ok().and_then(|record| record.hooked);
    let failed_twice = async {
        while hooked().is_none_or(|hooked| hooked.failures < 2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The end is told, the job is not published, and the record says why.
        assert!(node.standin.fleet.published_jobs().is_empty());
        let hooked = hooked().unwrap();
        assert!(
            hooked.last_error.contains("store.sh") && hooked.last_error.contains("the store is closed"),
            "{hooked:?}"
        );
        std::fs::write(&open, "").unwrap();
    };
    let ((raw, ended), ()) = tokio::join!(node.run(Kind::Recording, "file", leaves), failed_twice);
    assert!(ended.status, "{}", ended.msg);
    let task = node.standin.fleet.wait_for_job("file", LIMIT).await.unwrap();
    let Some(messages::transcoding_task::Work::PostRecording(work)) = task.work else { panic!() };
    assert_eq!((work.file_path.as_str(), work.file_name.as_str()), ("s3://bucket/room01/", "kept.mkv"));
    assert!(raw.dir.join("file_raw.mkv").exists(), "what becomes of it is the hook's to say");
    assert!(!record.exists());
    let asked: Value = serde_json::from_str(std::fs::read_to_string(asked).unwrap().lines().last().unwrap()).unwrap();
    assert_eq!((&asked["input_path"], &asked["file_name"]), (&json!(raw.dir), &"file_raw.mkv".into()));
    assert_eq!((&asked["task"], &asked["recorder_id"]), (&"single".into(), &"node_01".into()));
    node.context.handoff.hooks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_that_a_shutdown_interrupts_run_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (begun, open) = (dir.path().join("begun"), dir.path().join("open"));
    let text = format!("touch '{}'; [ -e '{}' ] || sleep 1000; echo '{{}}'", begun.display(), open.display());
    let hook = hooks::script(dir.path(), "slow.sh", &text);
    let node = Node::with_hooks(&hooks::config(vec![hooks::step(&hook, true)], 1, hooks::LIMIT)).await;
    let whole = node.standin.dir().join("whole.mkv");
    media(&whole);
    let leaves = Leaves { bytes: Some(std::fs::read(&whole).unwrap()), ..Leaves::default() };
    let end = node.context.handoff.end.clone();
    let interrupt = async {
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        end.cancel();
    };
    let ((raw, ended), ()) = tokio::join!(node.run(Kind::Recording, "file", leaves.clone()), interrupt);
    assert!(ended.status && node.standin.fleet.published_jobs().is_empty());
    let record = node.standin.dir().join("state/recordings/file.json");
    assert_eq!(RecordingRecord::read(&record).unwrap().stage, RecordingStage::Stored);

    std::fs::write(&open, "").unwrap();
    let (_room, room) = tokio::sync::watch::channel(DiskStatus::default());
    let mut context = node.context.clone();
    context.handoff.end = CancellationToken::new();
    let plan = Arc::new(Paper { raw, leaves });
    let mut service = RequestService::<PaperRig>::new(context, node.slots.clone(), plan, node.journal.clone(), room);
    service.recover(true).await;
    service.finish().await;
    node.standin.fleet.wait_for_job("file", LIMIT).await.unwrap();
    assert!(!record.exists());
    node.context.handoff.hooks.shutdown().await;
}

/// A part of a second and a half, with picture and sound.
fn media(path: &Path) {
    let made = std::process::Command::new("ffmpeg")
        .args("-v error -y -f lavfi -i testsrc2=s=64x64:r=10:d=1.5 -f lavfi -i sine=d=1.5 -c:a pcm_s16le".split(' '))
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-f", "matroska"])
        .arg(path)
        .status();
    assert!(made.unwrap().success());
}

/// How far a recording had come on the disk when the power went: each step has all before it.
const STEPS: [&str; 11] = [
    "taken on",
    "part named",
    "part cut off",
    "part ended",
    "stop noted",
    "half joined",
    "in place",
    "stored",
    "told",
    "parts removed",
    "record removed",
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_last_step_on_disk_was_the_next_start_delivers_all_of_it_once() {
    let node = Node::new().await;
    let (temporary, main) = (node.standin.dir().join("temporary"), node.standin.dir().join("main"));
    let (whole, cut) = (node.standin.dir().join("whole.mkv"), node.standin.dir().join("cut.mkv"));
    media(&whole);
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - bytes.len() / 20]).unwrap();

    for parts in [1, 2] {
        for (reached, step) in STEPS.into_iter().enumerate() {
            let id = format!("rec-{parts}-{reached}");
            let context = format!("{parts} parts, {step}");
            let info = RecordingInfo {
                room_table_id: i64::try_from(100 * parts + reached).unwrap(),
                room_id: RoomId::parse("room01").unwrap(),
                room_sid: RoomSid::default(),
                recording_id: RecordingId::parse(&id).unwrap(),
            };
            let raw = RawFile::new(&temporary, &main, "node_01".as_ref(), &info.recording_id, &info.room_id).unwrap();
            let start = Start { info: info.clone(), access: node.access(), output: Output::File };
            let plan = Arc::new(Paper {
                raw: raw.clone(),
                leaves: Leaves { refuses: Some("Room ended"), ..Leaves::default() },
            });
            lay_out(&node, &start, &raw, parts, reached, &whole, &cut).await;

            // The next start.
            let room = tokio::sync::watch::channel(DiskStatus::default()).1;
            let mut service = RequestService::<PaperRig>::new(
                node.context.clone(),
                Slots::new(1),
                plan,
                Journal::new(&node.standin.dir().join("state")),
                room,
            );
            node.context.dispatcher.take_up().await;
            service.recover(true).await;
            tokio::time::timeout(LIMIT, service.finish()).await.unwrap();

            let place = raw.dir.join(raw.name.as_str());
            let captured = reached >= 2;
            if reached < 10 {
                let ended = node.standin.notices.wait_for(RecordingTasks::EndRecording, &id, LIMIT).await.unwrap();
                // Not stopped: it was to go on, but the meeting is over. Stopped: all is well, if there was anything.
                assert_eq!(ended.message.status, captured && reached >= 4, "{context}: {}", ended.message.msg);
            }
            if captured && reached < 10 {
                node.standin.fleet.wait_for_job(&id, LIMIT).await.unwrap();
                let found = measure::probe(&place).unwrap_or_else(|why| panic!("{context}: {why:#}"));
                #[expect(clippy::cast_precision_loss, reason = "one or two")]
                let wanted = 1.5 * parts as f64;
                assert!((found.duration - wanted).abs() < 0.3, "{context}: {} s, not {wanted}", found.duration);
                assert_eq!(measure::decode(&place).unwrap(), [] as [String; 0], "{context}");
            } else {
                assert!(!place.exists(), "{context}");
            }
            assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "{context}: something is left");
            assert_eq!(std::fs::read_dir(node.standin.dir().join("state/recordings")).unwrap().count(), 0, "{context}");
            let ends = node.standin.notices.tasks_of(&id);
            assert_eq!(ends.len(), usize::from(reached < 10), "{context}: {ends:?}");
            let jobs = node.standin.fleet.published_jobs();
            let jobs = jobs.iter().filter(|job| job.message_id.as_deref() == Some(id.as_str())).count();
            assert_eq!(jobs, usize::from(captured && reached < 10), "{context}");
            let _ = std::fs::remove_file(place);
        }
    }
}

/// Makes the disk look as after the step `STEPS[reached]`.
async fn lay_out(node: &Node, start: &Start, raw: &RawFile, parts: usize, reached: usize, whole: &Path, cut: &Path) {
    let place = raw.dir.join(raw.name.as_str());
    std::fs::create_dir_all(&raw.dir).unwrap();
    let journal = Journal::new(&node.standin.dir().join("state"));
    let entry = journal.begin(start).await;
    for n in 1..=parts {
        let last = n == parts;
        if last && reached < 1 {
            continue;
        }
        let names = raw.clone();
        entry.add_part(move |n| names.part_name(n)).await;
        let path = raw.part(&raw.part_name(n));
        if !last || reached >= 3 {
            std::fs::copy(whole, &path).unwrap();
            entry.part_began().await;
            entry.part_ended(None, CaptureReport::default()).await;
        } else if reached == 2 {
            std::fs::copy(cut, &path).unwrap();
            entry.part_began().await;
        }
    }
    // Before its last part was there, all that two parts have is the first: as if it had but one.
    if reached < 2 && parts == 2 {
        let _ = std::fs::remove_file(raw.part(&raw.part_name(1)));
    }
    if reached >= 4 {
        entry.update(|record| record.stop = Some(StopRequest { reason: None })).await;
    }
    let joined = raw.part(raw.name.as_str());
    if reached == 5 && parts > 1 {
        std::fs::write(&joined, "half of it").unwrap();
        std::fs::write(raw.part(&format!(".{}.parts", raw.name.as_str())), "ffconcat version 1.0\n").unwrap();
    }
    if reached >= 6 {
        if parts == 1 {
            std::fs::rename(raw.part(&raw.part_name(1)), &place).unwrap();
        } else {
            let all = [1, 2].map(|n| raw.part(&raw.part_name(n)));
            join(&all, ConcatTarget::raw(&joined), &CancellationToken::new()).await.unwrap();
            std::fs::rename(&joined, &place).unwrap();
        }
    }
    if reached >= 7 {
        let stored = move |record: &mut RecordingRecord| {
            record.stage = RecordingStage::Stored;
            record.lengths_ms = vec![Some(1500); parts];
        };
        entry.update(stored).await;
    }
    if reached >= 9 {
        for n in 1..=parts {
            let _ = std::fs::remove_file(raw.part(&raw.part_name(n)));
        }
    }
    if reached >= 10 {
        // Others have it by now.
        entry.remove().await;
        std::fs::remove_file(&place).unwrap();
    } else if reached >= 8 {
        let info = start.info.clone();
        let recorder_id = node.context.recorder.clone();
        let event = NoticeEvent::Ended(Kind::Recording, Ok(()));
        let ended = Notice { info: info.clone(), recorder_id, event };
        let work = Work::PostRecording { dir: raw.dir.clone(), file_name: raw.name.clone(), variant: 0 };
        let job = Job { info, recorder_id: node.context.recorder.clone(), work };
        node.context.dispatcher.send_all(vec![ended.into(), Delivery::Job(job)]).await;
    }
}
