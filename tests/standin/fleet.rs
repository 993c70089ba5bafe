//! The server's half of the fleet: it makes bucket, stream and consumer, reads announcements, selects a recorder and sends requests
//! (PROTOCOL 1, 2, 3 and 6).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use async_nats::client::RequestErrorKind;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{self, RetentionPolicy, Stream};
use async_nats::jetstream::{self, Context, kv};
use async_nats::{Client, Request};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use plugnmeet_recorder::protocol::messages::{CommonResponse, PlugNmeetToRecorder, RecordingTasks, TranscodingTask};
use prost::Message;
use tokio::sync::watch;

use super::access::Bot;
use super::notices::Notices;
use super::{CONSUMER, Deployment, Room};

/// How long the server waits for an answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// The server's `ping_timeout`.
pub const PING_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a cluster may take to agree on a leader.
const VOTE_LIMIT: Duration = Duration::from_secs(30);

/// How long one answer of it may take; while there is no leader there is none.
const ASK_LIMIT: Duration = Duration::from_secs(2);

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

/// The answer to a request, if there was one within the server's 3 s, and how long it took.
#[derive(Debug, Clone)]
pub struct Reply {
    pub response: Option<CommonResponse>,
    pub took: Duration,
}

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
            let Some((id, field)) = key.strip_prefix("recorder_").and_then(|key| key.rsplit_once("-FIELD_")) else {
                continue;
            };
            let Some(value) = bucket.get(&key).await? else {
                continue;
            };
            let value = String::from_utf8_lossy(&value);
            let one = all.entry(id.to_owned()).or_default();
            match field {
                "0" => one.max_limit = value.parse().ok(),
                "1" => one.last_ping = value.parse().ok(),
                "2" => one.total_cores = value.parse().ok(),
                "3" => one.current_progress = value.parse().ok(),
                "4" => one.cpu_score = value.parse().ok(),
                _ => {}
            }
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

    /// Has one server of the cluster lead the queue, and waits until it does.
    pub async fn have_queue_led_by(&self, server: &str) -> anyhow::Result<()> {
        let end = Instant::now() + VOTE_LIMIT;
        loop {
            let led = tokio::time::timeout(ASK_LIMIT, self.ask_to_lead_queue(server)).await;
            if matches!(led, Ok(Ok(true))) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < end, "{server} does not lead the queue: {led:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether it does already; else it is asked to.
    async fn ask_to_lead_queue(&self, server: &str) -> anyhow::Result<bool> {
        let leader = self.stream().await?.get_info().await?.cluster.and_then(|cluster| cluster.leader);
        if leader.as_deref() == Some(server) {
            return Ok(true);
        }
        let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{}", self.deployment.jobs);
        let asked = serde_json::json!({ "placement": { "preferred": server } });
        self.client.request(subject, asked.to_string().into()).await?;
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

    async fn bucket(&self) -> anyhow::Result<kv::Store> {
        self.jetstream.get_key_value(&self.deployment.bucket).await.context("no bucket")
    }

    async fn stream(&self) -> anyhow::Result<Stream> {
        self.jetstream.get_stream(&self.deployment.jobs).await.context("no stream")
    }
}

/// The lowest cost wins; of equals, the first by id.
pub fn cheapest(recorders: &BTreeMap<String, Announcement>, now: u64, ping_timeout: Duration) -> Option<String> {
    let costs = recorders.iter().filter_map(|(id, one)| Some((id, one.cost(now, ping_timeout)?)));
    costs.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(id, _)| id.clone())
}
