//! Transcoding nodes with the real binary, queue and ffmpeg: several jobs, several nodes, and one that dies.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use plugnmeet_recorder::nats::JobMessage;
use plugnmeet_recorder::protocol::messages::{
    RecordingTasks, TranscodingTask, TranscodingTaskMergeRecordings, TranscodingTaskPostRecording, transcoding_task,
};
use plugnmeet_recorder::transcode::fetch_gate::FetchGate;
use prost::Message;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::hooks::script;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::child::Child;
use crate::standin::{Deployment, Standin};
use crate::survival::raw_file;
use crate::transcode::names;

const PROCEEDED: RecordingTasks = RecordingTasks::RecordingProceeded;
const FINISHED: RecordingTasks = RecordingTasks::RecordingTranscodingFinished;

/// What the program answers on its command line.
pub fn ask(recorder: &Recorder, line: &str) -> String {
    let config = recorder.temporary_dir.with_file_name("config.yaml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugnmeet-recorder"));
    let said = command.args(line.split(' ')).arg("-config").arg(config).output().unwrap();
    assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

fn transcoder(main_path: Option<PathBuf>, recorder: &str, sections: String) -> Setup {
    Setup { mode: Some("transcoderOnly"), main_path, recorder: recorder.to_owned(), sections, ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_in_the_middle_of_a_job_is_replaced_by_another_and_the_server_told_once() {
    let ack_wait = Duration::from_secs(6);
    let standin = Standin::start(Deployment { ack_wait, ..Deployment::default() }).await.unwrap();
    let slow = "ffmpeg_settings:\n  post_recording:\n    post_input: -c:v libx264 -preset placebo -c:a aac\n";
    let mut first = Recorder::spawn(&standin, "first", &transcoder(None, "", slow.to_owned()));
    let main = first.main_path.clone();
    let dir = main.join("node_01/room01");
    standin.fleet.publish_job(raw_file(&dir, "RM_1", "1280x720", 20).1).await.unwrap();
    let part = dir.join(".RM_1.mp4.first.part");
    let begun = || std::fs::metadata(&part).is_ok_and(|part| part.len() > 0);
    first.wait_until("it is in the middle of the job", begun).await;
    // And says how far: in its log at most every 10 s, and whoever asks.
    first.wait_until("it is told how far it is", || ask(&first, "jobs list").contains(" %")).await;
    assert!(first.log().contains("percent="), "{}", first.log());
    first.kill();
    let second = transcoder(Some(main), "  post_mp4_convert: false\n", String::new());
    let second = Recorder::spawn(&standin, "second", &second);
    let finished = standin.notices.wait_for(FINISHED, "RM_1", SOON).await;
    let notice = finished.unwrap_or_else(|why| panic!("{why:#}\n{}", second.log())).message;
    assert!(notice.status && notice.recorder_id == "node_01", "{notice:?}");
    second.wait_until("the job is over", || names(&second.state_dir().join("jobs")).is_empty()).await;

    // The first one comes back, and finds that there is nothing left to do.
    first.restart();
    first.wait_for_log("it is another node's").await;
    first.wait_until("what it had begun is gone", || names(&dir) == ["RM_1.mp4"]).await;
    assert_eq!(standin.notices.tasks_of("RM_1"), [PROCEEDED, FINISHED], "{}", first.log());
    assert_eq!(standin.fleet.queue().await.unwrap().messages, 0);
    first.stop(&[]);
    second.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_jobs_as_there_are_hands_are_done_at_once_and_what_is_none_is_listed() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let here = standin.dir().join("here");
    std::fs::create_dir(&here).unwrap();
    // Each waits for the other: one at a time they would never end.
    let text = format!(
        "touch '{0}'/$RANDOM$RANDOM; until [ \"$(ls '{0}' | wc -l)\" -ge 2 ]; do sleep 0.05; done",
        here.display()
    );
    let meet = script(standin.dir(), "meet.sh", &text);
    let lines = format!("  post_mp4_convert: false\n  post_processing_scripts:\n    - {}\n", meet.display());
    let setup = transcoder(None, &lines, "transcoder:\n  max_jobs: 2\n".to_owned());
    let recorder = Recorder::spawn(&standin, "node_01", &setup);
    let dir = recorder.main_path.join("node_01/room01");
    standin.fleet.publish_job(b"\xff\xff no job".to_vec()).await.unwrap();
    for id in ["RM_1", "RM_2"] {
        standin.fleet.publish_job(raw_file(&dir, id, "320x180", 2).1).await.unwrap();
    }
    for id in ["RM_1", "RM_2"] {
        let finished = standin.notices.wait_for(FINISHED, id, SOON).await;
        assert!(finished.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message.status);
    }
    let jobs = || serde_json::from_str::<Value>(&ask(&recorder, "jobs list --json")).unwrap()["jobs"].clone();
    recorder.wait_until("both are over", || jobs().as_array().unwrap().len() == 1).await;
    let left = jobs();
    assert_eq!(left[0]["state"], "undecodable", "{left}");
    assert!(left[0]["last_error"].as_str().unwrap().contains("no TranscodingTask"), "{left}");
    let id = left[0]["id"].as_str().unwrap();
    assert!(ask(&recorder, &format!("jobs drop {id}")).contains("is forgotten"));
    assert_eq!(ask(&recorder, "jobs list"), "nothing\n");
    assert_eq!(names(&dir), ["RM_1.mp4", "RM_2.mp4"]);
    recorder.stop(&[]);
}

/// A merge job of room01 whose path leads out of `main_path`.
fn hostile_merge(id: &str) -> TranscodingTask {
    let file_paths = vec!["a/b.mp4".to_owned(), "../x.mp4".to_owned()];
    TranscodingTask {
        recording_id: id.into(),
        room_id: "room01".into(),
        room_sid: "RM_x".into(),
        room_table_id: 7,
        recorder_id: "merged-recording".into(),
        work: Some(transcoding_task::Work::MergeRecordings(TranscodingTaskMergeRecordings { file_paths })),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_nobody_can_do_is_told_as_failed_once_and_its_bytes_are_kept() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let recorder = Recorder::spawn(&standin, "node_01", &transcoder(None, "", String::new()));
    let post =
        TranscodingTaskPostRecording { file_path: "/srv/../etc".into(), file_name: "a".into(), recording_variant: 0 };
    let post = Some(transcoding_task::Work::PostRecording(post));
    let jobs = [
        hostile_merge("merge-1"),
        TranscodingTask { recorder_id: "node_07".into(), work: post, ..hostile_merge("post-1") },
        TranscodingTask { recorder_id: "../node".into(), ..hostile_merge("none-1") },
        // The same once more.
        hostile_merge("merge-1"),
    ];
    for job in &jobs {
        standin.fleet.publish_job(job.encode_to_vec()).await.unwrap();
    }
    for (id, field, node) in [
        ("merge-1", "file_paths", "merged-recording"),
        ("post-1", "file_path", "node_07"),
        ("none-1", "recorder id", "node_01"),
    ] {
        let told = standin.notices.wait_for(FINISHED, id, SOON).await;
        let notice = told.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message;
        assert!(!notice.status && notice.msg.contains(field), "{notice:?}");
        // By these the server finds the room's lock.
        assert_eq!((notice.room_id.as_str(), notice.room_table_id, notice.recorder_id.as_str()), ("room01", 7, node));
    }
    let aside = recorder.temporary_dir.join("undecodable-jobs");
    recorder.wait_until("all bytes are kept", || names(&aside).len() == jobs.len()).await;
    let mut kept: Vec<_> = names(&aside).iter().map(|name| std::fs::read(aside.join(name)).unwrap()).collect();
    let mut sent: Vec<_> = jobs.iter().map(Message::encode_to_vec).collect();
    kept.sort();
    sent.sort();
    assert_eq!(kept, sent);
    while standin.fleet.queue().await.unwrap().messages > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for id in ["merge-1", "post-1", "none-1"] {
        assert_eq!(standin.notices.tasks_of(id), [FINISHED], "{id}: {}", recorder.log());
    }
    std::fs::remove_dir_all(&aside).unwrap();
    let log = recorder.stop(&[]);
    assert_eq!(log.matches("a job cannot be done by anybody").count(), jobs.len(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_never_asked_for_this_host_and_is_named_where_it_fails() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    // Nobody is there.
    let proxy = || vec![("http_proxy", "http://joe:correct-horse@127.0.0.1:9".to_owned())];
    let setup = Setup { env: proxy(), ..transcoder(None, "", String::new()) };
    let recorder = Recorder::spawn(&standin, "node_01", &setup);
    standin.fleet.publish_job(hostile_merge("merge-1").encode_to_vec()).await.unwrap();
    let told = standin.notices.wait_for(FINISHED, "merge-1", SOON).await;
    told.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log()));
    remove_kept_bytes(&recorder).await;
    recorder.stop(&["correct-horse"]);

    let host = Some("http://meet.example.com".to_owned());
    let recorder = Recorder::spawn(&standin, "node_02", &Setup { host, ..setup });
    standin.fleet.publish_job(hostile_merge("merge-2").encode_to_vec()).await.unwrap();
    recorder.wait_for_log("why=http://meet.example.com by the proxy http://127.0.0.1:9: ").await;
    let refused =
        recorder.log().lines().any(|line| line.contains("by the proxy") && line.contains("Connection refused"));
    assert!(refused, "{}", recorder.log());
    remove_kept_bytes(&recorder).await;
    recorder.stop(&["correct-horse"]);
}

/// The server is told before the bytes of a job that nobody can do are kept.
async fn remove_kept_bytes(recorder: &Recorder) {
    let dir = recorder.temporary_dir.join("undecodable-jobs");
    recorder.wait_until("the job's bytes are kept", || names(&dir).len() == 1).await;
    std::fs::remove_dir_all(dir).unwrap();
}

/// As docs/fleet.md tells operators to share the files with the server's user.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_units_umask_an_mp4_belongs_to_the_group_of_its_directory_which_can_read_it() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let setup = transcoder(None, "  post_mp4_convert: false\n", String::new());
    // For its directories and configuration.
    let mut recorder = Recorder::spawn(&standin, "node_01", &setup);
    recorder.kill();
    let dir = recorder.main_path.join("node_01/room01");
    let (_, job) = raw_file(&dir, "RM_1", "320x180", 2);
    // Debian's `users`, where this user may give files to it.
    let root = rustix::process::geteuid().is_root();
    let group = if root { 100 } else { rustix::process::getegid().as_raw() };
    std::os::unix::fs::chown(&dir, None, Some(group)).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o2750)).unwrap();
    let config = recorder.temporary_dir.with_file_name("config.yaml");
    let mut node = Child::spawn("the recorder", "sh", |command| {
        command.args(["-c", "umask 0027; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_plugnmeet-recorder"), "--config"]);
        command.arg(config).env("TMPDIR", recorder.runtime_dir()).stdout(Stdio::null());
    })
    .unwrap();
    standin.fleet.publish_job(job).await.unwrap();
    let finished = standin.notices.wait_for(FINISHED, "RM_1", SOON).await;
    assert!(finished.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message.status);
    let mp4 = std::fs::metadata(dir.join("RM_1.mp4")).unwrap();
    assert_eq!((mp4.mode() & 0o7777, mp4.gid()), (0o640, group));
    assert!(node.stop(SOON).unwrap().success(), "{}", recorder.log());
}

#[tokio::test]
async fn a_job_that_has_waited_for_too_long_is_taken_though_the_processors_are_busy() {
    let (_server, nats) = crate::fleet::queue().await;
    let never = CancellationToken::new();
    nats.publish_job("a", "a".into()).await.unwrap();
    let (load, seen) = watch::channel(0.95);
    let mut intake = FetchGate::new(nats.jobs(&never).await.unwrap(), Some(0.5), seen.clone(), Duration::from_secs(2));
    let job = tokio::time::timeout(SOON, intake.next(&never)).await.unwrap().unwrap();
    job.ack().await.unwrap();
    // As long as it has not, none is; and then at once when the load falls.
    nats.publish_job("b", "b".into()).await.unwrap();
    let mut intake = FetchGate::new(nats.jobs(&never).await.unwrap(), Some(0.5), seen, Duration::from_secs(3600));
    let next = tokio::spawn(async move {
        intake.next(&CancellationToken::new()).await.map(|job: JobMessage| job.payload().clone())
    });
    for busy in [0.9, 0.45] {
        load.send(busy).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(nats.queue().await.unwrap().pending, 1, "handed out at a load of {busy}");
    }
    load.send(0.3).unwrap();
    assert_eq!(&tokio::time::timeout(SOON, next).await.unwrap().unwrap().unwrap()[..], b"b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_file_on_which_ffprobe_stumbles_is_kept_and_its_mp4_delivered() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    // Reads the raw file's packets as the real one does, but does not end well.
    let text = "/usr/bin/ffprobe \"$@\" || exit; case \"$*\" in *packet=*_raw.mkv) echo it stumbles >&2; exit 3;; esac";
    let ffprobe = script(standin.dir(), "ffprobe", text);
    let path = format!("{}:{}", ffprobe.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let setup = Setup { path: Some(path), ..transcoder(None, "  post_mp4_convert: false\n", String::new()) };
    let recorder = Recorder::spawn(&standin, "node_01", &setup);
    let dir = recorder.main_path.join("node_01/room01");
    standin.fleet.publish_job(raw_file(&dir, "RM_1", "320x180", 2).1).await.unwrap();
    let finished = standin.notices.wait_for(FINISHED, "RM_1", SOON).await;
    assert!(finished.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message.status);
    recorder.wait_until("the job is over", || names(&recorder.state_dir().join("jobs")).is_empty()).await;
    assert_eq!(names(&dir), ["RM_1.mp4", "RM_1_raw.mkv"]);
    let log = recorder.log();
    assert!(log.contains("the raw file is kept") && log.contains("it stumbles"), "{log}");
    recorder.stop(&[]);
}
