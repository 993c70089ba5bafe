//! `main_path` as this node knows it: which file system it is, and what that can do.
//!
//! A share comes and goes: when it is not mounted, its mount point is an ordinary directory, and what is written there
//! is hidden as soon as the share is back. Therefore a hidden file in `main_path` itself, the marker, holds an id that
//! all nodes of the share read, and this node remembers it in `state_dir`. Where the marker is another one or missing,
//! nothing is written.

mod abilities;
mod handle;
mod identity;
mod marker;
mod trial;
mod watch;

pub use abilities::StoreAbilities;
pub use handle::{MainPath, StoreFault, StoreStatus};
pub use marker::{MEMORY, is_other, is_remembered};
pub use trial::try_out;
pub use watch::{first_look, watch};
