//! A signed notice about a room that cannot exist: the server says whether key and signature are right, and has nothing
//! to note (PROTOCOL 5).

use std::time::SystemTime;

use prost::Message as _;

use crate::config::ServerConfig;
use crate::delivery::answer::NoticeAnswer;
use crate::delivery::notify_client::{NotifyClient, NotifyClientError};
use crate::protocol::ids::RecorderId;
use crate::protocol::messages::{RecorderToPlugNmeet, RecordingTasks};

/// No database counts its rooms so far. Its largest number, and no negative one, which some would refuse as an error.
pub const NO_ROOM: i64 = i64::MAX;

/// What the server has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// [`RefusalScope::Room`](crate::delivery::answer::RefusalScope) where all is well.
    pub answer: NoticeAnswer,
    /// The header `Date`; also of a proxy.
    pub date: Option<String>,
    /// This host's clock before and after.
    pub asked: SystemTime,
    pub answered: SystemTime,
}

/// Sends the notice once; its time limits are those of any notice.
///
/// # Errors
/// Where the configuration does not make a request.
pub async fn send(server: &ServerConfig, recorder: &RecorderId) -> Result<ProbeAnswer, NotifyClientError> {
    let client = NotifyClient::new(server)?;
    let asked = SystemTime::now();
    let (answer, date) = client.exchange(notice(recorder).encode_to_vec().into()).await;
    Ok(ProbeAnswer { answer, date, asked, answered: SystemTime::now() })
}

/// The end of a recording that never was.
fn notice(recorder: &RecorderId) -> RecorderToPlugNmeet {
    RecorderToPlugNmeet {
        from: "recorder".to_owned(),
        task: RecordingTasks::EndRecording as i32,
        status: true,
        msg: "a check of the configuration".to_owned(),
        recording_id: "no-recording".to_owned(),
        room_table_id: NO_ROOM,
        room_id: "no-room".to_owned(),
        room_sid: "no-room".to_owned(),
        recorder_id: recorder.to_string(),
        ..RecorderToPlugNmeet::default()
    }
}
