//! Credentials that expire while recordings are delivered, and are renewed in their file.

use super::{MIB, Sender, assert_stored};
use crate::standin::object_store::{BUCKET, KEY, Kind, ObjectStore, SECRET};
use crate::standin::store_line::{Ask, Fault, StoreLine};

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_credentials_expire_goes_on_with_those_that_come_into_their_file() {
    let store = ObjectStore::start(Kind::Rclone).await.unwrap();
    let mut line = StoreLine::to(store.port).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    let write = |secret: &str| {
        let text = format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {secret}\n");
        std::fs::write(&file, text).unwrap();
    };
    write(SECRET);
    let sender = Sender::start(&format!(
        "s3://{BUCKET}/pre?region=us-east-1&endpoint=http://127.0.0.1:{}&credentials={}",
        line.port,
        file.display()
    ));
    // Two parts are taken; then they have expired: Amazon says so with 400, others with 403, and the store itself knows
    // only the fresh ones.
    line.fails(Ask::Part, Fault::Pass, 2);
    line.fails(Ask::Part, Fault::Answer(400, "ExpiredToken"), 4);
    line.fails(Ask::Part, Fault::Answer(403, "ExpiredToken"), 4);
    let content = sender.make("rec", 33 * MIB);
    sender.add("rec", None).await;
    line.wait_for(Ask::Part, 4).await;
    write("expired-secret-of-this-test");
    line.wait_for(Ask::Part, 14).await;
    let failed = || sender.record("rec").is_some_and(|record| record.failures > 2);
    sender.wait_until("it has failed some times", failed).await;
    assert!(sender.waiting() >= 1.0);
    write(SECRET);
    sender.wait_until_done().await;
    assert_stored(&store, "rec", &content);
    assert_eq!(line.seen(Ask::Begin).len(), 1, "what the store had was not sent again");
    sender.stop().await;
}
