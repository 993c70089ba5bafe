//! What recorders announce in the bucket, and the one that the server selects.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use async_nats::jetstream::kv;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::Fleet;

/// The server's `ping_timeout`.
pub const PING_TIMEOUT: Duration = Duration::from_secs(8);

/// What a recorder has in the bucket; `None` where it has not written the field, or no number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Announcement {
    pub max_limit: Option<u32>,
    /// Unix milliseconds.
    pub last_ping: Option<u64>,
    pub total_cores: Option<u32>,
    pub current_progress: Option<u32>,
    pub cpu_score: Option<f64>,
}

impl Announcement {
    /// Takes over a field by its number; others than 0 to 4 are ignored.
    pub fn set(&mut self, field: &str, value: &str) {
        match field {
            "0" => self.max_limit = value.parse().ok(),
            "1" => self.last_ping = value.parse().ok(),
            "2" => self.total_cores = value.parse().ok(),
            "3" => self.current_progress = value.parse().ok(),
            "4" => self.cpu_score = value.parse().ok(),
            _ => {}
        }
    }

    /// The server's cost of giving this recorder work, or `None` if it would not be considered at `now` (Unix milliseconds).
    pub fn cost(&self, now: u64, ping_timeout: Duration) -> Option<f64> {
        let silent = now.saturating_sub(self.last_ping?);
        if u128::from(silent) > ping_timeout.as_millis() {
            return None;
        }
        let most = f64::from(self.max_limit.filter(|limit| *limit > 0)?);
        let load = f64::from(self.current_progress.unwrap_or(0)) / most;
        let cores = f64::from(self.total_cores.filter(|cores| *cores > 0)?);
        Some((0.6 * load + 0.4 * self.cpu_score.unwrap_or(0.0)) * 2.0 / cores)
    }
}

impl Fleet {
    /// The live keys of the bucket, sorted.
    pub async fn keys(&self) -> anyhow::Result<Vec<String>> {
        let mut keys: Vec<String> = self.bucket().await?.keys().await?.try_collect().await?;
        keys.sort();
        Ok(keys)
    }

    /// One key's text.
    pub async fn value(&self, key: &str) -> anyhow::Result<Option<String>> {
        let value = self.bucket().await?.get(key).await?;
        Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    }

    /// Writes a key, as another node would.
    pub async fn put(&self, key: &str, value: &str) -> anyhow::Result<()> {
        self.bucket().await?.put(key, Bytes::copy_from_slice(value.as_bytes())).await?;
        Ok(())
    }

    /// `None` while no field of this recorder is in the bucket.
    pub async fn announcement(&self, recorder_id: &str) -> anyhow::Result<Option<Announcement>> {
        Ok(self.announcements().await?.remove(recorder_id))
    }

    /// By recorder id.
    pub async fn announcements(&self) -> anyhow::Result<BTreeMap<String, Announcement>> {
        let bucket = self.bucket().await?;
        let mut all = BTreeMap::<String, Announcement>::new();
        for key in self.keys().await? {
            let Some((id, field)) = recorder_and_field(&key) else {
                continue;
            };
            let Some(value) = bucket.get(&key).await? else {
                continue;
            };
            all.entry(id.to_owned()).or_default().set(field, &String::from_utf8_lossy(&value));
        }
        Ok(all)
    }

    /// The recorder that the server would give work to now.
    pub async fn select(&self) -> anyhow::Result<Option<String>> {
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        Ok(cheapest(&self.announcements().await?, now, PING_TIMEOUT))
    }

    /// Waits until the server would select `recorder_id`. The bucket is watched, not polled.
    pub async fn wait_selectable(&self, recorder_id: &str, limit: Duration) -> anyhow::Result<()> {
        let bucket = self.bucket().await?;
        let mut changes = bucket.watch_all().await?;
        let wait = async {
            while self.select().await?.as_deref() != Some(recorder_id) {
                changes.next().await.context("the bucket's watch ended")??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(limit, Box::pin(wait))
            .await
            .with_context(|| format!("{recorder_id} was not selectable within {limit:?}"))?
    }

    pub(super) async fn bucket(&self) -> anyhow::Result<kv::Store> {
        self.jetstream.get_key_value(&self.deployment.bucket).await.context("no bucket")
    }
}

/// The recorder's id and the field's number in a key of the bucket.
pub fn recorder_and_field(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("recorder_")?.rsplit_once("-FIELD_")
}

/// The lowest cost wins; of equals, the first by id.
pub fn cheapest(recorders: &BTreeMap<String, Announcement>, now: u64, ping_timeout: Duration) -> Option<String> {
    let costs = recorders.iter().filter_map(|(id, one)| Some((id, one.cost(now, ping_timeout)?)));
    costs.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(id, _)| id.clone())
}
