//! Objects fetched over a line that fails: the file is the object, whole, or it is not there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plugnmeet_recorder::config::Reserve;
use plugnmeet_recorder::config::store_url::StoreUrl;
use plugnmeet_recorder::store::connect::StoreTimes;
use plugnmeet_recorder::store::download::Download;
use plugnmeet_recorder::store::error::StoreError;
use plugnmeet_recorder::store::handle::Store;
use tokio_util::sync::CancellationToken;

use super::{MIB, Sender, noise};
use crate::recorder::SOON;
use crate::standin::object_store::{BUCKET, Kind, ObjectStore};
use crate::standin::store_line::{Ask, Fault, StoreLine};
use crate::transcode::names;

/// More often than the client itself tries again.
const OFTEN: usize = 4;
const TIMES: StoreTimes =
    StoreTimes { stall: Duration::from_millis(500), answer: Duration::from_secs(30), slowest: MIB as u64 };

/// Where objects are fetched to.
struct Fetcher {
    dir: tempfile::TempDir,
    store: Store,
    reserve: Reserve,
}

impl Fetcher {
    fn new(url: &str, times: StoreTimes) -> Self {
        plugnmeet_recorder::tls::provide_crypto();
        let store = Store::open_with(&StoreUrl::parse(url).unwrap(), times).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), store, reserve: Reserve::Size(0) }
    }

    fn to(&self) -> PathBuf {
        self.dir.path().join("fetched.mp4")
    }

    async fn fetch(&self, key: &str) -> Result<u64, StoreError> {
        self.fetch_until(key, &CancellationToken::new()).await
    }

    async fn fetch_until(&self, key: &str, cancel: &CancellationToken) -> Result<u64, StoreError> {
        let to = self.to();
        let download = Download { store: &self.store, key, to: &to, reserve: self.reserve };
        let ended = tokio::time::timeout(2 * SOON, download.run(cancel)).await.unwrap();
        ended.map(|state| state.size)
    }

    fn assert_whole(&self, content: &[u8]) {
        assert!(std::fs::read(self.to()).unwrap() == content);
        assert_eq!(names(self.dir.path()), ["fetched.mp4"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_line_does_the_whole_object_comes_and_only_what_was_missing_again() {
    for kind in [Kind::Rclone, Kind::Moto] {
        let store = ObjectStore::start(kind).await.unwrap();
        let line = StoreLine::to(store.port).await;
        // As this program delivers it: in parts.
        let sender = Sender::start(&ObjectStore::url(store.port, "pre"));
        let content = sender.make("rec", 17 * MIB + 5);
        sender.add("rec", None).await;
        sender.wait_until_done().await;
        sender.stop().await;
        let fetcher = Fetcher::new(&ObjectStore::url(line.port, "pre"), TIMES);
        for (ask, fault, times) in [
            (Ask::Get, Fault::Pass, 1),
            (Ask::Get, Fault::Answer(503, "SlowDown"), OFTEN),
            (Ask::Get, Fault::CutAnswer, OFTEN),
            (Ask::Get, Fault::StallAnswer, OFTEN),
            (Ask::Get, Fault::LoseAnswer, OFTEN),
            (Ask::Get, Fault::AlterAnswer, 1),
            (Ask::Head, Fault::LoseAnswer, 1),
            (Ask::Head, Fault::Answer(500, "InternalError"), 1),
            (Ask::Head, Fault::MisstateSize, 1),
        ] {
            let before = line.seen(Ask::Get).len();
            line.fails(ask, fault, times);
            assert_eq!(
                fetcher.fetch("node_01/room01/rec.mp4").await.unwrap(),
                content.len() as u64,
                "{kind:?} {fault:?}"
            );
            fetcher.assert_whole(&content);
            line.is_well();
            let began = line.seen(Ask::Get).split_off(before);
            println!("{kind:?} {ask:?} {fault:?} ×{times}: came, from {began:?} on");
            // rclone gives no ranges: there it begins anew.
            if kind == Kind::Moto && matches!(fault, Fault::CutAnswer | Fault::StallAnswer) {
                assert!(began.len() > times && began.iter().skip(1).all(|at| *at > Some(0)), "{began:?}");
            }
            // One that is there already, and right, is not fetched again.
            let before = line.seen(Ask::Get).len();
            fetcher.fetch("node_01/room01/rec.mp4").await.unwrap();
            assert_eq!(line.seen(Ask::Get).len(), before, "{fault:?}");
            std::fs::remove_file(fetcher.to()).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_is_interrupted_goes_on_where_it_was_and_one_of_a_replaced_object_anew() {
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let mut line = StoreLine::to(store.port).await;
    let fetcher = Fetcher::new(&ObjectStore::url(line.port, "pre"), TIMES);
    let (first, second) = (noise("first", 7 * MIB), noise("second", 7 * MIB));
    store.write("pre/a.mp4", &first);
    line.fails(Ask::Get, Fault::StallAnswer, usize::MAX);
    let cancel = CancellationToken::new();
    let interrupt = async {
        // Half of it, then half of the rest.
        line.wait_for(Ask::Get, 2).await;
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(fetcher.fetch_until("a.mp4", &cancel), interrupt);
    assert!(matches!(ended, Err(StoreError::Stopped)) && !fetcher.to().exists());
    line.is_well();
    let before = line.seen(Ask::Get).len();
    fetcher.fetch("a.mp4").await.unwrap();
    let began = line.seen(Ask::Get).split_off(before);
    assert!(began.len() == 1 && began[0] >= Some(3 * MIB), "{began:?}");
    fetcher.assert_whole(&first);
    // Replaced while half of it was here.
    std::fs::remove_file(fetcher.to()).unwrap();
    line.fails(Ask::Get, Fault::StallAnswer, 1);
    let seen = line.seen(Ask::Get).len();
    let exchange = async {
        line.wait_for(Ask::Get, seen + 1).await;
        store.write("pre/a.mp4", &second);
    };
    let (ended, ()) = tokio::join!(fetcher.fetch("a.mp4"), exchange);
    ended.unwrap();
    fetcher.assert_whole(&second);
    // And while it was away for longer, with the file of the first one still there.
    store.write("pre/a.mp4", &first);
    fetcher.fetch("a.mp4").await.unwrap();
    fetcher.assert_whole(&first);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched_leaves_no_file_and_says_why() {
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let line = StoreLine::to(store.port).await;
    let url = ObjectStore::url(line.port, "pre");
    store.write("pre/a.mp4", &noise("a", 3 * MIB));
    let mut fetcher = Fetcher::new(&url, TIMES);
    assert!(
        matches!(fetcher.fetch("none.mp4").await, Err(StoreError::Missing(what)) if what.ends_with("/pre/none.mp4"))
    );
    line.fails(Ask::Head, Fault::Answer(403, "AccessDenied"), 1);
    assert!(matches!(fetcher.fetch("a.mp4").await, Err(StoreError::Denied(_))));
    // A store that lies about the size for good, or changes bytes.
    for (ask, fault) in [(Ask::Head, Fault::MisstateSize), (Ask::Get, Fault::AlterAnswer)] {
        // The second read, which decides, is right.
        line.fails(ask, fault, 1);
        line.fails(ask, Fault::Pass, usize::from(fault == Fault::AlterAnswer));
        line.fails(ask, fault, 1);
        line.fails(ask, Fault::Pass, usize::from(fault == Fault::AlterAnswer));
        line.fails(ask, fault, 1);
        let ended = fetcher.fetch("a.mp4").await;
        assert!(matches!(ended, Err(StoreError::Altered(_))), "{fault:?}: {ended:?}");
        line.is_well();
        assert_eq!(names(fetcher.dir.path()), [] as [String; 0], "{fault:?}");
    }
    // A line that always brings a little, and would take for ever.
    let slow = StoreTimes { answer: Duration::from_secs(1), ..TIMES };
    let slow = Fetcher::new(&url, slow);
    line.fails(Ask::Get, Fault::Trickle, usize::MAX);
    assert!(matches!(slow.fetch("a.mp4").await, Err(StoreError::Late(_))));
    line.is_well();
    // A disk that is too small for it.
    fetcher.reserve = Reserve::Size(1 << 60);
    let ended = fetcher.fetch("a.mp4").await.unwrap_err().to_string();
    assert!(ended.contains("recorder.min_free_space"), "{ended}");
    assert_eq!(names(fetcher.dir.path()), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_directory_are_fetched_too() {
    let root = tempfile::tempdir().unwrap();
    let content = noise("a", 3 * MIB + 1);
    std::fs::create_dir(root.path().join("room")).unwrap();
    std::fs::write(root.path().join("room/a.mp4"), &content).unwrap();
    std::fs::write(root.path().join("empty"), "").unwrap();
    let fetcher = Fetcher::new(&format!("file://{}", root.path().display()), TIMES);
    fetcher.fetch("room/a.mp4").await.unwrap();
    fetcher.assert_whole(&content);
    fetcher.fetch("empty").await.unwrap();
    fetcher.assert_whole(b"");
    assert!(Path::new(&fetcher.to()).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_have_expired_are_read_again_as_soon_as_their_file_is_renewed() {
    let store = ObjectStore::start(Kind::Rclone).await.unwrap();
    let content = noise("a", MIB);
    store.write("pre/a.mp4", &content);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    let write = |secret: &str| {
        let text = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {secret}\n",
            crate::standin::object_store::KEY
        );
        std::fs::write(&file, text).unwrap();
    };
    write("expired-secret-of-this-test");
    let url = format!(
        "s3://{BUCKET}/pre?region=us-east-1&endpoint=http://127.0.0.1:{}&credentials={}",
        store.port,
        file.display()
    );
    let fetcher = Fetcher::new(&url, TIMES);
    assert!(matches!(fetcher.fetch("a.mp4").await, Err(StoreError::Denied(_))));
    write(crate::standin::object_store::SECRET);
    fetcher.fetch("a.mp4").await.unwrap();
    fetcher.assert_whole(&content);
}
