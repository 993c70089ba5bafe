//! The video: a private X server, and frames of it with the times of their changes.
//!
//! In: what Chrome paints on the [`display`]. Out: I420 frames into the encoder's stream ([`grabber`]). [`damage`],
//! [`frame_pool`], [`pacer`] and [`drop_monitor`] are pure. Who looks at a running capture gets a frame of it ([`preview`]),
//! to be shrunk to a [`thumbnail`]. No frame is sent before the [`pacer`] says that it is due.

pub mod damage;
pub mod display;
pub mod drop_monitor;
pub mod frame;
pub mod frame_pool;
pub mod grabber;
pub mod pacer;
pub mod preview;
pub mod screenshot;
pub mod thumbnail;
