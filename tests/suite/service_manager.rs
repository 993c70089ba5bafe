//! The real program under a service manager: a datagram socket that is read as systemd reads it.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::process::Signal;

use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::{Deployment, Meeting, Standin};

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
    let setup = Setup {
        sections: format!("chrome_settings:\n  custom_chrome_path: {chrome}\n"),
        env: vec![("NOTIFY_SOCKET", path.display().to_string()), ("WATCHDOG_USEC", "600000".to_owned())],
        ..Setup::default()
    };
    let mut recorder = Recorder::spawn(&standin, "node_01", &setup);
    // Up, although NATS is away.
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("STATUS=0 recordings run; waiting for NATS\n"), "{ready}");
    assert!(manager.said[0].contains("EXTEND_TIMEOUT_USEC=30000000\nSTATUS=starting\n"), "{:?}", manager.said[0]);
    standin.silence_callout(false);
    manager.wait_for("STATUS=0 recordings run; ready");
    standin.fleet.wait_selectable("node_01", SOON).await.unwrap();

    let room = standin.meeting(Meeting::default());
    let answer = standin.fleet.start_recording(&room, "service-1", "node_01").await.unwrap().response.unwrap();
    assert!(answer.status, "{answer:?}");
    manager.wait_for("STATUS=1 recording runs; ready");
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
    assert!(draining.contains("STATUS=1 recording runs; draining: nothing new is taken on\n"), "{draining}");
    for _ in 0..3 {
        manager.wait_for("EXTEND_TIMEOUT_USEC=30000000");
    }
    recorder.signal(Signal::TERM);
    manager.wait_for("EXTEND_TIMEOUT_USEC=150000000");
    let status = recorder.wait_for_end().await;
    assert!(status.success(), "{status}\n{}", recorder.log());
    let of = |line: &str| manager.said.iter().filter(|message| message.contains(line)).count();
    assert_eq!((of("READY=1"), of("STOPPING=1"), of("EXTEND_TIMEOUT_USEC=150000000")), (1, 1, 1));
}
