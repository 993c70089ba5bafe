//! Carries a soak out, and gathers what became of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use tokio::task::JoinSet;

use super::ledger::{Answer, Ledger, Sample};
use super::node::{ID, Node, Places};
use super::schedule::{End, Schedule, Take};
use crate::dice::Dice;
use crate::measure::cost;
use crate::standin::{Deployment, Meeting, Room, Standin};

pub(super) const ENDED: RecordingTasks = RecordingTasks::EndRecording;
/// Longer than any work takes here: the machine may be busy with others.
pub(super) const GENEROUS: Duration = Duration::from_secs(240);
/// All jobs: some wait to be handed out again, one after the other.
const SETTLE_LIMIT: Duration = Duration::from_secs(900);
/// Far less than the ten minutes of a real deployment, which a soak would wait for where a kill came just when the queue had
/// handed a job out; more than the minute in which a job in work says so.
const ACK_WAIT: Duration = Duration::from_secs(90);
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);
const SAMPLE_EVERY: Duration = Duration::from_secs(3);

/// What is soaked, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    /// How long recordings are begun and things break; what is open then is ended, and all jobs waited for.
    pub length: Duration,
    /// At once.
    pub recordings: usize,
    /// The daemon.
    pub binary: PathBuf,
    /// The beginnings of the kinds of faults that are left out.
    pub without: Vec<String>,
    /// Recordings are archived and published as HLS while they run.
    pub publish: bool,
}

/// Soaks. What is wrong with the recorder is in the ledger; where that is not clean, its log is kept in `target/`.
///
/// # Errors
/// Where the stand-in fails, or the recorder cannot be started.
pub async fn run(options: &Options) -> anyhow::Result<Ledger> {
    let schedule =
        Schedule::draw(&mut Dice::seeded(options.seed), options.length, options.recordings, &options.without);
    let standin = Standin::start(Deployment { ack_wait: ACK_WAIT, ..Deployment::default() }).await?;
    let node = Node::start(&standin, options)?;
    standin.fleet.wait_selectable(ID, GENEROUS).await?;
    let began = (Instant::now(), SystemTime::now());
    let soak = Arc::new(Soak {
        standin,
        began,
        until: began.0 + options.length,
        book: Mutex::new(Book { lives: vec![node.pid()], ..Book::default() }),
        nats_away: Arc::default(),
        server_away: Arc::default(),
    });
    let ledger = soak.carry_out(schedule, node, options.seed).await?;
    Ok(ledger)
}

pub(super) struct Soak {
    pub(super) standin: Standin,
    pub(super) began: (Instant, SystemTime),
    /// When nothing is begun any more.
    pub(super) until: Instant,
    pub(super) book: Mutex<Book>,
    /// Held while it is.
    pub(super) nats_away: Arc<tokio::sync::Mutex<()>>,
    pub(super) server_away: Arc<tokio::sync::Mutex<()>>,
}

/// What was done.
#[derive(Default)]
pub(super) struct Book {
    pub(super) takes: Vec<Entry>,
    pub(super) kills: Vec<f64>,
    pub(super) terms: Vec<f64>,
    /// When the disk of `temporary_dir` was full.
    pub(super) full: Vec<f64>,
    /// From when to when nothing could be written to `state_dir`.
    pub(super) unwritten: Vec<(f64, f64)>,
    /// The daemon's pids, one for each of its lives.
    pub(super) lives: Vec<u32>,
    pub(super) memory: Vec<Sample>,
    pub(super) faults: BTreeMap<String, usize>,
    pub(super) wrong: Vec<String>,
}

/// A START, and what was done to that recording.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) room: Room,
    pub(super) asked_at: f64,
    pub(super) answer: Answer,
    pub(super) stopped_at: Option<f64>,
    pub(super) struck: Vec<f64>,
}

impl Soak {
    async fn carry_out(self: Arc<Self>, schedule: Schedule, mut node: Node, seed: u64) -> anyhow::Result<Ledger> {
        let mut lanes = JoinSet::new();
        for (lane, takes) in schedule.lanes.into_iter().enumerate() {
            let soak = Arc::clone(&self);
            lanes.spawn(async move { soak.lane(lane, takes).await });
        }
        let mut sampler = JoinSet::new();
        let soak = Arc::clone(&self);
        sampler.spawn(async move { soak.sample().await });

        let mut lasting = JoinSet::new();
        for strike in schedule.strikes {
            tokio::time::sleep(strike.after).await;
            if Instant::now() >= self.until {
                break;
            }
            self.see_to(&mut node)?;
            self.strike(&strike, &mut node, &mut lasting).await?;
        }
        self.say("no more faults; waiting for what is open");
        while let Some(done) = lasting.join_next().await {
            done??;
        }
        lanes.join_all().await;
        self.see_to(&mut node)?;
        self.settle(&node.places).await;
        sampler.shutdown().await;

        self.say("SIGTERM to the recorder");
        let status = node.end(GENEROUS).await?;
        if !status.is_some_and(|status| status.success()) {
            self.wrong(format!("at the end, on SIGTERM, the recorder ended with {status:?}"));
        }
        let ledger = Ledger::new(self.gather(&node.places, seed).await?);
        if !ledger.is_clean() {
            let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/soak-{seed}.log"));
            fs::copy(&node.places.log, &kept).context("cannot keep the recorder's log")?;
            println!("the recorder's log is kept: {}", kept.display());
        }
        Ok(ledger)
    }

    /// Seconds since the soak began.
    pub(super) fn at(&self, instant: Instant) -> f64 {
        instant.saturating_duration_since(self.began.0).as_secs_f64()
    }

    pub(super) fn now(&self) -> f64 {
        self.at(Instant::now())
    }

    pub(super) fn say(&self, what: &str) {
        println!("{:7.1} s  {what}", self.now());
    }

    pub(super) fn wrong(&self, what: String) {
        self.say(&what);
        self.book.lock().unwrap().wrong.push(what);
    }

    /// One recording after the other; where many end early, the takes come once more.
    async fn lane(&self, lane: usize, takes: Vec<Take>) {
        for (n, take) in takes.iter().cycle().enumerate() {
            tokio::time::sleep(take.after).await;
            if Instant::now() >= self.until {
                return;
            }
            self.take(format!("soak-{lane}-{n}"), take).await;
        }
    }

    async fn take(&self, id: String, take: &Take) {
        let room = self.standin.meeting(Meeting { webcams: take.webcams, ..Meeting::default() });
        let asked_at = self.now();
        let response = self.standin.fleet.start_recording(&room, &id, ID).await.ok().and_then(|reply| reply.response);
        let answer = match response {
            Some(response) if response.status => Answer::Yes,
            Some(response) => Answer::No(response.msg),
            None => Answer::Missing,
        };
        self.say(&format!("START {id}: {answer:?}"));
        let taken = answer == Answer::Yes;
        // A user who was told that it failed may leave; a recorder that has heard of it all the same finds the room empty.
        let stopped_at = (!taken).then(|| self.now());
        let entry = Entry { id: id.clone(), room: room.clone(), asked_at, answer, stopped_at, struck: Vec::new() };
        self.book.lock().unwrap().takes.push(entry);
        if !taken {
            close(&room);
            return;
        }
        let until = (Instant::now() + take.lasts).min(self.until);
        let ended = self.standin.notices.wait_for(ENDED, &id, until.saturating_duration_since(Instant::now())).await;
        if ended.is_err() {
            self.end(&id, &room, take.end).await;
        }
        if let Err(error) = self.standin.notices.wait_for(ENDED, &id, GENEROUS).await {
            self.say(&format!("{error:#}"));
        }
        // One that is still there must not go on behind the next.
        close(&room);
    }

    async fn end(&self, id: &str, room: &Room, how: End) {
        self.say(&format!("{how:?} {id}"));
        let now = self.now();
        if let Some(entry) = self.book.lock().unwrap().takes.iter_mut().find(|entry| entry.id == id) {
            entry.stopped_at = Some(now);
        }
        if how == End::MeetingOver {
            close(room);
            return;
        }
        let until = Instant::now() + GENEROUS;
        while Instant::now() < until {
            let reply = self.standin.fleet.stop(RecordingTasks::StopRecording, room, id).await;
            let answered = reply.is_ok_and(|reply| reply.response.is_some_and(|response| response.status));
            if answered || self.standin.notices.tasks_of(id).contains(&ENDED) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn sample(&self) {
        loop {
            tokio::time::sleep(SAMPLE_EVERY).await;
            let mut book = self.book.lock().unwrap();
            let Some(pid) = book.lives.last().copied() else { continue };
            let bytes = cost::resident(pid);
            let open = |entry: &&Entry| {
                entry.answer == Answer::Yes && !self.standin.notices.tasks_of(&entry.id).contains(&ENDED)
            };
            let running = book.takes.iter().filter(open).count();
            let life = book.lives.len() - 1;
            if bytes > 0 {
                book.memory.push(Sample { life, running, bytes });
            }
        }
    }
    /// It must not have ended, but for a start that a broken disk refused: systemd starts it again, and so is it here.
    fn see_to(&self, node: &mut Node) -> anyhow::Result<()> {
        let Some(status) = node.ended()? else { return Ok(()) };
        let log = fs::read_to_string(&node.places.log).unwrap_or_default();
        let refused =
            log.lines().last().filter(|line| line.contains("this host is not ready") && line.contains("os error"));
        match refused {
            Some(_) => self.say("the recorder did not start, for a disk that is broken"),
            None => self.wrong(format!("the recorder has ended by itself: {status}")),
        }
        self.next_life(node, false)
    }

    pub(super) fn next_life(&self, node: &mut Node, convert: bool) -> anyhow::Result<()> {
        node.launch(convert)?;
        self.say(&format!("the recorder is started again as process {}", node.pid()));
        self.book.lock().unwrap().lives.push(node.pid());
        Ok(())
    }

    /// Waits until nothing is on its way any more; what still is when the limit is over is for the ledger to name.
    async fn settle(&self, places: &Places) {
        let until = Instant::now() + SETTLE_LIMIT;
        while Instant::now() < until {
            let queued = self.standin.fleet.queue().await.map_or(1, |queue| queue.messages);
            // A job that is published leaves the outbox before it is in nobody's hands; so this is looked at first.
            if !self.on_its_way(places) && queued == 0 && !self.on_its_way(places) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.say("not all of it has come to its end");
    }

    fn on_its_way(&self, places: &Places) -> bool {
        let told = |path: &PathBuf| {
            let id = path.file_stem().and_then(|id| id.to_str()).unwrap_or_default();
            // The records of what failed stay.
            let notices = self.standin.notices.of(id);
            notices.iter().any(|notice| notice.task() == RecordingTasks::RecordingTranscodingFinished)
                || (self.standin.notices.tasks_of(id).contains(&ENDED) && !self.is_published(id))
        };
        let records = ["recordings", "jobs", "hls"].iter().flat_map(|dir| files(&places.state_dir.join(dir)));
        let failed = |path: &PathBuf| told(path) && fs::read_to_string(path).is_ok_and(|text| is_over(&text));
        let letters = files(&places.state_dir.join("outbox")).into_iter();
        let waits = |path: PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains("\"waiting\""));
        records.into_iter().any(|path| path.exists() && !failed(&path))
            || letters.into_iter().any(waits)
            || !places.archived().is_empty()
    }

    fn is_published(&self, id: &str) -> bool {
        let jobs = self.standin.fleet.published_jobs();
        jobs.into_iter().filter_map(|job| job.task).any(|task| task.recording_id == id)
    }
}

fn close(room: &Room) {
    room.end("Room ended", "The host has closed the room.");
}

/// A record of something that nobody goes on with.
fn is_over(record: &str) -> bool {
    ["\"given_up\"", "\"failed\""].iter().any(|state| record.contains(state))
}

pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
