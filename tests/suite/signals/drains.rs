//! Who may drain a node, and what that does.

use std::process::Command;

use plugnmeet_recorder::codes;

use super::{TOKEN, admin, ask, get, setup, standin, wait_for};
use crate::nats_server::free_port;
use crate::node::{fails, job};
use crate::recorder::{Recorder, Setup};
use crate::standin::Meeting;

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_drained_takes_no_recording_and_no_job_until_it_is_taken_back() {
    let standin = standin().await;
    let (port, setup) = setup();
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    wait_for(port, "/readyz", 200, &recorder).await;
    for (headers, status, code) in [
        (String::new(), 401, codes::NOT_LOGGED_IN),
        (bearer("wrong"), 401, codes::WRONG_TOKEN),
        (bearer(&TOKEN[1..]), 401, codes::WRONG_TOKEN),
        (bearer(&format!("{TOKEN}x")), 401, codes::WRONG_TOKEN),
        (format!("Authorization: Basic {TOKEN}\r\n"), 401, codes::WRONG_TOKEN),
        (format!("{}Origin: http://evil.example\r\n", bearer(TOKEN)), 403, codes::FOREIGN_PAGE),
        (format!("{}Origin: null\r\n", bearer(TOKEN)), 403, codes::FOREIGN_PAGE),
        (format!("{}Origin: http://127.0.0.1:{port}\r\n", bearer(TOKEN)), 403, codes::FOREIGN_PAGE),
        (format!("{}Sec-Fetch-Site: cross-site\r\n", bearer(TOKEN)), 403, codes::FOREIGN_PAGE),
        (format!("{}Sec-Fetch-Site: same-site\r\n", bearer(TOKEN)), 403, codes::FOREIGN_PAGE),
        (format!("{}Sec-Fetch-Site: same-origin\r\n", bearer(TOKEN)), 403, codes::FOREIGN_PAGE),
        (format!("{}Sec-Fetch-Site: none\r\n", bearer(TOKEN)), 403, codes::FOREIGN_PAGE),
    ] {
        let answer = ask(port, "POST", "/drain", &headers).await;
        assert_eq!(answer.status, status, "{headers}: {answer:?}");
        assert!(!answer.body.contains(TOKEN) && answer.body.ends_with(&format!(" [{code}]\n")), "{answer:?}");
    }
    assert_eq!(get(port, "/readyz").await.status, 200);

    for _ in 0..2 {
        let answer = ask(port, "POST", "/drain", &bearer(TOKEN)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let answer = get(port, "/readyz").await;
    assert_eq!((answer.status, answer.reasons()), (503, vec!["drained".to_owned()]));
    assert!(get(port, "/metrics").await.body.contains("plugnmeet_recorder_slots_free 0.0\n"));
    recorder.wait_until_gone_from_choice(&standin).await;
    let room = standin.meeting(Meeting::default());
    let refused = standin.fleet.start_recording(&room, "RM_1", "node_01").await.unwrap().response.unwrap();
    assert!(!refused.status && refused.msg == "this recorder is drained by its operator [PNR-0249]", "{refused:?}");
    let dir = recorder.main_path.join("node_02/room01");
    std::fs::create_dir_all(&dir).unwrap();
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x240:r=10:d=1", "-c:v", "libx264"])
        .arg(dir.join("RM_2_raw.mkv"))
        .status()
        .unwrap();
    assert!(made.success());
    // A pull request is given up 0.2 s after the drain (`nats/jobs.rs`): a job of that moment is still taken.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    standin.fleet.publish_job(job(&dir, "RM_2", "RM_2_raw.mkv")).await.unwrap();
    // Nothing left that needs it, and it goes on.
    assert_eq!(get(port, "/protect").await.status, 404);
    assert_eq!(get(port, "/healthz").await.status, 200);
    assert_eq!(standin.fleet.queue().await.unwrap().ack_pending, 0);

    assert_eq!(ask(port, "POST", "/undrain", "").await.status, 401);
    // The line of `/undrain` may come after that of the job.
    assert!(!recorder.log().contains("job taken"));
    let answer = ask(port, "POST", "/undrain", &bearer(TOKEN)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "not drained any more\n"));
    assert_eq!(get(port, "/readyz").await.status, 200);
    recorder.wait_for_log("job taken").await;
    recorder.wait_for_log("transcoding finished").await;
    standin.fleet.wait_selectable("node_01", super::LIMIT).await.unwrap();
    let log = recorder.stop(&[TOKEN, &room.token]);
    assert_eq!(log.matches("drained by its operator: nothing new").count(), 1, "said once");
    assert_eq!(log.matches("asked to drain this node with a wrong token").count(), 1, "of four, in a minute");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nobody_drains_unless_the_operator_of_this_host_has_chosen_so() {
    let standin = standin().await;
    let (closed, open, file) = (free_port(), free_port(), free_port());
    let path = standin.dir().join("token");
    let start = async |id: &str, port: u16, lines: &str| {
        let recorder = Recorder::spawn(&standin, id, &Setup { sections: admin(port, lines), ..Setup::default() });
        wait_for(port, "/readyz", 200, &recorder).await;
        recorder
    };
    let lines = format!("  token_file: {}\n", path.display());
    let nodes = [
        start("node_01", closed, "").await,
        start("node_02", open, "  allow_drain_without_token: true\n").await,
        start("node_03", file, &lines).await,
    ];
    let answer = ask(closed, "POST", "/drain", &bearer("anything")).await;
    assert!(answer.status == 403 && answer.body.contains("set admin.token or admin.token_file"), "{answer:?}");
    assert_eq!(ask(open, "POST", "/drain", "").await.status, 200);
    assert_eq!(ask(open, "POST", "/undrain", "Origin: https://meet.example\r\n").await.status, 403);

    let answer = ask(file, "POST", "/drain", &bearer("first-token-of-a-file")).await;
    assert!(answer.status == 503 && answer.body.contains("cannot be read"), "{answer:?}");
    // It may be renewed.
    for token in ["first-token-of-a-file", "second-token-of-a-file"] {
        std::fs::write(&path, format!("{token}\n")).unwrap();
        assert_eq!(ask(file, "POST", "/drain", &bearer(token)).await.status, 200);
    }
    assert_eq!(ask(file, "POST", "/drain", &bearer("first-token-of-a-file")).await.status, 401);
    std::fs::write(&path, " \n").unwrap();
    assert_eq!(ask(file, "POST", "/drain", &bearer("")).await.status, 503);
    for node in nodes {
        node.stop(&["first-token-of-a-file", "second-token-of-a-file"]);
    }

    let sections = "admin:\n  listen: 0.0.0.0:8089\n  allow_drain_without_token: true\n".to_owned();
    let log = fails(&standin, &Setup { sections, ..Setup::default() }, 2).await;
    assert!(log.contains("everybody who reaches it could drain this node"), "{log}");
}
