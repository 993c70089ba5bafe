//! Storage on disk: atomic files, journals that survive a crash, the lock of the state directory, and free space.
//!
//! In: bytes and their paths. Out: data that is on disk when a call returns. Storage does not interpret records.

pub mod advance_copy;
pub mod detached;
pub mod directory_check;
pub mod disk_space;
pub mod drop_request;
pub mod durable_tasks;
pub mod file_system;
pub mod files;
pub mod growing_file;
pub mod journal;
pub mod lock;
pub mod main_path;
pub mod placement;
pub mod record_writer;
pub mod state_version;
pub mod task_record;
