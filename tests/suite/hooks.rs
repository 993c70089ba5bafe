//! Hooks: pipelines of scripts, whatever the scripts do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use plugnmeet_recorder::config::{HookStage, HookStep, HookUrl, HooksConfig, StageConfig};
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::request::RecordingInfo;
use plugnmeet_recorder::scripts::hooks::payload::HookPayload;
use plugnmeet_recorder::scripts::hooks::{self, HookError, HookFailure, HookTimeouts, Hooks, StepReport};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::logs::Logs;

/// Long enough for any script here on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);
/// For scripts that never answer, and the good answers that follow.
const SHORT: Duration = Duration::from_secs(6);
const PATIENCE: HookTimeouts = HookTimeouts {
    grace: Duration::from_millis(300),
    first_wait: Duration::from_millis(10),
    longest_wait: Duration::from_millis(200),
    settle: Duration::ZERO,
};

pub fn payload(id: &str) -> HookPayload {
    let info = RecordingInfo {
        room_table_id: 852,
        room_id: RoomId::parse("room01").unwrap(),
        room_sid: RoomSid::parse("RM_1").unwrap(),
        recording_id: RecordingId::parse(id).unwrap(),
    };
    let node = RecorderId::parse("node_01").unwrap();
    HookPayload::single(&info, &node, Path::new("/srv/a b"), "x_raw.mkv", Some(12_344_999))
}

/// With a mebibyte of paths: no pipe holds it.
fn huge(id: &str) -> HookPayload {
    HookPayload { input_paths: vec!["p".repeat(1000).into(); 1000], ..payload(id) }
}

/// An executable file; `text` follows `#!/bin/bash`.
pub fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

pub fn step(path: &Path, one_shot: bool) -> HookStep {
    HookStep::Script { command: vec![path.display().to_string()], one_shot }
}

pub fn config(steps: Vec<HookStep>, pool_size: usize, timeout: Duration) -> HooksConfig {
    HooksConfig { post_recording: StageConfig { pool_size, timeout, steps }, ..HooksConfig::default() }
}

pub fn start(steps: Vec<HookStep>, pool_size: usize, timeout: Duration) -> Hooks {
    Hooks::start_with(&config(steps, pool_size, timeout), &HookStage::ALL, PATIENCE)
}

pub async fn run(hooks: &Hooks, payload: HookPayload) -> Result<HookPayload, HookError> {
    hooks.run(HookStage::PostRecording, payload, &CancellationToken::new()).await
}

/// Where a pipeline has put the file of a recording.
pub async fn output(hooks: &Hooks, id: &str) -> String {
    let after = run(hooks, payload(id)).await.unwrap_or_else(|error| panic!("{id}: {error}"));
    after.output_path.map_or_else(|| "none".to_owned(), |path| path.display().to_string())
}

/// A script of one step, run for one event.
pub async fn once(steps: Vec<HookStep>, payload: HookPayload, limit: Duration) -> Result<HookPayload, HookError> {
    let hooks = start(steps, 1, limit);
    let ended = run(&hooks, payload).await;
    hooks.shutdown().await;
    ended
}

fn failure(ended: Result<HookPayload, HookError>) -> HookFailure {
    match ended {
        Err(HookError::Failed { failure, .. }) => failure,
        other => panic!("{other:?}"),
    }
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The processes whose numbers are in this file are there no more (a zombie of somebody else's is not).
async fn assert_gone(pids: &Path) {
    let pids = read(pids);
    assert!(!pids.is_empty());
    for pid in pids.split_whitespace() {
        let stat = format!("/proc/{pid}/stat");
        let gone = async {
            while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z") && !stat.contains(") X")) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, gone).await.unwrap_or_else(|_| panic!("{pid} is still there"));
    }
}

/// Reads requests, and answers each with `/out/ID` in its own words: no id in the answer gives it away.
/// `RM_bad` is treated as `hostile` says.
pub fn loop_with(hostile: &str) -> String {
    format!(
        r#"good() {{ echo "{{\"output_path\": \"/out/$id\"}}"; }}
while IFS= read -r line; do
    id=${{line#*\"recording_id\":\"}} id=${{id%%\"*}}
    if [ "$id" = RM_bad ]; then {hostile}; else good; fi
done"#
    )
}

/// Puts out several lines with one write, which bash's own `printf` does line by line.
fn in_one_go(lines: &str) -> String {
    format!("printf '{lines}' >\"$0.out\"; cat \"$0.out\"")
}

#[tokio::test]
async fn a_pipeline_hands_an_object_from_step_to_step() {
    let dir = tempfile::tempdir().unwrap();
    let (second, third) = (dir.path().join("second"), dir.path().join("third"));
    let keep = |file: &Path| format!("cat >'{}'\n", file.display());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = Server::start(&seen).await;
    let steps = vec![
        step(
            &script(dir.path(), "a.sh", &loop_with("echo '{\"output_path\": \"/x\", \"etag\": {\"deep\": [1, 2]}}'")),
            false,
        ),
        step(
            &script(
                dir.path(),
                "b c.sh",
                &format!("{}echo uploading; printf '{{\\n\"file_name\":\\n\"y.mkv\"}}'", keep(&second)),
            ),
            true,
        ),
        step(
            &script(
                dir.path(),
                "c.sh",
                &format!("{}echo '{{\"file_name\": \"z.mkv\",'; echo '\"room_id\": \"other\"}}'", keep(&third)),
            ),
            true,
        ),
        step(&script(dir.path(), "silent.sh", "cat >/dev/null"), true),
        HookStep::HttpRequest { url: server.url("/cleanup") },
    ];
    let hooks = start(steps, 1, LIMIT);
    assert!(!hooks.is_empty(HookStage::PostRecording) && hooks.is_empty(HookStage::PreTranscoding));
    let mut looked = Vec::new();
    let after = hooks
        .run_seen(HookStage::PostRecording, payload("RM_bad"), &CancellationToken::new(), &mut |seen| {
            looked.push(match seen {
                StepReport::Begins { number, input, .. } => format!("{number} > {}", input.len()),
                StepReport::Answered { number, answer, .. } => {
                    format!("{number} < {}", answer.map_or(0, serde_json::Map::len))
                }
                StepReport::Failed { number, .. } => format!("{number} failed"),
            });
        })
        .await
        .unwrap();
    let expected = HookPayload {
        output_path: Some("/x".into()),
        file_name: Some("z.mkv".into()),
        should_cleanup: true,
        ..payload("RM_bad")
    };
    assert_eq!(after, expected);
    // The second one's output is no object and none of its lines is one; so its input goes on.
    let given: Value = serde_json::from_str(&read(&second)).unwrap();
    let expected = json!({
        "task": "single", "recording_id": "RM_bad", "room_table_id": 852, "room_id": "room01", "room_sid": "RM_1",
        "recorder_id": "node_01", "file_name": "x_raw.mkv", "file_size": 12.34, "input_path": "/srv/a b",
        "output_path": "/x", "etag": {"deep": [1, 2]}
    });
    assert_eq!(given, expected);
    assert_eq!(read(&second).matches('\n').count(), 1, "one line");
    assert_eq!(read(&second), read(&third));
    let requests = seen.lock().unwrap().clone();
    assert_eq!(requests.len(), 1);
    assert_eq!((&requests[0].0, &requests[0].1), (&"POST application/json".to_owned(), &json!("room01")));
    assert_eq!(looked, ["1 > 9", "1 < 2", "2 > 11", "2 < 0", "3 > 11", "3 < 2", "4 > 11", "4 < 0", "5 > 11", "5 < 1"]);
    hooks.shutdown().await;
    // A stage without steps changes nothing, also after the end.
    let same = hooks.run(HookStage::PreTranscoding, payload("RM_1"), &CancellationToken::new()).await.unwrap();
    assert_eq!(same, payload("RM_1"));
    assert!(matches!(run(&hooks, payload("RM_1")).await, Err(HookError::Stopped { .. })));
}

#[tokio::test]
async fn an_error_or_a_field_of_a_wrong_type_fails_the_stage_and_nothing_more_is_run() {
    let dir = tempfile::tempdir().unwrap();
    let never = dir.path().join("never");
    let last = step(&script(dir.path(), "last.sh", &format!(": >'{}'", never.display())), true);
    for (answer, said) in [
        (r#"{"error": "the bucket is full", "output_path": 5}"#, r#"it answered with the error "the bucket is full""#),
        (r#"{"output_path": 5}"#, "the field `output_path` of its answer is a number, where a text is expected"),
        (r#"{"file_name": "../../x"}"#, "the field `file_name` of its answer is no plain file name"),
    ] {
        for one_shot in [true, false] {
            let text = if one_shot { format!("echo '{answer}'") } else { loop_with(&format!("echo '{answer}'")) };
            let steps = vec![step(&script(dir.path(), "first.sh", &text), one_shot), last.clone()];
            let error = once(steps, payload("RM_bad"), LIMIT).await.unwrap_err().to_string();
            assert!(error.starts_with("hooks.post_recording: step 1 (") && error.contains("first.sh): "), "{error}");
            assert!(error.contains(said), "{error}");
        }
    }
    assert!(!never.exists());
}

#[tokio::test]
async fn the_processes_of_a_pool_work_at_once_and_each_request_gets_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let meeting = dir.path().join("meeting");
    fs::create_dir(&meeting).unwrap();
    // Nobody leaves before three are there.
    let text =
        format!(": >'{0}/'$id; while set -- '{0}'/*; [ $# -lt 3 ]; do sleep 0.02; done; good", meeting.display());
    let text = loop_with("exit 9").replace("else good", &format!("else {text}"));
    let hooks = start(vec![step(&script(dir.path(), "meet.sh", &text), false)], 3, LIMIT);
    let asked: Vec<_> = (0..8)
        .map(|n| {
            let hooks = hooks.clone();
            tokio::spawn(async move { (format!("/out/RM_{n}"), output(&hooks, &format!("RM_{n}")).await) })
        })
        .collect();
    for asked in asked {
        let (expected, got) = asked.await.unwrap();
        assert_eq!(got, expected);
    }
    hooks.shutdown().await;
}

/// What a hostile long-lived script comes to.
enum Comes {
    /// To nothing: the input goes on.
    ToNothing,
    To(&'static str),
    Failed(&'static str),
}

#[tokio::test]
async fn whatever_a_long_lived_script_does_the_next_request_gets_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::capture();
    let at_once = |text: &str| format!("if mkdir \"$0.d\" 2>/dev/null; then {text}; fi\n{}", loop_with("good"));
    let cases = [
        ("garbage.sh", loop_with("head -c 300 /dev/urandom | tr -d '\\n'; echo"), Comes::ToNothing, "no JSON object"),
        (
            "long_line.sh",
            loop_with("head -c 10000000 /dev/zero | tr '\\0' x; echo"),
            Comes::ToNothing,
            "more than 1048576",
        ),
        ("no_object.sh", loop_with("echo '[1]'"), Comes::ToNothing, "JSON, but no object"),
        ("empty_line.sh", loop_with("echo"), Comes::ToNothing, "put out nothing"),
        (
            "closed.sh",
            loop_with("exec >&-"),
            Comes::Failed("ended before it answered, twice"),
            "a fresh process is asked",
        ),
        ("exit.sh", loop_with("echo bye >&2; exit 0"), Comes::Failed("twice (exit code 0); it said: bye"), "said: bye"),
        ("crash.sh", loop_with("kill -SEGV $$"), Comes::Failed("twice (signal 11)"), "signal 11"),
        (
            "dies_once.sh",
            loop_with("if mkdir \"$0.d\" 2>/dev/null; then exit 3; else good; fi"),
            Comes::To("/out/RM_bad"),
            "exit code 3",
        ),
        (
            "deaf.sh",
            loop_with("trap '' TERM; while :; do sleep 1000; done"),
            Comes::Failed("did not answer within 6s"),
            "killing it",
        ),
        (
            "late.sh",
            loop_with("trap 'echo \"{\\\"output_path\\\": \\\"/late\\\"}\"; exit' TERM; sleep 1000 & wait"),
            Comes::Failed("did not answer within 6s"),
            "",
        ),
        // At once: what comes later only a process that is heard out can be told from an answer, see below.
        (
            "twice.sh",
            loop_with(&in_one_go("{\"output_path\": \"/1\"}\\n{\"output_path\": \"/2\"}\\n")),
            Comes::To("/1"),
            "replaced",
        ),
        (
            "more.sh",
            loop_with(&in_one_go("{\"output_path\": \"/1\"}\\n{\"output_path\": ")),
            Comes::To("/1"),
            "replaced",
        ),
        (
            "another.sh",
            loop_with("echo '{\"recording_id\": \"RM_x\", \"output_path\": \"/another\"}'; good"),
            Comes::To("/out/RM_bad"),
            "names another recording: \"\\\"RM_x\\\"\"",
        ),
        ("answers_and_ends.sh", loop_with("good; exit"), Comes::To("/out/RM_bad"), ""),
        ("no_line_feed.sh", loop_with("printf '{\"output_path\": \"/last\"}'; exit"), Comes::To("/last"), ""),
        // Its child, in another session, holds the pipe.
        ("child.sh", loop_with("setsid sleep 3 & exit 4"), Comes::Failed("twice (exit code 4)"), "exit code 4"),
        ("sleeps.sh", at_once("sleep 1000"), Comes::Failed("did not answer within 6s"), ""),
        // So does the one that is asked in its place.
        (
            "no_stdin.sh",
            format!("if mkdir $0.d || mkdir $0.e; then exec <&-; sleep 1000; fi 2>/dev/null\n{}", loop_with("good")),
            Comes::Failed("ended before it answered, twice"),
            "a fresh process is asked",
        ),
    ];
    let run_case = async |(name, text, comes, logged): &(&str, String, Comes, &str)| {
        // No pipe could take a request for those that do not read theirs. (bash would take a minute over it.)
        let asked = if ["sleeps.sh", "no_stdin.sh"].contains(name) { huge("RM_bad") } else { payload("RM_bad") };
        let limit = if matches!(comes, Comes::Failed(said) if said.contains("6s")) { SHORT } else { LIMIT };
        let hooks = start(vec![step(&script(dir.path(), name, text), false)], 1, limit);
        let ended = run(&hooks, asked.clone()).await;
        match (comes, &ended) {
            (Comes::ToNothing, Ok(after)) => assert_eq!(*after, asked, "{name}"),
            (Comes::To(place), Ok(after)) => {
                assert_eq!(after.output_path.as_deref(), Some(Path::new(place)), "{name}");
            }
            (Comes::Failed(said), Err(error)) => {
                let error = error.to_string();
                assert!(error.contains(said) && error.contains(name), "{name}: {error}");
            }
            _ => panic!("{name}: {ended:?}"),
        }
        for next in ["RM_1", "RM_2", "RM_3"] {
            assert_eq!(output(&hooks, next).await, format!("/out/{next}"), "{name}");
        }
        hooks.shutdown().await;
        if !logged.is_empty() {
            let lines = logs.lines(logged);
            assert!(lines.iter().any(|line| line.contains(name)), "{name}: {logged}: {lines:?}");
        }
    };
    futures::future::join_all(cases.iter().map(run_case)).await;
}

#[tokio::test]
async fn a_script_is_heard_out_before_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::capture();
    let patience = HookTimeouts { settle: Duration::from_secs(2), ..PATIENCE };
    let second = "good; sleep 0.2; echo '{\"output_path\": \"/second\"}'";
    let cases = [
        (format!("echo ready\n{}", loop_with("good")), "before it was asked: \"ready\""),
        (loop_with(second), "/second"),
    ];
    for (text, logged) in cases {
        let steps = vec![step(&script(dir.path(), "talks.sh", &text), false)];
        let hooks = Hooks::start_with(&config(steps, 1, LIMIT), &[HookStage::PostRecording], patience);
        for id in ["RM_bad", "RM_1"] {
            assert_eq!(output(&hooks, id).await, format!("/out/{id}"));
        }
        hooks.shutdown().await;
        assert!(!logs.lines(logged).is_empty(), "{logged}: {:?}", logs.lines("talks.sh"));
    }
}

#[tokio::test]
async fn a_script_that_never_stops_talking_still_answers() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("yes noise >&2 &\n{}", loop_with("good"));
    let hooks = start(vec![step(&script(dir.path(), "loud.sh", &text), false)], 1, LIMIT);
    for id in ["RM_1", "RM_2"] {
        assert_eq!(output(&hooks, id).await, format!("/out/{id}"));
    }
    hooks.shutdown().await;
}

#[tokio::test]
async fn a_script_that_ends_at_once_is_not_started_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let starts = dir.path().join("starts");
    let path = script(dir.path(), "brief.sh", &format!("echo $$ >>'{}'; exit 0", starts.display()));
    let logs = Logs::capture();
    let hour = Duration::from_secs(3600);
    let slow = HookTimeouts { first_wait: hour, longest_wait: hour, ..PATIENCE };
    let hooks = Hooks::start_with(&config(vec![step(&path, false)], 1, LIMIT), &[HookStage::PostRecording], slow);
    let told = async {
        while logs.lines("has ended by itself").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, told).await.unwrap();
    // The wait does not hold up the end.
    hooks.shutdown().await;
    assert_eq!((logs.lines("has ended by itself").len(), read(&starts).lines().count()), (1, 1));
    // Where there is a request, it is told why it has no answer.
    let died = failure(once(vec![step(&path, false)], payload("RM_1"), LIMIT).await);
    assert!(matches!(died, HookFailure::Died { .. }) && died.to_string().contains("exit code 0"), "{died}");
}

#[tokio::test]
async fn whatever_a_one_shot_script_does_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let child = format!("sleep 1000 & echo $! >>'{}'; echo '{{\"output_path\": \"/x\"}}'", pids.display());
    let cases = [
        ("garbage.sh", "head -c 3000000 /dev/urandom".to_owned(), Comes::ToNothing),
        ("long_line.sh", "head -c 10000000 /dev/zero | tr '\\0' x".to_owned(), Comes::ToNothing),
        (
            "long.sh",
            "yes uploading | head -c 3000000; echo; echo '{\"output_path\": \"/x\"}'; echo done".to_owned(),
            Comes::To("/x"),
        ),
        ("closed.sh", "exec <&- >&- 2>&-; sleep 0.1".to_owned(), Comes::ToNothing),
        (
            "another.sh",
            "echo '{\"recording_id\": \"RM_x\", \"output_path\": \"/another\"}'".to_owned(),
            Comes::ToNothing,
        ),
        (
            "fails.sh",
            "echo '{\"output_path\": \"/x\"}'; echo one >&2; echo two >&2; exit 7".to_owned(),
            Comes::Failed("it failed (exit code 7); it said: one; two"),
        ),
        ("crash.sh", "kill -SEGV $$".to_owned(), Comes::Failed("it failed (signal 11)")),
        (
            "deaf.sh",
            format!("trap '' TERM; echo $$ >>'{}'; while :; do sleep 1000; done", pids.display()),
            Comes::Failed("did not answer within 6s"),
        ),
        ("child.sh", child.clone(), Comes::To("/x")),
        ("session.sh", "setsid sleep 3 & echo '{\"output_path\": \"/x\"}'".to_owned(), Comes::To("/x")),
    ];
    let run_case = async |(name, text, comes): &(&str, String, Comes)| {
        // None of them reads what it is given.
        let ended = once(vec![step(&script(dir.path(), name, text), true)], huge("RM_bad"), SHORT).await;
        match (comes, &ended) {
            (Comes::ToNothing, Ok(after)) => assert_eq!(*after, huge("RM_bad"), "{name}"),
            (Comes::To(place), Ok(after)) => {
                assert_eq!(after.output_path.as_deref(), Some(Path::new(place)), "{name}");
            }
            (Comes::Failed(said), Err(error)) => assert!(error.to_string().contains(said), "{name}: {error}"),
            _ => panic!("{name}: {ended:?}"),
        }
    };
    futures::future::join_all(cases.iter().map(run_case)).await;
    assert_gone(&pids).await;
}

#[tokio::test]
async fn a_cancelled_wait_ends_at_once_and_the_shutdown_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    for one_shot in [false, true] {
        let (pids, asked) = (dir.path().join(format!("pids{one_shot}")), dir.path().join(format!("asked{one_shot}")));
        let hang = format!("sleep 1000 & echo $! >>'{}'; : >'{}'; wait", pids.display(), asked.display());
        let head = format!("echo $$ >>'{}'\n", pids.display());
        let text = if one_shot { format!("read -r line\n{hang}") } else { loop_with(&hang) };
        let steps = vec![step(&script(dir.path(), &format!("hang{one_shot}.sh"), &(head + &text)), one_shot)];
        let hooks = start(steps, 2, LIMIT);
        let cancel = CancellationToken::new();
        let stop = async {
            while !asked.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            cancel.cancel();
        };
        let (ended, ()) = tokio::join!(hooks.run(HookStage::PostRecording, payload("RM_bad"), &cancel), stop);
        assert!(matches!(ended, Err(HookError::Stopped { .. })), "{ended:?}");
        if !one_shot {
            // Its process is in nobody's way.
            for id in ["RM_1", "RM_2", "RM_3"] {
                assert_eq!(output(&hooks, id).await, format!("/out/{id}"));
            }
        }
        // A run that is under way ends with the shutdown.
        let waiting = hooks.clone();
        let waiting = tokio::spawn(async move { run(&waiting, payload("RM_bad")).await });
        fs::remove_file(&asked).unwrap();
        while !asked.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        hooks.shutdown().await;
        assert!(matches!(waiting.await.unwrap(), Err(HookError::Stopped { .. })));
        assert_gone(&pids).await;
    }
}

#[tokio::test]
async fn a_script_that_cannot_be_started_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain.sh");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let steps = vec![step(&plain, false), step(&dir.path().join("gone.sh"), true)];
    for one in &steps {
        let error = once(vec![one.clone()], payload("RM_1"), LIMIT).await.unwrap_err().to_string();
        assert!(error.contains("cannot start") && error.contains(dir.path().to_str().unwrap()), "{error}");
    }
    let problems: Vec<_> =
        hooks::check(&config(steps, 1, LIMIT), &HookStage::ALL).iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("hooks.post_recording: script ") && problems[0].contains("chmod"), "{problems:?}");
    assert!(problems[1].ends_with("gone.sh: there is no such file"), "{problems:?}");
}

type Requests = Arc<Mutex<Vec<(String, Value, Option<String>)>>>;

/// A web server that answers as its path says.
struct Server {
    address: std::net::SocketAddr,
    task: tokio::task::AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Keeps of each request its method and type, its room, and its authorization.
    async fn start(seen: &Requests) -> Self {
        use axum::http::{HeaderMap, Method, StatusCode, Uri};
        let kept = Arc::clone(seen);
        let take = async move |method: Method, uri: Uri, headers: HeaderMap, body: axum::body::Bytes| {
            let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let kind = format!("{method} {}", header("content-type").unwrap());
            kept.lock().unwrap().push((kind, asked["room_id"].clone(), header("authorization")));
            let text = match uri.path() {
                "/cleanup" => "{\n  \"should_cleanup\": true\n}\n".to_owned(),
                "/nothing" => String::new(),
                "/page" => "<html>hello</html>".to_owned(),
                "/huge" => "x".repeat(3_000_000),
                "/slow" => return std::future::pending().await,
                "/moved" => return (StatusCode::FOUND, [("location", "/cleanup")], String::new()),
                _ => return (StatusCode::INTERNAL_SERVER_ERROR, [("x", "")], "the disk\nis full".to_owned()),
            };
            (StatusCode::OK, [("x", "")], text)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = axum::Router::new().fallback(take).layer(axum::extract::DefaultBodyLimit::disable());
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }).abort_handle();
        Self { address, task }
    }

    fn url(&self, path: &str) -> HookUrl {
        HookUrl::parse(&format!("http://joe:correct-horse@{}{path}?key=battery-staple", self.address)).unwrap()
    }
}

#[tokio::test]
async fn an_http_request_posts_the_json_and_its_answer_is_the_output() {
    let logs = Logs::capture();
    let seen = Requests::default();
    let server = Server::start(&seen).await;
    let ask = async |path: &str| {
        let step = HookStep::HttpRequest { url: server.url(path) };
        once(vec![step], huge("RM_1"), Duration::from_secs(2)).await
    };
    assert!(ask("/cleanup").await.unwrap().should_cleanup);
    for path in ["/nothing", "/page", "/huge"] {
        assert_eq!(ask(path).await.unwrap(), huge("RM_1"), "{path}");
    }
    for (path, said) in [
        ("/moved", "it answered 302 Found; redirects are not followed"),
        ("/broken", "it answered 500 Internal Server Error: \"the disk\\nis full\""),
        ("/slow", "no answer within 2s (hook_timeout)"),
    ] {
        let error = ask(path).await.unwrap_err().to_string();
        assert!(error.contains(said) && error.contains(path), "{error}");
        assert!(!error.contains("correct-horse") && !error.contains("battery-staple"), "{error}");
    }
    assert_eq!(seen.lock().unwrap().len(), 7, "none of these is sent twice");
    assert_eq!(seen.lock().unwrap()[0].2.as_deref(), Some("Basic am9lOmNvcnJlY3QtaG9yc2U="));
    // A port that nobody listens on any more.
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = HookUrl::parse(&format!("http://joe:correct-horse@{address}/x?key=battery-staple")).unwrap();
    let error =
        once(vec![HookStep::HttpRequest { url: nobody }], payload("RM_1"), LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("Connection refused") && !error.contains("correct-horse"), "{error}");
    assert_eq!(logs.lines("sent once more").len(), 1);
    for secret in ["correct-horse", "battery-staple"] {
        assert!(logs.lines(secret).is_empty(), "{:?}", logs.lines(secret));
    }
}

#[tokio::test]
async fn hooks_that_are_forgotten_end_their_processes() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let text = format!("echo $$ >>'{}'\n{}", pids.display(), loop_with("good"));
    let hooks = start(vec![step(&script(dir.path(), "x.sh", &text), false)], 2, LIMIT);
    assert_eq!(output(&hooks, "RM_1").await, "/out/RM_1");
    drop(hooks);
    assert_gone(&pids).boxed().await;
}
