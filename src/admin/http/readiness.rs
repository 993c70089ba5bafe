//! `/readyz`: whether the node would take work, and if not, why not.

use serde::{Deserialize, Serialize};

use crate::admin::http::node_state::NodeState;
use crate::nats::Nats;
use crate::telemetry::redact;

/// Why the node would take no work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// One word for programs: an obstacle's name, `starting`, `nats` or `not_announced`.
    pub reason: String,
    /// One line for people.
    pub detail: String,
}

impl Reason {
    pub(super) fn new(reason: &str, detail: &str) -> Self {
        Self { reason: reason.to_owned(), detail: redact::scrub(detail).into_owned() }
    }
}

/// Why the node would take no work; empty where it would.
pub(super) fn reasons(node: &NodeState) -> Vec<Reason> {
    if node.parts.get().is_none() {
        return vec![Reason::new("starting", "the node takes up what an earlier run has left")];
    }
    let obstacles = node.availability.watch().borrow().clone();
    let of_obstacle = |(obstacle, detail): (_, String)| {
        let obstacle: crate::fleet::availability::Obstacle = obstacle;
        let detail = if detail.is_empty() { obstacle.refusal().to_owned() } else { detail };
        Reason::new(obstacle.as_str(), &detail)
    };
    let mut reasons: Vec<Reason> = obstacles.into_iter().map(of_obstacle).collect();
    if !node.nats.get().is_some_and(Nats::is_connected) {
        reasons.push(Reason::new("nats", "there is no connection to NATS (nats_info.nats_urls); the log says why"));
    } else if node.mode.records() && !node.availability.is_announced() {
        reasons.push(Reason::new("not_announced", "this node is not announced to the fleet yet; the log says why"));
    }
    reasons
}
