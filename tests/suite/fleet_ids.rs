//! Recorders that have one id: the real binary beside another of its kind and beside a reference recorder, without any
//! Chrome.

use std::os::unix::fs::PermissionsExt as _;

use plugnmeet_recorder::protocol::messages::StatusCode;
use rustix::process::Signal;

use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::{Deployment, Meeting, Standin};

const LOST: &str = "another recorder has this node's id";
const AGAIN: &str = "the id is this node's again";

async fn standin() -> Standin {
    Standin::start(Deployment::default()).await.unwrap()
}

fn setup() -> Setup {
    Setup { mode: Some("recorderOnly"), ..Setup::default() }
}

/// The start fails, for the reason that the log's last error gives.
async fn refused(mut second: Recorder) -> String {
    let status = second.wait_for_end().await;
    let log = second.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(!log.contains("has joined the fleet"), "{log}");
    log.lines().rfind(|line| line.contains("ERROR")).unwrap_or_default().to_owned()
}

/// The host, pid and start that the bucket names.
async fn holder(standin: &Standin) -> serde_json::Value {
    let holder = standin.fleet.value("recorder_node_01-FIELD_100").await.unwrap();
    serde_json::from_str(&holder.expect("nobody holds the id")).unwrap()
}

async fn ping(standin: &Standin) -> u64 {
    standin.fleet.announcement("node_01").await.unwrap().unwrap().last_ping.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_does_not_start_and_a_first_one_that_comes_back_accepts_nothing() {
    let standin = standin().await;
    let first = Recorder::start(&standin, "node_01", &setup()).await;
    let before = holder(&standin).await;
    let why = refused(Recorder::spawn(&standin, "node_01", &setup())).await;
    println!("{why}");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(before["host"], host.trim());
    let names = format!("recorder.id node_01 is in use by host {}, pid {}, started 20", host.trim(), first.pid());
    assert!(why.contains(&names) && why.contains("Give this one an id of its own"), "{names}: {why}");
    assert_eq!(holder(&standin).await, before, "it is left alone");

    // Cut off without a word, as behind a partition: after 10 s the id is free.
    first.signal(Signal::STOP);
    let second = Recorder::spawn(&standin, "node_01", &setup());
    second.wait_for_log(&format!("pid {}", first.pid())).await;
    second.wait_for_log("has joined the fleet").await;
    first.signal(Signal::CONT);
    first.wait_for_log(LOST).await;
    let log = first.log();
    let lost = log.lines().rfind(|line| line.contains(LOST)).unwrap();
    println!("{lost}");
    assert!(lost.contains(&format!("pid {}", second.pid())), "{lost}");
    // Only the one that holds the id answers: here with a refusal of its own.
    let room = standin.meeting(Meeting::default());
    std::fs::write(second.temporary_dir.join("rec_raw.mkv"), "what was recorded before").unwrap();
    let answer = standin.fleet.start_recording(&room, "rec", "node_01").await.unwrap().response.expect("an answer");
    assert_eq!(answer.status_code(), StatusCode::Conflict, "{answer:?}");
    first.wait_for_log("a start is left unanswered").await;
    std::fs::remove_file(second.temporary_dir.join("rec_raw.mkv")).unwrap();
    // The one that lost ends without purging what is the other one's.
    let log = first.stop(&[]);
    assert!(log.contains("the announcement is not purged"), "{log}");
    assert_eq!(standin.fleet.keys().await.unwrap().len(), 6);
    assert_eq!(holder(&standin).await["pid"], second.pid());
    standin.fleet.wait_selectable("node_01", SOON).await.unwrap();
    second.stop(&[]);
    assert_eq!(standin.fleet.keys().await.unwrap(), [] as [String; 0]);
    assert_eq!(standin.violations(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_after_a_kill_takes_the_id_at_once() {
    let standin = standin().await;
    let mut recorder = Recorder::start(&standin, "node_01", &setup()).await;
    let before = holder(&standin).await;
    recorder.wait_for_log("has joined the fleet").await;
    recorder.kill();
    recorder.restart();
    recorder.wait_until("it is back", || recorder.log().matches("has joined the fleet").count() == 2).await;
    assert!(!recorder.log().contains("waiting until it has been silent"), "{}", recorder.log());
    assert_ne!(holder(&standin).await["nonce"], before["nonce"]);
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_recorder_that_takes_the_id_over_is_not_fought_and_the_id_is_taken_back() {
    let standin = standin().await;
    // No test of its own passes, so that it takes nothing on from the first moment.
    let dir = tempfile::tempdir().unwrap();
    let xvfb = dir.path().join("Xvfb");
    std::fs::write(&xvfb, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&xvfb, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let sick = Setup { recorder: "  self_test: true\n".into(), path: Some(path), ..setup() };
    let recorder = Recorder::spawn(&standin, "node_01", &sick);
    recorder.wait_for_log("is announced to the fleet, but takes nothing on yet").await;
    assert_eq!(ping(&standin).await, 0);
    assert!(!recorder.log().contains("has joined the fleet"), "{}", recorder.log());

    // A ping of 0 invites it.
    let twin = standin.fleet.start_reference("node_01").await.unwrap();
    recorder.wait_for_log(LOST).await;
    let log = recorder.log();
    let lost = log.lines().rfind(|line| line.contains(LOST)).unwrap();
    println!("{lost}");
    assert!(lost.contains("names no holder"), "{lost}");
    // What it announces stays, the pings alone go on.
    let mut pings = std::collections::BTreeSet::new();
    while pings.len() < 3 {
        let announced = standin.fleet.announcement("node_01").await.unwrap().unwrap();
        assert_eq!((announced.total_cores, announced.cpu_score), (Some(4), Some(0.1)), "{}", recorder.log());
        pings.insert(announced.last_ping.unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(!pings.contains(&0), "{pings:?}");
    let room = standin.meeting(Meeting::default());
    assert!(standin.fleet.start_recording(&room, "rec", "node_01").await.unwrap().response.is_none());
    recorder.wait_for_log("a start is left unanswered").await;

    twin.stop().await.unwrap();
    recorder.wait_for_log(AGAIN).await;
    let log = recorder.stop(&[&room.token]);
    assert!(log.contains("this node has left the fleet"), "{log}");
    assert_eq!(standin.fleet.keys().await.unwrap(), [] as [String; 0]);
    assert_eq!(standin.violations(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_reference_recorder_a_node_does_not_start_and_after_its_crash_it_does() {
    let standin = standin().await;
    let twin = standin.fleet.start_reference("node_01").await.unwrap();
    let why = refused(Recorder::spawn(&standin, "node_01", &setup())).await;
    println!("{why}");
    assert!(why.contains("recorder.id node_01 is in use by a recorder that names no holder"), "{why}");
    drop(twin);
    let recorder = Recorder::spawn(&standin, "node_01", &setup());
    recorder.wait_for_log("waiting until it has been silent for 10 s").await;
    recorder.wait_for_log("has joined the fleet").await;
    assert!(standin.fleet.start_reference("node_01").await.is_err(), "a reference recorder sees that it is taken");
    recorder.stop(&[]);
    assert_eq!(standin.fleet.keys().await.unwrap(), [] as [String; 0]);
}
