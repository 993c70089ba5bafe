//! What programs that watch a node ask it, and how they may hold it up.

mod answers;
mod clients;
mod drains;
mod fleet_status;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::nats_server::free_port;
use crate::recorder::{Recorder, Setup};
use crate::standin::{Deployment, Standin};

const TOKEN: &str = "the-admin-token-of-this-test";
const LIMIT: Duration = Duration::from_secs(20);

async fn standin() -> Standin {
    Standin::start(Deployment::default()).await.unwrap()
}

/// The section `admin` with a free port, and these lines.
pub fn admin(port: u16, lines: &str) -> String {
    format!("admin:\n  listen: 127.0.0.1:{port}\n{lines}")
}

/// A node with a port of its own and the token.
fn setup() -> (u16, Setup) {
    let port = free_port();
    (port, Setup { sections: admin(port, &format!("  token: {TOKEN}\n")), ..Setup::default() })
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: String,
    pub body: String,
}

impl Answer {
    fn reasons(&self) -> Vec<String> {
        self.of_reasons("reason")
    }

    /// What `explain` explains, of each reason.
    fn codes(&self) -> Vec<String> {
        self.of_reasons("code")
    }

    fn of_reasons(&self, field: &str) -> Vec<String> {
        let list: Vec<Value> = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"));
        list.iter().map(|one| one[field].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()).collect()
    }
}

/// Sends these bytes and reads to the end of the connection; `None`: nobody listens.
async fn send(port: u16, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    // The answer may come, and the connection end, before all of it was sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("no answer");
    let answer = String::from_utf8(answer).unwrap();
    let (headers, body) = answer.split_once("\r\n\r\n")?;
    let status = headers.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, headers: headers.to_lowercase(), body: body.to_owned() })
}

async fn ask(port: u16, method: &str, path: &str, headers: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    send(port, request.as_bytes()).await.expect("no answer")
}

pub async fn get(port: u16, path: &str) -> Answer {
    ask(port, "GET", path, "").await
}

/// Asks until the status is this.
async fn wait_for(port: u16, path: &str, status: u16, recorder: &Recorder) -> Answer {
    let end = std::time::Instant::now() + LIMIT;
    loop {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = send(port, request.as_bytes()).await;
        if let Some(answer) = answer.filter(|answer| answer.status == status) {
            return answer;
        }
        assert!(std::time::Instant::now() < end, "{path} is never {status}:\n{}", recorder.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The metrics, by name and labels, as the parser of Prometheus' own Python client reads `OpenMetrics`; it refuses what
/// the standard does.
fn parse(text: &str) -> BTreeMap<String, f64> {
    const READ: &str = "import json, sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
                        print(json.dumps([[s.name, s.labels, s.value] for f in read(sys.stdin.read()) for s in f.samples]))";
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", READ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tools/install-deps installs python3-prometheus-client");
    python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "no OpenMetrics:\n{text}");
    let samples: Vec<(String, BTreeMap<String, String>, f64)> = serde_json::from_slice(&output.stdout).unwrap();
    let key = |name: String, labels: BTreeMap<String, String>| {
        let labels: Vec<String> = labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}{{{}}}", name.strip_prefix("plugnmeet_recorder_").unwrap_or(&name), labels.join(","))
    };
    samples.into_iter().map(|(name, labels, value)| (key(name, labels), value)).collect()
}

pub async fn metrics(port: u16) -> BTreeMap<String, f64> {
    let answer = get(port, "/metrics").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.headers.contains("application/openmetrics-text; version=1.0.0"), "{answer:?}");
    parse(&answer.body)
}

/// A recording runs, and its numbers grow.
pub async fn while_recording(port: u16) {
    let answer = get(port, "/protect").await;
    assert!(answer.status == 200 && answer.body.starts_with("1 recordings or broadcasts run\n"), "{answer:?}");
    assert_eq!(get(port, "/healthz").await.status, 200);
    let now = metrics(port).await;
    for (name, value) in [("slots_used{}", 1.0), ("slots_free{}", 9.0), ("busy{}", 1.0)] {
        assert_eq!(now.get(name), Some(&value), "{name}: {now:#?}");
    }
    assert_eq!(now.get("start_latency_seconds_count{}"), Some(&1.0), "{now:#?}");
    assert!(now["frames_total{}"] > 5.0 && now["capture_cpu_seconds_total{}"] > 0.1, "{now:#?}");
}

/// The one recording has ended, and its MP4 is told.
pub async fn after_recording(port: u16, recorder: &Recorder) {
    wait_for(port, "/protect", 404, recorder).await;
    let now = metrics(port).await;
    for (name, value) in [
        ("recordings_total{outcome=success}", 1.0),
        ("jobs_total{outcome=success}", 1.0),
        ("mp4_ready_delay_seconds_count{}", 1.0),
        ("slots_used{}", 0.0),
        ("busy{}", 0.0),
    ] {
        assert_eq!(now.get(name), Some(&value), "{name}: {now:#?}");
    }
    assert!(now["start_latency_seconds_sum{}"] < 60.0 && now["mp4_ready_delay_seconds_sum{}"] < 60.0, "{now:#?}");
}
