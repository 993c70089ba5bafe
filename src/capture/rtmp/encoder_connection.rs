//! ffmpeg's connection to the relay: who may connect, RTMP's handshake as a server, and its commands.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::capture::rtmp::chunk_stream::{COMMAND, ChunkReader, ChunkWriter, DATA, PICTURE, RtmpMessage, SOUND};
use crate::capture::rtmp::command::StreamNames;
use crate::capture::rtmp::dialogue::{FarEndMessage, answers_to_encoder, far_end_message};
use crate::capture::rtmp::encoder_turn::EncoderTurn;
use crate::capture::rtmp::media::Media;
use crate::codes;
use crate::telemetry::log_throttle::LogThrottle;

/// From a connection until ffmpeg's `connect`.
const LOCAL_LIMIT: Duration = Duration::from_secs(5);
/// Limit of connections that have not identified themselves yet.
const UNIDENTIFIED_LIMIT: usize = 16;
/// Size of each of the two handshake blocks in bytes (5.2.3); the version precedes the first.
pub const BLOCK: usize = 1536;
/// RTMP's version (5.2.2).
pub const VERSION: u8 = 3;
/// Buffer size in bytes.
pub const BUFFER: usize = 32 * 1024;

/// The connection of ffmpeg, identified by its `connect`.
pub struct EncoderConnection {
    stream: TcpStream,
    /// Its handshake block.
    pub block: Vec<u8>,
    reader: ChunkReader,
    /// Its first command.
    pub connect: RtmpMessage,
}

/// Waits for the client that knows the placeholder app.
///
/// # Errors
/// Where the relay cannot listen.
pub async fn accept(listener: &TcpListener, names: &StreamNames) -> Result<EncoderConnection, String> {
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
                    tracing::warn!(
                        code = %codes::STRANGER_AT_RELAY,
                        "somebody else on this host has connected to the relay of the broadcast: turned away"
                    );
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
    let (mut reader, mut buffer, mut before) = (ChunkReader::default(), vec![0; BUFFER], 0);
    loop {
        while let Some(message) = reader.read().ok()? {
            if names.is_connect(&message) {
                return Some(EncoderConnection { stream, block, reader, connect: message });
            }
            before += 1;
            // Only messages such as Set Chunk Size precede `connect`.
            if before > 8 {
                return None;
            }
        }
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        reader.push(&buffer[..read]);
    }
}

impl EncoderConnection {
    /// Answers ffmpeg's commands and passes its media on, when its turn has come, until it ends.
    ///
    /// # Errors
    /// Where it sends what no encoder sends.
    pub async fn read_all(self, media: &Media, mut turn: EncoderTurn) -> Result<(), String> {
        let Self { stream, mut reader, connect, .. } = self;
        let (mut from, mut to) = stream.into_split();
        let (mut writer, mut answers, mut buffer) = (ChunkWriter::default(), Vec::new(), vec![0; BUFFER]);
        let (mut next, mut publishes) = (Some(connect), false);
        loop {
            while let Some(message) = next.take() {
                match message.kind {
                    COMMAND => {
                        for answer in answers_to_encoder(&message) {
                            publishes |= far_end_message(&answer) == FarEndMessage::Publishing;
                            writer.write(&answer, &mut answers);
                        }
                    }
                    SOUND | PICTURE | DATA => {
                        if let Some(message) = turn.of(message).await {
                            media.push(message);
                        }
                    }
                    _ => {}
                }
                next = reader.read().map_err(|fault| format!("ffmpeg said what it should not: {fault}"))?;
            }
            // An ffmpeg that has ended takes no answers.
            let _ = to.write_all(&answers).await;
            answers.clear();
            if publishes {
                turn.is_ready();
            }
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return Ok(()),
                Ok(read) => reader.push(&buffer[..read]),
            }
            next = reader.read().map_err(|fault| format!("ffmpeg said what it should not: {fault}"))?;
        }
    }
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
