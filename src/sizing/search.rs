//! Looks for the number of recordings that a machine holds, in few steps. Pure: what was measured comes in, how many
//! recordings are to run next goes out.
//!
//! A step opens recordings, which is dear, or closes some, which is cheap, and measures for some seconds. So the search
//! jumps by what the recordings cost so far, and where a jump went too far it halves the distance to the number that held.

use std::time::Duration;

use crate::sizing::window::Window;

/// The busy share of the processors up to which recordings are expected to hold.
const BUSY_EXPECTED: f64 = 0.97;
/// How far a jump goes towards what is expected.
const JUMP: f64 = 0.75;
/// Of what the cost of one recording alone lets expect, what is tried in any case: other programs that keep the
/// processors busy may step back behind recordings.
const TRIED_ANYWAY: f64 = 0.5;
/// Of the number that holds, the least that is added: where the processors look full, they may hold more.
const GROWTH: f64 = 0.2;
/// Where the first number does not hold, the share of it that is tried next.
const STEP_BACK: f64 = 0.75;

/// What bounds a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchLimits {
    /// The number that is tried first, at least 1.
    pub first: u32,
    /// The most that are tried.
    pub most: u32,
    /// Processors that may be used.
    pub cores: f64,
    /// From a change of the number until it is measured.
    pub look: Duration,
}

/// What the machine has at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resources {
    /// Recordings that run.
    pub running: u32,
    /// The most that the memory is enough for.
    pub room: u32,
    /// What one more takes to open, as one of many.
    pub opening: Duration,
    /// Until the search must be over.
    pub left: Duration,
}

/// Why a search is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchEnd {
    /// One more than held does not hold.
    Full,
    /// All that were to be tried hold.
    Most,
    /// There is no memory for one more.
    Memory,
    /// One more does not start, for this reason.
    NotStarted(String),
    /// The time is over.
    Time,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchStep {
    /// Have so many run, and measure.
    Measure(u32),
    End(SearchEnd),
}

/// A search so far.
#[derive(Clone, Debug)]
pub struct Search {
    limits: SearchLimits,
    windows: Vec<Window>,
}

impl Search {
    #[must_use]
    pub fn new(limits: SearchLimits) -> Self {
        Self { limits, windows: Vec::new() }
    }

    pub fn add(&mut self, window: Window) {
        self.windows.push(window);
    }

    /// Of the smallest number that does not hold, the latest window.
    #[must_use]
    pub fn failed(&self) -> Option<&Window> {
        self.latest().filter(|window| !window.holds()).min_by_key(|window| window.recordings)
    }

    /// Of the largest number that holds, the latest window. No smaller number fails.
    #[must_use]
    pub fn held(&self) -> Option<&Window> {
        let below = self.failed().map_or(u32::MAX, |failed| failed.recordings);
        let holding = self.latest().filter(|window| window.holds() && window.recordings < below);
        holding.max_by_key(|window| window.recordings)
    }

    /// The latest window of each number: an earlier one was doubtful.
    fn latest(&self) -> impl Iterator<Item = &Window> {
        let again = |at: usize, number| self.windows[at + 1..].iter().any(|later| later.recordings == number);
        self.windows
            .iter()
            .enumerate()
            .filter(move |(at, window)| !again(*at, window.recordings))
            .map(|(_, window)| window)
    }

    #[must_use]
    pub fn next(&self, now: &Resources) -> SearchStep {
        let SearchLimits { first, most, look, .. } = self.limits;
        let held = self.held().map_or(0, |window| window.recordings);
        let failed = self.failed().map(|window| window.recordings);
        let ceiling = most.min(now.room.max(1)).min(failed.map_or(u32::MAX, |failed| failed - 1));
        if self.is_in_doubt() && now.left >= look {
            return SearchStep::Measure(now.running);
        }
        if held >= ceiling {
            return SearchStep::End(match failed {
                Some(failed) if failed == held + 1 => SearchEnd::Full,
                _ if held >= most => SearchEnd::Most,
                _ => SearchEnd::Memory,
            });
        }
        let wanted = match (self.windows.last(), failed) {
            (None, _) => first,
            (_, Some(failed)) if held == 0 => share(failed, STEP_BACK),
            (_, Some(failed)) => u32::midpoint(held, failed),
            (Some(last), None) => {
                let jump = share(self.expected(last).saturating_sub(held), JUMP);
                held.saturating_add(jump.max(share(held, GROWTH)).max(1))
            }
        };
        let wanted = wanted.clamp(held + 1, ceiling);
        let opened = wanted.saturating_sub(now.running);
        let affordable = now.left.saturating_sub(look).as_secs_f64() / now.opening.as_secs_f64().max(1e-3);
        let affordable = whole(affordable);
        if now.left < look || (opened > affordable && now.running + affordable <= held) {
            // The first is always tried.
            return if self.windows.is_empty() {
                SearchStep::Measure(wanted)
            } else {
                SearchStep::End(SearchEnd::Time)
            };
        }
        SearchStep::Measure(if opened > affordable { now.running + affordable } else { wanted })
    }

    /// Whether the last window is to be looked at once more.
    fn is_in_doubt(&self) -> bool {
        let Some(last) = self.windows.last() else { return false };
        last.is_doubtful() && self.windows.iter().filter(|window| window.recordings == last.recordings).count() == 1
    }

    /// How many recordings are expected to hold.
    fn expected(&self, last: &Window) -> u32 {
        let cost = last.needs.cores.max(1e-3);
        let more = (BUSY_EXPECTED - last.busy).max(0.0) * self.limits.cores / cost;
        (last.recordings.saturating_add(whole(more))).max(whole(TRIED_ANYWAY * self.limits.cores / cost))
    }
}

fn share(of: u32, share: f64) -> u32 {
    whole(f64::from(of) * share)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of the type")]
fn whole(number: f64) -> u32 {
    number.clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests;
