//! A NATS cluster that loses a server while something is recorded.

use crate::recorder::{Recorder, SOON, turn};
use crate::recording::{ENDED, record, stop, wait_for};
use crate::standin::{Deployment, Meeting, Standin};
use crate::survival::{delivered, length, play, quick};

/// The server that the recorder's last connection was made to, which its log names.
fn connected_to(recorder: &Recorder, standin: &Standin) -> String {
    let log = recorder.log();
    let line = log.lines().rfind(|line| line.contains("connected to NATS")).unwrap_or_default();
    let named = standin.nats_names().into_iter().find(|name| line.contains(name.as_str()));
    named.unwrap_or_else(|| panic!("no server is named in {line:?}:\n{log}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_that_leads_may_go_in_the_middle_of_a_recording() {
    let turn = turn().await;
    let standin = Standin::start(Deployment { nats_servers: 3, ..Deployment::default() }).await.unwrap();
    let recorder = Recorder::start(&standin, "node_01", &quick()).await;
    let room = standin.meeting(Meeting { webcams: 0, ..Meeting::default() });
    record(&standin, &recorder, &room, "rec").await;
    // The worst of the three to lose.
    let lost = connected_to(&recorder, &standin);
    standin.fleet.have_queue_led_by(&lost).await.unwrap();
    play(2.0).await;
    standin.kill_nats_server(&lost).unwrap();
    recorder.wait_for_log("connected to NATS again").await;
    play(2.0).await;
    stop(&standin, &room, "rec").await;
    assert_eq!(wait_for(&standin, &recorder, ENDED, "rec").await, (true, "success".into()));
    drop(turn);
    let (mp4, summary) = delivered(&standin, &recorder, &room, "rec").await;
    println!("{lost} was lost: {:.1} s; {summary}", length(&mp4));
    assert!(length(&mp4) > 3.5, "{}", length(&mp4));
    assert_eq!((&summary["parts"], &summary["outcome"]), (&1.into(), &"success".into()), "{summary}");
    // The node is in the server's choice again.
    standin.fleet.wait_until_led().await.unwrap();
    standin.fleet.wait_selectable("node_01", SOON).await.unwrap();
    // Once in effect: however often it had to be published, it was stored and handed out once.
    let published = standin.fleet.published_jobs();
    assert!(published.iter().all(|job| job.message_id.as_deref() == Some("rec")), "{published:?}");
    assert_eq!(standin.fleet.jobs_ever_stored().await.unwrap(), 1, "{published:?}");
    let queue = standin.fleet.queue().await.unwrap();
    assert_eq!((queue.messages, queue.ack_pending, queue.redelivered), (0, 0, 0), "{queue:?}");
    assert_eq!(standin.violations(), [] as [String; 0]);
    recorder.stop(&[&room.token]);
}
