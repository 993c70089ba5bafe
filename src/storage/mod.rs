//! What lies on disk: moving whole files without ever losing one, and how much room is left for more.

pub mod files;
pub mod space;
