//! Which recorder the server gives its next START (PROTOCOL 2). Pure.

use std::collections::BTreeMap;

/// The server drops a recorder from its choice whose last ping is older (its `ping_timeout`), in milliseconds.
pub const PING_TIMEOUT_MS: u64 = 8_000;

/// What a recorder has written into the bucket; `None`: nothing, or no number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Announcement {
    pub max_limit: Option<u32>,
    /// Unix milliseconds; 0: it takes nothing on.
    pub last_ping: Option<u64>,
    pub total_cores: Option<u32>,
    pub current_progress: Option<u32>,
    pub cpu_score: Option<f64>,
}

/// Whether the server considers a recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is chosen where its score is the lowest.
    Considered,
    /// It has taken itself out of the choice: full, draining, or something is wrong with it.
    TakesNothing,
    /// Its last ping is too old: it has ended, or is cut off.
    Silent,
    /// It has not written all of its fields.
    Incomplete,
}

impl Announcement {
    /// Reads a field's value. Fields of other numbers are ignored, as by the server.
    pub fn set(&mut self, field: &str, value: &str) {
        match field {
            "0" => self.max_limit = value.parse().ok(),
            "1" => self.last_ping = value.parse().ok(),
            "2" => self.total_cores = value.parse().ok(),
            "3" => self.current_progress = value.parse().ok(),
            "4" => self.cpu_score = value.parse().ok().filter(|score: &f64| score.is_finite()),
            _ => {}
        }
    }

    /// `now`: Unix milliseconds.
    #[must_use]
    pub fn choice(&self, now: u64) -> Choice {
        match (self.last_ping, self.score()) {
            (Some(0), _) => Choice::TakesNothing,
            (None, _) | (_, None) => Choice::Incomplete,
            (Some(ping), _) if now.saturating_sub(ping) > PING_TIMEOUT_MS => Choice::Silent,
            _ => Choice::Considered,
        }
    }

    /// The server's cost of giving it work: the lowest gets it. `None` where it cannot be computed.
    #[must_use]
    pub fn score(&self) -> Option<f64> {
        let limit = f64::from(self.max_limit.filter(|limit| *limit > 0)?);
        let cores = f64::from(self.total_cores.filter(|cores| *cores > 0)?);
        let progress = f64::from(self.current_progress.unwrap_or(0)) / limit;
        Some((0.6 * progress + 0.4 * self.cpu_score.unwrap_or(0.0)) * 2.0 / cores)
    }
}

/// The recorder that the server would choose at `now` (Unix milliseconds); of equals, the first by id.
#[must_use]
pub fn next(recorders: &BTreeMap<String, Announcement>, now: u64) -> Option<&str> {
    let considered = recorders.iter().filter(|(_, one)| one.choice(now) == Choice::Considered);
    let scores = considered.filter_map(|(id, one)| Some((id, one.score()?)));
    scores.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(id, _)| id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn announcement(values: [&str; 5]) -> Announcement {
        let mut one = Announcement::default();
        for (field, value) in values.into_iter().enumerate() {
            one.set(&field.to_string(), value);
        }
        one.set("100", "{}");
        one
    }

    #[test]
    fn the_lowest_score_of_those_that_are_considered_is_next() {
        let fresh = (NOW - 8_000).to_string();
        let old = (NOW - 8_001).to_string();
        let all = BTreeMap::from([
            ("busy".to_owned(), announcement(["10", &fresh, "4", "5", "0.5"])),
            ("idle".to_owned(), announcement(["10", &fresh, "4", "0", "0.1"])),
            ("away".to_owned(), announcement(["10", &old, "64", "0", "0"])),
            ("full".to_owned(), announcement(["10", "0", "64", "10", "0"])),
            ("new".to_owned(), announcement(["", &fresh, "64", "0", "0"])),
            ("broken".to_owned(), announcement(["0", &fresh, "x", "0", "NaN"])),
        ]);
        let score = |id: &str| all[id].score();
        assert!((score("busy").unwrap() - 0.25).abs() < 1e-9 && (score("idle").unwrap() - 0.02).abs() < 1e-9);
        assert_eq!(next(&all, NOW), Some("idle"));
        let choice = |id: &str| all[id].choice(NOW);
        assert_eq!(
            ["busy", "away", "full", "new", "broken"].map(choice),
            [Choice::Considered, Choice::Silent, Choice::TakesNothing, Choice::Incomplete, Choice::Incomplete]
        );
        assert_eq!(next(&all, NOW + 1), None);
    }
}
