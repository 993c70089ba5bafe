use super::*;
use crate::protocol::jwt;

fn start() -> Start {
    Start {
        info: RecordingInfo::parse(7, "room01", "", "rec.1").unwrap(),
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
    entry.part_ended(Some("Chrome ended".into()), CaptureReport { frames_sent: 3, ..CaptureReport::default() }).await;
    entry.clone().update(|record| record.stop = Some(StopRequest { reason: None })).await;
    let unfinished = journal.unfinished(Kind::Recording).unwrap().entries;
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].record(), entry.record());
    assert_eq!(unfinished[0].record().start().unwrap(), start());
    let path = dir.path().join("recordings/rec.1.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(journal.holds(Kind::Recording, &start().info.recording_id));
    entry.remove().await;
    assert!(
        journal.unfinished(Kind::Recording).unwrap().entries.is_empty()
            && journal.unfinished(Kind::Broadcast).unwrap().entries.is_empty()
    );
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
    let again = journal.unfinished(Kind::Recording).unwrap().entries[0].record().start().unwrap().access;
    let now = Duration::from_secs(7_200);
    assert_eq!(again.sign("secret", now), access.sign("secret", now));

    // A record of an earlier version has the token itself.
    let mut older: serde_json::Value = serde_json::from_str(&text).unwrap();
    older.as_object_mut().unwrap().remove("claims");
    older["access_token"] = token.clone().into();
    std::fs::write(dir.path().join("recordings/rec.1.json"), older.to_string()).unwrap();
    let again = journal.unfinished(Kind::Recording).unwrap().entries[0].record().start().unwrap().access;
    assert_eq!(again, access);
}

#[tokio::test]
async fn an_invalid_record_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let journal = RecordingJournal::new(dir.path());
    let entry = journal.begin(&start()).await;
    entry.add_part(|_| "../../etc/passwd".to_owned()).await;
    assert!(journal.unfinished(Kind::Recording).unwrap().entries.is_empty());
    assert!(dir.path().join("recordings/rec.1.json.unreadable").exists());
}
