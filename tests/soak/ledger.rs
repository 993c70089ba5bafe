//! What a soak came to: each recording that was started is delivered, or failed with a reason, or unaccounted for. Pure.
//!
//! Times are seconds since the soak began.

use std::path::Path;

use plugnmeet_recorder::protocol::messages::RecordingTasks;

const STARTED: RecordingTasks = RecordingTasks::StartRecording;
const ENDED: RecordingTasks = RecordingTasks::EndRecording;
const PROCEEDED: RecordingTasks = RecordingTasks::RecordingProceeded;
const FINISHED: RecordingTasks = RecordingTasks::RecordingTranscodingFinished;
/// As they come, each once.
const ORDER: [RecordingTasks; 4] = [STARTED, ENDED, PROCEEDED, FINISHED];

/// What an end that nobody prepared may cost of a capture, in seconds.
const LOST_LIMIT: f64 = 4.0;
/// So soon after the server took a notice, in seconds, a kill may have come before that was noted: it is told again.
const NOT_NOTED: f64 = 5.0;
/// The cause of a recording that ends with its disk (`ENOSPC`, strerror(3)).
const NO_SPACE: &str = "No space left on device";
/// The most memory of a daemon, in bytes.
pub(super) const MEMORY_LIMIT: u64 = 150 << 20;

/// What became of a START.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No(String),
    /// The server never got one: it has told its user that it failed.
    Missing,
}

/// A notice that the server took.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub at: f64,
    pub task: RecordingTasks,
    pub ok: bool,
    pub msg: String,
}

/// An MP4 that was announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Film {
    pub seconds: f64,
    /// What decoders said of it.
    pub complaints: Vec<String>,
}

/// Everything that is known of one recording.
#[derive(Clone, Debug)]
pub struct Recording {
    pub id: String,
    pub asked_at: f64,
    pub answer: Answer,
    /// When it was first to end: STOP sent, or its meeting closed.
    pub stopped_at: Option<f64>,
    /// When media began to flow, once for each part.
    pub flows: Vec<f64>,
    /// When a capture broke off, or was struck.
    pub breaks: Vec<f64>,
    pub told: Vec<Told>,
    /// `None`: none was announced.
    pub film: Option<Result<Film, String>>,
    /// What is left of it beside its MP4: files and records.
    pub left: Vec<String>,
}

/// The memory of the daemon at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// How often it has been started before.
    pub life: usize,
    /// Recordings.
    pub running: usize,
    pub bytes: u64,
}

/// Everything that is known of a soak.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub seed: u64,
    pub recordings: Vec<Recording>,
    /// When the daemon was killed.
    pub kills: Vec<f64>,
    /// When it was told to end.
    pub terms: Vec<f64>,
    /// When the disk of `temporary_dir` was full, which ends recordings.
    pub full: Vec<f64>,
    /// From when to when nothing could be written to `state_dir`.
    pub unwritten: Vec<(f64, f64)>,
    pub memory: Vec<Sample>,
    /// How often each fault struck.
    pub faults: Vec<(String, usize)>,
    /// What is left behind or went wrong that belongs to no recording.
    pub loose: Vec<String>,
    /// Processes of the daemon that outlived it.
    pub processes: Vec<String>,
}

/// What became of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Delivered,
    Failed(String),
    Refused(String),
    /// The server never got an answer, so for it there is none. `taken_on`: the recorder made one all the same.
    Unanswered {
        taken_on: bool,
    },
}

/// One line.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: String,
    pub asked_at: f64,
    pub parts: usize,
    pub outcome: Outcome,
    /// How long the MP4 is, and how long it has to be at least.
    pub seconds: Option<f64>,
    pub at_least: f64,
    /// Notices that were told twice, each right beside a kill.
    pub twice: usize,
    /// Why it ended, if not by STOP.
    pub cause: String,
    /// Why it is unaccounted for.
    pub problems: Vec<String>,
}

pub struct Ledger {
    pub evidence: Evidence,
    pub rows: Vec<Row>,
}

impl Ledger {
    pub fn new(evidence: Evidence) -> Self {
        let rows = evidence.recordings.iter().map(|recording| judge(recording, &evidence)).collect();
        Self { evidence, rows }
    }

    /// Nothing is lost, left or too large.
    pub fn is_clean(&self) -> bool {
        let Evidence { loose, processes, .. } = &self.evidence;
        self.unaccounted() == 0 && loose.is_empty() && processes.is_empty() && self.largest() <= MEMORY_LIMIT
    }

    pub(super) fn unaccounted(&self) -> usize {
        self.rows.iter().filter(|row| !row.problems.is_empty()).count()
    }

    pub(super) fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.rows.iter().filter(|row| row.problems.is_empty() && is(&row.outcome)).count()
    }

    fn largest(&self) -> u64 {
        self.evidence.memory.iter().map(|sample| sample.bytes).max().unwrap_or(0)
    }
}

fn judge(recording: &Recording, evidence: &Evidence) -> Row {
    let Recording { id, asked_at, answer, flows, told, film, left, .. } = recording;
    let mut problems = Vec::new();
    let (first, twice) = once_each(told, evidence, &mut problems);
    let find = |task| first.iter().find(|told| told.task == task).copied();
    let at_least = at_least(recording, evidence);
    let ended = find(ENDED);
    let mut outcome = match (find(FINISHED), ended) {
        (Some(finished), _) if finished.ok => Outcome::Delivered,
        (Some(failed), _) => Outcome::Failed(failed.msg.clone()),
        (None, Some(ended)) if ended.ok => Outcome::Failed("stopped before media flowed".to_owned()),
        (None, Some(ended)) => Outcome::Failed(ended.msg.clone()),
        (None, None) => Outcome::Failed("it never ended".to_owned()),
    };
    match answer {
        Answer::No(why) => {
            if !told.is_empty() || !left.is_empty() {
                problems.push("it was refused, but begun".to_owned());
            }
            outcome = Outcome::Refused(why.clone());
        }
        Answer::Missing if told.is_empty() => {
            if !left.is_empty() {
                problems.push(format!("nobody knows of it, but there is {}", left.join(", ")));
            }
            outcome = Outcome::Unanswered { taken_on: false };
        }
        Answer::Yes | Answer::Missing => {
            check(recording, evidence, &first, &outcome, at_least, &mut problems);
            if *answer == Answer::Missing {
                outcome = Outcome::Unanswered { taken_on: true };
            }
        }
    }
    let seconds = film.as_ref().and_then(|film| film.as_ref().ok()).map(|film| film.seconds);
    let cause = ended.filter(|ended| !ended.ok).map(|ended| ended.msg.clone()).unwrap_or_default();
    let (id, asked_at, parts) = (id.clone(), *asked_at, flows.len());
    Row { id, asked_at, parts, outcome, seconds, at_least, twice, cause, problems }
}

/// The first notice of each task, which must be in order, and how many came a second time.
fn once_each<'a>(told: &'a [Told], evidence: &Evidence, problems: &mut Vec<String>) -> (Vec<&'a Told>, usize) {
    let Evidence { kills, unwritten, .. } = evidence;
    let mut first: Vec<&Told> = Vec::new();
    let mut twice = 0;
    for one in told {
        let Some(before) = first.iter().find(|before| before.task == one.task) else {
            first.push(one);
            continue;
        };
        twice += 1;
        // Where `state_dir` took nothing, the notice is told before that is noted, and a kill makes it forgotten.
        let unwritten = unwritten.iter().find(|(from, to)| (*from..*to).contains(&before.at));
        let noted_by = unwritten.map_or(before.at, |(_, to)| *to) + NOT_NOTED;
        if !kills.iter().any(|kill| (before.at..noted_by).contains(kill)) {
            problems.push(format!("{:?} was told at {:.1} s and again at {:.1} s", one.task, before.at, one.at));
        }
    }
    let places: Vec<_> = first.iter().map(|told| ORDER.iter().position(|task| *task == told.task)).collect();
    if places.iter().any(Option::is_none) || !places.is_sorted() {
        let tasks: Vec<_> = first.iter().map(|told| told.task).collect();
        problems.push(format!("the server was told in this order: {tasks:?}"));
    }
    (first, twice)
}

/// What must be true of one that was taken on.
fn check(
    recording: &Recording,
    evidence: &Evidence,
    first: &[&Told],
    outcome: &Outcome,
    at_least: f64,
    problems: &mut Vec<String>,
) {
    let Recording { asked_at, stopped_at, film, left, .. } = recording;
    let find = |task| first.iter().find(|told| told.task == task).copied();
    let Some(ended) = find(ENDED) else {
        problems.push("the server was never told of its end".to_owned());
        return;
    };
    let asked_to_end = stopped_at.is_some_and(|at| at <= ended.at)
        || evidence.terms.iter().any(|term| (*asked_at..=ended.at).contains(term))
        || (ended.msg.contains(NO_SPACE) && evidence.full.iter().any(|full| (*asked_at..=ended.at).contains(full)));
    if find(STARTED).is_some() && !asked_to_end && !ended.msg.starts_with("given up after") {
        problems.push(format!("it ended by itself: {}", ended.msg));
    }
    match outcome {
        Outcome::Delivered => {
            match film {
                None => problems.push("it is finished, but no MP4 was announced".to_owned()),
                Some(Err(why)) => problems.push(format!("its MP4 cannot be played: {why}")),
                Some(Ok(film)) => {
                    if !film.complaints.is_empty() {
                        problems.push(format!("its MP4 is damaged: {}", film.complaints.join("; ")));
                    }
                    if film.seconds < at_least {
                        problems.push(format!("its MP4 lasts {:.1} s of at least {at_least:.1} s", film.seconds));
                    }
                }
            }
            if !left.is_empty() {
                problems.push(format!("beside the MP4 there is {}", left.join(", ")));
            }
        }
        Outcome::Failed(reason) => {
            if reason.is_empty() {
                problems.push("it failed without a reason".to_owned());
            }
            // What was captured is kept where it could not be delivered.
            if at_least > 0.0 && !left.iter().any(|left| Path::new(left).extension().is_some_and(|is| is == "mkv")) {
                problems.push(format!("{at_least:.1} s or more were captured, and nothing is there ({reason})"));
            }
        }
        Outcome::Refused(_) | Outcome::Unanswered { .. } => {}
    }
}

/// Longer than the soak's `recorder.drain_timeout`, in seconds.
const DRAIN: f64 = 5.0;

/// How long the film has to be: all the time in which media flowed for certain, less what each break may cost, in seconds.
fn at_least(recording: &Recording, evidence: &Evidence) -> f64 {
    let Recording { flows, breaks, stopped_at, told, .. } = recording;
    // Media may begin to flow after the end was asked for: while NATS hangs, nobody hears of it.
    let ended = told.iter().filter(|told| told.task == ENDED).map(|told| &told.at);
    let cuts: Vec<f64> = breaks.iter().chain(stopped_at).chain(ended).chain(&evidence.kills).copied().collect();
    let lasted = |from: &f64| {
        // A drain that began just before media flowed ends it just behind.
        let terms = evidence.terms.iter().map(|term| if (from - term).abs() < DRAIN { *from } else { *term });
        cuts.iter().copied().chain(terms).filter(|cut| cut >= from).reduce(f64::min).map(|to| to - from)
    };
    flows.iter().filter_map(lasted).fold(0.0, |sum, lasted| sum + (lasted - LOST_LIMIT).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(at: f64, task: RecordingTasks) -> Told {
        Told { at, task, ok: true, msg: "success".to_owned() }
    }

    /// Recorded from 5 to 25 s, and delivered.
    fn good() -> Recording {
        Recording {
            id: "one".to_owned(),
            asked_at: 1.0,
            answer: Answer::Yes,
            stopped_at: Some(25.0),
            flows: vec![5.0],
            breaks: Vec::new(),
            told: vec![told(5.1, STARTED), told(26.0, ENDED), told(27.0, PROCEEDED), told(27.5, FINISHED)],
            film: Some(Ok(Film { seconds: 20.2, complaints: Vec::new() })),
            left: Vec::new(),
        }
    }

    fn row(recording: Recording, kills: &[f64]) -> Row {
        let evidence = Evidence { recordings: vec![recording], kills: kills.to_vec(), ..Evidence::default() };
        Ledger::new(evidence).rows.remove(0)
    }

    #[test]
    fn a_recording_that_became_an_mp4_is_delivered() {
        let row = row(good(), &[]);
        assert_eq!((row.outcome, row.problems), (Outcome::Delivered, Vec::new()));
        assert!((row.at_least - 16.0).abs() < 0.001, "{}", row.at_least);
    }

    #[test]
    fn every_break_may_cost_seconds_and_the_time_between_counts_for_nothing() {
        let recording = Recording { flows: vec![5.0, 15.0, 24.0], breaks: vec![12.0], ..good() };
        let row = row(recording, &[20.0]);
        // 7 − 4, 5 − 4, and the last second is within the limit.
        assert!((row.at_least - 4.0).abs() < 0.001, "{}", row.at_least);
    }

    #[test]
    fn media_that_flow_after_the_end_was_asked_for_last_until_the_end_is_told() {
        let recording = Recording { stopped_at: Some(4.0), ..good() };
        // Not until the next kill, long after.
        assert!((row(recording, &[99.0]).at_least - 17.0).abs() < 0.001);
    }

    #[test]
    fn a_notice_may_come_twice_only_where_a_kill_came_between_taking_and_noting() {
        let mut recording = good();
        recording.told.insert(1, told(9.0, STARTED));
        assert_eq!(row(recording.clone(), &[5.3]).problems, Vec::<String>::new());
        assert_eq!(row(recording.clone(), &[5.3]).twice, 1);
        assert!(row(recording.clone(), &[5.0]).problems[0].contains("again at 9.0 s"));
        // Told at 5.1 s, and killed at 12 s, before the disk took the note.
        let evidence = |unwritten| Evidence {
            recordings: vec![recording.clone()],
            kills: vec![12.0],
            unwritten: vec![unwritten],
            ..Evidence::default()
        };
        assert_eq!(Ledger::new(evidence((4.0, 11.0))).rows[0].problems, Vec::<String>::new());
        assert!(Ledger::new(evidence((4.0, 6.0))).rows[0].problems[0].contains("again at 9.0 s"));
        assert!(row(recording, &[]).problems[0].contains("again at 9.0 s"));
    }

    #[test]
    fn what_is_missing_damaged_short_left_or_out_of_order_is_unaccounted_for() {
        let film = |seconds, complaints: &[&str]| {
            Some(Ok(Film { seconds, complaints: complaints.iter().map(ToString::to_string).collect() }))
        };
        let mut disorder = good();
        disorder.told.swap(2, 3);
        let failed = Told { ok: false, ..told(30.0, ENDED) };
        let end = |msg: &str| vec![told(5.1, STARTED), Told { msg: msg.to_owned(), ..failed.clone() }];
        for (recording, problem) in [
            (Recording { film: film(15.9, &[]), ..good() }, "lasts 15.9 s of at least 16.0 s"),
            (Recording { film: film(20.0, &["bad NAL"]), ..good() }, "damaged: bad NAL"),
            (Recording { film: None, ..good() }, "no MP4 was announced"),
            (Recording { left: vec!["one_raw.mkv".into()], ..good() }, "beside the MP4"),
            (Recording { told: vec![told(5.1, STARTED)], ..good() }, "never told of its end"),
            (Recording { stopped_at: None, ..good() }, "it ended by itself"),
            (disorder, "in this order"),
            (Recording { told: end("disk"), film: None, ..good() }, "nothing is there (disk)"),
            (Recording { answer: Answer::No("full".into()), ..good() }, "refused, but begun"),
        ] {
            let problems = row(recording, &[]).problems.join("; ");
            assert!(problems.contains(problem), "{problem}: {problems}");
        }
        let kept = Recording { told: end("disk"), film: None, left: vec!["one_raw.part1.mkv".into()], ..good() };
        let row = row(kept, &[]);
        assert_eq!((row.outcome, row.problems), (Outcome::Failed("disk".into()), Vec::new()));
    }

    #[test]
    fn a_recording_may_end_by_itself_where_its_disk_was_full() {
        let mut recording = Recording { stopped_at: None, ..good() };
        recording.told[1].msg = "ffmpeg: No space left on device".to_owned();
        let full = |at| Evidence { recordings: vec![recording.clone()], full: vec![at], ..Evidence::default() };
        assert!(Ledger::new(full(20.0)).is_clean());
        assert!(Ledger::new(full(30.0)).rows[0].problems[0].contains("it ended by itself"));
    }

    #[test]
    fn a_start_that_nobody_answered_is_no_recording() {
        let nothing = Recording { answer: Answer::Missing, told: Vec::new(), film: None, flows: Vec::new(), ..good() };
        let row = row(nothing.clone(), &[]);
        assert_eq!((row.outcome, row.problems), (Outcome::Unanswered { taken_on: false }, Vec::new()));
        let ledger = Ledger::new(Evidence { recordings: vec![nothing, good()], ..Evidence::default() });
        assert!(ledger.is_clean());
        let text = ledger.to_string();
        assert!(text.contains("1 recordings started = 1 delivered + 0 failed with a reason + 0 unaccounted"), "{text}");
    }
}
