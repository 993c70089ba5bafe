//! What lies on disk: files that are whole or not there, records that survive a crash, whose the state directory is, and how
//! much space is free.
//!
//! In: bytes and where they belong. Out: they are on disk when a call returns. What a record means is its owner's business.

pub mod disk_space;
pub mod files;
pub mod journal;
pub mod lock;
