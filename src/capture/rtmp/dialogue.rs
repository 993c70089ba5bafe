//! What a publisher and a server say to each other (RTMP 1.0, 7.2): the relay is a server to ffmpeg and a publisher to
//! the far end. Pure.

use crate::capture::rtmp::amf::{push_null, push_number, push_object, push_string};
use crate::capture::rtmp::chunk_stream::{ByteReader, COMMAND, RtmpMessage, SET_CHUNK_SIZE, USER_CONTROL};

/// Chunk size in bytes of both connections after their beginning, as other publishers have it.
const CHUNK_SIZE: u32 = 4096;
/// Chunk streams for control messages (5.4), commands and commands about a stream.
const CONTROL_CHUNKS: u32 = 2;
const COMMAND_CHUNKS: u32 = 3;
const STREAM_CHUNKS: u32 = 8;
/// The message stream that ffmpeg publishes to.
const ENCODER_STREAM: u32 = 1;
/// Transactions of the relay's commands; ffmpeg's `connect` has 1.
pub const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
pub const CREATE_STREAM: f64 = 4.0;
const PUBLISH: f64 = 5.0;
/// User control events (7.1.7).
const PING: u16 = 6;
const PONG: u16 = 7;
/// Length limit of a far end's words in a cause, in characters.
const WORDS_LIMIT: usize = 400;

/// What a far end says.
#[derive(Clone, Debug, PartialEq)]
pub enum FarEndMessage {
    /// A command has succeeded: its transaction, and the number that it returned.
    Result(f64, Option<f64>),
    /// A command has failed: its transaction, and why.
    Error(f64, String),
    Publishing,
    /// The stream is refused or has been ended, in the far end's words.
    Refused(String),
    /// Asks for this answer.
    Ping(RtmpMessage),
    Other,
}

/// Reads a message of the far end.
#[must_use]
pub fn far_end_message(message: &RtmpMessage) -> FarEndMessage {
    match message.kind {
        USER_CONTROL => ping(&message.payload),
        COMMAND => command(&message.payload),
        _ => None,
    }
    .unwrap_or(FarEndMessage::Other)
}

fn ping(payload: &[u8]) -> Option<FarEndMessage> {
    let mut answer = payload.to_vec();
    let event = answer.first_chunk_mut::<2>().filter(|event| **event == PING.to_be_bytes())?;
    *event = PONG.to_be_bytes();
    Some(FarEndMessage::Ping(control(USER_CONTROL, answer)))
}

fn command(payload: &[u8]) -> Option<FarEndMessage> {
    let mut values = ByteReader { bytes: payload, at: 0 };
    let name = values.string()?;
    let transaction = values.float()?;
    let _properties = values.value(0);
    let at = values.at;
    let mut property = |name| {
        values.at = at;
        values.property(name).map(|text| String::from_utf8_lossy(text).into_owned())
    };
    match name {
        b"_result" => {
            values.at = at;
            Some(FarEndMessage::Result(transaction, values.float()))
        }
        b"_error" => {
            let words = property("description").or_else(|| property("code"));
            Some(FarEndMessage::Error(transaction, words_of(words)))
        }
        b"onStatus" => {
            let code = property("code").unwrap_or_default();
            let level = property("level").unwrap_or_default();
            if code == "NetStream.Publish.Start" {
                return Some(FarEndMessage::Publishing);
            }
            let ends = level == "error" || matches!(code.as_str(), "NetStream.Unpublish.Success");
            let words = property("description").filter(|words| !words.is_empty()).unwrap_or(code);
            ends.then(|| FarEndMessage::Refused(words_of(Some(words))))
        }
        _ => None,
    }
}

/// The far end's words without what would break a line of the log.
fn words_of(words: Option<String>) -> String {
    let words: String = words.unwrap_or_default().chars().filter(|c| !c.is_control()).take(WORDS_LIMIT).collect();
    if words.is_empty() { "no reason given".to_owned() } else { words }
}

/// What the relay answers to a command of ffmpeg.
#[must_use]
pub fn answers_to_encoder(message: &RtmpMessage) -> Vec<RtmpMessage> {
    let mut values = ByteReader { bytes: &message.payload, at: 0 };
    let (Some(name), Some(transaction)) = (values.string(), values.float()) else { return Vec::new() };
    let mut payload = Vec::new();
    match name {
        b"connect" => {
            push_string(b"_result", &mut payload);
            push_number(transaction, &mut payload);
            push_null(&mut payload);
            push_object(&[("level", "status"), ("code", "NetConnection.Connect.Success")], &mut payload);
            vec![chunk_size(), said(COMMAND_CHUNKS, 0, payload)]
        }
        b"createStream" => {
            push_string(b"_result", &mut payload);
            push_number(transaction, &mut payload);
            push_null(&mut payload);
            push_number(f64::from(ENCODER_STREAM), &mut payload);
            vec![said(COMMAND_CHUNKS, 0, payload)]
        }
        b"publish" => {
            push_string(b"onStatus", &mut payload);
            push_number(0.0, &mut payload);
            push_null(&mut payload);
            push_object(&[("level", "status"), ("code", "NetStream.Publish.Start")], &mut payload);
            vec![said(COMMAND_CHUNKS, ENCODER_STREAM, payload)]
        }
        _ => Vec::new(),
    }
}

/// What the relay says first to the far end: ffmpeg's `connect` with the real names.
#[must_use]
pub fn opening(connect: RtmpMessage) -> [RtmpMessage; 2] {
    [chunk_size(), RtmpMessage { chunk_stream: COMMAND_CHUNKS, timestamp: 0, message_stream: 0, ..connect }]
}

/// What it says once it is connected.
#[must_use]
pub fn stream_creation(key: &str) -> [RtmpMessage; 3] {
    let about_key = |name, transaction| {
        let mut payload = command_of(name, transaction);
        push_string(key.as_bytes(), &mut payload);
        said(COMMAND_CHUNKS, 0, payload)
    };
    [
        about_key("releaseStream", RELEASE_STREAM),
        about_key("FCPublish", FC_PUBLISH),
        said(COMMAND_CHUNKS, 0, command_of("createStream", CREATE_STREAM)),
    ]
}

/// What it says once there is a message stream.
#[must_use]
pub fn publication(key: &str, stream: u32) -> RtmpMessage {
    let mut payload = command_of("publish", PUBLISH);
    push_string(key.as_bytes(), &mut payload);
    push_string(b"live", &mut payload);
    said(STREAM_CHUNKS, stream, payload)
}

/// What it says at the end.
#[must_use]
pub fn closing(key: &str, stream: u32) -> [RtmpMessage; 2] {
    let mut unpublish = command_of("FCUnpublish", PUBLISH + 1.0);
    push_string(key.as_bytes(), &mut unpublish);
    let mut delete = command_of("deleteStream", PUBLISH + 2.0);
    push_number(f64::from(stream), &mut delete);
    [said(COMMAND_CHUNKS, 0, unpublish), said(COMMAND_CHUNKS, 0, delete)]
}

fn command_of(name: &str, transaction: f64) -> Vec<u8> {
    let mut payload = Vec::new();
    push_string(name.as_bytes(), &mut payload);
    push_number(transaction, &mut payload);
    push_null(&mut payload);
    payload
}

fn said(chunk_stream: u32, message_stream: u32, payload: Vec<u8>) -> RtmpMessage {
    RtmpMessage { chunk_stream, timestamp: 0, kind: COMMAND, message_stream, payload }
}

fn chunk_size() -> RtmpMessage {
    control(SET_CHUNK_SIZE, CHUNK_SIZE.to_be_bytes().to_vec())
}

fn control(kind: u8, payload: Vec<u8>) -> RtmpMessage {
    RtmpMessage { chunk_stream: CONTROL_CHUNKS, timestamp: 0, kind, message_stream: 0, payload }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(level: &str, code: &str, description: &str) -> RtmpMessage {
        let mut payload = Vec::new();
        push_string(b"onStatus", &mut payload);
        push_number(0.0, &mut payload);
        push_null(&mut payload);
        push_object(&[("level", level), ("code", code), ("description", description)], &mut payload);
        said(COMMAND_CHUNKS, 1, payload)
    }

    #[test]
    fn a_far_end_is_understood() {
        for (level, code, meaning) in [
            ("status", "NetStream.Publish.Start", FarEndMessage::Publishing),
            ("error", "NetStream.Publish.BadName", FarEndMessage::Refused("Already publishing".into())),
            ("status", "NetStream.Unpublish.Success", FarEndMessage::Refused("Already publishing".into())),
            ("status", "NetStream.Data.Start", FarEndMessage::Other),
        ] {
            assert_eq!(far_end_message(&status(level, code, "Already publishing")), meaning, "{code}");
        }
        let bare = far_end_message(&status("error", "NetStream.Publish.Denied", ""));
        assert_eq!(bare, FarEndMessage::Refused("NetStream.Publish.Denied".into()));
        let create = said(3, 0, command_of("createStream", 9.0));
        let [result] = &answers_to_encoder(&create)[..] else { panic!("one answer") };
        assert_eq!(far_end_message(result), FarEndMessage::Result(9.0, Some(1.0)));
        let asked = control(USER_CONTROL, vec![0, 6, 1, 2, 3, 4]);
        assert_eq!(far_end_message(&asked), FarEndMessage::Ping(control(USER_CONTROL, vec![0, 7, 1, 2, 3, 4])));
    }

    proptest! {
        #[test]
        fn no_words_of_a_far_end_cause_a_panic(kind in prop_oneof![Just(4_u8), Just(20)], payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let message = RtmpMessage { kind, payload, ..RtmpMessage::default() };
            let _ = (far_end_message(&message), answers_to_encoder(&message));
        }
    }
}
