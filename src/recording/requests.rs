//! Answers the server's requests (PROTOCOL 3). Nothing slow happens before the answer: a start is accepted or refused,
//! written to the journal, answered, and only then carried out. While one request waits for a disk, the next is taken.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use crate::capture::rig::Rig;
use crate::codes;
use crate::fleet::availability::Availability;
use crate::fleet::slots::{Slot, Slots};
use crate::nats::{Incoming, NatsError, RequestMessage, Requests};
use crate::protocol::messages::{CommonResponse, StatusCode};
use crate::protocol::request::{self, Kind, RecordingInfo, Request, Start};
use crate::recording::beginning::{Beginnings, STOP_LIMIT, StartRefusal};
use crate::recording::driver::{self, RecordingContext, RecordingTask};
use crate::recording::journal::{RecordingEntry, RecordingJournal, RecordingRecord, StopRequest};
use crate::recording::operator_stop::{self, OperatorStop, OperatorStops};
use crate::recording::raw_file::RawFile;
use crate::recording::referrals::{ReferableStarts, ReferralOutcome, Referrals};
use crate::recording::request_source::RequestSource;
use crate::recording::rig_factory::RigFactory;
use crate::recording::session::InterruptedRecording;
use crate::recording::unread_records::{READ_AGAIN_INTERVAL, ReadAgain, UnreadRecords};
use crate::storage::disk_space::{DiskLevel, DiskStatus};
use crate::telemetry::redact;

/// Why a recording ends at the program's shutdown.
const SHUT_DOWN: &str = "the recorder was shut down";
/// Why a recording ends whose start could not be answered.
const UNANSWERED: &str = "the server could not be told that the recording was taken on";
/// Requests to stop that one recording may have before it sees them.
pub(super) const MAX_STOPS: usize = 4;

/// Answers requests until it is cancelled, and then waits for the recordings to end.
pub struct RequestService<R: Rig> {
    pub(super) context: RecordingContext,
    pub(super) slots: Slots,
    pub(super) rigs: Arc<dyn RigFactory<R>>,
    pub(super) journal: RecordingJournal,
    pub(super) availability: Availability,
    /// How full the disks are.
    room: watch::Receiver<DiskStatus>,
    /// What operators ask on the node's page.
    operator: mpsc::Receiver<OperatorStop>,
    /// Recordings of other nodes that this one has taken over.
    takeovers: mpsc::Receiver<RecordingEntry>,
    pub(super) beginnings: Beginnings,
    pub(super) tasks: TaskTracker,
    /// The running recordings and those whose start is not answered yet, by room and kind.
    pub(super) running: HashMap<(i64, Kind), RunningRecording>,
    /// Whether this node accepts recordings.
    pub(super) records: bool,
    /// Records of earlier runs that could not be read.
    pub(super) unread: UnreadRecords,
    /// `None`: a start that this node cannot take on is refused.
    pub(super) referrals: Option<Referrals>,
    pub(super) referable: ReferableStarts,
    /// What goes on for the requests that were taken; each ends within seconds.
    pub(super) pending: FuturesUnordered<BoxFuture<'static, RequestProgress>>,
}

/// What has become of a request.
pub(super) enum RequestProgress {
    /// The record of a start is on disk, or why it is refused.
    Begun(Box<StartRequest>, Result<(), StartRefusal>),
    /// The answer was sent, or why not.
    Answered { request: AnsweredRequest, sent: Result<(), NatsError> },
    /// A start that this node could not take on was referred to the others.
    Referred(Box<StartReferral>),
    /// Another node was told something.
    Told(Result<(), NatsError>),
    /// Records of an earlier run were read again.
    Reread(Vec<ReadAgain>),
}

/// A start that this node could not take on, and what has become of it elsewhere.
pub(super) struct StartReferral {
    pub message: RequestMessage,
    pub refusal: StartRefusal,
    pub outcome: ReferralOutcome,
    pub span: Span,
}

/// A start, and who is to know whether it was taken on.
pub(super) struct StartMessage {
    /// The server's.
    pub message: RequestMessage,
    /// Of the node that has referred it to this one.
    pub award: Option<RequestMessage>,
    pub since: Instant,
}

impl StartMessage {
    fn of_server(message: RequestMessage) -> Self {
        Self { message, award: None, since: Instant::now() }
    }
}

/// A start whose slot is taken.
pub(super) struct StartRequest {
    pub message: StartMessage,
    pub start: Start,
    pub raw: Option<RawFile>,
    pub entry: RecordingEntry,
    pub slot: Slot,
    pub stops: mpsc::Receiver<Option<String>>,
    pub secrets: Vec<redact::SecretRegistration>,
    pub span: Span,
}

/// The recording that was begun for an answer, if any.
pub(super) struct AnsweredRequest {
    begun: Option<(i64, Kind)>,
}

/// Stops a running recording.
pub(super) struct RunningRecording {
    pub stop: mpsc::Sender<Option<String>>,
    pub entry: RecordingEntry,
    /// Its record is on disk, and may be changed.
    pub begun: bool,
    /// The end was requested before that.
    pub stopped: bool,
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
        let beginnings = Beginnings::new(journal.clone(), context.dispatcher.outbox().clone());
        Self {
            context,
            slots,
            rigs,
            journal,
            availability,
            room,
            operator: OperatorStops::channel().1,
            takeovers: mpsc::channel(1).1,
            beginnings,
            tasks: TaskTracker::new(),
            running: HashMap::new(),
            records: false,
            unread: UnreadRecords::default(),
            referrals: None,
            referable: ReferableStarts::default(),
            pending: FuturesUnordered::new(),
        }
    }

    /// Obeys those who ask it to stop a recording.
    #[must_use]
    pub fn obeying(self, operator: mpsc::Receiver<OperatorStop>) -> Self {
        Self { operator, ..self }
    }

    /// Refers starts that it cannot take on to other nodes, and takes theirs on.
    #[must_use]
    pub fn referring(self, referrals: Referrals) -> Self {
        Self { referrals: Some(referrals), ..self }
    }

    /// Goes on with the recordings of other nodes whose records come.
    #[must_use]
    pub fn taking_over(self, takeovers: mpsc::Receiver<RecordingEntry>) -> Self {
        Self { takeovers, ..self }
    }

    /// Returns when the last recording has ended: after `drain` no recording is accepted, after `end` running ones are
    /// stopped too. `requests`: the requests, once there is a connection; until then, and if none is ever made, the
    /// recordings of an earlier run go on without.
    pub async fn run(
        mut self,
        requests: oneshot::Receiver<Requests>,
        drain: CancellationToken,
        end: CancellationToken,
    ) {
        let mut draining = false;
        let mut requests = RequestSource::of(requests);
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
                () = self.tasks.wait(), if draining && self.pending.is_empty() => break,
                _ = read_again.tick(), if self.unread.is_due() && !draining => {
                    let read = self.read_again().map(RequestProgress::Reread);
                    self.pending.push(read.boxed());
                    continue;
                }
                () = disk_full(&mut self.room) => {
                    self.stop_all(&self.room.borrow().reason.clone());
                    continue;
                }
                Some(progress) = self.pending.next() => {
                    self.go_on(progress);
                    continue;
                }
                Some(stop) = self.operator.recv() => {
                    self.stop_one(stop);
                    continue;
                }
                Some(entry) = self.takeovers.recv(), if !draining => {
                    self.recover_entry(Kind::Recording, entry);
                    continue;
                }
                message = requests.next() => message,
            };
            let Some(message) = message else {
                tracing::error!(
                    code = %codes::REQUESTS_ENDED,
                    "no more requests come in: the NATS client has ended; restart the recorder"
                );
                break;
            };
            match message {
                Incoming::Request(message) => self.take(message),
                Incoming::Referral(message) => self.take_referral(message),
            }
        }
        self.slots.drain();
        self.stop_all(SHUT_DOWN);
        // Each ends within seconds. A recording that is begun meanwhile finds the stop in its channel.
        while let Some(progress) = self.pending.next().await {
            self.go_on(progress);
        }
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

    /// Ends a recording as a full disk would; the server is told of its end, and why.
    fn stop_one(&self, stop: OperatorStop) {
        let is_it = |((_, kind), running): &(&(i64, Kind), &RunningRecording)| {
            let info = running.entry.record().info();
            !running.stop.is_closed() && info.is_ok_and(|info| stop.is_for(*kind, &info.recording_id))
        };
        let told = self
            .running
            .iter()
            .find(is_it)
            .map(|(_, running)| running.stop.try_send(Some(operator_stop::REASON.to_owned())));
        // A full channel belongs to a recording that is ending already.
        stop.answer(told.is_some());
    }

    /// Takes a request: decides what needs no disk at once, and has the rest go on by itself.
    fn take(&mut self, message: RequestMessage) {
        self.running.retain(|_, running| !running.stop.is_closed());
        match request::read(message.payload(), &self.context.recorder) {
            Ok(Some(Request::Start(start))) => self.begin(StartMessage::of_server(message), *start),
            Ok(Some(Request::StartElsewhere)) => self.referable.keep(message),
            Ok(Some(Request::Stop { room_table_id, kinds })) => self.stop(message, room_table_id, kinds),
            Ok(Some(Request::Invalid(reason))) => {
                tracing::warn!(code = %codes::START_REFUSED_INVALID, %reason, "a start request was refused");
                let (status, code) = (StatusCode::InvalidParameters, codes::START_REFUSED_INVALID);
                self.answer(message, &request::refused(status, code, &reason.to_string()), None);
            }
            Ok(None) => {}
            Err(error) => {
                let bytes = message.payload().len();
                tracing::warn!(
                    code = %codes::NO_REQUEST, %error, bytes,
                    "a message on the channel is no request; ignored"
                );
            }
        }
    }

    /// Goes on with a request. Waits for nothing.
    fn go_on(&mut self, progress: RequestProgress) {
        match progress {
            RequestProgress::Begun(request, result) => {
                let span = request.span.clone();
                span.in_scope(|| self.started(*request, result));
            }
            RequestProgress::Answered { sent: Ok(()), .. } => {}
            RequestProgress::Referred(referral) => self.referred(*referral),
            RequestProgress::Told(sent) => {
                if let Err(error) = sent {
                    tracing::debug!(%error, "another node could not be answered");
                }
            }
            RequestProgress::Reread(records) => self.recover_read(records),
            RequestProgress::Answered { request, sent: Err(error) } => {
                tracing::warn!(code = %codes::ANSWER_NOT_SENT, %error, "a request could not be answered");
                // The server has reported a failure to its user, so nobody wants this recording.
                if let Some(running) = request.begun.and_then(|task| self.running.get(&task)) {
                    let _ = running.stop.try_send(Some(UNANSWERED.to_owned()));
                }
            }
        }
    }

    /// `begun`: the recording that was begun for it.
    pub(super) fn answer(&self, message: RequestMessage, response: &CommonResponse, begun: Option<(i64, Kind)>) {
        self.answer_after(std::future::ready(()), message, response, begun);
    }

    fn answer_after(
        &self,
        first: impl Future<Output = ()> + Send + 'static,
        message: RequestMessage,
        response: &CommonResponse,
        begun: Option<(i64, Kind)>,
    ) {
        let (bytes, request) = (response.encode_to_vec(), AnsweredRequest { begun });
        let answer = async move {
            first.await;
            RequestProgress::Answered { request, sent: message.reply(bytes.into()).await }
        };
        self.pending.push(answer.in_current_span().boxed());
    }

    /// Must be called within the recording's span.
    pub(super) fn spawn(
        &mut self,
        start: Start,
        raw: Option<RawFile>,
        entry: RecordingEntry,
        interrupted: Option<InterruptedRecording>,
        slot: Option<Slot>,
        secrets: Vec<redact::SecretRegistration>,
    ) {
        let (stop, stops) = mpsc::channel(MAX_STOPS);
        let running = RunningRecording { stop, entry: entry.clone(), begun: true, stopped: false };
        self.running.insert((start.info.room_table_id, start.kind()), running);
        self.run_driver(start, raw, entry, interrupted, slot, stops, secrets);
    }

    #[expect(clippy::too_many_arguments, reason = "what a recording takes with it")]
    pub(super) fn run_driver(
        &self,
        start: Start,
        raw: Option<RawFile>,
        entry: RecordingEntry,
        interrupted: Option<InterruptedRecording>,
        slot: Option<Slot>,
        stops: mpsc::Receiver<Option<String>>,
        secrets: Vec<redact::SecretRegistration>,
    ) {
        let task = RecordingTask::<R> { start, rigs: Arc::clone(&self.rigs), raw, entry, interrupted, slot, stops };
        let run = driver::run(task, self.context.clone());
        let run = async move {
            run.await;
            drop(secrets);
        };
        self.tasks.spawn(run.instrument(Span::current()));
    }

    /// Stops the recordings of a room at once, and answers when that is on disk, or after a moment.
    fn stop(&mut self, message: RequestMessage, room_table_id: i64, kinds: &[Kind]) {
        let (mut held, mut written) = (false, Vec::new());
        for kind in kinds {
            let Some(running) = self.running.get_mut(&(room_table_id, *kind)) else { continue };
            // A recording whose rig is closed has freed its slot: for the server it is over.
            if self.slots.holds(room_table_id, *kind).is_none() {
                continue;
            }
            held = true;
            if running.begun {
                written.push(running.entry.change(stop_requested));
            } else {
                running.stopped = true;
            }
            // The channel is full where several stops were sent already.
            let _ = running.stop.try_send(None);
        }
        if !held {
            return;
        }
        // On disk before the answer, where the disk takes it in time: else a crash would make the next start join the
        // meeting again.
        let on_disk = async move {
            let all = written.iter().map(|written| written.within(STOP_LIMIT));
            for error in futures::future::join_all(all).await.into_iter().filter_map(Result::err) {
                tracing::error!(
                    code = %codes::STOP_NOT_ON_DISK, %error, room_table_id,
                    "the stop is obeyed, but not on disk: a crash now would make the next start join the meeting again"
                );
            }
        };
        self.answer_after(on_disk, message, &request::accepted(), None);
    }
}

pub(super) fn stop_requested(record: &mut RecordingRecord) {
    record.stop.get_or_insert(StopRequest { reason: None });
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

pub(super) fn span(kind: Kind, info: &RecordingInfo) -> Span {
    tracing::info_span!(
        "recording",
        recording_id = %info.recording_id,
        room_id = %info.room_id,
        task = kind.as_str()
    )
}
