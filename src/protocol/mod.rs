//! plugNmeet's wire, as PROTOCOL says it: pure (no clock, no I/O, no async; time is an argument).

pub mod access;
pub mod announcement;
pub mod ids;
pub mod job;
pub mod jwt;
pub mod messages;
pub mod notice;
pub mod request;
pub mod room_status;
pub mod signature;
pub mod token;
