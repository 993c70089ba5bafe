//! Connections to NATS: tokens, refusals, outages and rights.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use plugnmeet_recorder::nats::{ConnectError, Incoming, Nats};
use plugnmeet_recorder::protocol::signature::hmac_sha256;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{LONG, beat, connect, eventually, me, never, unix_ms, url, value};
use crate::logs::Logs;
use crate::nats_server::{
    API_SECRET, BUCKET, CHANNEL, CONSUMER, JOBS, NatsServer, make_bucket, make_queue, nats_config, server_config,
};

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
        let Some(Incoming::Request(request)) = requests.next().await else { panic!("no request") };
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
