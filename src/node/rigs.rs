//! What captures meetings on a node, made of its configuration.

use std::sync::Arc;

use crate::capture::browser::{sandbox, trusted_roots};
use crate::codes;
use crate::config::Config;
use crate::fleet::load;
use crate::fleet::slots::Slots;
use crate::node::supervisor::Supervisor;
use crate::process::cgroup::Cgroups;
use crate::recording::live_rig_factory::LiveRigFactory;
use crate::recording::one_pass::OnePass;
use crate::storage::main_path::MainPath;

/// Which recordings are encoded as their MP4 while they run; `None`: none.
pub(super) fn one_pass(config: &Config, slots: &Slots, supervisor: &Supervisor) -> Option<OnePass> {
    let cores = load::capacity(&Cgroups::of_this_process());
    let one_pass = OnePass::new(config, cores, slots.running(), slots.costs())?;
    supervisor.tasks.spawn(one_pass.clone().watch(supervisor.shutdown.end.clone()));
    Some(one_pass)
}

/// # Errors
/// Where the certificates that Chrome is to trust cannot be prepared.
pub(super) async fn factory(
    config: &Config,
    store: &MainPath,
    one_pass: Option<OnePass>,
) -> anyhow::Result<Arc<LiveRigFactory>> {
    let sandbox = config.recorder.mode.records() && chrome_sandbox(config).await;
    if config.recorder.mode.records() {
        trusted_roots::prepare(&config.recorder.state_dir, &config.server).await?;
    }
    Ok(Arc::new(LiveRigFactory::new(config, store, sandbox).with_one_pass(one_pass)))
}

async fn chrome_sandbox(config: &Config) -> bool {
    match sandbox::check().await {
        // The operator may turn it off (chrome_settings.flags).
        Ok(()) => !config.chrome.flags.iter().any(|flag| flag.name == "no-sandbox"),
        Err(reason) => {
            tracing::warn!(code = %codes::NO_SANDBOX, %reason, "Chrome runs without its sandbox: allow this user user namespaces");
            false
        }
    }
}
