//! The letters of a recording: what others are to be told of it, in order, each with what became of it.

use crate::storage::journal::Record;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::protocol::notice::NoticeEvent;
use crate::protocol::request::Kind;
use crate::unix_time::unix_ms;

/// How long a letter that is over is remembered: longer than any job is handed out again.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// What a letter is; each at most once per recording.
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

/// What became of a letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum MessageState {
    Waiting,
    /// Unix milliseconds.
    Delivered {
        at: u64,
    },
    /// plugNmeet itself does not take it as things stand; it is tried again.
    Refused {
        at: u64,
        why: String,
    },
    /// An operator does not want it told any more.
    Dropped {
        at: u64,
    },
}

impl MessageState {
    /// Nothing more is to be done about it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Delivered { .. } | Self::Dropped { .. })
    }
}

/// One thing that somebody is to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub key: MessageKey,
    /// In words, for whoever reads the file or the list.
    pub about: String,
    pub state: MessageState,
    /// Unix milliseconds.
    pub added_at: u64,
    /// Tries that failed.
    #[serde(default)]
    pub failures: u32,
    #[serde(default)]
    pub last_error: Option<String>,
    /// Of the next try, Unix milliseconds, where one has failed.
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

    /// Whether it is still to be told.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.state.is_over()
    }

    pub(super) fn settle(&mut self, state: MessageState) -> bool {
        self.state = state;
        self.next_try = None;
        true
    }

    /// When it came to its end, Unix milliseconds.
    fn over_at(&self) -> Option<u64> {
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

/// One recording's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingMessages {
    version: u32,
    pub letters: Vec<Message>,
}

impl Default for RecordingMessages {
    fn default() -> Self {
        Self { version: Self::VERSION, letters: Vec::new() }
    }
}

impl Record for RecordingMessages {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }
}

impl RecordingMessages {
    /// What an operator does not want told any more is over. Whether there was anything of these.
    pub fn drop_letters(&mut self, keys: &[MessageKey], now: u64) -> bool {
        let open = self.letters.iter_mut().filter(|letter| letter.is_open() && keys.contains(&letter.key));
        open.map(|letter| letter.settle(MessageState::Dropped { at: now })).count() > 0
    }

    pub(super) fn add(&mut self, letter: Message) -> bool {
        let new = self.letters.iter().all(|there| there.key != letter.key);
        if new {
            self.letters.push(letter);
        }
        new
    }

    /// The beginning of something whose end the server knows already: told now, it would stand there as running for ever.
    #[must_use]
    pub fn comes_too_late(&self, letter: &Message) -> bool {
        let end = match letter.key {
            MessageKey::Started => MessageKey::Ended,
            MessageKey::BroadcastStarted => MessageKey::BroadcastEnded,
            _ => return false,
        };
        self.letters.iter().any(|there| there.key == end && matches!(there.state, MessageState::Delivered { .. }))
    }

    pub(super) fn get_mut(&mut self, key: MessageKey) -> Option<&mut Message> {
        self.letters.iter_mut().find(|letter| letter.key == key)
    }

    /// Whether all of it is over, and has been for so long that nobody will ask for it again.
    pub(super) fn is_past(&self, now: u64) -> bool {
        let remembered = u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX);
        self.letters.iter().all(|letter| letter.over_at().is_some_and(|at| now.saturating_sub(at) > remembered))
    }
}
