//! NATS: each server by itself, what the plugNmeet server has made there, and the rights of a recorder.

use std::time::{Duration, UNIX_EPOCH};

use crate::check::clock::{self, ClockSample};
use crate::check::report::Finding;
use crate::config::Config;
use crate::nats::Nats;
use crate::nats::probe::{self, BucketAnswer, NatsProbe};

/// Time limit of a connection: nats-server itself waits 5 s for a plugNmeet server that does not answer for it.
const CONNECT_LIMIT: Duration = Duration::from_secs(8);
/// Time limit for all questions after it: each has one of 5 s.
const ASK_LIMIT: Duration = Duration::from_secs(12);

const MADE_BY_SERVER: &str =
    "the plugNmeet server makes it at its start: does that run, with the same names under nats_info.recorder?";

/// The lines `NATS` (one for each server), `bucket`, `job queue` and `rights`, and the clock of NATS.
pub async fn check(config: &Config) -> (Vec<Finding>, Option<ClockSample>) {
    let id = &config.recorder.id;
    let probes = match probe::each_server(&config.nats, &config.server, id, CONNECT_LIMIT).await {
        Ok(probes) => probes,
        Err(error) => return (unasked(vec![Finding::fault("NATS", error.to_string())]), None),
    };
    let first = probes.iter().find_map(|probe| Some((probe.connected.as_ref().ok()?, probe)));
    let lines: Vec<Finding> = probes.iter().map(|probe| server_line(probe, first.is_some())).collect();
    let Some((nats, of)) = first else { return (unasked(lines), None) };
    if let Ok((answers, sample)) = tokio::time::timeout(ASK_LIMIT, ask(config, nats, of)).await {
        return (lines.into_iter().chain(answers).collect(), sample);
    }
    let silent = Finding::fault("bucket", format!("NATS has answered nothing for {} s", ASK_LIMIT.as_secs()));
    let rest = ["job queue", "rights"].map(|name| Finding::skipped(name, "NATS does not answer"));
    (lines.into_iter().chain([silent]).chain(rest).collect(), None)
}

fn unasked(mut lines: Vec<Finding>) -> Vec<Finding> {
    lines
        .extend(["bucket", "job queue", "rights"].map(|name| Finding::skipped(name, "there is no connection to NATS")));
    lines
}

/// `others`: whether another server can be connected to.
fn server_line(probe: &NatsProbe, others: bool) -> Finding {
    match &probe.connected {
        Ok(nats) => {
            let (name, version) = nats.server();
            Finding::ok("NATS", format!("{}: {name}, version {version}, takes this node's token", probe.address))
        }
        Err(error) if others => {
            Finding::warning("NATS", format!("{error} (another server of the cluster can be used)"))
        }
        Err(error) => Finding::fault("NATS", error.to_string()),
    }
}

async fn ask(config: &Config, nats: &Nats, probe: &NatsProbe) -> (Vec<Finding>, Option<ClockSample>) {
    let (bucket, queue) = tokio::join!(nats.ask_for_bucket(), nats.ask_for_queue());
    let (has_bucket, has_queue) = (bucket.is_ok(), queue.is_ok());
    let sample = bucket.as_ref().ok().and_then(sample);
    let names = &config.nats;
    let bucket = match bucket {
        Ok(_) => Finding::ok("bucket", format!("{} is there", names.recorder_info_kv)),
        Err(error) => Finding::fault("bucket", format!("{error}; {MADE_BY_SERVER}")),
    };
    let queue = match queue {
        Ok(state) => Finding::ok(
            "job queue",
            format!("{} and its consumer are there, {} jobs wait", names.transcoding_jobs_subject, state.pending),
        ),
        Err(error) => Finding::fault("job queue", format!("{error}; {MADE_BY_SERVER}")),
    };
    (vec![bucket, queue, rights(config, nats, probe, has_bucket, has_queue).await], sample)
}

fn sample(answer: &BucketAnswer) -> Option<ClockSample> {
    Some(ClockSample {
        of: "NATS",
        asked: answer.asked.duration_since(UNIX_EPOCH).ok()?,
        answered: answer.answered.duration_since(UNIX_EPOCH).ok()?,
        told: clock::rfc3339(answer.told.as_deref()?)?,
        resolution: Duration::ZERO,
    })
}

/// Whether everything is allowed that a recorder does. Only what exists is tried.
async fn rights(config: &Config, nats: &Nats, probe: &NatsProbe, has_bucket: bool, has_queue: bool) -> Finding {
    let records = config.recorder.mode.records();
    let listening = async {
        // Kept until the others have their answers: by then a refusal has come.
        if records { nats.try_listening().await.map(Some) } else { Ok(None) }
    };
    let bucket = async { if records && has_bucket { nats.try_bucket(&config.recorder.id).await } else { Ok(()) } };
    let jobs = async { if records && has_queue { nats.try_publishing().await } else { Ok(()) } };
    let (listening, bucket, jobs) = tokio::join!(listening, bucket, jobs);
    if !has_bucket && !has_queue {
        // Nothing has been answered since.
        let _ = nats.ask_for_bucket().await;
    }
    let refusals = probe.refusals();
    let failures = [listening.err(), bucket.err(), jobs.err()].into_iter().flatten().map(|error| error.to_string());
    let said: Vec<String> = if refusals.is_empty() { failures.collect() } else { refusals };
    if said.is_empty() {
        return Finding::ok("rights", "NATS refuses nothing that a recorder does");
    }
    Finding::fault(
        "rights",
        format!(
            "NATS refuses what a recorder does ({}): compare nats_info.recorder with the same names in the plugNmeet \
             server's configuration",
            said.join("; ")
        ),
    )
}
