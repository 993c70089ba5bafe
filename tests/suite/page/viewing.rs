//! The page in a real Chromium, of a real node that records.

use plugnmeet_recorder::protocol::messages::RecordingTasks;
use rustix::process::Signal;
use serde_json::json;

use super::{Operator, TOKEN, Tab, ask, own, session};
use crate::nats_server::free_port;
use crate::recorder::{Recorder, Setup, alone};
use crate::recording::{ENDED, mp4, record, wait_for};
use crate::signals::{admin, metrics};
use crate::standin::{Deployment, Meeting, Standin};

const RECORDING: &str = "[id='cards'] .card";

/// What somebody may have called his room.
pub(super) fn hostile_names() -> [String; 3] {
    [
        "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>".to_owned(),
        "\u{202e}gnp.exe مرحبا \u{2067}שלום".to_owned(),
        "W".repeat(300),
    ]
}

/// Jobs that were given up, of rooms with such names, and a record that cannot be read, with such a name.
fn put_hostile_state(recorder: &Recorder) {
    let golden = include_str!("../../golden/state/jobs/job-given-up.json");
    std::fs::create_dir_all(recorder.state_dir().join("jobs")).unwrap();
    std::fs::create_dir_all(recorder.state_dir().join("broadcasts")).unwrap();
    for (number, name) in hostile_names().iter().enumerate() {
        let mut record: serde_json::Value = serde_json::from_str(golden).unwrap();
        record["recording_id"] = json!(format!("job-{number}"));
        record["room_id"] = json!(name);
        record["last_error"] = json!(format!("ffmpeg: {name}"));
        std::fs::write(recorder.state_dir().join(format!("jobs/job-{number}.json")), record.to_string()).unwrap();
    }
    std::fs::write(recorder.state_dir().join("broadcasts/<img src=x onerror='window.pwned = 1'>.json"), "{").unwrap();
}

/// Two messages of a recording that no server can read, from `tests/golden`.
fn put_message(recorder: &Recorder) {
    let mut file: serde_json::Value =
        serde_json::from_str(include_str!("../../golden/state/outbox/rec-told.json")).unwrap();
    let letters = file["letters"].as_array_mut().unwrap();
    letters.retain(|letter| ["proceeded", "finished"].contains(&letter["key"].as_str().unwrap()));
    for letter in letters.iter_mut() {
        letter["state"] = json!({"is": "waiting"});
    }
    std::fs::write(recorder.state_dir().join("outbox/rec-waits.json"), file.to_string()).unwrap();
}

pub(super) fn axe_core() -> String {
    std::fs::read_to_string("target/tools/axe.min.js").expect("tools/install-deps fetches it")
}

/// Pictures that were made for who looks.
async fn thumbnails(port: u16) -> f64 {
    metrics(port).await["thumbnails_total{}"]
}

/// Waits until so many frames more were captured.
async fn capture(port: u16, frames: f64) {
    let before = metrics(port).await["frames_total{}"];
    while metrics(port).await["frames_total{}"] < before + frames {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The colour of the picture at a place, in shares of its size.
async fn colour(tab: &Tab, x: f64, y: f64) -> Vec<i64> {
    let look = format!(
        "(() => {{ const img = document.querySelector(\"{RECORDING} img\"), canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [img.naturalWidth, img.naturalHeight];
        const pen = canvas.getContext('2d');
        pen.drawImage(img, 0, 0);
        return [...pen.getImageData(canvas.width * {x}, canvas.height * {y}, 1, 1).data]; }})()"
    );
    tab.value(&look).await.as_array().unwrap().iter().map(|value| value.as_i64().unwrap()).collect()
}

async fn log_in(tab: &Tab) {
    tab.until("document.querySelector('#login').checkVisibility()").await;
    tab.value("document.querySelector('#token').value = 'a-wrong-token-of-somebody'").await;
    tab.press("#login-form button").await;
    tab.until("document.querySelector('#login-why').textContent.includes('not the token')").await;
    tab.value(&format!("document.querySelector('#token').value = '{TOKEN}'")).await;
    tab.press("#login-form button").await;
    tab.until("document.querySelector('#view').checkVisibility()").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_what_runs_and_is_obeyed() {
    let turn = alone().await;
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let port = free_port();
    let setup = Setup { sections: admin(port, &format!("  token: {TOKEN}\n")), ..Setup::default() };
    let mut recorder = Recorder::start(&standin, "node_01", &setup).await;
    put_hostile_state(&recorder);
    let room = standin.meeting(Meeting { webcams: 2, ..Meeting::default() });
    record(&standin, &recorder, &room, "RM_1").await;
    capture(port, 20.0).await;
    assert_eq!(thumbnails(port).await.to_bits(), 0f64.to_bits(), "nobody looks");

    let operator = Operator::start().await;
    let door = operator.open(port).await;
    door.until("document.querySelector('#login').checkVisibility()").await;
    assert_eq!(door.axe(&axe_core()).await, [] as [String; 0], "the login");
    door.0.close().await.unwrap();
    let tab = operator.open(port).await;
    log_in(&tab).await;
    // What is captured is seen and heard.
    tab.until(&format!("document.querySelector(\"{RECORDING} img\")?.naturalWidth === 480")).await;
    let seen = colour(&tab, 1570.0 / 1920.0, 940.0 / 1080.0).await;
    assert!(seen.iter().zip([40, 90, 200]).all(|(seen, is)| (seen - is).abs() < 25), "the room's colour is {seen:?}");
    tab.until(&format!("+document.querySelector(\"{RECORDING} [role=meter]\").ariaValueNow > -40")).await;
    tab.until(&format!("document.querySelector(\"{RECORDING}\").innerText.includes('{}')", room.id)).await;
    tab.until(&format!("document.querySelector(\"{RECORDING}\").innerText.includes('cores')")).await;
    tab.until("document.querySelector('#disks').innerText.includes('free of')").await;
    tab.until("document.querySelector('#fleet').innerText.includes('node_01')").await;
    tab.until("document.querySelector('#log').innerText.includes('wrong token')").await;

    // Another one looks too, and as many as like get the same picture.
    let other = operator.open(port).await;
    other.until(&format!("document.querySelector(\"{RECORDING} img\")?.naturalWidth === 480")).await;
    hostile_names_are_words(&tab).await;
    look_at_it(&tab).await;
    tab.until(&format!("document.querySelector(\"{RECORDING}\").checkVisibility()")).await;
    jobs_and_drain(&tab, &other, port, &recorder).await;
    for tab in [&tab, &other] {
        assert_eq!(tab.faults().await, json!([]));
    }
    let cookie = session(port).await;
    other.0.close().await.unwrap();
    tab.0.close().await.unwrap();
    one_picture_for_many(port, &cookie).await;

    // Nobody looks any more.
    let before = thumbnails(port).await;
    capture(port, 40.0).await;
    assert_eq!(thumbnails(port).await.to_bits(), before.to_bits(), "nobody looks");

    let tab = operator.open(port).await;
    tab.order(&format!("{RECORDING} .danger")).await;
    // As of every end that the server has not asked for, the room is told why.
    let told = wait_for(&standin, &recorder, ENDED, "RM_1").await;
    assert_eq!(told, (false, "an operator has stopped it".to_owned()));
    drop(turn);
    wait_for(&standin, &recorder, RecordingTasks::RecordingTranscodingFinished, "RM_1").await;
    let file = std::fs::read(mp4(&standin, &recorder, "RM_1")).unwrap();
    parts_of(&file, port, &cookie).await;

    // It stands still under the open page, which says so, also of an order.
    recorder.signal(Signal::STOP);
    tab.order("[aria-label='Retry the job of job-1']").await;
    tab.until("document.querySelector('#link').textContent.includes('no answer')").await;
    tab.until("document.querySelector('#toast').textContent.includes('nothing is known of the order')").await;
    recorder.signal(Signal::CONT);
    tab.until("document.querySelector('#link').textContent === '' && connected").await;

    // A restart under the open page: it comes back, still logged in, and plays what was recorded.
    recorder.kill();
    put_message(&recorder);
    tab.until("document.querySelector('#link').textContent.includes('no answer')").await;
    tab.value("window.same = true").await;
    recorder.restart();
    tab.until(
        "document.querySelector('#link').textContent === '' && document.querySelector('#view').checkVisibility()",
    )
    .await;
    // One message of a recording, which the server refuses, is given up; the other one is not.
    let drop = |message: &str| format!("[aria-label='Drop the message {message} of rec-waits']");
    tab.until(&format!("document.querySelector(\"{}\")", drop("proceeded"))).await;
    tab.order(&drop("finished")).await;
    tab.until(&format!("!document.querySelector(\"{}\")", drop("finished"))).await;
    let kept = std::fs::read_to_string(recorder.state_dir().join("outbox/rec-waits.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let states = ["finished", "proceeded"].map(|key| {
        let letters = kept["letters"].as_array().unwrap();
        letters.iter().find(|letter| letter["key"] == key).map(|letter| letter["state"]["is"].clone())
    });
    assert_eq!(states, [Some(json!("dropped")), Some(json!("refused"))], "{kept}");
    tab.until("document.querySelector('#ready').textContent === 'ready'").await;
    assert_eq!(tab.value("window.same").await, json!(true), "it was loaded again");
    watch(&tab).await;
    assert_eq!(tab.faults().await, json!([]));
    operator.close().await;
    let log = recorder.stop(&[TOKEN, &room.token, cookie.split_once('=').unwrap().1]);
    assert!(log.contains("an operator stops it on the node's page"), "{log}");
}

/// Names are shown as they are, and nothing of them becomes a part of the document.
async fn hostile_names_are_words(tab: &Tab) {
    for name in hostile_names() {
        let name = json!(name);
        tab.until(&format!("[...document.querySelectorAll('#jobs .clip')].some((one) => one.textContent === {name})"))
            .await;
    }
    tab.until("document.querySelector('#kept').innerText.includes('<img src=x')").await;
    for fine in [
        "window.pwned === undefined",
        "document.scripts.length === 1",
        "document.querySelectorAll('img').length === document.querySelectorAll('.card').length",
        "document.documentElement.scrollWidth <= innerWidth",
    ] {
        assert_eq!(tab.value(fine).await, json!(true), "{fine}");
    }
}

/// As axe-core, a phone and a dark room see it.
async fn look_at_it(tab: &Tab) {
    let axe = axe_core();
    for (name, phone, dark) in
        [("light", false, false), ("dark", false, true), ("phone", true, false), ("phone-dark", true, true)]
    {
        tab.on_phone(phone).await;
        tab.dark(dark).await;
        assert_eq!(tab.value("document.documentElement.scrollWidth <= innerWidth").await, json!(true), "{name}");
        tab.keep(name).await;
        assert_eq!(tab.axe(&axe).await, [] as [String; 0], "{name}");
    }
    tab.on_phone(false).await;
    tab.dark(false).await;
}

/// What one has ordered, the other one sees.
async fn jobs_and_drain(tab: &Tab, other: &Tab, port: u16, recorder: &Recorder) {
    let record = |number: usize| recorder.state_dir().join(format!("jobs/job-{number}.json"));
    let button = |name: &str, number: usize| format!("[aria-label='{name} the job of job-{number}']");
    // He thinks better of it.
    tab.press(&button("Drop", 0)).await;
    tab.until("document.querySelector('#ask').open").await;
    tab.press("#ask button[value=no]").await;
    tab.until("!document.querySelector('#ask').open").await;
    assert!(record(0).exists());
    tab.order(&button("Drop", 0)).await;
    other.until(&format!("!document.querySelector(\"{}\")", button("Drop", 0))).await;
    assert!(!record(0).exists());
    // Its record names another room than its payload, and is refused: said, and nothing is lost.
    tab.order(&button("Retry", 1)).await;
    tab.until("document.querySelector('#toast').textContent.includes('that of another job')").await;
    assert!(record(1).exists());

    tab.order("#drain").await;
    other.until("document.querySelector('#ready').textContent === 'drained'").await;
    assert_eq!(ask(port, "GET", "/readyz", &[]).await.status, 503);
    other.order("#drain").await;
    tab.until("document.querySelector('#ready').textContent === 'ready'").await;
    assert_eq!(ask(port, "GET", "/readyz", &[]).await.status, 200);
}

async fn one_picture_for_many(port: u16, cookie: &str) {
    let before = thumbnails(port).await;
    let path = "/page/recordings/recording/RM_1/thumbnail";
    let headers = [cookie];
    let pictures = futures::future::join_all((0..8).map(|_| ask(port, "GET", path, &headers))).await;
    for picture in &pictures {
        assert_eq!((picture.status, picture.header("content-type")), (200, Some("image/jpeg")), "{picture:?}");
        assert!(picture.body.starts_with(&[0xff, 0xd8, 0xff]));
    }
    // One is good for a second, which may pass meanwhile.
    let made = thumbnails(port).await - before;
    assert!(made <= 2.0, "{made} pictures for eight who asked at once");
}

/// The parts of the MP4 that a player asks for.
async fn parts_of(file: &[u8], port: u16, cookie: &str) {
    let path = "/page/finished/RM_1/video";
    let all = ask(port, "GET", path, &[cookie]).await;
    assert_eq!((all.status, all.header("accept-ranges")), (200, Some("bytes")));
    assert!(all.body == file, "{} of {} bytes", all.body.len(), file.len());
    let tag = all.header("etag").unwrap().to_owned();
    let len = file.len();
    for (range, first, last) in [
        ("bytes=0-99".to_owned(), 0, 99),
        (format!("bytes={}-", len - 10), len - 10, len - 1),
        ("bytes=-7".to_owned(), len - 7, len - 1),
        // More than one piece of what is read at once.
        (format!("bytes=1-{}", 400 << 10), 1, (400 << 10).min(len - 1)),
    ] {
        let some = ask(port, "GET", path, &[cookie, &format!("Range: {range}")]).await;
        assert_eq!((some.status, some.header("content-range")), (206, Some(&*format!("bytes {first}-{last}/{len}"))));
        assert!(some.body == file[first..=last], "{range}");
        let some = ask(port, "GET", path, &[cookie, &format!("Range: {range}"), &format!("If-Range: {tag}")]).await;
        assert_eq!(some.status, 206);
        let other = ask(port, "GET", path, &[cookie, &format!("Range: {range}"), "If-Range: \"other\""]).await;
        assert_eq!((other.status, other.body.len()), (200, len));
    }
    let beyond = ask(port, "GET", path, &[cookie, &format!("Range: bytes={len}-")]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some(&*format!("bytes */{len}"))));
    let head = ask(port, "HEAD", path, &[cookie]).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some(&*len.to_string()), 0));
    let [origin, site] = own(port);
    let told = ask(port, "GET", "/page/finished/RM_1/summary", &[cookie, &origin, &site]).await;
    let summary: serde_json::Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!((&summary["cause"], &summary["recording_id"]), (&json!("an operator has stopped it"), &json!("RM_1")));
}

/// The recording plays in the page, with pictures of it and its summary.
async fn watch(tab: &Tab) {
    tab.press("[aria-label='Play of RM_1']").await;
    tab.until("document.querySelectorAll('#strip canvas').length === 12").await;
    tab.until("document.querySelector('#facts').innerText.includes('silence share')").await;
    tab.keep("player").await;
    assert_eq!(tab.axe(&axe_core()).await, [] as [String; 0], "the player");
    tab.press("#strip li:nth-child(6) button").await;
    tab.until("Math.abs(video.currentTime - video.duration * 5.5 / 12) < 0.1").await;
    tab.value("video.muted = true; video.currentTime = video.duration - 1; video.play()").await;
    tab.until("video.ended").await;
    tab.press("#player-close").await;
    tab.until("!document.querySelector('#player').open && !video.hasAttribute('src')").await;
}
