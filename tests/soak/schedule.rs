//! What a soak does and when, drawn from a seed: pure.

use std::time::Duration;

use crate::dice::Dice;

/// Between the end of a fault and the next one, in seconds.
const APART: (f64, f64) = (5.0, 15.0);
/// How long a recording is to last, in seconds.
const LASTS: (f64, f64) = (15.0, 75.0);
/// Before a lane's next recording, in seconds.
const PAUSE: (f64, f64) = (1.0, 5.0);
/// How long the daemon stays away, in seconds.
const DAEMON_AWAY: (f64, f64) = (0.0, 10.0);
const NATS_AWAY: (f64, f64) = (1.0, 8.0);
const SERVER_AWAY: (f64, f64) = (1.0, 10.0);

/// How a recording ends, if nothing ends it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Stop,
    MeetingOver,
}

/// One recording that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// Since the lane's last one has ended.
    pub after: Duration,
    pub lasts: Duration,
    pub end: End,
    pub webcams: u8,
}

/// A process of a rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Ffmpeg,
    Xvfb,
    PulseAudio,
    Chrome,
}

/// What goes wrong. `convert`: whether the daemon's next life encodes MP4s, which takes longer, or remuxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill(Part),
    HangChrome,
    CrashPage,
    KillDaemon {
        away: Duration,
        convert: bool,
    },
    /// SIGTERM.
    EndDaemon {
        away: Duration,
        convert: bool,
    },
    NatsAway {
        lasts: Duration,
        killed: bool,
    },
    ServerFails {
        lasts: Duration,
    },
    ServerHangs {
        lasts: Duration,
    },
    /// The next ffmpeg that makes an MP4.
    KillTranscoder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// Since the last one.
    pub after: Duration,
    pub fault: Fault,
    /// Which recording it meets: this modulo how many there are.
    pub pick: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// As many recordings at once; each lane's come one after the other.
    pub lanes: Vec<Vec<Take>>,
    pub strikes: Vec<Strike>,
}

impl Schedule {
    /// Enough for `length`; who carries it out stops there.
    pub fn draw(dice: &mut Dice, length: Duration, lanes: usize) -> Self {
        Self { lanes: (0..lanes).map(|_| takes(dice, length)).collect(), strikes: strikes(dice, length) }
    }
}

fn takes(dice: &mut Dice, length: Duration) -> Vec<Take> {
    let mut takes = Vec::new();
    let mut drawn = Duration::ZERO;
    while drawn < length {
        let take = Take {
            after: between(dice, PAUSE),
            lasts: between(dice, LASTS),
            end: if dice.roll(4) == 0 { End::MeetingOver } else { End::Stop },
            webcams: u8::from(dice.roll(2) == 0),
        };
        drawn += take.after + take.lasts;
        takes.push(take);
    }
    takes
}

/// Each kind comes once before any comes again.
fn strikes(dice: &mut Dice, length: Duration) -> Vec<Strike> {
    let mut strikes = Vec::new();
    let mut drawn = Duration::ZERO;
    while drawn < length {
        for fault in deck(dice) {
            let strike = Strike { after: between(dice, APART), fault, pick: dice.roll(1 << 32) };
            drawn += strike.after;
            strikes.push(strike);
        }
    }
    strikes
}

/// Every kind of fault, in any order.
fn deck(dice: &mut Dice) -> Vec<Fault> {
    let mut convert = || dice.roll(3) == 0;
    let (after_kill, after_second_kill, after_end) = (convert(), convert(), convert());
    let mut deck = vec![
        Fault::Kill(Part::Ffmpeg),
        Fault::Kill(Part::Xvfb),
        Fault::Kill(Part::PulseAudio),
        Fault::Kill(Part::Chrome),
        Fault::HangChrome,
        Fault::CrashPage,
        Fault::KillDaemon { away: between(dice, DAEMON_AWAY), convert: after_kill },
        Fault::KillDaemon { away: Duration::ZERO, convert: after_second_kill },
        Fault::EndDaemon { away: between(dice, DAEMON_AWAY), convert: after_end },
        Fault::NatsAway { lasts: between(dice, NATS_AWAY), killed: dice.roll(2) == 0 },
        Fault::ServerFails { lasts: between(dice, SERVER_AWAY) },
        Fault::ServerHangs { lasts: between(dice, SERVER_AWAY) },
        Fault::KillTranscoder,
    ];
    for last in (1..deck.len()).rev() {
        let other = usize::try_from(dice.roll(last as u64 + 1)).unwrap_or(last);
        deck.swap(last, other);
    }
    deck
}

fn between(dice: &mut Dice, (least, most): (f64, f64)) -> Duration {
    Duration::from_secs_f64(least + dice.seconds(most - least))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(600);

    #[test]
    fn the_same_seed_draws_the_same_soak_and_another_one_another() {
        let draw = |seed| Schedule::draw(&mut Dice::seeded(seed), LENGTH, 2);
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_soak_is_full_of_every_fault_and_leaves_time_between_them() {
        for seed in 1..50 {
            let Schedule { lanes, strikes } = Schedule::draw(&mut Dice::seeded(seed), LENGTH, 3);
            assert_eq!(lanes.len(), 3);
            for lane in &lanes {
                assert!(lane.iter().map(|take| take.after + take.lasts).sum::<Duration>() >= LENGTH, "seed {seed}");
            }
            assert!(strikes.iter().map(|strike| strike.after).sum::<Duration>() >= LENGTH, "seed {seed}");
            assert!(strikes.iter().all(|strike| strike.after >= Duration::from_secs(5)), "seed {seed}");
            let first: Vec<Fault> = strikes[..13].iter().map(|strike| strike.fault).collect();
            for fault in [Fault::HangChrome, Fault::CrashPage, Fault::KillTranscoder, Fault::Kill(Part::Xvfb)] {
                assert_eq!(first.iter().filter(|one| **one == fault).count(), 1, "seed {seed}: {fault:?}");
            }
        }
    }
}
