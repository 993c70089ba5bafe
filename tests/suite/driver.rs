//! A recording's driver with real NATS, HTTP, ffprobe and files, and a rig that stands in for Chrome and its company: for
//! the ends that the real ones do not come to on demand.

use std::path::PathBuf;
use std::time::Duration;

use plugnmeet_recorder::capture::rig::{OpenError, Rig, Summary};
use plugnmeet_recorder::config::{NatsConfig, ServerConfig};
use plugnmeet_recorder::delivery::jobs::JobPublisher;
use plugnmeet_recorder::delivery::notifier::Notifier;
use plugnmeet_recorder::fleet::permits::Permits;
use plugnmeet_recorder::nats::Nats;
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::request::{Kind, RecordingInfo};
use plugnmeet_recorder::recording::driver::{self, Surroundings, Task};
use plugnmeet_recorder::recording::raw_file::RawFile;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::standin::{Deployment, Standin};

/// Opens at once; leaves these bytes as the raw file.
struct PaperRig(Leaves);

struct Leaves {
    path: PathBuf,
    /// `None`: no file at all.
    bytes: Option<&'static [u8]>,
    /// The capture breaks off with this cause.
    breaks: Option<&'static str>,
}

impl Rig for PaperRig {
    type Spec = Leaves;

    async fn open(spec: Leaves, _: CancellationToken) -> Result<Self, OpenError> {
        Ok(Self(spec))
    }

    async fn broken(&mut self) -> String {
        match self.0.breaks {
            Some(cause) => cause.to_owned(),
            None => std::future::pending().await,
        }
    }

    async fn finish(&mut self) -> (Summary, Result<(), String>) {
        if let Some(bytes) = self.0.bytes {
            std::fs::write(&self.0.path, bytes).unwrap();
        }
        (Summary::default(), Ok(()))
    }

    async fn close(self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_or_unreadable_raw_file_is_told_with_its_cause_and_makes_no_job() {
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
    };
    let permits = Permits::new(1);
    let (temporary, main) = (standin.dir().join("temporary"), standin.dir().join("main"));
    std::fs::create_dir_all(&temporary).unwrap();

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
        let info = RecordingInfo {
            room_table_id: 7,
            room_id: RoomId::parse("room01").unwrap(),
            room_sid: RoomSid::default(),
            recording_id: RecordingId::parse(id).unwrap(),
        };
        let raw = RawFile::new(&temporary, &main, "node_01".as_ref(), &info.recording_id, &info.room_id).unwrap();
        // The place of the one before is free again, though it ended badly.
        let permit = permits.admit(7, Kind::Recording, info.recording_id.clone()).unwrap();
        let (stop, stops) = mpsc::channel(1);
        let rig = Leaves { path: raw.growing.clone(), bytes, breaks };
        let task = Task::<PaperRig> { kind: Kind::Recording, info, rig, raw: Some(raw.clone()), permit, stops };
        let running = tokio::spawn(driver::run(task, surroundings.clone()));
        let limit = Duration::from_secs(30);
        standin.notices.wait_for(RecordingTasks::StartRecording, id, limit).await.unwrap();
        if breaks.is_none() {
            stop.send(None).await.unwrap();
        }
        let ended = standin.notices.wait_for(RecordingTasks::EndRecording, id, limit).await.unwrap().message;
        assert!(!ended.status && ended.msg.starts_with(wanted), "{id}: {}", ended.msg);
        tokio::time::timeout(limit, running).await.unwrap().unwrap();
        assert_eq!(raw.growing.exists(), kept, "{id}");
        assert_eq!(
            standin.notices.tasks_of(id),
            [RecordingTasks::StartRecording, RecordingTasks::EndRecording],
            "{id}"
        );
    }
    assert!(standin.fleet.published_jobs().is_empty());
    assert_eq!(*permits.running().borrow(), 0);
}
