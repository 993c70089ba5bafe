//! A recording's driver with real NATS, HTTP, ffprobe and files, and a rig that stands in for Chrome and its company: for
//! the ends that the real ones do not come to on demand.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use plugnmeet_recorder::capture::clock::Corrections;
use plugnmeet_recorder::capture::rig::{Break, OpenError, Rig, Summary};
use plugnmeet_recorder::capture::watch::{PictureReport, SoundReport};
use plugnmeet_recorder::config::{NatsConfig, ServerConfig};
use plugnmeet_recorder::delivery::jobs::JobPublisher;
use plugnmeet_recorder::delivery::notifier::Notifier;
use plugnmeet_recorder::fleet::permits::Permits;
use plugnmeet_recorder::nats::Nats;
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::messages::{RecorderToPlugNmeet, RecordingTasks};
use plugnmeet_recorder::protocol::request::{Kind, RecordingInfo};
use plugnmeet_recorder::recording::driver::{self, Surroundings, Task};
use plugnmeet_recorder::recording::raw_file::RawFile;
use plugnmeet_recorder::recording::summary::Summaries;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::standin::{Deployment, Standin};

/// Opens at once; leaves these bytes as the raw file.
struct PaperRig(Leaves);

#[derive(Default)]
struct Leaves {
    path: PathBuf,
    /// `None`: no file at all.
    bytes: Option<Vec<u8>>,
    /// The capture breaks off with this cause.
    breaks: Option<&'static str>,
    summary: Summary,
}

impl Rig for PaperRig {
    type Spec = Leaves;

    async fn open(spec: Leaves, _: CancellationToken) -> Result<Self, OpenError> {
        Ok(Self(spec))
    }

    async fn broken(&mut self) -> Break {
        match self.0.breaks {
            Some(cause) => Break { cause: cause.to_owned(), over: false },
            None => std::future::pending().await,
        }
    }

    fn idle(&self) -> Duration {
        Duration::ZERO
    }

    async fn finish(&mut self) -> (Summary, Result<(), String>) {
        if let Some(bytes) = &self.0.bytes {
            std::fs::write(&self.0.path, bytes).unwrap();
        }
        (self.0.summary, Ok(()))
    }

    async fn close(self) {}
}

const LIMIT: Duration = Duration::from_secs(30);

/// What a driver has around it.
struct Node {
    standin: Standin,
    surroundings: Surroundings,
    permits: Permits,
}

impl Node {
    async fn new() -> Self {
        let standin = Standin::start(Deployment::default()).await.unwrap();
        let deployment = &standin.deployment;
        let me = RecorderId::parse("node_01").unwrap();
        let server = ServerConfig {
            host: standin.host(),
            api_key: deployment.api_key.clone(),
            api_secret: deployment.api_secret.clone(),
            join_host: None,
        };
        let config = NatsConfig {
            urls: vec![standin.nats_url()],
            recorder_channel: deployment.channel.clone(),
            recorder_info_kv: deployment.bucket.clone(),
            transcoding_jobs_subject: deployment.jobs.clone(),
        };
        let cancel = CancellationToken::new();
        let nats = Nats::connect(&config, &server, &me, &cancel).await.unwrap();
        let surroundings = Surroundings {
            recorder: me.clone(),
            notifier: Notifier::new(&server, &me).unwrap(),
            publisher: JobPublisher::new(nats, cancel, Duration::from_secs(1)),
            summaries: Summaries::new(&standin.dir().join("state")),
        };
        std::fs::create_dir_all(standin.dir().join("temporary")).unwrap();
        Self { standin, surroundings, permits: Permits::new(1) }
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
        let permit = self.permits.admit(7, kind, info.recording_id.clone()).unwrap();
        let (stop, stops) = mpsc::channel(1);
        let breaks = leaves.breaks.is_some();
        let rig = Leaves { path: raw.growing.clone(), ..leaves };
        let stored = (kind == Kind::Recording).then(|| raw.clone());
        let task = Task::<PaperRig> { kind, info, rig, raw: stored, permit, stops };
        let running = tokio::spawn(driver::run(task, self.surroundings.clone()));
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

    /// What is kept of one, as it is in the file.
    fn kept(&self, id: &str) -> String {
        std::fs::read_to_string(self.standin.dir().join(format!("state/summaries/{id}.json"))).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_or_unreadable_raw_file_is_told_with_its_cause_and_makes_no_job() {
    let node = Node::new().await;
    for (id, bytes, breaks, wanted, kept) in [
        ("none", None, None, "there is no raw file", false),
        ("empty", Some(&b""[..]), None, "the raw file is empty", false),
        ("garbage", Some(&b"this is no Matroska"[..]), None, "the raw file is unusable", true),
        (
            "broke",
            Some(&b""[..]),
            Some("Chrome ended (signal 9)"),
            "Chrome ended (signal 9); the raw file is empty",
            false,
        ),
    ] {
        let leaves = Leaves { bytes: bytes.map(<[u8]>::to_vec), breaks, ..Leaves::default() };
        let (raw, ended) = node.run(Kind::Recording, id, leaves).await;
        assert!(!ended.status && ended.msg.starts_with(wanted), "{id}: {}", ended.msg);
        assert_eq!(raw.growing.exists(), kept, "{id}");
        assert!(!raw.summary().unwrap().exists(), "{id}: there is no raw file for it to be beside");
        let summary: Value = serde_json::from_str(&node.kept(id)).unwrap();
        assert_eq!((&summary["outcome"], &summary["cause"]), (&"failed".into(), &ended.msg.into()), "{id}");
    }
    assert!(node.standin.fleet.published_jobs().is_empty());
    assert_eq!(*node.permits.running().borrow(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_is_kept_of_everything_and_lies_beside_a_raw_file() {
    let node = Node::new().await;
    let summary = Summary {
        duration: Duration::from_micros(3_500_400),
        frames_sent: 90,
        frames_dropped: 2,
        frames_late: 3,
        picture: PictureReport { longest_freeze: Duration::from_millis(1234), black_share: 0.25 },
        sound: SoundReport {
            silence_share: 1.0 / 3.0,
            longest_silence: Duration::from_millis(700),
            peak_dbfs: Some(-6.0206),
            mean_dbfs: None,
        },
        corrections: Corrections { gaps: 1, gaps_ms: 700, offsets: 3, put_in_ms: 1, left_out_ms: 2 },
        parts: 1,
        bytes: 123_456,
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
        "kind": "recording", "outcome": "success", "cause": null,
        "duration_s": 3.5, "parts": 1, "bytes": 123_456,
        "frames_sent": 90, "frames_dropped": 2, "frames_late": 3, "longest_freeze_s": 1.234, "black_share": 0.25,
        "silence_share": 0.3333, "longest_silence_s": 0.7, "peak_dbfs": -6.02, "mean_dbfs": null,
        "sound_gaps": 1, "sound_gaps_ms": 700,
        "offset_corrections": 3, "offset_put_in_ms": 1, "offset_left_out_ms": 2,
    });
    assert_eq!(found, expected);

    let files = || std::fs::read_dir(&raw.dir).unwrap().count();
    let before = files();
    let leaves = Leaves { breaks: Some("ffmpeg: Broken pipe"), summary, ..Leaves::default() };
    node.run(Kind::Broadcast, "live", leaves).await;
    let found: Value = serde_json::from_str(&node.kept("live")).unwrap();
    assert_eq!((&found["kind"], &found["cause"]), (&"broadcast".into(), &"ffmpeg: Broken pipe".into()));
    assert_eq!(files(), before, "a broadcast leaves nothing beside the recordings");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_dir_that_cannot_be_written_costs_no_recording() {
    let node = Node::new().await;
    std::fs::write(node.standin.dir().join("state"), "in the way").unwrap();
    let (_, ended) = node.run(Kind::Broadcast, "live", Leaves::default()).await;
    assert!(ended.status, "{}", ended.msg);
}
