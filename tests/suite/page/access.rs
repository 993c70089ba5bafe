//! Who may see the page and order what, by plain HTTP.

use super::{TOKEN, ask, own, session};
use crate::nats_server::free_port;
use crate::recorder::{Recorder, Setup};
use crate::signals::admin;
use crate::standin::{Deployment, Standin};

/// All that needs a session.
const READS: [&str; 4] = [
    "/page/events",
    "/page/recordings/recording/RM_1/thumbnail",
    "/page/finished/RM_1/summary",
    "/page/finished/RM_1/video",
];
const ORDERS: [&str; 7] = [
    "/page/recordings/recording/RM_1/stop",
    "/page/jobs/RM_1/retry",
    "/page/jobs/RM_1/drop",
    "/page/outbox/RM_1/retry",
    "/page/outbox/RM_1/drop/ended",
    "/page/drain",
    "/page/undrain",
];

async fn node(lines: &str) -> (Standin, u16, Recorder) {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let port = free_port();
    let setup = Setup { sections: admin(port, lines), ..Setup::default() };
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    (standin, port, recorder)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_told_and_obeys_only_who_has_given_the_token() {
    let (_standin, port, recorder) = node(&format!("  token: {TOKEN}\n")).await;
    let [origin, site] = own(port);
    let page = ask(port, "GET", "/", &[]).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    for part in ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"] {
        assert!(policy.contains(part) && !policy.contains("unsafe"), "{policy}");
    }
    assert!(!page.text().contains("node_01") && !page.text().contains(TOKEN), "it holds nothing of this node");

    let name = format!("pnm_page_{port}");
    let forged = [String::new(), format!("Cookie: {name}=9999999999.00"), format!("Cookie: {name}={TOKEN}")];
    for cookie in forged.iter().map(String::as_str) {
        for (method, paths) in [("GET", &READS[..]), ("POST", &ORDERS[..])] {
            for path in paths {
                let headers: Vec<&str> = [&origin, &site, cookie].into_iter().filter(|line| !line.is_empty()).collect();
                let answer = ask(port, method, path, &headers).await;
                assert_eq!(answer.status, 401, "{path} {cookie}: {answer:?}");
                assert!(answer.text().ends_with(" [PNR-1104]\n"), "{answer:?}");
            }
        }
    }
    for (method, path) in [("GET", "/"), ("GET", "/page/events"), ("POST", "/page/drain")] {
        let answer = ask(port, method, path, &[&origin, &site]).await;
        for (name, value) in [
            ("x-frame-options", "deny"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("referrer-policy", "same-origin"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}: {answer:?}");
        }
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
    }
    // Behind a proxy that speaks TLS the cookie never goes without.
    let (bearer, tls) = (format!("Authorization: Bearer {TOKEN}"), "X-Forwarded-Proto: https");
    for (headers, end) in [(vec![], "samesite=strict"), (vec![tls], "samesite=strict; secure")] {
        let answer = ask(port, "POST", "/page/login", &[&headers[..], &[&origin, &site, &bearer]].concat()).await;
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.contains("; httponly; ") && cookie.ends_with(end), "{cookie}");
    }
    let cookie = session(port).await;
    // What an operator's browser would send for a page of somebody else, with his session.
    for foreign in [
        vec!["Origin: http://evil.example", "Sec-Fetch-Site: cross-site"],
        vec!["Origin: http://127.0.0.1:1"],
        vec!["Origin: null"],
        vec!["Sec-Fetch-Site: cross-site"],
        vec!["Sec-Fetch-Site: same-site"],
    ] {
        for (method, path) in READS.map(|path| ("GET", path)).into_iter().chain(ORDERS.map(|path| ("POST", path))) {
            let answer = ask(port, method, path, &[&foreign[..], &[&cookie]].concat()).await;
            assert_eq!(answer.status, 403, "{path} {foreign:?}: {answer:?}");
        }
        let bearer = format!("Authorization: Bearer {TOKEN}");
        let answer = ask(port, "POST", "/page/login", &[&foreign[..], &[&bearer]].concat()).await;
        assert_eq!(answer.status, 403, "{foreign:?}: {answer:?}");
    }
    for path in ORDERS {
        assert_eq!(ask(port, "POST", path, &[&cookie]).await.status, 403, "{path}: no page has sent it");
    }
    assert_eq!(ask(port, "GET", "/readyz", &[]).await.status, 200, "nothing was drained");
    let log = recorder.stop(&[TOKEN, cookie.split_once('=').unwrap().1]);
    assert!(log.contains("an operator has logged in to the node's page"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_change_nothing_and_lead_nowhere_else() {
    let (_standin, port, recorder) = node(&format!("  token: {TOKEN}\n")).await;
    let ([origin, site], cookie) = (own(port), session(port).await);
    let headers = [origin.as_str(), &site, &cookie];
    let long = "x".repeat(300);
    let secret = recorder.main_path.join("node_01/room01/RM_secret.mp4");
    std::fs::create_dir_all(secret.parent().unwrap()).unwrap();
    std::fs::write(&secret, "not to be seen").unwrap();
    // A summary that somebody has put there, whose room leads out of `main_path`.
    let summaries = recorder.state_dir().join("summaries");
    std::fs::create_dir_all(&summaries).unwrap();
    for (id, room) in [("RM_out", "../.."), ("RM_secret", "../room01"), ("RM_abs", "/etc")] {
        let summary = serde_json::json!({"kind": "recording", "recording_id": id, "room_id": room});
        std::fs::write(summaries.join(format!("{id}.json")), summary.to_string()).unwrap();
    }
    // A link instead of an MP4.
    std::os::unix::fs::symlink("/etc/passwd", secret.with_file_name("RM_link.mp4")).unwrap();
    let summary = serde_json::json!({"kind": "recording", "recording_id": "RM_link", "room_id": "room01"});
    std::fs::write(summaries.join("RM_link.json"), summary.to_string()).unwrap();
    let ids = [
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "..",
        ".",
        "%00",
        "%ff",
        "RM_1%2f..%2fRM_secret",
        "-rf",
        "%3Cscript%3E",
        "%E2%80%AE",
        "RM_unknown",
        "RM_out",
        "RM_secret",
        "RM_abs",
        "RM_link",
        " ",
        long.as_str(),
    ];
    for id in ids {
        for (method, path) in [
            ("GET", format!("/page/finished/{id}/video")),
            ("POST", format!("/page/jobs/{id}/retry")),
            ("POST", format!("/page/jobs/{id}/drop")),
            ("POST", format!("/page/outbox/{id}/retry")),
            ("POST", format!("/page/outbox/{id}/drop/ended")),
            ("POST", format!("/page/outbox/RM_1/drop/{id}")),
            ("POST", "/page/outbox/RM_1/drop/job".to_owned()),
            ("POST", format!("/page/recordings/recording/{id}/stop")),
            ("POST", format!("/page/recordings/{id}/RM_1/stop")),
            ("GET", format!("/page/recordings/recording/{id}/thumbnail")),
            ("GET", format!("/page/recordings/{id}/RM_1/thumbnail")),
        ] {
            let answer = ask(port, method, &path, &headers).await;
            let refused = (400..500).contains(&answer.status) || (id == "RM_link" && answer.status == 503);
            assert!(refused, "{method} {path}: {answer:?}");
            assert!(
                !answer.text().contains("root:") && !answer.text().contains("not to be seen"),
                "{path}: {answer:?}"
            );
        }
        let told = ["RM_out", "RM_secret", "RM_abs", "RM_link"].contains(&id);
        let answer = ask(port, "GET", &format!("/page/finished/{id}/summary"), &headers).await;
        assert_eq!(answer.status == 200, told, "{id}: {answer:?}");
        assert!(!answer.text().contains("root:"), "{answer:?}");
    }
    for (path, wrong) in [("/page/drain", "GET"), ("/page/events", "POST"), ("/", "POST"), ("/page/login", "GET")] {
        assert_eq!(ask(port, wrong, path, &headers).await.status, 405, "{wrong} {path}");
        let body = ask(port, "POST", path, &[&headers[..], &["Content-Length: 3\r\n\r\nabc"]].concat()).await;
        assert_eq!(body.status, 413, "{body:?}");
    }
    assert_eq!(ask(port, "GET", "/page/", &headers).await.status, 404);
    assert_eq!(ask(port, "GET", "/readyz", &[]).await.status, 200);
    recorder.stop(&[TOKEN]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_the_token_has_to_wait_and_the_log_says_so_once() {
    let (_standin, port, recorder) = node(&format!("  token: {TOKEN}\n")).await;
    let [origin, site] = own(port);
    let log_in = async |token: &str| {
        let bearer = format!("Authorization: Bearer {token}");
        ask(port, "POST", "/page/login", &[&origin, &site, &bearer]).await
    };
    let answer = ask(port, "POST", "/page/login", &[&origin, &site]).await;
    assert_eq!((answer.status, answer.header("set-cookie")), (401, None));
    // Who guesses for the orders of scripts has no more tries than who uses the form; a token that is missing is no guess.
    let order = async |path: &str, token: &str| {
        let bearer = format!("Authorization: Bearer {token}");
        ask(port, "POST", path, &[&bearer]).await
    };
    for number in 0..5 {
        assert_eq!(log_in(&format!("guess-{number}")).await.status, 401);
        assert_eq!(ask(port, "POST", "/drain", &[]).await.status, 401);
    }
    for (path, scheme) in [("/drain", "Bearer"), ("/undrain", "Bearer"), ("/drain", "Basic"), ("/undrain", "Bearer")] {
        let answer = ask(port, "POST", path, &[&format!("Authorization: {scheme} guess-5")]).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("bearer")), "{answer:?}");
    }
    for path in ["/drain", "/undrain"] {
        assert_eq!(order(path, TOKEN).await.status, 429, "{path}");
    }
    assert_eq!(ask(port, "GET", "/readyz", &[]).await.status, 200, "it is not drained");
    for token in ["guess", TOKEN] {
        let answer = log_in(token).await;
        assert!(answer.status == 429 && answer.text().ends_with(" [PNR-1107]\n"), "{answer:?}");
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() <= 61, "{answer:?}");
    }
    let log = recorder.stop(&[TOKEN, "guess-1"]);
    assert_eq!(log.matches("to the node's page with a wrong token").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_the_page_is_open_only_where_the_configuration_says_so_and_only_under_names_of_this_host() {
    let (_standin, port, recorder) = node("").await;
    let [origin, site] = own(port);
    for (method, path) in [("GET", "/page/events"), ("POST", "/page/drain"), ("POST", "/page/login")] {
        let answer = ask(port, method, path, &[&origin, &site]).await;
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
        assert!(answer.text().contains("set admin.token"), "{answer:?}");
    }
    recorder.stop(&[]);

    let (_standin, port, recorder) = node("  allow_drain_without_token: true\n").await;
    let [origin, site] = own(port);
    assert_eq!(ask(port, "POST", "/page/drain", &[&origin, &site]).await.status, 200);
    assert_eq!(ask(port, "GET", "/readyz", &[]).await.status, 503);
    // A name that somebody has made to lead to this host, as the browser takes it for the same origin.
    let (rebound, theirs) = (format!("Host: evil.example:{port}"), format!("Origin: http://evil.example:{port}"));
    for (method, path) in [("GET", "/"), ("GET", "/page/events"), ("POST", "/page/undrain")] {
        let answer = ask(port, method, path, &[&rebound, &theirs, &site]).await;
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
    }
    assert_eq!(ask(port, "GET", "/readyz", &[]).await.status, 503);
    assert_eq!(ask(port, "POST", "/page/undrain", &[&origin, &site]).await.status, 200);
    recorder.stop(&[]);
}
