//! The bucket in which recorders announce themselves (PROTOCOL 2), and the wait for what the server creates at its
//! start.

use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::{ErrorCode, kv};
use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::codes;
use crate::retry::Backoff;
use crate::telemetry::log_throttle::LogThrottle;

use crate::nats::connection::{ANSWER_DEADLINE, Nats, NatsError, no_answer};

/// A value that is not written by then is outdated.
const WRITE_DEADLINE: Duration = Duration::from_secs(3);

/// The key-value bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    nats: Nats,
    store: kv::Store,
}

impl Nats {
    /// The bucket, as soon as it exists. `None`: cancelled first.
    pub async fn bucket(&self, cancel: &CancellationToken) -> Option<Bucket> {
        let what = format!("the bucket {}", self.link.bucket);
        wait_until_present(&what, cancel, || async {
            self.check_connected().map_err(|why| AbsenceCause::Unknown(why.to_string()))?;
            // The stream is queried first, since its error tells a missing bucket from a failed query.
            self.link.context.get_stream(format!("KV_{}", self.link.bucket)).await.map_err(|error| {
                match error.kind() {
                    GetStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                        AbsenceCause::NotYet
                    }
                    _ => AbsenceCause::Unknown(error.to_string()),
                }
            })?;
            let store = self.link.context.get_key_value(&self.link.bucket).await;
            let store = store.map_err(|error| AbsenceCause::Unknown(error.to_string()))?;
            Ok(Bucket { nats: self.clone(), store })
        })
        .await
    }

    /// The bucket, which must exist.
    ///
    /// # Errors
    /// Where there is none, or no answer within 5 s.
    pub(super) async fn bucket_now(&self) -> Result<Bucket, NatsError> {
        let what = format!("opening the bucket {}", self.link.bucket);
        match tokio::time::timeout(ANSWER_DEADLINE, self.link.context.get_key_value(&self.link.bucket)).await {
            Ok(Ok(store)) => Ok(Bucket { nats: self.clone(), store }),
            Ok(Err(error)) => Err(NatsError(format!("{what}: {error}"))),
            Err(_) => Err(no_answer(&what, ANSWER_DEADLINE)),
        }
    }
}

/// What the bucket holds under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketEntry {
    /// The revision of the last write, or of the purge; 0 where the bucket has nothing of the key.
    pub revision: u64,
    /// `None` where the key was never written, deleted or purged.
    pub value: Option<String>,
}

/// Why a value was not written.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The key is at another revision than the caller said: somebody else has written it, or the bucket is a new one.
    #[error("{0}: another writer has changed it")]
    Conflict(String),
    /// It may be written or not.
    #[error(transparent)]
    Failed(#[from] NatsError),
}

impl Bucket {
    /// Reads a key. In a cluster any replica answers, so that the answer may be some milliseconds old.
    ///
    /// # Errors
    /// Where there is no answer within 3 s, or no connection.
    pub async fn read(&self, key: &str) -> Result<BucketEntry, NatsError> {
        self.nats.check_connected()?;
        let entry = match tokio::time::timeout(WRITE_DEADLINE, self.store.entry(key)).await {
            Ok(read) => read.map_err(|error| NatsError(format!("reading {key}: {error}")))?,
            Err(_) => return Err(no_answer(&format!("reading {key}"), WRITE_DEADLINE)),
        };
        Ok(entry.map_or_else(BucketEntry::default, |entry| {
            let is_value = entry.operation == kv::Operation::Put;
            let value = is_value.then(|| String::from_utf8_lossy(&entry.value).into_owned());
            BucketEntry { revision: entry.revision, value }
        }))
    }

    /// Writes a value where the key is still at `revision` ([`BucketEntry::revision`]). Returns the new revision.
    ///
    /// # Errors
    /// Where the key is at another revision; where the value may not be written: not connected, the bucket is gone, or no
    /// answer within 3 s.
    pub async fn update(&self, key: &str, value: String, revision: u64) -> Result<u64, UpdateError> {
        self.nats.check_connected()?;
        let update = self.store.update(key, Bytes::from(value), revision);
        self.written(&format!("writing {key}"), update).await
    }

    /// Removes a key and its history where it is still at `revision`.
    ///
    /// # Errors
    /// As for [`Self::update`].
    pub async fn purge_at(&self, key: &str, revision: u64) -> Result<(), UpdateError> {
        self.nats.check_connected()?;
        let purge = self.store.purge_expect_revision(key, Some(revision));
        self.written(&format!("purging {key}"), purge).await
    }

    /// Removes a key and its history, whoever wrote it.
    ///
    /// # Errors
    /// Where the key may not be removed: not connected, the bucket is gone, or no answer within 3 s.
    pub async fn purge(&self, key: &str) -> Result<(), NatsError> {
        self.nats.check_connected()?;
        match tokio::time::timeout(WRITE_DEADLINE, self.store.purge(key)).await {
            Ok(purged) => purged.map_err(|error| NatsError(format!("purging {key}: {error}"))),
            Err(_) => Err(no_answer(&format!("purging {key}"), WRITE_DEADLINE)),
        }
    }

    async fn written<T>(
        &self,
        what: &str,
        write: impl Future<Output = Result<T, kv::UpdateError>>,
    ) -> Result<T, UpdateError> {
        match tokio::time::timeout(WRITE_DEADLINE, write).await {
            Ok(Err(error)) if is_conflict(&error) => Err(UpdateError::Conflict(what.to_owned())),
            Ok(written) => Ok(written.map_err(|error| NatsError(format!("{what}: {error}")))?),
            Err(_) => Err(no_answer(what, WRITE_DEADLINE).into()),
        }
    }
}

/// The client knows one of the two codes by which a server reports a wrong revision. A cluster has the other one
/// (10164), for a write that meets one which its replicas do not have yet; the text is the same.
fn is_conflict(error: &kv::UpdateError) -> bool {
    error.kind() == kv::UpdateErrorKind::WrongLastRevision || error.to_string().contains("wrong last sequence")
}

/// Why a bucket or consumer cannot be used yet.
pub(super) enum AbsenceCause {
    /// The plugNmeet server has not created it.
    NotYet,
    /// The query failed; why.
    Unknown(String),
}

/// Queries until `what` exists, logging at growing intervals what is waited for.
pub(super) async fn wait_until_present<T, F>(
    what: &str,
    cancel: &CancellationToken,
    mut ask: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, AbsenceCause>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
    let mut throttle = LogThrottle::default();
    loop {
        let result = tokio::select! {
            result = tokio::time::timeout(2 * ANSWER_DEADLINE, ask()) => result,
            () = cancel.cancelled() => return None,
        };
        match result {
            Ok(Ok(found)) => {
                if throttle.end() {
                    info!("{what} is there");
                }
                return Some(found);
            }
            Ok(Err(AbsenceCause::NotYet)) if throttle.due(Instant::now()) => {
                warn!(
                    code = %codes::NATS_LACKS_SOMETHING,
                    "{what} is not there yet: the plugNmeet server makes it at its start; waiting"
                );
            }
            Ok(Err(AbsenceCause::Unknown(why))) if throttle.due(Instant::now()) => {
                warn!(code = %codes::NATS_SILENT, %why, "NATS does not say whether {what} is there; asking on");
            }
            Err(_) if throttle.due(Instant::now()) => {
                warn!(code = %codes::NATS_SILENT, "NATS does not say whether {what} is there; asking on");
            }
            Ok(Err(_)) | Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.wait()) => {}
            () = cancel.cancelled() => return None,
        }
    }
}
