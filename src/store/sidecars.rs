//! What is delivered beside an MP4 or a raw file: the summary of its recording.

use bytes::Bytes;

use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::record::UploadRecord;

/// Puts them; each replaces what is there.
pub(super) async fn put(store: &Store, record: &UploadRecord) -> Result<(), StoreError> {
    let Some(summary) = &record.summary else { return Ok(()) };
    store.put(&summary_key(&record.key), Bytes::from(summary.clone().into_bytes())).await
}

/// The names of everything that belongs to the MP4 or raw file of this name, itself first.
#[must_use]
pub fn all_of(key: &str) -> [String; 2] {
    [key.to_owned(), summary_key(key)]
}

fn summary_key(key: &str) -> String {
    let stem = [".mp4", ".mkv"].iter().find_map(|end| key.strip_suffix(end));
    format!("{}.json", stem.unwrap_or(key))
}
