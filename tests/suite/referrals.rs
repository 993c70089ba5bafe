//! A START that the node which was asked cannot take on, and the other nodes of the fleet. Nodes are those of the
//! simulation: all is real but what they capture.

use std::time::Duration;

use futures::future::join_all;
use plugnmeet_recorder::nats::{Incoming, Nats, RequestMessage, Requests};
use plugnmeet_recorder::protocol::ids::RecorderId;
use plugnmeet_recorder::protocol::messages::{CommonResponse, RecordingTasks};
use plugnmeet_recorder::protocol::referral::{AwardOutcome, ReferralMessage, StartDigest};
use plugnmeet_recorder::unix_time::unix_ms;
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::sim::engine::node::{Node, NodeSpec, WhenFull, connection};
use crate::standin::{Deployment, Meeting, Room, Standin};

const LIMIT: Duration = Duration::from_secs(30);

struct Fleet {
    standin: Standin,
    dir: TempDir,
    nodes: Vec<Node>,
}

impl Fleet {
    /// With a node of each number of slots: `node_0`, `node_1`… Each has 8 cores.
    async fn of(slots: &[u32]) -> Self {
        let standin = Standin::start(Deployment::default()).await.unwrap();
        let mut fleet = Self { standin, dir: tempfile::tempdir().unwrap(), nodes: Vec::new() };
        for (n, max_limit) in slots.iter().copied().enumerate() {
            let spec = NodeSpec { id: format!("node_{n}"), cores: 8, max_limit, when_full: WhenFull::Refer };
            fleet.nodes.push(Node::start(&fleet.standin, spec, fleet.dir.path()).await.unwrap());
        }
        fleet
    }

    /// The server's START for `node_0`.
    async fn start(&self, room: &Room, id: &str) -> Option<CommonResponse> {
        self.standin.fleet.start_rtmp(room, id, "node_0", "rtmp://localhost/live/key").await.unwrap().response
    }

    /// Recordings of each node.
    fn running(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.slots().running()).collect()
    }

    fn rooms<const N: usize>(&self) -> [Room; N] {
        std::array::from_fn(|_| self.standin.meeting(Meeting::default()))
    }

    /// The recording and the node of each notice of `task`, sorted.
    fn told(&self, task: RecordingTasks) -> Vec<(String, String)> {
        let notices = self.standin.notices.all().into_iter().filter(|notice| notice.task() == task);
        let mut told: Vec<_> =
            notices.map(|notice| (notice.message.recording_id, notice.message.recorder_id)).collect();
        told.sort();
        told
    }

    async fn end(self) {
        assert_eq!(self.standin.violations(), [] as [String; 0]);
        for node in self.nodes {
            node.end().await.unwrap();
        }
    }
}

/// A program that talks to the nodes of a fleet as one of them.
struct Peer {
    nats: Nats,
    requests: Requests,
    secret: String,
    /// How much earlier the awards were sent that it says it answers, in ms.
    answers_late: u64,
}

impl Peer {
    async fn of(fleet: &Fleet) -> Self {
        let (server, config) = connection(&fleet.standin);
        let (id, cancel) = (RecorderId::parse("peer").unwrap(), CancellationToken::new());
        let nats = Nats::connect(&config, &server, &id, &cancel).await.unwrap();
        let requests = nats.requests().await.unwrap();
        // Once this is answered, the subscriptions before it have arrived as well.
        nats.bucket(&cancel).await.unwrap();
        Self { nats, requests, secret: server.api_secret, answers_late: 0 }
    }

    /// The next message of a node.
    async fn hears(&mut self) -> (ReferralMessage, RequestMessage) {
        loop {
            match timeout(LIMIT, self.requests.next()).await.unwrap().unwrap() {
                Incoming::Request(_) => {}
                Incoming::Referral(message) => {
                    return (ReferralMessage::read(message.payload(), &self.secret).unwrap(), message);
                }
            }
        }
    }

    /// The next START of the server.
    async fn receives(&mut self) -> StartDigest {
        loop {
            if let Incoming::Request(start) = timeout(LIMIT, self.requests.next()).await.unwrap().unwrap() {
                return StartDigest::of(start.payload(), start.inbox());
            }
        }
    }

    /// Has the server send a START for `node_0`, and bids as two nodes, signing with `secret`. Each award gets the next of
    /// these outcomes, and none where that is `None`. Returns the server's answer and the number of awards.
    async fn plays(
        &mut self,
        fleet: &Fleet,
        id: &str,
        secret: &str,
        outcomes: &[Option<AwardOutcome>],
    ) -> (Option<CommonResponse>, usize) {
        let room = fleet.standin.meeting(Meeting::default());
        let mut start = std::pin::pin!(fleet.start(&room, id));
        let (mut awards, mut has_bid) = (0, false);
        let answer = loop {
            let (message, asked) = tokio::select! {
                answer = &mut start => break answer,
                heard = self.hears() => heard,
            };
            match message {
                ReferralMessage::Offer { start } if !has_bid => {
                    has_bid = true;
                    for from in ["peer_a", "peer_b"] {
                        let bid = ReferralMessage::Bid { start: start.clone(), from: from.to_owned(), score: 0.1 };
                        asked.reply(bid.sign(secret).into()).await.unwrap();
                    }
                }
                ReferralMessage::Award { start, to, sent_ms } => {
                    awards += 1;
                    if let Some(Some(outcome)) = outcomes.get(awards - 1).cloned() {
                        let award_ms = sent_ms - self.answers_late;
                        let result = ReferralMessage::Result { start, from: to, award_ms, outcome };
                        asked.reply(result.sign(secret).into()).await.unwrap();
                    }
                }
                _ => {}
            }
        };
        // What was said before the answer has been heard when this is.
        let marker = ReferralMessage::Offer { start: StartDigest::of(b"marker", id) };
        self.nats.converse().await.unwrap().tell_all(marker.sign(&self.secret)).await.unwrap();
        loop {
            match self.hears().await.0 {
                ReferralMessage::Award { .. } => awards += 1,
                heard if heard == marker => return (answer, awards),
                _ => {}
            }
        }
    }

    /// Awards a START to `node_0` that this has taken, or by a copy; it says nothing, and answers what is asked next.
    async fn awards_again(&self, taken: &StartDigest, sent_ms: u64) {
        let mut talk = self.nats.converse().await.unwrap();
        let unknown = StartDigest::of(b"made up", "_INBOX.2");
        for start in [taken, &unknown] {
            let award = ReferralMessage::Award { start: start.clone(), to: "node_0".to_owned(), sent_ms };
            talk.tell_all(award.sign(&self.secret)).await.unwrap();
        }
        let answer = timeout(LIMIT, talk.next()).await.unwrap().unwrap();
        let answer = ReferralMessage::read(&answer, &self.secret);
        assert!(matches!(&answer, Some(ReferralMessage::Result { start, .. }) if *start == unknown), "{answer:?}");
    }

    /// Awards a START to `node_0`; what that says.
    async fn awards(&self, start: &StartDigest, sent_ms: u64) -> AwardOutcome {
        let mut talk = self.nats.converse().await.unwrap();
        let award = ReferralMessage::Award { start: start.clone(), to: "node_0".to_owned(), sent_ms };
        talk.tell_all(award.sign(&self.secret)).await.unwrap();
        let answer = timeout(LIMIT, talk.next()).await.unwrap().unwrap();
        match ReferralMessage::read(&answer, &self.secret) {
            Some(ReferralMessage::Result { from, outcome, .. }) if from == "node_0" => outcome,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_for_a_full_node_are_taken_by_others_until_the_fleet_is_full() {
    let fleet = Fleet::of(&[1, 2, 4]).await;
    let rooms: [Room; 9] = fleet.rooms();
    let ids: Vec<String> = (0..rooms.len()).map(|n| format!("rec-{n}")).collect();
    let answers = join_all(rooms.iter().zip(&ids).map(|(room, id)| fleet.start(room, id))).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    assert_eq!(fleet.running(), [1, 2, 4]);
    let refusals: Vec<_> = answers.iter().filter(|answer| !answer.status).map(|answer| answer.msg.as_str()).collect();
    assert_eq!(refusals, ["this recorder is full: 1 of 1 recordings and broadcasts are running [PNR-0241]"; 2]);

    // The notices name the node that has it, and STOP finds it.
    fleet.standin.notices.wait_until(LIMIT, || (fleet.told(RecordingTasks::StartRtmp).len() == 7).then_some(())).await;
    for ((room, id), answer) in rooms.iter().zip(&ids).zip(&answers) {
        let stop = fleet.standin.fleet.stop(RecordingTasks::StopRtmp, room, id);
        if answer.status {
            assert!(stop.await.unwrap().response.expect("an answer").status);
        }
    }
    fleet.standin.notices.wait_until(LIMIT, || (fleet.told(RecordingTasks::EndRtmp).len() == 7).then_some(())).await;
    let started = fleet.told(RecordingTasks::StartRtmp);
    assert_eq!(started, fleet.told(RecordingTasks::EndRtmp));
    let of = |node: &str| started.iter().filter(|(_, recorder)| recorder == node).count();
    assert_eq!((of("node_0"), of("node_1"), of("node_2")), (1, 2, 4));
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_for_a_full_fleet_waits_a_moment_for_a_slot() {
    let fleet = Fleet::of(&[1]).await;
    let mut peer = Peer::of(&fleet).await;
    let rooms: [Room; 2] = fleet.rooms();
    assert!(fleet.start(&rooms[0], "first").await.unwrap().status);
    let frees_the_slot = async {
        let (offer, _) = peer.hears().await;
        assert!(matches!(offer, ReferralMessage::Offer { .. }));
        fleet.standin.fleet.stop(RecordingTasks::StopRtmp, &rooms[0], "first").await.unwrap();
    };
    let (answer, ()) = tokio::join!(fleet.start(&rooms[1], "second"), frees_the_slot);
    assert!(answer.unwrap().status);
    assert_eq!(fleet.running(), [1]);
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_lie_decline_or_are_silent_are_asked_as_often_as_is_safe() {
    let fleet = Fleet::of(&[1]).await;
    let mut peer = Peer::of(&fleet).await;
    let secret = peer.secret.clone();
    let [room] = fleet.rooms();
    assert!(fleet.start(&room, "first").await.unwrap().status);
    let full = "this recorder is full: 1 of 1 recordings and broadcasts are running [PNR-0241]";
    let declined = || Some(AwardOutcome::Declined("this recorder is full".to_owned()));

    // With another deployment's secret nobody hears the bids.
    let (answer, awards) = peer.plays(&fleet, "lied-to", "another secret", &[]).await;
    assert_eq!((answer.unwrap().msg.as_str(), awards), (full, 0));
    // Each is asked, once.
    let (answer, awards) = peer.plays(&fleet, "declined", &secret, &[declined(), declined()]).await;
    assert_eq!((answer.unwrap().msg.as_str(), awards), (full, 2));
    // One knows that nobody can.
    let impossible = AwardOutcome::Impossible("this request in progress".to_owned());
    let (answer, awards) = peer.plays(&fleet, "impossible", &secret, &[Some(impossible)]).await;
    assert_eq!((answer.unwrap().msg.as_str(), awards), (full, 1));
    // It may have taken it on and be unable to say so. The server tells its user after 3 s that nothing has begun.
    assert_eq!(peer.plays(&fleet, "silent", &secret, &[declined(), None]).await, (None, 2));
    assert_eq!(peer.plays(&fleet, "silent-at-once", &secret, &[None]).await, (None, 1));
    // What it says is a copy of its answer to an earlier award.
    peer.answers_late = 1;
    assert_eq!(peer.plays(&fleet, "copied", &secret, &[declined(), declined()]).await, (None, 1));
    peer.answers_late = 0;
    // It says that it has answered the server, which nobody has: this node does not.
    assert_eq!(peer.plays(&fleet, "taken", &secret, &[Some(AwardOutcome::Taken)]).await, (None, 1));
    assert_eq!(fleet.running(), [1]);
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_declines_late_is_not_asked_again_before_another_one() {
    /// Longer than bids are believed, so that all are asked anew.
    const LATE: Duration = Duration::from_millis(150);
    let fleet = Fleet::of(&[1]).await;
    let mut peer = Peer::of(&fleet).await;
    let rooms: [Room; 7] = fleet.rooms();
    assert!(fleet.start(&rooms[0], "first").await.unwrap().status);
    for (n, room) in rooms[1..].iter().enumerate() {
        let id = format!("rec-{n}");
        let mut start = std::pin::pin!(fleet.start(room, &id));
        let mut asked = Vec::new();
        let answer = loop {
            let (message, question) = tokio::select! {
                answer = &mut start => break answer,
                heard = peer.hears() => heard,
            };
            match message {
                ReferralMessage::Offer { start } => {
                    for from in ["peer_a", "peer_b"] {
                        let bid = ReferralMessage::Bid { start: start.clone(), from: from.to_owned(), score: 0.1 };
                        question.reply(bid.sign(&peer.secret).into()).await.unwrap();
                    }
                }
                ReferralMessage::Award { start, to, sent_ms } => {
                    tokio::time::sleep(LATE).await;
                    asked.push(to.clone());
                    let why = "its disk does not answer".to_owned();
                    let outcome =
                        if asked.len() < 2 { AwardOutcome::Declined(why) } else { AwardOutcome::Impossible(why) };
                    let result = ReferralMessage::Result { start, from: to, award_ms: sent_ms, outcome };
                    question.reply(result.sign(&peer.secret).into()).await.unwrap();
                }
                _ => {}
            }
        };
        assert!(!answer.unwrap().status);
        assert!(asked.len() == 2 && asked[0] != asked[1], "{asked:?}");
    }
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referred_start_is_taken_once_in_time_and_only_by_a_node_that_has_received_it() {
    let fleet = Fleet::of(&[1]).await;
    let mut peer = Peer::of(&fleet).await;
    let rooms: [Room; 3] = fleet.rooms();
    // A START for a node that does not answer it.
    let start = async |room: &Room, id: &str| {
        fleet.standin.fleet.start_rtmp(room, id, "peer", "rtmp://localhost/live/key").await.unwrap().response
    };
    let declined = |outcome: AwardOutcome| match outcome {
        AwardOutcome::Declined(why) => why,
        other => panic!("{other:?}"),
    };

    let late = async {
        let start = peer.receives().await;
        let unknown = StartDigest::of(b"made up", "_INBOX.1");
        assert_eq!(declined(peer.awards(&unknown, unix_ms()).await), "it has not received the start");
        let why = declined(peer.awards(&start, unix_ms() - 5_000).await);
        assert!(why.contains("some seconds old"), "{why}");
    };
    assert_eq!(tokio::join!(start(&rooms[0], "late"), late).0, None);
    assert_eq!(fleet.running(), [0]);

    let in_time = async {
        let start = peer.receives().await;
        assert_eq!(peer.awards(&start, unix_ms()).await, AwardOutcome::Taken);
        peer.awards_again(&start, unix_ms()).await;
    };
    assert!(tokio::join!(start(&rooms[1], "in-time"), in_time).0.unwrap().status);

    let full = async {
        let start = peer.receives().await;
        let sent_ms = unix_ms();
        let why = declined(peer.awards(&start, sent_ms).await);
        assert_eq!(why, "this recorder is full: 1 of 1 recordings and broadcasts are running");
        // Once it has room it may be asked again; a copy of what it was asked before says nothing.
        fleet.standin.fleet.stop(RecordingTasks::StopRtmp, &rooms[1], "in-time").await.unwrap();
        fleet.standin.notices.wait_for(RecordingTasks::EndRtmp, "in-time", LIMIT).await.unwrap();
        peer.awards_again(&start, sent_ms).await;
        assert_eq!(fleet.running(), [0]);
        assert_eq!(peer.awards(&start, sent_ms + 1).await, AwardOutcome::Taken);
        peer.awards_again(&start, sent_ms + 2).await;
    };
    assert!(tokio::join!(start(&rooms[2], "full"), full).0.unwrap().status);
    assert_eq!(fleet.running(), [1]);
    fleet.standin.notices.wait_until(LIMIT, || (fleet.told(RecordingTasks::StartRtmp).len() == 2).then_some(())).await;
    let node = |id: &str| (id.to_owned(), "node_0".to_owned());
    assert_eq!(fleet.told(RecordingTasks::StartRtmp), [node("full"), node("in-time")]);
    fleet.end().await;
}
