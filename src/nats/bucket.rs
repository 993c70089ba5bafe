//! The bucket in which recorders announce themselves (PROTOCOL 2), and the wait for what the server creates at its
//! start.

use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::{ErrorCode, kv};
use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::retry::Backoff;
use crate::telemetry::log_throttle::LogThrottle;

use crate::nats::connection::{ANSWER_DEADLINE, Nats, NatsError, no_answer};

/// A value that is not stored by then is outdated.
const PUT_DEADLINE: Duration = Duration::from_secs(3);

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
}

impl Bucket {
    /// Stores a value. The returned revision is the bucket's counter, which only grows while the bucket exists.
    ///
    /// # Errors
    /// Where the value may not be stored: not connected, the bucket is gone, or no answer within 3 s.
    pub async fn put(&self, key: &str, value: String) -> Result<u64, NatsError> {
        self.nats.check_connected()?;
        match tokio::time::timeout(PUT_DEADLINE, self.store.put(key, Bytes::from(value))).await {
            Ok(stored) => stored.map_err(|error| NatsError(format!("writing {key}: {error}"))),
            Err(_) => Err(no_answer(&format!("writing {key}"), PUT_DEADLINE)),
        }
    }

    /// Removes a key and its history.
    ///
    /// # Errors
    /// As for [`Self::put`].
    pub async fn purge(&self, key: &str) -> Result<(), NatsError> {
        self.nats.check_connected()?;
        match tokio::time::timeout(PUT_DEADLINE, self.store.purge(key)).await {
            Ok(purged) => purged.map_err(|error| NatsError(format!("purging {key}: {error}"))),
            Err(_) => Err(no_answer(&format!("purging {key}"), PUT_DEADLINE)),
        }
    }
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
                warn!("{what} is not there yet: the plugNmeet server makes it at its start; waiting");
            }
            Ok(Err(AbsenceCause::Unknown(why))) if throttle.due(Instant::now()) => {
                warn!(%why, "NATS does not say whether {what} is there; asking on");
            }
            Err(_) if throttle.due(Instant::now()) => warn!("NATS does not say whether {what} is there; asking on"),
            Ok(Err(_)) | Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.wait()) => {}
            () = cancel.cancelled() => return None,
        }
    }
}
