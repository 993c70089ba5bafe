//! Command lines, right and wrong, and the codes they end with.

use plugnmeet_recorder::codes;
use serde_json::Value;

use super::{Node, Said, ask, contains_all};

#[tokio::test]
async fn what_is_not_there_or_not_right_ends_with_its_code_and_one_line() {
    let node = Node::new();
    let one_line = |said: &Said, code, wanted: &str| {
        assert_eq!((said.code, said.out.as_str()), (Some(code), ""), "{said:?}");
        let pnr = said.err.split(' ').next().unwrap();
        assert!(codes::search::named(pnr).is_some_and(|code| code.to_string() == pnr), "{said:?}");
        assert!(said.err.lines().count() == 1 && said.err.contains(wanted), "{said:?}");
    };
    for line in ["recordings list", "jobs list --json", "outbox list", "jobs retry x", "jobs drop x"] {
        one_line(&node.ask(line), 1, "recorder.state_dir");
    }
    std::fs::create_dir(node.state()).unwrap();
    assert_eq!(node.told("jobs list"), "nothing\n");
    assert_eq!(node.told("outbox list"), "nothing\n");
    assert!(node.told("recordings list").starts_with("nothing\nthe recorder node_01 does not run"));
    assert_eq!(node.json("jobs list --json")["jobs"], Value::Array(Vec::new()));
    one_line(&node.ask("jobs retry x"), 1, "this node holds no job x");
    one_line(&node.ask("jobs drop x"), 1, "`jobs list`");
    std::fs::write(node.state().join("jobs"), "no directory").unwrap();
    one_line(&node.ask("jobs list"), 1, "state/jobs: Not a directory");

    one_line(&ask(&["jobs", "list", "-config", "/no/such.yaml"]), 2, "/no/such.yaml");
    one_line(&ask(&["explain", "PNR-9999"]), 1, "`plugnmeet-recorder explain --list`");
    for line in ["jobs", "jobs retry", "jobs retry ../etc", "recordings drop x", "outbox list -loud"] {
        let said = node.ask(line);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{line}: {said:?}");
        assert!(said.err.starts_with("PNR-1201 "), "{line}: {said:?}");
    }
    // No log, and nothing else but what this test has made.
    let made: Vec<_> = node.files().into_keys().collect();
    assert_eq!(made, [node.path("config.yaml"), node.state().join("jobs")]);
}

#[tokio::test]
async fn the_flags_of_the_reference_work_before_and_behind_a_command() {
    let node = Node::new();
    std::fs::create_dir(node.state()).unwrap();
    let config = format!("-config={}", node.config);
    for args in [
        &["-config", &node.config, "-mode", "both", "jobs", "list"][..],
        &["jobs", "-mode=transcoderOnly", "list", &config],
        &["jobs", "list", "-mode", "recorderOnly", "--config", &node.config],
    ] {
        let said = ask(args);
        assert_eq!((said.code, said.out.as_str()), (Some(0), "nothing\n"), "{args:?}: {said:?}");
    }
    for args in [&["-version"][..], &["-version", "jobs", "list"], &["jobs", "list", "-version"]] {
        let said = ask(args);
        assert_eq!(
            (said.code, said.out.as_str()),
            (Some(0), concat!("plugnmeet-recorder ", env!("CARGO_PKG_VERSION"), "\n"))
        );
    }
    contains_all(&ask(&["-help"]).out, &["-config PATH", "jobs retry ID", "outbox list --all"]);
}

/// Without a configuration: `ask` runs in `/`.
#[tokio::test]
async fn a_code_of_the_log_is_explained_and_so_are_all_of_them() {
    let said = ask(&["explain", "PNR-0907"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    contains_all(&said.out, &["PNR-0907  A disk is full", "\nCause:  ", "\nRemedy: "]);
    assert_eq!(ask(&["explain", "907"]).out, said.out);
    let list = ask(&["explain", "--list"]).out;
    assert_eq!(list.lines().filter(|line| line.starts_with("PNR-")).count(), codes::all().count());
    assert_eq!(ask(&["explain"]).out, list);
    let mixed = ask(&["explain", "[pnr-907]", "PNR-0970"]);
    assert_eq!((mixed.code, mixed.out), (Some(1), said.out));
    assert!(mixed.err.contains("perhaps") && mixed.err.contains("PNR-0907"), "{}", mixed.err);
}
