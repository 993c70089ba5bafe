//! `/protect`: whether a scale-in must not take this node, and why.

use crate::admin::http::node_state::NodeState;
use crate::store::uploads::Uploads;
use crate::telemetry::metrics::NodeGauge;

/// Why the node must be left alone; empty where it may be taken.
pub(super) fn reasons(node: &NodeState) -> Vec<String> {
    let Some(parts) = node.parts.get() else {
        return vec!["it starts, and does not know yet what an earlier run has left".to_owned()];
    };
    let (running, in_hand, kept) = (node.running(), node.recordings.in_hand(), node.kept());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of jobs")]
    let jobs = node.metrics().get(NodeGauge::JobsRunning) as usize;
    let undelivered = parts.outbox.backlog().messages;
    let mut reasons = Vec::new();
    let mut add = |count: usize, what: &str| {
        if count > 0 {
            reasons.push(format!("{count} {what}"));
        }
    };
    add(running, "recordings or broadcasts run");
    add(in_hand.saturating_sub(running), "recordings are not stored yet");
    // What is in hand has a record too.
    add(kept.recordings.saturating_sub(in_hand), "recordings of an earlier run are not handed over (recordings list)");
    add(jobs, "transcoding jobs are in hand");
    add(kept.jobs.saturating_sub(jobs), "transcoding jobs wait here to be tried again (jobs list)");
    add(undelivered, "messages are not delivered (outbox list)");
    add(node.uploads.get().map_or(0, Uploads::waiting), "files are not in their store yet (store list)");
    reasons
}
