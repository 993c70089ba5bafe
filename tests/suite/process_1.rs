//! The recorder as process 1 of a container, which is what a container without an init makes of it.

use std::process::Stdio;
use std::time::Instant;

use crate::hooks::{loop_with, script};
use crate::recorder::{Recorder, SOON, Setup, descendants};
use crate::standin::child::Child;
use crate::standin::{Deployment, Standin};

/// `pid (name) state …` of a process.
fn state(pid: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").map_or_else(String::new, |(_, rest)| rest[..1].to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn as_process_1_it_leaves_no_zombies_drains_on_sigterm_and_ends_with_the_daemons_code() {
    const ORPHANS: usize = 5;
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let orphans = standin.dir().join("orphans");
    // Orphans, as Chrome leaves them: their parent has ended, and process 1 is to wait for them.
    let text = format!(
        "for n in 1 2 3 4 5; do setsid -f sh -c 'echo $$ >>\"{}\"'; done\n{}",
        orphans.display(),
        loop_with("good")
    );
    let hook = script(standin.dir(), "orphans.sh", &text);
    let hooks = format!("hooks:\n  post_recording:\n    scripts:\n      - script: {}\n", hook.display());
    // For its directories and configuration.
    let mut recorder = Recorder::spawn(&standin, "node_01", &Setup { sections: hooks, ..Setup::default() });
    recorder.kill();
    std::fs::remove_file(&orphans).ok();
    let config = recorder.temporary_dir.with_file_name("config.yaml");
    let mut unshare = Child::spawn("unshare", "unshare", |command| {
        if !rustix::process::geteuid().is_root() {
            command.arg("-r");
        }
        command.args(["-pf", "--mount-proc", "--kill-child", env!("CARGO_BIN_EXE_plugnmeet-recorder"), "--config"]);
        command.arg(config).env("TMPDIR", recorder.runtime_dir()).stdin(Stdio::null()).stdout(Stdio::null());
    })
    .unwrap();
    standin.fleet.wait_selectable("node_01", SOON).await.unwrap();
    let read = || std::fs::read_to_string(&orphans).unwrap_or_default();
    recorder.wait_until("there were orphans", || read().lines().count() == ORPHANS).await;
    let zombies = || descendants(unshare.id()).into_iter().filter(|pid| state(*pid) == "Z").count();
    recorder.wait_until("all of them are waited for", || zombies() == 0).await;

    // The first of the container.
    let process_1 = descendants(unshare.id())[0];
    let pid = rustix::process::Pid::from_raw(process_1.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let end = Instant::now() + SOON;
    let status = loop {
        if let Some(status) = unshare.ended().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "it does not end:\n{}", recorder.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let log = recorder.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("draining: nothing new is taken on") && log.contains("stopped"), "{log}");
}
