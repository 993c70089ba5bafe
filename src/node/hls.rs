//! The HLS of a node: made of its configuration.

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::hls::recordings::HlsRecordings;
use crate::hls::settings::{HlsSettings, HlsWaits};
use crate::media::final_encoding::FinalEncoding;
use crate::storage::main_path::MainPath;
use crate::store::uploads::Uploads;
use crate::telemetry::metrics::Metrics;

/// The HLS of a node whose `main_path` is `store`; nothing is done before [`HlsRecordings::run`].
pub(super) fn of_node(
    config: &Config,
    store: &MainPath,
    metrics: Metrics,
    uploads: &Uploads,
    end: CancellationToken,
) -> HlsRecordings {
    let recorder = &config.recorder;
    let settings = HlsSettings {
        config: config.hls.clone(),
        recorder_id: recorder.id.clone(),
        state_dir: recorder.state_dir.clone(),
        temporary_dir: recorder.temporary_dir.clone(),
        main_path: store.clone(),
        uploads: uploads.clone(),
        metrics,
        waits: HlsWaits::default(),
        encoding: FinalEncoding::read(&config.ffmpeg.post_recording).ok(),
        keyframes: config.hls.as_ref().is_some_and(|hls| config.ffmpeg.has_keyframes_every(hls.segment)),
    };
    HlsRecordings::new(settings, end)
}
