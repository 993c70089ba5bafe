//! The jobs in the work queue, and the server of a cluster that leads it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use plugnmeet_recorder::protocol::messages::TranscodingTask;
use serde_json::Value;

use super::{Fleet, VOTE_LIMIT};
use crate::standin::CONSUMER;

/// How long one answer of a cluster may take; while there is no leader there is none.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// A job as it was seen going into the stream.
#[derive(Debug, Clone)]
pub struct PublishedJob {
    /// `None` if it is no `TranscodingTask`.
    pub task: Option<TranscodingTask>,
    pub message_id: Option<String>,
    pub at: Instant,
}

/// The work queue as the server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// In the stream: not acknowledged yet.
    pub messages: u64,
    /// Never delivered.
    pub pending: u64,
    /// Delivered, not acknowledged.
    pub ack_pending: usize,
    pub redelivered: usize,
}

impl Fleet {
    /// Anything into the work queue.
    pub async fn publish_job(&self, bytes: impl Into<Bytes>) -> anyhow::Result<()> {
        self.jetstream.publish(self.deployment.jobs.clone(), bytes.into()).await?.await?;
        Ok(())
    }

    /// Every job ever published on the subject, also those that are done.
    pub fn published_jobs(&self) -> Vec<PublishedJob> {
        self.published.lock().unwrap().clone()
    }

    /// Waits for the job of a recording to be published.
    pub async fn wait_for_job(&self, recording_id: &str, limit: Duration) -> anyhow::Result<TranscodingTask> {
        let mut count = self.published_count.clone();
        let wait = async {
            loop {
                count.borrow_and_update();
                let jobs = self.published_jobs();
                if let Some(task) =
                    jobs.into_iter().filter_map(|job| job.task).find(|task| task.recording_id == recording_id)
                {
                    return anyhow::Ok(task);
                }
                count.changed().await?;
            }
        };
        tokio::time::timeout(limit, wait)
            .await
            .with_context(|| format!("no job for {recording_id} within {limit:?}"))?
    }

    /// The jobs that are in the stream, with their sequence; reading them takes nothing out.
    pub async fn queued_jobs(&self) -> anyhow::Result<Vec<(u64, Bytes)>> {
        let stream = self.stream().await?;
        let state = stream.get_info().await?.state;
        let mut jobs = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            // What has been acknowledged leaves a hole.
            if let Ok(message) = stream.get_raw_message(sequence).await {
                jobs.push((sequence, message.payload));
            }
        }
        Ok(jobs)
    }

    pub async fn queue(&self) -> anyhow::Result<QueueState> {
        let stream = self.stream().await?;
        let consumer: PullConsumer = stream.get_consumer(CONSUMER).await.map_err(anyhow::Error::from_boxed)?;
        let info = consumer.get_info().await?;
        Ok(QueueState {
            messages: stream.get_info().await?.state.messages,
            pending: info.num_pending,
            ack_pending: info.num_ack_pending,
            redelivered: info.num_redelivered,
        })
    }

    /// How many jobs the stream has stored so far, those that are done included.
    pub async fn jobs_ever_stored(&self) -> anyhow::Result<u64> {
        Ok(self.stream().await?.get_info().await?.state.last_sequence)
    }

    /// Has one server of the cluster lead the queue and its consumer, and waits until it does.
    pub async fn have_queue_led_by(&self, server: &str) -> anyhow::Result<()> {
        let jobs = &self.deployment.jobs;
        self.have_led_by(&format!("STREAM.{{}}.{jobs}"), server).await?;
        self.have_led_by(&format!("CONSUMER.{{}}.{jobs}.{CONSUMER}"), server).await
    }

    /// Has one server of the cluster lead the bucket, and waits until it does.
    pub async fn have_bucket_led_by(&self, server: &str) -> anyhow::Result<()> {
        self.have_led_by(&format!("STREAM.{{}}.KV_{}", self.deployment.bucket), server).await
    }

    /// `what`: a subject of JetStream's interface after `$JS.API.`, with `{}` for the verb.
    async fn have_led_by(&self, what: &str, server: &str) -> anyhow::Result<()> {
        let end = Instant::now() + VOTE_LIMIT;
        loop {
            let led = tokio::time::timeout(ASK_LIMIT, self.ask_to_lead(what, server)).await;
            if matches!(led, Ok(Ok(true))) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "{server} does not lead {what}: {led:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether it does already; else it is asked to.
    async fn ask_to_lead(&self, what: &str, server: &str) -> anyhow::Result<bool> {
        let subject = |verb: &str| format!("$JS.API.{}", what.replace("{}", verb));
        let info = self.client.request(subject("INFO"), Bytes::new()).await?;
        let info: Value = serde_json::from_slice(&info.payload)?;
        if info["cluster"]["leader"] == server {
            return Ok(true);
        }
        let asked = serde_json::json!({ "placement": { "preferred": server } });
        self.client.request(subject("LEADER.STEPDOWN"), asked.to_string().into()).await?;
        Ok(false)
    }

    /// Waits until bucket and queue answer: a cluster that has lost the one that led votes first.
    pub async fn wait_until_led(&self) -> anyhow::Result<()> {
        let end = Instant::now() + VOTE_LIMIT;
        loop {
            let ask = async { anyhow::Ok((self.announcements().await?, self.queue().await?)) };
            let asked = tokio::time::timeout(ASK_LIMIT, ask).await;
            if matches!(asked, Ok(Ok(_))) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "bucket and queue do not answer: {asked:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn stream(&self) -> anyhow::Result<Stream> {
        self.jetstream.get_stream(&self.deployment.jobs).await.context("no stream")
    }
}
