//! What belongs to an MP4: the summary of its recording, which is delivered beside it, and its HLS.

use bytes::Bytes;

use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::record::UploadRecord;

/// The directory beside the rooms.
pub const HLS: &str = "hls";

/// Puts the summary, which replaces one that is there.
pub(super) async fn put(store: &Store, record: &UploadRecord) -> Result<(), StoreError> {
    let Some(summary) = &record.summary else { return Ok(()) };
    store.put(&summary_key(&record.key), Bytes::from(summary.clone().into_bytes())).await
}

/// The names of the MP4 of this name and of its summary.
#[must_use]
pub fn all_of(key: &str) -> [String; 2] {
    [key.to_owned(), summary_key(key)]
}

/// The directory of the HLS of the MP4 of this name, in the store as in `main_path`: `SUB_PATH/hls/ROOM_ID/RECORDING_ID`.
/// It is not in the room's directory, which the server removes when that is empty (PROTOCOL 9).
#[must_use]
pub fn hls_dir(key: &str) -> String {
    let stem = key.strip_suffix(".mp4").unwrap_or(key);
    let mut names: Vec<&str> = stem.split('/').filter(|name| !name.is_empty()).collect();
    names.insert(names.len().saturating_sub(2), HLS);
    names.join("/")
}

fn summary_key(key: &str) -> String {
    format!("{}.json", key.strip_suffix(".mp4").unwrap_or(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hls_of_a_recording_lies_beside_its_room() {
        assert_eq!(hls_dir("node_01/room01/RM_1.mp4"), "node_01/hls/room01/RM_1");
        assert_eq!(hls_dir("a/b/room01/RM.1.mp4"), "a/b/hls/room01/RM.1");
        assert_eq!(
            (hls_dir("room01/RM_1.mp4").as_str(), hls_dir("RM_1.mp4").as_str()),
            ("hls/room01/RM_1", "hls/RM_1")
        );
    }
}
