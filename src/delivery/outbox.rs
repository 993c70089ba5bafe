//! What others are to be told, on disk until they have confirmed it: one file per recording with its letters in order
//! (ARCHITECTURE, "The on-disk protocol").
//!
//! A letter has a key, and a key is in a file once: adding what is there already, delivered or not, changes nothing, so
//! whoever does not know whether he has done a step does it again. Delivered letters are therefore kept for a day; one
//! that is not delivered is kept until it is, or until an operator drops it.
//!
//! A disk that fails costs no delivery: the letters are in memory as well. Only a crash would lose them then.

use crate::delivery::message::{Message, MessageKey, MessageState, RecordingMessages};
use crate::storage::journal::Record as _;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::protocol::ids::RecordingId;
use crate::storage::files;
use crate::telemetry::redact;
use crate::unix_time::unix_ms;

/// The directory in `state_dir`.
pub const DIR: &str = "outbox";
/// All files; clones share them.
#[derive(Clone, Debug)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None`: in memory only.
    dir: Option<PathBuf>,
    all: Mutex<BTreeMap<RecordingId, RecordingMessages>>,
    /// Held while a file is written, so that files follow each other as their contents do. Not `all`: that is never held while
    /// a disk is waited for.
    writing: Mutex<()>,
    changed: watch::Sender<()>,
}

impl Outbox {
    /// Reads what is in `state_dir`. A file that cannot be read is put aside under another name, with an error line.
    ///
    /// # Errors
    /// Where the directory cannot be made or read.
    pub fn open(state_dir: &Path) -> std::io::Result<Self> {
        let dir = state_dir.join(DIR);
        files::create_private_dir(&dir)?;
        files::remove_unfinished(&dir)?;
        let mut all = BTreeMap::new();
        for (name, path) in files::records(&dir)? {
            let read = RecordingId::parse(&name).map_err(|error| error.to_string());
            match read.and_then(|id| Ok((id, RecordingMessages::read(&path)?))) {
                Ok((id, letters)) => drop(all.insert(id, letters)),
                Err(why) => files::put_aside(&path, &why),
            }
        }
        Ok(Self::with(Some(dir), all))
    }

    /// One that a crash empties.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with(None, BTreeMap::new())
    }

    fn with(dir: Option<PathBuf>, all: BTreeMap<RecordingId, RecordingMessages>) -> Self {
        let shared = Shared { dir, all: Mutex::new(all), writing: Mutex::default(), changed: watch::Sender::new(()) };
        Self { shared: Arc::new(shared) }
    }

    /// Where the node keeps its state; `None`: nowhere.
    #[must_use]
    pub fn state_dir(&self) -> Option<PathBuf> {
        self.shared.dir.as_deref().and_then(Path::parent).map(Path::to_owned)
    }

    /// Adds those whose keys are not there yet, all in one write. Whether they are on disk when this returns: else they are in
    /// memory alone, which is logged.
    pub async fn add(&self, id: &RecordingId, letters: Vec<Message>) -> bool {
        self.change(id, move |there| {
            let mut changed = false;
            for letter in letters {
                changed |= there.add(letter);
            }
            changed
        })
        .await
    }

    /// A recording begins, or has a new result: what an earlier one with its id, or its earlier job, was told or could not be
    /// told is forgotten.
    pub async fn forget(&self, id: &RecordingId, keys: &'static [MessageKey]) {
        self.change(id, move |there| {
            let before = there.letters.len();
            there.letters.retain(|letter| letter.is_waiting() || !keys.contains(&letter.key));
            there.letters.len() != before
        })
        .await;
    }

    /// It is over for this letter.
    pub async fn settle(&self, id: &RecordingId, key: MessageKey, state: MessageState) {
        self.change(id, move |there| there.get_mut(key).is_some_and(|letter| letter.settle(state))).await;
    }

    /// This very letter was taken; one that has come into its place meanwhile was not.
    pub async fn delivered(&self, id: &RecordingId, tried: &Message) {
        let (key, body) = (tried.key, tried.body.clone());
        let state = MessageState::Delivered { at: unix_ms() };
        self.change(id, move |there| {
            there.get_mut(key).is_some_and(|letter| letter.body == body && letter.settle(state))
        })
        .await;
    }

    /// There was no answer of the other side's; the next try comes after `wait`.
    pub async fn note_failure(&self, id: &RecordingId, key: MessageKey, why: String, wait: Duration) {
        self.note(id, key, MessageState::Waiting, scrubbed(&why), wait).await;
    }

    /// The other side does not take it as things stand; the next try comes after `wait`.
    pub async fn note_refusal(&self, id: &RecordingId, key: MessageKey, why: String, wait: Duration) {
        let why = scrubbed(&why);
        self.note(id, key, MessageState::Refused { at: unix_ms(), why: why.clone() }, why, wait).await;
    }

    /// `why` and what the state says were scrubbed: they may quote the other side.
    async fn note(&self, id: &RecordingId, key: MessageKey, state: MessageState, why: String, wait: Duration) {
        self.change(id, move |there| {
            there.get_mut(key).filter(|letter| letter.is_open()).is_some_and(|letter| {
                letter.state = state;
                letter.failures = letter.failures.saturating_add(1);
                letter.last_error = Some(why);
                letter.next_try = Some(unix_ms() + u64::try_from(wait.as_millis()).unwrap_or(0));
                true
            })
        })
        .await;
    }

    /// An operator does not want these told any more; those of them that were still to be told.
    pub async fn drop_letters(&self, id: &RecordingId, keys: Vec<MessageKey>) -> Vec<Message> {
        let open = self.letters(id).into_iter().filter(|letter| letter.is_open() && keys.contains(&letter.key));
        let dropped: Vec<Message> = open.collect();
        self.change(id, move |there| there.drop_letters(&keys, unix_ms())).await;
        dropped
    }

    /// The letters of a recording, in order.
    #[must_use]
    pub fn letters(&self, id: &RecordingId) -> Vec<Message> {
        self.shared.lock().get(id).map(|there| there.letters.clone()).unwrap_or_default()
    }

    /// The state of one letter; `None` where it was never added.
    #[must_use]
    pub fn state(&self, id: &RecordingId, key: MessageKey) -> Option<MessageState> {
        let all = self.shared.lock();
        all.get(id)?.letters.iter().find(|letter| letter.key == key).map(|letter| letter.state.clone())
    }

    /// The recordings of which something is still to be told.
    #[must_use]
    pub fn open_recordings(&self) -> Vec<RecordingId> {
        let all = self.shared.lock();
        all.iter().filter(|(_, there)| there.letters.iter().any(Message::is_open)).map(|(id, _)| id.clone()).collect()
    }

    /// The letters of a recording that are still to be told, in order, without what comes too late.
    #[must_use]
    pub fn to_tell(&self, id: &RecordingId) -> Vec<Message> {
        let all = self.shared.lock();
        let Some(there) = all.get(id) else { return Vec::new() };
        let open = there.letters.iter().filter(|letter| letter.is_open() && !there.comes_too_late(letter));
        open.cloned().collect()
    }

    /// Removes the files of which all is over since a day.
    pub async fn sweep(&self) {
        let now = unix_ms();
        let past: Vec<RecordingId> = {
            let all = self.shared.lock();
            all.iter().filter(|(_, there)| there.is_past(now)).map(|(id, _)| id.clone()).collect()
        };
        for id in past {
            self.change(&id, |there| {
                there.letters.clear();
                true
            })
            .await;
        }
    }

    /// Changes one recording's letters, in memory and then on disk. A failure of the disk is logged; false then.
    async fn change(
        &self,
        id: &RecordingId,
        change: impl FnOnce(&mut RecordingMessages) -> bool + Send + 'static,
    ) -> bool {
        let (shared, owned) = (Arc::clone(&self.shared), id.clone());
        let written = files::on_disk(move || {
            let _writing = shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let (changed, text) = shared.change(&owned, change)?;
            let Some(dir) = shared.dir.as_ref().filter(|_| changed) else { return Ok(()) };
            let path = dir.join(format!("{owned}.json"));
            text.map_or_else(|| files::remove(&path), |text| files::write_private(&path, &text))
        });
        let written = written.await;
        if let Err(error) = &written {
            tracing::error!(
                recording_id = %id, %error,
                "the outbox cannot be written: it is delivered from memory, but a crash would lose it; look at the disk of recorder.state_dir"
            );
        }
        self.shared.changed.send_replace(());
        written.is_ok()
    }

    /// Resolves when the other side has had its say on a letter. Cancel-safe.
    pub async fn settled(&self, id: &RecordingId, key: MessageKey) {
        let mut changed = self.shared.changed.subscribe();
        while self.state(id, key) == Some(MessageState::Waiting) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

fn scrubbed(why: &str) -> String {
    redact::scrub(why).into_owned()
}

impl Shared {
    /// Whether anything changed, and what the file then holds: nothing where no letter is left.
    fn change(
        &self,
        id: &RecordingId,
        change: impl FnOnce(&mut RecordingMessages) -> bool,
    ) -> std::io::Result<(bool, Option<Vec<u8>>)> {
        let mut all = self.lock();
        let there = all.entry(id.clone()).or_default();
        let changed = change(there);
        if there.letters.is_empty() {
            all.remove(id);
            return Ok((changed, None));
        }
        Ok((changed, Some(serde_json::to_vec_pretty(there)?)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RecordingId, RecordingMessages>> {
        // Letters are whole at every point where a panic could be.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> RecordingId {
        RecordingId::parse(text).unwrap()
    }

    fn letter(key: MessageKey, body: &str) -> Message {
        Message::new(key, format!("about {body}"), body.into())
    }

    #[tokio::test]
    async fn what_is_added_survives_and_a_key_is_there_once() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        outbox.add(&id("a"), vec![letter(MessageKey::Started, "1"), letter(MessageKey::Ended, "2")]).await;
        outbox.add(&id("a"), vec![letter(MessageKey::Ended, "other"), letter(MessageKey::Job, "3")]).await;
        outbox.settle(&id("a"), MessageKey::Started, MessageState::Delivered { at: unix_ms() }).await;
        outbox.note_failure(&id("a"), MessageKey::Ended, "refused".into(), Duration::from_secs(1)).await;
        let again = Outbox::open(dir.path()).unwrap();
        assert_eq!(again.letters(&id("a")), outbox.letters(&id("a")));
        let letters = again.letters(&id("a"));
        assert_eq!(letters.iter().map(|letter| letter.body.as_slice()).collect::<Vec<_>>(), [b"1", b"2", b"3"]);
        assert!(!letters[0].is_waiting() && letters[1].is_waiting());
        assert_eq!((letters[1].failures, letters[1].last_error.as_deref()), (1, Some("refused")));
        // The start was told: a second telling of it changes nothing, even after a restart.
        again.add(&id("a"), vec![letter(MessageKey::Started, "again")]).await;
        assert_eq!(again.letters(&id("a")).len(), 3);
        assert_eq!(again.open_recordings(), [id("a")]);
    }

    #[tokio::test]
    async fn what_is_over_is_forgotten_after_a_day_or_by_a_new_recording() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        let old = unix_ms() - 2 * 24 * 3600 * 1000;
        for (name, at) in [("old", old), ("new", unix_ms())] {
            outbox.add(&id(name), vec![letter(MessageKey::Ended, "x")]).await;
            outbox.settle(&id(name), MessageKey::Ended, MessageState::Delivered { at }).await;
        }
        outbox.add(&id("waits"), vec![letter(MessageKey::Ended, "x")]).await;
        outbox.sweep().await;
        let names = || files::records(&dir.path().join(DIR)).unwrap().into_iter().map(|(name, _)| name);
        assert_eq!(names().collect::<Vec<_>>(), ["new", "waits"]);
        outbox.forget(&id("new"), &[MessageKey::Ended]).await;
        outbox.forget(&id("waits"), &[MessageKey::Ended]).await;
        assert_eq!(names().collect::<Vec<_>>(), ["waits"]);
    }

    #[tokio::test]
    async fn a_broken_file_is_put_aside_and_a_disk_that_fails_costs_no_letter() {
        let dir = tempfile::tempdir().unwrap();
        let box_dir = dir.path().join(DIR);
        std::fs::create_dir(&box_dir).unwrap();
        std::fs::write(box_dir.join("a.json"), "{").unwrap();
        std::fs::write(box_dir.join(".b.jsonXYZ"), "half").unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        assert!(outbox.open_recordings().is_empty());
        assert!(box_dir.join("a.json.unreadable").exists() && !box_dir.join(".b.jsonXYZ").exists());
        std::fs::remove_dir_all(&box_dir).unwrap();
        assert!(!outbox.add(&id("c"), vec![letter(MessageKey::Ended, "x")]).await);
        assert_eq!(outbox.open_recordings(), [id("c")]);
    }
}
