//! Scripts that are started for each event, and those that cannot be started.

use std::fs;
use std::path::Path;

use plugnmeet_recorder::config::HookStage;
use plugnmeet_recorder::scripts::hooks;

use super::{Comes, LIMIT, SHORT, assert_gone, config, huge, once, payload, script, step};

#[tokio::test]
async fn whatever_a_one_shot_script_does_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let child = format!("sleep 1000 & echo $! >>'{}'; echo '{{\"output_path\": \"/x\"}}'", pids.display());
    let cases = [
        ("garbage.sh", "head -c 3000000 /dev/urandom".to_owned(), Comes::ToNothing),
        ("long_line.sh", "head -c 10000000 /dev/zero | tr '\\0' x".to_owned(), Comes::ToNothing),
        (
            "long.sh",
            "yes uploading | head -c 3000000; echo; echo '{\"output_path\": \"/x\"}'; echo done".to_owned(),
            Comes::To("/x"),
        ),
        ("closed.sh", "exec <&- >&- 2>&-; sleep 0.1".to_owned(), Comes::ToNothing),
        (
            "another.sh",
            "echo '{\"recording_id\": \"RM_x\", \"output_path\": \"/another\"}'".to_owned(),
            Comes::ToNothing,
        ),
        (
            "fails.sh",
            "echo '{\"output_path\": \"/x\"}'; echo one >&2; echo two >&2; exit 7".to_owned(),
            Comes::Failed("it failed (exit code 7); it said: one; two"),
        ),
        ("crash.sh", "kill -SEGV $$".to_owned(), Comes::Failed("it failed (signal 11)")),
        (
            "deaf.sh",
            format!("trap '' TERM; echo $$ >>'{}'; while :; do sleep 1000; done", pids.display()),
            Comes::Failed("did not answer within 6s"),
        ),
        ("child.sh", child.clone(), Comes::To("/x")),
        ("session.sh", "setsid sleep 3 & echo '{\"output_path\": \"/x\"}'".to_owned(), Comes::To("/x")),
    ];
    let run_case = async |(name, text, comes): &(&str, String, Comes)| {
        // None of them reads what it is given.
        let ended = once(vec![step(&script(dir.path(), name, text), true)], huge("RM_bad"), SHORT).await;
        match (comes, &ended) {
            (Comes::ToNothing, Ok(after)) => assert_eq!(*after, huge("RM_bad"), "{name}"),
            (Comes::To(place), Ok(after)) => {
                assert_eq!(after.output_path.as_deref(), Some(Path::new(place)), "{name}");
            }
            (Comes::Failed(said), Err(error)) => assert!(error.to_string().contains(said), "{name}: {error}"),
            _ => panic!("{name}: {ended:?}"),
        }
    };
    futures::future::join_all(cases.iter().map(run_case)).await;
    assert_gone(&pids).await;
}

#[tokio::test]
async fn a_script_that_cannot_be_started_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain.sh");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let steps = vec![step(&plain, false), step(&dir.path().join("gone.sh"), true)];
    for one in &steps {
        let error = once(vec![one.clone()], payload("RM_1"), LIMIT).await.unwrap_err().to_string();
        assert!(error.contains("cannot start") && error.contains(dir.path().to_str().unwrap()), "{error}");
    }
    let problems: Vec<_> =
        hooks::check(&config(steps, 1, LIMIT), &HookStage::ALL).iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("hooks.post_recording: script ") && problems[0].contains("chmod"), "{problems:?}");
    assert!(problems[1].ends_with("gone.sh: there is no such file"), "{problems:?}");
}
