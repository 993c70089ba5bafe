//! One file into a store, once: in parts, behind those that the store has of an earlier attempt, and checked.
//!
//! ```text
//! small file       put whole ──────────────────────────────────────────────┐
//! other            begin, id into the record → parts → complete ───────────┤
//! file:// store    hidden copy → read back → rename                        ▼
//!                                            size, and checksum: ETag, else the parts', else all is read back
//! ```
//!
//! Where the answer to *complete* is lost, the store does not know the upload any more: then the object itself decides.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::storage::files;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::part_plan::{self, PartComparison, PartPlan};
use crate::store::record::{PartTransfer, UploadEntry};
use crate::store::transfer::{Source, send_parts};
use crate::store::{local_copy, stray_uploads};

/// Delivers the record's file. Returns its size once the store has confirmed it.
///
/// # Errors
/// See [`StoreError`]; the record says how far it came.
pub(super) async fn deliver(
    store: &Store,
    entry: &UploadEntry,
    permits: &Semaphore,
    cancel: &CancellationToken,
) -> Result<u64, StoreError> {
    let record = entry.record();
    let source = Source::look(&record.file).await?;
    if let Some(root) = store.url().directory() {
        return copy(store, &source, root.to_owned(), record.key, cancel).await;
    }
    let plan = PartPlan::of(source.size);
    let work = async {
        if plan.is_single() {
            put_whole(store, entry, &source).await
        } else {
            put_in_parts(store, entry, &source, plan, permits).await
        }
    };
    cancel.run_until_cancelled(work).await.unwrap_or(Err(StoreError::Stopped))?;
    Ok(source.size)
}

/// Copies into the directory of a `file://` store.
async fn copy(
    store: &Store,
    source: &Source,
    root: PathBuf,
    key: String,
    cancel: &CancellationToken,
) -> Result<u64, StoreError> {
    // Written, and read back.
    let limit = store.limit(2 * source.size);
    let given_up = cancel.child_token();
    let _given_up = given_up.clone().drop_guard();
    let (from, copies) = (source.path.clone(), Arc::clone(&store.copies));
    let what = format!("copying {} to {}", from.display(), store.url());
    let work = async {
        let permit = copies.acquire_owned().await.map_err(io::Error::other)?;
        let copy = move || {
            let size = local_copy::copy(&from, &root, &key, &given_up);
            drop(permit);
            size
        };
        files::on_disk(copy).await
    };
    let ended = cancel.run_until_cancelled(tokio::time::timeout(limit, work)).await.ok_or(StoreError::Stopped)?;
    ended.map_err(|_| StoreError::Late(limit))?.map_err(StoreError::local(what))
}

/// Gives up what the store may hold of an upload that is not completed.
pub(super) async fn abort(store: &Store, entry: &UploadEntry) -> Result<(), StoreError> {
    let record = entry.record();
    if let Some(root) = store.url().directory() {
        let (root, key) = (root.to_owned(), record.key.clone());
        let removed = files::on_disk(move || local_copy::remove_unfinished(&root, &key)).await;
        return removed.map_err(StoreError::local("what an unfinished copy has left"));
    }
    if let Some(transfer) = &record.transfer {
        store.abort_parts(&record.key, &transfer.id).await?;
    }
    if record.begun {
        stray_uploads::abort(store, &record.key, None).await?;
    }
    let none = |record: &mut crate::store::record::UploadRecord| (record.transfer, record.begun) = (None, false);
    entry.update(none).await;
    Ok(())
}

async fn put_whole(store: &Store, entry: &UploadEntry, source: &Source) -> Result<(), StoreError> {
    let record = entry.record();
    if record.begun {
        // Of a longer file of this name.
        abort(store, entry).await?;
    }
    let (bytes, md5) = source.read(0, source.size).await?;
    store.put(&record.key, bytes).await?;
    let sent = Sent { source, plan: PartPlan::of(source.size), md5s: vec![md5], whole: true, checked: false };
    sent.confirm(store, &record.key).await
}

async fn put_in_parts(
    store: &Store,
    entry: &UploadEntry,
    source: &Source,
    plan: PartPlan,
    permits: &Semaphore,
) -> Result<(), StoreError> {
    let key = entry.record().key;
    let transfer = match entry.record().transfer {
        Some(transfer) if source.is_of(&transfer) => transfer,
        _ => begin(store, entry, source, plan).await?,
    };
    let plan = PartPlan::with(transfer.size, transfer.part_size);
    let id = transfer.id.clone();
    let transfer = match send_parts(store, entry, source, transfer, permits).await {
        Ok(transfer) => transfer,
        Err(error) => {
            let asked = matches!(error, StoreError::Other(_) | StoreError::Unreachable(_));
            if error.is_unknown_upload() || (asked && stray_uploads::is_over(store, &key, &id).await) {
                tracing::info!("the store does not know the upload any more: it is begun anew");
                entry.update(|record| record.transfer = None).await;
            }
            return Err(error);
        }
    };
    // All parts are noted before they become an object: what a killed node has noted is enough to compare it.
    entry.update(|_| {}).await;
    if Source::look(&source.path).await? != *source {
        entry.update(|record| record.transfer = None).await;
        return Err(StoreError::Mismatch(format!("{} was changed while it was delivered", source.path.display())));
    }
    let ids: Vec<String> = transfer.parts.values().map(|part| part.id.clone()).collect();
    // A store that answers with a part's checksum has compared it.
    let checked = ids.iter().all(|id| id.contains("checksum"));
    let md5s: Vec<String> = transfer.parts.values().map(|part| part.md5.clone()).collect();
    let completed = store.complete_parts(&key, &transfer.id, ids).await;
    let fresh = completed.is_ok();
    let sent = Sent { source, plan, md5s, whole: false, checked: checked && fresh };
    match (sent.confirm(store, &key).await, completed) {
        (Ok(()), Ok(())) => {}
        (Ok(()), Err(error)) => {
            tracing::info!(%error, "the answer of the store was lost, but it has the object");
        }
        // Not there, or another one: it was not completed.
        (Err(found), Err(error)) => {
            if !error.is_unknown_upload() {
                return Err(error);
            }
            if matches!(found, StoreError::Mismatch(_)) {
                entry.update(|record| record.transfer = None).await;
            }
            return Err(found);
        }
        (Err(error), Ok(())) => {
            if matches!(error, StoreError::Mismatch(_)) {
                entry.update(|record| record.transfer = None).await;
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Begins an upload in parts; its id is in the record when this returns.
async fn begin(
    store: &Store,
    entry: &UploadEntry,
    source: &Source,
    plan: PartPlan,
) -> Result<PartTransfer, StoreError> {
    let record = entry.record();
    if let Some(earlier) = &record.transfer {
        // Of another file of this name.
        if let Err(error) = store.abort_parts(&record.key, &earlier.id).await {
            warn_of_strays(&record.key, &error);
        }
    }
    entry.update(|record| record.begun = true).await;
    let id = store.begin_parts(&record.key).await?;
    let (size, modified) = (source.size, source.modified);
    let transfer =
        PartTransfer { id, size, modified, part_size: plan.part_size, parts: std::collections::BTreeMap::new() };
    let noted = transfer.clone();
    entry.update(|record| record.transfer = Some(noted)).await;
    // The client asks again where an answer is lost, and each request may have begun one.
    if let Err(error) = stray_uploads::abort(store, &record.key, Some(&transfer.id)).await {
        warn_of_strays(&record.key, &error);
    }
    Ok(transfer)
}

pub(super) fn warn_of_strays(key: &str, error: &StoreError) {
    tracing::warn!(
        code = %codes::UPLOAD_NOT_ABORTED, key, %error,
        "an unfinished upload in the store cannot be given up; a rule of the bucket should remove such ones"
    );
}

/// What was sent, to be compared with what the store has.
struct Sent<'a> {
    source: &'a Source,
    plan: PartPlan,
    md5s: Vec<String>,
    whole: bool,
    /// The store has compared a checksum of each part, and has just confirmed the whole.
    checked: bool,
}

impl Sent<'_> {
    async fn confirm(&self, store: &Store, key: &str) -> Result<(), StoreError> {
        let Some(found) = store.head(key).await? else {
            return Err(StoreError::Mismatch("it is not there".to_owned()));
        };
        if found.size != self.source.size {
            return Err(StoreError::Mismatch(format!("{} bytes instead of {}", found.size, self.source.size)));
        }
        let expected = part_plan::etag(&self.md5s, self.whole);
        if expected.is_some() && expected == found.etag {
            return Ok(());
        }
        if self.checked {
            return Ok(());
        }
        // Some servers give the MD5 of the whole also to what came in parts.
        if let Some(etag) = found.etag.filter(|etag| etag.len() == 32 && !self.whole)
            && self.source.md5().await? == etag
        {
            return Ok(());
        }
        tracing::debug!(key, "the store tells no checksum that can be compared: the object is read back");
        let mut comparison = PartComparison::new(self.plan, &self.md5s);
        store.read(key, self.source.size, |bytes| comparison.take(&bytes)).await?;
        if !comparison.is_same() {
            return Err(StoreError::Mismatch("other bytes were read back".to_owned()));
        }
        Ok(())
    }
}
