use proptest::prelude::*;

use super::*;

fn process(nonce: &str, lock: &str) -> Holder {
    Holder { host: format!("host-{nonce}"), pid: 7, start: 1_764_208_800_000, nonce: nonce.into(), lock: lock.into() }
}

fn entry(revision: u64, value: impl Into<String>) -> BucketEntry {
    BucketEntry { revision, value: Some(value.into()) }
}

fn held(by: &Holder, ping: BucketEntry) -> IdEntries {
    IdEntries { holder: entry(5, by.to_json()), ping }
}

fn purged(revision: u64) -> BucketEntry {
    BucketEntry { revision, value: None }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn a_holder_is_named_by_host_pid_and_start_whatever_it_says() {
    let me = process("a", "boot:1:2");
    assert_eq!(Holder::of(&entry(1, me.to_json())), Some(me.clone()));
    assert_eq!(me.to_string(), "host host-a, pid 7, started 2025-11-27T02:00:00Z");
    let hostile = Holder { host: "\u{1b}[31m\n".repeat(200), start: u64::MAX, ..me };
    assert!(!hostile.to_string().contains(['\n', '\u{1b}']) && hostile.to_string().contains("9999-12-31"));
    assert_eq!(Holder::of(&entry(1, "what is this")).unwrap().nonce, "what is this");
    assert_eq!(Holder::of(&purged(3)), None);
    assert!(name_of(None).contains("reference recorder"));
}

#[test]
fn an_id_is_free_where_nobody_has_it_or_this_state_directory_had_it() {
    let me = process("a", "boot:1:2");
    let look = |seen: &IdEntries| IdWatch::at_start().look(seconds(0.0), &me, seen);
    assert_eq!(look(&IdEntries::default()), IdState::Free);
    assert_eq!(look(&IdEntries { holder: purged(8), ping: purged(9) }), IdState::Free);
    assert_eq!(look(&held(&process("before", "boot:1:2"), entry(9, "1"))), IdState::Free, "an earlier run");
    assert_eq!(look(&held(&me, entry(9, "1"))), IdState::Free, "the answer was lost");
    assert_eq!(look(&held(&process("b", "boot:1:3"), entry(9, "1"))), IdState::Silent);
    assert_eq!(look(&held(&process("b", "boot:1:3"), purged(9))), IdState::Silent, "about to announce itself");
    assert_eq!(look(&IdEntries { holder: purged(0), ping: entry(9, "1") }), IdState::Silent, "a reference recorder");
    // An unknown lock is nobody's.
    let nameless = process("a", "");
    let seen = held(&process("b", ""), entry(9, "1"));
    assert_eq!(IdWatch::at_start().look(seconds(0.0), &nameless, &seen), IdState::Silent);
}

#[test]
fn an_id_is_free_after_ten_seconds_of_silence_and_a_holder_that_writes_is_alive() {
    let me = process("a", "boot:1:2");
    let other = process("b", "boot:9:9");
    let mut watch = IdWatch::at_start();
    let mut look = |at: f64, revision| watch.look(seconds(at), &me, &held(&other, entry(revision, "0")));
    assert_eq!(look(0.0, 20), IdState::Silent);
    assert_eq!(look(9.9, 20), IdState::Silent);
    assert_eq!(look(9.95, 21), IdState::Alive, "the same value, written again");
    assert_eq!(look(19.9, 21), IdState::Silent);
    assert_eq!(look(20.0, 21), IdState::Free);
    // An outage is no silence.
    watch.interrupt();
    let mut look = |at: f64, revision| watch.look(seconds(at), &me, &held(&other, entry(revision, "0")));
    assert_eq!(look(50.0, 21), IdState::Silent);
    assert_eq!(look(55.0, 20), IdState::Silent, "a replica that is behind");
    assert_eq!(look(55.5, 21), IdState::Alive);
    // A new bucket counts from 1.
    assert_eq!(look(60.0, 2), IdState::Silent);
    assert_eq!(look(62.0, 3), IdState::Alive);
}

#[test]
fn what_was_lost_is_not_taken_back_while_the_other_one_writes() {
    let me = process("a", "boot:1:2");
    let mut watch = IdWatch::after_loss();
    // A reference recorder leaves the name of the one that it drives out.
    for second in 0..30 {
        let seen = held(&me, entry(20 + second, "1764"));
        assert_ne!(watch.look(Duration::from_secs(second), &me, &seen), IdState::Free);
    }
    assert_eq!(watch.look(seconds(30.0), &me, &held(&me, purged(60))), IdState::Silent, "it is leaving");
    assert_eq!(watch.look(seconds(30.5), &me, &held(&me, purged(60))), IdState::Free, "it has left");
    assert_eq!(watch.look(seconds(31.0), &me, &held(&me, entry(61, "1764"))), IdState::Alive);
    assert_eq!(watch.look(seconds(40.0), &me, &held(&me, entry(61, "1764"))), IdState::Silent);
    assert_eq!(watch.look(seconds(41.0), &me, &held(&me, entry(61, "1764"))), IdState::Free);
}

#[test]
fn a_ping_without_an_answer_is_no_other_recorder() {
    let me = process("a", "");
    let mut writes = OwnWrites::since(5, 10);
    let whose = |writes: &OwnWrites, seen: &IdEntries| ownership(&me, writes, seen);
    assert_eq!(whose(&writes, &held(&me, entry(10, "found"))), Ownership::Own);
    writes.writes("100");
    assert_eq!(whose(&writes, &held(&me, entry(11, "100"))), Ownership::Own);
    assert_eq!(whose(&writes, &held(&me, entry(10, "found"))), Ownership::Own, "not written");
    assert_eq!(whose(&writes, &held(&me, entry(11, "101"))), Ownership::Other(None));
    writes.writes("0");
    assert_eq!(whose(&writes, &held(&me, entry(12, "0"))), Ownership::Own);
    let other = process("b", "");
    assert_eq!(whose(&writes, &held(&other, entry(12, "0"))), Ownership::Other(Some(other.clone())));
    writes.wrote(12);
    assert_eq!(whose(&writes, &held(&me, entry(13, "100"))), Ownership::Other(None), "it was answered");
    writes.writes("102");
    writes.was_refused();
    assert_eq!(whose(&writes, &held(&me, entry(13, "102"))), Ownership::Other(None));
    // Gone: nobody else is there.
    assert_eq!(whose(&writes, &held(&me, purged(14))), Ownership::Own);
    assert_eq!(whose(&writes, &IdEntries::default()), Ownership::Vacant);
    assert!(writes.are_newer_than(&IdEntries::default()) && !writes.are_newer_than(&held(&me, entry(12, "0"))));
}

/// A bucket as a server keeps it: writes at a revision, and a counter.
#[derive(Default)]
struct Bucket {
    counter: u64,
    id: IdEntries,
}

impl Bucket {
    fn update(&mut self, is_holder: bool, value: String, at: u64) -> Option<u64> {
        let entry = if is_holder { &mut self.id.holder } else { &mut self.id.ping };
        (entry.revision == at).then(|| {
            self.counter += 1;
            *entry = BucketEntry { revision: self.counter, value: Some(value) };
            self.counter
        })
    }
}

enum Node {
    Waits(IdWatch),
    Holds(OwnWrites),
}

proptest! {
    /// Two of this program that are up, cut off and back again at any times: whoever the bucket names is alone in writing,
    /// and once both are connected for long enough, exactly one holds the id.
    #[test]
    fn never_do_two_write_and_in_the_end_one_holds(steps in proptest::collection::vec((0..2usize, any::<bool>(), any::<bool>()), 0..200)) {
        let names = [process("a", "x"), process("b", "y")];
        let mut nodes = [Node::Waits(IdWatch::at_start()), Node::Waits(IdWatch::at_start())];
        let mut bucket = Bucket::default();
        let settle = (0..60).map(|step| (step % 2, true, true));
        for (second, (at, answered, reaches)) in steps.into_iter().chain(settle).enumerate() {
            let (now, me) = (Duration::from_secs(second as u64), &names[at]);
            if !reaches {
                if let Node::Waits(watch) = &mut nodes[at] {
                    watch.interrupt();
                }
                continue;
            }
            let seen = bucket.id.clone();
            let next = match &mut nodes[at] {
                Node::Waits(watch) => (watch.look(now, me, &seen) == IdState::Free).then(|| {
                    let taken = bucket.update(true, me.to_json(), seen.holder.revision).unwrap();
                    Node::Holds(OwnWrites::since(taken, seen.ping.revision))
                }),
                Node::Holds(writes) => match ownership(me, writes, &seen) {
                    Ownership::Own => {
                        let ping = format!("{second} of {at}");
                        writes.writes(&ping);
                        writes.found(seen.ping.revision);
                        let revision = bucket.update(false, ping, seen.ping.revision).unwrap();
                        prop_assert_eq!(Holder::of(&bucket.id.holder).unwrap().nonce, me.nonce.clone());
                        if answered {
                            writes.wrote(revision);
                        }
                        None
                    }
                    Ownership::Vacant => unreachable!("nobody purges"),
                    Ownership::Other(_) => Some(Node::Waits(IdWatch::after_loss())),
                },
            };
            if let Some(next) = next {
                nodes[at] = next;
            }
        }
        let holders = nodes.iter().filter(|node| matches!(node, Node::Holds(_))).count();
        prop_assert_eq!(holders, 1);
    }
}
