//! Clients that are slow, wrong or many.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{LIMIT, ask, get, send, setup, standin, wait_for};
use crate::recorder::Recorder;

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_should_ask_is_answered_with_4xx_and_changes_nothing() {
    let standin = standin().await;
    let (port, setup) = setup();
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    wait_for(port, "/readyz", 200, &recorder).await;
    let paths = ["/healthz", "/readyz", "/metrics", "/protect", "/drain", "/undrain"];
    for path in paths {
        let wrong = if path.ends_with("drain") { "GET" } else { "POST" };
        for method in [wrong, "PUT", "DELETE", "PATCH", "BREW"] {
            let answer = ask(port, method, path, "").await;
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
        }
        for sub in ["/", "/x", "x"] {
            assert_eq!(get(port, &format!("{path}{sub}")).await.status, 404, "{path}{sub}");
        }
        let method = if path.ends_with("drain") { "POST" } else { "GET" };
        let body = ask(port, method, path, "Content-Length: 10\r\n\r\n0123456789").await;
        assert_eq!(body.status, 413, "{body:?}");
        let huge = ask(port, method, path, "Content-Length: 99999999999999\r\n").await;
        assert_eq!(huge.status, 413, "{huge:?}");
        let chunks = ask(port, method, path, "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
        assert_eq!(chunks.status, 411, "{chunks:?}");
        let long = ask(port, method, path, &format!("X: {}\r\n", "x".repeat(900_000))).await;
        assert_eq!(long.status, 431, "{}", long.headers);
    }
    for path in ["/page", "/../etc/passwd", "/%00", "//", "/metrics?recording_id=%ff", "*"] {
        let answer = get(port, path).await;
        assert!((400..500).contains(&answer.status) || path.starts_with("/metrics"), "{path}: {answer:?}");
    }
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut request = bytes.to_vec();
        request.extend_from_slice(b"\r\n\r\n");
        let answer = send(port, &request).await;
        assert!(answer.as_ref().is_none_or(|answer| (400..500).contains(&answer.status)), "{bytes:?}: {answer:?}");
    }
    assert_eq!(get(port, "/readyz").await.status, 200);
    recorder.stop(&[super::TOKEN]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_or_read_nothing_keep_out_nobody_and_are_sent_away() {
    let standin = standin().await;
    let (port, setup) = setup();
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    wait_for(port, "/readyz", 200, &recorder).await;
    // Three times as many as may be connected.
    let mut slow = Vec::new();
    for number in 0..192 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap(),
            // Answered, and it does not read.
            _ => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap(),
        }
        slow.push(stream);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(port, path).await.status, 200);
    }
    // The last ones stay until their time is over, 15 s, and all of them are ended by the node.
    let ends = slow.into_iter().map(|mut stream| async move {
        let mut rest = Vec::new();
        tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.is_ok()
    });
    assert!(futures::future::join_all(ends).await.into_iter().all(|ended| ended), "a slow client is still connected");
    assert_eq!(get(port, "/readyz").await.status, 200);
    recorder.stop(&[]);
}
