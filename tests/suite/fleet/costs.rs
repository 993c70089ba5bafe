//! What recordings cost, by the processes that run.

use plugnmeet_recorder::fleet::availability::{Availability, Obstacle};
use plugnmeet_recorder::fleet::cost::CostLimit;
use plugnmeet_recorder::fleet::cost_watch::CostWatch;
use plugnmeet_recorder::fleet::slots::Slots;
use plugnmeet_recorder::protocol::ids::RecordingId;
use plugnmeet_recorder::protocol::request::Kind;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{LONG, never};

/// Of this test's own processes, so that those of other tests are not counted.
const VARIABLE: &str = "PNM_TEST_OF_COSTS";

/// A rig of one process.
fn rig(name: &str) -> tokio::process::Child {
    let mut command = tokio::process::Command::new("sleep");
    command.arg("1000").env(VARIABLE, name).kill_on_drop(true).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_processors_are_spoken_for_is_out_of_the_choice_until_a_rig_ends() {
    let availability = Availability::default();
    // Room for two that cost half a processor each, as one does before it has run for a minute.
    let slots = Slots::of_node(9, Some(CostLimit { cores: 1.2 }), availability.clone());
    let (background, cancel) = (watch::Sender::new(0.0), never());
    let costs = CostWatch { slots: slots.clone(), rig_variable: VARIABLE, background };
    let measuring = tokio::spawn(costs.run(cancel.clone()));
    let mut obstacles = availability.watch();

    let _one = rig("one");
    let _slot = slots.admit(1, Kind::Recording, RecordingId::parse("one").unwrap()).unwrap();
    // A second one that the slots do not know: only its processes tell of it.
    let mut other = rig("other");
    let blocked = obstacles.wait_for(|obstacles| obstacles.contains_key(&Obstacle::MaxLoad));
    let detail = timeout(LONG, blocked).await.unwrap().unwrap()[&Obstacle::MaxLoad].clone();
    assert!(detail.starts_with("1 recordings and broadcasts cost 1.00 processors"), "{detail}");
    let refusal = slots.admit(2, Kind::Recording, RecordingId::parse("two").unwrap()).unwrap_err();
    assert_eq!(refusal.to_string(), "this recorder has too little processor time for one more recording");

    other.kill().await.unwrap();
    timeout(LONG, obstacles.wait_for(std::collections::BTreeMap::is_empty)).await.unwrap().unwrap();
    let _slot = slots.admit(2, Kind::Recording, RecordingId::parse("two").unwrap()).unwrap();
    cancel.cancel();
    timeout(LONG, measuring).await.unwrap().unwrap();
}
