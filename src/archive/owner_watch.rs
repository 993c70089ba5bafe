//! Which nodes are gone, by their announcements (PROTOCOL 2): pure. A node is gone when its ping was not written for some
//! time by this node's own clock; what the ping says does not matter, as a full node announces an old one.

use std::collections::HashMap;
use std::time::Duration;

use crate::protocol::ids::RecorderId;

/// The nodes that are watched.
#[derive(Debug)]
pub struct OwnerWatch {
    gone_after: Duration,
    seen: HashMap<RecorderId, Announcement>,
}

#[derive(Clone, Copy, Debug)]
struct Announcement {
    /// Of the last write.
    revision: u64,
    /// When that was first seen.
    since: Duration,
}

impl OwnerWatch {
    /// `gone_after`: how long an announcement is not renewed until its node counts as gone.
    #[must_use]
    pub fn new(gone_after: Duration) -> Self {
        Self { gone_after, seen: HashMap::new() }
    }

    /// Takes the revision of a node's ping (0: there is none) at `now`; whether the node is gone.
    pub fn look(&mut self, now: Duration, node: &RecorderId, revision: u64) -> bool {
        let fresh = Announcement { revision, since: now };
        let announcement = self.seen.entry(node.clone()).or_insert(fresh);
        if announcement.revision != revision {
            *announcement = fresh;
        }
        now.saturating_sub(announcement.since) >= self.gone_after
    }

    /// The bucket could not be read: nothing is known of the time since the last look.
    pub fn interrupt(&mut self) {
        self.seen.clear();
    }

    /// Watches only these any more.
    pub fn keep(&mut self, nodes: &[RecorderId]) {
        self.seen.retain(|node, _| nodes.contains(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_gone_when_nothing_of_it_was_written_for_a_minute() {
        let node = RecorderId::parse("node_03").unwrap();
        let at = Duration::from_secs;
        let mut watch = OwnerWatch::new(at(60));
        assert!(!watch.look(at(1000), &node, 7));
        assert!(!watch.look(at(1050), &node, 8));
        assert!(!watch.look(at(1109), &node, 8));
        assert!(watch.look(at(1110), &node, 8));
        assert!(!watch.look(at(1111), &node, 9), "it has come back");
        // A purge is a write, and then there is nothing.
        assert!(!watch.look(at(1120), &node, 0));
        watch.interrupt();
        assert!(!watch.look(at(1200), &node, 0), "nobody knows what was in between");
        assert!(watch.look(at(1260), &node, 0));
        watch.keep(&[]);
        assert!(!watch.look(at(1261), &node, 0));
    }
}
