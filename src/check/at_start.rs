//! The quick part of the checks, which the daemon runs at its start and writes into its log.

use std::sync::Arc;

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::check::report::{Finding, Report, Verdict};
use crate::check::run::{quick, together};
use crate::config::Config;
use crate::telemetry::redact;

/// Checks this host, and logs what was found in one block of lines: a warning for what is not well, and one line for all
/// that is. Runs beside the start, which does not wait for it. Ends early, without a word, when cancelled.
pub async fn log_quick_part(config: Arc<Config>, cancel: CancellationToken) {
    let mut report = Report::default();
    let mut found = together(quick(&config), &cancel);
    while let Some(findings) = found.next().await {
        report.0.extend(findings);
    }
    if cancel.is_cancelled() {
        return;
    }
    // That the recorder runs with this configuration is known, and of these two the start has warned already.
    report.0.retain(|finding| finding.check != "recorder");
    report
        .0
        .retain(|finding| finding.verdict != Verdict::Warning || !["sandbox", "state_dir"].contains(&finding.check));
    let (well, others): (Vec<&Finding>, Vec<&Finding>) =
        report.0.iter().partition(|finding| finding.verdict == Verdict::Ok);
    let well: Vec<&str> = well.iter().map(|finding| finding.check).collect();
    tracing::info!("check of this host: {}; ✓ {}", report.summary(), well.join(", "));
    for finding in others {
        let line = finding.line();
        let line = redact::scrub(&line);
        match finding.code() {
            None => tracing::info!("check of this host: {line}"),
            Some(code) => tracing::warn!(code = %code, "check of this host: {line}"),
        }
    }
}
