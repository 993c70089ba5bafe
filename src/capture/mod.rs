//! Picture and sound of one meeting → one timestamped stream into ffmpeg.
//!
//! ```text
//!  browser: Chrome in the meeting ──paints on──▶ video: Xvfb display ─▶ grabber ─▶ frame pool ─┐
//!      │                                                                                       ├─▶ encoder: stream
//!      └──────────plays into──▶ audio: PulseAudio sink ─▶ recorder ─▶ a/v sync ────────────────┘   (one bounded queue)
//!                                                                                                      │ Matroska
//!                                  file of the part  or  rtmp: relay ─▶ far end  ◀── encoder: ffmpeg ◀─┘
//! ```
//!
//! In: a [`rig::RigSpec`]. Out: a file or a broadcast, its quality ([`quality`]), and the reason of its end
//! ([`rig_failure`]). [`rig`] opens the components in order and closes them in reverse. [`rig_directory`] and
//! [`process_tag`] record the owner of a rig on disk and in each of its processes, so that [`cleanup`] can remove the
//! rig of a killed daemon. [`rig_watch`] and [`watchdog`] notice a part that stands still, and [`rig_thread`] a thread
//! that panics. Nothing here knows of journals, NATS or the outbox. All timestamps come from one monotonic clock.

pub mod audio;
pub mod browser;
pub mod capture_report;
pub mod cleanup;
pub mod component_error;
pub mod cpu_use;
pub mod encoder;
pub mod encoder_fallback;
pub mod encoder_handover;
pub mod frame_loss;
pub mod live_capture;
pub mod process_tag;
pub mod quality;
pub mod quality_summary;
pub mod rig;
pub mod rig_directory;
pub mod rig_failure;
pub mod rig_spec;
pub mod rig_thread;
pub mod rig_watch;
pub mod rtmp;
pub mod running_capture;
pub mod video;
pub mod watchdog;
