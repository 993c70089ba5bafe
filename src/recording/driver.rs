//! Owns one recording or broadcast: turns what happens into events for its [`Session`] and carries out the effects, each
//! noted in the journal before or behind it as "The on-disk protocol" (ARCHITECTURE) says.

use crate::recording::secrets::secrets_of;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::capture::rig::Rig;
use crate::delivery::dispatcher::{Delivery, Dispatcher};
use crate::fleet::slots::Slot;
use crate::protocol::ids::{AccessToken, RecorderId};
use crate::protocol::notice::{self, Notice, Outcome};
use crate::protocol::request::{RecordingInfo, Start};
use crate::recording::interruption::{RoomQuestion, interrupted};
use crate::recording::job_handoff::JobHandoff;
use crate::recording::journal::{RecordingEntry, RecordingStage, StopRequest};
use crate::recording::opening::Opening;
use crate::recording::raw_file::RawFile;
use crate::recording::rig_factory::RigFactory;
use crate::recording::room_client::RoomClient;
use crate::recording::session::{
    Effect, InterruptedRecording, Interruption, OpenFailure, Resuming, Session, SessionEvent, SessionLimits,
    SessionState,
};
use crate::recording::summary::{self, RecordingSummary, SummaryStore, Times};
use crate::telemetry::redact;

/// How often the session is told that time has passed.
const TICK: Duration = Duration::from_secs(1);

/// What every recording needs of the rest of the program.
#[derive(Clone, Debug)]
pub struct RecordingContext {
    pub recorder: RecorderId,
    pub dispatcher: Dispatcher,
    pub handoff: JobHandoff,
    pub summaries: SummaryStore,
    /// Lets it into its room again.
    pub room: RoomClient,
    pub limits: SessionLimits,
}

/// One recording or broadcast that was taken on, by this run of the program or an earlier one.
pub struct RecordingTask<R: Rig> {
    pub start: Start,
    /// Makes its rigs.
    pub plan: Arc<dyn RigFactory<R>>,
    /// `None` for a broadcast.
    pub raw: Option<RawFile>,
    pub entry: RecordingEntry,
    /// `None`: it begins.
    pub left: Option<InterruptedRecording>,
    /// Its place in the node, given back when its last rig is closed. `None`: it needs none.
    pub slot: Option<Slot>,
    /// Asks for the end: the server (`None`), or the program with its reason.
    pub stops: mpsc::Receiver<Option<String>>,
}

/// What a piece of work ends in.
struct WorkResult<R> {
    event: SessionEvent,
    /// Given back by work that had it in hand and did not end it.
    rig: Option<R>,
}

impl<R> From<SessionEvent> for WorkResult<R> {
    fn from(event: SessionEvent) -> Self {
        Self { event, rig: None }
    }
}

/// Carries out effects; at most one piece of work at a time.
struct Driver<R: Rig> {
    start: Start,
    plan: Arc<dyn RigFactory<R>>,
    context: RecordingContext,
    question: RoomQuestion,
    raw: Option<RawFile>,
    entry: RecordingEntry,
    slot: Option<Slot>,
    opening: CancellationToken,
    rig: Option<R>,
    work: Option<BoxFuture<'static, WorkResult<R>>>,
    /// What a break of the rig comes to is being found out.
    inquiry: Option<BoxFuture<'static, SessionEvent>>,
    /// Nothing was opened yet, and the server's own token is a moment old.
    token_is_new: bool,
    /// Keeps the tokens out of the log that were signed here.
    signed: Vec<redact::Registration>,
    /// Why the latest part ended, if not as it should.
    broke: Option<String>,
    /// What the page said when the meeting had ended.
    ended_by: Option<String>,
    ended: Option<SystemTime>,
    /// Its end is told, and its job is to follow when the hooks have had their turn.
    hooks_left: bool,
}

/// Runs a recording to its end.
pub async fn run<R: Rig>(task: RecordingTask<R>, context: RecordingContext) {
    let RecordingTask { start, plan, raw, entry, left, slot, mut stops } = task;
    let (kind, limits) = (start.kind(), context.limits);
    let began = Instant::now();
    let question = RoomQuestion { room: context.room.clone(), access: start.access.clone() };
    let mut driver = Driver::<R> {
        start,
        plan,
        context,
        question,
        raw,
        entry,
        slot,
        opening: CancellationToken::new(),
        rig: None,
        work: None,
        inquiry: None,
        token_is_new: left.is_none(),
        signed: Vec::new(),
        broke: None,
        ended_by: None,
        ended: None,
        hooks_left: false,
    };
    let (mut session, effects) = match left {
        None => Session::begin(kind, limits, Duration::ZERO),
        Some(left) => Session::recover(left, limits, Duration::ZERO),
    };
    for effect in effects {
        driver.carry_out(effect).await;
    }
    let mut tick = tokio::time::interval(TICK);
    while session.state() != SessionState::Ended {
        let before = session.state();
        let capturing = session.state() == SessionState::Capturing;
        let idle = driver.rig.as_ref().filter(|_| capturing).map_or(Duration::ZERO, R::idle);
        let event = tokio::select! {
            Some(reason) = stops.recv() => SessionEvent::Stop(reason),
            done = done(driver.work.as_mut()) => driver.take_back(done),
            event = interrupted(driver.rig.as_mut(), &mut driver.inquiry, &driver.question), if capturing => {
                driver.take_note(event)
            }
            _ = tick.tick() => SessionEvent::Tick { idle },
        };
        note(&event, session.has_begun());
        for effect in session.on(began.elapsed(), event) {
            driver.carry_out(effect).await;
        }
        if let SessionState::Mending(Resuming::Waiting { until }) = session.state()
            && session.state() != before
        {
            let wait = until.saturating_sub(began.elapsed());
            tracing::debug!(wait_s = crate::telemetry::seconds(wait), "waiting before the meeting is joined again");
        }
    }
    if let Some(raw) = driver.raw.as_ref().filter(|_| driver.hooks_left) {
        publish(&driver.start.info, raw, &driver.entry, &driver.context.handoff).await;
    }
}

/// The last steps of a recording with hooks: they run, its job goes into the outbox, and what is left of it here goes.
pub(super) async fn publish(info: &RecordingInfo, raw: &RawFile, entry: &RecordingEntry, handoff: &JobHandoff) {
    if handoff.publish(info, raw, entry).await {
        tidy(Some(raw), entry, &entry.record().files(), true).await;
    }
}

/// Waits for the piece of work in hand.
async fn done<R: Rig>(work: Option<&mut BoxFuture<'static, WorkResult<R>>>) -> WorkResult<R> {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// What an operator reads of an event. `begun`: there is something that was captured.
fn note(event: &SessionEvent, begun: bool) {
    match event {
        SessionEvent::Stop(None) => tracing::info!("the server asks to stop"),
        SessionEvent::Stop(Some(reason)) => tracing::info!(reason, "stopping"),
        SessionEvent::Broke { cause, after: Interruption::MeetingOver } => {
            tracing::info!(page_says = cause, "the meeting has ended");
        }
        SessionEvent::Broke { cause, after: Interruption::Final } => tracing::error!(cause, "the recording ends here"),
        SessionEvent::Broke { cause, after: Interruption::PageLeft } => {
            tracing::warn!(page_says = cause, "the page left the meeting, which goes on; what was recorded is kept");
        }
        SessionEvent::Broke { cause, after: Interruption::Fault } => {
            tracing::error!(cause, "the capture broke off; what was recorded is kept");
        }
        SessionEvent::OpenFailed(OpenFailure::Over(why)) if begun => tracing::info!(why, "the meeting has ended"),
        SessionEvent::OpenFailed(OpenFailure::Failed(cause)) if begun => {
            tracing::warn!(cause, "the meeting cannot be joined again yet; what was recorded is kept");
        }
        SessionEvent::OpenFailed(OpenFailure::Unrecordable(cause)) if begun => {
            tracing::error!(cause, "the meeting cannot be recorded any more; what was recorded is kept");
        }
        SessionEvent::OpenFailed(
            OpenFailure::Failed(cause) | OpenFailure::Over(cause) | OpenFailure::Unrecordable(cause),
        ) => {
            tracing::error!(cause, "the meeting cannot be recorded");
        }
        SessionEvent::OpenFailed(OpenFailure::Cancelled) => tracing::info!("stopped before the meeting was reached"),
        SessionEvent::Finished(Err(cause)) => tracing::error!(cause, "the encoder did not end well"),
        SessionEvent::Stored(Err(cause)) => tracing::error!(cause, "nothing can be delivered"),
        SessionEvent::Opened
        | SessionEvent::Finished(Ok(()))
        | SessionEvent::Closed
        | SessionEvent::Stored(Ok(()))
        | SessionEvent::Delivered
        | SessionEvent::Tick { .. } => {}
    }
}

impl<R: Rig> Driver<R> {
    async fn carry_out(&mut self, effect: Effect) {
        tracing::debug!(?effect, "next");
        match effect {
            Effect::OpenRig => self.open(),
            Effect::CancelOpening => self.opening.cancel(),
            Effect::FinishEncoder => self.finish(),
            Effect::CloseRig => self.close(),
            Effect::Store { cause } => self.store(cause).await,
            Effect::TellStarted => {
                tracing::info!("started");
                let event = notice::NoticeEvent::Started(self.start.kind());
                // Whether the server has it does not matter here: the outbox sees to it.
                drop(self.context.dispatcher.send(self.notice(event)).await);
            }
            Effect::Deliver { outcome, job } => self.deliver(outcome, job),
            Effect::GiveUp(why) => {
                tracing::error!(why, "giving up on it and going on");
                self.work = None;
                self.rig = None;
            }
            Effect::FreePlace => self.slot = None,
        }
    }

    fn notice(&self, event: notice::NoticeEvent) -> Notice {
        Notice { info: self.start.info.clone(), recorder_id: self.context.recorder.clone(), event }
    }

    fn begin(&mut self, work: impl Future<Output = WorkResult<R>> + Send + 'static) {
        self.work = Some(work.boxed());
    }

    /// Ends the piece of work in hand; its news.
    fn take_back(&mut self, done: WorkResult<R>) -> SessionEvent {
        self.work = None;
        self.rig = done.rig;
        if let SessionEvent::OpenFailed(OpenFailure::Over(why)) = &done.event {
            self.ended_by = Some(why.clone());
        }
        done.event
    }

    /// What is remembered of how the capture was interrupted.
    fn take_note(&mut self, event: SessionEvent) -> SessionEvent {
        match &event {
            SessionEvent::Broke { cause, after: Interruption::MeetingOver } => self.ended_by = Some(cause.clone()),
            SessionEvent::Broke { cause, .. } => self.broke = Some(cause.clone()),
            _ => {}
        }
        event
    }

    /// The token for the next opening, and whether it was signed here. The server's own is used once, when it is a moment old.
    fn token(&mut self) -> (Option<AccessToken>, bool) {
        let sent = self.start.access.sent().filter(|_| std::mem::take(&mut self.token_is_new));
        if let Some(token) = sent {
            return (Some(token.clone()), false);
        }
        let token = self.question.room.sign(&self.start.access);
        self.signed = token.as_ref().map(secrets_of).into_iter().flatten().collect();
        (token, true)
    }

    fn open(&mut self) {
        let (token, signed) = self.token();
        self.opening = CancellationToken::new();
        self.broke = None;
        let opening = Opening {
            start: self.start.clone(),
            plan: Arc::clone(&self.plan),
            raw: self.raw.clone(),
            entry: self.entry.clone(),
            room: self.question.room.clone(),
            cancel: self.opening.clone(),
        };
        self.begin(async move {
            let Some(token) = token else {
                return SessionEvent::OpenFailed(OpenFailure::Failed("no access token can be signed".to_owned()))
                    .into();
            };
            match opening.run(&token, signed).await {
                Ok(rig) => WorkResult { rig: Some(rig), event: SessionEvent::Opened },
                Err(failure) => SessionEvent::OpenFailed(failure).into(),
            }
        });
    }

    fn finish(&mut self) {
        let Some(mut rig) = self.rig.take() else { return };
        let (entry, broke) = (self.entry.clone(), self.broke.take());
        self.ended = Some(SystemTime::now());
        self.begin(async move {
            let (done, result) = rig.finish().await;
            entry.part_ended(broke.or_else(|| result.clone().err()), done).await;
            WorkResult { event: SessionEvent::Finished(result), rig: Some(rig) }
        });
    }

    fn close(&mut self) {
        let Some(rig) = self.rig.take() else { return };
        self.begin(async move {
            rig.close().await;
            SessionEvent::Closed.into()
        });
    }

    /// Parts → one whole in its place.
    async fn store(&mut self, cause: Option<String>) {
        // Whatever comes now, the meeting is not joined again.
        let reason = scrubbed(cause);
        self.entry.update(move |record| record.stop = Some(StopRequest { reason })).await;
        let (raw, entry) = (self.raw.clone(), self.entry.clone());
        self.begin(async move {
            let record = entry.record();
            if record.stage == RecordingStage::Stored {
                return SessionEvent::Stored(Ok(())).into();
            }
            let Some(raw) = raw else {
                return SessionEvent::Stored(Err("a broadcast has no raw file".to_owned())).into();
            };
            let result = raw.store(&record.parts).await;
            if let Ok(stored) = &result {
                let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
                let lengths_ms = stored.lengths.iter().map(|length| length.map(millis)).collect();
                let found = stored.found.clone();
                let stored = move |record: &mut crate::recording::journal::RecordingRecord| {
                    record.stage = RecordingStage::Stored;
                    record.found = found;
                    record.lengths_ms = lengths_ms;
                };
                entry.update(stored).await;
            }
            SessionEvent::Stored(result.map(drop)).into()
        });
    }

    /// Summary, letters, and then what is left of it here goes.
    fn deliver(&mut self, outcome: Outcome, job: bool) {
        // A cause may quote a child's words, and those an address with its secret.
        let outcome: Outcome = outcome.map_err(|cause| redact::scrub(&cause).into_owned());
        let kind = self.start.kind();
        let record = self.entry.record();
        let summary = self.summary(&outcome);
        // Nothing failed, so there is nothing to look at.
        let screenshot = self.plan.screenshot(&self.start).filter(|_| outcome.is_ok() && summary.gaps.is_empty());
        let mut letters: Vec<Delivery> = vec![self.notice(notice::NoticeEvent::Ended(kind, outcome)).into()];
        let raw = self.raw.clone();
        self.hooks_left = job && self.context.handoff.has_hooks();
        let hooks_left = self.hooks_left;
        if let Some(raw) = raw.as_ref().filter(|_| job && !hooks_left) {
            letters.push(Delivery::Job(self.context.handoff.job(&self.start.info, raw)));
        }
        let beside = raw.as_ref().filter(|_| job).and_then(RawFile::summary);
        let (context, entry, id) = (self.context.clone(), self.entry.clone(), self.start.info.recording_id.clone());
        self.begin(async move {
            // Before the job: scripts are to find it.
            if let Some(beside) = beside {
                summary.write(beside).await;
            }
            context.summaries.keep(&summary, &id).await;
            let on_disk = context.dispatcher.send_all(letters).await;
            if on_disk && hooks_left {
                tracing::info!("the end is told; the post_recording hooks run before the job is published");
            } else if on_disk {
                tidy(raw.as_ref(), &entry, &record.files(), job).await;
            } else {
                tracing::error!(
                    "the recording's record is kept: its end is not on disk, and the next start tells it (again)"
                );
            }
            if let Some(screenshot) = screenshot {
                // As a rule there is none.
                let _ = tokio::fs::remove_file(screenshot).await;
            }
            summary.log();
            SessionEvent::Delivered.into()
        });
    }

    fn summary(&self, outcome: &Outcome) -> RecordingSummary {
        let record = self.entry.record();
        let wall = |ms: u64| UNIX_EPOCH + Duration::from_millis(ms);
        // The last part may have been another run's.
        let ended = self.ended.or_else(|| {
            let ends = record.parts.iter().filter_map(|part| part.ended.as_ref());
            ends.map(|end| wall(end.at)).max()
        });
        let times = Times { started: record.began_at.map(wall), ended: ended.unwrap_or_else(SystemTime::now) };
        let done = summary::together(&record.parts, &record.lengths(), &record.found);
        let (start, recorder) = (&self.start, &self.context.recorder);
        let summary = RecordingSummary::new(start.kind(), &start.info, recorder, times, outcome, &done, record.gaps());
        RecordingSummary {
            ended_by: self.ended_by.as_deref().map(|words| redact::scrub(words).into_owned()),
            ..summary
        }
    }
}

/// The last step of a recording: its parts go, and then its record; what could not be delivered stays.
pub(super) async fn tidy(raw: Option<&RawFile>, entry: &RecordingEntry, parts: &[String], delivered: bool) {
    let kept = match raw {
        Some(raw) => raw.tidy(parts, delivered).await,
        None => false,
    };
    if kept {
        entry.update(|record| record.stage = RecordingStage::Failed).await;
    } else {
        entry.remove().await;
    }
}

/// What is written down of a cause.
fn scrubbed(cause: Option<String>) -> Option<String> {
    cause.map(|cause| redact::scrub(&cause).into_owned())
}
