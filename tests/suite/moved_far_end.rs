//! A far end whose name gets another address while it is broadcast to.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use plugnmeet_recorder::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
use plugnmeet_recorder::capture::encoder::ffmpeg::Encoder;
use plugnmeet_recorder::protocol::ids::RtmpUrl;

use crate::relay::{feed, media};
use crate::standin::rtmp_server::{Manner, RtmpServer};

const SOON: Duration = Duration::from_secs(40);
const NAME: &str = "live.moving.test";
/// Tells the other process that it is the one.
const DIR: &str = "MOVED_FAR_END_DIR";
/// Some 5 s of the broadcast: a connection that ends within 3 s is a refusal.
const BYTES: usize = 250_000;

/// The hosts of the other process are its own: it runs in a mount namespace.
#[tokio::test]
async fn a_far_end_is_found_at_its_new_address() {
    let dir = tempfile::tempdir().unwrap();
    let child = tokio::process::Command::new("unshare")
        .args(["--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "moved_far_end::in_the_other_process"])
        .env(DIR, dir.path())
        .kill_on_drop(true)
        .output();
    let child = tokio::time::timeout(SOON * 2, child).await.unwrap().unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && output.contains("1 passed"), "{output}\n{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_other_process() {
    // The other half of the test above, which starts it with this; by itself it has nothing to do.
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let hosts = dir.join("hosts");
    let moves_to = |address: &str| fs::write(&hosts, format!("{address} {NAME}\n")).unwrap();
    moves_to("127.0.0.1");
    let bound = Command::new("mount").arg("--bind").arg(&hosts).arg("/etc/hosts").status().unwrap();
    assert!(bound.success(), "no hosts of its own");
    let before = RtmpServer::start(Manner::CloseAt(BYTES)).await.unwrap();
    let after = RtmpServer::start_at(&format!("127.0.0.2:{}", before.port()), &[Manner::Take], None).await.unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rate = "-b:v 400k -minrate 400k -maxrate 400k -bufsize 400k -x264-params nal-hrd=cbr";
    let post_input = words(&format!("-c:v libx264 -preset ultrafast {rate} -g 30 -c:a aac"));
    let settings = EncoderSettings::new(&words("-re"), &post_input);
    let url = RtmpUrl::parse(&format!("rtmp://{NAME}:{}/live/key", before.port())).unwrap();
    let target = EncoderTarget::Rtmp { url, reconnect_for: SOON, adaptive: false };
    let (mut encoder, stdin) = Encoder::start(&settings, (320, 180), &target, dir).await.unwrap();
    let media = media(dir, 60);
    let enough = feed(stdin, media);
    before.wait_until(SOON, |seen| seen.media > 1000).await.unwrap();
    moves_to("127.0.0.2");
    after.wait_until(SOON, |seen| seen.media > 10_000).await.unwrap();
    enough.send(()).unwrap();
    tokio::time::timeout(SOON, encoder.ended()).await.unwrap().unwrap();
    assert_eq!(before.seen().beginnings.len(), 1);
    assert_eq!(after.seen().naming("key"), 4, "releaseStream, FCPublish, publish, FCUnpublish");
}
