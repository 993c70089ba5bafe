//! What a daemon leaves behind that is killed while it records, and what the next one removes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use plugnmeet_recorder::capture::cleanup::{CleanupReport, clean_up};
use plugnmeet_recorder::capture::process_tag::{self, ProcessTag};
use plugnmeet_recorder::capture::rig_directory::{self, FileId, RigOwner};
use plugnmeet_recorder::capture::video::display;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::recorder::{Recorder, SOON, Setup, alone};
use crate::recording::{record, standin};
use crate::standin::Meeting;
use crate::standin::child::Child;

/// Every process that names this directory in its environment or on its command line: its state and that line.
fn naming(dir: &Path) -> BTreeMap<u32, String> {
    let wanted = dir.to_str().unwrap();
    let text = |pid: u32, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    let pids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let names = |pid: &u32| ["environ", "cmdline"].iter().any(|file| text(*pid, file).contains(wanted));
    let shown = |pid: u32| {
        let stat = text(pid, "stat");
        let state = stat.rsplit_once(") ").map_or("gone", |(_, rest)| &rest[..1]).to_owned();
        (pid, format!("{state} {}", text(pid, "cmdline").chars().take(120).collect::<String>()))
    };
    pids.filter(names).map(shown).collect()
}

fn shared_memory() -> BTreeSet<PathBuf> {
    std::fs::read_dir("/dev/shm").unwrap().flatten().map(|entry| entry.path()).collect()
}

/// Processes that are ended with this whatever becomes of the test, and nobody else by their numbers.
struct Ended(Vec<OwnedFd>);

impl Ended {
    fn with_this(pids: impl IntoIterator<Item = u32>) -> Self {
        let handle = |pid: u32| pidfd_open(Pid::from_raw(pid.cast_signed()).unwrap(), PidfdFlags::empty()).ok();
        Self(pids.into_iter().filter_map(handle).collect())
    }

    fn signal(&self, signal: Signal) {
        for process in &self.0 {
            // It may have ended.
            let _ = pidfd_send_signal(process, signal);
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_recorder_leaves_goes_and_what_is_anothers_stays() {
    let _turn = alone().await;
    let standin = standin().await;
    let mut recorder =
        Recorder::start(&standin, "node_01", &Setup { mode: Some("recorderOnly"), ..Setup::default() }).await;
    let (temp, owner) = (recorder.runtime_dir(), rig_directory::name(&recorder.state_dir()));
    let room = standin.meeting(Meeting { webcams: 1, ..Meeting::default() });
    let before = shared_memory();
    record(&standin, &recorder, &room, "killed").await;

    let dirs: Vec<_> = std::fs::read_dir(&temp).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [dir] = dirs.as_slice() else { panic!("one rig is open: {dirs:?}") };
    let said = std::fs::read(dir.join(rig_directory::FILE)).unwrap();
    let left = RigOwner::parse(&said).unwrap();
    assert_eq!((left.owner.as_str(), left.pid, left.daemon_runs()), (owner.as_str(), recorder.pid(), true));
    let server = left.display.expect("the display is noted");
    assert_eq!(recorder.children("Xvfb"), [server.pid]);
    let socket = || std::fs::symlink_metadata(display::socket(server.number)).ok().as_ref().map(FileId::from);
    assert!(server.socket.is_some() && socket() == server.socket, "{server:?}");
    for name in ["Xvfb", "pulseaudio", "ffmpeg"] {
        let environ = std::fs::read(format!("/proc/{}/environ", recorder.children(name)[0])).unwrap();
        let mark = format!("{}={}", process_tag::VARIABLE, dir.display());
        assert!(environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()), "{name}");
    }
    assert_eq!(clean_up(&temp, &owner).await, CleanupReport::default(), "the recorder runs");

    // Another recorder's, beside it.
    let other = temp.join("pnm-other");
    std::fs::create_dir(&other).unwrap();
    let text = String::from_utf8(said).unwrap().replace(&*left.dir, other.to_str().unwrap());
    std::fs::write(other.join(rig_directory::FILE), text.replace(&*owner, "/var/lib/another/.state-node_02")).unwrap();
    let mut foreign = Child::spawn("another's process", "sleep", |command| {
        command.arg("1000").env(process_tag::VARIABLE, &other);
    })
    .unwrap();

    // All of them are known, by their environment or by the title that Chrome's have written over theirs.
    let running = naming(dir);
    println!("running: {running:#?}");
    let marks = ProcessTag::of(&left.dir);
    for (pid, line) in &running {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        assert!(marks.matches(&read("environ"), &read("cmdline")), "{pid}: {line}");
    }
    let _ended = Ended::with_this(running.keys().copied());

    // A renderer that stands still ends all the same: its process group is an orphan without the recorder, and the kernel
    // sends such a group SIGHUP and SIGCONT. Crashpad's handlers have sessions of their own.
    let of = |what: &str| running.iter().find(|(_, line)| line.contains(what)).map(|(pid, _)| *pid);
    let handler = of("crashpad_handler");
    let still = Ended::with_this(of("--type=renderer").into_iter().chain(handler));
    still.signal(Signal::STOP);
    // So this stands for a renderer that does not end: the title, and no mark in its environment.
    let title = format!("chrome --type=renderer --user-data-dir={}/{} --lang=en", left.dir, process_tag::PROFILE);
    let mut renderer = Command::new("cat").arg0(title).stdin(Stdio::piped()).spawn().unwrap();
    let _renderer = Ended::with_this([renderer.id()]);
    let stopped: Vec<u32> = handler.into_iter().chain([renderer.id()]).collect();
    recorder.kill();
    println!("at once: {:#?}", naming(dir));
    // The rest notices that its browser is gone; of two handlers, one waits for the other.
    let end = Instant::now() + Duration::from_secs(10);
    let going = |(pid, line): (&u32, &String)| !stopped.contains(pid) && !line.contains("crashpad_handler");
    while naming(dir).iter().any(going) && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let remaining = naming(dir);
    println!("left: {remaining:#?}");
    println!("display :{}, its socket: {}", server.number, socket() == server.socket);
    println!("shared memory: {:?}", shared_memory().difference(&before).collect::<Vec<_>>());
    println!(
        "files: {:?}",
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    );
    assert!(stopped.iter().all(|pid| remaining.contains_key(pid)), "what stands still is left: {stopped:?}");

    let swept = clean_up(&temp, &owner).await;
    println!("{swept:?}");
    assert_eq!(naming(dir), BTreeMap::new());
    assert!(!dir.exists());
    // Where another test's server has the number by now, it has made a socket of its own.
    assert!(socket().is_none_or(|socket| Some(socket) != server.socket));
    assert!(
        !std::fs::read_to_string(display::lock(server.number)).is_ok_and(|lock| lock.trim() == server.pid.to_string())
    );
    assert_eq!((swept.rigs, swept.kept), (1, 0));
    assert!(usize::try_from(swept.processes).unwrap() >= stopped.len(), "{swept:?}");

    assert_eq!(renderer.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));

    assert!(foreign.ended().unwrap().is_none(), "another's process was ended");
    assert!(other.join(rig_directory::FILE).exists());
    assert_eq!(clean_up(&temp, &owner).await, CleanupReport::default(), "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_was_killed_starts_again() {
    let standin = standin().await;
    let mut recorder = Recorder::start(&standin, "node_01", &Setup::default()).await;
    let first = recorder.pid();
    let lines = recorder.log().lines().count();
    recorder.kill();
    recorder.restart();
    assert_ne!(recorder.pid(), first);
    // What the first has announced is still fresh: only the log tells the two apart.
    let end = Instant::now() + SOON;
    while !recorder.log().lines().skip(lines).any(|line| line.contains("has joined the fleet")) {
        assert!(Instant::now() < end, "{}", recorder.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_killed_commands_have_left_goes_at_the_next_start_of_the_daemon() {
    let standin = standin().await;
    let mut recorder = Recorder::start(&standin, "node_01", &Setup::default()).await;
    let temp = recorder.runtime_dir();
    let made = |parent: &Path, name: &str| {
        let dir = parent.join(name);
        std::fs::create_dir_all(dir.join("chrome")).unwrap();
        dir
    };
    // Two of each: its process has ended, and it runs (this one).
    let pid = std::process::id();
    let started = plugnmeet_recorder::process::procfs::started(pid);
    let (mut gone, mut stay) = (Vec::new(), Vec::new());
    for command in ["check", "size", "record"] {
        for (kind, pid, started) in [("killed", 4_194_305, Some(1)), ("runs", pid, started)] {
            let dir = made(&temp, &format!("pnm-{command}-{kind}"));
            let owner = serde_json::json!({
                "version": 1, "owner": format!("plugnmeet-recorder {command} {pid} {}", started.unwrap()), "dir": dir,
                "pid": pid, "started": started, "boot_id": plugnmeet_recorder::process::procfs::boot_id(), "display": null
            });
            std::fs::write(dir.join(rig_directory::FILE), owner.to_string()).unwrap();
            if kind == "killed" { gone.push(dir) } else { stay.push(dir) }
        }
    }
    let parts = recorder.temporary_dir.clone();
    gone.push(made(&parts, ".plugnmeet-recorder-size-4194305-1-abc"));
    stay.push(made(&parts, &format!(".plugnmeet-recorder-size-{pid}-{}-abc", started.unwrap())));
    // A copy of the configuration, beside it.
    let copy = temp.parent().unwrap().join(".plugnmeet-recorder-size-4194305-1-abc");
    std::fs::write(&copy, "api_secret: a-secret").unwrap();
    gone.push(copy);
    let mut process = Child::spawn("what a killed check has started", "sleep", |command| {
        command.arg("1000").env(process_tag::VARIABLE, &gone[0]);
    })
    .unwrap();

    recorder.kill();
    recorder.restart();
    recorder
        .wait_for_log("a command of this program (check, size or record) was killed: removed what it has left")
        .await;
    assert_eq!(gone.iter().filter(|dir| dir.exists()).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
    assert!(stay.iter().all(|dir| dir.exists()), "{stay:?}");
    let end = Instant::now() + SOON;
    let ended = loop {
        if let Some(status) = process.ended().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "it still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(ended.signal(), Some(9));
    // Nothing else may be there at the end.
    for dir in &stay {
        std::fs::remove_dir_all(dir).unwrap();
    }
    let log = recorder.stop(&[]);
    assert!(log.contains("rigs=3 processes=1 displays=0 kept=0"), "{log}");
}
