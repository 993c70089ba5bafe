//! Takes up the recordings of an earlier run of the program. Nothing here waits for a disk but the list of the records:
//! what takes time is a task.

use std::io;

use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::capture::rig::Rig;
use crate::codes;
use crate::delivery::message::MessageKey;
use crate::protocol::notice::{Notice, NoticeEvent};
use crate::protocol::request::{Kind, RecordingInfo};
use crate::recording::journal::{RecordingEntry, UnfinishedRecordings};
use crate::recording::publishing::RecordingPublication;
use crate::recording::raw_file::RawFile;
use crate::recording::recovery::{self, RecoveryStep, SentNotices};
use crate::recording::requests::{RequestService, span};
use crate::recording::secrets::secrets;
use crate::recording::session::InterruptedRecording;
use crate::recording::storing::{self, EndedRecording};
use crate::recording::unread_records::{READ_AGAIN_INTERVAL, ReadAgain};

impl<R: Rig> RequestService<R> {
    /// Resumes or finishes the recordings of an earlier run of the program. `records`: whether this node accepts
    /// recordings.
    ///
    /// # Errors
    /// Where the records cannot be listed.
    pub fn recover(&mut self, records: bool) -> io::Result<()> {
        self.records = records;
        for kind in [Kind::Recording, Kind::Broadcast] {
            let UnfinishedRecordings { entries, unread } = self.journal.unfinished(kind)?;
            for (path, error) in unread {
                tracing::error!(
                    code = %codes::RECORDS_UNREAD,
                    path = %path.display(), %error,
                    "the record of a recording of an earlier run cannot be read now: it is tried again every 5 s; look at the disk of recorder.state_dir"
                );
                self.unread.push(kind, path);
            }
            for entry in entries {
                self.recover_entry(kind, entry);
            }
        }
        Ok(())
    }

    pub(super) fn recover_entry(&mut self, kind: Kind, entry: RecordingEntry) {
        let info = match entry.record().info() {
            Ok(info) => info,
            Err(why) => {
                tracing::error!(
                    code = %codes::RECORD_UNUSABLE, path = %entry.path().display(), why,
                    "a record of an earlier run names no recording; it is left as it is: look at it, and move it away"
                );
                return;
            }
        };
        if self.context.dispatcher.outbox().is_unread(&info.recording_id) {
            // What the server knows of it decides how it goes on. The outbox logs that.
            return self.unread.push(kind, entry.path().to_owned());
        }
        let span = span(kind, &info);
        span.in_scope(|| self.recover_one(kind, info, entry, self.records));
    }

    /// Reads again what could not be read at the start; ends within seconds.
    pub(super) fn read_again(&mut self) -> impl Future<Output = Vec<ReadAgain>> + Send + use<R> + 'static {
        self.unread.read_again(self.journal.clone())
    }

    /// Goes on with what was read again.
    pub(super) fn recover_read(&mut self, records: Vec<ReadAgain>) {
        for ReadAgain { kind, path, read } in records {
            match read {
                Ok(Some(entry)) => {
                    tracing::info!(path = %path.display(), "the record of a recording of an earlier run can be read");
                    self.recover_entry(kind, entry);
                }
                Ok(None) => {}
                Err(error) => self.unread.keep(kind, &path, &error),
            }
        }
    }

    /// Goes on with what could not be read at the start, until `drain`; for a node that answers no requests.
    pub async fn recover_until(&mut self, drain: &CancellationToken) {
        while drain.run_until_cancelled(tokio::time::sleep(READ_AGAIN_INTERVAL)).await.is_some() {
            if self.unread.is_due() {
                let records = self.read_again().await;
                self.recover_read(records);
            }
        }
    }

    fn recover_one(&mut self, kind: Kind, info: RecordingInfo, entry: RecordingEntry, records: bool) {
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
                tracing::warn!(
                    code = %codes::EARLIER_BROADCAST_ENDED, cause,
                    "an earlier run of the recorder has left a broadcast behind: its end is told"
                );
                let recorder_id = self.context.recorder.clone();
                let notice = Notice { info, recorder_id, event: NoticeEvent::Ended(kind, Err(cause)) };
                let context = self.context.clone();
                // Not awaited: a disk may hang.
                let tell = async move {
                    if context.dispatcher.send_all(vec![notice.into()]).await {
                        storing::remove_parts(None, &entry, true, &context).await;
                    }
                };
                self.tasks.spawn(tell.instrument(Span::current()));
            }
            RecoveryStep::Store => {
                tracing::warn!(
                    code = %codes::EARLIER_RUN_RESUMES,
                    "an earlier run of the recorder has left this recording before its job: going on"
                );
                let ended = self.ended(kind, info, raw, entry);
                self.tasks.spawn(
                    async move { ended.store(None, None, RecordingPublication::new(None)).await }
                        .instrument(Span::current()),
                );
            }
            RecoveryStep::RemoveParts => {
                let context = self.context.clone();
                let remove = async move { storing::remove_parts(raw.as_ref(), &entry, true, &context).await };
                self.tasks.spawn(remove.instrument(Span::current()));
            }
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
                tracing::error!(
                    code = %codes::RECORD_UNUSABLE, path = %entry.path().display(), why,
                    "the record of an earlier run cannot be used, and is left as it is; the parts of its recording stay in \
                     recorder.temporary_dir"
                );
                return;
            }
        };
        let slot = match &interrupted {
            InterruptedRecording::Running => {
                tracing::warn!(
                    code = %codes::EARLIER_RUN_RESUMES,
                    "an earlier run of the recorder has left this recording behind: joining the meeting again"
                );
                self.slots.readmit(start.info.room_table_id, start.kind(), start.info.recording_id.clone())
            }
            InterruptedRecording::Stopped(_) => {
                tracing::warn!(
                    code = %codes::EARLIER_RUN_RESUMES,
                    "an earlier run of the recorder has left this recording unfinished: finishing it"
                );
                None
            }
        };
        let secrets = secrets(&start);
        self.spawn(start, raw, entry, Some(interrupted), slot, secrets);
    }
}
