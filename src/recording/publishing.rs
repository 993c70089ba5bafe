//! A recording as HLS while it runs ([`crate::hls::live`]): only one that this run of the program records from its
//! beginning. All others become HLS of their MP4.

use std::time::Duration;

use crate::hls::live::publisher::LiveHls;
use crate::hls::recordings::HlsRecordings;
use crate::protocol::request::RecordingInfo;
use crate::recording::journal::RecordingEntry;
use crate::recording::raw_file::{RawFile, continuation};

/// How long the job waits for the last segments of a recording that has ended. What is not there then is made of the MP4.
const FINISH_LIMIT: Duration = Duration::from_secs(90);

/// One recording.
#[derive(Debug)]
pub(super) struct RecordingPublication {
    /// `None`: not begun, not wanted, or over.
    live: Option<LiveHls>,
    /// Whether it may begin.
    hls: Option<HlsRecordings>,
}

impl RecordingPublication {
    /// `hls`: `None` where this recording is not to be published.
    pub fn new(hls: Option<HlsRecordings>) -> Self {
        Self { live: None, hls }
    }

    /// Publishes the latest part, whose media flow.
    pub fn part_opened(&mut self, info: &RecordingInfo, raw: &RawFile, entry: &RecordingEntry) {
        if let Some(hls) = self.hls.take() {
            let mp4 = raw.sub_dir().join(format!("{}.mp4", info.recording_id));
            self.live = hls.publish(&info.recording_id, &info.room_id, &mp4.to_string_lossy());
        }
        let parts = entry.record().parts;
        if let (Some(live), Some(part)) = (&mut self.live, parts.last()) {
            let file = raw.part(&part.file);
            let goes_on = continuation(&file);
            live.part_opened(parts.len(), file, goes_on);
        }
    }

    /// The latest part has ended.
    pub fn part_is_complete(&self) {
        self.live.iter().for_each(LiveHls::part_is_complete);
    }

    /// The recording has ended: returns when all of it is published, or that takes too long.
    pub async fn finish(self) {
        let Some(live) = self.live else { return };
        if tokio::time::timeout(FINISH_LIMIT, live.finish()).await.is_err() {
            tracing::info!("the end of the recording is not published in time: it becomes HLS of its MP4");
        }
    }

    /// What is published is not the whole recording.
    pub async fn give_up(self, why: &str) {
        if let Some(live) = self.live {
            live.give_up(why).await;
        }
    }
}
