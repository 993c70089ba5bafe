//! plugNmeet's wire protocol (PROTOCOL): pure (no clock, no I/O, no async; time is an argument).
//!
//! In: bytes of the server. Out: checked types ([`request`], [`job`], [`room_status`]); and back: bytes of notices,
//! jobs, announcements and tokens. What was parsed once is trusted; nothing unchecked leaves this folder.

pub mod access;
pub mod announcement;
pub mod ids;
pub mod job;
pub mod jwt;
pub mod messages;
pub mod notice;
pub mod public_text;
pub mod referral;
pub mod request;
pub mod room_status;
pub mod selection;
pub mod signature;
pub mod token;
