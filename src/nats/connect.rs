//! Connects to NATS, stays connected, and logs why a connection fails.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{ClientError, ConnectErrorKind, ConnectOptions, Event, ServerError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::codes;
use crate::config::{NatsConfig, ServerConfig};
use crate::protocol::ids::RecorderId;
use crate::retry::Backoff;
use crate::telemetry::log_throttle::LogThrottle;
use crate::tls::roots;

use crate::nats::address::{self, Addresses, Credentials};
use crate::nats::connect_error::ConnectError;
use crate::nats::connection::{ANSWER_DEADLINE, Link, Nats};

/// Between two attempts at all servers before the first connection.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The longest wait between attempts after a lost connection; shorter, since a node whose last ping is older than 8 s
/// gets no work (PROTOCOL 2).
const LONGEST_RECONNECT_WAIT: Duration = Duration::from_secs(4);
/// Prevents a tight loop with a server that accepts the CONNECT and closes at once.
const SHORTEST_RECONNECT_WAIT: Duration = Duration::from_millis(100);
/// A dead connection is noticed after three of these: about the 8 s after which the server notices it.
const PING_INTERVAL: Duration = Duration::from_secs(3);

/// A lost connection is mostly back within seconds, and its loss is logged already.
const SHORT_OUTAGE: Duration = Duration::from_secs(5);
/// The time limit for probing a server.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

const REFUSED: &str = "NATS refused the token: check plugNmeet_info.api_key/api_secret and that the clocks agree (a token is \
                       valid for 5 min), or the plugNmeet server, which answers for NATS, does not run";

impl Nats {
    /// Tries until connected, logging at growing intervals why not. From then on the client reconnects for ever, to any
    /// of the servers, also after a refused token.
    ///
    /// # Errors
    /// Where a URL is no NATS URL, or `cancel` comes first.
    pub async fn connect(
        config: &NatsConfig,
        server: &ServerConfig,
        recorder: &RecorderId,
        cancel: &CancellationToken,
    ) -> Result<Self, ConnectError> {
        crate::tls::provide_crypto();
        let (addresses, credentials) = address::read(config, server, recorder)?;
        let credentials = Arc::new(credentials);
        let tls = server.ca_file.as_deref().map(|path| roots::client_config(Some(path))).transpose()?;
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut throttle = LogThrottle::default();
        loop {
            let mut options = options(&addresses, &credentials, recorder);
            if let Some(tls) = &tls {
                options = options.tls_client_config(tls.clone());
            }
            let connected = tokio::select! {
                connected = options.connect(addresses.as_slice()) => connected,
                () = cancel.cancelled() => return Err(ConnectError::Cancelled),
            };
            match connected {
                Ok(client) => {
                    let server = client.server_info();
                    info!(
                        servers = %addresses,
                        server = %server.server_name,
                        version = %server.version,
                        "connected to NATS"
                    );
                    return Ok(Self::from_client(client, config));
                }
                Err(why) if throttle.due(Instant::now()) => {
                    error!(
                        code = %codes::NATS_NOT_CONNECTED, servers = %addresses, %why,
                        "no connection to NATS, trying on: {}", advice(kind(&why))
                    );
                }
                Err(why) => debug!(servers = %addresses, %why, "still no connection to NATS"),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                () = cancel.cancelled() => return Err(ConnectError::Cancelled),
            }
        }
    }

    /// Tries all servers once, for `limit` at most.
    ///
    /// # Errors
    /// Where a URL is no NATS URL, or none of the servers can be connected to.
    pub async fn connect_once(
        config: &NatsConfig,
        server: &ServerConfig,
        recorder: &RecorderId,
        limit: Duration,
    ) -> Result<Self, ConnectError> {
        crate::tls::provide_crypto();
        let (addresses, credentials) = address::read(config, server, recorder)?;
        let mut options = options(&addresses, &Arc::new(credentials), recorder);
        if let Some(path) = server.ca_file.as_deref() {
            options = options.tls_client_config(roots::client_config(Some(path))?);
        }
        let failed =
            |why: String, kind| ConnectError::Unreachable { servers: addresses.to_string(), why, advice: advice(kind) };
        match tokio::time::timeout(limit, options.connect(addresses.as_slice())).await {
            Ok(Ok(client)) => Ok(Self::from_client(client, config)),
            Ok(Err(why)) => Err(failed(why.to_string(), kind(&why))),
            Err(_) => Err(failed(format!("no answer within {} s", limit.as_secs()), ConnectErrorKind::TimedOut)),
        }
    }

    pub(super) fn from_client(client: async_nats::Client, config: &NatsConfig) -> Self {
        let link = Link {
            context: async_nats::jetstream::context::ContextBuilder::new()
                .timeout(ANSWER_DEADLINE)
                .ack_timeout(ANSWER_DEADLINE)
                .build(client.clone()),
            client,
            channel: config.recorder_channel.clone(),
            bucket: config.recorder_info_kv.clone(),
            jobs: config.transcoding_jobs_subject.clone(),
        };
        Self { link: Arc::new(link) }
    }
}

pub(super) fn options(addresses: &Addresses, credentials: &Arc<Credentials>, recorder: &RecorderId) -> ConnectOptions {
    let credentials = Arc::clone(credentials);
    let servers = addresses.as_slice().len();
    let events = Arc::new(EventLog::new(addresses.clone()));
    // Called for every CONNECT, also when reconnecting: a token lives for 5 min only.
    ConnectOptions::with_auth_callback(move |_nonce| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        std::future::ready(Ok(credentials.auth(now)))
    })
    .name(recorder)
    .max_reconnects(None)
    .reconnect_delay_callback(move |attempts| reconnect_wait(attempts, servers))
    .ping_interval(PING_INTERVAL)
    .request_timeout(Some(ANSWER_DEADLINE))
    .event_callback(move |event| {
        let events = Arc::clone(&events);
        async move {
            if let Some(kind) = events.log_event(&event, Instant::now()) {
                events.log_unavailable(kind).await;
            }
        }
    })
}

/// The wait before the `attempts`th attempt (from 1) since the last connection: one quick round over all `servers`,
/// then 0.5 s, 1 s … up to the limit.
fn reconnect_wait(attempts: usize, servers: usize) -> Duration {
    match u32::try_from(attempts.saturating_sub(servers)) {
        Ok(0) => SHORTEST_RECONNECT_WAIT,
        Ok(late) => FIRST_WAIT.saturating_mul(2u32.saturating_pow(late - 1)).min(LONGEST_RECONNECT_WAIT),
        Err(_) => LONGEST_RECONNECT_WAIT,
    }
}

/// The kind of a failure; the client reports a refused certificate as plain I/O.
pub(super) fn kind(why: &async_nats::ConnectError) -> ConnectErrorKind {
    match why.kind() {
        ConnectErrorKind::Io if why.to_string().contains("certificate") => ConnectErrorKind::Tls,
        kind => kind,
    }
}

/// What an operator can do about a failure of this kind.
pub(super) fn advice(kind: ConnectErrorKind) -> &'static str {
    match kind {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => REFUSED,
        ConnectErrorKind::TimedOut => {
            "NATS does not answer in time: the plugNmeet server, which answers for NATS who may connect, does not run, or \
             NATS itself is overloaded or behind a firewall"
        }
        ConnectErrorKind::Dns => "no such host: check nats_info.nats_urls and the name service of this host",
        ConnectErrorKind::Tls => {
            "no TLS: check that the server speaks it and that its certificate is one this host trusts (ca-certificates, or plugNmeet_info.ca_file)"
        }
        _ => "check that the NATS server runs and that nats_info.nats_urls and the firewall let this host reach it",
    }
}

/// Logs the client's events.
struct EventLog {
    addresses: Addresses,
    state: Mutex<ConnectionLogState>,
}

#[derive(Default)]
struct ConnectionLogState {
    /// The first connection is logged by [`Nats::connect`].
    connected_before: bool,
    /// Since when there is no connection; `None` where it was not lost.
    lost: Option<Instant>,
    unavailable: LogThrottle,
    refused: LogThrottle,
    slow_consumer: LogThrottle,
}

impl EventLog {
    fn new(addresses: Addresses) -> Self {
        Self { addresses, state: Mutex::default() }
    }

    /// Logs an event; returns the kind of a failure to be logged by [`Self::log_unavailable`].
    fn log_event<'a>(&self, event: &'a Event, now: Instant) -> Option<&'a str> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Connected => {
                state.unavailable.end();
                state.refused.end();
                state.lost = None;
                if std::mem::replace(&mut state.connected_before, true) {
                    info!(servers = %self.addresses, "connected to NATS again");
                }
            }
            Event::Disconnected => {
                state.lost = Some(now);
                warn!(
                    code = %codes::NATS_LOST, servers = %self.addresses,
                    "the connection to NATS is lost; connecting again"
                );
            }
            Event::LameDuckMode => info!("the NATS server is about to stop and sends its clients away"),
            Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => {
                if state.slow_consumer.due(now) {
                    warn!(
                        code = %codes::NATS_MESSAGES_DROPPED,
                        "messages from NATS are dropped: this process does not keep up with them"
                    );
                }
            }
            Event::ServerError(ServerError::AuthorizationViolation) => {
                if state.refused.due(now) {
                    error!(code = %codes::NATS_TOKEN_REFUSED, "{REFUSED}");
                }
            }
            Event::ServerError(ServerError::Other(text)) => server_error(text),
            Event::ClientError(ClientError::Other(kind)) => {
                let is_short = state.lost.is_some_and(|since| now.duration_since(since) < SHORT_OUTAGE);
                if !is_short && state.unavailable.due(now) {
                    return Some(kind);
                }
            }
            Event::ClientError(_) => warn!(code = %codes::NATS_CLIENT, "NATS client: {event}"),
            Event::Draining | Event::Closed => debug!("NATS client: {event}"),
        }
        None
    }

    /// Logs that there is still no connection, and why: the client's event does not tell that.
    async fn log_unavailable(&self, kind: &str) {
        let servers = self.addresses.as_slice().iter();
        let probes = servers.map(|address| probe(address.host().to_owned(), address.port()));
        let seen = futures::future::join_all(probes).await;
        let why = format!("{kind} ({})", seen.join("; "));
        error!(
            code = %codes::NATS_NOT_CONNECTED, servers = %self.addresses, %why,
            "still no connection to NATS: {}", advice_for(kind)
        );
    }
}

/// Connects to a server by TCP, and describes the result.
async fn probe(host: String, port: u16) -> String {
    let connected = tokio::time::timeout(PROBE_LIMIT, tokio::net::TcpStream::connect((host.as_str(), port))).await;
    let met = match connected {
        Ok(Ok(_)) => "takes connections".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", PROBE_LIMIT.as_secs()),
    };
    format!("{host}:{port}: {met}")
}

/// [`advice`], since the event has the kind of a failure only as its text.
fn advice_for(kind: &str) -> &'static str {
    let kinds = [
        ConnectErrorKind::AuthorizationViolation,
        ConnectErrorKind::Authentication,
        ConnectErrorKind::Dns,
        ConnectErrorKind::Tls,
        ConnectErrorKind::TimedOut,
    ];
    let known = kinds.into_iter().find(|known| known.to_string() == kind);
    advice(known.unwrap_or(ConnectErrorKind::Io))
}

fn server_error(text: &str) {
    let lower = text.to_ascii_lowercase();
    if lower.contains("permissions violation") {
        error!(
            code = %codes::NATS_FORBIDS,
            server_says = text,
            "NATS forbids a subject: compare nats_info.recorder with the same names in the plugNmeet server's configuration"
        );
    } else if lower.contains("authentication expired") {
        // The token has expired; the client reconnects with a new one.
        info!(server_says = text, "NATS wants a new token");
    } else {
        warn!(code = %codes::NATS_ERROR, server_says = text, "NATS reports an error; look at the log of the NATS server");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reconnect_goes_round_quickly_once_and_then_waits_longer() {
        let waits: Vec<u128> = (1..=8).map(|attempt| reconnect_wait(attempt, 3).as_millis()).collect();
        assert_eq!(waits, [100, 100, 100, 500, 1000, 2000, 4000, 4000]);
        assert_eq!(reconnect_wait(usize::MAX, 1), LONGEST_RECONNECT_WAIT);
    }

    #[test]
    fn a_refused_token_is_distinguished_from_an_absent_server() {
        assert_eq!(advice_for("authorization violation"), REFUSED);
        assert!(REFUSED.contains("or the plugNmeet server, which answers for NATS, does not run"));
        assert!(advice_for("timed out").contains("the plugNmeet server"));
        assert!(advice_for("IO error").contains("firewall"));
        assert!(advice_for("DNS error").contains("no such host"));
    }

    #[test]
    fn a_short_outage_and_a_lasting_refusal_are_not_logged_repeatedly() {
        let nats = NatsConfig {
            urls: vec!["nats://a".to_owned()],
            recorder_channel: String::new(),
            recorder_info_kv: String::new(),
            transcoding_jobs_subject: String::new(),
        };
        let server = ServerConfig {
            host: "http://localhost".to_owned(),
            api_key: "key".to_owned(),
            api_secret: "secret".to_owned(),
            join_host: None,
            ca_file: None,
        };
        let (addresses, _) = address::read(&nats, &server, &RecorderId::parse("node_01").unwrap()).unwrap();
        let log = EventLog::new(addresses);
        let (start, seconds) = (Instant::now(), Duration::from_secs_f64);
        log.log_event(&Event::Connected, start);
        log.log_event(&Event::Disconnected, start);
        let failed = Event::ClientError(ClientError::Other("IO error".to_owned()));
        let times = (0..300).map(|tenth| seconds(f64::from(tenth) / 10.0));
        let times: Vec<u64> =
            times.filter(|at| log.log_event(&failed, start + *at).is_some()).map(|at| at.as_secs()).collect();
        assert_eq!(times, [5, 15]);
        assert!(log.log_event(&Event::Connected, start + seconds(30.0)).is_none());
        assert!(log.log_event(&failed, start + seconds(31.0)).is_some(), "never lost, and yet there is none");
    }
}
