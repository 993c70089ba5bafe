//! Finds a node for a START that this one cannot take on, and knows the STARTs that may be referred to this one.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::nats::{Conversation, Nats, NatsError, RequestMessage};
use crate::protocol::ids::RecorderId;
use crate::protocol::referral::{AwardOutcome, Bidder, Bids, ReferralMessage, StartDigest};
use crate::protocol::selection::Announcement;
use crate::recording::beginning::START_LIMIT;
use crate::unix_time::unix_ms;

/// How long the first bid is waited for before the nodes are asked once more. They answer within milliseconds.
const FIRST_BID: Duration = Duration::from_millis(300);
/// How long others are waited for after the first.
const BETTER_BID: Duration = Duration::from_millis(20);
/// How long bids are believed; then all are asked again.
const FRESH: Duration = Duration::from_millis(100);
/// The last moment to ask a node, counted from the START: it must answer the server within 3 s (PROTOCOL 3).
const LAST_AWARD: Duration = Duration::from_millis(1_500);
/// How long the node that was asked may take: it has to write the record of the recording.
const RESULT_LIMIT: Duration = START_LIMIT.saturating_add(Duration::from_millis(300));
/// How old an award may be. More than clocks of a deployment differ by, and less than the server waits.
const AWARD_AGE_MS: u64 = 2_000;
/// How long a START of another node is kept.
const KEPT: Duration = Duration::from_millis(2_500);
/// Number of STARTs that are kept; more than a server sends in that time.
const MAX_KEPT: usize = 1_024;

/// How this node talks to the others; clones share it.
#[derive(Clone, Debug)]
pub struct Referrals {
    pub recorder: RecorderId,
    /// `plugNmeet_info.api_secret`.
    pub api_secret: String,
    pub max_limit: u32,
    pub total_cores: usize,
    /// Share of the processors in use, 0…1.
    pub load: watch::Receiver<f64>,
}

/// What has become of a START that this node could not take on.
#[derive(Clone, Debug, PartialEq)]
pub enum ReferralOutcome {
    /// This node has taken it on, and answered the server.
    Taken(RecorderId),
    /// No other node has room, or none can be asked; the reason is for the log.
    Nobody(String),
    /// This node was asked and has not said whether it takes the START on: nobody else may take it.
    Unknown(RecorderId),
}

impl Referrals {
    /// Finds a node that takes the START on. `since`: when it arrived.
    pub async fn refer(&self, nats: Nats, start: StartDigest, since: Instant) -> ReferralOutcome {
        match self.ask(nats, &start, since).await {
            Ok(outcome) => outcome,
            Err(error) => ReferralOutcome::Nobody(error.to_string()),
        }
    }

    async fn ask(&self, nats: Nats, start: &StartDigest, since: Instant) -> Result<ReferralOutcome, NatsError> {
        let mut others = OtherNodes { talk: nats.converse().await?, secret: &self.api_secret, start };
        let (mut why_not, mut awards, mut bids) = ("no other node has room".to_owned(), 0, Bids::default());
        // Once more, since a slot may come free while the server waits, here as well.
        while since.elapsed() < LAST_AWARD {
            others.offer(&mut bids).await?;
            let offered = Instant::now();
            while offered.elapsed() < FRESH
                && since.elapsed() < LAST_AWARD
                && let Some(Bidder { recorder, .. }) = bids.take(start.draw(awards))
            {
                awards += 1;
                match others.award(&recorder, &mut bids).await? {
                    Some(AwardOutcome::Taken) => return Ok(ReferralOutcome::Taken(recorder)),
                    Some(AwardOutcome::Declined(reason)) => {
                        why_not = format!("{recorder} does not take it on either: {reason}");
                        bids.decline(recorder);
                    }
                    Some(AwardOutcome::Impossible(reason)) => {
                        return Ok(ReferralOutcome::Nobody(format!("{recorder} says: {reason}")));
                    }
                    None => return Ok(ReferralOutcome::Unknown(recorder)),
                }
            }
        }
        Ok(ReferralOutcome::Nobody(why_not))
    }

    /// This node's answer to an offer; `running`: its recordings and broadcasts.
    pub fn bid(&self, start: StartDigest, running: usize) -> Vec<u8> {
        let announcement = Announcement {
            max_limit: Some(self.max_limit),
            total_cores: u32::try_from(self.total_cores).ok(),
            current_progress: u32::try_from(running).ok(),
            cpu_score: Some(*self.load.borrow()),
            ..Announcement::default()
        };
        let score = announcement.score().unwrap_or(f64::MAX);
        ReferralMessage::Bid { start, from: self.recorder.to_string(), score }.sign(&self.api_secret)
    }

    /// This node's answer to an award.
    pub fn result(&self, start: StartDigest, award_ms: u64, outcome: AwardOutcome) -> Vec<u8> {
        ReferralMessage::Result { start, from: self.recorder.to_string(), award_ms, outcome }.sign(&self.api_secret)
    }

    /// Reads what another node says. `None`: no node of this deployment and version says it.
    pub fn read(&self, message: &RequestMessage) -> Option<ReferralMessage> {
        ReferralMessage::read(message.payload(), &self.api_secret)
    }
}

/// Whether an award is so old that the server waits no longer: this node was hanging, or its clock is wrong.
pub fn is_late(sent_ms: u64) -> bool {
    unix_ms().abs_diff(sent_ms) > AWARD_AGE_MS
}

/// The other nodes, about one START.
struct OtherNodes<'a> {
    talk: Conversation,
    secret: &'a str,
    start: &'a StartDigest,
}

enum Answer {
    Bid(Bidder),
    Result(AwardOutcome),
}

impl OtherNodes<'_> {
    /// Asks all who has room.
    async fn offer(&mut self, bids: &mut Bids) -> Result<(), NatsError> {
        self.tell(&ReferralMessage::Offer { start: self.start.clone() }).await?;
        bids.renew();
        let mut until = Instant::now() + FIRST_BID;
        while let Some(Answer::Bid(bidder)) = self.answer(until, |_, _| false).await {
            bids.add(bidder);
            until = until.min(Instant::now() + BETTER_BID);
        }
        Ok(())
    }

    /// Awards the START to one of them. `None`: it has not said what has become of it. Bids that come late are added.
    async fn award(&mut self, to: &RecorderId, bids: &mut Bids) -> Result<Option<AwardOutcome>, NatsError> {
        let sent_ms = unix_ms();
        self.tell(&ReferralMessage::Award { start: self.start.clone(), to: to.to_string(), sent_ms }).await?;
        let until = Instant::now() + RESULT_LIMIT;
        loop {
            match self.answer(until, |from, award_ms| from == to.as_str() && award_ms == sent_ms).await {
                Some(Answer::Bid(late)) => bids.add(late),
                Some(Answer::Result(outcome)) => return Ok(Some(outcome)),
                None => return Ok(None),
            }
        }
    }

    async fn tell(&self, message: &ReferralMessage) -> Result<(), NatsError> {
        self.talk.tell_all(message.sign(self.secret)).await
    }

    /// The next bid, or the result of the node that `is_asked`. `None`: there is none until then.
    async fn answer(&mut self, until: Instant, is_asked: impl Fn(&str, u64) -> bool) -> Option<Answer> {
        loop {
            let bytes = tokio::time::timeout_at(until, self.talk.next()).await.ok().flatten()?;
            match ReferralMessage::read(&bytes, self.secret) {
                Some(ReferralMessage::Bid { start, from, score }) if start == *self.start => {
                    let Ok(recorder) = RecorderId::parse(&from) else { continue };
                    return Some(Answer::Bid(Bidder { recorder, score }));
                }
                Some(ReferralMessage::Result { start, from, award_ms, outcome })
                    if start == *self.start && is_asked(&from, award_ms) =>
                {
                    return Some(Answer::Result(outcome));
                }
                // Of somebody else, or made up.
                _ => {}
            }
        }
    }
}

/// The STARTs of the last seconds that this node may take on when they are referred to it: those that the server has sent
/// to other nodes, and its own that it had to refer.
#[derive(Debug, Default)]
pub struct ReferableStarts {
    starts: HashMap<StartDigest, ReferableStart>,
    order: VecDeque<(Instant, StartDigest)>,
}

#[derive(Debug)]
struct ReferableStart {
    message: RequestMessage,
    /// When the last award of it was sent, in Unix milliseconds.
    award_ms: Option<u64>,
    /// This node has taken it on, or tries to.
    busy: bool,
}

/// A START that is referred to this node.
#[derive(Debug)]
pub enum ReferredStart {
    Kept(RequestMessage),
    /// This award has come before, or another one is being answered.
    Repeated,
    /// The START was not received, or long ago.
    Unknown,
}

impl ReferableStarts {
    /// Keeps a START for [`KEPT`].
    pub fn keep(&mut self, message: RequestMessage) {
        let now = Instant::now();
        while self.order.front().is_some_and(|(at, _)| now - *at > KEPT || self.order.len() >= MAX_KEPT) {
            if let Some((_, old)) = self.order.pop_front() {
                self.starts.remove(&old);
            }
        }
        let start = digest(&message);
        self.order.push_back((now, start.clone()));
        self.starts.insert(start, ReferableStart { message, award_ms: None, busy: false });
    }

    /// Takes a START by an award that was sent at `sent_ms`, so that no copy of the award takes it a second time.
    pub fn take(&mut self, start: &StartDigest, sent_ms: u64) -> ReferredStart {
        let Some(known) = self.starts.get_mut(start) else { return ReferredStart::Unknown };
        if known.busy || known.award_ms.is_some_and(|before| sent_ms <= before) {
            return ReferredStart::Repeated;
        }
        (known.busy, known.award_ms) = (true, Some(sent_ms));
        ReferredStart::Kept(known.message.clone())
    }

    /// Gives back a START that this node could not take on: a later award may find it with room.
    pub fn give_back(&mut self, start: &StartDigest) {
        if let Some(known) = self.starts.get_mut(start) {
            known.busy = false;
        }
    }
}

/// Identifies a START to all nodes that have received it.
pub fn digest(message: &RequestMessage) -> StartDigest {
    StartDigest::of(message.payload(), message.inbox())
}
