//! Uploads over a line that fails: each ends with one right object, and no upload left open.

use tokio::task::JoinSet;

use super::{MIB, Sender, assert_stored};
use crate::standin::object_store::{Kind, ObjectStore};
use crate::standin::store_line::{Ask, Fault, StoreLine};

/// More often than the client itself tries again.
const OFTEN: usize = 4;
/// So many are had by one line, of several at once.
const LINE_FAULTS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_line_does_rclone_has_one_right_object_in_the_end() {
    have_all_faults(Kind::Rclone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_line_does_moto_has_one_right_object_in_the_end() {
    have_all_faults(Kind::Moto).await;
}

async fn have_all_faults(kind: Kind) {
    let faults = [
        (Ask::Begin, Fault::Answer(503, "SlowDown"), OFTEN),
        (Ask::Begin, Fault::Cut, 1),
        // The store has begun an upload of which nobody knows the id.
        (Ask::Begin, Fault::LoseAnswer, OFTEN),
        (Ask::Part, Fault::Answer(500, "InternalError"), OFTEN),
        (Ask::Part, Fault::Answer(403, "RequestTimeTooSkewed"), 2),
        (Ask::Part, Fault::Cut, OFTEN),
        (Ask::Part, Fault::LoseAnswer, OFTEN),
        (Ask::Part, Fault::Stall, 3),
        (Ask::Complete, Fault::Answer(500, "InternalError"), OFTEN),
        (Ask::Complete, Fault::LoseAnswer, 1),
        (Ask::Complete, Fault::LoseAnswer, OFTEN),
        (Ask::Head, Fault::Answer(403, "AccessDenied"), 1),
        (Ask::Head, Fault::Cut, OFTEN),
        (Ask::Put, Fault::LoseAnswer, OFTEN),
        (Ask::Put, Fault::Answer(503, "SlowDown"), OFTEN),
    ];
    let numbered: Vec<_> = faults.into_iter().enumerate().collect();
    // Each waits for seconds between its attempts.
    let mut lines: JoinSet<()> =
        numbered.chunks(LINE_FAULTS).map(|faults| one_after_the_other(kind, faults.to_vec())).collect();
    while let Some(ended) = lines.join_next().await {
        ended.unwrap();
    }
}

/// Faults of one line.
async fn one_after_the_other(kind: Kind, faults: Vec<(usize, (Ask, Fault, usize))>) {
    let store = ObjectStore::start(kind).await.unwrap();
    let line = StoreLine::to(store.port).await;
    let sender = Sender::start(&ObjectStore::url(line.port, "pre"));
    for (index, (ask, fault, times)) in faults {
        let id = format!("rec-{index}");
        let content = sender.make(&id, 17 * MIB + index);
        line.fails(ask, fault, times);
        sender.add(&id, None).await;
        sender.wait_until_done().await;
        println!("{kind:?} {ask:?} {fault:?} ×{times}: stored");
        assert_stored(&store, &id, &content);
        line.is_well();
    }
    sender.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_only_the_parts_that_the_store_lacks_are_sent() {
    for kind in [Kind::Rclone, Kind::Moto] {
        let store = ObjectStore::start(kind).await.unwrap();
        let mut line = StoreLine::to(store.port).await;
        line.fails(Ask::Part, Fault::Pass, 3);
        line.fails(Ask::Part, Fault::Stall, usize::MAX);
        let url = ObjectStore::url(line.port, "pre");
        let sender = Sender::start(&url);
        let content = sender.make("rec", 50 * MIB);
        sender.add("rec", None).await;
        line.wait_for(Ask::Part, 5).await;
        let parts =
            || sender.record("rec").and_then(|record| record.transfer).map_or(0, |transfer| transfer.parts.len());
        sender.wait_until("three parts are noted", || parts() == 3).await;
        let dir = sender.stop().await;
        let before = line.seen(Ask::Part).len();
        line.is_well();
        let sender = Sender::start_in(dir, &url);
        sender.wait_until_done().await;
        let again = line.seen(Ask::Part).split_off(before);
        assert_eq!(again.len(), 7 - 3, "{kind:?}: {again:?}");
        assert_eq!(line.seen(Ask::Begin).len(), 1, "{kind:?}");
        assert_stored(&store, "rec", &content);
        sender.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_made_anew_is_sent_anew_and_its_earlier_upload_given_up() {
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let mut line = StoreLine::to(store.port).await;
    line.fails(Ask::Part, Fault::Pass, 1);
    line.fails(Ask::Part, Fault::Stall, usize::MAX);
    let sender = Sender::start(&ObjectStore::url(line.port, "pre"));
    sender.make("rec", 30 * MIB);
    sender.add("rec", None).await;
    line.wait_for(Ask::Part, 3).await;
    line.is_well();
    let content = sender.make("rec", 31 * MIB);
    sender.add("rec", None).await;
    sender.wait_until_done().await;
    assert_stored(&store, "rec", &content);
    sender.stop().await;
}
