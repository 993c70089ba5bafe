//! What a store can do: each thing that delivery and what is built on it need, tried with small objects that are removed.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::config::store_url::StoreUrl;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::part_plan::PartPlan;
use crate::telemetry::log_throttle::LogThrottle;

/// Where the objects of the probe are, below the store's URL.
const DIR: &str = ".plugnmeet-recorder-check";
/// The smallest part but the last that every store takes.
const PART: usize = 5 << 20;
/// How often a store that is not ready is tried again.
const RETRY: Duration = Duration::from_secs(5 * 60);

/// What was tried, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeStep {
    Open,
    Put,
    Get,
    List,
    ConditionalPut,
    Multipart,
    Delete,
}

impl ProbeStep {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::ConditionalPut => "conditional put",
            Self::Multipart => "multipart",
            Self::Delete => "delete",
        }
    }

    /// Whether delivery cannot do without.
    #[must_use]
    pub fn is_needed(self) -> bool {
        !matches!(self, Self::List | Self::ConditionalPut)
    }
}

/// What one step came to.
#[derive(Debug)]
pub struct ProbeResult {
    pub step: ProbeStep,
    /// What was done, or why it failed.
    pub result: Result<Duration, StoreError>,
}

impl ProbeResult {
    /// What failed and what to do, for people.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.result {
            Ok(took) => format!("works ({} ms)", took.as_millis()),
            Err(error) if self.step.is_needed() => format!("{error}; {}", error.remedy()),
            Err(error) => format!("{error}; delivery does not need it"),
        }
    }
}

/// Tries everything. Where the store takes no object, the rest is left out. Removes what it has put.
pub async fn probe(store: &Store) -> Vec<ProbeResult> {
    let now = crate::unix_time::unix_ms();
    // Several nodes may try one store at once.
    let dir = format!("{DIR}/{now}-{}", std::process::id());
    let (object, new, large) = (format!("{dir}/object"), format!("{dir}/new"), format!("{dir}/large"));
    let content = Bytes::from(format!("a check of plugnmeet-recorder, {now}"));
    let mut results = Vec::new();
    let mut add = |step, began: Instant, result: Result<(), StoreError>| {
        let works = result.is_ok();
        results.push(ProbeResult { step, result: result.map(|()| began.elapsed()) });
        works
    };
    let began = Instant::now();
    if !add(ProbeStep::Put, began, store.put(&object, content.clone()).await) {
        return results;
    }
    let began = Instant::now();
    let got = store.get(&object).await.and_then(|got| {
        if got == content { Ok(()) } else { Err(StoreError::Mismatch("another object came back".to_owned())) }
    });
    add(ProbeStep::Get, began, got);
    let began = Instant::now();
    let listed = store.list(&dir).await.and_then(|names| {
        if names.contains(&object) { Ok(()) } else { Err(StoreError::Mismatch("the list lacks the object".to_owned())) }
    });
    add(ProbeStep::List, began, listed);
    let began = Instant::now();
    add(ProbeStep::ConditionalPut, began, conditional_put(store, &new, &content).await);
    let began = Instant::now();
    add(ProbeStep::Multipart, began, multipart(store, &large).await);
    let began = Instant::now();
    let mut deleted = Ok(());
    for key in [&new, &large, &object] {
        deleted = deleted.and(store.delete(key).await);
    }
    if deleted.is_ok() && store.head(&object).await.is_ok_and(|found| found.is_some()) {
        deleted = Err(StoreError::Mismatch("the object is still there".to_owned()));
    }
    if let Some(root) = store.url().directory() {
        // Only an empty one is removed.
        let _ = (std::fs::remove_dir(root.join(&dir)), std::fs::remove_dir(root.join(DIR)));
    }
    add(ProbeStep::Delete, began, deleted);
    results
}

/// Whether of several nodes that put one object only one succeeds. Removes what it has put.
///
/// # Errors
/// [`StoreError::Unsupported`] where it replaces an object; see [`StoreError`].
pub async fn leases(store: &Store) -> Result<(), StoreError> {
    let object = format!("{DIR}/{}-{}-lease", crate::unix_time::unix_ms(), std::process::id());
    let works = conditional_put(store, &object, &Bytes::from_static(b"{}")).await;
    let removed = store.delete(&object).await;
    works.and(removed)
}

async fn conditional_put(store: &Store, key: &str, content: &Bytes) -> Result<(), StoreError> {
    store.put_new(key, content.clone()).await?;
    match store.put_new(key, content.clone()).await {
        Err(StoreError::Exists) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(StoreError::Unsupported("it replaces an object that must not exist yet".to_owned())),
    }
}

async fn multipart(store: &Store, key: &str) -> Result<(), StoreError> {
    // A directory takes files whole.
    if store.parts().is_none() {
        return Ok(());
    }
    let id = store.begin_parts(key).await?;
    let sent = async {
        let bytes = Bytes::from(vec![7; PART + 1]);
        let plan = PartPlan::with(PART as u64 + 1, PART as u64);
        let mut ids = Vec::new();
        for index in 0..plan.count() {
            let (at, length) = plan.part(index);
            let (at, end) = (usize::try_from(at).unwrap_or(0), usize::try_from(at + length).unwrap_or(0));
            ids.push(store.put_part(key, &id, index, bytes.slice(at..end)).await?);
        }
        store.complete_parts(key, &id, ids).await
    };
    if let Err(error) = sent.await {
        // What it says of the part is told; what it says of giving up is not.
        let _ = store.abort_parts(key, &id).await;
        return Err(error);
    }
    match store.head(key).await? {
        Some(found) if found.size == PART as u64 + 1 => Ok(()),
        found => Err(StoreError::Mismatch(format!("{found:?} after all parts were sent"))),
    }
}

/// Tries a store of the configuration until it is ready, and warns while it is not.
pub async fn watch(url: StoreUrl, cancel: CancellationToken) {
    let mut throttle = LogThrottle::default();
    let watch = async {
        loop {
            let own = url.clone();
            // Reads certificates.
            let opened = tokio::task::spawn_blocking(move || Store::open(&own)).await;
            let results = match opened.map_err(|_| StoreError::Stopped).flatten() {
                Ok(store) => probe(&store).await,
                Err(error) => vec![ProbeResult { step: ProbeStep::Open, result: Err(error) }],
            };
            let missing =
                |needed| results.iter().filter(move |found| found.result.is_err() && found.step.is_needed() == needed);
            for found in missing(false) {
                tracing::info!(store = %url, step = found.step.name(), "of the store: {}", found.text());
            }
            let failed: Vec<String> =
                missing(true).map(|found| format!("{}: {}", found.step.name(), found.text())).collect();
            if failed.is_empty() {
                tracing::info!(store = %url, "a store of the configuration can do what is needed");
                return;
            }
            if throttle.due(Instant::now()) {
                tracing::warn!(
                    code = %codes::STORE_NOT_READY, store = %url,
                    "a store of the configuration is not ready: {}", failed.join("; ")
                );
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    cancel.run_until_cancelled(watch).await;
}
