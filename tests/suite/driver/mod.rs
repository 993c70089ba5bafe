//! A recording's driver with real NATS, HTTP, ffprobe and files, and a rig that stands in for Chrome and its company: for
//! the ends that the real ones do not come to on demand.

mod admission;
mod ends;
mod late_parts;
mod openings;
mod post_recording;
mod power_cut;
mod raw_store;
mod storing;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plugnmeet_recorder::archive::archives::Archives;
use plugnmeet_recorder::capture::rig::{CaptureReport, OpenError, Rig};
use plugnmeet_recorder::capture::rig_failure::RigFailure;
use plugnmeet_recorder::config::{self, HooksConfig, NatsConfig, ServerConfig};
use plugnmeet_recorder::delivery::dispatcher::Dispatcher;
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::fleet::slots::{Slot, Slots};
use plugnmeet_recorder::nats::Nats;
use plugnmeet_recorder::protocol::access::RoomAccess;
use plugnmeet_recorder::protocol::ids::{AccessToken, InvalidName, RecorderId, RecordingId, RoomId, RoomSid, RtmpUrl};
use plugnmeet_recorder::protocol::messages::{RecorderToPlugNmeet, RecordingTasks};
use plugnmeet_recorder::protocol::request::{Kind, Output, RecordingInfo, Start};
use plugnmeet_recorder::recording::driver::{self, RecordingContext, RecordingTask};
use plugnmeet_recorder::recording::job_handoff::JobHandoff;
use plugnmeet_recorder::recording::journal::RecordingJournal;
use plugnmeet_recorder::recording::open_failures::OpenFailures;
use plugnmeet_recorder::recording::opening_turns::OpeningTurns;
use plugnmeet_recorder::recording::raw_file::RawFile;
use plugnmeet_recorder::recording::rig_factory::RigFactory;
use plugnmeet_recorder::recording::room_client::RoomClient;
use plugnmeet_recorder::recording::session::SessionLimits;
use plugnmeet_recorder::recording::signals::RecordingSignals;
use plugnmeet_recorder::recording::summary::SummaryStore;
use plugnmeet_recorder::retry::RetrySchedule;
use plugnmeet_recorder::scripts::hooks::Hooks;
use plugnmeet_recorder::storage::main_path::MainPath;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::standin::{Deployment, Meeting, Standin};

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
    /// What its opening, and those after it, come to.
    gate: Option<Arc<Gate>>,
    summary: CaptureReport,
}

/// An opening that goes on.
struct Passing<'a>(&'a Gate);

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.opening.send_modify(|(now, _)| *now -= 1);
    }
}

/// Holds openings back, and counts them.
#[derive(Default)]
struct Gate {
    /// The first openings fail for this cause, one after the other.
    fails: Mutex<VecDeque<&'static str>>,
    /// `Some`: each opening takes one of its permits, for good.
    permits: Option<Semaphore>,
    /// The names of the parts that were being opened, in order.
    begun: Mutex<Vec<String>>,
    /// How many are being opened, and how many were at once at the most.
    opening: watch::Sender<(usize, usize)>,
}

impl Gate {
    async fn pass(&self, part: &Path) -> Result<(), OpenError> {
        self.begun.lock().unwrap().push(part.file_stem().unwrap().to_str().unwrap().to_owned());
        self.opening.send_modify(|(now, most)| (*now, *most) = (*now + 1, (*most).max(*now + 1)));
        // Also where it is cancelled.
        let _passing = Passing(self);
        if let Some(permits) = &self.permits {
            permits.acquire().await.unwrap().forget();
        }
        match self.fails.lock().unwrap().pop_front() {
            Some(cause) => Err(OpenError::Failed(cause.to_owned())),
            None => Ok(()),
        }
    }
}

impl Rig for PaperRig {
    type Spec = Leaves;

    async fn open(spec: Leaves, cancel: CancellationToken) -> Result<Self, OpenError> {
        if let Some(gate) = spec.gate.clone() {
            cancel.run_until_cancelled(gate.pass(&spec.path)).await.unwrap_or(Err(OpenError::Cancelled))?;
        }
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
    journal: RecordingJournal,
    slots: Slots,
}

/// One that runs.
struct Begun {
    raw: RawFile,
    stop: mpsc::Sender<Option<String>>,
    running: JoinHandle<()>,
}

/// How a part of a node reaches the deployment.
pub fn connection(standin: &Standin) -> (ServerConfig, NatsConfig) {
    let deployment = &standin.deployment;
    let server = ServerConfig {
        host: standin.host(),
        api_key: deployment.api_key.clone(),
        api_secret: deployment.api_secret.clone(),
        join_host: None,
        ca_file: None,
    };
    let nats = NatsConfig {
        urls: vec![standin.nats_url()],
        recorder_channel: deployment.channel.clone(),
        recorder_info_kv: deployment.bucket.clone(),
        transcoding_jobs_subject: deployment.jobs.clone(),
    };
    (server, nats)
}

impl Node {
    async fn new() -> Self {
        Self::with_hooks(&HooksConfig::default()).await
    }

    async fn with_hooks(hooks: &HooksConfig) -> Self {
        let standin = Standin::start(Deployment::default()).await.unwrap();
        let me = RecorderId::parse("node_01").unwrap();
        let (server, config) = connection(&standin);
        let cancel = CancellationToken::new();
        let nats = Nats::connect(&config, &server, &me, &cancel).await.unwrap();
        let state = standin.dir().join("state");
        let dispatcher = Dispatcher::new(&server, Outbox::open(&state).unwrap()).unwrap();
        dispatcher.connect(nats);
        let handoff = JobHandoff {
            raw_store: None,
            recorder: me.clone(),
            hooks: Hooks::start(hooks, &[config::HookStage::PostRecording]),
            dispatcher: dispatcher.clone(),
            waits: RetrySchedule([Duration::from_millis(300); 3]),
            drain: CancellationToken::new(),
            end: CancellationToken::new(),
        };
        let context = RecordingContext {
            signals: RecordingSignals::default(),
            early_copies: None,
            archives: Archives::default(),
            hls: None,
            recorder: me.clone(),
            dispatcher,
            handoff,
            summaries: SummaryStore::new(&state),
            room: RoomClient::new(&server).unwrap(),
            limits: SessionLimits::default(),
            turns: OpeningTurns::new(2),
            open_failures: OpenFailures::default(),
        };
        let journal = RecordingJournal::new(&state);
        std::fs::create_dir_all(standin.dir().join("temporary")).unwrap();
        std::fs::create_dir_all(standin.dir().join("main")).unwrap();
        Self { standin, context, journal, slots: Slots::new(1) }
    }

    /// Runs one from its start to its end.
    async fn run(&self, kind: Kind, id: &str, leaves: Leaves) -> (RawFile, RecorderToPlugNmeet) {
        // The place of the one before is free again, though it ended badly.
        let slot = self.slots.admit(7, kind, RecordingId::parse(id).unwrap()).unwrap();
        let breaks = leaves.breaks.is_some();
        let begun = self.begin(kind, id, leaves, Some(slot)).await;
        let (started, ended) = match kind {
            Kind::Recording => (RecordingTasks::StartRecording, RecordingTasks::EndRecording),
            Kind::Broadcast => (RecordingTasks::StartRtmp, RecordingTasks::EndRtmp),
        };
        let notices = &self.standin.notices;
        notices.wait_for(started, id, LIMIT).await.unwrap();
        if !breaks {
            begun.stop.send(None).await.unwrap();
        }
        let told = notices.wait_for(ended, id, LIMIT).await.unwrap().message;
        tokio::time::timeout(LIMIT, begun.running).await.unwrap().unwrap();
        assert_eq!(notices.tasks_of(id), [started, ended], "{id}");
        (begun.raw, told)
    }

    /// Starts one.
    async fn begin(&self, kind: Kind, id: &str, leaves: Leaves, slot: Option<Slot>) -> Begun {
        self.begin_in(None, kind, id, leaves, slot).await
    }

    /// Starts one. `store`: `main_path`, where it is watched.
    async fn begin_in(
        &self,
        store: Option<&MainPath>,
        kind: Kind,
        id: &str,
        leaves: Leaves,
        slot: Option<Slot>,
    ) -> Begun {
        let info = RecordingInfo {
            room_table_id: 7,
            room_id: RoomId::parse("room01").unwrap(),
            room_sid: RoomSid::default(),
            recording_id: RecordingId::parse(id).unwrap(),
        };
        let (temporary, main) = (self.standin.dir().join("temporary"), self.standin.dir().join("main"));
        let raw = RawFile::new(&temporary, &main, "node_01".as_ref(), &info.recording_id, &info.room_id).unwrap();
        let raw = store.map_or(raw.clone(), |store| raw.in_store(store));
        let (stop, stops) = mpsc::channel(1);
        let output = match kind {
            Kind::Recording => Output::File,
            Kind::Broadcast => Output::Rtmp(RtmpUrl::parse("rtmp://localhost/live/key").unwrap()),
        };
        let start = Start { info, access: self.access(), output };
        let entry = self.journal.begin(&start).await;
        let stored = (kind == Kind::Recording).then(|| raw.clone());
        let rigs = Arc::new(Paper { raw: raw.clone(), leaves });
        let task = RecordingTask::<PaperRig> { start, rigs, raw: stored, entry, interrupted: None, slot, stops };
        Begun { raw, stop, running: tokio::spawn(driver::run(task, self.context.clone())) }
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

/// A part of a second and a half, with picture and sound.
fn media(path: &Path) {
    let made = std::process::Command::new("ffmpeg")
        .args("-v error -y -f lavfi -i testsrc2=s=64x64:r=10:d=1.5 -f lavfi -i sine=d=1.5 -c:a pcm_s16le".split(' '))
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-f", "matroska"])
        .arg(path)
        .status();
    assert!(made.unwrap().success());
}
