//! Records a built-in page for some seconds, with the rig that meetings are recorded by.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::capture::cpu_use::CaptureCpu;
use crate::capture::rig::{CaptureReport, LiveRig, OpenError, Rig as _, RigSpec};

/// The time limit for opening the rig; each of its parts has a limit of its own.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// A recording that was made.
#[derive(Clone, Debug)]
pub struct TestRecording {
    pub report: CaptureReport,
    /// Processors that it took while it ran: 1.0 is one of them.
    pub cores: f64,
}

/// Records for `length`. When this returns, the rig is closed; the file of `spec` is left to the caller.
///
/// # Errors
/// What failed, or `cancelled`.
pub async fn record(spec: RigSpec, length: Duration, cancel: CancellationToken) -> Result<TestRecording, String> {
    let limit = cancel.child_token();
    let opening = LiveRig::open(spec, limit.clone());
    let mut opening = std::pin::pin!(opening);
    let opened = if let Ok(opened) = tokio::time::timeout(OPEN_LIMIT, &mut opening).await {
        opened
    } else {
        limit.cancel();
        opening.await.map_err(|_| OpenError::Failed(format!("no picture came within {} s", OPEN_LIMIT.as_secs())))
    };
    let mut rig = opened.map_err(|error| match error {
        OpenError::Cancelled => "cancelled".to_owned(),
        OpenError::Over(cause)
        | OpenError::Unrecordable(cause)
        | OpenError::Refused(cause)
        | OpenError::Failed(cause) => cause,
    })?;
    let mut cpu = CaptureCpu::default();
    cpu.used();
    let begun = Instant::now();
    let broken = cancel.run_until_cancelled(tokio::time::timeout(length, rig.broken())).await;
    let cores = cpu.used().as_secs_f64() / begun.elapsed().as_secs_f64().max(1e-3);
    let (report, finished) = rig.finish().await;
    rig.close().await;
    match broken {
        None => return Err("cancelled".to_owned()),
        Some(Ok(failure)) => return Err(failure.cause),
        Some(Err(_)) => {}
    }
    finished?;
    Ok(TestRecording { report, cores })
}
