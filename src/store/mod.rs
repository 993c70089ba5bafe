//! Object stores, by URL ([`crate::config::store_url`]): finished MP4s are delivered into them, and raw files that cannot be
//! transcoded are copied there (docs/stores.md).
//!
//! [`handle::Store`] is one store, over the crate `object_store`. [`uploads::Uploads`] has a task for each file that is
//! on its way ([`upload`]), with its record on disk ([`record`]): an upload goes on behind the part where it was, also after
//! a restart, until the store has confirmed it or an operator drops it. [`probe`] says what a store can do.
//! [`download`] is the way back. [`raw_store::RawStore`] takes raw files from one node to another.
//!
//! A file that the store has not confirmed is never removed, and no secret is in a log, a record or an error.

pub mod connect;
pub mod download;
pub mod error;
pub mod handle;
mod http_client;
mod local_copy;
mod local_file;
pub mod object_file;
pub mod part_plan;
pub mod probe;
pub mod raw_store;
pub mod record;
pub mod settings;
mod shared_credentials;
pub mod sidecars;
mod stores;
mod stray_uploads;
mod transfer;
pub mod upload;
mod upload_task;
pub mod uploads;
