//! Recordings as HLS while they run: a playlist that only grows (`EXT-X-PLAYLIST-TYPE:EVENT`), for viewers who come late
//! and go back to the beginning.
//!
//! ```text
//! raw file of a part ── read as it grows ──► ffmpeg, one decode ──► a pipe per rendition, and one of the sound
//!                                                                       │ fragments (`fragments`)
//!      store ◄── queue (`store_queue`) ◄── main_path (`publication`) ◄──┴ segments of equal times (`segment_cutter`)
//! ```
//!
//! A [`publisher`] follows one recording from its first part to its end. What it leaves is the HLS of the recording, which
//! nobody makes again of the MP4: its [`note`] says so. Whatever goes wrong costs the capture nothing: the playlists end
//! there, and the recording becomes HLS of its MP4 instead.

mod arguments;
pub mod error;
pub mod event_playlist;
pub mod fragments;
pub mod note;
mod part_encoder;
mod publication;
pub mod publisher;
pub mod segment_cutter;
mod store_queue;
