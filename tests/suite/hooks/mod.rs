//! Hooks: pipelines of scripts, whatever the scripts do.

mod http;
mod long_lived;
mod one_shot;
mod pipelines;
mod shutdown;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plugnmeet_recorder::config::{HookStage, HookStep, HookUrl, HooksConfig, StageConfig};
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::request::RecordingInfo;
use plugnmeet_recorder::scripts::hooks::payload::HookPayload;
use plugnmeet_recorder::scripts::hooks::{HookError, HookTimeouts, Hooks};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Long enough for any script here on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);
/// For scripts that never answer, and the good answers that follow.
const SHORT: Duration = Duration::from_secs(6);
const PATIENCE: HookTimeouts = HookTimeouts {
    grace: Duration::from_millis(300),
    first_wait: Duration::from_millis(10),
    longest_wait: Duration::from_millis(200),
    quiet_period: Duration::ZERO,
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

/// What a hostile long-lived script comes to.
enum Comes {
    /// To nothing: the input goes on.
    ToNothing,
    To(&'static str),
    Failed(&'static str),
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
