//! Whom Chrome and the recorder trust where the meeting page is on https: the token goes to nobody else.

use std::path::{Path, PathBuf};

use plugnmeet_recorder::capture::browser::chrome_arguments::ChromeSettings;
use plugnmeet_recorder::capture::browser::{sandbox, trusted_roots};
use plugnmeet_recorder::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
use plugnmeet_recorder::capture::rig::{LiveRig, OpenError, Rig as _, RigSpec};
use plugnmeet_recorder::config::{ChromeFlag, ServerConfig};
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use tokio_util::sync::CancellationToken;

use crate::nats_server::server_config;
use crate::node::fails;
use crate::recorder::{Recorder, Setup, turn};
use crate::recording::{ENDED, record, standin, stop, wait_for};
use crate::standin::https::{Authority, Behind, Https};
use crate::standin::{Meeting, Standin};

const DAYS: i32 = 7;

/// The stand-in's own server, as what is behind https.
fn behind(standin: &Standin) -> Behind {
    Behind::Server(standin.host().split_once("://").unwrap().1.to_owned())
}

/// A server with this CA's file, where nothing but Chrome is looked at.
fn server(https: &Https, authority: &Authority) -> ServerConfig {
    ServerConfig { ca_file: Some(authority.file()), ..server_config(&https.url()) }
}

fn rig(dir: &Path, url: &str, state_dir: &Path, flags: Vec<ChromeFlag>, sandbox: bool) -> RigSpec {
    RigSpec {
        url: url.to_owned(),
        target: EncoderTarget::File(dir.join("part.mkv")),
        encoder: EncoderSettings::new(&[], &[]),
        fallback: None,
        chrome: ChromeSettings { path: None, flags, sandbox, trusted: trusted_roots::database(state_dir) },
        size: (640, 360),
        dpi: 96,
        silence_warning: None,
        screenshot: dir.join("failed.png"),
        owner: String::new(),
    }
}

/// Opens the rig as far as the meeting, and closes it again.
async fn visit(spec: RigSpec) -> Result<(), String> {
    match Box::pin(LiveRig::open(spec, CancellationToken::new())).await {
        Ok(rig) => {
            Box::pin(rig.close()).await;
            Ok(())
        }
        Err(OpenError::Failed(why) | OpenError::Refused(why)) => Err(why),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chrome_gives_the_token_to_no_server_whose_certificate_it_cannot_check() {
    let _turn = turn().await;
    let standin = standin().await;
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("state of it");
    let sandbox = sandbox::check().await.is_ok();
    let (ours, other) = (Authority::new(DAYS).unwrap(), Authority::new(DAYS).unwrap());
    let good = Https::start(&ours.issue("localhost", DAYS).unwrap(), behind(&standin)).await.unwrap();
    trusted_roots::prepare(&state_dir, &server(&good, &ours)).await.unwrap();
    let room = standin.meeting(Meeting::default());
    let page = |https: &Https| format!("{}/?access_token={}", https.url(), room.token);

    for (identity, wanted) in [
        (other.issue("localhost", DAYS), "nobody that Chrome trusts vouches for it (net::ERR_CERT_AUTHORITY_INVALID)"),
        (ours.issue("localhost", -1), "it has expired or is not valid yet (net::ERR_CERT_DATE_INVALID)"),
        (ours.issue("elsewhere.example", DAYS), "it is for another name (net::ERR_CERT_COMMON_NAME_INVALID)"),
    ] {
        let bad = Https::start(&identity.unwrap(), behind(&standin)).await.unwrap();
        let why = visit(rig(dir.path(), &page(&bad), &state_dir, Vec::new(), sandbox)).await.unwrap_err();
        assert!(why.contains(wanted) && why.contains(&format!("localhost:{}", bad.port())), "{why}");
        // It is not asked again until the time to join is over.
        assert!(!why.contains("not ready after") && !why.contains(&room.token), "{why}");
        assert_eq!(bad.requests(), [] as [String; 0]);
    }

    visit(rig(dir.path(), &page(&good), &state_dir, Vec::new(), sandbox)).await.unwrap();
    assert!(good.requests()[0].contains(&room.token), "{:?}", good.requests());

    // Another CA at the next start: the one before is not trusted any more.
    trusted_roots::prepare(&state_dir, &server(&good, &other)).await.unwrap();
    let why = visit(rig(dir.path(), &page(&good), &state_dir, Vec::new(), sandbox)).await.unwrap_err();
    assert!(why.contains("ERR_CERT_AUTHORITY_INVALID"), "{why}");
    // Who wants no check has none.
    let flag = ChromeFlag { name: "ignore-certificate-errors".to_owned(), value: None };
    visit(rig(dir.path(), &page(&good), &state_dir, vec![flag], sandbox)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_itself_asks_for_is_checked_too() {
    let _turn = turn().await;
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(DAYS).unwrap(), Authority::new(DAYS).unwrap());
    let nothing = Behind::Page(String::new());
    let trusted = Https::start(&ours.issue("localhost", DAYS).unwrap(), nothing.clone()).await.unwrap();
    let untrusted = Https::start(&other.issue("localhost", DAYS).unwrap(), nothing).await.unwrap();
    // The meeting begins once every connection has come to its end.
    let page = format!(
        "<div id=startupJoinModal><button id=listenOnlyJoin></button></div><script>
        const fetched = (port) => fetch(`https://localhost:${{port}}/fetch`, {{mode: 'no-cors'}}).catch(() => {{}});
        const spoken = (port) => new Promise((done) => {{
            new WebSocket(`wss://localhost:${{port}}/socket`).onclose = done;
        }});
        const shown = (port) => new Promise((done) => {{
            const image = new Image();
            image.onerror = image.onload = done;
            image.src = `https://localhost:${{port}}/image`;
        }});
        Promise.all([{0}, {1}].flatMap((port) => [fetched(port), spoken(port), shown(port)])).then(() => {{
            document.body.innerHTML = '<div id=main-area>over</div>';
        }});
        </script>",
        trusted.port(),
        untrusted.port()
    );
    let main = Https::start(&ours.issue("localhost", DAYS).unwrap(), Behind::Page(page)).await.unwrap();
    trusted_roots::prepare(dir.path(), &server(&main, &ours)).await.unwrap();
    let url = format!("{}/?access_token=x", main.url());
    visit(rig(dir.path(), &url, dir.path(), Vec::new(), sandbox::check().await.is_ok())).await.unwrap();
    let mut lines = trusted.requests();
    lines.sort();
    assert_eq!(lines, ["GET /fetch HTTP/1.1", "GET /image HTTP/1.1", "GET /socket HTTP/1.1"]);
    assert_eq!(untrusted.requests(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_on_https_with_an_own_ca_is_recorded_and_told_of() {
    let _turn = turn().await;
    let standin = standin().await;
    let authority = Authority::new(DAYS).unwrap();
    let https = Https::start(&authority.issue("localhost", DAYS).unwrap(), behind(&standin)).await.unwrap();
    let setup = Setup {
        host: Some(https.url()),
        server: format!("  ca_file: {}\n", authority.file().display()),
        ..Setup::default()
    };
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    let room = standin.meeting(Meeting::default());
    record(&standin, &recorder, &room, "rec-https").await;
    stop(&standin, &room, "rec-https").await;
    let told = wait_for(&standin, &recorder, RecordingTasks::RecordingTranscodingFinished, "rec-https").await;
    assert!(told.0, "{told:?}");
    let log = recorder.stop(&[&standin.deployment.api_secret, &room.token]);
    assert!(log.contains("Chrome trusts more than its own"), "{log}");
    assert!(https.requests().iter().any(|line| line.starts_with("POST /auth/recorder/notify")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_certificate_is_the_cause_that_the_server_and_the_log_are_told() {
    let _turn = turn().await;
    let standin = standin().await;
    let authority = Authority::new(DAYS).unwrap();
    let https = Https::start(&authority.issue("localhost", DAYS).unwrap(), behind(&standin)).await.unwrap();
    // Notices still go to the stand-in; only the page is elsewhere.
    let setup = Setup {
        server: format!("  join_host: {}/?access_token=\n", https.url()),
        sections: "chrome_settings:\n  flags: [{name: ignore-certificate-errors, value: \"false\"}]\n".to_owned(),
        ..Setup::default()
    };
    let recorder = Recorder::start(&standin, "node_01", &setup).await;
    let room = standin.meeting(Meeting::default());
    let reply = standin.fleet.start_recording(&room, "rec-refused", "node_01").await.unwrap();
    assert!(reply.response.unwrap().status);
    let (status, msg) = wait_for(&standin, &recorder, ENDED, "rec-refused").await;
    assert!(!status && msg.contains("ERR_CERT_AUTHORITY_INVALID") && msg.contains("plugNmeet_info.ca_file"), "{msg}");
    let log = recorder.stop(&[&standin.deployment.api_secret, &room.token]);
    assert!(log.contains("Chrome refuses the certificate of localhost"), "{log}");
    assert!(!log.contains("ignore-certificate-errors Chrome hands"), "{log}");
    assert_eq!(https.requests(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_file_that_cannot_be_used_is_a_problem_at_the_start() {
    let standin = standin().await;
    let dir = standin.dir();
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let valid = Authority::new(DAYS).unwrap();
    let pem = std::fs::read_to_string(valid.file()).unwrap();
    let body: String = pem.lines().skip(1).filter(|line| !line.starts_with('-')).collect();
    let cases: [(PathBuf, &str); 5] = [
        (dir.join("nowhere.pem"), "cannot read"),
        (file("empty.pem", ""), "holds no certificate; it must be PEM"),
        (file("body.pem", &body), "holds no certificate; it must be PEM"),
        (file("cut.pem", &pem[..pem.len() / 2]), "certificate 1 in"),
        (
            file("junk.pem", "-----BEGIN CERTIFICATE-----\nanVuaw==\n-----END CERTIFICATE-----\n"),
            "no X.509 certificate",
        ),
    ];
    for (path, wanted) in cases {
        let setup = Setup { server: format!("  ca_file: {}\n", path.display()), ..Setup::default() };
        let log = fails(&standin, &setup, 1).await;
        assert!(log.contains("plugNmeet_info.ca_file") && log.contains(wanted), "{wanted}: {log}");
    }
    let expired = Authority::new(-1).unwrap();
    let setup = Setup { server: format!("  ca_file: {}\n", expired.file().display()), ..Setup::default() };
    let log = fails(&standin, &setup, 1).await;
    assert!(log.contains("have expired, the last on 20"), "{log}");

    // Only where Chrome needs it is certutil missed.
    let bare = dir.join("bare");
    std::fs::create_dir(&bare).unwrap();
    for name in ["setpriv", "ffmpeg", "ffprobe", "Xvfb", "pulseaudio", "chromium"] {
        std::os::unix::fs::symlink(Path::new("/usr/bin").join(name), bare.join(name)).unwrap();
    }
    let setup = Setup {
        host: Some("https://localhost:9".to_owned()),
        server: format!("  ca_file: {}\n", valid.file().display()),
        path: Some(bare.display().to_string()),
        ..Setup::default()
    };
    let log = fails(&standin, &setup, 1).await;
    assert!(log.contains("certutil is missing") && log.contains("apt-get install libnss3-tools"), "{log}");
    let setup = Setup { mode: Some("transcoderOnly"), ..setup };
    let recorder = Recorder::spawn(&standin, "node_01", &setup);
    recorder.wait_for_log("connected to NATS").await;
    recorder.stop(&[&standin.deployment.api_secret]);
}
