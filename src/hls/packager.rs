//! One MP4 into renditions: at most two runs of ffmpeg in a directory of their own, and the playlists of what they made.
//!
//! ```text
//! MP4 ── copy ──► picture as it is, sound            (no encoder; seconds)
//!   │                  │ its keyframes are too far apart, or it is no H.264 whose frames are decoded in their order:
//!   │                  ▼ it is encoded as the others
//!   └── decode once ──► scaled and encoded per rendition, keyframes where the copy has them
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::hls::arguments::{self, Keyframes, Sound};
use crate::hls::ladder::{Encoding, Rung, all_encoded, ladder};
use crate::hls::playlist::{PlaylistTrack, master_playlist, media_playlist, target_duration};
use crate::hls::segments::{self, Fragment};
use crate::hls::track_index::TrackIndex;
use crate::media::ffmpeg::{self, FfmpegError};
use crate::media::ffprobe::{self, MediaInfo, ProbeError};
use crate::storage::files;

use crate::config::HlsConfig;

/// The playlist that players are given.
pub const MASTER: &str = "master.m3u8";
/// The sound's files.
pub(super) const SOUND: &str = "audio";
/// Behind everything else.
const NICE: u8 = 19;
/// Segments that are longer than this many configured ones make players wait, and seek badly; only where the picture
/// stands still that long they are made.
const LONGEST_SEGMENTS: u32 = 3;
/// A still picture is shown for so long by one frame (`media/ffmpeg_arguments.rs`), and the next keyframe may come after
/// that only.
const LONGEST_FRAME: Duration = Duration::from_secs(12);
/// Time limit for reading the indexes of what was made.
const INDEX_LIMIT: Duration = Duration::from_secs(300);

/// Why there are no renditions.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Ffmpeg(#[from] FfmpegError),
    #[error("{what}: {source}")]
    Disk { what: String, source: io::Error },
    #[error("{0}")]
    Unfit(String),
    #[error("the program ends")]
    Stopped,
}

/// What was made of an MP4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Media files in the directory, and the names that they shall have.
    pub media: Vec<(PathBuf, String)>,
    /// The playlists by name; the master playlist is the last.
    pub playlists: Vec<(String, String)>,
}

/// Makes the renditions of one MP4.
pub struct Packager<'a> {
    pub mp4: &'a Path,
    /// An empty directory for what is made.
    pub dir: &'a Path,
    pub config: &'a HlsConfig,
    pub cancel: &'a CancellationToken,
}

/// A file that ffmpeg has made.
struct MadeTrack {
    name: String,
    path: PathBuf,
    index: TrackIndex,
}

impl Packager<'_> {
    /// Makes them. What is in the directory is complete only after `Ok`.
    ///
    /// # Errors
    /// See [`PackageError`].
    pub async fn run(&self) -> Result<Package, PackageError> {
        let media = self.or_stop(ffprobe::probe(self.mp4)).await??;
        let rungs = media.video().map(|video| ladder(video.width, video.height, &self.config.renditions));
        let mut rungs = rungs.unwrap_or_default();
        let (copied, sound) = self.copy(&media, &rungs).await?;
        let copied = copied.filter(|made| self.may_be_cut(&made.index));
        if copied.is_none() {
            rungs = all_encoded(&rungs);
        }
        let keyframes = match &copied {
            Some(_) => Keyframes::OfSource,
            None => Keyframes::Every(self.config.segment),
        };
        let encoded = self.encode(&rungs, keyframes, media.duration).await?;
        // The copied one is the highest.
        let pictures: Vec<MadeTrack> = copied.into_iter().chain(encoded).collect();
        self.describe(&pictures, sound.as_ref())
    }

    /// `work`, unless the program stops first.
    async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, PackageError> {
        self.cancel.run_until_cancelled(work).await.ok_or(PackageError::Stopped)
    }

    /// The picture where a rung wants it as it is, and the sound.
    async fn copy(
        &self,
        media: &MediaInfo,
        rungs: &[Rung],
    ) -> Result<(Option<MadeTrack>, Option<MadeTrack>), PackageError> {
        let is_plain = media.video().is_some_and(|video| video.codec == "h264" && video.format == "yuv420p");
        let rung = rungs.iter().find(|rung| rung.encoding == Encoding::Copy).filter(|_| is_plain);
        let picture = rung.map(|rung| (rung.name(), self.dir.join("copy.mp4")));
        let coding = media.audio().map(|sound| if sound.codec == "aac" { Sound::Aac } else { Sound::Other });
        let sound = coding.map(|coding| (self.dir.join("audio.mp4"), coding));
        if picture.is_none() && sound.is_none() {
            return Ok((None, None));
        }
        let path_and_coding = sound.as_ref().map(|(path, coding)| (path.as_path(), *coding));
        let of_picture = picture.as_ref().map(|(_, path)| path.as_path());
        let arguments = arguments::copy(self.mp4, of_picture, path_and_coding, self.config.segment);
        let watched = of_picture.or(sound.as_ref().map(|(path, _)| path.as_path())).unwrap_or(self.dir);
        self.ffmpeg(arguments, watched).await?;
        let picture = match picture {
            Some((name, path)) => Some(self.made(name, path).await?),
            None => None,
        };
        let sound = match sound {
            Some((path, _)) => Some(self.made(SOUND.to_owned(), path).await?),
            None => None,
        };
        Ok((picture, sound))
    }

    async fn encode(
        &self,
        rungs: &[Rung],
        keyframes: Keyframes,
        end: Duration,
    ) -> Result<Vec<MadeTrack>, PackageError> {
        let encoded = rungs.iter().filter(|rung| rung.encoding != Encoding::Copy);
        let outputs: Vec<(Rung, PathBuf)> =
            encoded.map(|rung| (*rung, self.dir.join(format!("{}.mp4", rung.name())))).collect();
        let Some((_, watched)) = outputs.first() else { return Ok(Vec::new()) };
        self.ffmpeg(arguments::encode(self.mp4, &outputs, keyframes, end), watched).await?;
        let mut made = Vec::new();
        for (rung, path) in &outputs {
            made.push(self.made(rung.name(), path.clone()).await?);
        }
        Ok(made)
    }

    async fn ffmpeg(&self, arguments: Vec<std::ffi::OsString>, watched: &Path) -> Result<(), PackageError> {
        let spec = ffmpeg::spec().args(arguments).nice(NICE);
        match ffmpeg::run_spec(&spec, watched, self.cancel).await {
            Ok(_) => Ok(()),
            Err(FfmpegError::Stopped) => Err(PackageError::Stopped),
            Err(error) => Err(error.into()),
        }
    }

    async fn made(&self, name: String, path: PathBuf) -> Result<MadeTrack, PackageError> {
        let at = path.clone();
        let index = files::on_disk_within(INDEX_LIMIT, move || TrackIndex::read(&at)).await;
        let index = index.map_err(|source| PackageError::Disk { what: path.display().to_string(), source })?;
        Ok(MadeTrack { name, path, index })
    }

    /// Whether segments of the copied picture can be played from their begin, and are not too long.
    fn may_be_cut(&self, index: &TrackIndex) -> bool {
        let every = self.config.segment;
        let starts = segments::starts(&[&index.fragments], every);
        let segments = segments::segments(&index.fragments, &starts).unwrap_or_default();
        let limit = every + (every * (LONGEST_SEGMENTS - 1)).max(LONGEST_FRAME);
        !index.reordered && segments::longest(&segments) <= limit
    }

    /// The playlists of what was made.
    fn describe(&self, pictures: &[MadeTrack], sound: Option<&MadeTrack>) -> Result<Package, PackageError> {
        let every = self.config.segment;
        let fragments: Vec<&[Fragment]> = pictures.iter().map(|made| made.index.fragments.as_slice()).collect();
        let starts = segments::starts(&fragments, every);
        let pictures: Result<Vec<_>, _> = pictures.iter().map(|made| track(made, &starts)).collect();
        let (mut pictures, mut media): (Vec<_>, Vec<_>) = pictures?.into_iter().unzip();
        let own = sound.map(|sound| track(sound, &segments::starts(&[&sound.index.fragments], every))).transpose()?;
        let sound = own.map(|(sound, file)| {
            media.push(file);
            sound
        });
        pictures.extend(sound.clone());
        let target = target_duration(&pictures);
        let mut playlists: Vec<(String, String)> =
            pictures.iter().map(|track| (track.playlist.clone(), media_playlist(track, target))).collect();
        pictures.truncate(pictures.len() - usize::from(sound.is_some()));
        if playlists.is_empty() {
            return Err(PackageError::Unfit(format!("{} has neither picture nor sound", self.mp4.display())));
        }
        playlists.push((MASTER.to_owned(), master_playlist(&pictures, sound.as_ref(), every)));
        Ok(Package { media, playlists })
    }
}

/// A track cut at these times, and its file with the name that it gets: another one for other media, so that it may be
/// cached for ever.
fn track(made: &MadeTrack, starts: &[Duration]) -> Result<(PlaylistTrack, (PathBuf, String)), PackageError> {
    let MadeTrack { name, path, index: TrackIndex { header, header_bytes, fragments, digest, .. } } = made;
    let segments = segments::segments(fragments, starts).ok_or_else(|| {
        PackageError::Unfit(format!("{} has no keyframes where the other renditions have them", path.display()))
    })?;
    let media = format!("{name}-{digest}.mp4");
    let track = PlaylistTrack {
        playlist: format!("{name}.m3u8"),
        media: media.clone(),
        header_bytes: *header_bytes,
        segments,
        codec: header.codec.clone(),
        width: header.width,
        height: header.height,
        channels: header.channels,
    };
    Ok((track, (path.clone(), media)))
}
