//! The disk reserve: how much room must be left on the file systems of the recordings, and what follows where it is not.
//!
//! ```text
//!          below the reserve         below a tenth of it (at least 256 MiB)
//! Enough ─────────────────────→ Low ───────────────────────────────────────→ Full
//!    no new work is taken on         running recordings are ended, while their files can still be closed
//! ```
//!
//! Low ends at 1.1 times the reserve, and Full at 1.1 times its own limit: room that comes and goes with a few files
//! changes nothing. The policy is pure; only `watch` looks at the disk.

mod byte_size;
mod policy;
mod watch;

pub use byte_size::ByteSize;
pub use policy::{DiskLevel, DiskSpace, DiskStatus};
pub use watch::{free, watch};
