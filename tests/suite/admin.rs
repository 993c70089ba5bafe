//! What an operator asks on the command line, of a node that runs and of one that does not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use plugnmeet_recorder::capture::rig;
use plugnmeet_recorder::delivery::message::{Message, MessageKey};
use plugnmeet_recorder::delivery::outbox::{JobState as LetterState, Outbox};
use plugnmeet_recorder::protocol::access::RoomAccess;
use plugnmeet_recorder::protocol::ids::{AccessToken, RecorderId, RecordingId, RoomId, RoomSid, RtmpUrl};
use plugnmeet_recorder::protocol::job::{Job, RawFileName, Work};
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::request::{Output, RecordingInfo, Start};
use plugnmeet_recorder::recording::journal::{Journal, RecordingStage, StopRequest};
use plugnmeet_recorder::storage::lock::StateLock;
use plugnmeet_recorder::transcode::journal::{JobJournal, JobRecord, JobState};
use plugnmeet_recorder::unix_time::unix_ms;
use serde_json::Value;

use crate::measure;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::{Deployment, Standin};

/// No JSON web token: no shape gives it away.
const TOKEN: &str = "the-access-token-of-this-test";
const STREAM_KEY: &str = "the-stream-key-of-this-test";
const API_SECRET: &str = "the-api-secret-of-this-test";

/// What a command has said, and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn ask(args: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_plugnmeet-recorder"))
        .args(args)
        .stdin(Stdio::null())
        .current_dir("/")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let said = Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    for secret in [TOKEN, STREAM_KEY, API_SECRET] {
        assert!(!said.out.contains(secret) && !said.err.contains(secret), "{secret}: {said:?}");
    }
    said
}

/// The directories of a node and its configuration.
struct Node {
    dir: tempfile::TempDir,
    config: String,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        let text = format!(
            "recorder:\n  id: node_01\n  temporary_dir: {0}/parts\n  state_dir: {0}/state\n  copy_to_path:\n    main_path: {0}/main\n\
             log_settings:\n  log_file: {0}/logs/recorder.log\nplugNmeet_info:\n  host: http://127.0.0.1:9\n  api_key: key\n  \
             api_secret: {API_SECRET}\nnats_info:\n  nats_urls:\n    - nats://127.0.0.1:9\n",
            dir.path().display()
        );
        std::fs::write(&path, text).unwrap();
        Self { config: path.display().to_string(), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// What a command says, given behind `-config PATH`.
    fn ask(&self, line: &str) -> Said {
        let mut args = vec!["-config", &self.config];
        args.extend(line.split(' '));
        ask(&args)
    }

    /// What a command says that must succeed.
    fn told(&self, line: &str) -> String {
        let said = self.ask(line);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{line}: {said:?}");
        said.out
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.told(line)).unwrap()
    }

    /// Every file of the node with its content.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut files, mut dirs) = (BTreeMap::new(), vec![self.dir.path().to_owned()]);
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    files.insert(path.clone(), std::fs::read(path).unwrap());
                }
            }
        }
        files
    }
}

fn info(id: &str) -> RecordingInfo {
    RecordingInfo {
        room_table_id: 7,
        room_id: RoomId::parse("room01").unwrap(),
        room_sid: RoomSid::parse("RM_x").unwrap(),
        recording_id: RecordingId::parse(id).unwrap(),
    }
}

fn start(id: &str, output: Output) -> Start {
    Start { info: info(id), access: RoomAccess::Token(AccessToken::parse(TOKEN).unwrap()), output }
}

fn job(id: &str, dir: &Path, file_name: &str) -> Job {
    let file_name = RawFileName::parse(file_name).unwrap();
    Job {
        info: info(id),
        recorder_id: RecorderId::parse("node_02").unwrap(),
        work: Work::PostRecording { dir: dir.to_owned(), file_name, variant: 1 },
    }
}

/// Has this node remember the job of `id`, whose raw file lies in `dir`.
async fn put_job(state_dir: &Path, id: &str, dir: &Path, state: JobState) {
    let job = job(id, dir, &format!("{id}_raw.mkv"));
    let record = JobRecord::new(&job, &job.encode(), Some("$JS.ACK.x".into()), 3);
    let cause = (state != JobState::Working).then(|| format!("no {id}_raw.mkv under main_path"));
    JobJournal::new(state_dir).begin(record.left(state, cause)).await;
}

/// A node with some of everything.
async fn busy_node() -> Node {
    let node = Node::new();
    let journal = Journal::new(&node.state());
    std::fs::create_dir_all(node.path("parts")).unwrap();
    std::fs::create_dir_all(node.path("main")).unwrap();

    let running = journal.begin(&start("rec-1", Output::File)).await;
    running.add_part(|n| format!("rec-1_raw.part{n}.mkv")).await;
    running.part_began().await;
    // As a child may quote the address of its page.
    let broke = format!("the page is gone: https://meet.example/?x={TOKEN}\nand a second line");
    running.part_ended(Some(broke), rig::CaptureReport::default()).await;
    running.add_part(|n| format!("rec-1_raw.part{n}.mkv")).await;
    running.part_began().await;
    std::fs::write(node.path("parts/rec-1_raw.part1.mkv"), vec![0; 3 << 20]).unwrap();
    std::fs::write(node.path("parts/rec-1_raw.part2.mkv"), [0; 512]).unwrap();
    let failed = journal.begin(&start("rec-2", Output::File)).await;
    failed
        .update(|record| {
            record.stop = Some(StopRequest { reason: Some("the disk is full".into()) });
            record.stage = RecordingStage::Failed;
        })
        .await;
    let url = RtmpUrl::parse(&format!("rtmp://live.example/app/{STREAM_KEY}")).unwrap();
    journal.begin(&start("live-1", Output::Rtmp(url))).await;
    std::fs::write(node.state().join("recordings/torn.json"), "{\"version\": 1,").unwrap();
    std::fs::write(node.state().join("recordings/old.json.unreadable"), "{").unwrap();
    std::fs::write(node.state().join("recordings/.rec-1.jsonAbCdEf"), "{").unwrap();

    put_job(&node.state(), "job-1", &node.path("main"), JobState::Working).await;
    put_job(&node.state(), "job-2", &node.path("main"), JobState::GivenUp { at: unix_ms() - 3_600_000 }).await;
    put_job(&node.state(), "job-3", &node.path("main"), JobState::HandedBack { until: unix_ms() + 3_600_000 }).await;
    std::fs::write(node.state().join("jobs/torn.json"), "").unwrap();

    let outbox = Outbox::open(&node.state()).unwrap();
    let id = RecordingId::parse("rec-0").unwrap();
    let letter = |key, about: &str| Message::new(key, about.to_owned(), b"body".to_vec());
    let letters = vec![
        letter(MessageKey::Started, "started"),
        letter(MessageKey::Ended, "ended"),
        letter(MessageKey::Job, "job"),
    ];
    outbox.add(&id, letters).await;
    outbox.settle(&id, MessageKey::Started, LetterState::Delivered { at: unix_ms() }).await;
    outbox.note_failure(&id, MessageKey::Ended, "HTTP 503".into(), Duration::from_secs(30)).await;
    outbox.settle(&id, MessageKey::Job, LetterState::Refused { at: unix_ms(), why: "no stream".into() }).await;
    node
}

/// The line of a table that begins with this id.
fn line<'a>(table: &'a str, id: &str) -> &'a str {
    let mut lines = table.lines().filter(|line| line.split("  ").next() == Some(id));
    let found = lines.next().unwrap_or_else(|| panic!("no {id} in\n{table}"));
    assert!(lines.next().is_none(), "{id} twice in\n{table}");
    found
}

/// A row of a list in JSON.
fn row<'a>(list: &'a Value, name: &str, id: &str) -> &'a Value {
    let mut rows = list[name].as_array().unwrap().iter().filter(|row| row["id"] == id);
    let found = rows.next().unwrap_or_else(|| panic!("no {id} in\n{list:#}"));
    assert!(rows.next().is_none(), "{id} twice in\n{list:#}");
    found
}

fn contains_all(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn recordings_are_listed_with_their_parts_and_whether_the_recorder_runs() {
    let node = busy_node().await;
    let before = node.files();
    let table = node.told("recordings list");
    let header: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["ID", "KIND", "ROOM", "STATE", "AGE", "SIZE", "PARTS"]);
    assert_eq!(table.lines().count(), 7, "{table}");
    contains_all(line(&table, "rec-1"), &["recording  room01  interrupted: ", "3 MiB", "2: cut off with the recorder"]);
    contains_all(
        line(&table, "rec-1"),
        &["1: the page is gone: https://meet.example/?x=[redacted]\\nand a second line;"],
    );
    let kept = format!("failed: its parts are kept at {}", node.path("parts").display());
    contains_all(line(&table, "rec-2"), &[&kept]);
    contains_all(line(&table, "live-1"), &["broadcast", "interrupted"]);
    contains_all(line(&table, "torn"), &["unreadable: EOF while parsing"]);
    contains_all(line(&table, "old"), &["unreadable: ", "put aside as", "old.json.unreadable"]);
    // Columns are aligned: the ages stand below each other.
    let at = table.lines().next().unwrap().find("AGE").unwrap();
    for id in ["rec-1", "rec-2", "live-1"] {
        let age = &line(&table, id)[at..];
        assert!(age.starts_with(|c: char| c.is_ascii_digit()), "{age:?} in\n{table}");
    }
    let daemon = table.lines().last().unwrap();
    assert_eq!(daemon, format!("the recorder node_01 does not run; its state is in {}", node.state().display()));

    let list = node.json("recordings list --json");
    assert_eq!((&list["recorder"], &list["daemon"]), (&"node_01".into(), &Value::Null));
    assert_eq!(list["recordings"].as_array().unwrap().len(), 5);
    let seen = row(&list, "recordings", "rec-1");
    assert_eq!((&seen["state"], &seen["room"]), (&"interrupted".into(), &"room01".into()));
    assert_eq!((&seen["bytes"], &seen["parts"][1]["bytes"]), (&((3 << 20) + 512).into(), &512.into()));
    assert!(seen["taken_at"].as_u64().is_some_and(|at| unix_ms().abs_diff(at) < 600_000), "{seen}");
    assert_eq!(row(&list, "recordings", "rec-2")["state"], "failed");
    assert_eq!(row(&list, "recordings", "torn")["state"], "unreadable");
    assert_eq!(node.files(), before, "a list changes nothing");

    // The same with somebody who holds the lock, as a daemon does.
    let lock = StateLock::take(&node.state()).unwrap();
    let table = node.told("recordings list");
    contains_all(line(&table, "rec-1"), &["capturing part 2", "2: capturing"]);
    let holder = format!("the recorder node_01 runs (pid {} on ", std::process::id());
    assert!(table.lines().last().unwrap().starts_with(&holder), "{table}");
    drop(lock);
    StateLock::take(&node.state()).unwrap();
}

#[tokio::test]
async fn jobs_and_the_outbox_are_listed_as_tables_and_as_json() {
    let node = busy_node().await;
    let before = node.files();
    let table = node.told("jobs list");
    assert_eq!(table.lines().count(), 5, "{table}");
    contains_all(line(&table, "job-1"), &["room01  interrupted: "]);
    contains_all(line(&table, "job-2"), &["given up 1h ago", "no job-2_raw.mkv under main_path"]);
    contains_all(line(&table, "job-3"), &["handed back, due in 59m "]);
    contains_all(line(&table, "torn"), &["unreadable: "]);
    let list = node.json("jobs list --json");
    let given_up = row(&list, "jobs", "job-2");
    assert_eq!((&given_up["state"], &given_up["deliveries"]), (&"given_up".into(), &3.into()));
    assert_eq!(row(&list, "jobs", "torn")["last_error"], Value::Null);

    let table = node.told("outbox list");
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(!table.contains("delivered"), "{table}");
    contains_all(
        &table,
        &["rec-0  ended   waiting ", " at the next start  HTTP 503\n", "rec-0  job     refused: no stream  job"],
    );
    assert_eq!(node.told("outbox list --all").lines().count(), 4);
    let list = node.json("outbox list -json -all");
    let letters: Vec<_> =
        list["outbox"].as_array().unwrap().iter().map(|row| (&row["letter"], &row["state"])).collect();
    let (started, ended, job) = ("started".into(), "ended".into(), "job".into());
    let (delivered, waiting, refused) = ("delivered".into(), "waiting".into(), "refused".into());
    assert_eq!(letters, [(&started, &delivered), (&ended, &waiting), (&job, &refused)]);
    assert!(list["outbox"][1]["next_try"].as_u64().is_some_and(|at| at > unix_ms()), "{list}");
    assert_eq!(node.files(), before, "a list changes nothing");
}

#[tokio::test]
async fn what_is_not_there_or_not_right_ends_with_its_code_and_one_line() {
    let node = Node::new();
    let one_line = |said: &Said, code, wanted: &str| {
        assert_eq!((said.code, said.out.as_str()), (Some(code), ""), "{said:?}");
        assert!(said.err.lines().count() == 1 && said.err.contains(wanted), "{said:?}");
    };
    for line in ["recordings list", "jobs list --json", "outbox list", "jobs retry x", "jobs drop x"] {
        one_line(&node.ask(line), 1, "recorder.state_dir");
    }
    std::fs::create_dir(node.state()).unwrap();
    assert_eq!(node.told("jobs list"), "nothing\n");
    assert_eq!(node.told("outbox list"), "nothing\n");
    assert!(node.told("recordings list").starts_with("nothing\nthe recorder node_01 does not run"));
    assert_eq!(node.json("jobs list --json")["jobs"], Value::Array(Vec::new()));
    one_line(&node.ask("jobs retry x"), 1, "this node holds no job x");
    one_line(&node.ask("jobs drop x"), 1, "`jobs list`");
    std::fs::write(node.state().join("jobs"), "no directory").unwrap();
    one_line(&node.ask("jobs list"), 1, "state/jobs: Not a directory");

    one_line(&ask(&["jobs", "list", "-config", "/no/such.yaml"]), 2, "/no/such.yaml");
    for line in ["jobs", "jobs retry", "jobs retry ../etc", "recordings drop x", "outbox list -loud"] {
        let said = node.ask(line);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{line}: {said:?}");
    }
    // No log, and nothing else but what this test has made.
    let made: Vec<_> = node.files().into_keys().collect();
    assert_eq!(made, [node.path("config.yaml"), node.state().join("jobs")]);
}

#[tokio::test]
async fn the_flags_of_the_reference_work_before_and_behind_a_command() {
    let node = Node::new();
    std::fs::create_dir(node.state()).unwrap();
    let config = format!("-config={}", node.config);
    for args in [
        &["-config", &node.config, "-mode", "both", "jobs", "list"][..],
        &["jobs", "-mode=transcoderOnly", "list", &config],
        &["jobs", "list", "-mode", "recorderOnly", "--config", &node.config],
    ] {
        let said = ask(args);
        assert_eq!((said.code, said.out.as_str()), (Some(0), "nothing\n"), "{args:?}: {said:?}");
    }
    for args in [&["-version"][..], &["-version", "jobs", "list"], &["jobs", "list", "-version"]] {
        let said = ask(args);
        assert_eq!(
            (said.code, said.out.as_str()),
            (Some(0), concat!("plugnmeet-recorder ", env!("CARGO_PKG_VERSION"), "\n"))
        );
    }
    contains_all(&ask(&["-help"]).out, &["-config PATH", "jobs retry ID", "outbox list --all"]);
}

#[tokio::test]
async fn jobs_are_tried_again_or_forgotten_where_nobody_works_on_them() {
    let node = busy_node().await;
    let (state, raw) = (node.state(), node.path("main/job-2_raw.mkv"));
    std::fs::write(&raw, [0; 2048]).unwrap();
    let record = |id: &str| JobRecord::read(&JobJournal::new(&state).path(id));
    let before = node.files();
    for (line, why) in [
        ("jobs retry job-1", "the next start of the recorder goes on with it"),
        ("jobs drop job-1", "the next start goes on with it"),
        ("jobs retry job-3", "gives it out again in 59m"),
        ("jobs drop job-3", "the queue gives it out again"),
        ("jobs retry torn", "cannot be read: EOF while parsing"),
        ("jobs drop torn", "cannot be read: EOF while parsing"),
        ("-mode recorderOnly jobs retry job-2", "its mode is recorderOnly"),
    ] {
        let said = node.ask(line);
        assert_eq!((said.code, said.err.lines().count()), (Some(1), 1), "{line}: {said:?}");
        assert!(said.err.contains(why) && said.out.is_empty(), "{line}: {said:?}");
    }
    // A record that is not about the job whose name it has would be tried again and again.
    std::fs::copy(state.join("jobs/job-2.json"), state.join("jobs/other.json")).unwrap();
    contains_all(&node.ask("jobs retry other").err, &["that of another job, job-2"]);
    std::fs::remove_file(state.join("jobs/other.json")).unwrap();
    assert_eq!(node.files(), before, "what is refused changes nothing");

    let said = node.told("jobs retry job-2");
    assert_eq!(said, "job job-2 will be tried again: when the recorder node_01 is started\n");
    let wish = record("job-2").unwrap();
    assert_eq!((wish.state, wish.last_error.as_deref()), (JobState::Retry, Some("no job-2_raw.mkv under main_path")));
    assert_eq!(Job::decode(&wish.payload().unwrap()).unwrap(), job("job-2", &node.path("main"), "job-2_raw.mkv"));
    assert_eq!(JobJournal::new(&state).wanted(), Some(wish));
    contains_all(line(&node.told("jobs list"), "job-2"), &["to be tried again"]);
    contains_all(&node.ask("jobs retry job-2").err, &["it is to be tried again already"]);

    let said = node.told("jobs drop job-2");
    assert_eq!(said, format!("job job-2 is forgotten; its raw file is kept: {} (2 KiB)\n", raw.display()));
    assert!(raw.exists() && record("job-2").is_err());
    assert_eq!(node.ask("jobs drop job-2").code, Some(1));

    put_job(&state, "job-4", &node.path("main"), JobState::GivenUp { at: unix_ms() }).await;
    contains_all(&node.told("jobs drop job-4"), &["which is not there", "main/job-4_raw.mkv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_given_up_is_tried_again_by_the_recorder_that_runs() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let setup = Setup { mode: Some("transcoderOnly"), ..Setup::default() };
    let recorder = Recorder::spawn(&standin, "transcoder", &setup);
    recorder.wait_for_log("starting").await;
    recorder.wait_until("it holds its state", || recorder.state_dir().join("lock").exists()).await;
    let dir = recorder.main_path.join("node_02/room01");
    std::fs::create_dir_all(&dir).unwrap();
    let raw = dir.join("job-1_raw.mkv");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=4"])
        .args(["-f", "lavfi", "-i", "sine=d=4", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "pcm_s16le"])
        .arg(&raw)
        .status()
        .unwrap();
    assert!(made.success());
    put_job(&recorder.state_dir(), "job-1", &dir, JobState::GivenUp { at: unix_ms() - 60_000 }).await;

    let config = recorder.temporary_dir.with_file_name("config.yaml").display().to_string();
    let told = |line: &str| {
        let mut args: Vec<&str> = line.split(' ').collect();
        args.extend(["-config", &config]);
        let said = ask(&args);
        assert_eq!(said.code, Some(0), "{said:?}\n{}", recorder.log());
        said.out
    };
    contains_all(line(&told("jobs list"), "job-1"), &["given up 1m "]);
    contains_all(&told("recordings list"), &[&format!("the recorder transcoder runs (pid {} on ", recorder.pid())]);
    contains_all(&told("jobs retry job-1"), &["will be tried again: the recorder (pid "]);

    let finished = RecordingTasks::RecordingTranscodingFinished;
    let notice = standin.notices.wait_for(finished, "job-1", SOON).await;
    let notice = notice.unwrap_or_else(|error| panic!("{error:#}\n{}", recorder.log())).message;
    assert!(notice.status, "{}", notice.msg);
    let mp4 = measure::probe(&dir.join("job-1.mp4")).unwrap();
    assert!((mp4.duration - 4.0).abs() < 0.3, "{mp4:?}");
    let record = recorder.state_dir().join("jobs/job-1.json");
    recorder.wait_until("the job is over", || !record.exists()).await;
    assert!(!raw.exists(), "{}", recorder.log());
    assert_eq!(told("jobs list"), "nothing\n");
    recorder.wait_until("all is told", || told("outbox list") == "nothing\n").await;
    let delivered = told("outbox list --all");
    contains_all(&delivered, &["job-1  proceeded  delivered", "job-1  finished   delivered"]);
    recorder.stop(&[&standin.deployment.api_secret]);
}
