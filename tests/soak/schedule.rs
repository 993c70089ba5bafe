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
/// How long something stands still that goes on afterwards.
const STANDS_STILL: (f64, f64) = (2.0, 20.0);
/// How long a disk is away: beyond the watchdog's patience, and within what recordings are tried again for.
const DISK_AWAY: (f64, f64) = (2.0, 20.0);

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

/// A directory of the recorder on a file system of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Temporary,
    Main,
    State,
}

/// What such a file system does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    Hangs,
    /// ENOSPC.
    Full,
    /// EROFS.
    ReadOnly,
    /// EIO.
    Fails,
}

/// What goes wrong. `convert`: whether the daemon's next life encodes MP4s, which takes longer, or remuxes. What `lasts`
/// is well again afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill(Part),
    /// SIGSTOP; nobody lets it go on.
    Hang(Part),
    CrashPage,
    HangPage,
    KillDaemon {
        away: Duration,
        convert: bool,
    },
    /// SIGTERM.
    EndDaemon {
        away: Duration,
        convert: bool,
    },
    HangDaemon {
        lasts: Duration,
    },
    NatsAway {
        lasts: Duration,
        killed: bool,
    },
    HangNats {
        lasts: Duration,
    },
    ServerFails {
        lasts: Duration,
    },
    ServerHangs {
        lasts: Duration,
    },
    /// A proxy answers for the server.
    ProxyFails {
        lasts: Duration,
    },
    /// The next ffmpeg that makes an MP4.
    KillTranscoder,
    HangTranscoder {
        lasts: Duration,
    },
    Disk {
        place: Place,
        fault: DiskFault,
        lasts: Duration,
    },
    /// The file system of `main_path` is unmounted.
    Unmount {
        lasts: Duration,
    },
}

impl Fault {
    /// Its name in the ledger, and for [`Schedule::draw`].
    pub fn kind(&self) -> String {
        match self {
            Self::Disk { place, fault, .. } => format!("Disk({place:?}, {fault:?})"),
            // `Kill(Chrome)`, but of `NatsAway { … }` only the name.
            other => format!("{other:?}").split(" {").next().unwrap_or_default().to_owned(),
        }
    }
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
    /// Enough for `length`; who carries it out stops there. `without`: the beginnings of the kinds of faults that are left
    /// out.
    pub fn draw(dice: &mut Dice, length: Duration, lanes: usize, without: &[String]) -> Self {
        Self { lanes: (0..lanes).map(|_| takes(dice, length)).collect(), strikes: strikes(dice, length, without) }
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
fn strikes(dice: &mut Dice, length: Duration, without: &[String]) -> Vec<Strike> {
    let mut strikes = Vec::new();
    let mut drawn = Duration::ZERO;
    while drawn < length {
        let mut faults = deck(dice);
        faults.retain(|fault| !without.iter().any(|without| fault.kind().starts_with(without.as_str())));
        for fault in faults {
            let strike = Strike { after: between(dice, APART), fault, pick: dice.roll(1 << 32) };
            drawn += strike.after;
            strikes.push(strike);
        }
    }
    strikes
}

/// Every kind of fault, in any order; of each directory a hang and one of the errors.
fn deck(dice: &mut Dice) -> Vec<Fault> {
    let mut deck = Vec::new();
    for part in [Part::Ffmpeg, Part::Xvfb, Part::PulseAudio, Part::Chrome] {
        deck.extend([Fault::Kill(part), Fault::Hang(part)]);
    }
    let mut convert = || dice.roll(3) == 0;
    let (after_kill, after_second_kill, after_end) = (convert(), convert(), convert());
    deck.extend([
        Fault::CrashPage,
        Fault::HangPage,
        Fault::KillDaemon { away: between(dice, DAEMON_AWAY), convert: after_kill },
        Fault::KillDaemon { away: Duration::ZERO, convert: after_second_kill },
        Fault::EndDaemon { away: between(dice, DAEMON_AWAY), convert: after_end },
        Fault::HangDaemon { lasts: between(dice, STANDS_STILL) },
        Fault::NatsAway { lasts: between(dice, NATS_AWAY), killed: dice.roll(2) == 0 },
        Fault::HangNats { lasts: between(dice, STANDS_STILL) },
        Fault::ServerFails { lasts: between(dice, SERVER_AWAY) },
        Fault::ServerHangs { lasts: between(dice, SERVER_AWAY) },
        Fault::ProxyFails { lasts: between(dice, SERVER_AWAY) },
        Fault::KillTranscoder,
        Fault::HangTranscoder { lasts: between(dice, STANDS_STILL) },
        Fault::Unmount { lasts: between(dice, DISK_AWAY) },
    ]);
    for place in [Place::Temporary, Place::Main, Place::State] {
        let error = match dice.roll(3) {
            0 => DiskFault::Full,
            1 => DiskFault::ReadOnly,
            _ => DiskFault::Fails,
        };
        let disk = |fault, lasts| Fault::Disk { place, fault, lasts };
        deck.extend([disk(DiskFault::Hangs, between(dice, DISK_AWAY)), disk(error, between(dice, DISK_AWAY))]);
    }
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
        let draw = |seed| Schedule::draw(&mut Dice::seeded(seed), LENGTH, 2, &[]);
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_soak_is_full_of_every_fault_and_leaves_time_between_them() {
        for seed in 1..50 {
            let Schedule { lanes, strikes } = Schedule::draw(&mut Dice::seeded(seed), LENGTH, 3, &[]);
            assert_eq!(lanes.len(), 3);
            for lane in &lanes {
                assert!(lane.iter().map(|take| take.after + take.lasts).sum::<Duration>() >= LENGTH, "seed {seed}");
            }
            assert!(strikes.iter().map(|strike| strike.after).sum::<Duration>() >= LENGTH, "seed {seed}");
            assert!(strikes.iter().all(|strike| strike.after >= Duration::from_secs(5)), "seed {seed}");
            let mut first: Vec<String> = strikes[..28].iter().map(|strike| strike.fault.kind()).collect();
            first.sort_unstable();
            first.dedup();
            // The daemon is killed twice.
            assert_eq!(first.len(), 27, "seed {seed}: {first:?}");
        }
    }

    #[test]
    fn faults_are_left_out_by_the_beginning_of_their_kind() {
        let without = ["Disk(Main".to_owned(), "Kill(Xvfb)".to_owned(), "Hang".to_owned()];
        let Schedule { strikes, .. } = Schedule::draw(&mut Dice::seeded(3), LENGTH, 1, &without);
        let kinds: Vec<String> = strikes.iter().map(|strike| strike.fault.kind()).collect();
        for left_out in ["Disk(Main, Hangs)", "Kill(Xvfb)", "Hang(Ffmpeg)", "HangNats"] {
            assert!(!kinds.contains(&left_out.to_owned()), "{left_out}");
        }
        for kind in ["Disk(State, Hangs)", "Kill(Ffmpeg)", "Unmount", "NatsAway"] {
            assert!(kinds.contains(&kind.to_owned()), "{kind} in {kinds:?}");
        }
    }
}
