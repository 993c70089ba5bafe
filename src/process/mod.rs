//! Processes: children of the daemon, and `/proc`.
//!
//! In: what to start and how, and when to end it. Out: a [`child`] that is always reaped, with its last lines; its
//! descendants ([`tree`]); the state of any process ([`procfs`]); what this one is allowed and uses ([`cgroup`]). No shell is started here, and nothing here knows the
//! purpose of a child. Process 1 of a container is [`init`].

pub mod cgroup;
pub mod cgroup_files;
pub mod child;
pub mod init;
pub mod interpreter;
mod log_budget;
pub mod marked;
pub mod output;
pub mod procfs;
pub mod programs;
mod spawner;
pub mod tree;
