//! What comes with the hooks: the samples, and `hooks test`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use plugnmeet_recorder::protocol::access::RoomAccess;
use plugnmeet_recorder::protocol::ids::{AccessToken, RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::request::{Output, RecordingInfo, Start};
use plugnmeet_recorder::recording::journal::RecordingJournal;
use plugnmeet_recorder::scripts::hooks::payload::HookPayload;
use plugnmeet_recorder::transcode::journal as jobs;
use plugnmeet_recorder::transcode::journal::JobJournal;
use serde_json::{Value, json};

use crate::hooks::{LIMIT, loop_with, once, payload, read, run, script, start, step};
use crate::transcode::job_for;

/// A sample with its environment; a test cannot set its own without disturbing the others.
fn sample(dir: &Path, name: &str, variable: &str, value: &Path) -> PathBuf {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("post_processing_scripts").join(name);
    let text = format!("{variable}='{}' exec '{}'", value.display(), sample.display());
    script(dir, name, &text)
}

#[tokio::test]
async fn the_samples_do_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["in put", "sums", "scratch", "archive"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("in put/x_raw.mkv"), "media").unwrap();
    let sums = sample(dir.path(), "hook_post_recording.sh", "HOOK_CHECKSUM_DIR", &at("sums"));
    let copy = sample(dir.path(), "hook_pre_transcoding.sh", "HOOK_SCRATCH_DIR", &at("scratch"));
    let keep = sample(dir.path(), "hook_post_transcoding.sh", "HOOK_ARCHIVE_DIR", &at("archive"));
    let note = sample(dir.path(), "hook_journal.py", "HOOK_JOURNAL", &at("journal"));
    let steps = vec![step(&note, false), step(&sums, false), step(&keep, false), step(&copy, true)];
    let hooks = start(steps, 1, LIMIT);
    let given = |id: &str| HookPayload { input_path: Some(at("in put")), ..payload(id) };
    for id in ["RM_1", "RM_2"] {
        let after = run(&hooks, given(id)).await.unwrap();
        let copied = after.output_path.clone().unwrap();
        assert!(copied.starts_with(at("scratch")) && after.should_cleanup, "{after:?}");
        assert_eq!(read(&copied.join("x_raw.mkv")), "media");
        let sum = read(&at(&format!("sums/{id}.sha256")));
        assert_eq!(
            sum,
            format!(
                "721c9525ade2ea8903d343ef25cf68b9bf4ab0aad56bb7b01fbe48d09bc7fcf4  {}\n",
                at("in put/x_raw.mkv").display()
            )
        );
    }
    assert_eq!(read(&at("archive/room01/x_raw.mkv")), "media");
    let journal: Vec<Value> = read(&at("journal")).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let noted: Vec<_> = journal.iter().map(|entry| (entry["recording_id"].as_str(), entry["bytes"].as_u64())).collect();
    assert_eq!(noted, [(Some("RM_1"), Some(5)), (Some("RM_2"), Some(5))]);
    hooks.shutdown().await;
    // What is missing fails those for which it matters, with a word of why.
    for (script, one_shot, fails) in
        [(&sums, false, false), (&note, false, false), (&keep, false, true), (&copy, true, true)]
    {
        let ended = once(vec![step(script, one_shot)], payload("RM_3"), LIMIT).await;
        assert_eq!(ended.is_err(), fails, "{}: {ended:?}", script.display());
    }
}

/// What `hooks test` says: its exit code, standard output and standard error.
fn ask(config: &Path, args: &str) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_plugnmeet-recorder"))
        .args(["-config", config.to_str().unwrap(), "hooks", "test"])
        .args(args.split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A configuration with these hooks, and its place.
fn config(dir: &Path, hooks: &str) -> PathBuf {
    let base = dir.display();
    let text = format!(
        "recorder:\n  id: node_01\n  temporary_dir: {base}/parts\n  state_dir: {base}/state\n  copy_to_path:\n    main_path: {base}/main\n    \
         sub_path: sub\nplugNmeet_info:\n  host: http://127.0.0.1:9\n  api_key: key\n  api_secret: the-api-secret-of-this-test\nnats_info:\n  nats_urls: \
         nats://127.0.0.1:9\nhooks:\n  {hooks}\n"
    );
    let path = dir.join("config.yaml");
    fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn an_operator_sees_what_goes_into_each_step_and_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().display();
    let first = script(dir.path(), "first.sh", &loop_with("good").replace("good;", "echo working >&2; good;"));
    let second = script(dir.path(), "second.sh", "cat >/dev/null; echo done");
    let fails = script(dir.path(), "fails.sh", "echo 'no space' >&2; exit 3");
    let config = config(
        dir.path(),
        &format!(
            "post_recording:\n    scripts:\n      - script: {}\n      - script: {}\n        is_one_shot: true\n  pre_transcoding: [{}]",
            first.display(),
            second.display(),
            fails.display()
        ),
    );

    let (code, out, err) = ask(&config, "post_recording");
    assert_eq!(code, Some(0), "{out}{err}");
    for said in [
        "2 step(s), each at most 1h; the scripts really run; nothing is sent",
        "data: made up",
        "step 1: ",
        "first.sh (long-lived script)\n  input   {",
        r#"  output  {"output_path":"/out/RM_sample-1"}"#,
        "second.sh (one-shot script)\n  input   {",
        "  output  none: it put out no JSON object",
        "the stage would succeed, with\n  {",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
    assert!(err.contains("working") && err.contains("first.sh"), "{err}");

    let (code, out, err) = ask(&config, "pre_transcoding -json");
    assert_eq!(code, Some(1), "{out}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert_eq!(lines[1]["input"]["file_name"], "RM_sample-1_raw.mkv");
    assert_eq!(lines[2]["failed"], "it failed (exit code 3); it said: no space");
    assert_eq!((&lines[3]["success"], &lines[3]["stage"]), (&json!(false), &json!("pre_transcoding")));
    assert!(err.contains("no space"), "{err}");

    assert_eq!(ask(&config, "post_transcoding").0, Some(0), "no steps are no fault");
    assert_eq!(ask(&config, "recording").0, Some(2));
    let (code, _, err) = ask(&config, "post_recording --recording-id RM_7-1");
    assert!(code == Some(1) && err.contains("this node knows no recording RM_7-1"), "{err}");
    fs::create_dir_all(dir.path().join("main/sub/room07")).unwrap();
    fs::write(dir.path().join("main/sub/room07/RM_7-1_raw.mkv"), vec![0; 20_000]).unwrap();
    let (code, out, _) = ask(&config, "post_recording --json --recording-id RM_7-1");
    assert_eq!(code, Some(0), "{out}");
    let input = serde_json::from_str::<Value>(out.lines().nth(1).unwrap()).unwrap()["input"].clone();
    assert_eq!(input["input_path"], format!("{base}/main/sub/room07"));
    assert_eq!((&input["room_id"], &input["file_size"]), (&json!("room07"), &json!(0.02)));
    assert_eq!(input["file_name"], "RM_7-1_raw.mkv");
}

#[tokio::test]
async fn hooks_are_tested_with_the_recordings_and_jobs_that_this_node_has_in_hand() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let one = script(dir.path(), "one.sh", "cat >/dev/null; echo '{}'");
    let stages = ["post_recording", "pre_transcoding", "post_transcoding"];
    let hooks: Vec<String> = stages.iter().map(|stage| format!("{stage}: [{}]", one.display())).collect();
    let config = config(dir.path(), &hooks.join("\n  "));
    let input = |stage: &str, id: &str| {
        let (code, out, err) = ask(&config, &format!("{stage} --json --recording-id {id}"));
        assert_eq!(code, Some(0), "{out}{err}");
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines[0]["data"].as_str().unwrap().to_owned(), lines[1]["input"].clone())
    };

    // A recording that is not handed over yet.
    let info = RecordingInfo {
        room_table_id: 41,
        room_id: RoomId::parse("room07").unwrap(),
        room_sid: RoomSid::parse("RM_7").unwrap(),
        recording_id: RecordingId::parse("RM_7-1").unwrap(),
    };
    let access = RoomAccess::Token(AccessToken::parse("the-access-token-of-this-test").unwrap());
    RecordingJournal::new(&state).begin(&Start { info, access, output: Output::File }).await;
    let (origin, told) = input("post_recording", "RM_7-1");
    assert_eq!(origin, format!("the recording's record {}", state.join("recordings/RM_7-1.json").display()));
    assert_eq!(
        (&told["room_id"], &told["room_sid"], &told["room_table_id"]),
        (&json!("room07"), &json!("RM_7"), &json!(41))
    );
    assert_eq!(told["input_path"], json!(dir.path().join("main/sub/room07")));
    assert_eq!(told["file_name"], "RM_7-1_raw.mkv");

    // A job, of another node's recording.
    let room = dir.path().join("main/node_09/room01");
    let job = job_for(&room, "rec-1_raw.mp4");
    JobJournal::new(&state).begin(jobs::JobRecord::new(&job, &job.encode(), None, 1)).await;
    let (origin, told) = input("pre_transcoding", "rec-1");
    assert_eq!(origin, format!("the job {}", state.join("jobs/rec-1.json").display()));
    // As paths: a job names its directory with a slash behind.
    let told_path = |told: &Value| PathBuf::from(told["input_path"].as_str().unwrap());
    assert_eq!((told_path(&told), &told["file_name"]), (room.clone(), &json!("rec-1_raw.mp4")));
    assert_eq!((&told["recorder_id"], &told["room_table_id"]), (&json!("node_01"), &json!(852)));
    let (_, told) = input("post_transcoding", "rec-1");
    assert_eq!((told_path(&told), &told["file_name"]), (room, &json!("rec-1.mp4")));
}
