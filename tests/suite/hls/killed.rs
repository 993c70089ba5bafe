//! `kill -9` in the middle: while ffmpeg makes the renditions, and while the store has some of the files.

use std::collections::BTreeSet;

use super::node::{publish, records, setup, standin};
use super::parse;
use crate::hooks::script;
use crate::recorder::Recorder;
use crate::standin::object_store::{Kind, ObjectStore};
use crate::standin::store_line::StoreLine;
use crate::transcode::names;

/// The directory of its HLS.
const HLS: &str = "node_01/hls/room01/RM_1";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_killed_while_it_is_made_or_delivered_is_there_once_after_the_restart() {
    let standin = standin().await;
    let store = ObjectStore::start(Kind::Rclone).await.unwrap();
    let line = StoreLine::to(store.port).await;
    // As long as this file is there, encoding takes as long as the recording.
    let slow = standin.dir().join("slow");
    std::fs::write(&slow, "").unwrap();
    let text = format!(
        "case \"$*\" in *filter_complex*) [ -e '{}' ] && exec /usr/bin/ffmpeg -re \"$@\";; esac; exec /usr/bin/ffmpeg \"$@\"",
        slow.display()
    );
    let bin = standin.dir().join("bin");
    std::fs::create_dir(&bin).unwrap();
    script(&bin, "ffmpeg", &text);
    let mut setup = setup(format!("storage:\n  deliver: \"{}\"\n", ObjectStore::url(line.port, "pre")));
    setup.path = Some(format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    let mut recorder = Recorder::spawn(&standin, "node_01", &setup);
    let room = publish(&standin, &recorder, "RM_1").await;
    let made_in = recorder.main_path.join("node_01/hls/room01/.RM_1.node_01.part");
    recorder.wait_until("ffmpeg encodes", || made_in.join("180p.mp4").exists()).await;
    recorder.kill();
    assert_eq!(names(&made_in), ["180p.mp4", "audio.mp4", "copy.mp4"]);
    assert_eq!((records(&recorder).len(), recorder.main_path.join(HLS).exists()), (1, false));

    // The pictures come first, then the sound, then the playlists.
    std::fs::remove_file(&slow).unwrap();
    line.stalls_at("/audio-");
    recorder.restart();
    recorder.wait_until("a part of the HLS is in the store", || of_hls(&store).len() == 2).await;
    recorder.kill();
    assert_eq!(records(&recorder).len(), 1);

    line.is_well();
    recorder.restart();
    recorder.wait_until("the store has it", || records(&recorder).is_empty()).await;
    let local: BTreeSet<String> = names(&recorder.main_path.join(HLS)).into_iter().collect();
    assert_eq!(local.len(), 7, "{local:?}");
    assert_eq!(of_hls(&store), local);
    for name in &local {
        let here = std::fs::read(recorder.main_path.join(HLS).join(name)).unwrap();
        assert!(store.read(&format!("pre/{HLS}/{name}")) == here, "{name} is another one in the store");
    }
    assert_eq!(parse(&recorder.main_path.join(HLS)).media.len(), 3);
    recorder.wait_until("its pictures are there", || store.keys().len() == 7 + 4).await;
    assert_eq!(names(made_in.parent().unwrap()), ["RM_1"]);
    assert_eq!((store.keys().len(), store.unfinished_uploads()), (7 + 4, 0), "{:?}", store.keys());
    assert_eq!(names(&room), ["RM_1.mp4"]);
    recorder.stop(&[]);
}

/// The names of its HLS in the store.
fn of_hls(store: &ObjectStore) -> BTreeSet<String> {
    let below = format!("pre/{HLS}/");
    store.keys().iter().filter_map(|key| key.strip_prefix(&below)).map(str::to_owned).collect()
}
