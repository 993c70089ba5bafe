//! The rows of `outbox list`. Pure.

use serde::Serialize;

use crate::admin::cells::{age_cell, words};
use crate::admin::rows::status::{Moment, RowStatus};
use crate::admin::table::Row;
use crate::delivery::message::{Message, MessageState};

/// A message to the server or the work queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MessageRow {
    pub id: String,
    #[serde(rename = "letter")]
    pub message: Option<&'static str>,
    #[serde(flatten)]
    pub status: RowStatus,
    pub about: Option<String>,
    pub added_at: Option<u64>,
    pub age_s: Option<u64>,
    /// When it was delivered, dropped or last refused.
    pub settled_at: Option<u64>,
    /// Failed attempts.
    pub failures: Option<u32>,
    pub next_try: Option<u64>,
    pub last_error: Option<String>,
    #[serde(skip)]
    next: String,
}

impl MessageRow {
    /// `obsolete`: the server knows of the recording's end already, so that the message is not tried any more.
    #[must_use]
    pub fn new(id: &str, message: &Message, obsolete: bool, moment: Moment) -> Self {
        let (status, settled_at) = match &message.state {
            MessageState::Waiting => (RowStatus::new("waiting", "waiting"), None),
            MessageState::Delivered { at } => (RowStatus::new("delivered", "delivered"), Some(*at)),
            MessageState::Refused { at, why } => (RowStatus::new("refused", format!("refused: {why}")), Some(*at)),
            MessageState::Dropped { at } => (RowStatus::new("dropped", "dropped"), Some(*at)),
        };
        let next = match message.next_try {
            _ if !message.is_open() => String::new(),
            _ if obsolete => "never: its end is told".to_owned(),
            _ if !moment.runs => "at the next start".to_owned(),
            Some(at) if at > moment.now => format!("in {}", words(moment.until(at))),
            Some(_) => "now".to_owned(),
            // It is being sent, or waits behind an earlier message of its recording.
            None => String::new(),
        };
        Self {
            id: id.to_owned(),
            message: Some(message.key.as_str()),
            status,
            about: Some(message.about.clone()),
            added_at: Some(message.added_at),
            age_s: Some(moment.since(message.added_at).as_secs()),
            settled_at,
            failures: Some(message.failures),
            next_try: message.next_try.filter(|_| message.is_open() && !obsolete),
            last_error: message.last_error.clone(),
            next,
        }
    }

    #[must_use]
    pub fn unreadable(id: String, why: &str) -> Self {
        Self { id, status: RowStatus::unreadable(why), ..Self::default() }
    }
}

impl Row for MessageRow {
    const HEADER: &'static [&'static str] =
        &["ID", "LETTER", "STATE", "ABOUT", "AGE", "FAILURES", "NEXT TRY", "LAST ERROR"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.message.unwrap_or_default().to_owned(),
            self.status.text.clone(),
            self.about.clone().unwrap_or_default(),
            age_cell(self.age_s),
            self.failures.map(|failures| failures.to_string()).unwrap_or_default(),
            self.next.clone(),
            self.last_error.clone().unwrap_or_default(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::message::MessageKey;

    const NOW: u64 = 1_800_000_000_000;
    const RUNS: Moment = Moment { now: NOW, runs: true };
    const STOPPED: Moment = Moment { now: NOW, runs: false };

    #[test]
    fn a_message_shows_when_it_is_tried_next() {
        let mut message = Message::new(MessageKey::Ended, "EndRecording of room room01: ".into(), b"body".to_vec());
        message.added_at = NOW - 60_000;
        let cells = |message: &Message, moment| MessageRow::new("rec-1", message, false, moment).cells();
        assert_eq!(
            cells(&message, RUNS),
            ["rec-1", "ended", "waiting", "EndRecording of room room01: ", "1m", "0", "", ""]
        );
        message.failures = 4;
        message.last_error = Some("HTTP 503".into());
        message.next_try = Some(NOW + 12_000);
        assert_eq!(cells(&message, RUNS)[5..], ["4", "in 12s", "HTTP 503"]);
        assert_eq!(cells(&message, STOPPED)[6], "at the next start");
        message.next_try = Some(NOW - 1);
        assert_eq!(cells(&message, RUNS)[6], "now");
        message.state = MessageState::Refused { at: NOW - 1_000, why: "HTTP 401".into() };
        message.next_try = Some(NOW + 60_000);
        assert_eq!(
            cells(&message, RUNS)[2..7],
            ["refused: HTTP 401", "EndRecording of room room01: ", "1m", "4", "in 1m"]
        );
        assert_eq!(cells(&message, STOPPED)[6], "at the next start");
        let json = serde_json::to_value(MessageRow::new("rec-1", &message, false, RUNS)).unwrap();
        assert_eq!((&json["state"], &json["settled_at"]), (&"refused".into(), &(NOW - 1_000).into()));
        assert_eq!(json["next_try"], NOW + 60_000);
        let late = MessageRow::new("rec-1", &message, true, RUNS);
        assert_eq!((late.cells()[6].as_str(), late.next_try), ("never: its end is told", None));
        message.state = MessageState::Dropped { at: NOW - 1_000 };
        let json = serde_json::to_value(MessageRow::new("rec-1", &message, false, RUNS)).unwrap();
        assert_eq!(json["state"], "dropped");
        assert!(json["next_try"].is_null() && json.get("body").is_none() && json.get("next").is_none(), "{json}");
        assert_eq!(MessageRow::unreadable("x".into(), "why").cells().len(), MessageRow::HEADER.len());
    }
}
