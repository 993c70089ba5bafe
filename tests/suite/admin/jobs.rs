//! Jobs that an operator has tried again, or forgotten.

use std::process::Command;

use plugnmeet_recorder::protocol::job::Job;
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::storage::journal::Record as _;
use plugnmeet_recorder::transcode::journal::{JobJournal, JobRecord, JobState};
use plugnmeet_recorder::unix_time::unix_ms;

use super::{ask, busy_node, contains_all, job, line, put_job};
use crate::measure;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::{Deployment, Standin};

#[tokio::test]
async fn jobs_are_tried_again_or_forgotten_where_nobody_works_on_them() {
    let node = busy_node().await;
    let (state, raw) = (node.state(), node.path("main/job-2_raw.mkv"));
    std::fs::write(&raw, [0; 2048]).unwrap();
    let record = |id: &str| JobRecord::read(&JobJournal::new(&state).path(id));
    let before = node.files();
    for (line, why) in [
        ("jobs retry job-1", "the next start of the recorder goes on with it"),
        ("jobs drop job-1", "the next start goes on with it"),
        ("jobs retry job-3", "gives it out again in 59m"),
        ("jobs drop job-3", "the queue gives it out again"),
        ("jobs retry torn", "cannot be read: EOF while parsing"),
        ("jobs drop torn", "cannot be read: EOF while parsing"),
        ("-mode recorderOnly jobs retry job-2", "its mode is recorderOnly"),
    ] {
        let said = node.ask(line);
        assert_eq!((said.code, said.err.lines().count()), (Some(1), 1), "{line}: {said:?}");
        assert!(said.err.contains(why) && said.out.is_empty(), "{line}: {said:?}");
    }
    // A record that is not about the job whose name it has would be tried again and again.
    std::fs::copy(state.join("jobs/job-2.json"), state.join("jobs/other.json")).unwrap();
    contains_all(&node.ask("jobs retry other").err, &["that of another job, job-2"]);
    std::fs::remove_file(state.join("jobs/other.json")).unwrap();
    assert_eq!(node.files(), before, "what is refused changes nothing");

    let said = node.told("jobs retry job-2");
    assert_eq!(said, "job job-2 will be tried again: when the recorder node_01 is started\n");
    let wish = record("job-2").unwrap();
    assert_eq!((wish.state, wish.last_error.as_deref()), (JobState::Retry, Some("no job-2_raw.mkv under main_path")));
    assert_eq!(Job::decode(&wish.payload().unwrap()).unwrap(), job("job-2", &node.path("main"), "job-2_raw.mkv"));
    assert_eq!(JobJournal::new(&state).due(0, 0), Some(wish));
    contains_all(line(&node.told("jobs list"), "job-2"), &["to be tried again"]);
    contains_all(&node.ask("jobs retry job-2").err, &["it is to be tried again already"]);

    let said = node.told("jobs drop job-2");
    assert_eq!(said, format!("job job-2 is forgotten; its raw file is kept: {} (2 KiB)\n", raw.display()));
    assert!(raw.exists() && record("job-2").is_err());
    assert_eq!(node.ask("jobs drop job-2").code, Some(1));

    put_job(&state, "job-4", &node.path("main"), JobState::GivenUp { at: unix_ms() }).await;
    contains_all(&node.told("jobs drop job-4"), &["which is not there", "main/job-4_raw.mkv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_given_up_is_tried_again_by_the_recorder_that_runs() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let setup = Setup { mode: Some("transcoderOnly"), ..Setup::default() };
    let recorder = Recorder::spawn(&standin, "transcoder", &setup);
    recorder.wait_for_log("starting").await;
    recorder.wait_until("it holds its state", || recorder.state_dir().join("lock").exists()).await;
    let dir = recorder.main_path.join("node_02/room01");
    std::fs::create_dir_all(&dir).unwrap();
    let raw = dir.join("job-1_raw.mkv");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=4"])
        .args(["-f", "lavfi", "-i", "sine=d=4", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "pcm_s16le"])
        .arg(&raw)
        .status()
        .unwrap();
    assert!(made.success());
    put_job(&recorder.state_dir(), "job-1", &dir, JobState::GivenUp { at: unix_ms() - 60_000 }).await;

    let config = recorder.temporary_dir.with_file_name("config.yaml").display().to_string();
    let told = |line: &str| {
        let mut args: Vec<&str> = line.split(' ').collect();
        args.extend(["-config", &config]);
        let said = ask(&args);
        assert_eq!(said.code, Some(0), "{said:?}\n{}", recorder.log());
        said.out
    };
    contains_all(line(&told("jobs list"), "job-1"), &["given up 1m "]);
    contains_all(&told("recordings list"), &[&format!("the recorder transcoder runs (pid {} on ", recorder.pid())]);
    contains_all(&told("jobs retry job-1"), &["will be tried again: the recorder (pid "]);

    let finished = RecordingTasks::RecordingTranscodingFinished;
    let notice = standin.notices.wait_for(finished, "job-1", SOON).await;
    let notice = notice.unwrap_or_else(|error| panic!("{error:#}\n{}", recorder.log())).message;
    assert!(notice.status, "{}", notice.msg);
    let mp4 = measure::probe(&dir.join("job-1.mp4")).unwrap();
    assert!((mp4.duration - 4.0).abs() < 0.3, "{mp4:?}");
    let record = recorder.state_dir().join("jobs/job-1.json");
    recorder.wait_until("the job is over", || !record.exists()).await;
    assert!(!raw.exists(), "{}", recorder.log());
    assert_eq!(told("jobs list"), "nothing\n");
    recorder.wait_until("all is told", || told("outbox list") == "nothing\n").await;
    let delivered = told("outbox list --all");
    contains_all(&delivered, &["job-1  proceeded  delivered", "job-1  finished   delivered"]);
    recorder.stop(&[&standin.deployment.api_secret]);
}
