//! NATS and the fleet, against a real nats-server.

mod connection;
mod heartbeat;
mod jobs;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::kv;
use plugnmeet_recorder::fleet::availability::Availability;
use plugnmeet_recorder::fleet::heartbeat::Heartbeat;
use plugnmeet_recorder::nats::Nats;
use plugnmeet_recorder::protocol::ids::RecorderId;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::nats_server::{NatsServer, make_queue, nats_config, server_config};

const LONG: Duration = Duration::from_secs(20);

fn me() -> RecorderId {
    RecorderId::parse("node_01").unwrap()
}

fn url(server: &NatsServer) -> String {
    format!("nats://127.0.0.1:{}", server.port())
}

async fn connect(urls: &[String]) -> Nats {
    let (config, plug) = (nats_config(urls), server_config("http://localhost"));
    timeout(LONG, Nats::connect(&config, &plug, &me(), &never())).await.unwrap().unwrap()
}

fn never() -> CancellationToken {
    CancellationToken::new()
}

/// Looks again and again until `look` sees it.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + LONG;
    while Instant::now() < until {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} did not come about");
}

/// A heartbeat of this node with the senders of what it announces.
struct Beating {
    progress: watch::Sender<usize>,
    load: watch::Sender<f64>,
    availability: Availability,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

fn beat(nats: &Nats) -> Beating {
    let (progress, load) = (watch::Sender::new(0), watch::Sender::new(0.25));
    let availability = Availability::default();
    let heartbeat = Heartbeat {
        nats: nats.clone(),
        recorder: me(),
        max_limit: 7,
        total_cores: 3,
        progress: progress.subscribe(),
        load: load.subscribe(),
        availability: availability.clone(),
    };
    let cancel = never();
    Beating { progress, load, availability, cancel: cancel.clone(), task: tokio::spawn(heartbeat.run(cancel)) }
}

fn key(field: u8) -> String {
    format!("recorder_node_01-FIELD_{field}")
}

async fn value(bucket: &kv::Store, field: u8) -> Option<String> {
    let value = bucket.get(key(field)).await.ok()??;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// A connection to a server that has the work queue.
pub async fn queue() -> (NatsServer, Nats) {
    let server = NatsServer::start("").await;
    make_queue(&server.client("").await, Duration::from_secs(600)).await;
    let nats = connect(&[url(&server)]).await;
    (server, nats)
}
