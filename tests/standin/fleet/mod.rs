//! The server's half of the fleet: it makes bucket, stream and consumer, reads announcements, selects a recorder and sends requests
//! (PROTOCOL 1, 2, 3 and 6).

mod bucket;
mod queue;
mod twin;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::client::RequestErrorKind;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{self, RetentionPolicy};
use async_nats::jetstream::{self, Context, kv};
use async_nats::{Client, Request};
use bytes::Bytes;
use futures::StreamExt;
use plugnmeet_recorder::protocol::messages::{CommonResponse, PlugNmeetToRecorder, RecordingTasks, TranscodingTask};
use prost::Message;
use tokio::sync::watch;

use super::access::Bot;
use super::notices::Notices;
use super::{CONSUMER, Deployment, Room};

#[allow(unused_imports, reason = "the suite and the demo each use a part")]
pub use bucket::{Announcement, PING_TIMEOUT, cheapest, recorder_and_field};
use queue::PublishedJob;
#[allow(unused_imports, reason = "the suite and the demo each use a part")]
pub use queue::QueueState;

/// How long the server waits for an answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// How long a cluster may take to agree on a leader.
const VOTE_LIMIT: Duration = Duration::from_secs(30);

/// The answer to a request, if there was one within the server's 3 s, and how long it took.
#[derive(Debug, Clone)]
pub struct Reply {
    pub response: Option<CommonResponse>,
    pub took: Duration,
}

/// The server side of bucket, channel and queue.
pub struct Fleet {
    deployment: Deployment,
    client: Client,
    notices: Arc<Notices>,
    jetstream: Context,
    published: Arc<Mutex<Vec<PublishedJob>>>,
    published_count: watch::Receiver<usize>,
}

impl Fleet {
    pub async fn open(deployment: Deployment, client: Client, notices: Arc<Notices>) -> anyhow::Result<Self> {
        let published = Arc::<Mutex<Vec<PublishedJob>>>::default();
        let (count, published_count) = watch::channel(0);
        let mut jobs = client.subscribe(deployment.jobs.clone()).await?;
        client.flush().await?;
        tokio::spawn({
            let published = published.clone();
            async move {
                while let Some(job) = jobs.next().await {
                    let message_id = job.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
                    published.lock().unwrap().push(PublishedJob {
                        task: TranscodingTask::decode(job.payload).ok(),
                        message_id: message_id.map(ToString::to_string),
                        at: Instant::now(),
                    });
                    count.send_modify(|count| *count += 1);
                }
            }
        });
        let jetstream = jetstream::new(client.clone());
        Ok(Self { deployment, client, notices, jetstream, published, published_count })
    }

    /// Makes bucket, stream and consumer, as the server does when it comes up; again is no harm. A cluster that has just been
    /// started has to agree on a leader first, and is asked again.
    pub async fn provision(&self) -> anyhow::Result<()> {
        let end = Instant::now() + VOTE_LIMIT;
        loop {
            match self.try_to_provision().await {
                Err(_) if self.deployment.nats_servers > 1 && Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                done => return done,
            }
        }
    }

    async fn try_to_provision(&self) -> anyhow::Result<()> {
        let num_replicas = self.deployment.nats_servers;
        self.jetstream
            .create_key_value(kv::Config { bucket: self.deployment.bucket.clone(), num_replicas, ..Default::default() })
            .await
            .context("cannot make the bucket")?;
        let stream = self
            .jetstream
            .get_or_create_stream(stream::Config {
                name: self.deployment.jobs.clone(),
                subjects: vec![self.deployment.jobs.clone()],
                retention: RetentionPolicy::WorkQueue,
                num_replicas,
                ..Default::default()
            })
            .await
            .context("cannot make the stream")?;
        stream
            .create_consumer(pull::Config {
                durable_name: Some(CONSUMER.to_owned()),
                ack_policy: AckPolicy::Explicit,
                ack_wait: self.deployment.ack_wait,
                max_deliver: 3,
                ..Default::default()
            })
            .await
            .context("cannot make the consumer")?;
        Ok(())
    }

    /// Removes a recorder's page that is open, before anybody is asked, as the server does.
    pub async fn start_recording(&self, room: &Room, recording_id: &str, recorder_id: &str) -> anyhow::Result<Reply> {
        room.remove(Bot::Recorder);
        let request = room.request(RecordingTasks::StartRecording, recording_id, recorder_id);
        self.request(&request).await
    }

    pub async fn start_rtmp(
        &self,
        room: &Room,
        recording_id: &str,
        recorder_id: &str,
        rtmp_url: &str,
    ) -> anyhow::Result<Reply> {
        room.remove(Bot::Broadcaster);
        let mut request = room.request(RecordingTasks::StartRtmp, recording_id, recorder_id);
        request.rtmp_url = Some(rtmp_url.to_owned());
        self.request(&request).await
    }

    /// `task` is one of the three stops; the server names no recorder in them. It asks nobody to stop a recording whose start it
    /// was not told, or whose end it was.
    pub async fn stop(&self, task: RecordingTasks, room: &Room, recording_id: &str) -> anyhow::Result<Reply> {
        let told = self.notices.tasks_of(recording_id);
        let runs = told.contains(&RecordingTasks::StartRecording) && !told.contains(&RecordingTasks::EndRecording);
        if task == RecordingTasks::StopRecording && !runs {
            let msg = "notifications.recording-not-running".to_owned();
            let response = CommonResponse { status: false, msg, status_code: 0 };
            return Ok(Reply { response: Some(response), took: Duration::ZERO });
        }
        self.request(&room.request(task, recording_id, "")).await
    }

    pub async fn request(&self, request: &PlugNmeetToRecorder) -> anyhow::Result<Reply> {
        self.raw_request(request.encode_to_vec()).await
    }

    /// Anything on the channel.
    pub async fn raw_request(&self, bytes: impl Into<Bytes>) -> anyhow::Result<Reply> {
        let sent = Instant::now();
        let request = Request::new().payload(bytes.into()).timeout(Some(ANSWER_LIMIT));
        let answer = self.client.send_request(self.deployment.channel.clone(), request).await;
        let took = sent.elapsed();
        let response = match answer {
            Ok(answer) => Some(CommonResponse::decode(answer.payload).context("the answer is no CommonResponse")?),
            Err(error) if matches!(error.kind(), RequestErrorKind::TimedOut | RequestErrorKind::NoResponders) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Reply { response, took })
    }
}
