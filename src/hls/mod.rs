//! Recordings as HLS (RFC 8216): renditions of several sizes between which a player changes.
//!
//! [`recordings::HlsRecordings`] has a task for each recording that is not there yet, with its record on disk ([`record`]).
//! In: an MP4 in its place. [`packager`] makes of it a fragmented MP4 per rendition and one of the sound, with at most two
//! runs of ffmpeg: the highest rendition is the MP4's own picture, the others are scaled and encoded from one decode
//! ([`ladder`], [`arguments`]). Where their fragments lie says [`track_index`]; [`segments`] and [`playlist`] make the
//! playlists of that. Out: a directory in `main_path` (`local_files`), and the same in the store (`delivery`).
//!
//! Nothing of this is done before the MP4 is in its place, and no fault here reaches the MP4 or its server. What is
//! published while a recording runs is made in [`live`].

pub mod arguments;
mod delivery;
mod error;
pub mod fragment_boxes;
pub mod ladder;
pub mod live;
mod local_files;
pub mod packager;
pub mod playlist;
pub mod record;
pub mod recordings;
pub mod segments;
pub mod settings;
mod steps;
pub mod track_index;
