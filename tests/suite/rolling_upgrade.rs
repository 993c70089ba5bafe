//! Three nodes are restarted one after the other, as for an upgrade, while recordings come and go without a break: real
//! daemons, real Chrome, and the server's selection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use plugnmeet_recorder::protocol::messages::RecordingTasks;
use rustix::process::Signal;
use tokio::sync::Mutex;

use crate::recorder::{Recorder, SOON, Setup, alone};
use crate::sim::engine::{Choice, Outcome};
use crate::standin::fleet::Announcement;
use crate::standin::{Deployment, Meeting, Standin};

const NODES: [&str; 3] = ["node_01", "node_02", "node_03"];
/// Recordings at once: two nodes have room for more.
const STREAMS: [&str; 2] = ["first", "second"];
const LENGTH: Duration = Duration::from_secs(1);

struct Stream<'a> {
    standin: &'a Standin,
    choice: &'a Choice,
    /// The server asks for one recording after the other.
    asking: &'a Mutex<()>,
    /// The last node is back.
    over: &'a AtomicBool,
    begun: &'a AtomicUsize,
}

impl Stream<'_> {
    /// One recording after the other, each wherever the server chooses; none may be refused or interrupted.
    async fn run(&self, name: &str) -> Vec<String> {
        let mut ids = Vec::new();
        while !self.over.load(Ordering::SeqCst) {
            let id = format!("{name}-{}", ids.len());
            let room = self.standin.meeting(Meeting { webcams: 0, beep_hz: None, ..Meeting::default() });
            let asking = self.asking.lock().await;
            let request = room.request(RecordingTasks::StartRecording, &id, "");
            let outcome = self.choice.start(self.standin, request).await.unwrap();
            let Outcome::Taken { node, .. } = outcome else { panic!("{id}: {outcome:?}; {:?}", self.choice.nodes()) };
            let told = |known: &BTreeMap<String, Announcement>| {
                known.get(&node).is_none_or(|one| one.last_ping == Some(0) || one.current_progress > Some(0))
            };
            self.choice.wait_until(SOON, told).await.unwrap();
            drop(asking);
            println!("{id} on {node}");
            self.begun.fetch_add(1, Ordering::SeqCst);
            let notices = &self.standin.notices;
            notices.wait_for(RecordingTasks::StartRecording, &id, SOON).await.unwrap();
            tokio::time::sleep(LENGTH).await;
            let stopped = self.standin.fleet.stop(RecordingTasks::StopRecording, &room, &id).await.unwrap();
            assert!(stopped.response.is_some_and(|response| response.status), "{id}: nobody took its STOP");
            let ended = notices.wait_for(RecordingTasks::EndRecording, &id, SOON).await.unwrap().message;
            assert_eq!((ended.status, ended.msg.as_str()), (true, "success"), "{id}");
            ids.push(id);
        }
        ids
    }
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
    let in_choice = |id: &'static str| {
        choice.wait_until(SOON, move |known| known.get(id).is_some_and(|one| one.last_ping > Some(0)))
    };
    for id in NODES {
        in_choice(id).await.unwrap();
    }
    let (asking, over, begun) = (Mutex::new(()), AtomicBool::new(false), AtomicUsize::new(0));
    let stream = Stream { standin: &standin, choice: &choice, asking: &asking, over: &over, begun: &begun };
    let upgrade = async {
        let mut drained = 0;
        while begun.load(Ordering::SeqCst) < STREAMS.len() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for (node, id) in nodes.iter_mut().zip(NODES) {
            let busy = choice.nodes().get(id).is_some_and(|one| one.current_progress > Some(0));
            drained += usize::from(busy);
            node.signal(Signal::TERM);
            assert!(node.wait_for_end().await.success(), "{id} ended badly:\n{}", node.log());
            node.restart();
            in_choice(id).await.unwrap();
            println!("{id} is back; it had a recording: {busy}");
        }
        over.store(true, Ordering::SeqCst);
        drained
    };
    let (drained, first, second) = tokio::join!(upgrade, stream.run(STREAMS[0]), stream.run(STREAMS[1]));
    assert!(drained > 0, "no node had a recording when it was asked to end");
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
