//! NATS and the fleet, against a real nats-server.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::{self, kv};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::StreamExt as _;
use plugnmeet_recorder::delivery::dispatcher::{Delivery, Dispatcher};
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::delivery::queues::DeliveryOutcome;
use plugnmeet_recorder::fleet::heartbeat::Heartbeat;
use plugnmeet_recorder::nats::{ConnectError, Nats};
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::job::{Job, RawFileName, Work};
use plugnmeet_recorder::protocol::request::RecordingInfo;
use plugnmeet_recorder::protocol::signature::hmac_sha256;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::logs::Logs;
use crate::nats_server::{
    API_SECRET, BUCKET, CHANNEL, CONSUMER, JOBS, NatsServer, make_bucket, make_queue, nats_config, server_config,
};

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
    takes_on: watch::Sender<bool>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

fn beat(nats: &Nats) -> Beating {
    let (progress, load, takes_on) = (watch::Sender::new(0), watch::Sender::new(0.25), watch::Sender::new(true));
    let heartbeat = Heartbeat {
        nats: nats.clone(),
        recorder: me(),
        max_limit: 7,
        total_cores: 3,
        progress: progress.subscribe(),
        load: load.subscribe(),
        takes_on: takes_on.subscribe(),
    };
    let cancel = never();
    Beating { progress, load, takes_on, cancel: cancel.clone(), task: tokio::spawn(heartbeat.run(cancel)) }
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

fn job(recording: &str) -> Job {
    Job {
        info: RecordingInfo {
            room_table_id: 1,
            room_id: RoomId::parse("room01").unwrap(),
            room_sid: RoomSid::default(),
            recording_id: RecordingId::parse(recording).unwrap(),
        },
        recorder_id: me(),
        work: Work::PostRecording {
            dir: "/srv/room01".into(),
            file_name: RawFileName::parse("a_raw.mkv").unwrap(),
            variant: 0,
        },
    }
}

#[tokio::test]
async fn a_node_announces_itself_and_takes_it_back() {
    let server = NatsServer::start("").await;
    let bucket = make_bucket(&server.client("").await).await;
    let mut changes = bucket.watch_all().await.unwrap();
    let mut change = async || timeout(LONG, changes.next()).await.unwrap().unwrap().unwrap();
    let nats = connect(&[url(&server)]).await;
    let beating = beat(&nats);

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
    while purged.len() < 5 {
        let entry = change().await;
        if entry.operation == kv::Operation::Purge {
            purged.push(entry.key);
        }
    }
    purged.sort();
    assert_eq!(purged, (0..5).map(key).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_node_that_takes_nothing_on_is_out_of_the_choice_at_once_and_comes_back() {
    let server = NatsServer::start("").await;
    let bucket = make_bucket(&server.client("").await).await;
    let nats = connect(&[url(&server)]).await;
    let beating = beat(&nats);
    let ping = async || value(&bucket, 1).await.filter(|ping| ping != "0");
    eventually("the first ping", ping).await;
    beating.takes_on.send(false).unwrap();
    eventually("no ping", async || value(&bucket, 1).await.filter(|ping| ping == "0")).await;
    // It is still known, and what runs on it is told.
    beating.progress.send(1).unwrap();
    eventually("the progress", async || value(&bucket, 3).await.filter(|progress| progress == "1")).await;
    beating.takes_on.send(true).unwrap();
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
    for field in 0..5 {
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

/// A connection to a server that has the work queue.
pub async fn queue() -> (NatsServer, Nats) {
    let server = NatsServer::start("").await;
    make_queue(&server.client("").await, Duration::from_secs(600)).await;
    let nats = connect(&[url(&server)]).await;
    (server, nats)
}

#[tokio::test]
async fn jobs_come_one_at_a_time_and_stay_until_they_are_settled() {
    let server = NatsServer::start("").await;
    let admin = server.client("").await;
    make_queue(&admin, Duration::from_secs(3)).await;
    let nats = connect(&[url(&server)]).await;
    let mut jobs = nats.jobs(&never()).await.unwrap();
    for name in ["a", "b", "c"] {
        nats.publish_job(name, Bytes::from(name)).await.unwrap();
    }
    let stream = jetstream::new(admin).get_stream(JOBS).await.unwrap();
    let pending = async || {
        let info = stream.consumer_info(CONSUMER).await.unwrap();
        (info.num_pending, info.num_ack_pending)
    };

    let cancel = never();
    let mut next = async || timeout(LONG, jobs.next(&cancel)).await.unwrap().unwrap();
    let a = next().await;
    assert_eq!((&a.payload()[..], a.delivered()), (&b"a"[..], 1));
    assert_eq!(pending().await, (2, 1), "no second job is held");

    a.in_progress().await.unwrap();
    a.ack().await.unwrap();
    a.ack().await.unwrap();
    assert_eq!(pending().await, (2, 0), "an ack that is confirmed is done");

    let b = next().await;
    b.nak(Duration::from_millis(1500)).await.unwrap();
    let handed_back = Instant::now();
    let c = next().await;
    assert_eq!(&c.payload()[..], b"c");
    c.term().await.unwrap();
    let b = next().await;
    assert_eq!((&b.payload()[..], b.delivered()), (&b"b"[..], 2));
    assert!(handed_back.elapsed() > Duration::from_millis(1200), "{:?}", handed_back.elapsed());

    // Not settled: AckWait ends, and it is handed out again.
    let b = next().await;
    assert_eq!((&b.payload()[..], b.delivered()), (&b"b"[..], 3));
    b.ack().await.unwrap();
    assert_eq!(pending().await, (0, 0));
}

#[tokio::test]
async fn in_progress_keeps_a_job_for_longer_than_ack_wait() {
    let server = NatsServer::start("").await;
    make_queue(&server.client("").await, Duration::from_secs(1)).await;
    let nats = connect(&[url(&server)]).await;
    let (mut mine, mut other) = (nats.jobs(&never()).await.unwrap(), nats.jobs(&never()).await.unwrap());
    nats.publish_job("a", Bytes::from("a")).await.unwrap();
    let job = timeout(LONG, mine.next(&never())).await.unwrap().unwrap();
    let cancel = never();
    let stealing = tokio::spawn({
        let cancel = cancel.clone();
        async move { other.next(&cancel).await.is_some() }
    });
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        job.in_progress().await.unwrap();
    }
    job.ack().await.unwrap();
    cancel.cancel();
    assert!(!stealing.await.unwrap(), "handed out twice");
}

#[tokio::test]
async fn a_wait_for_jobs_that_is_cancelled_takes_none_with_it() {
    let server = NatsServer::start("").await;
    make_queue(&server.client("").await, Duration::from_secs(600)).await;
    let nats = connect(&[url(&server)]).await;
    let mut jobs = nats.jobs(&never()).await.unwrap();
    for round in 0..30u64 {
        // The job arrives about when the wait ends: before, meanwhile or after.
        let cancel = never();
        let waiting = async {
            let job = jobs.next(&cancel).await;
            if let Some(job) = &job {
                job.ack().await.unwrap();
            }
            job.is_some()
        };
        let id = format!("job-{round}");
        let ending = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            tokio::join!(async { nats.publish_job(&id, Bytes::from("x")).await.unwrap() }, async {
                let publishing = Instant::now();
                while publishing.elapsed() < Duration::from_micros(round * 40) {
                    tokio::task::yield_now().await;
                }
                cancel.cancel();
            });
        };
        let (done, ()) = tokio::join!(waiting, ending);
        if !done {
            let job = timeout(Duration::from_secs(5), jobs.next(&never())).await.expect("it is lost").unwrap();
            job.ack().await.unwrap();
        }
    }
}

#[tokio::test]
async fn jobs_are_fetched_and_published_through_outages() {
    let logs = Logs::capture();
    let mut server = NatsServer::start("").await;
    make_queue(&server.client("").await, LONG).await;
    let nats = connect(&[url(&server)]).await;
    let mut jobs = nats.jobs(&never()).await.unwrap();
    let waiting = tokio::spawn(async move {
        let job = jobs.next(&never()).await.unwrap();
        (jobs, job)
    });
    server.kill();
    eventually("the outage", async || (!nats.is_connected()).then_some(())).await;
    let error = nats.publish_job("rec-1", Bytes::new()).await.unwrap_err();
    assert!(error.to_string().contains("not connected"), "{error}");

    let dispatcher = Dispatcher::new(&server_config("http://127.0.0.1:1"), Outbox::in_memory()).unwrap();
    dispatcher.connect(nats.clone());
    let publishing = dispatcher.send(Delivery::Job(job("rec-1"))).await;
    eventually("the line", async || logs.lines("not in the work queue yet").pop()).await;
    server.resume("").await;
    assert_eq!(timeout(LONG, publishing).await.unwrap(), Ok(DeliveryOutcome::Taken));
    // Published twice, stored once.
    nats.publish_job("rec-1", Bytes::from(job("rec-1").encode())).await.unwrap();
    let (mut jobs, first) = timeout(Duration::from_secs(40), waiting).await.unwrap().unwrap();
    assert_eq!(Job::decode(first.payload()).unwrap(), job("rec-1"));
    first.ack().await.unwrap();
    assert!(timeout(Duration::from_secs(1), jobs.next(&never())).await.is_err(), "stored twice");

    // With the stream gone, the job is tried until the grace is over, and then left in the outbox.
    jetstream::new(server.client("").await).delete_stream(JOBS).await.unwrap();
    let publishing = dispatcher.send(Delivery::Job(job("rec-2"))).await;
    timeout(LONG, dispatcher.shutdown(Duration::from_secs(1))).await.unwrap();
    let Ok(DeliveryOutcome::Left(why)) = publishing.await else { panic!("where is it?") };
    assert!(why.contains("there is no stream"), "{why}");
    assert_eq!(logs.lines("in the outbox for the next start").len(), 1);
}

#[tokio::test]
async fn an_unconfirmed_ack_is_no_ack() {
    let server = NatsServer::start("").await;
    let admin = server.client("").await;
    make_queue(&admin, LONG).await;
    let nats = connect(&[url(&server)]).await;
    let mut jobs = nats.jobs(&never()).await.unwrap();
    nats.publish_job("a", Bytes::from("a")).await.unwrap();
    let job = jobs.next(&never()).await.unwrap();
    jetstream::new(admin).delete_stream(JOBS).await.unwrap();
    assert!(job.ack().await.is_err());
}

/// Stands between a client and the NATS server and keeps what the client says of itself in its CONNECTs.
struct Tap {
    port: u16,
    connects: Arc<Mutex<Vec<serde_json::Value>>>,
    cut: watch::Sender<()>,
}

impl Tap {
    async fn before(server: &NatsServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connects = Arc::new(Mutex::new(Vec::new()));
        let cut = watch::Sender::new(());
        let (said, cutting, upstream) = (Arc::clone(&connects), cut.clone(), server.port());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (said, mut cut) = (Arc::clone(&said), cutting.subscribe());
                tokio::spawn(async move {
                    let forward = async {
                        let server = TcpStream::connect(("127.0.0.1", upstream)).await?;
                        let (from_server, mut to_server) = server.into_split();
                        let (from_client, mut to_client) = client.into_split();
                        let mut from_server = BufReader::new(from_server);
                        let answers = tokio::io::copy_buf(&mut from_server, &mut to_client);
                        let questions = async {
                            let mut from_client = BufReader::new(from_client);
                            let mut line = String::new();
                            from_client.read_line(&mut line).await?;
                            let connect = line.strip_prefix("CONNECT ").expect("CONNECT is the first word");
                            said.lock().unwrap().push(serde_json::from_str(connect).unwrap());
                            to_server.write_all(line.as_bytes()).await?;
                            tokio::io::copy_buf(&mut from_client, &mut to_server).await
                        };
                        tokio::try_join!(answers, questions)
                    };
                    tokio::select! {
                        _ = forward => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { port, connects, cut }
    }

    fn tokens(&self) -> Vec<String> {
        let connects = self.connects.lock().unwrap();
        connects.iter().map(|connect| connect["auth_token"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn each_connect_brings_a_token_of_its_own() {
    let server = NatsServer::start("").await;
    let tap = Tap::before(&server).await;
    let nats = connect(&[format!("nats://127.0.0.1:{}", tap.port)]).await;
    assert_eq!(tap.connects.lock().unwrap()[0]["name"], "node_01");
    // Two of the same second are the same; so until the second has passed.
    eventually("a newer token", async || {
        if nats.is_connected() {
            let before = nats.connects();
            tap.cut.send(()).unwrap();
            eventually("a reconnect", async || (nats.connects() > before).then_some(())).await;
        }
        let tokens = tap.tokens();
        (tokens.first() != tokens.last()).then_some(())
    })
    .await;
    for token in tap.tokens() {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(signature, URL_SAFE_NO_PAD.encode(hmac_sha256(API_SECRET, signed.as_bytes())));
        let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["name"], "PLUGNMEET_RECORDER_AUTH");
        assert!(unix_ms().abs_diff(u128::from(claims["nbf"].as_u64().unwrap()) * 1000) < 60_000);
    }
}

fn users(password: &str) -> String {
    format!("authorization {{ users = [ {{ user: rec, password: {password:?} }} ] }}")
}

#[tokio::test]
async fn a_refusal_ends_neither_the_first_connect_nor_a_reconnect() {
    let logs = Logs::capture();
    let mut server = NatsServer::start(&users("other")).await;
    let config = nats_config(&[format!("nats://rec:p%40ssw0rd@127.0.0.1:{}", server.port())]);
    let connecting = tokio::spawn(async move {
        Nats::connect(&config, &server_config("http://localhost"), &me(), &never()).await.unwrap()
    });
    eventually("the refusal", async || {
        logs.lines("NATS refused the token: check plugNmeet_info.api_key/api_secret").pop()
    })
    .await;
    server.kill();
    server.resume(&users("p@ssw0rd")).await;
    let nats = timeout(LONG, connecting).await.unwrap().unwrap();

    server.kill();
    server.resume(&users("other")).await;
    eventually("refusals", async || (server.log().matches("authentication error").count() >= 4).then_some(())).await;
    assert!(!nats.is_connected());
    server.kill();
    server.resume(&users("p@ssw0rd")).await;
    eventually("the reconnect", async || nats.is_connected().then_some(())).await;
    assert_eq!(logs.lines("connected to NATS again").len(), 1);

    let log = logs.text();
    for secret in ["p@ssw0rd", "p%40ssw0rd", API_SECRET, "eyJ"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[tokio::test]
async fn an_unreachable_server_is_waited_for_with_one_clear_line() {
    let logs = Logs::capture();
    let mut server = NatsServer::stopped();
    let urls = [format!("nats://u:p4ss@127.0.0.1:{}", server.port())];
    let (config, plug) = (nats_config(&urls), server_config("http://localhost"));
    let cancel = never();
    let ended = async {
        eventually("the line", async || logs.lines("no connection to NATS").pop()).await;
        cancel.cancel();
    };
    let me = me();
    let (tried, ()) = tokio::join!(Nats::connect(&config, &plug, &me, &cancel), ended);
    assert!(matches!(tried, Err(ConnectError::Cancelled)));

    let cancel = never();
    let connecting = Nats::connect(&config, &plug, &me, &cancel);
    let starting = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.resume("").await;
    };
    let (nats, ()) = tokio::join!(timeout(LONG, connecting), starting);
    assert!(nats.unwrap().unwrap().is_connected());
    let lines = logs.lines("ERROR");
    assert_eq!(lines.len(), 2, "one for each of the two tries: {lines:?}");
    let address = format!("nats://127.0.0.1:{}", server.port());
    assert!(lines[1].contains(&address) && lines[1].contains("firewall"), "{lines:?}");
    assert!(!logs.text().contains("p4ss"));
}

#[tokio::test]
async fn another_server_of_the_cluster_takes_over() {
    let (mut one, two) = (NatsServer::start("").await, NatsServer::start("").await);
    let nats = connect(&[url(&one)]).await;
    drop(nats);
    let nats = connect(&[url(&NatsServer::stopped()), url(&one)]).await;
    assert!(nats.is_connected());
    let nats = connect(&[url(&one), url(&two)]).await;
    one.kill();
    eventually("the other server", async || nats.is_connected().then_some(())).await;
}

/// PROTOCOL 1: what the server's auth callout allows a recorder.
fn rights() -> String {
    format!(
        r#"authorization {{ users = [
            {{ user: admin, password: admin }}
            {{ user: rec, password: rec, permissions: {{
                publish: {{ allow: ["$JS.API.INFO", "_INBOX.>", "$JS.API.STREAM.INFO.KV_{BUCKET}", "$KV.{BUCKET}.>",
                    "$JS.API.DIRECT.GET.KV_{BUCKET}.>", "{JOBS}", "$JS.API.CONSUMER.MSG.NEXT.{JOBS}.{CONSUMER}",
                    "$JS.API.CONSUMER.INFO.{JOBS}.{CONSUMER}", "$JS.ACK.{JOBS}.{CONSUMER}.>"] }}
                subscribe: {{ allow: ["{CHANNEL}", "_INBOX.>"] }}
            }} }}
        ] }}"#
    )
}

#[tokio::test]
async fn only_the_subjects_of_protocol_1_are_used() {
    let server = NatsServer::start(&rights()).await;
    let admin = server.client("admin:admin@").await;
    let nats = connect(&[format!("nats://rec:rec@127.0.0.1:{}", server.port())]).await;
    // Also while nothing is there yet.
    let cancel = never();
    let waiting = async { tokio::join!(nats.bucket(&cancel), nats.jobs(&cancel)) };
    assert!(timeout(Duration::from_secs(1), waiting).await.is_err());
    assert!(nats.publish_job("x", Bytes::new()).await.is_err());

    let bucket = make_bucket(&admin).await;
    make_queue(&admin, Duration::from_secs(30)).await;
    let mut requests = nats.requests().await.unwrap();
    let beating = beat(&nats);
    eventually("registration", async || value(&bucket, 1).await).await;
    beating.progress.send(1).unwrap();
    eventually("progress", async || value(&bucket, 3).await.filter(|it| it == "1")).await;

    let asking = admin.request(CHANNEL, Bytes::from("question"));
    let answering = async {
        let request = requests.next().await.unwrap();
        assert_eq!(&request.payload()[..], b"question");
        request.reply(Bytes::from("answer")).await.unwrap();
    };
    let (answer, ()) = timeout(LONG, async { tokio::join!(asking, answering) }).await.unwrap();
    assert_eq!(&answer.unwrap().payload[..], b"answer");

    let mut jobs = nats.jobs(&cancel).await.unwrap();
    nats.publish_job("a", Bytes::from("a")).await.unwrap();
    let mut next = async || timeout(LONG, jobs.next(&cancel)).await.unwrap().unwrap();
    let job = next().await;
    job.in_progress().await.unwrap();
    job.nak(Duration::from_millis(1)).await.unwrap();
    next().await.ack().await.unwrap();
    nats.publish_job("b", Bytes::from("b")).await.unwrap();
    next().await.term().await.unwrap();
    cancel.cancel();
    assert!(jobs.next(&cancel).await.is_none());
    beating.cancel.cancel();
    beating.task.await.unwrap();
    assert_eq!(value(&bucket, 1).await, None, "purged");

    assert!(!server.log().to_lowercase().contains("violation"), "{}", server.log());
    // The log would tell.
    let forbidden = server.client("rec:rec@").await;
    forbidden.publish("$JS.API.STREAM.INFO.x", Bytes::new()).await.unwrap();
    eventually("a violation", async || server.log().to_lowercase().contains("violation").then_some(())).await;
}
