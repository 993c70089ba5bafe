//! Which store gets a recording: that of its room's rule, or what a hook answers.

use std::path::Path;

use plugnmeet_recorder::config;
use plugnmeet_recorder::protocol::ids::RoomId;
use plugnmeet_recorder::protocol::job::Job;
use serde_json::json;

use super::node::{delivering, raw, standin, told};
use super::tree;
use crate::hooks::script;
use crate::recorder::{Recorder, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn rooms_and_hooks_choose_among_the_stores_of_the_configuration() {
    let standin = standin().await;
    let stores = ["one", "two"].map(|name| standin.dir().join(name));
    for store in &stores {
        std::fs::create_dir(store).unwrap();
    }
    let [one, two] = stores.each_ref().map(|store| format!("file://{}", store.display()));
    let rules = format!(
        "  rules:\n  - {{room: \"acme-*\", deliver: \"{two}\"}}\n  - {{room: \"quiet-?\", deliver: none}}\n  - {{room: \"*\", \
         keep_local: false}}\n"
    );
    let answer = format!(
        "read -r line; case \"$line\" in *RM_hook*) echo '{{\"store\": \"{two}\"}}';; *RM_none*) echo '{{\"store\": \
         \"none\"}}';; *RM_bad*) echo '{{\"store\": \"s3://KEY:very-secret@eu/elsewhere\"}}';; esac"
    );
    let hook = script(standin.dir(), "choose", &answer);
    let hooks = format!(
        "hooks:\n  post_transcoding:\n    scripts:\n    - {{script: \"{}\", is_one_shot: true}}\n",
        hook.display()
    );
    let setup: Setup = delivering(&one, "true", &(rules + &hooks));
    let recorder = Recorder::spawn(&standin, "node_01", &setup);
    let cases = [
        ("RM_room", "room01", Some(&one), true),
        ("RM_acme", "acme-1", Some(&two), false),
        ("RM_quiet", "quiet-1", None, false),
        ("RM_hook", "room01", Some(&two), true),
        ("RM_none", "acme-2", None, false),
        ("RM_bad", "acme-3", Some(&two), false),
        // As a post_recording hook of another node has answered.
        ("RM_summary", "room01", Some(&two), true),
    ];
    for (id, room, ..) in cases {
        let mut job = Job::decode(&raw(&recorder, id, false)).unwrap();
        job.info.room_id = RoomId::parse(room).unwrap();
        if id == "RM_summary" {
            let summary = super::node::room(&recorder).join(format!("{id}_raw.json"));
            std::fs::write(summary, json!({"recording_id": id, "store": two}).to_string()).unwrap();
        }
        standin.fleet.publish_job(job.encode()).await.unwrap();
    }
    let path = |id: &str| format!("node_01/room01/{id}.mp4");
    for (id, _, store, by_store) in cases {
        let expected = store.filter(|_| by_store).map_or_else(|| path(id), |store| format!("{store}/{}", path(id)));
        assert_eq!(told(&standin, &recorder, id).await, expected, "{id}");
    }
    recorder.wait_until("nothing is on its way", || super::node::uploads(&recorder).is_empty()).await;
    for (dir, url) in stores.iter().zip([&one, &two]) {
        let mut expected: Vec<String> =
            cases.iter().filter(|(_, _, store, _)| *store == Some(url)).map(|(id, ..)| path(id)).collect();
        expected.sort();
        let found: Vec<String> = tree(dir)
            .into_iter()
            .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "mp4"))
            .collect();
        assert_eq!(found, expected, "{url}");
    }
    for (id, _, _, by_store) in cases {
        assert_eq!(recorder.main_path.join(path(id)).exists(), !by_store, "{id}");
    }
    let log = recorder.stop(&["very-secret"]);
    assert_eq!(log.matches("PNR-1416").count(), 1, "{log}");
}

#[test]
fn the_first_rule_that_fits_counts_and_what_it_does_not_say_is_the_sections() {
    let parse = |storage: &str| {
        let text = format!(
            "recorder:\n  id: node_01\n  copy_to_path: {{main_path: /tmp}}\nplugNmeet_info: {{host: 'http://127.0.0.1:9', \
             api_key: k, api_secret: s3cretOfTheApiOfTheServer}}\nnats_info: {{nats_urls: ['nats://127.0.0.1:9']}}\n{storage}"
        );
        config::parse(&text, "config.yaml").map(|(config, _)| config)
    };
    let config = parse(
        "storage:\n  deliver: gs://a\n  keep_local: 1h\n  fail: gs://failed\n  rules:\n  - {room: 'acme-*', deliver: \
         's3://KEYID1:SECRET1@eu/b', archive: none}\n  - {room: 'acme-1', deliver: none}\n  - {room: 'q?', deliver: none, \
         keep_local: false}\n",
    )
    .unwrap();
    let storage = &config.storage;
    let of = |room: &str| {
        let room = RoomId::parse(room).unwrap();
        let url = storage.deliver_for(&room).map(ToString::to_string).unwrap_or_default();
        format!("{url} {:?}", storage.keep_local_for(&room))
    };
    assert_eq!(of("acme-1"), "s3://b For(3600s)");
    assert_eq!(of("other"), "gs://a For(3600s)");
    assert_eq!(of("q1"), " For(0ns)");
    assert!(config.secrets().contains(&"SECRET1") && !format!("{config:?}").contains("SECRET1"));
    let names: Vec<String> = storage.upload_stores().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["gs://a", "s3://b", "gs://failed"]);
    for (storage, said) in [
        ("rules: [{deliver: gs://b}]", "storage.rules[0].room: missing"),
        ("rules: [{room: a}, {room: 'a b'}]", "storage.rules[1].room: found \"a b\""),
        (
            "rules: [{room: a}, {room: b, deliver: 's3://KEYID1:SECRET1@eu/'}]",
            "storage.rules[1].deliver: is not the URL",
        ),
        ("rules: [{room: a, keep_local: perhaps}]", "storage.rules[0].keep_local: found"),
        (
            "deliver: s3://b\n  rules: [{room: a, deliver: 's3://KEYID1:SECRET1@eu/b'}]",
            "names the place of `storage.deliver`",
        ),
        ("rules: yes", "storage.rules: found"),
    ] {
        let problems = parse(&format!("storage:\n  {storage}\n")).unwrap_err().to_string();
        assert!(problems.contains(said) && !problems.contains("SECRET1"), "{problems}");
    }
}
