//! `plugnmeet-recorder check`: a node that is ready, and nodes that lack one thing each.

mod ended;

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use plugnmeet_recorder::codes;
use serde_json::Value;
use tempfile::TempDir;

use crate::recorder::{Recorder, SOON, Setup, alone, processes_of};
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};
use crate::standin::{Deployment, Standin};

/// What is not as on a host for recorders: the tests run as root, and not every machine has all fonts.
const OF_THIS_MACHINE: [&str; 5] = ["sandbox", "fonts", "state_dir", "temporary_dir", "Chrome"];

/// The node that is checked, which differs from one that is ready by a text of its configuration.
struct Node {
    dir: TempDir,
    config: String,
    path: Option<PathBuf>,
    /// A read-only disk that only the program sees.
    read_only: Option<PathBuf>,
}

impl Node {
    fn new(standin: &Standin) -> Self {
        let dir = tempfile::Builder::new().prefix("pnm-test-").tempdir().unwrap();
        for name in ["tmp", "parts", "state", "main"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let deployment = &standin.deployment;
        let config = format!(
            "recorder:\n  id: node_01\n  max_limit: 1\n  min_free_space: 0\n  temporary_dir: {0}/parts\n  state_dir: {0}/state\n  \
             copy_to_path:\n    main_path: {0}/main\nplugNmeet_info:\n  host: {host}\n  api_key: {key}\n  api_secret: {secret}\n  \
             join_host: {host}/?access_token=\nnats_info:\n  nats_urls: [\"{nats}\"]\n  recorder:\n    recorder_channel: {channel}\n    \
             recorder_info_kv: {bucket}\n    transcoding_jobs_subject: {jobs}\n",
            dir.path().display(),
            host = standin.host(),
            key = deployment.api_key,
            secret = deployment.api_secret,
            nats = standin.nats_url(),
            channel = deployment.channel,
            bucket = deployment.bucket,
            jobs = deployment.jobs,
        );
        Self { dir, config, path: None, read_only: None }
    }

    /// The same with `from` replaced by `to`.
    fn with(mut self, from: &str, to: &str) -> Self {
        assert!(self.config.contains(from), "{from}: {}", self.config);
        self.config = self.config.replace(from, to);
        self
    }

    fn and(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self
    }

    fn start(&self, args: &[&str]) -> Child {
        let file = self.dir.path().join("config.yaml");
        std::fs::write(&file, &self.config).unwrap();
        let binary = env!("CARGO_BIN_EXE_plugnmeet-recorder");
        let mut command = match &self.read_only {
            Some(place) => {
                let root = rustix::process::geteuid().is_root();
                let mut command = Command::new("unshare");
                command.args([if root { "-m" } else { "-rm" }, "--", "sh", "-c"]);
                command.arg(r#"mount -t tmpfs -o ro none "$1" && shift && exec "$@""#).arg("sh").arg(place).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.arg("--config").arg(file).arg("check").args(args).current_dir(self.dir.path());
        command.env("TMPDIR", self.dir.path().join("tmp")).env_remove("STATE_DIRECTORY");
        command.envs(self.path.iter().map(|path| ("PATH", path)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Everything below its directory but the configuration.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut dirs = vec![self.dir.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(&dir).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(entry.path());
                }
                files.push(entry.path().strip_prefix(self.dir.path()).unwrap().to_owned());
            }
        }
        files.retain(|file| file != Path::new("config.yaml"));
        files.sort();
        files
    }
}

/// Lets it end, by `release`, once all of its JSON has come.
fn wait_with(mut child: Child, release: impl FnOnce()) -> Output {
    let mut stdout = Vec::new();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    while !stdout.ends_with(b"\n}\n") && lines.read_until(b'\n', &mut stdout).unwrap() > 0 {}
    release();
    Output { stdout, ..child.wait_with_output().unwrap() }
}

/// What a check has said.
#[derive(Debug)]
struct Checked {
    ready: bool,
    /// By the check's name: verdict and text; of several lines of one name the worst.
    found: BTreeMap<String, (String, String)>,
}

fn read(output: &Output, secret: &str) -> Checked {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(!out.contains(secret) && !err.contains(secret), "{out}{err}");
    let value: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let ready = value["ready"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!ready)), "{out}{err}");
    let mut found = BTreeMap::new();
    for check in value["checks"].as_array().unwrap() {
        let of = |key: &str| check[key].as_str().unwrap().to_owned();
        let is_well = matches!(check["verdict"].as_str(), Some("ok" | "skipped"));
        let code = check["code"].as_str().and_then(codes::search::named);
        assert_eq!(code.is_none(), is_well, "{check}");
        assert_ne!(code, Some(&codes::CHECK_FOUND), "{check} needs a code of its own in src/check/finding_code.rs");
        let worse = |(before, _): &(String, String)| before != "ok";
        if !found.get(&of("check")).is_some_and(worse) {
            found.insert(of("check"), (of("verdict"), of("text")));
        }
    }
    Checked { ready, found }
}

fn quick(node: &Node, standin: &Standin) -> Checked {
    let output = node.start(&["--quick", "--json"]).wait_with_output().unwrap();
    read(&output, &standin.deployment.api_secret)
}

impl Checked {
    /// The checks with this verdict, but those that depend on the machine.
    fn with(&self, verdict: &str) -> Vec<&str> {
        let those = self.found.iter().filter(|(_, (found, _))| found == verdict).map(|(name, _)| name.as_str());
        those.filter(|name| verdict != "warning" || !OF_THIS_MACHINE.contains(name)).collect()
    }

    fn text(&self, name: &str) -> &str {
        &self.found[name].1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_ready_is_said_to_be_so_and_has_recorded_a_page() {
    let _turn = alone().await;
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let node = Node::new(&standin);
    let before = node.files();
    let output = node.start(&["--json"]).wait_with_output().unwrap();
    let checked = read(&output, &standin.deployment.api_secret);
    assert!(checked.ready, "{checked:#?}");
    assert_eq!((checked.with("fault"), checked.with("skipped")), (vec![], vec![]), "{checked:#?}");
    // A machine that is shared loses frames.
    let warnings: Vec<_> =
        checked.with("warning").into_iter().filter(|name| !matches!(*name, "self-recording" | "memory")).collect();
    assert_eq!(warnings, Vec::<&str>::new(), "{checked:#?}");
    for (name, told) in [
        ("configuration", "can be used"),
        ("ffmpeg", "ffmpeg version"),
        ("Chrome", "Chrom"),
        ("process 1", "waits for orphans"),
        ("recorder", "none runs"),
        ("server", "answers recorders"),
        ("key", "takes key and signature"),
        ("meeting page", "answers with a page"),
        ("NATS", "takes this node's token"),
        ("bucket", "pnm-recorderInfo is there"),
        ("job queue", "0 jobs wait"),
        ("rights", "refuses nothing"),
        ("clock", "agrees with the server and NATS"),
        ("state_dir speed", "fsync"),
        ("temporary_dir speed", "a second"),
        ("self-recording", "picture right, beep − flash"),
    ] {
        assert!(checked.text(name).contains(told), "{name}: {}", checked.text(name));
    }
    // fontconfig knows the fonts in another way.
    for (language, told) in [(":lang=zh:lang=ja:lang=ko", "Chinese"), (":lang=ar", "Arabic")] {
        let fonts = Command::new("fc-list").arg(language).output().unwrap().stdout;
        let lacks =
            checked.text("fonts").starts_with("recordings will show boxes") && checked.text("fonts").contains(told);
        assert_eq!(lacks, fonts.is_empty(), "{told}: {}", checked.text("fonts"));
    }
    // Nothing is left, nothing was told, written, published or refused.
    assert_eq!(node.files(), before);
    assert_eq!(processes_of(node.dir.path()), Vec::<String>::new());
    assert_eq!((standin.notices.count(), standin.notices.probes()), (0, 1));
    assert!(standin.fleet.announcement("node_01").await.unwrap().is_none());
    assert_eq!(standin.violations(), Vec::<String>::new());

    ended::what_a_killed_check_leaves_is_removed_and_what_runs_stays(&node).await;
}

/// What a case is called; its node; the checks that fail, and what each says; the checks that are left out.
type Case = (&'static str, Node, Vec<(&'static str, &'static str)>, &'static [&'static str]);

/// What the checks of all say. The last one's disk hangs until it has said all.
async fn outputs(cases: &[Case], disk: &Arc<FaultyFs>) -> Vec<Output> {
    // Some at a time: nats-server waits two seconds for the callout, and each starts a dozen programs.
    let mut outputs = Vec::new();
    for some in cases.chunks(4) {
        let mut running: Vec<_> = some.iter().map(|(_, node, ..)| node.start(&["--quick", "--json"])).collect();
        // The kernel keeps a program until its disk answers: what it says is complete before.
        let disk = disk.clone();
        let hung = some.last().filter(|(what, ..)| what.contains("hangs")).and_then(|_| running.pop());
        let ended = tokio::task::spawn_blocking(move || {
            let mut ended: Vec<_> = running.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
            ended.extend(hung.map(|child| wait_with(child, || disk.heal())));
            ended
        });
        outputs.extend(tokio::time::timeout(SOON, ended).await.expect("no check hangs").unwrap());
    }
    outputs
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_told_in_its_own_line() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let new = || Node::new(&standin);
    let well = quick(&new(), &standin);
    assert!(well.ready && well.with("warning").is_empty(), "{well:#?}");

    // Takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let (secret, host) = (standin.deployment.api_secret.as_str(), format!("  host: {}", standin.host()));
    let nats = standin.nats_url();
    let plain = standin.dir().join("plain.sh");
    std::fs::write(&plain, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).unwrap();
    let hook = format!("hooks:\n  post_recording:\n    scripts:\n      - script: {}\n", plain.display());
    let script = format!("  max_limit: 1\n  post_processing_scripts: [\"{}\"]\n", plain.display());
    let mut read_only = new();
    read_only.read_only = Some(read_only.dir.path().join("main"));
    let hanging = new();
    let share = hanging.dir.path().join("share");
    let disk = Arc::new(FaultyFs::mount(&hanging.dir.path().join("backing"), &share, Abilities::ALL));
    disk.break_down(Requests::All, Fault::Hang);
    let hanging_main_path = format!("main_path: {}", share.display());
    let main_path = format!("main_path: {}", hanging.dir.path().join("main").display());
    let mut bare = new();
    bare.path = Some(PathBuf::from("/nowhere"));
    let no_nats: &'static [&'static str] = &["bucket", "job queue", "rights"];
    let cases: [Case; 11] = [
        (
            "a wrong secret",
            new().with(secret, "a-wrong-secret"),
            vec![("key", "401"), ("NATS", "NATS refused the token")],
            no_nats,
        ),
        (
            "a wrong token",
            new().with("nats://", "nats://a-wrong-token@"),
            vec![("NATS", "NATS refused the token")],
            no_nats,
        ),
        ("a hook", new().and(&hook), vec![("hooks", "it is not executable")], &[]),
        ("a script", new().with("  max_limit: 1\n", &script), vec![("scripts", "it is not executable")], &[]),
        ("read-only", read_only, vec![("main_path", "mounted read-only")], &[]),
        (
            "no programs",
            bare,
            vec![
                ("Chrome", "is missing"),
                ("PulseAudio", "apt-get install pulseaudio"),
                ("Xvfb", "xvfb"),
                ("ffmpeg", "not on PATH"),
            ],
            &[],
        ),
        (
            "a setting that is none",
            new().with("  max_limit: 1\n", "  max_limit: many\n"),
            vec![("configuration", "max_limit")],
            &[],
        ),
        (
            "no such bucket",
            new().with("info_kv: pnm-", "info_kv: else-"),
            vec![("bucket", "else-recorderInfo"), ("rights", "else-recorderInfo")],
            &[],
        ),
        (
            "a silent server",
            new().with(&host, &format!("  host: http://{silent}")),
            vec![("server", "does not answer within 8 s")],
            &["key"],
        ),
        (
            "a silent NATS",
            new().with(&nats, &format!("nats://{silent}")),
            vec![("NATS", "does not answer in time")],
            no_nats,
        ),
        (
            "a disk that hangs",
            hanging.with(&main_path, &hanging_main_path),
            vec![("main_path", "does not answer within 6 s")],
            &["file systems"],
        ),
    ];
    let outputs = outputs(&cases, &disk).await;
    for ((what, _, faults, skipped), output) in cases.iter().zip(outputs) {
        let checked = read(&output, secret);
        let mut names: Vec<&str> = faults.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert!(!checked.ready && checked.with("fault") == names, "{what}: {checked:#?}");
        assert_eq!(
            (checked.with("skipped"), checked.with("warning")),
            (skipped.to_vec(), vec![]),
            "{what}: {checked:#?}"
        );
        for (name, told) in faults {
            assert!(checked.text(name).contains(told), "{what}: {}", checked.text(name));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_nats_server_of_two_is_enough_and_a_clock_that_is_off_is_not() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let (new, nats) = (|| Node::new(&standin), standin.nats_url());
    let two = new().with(&format!("\"{nats}\""), &format!("\"nats://127.0.0.1:9\", \"{nats}\""));
    let checked = quick(&two, &standin);
    assert!(checked.ready && checked.with("warning") == ["NATS"], "{checked:#?}");

    standin.tell_date("Sun, 06 Nov 1994 08:49:37 GMT");
    let checked = quick(&new(), &standin);
    assert_eq!((checked.with("fault"), checked.with("skipped")), (vec!["clock"], vec![]), "{checked:#?}");
    assert!(checked.text("clock").contains("s ahead of that of the server"), "{checked:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_runs_is_not_disturbed_and_has_checked_its_host_itself() {
    let standin = Standin::start(Deployment { provisioned: false, ..Deployment::default() }).await.unwrap();
    let missing = quick(&Node::new(&standin), &standin);
    assert_eq!(missing.with("fault"), ["bucket", "job queue"], "{missing:#?}");
    assert!(missing.text("bucket").contains("the plugNmeet server makes it at its start"), "{missing:#?}");
    standin.fleet.provision().await.unwrap();

    let setup = Setup { recorder: "  max_limit: 1000\n".into(), ..Setup::default() };
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    recorder.wait_for_log("check of this host: this node is ready").await;
    recorder.wait_for_log("check of this host: ! processors").await;
    let before = standin.fleet.announcement("node_01").await.unwrap();
    let node = Node::new(&standin);
    let state_dir = format!("state_dir: {}", node.dir.path().join("state").display());
    let node = node.with(&state_dir, &format!("state_dir: {}", recorder.state_dir().display()));
    let checked = quick(&node, &standin);
    assert!(checked.ready, "{checked:#?}");
    let told = checked.text("recorder");
    assert!(told.contains(&format!("one runs with this configuration (pid {} on", recorder.pid())), "{told}");
    let after = standin.fleet.announcement("node_01").await.unwrap();
    assert_eq!(before.unwrap().max_limit, after.unwrap().max_limit);
    let log = recorder.stop(&[&standin.deployment.api_secret]);
    assert!(!log.contains(" ERROR "), "{log}");
    assert_eq!(standin.notices.count(), 0);
}
