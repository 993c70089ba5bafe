//! The page of `examples/standin` in a real Chromium: what a developer does there, with a real recorder.

use std::sync::{Arc, Mutex};

use chromiumoxide::cdp::browser_protocol::log::{EventEntryAdded, LogEntryLevel};
use futures::StreamExt as _;
use plugnmeet_recorder::protocol::messages::{RecorderToPlugNmeet, RecordingTasks};
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::viewing::{axe_core, hostile_names};
use super::{Operator, Tab, ask};
use crate::recorder::{Recorder, Setup, alone};
use crate::standin::{Deployment, Standin};

#[path = "../../../examples/standin/site.rs"]
mod site;

const START: &str = "#form button";
/// The row of the one recording.
const ROW: &str = "#recordings tr";

/// A recorder tells the server, and so the page, whatever it likes.
async fn say(standin: &Standin, recording_id: &str, msg: &str) {
    let (from, task) = ("recorder".to_owned(), RecordingTasks::EndRecording.into());
    let (recording_id, msg) = (recording_id.to_owned(), msg.to_owned());
    let body = RecorderToPlugNmeet { from, task, recording_id, msg, ..Default::default() }.encode_to_vec();
    let request = reqwest::Client::new()
        .post(format!("{}/auth/recorder/notify", standin.host()))
        .header("API-KEY", &standin.deployment.api_key)
        .header("HASH-SIGNATURE", standin.notices.signature(&body))
        .header("Content-Type", "application/protobuf");
    assert_eq!(request.body(body).send().await.unwrap().status(), 200);
}

/// A button of the recording.
fn button(text: &str) -> String {
    format!("[...document.querySelectorAll('{ROW} button')].find((one) => one.textContent === {text:?})")
}

/// Texts are shown as they are, and nothing of them becomes a part of the document.
async fn is_words(tab: &Tab, place: &str, text: &str) {
    let text = json!(text);
    tab.until(&format!("document.querySelector('{place}').textContent.includes({text})")).await;
    for fine in [
        "window.pwned === undefined",
        "document.scripts.length === 1 && document.images.length === 0",
        "document.documentElement.scrollWidth <= innerWidth",
    ] {
        assert_eq!(tab.value(fine).await, json!(true), "{fine}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_developer_starts_stops_and_plays_a_recording_on_the_page_of_the_stand_in() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let turn = alone().await;
    let standin = Arc::new(Standin::start(Deployment::default()).await.unwrap());
    let recorder = Recorder::start(&standin, "node_01", &Setup::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = site::Site::new(standin.clone(), recorder.main_path.clone()).router();
    let _site = AbortOnDropHandle::new(tokio::spawn(async move { axum::serve(listener, router).await }));
    let other_page = ask(port, "POST", "/recordings", &["Sec-Fetch-Site: cross-site", "Connection: close"]).await;
    assert_eq!((other_page.status, &*other_page.text()), (403, "only from this page"));

    let developer = Operator::start().await;
    let tab = developer.open(port).await;
    let console: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut entries = tab.0.event_listener::<EventEntryAdded>().await.unwrap();
    let errors = console.clone();
    let _entries = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(added) = entries.next().await {
            if added.entry.level == LogEntryLevel::Error {
                errors.lock().unwrap().push(added.entry.text.clone());
            }
        }
    }));
    tab.until("document.querySelector('#recorders').textContent === 'node_01'").await;

    // No recorder takes a room of such a name, and the page says which one, and why.
    let hostile = &hostile_names()[0];
    tab.value(&format!("document.querySelector('#room').value = {}", json!(hostile))).await;
    tab.press(START).await;
    is_words(&tab, "#said", &format!("node_01 refuses {hostile}: ")).await;
    assert_eq!(tab.value(&format!("document.querySelectorAll('{ROW}').length")).await, json!(0));

    tab.value("document.querySelector('#room').value = 'tea:room.7'").await;
    tab.press(START).await;
    let cells =
        format!("[...document.querySelectorAll('{ROW} td')].slice(1, 4).map((cell) => cell.textContent).join()");
    tab.until(&format!("{cells} === 'tea:room.7,node_01,records'")).await;
    assert_eq!(tab.value("document.querySelector('#said').textContent").await, json!(""));
    assert_eq!(tab.axe(&axe_core()).await, [] as [String; 0]);
    assert_eq!(tab.value(&format!("{}.focus()", button("Stop"))).await, json!(null));
    tab.press(&format!("{ROW} button:focus")).await;
    tab.until(&format!(
        "!{} && {cells}.endsWith('node_01,ended, waiting for the MP4') || {}",
        button("Stop"),
        button("Play")
    ))
    .await;
    tab.until(&format!("{cells} === 'tea:room.7,node_01,MP4 finished'")).await;
    drop(turn);
    tab.value(&format!("{}.click()", button("Play"))).await;
    tab.until(
        "document.querySelector('#video').currentTime > 0 && document.querySelector('#video').videoWidth === 1920",
    )
    .await;
    tab.keep("standin").await;

    // A recorder that fails says why, in any words.
    let id = tab.value(&format!("document.querySelector('{ROW}').dataset.id")).await;
    let text = hostile_names().join(" ");
    say(&standin, id.as_str().unwrap(), &text).await;
    is_words(&tab, ROW, &format!("failed: {text}")).await;
    assert_eq!(tab.faults().await, json!([]));
    let console = console.lock().unwrap().join("\n");
    // The refusal, as Chrome tells of each answer that is none of success.
    assert!(console.lines().count() == 1 && console.contains("409"), "{console}");
    developer.close().await;
    recorder.stop(&[]);
}
