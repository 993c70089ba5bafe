//! Every warning, error, refusal and failure of a command has a code (`PNR-0123`), and each code a cause and a remedy.
//! Pure.
//!
//! A log line names its code first: `tracing::warn!(code = %codes::DISK_FULL, …)`. Lines share a code only where cause and
//! remedy are the same. docs/messages.md is made of these tables; `plugnmeet-recorder explain` prints them.

mod admin;
mod broadcast;
mod capture;
mod check;
mod code;
mod commands;
mod delivery;
mod fleet;
mod hls;
mod node;
mod program;
mod recording;
mod scripts;
pub mod search;
mod storage;
mod store;
pub mod text;
mod transcode;

pub use admin::*;
pub use broadcast::*;
pub use capture::*;
pub use check::*;
pub use code::{Code, Room};
pub use commands::*;
pub use delivery::*;
pub use fleet::*;
pub use hls::*;
pub use node::*;
pub use program::*;
pub use recording::*;
pub use scripts::*;
pub use storage::*;
pub use store::*;
pub use transcode::*;

/// All of them, by number.
pub const ROOMS: &[Room] = &[
    NODE, RECORDING, CAPTURE, BROADCAST, TRANSCODE, SCRIPTS, DELIVERY, FLEET, STORAGE, PROGRAM, ADMIN, COMMANDS, CHECK,
    STORE, HLS,
];

/// All codes, by number.
pub fn all() -> impl Iterator<Item = &'static Code> {
    ROOMS.iter().flat_map(|room| room.codes)
}

/// The code with this number.
#[must_use]
pub fn find(number: u16) -> Option<&'static Code> {
    all().find(|code| code.number == number)
}
