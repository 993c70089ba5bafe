//! The HLS of a recording into the store, beside its MP4: media first, the master playlist last. It is there only as long
//! as the MP4: the server may have that deleted by way of any node.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::hls::error::HlsError;
use crate::hls::packager::MASTER;
use crate::hls::record::HlsRecord;
use crate::storage::files;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::object_file::ObjectHeaders;
use crate::store::record::DIR as UPLOADS;

/// The end of a playlist's name.
const PLAYLIST: &str = ".m3u8";
/// A playlist is looked at again each time: it names the media files of today.
pub(super) const OF_PLAYLISTS: ObjectHeaders =
    ObjectHeaders { content_type: "application/vnd.apple.mpegurl", cache_control: "no-cache" };
/// A media file of this name is never another one.
pub(super) const OF_MEDIA: ObjectHeaders =
    ObjectHeaders { content_type: "video/mp4", cache_control: "public, max-age=31536000, immutable" };
/// Time limit for the disk.
const DISK_LIMIT: Duration = Duration::from_secs(30);

/// Puts the files of a record.
///
/// # Errors
/// Where the store or the disk fails. [`HlsError::WithoutMp4`]: the store has the MP4 no more, and nothing of its HLS.
pub(super) async fn deliver(
    store: &Store,
    record: &HlsRecord,
    local: &Path,
    cancel: &CancellationToken,
) -> Result<(), HlsError> {
    let (dir, names) = (record.dir(), record.files.clone().unwrap_or_default());
    let missing = if record.only_in_store { &[] } else { names.as_slice() };
    for name in missing {
        let (key, path) = (format!("{dir}/{name}"), local.join(name));
        if !name.ends_with(PLAYLIST) {
            store.put_file(&key, &path, OF_MEDIA, cancel).await?;
            continue;
        }
        let text = files::on_disk_within(DISK_LIMIT, move || std::fs::read(path)).await;
        let text = text.map_err(HlsError::disk(format!("reading {}", local.join(name).display())))?;
        let put = store.put_with(&key, Bytes::from(text), OF_PLAYLISTS);
        cancel.run_until_cancelled(put).await.unwrap_or(Err(StoreError::Stopped))?;
    }
    let clean_up = async {
        // It may have been deleted meanwhile, and the HLS that was there then.
        let is_deleted = store.head(&record.key).await?.is_none();
        let keep = if is_deleted { &[] } else { names.as_slice() };
        store.delete_below(&dir, MASTER, keep).await?;
        Ok(is_deleted)
    };
    if cancel.run_until_cancelled(clean_up).await.unwrap_or(Err(StoreError::Stopped))? {
        return Err(HlsError::WithoutMp4(format!("the store has {} no more", record.key)));
    }
    Ok(())
}

/// Waits until the store has the MP4.
///
/// # Errors
/// Where the store or the disk fails. [`HlsError::WithoutMp4`]: it has no MP4, and nobody is about to put it there.
pub(super) async fn wait_for_mp4(
    store: &Store,
    record: &HlsRecord,
    state_dir: &Path,
    every: Duration,
    cancel: &CancellationToken,
) -> Result<(), HlsError> {
    let upload = state_dir.join(UPLOADS).join(format!("{}.json", record.recording_id));
    let wait = async {
        loop {
            let at = upload.clone();
            // Before the store is asked: it is removed after it has the MP4.
            let is_coming = files::on_disk_within(DISK_LIMIT, move || at.try_exists()).await;
            let is_coming = is_coming.map_err(HlsError::disk(upload.display().to_string()))?;
            if store.head(&record.key).await?.is_some() {
                return Ok(());
            }
            if !is_coming {
                return Err(HlsError::WithoutMp4(format!("the store does not have {}", record.key)));
            }
            tokio::time::sleep(every).await;
        }
    };
    cancel.run_until_cancelled(wait).await.unwrap_or(Err(HlsError::Stopped))
}
