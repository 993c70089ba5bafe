//! The command `status`: the fleet as the server sees it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::{LIMIT, TOKEN, admin, ask, setup, standin, wait_for};
use crate::nats_server::free_port;
use crate::recorder::{Recorder, Setup};
use crate::standin::Standin;

async fn status(standin: &Standin, recorder: &Recorder, more: &[&str]) -> Output {
    let config = recorder.log_dir().parent().unwrap().join("config.yaml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugnmeet-recorder"));
    command.arg("-config").arg(config).arg("status").args(more).current_dir(Path::new("/"));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let all = format!("{output:?}");
    assert!(!all.contains(&standin.deployment.api_secret) && !all.contains(TOKEN), "{all}");
    output
}

async fn json(standin: &Standin, recorder: &Recorder) -> Value {
    let output = status(standin, recorder, &["-json"]).await;
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn node<'a>(status: &'a Value, id: &str) -> &'a Value {
    status["nodes"].as_array().unwrap().iter().find(|node| node["id"] == id).unwrap_or_else(|| panic!("{status:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_is_shown_as_the_server_chooses_from_it_with_no_right_that_a_recorder_lacks() {
    let standin = standin().await;
    let (port, mut small) = setup();
    small.recorder = "  max_limit: 3\n".into();
    let one = Recorder::start(&standin, "node_01", &small).await;
    let other_port = free_port();
    let other = Recorder::spawn(&standin, "node_02", &Setup { sections: admin(other_port, ""), ..Setup::default() });
    wait_for(other_port, "/readyz", 200, &other).await;
    wait_for(port, "/readyz", 200, &one).await;
    // A reference recorder that has gone, one that is new, and what is no recorder's.
    for (key, value) in [
        ("recorder_gone-FIELD_0", "10"),
        ("recorder_gone-FIELD_1", "1700000000000"),
        ("recorder_gone-FIELD_2", "64"),
        ("recorder_new-FIELD_1", "1"),
        ("recorder_-FIELD_x", "\u{1b}[31m"),
        ("something-else", "1"),
    ] {
        standin.fleet.put(key, value).await.unwrap();
    }
    let now = json(&standin, &one).await;
    let chosen = standin.fleet.select().await.unwrap().unwrap();
    assert!(now["next"] == "node_01" || now["next"] == "node_02", "{now:#}");
    let scores = ["node_01", "node_02"].map(|id| node(&now, id)["score"].as_f64().unwrap());
    let least = if scores[0] <= scores[1] { "node_01" } else { "node_02" };
    assert_eq!(now["next"], least, "the server would choose {chosen}: {now:#}");
    assert_eq!(node(&now, least)["state"], "next");
    assert_eq!(
        (node(&now, "node_01")["max_limit"].as_u64(), node(&now, "node_01")["running"].as_u64()),
        (Some(3), Some(0))
    );
    assert!(node(&now, "node_02")["ping_age_ms"].as_u64().unwrap() < 8000, "{now:#}");
    assert_eq!((&node(&now, "gone")["state"], &node(&now, "new")["state"]), (&"silent".into(), &"incomplete".into()));
    assert_eq!(now["queue"], serde_json::json!({"pending": 0, "in_hand": 0, "redelivered": 0}));
    assert_eq!(now["this_node"], serde_json::json!({"id": "node_01", "ready": true, "reasons": []}));

    // The node that is drained says so, and the other one is next.
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(ask(port, "POST", "/drain", &bearer).await.status, 200);
    one.wait_until_gone_from_choice(&standin).await;
    tokio::time::timeout(LIMIT, async {
        while node(&json(&standin, &one).await, "node_01")["state"] != "takes nothing" {}
    })
    .await
    .unwrap();
    let reason = &json(&standin, &one).await["this_node"]["reasons"][0];
    assert_eq!((&reason["reason"], &reason["code"]), (&"drained".into(), &"PNR-0249".into()), "{reason}");
    let table = status(&standin, &one, &[]).await;
    let text = String::from_utf8(table.stdout).unwrap();
    for line in [
        "the next START would go to node_02: its score",
        "this node, node_01: takes nothing on:",
        "  drained: an operator",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(text.starts_with("NODE ") && !text.contains('\u{1b}'), "{text}");
    assert!(text.contains("transcoding jobs: 0 wait, 0 in hand"), "{text}");

    assert_eq!(ask(port, "POST", "/undrain", &bearer).await.status, 200);
    one.stop(&[TOKEN]);
    other.stop(&[]);
    assert_eq!(standin.violations(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_cannot_be_asked_is_said_with_the_reason_and_what_to_do() {
    let standin = standin().await;
    let nats_url = Some("nats://127.0.0.1:9".to_owned());
    let recorder = Recorder::spawn(&standin, "node_01", &Setup { nats_url, ..Setup::default() });
    let output = status(&standin, &recorder, &[]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.contains("no connection to NATS at nats://127.0.0.1:9") && said.contains("check that"), "{said}");
    recorder.wait_for_log("no connection to NATS").await;
    recorder.stop(&[]);
}
