//! What lies on disk: whole files without ever losing one, whose the state directory is, and how much room there is.

pub mod files;
pub mod lock;
pub mod record;
pub mod space;
