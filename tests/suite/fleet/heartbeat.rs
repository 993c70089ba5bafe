//! What a node announces of itself, through outages too.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, kv};
use futures::StreamExt as _;
use tokio::time::timeout;

use plugnmeet_recorder::fleet::availability::Obstacle;

use super::{LONG, beat, connect, eventually, key, never, unix_ms, url, value};
use crate::logs::Logs;
use crate::nats_server::{BUCKET, JOBS, NatsServer, make_bucket, make_queue};

#[tokio::test]
async fn a_node_announces_itself_and_takes_it_back() {
    let server = NatsServer::start("").await;
    let bucket = make_bucket(&server.client("").await).await;
    let mut changes = bucket.watch_all().await.unwrap();
    let mut change = async || timeout(LONG, changes.next()).await.unwrap().unwrap().unwrap();
    let nats = connect(&[url(&server)]).await;
    let beating = beat(&nats);

    // The id is taken before anything is announced.
    assert_eq!(change().await.key, key(100));
    let mut registration = Vec::new();
    for _ in 0..5 {
        let entry = change().await;
        registration.push((entry.key, String::from_utf8(entry.value.to_vec()).unwrap()));
    }
    let (ping_key, ping) = registration.pop().unwrap();
    assert_eq!(ping_key, key(1), "the ping comes last");
    assert!(unix_ms().abs_diff(ping.parse().unwrap()) < 3000, "{ping}");
    let told = |field, value: &str| registration.contains(&(key(field), value.to_owned()));
    assert!(told(0, "7") && told(2, "3") && told(3, "0") && told(4, "0.2500"), "{registration:?}");

    // Progress is told at once, not with the next ping.
    beating.progress.send(2).unwrap();
    let asked = Instant::now();
    let entry = change().await;
    assert_eq!((entry.key.as_str(), &entry.value[..]), (key(3).as_str(), &b"2"[..]));
    assert!(asked.elapsed() < Duration::from_millis(500));

    // The next ping, and the load beside it.
    beating.load.send(0.5).unwrap();
    let entry = change().await;
    assert_eq!(entry.key, key(1));
    let next_ping: u128 = String::from_utf8(entry.value.to_vec()).unwrap().parse().unwrap();
    assert!(next_ping - ping.parse::<u128>().unwrap() <= 3000);
    let entry = change().await;
    assert_eq!((entry.key.as_str(), &entry.value[..]), (key(4).as_str(), &b"0.5000"[..]));
    // Unchanged, so the ping alone.
    assert_eq!(change().await.key, key(1));
    assert_eq!(change().await.key, key(1));

    beating.cancel.cancel();
    beating.task.await.unwrap();
    let mut purged = Vec::new();
    while purged.len() < 6 {
        let entry = change().await;
        if entry.operation == kv::Operation::Purge {
            purged.push(entry.key);
        }
    }
    assert_eq!((&purged[0], &purged[5]), (&key(1), &key(100)), "the ping first, the holder last");
    purged.sort();
    assert_eq!(purged, [0, 1, 100, 2, 3, 4].map(key));
}

#[tokio::test]
async fn a_node_that_takes_nothing_on_is_out_of_the_choice_at_once_and_comes_back() {
    let server = NatsServer::start("").await;
    let bucket = make_bucket(&server.client("").await).await;
    let nats = connect(&[url(&server)]).await;
    let beating = beat(&nats);
    let ping = async || value(&bucket, 1).await.filter(|ping| ping != "0");
    eventually("the first ping", ping).await;
    beating.availability.block(Obstacle::Draining, "");
    eventually("no ping", async || value(&bucket, 1).await.filter(|ping| ping == "0")).await;
    // It is still known, and what runs on it is told.
    beating.progress.send(1).unwrap();
    eventually("the progress", async || value(&bucket, 3).await.filter(|progress| progress == "1")).await;
    beating.availability.clear(Obstacle::Draining);
    eventually("a ping", ping).await;
    beating.cancel.cancel();
    beating.task.await.unwrap();
}

#[tokio::test]
async fn bucket_and_queue_are_waited_for() {
    let logs = Logs::capture();
    let server = NatsServer::start("").await;
    let admin = server.client("").await;
    let nats = connect(&[url(&server)]).await;
    let beating = beat(&nats);
    eventually("the line about the bucket", async || {
        logs.lines("the bucket pnm-recorderInfo is not there yet: the plugNmeet server makes it").pop()
    })
    .await;
    let bucket = make_bucket(&admin).await;
    eventually("registration", async || value(&bucket, 1).await).await;

    let cancel = never();
    let waiting = tokio::spawn({
        let (nats, cancel) = (nats.clone(), cancel.clone());
        async move { nats.jobs(&cancel).await }
    });
    eventually("the line about the queue", async || logs.lines("transcoderWorker").pop()).await;
    make_queue(&admin, LONG).await;
    assert!(timeout(LONG, waiting).await.unwrap().unwrap().is_some());
    // Said once, not at every try.
    assert_eq!(logs.lines("is not there yet").len(), 2, "{}", logs.text());
    beating.cancel.cancel();
    beating.task.await.unwrap();

    jetstream::new(admin).delete_stream(JOBS).await.unwrap();
    let cancelled = never();
    cancelled.cancel();
    assert!(nats.jobs(&cancelled).await.is_none());
}

#[tokio::test]
async fn a_node_registers_anew_after_a_restart_of_nats_and_in_a_new_bucket() {
    let logs = Logs::capture();
    let mut server = NatsServer::start("").await;
    let bucket = make_bucket(&server.client("").await).await;
    let nats = connect(&[url(&server)]).await;
    let beating = beat(&nats);
    eventually("registration", async || value(&bucket, 1).await).await;

    server.kill();
    eventually("the outage", async || (!nats.is_connected()).then_some(())).await;
    beating.progress.send(1).unwrap();
    eventually("the line", async || logs.lines("cannot be announced").pop()).await;
    server.resume("").await;
    let bucket = jetstream::new(server.client("").await).get_key_value(BUCKET).await.unwrap();
    eventually("progress of the outage", async || value(&bucket, 3).await.filter(|it| it == "1")).await;
    assert_eq!(logs.lines("cannot be announced").len(), 1, "once per outage");
    assert_eq!(logs.lines("announced to the fleet again").len(), 1);

    let admin = server.client("").await;
    jetstream::new(admin.clone()).delete_key_value(BUCKET).await.unwrap();
    let bucket = make_bucket(&admin).await;
    for field in [0, 1, 2, 3, 4, 100] {
        eventually("registration in the new bucket", async || value(&bucket, field).await).await;
    }
    beating.cancel.cancel();
    beating.task.await.unwrap();
}

#[tokio::test]
async fn a_lost_goodbye_does_not_hold_up_the_end() {
    let mut server = NatsServer::start("").await;
    let bucket = make_bucket(&server.client("").await).await;
    let nats = connect(&[url(&server)]).await;
    let beating = beat(&nats);
    eventually("registration", async || value(&bucket, 1).await).await;
    server.kill();
    beating.cancel.cancel();
    timeout(Duration::from_secs(8), beating.task).await.unwrap().unwrap();
}
