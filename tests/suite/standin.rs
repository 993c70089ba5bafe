//! The stand-in keeps its own promises: it refuses what a plugNmeet deployment refuses, and measures what is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::{self, consumer::PullConsumer};
use async_nats::{Client, ConnectOptions};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use futures::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use plugnmeet_recorder::protocol::messages::{RecorderToPlugNmeet, RecordingTasks, StatusCode};
use prost::Message;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::measure::{Crop, picture, probe, sound, sync};
use crate::standin::fleet::{Announcement, PING_TIMEOUT, cheapest};
use crate::standin::notices::Mood;
use crate::standin::rtmp::RtmpReceiver;
use crate::standin::{CONSUMER, Deployment, Meeting, Standin};

const SOON: Duration = Duration::from_secs(10);

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn claims(deployment: &Deployment) -> Value {
    json!({ "iss": deployment.api_key, "sub": "node-1", "nbf": now(), "exp": now() + 300, "name": "PLUGNMEET_RECORDER_AUTH", "user_id": "node-1" })
}

fn token(claims: &Value, secret: &str) -> String {
    let signed = format!("{}.{}", BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#), BASE64.encode(claims.to_string()));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

/// Connects as a recorder does, with a new token at every attempt.
async fn recorder(standin: &Standin) -> Client {
    let deployment = standin.deployment.clone();
    let options = ConnectOptions::with_auth_callback(move |_| {
        let mut auth = async_nats::Auth::new();
        auth.token = Some(token(&claims(&deployment), &deployment.api_secret));
        std::future::ready(Ok(auth))
    });
    options.reconnect_delay_callback(|_| Duration::from_millis(100)).connect(standin.nats_url()).await.unwrap()
}

#[tokio::test]
async fn a_recorder_may_do_all_that_the_contract_lists() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let client = recorder(&standin).await;
    let jetstream = jetstream::new(client.clone());
    let Deployment { bucket, jobs, channel, .. } = standin.deployment.clone();

    let store = jetstream.get_key_value(&bucket).await.unwrap();
    store.put("recorder_node-1-FIELD_0", "10".into()).await.unwrap();
    assert_eq!(store.get("recorder_node-1-FIELD_0").await.unwrap().unwrap(), "10");
    assert_eq!(standin.fleet.announcement("node-1").await.unwrap().unwrap().max_limit, Some(10));
    store.purge("recorder_node-1-FIELD_0").await.unwrap();
    assert!(standin.fleet.keys().await.unwrap().is_empty());

    jetstream.publish(jobs.clone(), "a job".into()).await.unwrap().await.unwrap();
    assert_eq!(standin.fleet.queued_jobs().await.unwrap(), [(1, "a job".into())]);
    let consumer: PullConsumer = jetstream.get_consumer_from_stream(CONSUMER, &jobs).await.unwrap();
    let job = consumer.fetch().max_messages(1).messages().await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(standin.fleet.queue().await.unwrap().ack_pending, 1);
    job.double_ack().await.unwrap();
    assert_eq!(standin.fleet.queue().await.unwrap().messages, 0);

    let mut requests = client.subscribe(channel).await.unwrap();
    // An answer to a later request says that the server knows of the subscription; a flush only empties our side.
    jetstream.query_account().await.unwrap();
    let answer = tokio::spawn(async move {
        let request = requests.next().await.unwrap();
        let response = plugnmeet_recorder::protocol::messages::CommonResponse {
            status: true,
            msg: "success".to_owned(),
            status_code: StatusCode::Success.into(),
        };
        client.publish(request.reply.unwrap(), response.encode_to_vec().into()).await.unwrap();
        client.flush().await.unwrap();
    });
    let room = standin.meeting(Meeting::default());
    let reply = standin.fleet.start_recording(&room, "rec-1", "node-1").await.unwrap();
    assert!(reply.response.unwrap().status);
    answer.await.unwrap();
    assert_eq!(standin.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn what_the_contract_does_not_list_is_refused_and_noticed() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let client = recorder(&standin).await;
    let refused = [format!("$JS.API.STREAM.INFO.{}", standin.deployment.jobs), "elsewhere".to_owned()];
    for subject in &refused {
        client.publish(subject.clone(), "".into()).await.unwrap();
    }
    let _kept = client.subscribe("elsewhere.too").await.unwrap();
    // The server handles a connection's messages in order: once this is answered, it has seen the others.
    let store = jetstream::new(client).get_key_value(&standin.deployment.bucket).await.unwrap();
    store.put("k", "v".into()).await.unwrap();
    let violations = standin.violations().join("\n");
    assert_eq!(violations.lines().count(), 3, "{violations}");
    for subject in refused.iter().map(String::as_str).chain(["elsewhere.too"]) {
        assert!(violations.contains(subject), "{violations}");
    }
}

#[tokio::test]
async fn only_a_fresh_token_of_this_deployment_gets_in() {
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let right = claims(&standin.deployment);
    let secret = &standin.deployment.api_secret;
    let with = |key: &str, value: Value| {
        let mut claims = right.clone();
        claims[key] = value;
        token(&claims, secret)
    };
    let wrong = [
        ("signature", token(&right, "another secret")),
        ("no JWT", "plain".to_owned()),
        ("iss", with("iss", "another key".into())),
        ("name", with("name", "PLUGNMEET_USER_AUTH".into())),
        ("user_id", with("user_id", "node-2".into())),
        ("expired", {
            let mut old = right.clone();
            old["nbf"] = (now() - 400).into();
            old["exp"] = (now() - 100).into();
            token(&old, secret)
        }),
        ("not valid yet", with("nbf", (now() + 60).into())),
        ("longer", with("exp", (now() + 3600).into())),
    ];
    for (reason, token) in &wrong {
        let refused = ConnectOptions::with_token(token.clone()).connect(standin.nats_url()).await;
        assert!(refused.is_err(), "{reason}");
        let seen = standin.tokens();
        let seen = seen.last().unwrap().refused.clone().unwrap();
        assert!(seen.contains(reason), "{reason}: {seen}");
    }
    ConnectOptions::with_token(token(&right, secret)).connect(standin.nats_url()).await.unwrap();
    assert_eq!(standin.tokens().last().unwrap().refused, None);
}

#[tokio::test]
async fn nats_comes_back_on_its_port_with_what_it_stored() {
    let standin = Standin::start(Deployment { provisioned: false, ..Deployment::default() }).await.unwrap();
    assert!(standin.fleet.queue().await.is_err());
    standin.fleet.provision().await.unwrap();
    let client = recorder(&standin).await;
    standin.fleet.publish_job("kept").await.unwrap();
    let before = standin.tokens().len();
    standin.kill_nats().unwrap();
    standin.start_nats().await.unwrap();
    standin.wait_for_tokens(before + 1, SOON).await.unwrap();
    assert_eq!(standin.fleet.queue().await.unwrap().messages, 1);
    let store = jetstream::new(client).get_key_value(&standin.deployment.bucket).await.unwrap();
    store.put("k", "v".into()).await.unwrap();
}

#[tokio::test]
async fn a_notice_is_taken_only_if_it_is_signed() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let http = reqwest::Client::new();
    let body = RecorderToPlugNmeet {
        from: "recorder".to_owned(),
        task: RecordingTasks::EndRecording.into(),
        recording_id: "rec-1".to_owned(),
        ..Default::default()
    }
    .encode_to_vec();
    let signature = standin.notices.signature(&body);
    let post = async |signature: &str| {
        let request = http
            .post(format!("{}/auth/recorder/notify", standin.host()))
            .header("API-KEY", &standin.deployment.api_key);
        let request = request.header("HASH-SIGNATURE", signature).header("Content-Type", "application/protobuf");
        request.body(body.clone()).send().await.unwrap().status().as_u16()
    };
    assert_eq!(post(&signature.to_uppercase()).await, 401);
    assert_eq!(standin.notices.refused().len(), 1);
    standin.notices.next(1, Mood::Answer(500));
    assert_eq!(post(&signature).await, 500);
    assert!(standin.notices.of("rec-1").is_empty());
    assert_eq!(post(&signature).await, 200);
    standin.notices.wait_for(RecordingTasks::EndRecording, "rec-1", SOON).await.unwrap();
    assert_eq!(standin.notices.attempts("rec-1").len(), 2);
}

#[tokio::test]
async fn an_unknown_token_gets_the_error_page() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let room = standin.meeting(Meeting::default());
    let get =
        async |query: &str| reqwest::get(format!("{}/{query}", standin.host())).await.unwrap().text().await.unwrap();
    let page = async |query: &str| get(&format!("?access_token={query}")).await;
    assert!(page("nobody's").await.contains("The access token is not valid or expired"));
    let shown = page(&format!("{}&custom_design=%7B%7D", room.token)).await;
    assert!(shown.contains(&room.id) && !shown.contains("not valid"));
    assert!(room.visits()[0].query.ends_with("&custom_design=%7B%7D"));
    // The page asks whether its token is good before anything else.
    let check = async |token: &str| get(&format!("standin/verify?access_token={token}")).await;
    assert_eq!(check(&room.token).await, "null");
    let old = room.with_token_of_age(Duration::from_secs(11 * 60 + 2));
    assert!(check(&old.token).await.contains("Your session has expired"));
    room.end("Room ended", "The session is over");
    assert!(check(&room.token).await.contains("The session is over"));
}

#[test]
fn the_cheapest_recorder_that_is_alive_is_selected() {
    let one = |progress, max, score, cores, ping| Announcement {
        max_limit: Some(max),
        last_ping: Some(ping),
        total_cores: Some(cores),
        current_progress: Some(progress),
        cpu_score: Some(score),
    };
    let now = 1_000_000;
    let pick = |fleet: &[(&str, Announcement)]| {
        let fleet: BTreeMap<_, _> = fleet.iter().map(|(id, one)| ((*id).to_owned(), one.clone())).collect();
        cheapest(&fleet, now, PING_TIMEOUT)
    };
    assert_eq!(one(1, 10, 0.5, 4, now).cost(now, PING_TIMEOUT), Some((0.6 * 0.1 + 0.4 * 0.5) * 0.5));
    // A full node is still chosen if it is cheaper: that is what the server does.
    assert_eq!(pick(&[("busy", one(10, 10, 0.0, 64, now)), ("idle", one(0, 10, 0.5, 2, now))]).unwrap(), "busy");
    assert_eq!(
        pick(&[("silent", one(0, 10, 0.0, 64, now - 8_001)), ("loaded", one(9, 10, 0.9, 2, now - 8_000))]).unwrap(),
        "loaded"
    );
    assert_eq!(pick(&[("out", one(0, 10, 0.0, 64, 0)), ("half", Announcement::default())]), None);
}

#[tokio::test]
async fn the_rtmp_receiver_writes_down_what_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = RtmpReceiver::start(dir.path(), "far").await.unwrap();
    let mut sender = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-nostdin",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=320x180:rate=25:duration=2",
            "-f",
            "lavfi",
            "-i",
            "sine=duration=2",
        ])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-f", "flv", &receiver.url()])
        .spawn()
        .unwrap();
    receiver.wait_for_bytes(10_000, SOON).await.unwrap();
    receiver.wait_until_over(SOON).await.unwrap();
    sender.wait().unwrap();
    let info = probe(receiver.file()).unwrap();
    assert_eq!((info.video().unwrap().codec.as_str(), info.audio().unwrap().codec.as_str()), ("h264", "aac"));
}

/// Has ffmpeg make a file.
fn draw(path: &Path, arguments: &[&str]) {
    let done = Command::new("ffmpeg").args(["-v", "error", "-nostdin"]).args(arguments).arg(path).status().unwrap();
    assert!(done.success());
}

/// Six seconds with a flash at each half second and a beep 40 ms later, in the left third of a moving picture.
fn clip(dir: &Path, name: &str, select: &str, output: &[&str]) -> PathBuf {
    let path = dir.join(name);
    let picture = format!(
        "color=black:size=640x360:rate=50:duration=6,drawbox=w=200:h=360:color=white:t=fill:enable='between(mod(t,1),0.499,0.619)',\
         drawbox=x=220:w=200:h=360:color=0x2860c8:t=fill,{select}"
    );
    let beeps = "aevalsrc='if(between(mod(t,1),0.54,0.64),0.4*sin(2*PI*1000*t),0)+0.001*sin(2*PI*50*t)':s=48000:d=6";
    let inputs = ["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", beeps, "-fps_mode", "vfr"];
    draw(&path, &[inputs.as_slice(), output].concat());
    path
}

#[test]
fn sync_is_measured_to_a_few_milliseconds_also_at_a_variable_frame_rate() {
    let dir = tempfile::tempdir().unwrap();
    let tagged = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-vf",
        "scale=out_color_matrix=bt709:out_range=tv",
        "-colorspace",
        "bt709",
    ];
    let clips = [
        clip(dir.path(), "constant.mp4", "null", &[&tagged[..], &["-c:a", "aac"]].concat()),
        // Frames only where something changes, and one each second: what a damage-driven recorder writes.
        clip(
            dir.path(),
            "variable.mkv",
            "select='not(mod(n,50))+between(mod(t,1),0.499,0.501)+between(mod(t,1),0.619,0.661)'",
            &[&tagged[..], &["-c:a", "pcm_s16le"]].concat(),
        ),
        clip(
            dir.path(),
            "variable.mp4",
            "select='not(mod(n,50))+between(mod(t,1),0.499,0.501)+between(mod(t,1),0.619,0.661)'",
            &[&tagged[..], &["-c:a", "aac"]].concat(),
        ),
        clip(
            dir.path(),
            "late.mkv",
            "select='gte(t,1.2)'",
            &[&tagged[..], &["-c:a", "pcm_s16le", "-copyts", "-output_ts_offset", "3.3"]].concat(),
        ),
    ];
    for clip in &clips {
        let flashes = picture::flashes(clip, Crop::new(20, 20, 160, 320)).unwrap();
        let beeps = sound::beeps(clip, 1000.0).unwrap();
        let sync = sync::pair(&beeps, &flashes, 6);
        assert!((sync.mean() - 40.0).abs() < 3.0 && (sync.worst() - 40.0).abs() < 3.0, "{}: {sync}", clip.display());
        assert_eq!(sync.beeps, 6, "{}: {beeps:?}", clip.display());
        assert_eq!(sound::beeps(clip, 1700.0).unwrap(), Vec::<f64>::new());
        let blue = picture::mean_colour(
            clip,
            if clip.ends_with("late.mkv") { 8.2 } else { 4.9 },
            Crop::new(240, 20, 160, 320),
        )
        .unwrap();
        assert!(blue.iter().zip([0x28, 0x60, 0xc8]).all(|(a, b)| a.abs_diff(b) < 6), "{}: {blue:?}", clip.display());
        assert!(picture::movement(clip, Crop::new(240, 20, 160, 320)).unwrap() < 0.5);
    }
    let sheet = dir.path().join("sheet.png");
    picture::contact_sheet(&clips[1], &sheet).unwrap();
    assert!(sheet.metadata().unwrap().len() > 1000);
}

/// Ten frames of one colour with a box of another in the sixth.
fn torn(dir: &Path, name: &str, drawn: &str) -> PathBuf {
    let path = dir.join(name);
    let filter =
        format!("drawbox={drawn}:color=0x1e3cc8:t=fill:enable='eq(n,5)',scale=out_color_matrix=bt709:out_range=tv");
    let page = "color=0xdc2828:size=1920x1080:rate=10:duration=1";
    let tags = ["-pix_fmt", "yuv420p", "-colorspace", "bt709", "-color_range", "tv"];
    let encoder = ["-c:v", "libx264", "-preset", "ultrafast"];
    draw(&path, &[["-f", "lavfi", "-i", page, "-vf", &filter].as_slice(), &tags, &encoder].concat());
    path
}

#[test]
fn a_frame_of_two_colours_is_told_from_a_whole_one_wherever_it_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let page = Crop::new(0, 0, 1920, 1080);
    let colours = [[0xdc, 0x28, 0x28], [0x1e, 0x3c, 0xc8]];
    let found = |drawn: &str| {
        picture::mixed_frames(&torn(dir.path(), "torn.mkv", &format!("{drawn}:replace=0")), page, colours)
    };
    for drawn in ["y=540:w=1920:h=540", "y=1076:w=1920:h=4", "x=1000:y=500:w=16:h=16"] {
        let mixture = found(drawn).unwrap();
        assert_eq!((mixture.whole, mixture.mixed), ([9, 0], vec![5]), "{drawn}");
        std::fs::remove_file(dir.path().join("torn.mkv")).unwrap();
    }
    let mixture = found("w=1920:h=1080").unwrap();
    assert_eq!((mixture.whole, mixture.mixed), ([9, 1], vec![]));
}

#[test]
fn a_picture_is_like_itself_and_less_like_one_with_a_text_gone() {
    let dir = tempfile::tempdir().unwrap();
    let film = torn(dir.path(), "film.mkv", "x=300:y=300:w=60:h=60");
    let (plain, boxed) = (dir.path().join("plain.png"), dir.path().join("boxed.png"));
    picture::save_frame(&film, 0.0, &plain).unwrap();
    picture::save_frame(&film, 0.5, &boxed).unwrap();
    let area = Crop::new(200, 200, 400, 400);
    let ssim = |at: f64, png: &Path| picture::ssim(&film, at, png, area).unwrap();
    assert!((ssim(0.5, &boxed) - 1.0).abs() < 1e-6);
    assert!(ssim(0.5, &plain) < 0.99, "{}", ssim(0.5, &plain));
}
