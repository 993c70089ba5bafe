//! What lies on disk: whole files without ever losing one, and whose the state directory is.

pub mod files;
pub mod lock;
