//! Relays a broadcast: ffmpeg publishes to a loopback port with placeholder names, and the relay publishes the same media
//! to the far end with the real ones, again and again where the far end is lost.
//!
//! So the stream key is neither on ffmpeg's command line, which every user of the host can read, nor in ffmpeg's
//! output, which is logged. And ffmpeg goes on while the far end is away: nothing of the capture is touched.
//!
//! ```text
//! ffmpeg ── handshake, connect with the placeholder app ──→ relay ── DNS, TCP, TLS, handshake, commands ──→ far end
//!        ←── answers of the relay, once the far end has accepted the stream ──
//!        ── media, all the time ──→ media queue ── headers, media from a keyframe on ──→
//! ```
//!
//! The placeholders are 128 random bits each, and only processes of this user may connect: nobody else on the host can
//! publish to the stream. The relay accepts one encoder.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::capture::capture_report::FarEndStats;
use crate::capture::encoder::arguments::RelayAddress;
use crate::capture::rtmp::adaptation;
use crate::capture::rtmp::bit_rate::{BitRate, BitRateControl};
use crate::capture::rtmp::chunk_stream::RtmpMessage;
use crate::capture::rtmp::command::StreamNames;
use crate::capture::rtmp::encoder_connection;
use crate::capture::rtmp::encoder_turn::Successor;
use crate::capture::rtmp::encoders;
use crate::capture::rtmp::far_end::{self, FarEnd};
use crate::capture::rtmp::media::Media;
use crate::codes;
use crate::protocol::ids::RtmpUrl;
use crate::retry::Backoff;
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::seconds;

/// After ffmpeg's end: how long the rest may take, longer than a far end may take nothing.
const END_LIMIT: Duration = Duration::from_secs(15);
/// A far end that leaves its first connections sooner has refused the stream key: some services accept any key, and close
/// the connection of a wrong one after a moment. Once may be chance.
const REFUSAL_LIMIT: Duration = Duration::from_secs(3);
const REFUSALS: u32 = 2;
/// After a connection of this length the next loss is an outage of its own.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// The second wait before a new connection, and the longest; the first try is made at once.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// State of a relay.
#[derive(Clone, Debug)]
enum RelayState {
    /// ffmpeg has not connected yet.
    Waiting,
    Running,
    Ended(Result<(), String>),
}

/// A running relay; dropping it ends the relay.
#[derive(Debug)]
pub struct Relay {
    address: RelayAddress,
    /// Scheme, host and port of the far end.
    far_end: String,
    state: watch::Receiver<RelayState>,
    /// Whether ffmpeg waits for the far end to accept the stream.
    waits: watch::Receiver<bool>,
    successors: mpsc::Sender<Successor>,
    /// With which the broadcast is to go on.
    bit_rate: watch::Receiver<BitRate>,
    media: Arc<Media>,
    _task: AbortOnDropHandle<()>,
}

/// The way to the relay for an encoder that takes over.
#[derive(Clone, Debug)]
pub struct RelayEntrance {
    pub address: RelayAddress,
    pub successors: mpsc::Sender<Successor>,
}

impl Relay {
    /// Listens for ffmpeg. `reconnect_for`: how long a far end that was lost is tried again; zero: it is not.
    /// `control`: where the bit rate follows what the far end takes.
    ///
    /// # Errors
    /// Where no port can be opened or no random number is available.
    pub async fn start(
        url: &RtmpUrl,
        reconnect_for: Duration,
        control: Option<BitRateControl>,
    ) -> std::io::Result<Self> {
        let (app, key) = (random_name()?, random_name()?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = RelayAddress { port: listener.local_addr()?.port(), app: app.clone(), key: key.clone() };
        let names = StreamNames {
            placeholder_app: app,
            placeholder_key: key,
            app: url.application().to_owned(),
            key: url.key().unwrap_or_default(),
            tc_url: url.tc_url(),
        };
        let (sender, state) = watch::channel(RelayState::Waiting);
        let (url, far_end) = (url.clone(), url.origin());
        let (waiting, waits) = watch::channel(false);
        let (successors, mut announced) = mpsc::channel(1);
        let (rate, bit_rate) = watch::channel(None);
        let media = Arc::<Media>::default();
        let passed = Arc::clone(&media);
        let work = async move {
            let adapting = adaptation::run(control, &url, &passed, &rate);
            let relaying = run(&listener, &url, &names, reconnect_for, &sender, &waiting, &passed, &mut announced);
            let ended = tokio::select! {
                ended = relaying => ended,
                never = adapting => match never {},
            };
            match &ended {
                Ok(()) => tracing::debug!("the far end has all of the broadcast"),
                Err(why) => {
                    tracing::warn!(
                        code = %codes::FAR_END_NOT_REACHED, far_end = url.origin(), why,
                        "the broadcast does not get through and is given up: compare its URL and stream key with the far end's"
                    );
                }
            }
            let ended = ended.map_err(|why| format!("{}: {why}", url.origin()));
            sender.send_replace(RelayState::Ended(ended));
        };
        let task = AbortOnDropHandle::new(tokio::spawn(work.in_current_span()));
        Ok(Self { address, far_end, state, waits, successors, bit_rate, media, _task: task })
    }

    /// The bit rate with which the broadcast is to go on, as it changes.
    #[must_use]
    pub fn bit_rate(&self) -> watch::Receiver<BitRate> {
        self.bit_rate.clone()
    }

    #[must_use]
    pub fn entrance(&self) -> RelayEntrance {
        RelayEntrance { address: self.address.clone(), successors: self.successors.clone() }
    }

    /// What became of the broadcast so far.
    #[must_use]
    pub fn far_end_stats(&self) -> FarEndStats {
        self.media.far_end()
    }

    /// ffmpeg's message with the far end's address in the place of the relay's.
    #[must_use]
    pub fn translate(&self, words: &str) -> String {
        words.replace(&self.address.url(), &self.far_end).replace(&self.address.origin(), &self.far_end)
    }

    #[must_use]
    pub fn address(&self) -> &RelayAddress {
        &self.address
    }

    /// Whether ffmpeg waits for the far end to accept the stream.
    #[must_use]
    pub fn waits(&self) -> watch::Receiver<bool> {
        self.waits.clone()
    }

    /// To be called when ffmpeg has ended: waits until the far end has received all that ffmpeg wrote. Cancel-safe.
    ///
    /// # Errors
    /// Why the far end has not received all.
    pub async fn finished(&mut self) -> Result<(), String> {
        match timeout(END_LIMIT, self.state.wait_for(|state| !matches!(state, RelayState::Running))).await {
            Ok(Ok(state)) => match &*state {
                RelayState::Ended(ended) => ended.clone(),
                // ffmpeg has not connected; its own error says why.
                RelayState::Waiting | RelayState::Running => Ok(()),
            },
            Ok(Err(_)) => Err("the relay of the broadcast has ended by itself".to_owned()),
            Err(_) => Err(format!("the far end has not taken the rest within {} s", END_LIMIT.as_secs())),
        }
    }
}

/// 128 random bits as hexadecimal digits.
fn random_name() -> std::io::Result<String> {
    let mut bits = [0; 16];
    rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty())?;
    Ok(hex::encode(bits))
}

#[expect(clippy::too_many_arguments, reason = "they are the relay's parts, each for one of its two ends")]
async fn run(
    listener: &TcpListener,
    url: &RtmpUrl,
    names: &StreamNames,
    reconnect_for: Duration,
    state: &watch::Sender<RelayState>,
    waiting: &watch::Sender<bool>,
    media: &Media,
    successors: &mut mpsc::Receiver<Successor>,
) -> Result<(), String> {
    let encoder = encoder_connection::accept(listener, names).await?;
    state.send_replace(RelayState::Running);
    let (block, connect) = (encoder.block.clone(), encoder.connect.clone());
    let publication = Publication { url, names, block: &block, connect: &connect, reconnect_for };
    waiting.send_replace(true);
    let far_end = publication.publish().await?;
    waiting.send_replace(false);
    let reading = async {
        let read = encoders::read_all(encoder, listener, names, media, successors).await;
        media.end();
        read
    };
    let mut sending = std::pin::pin!(publication.send_all(far_end, media));
    tokio::select! {
        read = reading => {
            read?;
            sending.await
        }
        sent = &mut sending => sent,
    }
}

/// What is published where, and for how long a far end that was lost is tried again.
struct Publication<'a> {
    url: &'a RtmpUrl,
    names: &'a StreamNames,
    /// ffmpeg's handshake block and first command.
    block: &'a [u8],
    connect: &'a RtmpMessage,
    reconnect_for: Duration,
}

/// A time without the far end.
struct Outage {
    since: Instant,
    backoff: Backoff,
    tries: u32,
    /// The latest failure.
    why: String,
    unreached: LogThrottle,
}

impl Publication<'_> {
    async fn publish(&self) -> Result<FarEnd, String> {
        far_end::publish(self.url, self.names, self.block, self.connect).await
    }

    /// Sends the media until ffmpeg has ended, to as many connections as it takes.
    async fn send_all(&self, mut far_end: FarEnd, media: &Media) -> Result<(), String> {
        let (mut outage, mut refusals): (Option<Outage>, _) = (None, 0);
        loop {
            let began = Instant::now();
            let Err(why) = far_end.send_all(media, self.names).await else { return Ok(()) };
            let lasted = began.elapsed();
            let pictures = media.left_out();
            media.close();
            refusals = if lasted < REFUSAL_LIMIT { refusals + 1 } else { REFUSALS };
            if lasted < REFUSAL_LIMIT && refusals == REFUSALS && !media.has_ended() {
                let lasted_s = seconds(lasted);
                return Err(format!(
                    "{why}, {lasted_s} s after it had accepted the stream key, {REFUSALS} times: is the key right, and \
                     used nowhere else?"
                ));
            }
            if self.reconnect_for.is_zero() {
                return Err(why);
            }
            tracing::warn!(
                code = %codes::FAR_END_LOST,
                far_end = self.url.origin(),
                why,
                after_s = seconds(lasted),
                pictures_left_out = pictures,
                "the far end of the broadcast is lost: connecting again, while the capture goes on"
            );
            let outage = match &mut outage {
                Some(outage) if lasted < HEALTHY_AFTER => {
                    outage.why = why;
                    outage
                }
                outage => outage.insert(Outage::begin(why)),
            };
            let Some(reached) = self.reconnect(outage, media).await? else { return Ok(()) };
            far_end = reached;
            media.restart();
            tracing::info!(
                far_end = self.url.origin(),
                after_s = seconds(outage.since.elapsed()),
                tries = outage.tries,
                "the far end takes the broadcast again, from the next keyframe on"
            );
        }
    }

    /// Connects again. `None`: ffmpeg has ended meanwhile.
    async fn reconnect(&self, outage: &mut Outage, media: &Media) -> Result<Option<FarEnd>, String> {
        loop {
            let wait = if outage.tries == 0 { Duration::ZERO } else { outage.backoff.wait() };
            let left = self.reconnect_for.saturating_sub(outage.since.elapsed());
            let try_again = async {
                tokio::time::sleep(wait).await;
                outage.tries += 1;
                self.publish().await
            };
            let reached = tokio::select! {
                () = media.ended() => {
                    tracing::warn!(
                        code = %codes::BROADCAST_ENDS_LOST,
                        far_end = self.url.origin(), why = outage.why,
                        "the broadcast ends while its far end is lost: the far end lacks its last part"
                    );
                    return Ok(None);
                }
                reached = timeout(left, try_again) => reached,
            };
            match reached {
                Ok(Ok(far_end)) => return Ok(Some(far_end)),
                Ok(Err(why)) => {
                    if outage.unreached.due(Instant::now()) {
                        tracing::warn!(
                            code = %codes::FAR_END_LOST,
                            far_end = self.url.origin(),
                            why,
                            tries = outage.tries,
                            left_s = seconds(left),
                            "the far end of the broadcast cannot be reached yet: trying again"
                        );
                    }
                    outage.why = why;
                }
                Err(_) => return Err(outage.given_up(self.reconnect_for)),
            }
        }
    }
}

impl Outage {
    fn begin(why: String) -> Self {
        let backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        Self { since: Instant::now(), backoff, tries: 0, why, unreached: LogThrottle::default() }
    }

    fn given_up(&self, window: Duration) -> String {
        if window.is_zero() {
            return self.why.clone();
        }
        let window = humantime::format_duration(window);
        format!("{}; given up after {window} and {} tries (rtmp.reconnect_for)", self.why, self.tries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::rtmp::chunk_stream::SOUND;

    /// What is said of a far end that goes away, without having taken the end of a broadcast that is over.
    async fn lost_at_the_end(reconnect_for: Duration) -> Result<(), String> {
        let (far_end, other) = far_end::tests::full().await;
        let (media, names) = (Media::default(), far_end::tests::names());
        media.end();
        let url = RtmpUrl::parse("rtmp://127.0.0.1:9/live/key").unwrap();
        let connect =
            RtmpMessage { kind: SOUND, timestamp: 0, message_stream: 0, chunk_stream: 3, payload: Vec::new() };
        let publication = Publication { url: &url, names: &names, block: &[], connect: &connect, reconnect_for };
        let leave = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            // With bytes that were not read: that breaks the connection.
            drop(other);
        };
        tokio::join!(publication.send_all(far_end, &media), leave).0
    }

    #[tokio::test]
    async fn a_far_end_that_is_lost_at_the_very_end_is_told_where_it_is_not_connected_to_again() {
        let why = lost_at_the_end(Duration::ZERO).await.unwrap_err();
        assert!(why.starts_with("broke off"), "{why}");
        assert_eq!(lost_at_the_end(Duration::from_secs(60)).await, Ok(()), "the log says so, as the broadcast is over");
    }
}
