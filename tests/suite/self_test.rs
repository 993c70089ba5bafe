//! A node that cannot record says so before it draws recordings.

use std::os::unix::fs::PermissionsExt as _;

use plugnmeet_recorder::protocol::messages::RecordingTasks;

use crate::recorder::{Recorder, SOON, Setup, turn};
use crate::standin::{Deployment, Meeting, Standin};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_record_leaves_the_choice_and_comes_back_when_it_can() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    // An Xvfb that does what a file says.
    let dir = tempfile::tempdir().unwrap();
    let does = dir.path().join("does");
    let xvfb = dir.path().join("Xvfb");
    let path = std::env::var("PATH").unwrap();
    let text = format!(
        "#!/bin/sh\nPATH={path}\ncase $(cat {}) in\n  hang) exec sleep 1000 ;;\n  end) echo 'no shared memory' >&2; exit 1 ;;\n  \
         *) exec Xvfb \"$@\" ;;\nesac\n",
        does.display()
    );
    std::fs::write(&xvfb, text).unwrap();
    std::fs::write(&does, "hang").unwrap();
    std::fs::set_permissions(&xvfb, std::fs::Permissions::from_mode(0o755)).unwrap();
    let setup = Setup {
        recorder: "  self_test: true\n".into(),
        path: Some(format!("{}:{path}", dir.path().display())),
        mode: Some("recorderOnly"),
        ..Setup::default()
    };
    let recorder = Recorder::spawn(&standin, "node_01", &setup);
    let tests = |found: &'static str| {
        let log = recorder.log();
        log.lines().filter(|line| line.contains(found)).map(str::to_owned).collect::<Vec<_>>()
    };

    // At the start.
    recorder.wait_until("a failed self-test", || !tests("the self-test failed").is_empty()).await;
    let told = tests("the self-test failed").remove(0);
    assert!(told.contains("cause=\"Xvfb: did not start within 10 s") && told.contains("retry_s"), "{told}");
    recorder.wait_for_log("is announced to the fleet, but takes nothing on yet").await;
    assert!(tests("has joined the fleet").is_empty());
    assert_eq!(standin.fleet.announcement("node_01").await.unwrap().unwrap().last_ping, Some(0));
    let room = standin.meeting(Meeting::default());
    let start = async |id: &str| standin.fleet.start_recording(&room, id, "node_01").await.unwrap().response.unwrap();
    let refused = start("refused").await;
    assert!(!refused.status && refused.msg.contains("has not passed its self-test"), "{}", refused.msg);

    // And it comes back by itself.
    let _turn = turn().await;
    std::fs::write(&does, "work").unwrap();
    standin.fleet.wait_selectable("node_01", SOON).await.unwrap();
    assert_eq!(tests("the self-test is passed").len(), 1);
    recorder.wait_for_log("has joined the fleet").await;
    assert_eq!(std::fs::read_dir(&recorder.temporary_dir).unwrap().filter_map(file_name).count(), 0);

    // When it breaks later, it is noticed by what it fails at.
    std::fs::write(&does, "end").unwrap();
    let failures = tests("the self-test failed").len();
    assert!(start("taken").await.status);
    recorder.wait_until("another failed self-test", || tests("the self-test failed").len() > failures).await;
    let told = tests("the self-test failed").remove(failures);
    assert!(told.contains("Xvfb") && told.contains("no shared memory") && told.contains("retry_s"), "{told}");
    recorder.wait_until_gone_from_choice(&standin).await;
    // It would still be tried for a while.
    assert!(standin.fleet.stop(RecordingTasks::Stop, &room, "taken").await.unwrap().response.unwrap().status);
    assert!(
        standin.notices.all().iter().all(|told| told.message.recording_id == "taken"),
        "nothing of the refused one"
    );
    recorder.stop(&[]);
}

/// The name of a file that is not the recorder's state.
fn file_name(entry: std::io::Result<std::fs::DirEntry>) -> Option<String> {
    let name = entry.unwrap().file_name().into_string().unwrap();
    Some(name).filter(|name| !name.starts_with(".state-"))
}
