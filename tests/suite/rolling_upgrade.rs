//! Three nodes are restarted one after the other, as for an upgrade, while recordings come and go without a break: real
//! daemons, real Chrome, and the server's selection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plugnmeet_recorder::protocol::messages::RecordingTasks;
use rustix::process::Signal;
use tokio::sync::Mutex;

use crate::recorder::{Recorder, SOON, Setup, alone};
use crate::sim::engine::{Choice, Outcome};
use crate::standin::{Deployment, Meeting, Standin};

const NODES: [&str; 3] = ["node_01", "node_02", "node_03"];
/// Recordings at once: two nodes have room for more.
const STREAMS: [&str; 2] = ["first", "second"];
const REFERRED: &str = "it was referred to one that has";
const LENGTH: Duration = Duration::from_secs(1);

struct Stream<'a> {
    standin: &'a Standin,
    choice: &'a Choice,
    /// The nodes of the recordings that run; who holds it keeps them from being stopped.
    running: &'a Mutex<BTreeMap<String, String>>,
    /// The last node is back.
    over: &'a AtomicBool,
}

impl Stream<'_> {
    /// One recording after the other, each wherever the server chooses; none may be refused or interrupted.
    async fn run(&self, name: &str) -> Vec<String> {
        let mut ids = Vec::new();
        while !self.over.load(Ordering::SeqCst) {
            let id = format!("{name}-{}", ids.len());
            let room = self.standin.meeting(Meeting { webcams: 0, beep_hz: None, ..Meeting::default() });
            let request = room.request(RecordingTasks::StartRecording, &id, "");
            let outcome = self.choice.start(self.standin, request).await.unwrap();
            // The node that was selected may have begun to end just then: it refers the request to another one.
            let Outcome::Taken { node, .. } = outcome else { panic!("{id}: {outcome:?}; {:?}", self.choice.nodes()) };
            let notices = &self.standin.notices;
            let started = notices.wait_for(RecordingTasks::StartRecording, &id, SOON).await.unwrap().message;
            println!("{id}: {node} was asked, {} records it", started.recorder_id);
            self.running.lock().await.insert(id.clone(), started.recorder_id);
            tokio::time::sleep(LENGTH).await;
            let mut running = self.running.lock().await;
            running.remove(&id);
            let stopped = self.standin.fleet.stop(RecordingTasks::StopRecording, &room, &id).await.unwrap();
            assert!(stopped.response.is_some_and(|response| response.status), "{id}: nobody took its STOP");
            drop(running);
            let ended = notices.wait_for(RecordingTasks::EndRecording, &id, SOON).await.unwrap().message;
            assert_eq!((ended.status, ended.msg.as_str()), (true, "success"), "{id}");
            ids.push(id);
        }
        ids
    }
}

/// Asks a node that drains, as a server that has not heard of it: another one records it.
async fn refer(standin: &Standin, drains: &str) {
    let room = standin.meeting(Meeting { webcams: 0, beep_hz: None, ..Meeting::default() });
    let answer = standin.fleet.start_recording(&room, "referred", drains).await.unwrap().response;
    assert!(answer.as_ref().is_some_and(|answer| answer.status), "{answer:?}");
    let started = standin.notices.wait_for(RecordingTasks::StartRecording, "referred", SOON).await.unwrap().message;
    assert_ne!(started.recorder_id, drains);
    let stopped = standin.fleet.stop(RecordingTasks::StopRecording, &room, "referred").await.unwrap().response;
    assert!(stopped.is_some_and(|response| response.status), "nobody took its STOP");
    standin.fleet.wait_for_job("referred", SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_node_by_node_refuses_and_interrupts_no_recording() {
    let _turn = alone().await;
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let choice = Choice::open(&standin).await.unwrap();
    let setup = Setup {
        recorder: "  max_limit: 2\n  width: 640\n  height: 360\n".to_owned(),
        mode: Some("recorderOnly"),
        ..Setup::default()
    };
    let mut nodes: Vec<Recorder> = NODES.iter().map(|id| Recorder::spawn(&standin, id, &setup)).collect();
    let in_choice = async |id: &str| {
        choice.wait_until(SOON, |known| known.get(id).is_some_and(|one| one.last_ping > Some(0))).await
    };
    for id in NODES {
        in_choice(id).await.unwrap();
    }
    let (running, over) = (Mutex::new(BTreeMap::new()), AtomicBool::new(false));
    let stream = Stream { standin: &standin, choice: &choice, running: &running, over: &over };
    let upgrade = async {
        // The first one has a recording.
        let mut held = loop {
            let held = running.lock().await;
            if !held.is_empty() {
                break Some(held);
            }
            drop(held);
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let first = held.as_ref().and_then(|held| held.values().next().cloned()).unwrap_or_default();
        nodes.sort_by_key(|node| node.id != first);
        for node in &mut nodes {
            let id = node.id.clone();
            node.signal(Signal::TERM);
            if let Some(held) = held.take() {
                node.wait_for_log("draining: running recordings go on").await;
                refer(&standin, &id).await;
                node.wait_for_log(REFERRED).await;
                println!("{}", node.log().lines().rfind(|line| line.contains(REFERRED)).unwrap_or_default());
                drop(held);
            }
            assert!(node.wait_for_end().await.success(), "{id} ended badly:\n{}", node.log());
            node.restart();
            in_choice(&id).await.unwrap();
            println!("{id} is back");
        }
        over.store(true, Ordering::SeqCst);
    };
    let ((), first, second) = tokio::join!(upgrade, stream.run(STREAMS[0]), stream.run(STREAMS[1]));
    for id in first.iter().chain(&second) {
        let told = standin.notices.tasks_of(id);
        assert_eq!(told, [RecordingTasks::StartRecording, RecordingTasks::EndRecording], "{id}");
        // Its raw file is in place, and waits for a transcoder.
        standin.fleet.wait_for_job(id, SOON).await.unwrap();
    }
    assert_eq!(standin.violations(), [] as [String; 0]);
    for node in nodes {
        node.stop(&[]);
    }
}
