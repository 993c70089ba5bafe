//! Jobs that are done while the queue cannot be told: neither forgotten nor repeated, here or by another node.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use plugnmeet_recorder::protocol::messages::RecordingTasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::hooks::script;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::{Deployment, Standin};
use crate::survival::raw_file;
use crate::transcode::names;
use crate::workers::ask;

const PROCEEDED: RecordingTasks = RecordingTasks::RecordingProceeded;
const FINISHED: RecordingTasks = RecordingTasks::RecordingTranscodingFinished;

/// A way to NATS that can be cut off.
struct Way {
    open: watch::Sender<bool>,
    url: String,
}

impl Way {
    async fn to(url: &str) -> Self {
        let target = url.strip_prefix("nats://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let (open, opened) = watch::channel(true);
        tokio::spawn(async move {
            loop {
                let (mut here, _) = listener.accept().await.unwrap();
                let (target, mut opened) = (target.clone(), opened.clone());
                tokio::spawn(async move {
                    if !*opened.borrow_and_update() {
                        return;
                    }
                    let mut there = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                        _ = opened.wait_for(|open| !*open) => {}
                    }
                });
            }
        });
        Self { open, url }
    }
}

/// A node whose script notes that it has begun, and then waits for a file.
struct Scripts {
    dir: PathBuf,
    script: PathBuf,
}

impl Scripts {
    fn new(standin: &Standin) -> Self {
        let dir = standin.dir().join("scripts");
        std::fs::create_dir(&dir).unwrap();
        let text = format!("echo ran >>'{0}/ran'; until [ -e '{0}/go' ]; do sleep 0.05; done", dir.display());
        let script = script(&dir, "wait.sh", &text);
        Self { dir, script }
    }

    fn lines(&self, name: &str) -> usize {
        std::fs::read_to_string(self.dir.join(name)).unwrap_or_default().lines().count()
    }

    fn setup(&self, main_path: Option<&Path>, nats_url: Option<&str>) -> Setup {
        let fetch = format!("echo fetched >>'{}'; cat", self.dir.join("fetched").display());
        let fetch = script(&self.dir, "fetch.sh", &fetch);
        Setup {
            mode: Some("transcoderOnly"),
            main_path: main_path.map(Path::to_owned),
            nats_url: nats_url.map(str::to_owned),
            recorder: format!(
                "  post_mp4_convert: false\n  post_processing_scripts:\n    - {}\n",
                self.script.display()
            ),
            sections: format!(
                "hooks:\n  pre_transcoding:\n    scripts:\n      - script: {}\n        is_one_shot: true\n",
                fetch.display()
            ),
            ..Setup::default()
        }
    }

    /// Publishes a job, cuts the node off from NATS in the middle of it, and lets it finish.
    async fn finish_cut_off(&self, standin: &Standin, node: &Recorder, way: &Way) -> PathBuf {
        let dir = node.main_path.join("node_01/room01");
        standin.fleet.publish_job(raw_file(&dir, "RM_1", "64x64", 2).1).await.unwrap();
        node.wait_until("its script runs", || self.lines("ran") == 1).await;
        way.open.send_replace(false);
        std::fs::write(self.dir.join("go"), "").unwrap();
        standin.notices.wait_for(FINISHED, "RM_1", SOON).await.unwrap();
        node.wait_for_log("the queue does not confirm its acknowledgement").await;
        assert_eq!(names(&dir), [".RM_1.mp4.claim", "RM_1.mp4", "RM_1_raw.mkv"]);
        dir
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_has_told_but_cannot_acknowledge_is_not_repeated_by_the_node_that_gets_the_job_next() {
    let ack_wait = Duration::from_secs(6);
    let standin = Standin::start(Deployment { ack_wait, ..Deployment::default() }).await.unwrap();
    let (way, scripts) = (Way::to(&standin.nats_url()).await, Scripts::new(&standin));
    let first = Recorder::spawn(&standin, "first", &scripts.setup(None, Some(&way.url)));
    let dir = scripts.finish_cut_off(&standin, &first, &way).await;
    let claim = dir.join(".RM_1.mp4.claim");
    let said = || std::fs::read_to_string(&claim).unwrap_or_default();
    first.wait_until("the claim says so", || said() == "first\nreported\n").await;
    assert!(ask(&first, "jobs list").contains("done and told"), "{}", ask(&first, "jobs list"));
    // Ten minutes later, when a claim does not count any more.
    let long_ago = SystemTime::now() - Duration::from_secs(660);
    std::fs::File::open(&claim).unwrap().set_modified(long_ago).unwrap();
    let second = Recorder::spawn(&standin, "second", &scripts.setup(Some(&first.main_path), None));
    second.wait_for_log("the server was told of this result already").await;
    second.wait_until("the job is over", || names(&dir) == ["RM_1.mp4"]).await;
    second.wait_until("its record is gone", || names(&second.state_dir().join("jobs")).is_empty()).await;
    // The first one hears in the end that the queue needs nothing more.
    way.open.send_replace(true);
    first.wait_for_log("the job is acknowledged at last").await;
    first.wait_until("its record is gone", || names(&first.state_dir().join("jobs")).is_empty()).await;
    assert_eq!(standin.notices.tasks_of("RM_1"), [PROCEEDED, FINISHED], "{}", second.log());
    assert_eq!((scripts.lines("ran"), standin.fleet.queue().await.unwrap().messages), (1, 0));
    assert_eq!(names(&dir), ["RM_1.mp4"]);
    first.stop(&[]);
    second.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_done_is_only_acknowledged_by_the_next_start() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let (way, scripts) = (Way::to(&standin.nats_url()).await, Scripts::new(&standin));
    let mut node = Recorder::spawn(&standin, "first", &scripts.setup(None, Some(&way.url)));
    let dir = scripts.finish_cut_off(&standin, &node, &way).await;
    node.kill();
    assert!(ask(&node, "jobs list").contains("done and told"), "{}", ask(&node, "jobs list"));
    way.open.send_replace(true);
    node.restart();
    node.wait_until("the job is over", || names(&dir) == ["RM_1.mp4"]).await;
    node.wait_until("its record is gone", || names(&node.state_dir().join("jobs")).is_empty()).await;
    assert_eq!(standin.fleet.queue().await.unwrap().messages, 0);
    assert_eq!(standin.notices.tasks_of("RM_1"), [PROCEEDED, FINISHED]);
    assert_eq!((scripts.lines("ran"), scripts.lines("fetched")), (1, 1), "{}", node.log());
    node.stop(&[]);
}
