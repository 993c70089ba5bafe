//! A small picture of what is captured now: made when somebody asks, at most once a second, and the same for all who
//! ask. The screen thread lends a frame; the work is done elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::admin::http::node_state::NodeState;
use crate::capture::live_capture::LiveCapture;
use crate::capture::video::thumbnail;
use crate::recording::signals::ShownRecording;

/// How long a picture is good.
const FRESH: Duration = Duration::from_millis(900);
/// A screen that shows nothing new still turns each second.
const FRAME_LIMIT: Duration = Duration::from_secs(3);

/// Of one recording: when the last picture was made, and it.
type Last = Arc<tokio::sync::Mutex<Option<(Instant, Bytes)>>>;

/// The pictures of the running recordings.
pub(super) struct Thumbnails {
    node: NodeState,
    last: Mutex<BTreeMap<(&'static str, String), Last>>,
}

impl Thumbnails {
    pub fn new(node: &NodeState) -> Self {
        Self { node: node.clone(), last: Mutex::default() }
    }

    /// `None`: no such recording captures anything now, or its screen stands still.
    pub async fn of(&self, kind: &str, id: &str) -> Option<Bytes> {
        let shown = self.node.recordings.shown();
        let live = shown.iter().find(|one| one.kind.as_str() == kind && one.id.as_str() == id)?.live.clone()?;
        let last = self.last(&shown, kind, id)?;
        // Whoever comes meanwhile waits, and gets the same.
        let mut last = last.lock().await;
        if let Some((_, picture)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Some(picture.clone());
        }
        let picture = self.make(&live).await?;
        *last = Some((Instant::now(), picture.clone()));
        Some(picture)
    }

    /// Forgets those of recordings that have ended.
    fn last(&self, shown: &[ShownRecording], kind: &str, id: &str) -> Option<Last> {
        let mut all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<_> = shown.iter().map(|one| (one.kind.as_str(), one.id.to_string())).collect();
        all.retain(|key, _| keys.contains(key));
        let key = keys.into_iter().find(|(one, other)| *one == kind && other == id)?;
        Some(Arc::clone(all.entry(key).or_default()))
    }

    async fn make(&self, live: &LiveCapture) -> Option<Bytes> {
        let frame = live.preview.frame(FRAME_LIMIT).await?;
        let jpeg = tokio::task::spawn_blocking(move || thumbnail::jpeg(&frame)).await;
        match jpeg {
            Ok(Ok(jpeg)) => {
                self.node.metrics().thumbnail_made();
                Some(jpeg.into())
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "no thumbnail could be made");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "no thumbnail could be made");
                None
            }
        }
    }
}
