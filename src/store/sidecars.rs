//! What is delivered beside an MP4: the summary of its recording.

use bytes::Bytes;

use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::record::UploadRecord;

/// Puts them; each replaces what is there.
pub(super) async fn put(store: &Store, record: &UploadRecord) -> Result<(), StoreError> {
    let Some(summary) = &record.summary else { return Ok(()) };
    store.put(&summary_key(&record.key), Bytes::from(summary.clone().into_bytes())).await
}

/// The names of everything that belongs to the MP4 of this name, itself first.
#[must_use]
pub fn all_of(key: &str) -> [String; 2] {
    [key.to_owned(), summary_key(key)]
}

fn summary_key(key: &str) -> String {
    format!("{}.json", key.strip_suffix(".mp4").unwrap_or(key))
}
