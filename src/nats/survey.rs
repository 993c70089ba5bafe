//! Reads the whole bucket once, with what the credentials allow (PROTOCOL 1): STREAM.INFO with a filter lists the keys,
//! DIRECT.GET reads each. `keys()` and `watch()` of the client would create a consumer, which is forbidden.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::stream::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::json;

use crate::nats::connection::{ANSWER_DEADLINE, Nats, NatsError, no_answer};

/// Keys that are read at once.
const AT_ONCE: usize = 32;
/// More than any fleet has: six keys for each of some 5,000 nodes.
const MOST_KEYS: usize = 32_768;

/// The part of an answer to STREAM.INFO that is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamInfo {
    error: Option<ApiError>,
    /// Of the subjects; 0 where all are in one answer.
    total: usize,
    state: StreamState,
}

#[derive(Debug, Deserialize)]
struct ApiError {
    description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamState {
    /// With the number of messages of each. `None`: there is none.
    subjects: Option<BTreeMap<String, u64>>,
}

impl Nats {
    /// All keys of the bucket with their values; what is no text is left out, as are keys that were deleted or purged.
    ///
    /// # Errors
    /// Where there is no bucket, or NATS does not answer.
    pub async fn bucket_content(&self) -> Result<BTreeMap<String, String>, NatsError> {
        let prefix = format!("$KV.{}.", self.link.bucket);
        let subjects = self.bucket_subjects(&prefix).await?;
        let length = prefix.len();
        let reads = subjects.into_iter().map(|subject| async move {
            let value = self.last_value(&subject).await?;
            Ok::<_, NatsError>(value.map(|value| (subject[length..].to_owned(), value)))
        });
        let read: Vec<_> = futures::stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    async fn bucket_subjects(&self, prefix: &str) -> Result<BTreeSet<String>, NatsError> {
        let what = format!("listing the keys of {}", self.link.bucket);
        let mut subjects = BTreeSet::new();
        loop {
            let question = json!({ "subjects_filter": format!("{prefix}>"), "offset": subjects.len() });
            let subject = format!("$JS.API.STREAM.INFO.KV_{}", self.link.bucket);
            let answer = self.ask(&what, subject, question.to_string().into()).await?;
            let info: StreamInfo = serde_json::from_slice(&answer.payload)
                .map_err(|error| NatsError(format!("{what}: the answer cannot be read: {error}")))?;
            if let Some(error) = info.error {
                return Err(NatsError(format!(
                    "{what}: {}; the plugNmeet server makes it at its start",
                    error.description
                )));
            }
            let before = subjects.len();
            let found = info.state.subjects.unwrap_or_default();
            subjects.extend(found.into_keys().filter(|subject| subject.starts_with(prefix)));
            if subjects.len() == before || subjects.len() >= info.total || subjects.len() >= MOST_KEYS {
                return Ok(subjects);
            }
        }
    }

    /// The last value of a key; `None` where it was deleted or purged, or is no text.
    async fn last_value(&self, subject: &str) -> Result<Option<String>, NatsError> {
        let what = format!("reading {subject}");
        let from = format!("$JS.API.DIRECT.GET.KV_{}.{subject}", self.link.bucket);
        let message = self.ask(&what, from, Bytes::new()).await?;
        let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name)).is_some();
        // A status says that there is none any more; an operation, that it was deleted or purged.
        if message.status.is_some() || header("KV-Operation") {
            return Ok(None);
        }
        Ok(String::from_utf8(message.payload.to_vec()).ok())
    }

    async fn ask(&self, what: &str, subject: String, payload: Bytes) -> Result<async_nats::Message, NatsError> {
        self.check_connected()?;
        match tokio::time::timeout(ANSWER_DEADLINE, self.link.client.request(subject, payload)).await {
            Ok(answer) => answer.map_err(|error| NatsError(format!("{what}: {error}"))),
            Err(_) => Err(no_answer(what, ANSWER_DEADLINE)),
        }
    }
}
