//! Chrome, as a guest in the meeting.
//!
//! In: the meeting page's address. Out: the meeting on the display and in the sound server, and why the page does not show
//! it any more. [`chrome`] is its life; [`devtools`] asks the page; [`page`], [`joining`], [`page_health`], [`hang_detector`],
//! [`crash`] and [`error_page`] say what its answers mean, and are pure. The access token goes into the page by the DevTools
//! protocol and never onto a command line.

pub mod call_sync;
pub mod certificate;
pub mod chrome;
pub mod chrome_arguments;
pub mod crash;
pub mod devtools;
pub mod error_page;
pub mod hang_detector;
pub mod joining;
pub mod page;
pub mod page_health;
pub mod page_monitor;
pub mod sandbox;
pub mod trusted_roots;
pub mod window;
