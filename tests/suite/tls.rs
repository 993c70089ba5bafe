//! `tls://` and `https://` with a certificate that only the host's roots vouch for.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use plugnmeet_recorder::config::{HookStage, HookStep, HookUrl, HooksConfig, ServerConfig};
use plugnmeet_recorder::delivery::dispatcher::Dispatcher;
use plugnmeet_recorder::delivery::outbox::Outbox;
use plugnmeet_recorder::delivery::queues::DeliveryOutcome;
use plugnmeet_recorder::nats::Nats;
use plugnmeet_recorder::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::notice::{Notice, NoticeEvent};
use plugnmeet_recorder::protocol::request::{Kind, RecordingInfo};
use plugnmeet_recorder::scripts::hooks::Hooks;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::hooks;
use crate::logs::Logs;
use crate::nats_server::{NatsServer, nats_config, server_config};

const LONG: Duration = Duration::from_secs(20);

/// Where the other process finds the servers.
const NATS_URL: &str = "TLS_TEST_NATS_URL";
const HOST: &str = "TLS_TEST_HOST";

fn me() -> RecorderId {
    RecorderId::parse("node_01").unwrap()
}

fn notice() -> Notice {
    let info = RecordingInfo {
        room_table_id: 1,
        room_id: RoomId::parse("room01").unwrap(),
        room_sid: RoomSid::default(),
        recording_id: RecordingId::parse("rec-1").unwrap(),
    };
    Notice { info, recorder_id: me(), event: NoticeEvent::Started(Kind::Recording) }
}

/// A certificate for 127.0.0.1 that vouches for itself: `cert.pem` and `key.pem`.
pub fn make_certificate(dir: &Path) {
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test".split(' '))
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir)
        .output()
        .expect("openssl is needed: apt-get install openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Answers every request with 200; its port.
fn serve_https(dir: &Path) -> u16 {
    plugnmeet_recorder::tls::provide_crypto();
    let certificate = CertificateDer::from_pem_file(dir.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
    let config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            // One read has the headers, and the answer does not depend on the body.
            if stream.read(&mut [0; 4096]).is_ok() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok();
                stream.conn.send_close_notify();
                stream.flush().ok();
                // Closing with something unread would take the answer back.
                stream.sock.set_read_timeout(Some(Duration::from_millis(200))).ok();
                while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
            }
        }
    });
    port
}

#[tokio::test]
async fn certificates_are_checked_against_the_roots_of_the_host() {
    let logs = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    make_certificate(dir.path());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let tls = format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", path("cert.pem"), path("key.pem"));
    let nats = NatsServer::start(&tls).await;
    let nats_url = format!("tls://127.0.0.1:{}", nats.port());
    let host = format!("https://127.0.0.1:{}", serve_https(dir.path()));

    // With its certificate among the roots; they are chosen by the environment, so in another process.
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tls::in_the_other_process"])
        .env("SSL_CERT_FILE", path("cert.pem"))
        .env(NATS_URL, &nats_url)
        .env(HOST, &host)
        .output();
    let child = timeout(LONG, child).await.unwrap().unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && output.contains("1 passed"), "{output}");

    // Without.
    let config = nats_config(&[nats_url]);
    let cancel = CancellationToken::new();
    let (plug, me) = (server_config(&host), me());
    let refused = timeout(Duration::from_secs(2), Nats::connect(&config, &plug, &me, &cancel)).await;
    assert!(refused.is_err(), "connected to a server that nobody vouches for");
    let lines = logs.lines("ERROR");
    assert!(lines.len() == 1 && lines[0].contains("ca-certificates"), "{lines:?}");
    let dispatcher = Dispatcher::new(&plug, Outbox::in_memory()).unwrap();
    let told = dispatcher.send(notice()).await;
    dispatcher.shutdown(Duration::from_secs(1)).await;
    let Ok(DeliveryOutcome::Interrupted(why)) = told.await else { panic!("told a server that nobody vouches for") };
    assert!(why.contains("certificate"), "{why}");

    // With a file of the operator's own: NATS, notices and hooks.
    let ca_file = Some(dir.path().join("cert.pem"));
    let plug = ServerConfig { ca_file: ca_file.clone(), ..plug };
    let nats = timeout(LONG, Nats::connect(&config, &plug, &me, &cancel)).await.unwrap().unwrap();
    assert!(nats.is_connected());
    let dispatcher = Dispatcher::new(&plug, Outbox::in_memory()).unwrap();
    let told = dispatcher.send(notice()).await;
    assert_eq!(timeout(LONG, told).await.unwrap(), Ok(DeliveryOutcome::Taken));
    for (ca_file, trusted) in [(ca_file, true), (None, false)] {
        let step = HookStep::HttpRequest { url: HookUrl::parse(&format!("{host}/hook")).unwrap() };
        let config = HooksConfig { ca_file, ..hooks::config(vec![step], 1, LONG) };
        let hooks = Hooks::start(&config, &[HookStage::PostRecording]);
        let asked = hooks::run(&hooks, hooks::payload("rec-1")).await;
        // An empty answer leaves what was given.
        assert_eq!(asked.is_ok(), trusted, "{asked:?}");
        hooks.shutdown().await;
    }
}

#[tokio::test]
async fn in_the_other_process() {
    // The other half of the test above, which starts it with these; by itself it has nothing to do.
    let (Ok(nats_url), Ok(host)) = (std::env::var(NATS_URL), std::env::var(HOST)) else { return };
    let (config, plug) = (nats_config(&[nats_url]), server_config(&host));
    let cancel = CancellationToken::new();
    let nats = timeout(LONG, Nats::connect(&config, &plug, &me(), &cancel)).await.unwrap().unwrap();
    assert!(nats.is_connected());
    let dispatcher = Dispatcher::new(&plug, Outbox::in_memory()).unwrap();
    let told = dispatcher.send(notice()).await;
    assert_eq!(timeout(LONG, told).await.unwrap(), Ok(DeliveryOutcome::Taken));
}
