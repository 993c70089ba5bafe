//! A reference recorder, as far as its id is concerned (PROTOCOL 2): it does not start while the id's `last_ping` is
//! younger than 3 s, takes the id over once it is older, writes without looking, and knows of no holder key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use async_nats::jetstream::kv;
use tokio::task::JoinHandle;

use super::Fleet;

const TAKEN_FOR: Duration = Duration::from_secs(3);
const PING_INTERVAL: Duration = Duration::from_millis(2500);

/// It runs; dropped, it is as if it had been killed.
pub struct ReferenceTwin {
    id: String,
    bucket: kv::Store,
    pings: JoinHandle<()>,
}

impl Fleet {
    /// Starts one, which is refused where the id is taken.
    pub async fn start_reference(&self, id: &str) -> anyhow::Result<ReferenceTwin> {
        let last = self.value(&key(id, 1)).await?.and_then(|ping| ping.parse::<u64>().ok()).unwrap_or(0);
        let age = Duration::from_millis(now_ms().saturating_sub(last));
        ensure!(age >= TAKEN_FOR, "the id {id} is taken: its last ping is {age:?} old");
        let bucket = self.bucket().await?;
        for (field, value) in [(0, "10"), (2, "4"), (3, "0"), (4, "0.1000"), (1, &now_ms().to_string())] {
            bucket.put(key(id, field), value.to_owned().into()).await?;
        }
        let pings = tokio::spawn({
            let (bucket, key) = (bucket.clone(), key(id, 1));
            async move {
                loop {
                    tokio::time::sleep(PING_INTERVAL).await;
                    bucket.put(&key, now_ms().to_string().into()).await.ok();
                }
            }
        });
        Ok(ReferenceTwin { id: id.to_owned(), bucket, pings })
    }
}

impl ReferenceTwin {
    /// SIGTERM: its five fields are purged.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.pings.abort();
        for field in 0..5 {
            self.bucket.purge(key(&self.id, field)).await?;
        }
        Ok(())
    }
}

impl Drop for ReferenceTwin {
    fn drop(&mut self) {
        self.pings.abort();
    }
}

fn key(id: &str, field: u8) -> String {
    format!("recorder_{id}-FIELD_{field}")
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
