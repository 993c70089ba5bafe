//! The work queue: jobs that are fetched, settled and published.

use std::time::{Duration, Instant};

use async_nats::jetstream;
use bytes::Bytes;
use plugnmeet_recorder::delivery::dispatcher::{Delivery, Dispatcher};
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::delivery::queues::DeliveryOutcome;
use plugnmeet_recorder::protocol::ids::{RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::job::{Job, RawFileName, Work};
use plugnmeet_recorder::protocol::request::RecordingInfo;
use tokio::time::timeout;

use super::{LONG, connect, eventually, me, never, url};
use crate::logs::Logs;
use crate::nats_server::{CONSUMER, JOBS, NatsServer, make_queue, server_config};

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
    let Ok(DeliveryOutcome::Interrupted(why)) = publishing.await else { panic!("where is it?") };
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
