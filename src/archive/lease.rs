//! Whose a recording is, by its marker and its leases: pure.

/// What a node that looks at a marker does, whose node is gone or itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// The marker is an old one: another node has the latest lease, and a marker of its own.
    ForgetMarker,
    /// The recording is this node's by this lease; 0: by the server's request.
    GoOn(u32),
    /// This lease is to be taken.
    Take(u32),
}

/// `marked`: the node of the marker. `own`: this node. `latest`: the number of the latest lease, 0 for none, and its
/// holder; `None`: unknown.
#[must_use]
pub fn step(marked: &str, own: &str, latest: u32, holder: Option<&str>) -> LeaseStep {
    match holder.filter(|_| latest > 0) {
        // A node takes a lease only behind its own marker.
        Some(holder) if holder != marked && holder != own => LeaseStep::ForgetMarker,
        Some(holder) if holder == own => LeaseStep::GoOn(latest),
        None if marked == own && latest == 0 => LeaseStep::GoOn(0),
        _ => LeaseStep::Take(latest + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_taken_from_the_node_that_has_it_and_from_no_other() {
        use LeaseStep::{ForgetMarker, GoOn, Take};
        for (marked, latest, holder, wanted) in [
            // The node that the server has asked is gone.
            ("a", 0, None, Take(1)),
            // b has taken it over from a, whose marker is still there: it is b's as long as b lives,
            ("a", 1, Some("b"), ForgetMarker),
            // and is taken from b.
            ("b", 1, Some("b"), Take(2)),
            // This node was killed while it took it over.
            ("a", 1, Some("me"), GoOn(1)),
            ("me", 1, Some("me"), GoOn(1)),
            // Its disk is a new one.
            ("me", 0, None, GoOn(0)),
            // It has handed in what another node has now.
            ("me", 1, Some("b"), ForgetMarker),
        ] {
            assert_eq!(step(marked, "me", latest, holder), wanted, "{marked} {latest} {holder:?}");
        }
    }
}
