//! The plugNmeet server's side: its cache of the bucket, kept by a watch, and the one node that it asks for each START.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use async_nats::jetstream::{self, kv};
use futures::StreamExt as _;
use plugnmeet_recorder::protocol::messages::PlugNmeetToRecorder;
use tokio::sync::watch;

use crate::standin::Standin;
use crate::standin::fleet::{Announcement, PING_TIMEOUT, cheapest, recorder_and_field};
use crate::standin::nats::Link;

/// What the server has read of the bucket.
pub struct Choice {
    nodes: Arc<Mutex<BTreeMap<String, Announcement>>>,
    messages: Arc<AtomicU64>,
    changed: watch::Receiver<()>,
    _link: Link,
}

/// What became of a request for a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The node with this id has taken it, and answered after so long.
    Taken { node: String, took: Duration },
    /// The node that was selected has refused it, and why.
    Refused { node: String, why: String },
    /// The node that was selected has not answered within 3 s.
    Silent { node: String },
    /// No node was in the choice.
    NoNode,
}

impl Choice {
    /// Reads the bucket from now on: before the first node is there.
    pub async fn open(standin: &Standin) -> anyhow::Result<Self> {
        let link = Link::server(&standin.nats_urls()).await?;
        let bucket = jetstream::new(link.client.clone()).get_key_value(&standin.deployment.bucket).await?;
        let mut entries = bucket.watch_all().await?;
        let (nodes, messages) = (Arc::<Mutex<BTreeMap<String, Announcement>>>::default(), Arc::<AtomicU64>::default());
        let (change, changed) = watch::channel(());
        tokio::spawn({
            let (nodes, messages) = (Arc::clone(&nodes), Arc::clone(&messages));
            async move {
                while let Some(Ok(entry)) = entries.next().await {
                    messages.fetch_add(1, Ordering::Relaxed);
                    note(&mut nodes.lock().unwrap(), &entry);
                    change.send_replace(());
                }
            }
        });
        Ok(Self { nodes, messages, changed, _link: link })
    }

    /// Messages that the bucket has got.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// The nodes as the server knows them.
    pub fn nodes(&self) -> BTreeMap<String, Announcement> {
        self.nodes.lock().unwrap().clone()
    }

    /// The node that would get the next START.
    pub fn select(&self) -> Option<String> {
        cheapest(&self.nodes.lock().unwrap(), unix_ms(), PING_TIMEOUT)
    }

    /// Selects a node and asks it, and no second one.
    pub async fn start(&self, standin: &Standin, mut request: PlugNmeetToRecorder) -> anyhow::Result<Outcome> {
        let Some(node) = self.select() else { return Ok(Outcome::NoNode) };
        request.recorder_id.clone_from(&node);
        let reply = standin.fleet.request(&request).await?;
        Ok(match reply.response {
            None => Outcome::Silent { node },
            Some(response) if response.status => Outcome::Taken { node, took: reply.took },
            Some(response) => Outcome::Refused { node, why: response.msg },
        })
    }

    /// Waits until what is known of the nodes satisfies `so`.
    pub async fn wait_until(
        &self,
        limit: Duration,
        so: impl Fn(&BTreeMap<String, Announcement>) -> bool,
    ) -> anyhow::Result<()> {
        let mut changed = self.changed.clone();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if so(&self.nodes.lock().unwrap()) {
                    return Ok(());
                }
                changed.changed().await.context("the bucket's watch has ended")?;
            }
        };
        tokio::time::timeout(limit, wait).await.context("the bucket does not say what was waited for")?
    }
}

/// As the server's cache does: only a purge removes a node (PROTOCOL 2).
fn note(nodes: &mut BTreeMap<String, Announcement>, entry: &kv::Entry) {
    let Some((id, field)) = recorder_and_field(&entry.key) else { return };
    match entry.operation {
        kv::Operation::Put => {
            nodes.entry(id.to_owned()).or_default().set(field, &String::from_utf8_lossy(&entry.value));
        }
        kv::Operation::Purge => drop(nodes.remove(id)),
        kv::Operation::Delete => {}
    }
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
