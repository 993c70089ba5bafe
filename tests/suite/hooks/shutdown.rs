//! Waits that are cancelled, and the processes that a shutdown ends.

use std::fs;
use std::time::Duration;

use futures::FutureExt as _;
use plugnmeet_recorder::config::HookStage;
use plugnmeet_recorder::scripts::hooks::HookError;
use tokio_util::sync::CancellationToken;

use super::{LIMIT, assert_gone, loop_with, output, payload, run, script, start, step};

#[tokio::test]
async fn a_cancelled_wait_ends_at_once_and_the_shutdown_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    for one_shot in [false, true] {
        let (pids, asked) = (dir.path().join(format!("pids{one_shot}")), dir.path().join(format!("asked{one_shot}")));
        let hang = format!("sleep 1000 & echo $! >>'{}'; : >'{}'; wait", pids.display(), asked.display());
        let head = format!("echo $$ >>'{}'\n", pids.display());
        let text = if one_shot { format!("read -r line\n{hang}") } else { loop_with(&hang) };
        let steps = vec![step(&script(dir.path(), &format!("hang{one_shot}.sh"), &(head + &text)), one_shot)];
        let hooks = start(steps, 2, LIMIT);
        let cancel = CancellationToken::new();
        let stop = async {
            while !asked.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            cancel.cancel();
        };
        let (ended, ()) = tokio::join!(hooks.run(HookStage::PostRecording, payload("RM_bad"), &cancel), stop);
        assert!(matches!(ended, Err(HookError::Stopped { .. })), "{ended:?}");
        if !one_shot {
            // Its process is in nobody's way.
            for id in ["RM_1", "RM_2", "RM_3"] {
                assert_eq!(output(&hooks, id).await, format!("/out/{id}"));
            }
        }
        // A run that is under way ends with the shutdown.
        let waiting = hooks.clone();
        let waiting = tokio::spawn(async move { run(&waiting, payload("RM_bad")).await });
        fs::remove_file(&asked).unwrap();
        while !asked.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        hooks.shutdown().await;
        assert!(matches!(waiting.await.unwrap(), Err(HookError::Stopped { .. })));
        assert_gone(&pids).await;
    }
}

#[tokio::test]
async fn hooks_that_are_forgotten_end_their_processes() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let text = format!("echo $$ >>'{}'\n{}", pids.display(), loop_with("good"));
    let hooks = start(vec![step(&script(dir.path(), "x.sh", &text), false)], 2, LIMIT);
    assert_eq!(output(&hooks, "RM_1").await, "/out/RM_1");
    drop(hooks);
    assert_gone(&pids).boxed().await;
}
