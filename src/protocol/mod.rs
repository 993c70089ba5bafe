//! plugNmeet's wire, as PROTOCOL says it: pure (no clock, no I/O, no async; time is an argument).

pub mod messages;
