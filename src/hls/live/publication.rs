//! What of a recording is published in `main_path` while it runs: media first, then the playlists that name them, the
//! master playlist with the first of them. A disk that fails is tried again; who waits for it has a limit.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::codes;
use crate::config::VideoRate;
use crate::hls::arguments::most_bits;
use crate::hls::fragment_boxes::TrackHeader;
use crate::hls::ladder::{Encoding, Rung};
use crate::hls::live::error::LiveError;
use crate::hls::live::event_playlist::{EventPlaylist, LONGEST_FRAME, target_duration};
use crate::hls::live::fragments::{MediaFragment, TrackPiece};
use crate::hls::live::note::{LiveNote, LiveState, NOTE};
use crate::hls::live::segment_cutter::SegmentCutter;
use crate::hls::live::store_queue::StoreQueue;
use crate::hls::packager::{MASTER, SOUND};
use crate::hls::playlist::{PlaylistTrack, StatedRates, master_playlist, master_playlist_of};
use crate::storage::detached;
use crate::storage::main_path::MainPath;
use crate::storage::placement;
use crate::telemetry::log_throttle::LogThrottle;

/// How often a disk that fails is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Bits a second of a sound before it was measured.
const SOUND_ESTIMATE: u64 = 160_000;
/// Bits a second for each pixel of a picture before it was measured: of a moving one. A fast encoder takes more.
const ENCODED_ESTIMATE: u64 = 2;
const COPIED_ESTIMATE: u64 = 3;

/// Where a recording is published.
pub(super) struct PublicationPlace {
    pub main_path: MainPath,
    pub dir: PathBuf,
    pub node: String,
    /// `None`: it goes into no store.
    pub queue: Option<StoreQueue>,
}

/// One recording.
pub(super) struct Publication {
    place: PublicationPlace,
    every: Duration,
    /// The pictures from the highest to the lowest, then the sound.
    tracks: Vec<PublishedTrack>,
    part: PartState,
    /// The names of the media, in their order.
    media: Vec<String>,
    has_master: bool,
    log: LogThrottle,
}

struct PublishedTrack {
    name: String,
    /// Of the first part.
    header: Option<TrackHeader>,
    playlist: EventPlaylist,
    /// Bits a second before it was measured.
    estimate: u64,
    is_changed: bool,
}

/// The part that is published now.
#[derive(Default)]
struct PartState {
    label: String,
    /// Until all tracks have begun.
    held: Vec<(usize, MediaFragment)>,
    /// Of the pictures, and of the sound.
    cutters: Option<[SegmentCutter; 2]>,
}

type NamedFile = (String, Vec<u8>);

impl Publication {
    pub fn new(place: PublicationPlace, every: Duration) -> Self {
        let (tracks, part, log) = (Vec::new(), PartState::default(), LogThrottle::default());
        Self { place, every, tracks, part, media: Vec::new(), has_master: false, log }
    }

    /// Whether anything is published.
    pub fn has_begun(&self) -> bool {
        self.has_master
    }

    /// Makes the directory and the note, before there is anything in it.
    pub async fn prepare(&mut self) {
        let note = LiveNote::new(&self.place.node, LiveState::Running).to_bytes();
        if let Some(queue) = &self.place.queue {
            queue.note(note.clone());
        }
        self.write(vec![(NOTE.to_owned(), note)]).await;
    }

    /// The next part begins, of these pictures and a sound. `label`: of its files.
    ///
    /// # Errors
    /// Where its pictures are of other sizes than those before.
    pub fn begin_part(&mut self, label: &str, rungs: &[Rung]) -> Result<(), LiveError> {
        let names = rungs.iter().map(Rung::name).chain([SOUND.to_owned()]);
        if self.tracks.is_empty() {
            let estimates = rungs.iter().map(estimate).chain([SOUND_ESTIMATE]);
            let target = target_duration(self.every);
            let track = |(name, estimate)| PublishedTrack {
                name,
                header: None,
                playlist: EventPlaylist::new(target),
                estimate,
                is_changed: false,
            };
            self.tracks = names.zip(estimates).map(track).collect();
        } else if !names.eq(self.tracks.iter().map(|track| track.name.clone())) {
            return Err(LiveError::Unfit("a part has another size of the picture than the one before".to_owned()));
        }
        self.part = PartState { label: label.to_owned(), ..PartState::default() };
        Ok(())
    }

    /// Takes what ffmpeg has made, and publishes what is complete with it.
    ///
    /// # Errors
    /// Where it cannot be cut or named.
    pub async fn take(&mut self, track: usize, piece: TrackPiece) -> Result<(), LiveError> {
        let Some(published) = self.tracks.get_mut(track) else { return Ok(()) };
        let files = match piece {
            TrackPiece::Header { header, bytes } => {
                let name = format!("{}-{}-init.mp4", published.name, self.part.label);
                published.playlist.begin_part(&name);
                published.header.get_or_insert(header);
                vec![(name, bytes)]
            }
            TrackPiece::Media(fragment) => self.cut(track, fragment)?,
        };
        self.publish(files).await;
        Ok(())
    }

    /// The part is complete.
    ///
    /// # Errors
    /// Where a track lacks media.
    pub async fn end_part(&mut self) -> Result<(), LiveError> {
        if !self.part.held.is_empty() {
            return Err(LiveError::Unfit("a part has a picture without sound, or the other way round".to_owned()));
        }
        let Some(mut cutters) = self.part.cutters.take() else { return Ok(()) };
        let mut files = Vec::new();
        let ends = cutters.iter().filter_map(SegmentCutter::latest).max().unwrap_or_default();
        let mut first = 0;
        for cutter in &mut cutters {
            let last = cutter.end().map_err(LiveError::unfit("at the end of a part"))?;
            let last = last.unwrap_or_default();
            for (index, mut segment) in last.into_iter().enumerate() {
                let track = first + index;
                if let Some(header) =
                    self.tracks.get(track).and_then(|one| one.header.as_ref()).filter(|one| one.width > 0)
                {
                    segment.show_to(ends.min(segment.begin + self.every + LONGEST_FRAME), header.timescale);
                }
                files.push(self.add(track, segment)?);
            }
            first = self.sound();
        }
        self.publish(files).await;
        Ok(())
    }

    /// Nothing follows: it is all of the recording.
    pub async fn finish(&mut self) {
        let files = self.files();
        let longest =
            self.tracks.iter().filter_map(|track| track.playlist.segments().last()).map(|last| last.end).max();
        let length_ms = u64::try_from(longest.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        let (pictures, sound) = self.playlist_tracks();
        let master = master_playlist(&pictures, sound.as_ref(), self.every);
        let playlists = self.ended_playlists().into_iter().chain([(MASTER.to_owned(), master)]).collect();
        self.write_playlists(playlists).await;
        let note = LiveNote { files, length_ms, ..LiveNote::new(&self.place.node, LiveState::Complete) };
        self.sync().await;
        self.write(vec![(NOTE.to_owned(), note.to_bytes())]).await;
        self.end_queue(&note);
    }

    /// Nothing follows, though it is not all of the recording.
    pub async fn abandon(&mut self) {
        if self.has_master {
            let playlists = self.ended_playlists();
            self.write_playlists(playlists).await;
        }
        let note = LiveNote::new(&self.place.node, LiveState::Abandoned);
        self.end_queue(&note);
        self.write(vec![(NOTE.to_owned(), note.to_bytes())]).await;
    }

    fn end_queue(&self, note: &LiveNote) {
        if let Some(queue) = &self.place.queue {
            queue.end(note.to_bytes());
        }
    }

    /// The number of the sound.
    fn sound(&self) -> usize {
        self.tracks.len().saturating_sub(1)
    }

    /// The segments that are complete with this fragment.
    fn cut(&mut self, track: usize, fragment: MediaFragment) -> Result<Vec<NamedFile>, LiveError> {
        self.part.held.push((track, fragment));
        if self.part.cutters.is_none() {
            let begins = |index| self.part.held.iter().find(|(track, _)| *track == index).map(|(_, first)| first.begin);
            let Some(begins) = (0..self.tracks.len()).map(begins).collect::<Option<Vec<_>>>() else {
                return Ok(Vec::new());
            };
            let origin = begins.into_iter().min().unwrap_or_default();
            let cutter = |tracks| SegmentCutter::new(tracks, self.every, origin);
            self.part.cutters = Some([cutter(self.sound()), cutter(1)]);
        }
        let mut files = Vec::new();
        for (track, fragment) in std::mem::take(&mut self.part.held) {
            let sound = self.sound();
            let Some([pictures, sounds]) = &mut self.part.cutters else { break };
            let (first, cut) =
                if track == sound { (sound, sounds.take(0, fragment)) } else { (0, pictures.take(track, fragment)) };
            for segments in cut.map_err(LiveError::unfit("the renditions"))? {
                for (index, segment) in segments.into_iter().enumerate() {
                    files.push(self.add(first + index, segment)?);
                }
            }
        }
        Ok(files)
    }

    /// Adds a segment to the playlist of its track.
    fn add(&mut self, track: usize, segment: MediaFragment) -> Result<NamedFile, LiveError> {
        let part = &self.part.label;
        let Some(published) = self.tracks.get_mut(track) else {
            return Err(LiveError::Unfit("there is no such track".to_owned()));
        };
        let name = format!("{}-{part}-{:06}.m4s", published.name, published.playlist.segments().len());
        let lasts = segment.end.saturating_sub(segment.begin);
        if !published.playlist.add(&name, lasts, segment.bytes.len() as u64) {
            let every = self.every.as_secs_f64();
            return Err(LiveError::Unfit(format!(
                "a segment of {} lasts {:.1} s instead of {every} s: the picture has no keyframe, or no frame, for so long",
                published.name,
                lasts.as_secs_f64()
            )));
        }
        published.is_changed = true;
        Ok((name, segment.bytes))
    }

    /// Publishes these media, and the playlists that have changed.
    async fn publish(&mut self, files: Vec<NamedFile>) {
        if files.is_empty() {
            return;
        }
        let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
        self.write(files).await;
        if let Some(queue) = &self.place.queue {
            queue.media(&names);
        }
        self.media.extend(names);
        let changed = |track: &mut PublishedTrack| {
            let text = || (track.playlist_name(), track.playlist.text().to_owned());
            let changed = track.is_changed.then(text);
            track.is_changed = false;
            changed
        };
        let mut playlists: Vec<_> = self.tracks.iter_mut().filter_map(changed).collect();
        if playlists.is_empty() {
            return;
        }
        let is_complete = self.tracks.iter().all(|track| !track.playlist.segments().is_empty());
        if !self.has_master && is_complete {
            playlists.push((MASTER.to_owned(), self.estimated_master()));
            self.has_master = true;
            tracing::info!(
                master = %self.place.dir.join(MASTER).display(),
                "the recording is published while it runs"
            );
        }
        self.write_playlists(playlists).await;
    }

    async fn write_playlists(&mut self, playlists: Vec<(String, String)>) {
        self.write(playlists.iter().map(|(name, text)| (name.clone(), text.clone().into_bytes())).collect()).await;
        if let Some(queue) = &self.place.queue {
            queue.playlists(playlists);
        }
    }

    fn ended_playlists(&self) -> Vec<(String, String)> {
        self.tracks.iter().map(|track| (track.playlist_name(), track.playlist.ended())).collect()
    }

    /// All files, in the order in which they are put into a store.
    fn files(&self) -> Vec<String> {
        let playlists = self.tracks.iter().map(PublishedTrack::playlist_name);
        self.media.iter().cloned().chain(playlists).chain([MASTER.to_owned()]).collect()
    }

    fn estimated_master(&self) -> String {
        let (pictures, sound) = self.playlist_tracks();
        let estimate = |one: &PlaylistTrack| {
            let track = self.tracks.iter().find(|track| track.playlist_name() == one.playlist);
            track.map_or(0, |track| track.estimate)
        };
        let rates = |tracks: &[&PlaylistTrack]| StatedRates {
            peak: tracks.iter().map(|one| estimate(one)).sum(),
            average: None,
        };
        master_playlist_of(&pictures, sound.as_ref(), rates)
    }

    /// The tracks as the master playlist shows them: the pictures, and the sound.
    fn playlist_tracks(&self) -> (Vec<PlaylistTrack>, Option<PlaylistTrack>) {
        let mut tracks: Vec<PlaylistTrack> = self.tracks.iter().map(PublishedTrack::describe).collect();
        let sound = tracks.pop();
        (tracks, sound)
    }

    /// Writes files, one after the other, until the disk has taken them.
    async fn write(&mut self, files: Vec<NamedFile>) {
        let files = std::sync::Arc::new(files);
        loop {
            let (main_path, dir, files) = (self.place.main_path.clone(), self.place.dir.clone(), files.clone());
            let write = move || {
                main_path.check().map_err(std::io::Error::other)?;
                std::fs::create_dir_all(&dir)?;
                files.iter().try_for_each(|(name, bytes)| {
                    placement::write_unsynced_blocking(&main_path, &dir.join(name), bytes)
                })
            };
            let Err(error) = detached::run("live-hls", write).await else { return };
            self.warn(&error);
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Has the disk keep what was written.
    async fn sync(&mut self) {
        let dir = self.place.dir.clone();
        let sync = move || Ok(rustix::fs::syncfs(std::fs::File::open(dir)?)?);
        if let Err(error) = detached::run("live-hls", sync).await {
            tracing::debug!(%error, "the disk does not say whether it has all of the HLS");
        }
    }

    fn warn(&mut self, error: &std::io::Error) {
        if self.log.due(Instant::now()) {
            tracing::warn!(
                code = %codes::LIVE_HLS_LATE, dir = %self.place.dir.display(), %error,
                "what is published of a recording that runs is late: main_path does not take it; trying on; look at that disk"
            );
        }
    }
}

impl PublishedTrack {
    fn playlist_name(&self) -> String {
        format!("{}.m3u8", self.name)
    }

    fn describe(&self) -> PlaylistTrack {
        let header = self.header.as_ref();
        PlaylistTrack {
            playlist: self.playlist_name(),
            media: String::new(),
            header_bytes: 0,
            segments: self.playlist.segments().to_vec(),
            codec: header.map(|header| header.codec.clone()).unwrap_or_default(),
            width: header.map_or(0, |header| header.width),
            height: header.map_or(0, |header| header.height),
            channels: header.map_or(0, |header| header.channels),
        }
    }
}

/// Bits a second of a rendition, before it was measured.
fn estimate(rung: &Rung) -> u64 {
    let pixels = u64::from(rung.width) * u64::from(rung.height);
    match rung.encoding {
        Encoding::Encode(Some(VideoRate::BitRate(bits))) => most_bits(bits),
        Encoding::Encode(_) => pixels * ENCODED_ESTIMATE,
        Encoding::Copy => pixels * COPIED_ESTIMATE,
    }
}
