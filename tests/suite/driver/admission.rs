//! How many starts a node accepts, asked by NATS. Its rooms do not open.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::join_all;
use plugnmeet_recorder::fleet::availability::{Availability, Obstacle};
use plugnmeet_recorder::fleet::slots::Slots;
use plugnmeet_recorder::nats::Nats;
use plugnmeet_recorder::protocol::ids::{AccessToken, InvalidName};
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::request::{RecordingInfo, Start};
use plugnmeet_recorder::recording::raw_file::RawFile;
use plugnmeet_recorder::recording::requests::RequestService;
use plugnmeet_recorder::recording::rig_factory::RigFactory;
use plugnmeet_recorder::storage::disk_space::DiskStatus;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Gate, LIMIT, Leaves, Node, PaperRig, connection};
use crate::standin::Meeting;

/// Rigs whose opening takes for ever.
struct ClosedRooms {
    dir: PathBuf,
    gate: Arc<Gate>,
}

impl RigFactory<PaperRig> for ClosedRooms {
    fn rig(&self, _: &Start, _: &AccessToken, part: Option<&Path>) -> Leaves {
        Leaves { path: part.map(Path::to_owned).unwrap(), gate: Some(self.gate.clone()), ..Leaves::default() }
    }

    fn screenshot(&self, _: &Start) -> Option<PathBuf> {
        None
    }

    fn raw_file(&self, info: &RecordingInfo) -> Result<RawFile, InvalidName> {
        let (temporary, main) = (self.dir.join("temporary"), self.dir.join("main"));
        RawFile::new(&temporary, &main, "node_01".as_ref(), &info.recording_id, &info.room_id)
    }
}

/// A node's request service, asked by NATS.
struct Service {
    availability: Availability,
    slots: Slots,
    end: CancellationToken,
    task: JoinHandle<()>,
}

async fn serve(node: &Node, slots: Slots, availability: Availability) -> Service {
    let (server, config) = connection(&node.standin);
    let end = CancellationToken::new();
    let nats = Nats::connect(&config, &server, &node.context.recorder, &end).await.unwrap();
    let gate = Arc::new(Gate { permits: Some(Semaphore::new(0)), ..Gate::default() });
    let rigs = Arc::new(ClosedRooms { dir: node.standin.dir().to_owned(), gate });
    let (context, journal) = (node.context.clone(), node.journal.clone());
    let room = watch::channel(DiskStatus::default()).1;
    let mut service =
        RequestService::<PaperRig>::new(context, slots.clone(), rigs, journal, availability.clone(), room);
    service.recover(true).unwrap();
    let (sender, requests) = oneshot::channel();
    let _ = sender.send(nats.requests().await.unwrap());
    // A question on the same connection: once it is answered, the subscription before it has arrived as well.
    nats.bucket(&end).await.unwrap();
    let task = tokio::spawn(service.run(requests, CancellationToken::new(), end.clone()));
    Service { availability, slots, end, task }
}

impl Service {
    async fn end(self) {
        self.end.cancel();
        tokio::time::timeout(LIMIT, self.task).await.unwrap().unwrap();
        assert_eq!(*self.slots.running().borrow(), 0, "every slot is freed");
        assert_eq!(self.availability.obstacle(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_starts_at_once_a_node_takes_its_limit_and_refuses_the_others_as_full() {
    let node = Node::new().await;
    let availability = Availability::default();
    let service = serve(&node, Slots::of_node(3, None, availability.clone()), availability).await;
    let rooms: Vec<_> = (0..50).map(|_| node.standin.meeting(Meeting::default())).collect();
    let ids: Vec<String> = (0..rooms.len()).map(|n| format!("rec-{n:02}")).collect();
    let starts = rooms.iter().zip(&ids).map(|(room, id)| node.standin.fleet.start_recording(room, id, "node_01"));
    let answers = join_all(starts).await;

    let mut taken = BTreeSet::new();
    let mut refusals = Vec::new();
    for (answer, id) in answers.into_iter().zip(&ids) {
        let answer = answer.unwrap().response.unwrap_or_else(|| panic!("{id} has no answer"));
        if answer.status {
            taken.insert(format!("{id}.json"));
        } else {
            refusals.push(answer.msg);
        }
    }
    assert_eq!((taken.len(), refusals.len()), (3, 47));
    let full = "this recorder is full: 3 of 3 recordings and broadcasts are running [PNR-0241]";
    assert!(refusals.iter().all(|refusal| refusal == full), "{refusals:?}");
    assert_eq!(service.availability.obstacle().unwrap().0, Obstacle::Full);
    // These and no others are in the journal, and hold the slots, though none of their rooms is open yet.
    let records = crate::transcode::names(&node.standin.dir().join("state/recordings"));
    assert_eq!(records.into_iter().filter(|name| name.strip_suffix(".json").is_some()).collect::<BTreeSet<_>>(), taken);
    assert_eq!(*service.slots.running().borrow(), 3);
    assert_eq!(node.standin.notices.all().len(), 0);

    service.end().await;
    for name in &taken {
        let id = name.trim_end_matches(".json");
        node.standin.notices.wait_for(RecordingTasks::EndRecording, id, LIMIT).await.unwrap();
    }
    assert_eq!(node.standin.notices.all().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_refuses_a_start_and_is_told_without_its_detail() {
    let node = Node::new().await;
    let availability = Availability::default();
    let service = serve(&node, Slots::of_node(1, None, availability.clone()), availability.clone()).await;
    let room = node.standin.meeting(Meeting::default());
    availability.block(Obstacle::MainPath, "/srv/recordings is not mounted");
    let answer = node.standin.fleet.start_recording(&room, "one", "node_01").await.unwrap().response.unwrap();
    let told = format!("{} [PNR-0247]", Obstacle::MainPath.refusal());
    assert_eq!((answer.status, answer.msg), (false, told));
    availability.clear(Obstacle::MainPath);
    // The refused one has left nothing: the same is taken now, and takes the last slot.
    let answer = node.standin.fleet.start_recording(&room, "one", "node_01").await.unwrap().response.unwrap();
    assert!(answer.status, "{}", answer.msg);
    assert_eq!(availability.obstacle().unwrap().0, Obstacle::Full);
    service.end().await;
}
