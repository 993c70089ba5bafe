//! What belongs to a file in a store: the summary of a recording, its poster and thumbnails, the reports on a raw file, which
//! are delivered beside it; and where the HLS of an MP4 is.

use bytes::Bytes;

use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::record::UploadRecord;

/// The directory beside the rooms.
pub const HLS: &str = "hls";

/// The pictures of an MP4.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// JPEG.
    pub poster: Vec<u8>,
    /// The thumbnails as tiles of one picture, JPEG.
    pub sprite: Vec<u8>,
    /// The index of the sprite, `WebVTT`, which names it by [`sprite_name`].
    pub index: String,
}

/// Puts the texts that belong to a file; each replaces what is there.
pub(super) async fn put_texts(store: &Store, record: &UploadRecord) -> Result<(), StoreError> {
    if let Some(summary) = &record.summary {
        put(store, &summary_key(&record.key), summary.clone().into_bytes()).await?;
    }
    for report in &record.reports {
        put(store, &report.key, report.text.clone().into_bytes()).await?;
    }
    Ok(())
}

/// Puts the pictures of the MP4 of this name. The index comes last: what it names is there then.
pub(super) async fn put_pictures(store: &Store, key: &str, pictures: Pictures) -> Result<(), StoreError> {
    let Pictures { poster, sprite, index } = pictures;
    put(store, &poster_key(key), poster).await?;
    put(store, &sprite_key(key), sprite).await?;
    put(store, &index_key(key), index.into_bytes()).await
}

async fn put(store: &Store, key: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
    store.put(key, Bytes::from(bytes)).await
}

/// The names of everything that belongs to the MP4 or raw file of this name, itself first.
#[must_use]
pub fn all_of(key: &str) -> [String; 5] {
    [key.to_owned(), summary_key(key), index_key(key), poster_key(key), sprite_key(key)]
}

/// The address of the sprite relative to its index: the last part of its name.
#[must_use]
pub fn sprite_name(key: &str) -> String {
    let sprite = sprite_key(key);
    sprite.rsplit('/').next().unwrap_or(&sprite).to_owned()
}

/// The name of the summary of a file.
#[must_use]
pub fn summary_key(key: &str) -> String {
    format!("{}.json", stem(key))
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

fn poster_key(key: &str) -> String {
    format!("{}.jpg", stem(key))
}

fn sprite_key(key: &str) -> String {
    format!("{}.thumbnails.jpg", stem(key))
}

fn index_key(key: &str) -> String {
    format!("{}.vtt", stem(key))
}

fn stem(key: &str) -> &str {
    [".mp4", ".mkv"].iter().find_map(|end| key.strip_suffix(end)).unwrap_or(key)
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
