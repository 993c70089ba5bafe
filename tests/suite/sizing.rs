//! `plugnmeet-recorder size` on this machine, in a PID namespace of its own, where it sees no recordings of other tests.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use plugnmeet_recorder::capture::process_tag;
use plugnmeet_recorder::storage::lock::StateLock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::recorder::{SOON, alone, descendants, processes_of};
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};

/// A node that was configured but never run.
struct Node {
    dir: TempDir,
}

/// What a command has said at its end.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

struct Running {
    child: Child,
    err: Lines<BufReader<ChildStderr>>,
    said: String,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("pnm-test-").tempdir().unwrap();
        for name in ["tmp", "parts", "state", "main"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let config = format!(
            "# A node.\nrecorder:\n  id: node_01\n  mode: both\n  max_limit: 10  # as told\n  min_free_space: 0\n  \
             temporary_dir: {0}/parts\n  state_dir: {0}/state\n  copy_to_path:\n    main_path: {0}/main\nplugNmeet_info:\n  \
             host: http://localhost\n  api_key: key\n  api_secret: a-secret-of-a-node-that-never-runs\nnats_info:\n  \
             nats_urls: [\"nats://127.0.0.1\"]\n",
            dir.path().display()
        );
        let node = Self { dir };
        std::fs::write(node.config(), config).unwrap();
        std::fs::set_permissions(node.config(), std::fs::Permissions::from_mode(0o640)).unwrap();
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("config.yaml")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.config()).unwrap()
    }

    /// `before`: a line of shell that runs in the namespace before the command.
    fn start(&self, before: &str, args: &[&str]) -> Running {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("-r");
        }
        command.args(["-pf", "--mount-proc", "--kill-child", "sh", "-c", &format!("{before}\n\"$@\"\nexit $?"), "sh"]);
        command.arg(env!("CARGO_BIN_EXE_plugnmeet-recorder")).arg("-config").arg(self.config()).arg("size").args(args);
        command.env("TMPDIR", self.path("tmp")).current_dir(self.dir.path()).kill_on_drop(true);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Running { child, err, said: String::new() }
    }

    /// Nothing of a measurement is left.
    fn assert_clean(&self) {
        for name in ["tmp", "parts", "main"] {
            let left: Vec<_> =
                std::fs::read_dir(self.path(name)).unwrap().flatten().map(|entry| entry.path()).collect();
            assert_eq!(left, Vec::<PathBuf>::new());
        }
        assert_eq!(processes_of(self.dir.path()), Vec::<String>::new());
    }
}

impl Running {
    /// Waits for a line that contains `text`.
    async fn says(&mut self, text: &str) {
        let hear = async {
            while let Some(line) = self.err.next_line().await.unwrap() {
                self.said += &(line.clone() + "\n");
                if line.contains(text) {
                    return;
                }
            }
            panic!("it ended without saying {text}: {}", self.said);
        };
        tokio::time::timeout(SOON, hear).await.unwrap_or_else(|_| panic!("it does not say {text}"));
    }

    /// Its processes of this name.
    fn processes(&self, name: &str) -> Vec<Pid> {
        let named = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end().contains(name))
        };
        let pids = descendants(self.child.id().unwrap()).into_iter().filter(named);
        pids.filter_map(|pid| Pid::from_raw(pid.cast_signed())).collect()
    }

    async fn ended(mut self) -> Ended {
        let wait = async {
            let mut out = String::new();
            while let Some(line) = self.err.next_line().await.unwrap() {
                self.said += &(line + "\n");
            }
            self.child.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
            (self.child.wait().await.unwrap(), out)
        };
        let (status, out) = tokio::time::timeout(SOON, wait).await.expect("it ends");
        Ended { code: status.code(), out, err: self.said }
    }
}

#[tokio::test]
async fn a_machine_is_measured_and_its_number_written_and_what_a_hang_or_a_signal_ends_leaves_nothing() {
    let _turn = alone().await;
    let node = Node::new();
    let config = node.text();
    // A Chrome that stands still while it records, under a command that would go on with a second one.
    let mut hanging = node.start("", &["--scene", "slides", "--max", "2", "--seconds", "30", "--write"]);
    hanging.says("opening 1 more, 0 run").await;
    let end = Instant::now() + SOON;
    // ffmpeg is started once the page is shown.
    while hanging.processes("ffmpeg").is_empty() {
        assert!(Instant::now() < end, "nothing is recorded: {}", hanging.said);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for pid in hanging.processes("chrom") {
        // It may have ended since.
        let _ = kill_process(pid, Signal::STOP);
    }
    let hung = hanging.ended().await;
    assert_eq!(hung.code, Some(1), "{hung:?}");
    assert!(hung.err.contains("Chrome hangs") && hung.err.contains("docs/troubleshooting.md"), "{hung:?}");
    assert_eq!((hung.out.as_str(), node.text()), ("", config.clone()));
    node.assert_clean();

    let args = ["--scene", "slides", "--max", "1", "--seconds", "1", "--json", "--write"];
    let measured = node.start("", &args).ended().await;
    assert_eq!(measured.code, Some(0), "{measured:?}");
    let value: Value = serde_json::from_str(&measured.out).unwrap_or_else(|error| panic!("{error}: {measured:?}"));
    let scene = &value["scenes"][0];
    assert_eq!((&value["mode"], &value["max_limit"]), (&"both".into(), &1.into()), "{value:#}");
    assert_eq!((&scene["scene"], &scene["held"], &scene["ended_by"]), (&"slides".into(), &1.into(), &"most".into()));
    let needs = &scene["at_held"]["needs"];
    for (need, least) in [("cores", 0.005), ("memory", 5e7), ("tasks", 20.0), ("open_files", 4.0)] {
        assert!(needs[need].as_f64().unwrap() > least, "{need}: {value:#}");
    }
    let beside = &scene["with_transcoding"];
    assert!(beside["held"] == 1 && beside["speed"].as_f64().unwrap() > 0.0, "{value:#}");
    let written = config.replace("10  # as told", "1  # was 10 (plugnmeet-recorder size); as told");
    assert_eq!(node.text(), written);
    assert_eq!(std::fs::metadata(node.config()).unwrap().mode() & 0o7777, 0o640);
    node.assert_clean();

    // A signal, while it opens one.
    let mut stopped = node.start("", &["--scene", "slides", "--max", "1"]);
    stopped.says("opening 1 more, 0 run").await;
    let [recorder] = stopped.processes("plugnmeet-recor")[..] else { panic!("{}", stopped.said) };
    kill_process(recorder, Signal::TERM).unwrap();
    let stopped = stopped.ended().await;
    assert_eq!((stopped.code, stopped.out.as_str()), (Some(130), ""), "{stopped:?}");
    node.assert_clean();
}

#[tokio::test]
async fn nothing_is_measured_while_something_is_recorded_or_the_file_cannot_be_written() {
    let node = Node::new();
    let config = node.text();
    let refused = |ended: &Ended, why: &str| {
        assert_eq!((ended.code, ended.out.as_str()), (Some(3), ""), "{ended:?}");
        assert!(ended.err.contains(why) && ended.err.contains("drain the node"), "{ended:?}");
        assert!(ended.err.lines().last().is_some_and(|line| line.starts_with("PNR-1242 error: ")), "{ended:?}");
    };
    // A process of another's rig, which has a variable in its environment, or a Chrome with its profile.
    let tagged = format!("{}=/tmp/pnm-abcdef01-x sleep 1000 &", process_tag::VARIABLE);
    let profile = "sh -c 'sleep 1000; true' chrome --user-data-dir=/tmp/pnm-abcdef01-x/chrome &";
    for other in [tagged.as_str(), profile] {
        // Until it runs.
        let before = format!("{other}\nuntil grep -q pnm-abcdef01 /proc/$!/environ /proc/$!/cmdline; do :; done");
        let ended = node.start(&before, &["--write"]).ended().await;
        refused(&ended, "this program is recording on this machine (process ");
    }
    // A recorder that runs with a recording that is not over.
    let state = node.path("state");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/state/recordings"), &state.join("recordings"));
    let lock = StateLock::take(&state).unwrap();
    refused(&node.start("", &[]).ended().await, "the recorder of this configuration (pid ");
    drop(lock);

    // Each of them is told before anything is measured.
    for (text, args, why) in [
        (config.replace("max_limit: 10", "max_limit: &limit 10"), &["--write"][..], "not written as a plain number"),
        (config.replace("mode: both", "mode: transcoderOnly"), &[], "records nothing"),
        (config.replace("max_limit: 10", "max_limit: many"), &[], "max_limit"),
        (config.clone(), &["--scene", "film"], "invalid value 'film'"),
        (config.clone(), &["--max", "0"], "invalid value '0'"),
    ] {
        std::fs::write(node.config(), &text).unwrap();
        let ended = node.start("", args).ended().await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{args:?}: {ended:?}");
        assert!(ended.err.contains(why) && !ended.err.contains("a-secret"), "{why}: {ended:?}");
        assert_eq!(node.text(), text);
    }
    node.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_configuration_that_a_killed_run_leaves_goes_with_the_next_run() {
    let node = Node::new();
    let text = node.text();
    let etc = node.path("etc");
    let disk = FaultyFs::mount(&node.path("disk"), &etc, Abilities::ALL);
    std::fs::write(etc.join("node.yaml"), &text).unwrap();
    std::fs::remove_file(node.config()).unwrap();
    std::os::unix::fs::symlink("etc/node.yaml", node.config()).unwrap();
    let files = || {
        let mut names: Vec<_> = std::fs::read_dir(&etc).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
    };

    // The copy is complete, and its fsync has no answer.
    disk.break_down(Requests::Fsync, Fault::Hang);
    let killed = node.start("", &["--write"]);
    tokio::time::timeout(SOON, disk.wait_until_hanging(1)).await.unwrap();
    let [recorder] = killed.processes("plugnmeet-recor")[..] else { panic!("{}", killed.said) };
    kill_process(recorder, Signal::KILL).unwrap();
    // The kernel ends it once the disk has answered.
    disk.heal();
    assert_eq!(killed.ended().await.code, Some(128 + Signal::KILL.as_raw()));
    let [left, config] = &files()[..] else { panic!("{:?}", files()) };
    assert!(left.starts_with('.') && config == "node.yaml", "{left}");
    assert!(std::fs::read_to_string(etc.join(left)).unwrap().contains("a-secret-of-a-node"));

    // The next one has the same process id in a namespace of its own, as in a container, and is refused before it measures.
    let state = node.path("state");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/state/recordings"), &state.join("recordings"));
    let lock = StateLock::take(&state).unwrap();
    let next = node.start("", &[]).ended().await;
    drop(lock);
    assert_eq!(next.code, Some(3), "{next:?}");
    assert_eq!(files(), ["node.yaml"], "{next:?}");
    assert_eq!(node.text(), text);

    // A disk that hangs is told of, where nobody kills.
    disk.break_down(Requests::Fsync, Fault::Hang);
    let mut hung = node.start("", &["--write"]);
    hung.says("the disk of the configuration does not answer").await;
    disk.heal();
    assert_eq!(hung.ended().await.code, Some(2));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
