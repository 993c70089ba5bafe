//! The messages about a recording, in the order of their delivery, each with its state.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::protocol::notice::NoticeEvent;
use crate::protocol::request::Kind;
use crate::storage::journal::Record;
use crate::unix_time::unix_ms;

/// How long a delivered or dropped message is kept: longer than a job can be redelivered.
const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// What a message is about; a recording has at most one message of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum MessageKey {
    Started,
    Ended,
    BroadcastStarted,
    BroadcastEnded,
    /// The transcoding job.
    Job,
    Proceeded,
    Finished,
}

impl MessageKey {
    #[must_use]
    pub fn of(event: &NoticeEvent) -> Self {
        match event {
            NoticeEvent::Started(Kind::Recording) => Self::Started,
            NoticeEvent::Started(Kind::Broadcast) => Self::BroadcastStarted,
            NoticeEvent::Ended(Kind::Recording, _) => Self::Ended,
            NoticeEvent::Ended(Kind::Broadcast, _) => Self::BroadcastEnded,
            NoticeEvent::Proceeded { .. } => Self::Proceeded,
            NoticeEvent::Finished(_) => Self::Finished,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Ended => "ended",
            Self::BroadcastStarted => "broadcast_started",
            Self::BroadcastEnded => "broadcast_ended",
            Self::Job => "job",
            Self::Proceeded => "proceeded",
            Self::Finished => "finished",
        }
    }
}

/// How far the delivery of a message is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum MessageState {
    Waiting,
    /// Unix milliseconds.
    Delivered {
        at: u64,
    },
    /// plugNmeet itself does not accept the message for now; it is tried again.
    Refused {
        at: u64,
        why: String,
    },
    /// An operator gave the message up.
    Dropped {
        at: u64,
    },
}

impl MessageState {
    /// Whether it needs no further delivery.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Delivered { .. } | Self::Dropped { .. })
    }
}

/// One message of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub key: MessageKey,
    /// A description for whoever reads the file or the list.
    pub about: String,
    pub state: MessageState,
    /// Unix milliseconds.
    pub added_at: u64,
    /// Failed attempts.
    #[serde(default)]
    pub failures: u32,
    #[serde(default)]
    pub last_error: Option<String>,
    /// The time of the next attempt, in Unix milliseconds, where one has failed.
    #[serde(default)]
    pub next_try: Option<u64>,
    /// The bytes that are sent.
    #[serde(with = "hex_bytes")]
    pub body: Vec<u8>,
}

impl Message {
    #[must_use]
    pub fn new(key: MessageKey, about: String, body: Vec<u8>) -> Self {
        Self {
            key,
            about,
            state: MessageState::Waiting,
            added_at: unix_ms(),
            failures: 0,
            last_error: None,
            next_try: None,
            body,
        }
    }

    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.state == MessageState::Waiting
    }

    /// Whether it still needs delivery.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.state.is_over()
    }

    pub(super) fn set_state(&mut self, state: MessageState) -> bool {
        self.state = state;
        self.next_try = None;
        true
    }

    /// When it was delivered or dropped, in Unix milliseconds.
    fn ended_at(&self) -> Option<u64> {
        match self.state {
            MessageState::Waiting | MessageState::Refused { .. } => None,
            MessageState::Delivered { at } | MessageState::Dropped { at } => Some(at),
        }
    }
}

mod hex_bytes {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// The content of a recording's file in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingMessages {
    version: u32,
    #[serde(rename = "letters")]
    pub messages: Vec<Message>,
}

impl Default for RecordingMessages {
    fn default() -> Self {
        Self { version: Self::VERSION, messages: Vec::new() }
    }
}

impl Record for RecordingMessages {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }
}

impl RecordingMessages {
    /// Drops the undelivered messages of these keys. Whether there were any.
    pub fn drop_messages(&mut self, keys: &[MessageKey], now: u64) -> bool {
        let open = self.messages.iter_mut().filter(|message| message.is_open() && keys.contains(&message.key));
        open.map(|message| message.set_state(MessageState::Dropped { at: now })).count() > 0
    }

    pub(super) fn add(&mut self, message: Message) -> bool {
        let new = self.messages.iter().all(|other| other.key != message.key);
        if new {
            self.messages.push(message);
        }
        new
    }

    /// A notice of a start whose end the server has already: delivered now, the server would show the recording as
    /// running for ever.
    #[must_use]
    pub fn is_obsolete(&self, message: &Message) -> bool {
        let end = match message.key {
            MessageKey::Started => MessageKey::Ended,
            MessageKey::BroadcastStarted => MessageKey::BroadcastEnded,
            _ => return false,
        };
        self.messages.iter().any(|other| other.key == end && matches!(other.state, MessageState::Delivered { .. }))
    }

    pub(super) fn get_mut(&mut self, key: MessageKey) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| message.key == key)
    }

    /// Whether all messages were delivered or dropped longer than [`RETENTION`] ago.
    pub(super) fn is_expired(&self, now: u64) -> bool {
        let remembered = u64::try_from(RETENTION.as_millis()).unwrap_or(u64::MAX);
        self.messages.iter().all(|message| message.ended_at().is_some_and(|at| now.saturating_sub(at) > remembered))
    }
}
