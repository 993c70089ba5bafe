//! Whose the id is while answers are lost and connections are cut.

use std::time::Duration;

use plugnmeet_recorder::fleet::availability::Obstacle;
use plugnmeet_recorder::fleet::holder::Holder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{beat, beat_as, connect, eventually, key, url, value};
use crate::logs::Logs;
use crate::nats_server::{NatsServer, make_bucket};

/// Stands between a node and the NATS server, and can keep what comes back or what goes there, and later let it go.
struct Gate {
    port: u16,
    /// What passes: to the server, and back.
    open: watch::Sender<[bool; 2]>,
}

impl Gate {
    async fn before(server: &NatsServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = watch::Sender::new([true; 2]);
        let (opened, upstream) = (open.clone(), server.port());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
                let (from_server, to_server) = server.into_split();
                let (from_client, to_client) = client.into_split();
                tokio::spawn(pass(from_client, to_server, opened.subscribe(), 0));
                tokio::spawn(pass(from_server, to_client, opened.subscribe(), 1));
            }
        });
        Self { port, open }
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut open: watch::Receiver<[bool; 2]>,
    way: usize,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if open.wait_for(|open| open[way]).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

fn other() -> Holder {
    Holder { host: "other-host".into(), pid: 4711, start: 0, nonce: "other".into(), lock: "elsewhere".into() }
}

#[tokio::test]
async fn a_ping_whose_answer_was_lost_is_no_other_recorder() {
    let logs = Logs::capture();
    let server = NatsServer::start("").await;
    let bucket = make_bucket(&server.client("").await).await;
    let gate = Gate::before(&server).await;
    let nats = connect(&[format!("nats://127.0.0.1:{}", gate.port)]).await;
    let beating = beat(&nats);
    let ping = eventually("the first ping", async || value(&bucket, 1).await).await;
    let holder = value(&bucket, 100).await;

    gate.open.send_replace([true, false]);
    let unanswered = eventually("a ping without an answer", async || value(&bucket, 1).await.filter(|it| *it != ping));
    let unanswered = unanswered.await;
    eventually("the line", async || logs.lines("cannot be announced").pop()).await;
    gate.open.send_replace([true; 2]);
    eventually("a later ping", async || value(&bucket, 1).await.filter(|it| *it != unanswered)).await;
    eventually("the line", async || logs.lines("announced to the fleet again").pop()).await;
    assert_eq!(logs.lines("another recorder"), [] as [String; 0]);
    assert_eq!(beating.availability.obstacle(), None);
    assert_eq!(value(&bucket, 100).await, holder);
    beating.cancel.cancel();
    beating.task.await.unwrap();
}

#[tokio::test]
async fn a_node_behind_a_partition_loses_its_id_overwrites_nothing_and_takes_it_back() {
    let logs = Logs::capture();
    let server = NatsServer::start("").await;
    let bucket = make_bucket(&server.client("").await).await;
    let gate = Gate::before(&server).await;
    let cut_off = connect(&[format!("nats://127.0.0.1:{}", gate.port)]).await;
    let first = beat(&cut_off);
    eventually("the first ping", async || value(&bucket, 1).await).await;
    gate.open.send_replace([false; 2]);

    // In its own time: 10 s of silence.
    let nats = connect(&[url(&server)]).await;
    let second = beat_as(&nats, other());
    second.load.send(0.75).unwrap();
    eventually("the other one has the id", async || value(&bucket, 100).await.filter(|it| it.contains("4711"))).await;
    eventually("and announces itself", async || value(&bucket, 4).await.filter(|it| it == "0.7500")).await;
    // What the first one still has to tell is of no use any more.
    first.progress.send(3).unwrap();
    gate.open.send_replace([true; 2]);
    let lost = eventually("the loss", async || first.availability.obstacle()).await;
    assert_eq!(lost.0, Obstacle::NotUnique);
    assert!(lost.1.contains("host other-host, pid 4711, started 1970-01-01T00:00:00Z"), "{lost:?}");
    assert!(logs.lines("another recorder has this node's id")[0].contains("pid 4711"), "{}", logs.text());
    assert_eq!((value(&bucket, 3).await.unwrap(), value(&bucket, 4).await.unwrap()), ("0".into(), "0.7500".into()));
    assert_eq!(second.availability.obstacle(), None);

    // The other one leaves properly, so that nothing has to be waited for.
    second.cancel.cancel();
    second.task.await.unwrap();
    eventually("its progress", async || value(&bucket, 3).await.filter(|it| it == "3")).await;
    assert_eq!(first.availability.obstacle(), None);
    assert!(!value(&bucket, 100).await.unwrap().contains("4711"));
    first.cancel.cancel();
    first.task.await.unwrap();
    for field in [0, 1, 2, 3, 4, 100] {
        assert_eq!(value(&bucket, field).await, None, "{} is left", key(field));
    }
}

#[tokio::test]
async fn of_two_that_start_at_once_one_has_the_id() {
    let server = NatsServer::start("").await;
    let bucket = make_bucket(&server.client("").await).await;
    let nats = connect(&[url(&server)]).await;
    let (first, second) = (beat(&nats), beat_as(&nats, other()));
    // The one that does not get it ends with the error, here a panic.
    let (mut first_task, mut second_task) = (first.task, second.task);
    let one_ended = async {
        tokio::select! {
            ended = &mut first_task => ended.unwrap_err().is_panic().then_some(&second.cancel),
            ended = &mut second_task => ended.unwrap_err().is_panic().then_some(&first.cancel),
        }
    };
    let other = tokio::time::timeout(Duration::from_secs(20), one_ended).await.unwrap().unwrap();
    assert!(value(&bucket, 1).await.is_some());
    other.cancel();
}
