//! Requests of the server as checked types (PROTOCOL 3).
//!
//! Every node receives every request: [`read`] decides whether one is for this node, and checks only those.

use prost::Message;

use crate::codes::{self, Code};
use crate::protocol::access::RoomAccess;
use crate::protocol::ids::{AccessToken, InvalidName, RecorderId, RecordingId, RoomId, RoomSid, RtmpUrl};
use crate::protocol::messages::{CommonResponse, PlugNmeetToRecorder, RecordingTasks, StatusCode};
use crate::protocol::public_text::without_directories;

/// Value of `from` in requests.
const SERVER: &str = "plugnmeet";

/// A live recording (to a file) or broadcast (to an RTMP server) of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Recording,
    Broadcast,
}

impl Kind {
    /// Name in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Broadcast => "broadcast",
        }
    }
}

/// The ids of a recording and its room, which every message about it repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingInfo {
    pub room_table_id: i64,
    pub room_id: RoomId,
    pub room_sid: RoomSid,
    pub recording_id: RecordingId,
}

impl RecordingInfo {
    /// # Errors
    /// Where an id is invalid.
    pub fn parse(table_id: i64, room: &str, room_sid: &str, recording: &str) -> Result<Self, InvalidName> {
        Ok(Self {
            room_table_id: table_id,
            room_id: RoomId::parse(room)?,
            room_sid: RoomSid::parse(room_sid)?,
            recording_id: RecordingId::parse(recording)?,
        })
    }
}

/// A checked start request.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    pub info: RecordingInfo,
    pub access: RoomAccess,
    pub output: Output,
}

/// Destination of the media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    File,
    Rtmp(RtmpUrl),
}

impl Start {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.output {
            Output::File => Kind::Recording,
            Output::Rtmp(_) => Kind::Broadcast,
        }
    }
}

/// A request that concerns this node.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Start(Box<Start>),
    /// Ends the recordings of these kinds in the room, if this node has any.
    Stop {
        room_table_id: i64,
        kinds: &'static [Kind],
    },
    /// A start request for this node with an invalid field.
    Invalid(InvalidName),
    /// A start request for another node, which may refer it to this one.
    StartElsewhere,
}

/// Reads a message of the channel. `None`: it concerns another node and must not be answered.
///
/// # Errors
/// Where the bytes are not a `PlugNmeetToRecorder`; it is unknown for whom, so it is not answered.
pub fn read(bytes: &[u8], me: &RecorderId) -> Result<Option<Request>, prost::DecodeError> {
    let message = PlugNmeetToRecorder::decode(bytes)?;
    if message.from != SERVER {
        return Ok(None);
    }
    let stop = |kinds| Some(Request::Stop { room_table_id: message.room_table_id, kinds });
    Ok(match RecordingTasks::try_from(message.task) {
        Ok(RecordingTasks::StartRecording | RecordingTasks::StartRtmp) if message.recorder_id != me.as_str() => {
            Some(Request::StartElsewhere)
        }
        Ok(RecordingTasks::StartRecording | RecordingTasks::StartRtmp) => Some(checked(&message)),
        Ok(RecordingTasks::StopRecording) => stop(&[Kind::Recording]),
        Ok(RecordingTasks::StopRtmp) => stop(&[Kind::Broadcast]),
        Ok(RecordingTasks::Stop) => stop(&[Kind::Recording, Kind::Broadcast]),
        // Notices go the other way; unknown numbers come from a newer server.
        _ => None,
    })
}

/// Reads a start request that another node has referred to this one. `None`: it is none.
#[must_use]
pub fn read_referred(bytes: &[u8]) -> Option<Start> {
    let message = PlugNmeetToRecorder::decode(bytes).ok().filter(|message| message.from == SERVER)?;
    match RecordingTasks::try_from(message.task) {
        Ok(RecordingTasks::StartRecording | RecordingTasks::StartRtmp) => start(&message).ok(),
        _ => None,
    }
}

fn checked(message: &PlugNmeetToRecorder) -> Request {
    start(message).map_or_else(Request::Invalid, |start| Request::Start(Box::new(start)))
}

fn start(message: &PlugNmeetToRecorder) -> Result<Start, InvalidName> {
    let output = if message.task == RecordingTasks::StartRtmp as i32 {
        Output::Rtmp(RtmpUrl::parse(message.rtmp_url.as_deref().unwrap_or_default())?)
    } else {
        Output::File
    };
    Ok(Start {
        info: RecordingInfo::parse(message.room_table_id, &message.room_id, &message.room_sid, &message.recording_id)?,
        access: RoomAccess::Token(AccessToken::parse(&message.access_token)?),
        output,
    })
}

/// The answer to an accepted request.
#[must_use]
pub fn accepted() -> CommonResponse {
    CommonResponse { status: true, msg: "success".to_owned(), status_code: StatusCode::Success as i32 }
}

/// The answer to a refused request, with the reason that the user is shown and its code; of a path in it only the last
/// component. The reference's own text, which the server knows, stays as it is.
#[must_use]
pub fn refused(status: StatusCode, code: Code, reason: &str) -> CommonResponse {
    let reason = without_directories(reason);
    let msg = if code == codes::REFUSED_IN_PROGRESS { reason } else { format!("{reason} [{code}]") };
    CommonResponse { status: false, msg, status_code: status as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> RecorderId {
        RecorderId::parse("node_01").unwrap()
    }

    fn start_message() -> PlugNmeetToRecorder {
        PlugNmeetToRecorder {
            from: "plugnmeet".into(),
            task: RecordingTasks::StartRecording as i32,
            room_table_id: 852,
            room_id: "room01".into(),
            room_sid: "RM_1".into(),
            recording_id: "RM_1-17".into(),
            recorder_id: "node_01".into(),
            access_token: "tok.en.abc".into(),
            rtmp_url: None,
        }
    }

    #[test]
    fn a_start_concerns_only_the_node_it_names() {
        let mut message = start_message();
        assert!(matches!(read(&message.encode_to_vec(), &me()), Ok(Some(Request::Start(_)))));
        message.recorder_id = "node_02".into();
        assert_eq!(read(&message.encode_to_vec(), &me()), Ok(Some(Request::StartElsewhere)));
        assert_eq!(read_referred(&message.encode_to_vec()).unwrap().info.room_table_id, 852);
        message.from = "someone".into();
        assert_eq!(read(&message.encode_to_vec(), &me()), Ok(None));
        assert_eq!(read_referred(&message.encode_to_vec()), None);
        message = PlugNmeetToRecorder { task: RecordingTasks::StopRecording as i32, ..start_message() };
        assert_eq!(read_referred(&message.encode_to_vec()), None);
    }

    #[test]
    fn a_hostile_start_is_invalid_with_the_field_named() {
        let mut message = start_message();
        message.room_id = "../../etc".into();
        let Ok(Some(Request::Invalid(reason))) = read(&message.encode_to_vec(), &me()) else { panic!() };
        assert!(reason.to_string().contains("room_id"));
    }

    #[test]
    fn a_broadcast_needs_an_rtmp_url() {
        let mut message = start_message();
        message.task = RecordingTasks::StartRtmp as i32;
        assert!(matches!(read(&message.encode_to_vec(), &me()), Ok(Some(Request::Invalid(_)))));
        message.rtmp_url = Some("rtmp://h/live/key".into());
        let Ok(Some(Request::Start(start))) = read(&message.encode_to_vec(), &me()) else { panic!() };
        assert_eq!(start.kind(), Kind::Broadcast);
    }

    #[test]
    fn a_refusal_tells_users_its_code_and_no_path_of_the_host() {
        let why = "the disk is full: /srv/nfs/rec: 1 GiB free";
        let answer = refused(StatusCode::Internal, codes::REFUSED_DISK_SPACE, why);
        assert_eq!(answer.msg, "the disk is full: …/rec: 1 GiB free [PNR-0248]");
        let answer = refused(StatusCode::Conflict, codes::REFUSED_IN_PROGRESS, "this request in progress");
        assert_eq!(answer.msg, "this request in progress", "the server knows this text");
    }

    #[test]
    fn stop_ends_both_kinds() {
        let mut message = start_message();
        message.recorder_id.clear();
        message.task = RecordingTasks::Stop as i32;
        let Ok(Some(Request::Stop { kinds, .. })) = read(&message.encode_to_vec(), &me()) else { panic!() };
        assert_eq!(kinds, [Kind::Recording, Kind::Broadcast]);
    }

    #[test]
    fn notices_and_unknown_tasks_are_ignored() {
        for task in [4, 5, 6, 8, 99, -1] {
            let mut message = start_message();
            message.task = task;
            assert_eq!(read(&message.encode_to_vec(), &me()), Ok(None), "{task}");
        }
        assert!(read(b"\xff\xff\xff", &me()).is_err());
    }
}
