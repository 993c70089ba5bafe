//! RTMP's chunk stream, as far as a relay needs it ("Adobe's Real Time Messaging Protocol", 1.0, sections 5.3 and 5.4).
//! Pure.

use std::collections::BTreeMap;

/// Initial chunk size in bytes (5.4.1).
const FIRST_CHUNK_SIZE: usize = 128;
/// Length limit of a message in bytes, far above an 8K frame of the best quality. The protocol's own limit is 16 MiB.
const MESSAGE_LIMIT: usize = 12 * 1024 * 1024;
/// Limit of chunk streams at once; ffmpeg uses five.
const STREAM_LIMIT: usize = 16;
/// Timestamp of 24 bits which says that a 32-bit timestamp follows the header.
const EXTENDED: u32 = 0xff_ffff;

/// Message types (5.4, 7.1).
pub const SET_CHUNK_SIZE: u8 = 1;
const ABORT: u8 = 2;
pub const USER_CONTROL: u8 = 4;
pub const SOUND: u8 = 8;
pub const PICTURE: u8 = 9;
pub const DATA: u8 = 18;
pub const COMMAND: u8 = 20;

/// Input that no encoder sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtmpError {
    #[error("a message of {0} bytes")]
    TooLong(usize),
    #[error("more than {STREAM_LIMIT} chunk streams at once")]
    TooManyStreams,
    #[error("a chunk that goes on with nothing")]
    NoBeginning,
    #[error("a chunk size of 0")]
    ChunkSize,
    #[error("a command that is none")]
    Command,
}

/// A complete message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RtmpMessage {
    pub chunk_stream: u32,
    /// Milliseconds.
    pub timestamp: u32,
    pub kind: u8,
    pub message_stream: u32,
    pub payload: Vec<u8>,
}

/// State of a chunk stream: the last message's header, and the beginning of the next message.
#[derive(Debug, Default)]
struct ChunkStream {
    timestamp: u32,
    delta: u32,
    extended: bool,
    length: usize,
    kind: u8,
    message_stream: u32,
    begun: bool,
    payload: Vec<u8>,
}

/// Parses bytes into messages.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_size: usize,
    streams: BTreeMap<u32, ChunkStream>,
    bytes: Vec<u8>,
    /// Number of bytes already parsed.
    used: usize,
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self { chunk_size: FIRST_CHUNK_SIZE, streams: BTreeMap::new(), bytes: Vec::new(), used: 0 }
    }
}

impl ChunkReader {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.used));
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete message; `None`: more bytes are needed.
    ///
    /// # Errors
    /// Where no encoder sends such bytes.
    pub fn read(&mut self) -> Result<Option<RtmpMessage>, RtmpError> {
        loop {
            match self.chunk()? {
                Chunk::Missing => return Ok(None),
                Chunk::Part => {}
                Chunk::Whole(message) => {
                    let number = || Some(u32::from_be_bytes(message.payload.get(..4)?.try_into().ok()?));
                    match (message.kind, number()) {
                        (SET_CHUNK_SIZE, size) => {
                            // The highest bit must be 0 (5.4.1).
                            let size = size.unwrap_or_default() & 0x7fff_ffff;
                            self.chunk_size = usize::try_from(size).unwrap_or(usize::MAX);
                            if self.chunk_size == 0 {
                                return Err(RtmpError::ChunkSize);
                            }
                        }
                        (ABORT, of) => {
                            if let Some(stream) = of.and_then(|of| self.streams.get_mut(&of)) {
                                stream.begun = false;
                                stream.payload.clear();
                            }
                            continue;
                        }
                        _ => {}
                    }
                    return Ok(Some(message));
                }
            }
        }
    }

    fn chunk(&mut self) -> Result<Chunk, RtmpError> {
        let mut bytes = ByteReader { bytes: &self.bytes[self.used..], at: 0 };
        let Some(header) = bytes.header(&self.streams) else { return Ok(Chunk::Missing) };
        let known = self.streams.contains_key(&header.stream);
        if !known && header.format != 0 {
            return Err(RtmpError::NoBeginning);
        }
        if !known && self.streams.len() == STREAM_LIMIT {
            return Err(RtmpError::TooManyStreams);
        }
        let known_stream = self.streams.get(&header.stream);
        let continues = known_stream.is_some_and(|known_stream| known_stream.begun) && header.format == 3;
        let length = header.length.or_else(|| known_stream.map(|known_stream| known_stream.length)).unwrap_or_default();
        if length > MESSAGE_LIMIT {
            return Err(RtmpError::TooLong(length));
        }
        let filled = if continues { known_stream.map_or(0, |known_stream| known_stream.payload.len()) } else { 0 };
        let Some(data) = bytes.take((length - filled).min(self.chunk_size)) else { return Ok(Chunk::Missing) };
        let at = bytes.at;
        let stream = self.streams.entry(header.stream).or_default();
        if !continues {
            stream.begin(&header, length);
        }
        stream.payload.extend_from_slice(data);
        self.used += at;
        if stream.payload.len() < stream.length {
            return Ok(Chunk::Part);
        }
        stream.begun = false;
        Ok(Chunk::Whole(RtmpMessage {
            chunk_stream: header.stream,
            timestamp: stream.timestamp,
            kind: stream.kind,
            message_stream: stream.message_stream,
            payload: std::mem::take(&mut stream.payload),
        }))
    }
}

impl ChunkStream {
    /// A new message begins with this header (5.3.1.2).
    fn begin(&mut self, header: &ChunkHeader, length: usize) {
        match (header.format, header.time) {
            (0, Some(time)) => {
                self.timestamp = time;
                self.delta = time;
            }
            (_, Some(delta)) => {
                self.timestamp = self.timestamp.wrapping_add(delta);
                self.delta = delta;
            }
            (_, None) => self.timestamp = self.timestamp.wrapping_add(self.delta),
        }
        if header.format < 3 {
            self.extended = header.extended;
        }
        self.length = length;
        self.kind = header.kind.unwrap_or(self.kind);
        self.message_stream = header.message_stream.unwrap_or(self.message_stream);
        self.begun = true;
        self.payload.clear();
    }
}

enum Chunk {
    Missing,
    Part,
    Whole(RtmpMessage),
}

/// The fields present in a chunk's header (5.3.1).
struct ChunkHeader {
    format: u8,
    stream: u32,
    time: Option<u32>,
    extended: bool,
    length: Option<usize>,
    kind: Option<u8>,
    message_stream: Option<u32>,
}

/// Reads numbers from bytes.
pub(super) struct ByteReader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> ByteReader<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    /// A big-endian number of `count` bytes.
    pub fn number(&mut self, count: usize) -> Option<u32> {
        Some(self.take(count)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn header(&mut self, streams: &BTreeMap<u32, ChunkStream>) -> Option<ChunkHeader> {
        let first = self.number(1)?;
        let stream = match first & 0x3f {
            0 => 64 + self.number(1)?,
            1 => {
                let low = self.number(1)?;
                64 + low + 256 * self.number(1)?
            }
            small => small,
        };
        let format = u8::try_from(first >> 6).unwrap_or(3);
        let mut header =
            ChunkHeader { format, stream, time: None, extended: false, length: None, kind: None, message_stream: None };
        if format < 3 {
            let time = self.number(3)?;
            header.extended = time == EXTENDED;
            header.time = Some(time);
        }
        if format < 2 {
            header.length = Some(usize::try_from(self.number(3)?).ok()?);
            header.kind = Some(u8::try_from(self.number(1)?).ok()?);
        }
        if format == 0 {
            let bytes = self.take(4)?;
            header.message_stream = Some(u32::from_le_bytes(bytes.try_into().ok()?));
        }
        // A chunk without timestamp repeats the extended timestamp of its message.
        if header.extended || format == 3 && streams.get(&stream).is_some_and(|known_stream| known_stream.extended) {
            let time = self.number(4)?;
            header.time = header.time.map(|_| time);
        }
        Some(header)
    }
}

/// Serialises messages, each with a complete header, so that they do not depend on earlier ones.
#[derive(Debug)]
pub struct ChunkWriter {
    chunk_size: usize,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self { chunk_size: FIRST_CHUNK_SIZE }
    }
}

impl ChunkWriter {
    /// Appends a message to `to`.
    pub fn write(&mut self, message: &RtmpMessage, to: &mut Vec<u8>) {
        let long = message.timestamp >= EXTENDED;
        let time = if long { EXTENDED } else { message.timestamp };
        let length = u32::try_from(message.payload.len()).unwrap_or(EXTENDED);
        basic_header(0, message.chunk_stream, to);
        to.extend_from_slice(&time.to_be_bytes()[1..]);
        to.extend_from_slice(&length.to_be_bytes()[1..]);
        to.push(message.kind);
        to.extend_from_slice(&message.message_stream.to_le_bytes());
        // An empty message has a header, too.
        let chunks = message.payload.chunks(self.chunk_size).chain(message.payload.is_empty().then_some(&[][..]));
        for (n, chunk) in chunks.enumerate() {
            if n > 0 {
                basic_header(3, message.chunk_stream, to);
            }
            if long {
                to.extend_from_slice(&message.timestamp.to_be_bytes());
            }
            to.extend_from_slice(chunk);
        }
        if let (SET_CHUNK_SIZE, Some(size)) = (message.kind, message.payload.first_chunk::<4>()) {
            // The reader has refused 0.
            self.chunk_size = usize::try_from(u32::from_be_bytes(*size) & 0x7fff_ffff).unwrap_or(usize::MAX).max(1);
        }
    }
}

fn basic_header(format: u8, stream: u32, to: &mut Vec<u8>) {
    let format = format << 6;
    let low = |number: u32| number.to_le_bytes();
    match stream {
        0..64 => to.push(format | low(stream)[0]),
        64..320 => to.extend_from_slice(&[format, low(stream - 64)[0]]),
        _ => to.extend_from_slice(&[format | 1, low(stream - 64)[0], low(stream - 64)[1]]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_that_depend_on_earlier_ones_are_parsed() {
        let mut reader = ChunkReader::default();
        // A complete header; same length and type, 10 ms later; no fields, 10 ms later; another length; one message in
        // two chunks.
        reader.push(&[4, 0, 0, 5, 0, 0, 2, 9, 1, 0, 0, 0, b'a', b'b']);
        reader.push(&[0x84, 0, 0, 10, b'c', b'd', 0xc4, b'e', b'f', 0x44, 0, 0, 1, 0, 0, 1, 8, b'g']);
        let message = |timestamp, kind, payload: &[u8]| {
            Some(RtmpMessage { chunk_stream: 4, timestamp, kind, message_stream: 1, payload: payload.to_vec() })
        };
        assert_eq!(reader.read().unwrap(), message(5, 9, b"ab"));
        assert_eq!(reader.read().unwrap(), message(15, 9, b"cd"));
        assert_eq!(reader.read().unwrap(), message(25, 9, b"ef"));
        assert_eq!(reader.read().unwrap(), message(26, 8, b"g"));
        assert_eq!(reader.read().unwrap(), None);
        let whole = RtmpMessage {
            chunk_stream: 400,
            timestamp: 0x0100_0000,
            kind: 9,
            message_stream: 1,
            payload: vec![7; 300],
        };
        let mut bytes = Vec::new();
        ChunkWriter::default().write(&whole, &mut bytes);
        reader.push(&bytes[..200]);
        assert_eq!(reader.read().unwrap(), None);
        reader.push(&bytes[200..]);
        assert_eq!(reader.read().unwrap(), Some(whole));
    }

    #[test]
    fn invalid_input_is_refused_within_bounds() {
        for (bytes, fault) in [
            (&[0xc4, 1][..], RtmpError::NoBeginning),
            (&[4, 0, 0, 0, 0xff, 0xff, 0xff, 9, 0, 0, 0, 0], RtmpError::TooLong(0xff_ffff)),
            (&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0x80, 0, 0, 0], RtmpError::ChunkSize),
        ] {
            let mut reader = ChunkReader::default();
            reader.push(bytes);
            assert_eq!(reader.read(), Err(fault));
        }
        let mut reader = ChunkReader::default();
        for stream in 3..40 {
            reader.push(&[stream, 0, 0, 0, 0, 0, 1, 9, 0, 0, 0, 0, 1]);
        }
        assert_eq!((0..40).find_map(|_| reader.read().err()), Some(RtmpError::TooManyStreams));
    }

    #[test]
    fn an_empty_message_late_in_a_stream_leaves_the_next_one_whole() {
        let message = |payload: &[u8]| RtmpMessage {
            chunk_stream: 4,
            timestamp: EXTENDED + 40,
            kind: 9,
            message_stream: 1,
            payload: payload.to_vec(),
        };
        let (mut writer, mut bytes) = (ChunkWriter::default(), Vec::new());
        for payload in [b"".as_slice(), b"x", b""] {
            writer.write(&message(payload), &mut bytes);
        }
        let mut reader = ChunkReader::default();
        reader.push(&bytes);
        for payload in [b"".as_slice(), b"x", b""] {
            assert_eq!(reader.read().unwrap(), Some(message(payload)));
        }
    }

    proptest! {
        #[test]
        fn written_messages_are_read_back_however_the_bytes_are_split(
            sizes in prop::collection::vec(0_usize..2000, 1..12), chunk_size in 1_u32..5000, cut in 1_usize..700
        ) {
            let mut messages = vec![RtmpMessage { chunk_stream: 2, kind: SET_CHUNK_SIZE, payload: chunk_size.to_be_bytes().into(), ..RtmpMessage::default() }];
            messages.extend(sizes.iter().zip(0_u32..).map(|(size, n)| RtmpMessage {
                chunk_stream: 3 + n % 5, timestamp: n * 5_000_000, kind: 9, message_stream: 1, payload: vec![n.to_le_bytes()[0]; *size],
            }));
            let (mut writer, mut bytes) = (ChunkWriter::default(), Vec::new());
            for message in &messages {
                writer.write(message, &mut bytes);
            }
            let (mut reader, mut read) = (ChunkReader::default(), Vec::new());
            for piece in bytes.chunks(cut) {
                reader.push(piece);
                while let Some(message) = reader.read().unwrap() {
                    read.push(message);
                }
            }
            prop_assert_eq!(read, messages);
        }
    }
}
