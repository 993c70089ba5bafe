//! What becomes of a start: it is taken on here, referred to another node where this one cannot take it on, or refused.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::capture::rig::Rig;
use crate::codes;
use crate::fleet::availability::Obstacle;
use crate::nats::RequestMessage;
use crate::protocol::messages::StatusCode;
use crate::protocol::referral::{AwardOutcome, ReferralMessage, StartDigest};
use crate::protocol::request::{self, Kind, Start};
use crate::recording::beginning::StartRefusal;
use crate::recording::referrals::{self, ReferralOutcome, ReferredStart};
use crate::recording::requests::{
    MAX_STOPS, RequestProgress, RequestService, RunningRecording, StartMessage, StartReferral, StartRequest, span,
    stop_requested,
};
use crate::recording::secrets::secrets;
use crate::telemetry::metrics::ReferralEnd;

/// Why a start that another node refers to this one is not taken on.
const NOT_RECEIVED: &str = "it has not received the start";
const LATE: &str = "the message of the other node is some seconds old, or the clocks differ";

impl<R: Rig> RequestService<R> {
    /// Refuses a start at once, or takes a slot and has its record written.
    pub(super) fn begin(&mut self, message: StartMessage, start: Start) {
        let span = span(start.kind(), &start.info);
        span.clone().in_scope(|| self.begin_in(span, message, start));
    }

    fn begin_in(&mut self, span: Span, message: StartMessage, start: Start) {
        let (kind, info) = (start.kind(), start.info.clone());
        if message.award.is_none()
            && let Some((Obstacle::Starting | Obstacle::NotUnique, detail)) = self.availability.obstacle()
        {
            // The server takes the first answer, and the start is for the one that has the id.
            tracing::warn!(
                code = %codes::ID_IN_DOUBT, detail,
                "a start is left unanswered: this node does not have its id"
            );
            return;
        }
        // Registered before the first log line that could hold them.
        let secrets = secrets(&start);
        if let Some(reason) = self.rigs.refusal(&start) {
            let (code, status) = (codes::REFUSED_FAR_END, StatusCode::InvalidParameters);
            return self.refuse(message, StartRefusal::of(code, status, reason));
        }
        let slot = match self.slots.admit(info.room_table_id, kind, info.recording_id.clone()) {
            Ok(slot) => slot,
            Err(refusal) => {
                let detail = refusal.detail().map(str::to_owned);
                let refused = StartRefusal::of(refusal.code(), refusal.status_code(), refusal.to_string());
                return self.refuse(message, StartRefusal { detail, ..refused });
            }
        };
        // What the slots note is not in the way of the task that has just taken the last one.
        if let Some((obstacle, detail)) = self.availability.obstacle_besides_slots() {
            let refusal = StartRefusal::of(obstacle.code(), StatusCode::Internal, obstacle.refusal());
            return self.refuse(message, refusal.because(detail));
        }
        let raw = match kind {
            Kind::Recording => match self.rigs.raw_file(&info) {
                Ok(raw) => Some(raw),
                Err(error) => {
                    let (code, status) = (codes::REFUSED_FILE_NAME, StatusCode::InvalidParameters);
                    let refusal = StartRefusal::of(code, status, error.to_string());
                    return self.refuse(message, refusal);
                }
            },
            Kind::Broadcast => None,
        };
        let entry = self.journal.entry(&start);
        // Known from here on, so that a stop finds it.
        let (stop, stops) = mpsc::channel(MAX_STOPS);
        let running = RunningRecording { stop, entry: entry.clone(), begun: false, stopped: false };
        self.running.insert((info.room_table_id, kind), running);
        let beginnings = self.beginnings.clone();
        let request = Box::new(StartRequest { message, start, raw, entry, slot, stops, secrets, span });
        let begin = async move {
            let begun = beginnings.begin(kind, &info, request.raw.as_ref(), &request.entry).await;
            RequestProgress::Begun(request, begun)
        };
        self.pending.push(begin.in_current_span().boxed());
    }

    /// Runs a recording whose record is written, or forgets it.
    pub(super) fn started(&mut self, request: StartRequest, begun: Result<(), StartRefusal>) {
        let StartRequest { message, start, raw, entry, slot, stops, secrets, .. } = request;
        let task = (start.info.room_table_id, start.kind());
        if let Err(refusal) = begun {
            self.running.remove(&task);
            return self.refuse(message, refusal);
        }
        if let Some(running) = self.running.get_mut(&task) {
            running.begun = true;
            if running.stopped {
                drop(entry.change(stop_requested));
            }
        }
        tracing::info!(room_table_id = start.info.room_table_id, referred = message.award.is_some(), "taken on");
        self.run_driver(start, raw, entry, None, Some(slot), stops, secrets);
        let StartMessage { message, award, .. } = message;
        let told = self.tell_referrer(award, &referrals::digest(&message), AwardOutcome::Taken);
        // Before, since it is the server that waits.
        self.answer(message, &request::accepted(), Some(task));
        self.pending.extend(told);
    }

    fn refuse(&mut self, message: StartMessage, refusal: StartRefusal) {
        let StartMessage { message, award, since } = message;
        // What is wrong with the request itself, or runs already, is so for each node.
        let is_of_node = refusal.status == StatusCode::Internal;
        if award.is_some() {
            let StartRefusal { code, reason, detail, .. } = refusal;
            tracing::info!(%code, reason, detail, "a start that another node refers to this one is not taken on here either");
            let outcome = if is_of_node { AwardOutcome::Declined(reason) } else { AwardOutcome::Impossible(reason) };
            let start = referrals::digest(&message);
            self.referable.give_back(&start);
            let told = self.tell_referrer(award, &start, outcome);
            self.pending.extend(told);
            return;
        }
        let referrals = self.referrals.clone().filter(|_| is_of_node);
        let Some(referrals) = referrals else { return self.answer_refusal(message, refusal, None) };
        let (nats, start, span) = (message.nats().clone(), referrals::digest(&message), Span::current());
        self.referable.keep(message.clone());
        let refer = async move {
            let outcome = referrals.refer(nats, start, since).await;
            RequestProgress::Referred(Box::new(StartReferral { message, refusal, outcome, span }))
        };
        self.pending.push(refer.in_current_span().boxed());
    }

    /// Ends with a start that was referred to other nodes.
    pub(super) fn referred(&self, referral: StartReferral) {
        let StartReferral { message, refusal, outcome, span } = referral;
        let _entered = span.enter();
        let StartRefusal { reason, detail, .. } = &refusal;
        let metrics = &self.context.signals.metrics;
        metrics.referral_ended(match &outcome {
            ReferralOutcome::Taken(_) => ReferralEnd::Taken,
            ReferralOutcome::Nobody(_) => ReferralEnd::Nobody,
            ReferralOutcome::Unknown(_) => ReferralEnd::Unknown,
        });
        match outcome {
            ReferralOutcome::Taken(node) => {
                tracing::info!(%node, reason, detail, "this node could not take the start on: it was referred to one that has");
            }
            ReferralOutcome::Nobody(others) => self.answer_refusal(message, refusal, Some(&others)),
            ReferralOutcome::Unknown(node) => tracing::warn!(
                code = %codes::REFERRAL_UNANSWERED, %node, reason, detail,
                "this node cannot take the start on, and does not know whether the one that it was referred to has: it \
                 did not answer in time, so nobody else may take it; look at that node"
            ),
        }
    }

    /// `others`: why no other node takes it on.
    fn answer_refusal(&self, message: RequestMessage, refusal: StartRefusal, others: Option<&str>) {
        let StartRefusal { code, status, reason, detail } = refusal;
        tracing::warn!(code = %code, reason, detail, others, "refused");
        self.answer(message, &request::refused(status, code, &reason), None);
    }

    /// Tells the node that has referred a start to this one what has become of it.
    fn tell_referrer(
        &self,
        award: Option<RequestMessage>,
        start: &StartDigest,
        outcome: AwardOutcome,
    ) -> Option<BoxFuture<'static, RequestProgress>> {
        let (award, referrals) = award.zip(self.referrals.as_ref())?;
        let Some(ReferralMessage::Award { sent_ms, .. }) = referrals.read(&award) else { return None };
        let result = referrals.result(start.clone(), sent_ms, outcome);
        Some(reply(award, result).boxed())
    }

    /// Takes what another node says: it looks for one with room, or has chosen this one.
    pub(super) fn take_referral(&mut self, message: RequestMessage) {
        let Some(referrals) = self.referrals.clone() else { return };
        match referrals.read(&message) {
            Some(ReferralMessage::Offer { start }) if self.availability.obstacle().is_none() => {
                let bid = referrals.bid(start, *self.slots.running().borrow());
                self.pending.push(reply(message, bid).boxed());
            }
            Some(ReferralMessage::Award { start, to, sent_ms }) if to == referrals.recorder.as_str() => {
                self.take_award(message, &start, sent_ms);
            }
            // For others, or of nobody that this node knows.
            _ => {}
        }
    }

    fn take_award(&mut self, award: RequestMessage, start: &StartDigest, sent_ms: u64) {
        let since = Instant::now();
        let refusal = match self.referable.take(start, sent_ms) {
            // The answer to the first one counts.
            ReferredStart::Repeated => return,
            ReferredStart::Unknown => NOT_RECEIVED,
            ReferredStart::Kept(_) if referrals::is_late(sent_ms) => {
                tracing::warn!(
                    code = %codes::REFERRAL_LATE,
                    "a start that another node refers to this one is not taken on: its message is some seconds old, and \
                     the server waits no longer; this node was hanging, or the clocks of the two differ"
                );
                self.referable.give_back(start);
                LATE
            }
            ReferredStart::Kept(message) => {
                let Some(request) = request::read_referred(message.payload()) else { return };
                return self.begin(StartMessage { message, award: Some(award), since }, request);
            }
        };
        let told = self.tell_referrer(Some(award), start, AwardOutcome::Declined(refusal.to_owned()));
        self.pending.extend(told);
    }
}

async fn reply(message: RequestMessage, bytes: Vec<u8>) -> RequestProgress {
    RequestProgress::Told(message.reply(bytes.into()).await)
}
