//! The way of a broadcast's stream key: a real ffmpeg, the relay, and a far end that writes down what it is told.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use plugnmeet_recorder::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
use plugnmeet_recorder::capture::encoder::ffmpeg::Encoder;
use plugnmeet_recorder::protocol::ids::RtmpUrl;
use plugnmeet_recorder::telemetry::redact;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::logs::Logs;
use crate::recorder::command_lines;
use crate::standin::rtmp_server::{Manner, RtmpServer, Seen};

const SOON: Duration = Duration::from_secs(20);
const RECONNECT_FOR: Duration = Duration::from_secs(60);

fn target(url: &str, reconnect_for: Duration) -> EncoderTarget {
    EncoderTarget::Rtmp { url: RtmpUrl::parse(url).unwrap(), reconnect_for, adaptive: false }
}

/// As the rig feeds it: a live Matroska stream of so many seconds.
pub fn media(dir: &Path, seconds: u32) -> Vec<u8> {
    let file = dir.join(format!("media-{seconds}.mkv"));
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &format!("testsrc2=s=320x180:r=30:d={seconds}")])
        .args(["-f", "lavfi", "-i", &format!("sine=r=48000:d={seconds}")])
        .args(["-c:v", "rawvideo", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le", "-f", "matroska"])
        .arg(&file)
        .stdin(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    fs::read(file).unwrap()
}

/// Writes the media into ffmpeg, on a thread that ends with them, with ffmpeg, or when it is told that they are enough.
pub fn feed(stdin: OwnedFd, media: Vec<u8>) -> mpsc::Sender<()> {
    let (enough, stop) = mpsc::channel();
    std::thread::spawn(move || {
        let mut to = fs::File::from(stdin);
        for piece in media.chunks(64 * 1024) {
            if stop.try_recv().is_ok() || std::io::Write::write_all(&mut to, piece).is_err() {
                return;
            }
        }
    });
    enough
}

/// Starts ffmpeg with its relay, as a rig does; the media goes in at ffmpeg's own pace.
async fn broadcast(dir: &Path, url: &str, seconds: u32) -> Encoder {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let post_input = words("-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 30 -c:a aac");
    let settings = EncoderSettings::new(&words("-re -loglevel debug"), &post_input);
    let target = target(url, RECONNECT_FOR);
    let (encoder, stdin) = Encoder::start(&settings, (320, 180), &target, dir).await.unwrap();
    let media = media(dir, seconds);
    std::thread::spawn(move || std::io::Write::write_all(&mut fs::File::from(stdin), &media).ok());
    encoder
}

/// Why it has ended.
async fn cause(mut encoder: Encoder) -> String {
    let ended = tokio::time::timeout(SOON * 2, encoder.ended()).await.expect("it does not end");
    ended.expect_err("it has ended well").to_string()
}

#[tokio::test]
async fn a_stream_key_of_4_kb_arrives_whole_and_ffmpeg_never_knows_it() {
    let logs = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    let server = RtmpServer::start(Manner::Take).await.unwrap();
    // What would stand on lines of its own, were it cut after 985 bytes, and be options.
    let key = "k1=-f fl&".replace(' ', "-").repeat(512)[..4096].to_owned();
    assert_eq!(key.len(), 4096);
    let _registration = redact::register(&key);
    let url = format!("rtmp://127.0.0.1:{}/live/inst/{key}?token=%20{{}}\"<>&x=1#y<>", server.port());
    let whole = url.rsplit_once('/').unwrap().1.to_owned();
    let mut encoder = broadcast(dir.path(), &url, 3).await;
    server.wait_until(SOON, |seen| seen.media > 1000).await.unwrap();
    let lines = command_lines();
    tokio::time::timeout(SOON, encoder.ended()).await.unwrap().unwrap();
    let seen = server.wait_until(SOON, |seen| seen.over).await.unwrap();
    // releaseStream, FCPublish, publish, and at the end FCUnpublish.
    assert_eq!(seen.naming(&whole), 4, "{:?}", seen.commands);
    assert_eq!(
        (seen.naming("live/inst"), seen.naming(&format!("rtmp://127.0.0.1:{}/live/inst", server.port()))),
        (1, 1)
    );
    assert!(seen.media > 20_000, "{} bytes", seen.media);
    let log = logs.text();
    for part in (0..key.len() - 16).step_by(8).map(|at| &key[at..at + 16]) {
        assert!(!lines.contains(part) && !log.contains(part), "{part}");
    }
    assert!(log.contains("fname = "), "ffmpeg says much: {log}");
    // Only the made-up name, which looks like a stream key.
    let masked = logs.lines("[redacted]");
    assert!(masked.iter().all(|line| line.contains("rtmp://127.0.0.1:")), "{}", masked.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cause_of_a_far_end_that_does_not_take_it_is_known() {
    let dir = || tempfile::tempdir().unwrap();
    let closed = crate::nats_server::free_port();
    let far_end = |manner| async move { RtmpServer::start(manner).await.unwrap() };
    let (no_key, hanging, closing) =
        tokio::join!(far_end(Manner::RefuseKey), far_end(Manner::Hang), far_end(Manner::CloseAt(5000)));
    for (what, address, causes) in [
        ("nobody listens", format!("rtmp://127.0.0.1:{closed}"), &["no connection: Connection refused"][..]),
        ("no such host", "rtmp://no-such-host.invalid".to_owned(), &["no connection: "]),
        (
            "the key",
            format!("rtmp://127.0.0.1:{}", no_key.port()),
            &["no such stream key here", "closed the connection"],
        ),
        ("silence", format!("rtmp://127.0.0.1:{}", hanging.port()), &["no answer to the handshake within 6 s"]),
        (
            "it goes away",
            format!("rtmp://127.0.0.1:{}", closing.port()),
            &["after it had accepted the stream key, 2 times"],
        ),
    ] {
        let dir = dir();
        let encoder = broadcast(dir.path(), &format!("{address}/live/s3cret-stream-key"), 5).await;
        let why = cause(encoder).await;
        println!("{what}: {why}");
        assert!(why.starts_with("far end: ") && why.contains(&address), "{what}: {why}");
        assert!(causes.iter().any(|cause| why.contains(cause)), "{what}: {why}");
        assert!(!why.contains("s3cret"), "{what}: {why}");
    }
}

#[tokio::test]
async fn a_far_end_that_leaves_at_once_gets_a_second_chance() {
    let dir = tempfile::tempdir().unwrap();
    let server = RtmpServer::start_with(&[Manner::CloseAt(5000), Manner::Take], None).await.unwrap();
    let url = format!("rtmp://127.0.0.1:{}/live/key", server.port());
    let mut encoder = broadcast(dir.path(), &url, 5).await;
    tokio::time::timeout(SOON, encoder.ended()).await.unwrap().unwrap();
    let seen = server.wait_until(SOON, |seen| seen.over && seen.beginnings.len() == 2).await.unwrap();
    assert_begins_whole(&seen.beginnings[1]);
}

#[tokio::test]
async fn a_far_end_that_takes_nothing_more_is_left_for_a_new_connection() {
    let logs = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    let server = RtmpServer::start_with(&[Manner::StopReadingAt(5000), Manner::Take], None).await.unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // Lossless, to fill what the kernel holds for a socket.
    let settings = EncoderSettings::new(&words("-re"), &words("-c:v libx264 -preset ultrafast -qp 0 -g 30 -c:a aac"));
    let target = target(&format!("rtmp://127.0.0.1:{}/live/key", server.port()), RECONNECT_FOR);
    let (mut encoder, stdin) = Encoder::start(&settings, (320, 180), &target, dir.path()).await.unwrap();
    let media = media(dir.path(), 40);
    let enough = feed(stdin, media);
    let whole = |seen: &Seen| seen.beginnings.get(1).is_some_and(|beginning| beginning.len() > 8);
    let seen = server.wait_until(SOON * 2, whole).await.unwrap_or_else(|e| panic!("{e:#}\n{}", logs.text()));
    enough.send(()).unwrap();
    tokio::time::timeout(SOON, encoder.ended()).await.unwrap().unwrap();
    let [lost] = &logs.lines("the far end of the broadcast is lost")[..] else { panic!("{}", logs.text()) };
    assert!(lost.contains("has taken nothing for 10 s"), "{lost}");
    assert_begins_whole(&seen.beginnings[1]);
}

/// Metadata, both headers, and the media from a keyframe on, with times from 0.
fn assert_begins_whole(beginning: &[(u8, [u8; 2], u32)]) {
    let kinds: Vec<_> = beginning.iter().map(|(kind, first, _)| (*kind, *first)).collect();
    assert_eq!(kinds[0].0, 18, "{beginning:?}");
    assert_eq!(kinds[1..4], [(9, [0x17, 0]), (8, [0xaf, 0]), (9, [0x17, 1])], "{beginning:?}");
    assert!(beginning[..4].iter().all(|(.., time)| *time == 0), "{beginning:?}");
    assert!(beginning[4..].iter().all(|(_, _, time)| *time < 2000), "{beginning:?}");
}

#[tokio::test]
async fn nobody_else_on_the_host_can_feed_the_stream_or_have_it_connect() {
    let logs = Logs::capture();
    let server = RtmpServer::start(Manner::Take).await.unwrap();
    let url = RtmpUrl::parse(&format!("rtmp://127.0.0.1:{}/live/key", server.port())).unwrap();
    let mut relay = plugnmeet_recorder::capture::rtmp::relay::Relay::start(&url, RECONNECT_FOR, None).await.unwrap();
    let port = relay.address().port;
    // One says nothing, one something else, and one is ffmpeg with a guessed name.
    let _silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    TcpStream::connect(("127.0.0.1", port)).await.unwrap().write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut guess = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i", "testsrc2=s=320x180:d=20", "-f", "flv"])
        .arg(format!("rtmp://127.0.0.1:{port}/live/key"))
        .spawn()
        .unwrap();
    let ended = tokio::task::spawn_blocking(move || guess.wait().unwrap()).await.unwrap();
    assert!(!ended.success());
    assert!(server.seen().commands.is_empty(), "{:?}", server.seen());
    // The right one still comes through.
    let right = relay.address().url();
    let mut right = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=s=320x180:d=2", "-f", "flv", &right])
        .spawn()
        .unwrap();
    let ended = tokio::task::spawn_blocking(move || right.wait().unwrap()).await.unwrap();
    assert!(ended.success());
    relay.finished().await.unwrap();
    assert_eq!(server.seen().naming("key"), 4);
    assert!(!logs.lines("somebody else on this host").is_empty());
}

/// Where the other process finds the far end.
const URL: &str = "RELAY_TEST_URL";

#[tokio::test(flavor = "multi_thread")]
async fn rtmps_goes_by_the_hosts_root_certificates() {
    let dir = tempfile::tempdir().unwrap();
    crate::tls::make_certificate(dir.path());
    plugnmeet_recorder::tls::provide_crypto();
    let certificate = CertificateDer::from_pem_file(dir.path().join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.path().join("key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let server = RtmpServer::start_with(&[Manner::Take], Some(TlsAcceptor::from(Arc::new(config)))).await.unwrap();
    let url = format!("rtmps://127.0.0.1:{}/live/s3cret-stream-key", server.port());
    // Nobody vouches for it here.
    let why = cause(broadcast(dir.path(), &url, 1).await).await;
    assert!(why.contains("no TLS: ") && why.contains("certificate") && !why.contains("s3cret"), "{why}");
    assert!(server.seen().commands.is_empty());
    // In a process of its own, since the certificate is in the environment.
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "relay::in_the_other_process"])
        .env("SSL_CERT_FILE", dir.path().join("cert.pem"))
        .env(URL, &url)
        .output();
    let child = tokio::time::timeout(SOON * 2, child).await.unwrap().unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && output.contains("1 passed"), "{output}");
    assert_eq!(server.seen().naming("s3cret-stream-key"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_other_process() {
    // The other half of the test above, which starts it with this; by itself it has nothing to do.
    let Ok(url) = std::env::var(URL) else { return };
    let dir = tempfile::tempdir().unwrap();
    broadcast(dir.path(), &url, 1).await.ended().await.unwrap();
}
