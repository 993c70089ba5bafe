//! A connection to the far end of a broadcast: TCP, TLS, RTMP's handshake and commands as a publisher, then media.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::capture::rtmp::adobe_auth::{NextConnect, UserInfo, next_connect};
use crate::capture::rtmp::chunk_stream::{ChunkReader, ChunkWriter, DATA, PICTURE, RtmpMessage, SOUND};
use crate::capture::rtmp::command::StreamNames;
use crate::capture::rtmp::dialogue::{self, FarEndMessage, far_end_message};
use crate::capture::rtmp::encoder_connection::{BLOCK, BUFFER, VERSION};
use crate::capture::rtmp::media::Media;
use crate::protocol::ids::RtmpUrl;

/// Time limits for the connection (DNS included), TLS, the handshake, and the answers to the commands.
const CONNECT_LIMIT: Duration = Duration::from_secs(6);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(6);
/// For all of them together: shorter than the limit for the first frame (20 s).
const PUBLISH_LIMIT: Duration = Duration::from_secs(18);
/// Connections of one try: without a user, with its name, with its password.
const CONNECT_TRIES: u32 = 3;
/// How long the far end may take no byte.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked at whether all is sent.
const TAKEN_AGAIN: Duration = Duration::from_millis(50);
/// After the last byte: how long the far end may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// How long the far end's own words may come after its connection broke.
const WORDS_LIMIT: Duration = Duration::from_millis(200);
/// Bytes that the kernel may hold for a far end beside those on their way (tcp(7), `TCP_NOTSENT_LOWAT`), a third of a
/// second of a broadcast: what is in there can no longer be left out, and hides that the far end takes too little.
const UNSENT_LIMIT: u32 = 96 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A far end that has accepted the stream.
pub struct FarEnd {
    connection: Connection,
    /// The message stream's number.
    stream: u32,
}

struct Connection {
    tcp: Box<dyn Stream>,
    /// The same socket, to ask how much of it is sent.
    socket: OwnedFd,
    reader: ChunkReader,
    writer: ChunkWriter,
}

/// Connects to the far end and publishes the stream. `block` and `connect`: ffmpeg's handshake block and first command.
///
/// # Errors
/// Why the far end does not take it.
pub async fn publish(
    url: &RtmpUrl,
    names: &StreamNames,
    block: &[u8],
    connect: &RtmpMessage,
) -> Result<FarEnd, String> {
    let publication = async {
        let mut names = names.clone();
        let app = names.app.clone();
        for _ in 0..CONNECT_TRIES {
            let mut connection = Connection::open(url).await?;
            let greeting = timeout(HANDSHAKE_LIMIT, connection.greet(block)).await;
            greeting
                .map_err(|_| format!("no answer to the handshake within {} s", HANDSHAKE_LIMIT.as_secs()))?
                .map_err(|error| format!("broke off in the handshake: {error}"))?;
            let mut connect = connect.clone();
            names.fill_in(&mut connect).map_err(|fault| format!("ffmpeg said what it should not: {fault}"))?;
            let Some(words) = connection.connect(connect).await? else { return connection.publish(&names).await };
            match next_connect(&words, user_info(url).as_ref(), &own_challenge()) {
                NextConnect::With(parameters) => {
                    names.app = format!("{app}{parameters}");
                    names.tc_url = format!("{}{parameters}", url.tc_url());
                }
                NextConnect::Refused(why) => return Err(format!("refuses the user: {why}")),
                NextConnect::Unrelated => return Err(format!("refuses the application: {words}")),
            }
        }
        Err("refuses the user: it asks for a password again and again".to_owned())
    };
    timeout(PUBLISH_LIMIT, publication)
        .await
        .map_err(|_| format!("has not accepted the stream within {} s", PUBLISH_LIMIT.as_secs()))?
}

impl Connection {
    async fn open(url: &RtmpUrl) -> Result<Self, String> {
        let dial = async {
            // Each time anew: the address may have changed.
            let addresses = tokio::net::lookup_host((url.host(), url.port())).await;
            let addresses: Vec<_> =
                addresses.map_err(|error| format!("no connection: no such host: {error}"))?.collect();
            TcpStream::connect(&addresses[..]).await.map_err(|error| format!("no connection: {error}"))
        };
        let tcp = timeout(CONNECT_LIMIT, dial).await;
        let tcp = tcp.map_err(|_| format!("no connection within {} s", CONNECT_LIMIT.as_secs()))??;
        // None of these is essential. Small messages go out at once, and the kernel holds little. No TCP_USER_TIMEOUT: it
        // also ends a connection that takes its bytes steadily, where its window is small for so long (seen with Linux
        // 6.18).
        let _ = tcp.set_nodelay(true);
        let _ = socket2::SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT_LIMIT);
        let socket = tcp.as_fd().try_clone_to_owned().map_err(|error| format!("no connection: {error}"))?;
        let of = |tcp: Box<dyn Stream>| {
            let (reader, writer) = (ChunkReader::default(), ChunkWriter::default());
            Self { tcp, socket, reader, writer }
        };
        if !url.is_tls() {
            return Ok(of(Box::new(tcp)));
        }
        let name = ServerName::try_from(url.host().to_owned()).map_err(|error| format!("no TLS: {error}"))?;
        let tls = timeout(HANDSHAKE_LIMIT, tls()?.connect(name, tcp)).await;
        let tls = tls.map_err(|_| "no answer to TLS".to_owned())?.map_err(|error| format!("no TLS: {error}"))?;
        Ok(of(Box::new(tls)))
    }

    /// The client's side of the handshake (5.2), with ffmpeg's own block.
    async fn greet(&mut self, block: &[u8]) -> std::io::Result<()> {
        let mut hello = vec![VERSION];
        hello.extend_from_slice(block);
        self.tcp.write_all(&hello).await?;
        self.tcp.flush().await?;
        let mut answer = vec![0; 1 + 2 * BLOCK];
        self.tcp.read_exact(&mut answer).await?;
        self.tcp.write_all(&answer[1..=BLOCK]).await?;
        self.tcp.flush().await
    }

    /// Says `connect`. Returns the words of a refusal.
    async fn connect(&mut self, connect: RtmpMessage) -> Result<Option<String>, String> {
        self.say(&dialogue::opening(connect)).await?;
        loop {
            match self.hear("the application").await? {
                FarEndMessage::Result(transaction, _) if same(transaction, dialogue::CONNECT) => return Ok(None),
                FarEndMessage::Error(_, words) | FarEndMessage::Refused(words) => return Ok(Some(words)),
                _ => {}
            }
        }
    }

    async fn publish(mut self, names: &StreamNames) -> Result<FarEnd, String> {
        self.say(&dialogue::stream_creation(&names.key)).await?;
        let stream = loop {
            match self.hear("the stream key").await? {
                FarEndMessage::Result(transaction, Some(stream)) if same(transaction, dialogue::CREATE_STREAM) => {
                    // Its number is a whole one, small in practice.
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
                    break stream as u32;
                }
                FarEndMessage::Error(transaction, words) if same(transaction, dialogue::CREATE_STREAM) => {
                    return Err(format!("refuses the stream: {words}"));
                }
                FarEndMessage::Refused(words) => return Err(format!("refuses the stream key: {words}")),
                // Servers that do not know `releaseStream` and `FCPublish` say so.
                _ => {}
            }
        };
        self.say(&[dialogue::publication(&names.key, stream)]).await?;
        loop {
            match self.hear("the stream key").await? {
                FarEndMessage::Publishing => return Ok(FarEnd { connection: self, stream }),
                FarEndMessage::Refused(words) => return Err(format!("refuses the stream key: {words}")),
                _ => {}
            }
        }
    }

    async fn say(&mut self, messages: &[RtmpMessage]) -> Result<(), String> {
        let mut out = Vec::new();
        for message in messages {
            self.writer.write(message, &mut out);
        }
        send(&mut self.tcp, &out).await
    }

    /// The next message of the far end. `told`: what it was told last.
    async fn hear(&mut self, told: &str) -> Result<FarEndMessage, String> {
        let mut buffer = vec![0; BUFFER];
        loop {
            if let Some(message) = self.reader.read().map_err(|fault| format!("speaks no RTMP: {fault}"))? {
                match far_end_message(&message) {
                    FarEndMessage::Ping(answer) => self.say(&[answer]).await?,
                    other => return Ok(other),
                }
                continue;
            }
            match self.tcp.read(&mut buffer).await {
                Ok(0) => return Err(format!("closed the connection when it was told {told}: is that right?")),
                Ok(read) => self.reader.push(&buffer[..read]),
                Err(error) => return Err(format!("broke off when it was told {told}: {error}")),
            }
        }
    }
}

fn user_info(url: &RtmpUrl) -> Option<UserInfo> {
    url.user_info().map(|(user, password)| UserInfo { user, password })
}

/// The publisher's own part of an authentication: eight random digits, as other publishers have it.
fn own_challenge() -> String {
    let mut bits = [0; 4];
    // Without a random number it is still an answer.
    let _ = rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty());
    hex::encode(bits)
}

/// Whether both are the same transaction: a small whole number.
fn same(transaction: f64, expected: f64) -> bool {
    (transaction - expected).abs() < 0.5
}

impl FarEnd {
    /// Sends the media until ffmpeg has ended and all is sent.
    ///
    /// # Errors
    /// Why the far end does not take them any more.
    pub async fn send_all(self, media: &Media, names: &StreamNames) -> Result<(), String> {
        let Self { connection: Connection { tcp, socket, mut reader, mut writer }, stream } = self;
        let (mut from, mut to) = tokio::io::split(tcp);
        let up = async {
            let mut out = Vec::new();
            loop {
                let batch = media.next().await.map_err(|_| "takes less than the sound alone".to_owned())?;
                let last = batch.is_empty();
                for mut message in batch {
                    if matches!(message.kind, SOUND | PICTURE | DATA) {
                        message.message_stream = stream;
                    }
                    writer.write(&message, &mut out);
                }
                if last {
                    for message in dialogue::closing(&names.key, stream) {
                        writer.write(&message, &mut out);
                    }
                }
                send(&mut to, &out).await?;
                if last {
                    taken(&socket).await?;
                    // All is sent; how the far end closes the connection does not matter.
                    let _ = timeout(CLOSE_LIMIT, to.shutdown()).await;
                    return Ok::<_, String>(());
                }
                out.clear();
                // A message may have been a large frame.
                out.shrink_to(BUFFER);
            }
        };
        let down = async {
            let mut buffer = vec![0; BUFFER];
            loop {
                match from.read(&mut buffer).await {
                    Ok(0) => return "closed the connection".to_owned(),
                    Err(error) => return broke_off(&error),
                    Ok(read) => reader.push(&buffer[..read]),
                }
                loop {
                    match reader.read() {
                        Ok(None) => break,
                        Ok(Some(message)) => match far_end_message(&message) {
                            FarEndMessage::Ping(answer) => media.answer(answer),
                            FarEndMessage::Refused(words) => return format!("ended the stream: {words}"),
                            _ => {}
                        },
                        Err(fault) => return format!("speaks no RTMP: {fault}"),
                    }
                }
            }
        };
        let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
        tokio::select! {
            biased;
            sent = &mut up => match sent {
                Ok(()) => {
                    let _ = timeout(CLOSE_LIMIT, down).await;
                    Ok(())
                }
                // It may have said more before.
                Err(why) => Err(timeout(WORDS_LIMIT, down).await.ok().filter(|words| words.contains(": ")).unwrap_or(why)),
            },
            why = &mut down => {
                // The far end may have closed because ffmpeg has ended the stream.
                if media.has_ended() && matches!(timeout(CLOSE_LIMIT, up).await, Ok(Ok(()))) { Ok(()) } else { Err(why) }
            }
        }
    }
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

/// Whether the kernel has room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Free,
    Full,
    /// The connection is broken, or closed at both ends.
    Gone,
}

fn room(socket: &OwnedFd) -> Room {
    let mut asked = [PollFd::new(socket, PollFlags::OUT)];
    match poll(&mut asked, Some(&Timespec::default())) {
        Ok(0) => Room::Full,
        Ok(_) if asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => Room::Gone,
        // Where it cannot be asked, the end is as without this.
        Ok(_) | Err(_) => Room::Free,
    }
}

/// Waits until the far end has room for all that was written: a connection that is closed before hides what is not taken.
async fn taken(socket: &OwnedFd) -> Result<(), String> {
    // From now on the kernel says that there is room only where nothing is left to be sent.
    if socket2::SockRef::from(socket).set_tcp_notsent_lowat(1).is_err() {
        return Ok(());
    }
    let wait = async {
        let mut waited = false;
        loop {
            match room(socket) {
                Room::Full => waited = true,
                Room::Gone if waited => return Err("broke off before it had all".to_owned()),
                // Some far ends break the connection as soon as they have all, which may be before the first look.
                Room::Free | Room::Gone => return Ok(()),
            }
            tokio::time::sleep(TAKEN_AGAIN).await;
        }
    };
    timeout(STALL_LIMIT, wait).await.unwrap_or_else(|_| Err(stalled()))
}

fn stalled() -> String {
    format!("has taken nothing for {} s", STALL_LIMIT.as_secs())
}

fn broke_off(error: &std::io::Error) -> String {
    format!("broke off: {error}")
}

/// Sends all bytes; each write must make progress within [`STALL_LIMIT`].
async fn send<W: AsyncWrite + Unpin>(to: &mut W, mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        let piece = &bytes[..bytes.len().min(BUFFER)];
        match timeout(STALL_LIMIT, to.write(piece)).await.map_err(|_| stalled())? {
            Ok(0) => return Err("closed the connection".to_owned()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) => return Err(broke_off(&error)),
        }
    }
    let flushed = timeout(STALL_LIMIT, to.flush()).await.map_err(|_| stalled())?;
    flushed.map_err(|error| broke_off(&error))
}

#[cfg(test)]
pub(in crate::capture::rtmp) mod tests {
    use super::*;
    use rustix::io::Errno;
    use tokio::net::TcpSocket;

    /// Bytes that a far end takes which reads nothing, and that wait for it besides: fewer than [`UNSENT_LIMIT`].
    const SMALL_WINDOW: u32 = 4096;

    /// A far end that has accepted the stream and has room for nothing more, and its side of the connection.
    pub(in crate::capture::rtmp) async fn full() -> (FarEnd, TcpStream) {
        let listener = TcpSocket::new_v4().unwrap();
        listener.set_recv_buffer_size(SMALL_WINDOW).unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1).unwrap();
        let url = format!("rtmp://{}/live/key", listener.local_addr().unwrap());
        let connection = Connection::open(&RtmpUrl::parse(&url).unwrap()).await.unwrap();
        let (other, _) = listener.accept().await.unwrap();
        let socket = socket2::SockRef::from(&connection.socket);
        socket.set_tcp_notsent_lowat(SMALL_WINDOW).unwrap();
        // What is sent is acknowledged in the same call, on loopback.
        let full = loop {
            if let Err(error) = rustix::io::write(&connection.socket, &[0; 1024]) {
                break error;
            }
        };
        assert_eq!(full, Errno::AGAIN);
        socket.set_tcp_notsent_lowat(UNSENT_LIMIT).unwrap();
        (FarEnd { connection, stream: 1 }, other)
    }

    pub(in crate::capture::rtmp) fn names() -> StreamNames {
        let name = String::new;
        StreamNames {
            placeholder_app: name(),
            placeholder_key: name(),
            app: name(),
            key: "s3cret-stream-key".to_owned(),
            tc_url: name(),
        }
    }

    #[tokio::test]
    async fn a_far_end_that_does_not_take_the_end_is_told_and_one_that_takes_it_late_has_it() {
        let media = Media::default();
        media.end();
        let (far_end, stalled) = full().await;
        tokio::time::pause();
        let sent = far_end.send_all(&media, &names()).await;
        tokio::time::resume();
        assert_eq!(sent, Err("has taken nothing for 10 s".to_owned()));
        drop(stalled);

        let (far_end, mut late) = full().await;
        let mut got = Vec::new();
        let read = async {
            tokio::time::sleep(3 * TAKEN_AGAIN).await;
            late.read_to_end(&mut got).await.unwrap();
        };
        let names = names();
        let (sent, ()) = tokio::join!(far_end.send_all(&media, &names), read);
        assert_eq!(sent, Ok(()));
        let key = names.key.as_bytes();
        assert!(got.windows(key.len()).any(|part| part == key), "the last words came: {} bytes", got.len());
    }
}
