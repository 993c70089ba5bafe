//! The real program under a service manager: a datagram socket that is read as systemd reads it.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::process::Signal;

use crate::hooks::script;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::{Deployment, Meeting, Standin};
use crate::survival::raw_file;

/// What the program has said, in order.
struct Manager {
    socket: UnixDatagram,
    said: Vec<String>,
}

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { socket, said: Vec::new() }
    }

    /// Reads on until a message has this line; the whole message.
    #[track_caller]
    fn wait_for(&mut self, line: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let read = self.socket.recv(&mut buffer);
            let read = read.unwrap_or_else(|error| panic!("never {line:?} ({error}) after\n{}", self.said.concat()));
            let message = String::from_utf8(buffer[..read].to_vec()).unwrap();
            self.said.push(message.clone());
            if message.lines().any(|said| said == line) {
                return message;
            }
            assert!(self.said.len() < 200, "never {line:?} in\n{}", self.said.concat());
        }
    }
}

/// The shell command that a unit of `packaging/systemd/` runs when systemd stops it.
fn exec_stop(unit: &str) -> String {
    let (_, rest) = unit.split_once("\nExecStop=").unwrap();
    let (_, quoted) = rest.split_once("/bin/sh -c '").unwrap();
    let (command, _) = quoted.split_once('\'').unwrap();
    // As systemd reads it.
    command.replace("\\\n", " ").replace("$$", "$")
}

/// Runs it where systemd says that the host is in this state.
fn run_exec_stop(unit: &str, host: &str, recorder: &Recorder, dir: &Path) {
    let text = format!(
        "case \"$*\" in\n  is-system-running) echo {host};;\n  'kill -s INT --kill-who=main \
         plugnmeet-recorder.service') kill -INT {};;\n  *) exit 1;;\nesac",
        recorder.pid()
    );
    let systemctl = script(dir, "systemctl", &text);
    let path = format!("{}:{}", systemctl.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &exec_stop(unit)]).env("PATH", path).env("MAINPID", recorder.pid().to_string());
    assert!(shell.status().unwrap().success(), "{unit}");
}

/// A Chrome that never answers, and writes down what environment it has.
fn silent_chrome(dir: &Path) -> (String, std::path::PathBuf) {
    let (chrome, environment) = (dir.join("chrome"), dir.join("environment"));
    let script = format!("#!/bin/sh\nenv >'{0}.new' && mv '{0}.new' '{0}'\nexec sleep 1000\n", environment.display());
    std::fs::write(&chrome, script).unwrap();
    std::fs::set_permissions(&chrome, std::fs::Permissions::from_mode(0o755)).unwrap();
    (chrome.display().to_string(), environment)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_of_start_state_life_and_end_and_a_drain_extends_its_limit() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let (chrome, environment) = silent_chrome(standin.dir());
    let path = standin.dir().join("notify");
    let mut manager = Manager::listen(&path);
    // As where plugNmeet does not run: NATS takes nobody.
    standin.silence_callout(true);
    let go = standin.dir().join("go");
    let wait = script(standin.dir(), "wait.sh", &format!("until [ -e '{}' ]; do sleep 0.05; done", go.display()));
    let setup = Setup {
        recorder: format!("  post_mp4_convert: false\n  post_processing_scripts:\n    - {}\n", wait.display()),
        sections: format!("chrome_settings:\n  custom_chrome_path: {chrome}\n"),
        env: vec![("NOTIFY_SOCKET", path.display().to_string()), ("WATCHDOG_USEC", "600000".to_owned())],
        ..Setup::default()
    };
    let mut recorder = Recorder::spawn(&standin, "node_01", &setup);
    // Up, although NATS is away.
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("STATUS=0 recordings run, 0 jobs in work; waiting for NATS\n"), "{ready}");
    assert!(manager.said[0].contains("EXTEND_TIMEOUT_USEC=30000000\nSTATUS=starting\n"), "{:?}", manager.said[0]);
    standin.silence_callout(false);
    manager.wait_for("STATUS=0 recordings run, 0 jobs in work; ready");
    standin.fleet.wait_selectable("node_01", SOON).await.unwrap();

    let room = standin.meeting(Meeting::default());
    let answer = standin.fleet.start_recording(&room, "service-1", "node_01").await.unwrap().response.unwrap();
    assert!(answer.status, "{answer:?}");
    manager.wait_for("STATUS=1 recording runs, 0 jobs in work; ready");
    let dir = recorder.main_path.join("node_01/room01");
    standin.fleet.publish_job(raw_file(&dir, "RM_1", "64x64", 2).1).await.unwrap();
    manager.wait_for("STATUS=1 recording runs, 1 job in work; ready");
    let before = manager.said.len();
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    let quiet: Vec<_> = manager.said[before..].iter().filter(|message| *message != "WATCHDOG=1\n").collect();
    assert!(quiet.is_empty(), "nothing new, and yet {quiet:?}");
    recorder.wait_until("Chrome was started", || environment.exists()).await;
    let environment = std::fs::read_to_string(&environment).unwrap();
    assert!(environment.contains("TMPDIR=") && !environment.contains("NOTIFY_SOCKET"), "{environment}");
    assert!(!environment.contains("WATCHDOG_USEC"), "{environment}");

    recorder.signal(Signal::TERM);
    let draining = manager.wait_for("STOPPING=1");
    let status = "STATUS=1 recording runs, 1 job in work; draining: nothing new is taken on\n";
    assert!(draining.contains(status), "{draining}");
    for _ in 0..3 {
        manager.wait_for("EXTEND_TIMEOUT_USEC=30000000");
    }
    std::fs::write(&go, "").unwrap();
    manager.wait_for("STATUS=1 recording runs, 0 jobs in work; draining: nothing new is taken on");
    recorder.signal(Signal::TERM);
    manager.wait_for("EXTEND_TIMEOUT_USEC=150000000");
    let status = recorder.wait_for_end().await;
    assert!(status.success(), "{status}\n{}", recorder.log());
    let of = |line: &str| manager.said.iter().filter(|message| message.contains(line)).count();
    assert_eq!((of("READY=1"), of("STOPPING=1"), of("EXTEND_TIMEOUT_USEC=150000000")), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_restarts_waits_for_no_drain_not_even_for_one_that_goes_on_already() {
    const UNIT: &str = include_str!("../../packaging/systemd/plugnmeet-recorder.service");
    const SHUTDOWN: &str = include_str!("../../packaging/systemd/plugnmeet-recorder-shutdown.service");
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let (chrome, _) = silent_chrome(standin.dir());
    for (unit, drains) in [(UNIT, false), (SHUTDOWN, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut manager = Manager::listen(&dir.path().join("notify"));
        let setup = Setup {
            mode: Some("recorderOnly"),
            sections: format!("chrome_settings:\n  custom_chrome_path: {chrome}\n"),
            env: vec![("NOTIFY_SOCKET", dir.path().join("notify").display().to_string())],
            ..Setup::default()
        };
        let mut recorder = Recorder::start(&standin, "node_01", &setup).await;
        let room = standin.meeting(Meeting::default());
        let answer = standin.fleet.start_recording(&room, "service-2", "node_01").await.unwrap().response.unwrap();
        assert!(answer.status, "{answer:?}");
        manager.wait_for("STATUS=1 recording runs; ready");
        if drains {
            recorder.signal(Signal::TERM);
            manager.wait_for("STATUS=1 recording runs; draining: nothing new is taken on");
        }
        // The unit is stopped by hand: what runs goes on.
        run_exec_stop(unit, "running", &recorder, dir.path());
        let sign_of_life = if drains { "EXTEND_TIMEOUT_USEC=30000000" } else { "WATCHDOG=1" };
        for _ in 0..2 {
            manager.wait_for(sign_of_life);
        }
        run_exec_stop(unit, "stopping", &recorder, dir.path());
        manager.wait_for("EXTEND_TIMEOUT_USEC=150000000");
        let status = recorder.wait_for_end().await;
        assert!(status.success(), "{status}\n{}", recorder.log());
        let of = |line: &str| manager.said.iter().filter(|message| message.contains(line)).count();
        assert_eq!((of("STOPPING=1"), of("EXTEND_TIMEOUT_USEC=150000000")), (1, 1), "{:?}", manager.said);
        let log = recorder.log();
        // And not by itself, as it gives up on a Chrome that never answers.
        let closed = "shutting down: recordings are closed now signal=\"SIGINT\"";
        assert!(log.contains(closed) && !log.contains("already shutting down"), "{log}");
    }
}
