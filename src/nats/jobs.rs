//! The work queue: one job at a time, pulled when there is a hand free for it, kept by the server until acknowledged.
//!
//! Pulled by hand rather than with the client's own streams: those ask for the next job while the last is at work, and
//! one that is handed to a process that does not start it waits for `AckWait` (10 min) and costs one of its three deliveries.

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

use crate::retry::Backoff;
use crate::telemetry::log_throttle::LogThrottle;

use crate::nats::bucket::{Absent, until_there};
use crate::nats::{ANSWER_DEADLINE, CONSUMER, Nats, NatsError, no_answer};

/// How long one request for a job stands; then the next is made.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that the request still stands: when it misses two, the request is lost.
const PULL_HEARTBEAT: Duration = Duration::from_secs(5);
/// How long an acknowledgement is tried for, over a short outage.
const ACK_DEADLINE: Duration = Duration::from_secs(15);
/// A job that was already on its way when nobody wanted it any more is waited for this long, to be handed back.
const LATE_JOB: Duration = Duration::from_millis(200);

/// A job as it came from the work queue; it stays there until it is acknowledged.
#[derive(Debug)]
pub struct JobMessage {
    nats: Nats,
    payload: Bytes,
    /// Where acknowledgements go: `$JS.ACK.J.transcoderWorker.…`. `None`: the queue has forgotten the job.
    ack_to: Option<Subject>,
    delivered: u64,
}

impl JobMessage {
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// A job that was handed out before this program was started; it is still settled where it was to be then.
    #[must_use]
    pub fn from_earlier(nats: &Nats, payload: Bytes, ack_to: Option<&str>, delivered: u64) -> Self {
        Self { nats: nats.clone(), payload, ack_to: ack_to.map(Subject::from), delivered }
    }

    /// Where it is settled, for [`Self::from_earlier`].
    #[must_use]
    pub fn ack_to(&self) -> Option<&str> {
        self.ack_to.as_deref()
    }

    /// How often this job has been handed out, this time included.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The job is over; confirmed by the server.
    ///
    /// # Errors
    /// Where it was not confirmed within 15 s: the job may be handed out again.
    pub async fn ack(&self) -> Result<(), NatsError> {
        self.settle(AckKind::Ack).await
    }

    /// Hand it out again after `delay`; confirmed by the server.
    ///
    /// # Errors
    /// Where it was not confirmed within 15 s: the job is handed out again after `AckWait`.
    pub async fn nak(&self, delay: Duration) -> Result<(), NatsError> {
        self.settle(AckKind::Nak(Some(delay).filter(|delay| !delay.is_zero()))).await
    }

    /// Never hand it out again; confirmed by the server.
    ///
    /// # Errors
    /// Where it was not confirmed within 15 s: the job may be handed out again.
    pub async fn term(&self) -> Result<(), NatsError> {
        self.settle(AckKind::Term).await
    }

    /// Still at work: `AckWait` begins anew; confirmed by the server.
    ///
    /// # Errors
    /// Where it was not confirmed within 15 s.
    pub async fn in_progress(&self) -> Result<(), NatsError> {
        self.settle(AckKind::Progress).await
    }

    /// Tries until the server has confirmed it. A second one of the same kind does nothing, so it may be repeated.
    ///
    /// The client's own `double_ack` takes "nobody listens there" for a confirmation, so it is not used.
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
    /// How the queue stands; `None` where it cannot be asked now.
    pub async fn queue(&self) -> Option<Queue> {
        self.check_connected().ok()?;
        // CONSUMER.INFO is the only question the credentials allow.
        let asked = self.link.context.get_consumer_from_stream(CONSUMER, &self.link.jobs);
        let consumer: PullConsumer = tokio::time::timeout(ANSWER_DEADLINE, asked).await.ok()?.ok()?;
        Some(Queue::of(consumer.cached_info()))
    }

    /// The work queue, as soon as its stream and consumer are there. `None`: cancelled first.
    pub async fn jobs(&self, cancel: &CancellationToken) -> Option<Jobs> {
        let what = format!("the consumer {CONSUMER} of the stream {}", self.link.jobs);
        let max_deliver = OnceLock::new();
        until_there(&what, cancel, || async {
            self.check_connected().map_err(|why| Absent::Unknown(why.to_string()))?;
            let asked: Result<PullConsumer, _> =
                self.link.context.get_consumer_from_stream(CONSUMER, &self.link.jobs).await;
            let consumer = asked.map(|consumer| max_deliver.set(Queue::of(consumer.cached_info()).max_deliver));
            consumer.map(|_| ()).map_err(|error| match error.kind() {
                ConsumerErrorKind::JetStream(why)
                    if matches!(why.error_code(), ErrorCode::CONSUMER_NOT_FOUND | ErrorCode::STREAM_NOT_FOUND) =>
                {
                    Absent::NotYet
                }
                _ => Absent::Unknown(error.to_string()),
            })
        })
        .await?;
        let max_deliver = max_deliver.into_inner().flatten();
        Some(Jobs { nats: self.clone(), away: LogThrottle::default(), max_deliver })
    }
}

/// How the work queue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Jobs that nobody was handed yet.
    pub pending: u64,
    /// The last one that was handed out, by its number in the stream.
    pub handed_out: u64,
    /// How often a job is handed out at most; `None`: for ever.
    pub max_deliver: Option<u64>,
}

impl Queue {
    fn of(info: &jetstream::consumer::Info) -> Self {
        Self {
            pending: info.num_pending,
            handed_out: info.delivered.stream_sequence,
            max_deliver: u64::try_from(info.config.max_deliver).ok().filter(|most| *most > 0),
        }
    }
}

/// The work queue's consumer.
#[derive(Debug)]
pub struct Jobs {
    nats: Nats,
    away: LogThrottle,
    max_deliver: Option<u64>,
}

/// What came of one request for a job.
enum Pulled {
    Job(JobMessage),
    /// The queue stayed empty.
    Nothing,
    /// The connection was made anew: to be asked again at once.
    Forgotten,
    /// The queue cannot be asked now; why.
    Away(String),
    Cancelled,
}

impl Jobs {
    /// How often a job is handed out at most; `None`: for ever.
    pub fn max_deliver(&self) -> Option<u64> {
        self.max_deliver
    }

    /// How the queue stands; `None` where it cannot be asked now.
    pub async fn queue(&self) -> Option<Queue> {
        self.nats.queue().await
    }

    /// Waits for the next job, one at a time, through outages. `None`: cancelled. To be ended with `cancel` rather than by
    /// dropping it: only then a job that is just on its way is handed back at once.
    pub async fn next(&mut self, cancel: &CancellationToken) -> Option<JobMessage> {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        loop {
            let asked_at = Instant::now();
            let why = match self.pull(cancel).await {
                Pulled::Job(job) => return Some(job),
                Pulled::Cancelled => return None,
                Pulled::Forgotten => continue,
                // An empty answer that did not take its time would make this loop spin.
                Pulled::Nothing if asked_at.elapsed() < PULL_HEARTBEAT => "it ends requests at once".to_owned(),
                Pulled::Nothing => {
                    backoff.reset();
                    continue;
                }
                Pulled::Away(why) => why,
            };
            if self.away.due(Instant::now()) {
                warn!(queue = %self.nats.link.jobs, %why, "no jobs can be fetched from the work queue; asking on");
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                () = cancel.cancelled() => return None,
            }
        }
    }

    async fn pull(&mut self, cancel: &CancellationToken) -> Pulled {
        // Said by the connection's own log lines.
        tokio::select! {
            () = self.nats.connected() => {}
            () = cancel.cancelled() => return Pulled::Cancelled,
        }
        let nats = self.nats.clone();
        let mut reconnected = std::pin::pin!(nats.reconnected());
        let asked = tokio::select! {
            asked = tokio::time::timeout(ANSWER_DEADLINE, self.ask()) => asked,
            () = cancel.cancelled() => return Pulled::Cancelled,
        };
        let mut answers = match asked {
            Ok(Ok(answers)) => answers,
            Ok(Err(why)) => return Pulled::Away(why.to_string()),
            Err(_) => return Pulled::Away(no_answer("asking for a job", ANSWER_DEADLINE).to_string()),
        };
        loop {
            let answer = tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    if let Some(job) = self.late(answers).await {
                        // Nobody is there to do it; without this it would wait for AckWait.
                        if let Err(why) = job.nak(Duration::ZERO).await {
                            warn!(%why, "a job that came while stopping could not be handed back; it is after AckWait");
                        }
                    }
                    return Pulled::Cancelled;
                }
                answer = tokio::time::timeout(2 * PULL_HEARTBEAT + Duration::from_secs(1), answers.next()) => answer.ok(),
                // A server that was restarted knows nothing of the request.
                () = &mut reconnected => {
                    return self.late(answers).await.map_or(Pulled::Forgotten, Pulled::Job);
                }
            };
            let Some(answer) = answer else {
                let silent = || Pulled::Away("it has fallen silent".to_owned());
                return self.late(answers).await.map_or_else(silent, Pulled::Job);
            };
            let Some(answer) = answer else {
                return Pulled::Away("the NATS client has ended".to_owned());
            };
            match answer.status {
                None => {
                    self.back();
                    return self
                        .job(answer)
                        .map_or_else(|| Pulled::Away("it sent something that is no job".to_owned()), Pulled::Job);
                }
                Some(StatusCode::IDLE_HEARTBEAT) => self.back(),
                Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => {
                    self.back();
                    return Pulled::Nothing;
                }
                Some(StatusCode::NO_RESPONDERS) => {
                    return Pulled::Away(format!("the consumer {CONSUMER} or its stream is not there"));
                }
                Some(status) => {
                    let text = answer.description.unwrap_or_default();
                    return Pulled::Away(format!("it answered {status} {text}"));
                }
            }
        }
    }

    /// Sends one request for one job; its answers come to the subscription.
    async fn ask(&self) -> Result<Subscriber, NatsError> {
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

    /// Takes the request back (the server drops it with its inbox) and looks whether a job was already on its way.
    async fn late(&self, mut answers: Subscriber) -> Option<JobMessage> {
        // Listened to for a moment longer: the unsubscribe of the client would throw away what arrives meanwhile.
        let deadline = Instant::now() + LATE_JOB;
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

    /// The queue answers.
    fn back(&mut self) {
        if self.away.end() {
            info!(queue = %self.nats.link.jobs, "jobs can be fetched from the work queue again");
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
