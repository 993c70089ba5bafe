//! Who holds a recorder id, and when an id is free: the decisions alone, pure. Times are durations since any fixed moment.
//!
//! The bucket's key `recorder_<id>-FIELD_100` names the holder. A holder is alive while the revisions of that key or of
//! `last_ping` change: no clocks of different hosts are compared.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::nats::BucketEntry;

/// An id whose keys nobody has written for so long is free. A holder pings every 2 s, a reference recorder every 3 s.
pub const SILENCE: Duration = Duration::from_secs(10);
/// More writes than this are not outstanding at once.
const MAX_UNANSWERED: usize = 32;
/// The end of the year 9999, the last that can be formatted.
const LAST_MS: u64 = 253_402_300_799_000;

/// The process that holds a recorder id: the value of the holder key, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The name of its host.
    pub host: String,
    pub pid: u32,
    /// Its start, in Unix milliseconds.
    pub start: u64,
    /// A random text that no other process has.
    pub nonce: String,
    /// Identifies the lock file of its `state_dir`, which only one process holds; empty where unknown.
    #[serde(default)]
    pub lock: String,
}

impl Holder {
    /// The value of the holder key.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The holder that an entry names. What cannot be read is some other holder, since this process can read its own.
    #[must_use]
    pub fn of(entry: &BucketEntry) -> Option<Self> {
        let text = entry.value.as_deref()?;
        Some(serde_json::from_str(text).unwrap_or_else(|_| Self {
            host: "unknown".to_owned(),
            pid: 0,
            start: 0,
            nonce: text.to_owned(),
            lock: String::new(),
        }))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Another process wrote it, so that it may be anything.
        let host: String = self.host.chars().filter(|c| !c.is_control()).take(253).collect();
        let start = UNIX_EPOCH + Duration::from_millis(self.start.min(LAST_MS));
        write!(f, "host {host}, pid {}, started {}", self.pid, humantime::format_rfc3339_seconds(start))
    }
}

/// What a line of the log calls the other recorder.
#[must_use]
pub fn name_of(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "a recorder that names no holder (a reference recorder, or an older version of this program)".to_owned(),
        Holder::to_string,
    )
}

/// What the bucket holds under one id of what decides who holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdEntries {
    pub holder: BucketEntry,
    /// `last_ping`.
    pub ping: BucketEntry,
}

/// What this process knows of its own writes.
#[derive(Clone, Debug, Default)]
pub struct OwnWrites {
    /// The revision at which it took the holder key.
    pub holder_revision: u64,
    /// The revision of its last ping, or the one that it found when it took the id.
    pub ping_revision: u64,
    /// Pings since then of which it does not know whether they were written.
    unanswered: Vec<String>,
}

impl OwnWrites {
    /// This process has taken the holder key, and found `last_ping` at that revision.
    #[must_use]
    pub fn since(holder_revision: u64, ping_revision: u64) -> Self {
        Self { holder_revision, ping_revision, unanswered: Vec::new() }
    }

    /// A ping is about to be written.
    pub fn writes(&mut self, ping: &str) {
        self.unanswered.push(ping.to_owned());
        if self.unanswered.len() > MAX_UNANSWERED {
            self.unanswered.remove(0);
        }
    }

    /// The last one was written at this revision.
    pub fn wrote(&mut self, revision: u64) {
        self.ping_revision = revision;
        self.unanswered.clear();
    }

    /// `last_ping` is at this revision, and this process's. A write without an answer may still come.
    pub fn found(&mut self, revision: u64) {
        self.ping_revision = revision;
    }

    /// The last one was refused.
    pub fn was_refused(&mut self) {
        self.unanswered.pop();
    }

    /// Whether what was read is older than what this process has written: of a replica that is behind, or of a new bucket.
    #[must_use]
    pub fn are_newer_than(&self, seen: &IdEntries) -> bool {
        seen.holder.revision < self.holder_revision || seen.ping.revision < self.ping_revision
    }

    fn include(&self, ping: &BucketEntry) -> bool {
        let is_ours = |value: &String| ping.revision == self.ping_revision || self.unanswered.contains(value);
        ping.value.as_ref().is_none_or(is_ours)
    }
}

/// Whose id it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This process's; the ping that it found is its own.
    Own,
    /// Nobody's: the keys are gone, as in a new bucket.
    Vacant,
    /// Another's, who has its name in the bucket or not.
    Other(Option<Holder>),
}

/// Whose id it is, where this process held it.
#[must_use]
pub fn ownership(own: &Holder, writes: &OwnWrites, seen: &IdEntries) -> Ownership {
    let holder = Holder::of(&seen.holder);
    let is_own = holder.as_ref().map(|holder| holder.nonce == own.nonce);
    match (is_own, writes.include(&seen.ping)) {
        (Some(false), _) => Ownership::Other(holder),
        (_, false) => Ownership::Other(None),
        (Some(true), true) => Ownership::Own,
        (None, true) => Ownership::Vacant,
    }
}

/// What a look at the bucket says of an id that this process does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdState {
    /// It may be taken.
    Free,
    /// Nobody has written since the first look, and not for 10 s yet.
    Silent,
    /// Another recorder has written since the last look.
    Alive,
}

/// Watches an id that this process does not hold.
#[derive(Clone, Debug)]
pub struct IdWatch {
    /// The process held the id and lost it: its own name in the bucket says nothing.
    is_lost: bool,
    /// The revisions of holder and ping, and since when they are so.
    last: Option<(Duration, [u64; 2])>,
}

impl IdWatch {
    /// Before the process has held the id.
    #[must_use]
    pub fn at_start() -> Self {
        Self { is_lost: false, last: None }
    }

    /// After the process has lost the id.
    #[must_use]
    pub fn after_loss() -> Self {
        Self { is_lost: true, last: None }
    }

    /// The bucket could not be read: nor may the holder have been able to write.
    pub fn interrupt(&mut self) {
        self.last = None;
    }

    /// A look at the bucket.
    pub fn look(&mut self, now: Duration, own: &Holder, seen: &IdEntries) -> IdState {
        let holder = Holder::of(&seen.holder);
        let is_own = holder.as_ref().is_some_and(|holder| holder.nonce == own.nonce);
        let revisions = [seen.holder.revision, seen.ping.revision];
        if seen.ping.value.is_none() && (holder.is_none() || is_own) {
            // One that ends purges its keys one after the other: what is written before the last of them would be lost.
            let is_settled = self.last.is_some_and(|(_, last)| last == revisions);
            self.last = Some((now, revisions));
            return if is_settled || !self.is_lost { IdState::Free } else { IdState::Silent };
        }
        // The lock of the state directory is this process's now, so the one that had it has ended.
        let same_lock = holder.is_some_and(|holder| !own.lock.is_empty() && holder.lock == own.lock);
        if !self.is_lost && (is_own || same_lock) {
            return IdState::Free;
        }
        match &mut self.last {
            Some((since, last)) if *last == revisions => {
                if now.saturating_sub(*since) >= SILENCE {
                    IdState::Free
                } else {
                    IdState::Silent
                }
            }
            // A replica that is behind the one that was read before, or a new bucket.
            Some((since, last)) if revisions.iter().zip(&*last).all(|(now, last)| now <= last) => {
                (*since, *last) = (now, revisions);
                IdState::Silent
            }
            last => {
                let is_first = last.replace((now, revisions)).is_none();
                if is_first { IdState::Silent } else { IdState::Alive }
            }
        }
    }
}

#[cfg(test)]
mod tests;
