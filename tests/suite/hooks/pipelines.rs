//! What steps hand to each other, and the processes of a pool.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use plugnmeet_recorder::config::{HookStage, HookStep};
use plugnmeet_recorder::scripts::hooks::payload::HookPayload;
use plugnmeet_recorder::scripts::hooks::{HookError, StepReport};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::logs::Logs;

use super::{LIMIT, Server, loop_with, once, output, payload, read, run, script, start, step};

#[tokio::test]
async fn a_pipeline_hands_an_object_from_step_to_step() {
    let dir = tempfile::tempdir().unwrap();
    let (second, third) = (dir.path().join("second"), dir.path().join("third"));
    let keep = |file: &Path| format!("cat >'{}'\n", file.display());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = Server::start(&seen).await;
    let steps = vec![
        step(
            &script(dir.path(), "a.sh", &loop_with("echo '{\"output_path\": \"/x\", \"etag\": {\"deep\": [1, 2]}}'")),
            false,
        ),
        step(
            &script(
                dir.path(),
                "b c.sh",
                &format!("{}echo uploading; printf '{{\\n\"file_name\":\\n\"y.mkv\"}}'", keep(&second)),
            ),
            true,
        ),
        step(
            &script(
                dir.path(),
                "c.sh",
                &format!("{}echo '{{\"file_name\": \"z.mkv\",'; echo '\"room_id\": \"other\"}}'", keep(&third)),
            ),
            true,
        ),
        step(&script(dir.path(), "silent.sh", "cat >/dev/null"), true),
        HookStep::HttpRequest { url: server.url("/cleanup") },
    ];
    let hooks = start(steps, 1, LIMIT);
    assert!(!hooks.is_empty(HookStage::PostRecording) && hooks.is_empty(HookStage::PreTranscoding));
    let mut looked = Vec::new();
    let after = hooks
        .run_observed(HookStage::PostRecording, payload("RM_bad"), &CancellationToken::new(), &mut |seen| {
            looked.push(match seen {
                StepReport::Begins { number, input, .. } => format!("{number} > {}", input.len()),
                StepReport::Answered { number, answer, .. } => {
                    format!("{number} < {}", answer.map_or(0, serde_json::Map::len))
                }
                StepReport::Failed { number, .. } => format!("{number} failed"),
            });
        })
        .await
        .unwrap();
    let expected = HookPayload {
        output_path: Some("/x".into()),
        file_name: Some("z.mkv".into()),
        should_cleanup: true,
        ..payload("RM_bad")
    };
    assert_eq!(after, expected);
    // The second one's output is no object and none of its lines is one; so its input goes on.
    let given: Value = serde_json::from_str(&read(&second)).unwrap();
    let expected = json!({
        "task": "single", "recording_id": "RM_bad", "room_table_id": 852, "room_id": "room01", "room_sid": "RM_1",
        "recorder_id": "node_01", "file_name": "x_raw.mkv", "file_size": 12.34, "input_path": "/srv/a b",
        "output_path": "/x", "etag": {"deep": [1, 2]}
    });
    assert_eq!(given, expected);
    assert_eq!(read(&second).matches('\n').count(), 1, "one line");
    assert_eq!(read(&second), read(&third));
    let requests = seen.lock().unwrap().clone();
    assert_eq!(requests.len(), 1);
    assert_eq!((&requests[0].0, &requests[0].1), (&"POST application/json".to_owned(), &json!("room01")));
    assert_eq!(looked, ["1 > 9", "1 < 2", "2 > 11", "2 < 0", "3 > 11", "3 < 2", "4 > 11", "4 < 0", "5 > 11", "5 < 1"]);
    hooks.shutdown().await;
    // A stage without steps changes nothing, also after the end.
    let same = hooks.run(HookStage::PreTranscoding, payload("RM_1"), &CancellationToken::new()).await.unwrap();
    assert_eq!(same, payload("RM_1"));
    assert!(matches!(run(&hooks, payload("RM_1")).await, Err(HookError::Stopped { .. })));
}

#[tokio::test]
async fn an_error_or_a_field_of_a_wrong_type_fails_the_stage_and_nothing_more_is_run() {
    let dir = tempfile::tempdir().unwrap();
    let never = dir.path().join("never");
    let last = step(&script(dir.path(), "last.sh", &format!(": >'{}'", never.display())), true);
    for (answer, said) in [
        (r#"{"error": "the bucket is full", "output_path": 5}"#, r#"it answered with the error "the bucket is full""#),
        (r#"{"output_path": 5}"#, "the field `output_path` of its answer is a number, where a text is expected"),
        (r#"{"file_name": "../../x"}"#, "the field `file_name` of its answer is no plain file name"),
    ] {
        for one_shot in [true, false] {
            let text = if one_shot { format!("echo '{answer}'") } else { loop_with(&format!("echo '{answer}'")) };
            let steps = vec![step(&script(dir.path(), "first.sh", &text), one_shot), last.clone()];
            let error = once(steps, payload("RM_bad"), LIMIT).await.unwrap_err().to_string();
            assert!(error.starts_with("hooks.post_recording: step 1 (") && error.contains("first.sh): "), "{error}");
            assert!(error.contains(said), "{error}");
        }
    }
    assert!(!never.exists());
}

#[tokio::test]
async fn the_processes_of_a_pool_work_at_once_and_each_request_gets_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let meeting = dir.path().join("meeting");
    fs::create_dir(&meeting).unwrap();
    // Nobody leaves before three are there.
    let text =
        format!(": >'{0}/'$id; while set -- '{0}'/*; [ $# -lt 3 ]; do sleep 0.02; done; good", meeting.display());
    let text = loop_with("exit 9").replace("else good", &format!("else {text}"));
    let hooks = start(vec![step(&script(dir.path(), "meet.sh", &text), false)], 3, LIMIT);
    let asked: Vec<_> = (0..8)
        .map(|n| {
            let hooks = hooks.clone();
            tokio::spawn(async move { (format!("/out/RM_{n}"), output(&hooks, &format!("RM_{n}")).await) })
        })
        .collect();
    for asked in asked {
        let (expected, got) = asked.await.unwrap();
        assert_eq!(got, expected);
    }
    hooks.shutdown().await;
}

#[tokio::test]
async fn what_hooks_write_to_standard_error_without_end_fills_no_log() {
    const TALK: &str = "seq -f 'a line of the noise, %.0f' 100000 >&2";
    let logs = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    let steps = vec![
        step(&script(dir.path(), "stays.sh", &loop_with(&format!("{TALK}; good"))), false),
        step(&script(dir.path(), "once.sh", &format!("{TALK}; echo '{{\"file_name\": \"y.mkv\"}}'")), true),
    ];
    let after = once(steps, payload("RM_bad"), LIMIT).await.unwrap();
    assert_eq!(
        (after.output_path.as_deref(), after.file_name.as_deref()),
        (Some(Path::new("/out/RM_bad")), Some("y.mkv"))
    );
    for name in ["stays.sh", "once.sh"] {
        let lines = logs.lines(&format!("child=\"{name}\""));
        // 600 in a minute, one that says how many more there were, and the last ten.
        assert_eq!(lines.len(), 611, "{name}: {:?}", lines.iter().rev().take(12).collect::<Vec<_>>());
        let told: Vec<_> = lines.iter().filter(|line| line.contains("is left out of the log")).collect();
        assert!(told.len() == 1 && told[0].contains("lines=99400 bytes="), "{told:?}");
    }
}
