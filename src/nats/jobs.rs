//! The work queue: jobs are pulled one at a time, when a slot is free, and stay in the queue until they are
//! acknowledged.
//!
//! The client's own streams are not used: they request the next job while the last one runs, and a job delivered to a
//! process that does not start it waits for `AckWait` (10 min) and costs one of its three deliveries.

use std::sync::OnceLock;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::stream::ConsumerErrorKind;
use async_nats::jetstream::{self, AckKind, ErrorCode};
use async_nats::{Request, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::codes;
use crate::retry::Backoff;
use crate::telemetry::log_throttle::LogThrottle;

use crate::nats::bucket::{AbsenceCause, wait_until_present};
use crate::nats::connection::{ANSWER_DEADLINE, CONSUMER, Nats, NatsError, no_answer};

/// How long one pull request lasts; then the next one is sent.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// How often the server confirms a pull request: when two confirmations are missing, the request is lost.
const PULL_HEARTBEAT: Duration = Duration::from_secs(5);
/// How long settling a job is tried, over a short outage.
const ACK_DEADLINE: Duration = Duration::from_secs(15);
/// How long to wait for a job that was already on its way when its pull request was given up.
const LATE_JOB_WAIT: Duration = Duration::from_millis(200);

/// A job from the work queue, where it stays until it is acknowledged.
#[derive(Debug)]
pub struct JobMessage {
    nats: Nats,
    payload: Bytes,
    /// The subject of acknowledgements: `$JS.ACK.J.transcoderWorker.…`. `None`: the queue has no such job any more.
    ack_to: Option<Subject>,
    delivered: u64,
}

impl JobMessage {
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// A job that was delivered to an earlier run of the program; it is settled on the same subject.
    #[must_use]
    pub fn of_earlier_run(nats: &Nats, payload: Bytes, ack_to: Option<&str>, delivered: u64) -> Self {
        Self { nats: nats.clone(), payload, ack_to: ack_to.map(Subject::from), delivered }
    }

    /// The subject of acknowledgements, for [`Self::of_earlier_run`].
    #[must_use]
    pub fn ack_to(&self) -> Option<&str> {
        self.ack_to.as_deref()
    }

    /// How often this job was delivered, including this time.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Acknowledges the job; confirmed by the server.
    ///
    /// # Errors
    /// Where it was not confirmed within 15 s: the job may be delivered again.
    pub async fn ack(&self) -> Result<(), NatsError> {
        self.settle(AckKind::Ack).await
    }

    /// Has the job delivered again after `delay`; confirmed by the server.
    ///
    /// # Errors
    /// Where it was not confirmed within 15 s: the job is delivered again after `AckWait`.
    pub async fn nak(&self, delay: Duration) -> Result<(), NatsError> {
        self.settle(AckKind::Nak(Some(delay).filter(|delay| !delay.is_zero()))).await
    }

    /// Terminates the job, so that it is not delivered again; confirmed by the server.
    ///
    /// # Errors
    /// Where it was not confirmed within 15 s: the job may be delivered again.
    pub async fn term(&self) -> Result<(), NatsError> {
        self.settle(AckKind::Term).await
    }

    /// Starts `AckWait` again, as the job is in progress; confirmed by the server.
    ///
    /// # Errors
    /// Where it was not confirmed within 15 s.
    pub async fn in_progress(&self) -> Result<(), NatsError> {
        self.settle(AckKind::Progress).await
    }

    /// Tries until the server has confirmed. Repeating an acknowledgement of the same kind has no effect.
    ///
    /// The client's own `double_ack` takes "no responders" for a confirmation, so it is not used.
    async fn settle(&self, kind: AckKind) -> Result<(), NatsError> {
        let Some(ack_to) = &self.ack_to else { return Ok(()) };
        let payload = Bytes::from(kind);
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(2));
        let mut last = NatsError("not connected to NATS".to_owned());
        let tries = async {
            loop {
                self.nats.connected().await;
                let request = Request::new().payload(payload.clone()).timeout(Some(ANSWER_DEADLINE));
                match self.nats.link.client.send_request(ack_to.clone(), request).await {
                    Ok(_) => return,
                    Err(error) => last = NatsError(format!("settling a job with {kind:?}: {error}")),
                }
                tokio::time::sleep(backoff.wait()).await;
            }
        };
        match tokio::time::timeout(ACK_DEADLINE, tries).await {
            Ok(()) => Ok(()),
            Err(_) => Err(last),
        }
    }
}

impl Nats {
    /// The queue's state; `None` where it cannot be queried now.
    pub async fn queue(&self) -> Option<WorkQueueState> {
        self.ask_for_queue().await.ok()
    }

    /// The queue's state.
    ///
    /// # Errors
    /// Where there is no queue, or no answer within 5 s.
    pub async fn ask_for_queue(&self) -> Result<WorkQueueState, NatsError> {
        self.check_connected()?;
        let what = format!("asking for the consumer {CONSUMER} of {}", self.link.jobs);
        // CONSUMER.INFO is the only query that the credentials allow.
        let asked = self.link.context.get_consumer_from_stream(CONSUMER, &self.link.jobs);
        let answered = tokio::time::timeout(ANSWER_DEADLINE, asked).await;
        let consumer: PullConsumer = answered
            .map_err(|_| no_answer(&what, ANSWER_DEADLINE))?
            .map_err(|error| NatsError(format!("{what}: {error}")))?;
        Ok(WorkQueueState::of(consumer.cached_info()))
    }

    /// The work queue, as soon as its stream and consumer exist. `None`: cancelled first.
    pub async fn jobs(&self, cancel: &CancellationToken) -> Option<Jobs> {
        let what = format!("the consumer {CONSUMER} of the stream {}", self.link.jobs);
        let max_deliver = OnceLock::new();
        wait_until_present(&what, cancel, || async {
            self.check_connected().map_err(|why| AbsenceCause::Unknown(why.to_string()))?;
            let asked: Result<PullConsumer, _> =
                self.link.context.get_consumer_from_stream(CONSUMER, &self.link.jobs).await;
            let consumer =
                asked.map(|consumer| max_deliver.set(WorkQueueState::of(consumer.cached_info()).max_deliver));
            consumer.map(|_| ()).map_err(|error| match error.kind() {
                ConsumerErrorKind::JetStream(why)
                    if matches!(why.error_code(), ErrorCode::CONSUMER_NOT_FOUND | ErrorCode::STREAM_NOT_FOUND) =>
                {
                    AbsenceCause::NotYet
                }
                _ => AbsenceCause::Unknown(error.to_string()),
            })
        })
        .await?;
        let max_deliver = max_deliver.into_inner().flatten();
        Some(Jobs { nats: self.clone(), unavailable: LogThrottle::default(), max_deliver })
    }
}

/// The state of the work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkQueueState {
    /// Jobs that were not delivered yet.
    pub pending: u64,
    /// Jobs that were delivered and are not acknowledged.
    pub ack_pending: u64,
    /// Those of them that were delivered more than once.
    pub redelivered: u64,
    /// The stream sequence of the last delivered job.
    pub last_delivered: u64,
    /// How often a job is delivered at most; `None`: without limit.
    pub max_deliver: Option<u64>,
}

impl WorkQueueState {
    fn of(info: &jetstream::consumer::Info) -> Self {
        Self {
            pending: info.num_pending,
            ack_pending: info.num_ack_pending as u64,
            redelivered: info.num_redelivered as u64,
            last_delivered: info.delivered.stream_sequence,
            max_deliver: u64::try_from(info.config.max_deliver).ok().filter(|most| *most > 0),
        }
    }
}

/// The work queue's consumer.
#[derive(Debug)]
pub struct Jobs {
    nats: Nats,
    unavailable: LogThrottle,
    max_deliver: Option<u64>,
}

/// The result of a pull request.
enum PullOutcome {
    Job(JobMessage),
    /// The queue stayed empty.
    Empty,
    /// The connection was made again, so the request is lost: pull again at once.
    Reconnected,
    /// The queue is unavailable; why.
    Unavailable(String),
    Cancelled,
}

impl Jobs {
    /// How often a job is delivered at most; `None`: without limit.
    pub fn max_deliver(&self) -> Option<u64> {
        self.max_deliver
    }

    /// The queue's state; `None` where it cannot be queried now.
    pub async fn queue(&self) -> Option<WorkQueueState> {
        self.nats.queue().await
    }

    /// Waits for the next job through outages. `None`: cancelled. Must be ended by `cancel` and not by dropping it:
    /// only then a job that is on its way is handed back at once.
    pub async fn next(&mut self, cancel: &CancellationToken) -> Option<JobMessage> {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        loop {
            let asked_at = Instant::now();
            let why = match self.pull(cancel).await {
                PullOutcome::Job(job) => return Some(job),
                PullOutcome::Cancelled => return None,
                PullOutcome::Reconnected => continue,
                // Without a wait, an empty answer that comes at once would make this loop spin.
                PullOutcome::Empty if asked_at.elapsed() < PULL_HEARTBEAT => "it ends requests at once".to_owned(),
                PullOutcome::Empty => {
                    backoff.reset();
                    continue;
                }
                PullOutcome::Unavailable(why) => why,
            };
            if self.unavailable.due(Instant::now()) {
                warn!(
                    code = %codes::QUEUE_NOT_FETCHED, queue = %self.nats.link.jobs, %why,
                    "no jobs can be fetched from the work queue; asking on"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                () = cancel.cancelled() => return None,
            }
        }
    }

    async fn pull(&mut self, cancel: &CancellationToken) -> PullOutcome {
        // The connection logs its own state.
        tokio::select! {
            () = self.nats.connected() => {}
            () = cancel.cancelled() => return PullOutcome::Cancelled,
        }
        let nats = self.nats.clone();
        let mut reconnected = std::pin::pin!(nats.reconnected());
        let asked = tokio::select! {
            asked = tokio::time::timeout(ANSWER_DEADLINE, self.send_pull()) => asked,
            () = cancel.cancelled() => return PullOutcome::Cancelled,
        };
        let mut answers = match asked {
            Ok(Ok(answers)) => answers,
            Ok(Err(why)) => return PullOutcome::Unavailable(why.to_string()),
            Err(_) => return PullOutcome::Unavailable(no_answer("asking for a job", ANSWER_DEADLINE).to_string()),
        };
        loop {
            let answer = tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    if let Some(job) = self.take_late_job(answers).await {
                        // No worker takes it; without the nak it would wait for AckWait.
                        if let Err(why) = job.nak(Duration::ZERO).await {
                            warn!(
                                code = %codes::JOB_NOT_HANDED_BACK, %why,
                                "a job that came while stopping could not be handed back; it is after AckWait"
                            );
                        }
                    }
                    return PullOutcome::Cancelled;
                }
                answer = tokio::time::timeout(2 * PULL_HEARTBEAT + Duration::from_secs(1), answers.next()) => answer.ok(),
                // A restarted server does not know the request.
                () = &mut reconnected => {
                    return self.take_late_job(answers).await.map_or(PullOutcome::Reconnected, PullOutcome::Job);
                }
            };
            let Some(answer) = answer else {
                let silent = || PullOutcome::Unavailable("it has fallen silent".to_owned());
                return self.take_late_job(answers).await.map_or_else(silent, PullOutcome::Job);
            };
            let Some(answer) = answer else {
                return PullOutcome::Unavailable("the NATS client has ended".to_owned());
            };
            match answer.status {
                None => {
                    self.log_available();
                    return self.job(answer).map_or_else(
                        || PullOutcome::Unavailable("it sent something that is no job".to_owned()),
                        PullOutcome::Job,
                    );
                }
                Some(StatusCode::IDLE_HEARTBEAT) => self.log_available(),
                Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => {
                    self.log_available();
                    return PullOutcome::Empty;
                }
                Some(StatusCode::NO_RESPONDERS) => {
                    return PullOutcome::Unavailable(format!("the consumer {CONSUMER} or its stream is not there"));
                }
                Some(status) => {
                    let text = answer.description.unwrap_or_default();
                    return PullOutcome::Unavailable(format!("it answered {status} {text}"));
                }
            }
        }
    }

    /// Sends a pull request for one job; its answers come to the returned subscription.
    async fn send_pull(&self) -> Result<Subscriber, NatsError> {
        let client = &self.nats.link.client;
        let failed = |why: String| NatsError(format!("asking for a job: {why}"));
        let inbox = client.new_inbox();
        let answers = client.subscribe(inbox.clone()).await.map_err(|error| failed(error.to_string()))?;
        let request = serde_json::json!({
            "batch": 1,
            "expires": nanoseconds(PULL_EXPIRES),
            "idle_heartbeat": nanoseconds(PULL_HEARTBEAT),
        });
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{CONSUMER}", self.nats.link.jobs);
        let sent = client.publish_with_reply(subject, inbox, Bytes::from(request.to_string()));
        sent.await.map_err(|error| failed(error.to_string()))?;
        Ok(answers)
    }

    /// Takes a job that was already on its way. Dropping `answers` cancels the pull request.
    async fn take_late_job(&self, mut answers: Subscriber) -> Option<JobMessage> {
        // Receives for a moment longer: unsubscribing would discard what arrives meanwhile.
        let deadline = Instant::now() + LATE_JOB_WAIT;
        while let Ok(Some(answer)) = tokio::time::timeout_at(deadline, answers.next()).await {
            if answer.status.is_none() {
                return self.job(answer);
            }
        }
        None
    }

    fn job(&self, message: async_nats::Message) -> Option<JobMessage> {
        let message = jetstream::Message { message, context: self.nats.link.context.clone() };
        let delivered = u64::try_from(message.info().ok()?.delivered).ok()?;
        let message = message.message;
        Some(JobMessage { nats: self.nats.clone(), ack_to: Some(message.reply?), payload: message.payload, delivered })
    }

    /// Logs that the queue answers again.
    fn log_available(&mut self) {
        if self.unavailable.end() {
            info!(queue = %self.nats.link.jobs, "jobs can be fetched from the work queue again");
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
