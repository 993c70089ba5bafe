//! Copies the raw file of a recording while that runs: into its early MP4 ([`crate::media::early_mp4`]), and to
//! `main_path` where that is another file system. When the recording ends, nothing of gigabytes is left to be written.
//!
//! ```text
//! raw file is small ── large ── count its packets ── copy as it grows ── part complete ── raw file in place ── note
//!                                     ▲                    │
//!                                     └── more packets than there is room for in the MP4's index
//! ```
//!
//! Only a recording in one part that is encoded as its MP4 to its end has one. Whatever else happens, or fails, the early
//! MP4 is removed and the job makes another one.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::config::{Config, FfmpegOptions};
use crate::media::early_mp4::EarlyMp4;
use crate::media::ffmpeg_arguments::FfmpegArguments;
use crate::media::ffprobe::{self, MediaInfo, ProbeError};
use crate::media::final_encoding::FinalEncoding;
use crate::media::live_copy::{CopiedFile, LiveCopy, LiveCopyError};
use crate::media::unfinished_file::UnfinishedFile;
use crate::recording::raw_ahead;
use crate::recording::raw_file::RawFile;
use crate::storage::advance_copy::AdvanceCopy;
use crate::storage::growing_file::Growth;
use crate::storage::main_path::MainPath;
use crate::storage::{detached, disk_space};

/// How often the size of a raw file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How much longer than now a recording may become before its MP4 is begun anew with more room for the index.
const LONGER: u64 = 4;
/// Packets that are always left room for.
const MORE_PACKETS: u64 = 1000;
/// The disk of `main_path` belongs to all recordings, and an early MP4 is only a convenience: it is given up where less
/// than this is free, in bytes,
const LITTLE_SPACE: u64 = 2 << 30;
/// and begun where there is room for so many times the raw file's size now besides.
const ROOM: u64 = 4;
const SPACE_INTERVAL: Duration = Duration::from_secs(20);
/// How long a recording that has ended waits for the last bytes of its early MP4.
const FINISH_LIMIT: Duration = Duration::from_secs(15);
/// The copying programs are the least important ones of the host.
const NICE: u8 = 19;

/// Starts early MP4s as the node is configured.
#[derive(Clone, Debug)]
pub struct EarlyCopies {
    options: FfmpegOptions,
    container: Vec<String>,
    /// Size of a raw file in bytes.
    from: u64,
}

/// The copies of a recording that runs; dropped, they are removed.
#[derive(Debug)]
pub struct EarlyCopy {
    growth: watch::Sender<Growth>,
    /// The raw file on another file system.
    raw: Option<AbortOnDropHandle<Option<AdvanceCopy>>>,
    /// The MP4.
    copied: AbortOnDropHandle<Option<WholeCopy>>,
    container: Vec<String>,
}

/// A copy of the whole raw file.
#[derive(Debug)]
struct WholeCopy {
    mp4: UnfinishedFile,
    copied: CopiedFile,
}

/// Copies one raw file.
#[derive(Clone)]
struct CopyTask {
    options: FfmpegOptions,
    from: u64,
    part: PathBuf,
    /// Where the raw file will be, in `main_path`.
    place: PathBuf,
    store: MainPath,
    mp4: PathBuf,
    growth: watch::Receiver<Growth>,
}

/// Why a recording has no early MP4.
#[derive(Debug, thiserror::Error)]
enum NotEarly {
    #[error("it has ended before it was large enough")]
    Small,
    #[error("it is not encoded as its MP4 while it runs")]
    OtherEncoding,
    #[error("main_path is on the file system of temporary_dir, where nothing is copied")]
    SameFileSystem,
    #[error("main_path has only {free} bytes left")]
    LittleSpace { free: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Copy(#[from] LiveCopyError),
    #[error("the raw file is not the one that was copied: it has {raw} bytes, and {copied} were copied")]
    OtherFile { raw: u64, copied: u64 },
    #[error("it was not there {} s after the end", FINISH_LIMIT.as_secs())]
    Late,
}

impl EarlyCopies {
    /// `None`: the configuration asks for none, or leaves them to reference transcoders, which would not remove them.
    #[must_use]
    pub fn new(config: &Config) -> Option<Self> {
        let Config { ffmpeg, recorder, .. } = config;
        let asked = ffmpeg.one_pass && recorder.post_mp4_convert && ffmpeg.early_mp4_from > 0;
        if !asked || !recorder.reference_sub_paths.is_empty() {
            return None;
        }
        Self::from_size(&ffmpeg.post_recording, ffmpeg.early_mp4_from)
    }

    /// `options`: those of MP4s. `from`: the size in bytes from which on a raw file gets one. `None`: recordings cannot be
    /// encoded with these options while they run.
    #[must_use]
    pub fn from_size(options: &FfmpegOptions, from: u64) -> Option<Self> {
        let container = FinalEncoding::read(options).ok()?.container_options();
        Some(Self { options: options.clone(), container, from })
    }

    /// Watches a part that has begun, the first of its recording. `None`: `main_path` cannot take such a file.
    #[must_use]
    pub fn start(&self, raw: &RawFile, part: PathBuf) -> Option<EarlyCopy> {
        // The index is written in front when all else is there.
        if !raw.store().abilities().rewrite {
            return None;
        }
        let (growth, growing) = watch::channel(Growth::Growing);
        let mp4 = EarlyMp4::of(&raw.place()).mp4;
        let task = CopyTask {
            options: self.options.clone(),
            from: self.from,
            part,
            place: raw.place(),
            store: raw.store().clone(),
            mp4,
            growth: growing,
        };
        let raw = raw.store().abilities().rename.then(|| spawn(task.clone().copy_raw()));
        Some(EarlyCopy { growth, raw, copied: spawn(task.write_mp4()), container: self.container.clone() })
    }
}

fn spawn<T: Send + 'static>(
    copy: impl Future<Output = Result<T, NotEarly>> + Send + 'static,
) -> AbortOnDropHandle<Option<T>> {
    let copy = async move { copy.await.inspect_err(log).ok() };
    AbortOnDropHandle::new(tokio::spawn(copy.in_current_span()))
}

impl EarlyCopy {
    /// What was copied of the raw file, all of it or nearly, if it must be copied.
    pub async fn raw_ahead(&mut self) -> Option<AdvanceCopy> {
        self.part_is_complete();
        let copied = tokio::time::timeout(FINISH_LIMIT, self.raw.take()?).await;
        copied.inspect_err(|_| log(&NotEarly::Late)).ok()?.ok().flatten()
    }

    /// The part is complete: what is not copied yet is copied now.
    pub fn part_is_complete(&self) {
        self.growth.send_replace(Growth::Complete);
    }

    /// Completes the early MP4 of a raw file that is in its place now.
    pub async fn finish(self, raw: &RawFile) {
        self.part_is_complete();
        let Self { copied, container, .. } = self;
        let copied = match tokio::time::timeout(FINISH_LIMIT, copied).await {
            Ok(copied) => copied.ok().flatten(),
            Err(_) => return log(&NotEarly::Late),
        };
        // Where there is none, that was logged.
        let Some(WholeCopy { mp4, copied }) = copied else { return };
        match describe(&raw.place(), &copied, container).await {
            Ok(()) => {
                mp4.keep();
                tracing::info!("the MP4 was written while the meeting ran, and its job only has to check it");
            }
            Err(why) => log(&why),
        }
    }
}

fn log(why: &NotEarly) {
    match why {
        NotEarly::Small | NotEarly::OtherEncoding | NotEarly::SameFileSystem => {
            tracing::debug!(%why, "nothing is copied while the meeting runs");
        }
        _ => tracing::info!(
            %why,
            "not copied while the meeting runs, but afterwards: the MP4 will be there later"
        ),
    }
}

async fn describe(raw: &Path, copied: &CopiedFile, container: Vec<String>) -> Result<(), NotEarly> {
    let path = raw.to_owned();
    let bytes = detached::run("size", move || Ok(std::fs::metadata(path)?.len())).await?;
    // Its parts were joined, or its end was cut off.
    if bytes != copied.bytes {
        return Err(NotEarly::OtherFile { raw: bytes, copied: copied.bytes });
    }
    let media = ffprobe::headers(raw).await?.describe(raw, &copied.packets).await?;
    let raw = raw.to_owned();
    Ok(detached::run("note", move || EarlyMp4::of(&raw).write_note(&raw, container, media)).await?)
}

impl CopyTask {
    /// Copies the part to the file system of its place, where that is another one.
    async fn copy_raw(mut self) -> Result<AdvanceCopy, NotEarly> {
        self.until_large().await?;
        self.has_room().await?;
        let (part, dir) = (self.part.clone(), self.dir());
        let devices =
            detached::run("devices", move || Ok((std::fs::metadata(part)?.dev(), std::fs::metadata(dir)?.dev())));
        let (from, to) = devices.await?;
        if from == to {
            return Err(NotEarly::SameFileSystem);
        }
        tokio::select! {
            copied = raw_ahead::copy(&self.part, &self.place, self.growth.clone(), NICE) => Ok(copied?),
            why = self.until_little_space() => Err(why),
        }
    }

    async fn write_mp4(mut self) -> Result<WholeCopy, NotEarly> {
        self.until_large().await?;
        loop {
            let mp4 = UnfinishedFile::new(self.mp4.clone());
            let (room, arguments) = self.room().await?;
            let copy = LiveCopy { raw: &self.part, arguments: &arguments, room: &room, output: &self.mp4, nice: NICE };
            let copied = tokio::select! {
                copied = copy.run(self.growth.clone()) => copied,
                why = self.until_little_space() => return Err(why),
            };
            match copied {
                Ok(copied) => return Ok(WholeCopy { mp4, copied }),
                Err(LiveCopyError::RoomExceeded) => {
                    tracing::info!(
                        "the recording lasts longer than its MP4 has room for: writing that anew, with more"
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until the raw file is large enough.
    async fn until_large(&mut self) -> Result<(), NotEarly> {
        while self.size().await? < self.from {
            let complete = self.growth.wait_for(|growth| *growth == Growth::Complete);
            if tokio::time::timeout(LOOK_INTERVAL, complete).await.is_ok() {
                return Err(NotEarly::Small);
            }
        }
        Ok(())
    }

    /// The size of the raw file now, in bytes.
    async fn size(&self) -> Result<u64, NotEarly> {
        let part = self.part.clone();
        Ok(detached::run("size", move || Ok(std::fs::metadata(part)?.len())).await?)
    }

    /// A copy with room for many more packets than the raw file has now.
    async fn room(&self) -> Result<(MediaInfo, FfmpegArguments), NotEarly> {
        let headers = ffprobe::headers(&self.part).await?;
        let mut room = ffprobe::measure_growing(&self.part, headers).await?;
        for stream in &mut room.streams {
            stream.packets = stream.packets.map(|packets| packets.saturating_mul(LONGER) + MORE_PACKETS);
        }
        let encoding = FinalEncoding::read(&self.options).map_err(|_| NotEarly::OtherEncoding)?;
        let tracks = encoding.tracks_of(&room);
        let arguments = FfmpegArguments::finish(&self.options, &room).filter(|_| tracks.sound.is_some());
        let arguments = arguments.ok_or(NotEarly::OtherEncoding)?;
        self.has_room().await?;
        Ok((room, arguments))
    }

    /// The directory of the raw file.
    fn dir(&self) -> PathBuf {
        self.place.parent().unwrap_or(Path::new("/")).to_owned()
    }

    /// Makes the directory of the raw file, in which there must be room for a copy that grows.
    async fn has_room(&self) -> Result<(), NotEarly> {
        // Nothing is made in the mount point of a share that is away.
        self.has_space(0).await?;
        let dir = self.dir();
        detached::run("directory", move || std::fs::create_dir_all(dir)).await?;
        self.has_space(LITTLE_SPACE.saturating_add(self.size().await?.saturating_mul(ROOM))).await
    }

    /// Returns when there is little space, or `main_path` is away.
    async fn until_little_space(&self) -> NotEarly {
        loop {
            tokio::time::sleep(SPACE_INTERVAL).await;
            if let Err(why) = self.has_space(LITTLE_SPACE).await {
                return why;
            }
        }
    }

    /// Whether `main_path` is there, and so many bytes of it are free.
    async fn has_space(&self, bytes: u64) -> Result<(), NotEarly> {
        let (store, place) = (self.store.clone(), self.place.clone());
        let look = move || {
            store.check().map_err(io::Error::other)?;
            disk_space::free(&place)
        };
        let free = detached::run("space", look).await?.free;
        if free < bytes { Err(NotEarly::LittleSpace { free }) } else { Ok(()) }
    }
}
