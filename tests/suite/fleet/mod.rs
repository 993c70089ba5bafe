//! NATS and the fleet, against a real nats-server.

mod connection;
mod costs;
mod full;
mod heartbeat;
mod ids;
mod jobs;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::kv;
use plugnmeet_recorder::fleet::availability::Availability;
use plugnmeet_recorder::fleet::heartbeat::Heartbeat;
use plugnmeet_recorder::fleet::holder::Holder;
use plugnmeet_recorder::fleet::id_claim::{self, IdClaim};
use plugnmeet_recorder::nats::Nats;
use plugnmeet_recorder::protocol::ids::RecorderId;
use plugnmeet_recorder::storage::lock::StateLock;
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

/// Its process is one of its own, on a state directory that nobody else has.
fn beat(nats: &Nats) -> Beating {
    beat_as(nats, id_claim::this_process(&StateLock::take(tempfile::tempdir().unwrap().path()).unwrap()))
}

fn beat_as(nats: &Nats, process: Holder) -> Beating {
    let (progress, load) = (watch::Sender::new(0), watch::Sender::new(0.25));
    let availability = Availability::default();
    let cancel = never();
    let (nats, beating) = (nats.clone(), availability.clone());
    let (of_progress, of_load, cancelled) = (progress.subscribe(), load.subscribe(), cancel.clone());
    let task = tokio::spawn(async move {
        let claim = IdClaim::at_start(&nats, me(), process, &of_progress, &cancelled).await.unwrap();
        let Some(claim) = claim else { return };
        let heartbeat = Heartbeat {
            nats,
            claim,
            max_limit: 7,
            total_cores: 3,
            progress: of_progress,
            load: of_load,
            availability: beating,
        };
        heartbeat.run(cancelled).await;
    });
    Beating { progress, load, availability, cancel, task }
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
