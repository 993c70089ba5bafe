//! A server that is away, hangs, or has a stranger answer in its place.

use std::time::{Duration, Instant};

use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::delivery::queues::DeliveryOutcome;
use plugnmeet_recorder::protocol::ids::RecordingId;
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::unix_time::unix_ms;

use super::{Clock, Server, courier_with, dispatcher, ended, finished, notice, send, started, there};
use crate::logs::Logs;
use crate::nats_server::free_port;
use crate::standin::notices::Mood;

#[tokio::test]
async fn what_a_stranger_says_loses_nothing_whatever_its_status() {
    let _clock = Clock::hold();
    let mut server = Server::start().await;
    let outbox = Outbox::in_memory();
    let dispatcher = courier_with(&server.host(), outbox.clone());
    let told = send(&dispatcher, [started(), ended(), finished()]).await;
    let first = || outbox.messages(&RecordingId::parse("rec-1").unwrap()).remove(0);
    let moods = [
        Mood::Proxy(404),
        Mood::Proxy(200),
        Mood::Proxy(401),
        Mood::Proxy(502),
        Mood::HangInBody(200),
        Mood::HangInBody(404),
        Mood::Proxy(404),
    ];
    for (tries, mood) in (1..).zip(moods) {
        let request = there("a try", || server.incoming.try_recv().ok()).await;
        assert_eq!(request.task(), RecordingTasks::StartRecording);
        let asked = unix_ms();
        request.answer_as(mood).await;
        if let Mood::HangInBody(_) = mood {
            // Its head has come and its body never ends: the whole request has one deadline.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            tokio::time::advance(Duration::from_secs(11)).await;
        }
        let failed = there("it is noted", || Some(first()).filter(|it| it.failures == tries)).await;
        assert!(failed.is_waiting(), "{mood:?}: {failed:?}");
        let wait = Duration::from_millis(failed.next_try.unwrap().saturating_sub(asked));
        assert!(wait <= Duration::from_secs(31), "{mood:?}: soon again, not in {wait:?}");
        tokio::time::advance(wait + Duration::from_millis(5)).await;
    }
    for _ in 0..3 {
        there("a notice", || server.incoming.try_recv().ok()).await.answer(200).await;
    }
    for told in told {
        assert_eq!(told.await, Ok(DeliveryOutcome::Taken));
    }
    assert!(server.is_quiet(), "once");
}

#[tokio::test]
async fn a_server_that_is_down_at_first_gets_it_later() {
    let port = free_port();
    let dispatcher = dispatcher(&format!("http://127.0.0.1:{port}"));
    let logs = Logs::capture();
    let told = dispatcher.send(notice("rec-1", started())).await;
    while logs.lines("onnection refused").is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut server = Server::start_at(port).await;
    server.next().await.answer(200).await;
    assert_eq!(told.await, Ok(DeliveryOutcome::Taken));
}

#[tokio::test]
async fn a_server_that_hangs_is_asked_again() {
    let mut server = Server::start().await;
    let dispatcher = dispatcher(&server.host());
    let told = dispatcher.send(notice("rec-1", started())).await;
    let hanging = server.next().await;
    let asked = Instant::now();
    let again = server.next().await;
    assert!(asked.elapsed() > Duration::from_secs(8), "{:?}", asked.elapsed());
    again.answer(200).await;
    assert_eq!(told.await, Ok(DeliveryOutcome::Taken));
    hanging.answer(200).await;
}

/// How a server is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    Refuses,
    Fails,
    Hangs,
}

#[tokio::test]
async fn a_server_that_is_away_for_ten_minutes_is_tried_now_and_then_and_hears_everything_in_order() {
    const OUTAGE: Duration = Duration::from_secs(600);
    /// As in `delivery/`: between two tries, and for one.
    const LONGEST_WAIT: Duration = Duration::from_secs(30);
    const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
    /// Clocks count in whole milliseconds.
    const ROUNDING: Duration = Duration::from_millis(5);
    let _clock = Clock::hold();
    for away in [Away::Refuses, Away::Fails, Away::Hangs] {
        let logs = Logs::capture();
        let port = free_port();
        let mut server = if away == Away::Refuses { None } else { Some(Server::start_at(port).await) };
        let outbox = Outbox::in_memory();
        let dispatcher = courier_with(&format!("http://127.0.0.1:{port}"), outbox.clone());
        let first = || outbox.messages(&RecordingId::parse("rec-1").unwrap()).remove(0);
        let began = tokio::time::Instant::now();
        let told = send(&dispatcher, [started(), ended(), finished()]).await;
        let (mut tries, mut unanswered) = (0, Vec::new());
        while began.elapsed() < OUTAGE {
            let asked = unix_ms();
            tries += 1;
            let failed = loop {
                let next =
                    there("a try", || match server.as_mut().and_then(|server| server.incoming.try_recv().ok()) {
                        None if first().failures == tries => Some(None),
                        request => request.map(Some),
                    });
                match (next.await, away) {
                    (None, _) => break first(),
                    (Some(request), Away::Hangs) => {
                        unanswered.push(request);
                        tokio::time::advance(REQUEST_DEADLINE + ROUNDING).await;
                    }
                    (Some(request), _) => request.answer(500).await,
                }
            };
            let wait = Duration::from_millis(failed.next_try.unwrap().saturating_sub(asked));
            // Never further: where the next try would be later than it may be, it does not come.
            tokio::time::advance(wait.min(LONGEST_WAIT) + ROUNDING).await;
        }
        let gone_by = began.elapsed();
        println!("{away:?}: {tries} tries in {:.0} s", gone_by.as_secs_f64());
        // 0.5 + 1 + 2 + 4 + 8 + 16 s and then 30 s each, all shorter by up to a quarter.
        assert!((15..=34).contains(&tries), "{away:?}: {tries}");
        let lines = logs.lines("trying on").len();
        assert!((3..=6).contains(&lines), "{away:?}: {lines} lines:\n{}", logs.lines("trying on").join("\n"));
        drop(unanswered);
        let mut server = match server {
            Some(server) => server,
            None => Server::start_at(port).await,
        };
        for task in
            [RecordingTasks::StartRecording, RecordingTasks::EndRecording, RecordingTasks::RecordingTranscodingFinished]
        {
            let request = there("a notice", || server.incoming.try_recv().ok()).await;
            assert_eq!(request.task(), task, "{away:?}");
            request.answer(200).await;
        }
        for told in told {
            assert_eq!(told.await, Ok(DeliveryOutcome::Taken), "{away:?}");
        }
        assert_eq!(logs.lines("taken the notice at last").len(), 1, "{away:?}");
        assert!(server.is_quiet(), "{away:?}: once");
    }
}
