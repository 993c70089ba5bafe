//! What runs at this moment, for the page.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::admin::http::node_state::NodeState;
use crate::admin::http::page::asset;
use crate::admin::http::page::processes::RigUse;
use crate::admin::http::{readiness, sampling};
use crate::admin::list;
use crate::fleet::availability::Obstacle;
use crate::nats::Nats;
use crate::process::cgroup::Cgroups;
use crate::recording::signals::ShownRecording;
use crate::telemetry::metrics::NodeGauge;
use crate::unix_time::unix_ms;

/// The node and its recordings. `rigs`: what the processes of each rig take.
pub(super) fn live(node: &NodeState, rigs: &BTreeMap<String, RigUse>) -> Value {
    let reasons = readiness::reasons(node);
    let drained = node.availability.watch().borrow().contains_key(&Obstacle::Drained);
    let recordings: Vec<Value> = node.recordings.shown().iter().map(|one| recording(one, rigs)).collect();
    let mut live = json!({
        "build": asset::build(),
        "now": unix_ms(),
        "node": {
            "id": node.id.to_string(),
            "version": env!("CARGO_PKG_VERSION"),
            "mode": node.mode.as_str(),
            "has_token": node.admin.token.is_some() || node.admin.token_file.is_some(),
            "drained": drained,
            "ready": reasons.is_empty(),
            "reasons": reasons,
            "running": node.running(),
            "max_limit": if node.mode.records() { node.max_limit } else { 0 },
            "cpu": node.parts.get().map(|parts| *parts.load.borrow()),
            "memory": sampling::memory(&Cgroups::of_this_process()),
            "nats": node.nats.get().is_some_and(Nats::is_connected),
            "server": node.metrics().get(NodeGauge::ServerReachable) > 0.0,
        },
        "recordings": recordings,
    });
    list::scrub(&mut live);
    live
}

fn recording(one: &ShownRecording, rigs: &BTreeMap<String, RigUse>) -> Value {
    let live = one.live.as_ref().map(|live| {
        let report = live.report();
        let (silent_s, still_s) = live.quiet_s();
        let used = rigs.get(&live.rig);
        json!({
            "level_dbfs": live.level_dbfs(),
            "silent_s": silent_s,
            "still_s": still_s,
            "duration_s": report.duration.as_secs_f64(),
            "frames": report.frames_sent,
            "frames_lost": report.frames_dropped + report.frames_late,
            "silence_share": report.sound.silence_share,
            "black_share": report.picture.black_share,
            "sound_gaps": report.corrections.gaps,
            "cpu": used.and_then(|used| used.cores),
            "memory": used.map(|used| used.memory),
        })
    });
    json!({
        "kind": one.kind.as_str(),
        "id": one.id.to_string(),
        "room": one.room.to_string(),
        "lost_before": one.lost_before,
        "live": live,
    })
}
