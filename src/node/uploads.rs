//! The stores of a node: made of its configuration, and joined to its outbox and to what makes pictures.

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::delivery::dispatcher::Dispatcher;
use crate::media::thumbnails::{self, Thumbnails};
use crate::protocol::notice::Notice;
use crate::storage::main_path::MainPath;
use crate::store::connect::StoreTimes;
use crate::store::raw_store::RawStore;
use crate::store::sidecars::Pictures;
use crate::store::uploads::{UploadSettings, UploadWaits, Uploads};
use crate::telemetry::metrics::Metrics;

/// The uploads of a node whose `main_path` is `store`; nothing is done before [`Uploads::run`].
pub(super) fn of_node(
    config: &Config,
    store: &MainPath,
    metrics: Metrics,
    dispatcher: &Dispatcher,
    end: CancellationToken,
) -> Uploads {
    let dispatcher = dispatcher.clone();
    let tell = move |notices: Vec<Notice>| {
        let dispatcher = dispatcher.clone();
        async move { dispatcher.send_all(notices.into_iter().map(Into::into).collect()).await }.boxed()
    };
    let pictures = |mp4: PathBuf, sprite: String, stop: CancellationToken| {
        async move {
            let made = thumbnails::make(&mp4, &sprite, &stop).await.map_err(|error| error.to_string())?;
            Ok(made.map(|Thumbnails { poster, sprite, index }| Pictures { poster, sprite, index }))
        }
        .boxed()
    };
    let settings = UploadSettings {
        storage: config.storage.clone(),
        pictures: Arc::new(pictures),
        state_dir: config.recorder.state_dir.clone(),
        main_path: store.clone(),
        metrics,
        tell: Arc::new(tell),
        waits: UploadWaits::default(),
    };
    Uploads::new(settings, end)
}

/// The store of `storage.raw`, if there is one.
pub(super) fn raw_store(config: &Config) -> Option<RawStore> {
    let url = config.storage.raw.clone()?;
    Some(RawStore::new(url, &config.recorder.state_dir, StoreTimes::default()))
}
