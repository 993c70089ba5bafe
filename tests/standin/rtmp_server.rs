//! A far end that writes down, byte by byte, what it is told: for stream keys that are longer than ffmpeg's own receiver
//! takes, and for far ends that refuse, hang and go away. It reads the wire by itself, with no code of the recorder's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// How many messages of media are kept of each connection.
const FIRST_MESSAGES: usize = 12;

/// Bytes that the kernel takes for a server that does not read; of one that stops reading, less than a second of media.
const RECEIVE_BUFFER: usize = 64 * 1024;
const SMALL_BUFFER: usize = 4 * 1024;

/// How it takes a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Take,
    /// Says that the stream key is not known, and closes.
    RefuseKey,
    /// Takes the connection, and never says a word.
    Hang,
    /// Takes the stream up to so many bytes of media, and then nothing more.
    StopReadingAt(usize),
    /// The same, and then closes.
    CloseAt(usize),
}

/// What has come up to now.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The payloads of the commands, in order.
    pub commands: Vec<Vec<u8>>,
    /// Bytes of sound and picture.
    pub media: usize,
    /// Of each connection, in order: kind and first two bytes of its first messages of media, and their times in ms.
    pub beginnings: Vec<Vec<(u8, [u8; 2], u32)>>,
    /// The sender has ended the connection.
    pub over: bool,
}

impl Seen {
    /// How many commands hold this text behind its length in 16 bits, as AMF 0 has strings.
    pub fn naming(&self, text: &str) -> usize {
        let mut wanted = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        wanted.extend_from_slice(text.as_bytes());
        self.commands.iter().filter(|command| command.windows(wanted.len()).any(|at| at == wanted)).count()
    }
}

pub struct RtmpServer {
    port: u16,
    seen: watch::Receiver<Seen>,
    _task: AbortOnDropHandle<()>,
}

impl RtmpServer {
    pub async fn start(manner: Manner) -> anyhow::Result<Self> {
        Self::start_with(&[manner], None).await
    }

    /// With a manner for each connection in turn, the last of them for all others; within TLS, where there is an acceptor.
    pub async fn start_with(manners: &[Manner], tls: Option<tokio_rustls::TlsAcceptor>) -> anyhow::Result<Self> {
        Self::start_at("127.0.0.1:0", manners, tls).await
    }

    /// The same at an address of this host.
    pub async fn start_at(
        address: &str,
        manners: &[Manner],
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let port = listener.local_addr()?.port();
        // A small window: what it does not read soon waits at the sender.
        let stops = manners.iter().any(|manner| matches!(manner, Manner::StopReadingAt(_)));
        let buffer = if stops { SMALL_BUFFER } else { RECEIVE_BUFFER };
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, buffer)?;
        let (sender, seen) = watch::channel(Seen::default());
        let sender = Arc::new(Mutex::new(sender));
        let mut manners = manners.to_vec();
        manners.reverse();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = Arc::clone(&sender);
                let tls = tls.clone();
                let manner = if manners.len() > 1 { manners.pop().unwrap() } else { manners[0] };
                tokio::spawn(async move {
                    let note = |change: &dyn Fn(&mut Seen)| sender.lock().unwrap().send_modify(change);
                    match tls {
                        None => serve(stream, manner, &note).await.ok(),
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, manner, &note).await.ok(),
                            Err(_) => None,
                        },
                    };
                    note(&|seen| seen.over = true);
                });
            }
        });
        Ok(Self { port, seen, _task: AbortOnDropHandle::new(task) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    pub async fn wait_until(&self, limit: Duration, look: impl Fn(&Seen) -> bool) -> anyhow::Result<Seen> {
        let mut seen = self.seen.clone();
        let found = tokio::time::timeout(limit, seen.wait_for(|seen| look(seen))).await;
        Ok(found.with_context(|| format!("not within {limit:?}: {:?} bytes of media", self.seen().media))??.clone())
    }
}

/// Changes what has been seen.
type Note<'a> = dyn Fn(&dyn Fn(&mut Seen)) + Sync + 'a;

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    manner: Manner,
    note: &Note<'_>,
) -> anyhow::Result<()> {
    if manner == Manner::Hang {
        return std::future::pending().await;
    }
    let mut hello = vec![0; 1537];
    stream.read_exact(&mut hello).await?;
    ensure!(hello[0] == 3, "RTMP version {}", hello[0]);
    let mut answer = vec![3];
    answer.extend_from_slice(&[7; 1536]);
    answer.extend_from_slice(&hello[1..]);
    stream.write_all(&answer).await?;
    let mut echo = vec![0; 1536];
    stream.read_exact(&mut echo).await?;
    ensure!(echo == [7; 1536], "the handshake is not echoed");

    let mut chunk_size = 128;
    // By chunk stream: what the header said, and what there is of the message.
    let mut streams: HashMap<u8, (usize, u8, Vec<u8>)> = HashMap::new();
    let mut media = 0;
    let mut times: HashMap<u8, u32> = HashMap::new();
    note(&|seen| seen.beginnings.push(Vec::new()));
    loop {
        let first = match stream.read_u8().await {
            Ok(first) => first,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (format, id) = (first >> 6, first & 0x3f);
        ensure!(id >= 2, "a chunk stream of two bytes");
        let there = streams.entry(id).or_default();
        if format < 3 {
            let mut header = vec![0; [11, 7, 3][usize::from(format)]];
            stream.read_exact(&mut header).await?;
            ensure!(header[..3] != [0xff; 3], "no broadcast of a test lasts that long");
            ensure!(format == 0, "the relay's headers are complete");
            times.insert(id, header[..3].iter().fold(0, |time, byte| time << 8 | u32::from(*byte)));
            if format < 2 {
                there.0 = header[3..6].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                there.1 = header[6];
            }
        }
        let begun = there.2.len();
        there.2.resize(there.0.min(begun + chunk_size), 0);
        stream.read_exact(&mut there.2[begun..]).await?;
        if there.2.len() < there.0 {
            continue;
        }
        let (kind, message) = (there.1, std::mem::take(&mut there.2));
        match kind {
            1 => chunk_size = usize::try_from(u32::from_be_bytes(message[..4].try_into()?))?,
            8 | 9 | 18 => {
                media += message.len();
                let first = (kind, [message[0], message[1]], times[&id]);
                note(&|seen| {
                    seen.media += message.len();
                    let beginning = seen.beginnings.last_mut().unwrap();
                    if beginning.len() < FIRST_MESSAGES {
                        beginning.push(first);
                    }
                });
            }
            20 => {
                note(&|seen| seen.commands.push(message.clone()));
                for answer in answers(&message, manner) {
                    // The last byte of the header counts: all commands of a server are on its chunk stream 3.
                    let mut bytes = vec![3, 0, 0, 0, 0];
                    bytes.extend_from_slice(&u16::try_from(answer.len())?.to_be_bytes());
                    bytes.extend_from_slice(&[20, 0, 0, 0, 0]);
                    for (n, chunk) in answer.chunks(128).enumerate() {
                        bytes.extend_from_slice(if n > 0 { &[0xc3] } else { &[] });
                        bytes.extend_from_slice(chunk);
                    }
                    stream.write_all(&bytes).await?;
                }
                if manner == Manner::RefuseKey && message.starts_with(b"\x02\0\x07publish") {
                    return Ok(());
                }
            }
            _ => {}
        }
        match manner {
            Manner::StopReadingAt(limit) if media >= limit => return std::future::pending().await,
            Manner::CloseAt(limit) if media >= limit => return Ok(()),
            _ => {}
        }
    }
}

/// What is said to a command (AMF 0).
fn answers(command: &[u8], manner: Manner) -> Vec<Vec<u8>> {
    let name_end = 3 + usize::from(command[2]);
    // The transaction's number stands behind the name.
    let transaction = &command[name_end..name_end + 9];
    let string = |text: &str| [&[2, 0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let property = |name: &str, value: &str| [&string(name)[1..], &string(value)].concat();
    let status = |level: &str, code: &str, description: &str| {
        let mut answer = string("onStatus");
        answer.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 3]);
        answer
            .extend([property("level", level), property("code", code), property("description", description)].concat());
        answer.extend_from_slice(&[0, 0, 9]);
        answer
    };
    match &command[3..name_end] {
        b"connect" => vec![[string("_result"), transaction.to_vec(), vec![5, 5]].concat()],
        b"createStream" => {
            let one = [0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0];
            vec![[string("_result"), transaction.to_vec(), vec![5], one.to_vec()].concat()]
        }
        b"publish" if manner == Manner::RefuseKey => {
            vec![status("error", "NetStream.Publish.BadName", "no such stream key here")]
        }
        b"publish" => vec![status("status", "NetStream.Publish.Start", "go on")],
        _ => Vec::new(),
    }
}
