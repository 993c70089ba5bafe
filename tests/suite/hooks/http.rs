//! Steps that are HTTP requests.

use std::time::Duration;

use plugnmeet_recorder::config::{HookStep, HookUrl};

use super::{LIMIT, Requests, Server, huge, once, payload};
use crate::logs::Logs;

#[tokio::test]
async fn an_http_request_posts_the_json_and_its_answer_is_the_output() {
    let logs = Logs::capture();
    let seen = Requests::default();
    let server = Server::start(&seen).await;
    let ask = async |path: &str| {
        let step = HookStep::HttpRequest { url: server.url(path) };
        once(vec![step], huge("RM_1"), Duration::from_secs(2)).await
    };
    assert!(ask("/cleanup").await.unwrap().should_cleanup);
    for path in ["/nothing", "/page", "/huge"] {
        assert_eq!(ask(path).await.unwrap(), huge("RM_1"), "{path}");
    }
    for (path, said) in [
        ("/moved", "it answered 302 Found; redirects are not followed"),
        ("/broken", "it answered 500 Internal Server Error: \"the disk\\nis full\""),
        ("/slow", "no answer within 2s (hook_timeout)"),
    ] {
        let error = ask(path).await.unwrap_err().to_string();
        assert!(error.contains(said) && error.contains(path), "{error}");
        assert!(!error.contains("correct-horse") && !error.contains("battery-staple"), "{error}");
    }
    assert_eq!(seen.lock().unwrap().len(), 7, "none of these is sent twice");
    assert_eq!(seen.lock().unwrap()[0].2.as_deref(), Some("Basic am9lOmNvcnJlY3QtaG9yc2U="));
    // A port that nobody listens on any more.
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = HookUrl::parse(&format!("http://joe:correct-horse@{address}/x?key=battery-staple")).unwrap();
    let error =
        once(vec![HookStep::HttpRequest { url: nobody }], payload("RM_1"), LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("Connection refused") && !error.contains("correct-horse"), "{error}");
    assert_eq!(logs.lines("sent once more").len(), 1);
    for secret in ["correct-horse", "battery-staple"] {
        assert!(logs.lines(secret).is_empty(), "{:?}", logs.lines(secret));
    }
}
