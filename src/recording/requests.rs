//! Answers the server's requests (PROTOCOL 3). Nothing slow happens before the answer: a start is accepted or refused,
//! written to the journal, answered, and only then carried out.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use crate::capture::rig::Rig;
use crate::delivery::message::MessageKey;
use crate::fleet::availability::Availability;
use crate::fleet::slots::{Slot, Slots};
use crate::nats::{RequestMessage, Requests};
use crate::protocol::messages::{CommonResponse, StatusCode};
use crate::protocol::notice::{Notice, NoticeEvent};
use crate::protocol::request::{self, Kind, RecordingInfo, Request, Start};
use crate::recording::driver::{self, RecordingContext, RecordingTask};
use crate::recording::journal::{RecordingEntry, RecordingJournal, StopRequest, UnfinishedRecordings};
use crate::recording::raw_file::RawFile;
use crate::recording::recovery::{self, RecoveryStep, SentNotices};
use crate::recording::rig_factory::RigFactory;
use crate::recording::secrets::secrets;
use crate::recording::session::InterruptedRecording;
use crate::recording::storing::{self, EndedRecording};
use crate::storage::disk_space::{DiskLevel, DiskStatus};
use crate::storage::files::on_disk;
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::redact;

/// Why a recording ends at the program's shutdown.
const SHUT_DOWN: &str = "the recorder was shut down";
/// Why a recording ends whose start could not be answered.
const UNANSWERED: &str = "the server could not be told that the recording was taken on";
/// How often a record is read again that could not be read at the start.
const READ_AGAIN_INTERVAL: Duration = Duration::from_secs(5);
/// The messages of an earlier recording with the same id, which a new recording removes from the outbox.
const RECORDING_KEYS: &[MessageKey] =
    &[MessageKey::Started, MessageKey::Ended, MessageKey::Job, MessageKey::Proceeded, MessageKey::Finished];
const BROADCAST_KEYS: &[MessageKey] = &[MessageKey::BroadcastStarted, MessageKey::BroadcastEnded];

/// Answers requests until it is cancelled, and then waits for the recordings to end.
pub struct RequestService<R: Rig> {
    context: RecordingContext,
    slots: Slots,
    rigs: Arc<dyn RigFactory<R>>,
    journal: RecordingJournal,
    availability: Availability,
    /// How full the disks are.
    room: watch::Receiver<DiskStatus>,
    tasks: TaskTracker,
    /// The running recordings, by room and kind.
    running: HashMap<(i64, Kind), RunningRecording>,
    /// Whether this node accepts recordings.
    records: bool,
    /// Records of earlier runs that could not be read.
    unread: Vec<(Kind, PathBuf)>,
    unread_logged: LogThrottle,
}

/// Stops a running recording.
struct RunningRecording {
    stop: mpsc::Sender<Option<String>>,
    entry: RecordingEntry,
}

impl<R: Rig> RequestService<R> {
    pub fn new(
        context: RecordingContext,
        slots: Slots,
        rigs: Arc<dyn RigFactory<R>>,
        journal: RecordingJournal,
        availability: Availability,
        room: watch::Receiver<DiskStatus>,
    ) -> Self {
        Self {
            context,
            slots,
            rigs,
            journal,
            availability,
            room,
            tasks: TaskTracker::new(),
            running: HashMap::new(),
            records: false,
            unread: Vec::new(),
            unread_logged: LogThrottle::default(),
        }
    }

    /// Resumes or finishes the recordings of an earlier run of the program. `records`: whether this node accepts
    /// recordings.
    ///
    /// # Errors
    /// Where the records cannot be listed.
    pub async fn recover(&mut self, records: bool) -> io::Result<()> {
        self.records = records;
        for kind in [Kind::Recording, Kind::Broadcast] {
            let UnfinishedRecordings { entries, unread } = self.journal.unfinished(kind)?;
            for (path, error) in unread {
                tracing::error!(
                    path = %path.display(), %error,
                    "the record of a recording of an earlier run cannot be read now: it is tried again every 5 s; look at the disk of recorder.state_dir"
                );
                self.unread.push((kind, path));
            }
            for entry in entries {
                self.recover_entry(kind, entry).await;
            }
        }
        Ok(())
    }

    async fn recover_entry(&mut self, kind: Kind, entry: RecordingEntry) {
        let info = match entry.record().info() {
            Ok(info) => info,
            Err(why) => {
                tracing::error!(why, "a record of an earlier run names no recording; it is left as it is");
                return;
            }
        };
        if self.context.dispatcher.outbox().is_unread(&info.recording_id) {
            // What the server knows of it decides how it goes on. The outbox logs that.
            return self.unread.push((kind, entry.path().to_owned()));
        }
        let span = span(kind, &info);
        self.recover_one(kind, info, entry, self.records).instrument(span).await;
    }

    /// Reads again what could not be read at the start, and goes on with it.
    async fn recover_unread(&mut self) {
        for (kind, path) in std::mem::take(&mut self.unread) {
            let (journal, at) = (self.journal.clone(), path.clone());
            match on_disk(move || journal.read_again(kind, &at)).await {
                Ok(Some(entry)) => {
                    tracing::info!(path = %path.display(), "the record of a recording of an earlier run can be read");
                    self.recover_entry(kind, entry).await;
                }
                Ok(None) => {}
                Err(error) => {
                    if self.unread_logged.due(Instant::now()) {
                        tracing::error!(path = %path.display(), %error, "the record of a recording of an earlier run still cannot be read");
                    }
                    self.unread.push((kind, path));
                }
            }
        }
    }

    /// Goes on with what could not be read at the start, until `drain`; for a node that answers no requests.
    pub async fn recover_until(&mut self, drain: &CancellationToken) {
        while drain.run_until_cancelled(tokio::time::sleep(READ_AGAIN_INTERVAL)).await.is_some() {
            self.recover_unread().await;
        }
    }

    async fn recover_one(&mut self, kind: Kind, info: RecordingInfo, entry: RecordingEntry, records: bool) {
        let ended = match kind {
            Kind::Recording => MessageKey::Ended,
            Kind::Broadcast => MessageKey::BroadcastEnded,
        };
        let dispatcher = &self.context.dispatcher;
        let sent = |key| dispatcher.outbox().state(&info.recording_id, key).is_some();
        let sent = SentNotices { ended: sent(ended), job: sent(MessageKey::Job) };
        let raw = (kind == Kind::Recording).then(|| self.rigs.raw_file(&info).ok()).flatten();
        match recovery::plan(kind, &entry.record(), sent, records) {
            RecoveryStep::Recover(interrupted) => self.resume(interrupted, raw, entry),
            RecoveryStep::NotifyEnded(cause) => {
                tracing::warn!(cause, "an earlier run of the recorder has left a broadcast behind: its end is told");
                let recorder_id = self.context.recorder.clone();
                let notice = Notice { info, recorder_id, event: NoticeEvent::Ended(kind, Err(cause)) };
                if dispatcher.send_all(vec![notice.into()]).await {
                    storing::remove_parts(None, &entry, true).await;
                }
            }
            RecoveryStep::Store => {
                tracing::warn!("an earlier run of the recorder has left this recording before its job: going on");
                let ended = self.ended(kind, info, raw, entry);
                self.tasks.spawn(async move { ended.store().await }.instrument(Span::current()));
            }
            RecoveryStep::RemoveParts => storing::remove_parts(raw.as_ref(), &entry, true).await,
            RecoveryStep::Keep => {
                let kept = self.ended(kind, info, raw, entry);
                self.tasks.spawn(async move { kept.store_if_captured().await }.instrument(Span::current()));
            }
        }
    }

    /// A recording of an earlier run whose end is told.
    fn ended(&self, kind: Kind, info: RecordingInfo, raw: Option<RawFile>, entry: RecordingEntry) -> EndedRecording {
        let record = entry.record();
        EndedRecording {
            kind,
            info,
            raw,
            screenshot: record.start().ok().and_then(|start| self.rigs.screenshot(&start)),
            outcome: record.stop.and_then(|stop| stop.reason).map_or(Ok(()), Err),
            entry,
            ended_by: None,
            ended: None,
            context: self.context.clone(),
        }
    }

    /// Resumes or finishes a recording of an earlier run.
    fn resume(&mut self, interrupted: InterruptedRecording, raw: Option<RawFile>, entry: RecordingEntry) {
        let start = match entry.record().start() {
            Ok(start) => start,
            Err(why) => {
                tracing::error!(why, "the record of an earlier run cannot be used; it is left as it is");
                return;
            }
        };
        let slot = match &interrupted {
            InterruptedRecording::Running => {
                tracing::warn!(
                    "an earlier run of the recorder has left this recording behind: joining the meeting again"
                );
                self.slots.readmit(start.info.room_table_id, start.kind(), start.info.recording_id.clone())
            }
            InterruptedRecording::Stopped(_) => {
                tracing::warn!("an earlier run of the recorder has left this recording unfinished: finishing it");
                None
            }
        };
        let secrets = secrets(&start);
        self.spawn(start, raw, entry, Some(interrupted), slot, secrets);
    }

    /// Returns when the last recording has ended: after `drain` no recording is accepted, after `end` running ones are
    /// stopped too.
    pub async fn run(mut self, mut requests: Requests, drain: CancellationToken, end: CancellationToken) {
        let mut draining = false;
        let mut read_again = tokio::time::interval(READ_AGAIN_INTERVAL);
        loop {
            let message = tokio::select! {
                () = end.cancelled() => break,
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    self.slots.drain();
                    self.tasks.close();
                    if !self.tasks.is_empty() {
                        tracing::info!(recordings = self.tasks.len(), "draining: running recordings go on, nothing new is taken on");
                    }
                    continue;
                }
                () = self.tasks.wait(), if draining => break,
                _ = read_again.tick(), if !self.unread.is_empty() && !draining => {
                    self.recover_unread().await;
                    continue;
                }
                () = disk_full(&mut self.room) => {
                    self.stop_all(&self.room.borrow().reason.clone());
                    continue;
                }
                message = requests.next() => message,
            };
            let Some(message) = message else {
                tracing::error!("no more requests come in: the NATS client has ended; restart the recorder");
                break;
            };
            self.answer(&message).await;
        }
        self.slots.drain();
        self.stop_all(SHUT_DOWN);
        self.tasks.close();
        if !self.tasks.is_empty() {
            tracing::info!(
                recordings = self.tasks.len(),
                "shutting down: waiting for recordings to be closed properly"
            );
        }
        self.tasks.wait().await;
    }

    /// Returns when all recovered recordings have ended; for a node that answers no requests.
    pub async fn finish(self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn stop_all(&self, why: &str) {
        for running in self.running.values() {
            // A closed or full channel belongs to a recording that is ending already.
            let _ = running.stop.try_send(Some(why.to_owned()));
        }
    }

    async fn answer(&mut self, message: &RequestMessage) {
        let mut begun = None;
        let response = match request::read(message.payload(), &self.context.recorder) {
            Ok(Some(request)) => {
                if let Request::Start(start) = &request {
                    begun = Some((start.info.room_table_id, start.kind()));
                }
                self.decide(request).await
            }
            Ok(None) => None,
            Err(error) => {
                let bytes = message.payload().len();
                tracing::warn!(%error, bytes, "a message on the channel is no request; ignored");
                None
            }
        };
        let Some(response) = response else { return };
        if let Err(error) = message.reply(response.encode_to_vec().into()).await {
            tracing::warn!(%error, "a request could not be answered");
            // The server has reported a failure to its user, so nobody wants this recording.
            let begun = begun.filter(|_| response.status).and_then(|task| self.running.get(&task));
            if let Some(running) = begun {
                let _ = running.stop.try_send(Some(UNANSWERED.to_owned()));
            }
        }
    }

    /// The answer, if this node is to answer; an accepted recording has been started.
    async fn decide(&mut self, request: Request) -> Option<CommonResponse> {
        self.running.retain(|_, running| !running.stop.is_closed());
        match request {
            Request::Start(start) => {
                let span = span(start.kind(), &start.info);
                Some(self.start(*start).instrument(span).await)
            }
            Request::Stop { room_table_id, kinds } => self.stop(room_table_id, kinds).await,
            Request::Invalid(reason) => {
                tracing::warn!(%reason, "a start request was refused");
                Some(request::refused(StatusCode::InvalidParameters, reason.to_string()))
            }
        }
    }

    async fn start(&mut self, start: Start) -> CommonResponse {
        let (kind, info) = (start.kind(), start.info.clone());
        // Registered before the first log line that could hold them.
        let secrets = secrets(&start);
        let refuse = |code, reason: String| {
            tracing::warn!(reason, "refused");
            request::refused(code, reason)
        };
        let slot = match self.slots.admit(info.room_table_id, kind, info.recording_id.clone()) {
            Ok(slot) => slot,
            Err(refusal) => return refuse(refusal.status_code(), refusal.to_string()),
        };
        if let Some((obstacle, detail)) = self.availability.obstacle() {
            tracing::warn!(reason = obstacle.refusal(), detail, "refused");
            return request::refused(StatusCode::Internal, obstacle.refusal().to_owned());
        }
        // Its slot may be free already while its file is being stored.
        if self.journal.holds(kind, &info.recording_id) {
            return refuse(StatusCode::Conflict, "an earlier recording with this id is not finished yet".to_owned());
        }
        let raw = match kind {
            Kind::Recording => match self.rigs.raw_file(&info).map(|raw| (raw.existing(), raw)) {
                // An undelivered raw file was kept, and would be overwritten.
                Ok((Some(path), _)) => {
                    let path = path.display();
                    tracing::error!(%path, "the raw file of an earlier recording with this id is still there; move it away");
                    return refuse(StatusCode::Conflict, "a raw file of this recording is still there".to_owned());
                }
                Ok((None, raw)) => Some(raw),
                Err(error) => return refuse(StatusCode::InvalidParameters, error.to_string()),
            },
            Kind::Broadcast => None,
        };
        let keys = match kind {
            Kind::Recording => RECORDING_KEYS,
            Kind::Broadcast => BROADCAST_KEYS,
        };
        self.context.dispatcher.outbox().forget(&info.recording_id, keys).await;
        let entry = self.journal.begin(&start).await;
        tracing::info!(room_table_id = info.room_table_id, "taken on");
        self.spawn(start, raw, entry, None, Some(slot), secrets);
        request::accepted()
    }

    /// Must be called within the recording's span.
    fn spawn(
        &mut self,
        start: Start,
        raw: Option<RawFile>,
        entry: RecordingEntry,
        interrupted: Option<InterruptedRecording>,
        slot: Option<Slot>,
        secrets: Vec<redact::SecretRegistration>,
    ) {
        let (stop, stops) = mpsc::channel(4);
        self.running.insert((start.info.room_table_id, start.kind()), RunningRecording { stop, entry: entry.clone() });
        let task = RecordingTask::<R> { start, rigs: Arc::clone(&self.rigs), raw, entry, interrupted, slot, stops };
        let run = driver::run(task, self.context.clone());
        let run = async move {
            run.await;
            drop(secrets);
        };
        self.tasks.spawn(run.instrument(Span::current()));
    }

    async fn stop(&self, room_table_id: i64, kinds: &[Kind]) -> Option<CommonResponse> {
        let mut held = false;
        for kind in kinds {
            let Some(running) = self.running.get(&(room_table_id, *kind)) else { continue };
            // A recording whose rig is closed has freed its slot: for the server it is over.
            if self.slots.holds(room_table_id, *kind).is_none() {
                continue;
            }
            held = true;
            // On disk before the answer: else a crash would make the next start join the meeting again.
            let stop = |record: &mut crate::recording::journal::RecordingRecord| {
                record.stop.get_or_insert(StopRequest { reason: None });
            };
            running.entry.update(stop).await;
            // The channel is full where several stops were sent already.
            let _ = running.stop.try_send(None);
        }
        held.then(request::accepted)
    }
}

/// Resolves whenever a disk becomes full.
async fn disk_full(room: &mut watch::Receiver<DiskStatus>) {
    loop {
        if room.changed().await.is_err() {
            // The disks are no longer watched: the node ends.
            std::future::pending::<()>().await;
        }
        if room.borrow_and_update().level == DiskLevel::Full {
            return;
        }
    }
}

fn span(kind: Kind, info: &RecordingInfo) -> Span {
    tracing::info_span!(
        "recording",
        recording_id = %info.recording_id,
        room_id = %info.room_id,
        task = kind.as_str()
    )
}
