//! Chrome as a participant of the meeting.
//!
//! In: the URL of the meeting page. Out: the meeting on the display and in PulseAudio, and the cause when the page no
//! longer shows it. [`chrome`] starts, controls and ends the browser; [`devtools`] sends requests to the page,
//! through the pipes of [`devtools_pipe`];
//! [`page_monitor`] watches it; [`page`], [`joining`], [`page_health`], [`hang_detector`], [`crash`] and [`error_page`]
//! interpret the answers and are pure. [`profile`], [`page_dialogs`] and [`window`] keep windows and dialogs of Chrome's
//! own out of the recording. [`visit`] opens any other page instead of a meeting. The access token reaches the page through the DevTools protocol and never
//! appears on a command line.

pub mod call_sync;
pub mod certificate;
pub mod chrome;
pub mod chrome_arguments;
pub mod crash;
pub mod devtools;
mod devtools_pipe;
pub mod error_page;
pub mod hang_detector;
pub mod joining;
pub mod page;
pub mod page_dialogs;
pub mod page_health;
pub mod page_monitor;
pub mod profile;
pub mod sandbox;
pub mod trusted_roots;
pub mod visit;
pub mod visit_step;
pub mod window;
