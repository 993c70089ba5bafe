//! Live recordings and broadcasts: from the server's request to the job in the outbox.
//!
//! [`requests`] answers the server and starts a [`driver`] for each recording that is taken on; the driver turns what
//! happens into events, asks the [`session`] (pure) what to do, and does it. The [`journal`] remembers how far it is, so that
//! [`recovery`] (pure) knows how to go on after a crash. [`raw_file`] is what remains at the end, with a [`summary`] beside it;
//! [`job_handoff`] brings it to the work queue. Nothing here waits for the server or NATS: what they are to be told goes into
//! the outbox.

mod capture_record;
pub mod driver;
mod interruption;
pub mod job_handoff;
pub mod journal;
pub mod live_rig_factory;
mod opening;
pub mod raw_file;
pub mod recovery;
mod reference_dirs;
pub mod reference_files;
pub mod requests;
pub mod rig_factory;
pub mod room_client;
mod secrets;
pub mod session;
pub mod summary;
mod trim;
