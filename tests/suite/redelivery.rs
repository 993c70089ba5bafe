//! Whatever order deliveries, crashes and nodes that were believed dead come in: one MP4, told of once, and no raw file.
//!
//! Two nodes with the real files, records, outboxes and ffmpeg; the queue is a few lines that do what JetStream does. A
//! node is stopped between any two of the moments at which its work waits for something; there it goes on, or dies.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures::future::BoxFuture;
use plugnmeet_recorder::config::HooksConfig;
use plugnmeet_recorder::delivery::message::{Message, MessageKey, MessageState};
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId};
use plugnmeet_recorder::protocol::job::Job;
use plugnmeet_recorder::protocol::notice::Notice;
use plugnmeet_recorder::scripts::hooks::Hooks;
use plugnmeet_recorder::transcode::job::{self, JobContext, JobNotifier, JobOutcome};
use plugnmeet_recorder::transcode::job_files::remove_until_gone;
use plugnmeet_recorder::transcode::journal::{JobJournal, JobRecord, JobState};
use plugnmeet_recorder::transcode::settings::TranscodeSettings;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::transcode as jobs;

/// More than any run here: what becomes of the last one is tested elsewhere.
const MAX_DELIVER: u64 = 1000;
const ROUNDS: u64 = 10;
const STEPS: u64 = 12;

/// The work queue with its one job.
#[derive(Default)]
struct Queue {
    delivered: u64,
    over: bool,
}

/// Tells through the outbox of a node, whose letters arrive at once; counts those of the result.
#[derive(Clone)]
struct Mail {
    outbox: Outbox,
    proceeded: Arc<AtomicUsize>,
    /// What waits in the outbox is counted: a node that dies while it is written finds it there and has not counted it.
    is_counted: Arc<AtomicBool>,
}

impl JobNotifier for Mail {
    fn forget_result(&self, recording: &RecordingId) -> BoxFuture<'static, ()> {
        let (outbox, recording) = (self.outbox.clone(), recording.clone());
        Box::pin(async move { outbox.forget(&recording, &[MessageKey::Proceeded, MessageKey::Finished]).await })
    }

    fn notify(&self, notice: Notice) -> BoxFuture<'static, ()> {
        let mail = self.clone();
        Box::pin(async move {
            let (id, key) = (&notice.info.recording_id, MessageKey::of(&notice.event));
            match mail.outbox.state(id, key) {
                Some(MessageState::Delivered { .. }) => return,
                Some(_) => {}
                None => {
                    if key == MessageKey::Proceeded {
                        mail.is_counted.store(false, Ordering::Relaxed);
                    }
                    mail.outbox.add(id, vec![Message::new(key, String::new(), Vec::new())]).await;
                }
            }
            if key == MessageKey::Proceeded && !mail.is_counted.swap(true, Ordering::Relaxed) {
                mail.proceeded.fetch_add(1, Ordering::Relaxed);
            }
            mail.outbox.set_state(id, key, MessageState::Delivered { at: 1 }).await;
        })
    }
}

struct Node {
    name: &'static str,
    settings: TranscodeSettings,
    mail: Mail,
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Node {
    fn new(name: &'static str, settings: &TranscodeSettings, dir: &Path, proceeded: &Arc<AtomicUsize>) -> Self {
        let state_dir = dir.join(name);
        let outbox = Outbox::open(&state_dir).unwrap();
        let settings =
            TranscodeSettings { recorder_id: RecorderId::parse(name).unwrap(), state_dir, ..settings.clone() };
        Self {
            name,
            settings,
            mail: Mail { outbox, proceeded: Arc::clone(proceeded), is_counted: Arc::default() },
            work: None,
        }
    }

    fn journal(&self) -> JobJournal {
        JobJournal::new(&self.settings.state_dir)
    }

    /// What an earlier life of the node had in hand.
    fn left(&self) -> Option<JobRecord> {
        self.journal().all().into_iter().find(|record| record.state == JobState::Working)
    }

    /// Begins with what is left, or else with what the queue hands out; false: with neither.
    fn begin(&mut self, job: &Job, queue: &Arc<Mutex<Queue>>) -> bool {
        assert!(self.work.is_none());
        let left = self.left();
        let (delivered, ack_to) = if let Some(record) = &left {
            (record.delivered, record.ack_to.clone())
        } else {
            let mut queue = queue.lock().unwrap();
            if queue.over {
                return false;
            }
            queue.delivered += 1;
            (queue.delivered, Some(format!("ack.{}", queue.delivered)))
        };
        let (job, queue, journal) = (job.clone(), Arc::clone(queue), self.journal());
        let (settings, mail) = (self.settings.clone(), self.mail.clone());
        self.work = Some(Box::pin(async move {
            let mut record = JobRecord::new(&job, &job.encode(), ack_to, delivered);
            record.max_deliver = MAX_DELIVER;
            let entry = journal.begin(record).await;
            let (hooks, never) = (Hooks::start(&HooksConfig::default(), &[]), CancellationToken::new());
            let around = JobContext { settings: &settings, hooks: &hooks, notifier: &mail, cancel: &never };
            let (verdict, cause) = job::run(&job, &entry, around).await;
            tokio::task::yield_now().await;
            match verdict {
                JobOutcome::Done(files) => {
                    queue.lock().unwrap().over = true;
                    tokio::task::yield_now().await;
                    assert!(remove_until_gone(&files, &settings.store, None, &never).await);
                    entry.remove().await;
                }
                JobOutcome::Again(_) => {
                    entry
                        .update(|record| {
                            *record = record.clone().with_state(JobState::HandedBack { until: 1 << 60 }, cause);
                        })
                        .await;
                }
                verdict => panic!("{verdict:?} {cause:?}"),
            }
        }));
        true
    }

    /// Lets it work until it waits for the `moments`-th time; true: it has ended.
    async fn work(&mut self, moments: u64) -> bool {
        let Some(work) = &mut self.work else { return true };
        let mut left = moments;
        let ended = std::future::poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        });
        let ended = ended.await;
        if ended {
            self.work = None;
        }
        ended
    }

    /// As `kill -9` does: what it had begun is left, its outbox as it is on disk.
    fn die(&mut self, room: &Path) {
        // Nothing grows before there is a record of it.
        if self.work.take().is_some() && self.left().is_some() {
            fs::write(room.join(format!(".rec-1.mp4.{}.part", self.name)), "half of it").unwrap();
        }
        self.mail.outbox = Outbox::open(&self.settings.state_dir).unwrap();
    }
}

#[tokio::test]
async fn any_order_of_deliveries_and_crashes_ends_in_one_mp4_told_of_once() {
    let (mut dice, seed) = Dice::new();
    println!("PNM_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("raw.mkv");
    jobs::ffmpeg(
        "-f lavfi -i testsrc2=s=64x64:r=5:d=2 -f lavfi -i sine=d=2:r=48000 -c:v libx264 -preset ultrafast -c:a pcm_s16le -f matroska",
        &original,
    );
    for round in 0..ROUNDS {
        let place = jobs::Node::new(false);
        let (room, raw) = (place.room(), place.room().join("rec-1_raw.mkv"));
        fs::copy(&original, &raw).unwrap();
        let job = jobs::job_for(&room, "rec-1_raw.mkv");
        let (queue, proceeded) = (Arc::<Mutex<Queue>>::default(), Arc::<AtomicUsize>::default());
        let mut nodes = ["node_a", "node_b"].map(|name| Node::new(name, &place.settings, place.dir.path(), &proceeded));
        let mut story = VecDeque::new();
        for _ in 0..STEPS {
            let node = &mut nodes[usize::try_from(dice.roll(2)).unwrap()];
            let moments = dice.roll(60);
            if node.work.is_none() && !node.begin(&job, &queue) {
                continue;
            }
            let ended = node.work(moments).await;
            let dies = !ended && dice.roll(3) == 0;
            story.push_back(format!("{} {moments} ended {ended} dies {dies}", node.name));
            if dies {
                node.die(&room);
            }
        }
        // In the end both live, and the queue hands the job out for as long as nobody has done it.
        for _ in 0..8 {
            for node in &mut nodes {
                if node.work.is_some() || node.begin(&job, &queue) {
                    assert!(node.work(u64::MAX).await);
                }
            }
        }
        let outcome = (jobs::names(&room), proceeded.load(Ordering::Relaxed), queue.lock().unwrap().over);
        let told = format!("seed {seed}, round {round}: {story:#?}");
        assert_eq!(outcome, (vec!["rec-1.mp4".to_owned()], 1, true), "{told}");
        let made = plugnmeet_recorder::media::ffprobe::measure(&place.mp4()).await.unwrap();
        assert!((made.duration.as_secs_f64() - 2.0).abs() < 0.2 && made.streams.len() == 2, "{made:?} {told}");
        assert!(nodes.iter().all(|node| node.left().is_none()), "{told}");
    }
}
