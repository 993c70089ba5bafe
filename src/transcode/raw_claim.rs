//! Which node reports the result of a raw file that is in a store, to the server: as [`crate::transcode::claim`], but for
//! nodes that share no directory. The claim is an object beside the raw file, which goes after it.
//!
//! Where the store puts an object only if there is none yet, one node gets it. Where it cannot, each looks before and after
//! it puts its own: only two nodes that do so within the same moment might both report, which tells the server the same
//! twice.

use std::time::Duration;

use bytes::Bytes;

use crate::codes;
use crate::protocol::ids::RecorderId;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::transcode::claim::{ResultClaim, STALE};

/// What stands behind the raw file's name.
const SUFFIX: &str = ".claim";
const REPORTED: &str = "reported";
const REPORTED_KEEP_RAW: &str = "reported, raw file kept";

/// The name of the claim's object.
#[must_use]
pub fn key(raw: &str) -> String {
    format!("{raw}{SUFFIX}")
}

/// Who has claimed it; `None`: nobody, or a node that left it unfinished. `now`: Unix milliseconds.
///
/// # Errors
/// See [`StoreError`].
pub async fn look(store: &Store, raw: &str, node: &RecorderId, now: u64) -> Result<Option<ResultClaim>, StoreError> {
    match store.get(&key(raw)).await {
        Ok(content) => Ok(read(&String::from_utf8_lossy(&content), node, now)),
        Err(StoreError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Claims the result for `node`, unless another one has.
///
/// # Errors
/// See [`StoreError`].
pub async fn take(store: &Store, raw: &str, node: &RecorderId, now: u64) -> Result<ResultClaim, StoreError> {
    if let Some(found) = look(store, raw, node, now).await? {
        return Ok(found);
    }
    let own = Bytes::from(text(node, now, None));
    match store.put_new(&key(raw), own.clone()).await {
        Ok(()) => {}
        // That of a node which left it unfinished, unless one came first just now.
        Err(StoreError::Exists) => {
            if let Some(found) = look(store, raw, node, now).await? {
                return Ok(found);
            }
            tracing::warn!(
                code = %codes::CLAIM_TAKEN_OVER, claim = store.url().object(&key(raw)),
                "another node has left its job unfinished"
            );
            store.put(&key(raw), own).await?;
        }
        Err(StoreError::Unsupported(_)) => store.put(&key(raw), own).await?,
        Err(error) => return Err(error),
    }
    let found = look(store, raw, node, now).await?;
    Ok(found.unwrap_or(ResultClaim::Ours))
}

/// Notes in a claim of `node` that its result was reported. Another node's, or none, is left as it is.
///
/// # Errors
/// See [`StoreError`].
pub async fn mark_reported(
    store: &Store,
    raw: &str,
    node: &RecorderId,
    keep_raw: bool,
    now: u64,
) -> Result<(), StoreError> {
    if look(store, raw, node, now).await? != Some(ResultClaim::Ours) {
        return Ok(());
    }
    store.put(&key(raw), Bytes::from(text(node, now, Some(keep_raw)))).await
}

/// Gives a claim back; none is no error.
///
/// # Errors
/// See [`StoreError`].
pub async fn release(store: &Store, raw: &str) -> Result<(), StoreError> {
    store.delete(&key(raw)).await
}

/// The node, when, and whether it was reported, with the raw file kept.
fn text(node: &RecorderId, now: u64, reported: Option<bool>) -> String {
    let state = reported.map_or("", |keep_raw| if keep_raw { REPORTED_KEEP_RAW } else { REPORTED });
    format!("{node}\n{now}\n{state}\n")
}

fn read(content: &str, node: &RecorderId, now: u64) -> Option<ResultClaim> {
    let mut lines = content.lines();
    let (holder, at) = (lines.next()?.to_owned(), lines.next()?.parse::<u64>().ok()?);
    match lines.next() {
        Some(REPORTED) => return Some(ResultClaim::Reported { node: holder, keep_raw: false }),
        Some(REPORTED_KEEP_RAW) => return Some(ResultClaim::Reported { node: holder, keep_raw: true }),
        _ => {}
    }
    if holder == node.as_str() {
        return Some(ResultClaim::Ours);
    }
    // A clock that is ahead of this one does not make a claim last longer than twice.
    let since = Duration::from_millis(now.abs_diff(at));
    (since < STALE).then_some(ResultClaim::Of { node: holder, since })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_its_nodes_until_it_is_stale_and_for_ever_once_reported() {
        let [a, b] = ["a", "b"].map(|id| RecorderId::parse(id).unwrap());
        let (now, later) = (1_800_000_000_000, 1_800_000_000_000 + 601_000);
        let plain = text(&a, now, None);
        assert_eq!(read(&plain, &a, later), Some(ResultClaim::Ours));
        assert!(
            matches!(read(&plain, &b, now + 5000), Some(ResultClaim::Of { node, since }) if node == "a" && since.as_secs() == 5)
        );
        assert_eq!(read(&plain, &b, later), None);
        for keep_raw in [true, false] {
            let reported = ResultClaim::Reported { node: "a".to_owned(), keep_raw };
            assert_eq!(read(&text(&a, now, Some(keep_raw)), &b, later), Some(reported));
        }
        for broken in ["", "a", "a\nsoon\n", "\n\n"] {
            assert_eq!(read(broken, &b, now), None, "{broken:?}");
        }
    }
}
