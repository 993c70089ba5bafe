//! What lies on disk: moving whole files without ever losing one.

pub mod files;
