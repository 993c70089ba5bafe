//! What a node says of itself: with its server and NATS, and without.

use std::process::Command;
use std::time::Duration;

use plugnmeet_recorder::protocol::messages::RecordingTasks;

use super::{LIMIT, admin, get, metrics, setup, standin, wait_for};
use crate::nats_server::free_port;
use crate::node::job;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};
use crate::standin::notices::Mood;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_for_nats_is_alive_and_not_ready_and_then_says_what_its_metrics_are() {
    let standin = standin().await;
    let (port, setup) = setup();
    standin.silence_callout(true);
    let recorder = Recorder::spawn(&standin, "node_01", &setup);
    wait_for(port, "/healthz", 200, &recorder).await;
    recorder.wait_for_log("no connection to NATS").await;
    let answer = get(port, "/readyz").await;
    assert!(answer.status == 503 && answer.reasons().contains(&"nats".to_owned()), "{answer:?}");
    assert!(answer.codes().contains(&"PNR-0822".to_owned()), "{answer:?}");
    assert_eq!(get(port, "/protect").await.status, 404);
    let before = metrics(port).await;
    let expected = [("slots_total{}", 10.0), ("slots_free{}", 0.0), ("nats_connected{}", 0.0), ("ready{}", 0.0)];
    for (name, value) in expected {
        assert_eq!(before.get(name), Some(&value), "{name}: {before:#?}");
    }
    standin.silence_callout(false);
    let ready = wait_for(port, "/readyz", 200, &recorder).await;
    assert_eq!(ready.body, "[]");
    let now = metrics(port).await;
    for (name, value) in [
        ("slots_free{}", 10.0),
        ("slots_used{}", 0.0),
        ("busy{}", 0.0),
        ("nats_connected{}", 1.0),
        ("ready{}", 1.0),
        ("recordings_total{outcome=success}", 0.0),
        ("broadcasts_total{outcome=failed}", 0.0),
        ("jobs_total{outcome=given_up}", 0.0),
        ("frames_total{}", 0.0),
        ("frames_dropped_total{}", 0.0),
        ("silence_seconds_total{}", 0.0),
        ("capture_cpu_seconds_total{}", 0.0),
        ("start_latency_seconds_count{}", 0.0),
        ("transcode_speed_ratio_count{}", 0.0),
        ("mp4_ready_delay_seconds_count{}", 0.0),
        ("jobs_running{}", 0.0),
        ("jobs_remaining_seconds{}", 0.0),
        ("jobs_given_up{}", 0.0),
        ("outbox_messages{}", 0.0),
        ("outbox_oldest_age_seconds{}", 0.0),
    ] {
        assert_eq!(now.get(name), Some(&value), "{name}: {now:#?}");
    }
    // What the alerts, the dashboard and the chart use is there from the start.
    for line in include_str!("../../../deploy/prometheus/metrics.txt").lines().filter(|line| !line.starts_with('#')) {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = name.strip_prefix("plugnmeet_recorder_").unwrap();
        let sample = if kind == "histogram" { format!("{name}_bucket{{") } else { format!("{name}{{") };
        assert!(now.keys().any(|key| key.starts_with(&sample)), "{line}: {now:#?}");
    }
    let version = format!("build_info{{version={}}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(now.get(&version), Some(&1.0), "{now:#?}");
    for place in ["main_path", "temporary_dir", "state_dir"] {
        assert!(now[&format!("disk_free_bytes{{place={place}}}")] > 0.0, "{now:#?}");
    }
    for resource in ["cpu", "memory", "disk"] {
        assert!((0.0..=1.0).contains(&now[&format!("load_ratio{{resource={resource}}}")]), "{now:#?}");
    }
    assert!(now.contains_key("server_reachable{}") && now.contains_key("jobs_pending{}"), "{now:#?}");
    recorder.stop(&[super::TOKEN]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_keeps_no_node_from_its_work_and_is_used_when_it_is_free() {
    let standin = standin().await;
    let (port, setup) = setup();
    let other = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    recorder.wait_for_log("admin.listen cannot be opened").await;
    drop(other);
    wait_for(port, "/readyz", 200, &recorder).await;
    let log = recorder.stop(&[]);
    let line = log.lines().find(|line| line.contains("cannot be opened")).unwrap();
    assert!(line.contains(" ERROR ") && line.contains("give each another port"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_protected_until_its_job_is_done_and_the_server_knows() {
    let standin = standin().await;
    let port = free_port();
    let setup = Setup { mode: Some("transcoderOnly"), sections: admin(port, ""), ..Setup::default() };
    let recorder = Recorder::spawn(&standin, "transcoder", &setup);
    wait_for(port, "/readyz", 200, &recorder).await;
    assert_eq!(get(port, "/protect").await.status, 404);
    let dir = recorder.main_path.join("node_02/room01");
    std::fs::create_dir_all(&dir).unwrap();
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x240:r=10:d=2", "-f", "lavfi", "-i", "sine=d=2"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"])
        .arg(dir.join("RM_1_raw.mkv"))
        .status()
        .unwrap();
    assert!(made.success());
    // The server takes no notice: the job waits for that.
    standin.notices.always(Mood::Answer(500));
    standin.fleet.publish_job(job(&dir, "RM_1", "RM_1_raw.mkv")).await.unwrap();
    let answer = wait_for(port, "/protect", 200, &recorder).await;
    assert!(answer.body.contains("1 transcoding jobs are in hand"), "{answer:?}");
    recorder.wait_for_log("the server has not taken the notice").await;
    let answer = get(port, "/protect").await;
    assert!(answer.status == 200 && answer.body.contains("messages are not delivered"), "{answer:?}");
    let now = metrics(port).await;
    assert!(now["outbox_messages{}"] >= 1.0 && now["slots_total{}"] == 0.0, "{now:#?}");
    standin.notices.always(Mood::Take);
    standin.notices.wait_for(RecordingTasks::RecordingTranscodingFinished, "RM_1", SOON).await.unwrap();
    wait_for(port, "/protect", 404, &recorder).await;
    let now = metrics(port).await;
    for (name, value) in [
        ("jobs_total{outcome=success}", 1.0),
        ("transcode_speed_ratio_count{}", 1.0),
        ("mp4_ready_delay_seconds_count{}", 1.0),
        ("outbox_messages{}", 0.0),
        ("jobs_running{}", 0.0),
        ("jobs_remaining_seconds{}", 0.0),
        ("busy{}", 0.0),
    ] {
        assert_eq!(now.get(name), Some(&value), "{name}: {now:#?}");
    }
    // Its parent directories are this test's.
    assert!(
        tokio::time::timeout(LIMIT, async {
            while dir.join("RM_1_raw.mkv").exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .is_ok()
    );
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_under_the_journal_is_told_in_time_to_however_many_ask() {
    let standin = standin().await;
    let (backing, place) = (standin.dir().join("backing"), standin.dir().join("share"));
    let disk = FaultyFs::mount(&backing, &place, Abilities::ALL);
    let (port, mut setup) = setup();
    setup.recorder = format!("  state_dir: {}/state\n", place.display());
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    // Dropped before the recorder, which cannot even be killed while the kernel waits for this disk.
    let disk = disk;
    wait_for(port, "/healthz", 200, &recorder).await;
    disk.break_down(Requests::All, Fault::Hang);
    let faults = futures::future::join_all((0..40).map(|_| get(port, "/healthz"))).await;
    for fault in faults {
        assert_eq!((fault.status, fault.reasons()), (503, vec!["state_dir".to_owned()]), "{fault:?}");
        assert_eq!(fault.codes(), ["PNR-0246"]);
        assert!(fault.body.contains("does not answer"), "{fault:?}");
    }
    let threads = std::fs::read_dir(format!("/proc/{}/task", recorder.pid())).unwrap().flatten();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    assert_eq!(names.filter(|name| name.trim() == "disk-check").count(), 1, "each who asks holds a thread");
    for path in ["/metrics", "/protect", "/readyz"] {
        assert!(get(port, path).await.status > 0);
    }
    disk.heal();
    wait_for(port, "/healthz", 200, &recorder).await;
    recorder.stop(&[]);
}
