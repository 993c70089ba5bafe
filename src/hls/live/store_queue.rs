//! What is published in `main_path` on its way into the store: media in their order, then the latest playlists that name
//! them. A store that is slow or away is tried again, and holds up nothing else.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::config::store_url::StoreUrl;
use crate::hls::delivery::{OF_MEDIA, OF_PLAYLISTS};
use crate::hls::live::note::NOTE;
use crate::retry::Backoff;
use crate::storage::files;
use crate::store::error::StoreError;
use crate::store::uploads::Uploads;
use crate::telemetry::log_throttle::LogThrottle;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How long the store is tried after the end. Then the recording's own delivery does it, once the store has the MP4.
const END_LIMIT: Duration = Duration::from_secs(600);
/// Time limit for the disk.
const DISK_LIMIT: Duration = Duration::from_secs(30);

/// What the store does not have yet; clones share it. Its bound is the number of segments.
#[derive(Clone, Debug, Default)]
pub(super) struct StoreQueue {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    media: Vec<String>,
    /// The latest of each name.
    playlists: Vec<(String, String)>,
    note: Option<Vec<u8>>,
    ended: bool,
}

/// Where the files come from and go to.
pub(super) struct StoreTarget {
    pub uploads: Uploads,
    pub url: StoreUrl,
    /// Below the store's URL.
    pub key: String,
    pub dir: PathBuf,
    /// Another one sees to the HLS.
    pub stop: CancellationToken,
}

impl StoreQueue {
    pub fn media(&self, names: &[String]) {
        self.add(|waiting| waiting.media.extend_from_slice(names));
    }

    pub fn playlists(&self, playlists: Vec<(String, String)>) {
        self.add(|waiting| {
            for (name, text) in playlists {
                waiting.playlists.retain(|(other, _)| *other != name);
                waiting.playlists.push((name, text));
            }
        });
    }

    pub fn note(&self, note: Vec<u8>) {
        self.add(|waiting| waiting.note = Some(note));
    }

    /// Nothing follows.
    pub fn end(&self, note: Vec<u8>) {
        self.add(|waiting| (waiting.note, waiting.ended) = (Some(note), true));
    }

    fn add(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.waiting());
        self.shared.more.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends until all is sent and nothing follows, or another one sees to it.
    pub async fn run(self, target: StoreTarget) {
        let stop = target.stop.clone();
        stop.run_until_cancelled(self.send(target)).await;
        // Whoever would stop it need not any more.
        stop.cancel();
    }

    async fn send(self, target: StoreTarget) {
        let (mut backoff, mut log) = (Backoff::new(FIRST_WAIT, LONGEST_WAIT), LogThrottle::default());
        let (mut is_noted, mut ended_at): (bool, Option<Instant>) = (false, None);
        loop {
            let mut next = std::mem::take(&mut *self.waiting());
            let ended = next.ended;
            let error = match target.put(&mut next, &mut is_noted).await {
                Ok(()) if ended => return,
                Ok(()) => {
                    backoff.reset();
                    if log.end() {
                        tracing::info!(store = %target.url, "the store takes what is published again");
                    }
                    self.shared.more.notified().await;
                    continue;
                }
                Err(error) => error,
            };
            if log.due(Instant::now()) {
                tracing::warn!(
                    code = %codes::LIVE_HLS_LATE, store = %target.url, waiting = next.media.len(), %error,
                    "what is published of a recording that runs is late in the store; trying on; {}", error.remedy()
                );
            }
            self.waiting().put_back(next);
            if ended && ended_at.get_or_insert_with(Instant::now).elapsed() > END_LIMIT {
                tracing::info!("the rest of the HLS goes into the store once that has the MP4");
                return;
            }
            tokio::time::sleep(backoff.wait()).await;
        }
    }
}

impl Waiting {
    /// What was not sent comes before what was added meanwhile, and counts where nothing newer was.
    fn put_back(&mut self, unsent: Self) {
        self.media.splice(0..0, unsent.media);
        let newer: Vec<String> = self.playlists.iter().map(|(name, _)| name.clone()).collect();
        let still = unsent.playlists.into_iter().filter(|(name, _)| !newer.contains(name));
        self.playlists.splice(0..0, still);
        self.note = self.note.take().or(unsent.note);
        self.ended |= unsent.ended;
    }
}

impl StoreTarget {
    /// Puts what waits; what is in the store waits no more.
    async fn put(&self, waiting: &mut Waiting, is_noted: &mut bool) -> Result<(), StoreError> {
        let store = self.uploads.store(&self.url).await?;
        let key = |name: &str| format!("{}/{name}", self.key);
        if waiting.ended && *is_noted && store.head(&key(NOTE)).await?.is_none() {
            // Another node has made the HLS of the MP4 meanwhile, or it is deleted.
            return Ok(());
        }
        if let Some(note) = waiting.note.clone().filter(|_| !waiting.ended) {
            store.put(&key(NOTE), Bytes::from(note)).await?;
            (waiting.note, *is_noted) = (None, true);
        }
        while let Some(name) = waiting.media.first() {
            let path = self.dir.join(name);
            let read = files::on_disk_within(DISK_LIMIT, move || std::fs::read(path)).await;
            let bytes = read.map_err(StoreError::local(format!("reading {}", self.dir.join(name).display())))?;
            store.put_with(&key(name), Bytes::from(bytes), OF_MEDIA).await?;
            waiting.media.remove(0);
        }
        while let Some((name, text)) = waiting.playlists.first() {
            store.put_with(&key(name), Bytes::from(text.clone()), OF_PLAYLISTS).await?;
            waiting.playlists.remove(0);
        }
        if let Some(note) = waiting.note.clone() {
            store.put(&key(NOTE), Bytes::from(note)).await?;
            waiting.note = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_comes_first_and_the_latest_playlist_counts() {
        let queue = StoreQueue::default();
        let list = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        queue.media(&["a".to_owned(), "b".to_owned()]);
        queue.playlists(vec![list("1", "old"), list("2", "old")]);
        queue.note(b"running".to_vec());
        let mut unsent = std::mem::take(&mut *queue.waiting());
        unsent.media.remove(0);
        queue.media(&["c".to_owned()]);
        queue.playlists(vec![list("2", "new")]);
        queue.end(b"complete".to_vec());
        queue.waiting().put_back(unsent);
        let waiting = queue.waiting();
        assert_eq!(waiting.media, ["b", "c"]);
        assert_eq!(waiting.playlists, [list("1", "old"), list("2", "new")]);
        assert_eq!((waiting.note.as_deref(), waiting.ended), (Some(&b"complete"[..]), true));
    }
}
