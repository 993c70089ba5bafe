//! An object store of the configuration, with the objects of `store check`.

use crate::check::report::Finding;
use crate::config::store_url::StoreUrl;
use crate::store::handle::Store;
use crate::store::probe;

/// `takes`: what it is for.
pub async fn check(url: &StoreUrl, takes: &str) -> Finding {
    let own = url.clone();
    // Reads certificates.
    let opened = tokio::task::spawn_blocking(move || Store::open(&own)).await;
    let store = match opened {
        Ok(Ok(store)) => store,
        Ok(Err(error)) => return Finding::fault("store", format!("{url}: {error}; {}", error.remedy())),
        Err(_) => return Finding::fault("store", format!("{url}: this check itself has failed")),
    };
    let results = probe::probe(&store).await;
    let failed: Vec<_> = results.iter().filter(|found| found.result.is_err()).collect();
    let texts =
        || failed.iter().map(|found| format!("{}: {}", found.step.name(), found.text())).collect::<Vec<_>>().join("; ");
    if failed.is_empty() {
        return Finding::ok("store", format!("{url} takes {takes}"));
    }
    // Recordings wait for a store that is away, so that the node can work without.
    Finding::warning("store", format!("{url}: {}", texts()))
}
