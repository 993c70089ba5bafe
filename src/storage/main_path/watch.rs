//! Looks at `main_path` every few seconds and logs changes.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::storage::detached;
use crate::storage::main_path::abilities::StoreAbilities;
use crate::storage::main_path::handle::{MainPath, StoreFault, StoreStatus};

const INTERVAL: Duration = Duration::from_secs(5);
/// Time limit of a look, which may hang on a lost share.
const DEADLINE: Duration = Duration::from_secs(4);

/// Looks at `main_path` for the first time; its status is known when this returns.
pub async fn first_look(store: &MainPath) {
    let mut looking = start(store);
    let looked = next(store, &mut looking).await;
    publish(store, looked, true);
}

/// Looks at `main_path` every 5 s until cancelled, and logs changes.
pub async fn watch(store: MainPath, cancel: CancellationToken) {
    let mut looking = None;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // One look at a time: on a lost share it may never return.
        let mut pending = looking.take().unwrap_or_else(|| start(&store));
        let Some(looked) = cancel.run_until_cancelled(next(&store, &mut pending)).await else { return };
        if matches!(looked, Err(StoreFault::Silent(_))) {
            looking = Some(pending);
        }
        publish(&store, looked, false);
    }
}

type Look = oneshot::Receiver<Result<StoreAbilities, StoreFault>>;

fn start(store: &MainPath) -> Look {
    let store = store.clone();
    detached::start("main_path", move || store.look())
}

async fn next(store: &MainPath, looking: &mut Look) -> Result<StoreAbilities, StoreFault> {
    match tokio::time::timeout(DEADLINE, looking).await {
        Ok(Ok(looked)) => looked,
        Ok(Err(_)) => Err(StoreFault::Io {
            path: store.path().to_owned(),
            source: std::io::Error::other("no thread could be started to look"),
        }),
        Err(_) => Err(StoreFault::Silent(store.path().to_owned())),
    }
}

fn publish(store: &MainPath, looked: Result<StoreAbilities, StoreFault>, first: bool) {
    let (fault, abilities) = match looked {
        Ok(abilities) => (None, abilities),
        Err(fault) => (Some(fault.to_string()), store.abilities()),
    };
    let before = store.publish(StoreStatus { fault: fault.clone(), abilities });
    if let Some(fault) = &fault
        && before.fault.as_ref() != Some(fault)
    {
        tracing::error!(
            code = %codes::MAIN_PATH_AWAY,
            "recorder.copy_to_path.main_path: {fault}; no new work is taken, and what is to be stored there waits"
        );
    }
    if fault.is_none() && before.fault.is_some() {
        tracing::info!(path = %store.path().display(), "main_path can be used again");
    }
    if fault.is_none()
        && (first || before.abilities != abilities)
        && let Some(missing) = abilities.missing()
    {
        tracing::info!(
            path = %store.path().display(), missing,
            "main_path cannot do all that a disk can: results are made in temporary_dir and then copied"
        );
    }
}
