//! Relays a broadcast: ffmpeg publishes to a loopback port with placeholder names, and the relay replaces them with the
//! real ones.
//!
//! So the stream key is neither on ffmpeg's command line, which every user of the host can read, nor in ffmpeg's
//! output, which is logged.
//!
//! ```text
//! ffmpeg ── handshake, connect with the placeholder app ──→ relay ── TCP, TLS, handshake, connect ──→ far end
//!        ←──────────────── the far end's answers, unchanged ────────────────
//!        ── commands, media ──→ names replaced, each message with a complete header ──→
//! ```
//!
//! The placeholders are 128 random bits each, and only processes of this user may connect: nobody else on the host can
//! publish to the stream. The relay accepts one encoder.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::capture::encoder::arguments::RelayAddress;
use crate::capture::rtmp::chunk_stream::{ChunkReader, ChunkWriter, RtmpMessage};
use crate::capture::rtmp::command::StreamNames;
use crate::protocol::ids::RtmpUrl;
use crate::telemetry::log_throttle::LogThrottle;

/// Time limits for the connection (DNS included), then TLS, then the handshake. Together they are shorter than the
/// limit for the first frame (20 s).
const CONNECT_LIMIT: Duration = Duration::from_secs(6);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(6);
/// From a connection until ffmpeg's `connect`.
const LOCAL_LIMIT: Duration = Duration::from_secs(5);
/// How long the far end may accept no byte.
const STALL_LIMIT: Duration = Duration::from_secs(20);
/// After ffmpeg's last byte: how long the far end may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// After ffmpeg's end: how long the rest may take, longer than `STALL_LIMIT`.
const END_LIMIT: Duration = Duration::from_secs(25);
/// Limit of connections that have not identified themselves yet.
const UNIDENTIFIED_LIMIT: usize = 16;
/// Size of each of the two handshake blocks in bytes (5.2.3); the version precedes the first.
const BLOCK: usize = 1536;
/// RTMP's version (5.2.2).
const VERSION: u8 = 3;
/// Buffer size in bytes of each direction.
const BUFFER: usize = 32 * 1024;

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
    /// Whether bytes wait for the far end to take them.
    waits: watch::Receiver<bool>,
    _task: AbortOnDropHandle<()>,
}

impl Relay {
    /// Listens for ffmpeg.
    ///
    /// # Errors
    /// Where no port can be opened or no random number is available.
    pub async fn start(url: &RtmpUrl) -> std::io::Result<Self> {
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
        let work = async move {
            let ended = run(listener, &url, &names, &sender, &waiting).await;
            match &ended {
                Ok(()) => tracing::debug!("the far end has all of the broadcast"),
                Err(why) => tracing::warn!(far_end = url.origin(), why, "the broadcast does not get through"),
            }
            let ended = ended.map_err(|why| format!("{}: {why}", url.origin()));
            sender.send_replace(RelayState::Ended(ended));
        };
        Ok(Self { address, far_end, state, waits, _task: AbortOnDropHandle::new(tokio::spawn(work.in_current_span())) })
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

    /// Whether bytes wait for the far end to take them.
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

/// The connection of ffmpeg, identified by its `connect`.
struct EncoderConnection {
    stream: TcpStream,
    /// Its handshake block.
    block: Vec<u8>,
    reader: ChunkReader,
    /// Its first command, and the messages before it.
    connect: RtmpMessage,
    before: Vec<RtmpMessage>,
}

async fn run(
    listener: TcpListener,
    url: &RtmpUrl,
    names: &StreamNames,
    state: &watch::Sender<RelayState>,
    waiting: &watch::Sender<bool>,
) -> Result<(), String> {
    let encoder = encoder(&listener, names).await?;
    state.send_replace(RelayState::Running);
    drop(listener);
    let tcp = timeout(CONNECT_LIMIT, TcpStream::connect((url.host(), url.port()))).await;
    let tcp = tcp.map_err(|_| format!("no connection within {} s", CONNECT_LIMIT.as_secs()))?;
    let tcp = tcp.map_err(|error| format!("no connection: {error}"))?;
    // Sends small messages at once; not essential.
    let _ = tcp.set_nodelay(true);
    if !url.is_tls() {
        return relay(encoder, tcp, names, waiting).await;
    }
    let name = ServerName::try_from(url.host().to_owned()).map_err(|error| format!("no TLS: {error}"))?;
    let tls = tls()?.connect(name, tcp);
    let tls = timeout(HANDSHAKE_LIMIT, tls).await.map_err(|_| "no answer to TLS".to_owned())?;
    relay(encoder, tls.map_err(|error| format!("no TLS: {error}"))?, names, waiting).await
}

/// With the host's own root certificates, as for NATS and HTTP.
fn tls() -> Result<TlsConnector, String> {
    crate::tls::provide_crypto();
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("no TLS: this host has no root certificates (package ca-certificates)".to_owned());
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Waits for the client that knows the placeholder app.
async fn encoder(listener: &TcpListener, names: &StreamNames) -> Result<EncoderConnection, String> {
    let (mut unidentified, mut turned_away) = (JoinSet::new(), LogThrottle::default());
    loop {
        tokio::select! {
            accepted = listener.accept(), if unidentified.len() < UNIDENTIFIED_LIMIT => {
                let (stream, peer) = accepted.map_err(|error| format!("the relay cannot listen: {error}"))?;
                let names = names.clone();
                let accepted_encoder = async move {
                    // Other users can read the placeholders on ffmpeg's command line.
                    let owner = tokio::task::spawn_blocking(move || socket_owner(peer.port())).await.ok().flatten();
                    if owner.is_some_and(|owner| owner != rustix::process::geteuid().as_raw()) {
                        return None;
                    }
                    accept_connect(stream, &names).await
                };
                unidentified.spawn(async move { timeout(LOCAL_LIMIT, accepted_encoder).await.ok().flatten() });
            }
            Some(accepted_encoder) = unidentified.join_next() => {
                if let Ok(Some(encoder)) = accepted_encoder {
                    return Ok(encoder);
                }
                if turned_away.due(tokio::time::Instant::now()) {
                    tracing::warn!("somebody else on this host has connected to the relay of the broadcast: turned away");
                }
            }
        }
    }
}

/// The user who owns the loopback socket with this port (proc(5), `/proc/net/tcp`); `None` where the kernel does not
/// say.
fn socket_owner(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    tables.iter().find_map(|table| owner_in(table, port))
}

/// The owner of the socket with this local port at 127.0.0.1, in IPv4 or IPv6 notation.
fn owner_in(table: &str, port: u16) -> Option<u32> {
    let address = format!("0100007F:{port:04X}");
    let line =
        table.lines().skip(1).find(|line| line.split_whitespace().nth(1).is_some_and(|at| at.ends_with(&address)));
    line?.split_whitespace().nth(7)?.parse().ok()
}

/// The server's side of the handshake (5.2), and the first command. `None`: the client is not ffmpeg.
async fn accept_connect(mut stream: TcpStream, names: &StreamNames) -> Option<EncoderConnection> {
    let _ = stream.set_nodelay(true);
    let mut block = vec![0; BLOCK];
    if stream.read_u8().await.ok()? != VERSION {
        return None;
    }
    stream.read_exact(&mut block).await.ok()?;
    // Time and version are zero: a plain handshake without a digest.
    let mut answer = vec![0; 1 + BLOCK];
    answer[0] = VERSION;
    rustix::rand::getrandom(&mut answer[9..], rustix::rand::GetRandomFlags::empty()).ok()?;
    answer.extend_from_slice(&block);
    stream.write_all(&answer).await.ok()?;
    let mut echo = vec![0; BLOCK];
    stream.read_exact(&mut echo).await.ok()?;
    let (mut reader, mut buffer, mut before) = (ChunkReader::default(), vec![0; BUFFER], Vec::new());
    loop {
        while let Some(message) = reader.read().ok()? {
            if names.is_connect(&message) {
                return Some(EncoderConnection { stream, block, reader, connect: message, before });
            }
            before.push(message);
            // Only messages such as Set Chunk Size precede `connect`.
            if before.len() > 8 {
                return None;
            }
        }
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        reader.push(&buffer[..read]);
    }
}

/// The client's side of the handshake with the far end, with ffmpeg's own block; then relays both ways until one side
/// ends.
async fn relay<S: AsyncRead + AsyncWrite>(
    encoder: EncoderConnection,
    far_end: S,
    names: &StreamNames,
    waiting: &watch::Sender<bool>,
) -> Result<(), String> {
    let EncoderConnection { stream, block, mut reader, connect, before } = encoder;
    let (mut from_far, mut to_far) = tokio::io::split(far_end);
    let greeting = async {
        let mut hello = vec![VERSION];
        hello.extend_from_slice(&block);
        to_far.write_all(&hello).await?;
        to_far.flush().await?;
        let mut answer = vec![0; 1 + 2 * BLOCK];
        from_far.read_exact(&mut answer).await?;
        to_far.write_all(&answer[1..=BLOCK]).await?;
        to_far.flush().await
    };
    let accepted_encoder = timeout(HANDSHAKE_LIMIT, greeting).await;
    let accepted_encoder =
        accepted_encoder.map_err(|_| format!("no answer to the handshake within {} s", HANDSHAKE_LIMIT.as_secs()))?;
    accepted_encoder.map_err(|error| format!("broke off in the handshake: {error}"))?;

    let (mut from_encoder, mut to_encoder) = stream.into_split();
    let up = async {
        let (mut writer, mut out, mut buffer) = (ChunkWriter::default(), Vec::new(), vec![0; BUFFER]);
        let mut fill_in = |mut message: RtmpMessage, out: &mut Vec<u8>| -> Result<(), String> {
            names.fill_in(&mut message).map_err(|fault| format!("ffmpeg said what it should not: {fault}"))?;
            writer.write(&message, out);
            Ok(())
        };
        for message in before.into_iter().chain([connect]) {
            fill_in(message, &mut out)?;
        }
        loop {
            while let Some(message) =
                reader.read().map_err(|fault| format!("ffmpeg said what it should not: {fault}"))?
            {
                fill_in(message, &mut out)?;
            }
            waiting.send_replace(true);
            send(&mut to_far, &out).await?;
            waiting.send_replace(false);
            out.clear();
            // The message may have been a large frame.
            out.shrink_to(BUFFER);
            match from_encoder.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => reader.push(&buffer[..read]),
            }
        }
        // All is sent; how the far end closes the connection does not matter.
        let _ = timeout(CLOSE_LIMIT, to_far.shutdown()).await;
        Ok::<_, String>(())
    };
    let down = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            match from_far.read(&mut buffer).await {
                Ok(0) => return "closed the connection".to_owned(),
                Err(error) => return format!("broke off: {error}"),
                // Answers to an ffmpeg that has ended are discarded.
                Ok(read) => drop(to_encoder.write_all(&buffer[..read]).await),
            }
        }
    };
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    tokio::select! {
        biased;
        ended = &mut up => {
            if ended.is_ok() {
                let _ = timeout(CLOSE_LIMIT, down).await;
            }
            ended
        }
        why = &mut down => {
            // The far end may have closed because ffmpeg has ended the stream.
            match timeout(CLOSE_LIMIT, up).await {
                Ok(Ok(())) => Ok(()),
                _ => Err(why),
            }
        }
    }
}

/// Sends all bytes; each write must make progress within [`STALL_LIMIT`].
async fn send<W: AsyncWrite + Unpin>(to: &mut W, mut bytes: &[u8]) -> Result<(), String> {
    let stalled = || format!("has taken nothing for {} s", STALL_LIMIT.as_secs());
    while !bytes.is_empty() {
        let piece = &bytes[..bytes.len().min(BUFFER)];
        let written = timeout(STALL_LIMIT, to.write(piece)).await.map_err(|_| stalled())?;
        match written {
            Ok(0) => return Err("closed the connection".to_owned()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) => return Err(format!("broke off: {error}")),
        }
    }
    let flushed = timeout(STALL_LIMIT, to.flush()).await.map_err(|_| stalled())?;
    flushed.map_err(|error| format!("broke off: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_socket_is_found_in_the_kernels_tables() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000  1000        0 1 1\n   \
                     1: 0100007F:C000 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 2 1\n";
        assert_eq!(
            (owner_in(table, 0x1F90), owner_in(table, 0xC000), owner_in(table, 1)),
            (Some(1000), Some(1001), None)
        );
        let mapped = "head\n 0: 0000000000000000FFFF00000100007F:C000 x 01 a b c 1002 0 3\n";
        assert_eq!(owner_in(mapped, 0xC000), Some(1002));
        // A socket of this test.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(socket_owner(port), Some(rustix::process::geteuid().as_raw()));
    }
}
