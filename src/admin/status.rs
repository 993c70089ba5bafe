//! `status`: the fleet as the server sees it, the work queue, and what stands in this node's own way. It connects to NATS
//! as a recorder does, reads only what a recorder may read, and changes nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::admin::error::AdminError;
use crate::admin::http::readiness::Reason;
use crate::admin::rows::NodeRow;
use crate::admin::table::table;
use crate::cli::ListFormat;
use crate::config::Config;
use crate::http;
use crate::nats::{Nats, WorkQueueState};
use crate::protocol::selection::{self, Announcement, PING_TIMEOUT_MS};
use crate::telemetry::redact;

/// Time limit for the connection: nats-server itself waits 5 s for a plugNmeet server that does not answer for it.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Time limit for reading the bucket of a large fleet.
const READ_LIMIT: Duration = Duration::from_secs(20);
/// Time limit for the node's own answer.
const OWN_LIMIT: Duration = Duration::from_secs(2);
/// Bytes of it.
const OWN_BYTES: usize = 64 * 1024;

/// What is shown.
#[derive(Debug, Serialize)]
struct FleetStatus {
    #[serde(flatten)]
    fleet: Fleet,
    this_node: OwnStatus,
}

/// The fleet as the server sees it, and the work queue.
#[derive(Debug, Serialize)]
pub(super) struct Fleet {
    nodes: Vec<NodeRow>,
    /// Where the next START would go.
    next: Option<String>,
    why: String,
    /// `null` where the queue does not answer.
    queue: Option<QueueStatus>,
}

#[derive(Debug, Serialize)]
struct QueueStatus {
    /// Jobs that no node has taken yet.
    pending: u64,
    /// Jobs that nodes have in hand, or that wait for their next delivery.
    in_hand: u64,
    /// Those of them that were delivered more than once.
    redelivered: u64,
}

/// This node, as its own admin.listen says.
#[derive(Debug, Serialize)]
struct OwnStatus {
    id: String,
    /// `null` where it does not answer.
    ready: Option<bool>,
    reasons: Vec<Reason>,
}

/// The text to print. `now`: the time in Unix milliseconds.
///
/// # Errors
/// Where NATS or the bucket cannot be asked.
pub fn show(config: &Config, format: &ListFormat, now: impl Fn() -> u64) -> Result<String, AdminError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| AdminError::Start(error.to_string()))?;
    let _secrets: Vec<_> = config.secrets().into_iter().map(redact::register).collect();
    let status = runtime.block_on(ask(config, now));
    // What may still hang, as the name service does, is left.
    runtime.shutdown_timeout(Duration::from_millis(100));
    let status = status?;
    if format.json {
        return Ok(format!("{:#}\n", serde_json::to_value(&status).unwrap_or(Value::Null)));
    }
    let text = format!(
        "{}\n{}\n{}\n{}",
        table(&status.fleet.nodes),
        status.fleet.why,
        queue_line(status.fleet.queue.as_ref()),
        own_line(&status.this_node)
    );
    Ok(redact::scrub(&text).into_owned())
}

fn queue_line(queue: Option<&QueueStatus>) -> String {
    match queue {
        Some(QueueStatus { pending, in_hand, redelivered }) => format!(
            "transcoding jobs: {pending} wait, {in_hand} in hand or to be delivered again, {redelivered} of them delivered more than once"
        ),
        None => "transcoding jobs: the queue does not answer; the plugNmeet server makes it at its start".to_owned(),
    }
}

fn own_line(OwnStatus { id, ready, reasons }: &OwnStatus) -> String {
    let reasons: Vec<String> = reasons.iter().map(|one| format!("\n  {}: {}", one.reason, one.detail)).collect();
    match ready {
        Some(true) => format!("this node, {id}: would take work\n"),
        Some(false) => format!("this node, {id}: takes nothing on:{}\n", reasons.concat()),
        None => format!("this node, {id}: does not answer at admin.listen; it does not run, or does not serve that\n"),
    }
}

async fn ask(config: &Config, now: impl Fn() -> u64) -> Result<FleetStatus, AdminError> {
    let (nats, this_node) =
        tokio::join!(Nats::connect_once(&config.nats, &config.server, &config.recorder.id, CONNECT_LIMIT), own(config));
    let nats = nats.map_err(|error| AdminError::Nats(error.to_string()))?;
    Ok(FleetStatus { fleet: fleet(&nats, now).await?, this_node })
}

/// # Errors
/// Where the bucket cannot be read.
pub(super) async fn fleet(nats: &Nats, now: impl Fn() -> u64) -> Result<Fleet, AdminError> {
    let reads = async { tokio::join!(nats.bucket_content(), nats.queue()) };
    let (content, queue) = tokio::time::timeout(READ_LIMIT, reads)
        .await
        .map_err(|_| AdminError::Nats(format!("the bucket could not be read within {} s", READ_LIMIT.as_secs())))?;
    let content = content.map_err(|error| AdminError::Nats(error.to_string()))?;
    let now = now();
    let (announcements, hosts) = sorted(&content);
    let next = selection::next(&announcements, now).map(str::to_owned);
    let row = |(id, one): (&String, _)| NodeRow::new(id, one, next.as_ref() == Some(id), hosts.get(id).cloned(), now);
    let nodes: Vec<NodeRow> = announcements.iter().map(row).collect();
    let why = why(&nodes, next.as_deref());
    let queue = queue.map(|WorkQueueState { pending, ack_pending, redelivered, .. }| QueueStatus {
        pending,
        in_hand: ack_pending,
        redelivered,
    });
    Ok(Fleet { nodes, next, why, queue })
}

/// What each id has announced, and the host that its holder key names.
fn sorted(content: &BTreeMap<String, String>) -> (BTreeMap<String, Announcement>, BTreeMap<String, String>) {
    let (mut announcements, mut hosts) = (BTreeMap::<String, Announcement>::new(), BTreeMap::new());
    for (key, value) in content {
        let Some((id, field)) = key.strip_prefix("recorder_").and_then(|key| key.rsplit_once("-FIELD_")) else {
            continue;
        };
        announcements.entry(id.to_owned()).or_default().set(field, value);
        // Another process wrote it, so that it may be anything.
        if field == "100"
            && let Ok(holder) = serde_json::from_str::<Value>(value)
            && let Some(host) = holder["host"].as_str()
        {
            hosts.insert(id.to_owned(), host.chars().filter(|c| !c.is_control()).take(253).collect());
        }
    }
    (announcements, hosts)
}

fn why(nodes: &[NodeRow], next: Option<&str>) -> String {
    let count = |state: &str| nodes.iter().filter(|node| node.state == state).count();
    let Some(next) = nodes.iter().find(|node| Some(node.id.as_str()) == next) else {
        return format!(
            "the next START goes nowhere: of {} nodes {} take nothing on, {} have not pinged for {} s, {} are incomplete",
            nodes.len(),
            count("takes nothing"),
            count("silent"),
            PING_TIMEOUT_MS / 1000,
            count("incomplete")
        );
    };
    let full = next.running >= next.max_limit;
    format!(
        "the next START would go to {}: its score {:.4} is the lowest of the {} that the server considers{}",
        next.id,
        next.score.unwrap_or_default(),
        count("considered") + 1,
        if full { " (it is full, and would refuse: the server does not look at that)" } else { "" }
    )
}

/// What the node of this configuration says of itself.
async fn own(config: &Config) -> OwnStatus {
    let silent = OwnStatus { id: config.recorder.id.to_string(), ready: None, reasons: Vec::new() };
    let Some(listen) = config.admin.listen else { return silent };
    match tokio::time::timeout(OWN_LIMIT, ask_own(listen)).await.ok().flatten() {
        Some(reasons) => OwnStatus { ready: Some(reasons.is_empty()), reasons, ..silent },
        None => silent,
    }
}

async fn ask_own(listen: SocketAddr) -> Option<Vec<Reason>> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let url = reqwest::Url::parse(&format!("http://{}/readyz", SocketAddr::new(ip, listen.port()))).ok()?;
    // It is this host, whatever its address.
    let client = http::build(reqwest::Client::builder().no_proxy(), &url, None).ok()?;
    let mut answer = client.get(url).send().await.ok()?;
    let (body, _) = http::body(&mut answer, OWN_BYTES).await.ok()?;
    serde_json::from_slice(&body).ok()
}
