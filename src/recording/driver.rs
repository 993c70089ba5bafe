//! Drives one recording or broadcast: turns what happens into events of its [`Session`] and carries out the effects,
//! each of them noted in the journal before or after, as `docs/on-disk-protocol.md` says.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::capture::rig::Rig;
use crate::codes;
use crate::fleet::slots::Slot;
use crate::protocol::ids::AccessToken;
use crate::protocol::notice::{self, Notice, Outcome};
use crate::protocol::request::Start;
use crate::recording::archiving::{self, RecordingArchive};
pub use crate::recording::context::RecordingContext;
use crate::recording::early_copy::EarlyCopy;
use crate::recording::event_log;
use crate::recording::interruption::next_interruption;
use crate::recording::journal::{RecordingEntry, RecordingStage, StopRequest};
use crate::recording::opening::{Opening, await_turn};
use crate::recording::opening_turns::OpeningTurn;
use crate::recording::publishing::RecordingPublication;
use crate::recording::raw_file::{RawFile, StoreFailure};
use crate::recording::recovery;
use crate::recording::rig_factory::RigFactory;
use crate::recording::secrets::secrets_of;
use crate::recording::session::{
    Effect, InterruptedRecording, Interruption, OpenFailure, Session, SessionEvent, SessionState,
};
use crate::recording::signals::RecordingSignal;
use crate::recording::storing::{self, EndedRecording};
use crate::telemetry::redact;
use crate::unix_time::unix_ms;

/// How long the server's own token is used: after a long wait for a turn one is signed anew. A server may be told to let
/// tokens live for a minute.
const TOKEN_IS_FRESH: Duration = Duration::from_secs(30);
/// How often the session gets a tick.
const TICK: Duration = Duration::from_secs(1);

/// A recording or broadcast that was accepted by this run of the program or an earlier one.
pub struct RecordingTask<R: Rig> {
    pub start: Start,
    /// Specifies the recording's rigs.
    pub rigs: Arc<dyn RigFactory<R>>,
    /// `None` for a broadcast.
    pub raw: Option<RawFile>,
    pub entry: RecordingEntry,
    /// What an earlier run has left; `None` for a new recording.
    pub interrupted: Option<InterruptedRecording>,
    /// Its slot on the node, freed when its last rig is closed. `None`: it occupies none.
    pub slot: Option<Slot>,
    /// Requests to stop: by the server (`None`) or by the program, with its reason.
    pub stops: mpsc::Receiver<Option<String>>,
}

/// The result of a piece of work.
struct WorkResult<R> {
    event: SessionEvent,
    /// The rig, where the work used it and did not close it.
    rig: Option<R>,
    /// The turn that the work has waited for.
    turn: Option<OpeningTurn>,
}

impl<R> From<SessionEvent> for WorkResult<R> {
    fn from(event: SessionEvent) -> Self {
        Self { event, rig: None, turn: None }
    }
}

/// Carries out effects, at most one piece of work at a time.
struct Driver<R: Rig> {
    start: Start,
    rigs: Arc<dyn RigFactory<R>>,
    context: RecordingContext,
    raw: Option<RawFile>,
    entry: RecordingEntry,
    slot: Option<Slot>,
    /// Until the file is stored.
    signal: Arc<RecordingSignal>,
    opening: CancellationToken,
    /// The turn of the opening that comes next.
    turn: Option<OpeningTurn>,
    /// Since when the media of this recording are missed, in Unix milliseconds: the order of turns.
    missed_since: u64,
    rig: Option<R>,
    work: Option<BoxFuture<'static, WorkResult<R>>>,
    /// The MP4 that is written while the recording runs.
    early: Option<EarlyCopy>,
    /// What goes into the archive of the fleet while the recording runs.
    archive: Option<RecordingArchive>,
    /// The recording as HLS while it runs.
    live: RecordingPublication,
    /// The node that has taken the recording over, and tells its end.
    taken_by: Option<String>,
    /// Finds out what kind of interruption a break of the rig is.
    diagnosis: Option<BoxFuture<'static, SessionEvent>>,
    /// Until when the server's own token is fresh; `None` where it was used, or is of an earlier run.
    token_until: Option<Instant>,
    /// Keeps the tokens that were signed here out of the log.
    signed_tokens: Vec<redact::SecretRegistration>,
    /// Why the latest part ended, if not as requested.
    part_cause: Option<String>,
    /// The page's words when the meeting had ended.
    ended_by: Option<String>,
    ended: Option<SystemTime>,
    /// The notice of the end was sent; the file follows.
    ended_recording: Option<EndedRecording>,
}

/// Runs a recording to its end.
pub async fn run<R: Rig>(task: RecordingTask<R>, context: RecordingContext) {
    let RecordingTask { start, rigs, raw, entry, interrupted, slot, mut stops } = task;
    let (kind, limits) = (start.kind(), context.limits);
    let began = Instant::now();
    let missed_since = recovery::missed_since(&entry.record()).unwrap_or_else(unix_ms);
    let signal = context.signals.take(kind, &start.info, interrupted.is_none());
    let archived = raw.as_ref().and_then(|_| context.archives.of_room(&start.info.room_id).cloned());
    let mut driver = Driver::<R> {
        archive: archived.as_ref().map(|archive| RecordingArchive::new(archive, &start.info)),
        live: RecordingPublication::new(context.hls.clone().filter(|_| interrupted.is_none() && raw.is_some())),
        taken_by: None,
        signal,
        start,
        rigs,
        context,
        raw,
        entry,
        slot,
        opening: CancellationToken::new(),
        turn: None,
        missed_since,
        rig: None,
        work: None,
        early: None,
        diagnosis: None,
        token_until: interrupted.is_none().then(|| began + TOKEN_IS_FRESH),
        signed_tokens: Vec::new(),
        part_cause: None,
        ended_by: None,
        ended: None,
        ended_recording: None,
    };
    if interrupted.is_some()
        && let Some(archive) = archived
        && let Some(node) = archiving::taken_meanwhile(&archive, &driver.entry).await
    {
        return driver.hand_in(&node).await;
    }
    let (mut session, effects) = match interrupted {
        None => Session::begin(kind, limits, Duration::ZERO),
        Some(interrupted) => Session::recover(kind, interrupted, limits, Duration::ZERO),
    };
    for effect in effects {
        driver.carry_out(effect);
    }
    let mut tick = tokio::time::interval(TICK);
    while session.state() != SessionState::Ended {
        let before = session.state();
        let capturing = session.state() == SessionState::Capturing;
        let idle = driver.rig.as_ref().filter(|_| capturing).map_or(Duration::ZERO, R::idle);
        match driver.rig.as_ref().filter(|_| capturing).and_then(R::gauge) {
            Some(gauge) => driver.signal.look(&gauge),
            None => driver.signal.pause(),
        }
        driver.signal.show(driver.rig.as_ref().filter(|_| capturing).and_then(R::live));
        let event = tokio::select! {
            Some(reason) = stops.recv() => SessionEvent::Stop(reason),
            node = taken(driver.archive.as_mut()), if driver.taken_by.is_none() => driver.lose_to(node),
            result = work_result(driver.work.as_mut()) => driver.finish_work(result),
            event = next_interruption(driver.rig.as_mut(), &mut driver.diagnosis, &driver.context.room, &driver.start.access), if capturing => {
                driver.remember(event)
            }
            _ = tick.tick() => SessionEvent::Tick { idle },
        };
        let had_media = session.has_begun();
        let effects = session.on(began.elapsed(), event.clone());
        event_log::log(&event, had_media, session.is_opening());
        for effect in effects {
            driver.carry_out(effect);
        }
        // Of an opening that was cancelled just before.
        driver.turn = None;
        if let Some(until) = session.state().waits_until().filter(|_| session.state() != before) {
            let wait = until.saturating_sub(began.elapsed());
            tracing::info!(wait_s = crate::telemetry::seconds(wait), "waiting before joining is tried again");
        }
    }
    if let Some(node) = driver.taken_by.take() {
        return driver.hand_in(&node).await;
    }
    let Some(ended) = driver.ended_recording.take() else {
        return driver.live.give_up("the recording has no file").await;
    };
    // Its archive goes on until the raw file is in its place.
    ended.store(driver.early.take(), driver.archive.take(), driver.live).await;
}

/// The node that has taken the recording over; never where there is no archive.
async fn taken(archive: Option<&mut RecordingArchive>) -> String {
    match archive {
        Some(archive) => archive.taken().await,
        None => std::future::pending().await,
    }
}

/// Waits for the running piece of work; for ever where there is none.
async fn work_result<R: Rig>(work: Option<&mut BoxFuture<'static, WorkResult<R>>>) -> WorkResult<R> {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

impl<R: Rig> Driver<R> {
    /// Waits for nothing: what takes time becomes a piece of work.
    fn carry_out(&mut self, effect: Effect) {
        tracing::debug!(?effect, "next");
        match effect {
            Effect::AwaitTurn => self.await_turn(),
            Effect::OpenRig => self.open_rig(),
            Effect::CancelOpening => self.opening.cancel(),
            Effect::FinishEncoder => self.finish_encoder(),
            Effect::CloseRig => self.close_rig(),
            Effect::CheckParts { cause } => self.check_parts(cause),
            Effect::NotifyStarted => {
                self.signal.started();
                // Of one that was taken over, the node has told that had it before.
                if self.entry.record().lease > 0 {
                    return;
                }
                let event = notice::NoticeEvent::Started(self.start.kind());
                // The outcome does not matter here: the outbox keeps trying, and writes it when the disk takes it.
                drop(self.context.dispatcher.send_now(self.notice(event)));
            }
            Effect::NotifyEnded { outcome, file } => self.notify_ended(outcome, file),
            Effect::GiveUp(why) => {
                tracing::error!(code = %codes::GIVES_UP_STEP, why, "giving up on this step and going on; what was recorded is kept");
                self.work = None;
                self.rig = None;
                self.early = None;
                self.live.part_is_complete();
            }
            Effect::FreeSlot => self.slot = None,
        }
    }

    fn notice(&self, event: notice::NoticeEvent) -> Notice {
        Notice { info: self.start.info.clone(), recorder_id: self.context.recorder.clone(), event }
    }

    fn start_work(&mut self, work: impl Future<Output = WorkResult<R>> + Send + 'static) {
        self.work = Some(work.boxed());
    }

    /// Ends the running piece of work, and returns its event.
    fn finish_work(&mut self, result: WorkResult<R>) -> SessionEvent {
        self.work = None;
        self.rig = result.rig;
        self.turn = result.turn;
        match &result.event {
            SessionEvent::Opened => {
                self.context.open_failures.reset();
                self.start_early_copy();
                if let (Some(archive), Some(raw)) = (&mut self.archive, &self.raw) {
                    archive.part_opened(&self.start, raw, &self.entry);
                }
                if let Some(raw) = &self.raw {
                    self.live.part_opened(&self.start.info, raw, &self.entry);
                }
            }
            SessionEvent::Finished(result) => {
                match result {
                    Ok(()) => self.early.iter().for_each(EarlyCopy::part_is_complete),
                    Err(_) => self.early = None,
                }
                self.archive.iter().for_each(RecordingArchive::part_is_complete);
                self.live.part_is_complete();
            }
            SessionEvent::OpenFailed(OpenFailure::Failed(_)) => self.context.open_failures.failed(),
            SessionEvent::OpenFailed(OpenFailure::Over(why)) => self.ended_by = Some(why.clone()),
            _ => {}
        }
        result.event
    }

    /// Remembers how the capture was interrupted.
    fn remember(&mut self, event: SessionEvent) -> SessionEvent {
        match &event {
            SessionEvent::Broke { cause, after: Interruption::MeetingOver } => self.ended_by = Some(cause.clone()),
            SessionEvent::Broke { cause, .. } => self.part_cause = Some(cause.clone()),
            _ => {}
        }
        self.missed_since = unix_ms();
        event
    }

    /// Another node has the recording.
    fn lose_to(&mut self, node: String) -> SessionEvent {
        tracing::error!(
            code = %codes::LOST_TO_ANOTHER_NODE, node,
            "another node has taken this recording over, since this one seemed to be gone: it ends here, and what the \
             archive lacks is sent there; see why this node was cut off or stood still for a minute"
        );
        let reason = format!("{node} has taken the recording over");
        self.taken_by = Some(node);
        SessionEvent::Stop(Some(reason))
    }

    /// Hands in what the archive lacks of a recording that another node has now, and forgets the recording.
    async fn hand_in(mut self, node: &str) {
        let why = format!("{node} has taken it over");
        self.live.give_up(&why).await;
        let (Some(archive), Some(raw)) = (self.archive.take(), &self.raw) else { return };
        let drain = self.context.handoff.drain.clone();
        let handed_in = archive.hand_in_to(node, &self.start, raw, &self.entry);
        if drain.run_until_cancelled(handed_in).await.is_some() {
            storing::remove_parts(Some(raw), &self.entry, true, &self.context).await;
        }
    }

    /// The token for the next opening. The server's own token is used once, while it is fresh.
    fn token(&mut self) -> Option<AccessToken> {
        let fresh = self.token_until.take().is_some_and(|until| Instant::now() < until);
        if let Some(token) = self.start.access.sent().filter(|_| fresh) {
            return Some(token.clone());
        }
        let token = self.context.room.sign(&self.start.access);
        self.signed_tokens = token.as_ref().map(secrets_of).into_iter().flatten().collect();
        token
    }

    fn await_turn(&mut self) {
        self.opening = CancellationToken::new();
        let RecordingContext { room, turns, .. } = self.context.clone();
        // A room that the server has named just now is not over.
        let access = self.token_until.is_none().then(|| self.start.access.clone());
        let is_first = self.entry.record().began_at.is_none();
        let (missed_since, cancel) = (self.missed_since, self.opening.clone());
        self.start_work(async move {
            match await_turn(&room, access.as_ref(), is_first, &turns, missed_since, &cancel).await {
                Ok(turn) => WorkResult { turn: Some(turn), ..SessionEvent::TurnCame.into() },
                Err(failure) => SessionEvent::OpenFailed(failure).into(),
            }
        });
    }

    /// Has the MP4 be written while the recording runs, where this is its first part.
    fn start_early_copy(&mut self) {
        let parts = self.entry.record().parts;
        let (Some(copies), Some(raw), [part]) = (&self.context.early_copies, &self.raw, &parts[..]) else { return };
        self.early = copies.start(raw, raw.part(&part.file));
    }

    fn open_rig(&mut self) {
        let token = self.token();
        // That of one part is not that of the recording.
        self.early = None;
        self.part_cause = None;
        let opening = Opening {
            start: self.start.clone(),
            rigs: Arc::clone(&self.rigs),
            raw: self.raw.clone(),
            entry: self.entry.clone(),
            turn: self.turn.take(),
            cancel: self.opening.clone(),
        };
        self.start_work(async move {
            let Some(token) = token else {
                return SessionEvent::OpenFailed(OpenFailure::Failed("no access token can be signed".to_owned()))
                    .into();
            };
            match opening.run(&token).await {
                Ok(rig) => WorkResult { rig: Some(rig), ..SessionEvent::Opened.into() },
                Err(failure) => SessionEvent::OpenFailed(failure).into(),
            }
        });
    }

    fn finish_encoder(&mut self) {
        let Some(mut rig) = self.rig.take() else { return };
        let (entry, part_cause, signal) = (self.entry.clone(), self.part_cause.take(), Arc::clone(&self.signal));
        self.ended = Some(SystemTime::now());
        self.start_work(async move {
            let (report, result) = rig.finish().await;
            signal.part_ended(&report);
            entry.part_ended(part_cause.or_else(|| result.clone().err()), report).await;
            WorkResult { rig: Some(rig), ..SessionEvent::Finished(result).into() }
        });
    }

    fn close_rig(&mut self) {
        let Some(rig) = self.rig.take() else { return };
        self.start_work(async move {
            rig.close().await;
            SessionEvent::Closed.into()
        });
    }

    /// Checks whether there will be a file.
    fn check_parts(&mut self, cause: Option<String>) {
        let reason = scrubbed(cause);
        let (raw, entry) = (self.raw.clone(), self.entry.clone());
        self.start_work(async move {
            // From here on the meeting is not joined again, whatever happens.
            entry.update(move |record| record.stop = Some(StopRequest { reason })).await;
            let record = entry.record();
            let captured = match raw {
                None => Err("a broadcast has no raw file".to_owned()),
                Some(_) if record.stage == RecordingStage::Stored => Ok(()),
                Some(raw) => match raw.captured(&record.parts, record.placing).await {
                    Err(StoreFailure::Nothing(why)) => Err(why),
                    Err(StoreFailure::NotYet(why)) => {
                        tracing::warn!(
                            code = %codes::PARTS_NOT_READABLE_NOW, why,
                            "what was captured cannot be looked at now; it is kept, and stored when the disk of recorder.temporary_dir answers"
                        );
                        Ok(())
                    }
                    Ok(()) => Ok(()),
                },
            };
            SessionEvent::Checked(captured).into()
        });
    }

    /// Adds the notice of the end to the outbox. `file`: the raw file follows, which begins after this.
    fn notify_ended(&mut self, outcome: Outcome, file: bool) {
        self.signal.ended(outcome.is_ok());
        if self.taken_by.is_some() {
            // The other node tells the end.
            return self.start_work(async { SessionEvent::EndNotified.into() });
        }
        let ended = EndedRecording {
            kind: self.start.kind(),
            info: self.start.info.clone(),
            raw: self.raw.clone(),
            entry: self.entry.clone(),
            // A cause may quote a child process's output, which may hold an address with its secret.
            outcome: outcome.map_err(|cause| redact::scrub(&cause).into_owned()),
            ended_by: self.ended_by.clone(),
            ended: self.ended,
            screenshot: self.rigs.screenshot(&self.start),
            context: self.context.clone(),
        };
        self.ended_recording = file.then(|| ended.clone());
        self.start_work(async move {
            if file {
                let cause = ended.outcome.as_ref().err();
                tracing::info!(cause, "the capture has ended: the server is told, and then the raw file is stored");
                ended.notify_ended().await;
            } else {
                ended.finish_without_file().await;
            }
            SessionEvent::EndNotified.into()
        });
    }
}

/// A cause without secrets, to be written to the journal.
fn scrubbed(cause: Option<String>) -> Option<String> {
    cause.map(|cause| redact::scrub(&cause).into_owned())
}
