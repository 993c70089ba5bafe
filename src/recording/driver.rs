//! Owns one recording or broadcast: turns what happens into events for its [`Session`] and carries out the effects.

use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::raw_file::RawFile;
use super::session::{Effect, Event, Session, State};
use super::summary::{Summaries, Summary, Times};
use crate::capture::rig::{self, Break, OpenError, Rig};
use crate::delivery::jobs::JobPublisher;
use crate::delivery::notifier::{Delivered, Notifier};
use crate::fleet::permits::Permit;
use crate::protocol::ids::RecorderId;
use crate::protocol::job::{Job, Work};
use crate::protocol::notice::{self, Notice, Outcome};
use crate::protocol::request::{Kind, RecordingInfo};
use crate::telemetry::redact;

/// How often the session is told that time has passed.
const TICK: Duration = Duration::from_secs(1);
/// The job follows the notice of the end, so that the server hears of the MP4 last; but it does not wait for ever for
/// a server that is away.
const TOLD_LIMIT: Duration = Duration::from_secs(60);

/// What every recording needs of the rest of the program.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub recorder: RecorderId,
    pub notifier: Notifier,
    pub publisher: JobPublisher,
    pub summaries: Summaries,
}

/// One recording or broadcast that was taken on.
pub struct Task<R: Rig> {
    pub kind: Kind,
    pub info: RecordingInfo,
    pub rig: R::Spec,
    /// `None` for a broadcast.
    pub raw: Option<RawFile>,
    /// Its place in the node, given back when the rig is closed.
    pub permit: Permit,
    /// Asks for the end: the server (`None`), or the program with its reason.
    pub stops: mpsc::Receiver<Option<String>>,
}

/// What a piece of work ends in.
struct Done<R> {
    event: Event,
    /// Given back by work that had it in hand and did not end it.
    rig: Option<R>,
    /// What the rig did, once its encoder has ended.
    summary: Option<rig::Summary>,
}

impl<R> From<Event> for Done<R> {
    fn from(event: Event) -> Self {
        Self { event, rig: None, summary: None }
    }
}

/// Carries out effects; at most one piece of work at a time.
struct Driver<R: Rig> {
    kind: Kind,
    info: RecordingInfo,
    surroundings: Surroundings,
    raw: Option<RawFile>,
    permit: Option<Permit>,
    to_open: Option<R::Spec>,
    opening: CancellationToken,
    rig: Option<R>,
    work: Option<BoxFuture<'static, Done<R>>>,
    /// Resolves when the server knows of the end.
    end_told: Option<oneshot::Receiver<Delivered>>,
    /// What the rig did, once it has ended.
    done: rig::Summary,
    started: Option<SystemTime>,
    ended: Option<SystemTime>,
    /// What the server is told.
    outcome: Outcome,
    /// The summary is on its way to the disk with the job.
    summarised: bool,
}

/// Runs a recording to its end.
pub async fn run<R: Rig>(task: Task<R>, surroundings: Surroundings) {
    let Task { kind, info, rig, raw, permit, mut stops } = task;
    let began = Instant::now();
    let mut driver = Driver::<R> {
        kind,
        info,
        surroundings,
        raw,
        permit: Some(permit),
        to_open: Some(rig),
        opening: CancellationToken::new(),
        rig: None,
        work: None,
        end_told: None,
        done: rig::Summary::default(),
        started: None,
        ended: None,
        outcome: Ok(()),
        summarised: false,
    };
    let (mut session, effects) = Session::begin(kind, Duration::ZERO);
    for effect in effects {
        driver.carry_out(effect);
    }
    let mut tick = tokio::time::interval(TICK);
    while session.state() != State::Ended {
        let capturing = session.state() == State::Capturing;
        let event = tokio::select! {
            Some(reason) = stops.recv() => Event::Stop(reason),
            done = done(driver.work.as_mut()) => driver.take_back(done),
            found = broken(driver.rig.as_mut()), if capturing => Event::Broke(found.cause),
            _ = tick.tick() => Event::Tick,
        };
        note(&event);
        for effect in session.on(began.elapsed(), event) {
            driver.carry_out(effect);
        }
    }
    driver.say_goodbye().await;
}

/// Waits for the piece of work in hand.
async fn done<R: Rig>(work: Option<&mut BoxFuture<'static, Done<R>>>) -> Done<R> {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

async fn broken<R: Rig>(rig: Option<&mut R>) -> Break {
    match rig {
        Some(rig) => rig.broken().await,
        None => std::future::pending().await,
    }
}

/// What an operator reads of an event.
fn note(event: &Event) {
    match event {
        Event::Stop(None) => tracing::info!("the server asks to stop"),
        Event::Stop(Some(reason)) => tracing::info!(reason, "stopping"),
        Event::Broke(cause) => tracing::error!(cause, "the capture broke off; what was recorded is kept"),
        Event::OpenFailed(Some(cause)) => tracing::error!(cause, "the meeting cannot be recorded"),
        Event::OpenFailed(None) => tracing::info!("stopped before the meeting was reached"),
        Event::Finished(Err(cause)) => tracing::error!(cause, "the encoder did not end well"),
        Event::Stored(Err(cause)) => tracing::error!(cause, "nothing can be delivered"),
        Event::Published(Err(cause)) => {
            tracing::error!(cause, "the transcoding job is not in the work queue; the raw file is in its place");
        }
        Event::Opened
        | Event::Finished(Ok(()))
        | Event::Closed
        | Event::Stored(Ok(()))
        | Event::Published(Ok(()))
        | Event::Tick => {}
    }
}

impl<R: Rig> Driver<R> {
    fn carry_out(&mut self, effect: Effect) {
        tracing::debug!(?effect, "next");
        match effect {
            Effect::OpenRig => self.open(),
            Effect::CancelOpening => self.opening.cancel(),
            Effect::FinishEncoder => self.finish(),
            Effect::CloseRig => self.close(),
            Effect::Store => self.store(),
            Effect::PublishJob => self.publish(),
            Effect::TellStarted => {
                tracing::info!("started");
                self.started = Some(SystemTime::now());
                self.tell(notice::Event::Started(self.kind));
            }
            Effect::TellEnded(outcome) => {
                // A cause may quote a child's words, and those an address with its secret.
                let outcome: Outcome = outcome.map_err(|cause| redact::scrub(&cause).into_owned());
                self.outcome.clone_from(&outcome);
                self.end_told = Some(self.tell(notice::Event::Ended(self.kind, outcome)));
            }
            Effect::GiveUp(why) => {
                tracing::error!(why, "giving up on it and going on");
                self.work = None;
                self.rig = None;
            }
            Effect::FreePlace => self.permit = None,
        }
    }

    fn tell(&self, event: notice::Event) -> oneshot::Receiver<Delivered> {
        self.surroundings.notifier.tell(Notice { info: self.info.clone(), event })
    }

    fn begin(&mut self, work: impl Future<Output = Done<R>> + Send + 'static) {
        self.work = Some(work.boxed());
    }

    /// Ends the piece of work in hand; its news.
    fn take_back(&mut self, done: Done<R>) -> Event {
        self.work = None;
        self.rig = done.rig;
        if let Some(summary) = done.summary {
            self.done = summary;
            self.ended = Some(SystemTime::now());
        }
        done.event
    }

    fn open(&mut self) {
        let Some(spec) = self.to_open.take() else { return };
        let cancel = self.opening.clone();
        self.begin(async move {
            match R::open(spec, cancel).await {
                Ok(rig) => Done { rig: Some(rig), ..Event::Opened.into() },
                Err(OpenError::Cancelled) => Event::OpenFailed(None).into(),
                Err(OpenError::Over(cause) | OpenError::Failed(cause)) => Event::OpenFailed(Some(cause)).into(),
            }
        });
    }

    fn finish(&mut self) {
        let Some(mut rig) = self.rig.take() else { return };
        self.begin(async move {
            let (summary, result) = rig.finish().await;
            Done { event: Event::Finished(result), rig: Some(rig), summary: Some(summary) }
        });
    }

    fn close(&mut self) {
        let Some(rig) = self.rig.take() else { return };
        self.begin(async move {
            rig.close().await;
            Event::Closed.into()
        });
    }

    fn store(&mut self) {
        let raw = self.raw.clone();
        self.begin(async move {
            let result = match raw {
                Some(raw) => raw.store().await.map(|_| ()),
                None => Err("a broadcast has no raw file".to_owned()),
            };
            Event::Stored(result).into()
        });
    }

    fn publish(&mut self) {
        let Some(raw) = &self.raw else { return };
        let job = Job {
            info: self.info.clone(),
            recorder_id: self.surroundings.recorder.clone(),
            work: Work::PostRecording { dir: raw.dir.clone(), file_name: raw.name.clone(), variant: 0 },
        };
        let publisher = self.surroundings.publisher.clone();
        let told = self.end_told.take();
        let (summary, beside) = (self.summary(), raw.summary());
        let (summaries, recording) = (self.surroundings.summaries.clone(), self.info.recording_id.clone());
        self.summarised = true;
        self.begin(async move {
            // Before the job: scripts are to find it.
            if let Some(beside) = beside {
                summary.write(beside).await;
            }
            summaries.keep(&summary, &recording).await;
            if let Some(told) = told {
                // Delivered, given up or late: the job goes out in any case.
                let _ = tokio::time::timeout(TOLD_LIMIT, told).await;
            }
            Event::Published(publisher.publish(&job).await.map_err(|error| error.to_string())).into()
        });
    }

    fn summary(&self) -> Summary {
        let times = Times { started: self.started, ended: self.ended.unwrap_or_else(SystemTime::now) };
        Summary::new(self.kind, &self.info, &self.surroundings.recorder, times, &self.outcome, &self.done)
    }

    async fn say_goodbye(self) {
        if let Some(raw) = &self.raw {
            raw.tidy().await;
        }
        let summary = self.summary();
        if !self.summarised {
            self.surroundings.summaries.keep(&summary, &self.info.recording_id).await;
        }
        summary.log();
    }
}
