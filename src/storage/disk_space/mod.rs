//! The disk reserve: free space that must be left for recordings, and what happens when it is not.
//!
//! ```text
//!          below the reserve         below a tenth of it (at least 256 MiB)
//! Enough ─────────────────────→ Low ───────────────────────────────────────→ Full
//!    no new work is taken on         running recordings are ended, while their files can still be closed
//! ```
//!
//! Low ends at 1.1 times the reserve, and Full at 1.1 times its own limit, so that a few files more or less do not
//! switch the level. The policy is pure; only `watch` reads the disk.

mod byte_size;
mod policy;
mod watch;

pub use byte_size::ByteSize;
pub use policy::{DiskLevel, DiskSpace, DiskStatus, judge, reason};
pub use watch::{free, require, watch};
