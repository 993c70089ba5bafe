//! `/readyz`: whether the node would take work, and if not, why not.

use serde::{Deserialize, Serialize};

use crate::admin::http::node_state::NodeState;
use crate::codes::{self, Code};
use crate::nats::Nats;
use crate::telemetry::redact;

/// Why the node would take no work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "they are the names of the answer")]
pub struct Reason {
    /// One word for programs: an obstacle's name, `starting`, `nats` or `not_announced`.
    pub reason: String,
    /// The code that `explain` explains, as `PNR-0246`; a node of an earlier version gives none.
    #[serde(default)]
    pub code: Option<String>,
    /// One line for people.
    pub detail: String,
}

impl Reason {
    pub(super) fn new(reason: &str, code: Code, detail: &str) -> Self {
        let detail = redact::scrub(detail).into_owned();
        Self { reason: reason.to_owned(), code: Some(code.to_string()), detail }
    }
}

/// Why the node would take no work; empty where it would.
pub(super) fn reasons(node: &NodeState) -> Vec<Reason> {
    if node.parts.get().is_none() {
        return vec![Reason::new(
            "starting",
            codes::REFUSED_STARTING,
            "the node takes up what an earlier run has left",
        )];
    }
    let obstacles = node.availability.watch().borrow().clone();
    let of_obstacle = |(obstacle, detail): (_, String)| {
        let obstacle: crate::fleet::availability::Obstacle = obstacle;
        let detail = if detail.is_empty() { obstacle.refusal().to_owned() } else { detail };
        Reason::new(obstacle.as_str(), obstacle.code(), &detail)
    };
    let mut reasons: Vec<Reason> = obstacles.into_iter().map(of_obstacle).collect();
    if !node.nats.get().is_some_and(Nats::is_connected) {
        let detail = "there is no connection to NATS (nats_info.nats_urls); the log says why";
        reasons.push(Reason::new("nats", codes::NATS_NOT_CONNECTED, detail));
    } else if node.mode.records() && !node.availability.is_announced() {
        let detail = "this node is not announced to the fleet yet; the log says why";
        reasons.push(Reason::new("not_announced", codes::NOT_ANNOUNCED, detail));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_its_code_beside_its_text_and_one_of_an_earlier_version_is_still_read() {
        let reason = Reason::new("nats", codes::NATS_NOT_CONNECTED, "no connection");
        let json = serde_json::json!({"reason": "nats", "code": "PNR-0822", "detail": "no connection"});
        assert_eq!(serde_json::to_value(&reason).unwrap(), json);
        let earlier: Reason = serde_json::from_str(r#"{"reason": "nats", "detail": "no connection"}"#).unwrap();
        assert_eq!(earlier, Reason { code: None, ..reason });
    }
}
