//! Live recordings and broadcasts: what the server asks for, from the request to the job in the work queue.
//!
//! [`service`] answers the requests and starts a [`driver`] for each that is taken on; the driver asks the [`session`]
//! what to do about everything that happens, and does it; [`raw_file`] is what is left at the end, and a [`summary`].

pub mod driver;
pub mod join;
pub mod join_plan;
pub mod raw_file;
pub mod service;
pub mod session;
pub mod summary;
