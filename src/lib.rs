//! plugnmeet-recorder: records plugNmeet meetings and turns the recordings into MP4s.
//!
//! ARCHITECTURE.md is the map of these modules; [`run`] is the wiring.

pub mod backoff;
pub mod capture;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod fleet;
pub mod nats;
pub mod preflight;
pub mod process;
pub mod protocol;
pub mod recording;
pub mod rigs;
pub mod scripts;
pub mod storage;
pub mod telemetry;
pub mod tls;
pub mod transcode;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use capture::rig::LiveRig;
use capture::{browser, sandbox};
use config::Config;
use delivery::jobs::JobPublisher;
use delivery::notifier::Notifier;
use fleet::heartbeat::Heartbeat;
use fleet::load;
use fleet::permits::Permits;
use nats::{ConnectError, Nats};
use recording::driver::Surroundings;
use recording::service::Service;
use recording::summary::Summaries;
use rigs::Rigs;
use transcode::worker;

/// What is still to be told or published when everything else has ended gets this much longer.
const DELIVERY_GRACE: Duration = Duration::from_secs(10);

/// Runs the node until `shutdown`; back when recordings are closed, jobs handed back and the server told.
///
/// # Errors
/// Where the host lacks something the node needs, or the configuration turns out to be unusable.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let _secrets: Vec<_> = config.secrets().into_iter().map(telemetry::redact::register).collect();
    let recorder = config.recorder.id.clone();
    let mode = config.recorder.mode;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), id = %recorder, mode = mode.as_str(), pid = std::process::id(), "starting");
    tls::provide_crypto();
    check_host(&config)?;

    let notifier = Notifier::new(&config.server, &recorder)?;
    let nats = match Nats::connect(&config.nats, &config.server, &recorder, &shutdown).await {
        Ok(nats) => nats,
        Err(ConnectError::Cancelled) => return Ok(()),
        Err(error) => return Err(error.into()),
    };

    let tasks = TaskTracker::new();
    let (load, loads) = watch::channel(0.0);
    let failed = CancellationToken::new();
    vital(&tasks, &shutdown, &failed, "load", load::measure(load, shutdown.clone()));
    if mode.records() {
        let permits = Permits::new(config.recorder.max_limit);
        let requests = nats.requests().await?;
        let heartbeat = Heartbeat {
            nats: nats.clone(),
            recorder: recorder.clone(),
            max_limit: config.recorder.max_limit,
            total_cores: load::total_cores(),
            progress: permits.running(),
            load: loads.clone(),
        };
        let publisher = JobPublisher::new(nats.clone(), shutdown.clone(), DELIVERY_GRACE);
        let summaries = Summaries::new(&config.recorder.state_dir);
        let surroundings =
            Surroundings { recorder: recorder.clone(), notifier: notifier.clone(), publisher, summaries };
        let rigs = Arc::new(Rigs::new(config.clone(), chrome_sandbox(&config).await));
        let service = Service::<LiveRig>::new(surroundings, permits, rigs);
        vital(&tasks, &shutdown, &failed, "requests", service.run(requests, shutdown.clone()));
        // Listening first, announcing second: no request is missed.
        vital(&tasks, &shutdown, &failed, "heartbeat", heartbeat.run(shutdown.clone()));
    }
    if mode.transcodes() {
        let (nats, notifier, cancel) = (nats.clone(), notifier.clone(), shutdown.clone());
        let settings = transcode::job::Settings::from(&config);
        vital(&tasks, &shutdown, &failed, "transcoder", async move {
            if let Some(jobs) = nats.jobs(&cancel).await {
                worker::run(jobs, notifier, settings, loads, cancel).await;
            }
        });
    }
    tasks.close();
    tasks.wait().await;
    notifier.shutdown(DELIVERY_GRACE).await;
    anyhow::ensure!(!failed.is_cancelled(), "stopped because a part of the node has ended by itself");
    tracing::info!("stopped");
    Ok(())
}

/// Runs a part that the node cannot do without: should it end before the node does, so does the node.
fn vital(
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
    failed: &CancellationToken,
    name: &'static str,
    part: impl Future<Output = ()> + Send + 'static,
) {
    let (shutdown, failed) = (shutdown.clone(), failed.clone());
    tasks.spawn(async move {
        // In a task of its own, so that a panic ends here.
        let ended = tokio::spawn(part).await;
        if shutdown.is_cancelled() && ended.is_ok() {
            return;
        }
        tracing::error!(
            part = name,
            ?ended,
            "a part of the node has ended by itself: shutting down; restart the recorder"
        );
        failed.cancel();
        shutdown.cancel();
    });
}

/// Names everything the host lacks, and what of the configuration is not heeded.
fn check_host(config: &Config) -> anyhow::Result<()> {
    let faults = preflight::check(config);
    for fault in &faults {
        tracing::error!("{fault}");
    }
    anyhow::ensure!(
        faults.is_empty(),
        "this host is not ready: {}",
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    );
    for flag in browser::ignored_flags(&config.chrome.flags) {
        tracing::warn!(flag, "chrome_settings.flags: this flag is the recorder's own and is not heeded");
    }
    if config.hooks_configured {
        tracing::warn!(
            "hooks are configured, but this version does not run them yet; recorder.post_processing_scripts are run"
        );
    }
    Ok(())
}

async fn chrome_sandbox(config: &Config) -> bool {
    match sandbox::check().await {
        // The operator may still turn it off (chrome_settings.flags).
        Ok(()) => !config.chrome.flags.iter().any(|flag| flag.name == "no-sandbox"),
        Err(reason) => {
            tracing::warn!(%reason, "Chrome runs without its sandbox");
            false
        }
    }
}
