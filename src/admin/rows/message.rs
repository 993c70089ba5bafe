//! Letters of the outbox. Pure.

use serde::Serialize;

use crate::admin::cells::{age_cell, words};
use crate::admin::rows::{Moment, RowStatus};
use crate::admin::table::Row;
use crate::delivery::message::{Message, MessageState};

/// Something that the server or the work queue is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MessageRow {
    pub id: String,
    pub letter: Option<&'static str>,
    #[serde(flatten)]
    pub standing: RowStatus,
    pub about: Option<String>,
    pub added_at: Option<u64>,
    pub age_s: Option<u64>,
    /// When it was delivered, dropped or refused last.
    pub settled_at: Option<u64>,
    /// Tries that failed.
    pub failures: Option<u32>,
    pub next_try: Option<u64>,
    pub last_error: Option<String>,
    #[serde(skip)]
    next: String,
}

impl MessageRow {
    #[must_use]
    /// `too_late`: its end is told already, so that it is not told by itself any more.
    pub fn new(id: &str, letter: &Message, too_late: bool, moment: Moment) -> Self {
        let (standing, settled_at) = match &letter.state {
            MessageState::Waiting => (RowStatus::new("waiting", "waiting"), None),
            MessageState::Delivered { at } => (RowStatus::new("delivered", "delivered"), Some(*at)),
            MessageState::Refused { at, why } => (RowStatus::new("refused", format!("refused: {why}")), Some(*at)),
            MessageState::Dropped { at } => (RowStatus::new("dropped", "dropped"), Some(*at)),
        };
        let next = match letter.next_try {
            _ if !letter.is_open() => String::new(),
            _ if too_late => "never: its end is told".to_owned(),
            _ if !moment.runs => "at the next start".to_owned(),
            Some(at) if at > moment.now => format!("in {}", words(moment.until(at))),
            Some(_) => "now".to_owned(),
            // On its way, or behind an earlier one of its recording.
            None => String::new(),
        };
        Self {
            id: id.to_owned(),
            letter: Some(letter.key.as_str()),
            standing,
            about: Some(letter.about.clone()),
            added_at: Some(letter.added_at),
            age_s: Some(moment.since(letter.added_at).as_secs()),
            settled_at,
            failures: Some(letter.failures),
            next_try: letter.next_try.filter(|_| letter.is_open() && !too_late),
            last_error: letter.last_error.clone(),
            next,
        }
    }

    #[must_use]
    pub fn unreadable(id: String, why: &str) -> Self {
        Self { id, standing: RowStatus::unreadable(why), ..Self::default() }
    }
}

impl Row for MessageRow {
    const HEADER: &'static [&'static str] =
        &["ID", "LETTER", "STATE", "ABOUT", "AGE", "FAILURES", "NEXT TRY", "LAST ERROR"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.letter.unwrap_or_default().to_owned(),
            self.standing.text.clone(),
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
    fn a_letter_shows_when_it_is_tried_next() {
        let mut letter = Message::new(MessageKey::Ended, "EndRecording of room room01: ".into(), b"body".to_vec());
        letter.added_at = NOW - 60_000;
        let cells = |letter: &Message, moment| MessageRow::new("rec-1", letter, false, moment).cells();
        assert_eq!(
            cells(&letter, RUNS),
            ["rec-1", "ended", "waiting", "EndRecording of room room01: ", "1m", "0", "", ""]
        );
        letter.failures = 4;
        letter.last_error = Some("HTTP 503".into());
        letter.next_try = Some(NOW + 12_000);
        assert_eq!(cells(&letter, RUNS)[5..], ["4", "in 12s", "HTTP 503"]);
        assert_eq!(cells(&letter, STOPPED)[6], "at the next start");
        letter.next_try = Some(NOW - 1);
        assert_eq!(cells(&letter, RUNS)[6], "now");
        letter.state = MessageState::Refused { at: NOW - 1_000, why: "HTTP 401".into() };
        letter.next_try = Some(NOW + 60_000);
        assert_eq!(
            cells(&letter, RUNS)[2..7],
            ["refused: HTTP 401", "EndRecording of room room01: ", "1m", "4", "in 1m"]
        );
        assert_eq!(cells(&letter, STOPPED)[6], "at the next start");
        let json = serde_json::to_value(MessageRow::new("rec-1", &letter, false, RUNS)).unwrap();
        assert_eq!((&json["state"], &json["settled_at"]), (&"refused".into(), &(NOW - 1_000).into()));
        assert_eq!(json["next_try"], NOW + 60_000);
        let late = MessageRow::new("rec-1", &letter, true, RUNS);
        assert_eq!((late.cells()[6].as_str(), late.next_try), ("never: its end is told", None));
        letter.state = MessageState::Dropped { at: NOW - 1_000 };
        let json = serde_json::to_value(MessageRow::new("rec-1", &letter, false, RUNS)).unwrap();
        assert_eq!(json["state"], "dropped");
        assert!(json["next_try"].is_null() && json.get("body").is_none() && json.get("next").is_none(), "{json}");
        assert_eq!(MessageRow::unreadable("x".into(), "why").cells().len(), MessageRow::HEADER.len());
    }
}
