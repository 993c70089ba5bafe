//! What an archive says of each file of a part: which recording it is of, who wrote it, and since when. Holds no secret.

use serde::{Deserialize, Serialize};

use crate::protocol::access::RoomClaims;
use crate::protocol::ids::RecorderId;
use crate::protocol::request::RecordingInfo;

/// The version of this description; another program passes over those that it does not know.
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartDescription {
    pub version: u32,
    pub room_table_id: i64,
    pub room_id: String,
    pub room_sid: String,
    pub recording_id: String,
    /// The node that records it.
    pub node: String,
    /// The lease by which it does so; 0: the server has asked it.
    pub lease: u32,
    /// Of the recording's parts on that node, counted from 1.
    pub part: usize,
    /// It goes on where another file of this part ends ([`crate::archive`] knows no more of it).
    pub goes_on: bool,
    /// When media first flowed in the recording, and in this part, by the clock of that node, in Unix milliseconds.
    pub recording_began_at: Option<u64>,
    pub began_at: Option<u64>,
    /// The claims of the access token, by which the room can be joined again; `None`: the token has none.
    pub claims: Option<RoomClaims>,
}

impl PartDescription {
    #[must_use]
    pub fn new(info: &RecordingInfo, node: &RecorderId, part: usize) -> Self {
        Self {
            version: VERSION,
            room_table_id: info.room_table_id,
            room_id: info.room_id.to_string(),
            room_sid: info.room_sid.as_str().to_owned(),
            recording_id: info.recording_id.to_string(),
            node: node.to_string(),
            lease: 0,
            part,
            goes_on: false,
            recording_began_at: None,
            began_at: None,
            claims: None,
        }
    }

    /// # Errors
    /// Where it is none of this version.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let description: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if description.version != VERSION {
            return Err(format!("it is of version {}, and this program knows {VERSION}", description.version));
        }
        description.info()?;
        Ok(description)
    }

    /// # Errors
    /// Where an id is invalid.
    pub fn info(&self) -> Result<RecordingInfo, String> {
        let info = RecordingInfo::parse(self.room_table_id, &self.room_id, &self.room_sid, &self.recording_id);
        info.map_err(|error| error.to_string())
    }

    /// By which it is put beside others of its recording: of one node in their order, those of a later lease behind.
    #[must_use]
    pub fn order(&self) -> (u32, usize, bool) {
        (self.lease, self.part, self.goes_on)
    }
}
