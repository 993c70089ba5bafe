//! Live recordings and broadcasts: from the server's request to the job in the outbox.
//!
//! [`requests`] answers the server. A start is written down ([`beginning`]) and gets a [`driver`], or is referred to another
//! node ([`referrals`]). The driver turns what happens into events, asks the [`session`] (pure) what to do, and does it. The [`journal`] records the progress, by which
//! [`recovery`] (pure) decides how to continue after a crash. [`raw_file`] is the result, with a [`summary`] beside it;
//! `storing` puts it into its place and [`job_handoff`] publishes its job. Nothing here waits for the server or NATS: notices and jobs go into the outbox.

pub mod archived_parts;
mod archiving;
mod beginning;
mod capture_record;
mod context;
pub mod driver;
mod earlier_run;
pub mod early_copy;
mod event_log;
pub mod gaps;
mod interruption;
pub mod job_handoff;
pub mod journal;
pub mod live_rig_factory;
pub mod one_pass;
pub mod open_failures;
mod opening;
pub mod opening_turns;
pub mod operator_stop;
mod part_content;
pub mod part_merge;
pub mod processor_room;
mod publishing;
mod raw_ahead;
pub mod raw_file;
mod raw_upload;
pub mod recovery;
mod reference_dirs;
pub mod reference_files;
pub mod referrals;
mod request_source;
pub mod requests;
pub mod rig_factory;
pub mod room_client;
mod secrets;
pub mod session;
pub mod signals;
mod starts;
mod storing;
pub mod summary;
pub mod taken_part;
pub mod takeover;
mod trim;
mod unread_records;
