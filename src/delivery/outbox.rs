//! Messages on disk until their receivers have confirmed them: one file per recording with its messages in order
//! (`docs/on-disk-protocol.md`).
//!
//! A file holds each message key once. Adding a message whose key is there changes nothing, delivered or not, so a step
//! that may have been done already can be repeated. Therefore delivered messages are kept for a day; an undelivered one
//! is kept until it is delivered or an operator drops it.
//!
//! A disk that fails or hangs stops no delivery: a message is in memory at once and written when the disk takes it, and
//! only a crash before that would lose it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::codes;
use crate::delivery::message::{Message, MessageKey, MessageState, RecordingMessages};
use crate::protocol::ids::RecordingId;
use crate::storage::files;
use crate::storage::journal::{RECORD_LIMIT, ReadError, Record as _};
use crate::storage::record_writer::{PendingWrite, RecordWriter};
use crate::telemetry::redact;
use crate::unix_time::unix_ms;

/// The directory in `state_dir`.
pub const DIR: &str = "outbox";
/// How many files are removed at once, with one fsync.
const REMOVAL_GROUP: usize = 100;
/// The messages of all recordings; clones share them.
#[derive(Clone, Debug)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None`: the outbox is in memory only.
    dir: Option<PathBuf>,
    /// Writes the files of `dir`.
    writer: Option<RecordWriter>,
    /// Never held while the disk works.
    all: Mutex<BTreeMap<RecordingId, RecordingMessages>>,
    /// The recordings whose files could not be read yet. They are not written either.
    unread: Mutex<BTreeSet<RecordingId>>,
    changed: watch::Sender<()>,
}

/// What is not delivered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Messages; a file that cannot be read counts as one.
    pub messages: usize,
    /// When the oldest was added, in Unix milliseconds.
    pub oldest: Option<u64>,
}

impl Outbox {
    /// Reads the outbox in `state_dir`. A file whose content is wrong is put aside under another name and logged as an
    /// error; one that cannot be read now is left in place for [`Self::read_rest`].
    ///
    /// # Errors
    /// Where the directory cannot be made or read.
    pub fn open(state_dir: &Path) -> std::io::Result<Self> {
        let dir = state_dir.join(DIR);
        files::create_private_dir(&dir)?;
        files::remove_unfinished(&dir)?;
        let (mut all, mut unread) = (BTreeMap::new(), BTreeSet::new());
        for (name, path) in files::records(&dir)? {
            let Ok(id) = RecordingId::parse(&name) else {
                files::put_aside(&path, "its name is no id of a recording");
                continue;
            };
            match RecordingMessages::read(&path) {
                Ok(messages) => drop(all.insert(id, messages)),
                Err(ReadError::Content(why)) => files::put_aside(&path, &why),
                Err(error) => {
                    tracing::error!(
                        code = %codes::MESSAGES_UNREAD,
                        path = %path.display(), %error,
                        "the messages of a recording cannot be read: they are tried again every 5 s, and wait until then; look at the disk of recorder.state_dir"
                    );
                    unread.insert(id);
                }
            }
        }
        Ok(Self::with(Some(dir), all, unread))
    }

    /// An outbox without files.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with(None, BTreeMap::new(), BTreeSet::new())
    }

    fn with(
        dir: Option<PathBuf>,
        all: BTreeMap<RecordingId, RecordingMessages>,
        unread: BTreeSet<RecordingId>,
    ) -> Self {
        let writer = dir.clone().map(|dir| RecordWriter::new(dir, "the messages of the outbox", false));
        let (all, unread) = (Mutex::new(all), Mutex::new(unread));
        let shared = Shared { dir, writer, all, unread, changed: watch::Sender::new(()) };
        Self { shared: Arc::new(shared) }
    }

    /// Whether the recording's file could not be read yet: what of it was sent is not known.
    #[must_use]
    pub fn is_unread(&self, id: &RecordingId) -> bool {
        self.shared.unread().contains(id)
    }

    /// Reads the files that could not be read before. Messages that were added meanwhile come behind the earlier ones.
    /// Returns the recordings whose messages are known now.
    pub async fn read_rest(&self) -> Vec<RecordingId> {
        let (Some(dir), unread) = (self.shared.dir.clone(), self.shared.unread().clone()) else { return Vec::new() };
        let mut known = Vec::new();
        for id in unread {
            let path = dir.join(format!("{id}.json"));
            let read = move || match RecordingMessages::read(&path) {
                Ok(stored) => Ok(stored),
                Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                    Ok(RecordingMessages::default())
                }
                Err(ReadError::Io(error)) => Err(error),
                Err(ReadError::Content(why)) => {
                    files::put_aside(&path, &why);
                    Ok(RecordingMessages::default())
                }
            };
            let Ok(stored) = files::on_disk(read).await else { continue };
            tracing::info!(recording_id = %id, messages = stored.messages.len(), "the messages of a recording can be read");
            let (shared, now_read) = (Arc::clone(&self.shared), id.clone());
            let merged = self.change(&id, move |messages| {
                shared.unread().remove(&now_read);
                let later = std::mem::replace(messages, stored);
                for message in later.messages {
                    messages.add(message);
                }
                true
            });
            on_disk(merged).await;
            known.push(id);
        }
        known
    }

    /// The node's state directory; `None` for an outbox in memory.
    #[must_use]
    pub fn state_dir(&self) -> Option<PathBuf> {
        self.shared.dir.as_deref().and_then(Path::parent).map(Path::to_owned)
    }

    /// What writes the files; `None` for an outbox in memory.
    #[must_use]
    pub fn writer(&self) -> Option<&RecordWriter> {
        self.shared.writer.as_ref()
    }

    /// Adds the messages whose keys are new, in one write. They are in memory when this returns, and on disk when the
    /// answer is; `None`: they are on disk already.
    pub fn put(&self, id: &RecordingId, messages: Vec<Message>) -> Option<PendingWrite> {
        self.change(id, move |stored| {
            let mut changed = false;
            for message in messages {
                changed |= stored.add(message);
            }
            changed
        })
    }

    /// [`Self::put`], and waits up to [`RECORD_LIMIT`] for the disk. Whether they are on disk when this returns.
    pub async fn add(&self, id: &RecordingId, messages: Vec<Message>) -> bool {
        on_disk(self.put(id, messages)).await
    }

    /// Removes the messages of these keys that are not waiting: before a new recording with the same id, or a new
    /// result.
    pub async fn forget(&self, id: &RecordingId, keys: &'static [MessageKey]) {
        on_disk(self.begin_forget(id, keys)).await;
    }

    /// [`Self::forget`], without waiting for the disk. `None`: there is nothing to wait for.
    pub fn begin_forget(&self, id: &RecordingId, keys: &[MessageKey]) -> Option<PendingWrite> {
        self.change(id, move |stored| {
            let before = stored.messages.len();
            stored.messages.retain(|message| message.is_waiting() || !keys.contains(&message.key));
            stored.messages.len() != before
        })
    }

    /// Sets a message's state; it is not tried again by itself.
    pub async fn set_state(&self, id: &RecordingId, key: MessageKey, state: MessageState) {
        on_disk(self.change(id, move |stored| stored.get_mut(key).is_some_and(|message| message.set_state(state))))
            .await;
    }

    /// Marks the message as delivered, unless another with its key has replaced it since.
    pub async fn delivered(&self, id: &RecordingId, outcome: &Message) {
        let (key, body) = (outcome.key, outcome.body.clone());
        let state = MessageState::Delivered { at: unix_ms() };
        let change = self.change(id, move |stored| {
            stored.get_mut(key).is_some_and(|message| message.body == body && message.set_state(state))
        });
        on_disk(change).await;
    }

    /// Notes a failed attempt that plugNmeet or NATS did not answer; the next attempt comes after `wait`.
    pub async fn note_failure(&self, id: &RecordingId, key: MessageKey, why: String, wait: Duration) {
        self.note(id, key, MessageState::Waiting, scrubbed(&why), wait).await;
    }

    /// Notes that plugNmeet refused the message; the next attempt comes after `wait`.
    pub async fn note_refusal(&self, id: &RecordingId, key: MessageKey, why: String, wait: Duration) {
        let why = scrubbed(&why);
        self.note(id, key, MessageState::Refused { at: unix_ms(), why: why.clone() }, why, wait).await;
    }

    /// `why` and the text in `state` must be scrubbed of secrets: they may quote the other side.
    async fn note(&self, id: &RecordingId, key: MessageKey, state: MessageState, why: String, wait: Duration) {
        let change = self.change(id, move |stored| {
            stored.get_mut(key).filter(|message| message.is_open()).is_some_and(|message| {
                message.state = state;
                message.failures = message.failures.saturating_add(1);
                message.last_error = Some(why);
                message.next_try = Some(unix_ms() + u64::try_from(wait.as_millis()).unwrap_or(0));
                true
            })
        });
        on_disk(change).await;
    }

    /// Drops the undelivered messages of these keys, and returns them.
    pub async fn drop_messages(&self, id: &RecordingId, keys: Vec<MessageKey>) -> Vec<Message> {
        let open = self.messages(id).into_iter().filter(|message| message.is_open() && keys.contains(&message.key));
        let dropped: Vec<Message> = open.collect();
        on_disk(self.change(id, move |stored| stored.drop_messages(&keys, unix_ms()))).await;
        dropped
    }

    /// A recording's messages, in order.
    #[must_use]
    pub fn messages(&self, id: &RecordingId) -> Vec<Message> {
        self.shared.lock().get(id).map(|stored| stored.messages.clone()).unwrap_or_default()
    }

    /// The state of a message; `None` where there is no such message.
    #[must_use]
    pub fn state(&self, id: &RecordingId, key: MessageKey) -> Option<MessageState> {
        let all = self.shared.lock();
        all.get(id)?.messages.iter().find(|message| message.key == key).map(|message| message.state.clone())
    }

    /// What is not delivered yet.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        let all = self.shared.lock();
        let open = |stored: &RecordingMessages| {
            let open = stored.messages.iter().filter(|message| message.is_open() && !stored.is_obsolete(message));
            open.map(|message| message.added_at).collect::<Vec<_>>()
        };
        let added: Vec<u64> = all.values().flat_map(open).collect();
        let unread = self.shared.unread().len();
        Backlog { messages: added.len() + unread, oldest: added.into_iter().min() }
    }

    /// The recordings with undelivered messages.
    #[must_use]
    pub fn open_recordings(&self) -> Vec<RecordingId> {
        let all = self.shared.lock();
        all.iter()
            .filter(|(_, stored)| stored.messages.iter().any(Message::is_open))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// A recording's undelivered messages, in order, without [obsolete](RecordingMessages::is_obsolete) ones.
    #[must_use]
    pub fn undelivered(&self, id: &RecordingId) -> Vec<Message> {
        let all = self.shared.lock();
        let Some(stored) = all.get(id) else { return Vec::new() };
        let open = stored.messages.iter().filter(|message| message.is_open() && !stored.is_obsolete(message));
        open.cloned().collect()
    }

    /// Removes the files of which every message was delivered or dropped more than a day ago, but not those of recordings
    /// that something still relies on (`is_live`). They are removed in groups with one fsync each. Returns how many.
    ///
    /// # Errors
    /// Where the disk fails; what remains is removed by a later call.
    pub async fn remove_old(&self, is_live: impl Fn(&RecordingId) -> bool) -> std::io::Result<usize> {
        let now = unix_ms();
        let expired: Vec<RecordingId> = {
            let all = self.shared.lock();
            all.iter().filter(|(id, stored)| stored.is_expired(now) && !is_live(id)).map(|(id, _)| id.clone()).collect()
        };
        let mut removed = 0;
        for group in expired.chunks(REMOVAL_GROUP) {
            let remove = |id| {
                self.change(id, |stored| {
                    // A new recording with this id may have changed it since.
                    let expired = stored.is_expired(now);
                    if expired {
                        stored.messages.clear();
                    }
                    expired
                })
            };
            let pending: Vec<_> = group.iter().filter_map(remove).collect();
            for removal in pending {
                removal.within(RECORD_LIMIT).await.map_err(std::io::Error::other)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Changes a recording's messages in memory and has them written. `None`: what the file holds is on disk.
    fn change(&self, id: &RecordingId, change: impl FnOnce(&mut RecordingMessages) -> bool) -> Option<PendingWrite> {
        let pending = self.shared.change(id, change);
        self.shared.changed.send_replace(());
        pending
    }

    /// Resolves when the message is not waiting: the receiver has answered, or it was dropped. Cancel-safe.
    pub async fn answered(&self, id: &RecordingId, key: MessageKey) {
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

/// Waits up to [`RECORD_LIMIT`]; what is late or fails is written when the disk takes it. The writer logs that.
async fn on_disk(pending: Option<PendingWrite>) -> bool {
    match pending {
        Some(pending) => pending.within(RECORD_LIMIT).await.is_ok(),
        None => true,
    }
}

impl Shared {
    fn change(&self, id: &RecordingId, change: impl FnOnce(&mut RecordingMessages) -> bool) -> Option<PendingWrite> {
        let mut all = self.lock();
        let stored = all.entry(id.clone()).or_default();
        let changed = change(stored);
        if changed && self.unread().contains(id) {
            let why = std::io::Error::other("its file could not be read yet");
            return self.writer.as_ref().map(|writer| writer.refuse(why));
        }
        let file = self.writer.as_ref().zip(self.dir.as_ref());
        let file = file.map(|(writer, dir)| (writer, dir.join(format!("{id}.json"))));
        // Within the lock, so that the newest messages are written last.
        let pending = file.and_then(|(writer, path)| match (changed, stored.messages.is_empty()) {
            (true, false) => Some(writer.write_json(&path, stored)),
            (true, true) => Some(writer.remove(&path)),
            // An earlier change may not be written yet.
            (false, _) => writer.pending(&path),
        });
        if stored.messages.is_empty() {
            all.remove(id);
        }
        pending
    }

    fn unread(&self) -> MutexGuard<'_, BTreeSet<RecordingId>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RecordingId, RecordingMessages>> {
        // The map is consistent at every point that could panic.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> RecordingId {
        RecordingId::parse(text).unwrap()
    }

    fn message(key: MessageKey, body: &str) -> Message {
        Message::new(key, format!("about {body}"), body.into())
    }

    #[tokio::test]
    async fn messages_survive_a_restart_and_a_key_is_stored_once() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        outbox.add(&id("a"), vec![message(MessageKey::Started, "1"), message(MessageKey::Ended, "2")]).await;
        outbox.add(&id("a"), vec![message(MessageKey::Ended, "other"), message(MessageKey::Job, "3")]).await;
        outbox.set_state(&id("a"), MessageKey::Started, MessageState::Delivered { at: unix_ms() }).await;
        outbox.note_failure(&id("a"), MessageKey::Ended, "refused".into(), Duration::from_secs(1)).await;
        let again = Outbox::open(dir.path()).unwrap();
        assert_eq!(again.messages(&id("a")), outbox.messages(&id("a")));
        let messages = again.messages(&id("a"));
        assert_eq!(messages.iter().map(|message| message.body.as_slice()).collect::<Vec<_>>(), [b"1", b"2", b"3"]);
        assert!(!messages[0].is_waiting() && messages[1].is_waiting());
        assert_eq!((messages[1].failures, messages[1].last_error.as_deref()), (1, Some("refused")));
        // The start was delivered: adding it again changes nothing, even after a restart.
        again.add(&id("a"), vec![message(MessageKey::Started, "again")]).await;
        assert_eq!(again.messages(&id("a")).len(), 3);
        assert_eq!(again.open_recordings(), [id("a")]);
    }

    #[tokio::test]
    async fn a_settled_message_is_removed_after_a_day_or_by_a_new_recording() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        let old = unix_ms() - 2 * 24 * 3600 * 1000;
        for (name, at) in [("old", old), ("live", old), ("new", unix_ms())] {
            outbox.add(&id(name), vec![message(MessageKey::Ended, "x")]).await;
            outbox.set_state(&id(name), MessageKey::Ended, MessageState::Delivered { at }).await;
        }
        outbox.add(&id("waits"), vec![message(MessageKey::Ended, "x")]).await;
        assert_eq!(outbox.remove_old(|id| id.as_str() == "live").await.unwrap(), 1);
        let names = || files::records(&dir.path().join(DIR)).unwrap().into_iter().map(|(name, _)| name);
        assert_eq!(names().collect::<Vec<_>>(), ["live", "new", "waits"]);
        outbox.forget(&id("new"), &[MessageKey::Ended]).await;
        outbox.forget(&id("waits"), &[MessageKey::Ended]).await;
        assert_eq!(names().collect::<Vec<_>>(), ["live", "waits"]);
    }

    #[tokio::test]
    async fn a_broken_file_is_put_aside_and_a_failing_disk_loses_no_message() {
        let dir = tempfile::tempdir().unwrap();
        let box_dir = dir.path().join(DIR);
        std::fs::create_dir(&box_dir).unwrap();
        std::fs::write(box_dir.join("a.json"), "{").unwrap();
        std::fs::write(box_dir.join(".b.jsonXYZ"), "half").unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        assert!(outbox.open_recordings().is_empty());
        assert!(box_dir.join("a.json.unreadable").exists() && !box_dir.join(".b.jsonXYZ").exists());
        std::fs::remove_dir_all(&box_dir).unwrap();
        assert!(!outbox.add(&id("c"), vec![message(MessageKey::Ended, "x")]).await);
        assert_eq!(outbox.open_recordings(), [id("c")]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_for_now_is_read_later_and_neither_repeated_nor_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (file, away) = (dir.path().join(DIR).join("a.json"), dir.path().join("away"));
        let outbox = Outbox::open(dir.path()).unwrap();
        outbox.add(&id("a"), vec![message(MessageKey::Started, "1"), message(MessageKey::Ended, "2")]).await;
        outbox.set_state(&id("a"), MessageKey::Ended, MessageState::Delivered { at: 1 }).await;
        std::fs::rename(&file, &away).unwrap();
        // Reading a directory fails with EISDIR.
        std::fs::create_dir(&file).unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        assert!(outbox.is_unread(&id("a")) && outbox.read_rest().await.is_empty() && file.is_dir());
        assert!(!outbox.add(&id("a"), vec![message(MessageKey::Ended, "again"), message(MessageKey::Job, "3")]).await);
        std::fs::remove_dir(&file).unwrap();
        std::fs::rename(&away, &file).unwrap();
        assert_eq!(outbox.read_rest().await, [id("a")]);
        let again = Outbox::open(dir.path()).unwrap();
        assert_eq!(again.messages(&id("a")), outbox.messages(&id("a")));
        let messages = again.messages(&id("a"));
        assert_eq!(messages.iter().map(|message| message.body.as_slice()).collect::<Vec<_>>(), [b"1", b"2", b"3"]);
        assert!(messages[1].state.is_over() && !again.is_unread(&id("a")));
    }
}
