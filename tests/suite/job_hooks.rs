//! Hooks within a job: what they bring and say, what becomes of what they leave, and that they run in their order.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use plugnmeet_recorder::config::{HookStage, HookStep, HooksConfig, StageConfig};
use plugnmeet_recorder::delivery::dispatcher::Dispatcher;
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::protocol::ids::RecordingId;
use plugnmeet_recorder::protocol::job::{Job, Work};
use plugnmeet_recorder::protocol::notice::{Notice, NoticeEvent};
use plugnmeet_recorder::scripts::hooks::Hooks;
use plugnmeet_recorder::telemetry::redact;
use plugnmeet_recorder::transcode::job::{self, FilesToRemove, JobContext, JobNotifier, JobOutcome};
use plugnmeet_recorder::transcode::journal::JobState;
use serde_json::Value;

use crate::hooks::{LIMIT, script, step};
use crate::nats_server::server_config;
use crate::transcode::{Node, job_for, names, raw_like_ours};

fn stage(steps: Vec<HookStep>) -> StageConfig {
    StageConfig { pool_size: 1, timeout: LIMIT, steps }
}

/// A pipeline of one script that is started each time; its input is kept in `NAME.in`.
fn hook(dir: &Path, name: &str, text: &str) -> StageConfig {
    let keep = format!("read -r line; echo \"$line\" >>'{}'\n", dir.join(format!("{name}.in")).display());
    stage(vec![step(&script(dir, name, &format!("{keep}{text}")), true)])
}

/// What a hook was given, each time.
fn given(dir: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(format!("{name}.in"))).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn one_hook_brings_the_raw_file_and_another_says_where_the_mp4_is() {
    let mut node = Node::new(false);
    let (dir, fetched) = (node.dir.path().to_owned(), node.dir.path().join("fetched"));
    fs::create_dir(dir.join("store")).unwrap();
    raw_like_ours(&dir.join("store/kept.mkv"));
    let bring = format!(
        "mkdir '{0}' && cp '{1}' '{0}/' && echo '{{\"output_path\": \"{0}\", \"should_cleanup\": true}}'",
        fetched.display(),
        dir.join("store/kept.mkv").display()
    );
    node.hooks.pre_transcoding = hook(&dir, "bring", &bring);
    node.hooks.post_transcoding = hook(&dir, "take", "echo '{\"output_path\": \"https://cdn.example/rec-1.mp4\"}'");
    let job = job_for(Path::new("s3://bucket/room01/"), "kept.mkv");
    let verdict = node.run(&job, 1).await;
    // Neither what it brought nor what is in the store is the job's to remove; what was brought is gone already.
    assert!(matches!(verdict, JobOutcome::Done(FilesToRemove { raw: None, claim: Some(_), .. })), "{verdict:?}");
    assert!(!fetched.exists());
    assert_eq!(names(&dir.join("store")), ["kept.mkv"]);
    // The job's directory is not here: the result goes to this node's own, as a recording of its own would.
    let mp4 = node.settings.main_path.join("node_02/room01/rec-1.mp4");
    let size = fs::metadata(&mp4).unwrap().len();
    let file_path = "https://cdn.example/rec-1.mp4".to_owned();
    let proceeded = NoticeEvent::Proceeded { file_path, file_size: size, variant: 1, note: None };
    assert_eq!(node.told(), [proceeded, NoticeEvent::Finished(Ok(()))]);
    let before = given(&dir, "bring");
    assert_eq!(before[0]["input_path"], "s3://bucket/room01/");
    assert_eq!((&before[0]["file_name"], &before[0]["recorder_id"]), (&"kept.mkv".into(), &"node_01".into()));
    let after = given(&dir, "take");
    assert_eq!(after[0]["input_path"].as_str().map(Path::new), mp4.parent());
    assert_eq!(after[0]["file_name"], "rec-1.mp4");
    assert_eq!(after[0]["source_for_cleanup"], "s3://bucket/room01/kept.mkv");
}

#[tokio::test]
async fn what_a_hook_wants_cleaned_up_is_never_a_recording() {
    let mut node = Node::new(false);
    let dir = node.dir.path().to_owned();
    let raw = node.room().join("other.mkv");
    raw_like_ours(&raw);
    // A script that answers with a directory of recordings, and one that answers with a link to it.
    let link = dir.join("link");
    std::os::unix::fs::symlink(node.room(), &link).unwrap();
    for answer in [node.room(), node.settings.main_path.clone(), link] {
        let text = format!(
            "echo '{{\"output_path\": \"{}\", \"file_name\": \"other.mkv\", \"should_cleanup\": true}}'",
            answer.display()
        );
        node.hooks.pre_transcoding = hook(&dir, "rash", &text);
        let _ = node.run(&job_for(Path::new("s3://bucket/x"), "kept.mkv"), 1).await;
        assert!(raw.exists(), "{}", answer.display());
    }
}

#[tokio::test]
async fn hooks_that_fail_fail_the_attempt_but_never_hide_an_mp4() {
    let mut node = Node::new(false);
    let dir = node.dir.path().to_owned();
    raw_like_ours(&node.room().join("rec-1_raw.mkv"));
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    node.hooks.pre_transcoding = hook(&dir, "pre", "echo '{\"error\": \"the store is closed\"}'");
    assert_eq!(node.run(&job, 1).await, JobOutcome::Again(Duration::from_secs(30)));
    assert!(!node.mp4().exists());
    // The queue would not hand it out again, but the store may open: this node waits for that.
    assert_eq!(node.run(&job, 3).await, JobOutcome::Waiting(Duration::from_secs(300)));
    assert_eq!(node.told(), []);

    node.hooks = HooksConfig { post_transcoding: hook(&dir, "post", "exit 9"), ..HooksConfig::default() };
    assert_eq!(node.run(&job, 1).await, JobOutcome::Again(Duration::from_secs(30)));
    assert_eq!(node.told(), []);
    // The MP4 is there, and nobody's claim keeps another node from it.
    node.assert_holds(&["rec-1.mp4", "rec-1_raw.mkv"]);
    assert!(matches!(node.run(&job, 3).await, JobOutcome::Done(_)));
    let told = node.told();
    assert!(
        matches!(&told[0], NoticeEvent::Proceeded { file_path, .. } if file_path == "node_01/room01/rec-1.mp4"),
        "{told:?}"
    );
}

/// Writes what is told into the same file as the scripts do.
struct Diary(PathBuf, Arc<Mutex<()>>);

impl JobNotifier for Diary {
    fn forget_result(&self, _: &RecordingId) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn notify(&self, notice: Notice) -> BoxFuture<'static, ()> {
        let _one = self.1.lock().unwrap();
        let line = match notice.event {
            NoticeEvent::Proceeded { .. } => "PROCEEDED\n",
            NoticeEvent::Finished(_) => "FINISHED\n",
            _ => "?\n",
        };
        let before = fs::read_to_string(&self.0).unwrap_or_default();
        fs::write(&self.0, before + line).unwrap();
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test]
async fn hooks_come_before_the_notice_scripts_after_it_and_what_is_done_is_not_done_again() {
    let mut node = Node::new(false);
    let (dir, diary) = (node.dir.path().to_owned(), node.dir.path().join("diary"));
    raw_like_ours(&node.room().join("rec-1_raw.mkv"));
    let say = |word: &str| format!("echo {word} >>'{}'", diary.display());
    node.hooks.pre_transcoding = hook(&dir, "pre", &say("pre"));
    node.hooks.post_transcoding = hook(&dir, "post", &say("post"));
    // The second one waits until it is let through.
    let (open, waits) = (dir.join("open"), dir.join("waits"));
    let wait = format!("touch '{}'; [ -e '{}' ] || sleep 1000\n{}", waits.display(), open.display(), say("two"));
    node.settings.scripts = vec![script(&dir, "one.sh", &say("one")), script(&dir, "two.sh", &wait)];
    let job = job_for(&node.room(), "rec-1_raw.mkv");
    let entry = node.entry(&job, 1).await;
    let tell = Diary(diary.clone(), Arc::default());
    for round in 0..2 {
        let hooks = Hooks::start(
            &node.hooks,
            &[
                plugnmeet_recorder::config::HookStage::PreTranscoding,
                plugnmeet_recorder::config::HookStage::PostTranscoding,
            ],
        );
        let around = JobContext { settings: &node.settings, hooks: &hooks, notifier: &tell, cancel: &node.cancel };
        let run = job::run(&job, &entry, around);
        if round == 0 {
            // Killed while the second script runs.
            tokio::select! {
                ended = run => panic!("{ended:?}"),
                () = async { while !waits.exists() { tokio::time::sleep(Duration::from_millis(10)).await; } } => {}
            }
            fs::write(&open, "").unwrap();
        } else {
            assert!(matches!(run.await.0, JobOutcome::Done(_)));
        }
        hooks.shutdown().await;
    }
    let diary = fs::read_to_string(diary).unwrap();
    // That the server is not told twice is the outbox's part.
    let expected = ["pre", "post", "PROCEEDED", "one", "pre", "PROCEEDED", "two", "FINISHED"];
    assert_eq!(diary.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn the_files_of_a_merge_may_be_brought_too() {
    let mut node = Node::new(false);
    let (dir, fetched) = (node.dir.path().to_owned(), node.dir.path().join("fetched"));
    fs::create_dir(&fetched).unwrap();
    for name in ["one.mp4", "two.mp4"] {
        crate::transcode::ffmpeg(
            "-f lavfi -i testsrc2=s=64x64:r=5:d=2 -f lavfi -i sine=d=2:r=48000 -c:v libx264 -preset ultrafast -c:a aac -f mp4",
            &fetched.join(name),
        );
    }
    let text = format!("echo '{{\"output_path\": \"{}\"}}'", fetched.display());
    node.hooks.pre_transcoding = hook(&dir, "bring", &text);
    let paths = vec!["node_01/room01/one.mp4".into(), "node_01/room01/two.mp4".into()];
    let job = Job { work: Work::Merge { paths }, ..job_for(&node.room(), "x.mkv") };
    let verdict = node.run(&job, 1).await;
    assert!(matches!(verdict, JobOutcome::Done(_)), "{verdict:?}");
    node.assert_holds(&["rec-1.mp4"]);
    let told = given(&dir, "bring");
    assert_eq!((&told[0]["task"], &told[0]["input_paths"][1]), (&"merge".into(), &"node_01/room01/two.mp4".into()));
    assert_eq!(names(&fetched), ["one.mp4", "two.mp4"], "not asked to");
}

#[tokio::test]
async fn a_secret_that_a_hook_or_ffmpeg_says_reaches_neither_the_server_nor_a_file() {
    const SECRET: &str = "open-sesame-of-the-api-31415";
    let _registration = redact::register(SECRET);
    let (job, id) = (|node: &Node| job_for(&node.room(), "rec-1_raw.mkv"), RecordingId::parse("rec-1").unwrap());
    // A hook that answers with it, one that fails with it, and ffmpeg that is given it for an option.
    for (what, hook_text, options) in [
        ("answer", "echo '{\"error\": \"cannot sign with open-sesame-of-the-api-31415\"}'", ""),
        ("words", "echo 'key open-sesame-of-the-api-31415 is refused' >&2; exit 1", ""),
        ("ffmpeg", "cat", "-c:v libx264 -open-sesame-of-the-api-31415 1"),
    ] {
        let mut node = Node::with_options(true, options);
        raw_like_ours(&node.room().join("rec-1_raw.mkv"));
        fs::write(node.room().join("rec-1_raw.json"), "{}").unwrap();
        if what != "ffmpeg" {
            node.hooks.pre_transcoding = hook(node.dir.path(), "says", hook_text);
        }
        let outbox = Outbox::open(&node.settings.state_dir).unwrap();
        let dispatcher = Dispatcher::new(&server_config("http://127.0.0.1:1"), outbox.clone()).unwrap();
        let hooks = Hooks::start(&node.hooks, &[HookStage::PreTranscoding]);
        let entry = node.entry(&job(&node), 3).await;
        let around =
            JobContext { settings: &node.settings, hooks: &hooks, notifier: &dispatcher, cancel: &node.cancel };
        let (verdict, cause) = job::run(&job(&node), &entry, around).await;
        hooks.shutdown().await;
        entry.update(|record| *record = record.clone().with_state(JobState::GivenUp { at: 1 }, cause)).await;
        dispatcher.shutdown(Duration::ZERO).await;
        let told: Vec<_> = outbox.messages(&id).iter().map(|message| message.body.clone()).collect();
        // A job that waits for its hooks is not told of.
        assert_eq!(told.is_empty(), what != "ffmpeg", "{what}: {verdict:?}");
        let mut files: Vec<Vec<u8>> = told;
        files.push(fs::read(node.dir.path().join("state/jobs/rec-1.json")).unwrap());
        files.extend(fs::read(node.dir.path().join("state/outbox/rec-1.json")));
        files.push(fs::read(node.room().join("rec-1_raw.json")).unwrap());
        let all = files.concat();
        let text = String::from_utf8_lossy(&all);
        assert!(text.contains("[redacted]"), "{what}: the cause is told: {text}");
        assert!(!text.contains("sesame") && !text.contains(&hex::encode("sesame")), "{what}: {text}");
        if what == "ffmpeg" {
            assert!(
                String::from_utf8_lossy(files.last().unwrap()).contains("[redacted]"),
                "{what}: the summary says why"
            );
        }
    }
}
