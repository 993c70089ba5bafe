//! Starts of children whose program is on a disk that does not answer.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use plugnmeet_recorder::process::child::{self, ChildSpec};

use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};

const SOON: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn a_program_on_a_dead_share_is_named_and_keeps_no_other_from_being_started() {
    let dir = tempfile::tempdir().unwrap();
    let (backing, share) = (dir.path().join("backing"), dir.path().join("share"));
    let disk = FaultyFs::mount(&backing, &share, Abilities::ALL);
    let script = backing.join("upload.sh");
    std::fs::write(&script, format!("#!/bin/sh\ntouch '{}'\n", dir.path().join("ran").display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    disk.break_down(Requests::All, Fault::Hang);

    let program = share.join("upload.sh");
    let spec = ChildSpec::new("upload.sh", &program);
    let start = async || child::spawn(&spec).await;
    let hang = |spec: ChildSpec| tokio::spawn(async move { child::spawn(&spec).await.map(drop) });
    let hanging: Vec<_> = (0..6).map(|_| hang(spec.clone())).collect();
    disk.wait_until_hanging(1).await;
    let mut other =
        tokio::time::timeout(SOON, child::spawn(&ChildSpec::new("true", "/bin/true"))).await.unwrap().unwrap();
    assert!(other.wait().await.success());
    let mut causes = Vec::new();
    for start in hanging {
        let failed = tokio::time::timeout(SOON, start).await.expect("a start has a deadline").unwrap();
        causes.push(failed.unwrap_err().to_string());
    }
    for cause in &causes {
        assert!(cause.contains("upload.sh") && cause.contains("the disk that holds it"), "{cause}");
    }
    // Now at once, and without one more thread.
    let again = start().await.map(drop).unwrap_err().to_string();
    assert!(again.contains("has hung for"), "{again}");

    disk.heal();
    let mut child = loop {
        match start().await {
            Ok(child) => break child,
            // The starts that hung are about to end.
            Err(error) => assert!(error.to_string().contains("has hung for"), "{error}"),
        }
        tokio::task::yield_now().await;
    };
    assert!(child.wait().await.success() && dir.path().join("ran").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_is_still_being_written_is_started_when_it_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("hook.sh");
    std::fs::write(&script, "#!/bin/sh\nexit 7\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let writer = std::fs::OpenOptions::new().append(true).open(&script).unwrap();
    let spec = ChildSpec::new("hook.sh", &script);
    let starting = tokio::spawn(async move { child::spawn(&spec).await });
    // Some tries long: what is waited for is that nothing happens.
    let is_waiting = tokio::time::timeout(Duration::from_millis(120), async {
        while !starting.is_finished() {
            tokio::task::yield_now().await;
        }
    });
    assert!(is_waiting.await.is_err(), "it was not tried again");
    drop(writer);
    let mut child = tokio::time::timeout(SOON, starting).await.unwrap().unwrap().unwrap();
    assert_eq!(child.wait().await.to_string(), "exit code 7");
}
