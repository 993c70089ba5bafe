//! One record per recording that was taken on and is not handed over yet: what the next start of the program needs to know
//! if this one dies (ARCHITECTURE, "The on-disk protocol").
//!
//! A disk that fails costs no recording: the record is in memory as well. Only a crash would then lose it.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capture::rig::CaptureReport;
use crate::protocol::access::{RoomAccess, RoomClaims};
use crate::protocol::ids::{AccessToken, RecordingId, RoomId, RoomSid};
use crate::protocol::request::{Kind, Output, RecordingInfo, Start};
use crate::recording::capture_record::CaptureRecord;
use crate::storage::journal::{Journal, Record, RecordFile};
use crate::unix_time::unix_ms;

/// The directory in `state_dir`.
#[must_use]
pub fn dir_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Recording => "recordings",
        Kind::Broadcast => "broadcasts",
    }
}

/// A file, key by key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingRecord {
    version: u32,
    room_table_id: i64,
    room_id: String,
    room_sid: String,
    recording_id: String,
    /// What the access token claims: signed again for each part. `None` for a broadcast, which is not joined again.
    #[serde(default)]
    claims: Option<RoomClaims>,
    /// The token itself where it is of another kind, and in a record of an earlier version: a secret. Else empty.
    #[serde(default)]
    access_token: String,
    /// Unix milliseconds.
    pub taken_at: u64,
    /// When media first flowed, Unix milliseconds.
    pub began_at: Option<u64>,
    pub parts: Vec<RecordingPart>,
    /// The end was asked for.
    pub stop: Option<StopRequest>,
    pub stage: RecordingStage,
    /// How long each part lasts in the raw file that was made of them, in milliseconds; `None`: it is not in it.
    #[serde(default)]
    pub lengths_ms: Vec<Option<u64>>,
    /// What else was found of each of them then.
    #[serde(default)]
    pub found: Vec<Option<FoundMedia>>,
    /// The `post_recording` hooks have failed, and are tried again.
    #[serde(default)]
    pub hooked: Option<HookResult>,
}

/// What a part holds that lies on the disk: all that is known of one with which the program died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundMedia {
    pub bytes: u64,
    /// Pictures; `None`: not counted, since the part's own account has them.
    pub frames: Option<u64>,
}

/// How the hooks failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookResult {
    pub failures: u32,
    pub last_error: String,
    /// Unix milliseconds.
    pub next_try: u64,
}

/// One capture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingPart {
    /// In the temporary directory, without its path; empty for a broadcast.
    pub file: String,
    /// When media flowed, Unix milliseconds. `None`: it never did, or is not noted.
    pub began_at: Option<u64>,
    /// `None` where the program died with it.
    pub ended: Option<PartEnd>,
}

impl RecordingPart {
    /// Until when it shows the meeting, where that is not to its end.
    #[must_use]
    pub fn meeting_until(&self) -> Option<Duration> {
        self.ended.as_ref().and_then(|end| end.report().meeting_until)
    }
}

/// How a part ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartEnd {
    /// Unix milliseconds.
    pub at: u64,
    /// `None`: as it should.
    pub cause: Option<String>,
    done: CaptureRecord,
}

impl PartEnd {
    #[must_use]
    pub fn new(at: u64, cause: Option<String>, done: CaptureReport) -> Self {
        Self { at, cause, done: done.into() }
    }

    /// What the capture reported.
    #[must_use]
    pub fn report(&self) -> CaptureReport {
        self.done.into()
    }
}

/// Why the end was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// `None`: the server wants it.
    pub reason: Option<String>,
}

/// How far it is on its way to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingStage {
    /// Its parts are all there is of it.
    Parts,
    /// The raw file is whole and in its final place: parts may go.
    Stored,
    /// No raw file could be made; the server knows. What there is stays for the operator.
    Failed,
}

impl RecordingRecord {
    #[must_use]
    pub fn new(start: &Start) -> Self {
        let info = &start.info;
        let claims = start.access.claims().filter(|_| start.output == Output::File);
        Self {
            version: Self::VERSION,
            room_table_id: info.room_table_id,
            room_id: info.room_id.to_string(),
            room_sid: info.room_sid.as_str().to_owned(),
            recording_id: info.recording_id.to_string(),
            access_token: match (&start.output, &claims, start.access.sent()) {
                (Output::File, None, Some(token)) => token.expose().to_owned(),
                _ => String::new(),
            },
            claims,
            taken_at: unix_ms(),
            began_at: None,
            parts: Vec::new(),
            stop: None,
            stage: RecordingStage::Parts,
            lengths_ms: Vec::new(),
            found: Vec::new(),
            hooked: None,
        }
    }

    /// # Errors
    /// Where an id in it is none.
    pub fn info(&self) -> Result<RecordingInfo, String> {
        let info = || {
            Ok::<_, crate::protocol::ids::InvalidName>(RecordingInfo {
                room_table_id: self.room_table_id,
                room_id: RoomId::parse(&self.room_id)?,
                room_sid: RoomSid::parse(&self.room_sid)?,
                recording_id: RecordingId::parse(&self.recording_id)?,
            })
        };
        info().map_err(|error| error.to_string())
    }

    /// What the server had asked for, of a recording.
    ///
    /// # Errors
    /// Where an id or the token in it is none.
    pub fn start(&self) -> Result<Start, String> {
        let access = match &self.claims {
            Some(claims) => RoomAccess::Claims(claims.clone()),
            None => RoomAccess::Token(AccessToken::parse(&self.access_token).map_err(|error| error.to_string())?),
        };
        Ok(Start { info: self.info()?, access, output: Output::File })
    }

    /// The names of the parts that are there or may be, in order.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.parts.iter().map(|part| part.file.clone()).collect()
    }

    /// Where capture is missing in the raw file.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        gaps(&self.parts, &self.lengths())
    }

    /// How long each part lasts in the raw file.
    #[must_use]
    pub fn lengths(&self) -> Vec<Option<Duration>> {
        self.lengths_ms.iter().map(|length| length.map(Duration::from_millis)).collect()
    }
}

impl Record for RecordingRecord {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }

    fn check(&self) -> Result<(), String> {
        // A name that leads elsewhere would make a later step move or remove what is not ours.
        match self.parts.iter().find(|part| part.file.contains('/') || part.file.starts_with('.')) {
            Some(part) => Err(format!("{:?} is no name of a part", part.file)),
            None => Ok(()),
        }
    }
}

/// Where records are kept.
#[derive(Clone, Debug)]
pub struct RecordingJournal {
    recordings: Journal<RecordingRecord>,
    broadcasts: Journal<RecordingRecord>,
}

impl RecordingJournal {
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        let of = |kind| Journal::new(state_dir.join(dir_of(kind)), "unfinished recordings");
        Self { recordings: of(Kind::Recording), broadcasts: of(Kind::Broadcast) }
    }

    fn of(&self, kind: Kind) -> &Journal<RecordingRecord> {
        match kind {
            Kind::Recording => &self.recordings,
            Kind::Broadcast => &self.broadcasts,
        }
    }

    /// Writes the record of what was taken on; on disk when this returns.
    pub async fn begin(&self, start: &Start) -> RecordingEntry {
        let path = self.of(start.kind()).path(start.info.recording_id.as_str());
        let entry = RecordingEntry(RecordFile::new(path, RecordingRecord::new(start)));
        entry.update(|_| {}).await;
        entry
    }

    /// What earlier runs have left, oldest first. A record that cannot be read is put aside, with an error line.
    #[must_use]
    pub fn left(&self, kind: Kind) -> Vec<RecordingEntry> {
        let journal = self.of(kind);
        journal.remove_unfinished();
        let entry = |(path, record)| RecordingEntry(RecordFile::new(path, record));
        let mut left: Vec<_> = journal.all().into_iter().map(entry).collect();
        left.sort_by_key(|entry| entry.record().taken_at);
        left
    }

    /// Whether earlier runs have left any; nothing is read or put aside.
    #[must_use]
    pub fn has_any(&self, kind: Kind) -> bool {
        self.of(kind).has_any()
    }

    /// Whether there is a record of it.
    #[must_use]
    pub fn holds(&self, kind: Kind, recording: &RecordingId) -> bool {
        self.of(kind).path(recording.as_str()).exists()
    }
}

/// The record of one recording; clones are the same.
#[derive(Clone, Debug)]
pub struct RecordingEntry(RecordFile<RecordingRecord>);

impl RecordingEntry {
    /// What it says now.
    #[must_use]
    pub fn record(&self) -> RecordingRecord {
        self.0.get()
    }

    /// Changes it; on disk when this returns. A failure of the disk is logged.
    pub async fn update(&self, change: impl FnOnce(&mut RecordingRecord)) {
        if let Err(error) = self.0.update(change).await {
            self.complain(&error);
        }
    }

    /// It is handed over: the last step.
    pub async fn remove(&self) {
        if let Err(error) = self.0.remove().await {
            tracing::error!(
                path = %self.0.path().display(), %error,
                "the record of a recording that is over cannot be removed; the next start will find nothing left to do for it"
            );
        }
    }

    fn complain(&self, error: &std::io::Error) {
        tracing::error!(
            path = %self.0.path().display(), %error,
            "the recording's record cannot be written: it goes on, but a crash would leave it to you; look at the disk of recorder.state_dir"
        );
    }

    /// A part is about to be opened: its number, counted from 1.
    pub async fn add_part(&self, name: impl FnOnce(usize) -> String) -> usize {
        self.update(move |record| {
            let part = RecordingPart { file: name(record.parts.len() + 1), began_at: None, ended: None };
            record.parts.push(part);
        })
        .await;
        self.record().parts.len()
    }

    /// Media flows into the latest part.
    pub async fn part_began(&self) {
        self.update(|record| {
            let now = unix_ms();
            record.began_at.get_or_insert(now);
            if let Some(part) = record.parts.last_mut() {
                part.began_at = Some(now);
            }
        })
        .await;
    }

    /// The latest part has ended.
    pub async fn part_ended(&self, cause: Option<String>, done: CaptureReport) {
        self.update(move |record| {
            if let Some(part) = record.parts.last_mut() {
                part.ended = Some(PartEnd::new(unix_ms(), cause, done));
            }
        })
        .await;
    }
}

/// A time without capture, between two parts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// Where it lies in the recording, in seconds from its start.
    pub at_s: f64,
    /// How much of the meeting is missing there, in seconds, by the wall clock.
    pub length_s: f64,
    pub cause: String,
}

/// The gaps of a recording whose parts last so long (as measured; `None`: it is not in the recording).
#[must_use]
pub fn gaps(parts: &[RecordingPart], lengths: &[Option<Duration>]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut at = Duration::ZERO;
    let mut before: Option<(&RecordingPart, Duration)> = None;
    for (part, length) in parts.iter().zip(lengths) {
        let Some(length) = length else { continue };
        if let Some((last, lasted)) = before {
            let over = last.began_at.map(|began| began + u64::try_from(lasted.as_millis()).unwrap_or(0));
            let missing = part.began_at.zip(over).map_or(0, |(began, over)| began.saturating_sub(over));
            let cause = match &last.ended {
                Some(end) => end.cause.clone().unwrap_or_else(|| "the capture was ended".to_owned()),
                None => "the recorder itself ended (killed, or the host went down)".to_owned(),
            };
            let seconds = |duration: Duration| (duration.as_secs_f64() * 1e3).round() / 1e3;
            gaps.push(Gap { at_s: seconds(at), length_s: seconds(Duration::from_millis(missing)), cause });
        }
        at += *length;
        before = Some((part, *length));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::jwt;

    fn start() -> Start {
        Start {
            info: RecordingInfo {
                room_table_id: 7,
                room_id: RoomId::parse("room01").unwrap(),
                room_sid: RoomSid::default(),
                recording_id: RecordingId::parse("rec.1").unwrap(),
            },
            access: RoomAccess::Token(AccessToken::parse("tok.en&x=1").unwrap()),
            output: Output::File,
        }
    }

    #[tokio::test]
    async fn a_record_survives_and_only_this_user_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let journal = RecordingJournal::new(dir.path());
        let entry = journal.begin(&start()).await;
        assert_eq!(entry.add_part(|n| format!("rec.1_raw.part{n}.mkv")).await, 1);
        entry.part_began().await;
        entry
            .part_ended(Some("Chrome ended".into()), CaptureReport { frames_sent: 3, ..CaptureReport::default() })
            .await;
        entry.clone().update(|record| record.stop = Some(StopRequest { reason: None })).await;
        let left = journal.left(Kind::Recording);
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].record(), entry.record());
        assert_eq!(left[0].record().start().unwrap(), start());
        let path = dir.path().join("recordings/rec.1.json");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(journal.holds(Kind::Recording, &start().info.recording_id));
        entry.remove().await;
        assert!(journal.left(Kind::Recording).is_empty() && journal.left(Kind::Broadcast).is_empty());
    }

    #[tokio::test]
    async fn a_record_keeps_the_claims_of_a_token_and_not_the_token() {
        let claims = serde_json::json!({ "sub": "RECORDER_BOT", "nbf": 100, "exp": 700, "room_id": "room01" });
        let token = format!("{}&x=1", jwt::sign(claims.as_object().unwrap(), "secret"));
        let access = RoomAccess::Token(AccessToken::parse(&token).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let journal = RecordingJournal::new(dir.path());
        journal.begin(&Start { access: access.clone(), ..start() }).await;
        let text = std::fs::read_to_string(dir.path().join("recordings/rec.1.json")).unwrap();
        let (bare, signature) = (token.split('&').next().unwrap(), token.split(['.', '&']).nth(2).unwrap());
        assert!(!text.contains(bare) && !text.contains(signature), "{text}");
        let again = journal.left(Kind::Recording)[0].record().start().unwrap().access;
        let now = Duration::from_secs(7_200);
        assert_eq!(again.sign("secret", now), access.sign("secret", now));

        // A record of the version before has the token itself.
        let mut older: serde_json::Value = serde_json::from_str(&text).unwrap();
        older.as_object_mut().unwrap().remove("claims");
        older["access_token"] = token.clone().into();
        std::fs::write(dir.path().join("recordings/rec.1.json"), older.to_string()).unwrap();
        let again = journal.left(Kind::Recording)[0].record().start().unwrap().access;
        assert_eq!(again, access);
    }

    #[tokio::test]
    async fn a_record_that_is_none_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let journal = RecordingJournal::new(dir.path());
        let entry = journal.begin(&start()).await;
        entry.add_part(|_| "../../etc/passwd".to_owned()).await;
        assert!(journal.left(Kind::Recording).is_empty());
        assert!(dir.path().join("recordings/rec.1.json.unreadable").exists());
    }

    #[test]
    fn gaps_lie_between_the_parts_that_are_in_it() {
        let part = |began_at, cause: Option<&str>| RecordingPart {
            file: "x".into(),
            began_at: Some(began_at),
            ended: cause.map(|cause| PartEnd::new(0, Some(cause.into()), CaptureReport::default())),
        };
        let parts = [part(1_000, Some("Chrome ended")), part(12_000, None), part(14_000, None), part(40_000, None)];
        let seconds = |n| Some(Duration::from_secs(n));
        let found = gaps(&parts, &[seconds(10), None, seconds(20), seconds(5)]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].at_s, found[0].length_s, found[0].cause.as_str()), (10.0, 3.0, "Chrome ended"));
        assert_eq!((found[1].at_s, found[1].length_s), (30.0, 6.0));
        // A clock that was set back makes no negative gap.
        assert!(gaps(&[part(9_000, None), part(1_000, None)], &[seconds(1), seconds(1)])[0].length_s.abs() < 1e-9);
    }
}
