//! Uploads without faults: what is in the store then, what the server is told, and what becomes of the local file.

use std::time::Duration;

use plugnmeet_recorder::config::store_url::StoreUrl;
use plugnmeet_recorder::protocol::notice::NoticeEvent;
use plugnmeet_recorder::storage::drop_request;
use plugnmeet_recorder::store::handle::Store;
use plugnmeet_recorder::store::probe::probe;

use super::{MIB, Sender, assert_stored, tree};
use crate::standin::https::Authority;
use crate::standin::object_store::{BUCKET, KEY, Kind, ObjectStore, SECRET};
use crate::standin::store_line::{Ask, Fault, StoreLine};

#[tokio::test(flavor = "multi_thread")]
async fn two_different_servers_take_files_of_one_part_and_of_many_and_a_stranger_reads_them() {
    for kind in [Kind::Rclone, Kind::Moto] {
        let store = ObjectStore::start(kind).await.unwrap();
        let sender = Sender::start(&ObjectStore::url(store.port, "pre"));
        let mut sent = Vec::new();
        for (id, size) in [("small", 1000), ("whole", 8 * MIB), ("parts", 25 * MIB + 5)] {
            sent.push((id, sender.make(id, size)));
            sender.add(id, None).await;
        }
        sender.wait_until_done().await;
        for (id, content) in &sent {
            assert_stored(&store, id, content);
            assert!(sender.mp4(id).exists(), "{kind:?}: {id} is kept");
        }
        assert_eq!(sender.told(), [], "the server knows of the local file");
        assert!(sender.waiting() < 1.0);
        sender.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_gets_whole_files_and_is_never_made_where_its_disk_is_not_mounted() {
    let disk = tempfile::tempdir().unwrap();
    let root = disk.path().join("mnt");
    let sender = Sender::start(&format!("file://{}", root.display()));
    let content = sender.make("rec", 20 * MIB + 1);
    sender.add("rec", Some(Duration::ZERO)).await;
    sender
        .wait_until("it says what is wrong", || {
            sender.record("rec").is_some_and(|record| record.last_error.is_some_and(|why| why.contains("not mounted")))
        })
        .await;
    assert!(!root.exists() && sender.mp4("rec").exists() && sender.told().is_empty());
    std::fs::create_dir(&root).unwrap();
    sender.wait_until_done().await;
    assert_eq!(tree(&root), ["node_01/room01/rec.json", "node_01/room01/rec.mp4"]);
    assert!(std::fs::read(root.join("node_01/room01/rec.mp4")).unwrap() == content);
    assert!(!sender.mp4("rec").exists(), "the store has it");
    let path = format!("file://{}/node_01/room01/rec.mp4", root.display());
    assert!(matches!(&sender.told()[0], NoticeEvent::Proceeded { file_path, .. } if *file_path == path));
    sender.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_told_and_the_local_file_goes_only_when_the_store_has_it() {
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let line = StoreLine::to(store.port).await;
    line.fails(Ask::Part, Fault::Answer(503, "SlowDown"), usize::MAX);
    let sender = Sender::start(&ObjectStore::url(line.port, "pre"));
    let content = sender.make("rec", 17 * MIB);
    sender.add("rec", Some(Duration::ZERO)).await;
    sender.wait_until("it was tried twice", || sender.record("rec").is_some_and(|record| record.failures >= 2)).await;
    let record = sender.record("rec").unwrap();
    assert!(record.last_error.unwrap().contains("SlowDown") && record.next_try.is_some());
    assert!(sender.told().is_empty() && sender.mp4("rec").exists() && sender.waiting() > 0.0);
    // Its job is still in the queue.
    let job = sender.dir.path().join("state/jobs/rec.json");
    std::fs::create_dir_all(job.parent().unwrap()).unwrap();
    std::fs::write(&job, "{}").unwrap();
    line.is_well();
    sender.wait_until("the server is told", || sender.told().len() == 2).await;
    let told = sender.told();
    let expected = NoticeEvent::Proceeded {
        file_path: "s3://recordings/pre/node_01/room01/rec.mp4".into(),
        file_size: 17 * MIB as u64,
        variant: 0,
        note: None,
    };
    assert_eq!(told, [expected, NoticeEvent::Finished(Ok(()))]);
    assert_stored(&store, "rec", &content);
    assert!(sender.mp4("rec").exists() && sender.record("rec").unwrap().stored.is_some());
    std::fs::remove_file(&job).unwrap();
    sender.wait_until_done().await;
    assert!(!sender.mp4("rec").exists());
    assert_eq!(sender.told().len(), 2, "once");
    sender.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_file_that_is_kept_for_a_while_outlives_a_restart_and_stays_where_the_store_has_lost_it() {
    let store = ObjectStore::start(Kind::Rclone).await.unwrap();
    let url = ObjectStore::url(store.port, "pre");
    let sender = Sender::start(&url);
    let content = sender.make("rec", 9 * MIB);
    sender.add("rec", Some(Duration::from_secs(3600))).await;
    sender.wait_until("the server is told", || sender.record("rec").is_some_and(|record| record.told)).await;
    assert_stored(&store, "rec", &content);
    assert!(sender.mp4("rec").exists());
    let dir = sender.stop().await;
    // The hour is over, and the object is not there any more.
    let path = dir.path().join("state/uploads/rec.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record["keep_s"] = 0.into();
    std::fs::write(&path, record.to_string()).unwrap();
    store.rclone(&["deletefile", "s3:recordings/pre/node_01/room01/rec.mp4"]).unwrap();
    let sender = Sender::start_in(dir, &url);
    sender.wait_until_done().await;
    assert!(sender.mp4("rec").exists(), "the last copy");
    assert!(sender.told().is_empty(), "it was told before the restart");
    sender.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_drops_stays_here_is_told_from_here_and_leaves_nothing_in_the_store() {
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let line = StoreLine::to(store.port).await;
    line.fails(Ask::Part, Fault::Pass, 1);
    line.fails(Ask::Part, Fault::Answer(403, "AccessDenied"), usize::MAX);
    let sender = Sender::start(&ObjectStore::url(line.port, "pre"));
    sender.make("rec", 20 * MIB);
    sender.add("rec", Some(Duration::ZERO)).await;
    sender.wait_until("it has failed", || sender.record("rec").is_some_and(|record| record.failures > 0)).await;
    assert_eq!(store.unfinished_uploads(), 1);
    let id = plugnmeet_recorder::protocol::ids::RecordingId::parse("rec").unwrap();
    drop_request::write(&sender.dir.path().join("state"), drop_request::UPLOADS, &id).unwrap();
    sender.wait_until_done().await;
    assert!(sender.mp4("rec").exists());
    let told = sender.told();
    assert!(
        matches!(&told[0], NoticeEvent::Proceeded { file_path, .. } if file_path == "node_01/room01/rec.mp4"),
        "{told:?}"
    );
    assert_eq!((told.len(), store.unfinished_uploads()), (2, 0));
    assert!(store.keys().is_empty(), "{:?}", store.keys());
    let requests = sender.dir.path().join("state/upload-requests");
    sender.wait_until("the request is gone", || crate::transcode::names(&requests).is_empty()).await;
    sender.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_names_what_a_store_cannot_do_and_leaves_nothing_behind() {
    for kind in [Kind::Rclone, Kind::Moto] {
        let store = ObjectStore::start(kind).await.unwrap();
        let line = StoreLine::to(store.port).await;
        let url = |port| StoreUrl::parse(&ObjectStore::url(port, "a/b")).unwrap();
        let results = probe(&Store::open(&url(store.port)).unwrap()).await;
        let failed: Vec<_> =
            results.iter().filter(|found| found.result.is_err()).map(|found| found.step.name()).collect();
        // rclone replaces what must not exist yet; delivery does not need that.
        assert_eq!(failed, if kind == Kind::Rclone { vec!["conditional put"] } else { vec![] });
        line.fails(Ask::Complete, Fault::Answer(403, "AccessDenied"), usize::MAX);
        let results = probe(&Store::open(&url(line.port)).unwrap()).await;
        let multipart = results.iter().find(|found| found.step.name() == "multipart").unwrap();
        assert!(multipart.text().contains("AccessDenied"), "{}", multipart.text());
        assert_eq!((store.keys(), store.unfinished_uploads()), (Vec::new(), 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_tls_is_trusted_by_the_ca_of_its_url_alone() {
    let authority = Authority::new(10).unwrap();
    let store = ObjectStore::start_tls(&authority.issue("localhost", 10).unwrap()).await.unwrap();
    let endpoint = format!("https://localhost:{}", store.port);
    let url = |more: &str| {
        StoreUrl::parse(&format!("s3://{KEY}:{SECRET}@us-east-1/{BUCKET}?endpoint={endpoint}{more}")).unwrap()
    };
    let results = probe(&Store::open(&url("")).unwrap()).await;
    let said = results[0].text();
    assert!(results.len() == 1 && said.contains("certificate") && said.contains("ca=/file"), "{said}");
    let trusted = url(&format!("&ca={}", authority.file().display()));
    let results = probe(&Store::open(&trusted).unwrap()).await;
    let failed: Vec<_> = results.iter().filter(|found| found.result.is_err() && found.step.is_needed()).collect();
    assert!(results.len() == 6 && failed.is_empty(), "{failed:?}");
}
