//! Merge jobs of recordings that lie in the store of `storage.deliver`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plugnmeet_recorder::config::store_url::StoreUrl;
use plugnmeet_recorder::config::{KeepLocal, StorageConfig};
use plugnmeet_recorder::protocol::job::{Job, Work};
use plugnmeet_recorder::protocol::notice::NoticeEvent;
use plugnmeet_recorder::transcode::job::JobOutcome;

use super::{Sender, tree};
use crate::measure;
use crate::standin::object_store::{Kind, ObjectStore};
use crate::standin::store_line::{Ask, Fault, StoreLine};
use crate::transcode::{Node, ffmpeg, job_for, names};

fn mp4(path: &Path, seconds: u32) -> Vec<u8> {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let source = format!("-f lavfi -i testsrc2=s=320x180:r=25:d={seconds} -f lavfi -i sine=d={seconds}:r=48000");
    ffmpeg(&format!("{source} -c:v libx264 -preset ultrafast -c:a aac -movflags faststart -f mp4"), path);
    std::fs::read(path).unwrap()
}

fn merge_of(node: &Node, paths: &[&str]) -> Job {
    Job { work: Work::Merge { paths: paths.iter().map(PathBuf::from).collect() }, ..job_for(&node.room(), "x.mkv") }
}

/// A node that delivers to this URL, and its uploads.
fn delivering(url: &str) -> (Node, Sender) {
    plugnmeet_recorder::tls::provide_crypto();
    let keep_local = KeepLocal::For(Duration::from_secs(3600));
    let deliver = Some(StoreUrl::parse(url).unwrap());
    let storage = StorageConfig { deliver, keep_local, ..StorageConfig::default() };
    let sender = Sender::start_with(Arc::new(tempfile::tempdir().unwrap()), storage, super::pictures());
    let mut node = Node::new(true);
    node.settings.uploads = Some(sender.uploads.clone());
    (node, sender)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_merge_are_fetched_from_the_store_and_the_merged_one_goes_there() {
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let line = StoreLine::to(store.port).await;
    let (node, sender) = delivering(&ObjectStore::url(line.port, "pre"));
    let made = node.dir.path().join("made.mp4");
    store.write("pre/node_07/room09/one.mp4", &mp4(&made, 3));
    store.write("pre/node_07/room09/two.mp4", &mp4(&made, 2));
    // It is here too: nearer, and in the store no more.
    mp4(&node.settings.main_path.join("node_07/room08/three.mp4"), 2);
    let object = |name: &str| format!("s3://recordings/pre/node_07/{name}");
    let paths = [object("room09/one.mp4"), object("room09/two.mp4"), object("room08/three.mp4")];
    let job = merge_of(&node, &paths.each_ref().map(String::as_str));
    // The line cuts what is fetched.
    line.fails(Ask::Get, Fault::CutAnswer, 2);
    let verdict = node.run(&job, 1).await;
    assert!(matches!(verdict, JobOutcome::Done(_)), "{verdict:?}: {:?}", node.told());
    let result = node.settings.main_path.join("node_07/room09/rec-1.mp4");
    let merged = measure::probe(&result).unwrap();
    assert!((merged.duration - 7.0).abs() < 0.2 && merged.video().unwrap().packets == 175, "{merged:?}");
    let content = std::fs::read(&result).unwrap();
    sender.wait_until("the store has it", || sender.told().len() == 2).await;
    let [NoticeEvent::Proceeded { file_path, .. }, NoticeEvent::Finished(Ok(()))] = &sender.told()[..] else {
        panic!("{:?}", sender.told())
    };
    assert_eq!(file_path, "s3://recordings/pre/node_07/room09/rec-1.mp4");
    assert!(store.read("pre/node_07/room09/rec-1.mp4") == content);
    // Its inputs stay in the store, and nothing that was fetched on this disk.
    assert_eq!(store.keys_but_pictures().len(), 3);
    assert_eq!(tree(&node.settings.temporary_dir), [] as [String; 0]);
    assert_eq!(names(&node.settings.main_path.join("node_07/room08")), ["three.mp4"]);
    sender.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_of_objects_waits_for_its_store_and_names_those_of_another() {
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let line = StoreLine::to(store.port).await;
    let (mut node, sender) = delivering(&ObjectStore::url(line.port, "pre"));
    store.write("pre/n/r/one.mp4", &mp4(&node.dir.path().join("made.mp4"), 2));
    let job = merge_of(&node, &["s3://recordings/pre/n/r/one.mp4", "s3://recordings/pre/n/r/one.mp4"]);
    for (fault, delivered) in [(Fault::Answer(503, "SlowDown"), 1), (Fault::Answer(403, "AccessDenied"), 3)] {
        line.fails(Ask::Head, fault, usize::MAX);
        let verdict = node.run(&job, delivered).await;
        let waits = matches!(verdict, JobOutcome::Again(_) | JobOutcome::Waiting(_));
        assert!(waits && node.told().is_empty(), "{verdict:?}");
        line.is_well();
    }
    assert!(matches!(node.run(&job, 3).await, JobOutcome::Done(_)));
    let cause = async |node: &Node, path: &str| {
        assert_eq!(node.run(&merge_of(node, &[path]), 3).await, JobOutcome::GivenUp);
        let told = node.told();
        let [NoticeEvent::Finished(Err(cause))] = &told[..] else { panic!("{told:?}") };
        cause.clone()
    };
    let gone = cause(&node, "s3://recordings/pre/n/r/gone.mp4").await;
    assert!(gone.contains("s3://recordings/pre/n/r/gone.mp4 is not in the store"), "{gone}");
    for foreign in ["s3://other/pre/n/r/one.mp4", "file:///etc/passwd", "s3://recordings/pre/../x.mp4"] {
        let said = cause(&node, foreign).await;
        let names = said.contains(foreign) && said.contains("storage.deliver is s3://recordings/pre;");
        assert!(names, "{said}");
    }
    node.settings.uploads = None;
    let said = cause(&node, "s3://recordings/pre/n/r/one.mp4").await;
    assert!(said.contains("storage.deliver is not set"), "{said}");
    sender.stop().await;
}
