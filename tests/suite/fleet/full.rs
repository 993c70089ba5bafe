//! A full node is out of the server's choice.

use std::time::{Duration, Instant};

use async_nats::jetstream::kv;
use futures::StreamExt as _;
use plugnmeet_recorder::fleet::slots::Slots;
use plugnmeet_recorder::protocol::ids::RecordingId;
use plugnmeet_recorder::protocol::request::Kind;
use tokio::time::timeout;

use super::{LONG, beat, connect, eventually, key, url, value};
use crate::nats_server::{NatsServer, make_bucket};

/// The ping is written every 2 s: what is written well before that was written for the change.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The next ping that is (or is not) 0, and how long after `since` it came.
async fn next_ping(changes: &mut kv::Watch, zero: bool, since: Instant) -> Duration {
    let ping = async {
        loop {
            let entry = changes.next().await.unwrap().unwrap();
            if entry.key == key(1) && (&entry.value[..] == b"0") == zero {
                return since.elapsed();
            }
        }
    };
    timeout(LONG, ping).await.unwrap()
}

#[tokio::test]
async fn a_node_leaves_the_choice_with_its_last_slot_and_returns_with_the_first_free_one() {
    let server = NatsServer::start("").await;
    let bucket = make_bucket(&server.client("").await).await;
    let nats = connect(&[url(&server)]).await;
    let beating = beat(&nats);
    eventually("registration", async || value(&bucket, 1).await).await;
    let mut changes = bucket.watch_all().await.unwrap();

    let slots = Slots::of_node(2, None, beating.availability.clone());
    let admit = |room| slots.admit(room, Kind::Recording, RecordingId::parse(&format!("r{room}")).unwrap()).unwrap();
    let first = admit(1);
    for round in 2..5 {
        let filled = Instant::now();
        let last = admit(round);
        let left = next_ping(&mut changes, true, filled).await;
        let freed = Instant::now();
        drop(last);
        let returned = next_ping(&mut changes, false, freed).await;
        println!("left the choice after {left:?}, returned after {returned:?}");
        assert!(left < AT_ONCE && returned < AT_ONCE, "{left:?}, {returned:?}");
    }
    drop(first);
    beating.cancel.cancel();
    beating.task.await.unwrap();
}
