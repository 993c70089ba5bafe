//! Whether the operator's scripts can run. None is run.

use std::time::Duration;

use crate::check::report::Finding;
use crate::config::{Config, HookStage};
use crate::scripts::{hooks, post_processing};
use crate::storage::detached;

/// Time limit for looking at them; they may be on a share.
const LIMIT: Duration = Duration::from_secs(5);

/// The hooks, and the post-processing scripts.
pub async fn check(config: &Config) -> Vec<Finding> {
    let mode = config.recorder.mode;
    let stages = HookStage::of(mode);
    let steps: usize = stages.iter().map(|stage| config.hooks.stage(*stage).steps.len()).sum();
    let configured = config.hooks.clone();
    let hooks =
        look("hooks", steps, move || hooks::check(&configured, &stages).iter().map(ToString::to_string).collect());
    let scripts = if mode.transcodes() { config.recorder.post_processing_scripts.clone() } else { Vec::new() };
    let scripts = look("scripts", scripts.len(), move || {
        post_processing::check(&scripts).iter().map(ToString::to_string).collect()
    });
    let (hooks, scripts) = tokio::join!(hooks, scripts);
    vec![hooks, scripts]
}

async fn look(name: &'static str, count: usize, problems: impl FnOnce() -> Vec<String> + Send + 'static) -> Finding {
    if count == 0 {
        return Finding::ok(name, "none are configured");
    }
    match tokio::time::timeout(LIMIT, detached::start("check-scripts", problems)).await {
        Ok(Ok(problems)) if problems.is_empty() => Finding::ok(name, format!("{count} can be run")),
        Ok(Ok(problems)) => Finding::fault(name, problems.join("; ")),
        Ok(Err(_)) => Finding::fault(name, "no thread could be started to look at them"),
        Err(_) => Finding::fault(
            name,
            format!("their disk or share does not answer within {} s: look at its mount", LIMIT.as_secs()),
        ),
    }
}
