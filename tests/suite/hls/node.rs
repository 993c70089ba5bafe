//! A node that makes HLS and delivers it: killed while ffmpeg runs, asked to delete it.

use std::path::{Path, PathBuf};

use m3u8_rs::MediaPlaylistType;
use plugnmeet_recorder::hls::live::note::{LiveNote, LiveState, NOTE};
use serde_json::json;

use super::{parse, raw};
use crate::hooks::script;
use crate::nats_server::free_port;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::object_store::{BUCKET, KEY, Kind, ObjectStore, SECRET};
use crate::standin::{Deployment, Standin};
use crate::store::tree;
use crate::survival::job_bytes;
use crate::transcode::names;
use plugnmeet_recorder::protocol::messages::RecordingTasks;

const HOOKS_SECRET: &str = "hooks-secret-of-this-test";

/// A transcoder that remuxes and makes HLS.
pub fn setup(sections: String) -> Setup {
    let recorder = "  post_mp4_convert: false\n".to_owned();
    let hls = "hls:\n  renditions: [{height: 360}, {height: 180}]\n";
    Setup { mode: Some("transcoderOnly"), recorder, sections: sections + hls, ..Setup::default() }
}

pub async fn standin() -> Standin {
    // For the client of this test.
    plugnmeet_recorder::tls::provide_crypto();
    Standin::start(Deployment::default()).await.unwrap()
}

/// Has a raw file made into its MP4; returns the directory of its room once the server was told.
pub async fn publish(standin: &Standin, recorder: &Recorder, id: &str) -> PathBuf {
    let dir = recorder.main_path.join("node_01/room01");
    std::fs::create_dir_all(&dir).unwrap();
    raw(&dir.join(format!("{id}_raw.mkv")));
    standin.fleet.publish_job(job_bytes(&dir, id)).await.unwrap();
    let finished = RecordingTasks::RecordingTranscodingFinished;
    standin.notices.wait_for(finished, id, 2 * SOON).await.unwrap_or_else(|why| panic!("{why:#}\n{}", recorder.log()));
    dir
}

/// The records of what is not there as HLS yet.
pub fn records(recorder: &Recorder) -> Vec<String> {
    names(&recorder.state_dir().join("hls"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_becomes_hls_beside_its_room_and_it_goes_with_its_mp4() {
    let standin = standin().await;
    let mut recorder = Recorder::spawn(&standin, "node_01", &setup(String::new()));
    let room = publish(&standin, &recorder, "RM_1").await;
    recorder.wait_until("it is made", || records(&recorder).is_empty()).await;
    assert_eq!(names(&room), ["RM_1.mp4"], "nothing of ours is in the room's directory");
    let hls = recorder.main_path.join("node_01/hls/room01/RM_1");
    let parsed = parse(&hls);
    assert_eq!((parsed.master.variants.len(), parsed.media.len()), (2, 3));
    assert_eq!(names(hls.parent().unwrap()), ["RM_1"]);
    // The server deletes the MP4, and the node starts anew.
    std::fs::remove_file(room.join("RM_1.mp4")).unwrap();
    recorder.kill();
    recorder.restart();
    recorder.wait_until("the HLS is gone", || !hls.parent().unwrap().exists()).await;
    recorder.stop(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_gets_it_with_headers_for_caches_and_the_mp4_stays_until_then() {
    let standin = standin().await;
    let store = ObjectStore::start(Kind::Moto).await.unwrap();
    let port = free_port();
    let sections = format!(
        "storage:\n  deliver: \"{}\"\n  keep_local: false\n  hooks_secret: {HOOKS_SECRET}\nadmin:\n  listen: 127.0.0.1:{port}\n",
        ObjectStore::url(store.port, "pre")
    );
    let recorder = Recorder::spawn(&standin, "node_01", &setup(sections));
    let room = publish(&standin, &recorder, "RM_1").await;
    recorder.wait_until("the local MP4 is gone", || names(&room).is_empty()).await;
    assert_eq!(records(&recorder), [] as [String; 0], "{}", recorder.log());
    let keys = store.keys();
    let (hls, others): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.starts_with("pre/node_01/hls/room01/RM_1/"));
    assert_eq!((hls.len(), others.len()), (7, 4), "the MP4 and its pictures: {keys:?}");
    assert_eq!(tree(&recorder.main_path.join("node_01/hls")), [] as [String; 0]);
    for key in hls {
        let url = plugnmeet_recorder::config::store_url::StoreUrl::parse(&ObjectStore::url(store.port, "")).unwrap();
        let objects = plugnmeet_recorder::store::handle::Store::open(&url).unwrap();
        let link = objects.presigned(key, SOON).await.unwrap().unwrap();
        let answer = reqwest::get(link).await.unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let expected = if key.contains(".m3u8") {
            ("application/vnd.apple.mpegurl", "no-cache")
        } else {
            ("video/mp4", "public, max-age=31536000, immutable")
        };
        assert_eq!((header("content-type").as_str(), header("cache-control").as_str()), expected, "{key}");
    }
    let body = json!({"input_path": format!("s3://{BUCKET}/pre/node_01/room01/RM_1.mp4")}).to_string();
    let url = format!("http://127.0.0.1:{port}/server-hooks/{HOOKS_SECRET}/delete");
    let answer = reqwest::Client::new().post(url).body(body).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), r#"{"msg":"deleted"}"#);
    assert_eq!(store.keys(), [] as [String; 0]);
    recorder.stop(&[SECRET, KEY, HOOKS_SECRET]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_into_the_store_that_a_hook_has_answered_for_its_mp4() {
    let standin = standin().await;
    let stores = ["one", "two"].map(|name| standin.dir().join(name));
    for store in &stores {
        std::fs::create_dir(store).unwrap();
    }
    let [one, two] = stores.each_ref().map(|store| format!("file://{}", store.display()));
    let answer = format!(
        "read -r line; case \"$line\" in *RM_hook*) echo '{{\"store\": \"{two}\"}}';; *RM_none*) echo '{{\"store\": \
         \"none\"}}';; esac"
    );
    let hook = script(standin.dir(), "choose", &answer);
    let sections = format!(
        "storage:\n  deliver: \"{one}\"\n  rules: [{{room: other, deliver: \"{two}\"}}]\nhooks:\n  post_transcoding:\n    \
         scripts:\n    - {{script: \"{}\", is_one_shot: true}}\n",
        hook.display()
    );
    let recorder = Recorder::spawn(&standin, "node_01", &setup(sections));
    let ids = ["RM_hook", "RM_none", "RM_room"];
    for id in ids {
        publish(&standin, &recorder, id).await;
    }
    recorder.wait_until("all are made and delivered", || records(&recorder).is_empty()).await;
    for id in ids {
        let master = format!("node_01/hls/room01/{id}/master.m3u8");
        assert!(recorder.main_path.join(&master).exists(), "{id}\n{}", recorder.log());
        let there = stores.each_ref().map(|store| store.join(&master).exists());
        assert_eq!(there, [id == "RM_room", id == "RM_hook"], "{id}\n{}", recorder.log());
        let with_mp4 = stores.each_ref().map(|store| store.join(format!("node_01/room01/{id}.mp4")).exists());
        assert_eq!(there, with_mp4, "{id}");
    }
    recorder.stop(&[]);
}

fn copy_published(published: &Path, note: &LiveNote, dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    for name in &note.files {
        std::fs::copy(published.join(name), dir.join(name)).unwrap();
    }
    std::fs::write(dir.join(NOTE), note.to_bytes()).unwrap();
}

/// The HLS of three recordings that were published while they ran: one here, one in the store alone, and one not to its end,
/// as after a kill. A node takes the first two as they are, and makes the last of its MP4.
pub async fn made_of(published: &Path, note: &LiveNote) {
    let standin = standin().await;
    let store = tempfile::tempdir().unwrap();
    let deliver = format!("storage:\n  deliver: \"file://{}\"\n", store.path().display());
    let recorder = Recorder::spawn(&standin, "node_01", &setup(deliver));
    let hls = recorder.main_path.join("node_01/hls/room01");
    let in_store = store.path().join("node_01/hls/room01");
    copy_published(published, note, &in_store.join("RM_3"));
    for (id, state) in [("RM_1", LiveState::Complete), ("RM_2", LiveState::Running)] {
        copy_published(published, &LiveNote { state, ..note.clone() }, &hls.join(id));
        publish(&standin, &recorder, id).await;
    }
    publish(&standin, &recorder, "RM_3").await;
    recorder.wait_until("all are there", || records(&recorder).is_empty()).await;
    let mut files = note.files.clone();
    files.sort();
    assert_eq!(names(&hls.join("RM_1")), files, "{}", recorder.log());
    for name in &files {
        let bytes = std::fs::read(published.join(name)).unwrap();
        for dir in [hls.join("RM_1"), in_store.join("RM_1"), in_store.join("RM_3")] {
            assert_eq!(std::fs::read(dir.join(name)).unwrap(), bytes, "{name} was made again");
        }
    }
    // The note is gone, and what another node has published is in the store alone.
    assert_eq!((names(&in_store.join("RM_3")), hls.join("RM_3").exists()), (files, false));
    let made = parse(&hls.join("RM_2"));
    assert!(made.media.values().all(|playlist| playlist.playlist_type == Some(MediaPlaylistType::Vod)));
    assert_eq!(names(&hls.join("RM_2")).len(), 7, "{:?}", names(&hls.join("RM_2")));
    let log = recorder.stop(&[]);
    assert_eq!(log.matches("the recording is there as HLS since it ran").count(), 2, "{log}");
    assert_eq!(log.matches("the recording is there as HLS master=").count(), 1, "{log}");
}
