//! Publishes one recording from its first part to its end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument as _;

use crate::codes;
use crate::config::HlsConfig;
use crate::config::store_url::StoreUrl;
use crate::hls::arguments::Keyframes;
use crate::hls::ladder::{all_encoded, ladder};
use crate::hls::live::arguments::{LiveSound, LiveTracks};
use crate::hls::live::error::LiveError;
use crate::hls::live::part_encoder::PartEncoder;
use crate::hls::live::publication::{Publication, PublicationPlace};
use crate::hls::live::store_queue::{StoreQueue, StoreTarget};
use crate::media::ffprobe::{self, MediaInfo};
use crate::media::final_encoding::FinalEncoding;
use crate::storage::detached;
use crate::storage::growing_file::Growth;
use crate::storage::main_path::MainPath;
use crate::store::uploads::Uploads;

/// How often a file is looked for that is not there yet, and how often it is looked whether a part goes on in its next file.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the file of an encoder that was replaced has not grown: it has nothing more to write.
const REPLACED_AFTER: u32 = 15;
/// Parts that wait. A recording that breaks as often is not published any more.
const PARTS: usize = 64;
/// Pieces of ffmpeg that wait for the disk; then it waits itself.
const PIECES: usize = 16;
/// Time limit for the last playlists of one that ends before its recording.
const ABANDON_LIMIT: Duration = Duration::from_secs(20);
/// Options of a sound whose MP4 is not encoded by known ones.
const AAC: [&str; 4] = ["-c:a", "aac", "-b:a", "128k"];

/// How recordings are published.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    pub config: HlsConfig,
    /// The pictures of raw files have their keyframes where segments begin; otherwise all renditions are encoded.
    pub copies: bool,
    /// The options by which a recording is encoded as its MP4.
    pub encoding: Option<FinalEncoding>,
    /// The name of this node.
    pub node: String,
    pub main_path: MainPath,
    pub uploads: Uploads,
    /// How far what is published may be behind what is recorded.
    pub limit: Duration,
}

/// A recording that is to be published.
#[derive(Clone, Debug)]
pub struct LiveRecording {
    /// The directory of its HLS, relative to `main_path` and to the URL of a store.
    pub dir: String,
    /// The store of its room.
    pub store: Option<StoreUrl>,
    /// Another one sees to its HLS in the store.
    pub stop_store: CancellationToken,
}

/// A recording that is published. Dropped, it ends at once, and its playlists stay as they are.
#[derive(Debug)]
pub struct LiveHls {
    parts: Option<mpsc::Sender<LivePart>>,
    growth: Option<watch::Sender<Growth>>,
    given_up: watch::Sender<Option<String>>,
    task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct LivePart {
    number: usize,
    file: PathBuf,
    /// The file in which the part goes on where another encoder takes over; it need not exist.
    goes_on: PathBuf,
    growth: watch::Receiver<Growth>,
}

impl LiveHls {
    /// `stores`: the tasks that go on after the recording.
    #[must_use]
    pub fn start(settings: LiveSettings, recording: LiveRecording, stores: &TaskTracker) -> Self {
        let (sender, parts) = mpsc::channel(PARTS);
        let (given_up, why) = watch::channel(None);
        let dir = settings.main_path.path().join(&recording.dir);
        let queue = recording.store.map(|url| {
            let queue = StoreQueue::default();
            let target = StoreTarget {
                uploads: settings.uploads.clone(),
                url,
                key: recording.dir.clone(),
                dir: dir.clone(),
                stop: recording.stop_store,
            };
            stores.spawn(queue.clone().run(target).in_current_span());
            queue
        });
        let place = PublicationPlace { main_path: settings.main_path.clone(), dir, node: settings.node.clone(), queue };
        let publication = Publication::new(place, settings.config.segment);
        let publisher = Publisher { settings, publication };
        let task = AbortOnDropHandle::new(tokio::spawn(publisher.run(parts, why).in_current_span()));
        Self { parts: Some(sender), growth: None, given_up, task }
    }

    /// Media of a part flow into this file. `number`: another one for each part.
    pub fn part_opened(&mut self, number: usize, file: PathBuf, goes_on: PathBuf) {
        self.part_is_complete();
        let (growth, growing) = watch::channel(Growth::Growing);
        self.growth = Some(growth);
        let part = LivePart { number, file, goes_on, growth: growing };
        if self.parts.as_ref().is_some_and(|parts| parts.try_send(part).is_err()) {
            self.given_up.send_replace(Some("it has too many parts, or is not published any more".to_owned()));
        }
    }

    /// The latest part has ended.
    pub fn part_is_complete(&self) {
        if let Some(growth) = &self.growth {
            growth.send_replace(Growth::Complete);
        }
    }

    /// The recording has ended: returns when all of it is published, or its publication has failed.
    pub async fn finish(mut self) {
        self.part_is_complete();
        self.parts = None;
        // A panic was logged.
        let _ = (&mut self.task).await;
    }

    /// What is published is not all of the recording: returns when the playlists say that they have ended.
    pub async fn give_up(self, why: &str) {
        self.given_up.send_replace(Some(why.to_owned()));
        self.finish().await;
    }
}

struct Publisher {
    settings: LiveSettings,
    publication: Publication,
}

impl Publisher {
    async fn run(mut self, parts: mpsc::Receiver<LivePart>, mut given_up: watch::Receiver<Option<String>>) {
        let given_up = async {
            match given_up.wait_for(Option::is_some).await.map(|why| why.clone()) {
                Ok(why) => LiveError::GivenUp(why.unwrap_or_default()),
                Err(_) => std::future::pending().await,
            }
        };
        let published = tokio::select! {
            biased;
            why = given_up => Err(why),
            published = self.publish(parts) => published,
        };
        let Err(error) = published else { return };
        if let LiveError::GivenUp(why) = &error {
            tracing::info!(why, "the recording is not published any more while it runs; it becomes HLS of its MP4");
        } else {
            tracing::warn!(
                code = %codes::LIVE_HLS_ENDED, %error,
                "the recording goes on and is not published any more while it runs: its playlists end here, and it becomes \
                 HLS of its MP4; {}", error.remedy()
            );
        }
        if tokio::time::timeout(ABANDON_LIMIT, self.publication.abandon()).await.is_err() {
            tracing::info!("the playlists of a recording that is not published any more could not be ended");
        }
    }

    async fn publish(&mut self, mut parts: mpsc::Receiver<LivePart>) -> Result<(), LiveError> {
        self.publication.prepare().await;
        let mut replaced = Vec::new();
        while let Some(part) = parts.recv().await {
            replaced.extend(self.part(part).await?);
        }
        for (file, bytes) in replaced {
            if size(&file).await.is_some_and(|size| size != bytes) {
                return Err(LiveError::Unfit("the encoder that was replaced wrote on".to_owned()));
            }
        }
        if !self.publication.has_begun() {
            return Err(LiveError::Unfit("it has ended before anything of it could be published".to_owned()));
        }
        let limit = self.settings.limit;
        tokio::time::timeout(limit, self.publication.finish()).await.map_err(|_| LiveError::Behind(limit))
    }

    /// Publishes a part: its file, and the one in which it goes on. What was published of the first, where there is a second.
    async fn part(&mut self, part: LivePart) -> Result<Option<(PathBuf, u64)>, LiveError> {
        let LivePart { number, file, goes_on, growth } = part;
        let (tell, first) = watch::channel(Growth::Growing);
        let complete = async {
            until_complete(&file, &goes_on, growth.clone()).await;
            tell.send_replace(Growth::Complete);
            std::future::pending::<()>().await;
        };
        let label = number.to_string();
        let published = self.file(&label, &file, true, first);
        let bytes = tokio::select! {
            bytes = published => bytes?,
            () = complete => None,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        if size(&goes_on).await.unwrap_or_default() == 0 {
            return Ok(None);
        }
        self.file(&format!("{number}b"), &goes_on, false, growth).await?;
        Ok(Some((file, bytes)))
    }

    /// Publishes a file; its bytes. `None`: there is none, or there is nothing in it.
    async fn file(
        &mut self,
        label: &str,
        file: &Path,
        from_zero: bool,
        growth: watch::Receiver<Growth>,
    ) -> Result<Option<u64>, LiveError> {
        let Some(media) = media(file, growth.clone(), self.settings.limit).await? else { return Ok(None) };
        let tracks = tracks(&self.settings, &media, from_zero)?;
        self.publication.begin_part(label, &tracks.rungs)?;
        let (sender, mut pieces) = mpsc::channel(PIECES);
        let encoder = PartEncoder { file, tracks: &tracks, limit: self.settings.limit };
        let publication = &mut self.publication;
        let publish = async {
            while let Some((track, piece)) = pieces.recv().await {
                publication.take(track, piece).await?;
            }
            Ok(())
        };
        let (bytes, ()) = tokio::try_join!(encoder.run(growth, sender), publish)?;
        self.publication.end_part().await?;
        Ok(Some(bytes))
    }
}

/// Returns when a part is complete, or has long gone on in its next file.
async fn until_complete(file: &Path, goes_on: &Path, mut growth: watch::Receiver<Growth>) {
    let (mut last, mut still) = (None, 0);
    let replaced = async {
        while still < REPLACED_AFTER {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = size(file).await;
            let is_still = now == last && size(goes_on).await.is_some_and(|bytes| bytes > 0);
            still = if is_still { still + 1 } else { 0 };
            last = now;
        }
    };
    tokio::select! {
        () = replaced => {}
        // Who has told it may be gone.
        _ = growth.wait_for(|growth| *growth == Growth::Complete) => {}
    }
}

/// The size of a file in bytes; `None`: there is none, or its disk fails.
async fn size(file: &Path) -> Option<u64> {
    let file = file.to_owned();
    detached::run("live-hls", move || Ok(std::fs::metadata(file)?.len())).await.ok()
}

/// What is in a file, as soon as it is there. `None`: there is none, or nothing is in it.
async fn media(
    file: &Path,
    mut growth: watch::Receiver<Growth>,
    limit: Duration,
) -> Result<Option<MediaInfo>, LiveError> {
    let look = async {
        loop {
            let is_complete = *growth.borrow() == Growth::Complete;
            if size(file).await.unwrap_or_default() > 0 {
                match ffprobe::headers(file).await {
                    Ok(headers) => return Ok(Some(headers.streams().clone())),
                    Err(error) if is_complete => return Err(error.into()),
                    Err(_) => {}
                }
            } else if is_complete {
                return Ok(None);
            }
            let complete = growth.wait_for(|growth| *growth == Growth::Complete);
            // A file that is complete is looked at once more.
            let _ = tokio::time::timeout(LOOK_INTERVAL, complete).await.is_ok();
        }
    };
    tokio::time::timeout(limit, look).await.unwrap_or(Err(LiveError::Behind(limit)))
}

/// What is made of a raw file with this content.
fn tracks(settings: &LiveSettings, media: &MediaInfo, from_zero: bool) -> Result<LiveTracks, LiveError> {
    let (Some(video), Some(_)) = (media.video(), media.audio()) else {
        return Err(LiveError::Unfit("the raw file has no picture, or no sound".to_owned()));
    };
    let mut rungs = ladder(video.width, video.height, &settings.config.renditions);
    let is_plain = settings.copies && video.codec == "h264" && video.format == "yuv420p";
    if !is_plain {
        rungs = all_encoded(&rungs);
    }
    let keyframes = if settings.copies { Keyframes::OfSource } else { Keyframes::Every(settings.config.segment) };
    let encoded = settings.encoding.as_ref().and_then(|encoding| encoding.tracks_of(media).sound);
    let sound = match (encoded, &settings.encoding) {
        (Some(stream), _) => LiveSound::Copy(stream),
        (None, Some(encoding)) => LiveSound::Encode(encoding.sound_options()),
        (None, None) => LiveSound::Encode(AAC.map(str::to_owned).to_vec()),
    };
    Ok(LiveTracks { rungs, keyframes, sound, from_zero, segment: settings.config.segment })
}
