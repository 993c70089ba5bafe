//! Live recordings and broadcasts: what the server asks for, from the request to the job in the outbox.
//!
//! [`service`] answers the requests and starts a [`driver`] for each that is taken on; the driver asks the [`session`]
//! what to do about everything that happens, and does it. The [`journal`] remembers how far it is, so that [`recovery`]
//! knows how to go on after a crash. [`raw_file`] is what is left at the end, made of the parts by [`crate::transcode::join`],
//! and a [`summary`]; [`publish`] hands it to the work queue.

pub mod driver;
mod interruption;
pub mod journal;
mod opening;
pub mod publish;
pub mod raw_file;
pub mod recovery;
pub mod room;
pub mod service;
pub mod session;
pub mod summary;
pub mod traces;
mod trim;
