//! Whether a node is ready: a line for each of what it needs, with what to do where that is missing.
//!
//! `plugnmeet-recorder check` runs all of it, and the daemon the quick part at its start ([`at_start`]). Nothing is left
//! behind, and nothing of a recorder that runs with the same configuration is touched: no lock is taken, no directory
//! made, nothing announced, and no job fetched. Each check has a time limit of its own, and a disk or server that hangs
//! holds up no other: what may hang for ever does so on a thread of its own ([`crate::storage::detached`]).

mod at_start;
mod broker;
mod certificates;
mod clock;
mod command;
mod directories;
mod disk_speed;
mod finding_code;
mod fonts;
mod glyphs;
mod host;
mod limits;
mod marks;
mod place;
mod programs;
pub mod report;
mod run;
mod scripts;
mod self_recording;
mod server;
mod speed;
mod store;
pub mod test_recording;
mod versions;

pub use at_start::log_quick_part;
pub use place::remove_leftovers;
pub use run::{Request, run};
