//! A node with `storage.deliver`, as its operator and its server meet it: killed at the worst instants, with a store that is
//! away, and asked by the server's own storage hooks.

use std::path::{Path, PathBuf};
use std::process::Command;

use plugnmeet_recorder::protocol::messages::RecordingTasks;
use serde_json::{Value, json};

use crate::nats_server::free_port;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::object_store::{Kind, ObjectStore, SECRET};
use crate::standin::store_line::{Ask, Fault, StoreLine};
use crate::standin::{Deployment, Standin};
use crate::survival::job_bytes;
use crate::transcode::{ffmpeg, names};
use crate::workers::ask;

const PROCEEDED: RecordingTasks = RecordingTasks::RecordingProceeded;
const FINISHED: RecordingTasks = RecordingTasks::RecordingTranscodingFinished;
const HOOKS_SECRET: &str = "hooks-secret-of-this-test";

/// A transcoder that remuxes and delivers to this URL.
pub fn delivering(url: &str, keep_local: &str, more: &str) -> Setup {
    Setup {
        mode: Some("transcoderOnly"),
        recorder: "  post_mp4_convert: false\n".to_owned(),
        sections: format!("storage:\n  deliver: \"{url}\"\n  keep_local: {keep_local}\n{more}"),
        ..Setup::default()
    }
}

/// A raw file with its summary, whose MP4 has several parts, or one; the job for it.
pub fn raw(recorder: &Recorder, id: &str, large: bool) -> Vec<u8> {
    let dir = recorder.main_path.join("node_01/room01");
    std::fs::create_dir_all(&dir).unwrap();
    let picture =
        if large { "testsrc2=s=1280x720:r=25:d=6,noise=alls=90:allf=t" } else { "testsrc2=s=320x180:r=25:d=2" };
    let (quality, seconds) = if large { ("10", 6) } else { ("23", 2) };
    ffmpeg(
        &format!(
            "-f lavfi -i {picture} -f lavfi -i sine=d={seconds} -c:v libx264 -preset ultrafast -crf {quality} -c:a aac -f matroska"
        ),
        &dir.join(format!("{id}_raw.mkv")),
    );
    std::fs::write(dir.join(format!("{id}_raw.json")), json!({"recording_id": id}).to_string()).unwrap();
    job_bytes(&dir, id)
}

pub fn room(recorder: &Recorder) -> PathBuf {
    recorder.main_path.join("node_01/room01")
}

pub fn uploads(recorder: &Recorder) -> Vec<String> {
    names(&recorder.state_dir().join("uploads"))
}

pub async fn standin() -> Standin {
    // For the client of this test.
    plugnmeet_recorder::tls::provide_crypto();
    Standin::start(Deployment::default()).await.unwrap()
}

pub async fn told(standin: &Standin, recorder: &Recorder, id: &str) -> String {
    let finished = standin.notices.wait_for(FINISHED, id, 2 * SOON).await;
    assert!(finished.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log())).message.status);
    assert_eq!(standin.notices.tasks_of(id), [PROCEEDED, FINISHED], "{}", recorder.log());
    standin.notices.wait_for(PROCEEDED, id, SOON).await.unwrap().message.file_path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_while_it_delivers_leaves_one_right_object_and_tells_of_it_once() {
    let standin = standin().await;
    for kind in [Kind::Rclone, Kind::Moto] {
        let store = ObjectStore::start(kind).await.unwrap();
        let mut line = StoreLine::to(store.port).await;
        let mut recorder =
            Recorder::spawn(&standin, "node_01", &delivering(&ObjectStore::url(line.port, "pre"), "false", ""));
        // The store has begun, taken or completed what the node never hears of.
        for (round, (ask, before)) in [(Ask::Begin, 0), (Ask::Part, 1), (Ask::Complete, 0)].into_iter().enumerate() {
            // The node's own trial of the store must not meet the fault.
            let tried = || recorder.log().matches("can do what is needed").count() > round;
            recorder.wait_until("it has tried the store", tried).await;
            let id = format!("RM_{kind:?}-{round}");
            let held = line.held();
            line.fails(ask, Fault::Pass, before);
            line.fails(ask, Fault::HoldAnswer, usize::MAX);
            standin.fleet.publish_job(raw(&recorder, &id, true)).await.unwrap();
            line.wait_for_held(held + 1).await;
            recorder.kill();
            let content = std::fs::read(room(&recorder).join(format!("{id}.mp4"))).unwrap();
            assert!(content.len() > 17 << 20, "{} bytes", content.len());
            assert_eq!(standin.notices.tasks_of(&id), [], "before the store has it");
            line.is_well();
            recorder.restart();
            let path = told(&standin, &recorder, &id).await;
            assert_eq!(path, format!("s3://recordings/pre/node_01/room01/{id}.mp4"), "{kind:?}");
            recorder.wait_until("the local file is gone", || names(&room(&recorder)).is_empty()).await;
            recorder.wait_until("no record is left", || uploads(&recorder).is_empty()).await;
            super::assert_stored_with(&store, &id, &content, &super::ALL);
        }
        let log = recorder.stop(&[SECRET]);
        assert!(log.contains("the store has the recording"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_store_that_is_away_a_node_starts_tells_of_local_files_and_lists_what_waits() {
    let standin = standin().await;
    let port = free_port();
    let admin = format!("admin:\n  listen: 127.0.0.1:{port}\n");
    let url = ObjectStore::url(free_port(), "pre");
    let recorder = Recorder::spawn(&standin, "node_01", &delivering(&url, "true", &admin));
    recorder.wait_for_log("PNR-1407").await;
    standin.fleet.publish_job(raw(&recorder, "RM_1", false)).await.unwrap();
    assert_eq!(told(&standin, &recorder, "RM_1").await, "node_01/room01/RM_1.mp4");
    recorder.wait_for_log("PNR-1401").await;
    let list = || serde_json::from_str::<Value>(&ask(&recorder, "store list --json")).unwrap()["uploads"].clone();
    recorder.wait_until("it says why it waits", || list()[0]["failures"].as_u64() >= Some(1)).await;
    let row = list()[0].clone();
    assert!(row["last_error"].as_str().unwrap().contains("cannot be reached"), "{row}");
    assert_eq!((&row["id"], &row["object"]), (&json!("RM_1"), &json!("s3://recordings/pre/node_01/room01/RM_1.mp4")));
    assert!(row["next_try"].is_u64(), "{row}");
    let metrics = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("plugnmeet_recorder_uploads_waiting 1.0"), "{metrics}");
    assert!(ask(&recorder, "store drop RM_1").contains("is delivered no more"));
    recorder.wait_until("it is dropped", || uploads(&recorder).is_empty()).await;
    assert_eq!(ask(&recorder, "store list"), "nothing\n");
    recorder.wait_until("the MP4 is left here", || names(&room(&recorder)) == ["RM_1.mp4"]).await;
    let log = recorder.stop(&[SECRET]);
    assert!(log.contains("PNR-1405"), "{log}");
}

async fn hook(port: u16, secret: &str, name: &str, input_path: &str) -> (u16, Value) {
    let url = format!("http://127.0.0.1:{port}/server-hooks/{secret}/{name}");
    let body = json!({"hook_file_type": "recording", "input_path": input_path}).to_string();
    let answer = reqwest::Client::new().post(url).body(body).send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hooks_of_the_server_get_links_and_delete_and_nobody_else_does() {
    let standin = standin().await;
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let port = free_port();
    let more = format!("  hooks_secret: {HOOKS_SECRET}\nadmin:\n  listen: 127.0.0.1:{port}\n");
    let url = ObjectStore::url(store.port, "pre");
    let recorder = Recorder::spawn(&standin, "node_01", &delivering(&url, "1h", &more));
    standin.fleet.publish_job(raw(&recorder, "RM_1", false)).await.unwrap();
    let path = told(&standin, &recorder, "RM_1").await;
    let content = std::fs::read(room(&recorder).join("RM_1.mp4")).unwrap();
    let (status, answer) = hook(port, HOOKS_SECRET, "download", &path).await;
    assert_eq!((status, &answer["action"]), (200, &json!("redirect")), "{answer}");
    let link = answer["redirect_url"].as_str().unwrap();
    assert!(link.contains("X-Amz-Expires=") && !link.contains(SECRET), "{link}");
    assert!(reqwest::get(link).await.unwrap().bytes().await.unwrap() == content);
    // Neither what is not below the URL, nor with another secret.
    for foreign in
        ["s3://recordings/other/a.mp4", "s3://recordings/pre/../a.mp4", "/etc/passwd", "s3://recordings/pre/none.mp4"]
    {
        let (status, answer) = hook(port, HOOKS_SECRET, "download", foreign).await;
        assert_eq!(status, 404, "{foreign}: {answer}");
    }
    for name in ["download", "delete"] {
        assert_eq!(hook(port, "hooks-secret-of-this-tesT", name, &path).await.0, 404);
    }
    recorder.wait_until("poster and thumbnails are there", || store.keys().len() == super::ALL.len()).await;
    let (status, answer) = hook(port, HOOKS_SECRET, "delete", &path).await;
    assert_eq!((status, answer), (200, json!({"msg": "deleted"})));
    assert_eq!(store.keys(), [] as [String; 0]);
    recorder.wait_until("so is the copy that was kept for an hour", || names(&room(&recorder)).is_empty()).await;
    assert_eq!(uploads(&recorder), [] as [String; 0]);
    let log = recorder.stop(&[SECRET, HOOKS_SECRET]);
    assert!(log.contains("PNR-1409"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_directory_are_served_by_the_server_itself() {
    let standin = standin().await;
    let root = standin.dir().join("store");
    std::fs::create_dir(&root).unwrap();
    let port = free_port();
    let more = format!("  hooks_secret: {HOOKS_SECRET}\nadmin:\n  listen: 127.0.0.1:{port}\n");
    let recorder =
        Recorder::spawn(&standin, "node_01", &delivering(&format!("file://{}", root.display()), "false", &more));
    standin.fleet.publish_job(raw(&recorder, "RM_1", false)).await.unwrap();
    let path = told(&standin, &recorder, "RM_1").await;
    let (status, answer) = hook(port, HOOKS_SECRET, "download", &path).await;
    let file = root.join("node_01/room01/RM_1.mp4");
    let expected =
        json!({"action": "serve_local", "output_path": file.display().to_string(), "mime_type": "video/mp4"});
    assert_eq!((status, answer), (200, expected));
    assert!(Path::new(&file).exists());
    recorder.wait_until("only the store has it", || names(&room(&recorder)).is_empty()).await;
    assert_eq!(hook(port, HOOKS_SECRET, "delete", &path).await.1, json!({"msg": "deleted"}));
    assert!(!file.exists());
    recorder.stop(&[]);
}

#[test]
fn a_check_by_hand_names_what_is_wrong_and_takes_no_key_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    let text = "recorder:\n  id: node_01\n  copy_to_path: {main_path: /tmp}\nplugNmeet_info: {host: 'http://127.0.0.1:9', api_key: k, \
                api_secret: s3cretOfTheApiOfTheServer}\nnats_info: {nats_urls: ['nats://127.0.0.1:9']}\n";
    std::fs::write(&config, text).unwrap();
    let check = |url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plugnmeet-recorder"));
        let said = command.arg("-config").arg(&config).args(["store", "check", url]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (said.status.code(), text(&said.stdout) + &text(&said.stderr))
    };
    let (code, said) = check(&format!("file://{}", dir.path().display()));
    assert_eq!((code, said.matches('✓').count()), (Some(0), 6), "{said}");
    assert_eq!(names(dir.path()), ["config.yaml"]);
    let (code, said) = check("file:///no/such/directory");
    assert!(code == Some(1) && said.contains("PNR-1407") && said.contains("No such file"), "{said}");
    let (code, said) = check("s3://KEY:very-secret@eu/bucket");
    assert!(code == Some(1) && said.contains("PNR-1250") && !said.contains("very-secret"), "{said}");
    let (code, said) = check("gopher://x");
    assert!(code == Some(1) && said.contains("PNR-1250"), "{said}");
}
