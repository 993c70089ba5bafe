//! Tries each server of the cluster by itself, and each of the rights that a recorder needs (PROTOCOL 1), without an
//! effect on anything.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::message::PublishMessage;
use async_nats::{Event, ServerError};
use serde::Deserialize;

use crate::config::{NatsConfig, ServerConfig};
use crate::protocol::ids::RecorderId;
use crate::tls::roots;

use crate::nats::address;
use crate::nats::bucket::UpdateError;
use crate::nats::connect::{advice, kind, options};
use crate::nats::connect_error::ConnectError;
use crate::nats::connection::{ANSWER_DEADLINE, Nats, NatsError, no_answer};
use crate::nats::requests::Requests;

/// A revision that no key ever has: a write that expects it is refused, and has no effect.
const NO_REVISION: u64 = 1 << 62;
/// A stream that nobody has: a job that expects it is refused, and not stored.
const NO_STREAM: &str = "no-such-stream-of-a-recorder-check";
/// Characters of what a server says.
const EXCERPT: usize = 200;

/// A connection to one server of the cluster.
#[derive(Debug)]
pub struct NatsProbe {
    /// `nats://host:port`
    pub address: String,
    pub connected: Result<Nats, ConnectError>,
    refusals: Arc<Mutex<Vec<String>>>,
}

/// The bucket, as the server describes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BucketInfo {
    error: Option<BucketError>,
    /// When the server answered (RFC 3339).
    ts: Option<String>,
}

#[derive(Debug, Deserialize)]
struct BucketError {
    description: String,
}

/// What the server says when it is asked for the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketAnswer {
    /// The server's clock (RFC 3339), from 2.10 on.
    pub told: Option<String>,
    /// This host's clock before and after.
    pub asked: SystemTime,
    pub answered: SystemTime,
}

/// Connects to each server by itself, to all at once, for `limit` at most.
///
/// # Errors
/// Where an entry is no NATS URL, or `ca_file` cannot be read.
pub async fn each_server(
    config: &NatsConfig,
    server: &ServerConfig,
    recorder: &RecorderId,
    limit: Duration,
) -> Result<Vec<NatsProbe>, ConnectError> {
    crate::tls::provide_crypto();
    let (addresses, credentials) = address::read(config, server, recorder)?;
    let credentials = Arc::new(credentials);
    let tls = server.ca_file.as_deref().map(|path| roots::client_config(Some(path))).transpose()?;
    let probes = addresses.each().into_iter().map(|one| {
        let (credentials, tls) = (&credentials, tls.clone());
        async move {
            let refusals = Arc::<Mutex<Vec<String>>>::default();
            let seen = refusals.clone();
            let mut options = options(&one, credentials, recorder).event_callback(move |event| {
                let text = match event {
                    Event::ServerError(ServerError::Other(text)) => Some(text),
                    _ => None,
                };
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend(text);
                std::future::ready(())
            });
            if let Some(tls) = tls {
                options = options.tls_client_config(tls);
            }
            let failed =
                |why: String, kind| ConnectError::Unreachable { servers: one.to_string(), why, advice: advice(kind) };
            let connected = match tokio::time::timeout(limit, options.connect(one.as_slice())).await {
                Ok(Ok(client)) => Ok(Nats::from_client(client, config)),
                Ok(Err(why)) => Err(failed(why.to_string(), kind(&why))),
                Err(_) => Err(failed(
                    format!("no answer within {} s", limit.as_secs()),
                    async_nats::ConnectErrorKind::TimedOut,
                )),
            };
            NatsProbe { address: one.to_string(), connected, refusals }
        }
    });
    Ok(futures::future::join_all(probes).await)
}

impl NatsProbe {
    /// What the server has refused on this connection so far, in its words.
    pub fn refusals(&self) -> Vec<String> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.iter().map(|text| text.chars().take(EXCERPT).collect()).collect()
    }
}

impl Nats {
    /// Name and version of the server.
    pub fn server(&self) -> (String, String) {
        let server = self.link.client.server_info();
        (server.server_name, server.version)
    }

    /// Asks for the bucket.
    ///
    /// # Errors
    /// Where there is none, or no answer within 5 s.
    pub async fn ask_for_bucket(&self) -> Result<BucketAnswer, NatsError> {
        let what = format!("asking for the bucket {}", self.link.bucket);
        let subject = format!("$JS.API.STREAM.INFO.KV_{}", self.link.bucket);
        let asked = SystemTime::now();
        let request = self.link.client.request(subject, bytes::Bytes::new());
        let answer = match tokio::time::timeout(ANSWER_DEADLINE, request).await {
            Ok(answer) => answer.map_err(|error| NatsError(format!("{what}: {error}")))?,
            Err(_) => return Err(no_answer(&what, ANSWER_DEADLINE)),
        };
        let answered = SystemTime::now();
        let info: BucketInfo = serde_json::from_slice(&answer.payload)
            .map_err(|error| NatsError(format!("{what}: the answer cannot be read: {error}")))?;
        match info.error {
            Some(error) => Err(NatsError(format!("{what}: {}", error.description))),
            None => Ok(BucketAnswer { told: info.ts, asked, answered }),
        }
    }

    /// Listens for requests, and answers none.
    ///
    /// # Errors
    /// Where the client has ended. A refusal is in [`NatsProbe::refusals`], once something else has been answered.
    pub async fn try_listening(&self) -> Result<Requests, NatsError> {
        self.requests().await
    }

    /// Tries to read, and to write, a key of `recorder` in the bucket; nothing is written.
    ///
    /// # Errors
    /// Where that is not allowed: there is no answer then.
    pub async fn try_bucket(&self, recorder: &RecorderId) -> Result<(), NatsError> {
        let bucket = self.bucket_now().await?;
        let key = format!("recorder_{recorder}-FIELD_1");
        bucket.read(&key).await?;
        match bucket.update(&key, "0".to_owned(), NO_REVISION).await {
            Ok(_) | Err(UpdateError::Conflict(_)) => Ok(()),
            Err(UpdateError::Failed(error)) => Err(error),
        }
    }

    /// Tries to publish a job; none is stored.
    ///
    /// # Errors
    /// Where that is not allowed, or there is no stream: there is no answer then.
    pub async fn try_publishing(&self) -> Result<(), NatsError> {
        let what = format!("publishing to {}", self.link.jobs);
        let message = PublishMessage::build().expected_stream(NO_STREAM);
        let stored = async { self.link.context.send_publish(self.link.jobs.clone(), message).await?.await };
        match tokio::time::timeout(ANSWER_DEADLINE, stored).await {
            Ok(Err(error)) if error.to_string().contains("expected stream does not match") => Ok(()),
            Ok(Ok(_)) => Err(NatsError(format!("{what}: an empty job was stored, although it named another stream"))),
            Ok(Err(error)) => Err(NatsError(format!("{what}: {error}"))),
            Err(_) => Err(no_answer(&what, ANSWER_DEADLINE)),
        }
    }
}
