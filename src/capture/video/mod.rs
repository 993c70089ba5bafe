//! The picture: a private X server, what changes on it, and frames of it at the times at which they were seen.
//!
//! In: what Chrome paints on the [`display`]. Out: I420 frames into the encoder's stream ([`grabber`]). [`damage`], [`frame`],
//! [`frame_pool`], [`pacer`] and [`drop_monitor`] are pure. No frame is sent that nobody asked the [`pacer`] for.

pub mod damage;
pub mod display;
pub mod drop_monitor;
pub mod frame;
pub mod frame_pool;
pub mod grabber;
pub mod pacer;
pub mod screenshot;
