//! A node of the fleet, as the server sees it. Pure.

use serde::Serialize;

use crate::admin::cells::age_cell;
use crate::admin::table::Row;
use crate::protocol::selection::{Announcement, Choice};

/// One node of the fleet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeRow {
    pub id: String,
    /// `next`, `considered`, `takes nothing`, `silent` or `incomplete`.
    pub state: &'static str,
    /// Recordings and broadcasts.
    pub running: Option<u32>,
    pub max_limit: Option<u32>,
    pub cores: Option<u32>,
    /// 0…1.
    pub cpu_score: Option<f64>,
    /// The lowest of those that are considered gets the next START.
    pub score: Option<f64>,
    /// Of its last ping, by this host's clock; `null` where it takes nothing on or never pinged.
    pub ping_age_ms: Option<u64>,
    /// The host of the process that has the id, where it says so.
    pub host: Option<String>,
}

impl NodeRow {
    /// `now`: Unix milliseconds.
    #[must_use]
    pub fn new(id: &str, one: &Announcement, is_next: bool, host: Option<String>, now: u64) -> Self {
        let state = match one.choice(now) {
            Choice::Considered if is_next => "next",
            Choice::Considered => "considered",
            Choice::TakesNothing => "takes nothing",
            Choice::Silent => "silent",
            Choice::Incomplete => "incomplete",
        };
        let ping = one.last_ping.filter(|ping| *ping > 0);
        Self {
            id: id.to_owned(),
            state,
            running: one.current_progress,
            max_limit: one.max_limit,
            cores: one.total_cores,
            cpu_score: one.cpu_score,
            score: one.score().map(|score| (score * 1e4).round() / 1e4),
            ping_age_ms: ping.map(|ping| now.saturating_sub(ping)),
            host,
        }
    }
}

impl Row for NodeRow {
    const HEADER: &'static [&'static str] =
        &["NODE", "STATE", "RUNNING", "LIMIT", "CORES", "CPU", "SCORE", "LAST PING", "HOST"];

    fn cells(&self) -> Vec<String> {
        let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
        let share = |share: Option<f64>| share.map(|share| format!("{share:.4}")).unwrap_or_default();
        let age = age_cell(self.ping_age_ms.map(|age| age / 1000));
        vec![
            self.id.clone(),
            self.state.to_owned(),
            number(self.running),
            number(self.max_limit),
            number(self.cores),
            share(self.cpu_score),
            share(self.score),
            if age.is_empty() { age } else { format!("{age} ago") },
            self.host.clone().unwrap_or_default(),
        ]
    }
}
