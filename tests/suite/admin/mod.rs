//! What an operator asks on the command line, of a node that runs and of one that does not.

mod arguments;
mod jobs;
mod lists;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use plugnmeet_recorder::capture::rig;
use plugnmeet_recorder::delivery::message::{Message, MessageKey, MessageState};
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::protocol::access::RoomAccess;
use plugnmeet_recorder::protocol::ids::{AccessToken, RecorderId, RecordingId, RoomId, RoomSid, RtmpUrl};
use plugnmeet_recorder::protocol::job::{Job, RawFileName, Work};
use plugnmeet_recorder::protocol::request::{Output, RecordingInfo, Start};
use plugnmeet_recorder::recording::journal::{RecordingJournal, RecordingStage, StopRequest};
use plugnmeet_recorder::transcode::journal::{JobJournal, JobRecord, JobState};
use plugnmeet_recorder::unix_time::unix_ms;
use serde_json::Value;

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
pub async fn put_job(state_dir: &Path, id: &str, dir: &Path, state: JobState) {
    let job = job(id, dir, &format!("{id}_raw.mkv"));
    let record = JobRecord::new(&job, &job.encode(), Some("$JS.ACK.x".into()), 3);
    let cause = (state != JobState::Working).then(|| format!("no {id}_raw.mkv under main_path"));
    JobJournal::new(state_dir).begin(record.with_state(state, cause)).await;
}

/// A node with some of everything.
async fn busy_node() -> Node {
    let node = Node::new();
    let journal = RecordingJournal::new(&node.state());
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
    let message = |key, about: &str| Message::new(key, about.to_owned(), b"body".to_vec());
    let messages = vec![
        message(MessageKey::Started, "started"),
        message(MessageKey::Ended, "ended"),
        message(MessageKey::Job, "job"),
    ];
    outbox.add(&id, messages).await;
    outbox.set_state(&id, MessageKey::Started, MessageState::Delivered { at: unix_ms() }).await;
    outbox.note_failure(&id, MessageKey::Ended, "HTTP 503".into(), Duration::from_secs(30)).await;
    outbox.set_state(&id, MessageKey::Job, MessageState::Refused { at: unix_ms(), why: "no stream".into() }).await;
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
