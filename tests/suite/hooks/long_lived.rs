//! Scripts that stay and answer one request after the other.

use std::path::Path;
use std::time::Duration;

use plugnmeet_recorder::config::HookStage;
use plugnmeet_recorder::scripts::hooks::payload::HookPayload;
use plugnmeet_recorder::scripts::hooks::{HookError, HookFailure, HookTimeouts, Hooks};

use super::{
    Comes, LIMIT, PATIENCE, SHORT, config, huge, loop_with, once, output, payload, read, run, script, start, step,
};
use crate::logs::Logs;

fn failure(ended: Result<HookPayload, HookError>) -> HookFailure {
    match ended {
        Err(HookError::Failed { failure, .. }) => failure,
        other => panic!("{other:?}"),
    }
}

/// Puts out several lines with one write, which bash's own `printf` does line by line.
fn in_one_go(lines: &str) -> String {
    format!("printf '{lines}' >\"$0.out\"; cat \"$0.out\"")
}

#[tokio::test]
async fn whatever_a_long_lived_script_does_the_next_request_gets_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::capture();
    let at_once = |text: &str| format!("if mkdir \"$0.d\" 2>/dev/null; then {text}; fi\n{}", loop_with("good"));
    let cases = [
        ("garbage.sh", loop_with("head -c 300 /dev/urandom | tr -d '\\n'; echo"), Comes::ToNothing, "no JSON object"),
        (
            "long_line.sh",
            loop_with("head -c 10000000 /dev/zero | tr '\\0' x; echo"),
            Comes::ToNothing,
            "more than 1048576",
        ),
        ("no_object.sh", loop_with("echo '[1]'"), Comes::ToNothing, "JSON, but no object"),
        ("empty_line.sh", loop_with("echo"), Comes::ToNothing, "put out nothing"),
        (
            "closed.sh",
            loop_with("exec >&-"),
            Comes::Failed("ended before it answered, twice"),
            "a fresh process is asked",
        ),
        ("exit.sh", loop_with("echo bye >&2; exit 0"), Comes::Failed("twice (exit code 0); it said: bye"), "said: bye"),
        ("crash.sh", loop_with("kill -SEGV $$"), Comes::Failed("twice (signal 11)"), "signal 11"),
        (
            "dies_once.sh",
            loop_with("if mkdir \"$0.d\" 2>/dev/null; then exit 3; else good; fi"),
            Comes::To("/out/RM_bad"),
            "exit code 3",
        ),
        (
            "deaf.sh",
            loop_with("trap '' TERM; while :; do sleep 1000; done"),
            Comes::Failed("did not answer within 6s"),
            "killing it",
        ),
        (
            "late.sh",
            loop_with("trap 'echo \"{\\\"output_path\\\": \\\"/late\\\"}\"; exit' TERM; sleep 1000 & wait"),
            Comes::Failed("did not answer within 6s"),
            "",
        ),
        // At once: what comes later only a process that is heard out can be told from an answer, see below.
        (
            "twice.sh",
            loop_with(&in_one_go("{\"output_path\": \"/1\"}\\n{\"output_path\": \"/2\"}\\n")),
            Comes::To("/1"),
            "replaced",
        ),
        (
            "more.sh",
            loop_with(&in_one_go("{\"output_path\": \"/1\"}\\n{\"output_path\": ")),
            Comes::To("/1"),
            "replaced",
        ),
        (
            "another.sh",
            loop_with("echo '{\"recording_id\": \"RM_x\", \"output_path\": \"/another\"}'; good"),
            Comes::To("/out/RM_bad"),
            "names another recording: \"\\\"RM_x\\\"\"",
        ),
        ("answers_and_ends.sh", loop_with("good; exit"), Comes::To("/out/RM_bad"), ""),
        ("no_line_feed.sh", loop_with("printf '{\"output_path\": \"/last\"}'; exit"), Comes::To("/last"), ""),
        // Its child, in another session, holds the pipe.
        ("child.sh", loop_with("setsid sleep 3 & exit 4"), Comes::Failed("twice (exit code 4)"), "exit code 4"),
        ("sleeps.sh", at_once("sleep 1000"), Comes::Failed("did not answer within 6s"), ""),
        // So does the one that is asked in its place.
        (
            "no_stdin.sh",
            format!("if mkdir $0.d || mkdir $0.e; then exec <&-; sleep 1000; fi 2>/dev/null\n{}", loop_with("good")),
            Comes::Failed("ended before it answered, twice"),
            "a fresh process is asked",
        ),
    ];
    let run_case = async |(name, text, comes, logged): &(&str, String, Comes, &str)| {
        // No pipe could take a request for those that do not read theirs. (bash would take a minute over it.)
        let asked = if ["sleeps.sh", "no_stdin.sh"].contains(name) { huge("RM_bad") } else { payload("RM_bad") };
        let limit = if matches!(comes, Comes::Failed(said) if said.contains("6s")) { SHORT } else { LIMIT };
        let hooks = start(vec![step(&script(dir.path(), name, text), false)], 1, limit);
        let ended = run(&hooks, asked.clone()).await;
        match (comes, &ended) {
            (Comes::ToNothing, Ok(after)) => assert_eq!(*after, asked, "{name}"),
            (Comes::To(place), Ok(after)) => {
                assert_eq!(after.output_path.as_deref(), Some(Path::new(place)), "{name}");
            }
            (Comes::Failed(said), Err(error)) => {
                let error = error.to_string();
                assert!(error.contains(said) && error.contains(name), "{name}: {error}");
            }
            _ => panic!("{name}: {ended:?}"),
        }
        for next in ["RM_1", "RM_2", "RM_3"] {
            assert_eq!(output(&hooks, next).await, format!("/out/{next}"), "{name}");
        }
        hooks.shutdown().await;
        if !logged.is_empty() {
            let lines = logs.lines(logged);
            assert!(lines.iter().any(|line| line.contains(name)), "{name}: {logged}: {lines:?}");
        }
    };
    futures::future::join_all(cases.iter().map(run_case)).await;
}

#[tokio::test]
async fn a_script_is_heard_out_before_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::capture();
    let patience = HookTimeouts { quiet_period: Duration::from_secs(2), ..PATIENCE };
    let second = "good; sleep 0.2; echo '{\"output_path\": \"/second\"}'";
    let cases = [
        (format!("echo ready\n{}", loop_with("good")), "before it was asked: \"ready\""),
        (loop_with(second), "/second"),
    ];
    for (text, logged) in cases {
        let steps = vec![step(&script(dir.path(), "talks.sh", &text), false)];
        let hooks = Hooks::start_with(&config(steps, 1, LIMIT), &[HookStage::PostRecording], patience);
        for id in ["RM_bad", "RM_1"] {
            assert_eq!(output(&hooks, id).await, format!("/out/{id}"));
        }
        hooks.shutdown().await;
        assert!(!logs.lines(logged).is_empty(), "{logged}: {:?}", logs.lines("talks.sh"));
    }
}

#[tokio::test]
async fn a_script_that_never_stops_talking_still_answers() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("yes noise >&2 &\n{}", loop_with("good"));
    let hooks = start(vec![step(&script(dir.path(), "loud.sh", &text), false)], 1, LIMIT);
    for id in ["RM_1", "RM_2"] {
        assert_eq!(output(&hooks, id).await, format!("/out/{id}"));
    }
    hooks.shutdown().await;
}

#[tokio::test]
async fn a_script_that_ends_at_once_is_not_started_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let starts = dir.path().join("starts");
    let path = script(dir.path(), "brief.sh", &format!("echo $$ >>'{}'; exit 0", starts.display()));
    let logs = Logs::capture();
    let hour = Duration::from_secs(3600);
    let slow = HookTimeouts { first_wait: hour, longest_wait: hour, ..PATIENCE };
    let hooks = Hooks::start_with(&config(vec![step(&path, false)], 1, LIMIT), &[HookStage::PostRecording], slow);
    let told = async {
        while logs.lines("has ended by itself").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, told).await.unwrap();
    // The wait does not hold up the end.
    hooks.shutdown().await;
    assert_eq!((logs.lines("has ended by itself").len(), read(&starts).lines().count()), (1, 1));
    // Where there is a request, it is told why it has no answer.
    let died = failure(once(vec![step(&path, false)], payload("RM_1"), LIMIT).await);
    assert!(matches!(died, HookFailure::Died { .. }) && died.to_string().contains("exit code 0"), "{died}");
}
