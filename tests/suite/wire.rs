//! Every message against golden bytes that were made from the public definitions with protoc, both ways.

use std::path::Path;
use std::time::Duration;

use plugnmeet_recorder::codes;
use plugnmeet_recorder::protocol::ids::RecorderId;
use plugnmeet_recorder::protocol::job::{Job, Work};
use plugnmeet_recorder::protocol::messages::{
    CommonResponse, PlugNmeetToRecorder, RecorderToPlugNmeet, StatusCode, TranscodingTask, transcoding_task,
};
use plugnmeet_recorder::protocol::notice::{Notice, NoticeEvent};
use plugnmeet_recorder::protocol::request::{self, Kind, Request};
use plugnmeet_recorder::protocol::signature::hash_signature;
use plugnmeet_recorder::protocol::token::nats_token;
use prost::Message;
use serde_json::{Map, Value, json};

const VECTORS: &str = include_str!("fixtures/wire.json");

struct Vector {
    name: String,
    message: String,
    bytes: Vec<u8>,
    fields: Map<String, Value>,
}

fn vectors() -> Vec<Vector> {
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let vector = |one: &Value| Vector {
        name: text(&one["name"]),
        message: text(&one["message"]),
        bytes: hex::decode(one["hex"].as_str().unwrap()).unwrap(),
        fields: one["fields"].as_object().unwrap().clone(),
    };
    all["protobuf"].as_array().unwrap().iter().map(vector).collect()
}

fn bytes_of(name: &str) -> Vec<u8> {
    vectors().into_iter().find(|vector| vector.name == name).unwrap().bytes
}

/// The fields of a decoded message as the vectors name them; what has its default is left out, as it is on the wire.
fn fields_of(message: &str, bytes: &[u8]) -> Map<String, Value> {
    let fields = match message {
        "PlugNmeetToRecorder" => {
            let m = PlugNmeetToRecorder::decode(bytes).unwrap();
            json!({
                "from": m.from, "task": m.task, "room_table_id": m.room_table_id, "room_id": m.room_id,
                "room_sid": m.room_sid, "recording_id": m.recording_id, "recorder_id": m.recorder_id,
                "access_token": m.access_token, "rtmp_url": m.rtmp_url,
            })
        }
        "RecorderToPlugNmeet" => {
            let m = RecorderToPlugNmeet::decode(bytes).unwrap();
            let size = (f64::from(m.file_size) * 100.0).round() / 100.0;
            json!({
                "from": m.from, "task": m.task, "status": m.status, "msg": m.msg, "recording_id": m.recording_id,
                "room_table_id": m.room_table_id, "room_id": m.room_id, "room_sid": m.room_sid,
                "recorder_id": m.recorder_id, "file_path": m.file_path,
                "file_size": if size == 0.0 { Value::Null } else { json!(size) },
                "recording_variant": m.recording_variant.map(|variant| json!({ "explicit": variant })),
            })
        }
        "CommonResponse" => {
            let m = CommonResponse::decode(bytes).unwrap();
            json!({ "status": m.status, "msg": m.msg, "status_code": m.status_code })
        }
        "TranscodingTask" => {
            let m = TranscodingTask::decode(bytes).unwrap();
            let mut fields = json!({
                "recording_id": m.recording_id, "room_id": m.room_id, "room_sid": m.room_sid,
                "room_table_id": m.room_table_id, "recorder_id": m.recorder_id,
            });
            match m.work.unwrap() {
                transcoding_task::Work::PostRecording(post) => {
                    fields["post_recording"] = json!({
                        "file_path": post.file_path, "file_name": post.file_name,
                        "recording_variant": post.recording_variant,
                    });
                }
                transcoding_task::Work::MergeRecordings(merge) => {
                    fields["merge_recordings"] = json!({ "file_paths": merge.file_paths });
                }
            }
            fields
        }
        other => panic!("no such message: {other}"),
    };
    let mut fields: Map<_, _> =
        fields.as_object().unwrap().iter().filter(|(_, v)| is_set(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
    // Explicit presence: a 0 that is set is on the wire.
    if let Some(variant) = fields.get_mut("recording_variant") {
        *variant = variant["explicit"].clone();
    }
    fields
}

/// Proto3 puts nothing on the wire for a field that has its default.
fn is_set(value: &Value) -> bool {
    !(value.is_null() || *value == json!(0) || *value == json!("") || *value == json!(false))
}

fn encode_again(message: &str, bytes: &[u8]) -> Vec<u8> {
    match message {
        "PlugNmeetToRecorder" => PlugNmeetToRecorder::decode(bytes).unwrap().encode_to_vec(),
        "RecorderToPlugNmeet" => RecorderToPlugNmeet::decode(bytes).unwrap().encode_to_vec(),
        "CommonResponse" => CommonResponse::decode(bytes).unwrap().encode_to_vec(),
        "TranscodingTask" => TranscodingTask::decode(bytes).unwrap().encode_to_vec(),
        other => panic!("no such message: {other}"),
    }
}

#[test]
fn golden_bytes_are_read_and_written_exactly() {
    let vectors = vectors();
    assert!(vectors.len() >= 14, "{}", vectors.len());
    for Vector { name, message, bytes, fields } in vectors {
        let wanted: Map<String, Value> =
            fields.into_iter().filter(|(key, value)| is_set(value) || key == "recording_variant").collect();
        assert_eq!(fields_of(&message, &bytes), wanted, "{name}");
        assert_eq!(hex::encode(encode_again(&message, &bytes)), hex::encode(&bytes), "{name}");
    }
}

#[test]
fn the_vectors_are_those_of_the_contract() {
    // Only where the project's shared material lies beside it.
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/wire.json");
    if let Ok(shared) = std::fs::read_to_string(shared) {
        assert_eq!(shared, VECTORS);
    }
}

#[test]
fn requests_of_the_server_become_what_they_ask_for() {
    let me = RecorderId::parse("node_01").unwrap();
    let read = |name| request::read(&bytes_of(name), &me).unwrap().unwrap();
    let Request::Start(start) = read("start_recording") else { panic!() };
    assert_eq!((start.kind(), start.info.room_table_id), (Kind::Recording, 852));
    assert_eq!(start.access.sent().unwrap().expose(), "tok.en.abc");
    let Request::Start(start) = read("start_rtmp") else { panic!() };
    assert_eq!(start.kind(), Kind::Broadcast);
    for (name, wanted) in [
        ("stop_recording", &[Kind::Recording][..]),
        ("stop_rtmp", &[Kind::Broadcast]),
        ("stop_all", &[Kind::Recording, Kind::Broadcast]),
    ] {
        let Request::Stop { room_table_id: 852, kinds } = read(name) else { panic!("{name}") };
        assert_eq!(kinds, wanted, "{name}");
    }
}

#[test]
fn replies_are_written_as_the_server_reads_them() {
    // The golden replies carry no status code; ours adds one, which an older server skips.
    let mut accepted = request::accepted();
    accepted.status_code = 0;
    assert_eq!(accepted.encode_to_vec(), bytes_of("reply_ok"));
    let mut refused = request::refused(StatusCode::Conflict, codes::REFUSED_IN_PROGRESS, "this request in progress");
    refused.status_code = 0;
    assert_eq!(refused.encode_to_vec(), bytes_of("reply_refused"));
}

#[test]
fn notices_carry_what_the_golden_ones_carry() {
    let job = Job::decode(&bytes_of("job_post_recording")).unwrap();
    let proceeded = NoticeEvent::Proceeded {
        file_path: "node_01/room01/RM_b6UvReYDngee-1700133937567.mp4".into(),
        file_size: 12_340_000,
        variant: 0,
        note: None,
    };
    for (name, event) in [
        ("started", NoticeEvent::Started(Kind::Recording)),
        ("ended", NoticeEvent::Ended(Kind::Recording, Ok(()))),
        ("ended_with_error", NoticeEvent::Ended(Kind::Recording, Err("browser crashed".into()))),
        ("proceeded", proceeded),
        ("transcoding_finished", NoticeEvent::Finished(Ok(()))),
    ] {
        let mut message = Notice { info: job.info.clone(), recorder_id: job.recorder_id.clone(), event }.to_message();
        // Ours name the room as well (PROTOCOL 5, fields 6 and 7); the golden ones leave that out.
        assert_eq!((message.room_id.as_str(), message.room_sid.as_str()), ("room01", "RM_b6UvReYDngee"));
        message.room_id.clear();
        message.room_sid.clear();
        assert_eq!(hex::encode(message.encode_to_vec()), hex::encode(bytes_of(name)), "{name}");
    }
}

#[test]
fn jobs_are_written_as_other_transcoders_read_them() {
    let bytes = bytes_of("job_post_recording");
    assert_eq!(hex::encode(Job::decode(&bytes).unwrap().encode()), hex::encode(bytes));
    let merge = Job::decode(&bytes_of("job_merge_recordings")).unwrap();
    assert!(matches!(&merge.work, Work::Merge { paths } if paths.len() == 2));
    assert_eq!(merge.encode(), bytes_of("job_merge_recordings"));
}

#[test]
fn the_signature_is_the_one_the_server_computes() {
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    let hmac = &all["hmac"];
    let body = bytes_of(hmac["body_of"].as_str().unwrap());
    assert_eq!(hash_signature(hmac["api_secret"].as_str().unwrap(), &body), hmac["hash_signature"].as_str().unwrap());
}

#[test]
fn a_token_is_new_at_every_moment() {
    let me = RecorderId::parse("node_01").unwrap();
    let at = |seconds| nats_token("key", "secret", &me, Duration::from_secs(seconds));
    assert_ne!(at(1), at(2));
    assert_eq!(at(1), at(1));
}
