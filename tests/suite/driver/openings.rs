//! The turns of openings, and the patience with those that fail.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::request::Kind;
use tokio::sync::{Semaphore, watch};

use super::{Begun, Gate, LIMIT, Leaves, Node, media};

const STARTED: RecordingTasks = RecordingTasks::StartRecording;
const ENDED: RecordingTasks = RecordingTasks::EndRecording;
const CHROME: &str = "Chrome: cannot be steered 20 s after its start";

/// Waits until so many rigs are being opened.
async fn opening(gate: &Gate, count: usize) {
    let mut opening = gate.opening.subscribe();
    tokio::time::timeout(LIMIT, opening.wait_for(|(now, _)| *now == count)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rigs_are_opened_in_turns_the_latest_first_and_who_waits_is_stopped_at_once() {
    let node = Node::new().await;
    let whole = node.standin.dir().join("whole.mkv");
    media(&whole);
    let gate = Arc::new(Gate { permits: Some(Semaphore::new(0)), ..Gate::default() });
    let bytes = Some(std::fs::read(&whole).unwrap());
    let leaves = || Leaves { bytes: bytes.clone(), gate: Some(gate.clone()), ..Leaves::default() };
    let mut begun: Vec<(String, Begun)> = Vec::new();
    for n in 0..12 {
        let id = format!("rec-{n:02}");
        let one = node.begin(Kind::Recording, &id, leaves(), None).await;
        begun.push((id, one));
        opening(&gate, (n + 1).min(2)).await;
        let end = Instant::now() + LIMIT;
        while node.context.turns.waiting() < (n + 1usize).saturating_sub(2) {
            assert!(Instant::now() < end, "{n} does not wait for its turn");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The next one is asked for in another millisecond.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // None of them has its turn, and none of those that have one is through.
    let (waits, opens) = (begun.remove(5), begun.remove(1));
    for (id, Begun { stop, running, .. }) in [waits, opens] {
        stop.send(None).await.unwrap();
        let ended = node.standin.notices.wait_for(ENDED, &id, LIMIT).await.unwrap();
        assert!(ended.message.status, "{id}: {}", ended.message.msg);
        tokio::time::timeout(LIMIT, running).await.unwrap().unwrap();
        assert_eq!(node.standin.notices.tasks_of(&id), [ENDED], "{id}");
    }
    opening(&gate, 2).await;
    // One by one: of two that open at the same time, either may be the first.
    for _ in 0..8 {
        let before = gate.begun.lock().unwrap().len();
        gate.permits.as_ref().unwrap().add_permits(1);
        let end = Instant::now() + LIMIT;
        while gate.begun.lock().unwrap().len() == before {
            assert!(Instant::now() < end, "the next one has no turn");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    gate.permits.as_ref().unwrap().add_permits(2);
    for (id, Begun { stop, running, .. }) in begun {
        node.standin.notices.wait_for(STARTED, &id, LIMIT).await.unwrap();
        stop.send(None).await.unwrap();
        let ended = node.standin.notices.wait_for(ENDED, &id, LIMIT).await.unwrap();
        assert!(ended.message.status, "{id}: {}", ended.message.msg);
        tokio::time::timeout(LIMIT, running).await.unwrap().unwrap();
    }
    assert_eq!(*gate.opening.borrow(), (0, 2), "never more at once than there are turns");
    let parts = |ids: &[usize]| ids.iter().map(|n| format!("rec-{n:02}_raw.part1")).collect::<Vec<_>>();
    let order = gate.begun.lock().unwrap().clone();
    let expected = parts(&[0, 1, 11, 10, 9, 8, 7, 6, 4, 3, 2]);
    assert_eq!(order.len(), expected.len());
    for (at, part) in order.iter().enumerate() {
        // Two have their turns at once, and their records are on disk in either order.
        let due = expected.iter().position(|other| other == part).unwrap();
        assert!(at.abs_diff(due) <= 1, "the one that was asked for last comes first: {order:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_chrome_is_too_slow_three_times_is_tried_until_it_opens() {
    let node = Node::new().await;
    let whole = node.standin.dir().join("whole.mkv");
    media(&whole);
    let fails = Mutex::new(VecDeque::from(vec![CHROME; 3]));
    let gate = Arc::new(Gate { fails, opening: watch::Sender::default(), ..Gate::default() });
    let bytes = Some(std::fs::read(&whole).unwrap());
    let leaves = Leaves { bytes, gate: Some(gate.clone()), ..Leaves::default() };
    let (raw, ended) = node.run(Kind::Recording, "slow", leaves).await;
    assert!(ended.status, "{}", ended.msg);
    assert!(raw.dir.join("slow_raw.mkv").exists());
    assert_eq!(gate.begun.lock().unwrap().len(), 4);
}
