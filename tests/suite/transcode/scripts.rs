//! The scripts after a job, and the summary they are given.

use std::fs;

use super::{Node, job_for, raw_like_ours, remove};

#[tokio::test]
async fn scripts_run_between_the_two_notices_and_cannot_undo_the_recording() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut node = Node::new(false);
    let raw = node.room().join("rec-1_raw.mkv");
    raw_like_ours(&raw);
    let (script, seen) = (node.dir.path().join("keep.sh"), node.dir.path().join("seen"));
    let told = node.dir.path().join("told");
    let text = format!(
        "#!/bin/sh\nprintf '%s' \"$1\" >'{}'\ncat \"$PNM_SUMMARY\" >'{}'\nexit 3\n",
        seen.display(),
        told.display()
    );
    fs::write(&script, text).unwrap();
    // As the recording node leaves it; only a file of its own counts.
    fs::write(node.room().join("rec-1_raw.json"), "{\"duration_s\": 10.0}").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    node.settings.scripts = vec![script];
    assert_eq!(node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await, remove(&raw));
    node.assert_told_success();
    let argument: serde_json::Value = serde_json::from_str(&fs::read_to_string(seen).unwrap()).unwrap();
    let size = fs::metadata(node.mp4()).unwrap().len();
    assert_eq!(
        argument,
        serde_json::json!({
            "recording_id": "rec-1", "room_table_id": 852, "room_id": "room01", "room_sid": "RM_1",
            "file_name": "rec-1.mp4", "file_path": node.mp4(), "recorder_id": "node_01",
            "file_size": plugnmeet_recorder::scripts::post_processing::megabytes(size),
        })
    );
    assert_eq!(fs::read_to_string(told).unwrap(), "{\"duration_s\": 10.0}");
    // It goes with the raw file, once the job is acknowledged.
    node.assert_holds(&["rec-1.mp4", "rec-1_raw.json", "rec-1_raw.mkv"]);
}

#[tokio::test]
async fn a_link_is_no_summary_and_neither_is_one_beside_a_reference_recorders_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let (mut node, secret) = (Node::new(false), tempfile::NamedTempFile::new().unwrap());
    let (script, told) = (node.dir.path().join("keep.sh"), node.dir.path().join("told"));
    fs::write(&script, format!("#!/bin/sh\nprintf '%s' \"${{PNM_SUMMARY-unset}}\" >'{}'\n", told.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    node.settings.scripts = vec![script];
    std::os::unix::fs::symlink(secret.path(), node.room().join("rec-1_raw.json")).unwrap();
    raw_like_ours(&node.room().join("rec-1_raw.mkv"));
    node.run(&job_for(&node.room(), "rec-1_raw.mkv"), 1).await;
    assert_eq!(fs::read_to_string(&told).unwrap(), "unset");

    fs::remove_file(node.room().join("rec-1_raw.json")).unwrap();
    fs::write(node.room().join("rec-1_raw.json"), "{}").unwrap();
    fs::rename(node.room().join("rec-1_raw.mkv"), node.room().join("rec-1_raw.mp4")).unwrap();
    node.run(&job_for(&node.room(), "rec-1_raw.mp4"), 1).await;
    assert_eq!(fs::read_to_string(&told).unwrap(), "unset");
}
