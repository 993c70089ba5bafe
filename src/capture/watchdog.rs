//! Decides whether a part of a rig stands still: pure; time is an argument.
//!
//! Each part does something countable all the time, or while it owes something: ffmpeg encodes and writes, Xvfb answers
//! questions, PulseAudio delivers samples (silence too), and the threads turn. A part that owes something and does
//! nothing for [`STILL_LIMIT`] hangs. One that its process shows to be busy (it waits for a processor or a disk, or
//! uses processor time) may only be slow, and has [`BUSY_LIMIT`].
//!
//! Time counts only where somebody looked: a machine that was suspended, or so loaded that even the looks came late,
//! shows nothing about a part.

use std::time::Duration;

use crate::process::procfs::Process;

/// A part hangs if it has stood still for this long…
pub const STILL_LIMIT: Duration = Duration::from_secs(8);
/// …or, where its process is busy, for this long.
pub const BUSY_LIMIT: Duration = Duration::from_secs(12);
/// The most that the time between two looks counts for.
const LOOK_COUNTS: Duration = Duration::from_secs(1);
/// A thread that has not turned for this long explains that its part does nothing.
const NO_TURN: Duration = Duration::from_secs(2);
/// The least processor time of a process that is busy, in clock ticks per second: a twentieth.
const BUSY_TICKS: u64 = 5;

/// A part of the rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    StreamThread,
    ScreenThread,
    SoundThread,
    Xvfb,
    PulseAudio,
    Ffmpeg,
    /// One of its processes is stopped, although the page may answer: the one that composes the picture, or that plays.
    Chrome,
}

/// In the order in which they are judged: a thread before the part that it serves.
const PARTS: [Part; 7] = [
    Part::StreamThread,
    Part::ScreenThread,
    Part::SoundThread,
    Part::Xvfb,
    Part::PulseAudio,
    Part::Ffmpeg,
    Part::Chrome,
];

/// What the parts have done since their start, and what they owe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Turns of each thread's loop.
    pub screen_turns: u64,
    pub sound_turns: u64,
    pub stream_turns: u64,
    /// Questions that Xvfb has answered, and whether one is unanswered.
    pub answers: u64,
    pub asked: bool,
    /// Samples that came from PulseAudio.
    pub samples: u64,
    /// A number that changes whenever ffmpeg has encoded or written something.
    pub encoded: u64,
    /// Frames that were offered to ffmpeg: those that its full queue had no room for, too.
    pub frames: u64,
    /// Whether ffmpeg waits for the far end of a broadcast, which has a limit of its own.
    pub waits_for_far_end: bool,
    /// The processes; `None` where `/proc` does not show one.
    pub xvfb: Option<Process>,
    pub pulseaudio: Option<Process>,
    pub ffmpeg: Option<Process>,
    /// A process of Chrome that is stopped.
    pub stopped_chrome: Option<Process>,
}

impl Readings {
    /// A number that changes while the part does something.
    fn done(&self, part: Part) -> u64 {
        match part {
            Part::StreamThread => self.stream_turns,
            Part::ScreenThread => self.screen_turns,
            Part::SoundThread => self.sound_turns,
            Part::Xvfb => self.answers,
            Part::PulseAudio => self.samples,
            Part::Ffmpeg => self.encoded,
            // That it is stopped is all that is known.
            Part::Chrome => 0,
        }
    }

    fn process(&self, part: Part) -> Option<Process> {
        match part {
            Part::StreamThread | Part::ScreenThread | Part::SoundThread => None,
            Part::Xvfb => self.xvfb,
            Part::PulseAudio => self.pulseaudio,
            Part::Ffmpeg => self.ffmpeg,
            Part::Chrome => self.stopped_chrome,
        }
    }
}

/// Since when a part stands still, and what was read then.
#[derive(Clone, Copy, Debug)]
struct Still {
    since: Duration,
    then: Readings,
}

/// A part that hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hang {
    pub part: Part,
    /// For how long it has stood still.
    pub still: Duration,
    /// Its process now.
    pub process: Option<Process>,
}

/// Follows the parts of one capture.
#[derive(Clone, Debug, Default)]
pub struct Watchdog {
    /// Time that counts, and the time of the last look.
    watched: Duration,
    looked: Option<Duration>,
    parts: [Option<Still>; PARTS.len()],
}

impl Watchdog {
    /// Takes the readings at `now` (of any monotonic clock). Returns the part that hangs.
    pub fn look(&mut self, now: Duration, readings: Readings) -> Option<Hang> {
        let passed = now.saturating_sub(self.looked.unwrap_or(now));
        self.looked = Some(now);
        self.watched += passed.min(LOOK_COUNTS);
        for (n, part) in PARTS.into_iter().enumerate() {
            let moves = self.parts[n].is_none_or(|still| {
                readings.done(part) != still.then.done(part) || !self.owes(part, &still.then, &readings)
            });
            if moves {
                self.parts[n] = Some(Still { since: self.watched, then: readings });
            }
        }
        PARTS.into_iter().find_map(|part| {
            let still = self.still(part);
            let limit = if self.is_busy(part, &readings) { BUSY_LIMIT } else { STILL_LIMIT };
            (still >= limit).then(|| Hang { part, still, process: readings.process(part) })
        })
    }

    /// Whether the part hangs or is about to: another part that broke may only be its victim.
    #[must_use]
    pub fn suspect(&self, part: Part, now: &Readings) -> Option<Hang> {
        let still = self.still(part);
        (still >= NO_TURN).then(|| Hang { part, still, process: now.process(part) })
    }

    /// For how long the part has stood still.
    fn still(&self, part: Part) -> Duration {
        let index = PARTS.iter().position(|one| *one == part);
        let still = index.and_then(|n| self.parts[n]);
        still.map_or(Duration::ZERO, |still| self.watched.saturating_sub(still.since))
    }

    /// Whether the part should have done something by now; `then`: when it last did.
    fn owes(&self, part: Part, then: &Readings, now: &Readings) -> bool {
        match part {
            Part::StreamThread | Part::SoundThread => true,
            // It waits for Xvfb's answer.
            Part::ScreenThread => !now.asked,
            Part::Xvfb => now.asked,
            Part::Chrome => now.stopped_chrome.is_some(),
            Part::PulseAudio => self.still(Part::SoundThread) < NO_TURN,
            Part::Ffmpeg => {
                now.frames != then.frames && !now.waits_for_far_end && self.still(Part::StreamThread) < NO_TURN
            }
        }
    }

    fn is_busy(&self, part: Part, now: &Readings) -> bool {
        let index = PARTS.iter().position(|one| *one == part);
        let then = index.and_then(|n| self.parts[n]).and_then(|still| still.then.process(part));
        now.process(part).is_some_and(|process| {
            let used = process.ticks.saturating_sub(then.map_or(process.ticks, |then| then.ticks));
            matches!(process.state, 'R' | 'D') || used >= BUSY_TICKS * self.still(part).as_secs().max(1)
        })
    }
}

impl Hang {
    /// The cause, for the operator and the user, who is told no path. `disk`: why ffmpeg's directory takes nothing, where
    /// that is so.
    #[must_use]
    pub fn cause(&self, disk: Option<&str>) -> String {
        let seconds = self.still.as_secs();
        let process = self.process.map(doing).unwrap_or_default();
        match self.part {
            Part::StreamThread => Self::thread("stream", "stream", seconds),
            Part::ScreenThread => Self::thread("picture", "screen", seconds),
            Part::SoundThread => Self::thread("sound", "sound", seconds),
            Part::Xvfb => format!("Xvfb hangs: it has not answered for {seconds} s{process}"),
            Part::Chrome => format!("Chrome hangs: a process of it has stood still for {seconds} s{process}"),
            Part::PulseAudio => {
                format!("PulseAudio hangs: no samples have come for {seconds} s, not even silence{process}")
            }
            Part::Ffmpeg => {
                let disk = disk.map(|why| format!("; recorder.temporary_dir {why}")).unwrap_or_default();
                format!(
                    "ffmpeg hangs: it has encoded and written nothing for {seconds} s, while frames wait{process}{disk}"
                )
            }
        }
    }

    fn thread(component: &str, name: &str, seconds: u64) -> String {
        format!(
            "{component}: its thread `{name}` has stood still for {seconds} s: an error in the recorder, please report it \
             with this log"
        )
    }
}

/// What a process does, to be added to a cause.
#[must_use]
pub fn doing(Process { pid, state, .. }: Process) -> String {
    match state {
        'T' => format!(" (its process {pid} is stopped: something sent it SIGSTOP)"),
        'D' => format!(" (its process {pid} waits for a disk)"),
        'R' => format!(" (its process {pid} runs or waits for a processor: is the machine overloaded?)"),
        _ => format!(" (its process {pid} sleeps)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(state: char, ticks: u64) -> Process {
        Process { pid: 7, state, ticks, ..Process::default() }
    }

    /// All is well: everything moves with the time, in half seconds.
    fn well(n: u64) -> Readings {
        Readings {
            screen_turns: n,
            sound_turns: n,
            stream_turns: n,
            answers: n,
            asked: n.is_multiple_of(2),
            samples: n * 24_000,
            encoded: n,
            frames: n,
            waits_for_far_end: false,
            xvfb: Some(process('S', n)),
            pulseaudio: Some(process('S', n)),
            ffmpeg: Some(process('S', n)),
            stopped_chrome: None,
        }
    }

    /// Looks every half second; from the 20th look on, `hang` changes what is read (its second argument is the 20th
    /// reading). Returns the hang and how long after the 20th look it was found.
    fn found(hang: impl Fn(&mut Readings, &Readings)) -> Option<(Part, Duration)> {
        let mut watchdog = Watchdog::default();
        (0..100).find_map(|n| {
            let (mut readings, then) = (well(n), well(20));
            if n > 20 {
                hang(&mut readings, &then);
            }
            let found = watchdog.look(Duration::from_millis(n * 500), readings)?;
            Some((found.part, Duration::from_millis((n - 20) * 500)))
        })
    }

    #[test]
    fn a_rig_that_moves_does_not_hang() {
        assert_eq!(found(|_, _| ()), None);
    }

    #[test]
    fn each_part_that_stands_still_is_found_and_named() {
        let limit = Some(STILL_LIMIT);
        let of = |found: Option<(Part, Duration)>, part| {
            assert_eq!(found.map(|found| found.0), Some(part));
            found.map(|found| found.1)
        };
        let ffmpeg = found(|now, then| (now.encoded, now.ffmpeg) = (then.encoded, Some(process('T', 20))));
        assert_eq!(of(ffmpeg, Part::Ffmpeg), limit);
        // The question stays unanswered, and the screen thread waits with it.
        let xvfb = found(|now, then| {
            (now.answers, now.asked, now.xvfb) = (then.answers, true, Some(process('T', 20)));
            (now.screen_turns, now.frames, now.encoded) = (then.screen_turns, then.frames, then.encoded);
        });
        assert_eq!(of(xvfb, Part::Xvfb), limit);
        let pulse = found(|now, then| (now.samples, now.pulseaudio) = (then.samples, Some(process('T', 20))));
        assert_eq!(of(pulse, Part::PulseAudio), limit);
        let screen = found(|now, then| {
            (now.screen_turns, now.answers, now.asked) = (then.screen_turns, then.answers, false);
            (now.frames, now.encoded) = (then.frames, then.encoded);
        });
        assert_eq!(of(screen, Part::ScreenThread), limit);
        let sound = found(|now, then| (now.sound_turns, now.samples) = (then.sound_turns, then.samples));
        assert_eq!(of(sound, Part::SoundThread), limit);
        assert_eq!(of(found(|now, _| now.stopped_chrome = Some(process('T', 20))), Part::Chrome), limit);
        let stream = found(|now, then| (now.stream_turns, now.encoded) = (then.stream_turns, then.encoded));
        assert_eq!(of(stream, Part::StreamThread), limit);
    }

    #[test]
    fn a_part_that_owes_nothing_may_stand_still() {
        assert_eq!(found(|now, then| (now.answers, now.asked) = (then.answers, false)), None);
        assert_eq!(found(|now, then| (now.encoded, now.frames) = (then.encoded, then.frames)), None);
        assert_eq!(found(|now, then| (now.encoded, now.waits_for_far_end) = (then.encoded, true)), None);
    }

    #[test]
    fn a_busy_process_gets_more_time_and_not_for_ever() {
        for busy in [|_| process('R', 20), |_| process('D', 20), |n| process('S', n * 10)] {
            let hang = found(|now, then| (now.encoded, now.ffmpeg) = (then.encoded, Some(busy(now.frames))));
            assert_eq!(hang, Some((Part::Ffmpeg, BUSY_LIMIT)));
        }
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let mut watchdog = Watchdog::default();
        let still = Readings { ffmpeg: Some(process('S', 1)), ..well(2) };
        let waits = |frames| Readings { frames, screen_turns: frames, sound_turns: frames, ..still };
        let others = |n: u64| Readings { stream_turns: n, samples: n, answers: n, ..waits(n) };
        // A look every minute: the machine sleeps in between.
        for n in 0..8 {
            assert_eq!(watchdog.look(Duration::from_secs(60 * n), others(n)), None, "{n}");
        }
        let hang = watchdog.look(Duration::from_secs(600), others(9)).unwrap();
        assert_eq!((hang.part, hang.still), (Part::Ffmpeg, STILL_LIMIT));
    }

    #[test]
    fn the_part_that_made_another_one_break_is_suspected() {
        let mut watchdog = Watchdog::default();
        for n in 0..=5 {
            let stopped = Readings { answers: 1, asked: true, xvfb: Some(process('T', 1)), ..well(n) };
            assert_eq!(watchdog.look(Duration::from_millis(500 * n), stopped), None);
            let suspect = watchdog.suspect(Part::Xvfb, &stopped);
            assert_eq!(suspect.is_some(), n >= 4, "{n}: {suspect:?}");
            assert_eq!(watchdog.suspect(Part::PulseAudio, &stopped), None);
        }
    }

    #[test]
    fn a_cause_names_the_part_its_process_and_what_to_do() {
        let hang = |part, state| Hang { part, still: STILL_LIMIT, process: Some(process(state, 1)) };
        let cause = |part, state| hang(part, state).cause(None);
        assert_eq!(
            hang(Part::Ffmpeg, 'D').cause(Some("hangs: check it")),
            "ffmpeg hangs: it has encoded and written nothing for 8 s, while frames wait (its process 7 waits for a disk); \
             recorder.temporary_dir hangs: check it"
        );
        assert!(cause(Part::Ffmpeg, 'S').ends_with("while frames wait (its process 7 sleeps)"));
        assert_eq!(
            cause(Part::Xvfb, 'T'),
            "Xvfb hangs: it has not answered for 8 s (its process 7 is stopped: something sent it SIGSTOP)"
        );
        assert!(cause(Part::PulseAudio, 'S').contains("not even silence (its process 7 sleeps)"));
        let thread = Hang { part: Part::ScreenThread, still: STILL_LIMIT, process: None };
        assert!(thread.cause(None).starts_with("picture: its thread `screen` has stood still for 8 s"));
    }
}
