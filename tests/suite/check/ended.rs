//! Checks that are ended early.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use plugnmeet_recorder::capture::rig_directory::{self, RigOwner};
use plugnmeet_recorder::capture::video::display;
use rustix::process::{Pid, Signal, kill_process};

use super::Node;
use crate::recorder::{SOON, descendants, processes_of};

/// A check, once a rig of it records.
async fn that_records(node: &Node) -> Child {
    let mut child = node.start(&[]);
    // Until then it has said one line for each check up to there.
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("✓ key ")));
    // It must not wait for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    let end = Instant::now() + SOON;
    while rig(node, child.id()).is_none() {
        assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "it has recorded nothing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child
}

/// The directories of this check, and the socket of its display once it runs.
fn rig(node: &Node, pid: u32) -> Option<(Vec<PathBuf>, PathBuf)> {
    let entries = std::fs::read_dir(node.dir.path().join("tmp")).unwrap().flatten().map(|entry| entry.path());
    let of_process = |dir: &Path| RigOwner::parse(&std::fs::read(dir.join(rig_directory::FILE)).ok()?);
    let owned: Vec<_> =
        entries.filter_map(|dir| Some((of_process(&dir)?, dir))).filter(|(one, _)| one.pid == pid).collect();
    let socket = owned.iter().find_map(|(one, _)| one.display.map(|server| display::socket(server.number)))?;
    let records = descendants(pid)
        .into_iter()
        .any(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "Xvfb"));
    records.then(|| (owned.into_iter().map(|(_, dir)| dir).collect(), socket))
}

/// `node`: nothing of a check is left on it.
pub(super) async fn what_a_killed_check_leaves_is_removed_and_what_runs_stays(node: &Node) {
    let before = node.files();
    let mut killed = that_records(node).await;
    let (dirs, socket) = rig(node, killed.id()).unwrap();
    assert_eq!(dirs.len(), 2, "the check's own, and the rig's: {dirs:?}");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(dirs.iter().all(|dir| dir.exists()) && socket.exists(), "it could not clean up");
    // What was killed long ago, beside the records.
    let trial = node.dir.path().join("state/.check-4194305");
    std::fs::write(&trial, "x").unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&trial).unwrap().set_modified(long_ago).unwrap();

    let mut running = that_records(node).await;
    assert!(dirs.iter().all(|dir| !dir.exists()) && !trial.exists(), "{:?}", node.files());
    // One beside it leaves alone what is in use.
    let (dirs, socket) = rig(node, running.id()).unwrap();
    let quick = node.start(&["--quick"]).wait_with_output().unwrap();
    assert!(quick.status.success(), "{quick:?}");
    assert!(running.try_wait().unwrap().is_none(), "too late: it has ended by itself");
    assert!(dirs.iter().all(|dir| dir.exists()) && socket.exists(), "{:?}", node.files());

    kill_process(Pid::from_raw(running.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("interrupted"), "{said}");
    assert_eq!(node.files(), before);
    assert_eq!(processes_of(node.dir.path()), Vec::<String>::new());
}
