//! What the lists of recordings, jobs and the outbox show.

use plugnmeet_recorder::storage::lock::StateLock;
use plugnmeet_recorder::unix_time::unix_ms;
use serde_json::Value;

use super::{busy_node, contains_all, line, row};

#[tokio::test]
async fn recordings_are_listed_with_their_parts_and_whether_the_recorder_runs() {
    let node = busy_node().await;
    let before = node.files();
    let table = node.told("recordings list");
    let header: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["ID", "KIND", "ROOM", "STATE", "AGE", "SIZE", "PARTS"]);
    assert_eq!(table.lines().count(), 7, "{table}");
    contains_all(line(&table, "rec-1"), &["recording  room01  interrupted: ", "3 MiB", "2: cut off with the recorder"]);
    contains_all(
        line(&table, "rec-1"),
        &["1: the page is gone: https://meet.example/?x=[redacted]\\nand a second line;"],
    );
    let kept = format!("failed: its parts are kept at {}", node.path("parts").display());
    contains_all(line(&table, "rec-2"), &[&kept]);
    contains_all(line(&table, "live-1"), &["broadcast", "interrupted"]);
    contains_all(line(&table, "torn"), &["unreadable: EOF while parsing"]);
    contains_all(line(&table, "old"), &["unreadable: ", "put aside as", "old.json.unreadable"]);
    // Columns are aligned: the ages stand below each other.
    let at = table.lines().next().unwrap().find("AGE").unwrap();
    for id in ["rec-1", "rec-2", "live-1"] {
        let age = &line(&table, id)[at..];
        assert!(age.starts_with(|c: char| c.is_ascii_digit()), "{age:?} in\n{table}");
    }
    let daemon = table.lines().last().unwrap();
    assert_eq!(daemon, format!("the recorder node_01 does not run; its state is in {}", node.state().display()));

    let list = node.json("recordings list --json");
    assert_eq!((&list["recorder"], &list["daemon"]), (&"node_01".into(), &Value::Null));
    assert_eq!(list["recordings"].as_array().unwrap().len(), 5);
    let seen = row(&list, "recordings", "rec-1");
    assert_eq!((&seen["state"], &seen["room"]), (&"interrupted".into(), &"room01".into()));
    assert_eq!((&seen["bytes"], &seen["parts"][1]["bytes"]), (&((3 << 20) + 512).into(), &512.into()));
    assert!(seen["taken_at"].as_u64().is_some_and(|at| unix_ms().abs_diff(at) < 600_000), "{seen}");
    assert_eq!(row(&list, "recordings", "rec-2")["state"], "failed");
    assert_eq!(row(&list, "recordings", "torn")["state"], "unreadable");
    assert_eq!(node.files(), before, "a list changes nothing");

    // The same with somebody who holds the lock, as a daemon does.
    let lock = StateLock::take(&node.state()).unwrap();
    let table = node.told("recordings list");
    contains_all(line(&table, "rec-1"), &["capturing part 2", "2: capturing"]);
    let holder = format!("the recorder node_01 runs (pid {} on ", std::process::id());
    assert!(table.lines().last().unwrap().starts_with(&holder), "{table}");
    drop(lock);
    StateLock::take(&node.state()).unwrap();
}

#[tokio::test]
async fn jobs_and_the_outbox_are_listed_as_tables_and_as_json() {
    let node = busy_node().await;
    let before = node.files();
    let table = node.told("jobs list");
    assert_eq!(table.lines().count(), 5, "{table}");
    contains_all(line(&table, "job-1"), &["room01  interrupted: "]);
    contains_all(line(&table, "job-2"), &["given up 1h ago", "no job-2_raw.mkv under main_path"]);
    contains_all(line(&table, "job-3"), &["handed back, due in 59m "]);
    contains_all(line(&table, "torn"), &["unreadable: "]);
    let list = node.json("jobs list --json");
    let given_up = row(&list, "jobs", "job-2");
    assert_eq!((&given_up["state"], &given_up["deliveries"]), (&"given_up".into(), &3.into()));
    assert_eq!(row(&list, "jobs", "torn")["last_error"], Value::Null);

    let table = node.told("outbox list");
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(!table.contains("delivered"), "{table}");
    contains_all(
        &table,
        &["rec-0  ended   waiting ", " at the next start  HTTP 503\n", "rec-0  job     refused: no stream  job"],
    );
    assert_eq!(node.told("outbox list --all").lines().count(), 4);
    let list = node.json("outbox list -json -all");
    let messages: Vec<_> =
        list["outbox"].as_array().unwrap().iter().map(|row| (&row["letter"], &row["state"])).collect();
    let (started, ended, job) = ("started".into(), "ended".into(), "job".into());
    let (delivered, waiting, refused) = ("delivered".into(), "waiting".into(), "refused".into());
    assert_eq!(messages, [(&started, &delivered), (&ended, &waiting), (&job, &refused)]);
    assert!(list["outbox"][1]["next_try"].as_u64().is_some_and(|at| at > unix_ms()), "{list}");
    assert_eq!(node.files(), before, "a list changes nothing");
}
