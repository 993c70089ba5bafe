//! A NATS cluster that loses a server while something is recorded, and while jobs are in work.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use plugnmeet_recorder::protocol::messages::{RecordingTasks, StatusCode};

use crate::hooks::script;
use crate::recorder::{Recorder, SOON, Setup, turn};
use crate::recording::{ENDED, record, stop, wait_for};
use crate::standin::fleet::{PING_TIMEOUT, QueueState};
use crate::standin::{Deployment, Meeting, Room, Standin};
use crate::survival::{delivered, length, play, quick, raw_file};
use crate::transcode::names;

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

/// Whether the node has answered a request that it refuses.
async fn answers(standin: &Standin, room: &Room) -> bool {
    let mut request = room.request(RecordingTasks::StartRecording, "rec", "node_01");
    request.room_id = "../x".into();
    let reply = standin.fleet.request(&request).await.ok().and_then(|reply| reply.response);
    reply.is_some_and(|response| response.status_code() == StatusCode::InvalidParameters)
}

/// Recordings in room01 whose jobs nobody may lose or do twice.
const JOBS: [&str; 4] = ["in-work-here", "in-work-there", "waiting", "after"];

/// Two nodes whose jobs end when they may.
struct Work {
    dir: PathBuf,
    setup: Setup,
}

impl Work {
    fn new(standin: &Standin) -> Self {
        let dir = standin.dir().join("work");
        std::fs::create_dir(&dir).unwrap();
        let text = format!("echo \"$1\" >>'{0}/ran'; until [ -e '{0}/go' ]; do sleep 0.05; done", dir.display());
        let script = script(&dir, "wait.sh", &text);
        let mut setup = quick();
        setup.recorder = format!("{}  post_processing_scripts:\n    - {}\n", setup.recorder, script.display());
        setup.main_path = Some(dir.join("recordings"));
        Self { dir, setup }
    }

    async fn publish(&self, standin: &Standin, id: &str) {
        let (_, job) = raw_file(&self.dir.join("recordings/node_01/room01"), id, "64x64", 2);
        standin.fleet.publish_job(job).await.unwrap();
    }

    /// How often the script has begun for a recording.
    fn begun(&self, id: &str) -> usize {
        let ran = std::fs::read_to_string(self.dir.join("ran")).unwrap_or_default();
        ran.lines().filter(|line| line.contains(&format!("\"recording_id\":\"{id}\""))).count()
    }

    async fn wait_until_begun(&self, node: &Recorder, id: &str) {
        node.wait_until(&format!("{id} is in work"), || self.begun(id) == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_outage_every_request_is_answered_the_pings_go_on_and_each_job_is_done_once() {
    let standin = Standin::start(Deployment { nats_servers: 3, ..Deployment::default() }).await.unwrap();
    let work = Work::new(&standin);
    let recorder = Recorder::start(&standin, "node_01", &work.setup).await;
    let room = standin.meeting(Meeting::default());
    let lost = connected_to(&recorder, &standin);
    standin.fleet.have_bucket_led_by(&lost).await.unwrap();
    standin.fleet.have_queue_led_by(&lost).await.unwrap();
    let holder = standin.fleet.value("recorder_node_01-FIELD_100").await.unwrap();
    assert!(answers(&standin, &room).await);
    // One job in work on each of two nodes, and one that waits.
    work.publish(&standin, JOBS[0]).await;
    work.wait_until_begun(&recorder, JOBS[0]).await;
    let transcoder = Setup { mode: Some("transcoderOnly"), ..work.setup.clone() };
    let transcoder = Recorder::spawn(&standin, "node_02", &transcoder);
    work.publish(&standin, JOBS[1]).await;
    work.wait_until_begun(&transcoder, JOBS[1]).await;
    work.publish(&standin, JOBS[2]).await;
    let last_ping = async || Some(standin.fleet.announcement("node_01").await.ok()??.last_ping?);
    let before = last_ping().await.unwrap();
    standin.kill_nats_server(&lost).unwrap();
    let killed = Instant::now();
    // They are done while nothing leads the queue that could be told.
    std::fs::write(work.dir.join("go"), "").unwrap();
    recorder.wait_for_log("connected to NATS again").await;
    while !answers(&standin, &room).await {
        assert!(killed.elapsed() < SOON, "no request is answered:\n{}", recorder.log());
    }
    let outage = killed.elapsed();

    // Bucket and queue have no leader yet; requests need none.
    let (mut pings, mut lost_requests) = (vec![before], 0);
    while pings.len() < 5 {
        lost_requests += u32::from(!answers(&standin, &room).await);
        let asked = tokio::time::timeout(Duration::from_secs(1), last_ping()).await;
        pings.extend(asked.ok().flatten().filter(|ping| pings.last() < Some(ping)));
        assert!(killed.elapsed() < SOON, "pings {pings:?}:\n{}", recorder.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let gaps: Vec<u64> = pings.windows(2).map(|two| two[1] - two[0]).collect();
    println!("{lost} was lost: no answer for {outage:?}; ms between pings {gaps:?}");
    assert_eq!(lost_requests, 0, "{}", recorder.log());
    // The first one spans the vote for a leader of the bucket, which takes nats-server 4 s to 9 s.
    assert!(gaps[1..].iter().all(|gap| u128::from(*gap) < PING_TIMEOUT.as_millis()), "{gaps:?}");
    // The id was never in doubt.
    assert_eq!(standin.fleet.value("recorder_node_01-FIELD_100").await.unwrap(), holder);

    standin.fleet.wait_until_led().await.unwrap();
    work.publish(&standin, JOBS[3]).await;
    for id in JOBS {
        let told = standin.notices.wait_for(RecordingTasks::RecordingTranscodingFinished, id, SOON).await;
        let told = told.unwrap_or_else(|why| panic!("{why:#}\n{}\n{}", recorder.log(), transcoder.log()));
        assert!(told.message.status, "{told:?}");
    }
    // The queue would hand out nothing a second time: AckWait is ten minutes, and all are acknowledged long before.
    let none = QueueState { messages: 0, pending: 0, ack_pending: 0, redelivered: 0 };
    let end = Instant::now() + SOON;
    while standin.fleet.queue().await.unwrap() != none {
        let logs = || format!("{}\n{}", recorder.log(), transcoder.log());
        assert!(Instant::now() < end, "{:?}\n{}", standin.fleet.queue().await, logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("jobs acknowledged {:?} after the loss", killed.elapsed());
    for id in JOBS {
        let told = [RecordingTasks::RecordingProceeded, RecordingTasks::RecordingTranscodingFinished];
        assert_eq!((work.begun(id), &standin.notices.tasks_of(id)[..]), (1, &told[..]), "{id}");
    }
    let dir = work.dir.join("recordings/node_01/room01");
    recorder.wait_until("only MP4s are left", || names(&dir).len() == JOBS.len()).await;
    let mut mp4s = JOBS.map(|id| format!("{id}.mp4"));
    mp4s.sort();
    assert_eq!(names(&dir), mp4s);
    let done_there = transcoder.stop(&[]);
    let log = recorder.stop(&[&room.token]);
    assert!(!log.contains("another recorder") && log.contains("this node has left the fleet"), "{log}");
    let taken = |log: &str| log.matches("job taken").count();
    assert_eq!(taken(&log) + taken(&done_there), JOBS.len(), "{log}\n{done_there}");
    assert_eq!(standin.fleet.keys().await.unwrap(), [] as [String; 0]);
    assert_eq!(standin.violations(), [] as [String; 0]);
}
