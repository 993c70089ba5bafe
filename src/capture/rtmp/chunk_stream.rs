//! RTMP's chunk stream, as far as a relay needs it ("Adobe's Real Time Messaging Protocol", 1.0, sections 5.3 and 5.4). Pure.

use std::collections::BTreeMap;

/// Until a Set Chunk Size says otherwise, in bytes (5.4.1).
const FIRST_CHUNK_SIZE: usize = 128;
/// A longer message is none of an encoder's: a picture of 8K at its best is far below. In bytes; the protocol's own limit is
/// 16 MiB.
const MESSAGE_LIMIT: usize = 12 * 1024 * 1024;
/// Chunk streams at once. ffmpeg uses five.
const STREAM_LIMIT: usize = 16;
/// In place of a timestamp of 24 bits: 32 bits follow the header.
const EXTENDED: u32 = 0xff_ffff;

/// Types of messages (5.4, 7.1).
const SET_CHUNK_SIZE: u8 = 1;
const ABORT: u8 = 2;
pub const COMMAND: u8 = 20;

/// What an encoder does not say.
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

/// One whole message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RtmpMessage {
    pub chunk_stream: u32,
    /// Milliseconds.
    pub timestamp: u32,
    pub kind: u8,
    pub message_stream: u32,
    pub payload: Vec<u8>,
}

/// What the last message of a chunk stream hands on to the next, and what of the next is there.
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

/// Bytes → messages.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_size: usize,
    streams: BTreeMap<u32, ChunkStream>,
    bytes: Vec<u8>,
    /// How many of them are done with.
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

    /// The next whole message; `None`: more bytes are needed.
    ///
    /// # Errors
    /// Where the bytes are none of an encoder's.
    pub fn read(&mut self) -> Result<Option<RtmpMessage>, RtmpError> {
        loop {
            match self.chunk()? {
                Chunk::Missing => return Ok(None),
                Chunk::Part => {}
                Chunk::Whole(message) => {
                    let number = || Some(u32::from_be_bytes(message.payload.get(..4)?.try_into().ok()?));
                    match (message.kind, number()) {
                        (SET_CHUNK_SIZE, size) => {
                            // The highest bit is to be 0 (5.4.1).
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
        let Some(head) = bytes.header(&self.streams) else { return Ok(Chunk::Missing) };
        let known = self.streams.contains_key(&head.stream);
        if !known && head.format != 0 {
            return Err(RtmpError::NoBeginning);
        }
        if !known && self.streams.len() == STREAM_LIMIT {
            return Err(RtmpError::TooManyStreams);
        }
        let there = self.streams.get(&head.stream);
        let goes_on = there.is_some_and(|there| there.begun) && head.format == 3;
        let length = head.length.or_else(|| there.map(|there| there.length)).unwrap_or_default();
        if length > MESSAGE_LIMIT {
            return Err(RtmpError::TooLong(length));
        }
        let filled = if goes_on { there.map_or(0, |there| there.payload.len()) } else { 0 };
        let Some(data) = bytes.take((length - filled).min(self.chunk_size)) else { return Ok(Chunk::Missing) };
        let at = bytes.at;
        let stream = self.streams.entry(head.stream).or_default();
        if !goes_on {
            stream.begin(&head, length);
        }
        stream.payload.extend_from_slice(data);
        self.used += at;
        if stream.payload.len() < stream.length {
            return Ok(Chunk::Part);
        }
        stream.begun = false;
        Ok(Chunk::Whole(RtmpMessage {
            chunk_stream: head.stream,
            timestamp: stream.timestamp,
            kind: stream.kind,
            message_stream: stream.message_stream,
            payload: std::mem::take(&mut stream.payload),
        }))
    }
}

impl ChunkStream {
    /// A new message begins with this header (5.3.1.2).
    fn begin(&mut self, head: &ChunkHeader, length: usize) {
        match (head.format, head.time) {
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
        if head.format < 3 {
            self.extended = head.extended;
        }
        self.length = length;
        self.kind = head.kind.unwrap_or(self.kind);
        self.message_stream = head.message_stream.unwrap_or(self.message_stream);
        self.begun = true;
        self.payload.clear();
    }
}

enum Chunk {
    Missing,
    Part,
    Whole(RtmpMessage),
}

/// A chunk's header, and what of it is there (5.3.1).
struct ChunkHeader {
    format: u8,
    stream: u32,
    time: Option<u32>,
    extended: bool,
    length: Option<usize>,
    kind: Option<u8>,
    message_stream: Option<u32>,
}

/// Bytes from which numbers are taken.
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

    /// A number of so many bytes, the highest first.
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
        let mut head =
            ChunkHeader { format, stream, time: None, extended: false, length: None, kind: None, message_stream: None };
        if format < 3 {
            let time = self.number(3)?;
            head.extended = time == EXTENDED;
            head.time = Some(time);
        }
        if format < 2 {
            head.length = Some(usize::try_from(self.number(3)?).ok()?);
            head.kind = Some(u8::try_from(self.number(1)?).ok()?);
        }
        if format == 0 {
            let bytes = self.take(4)?;
            head.message_stream = Some(u32::from_le_bytes(bytes.try_into().ok()?));
        }
        // A chunk without a time of its own repeats the long one of its message.
        if head.extended || format == 3 && streams.get(&stream).is_some_and(|there| there.extended) {
            let time = self.number(4)?;
            head.time = head.time.map(|_| time);
        }
        Some(head)
    }
}

/// Messages → bytes, each with a whole header, so that nothing depends on what an earlier one was.
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
        let mut chunks = message.payload.chunks(self.chunk_size);
        // A message without payload has a chunk as well, and in it the long timestamp.
        let first = chunks.next().unwrap_or_default();
        for (n, chunk) in std::iter::once(first).chain(chunks).enumerate() {
            if n > 0 {
                basic_header(3, message.chunk_stream, to);
            }
            if long {
                to.extend_from_slice(&message.timestamp.to_be_bytes());
            }
            to.extend_from_slice(chunk);
        }
        if let (SET_CHUNK_SIZE, Some(size)) = (message.kind, message.payload.first_chunk::<4>()) {
            // 0 was refused by the reader.
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
    fn headers_that_lean_on_earlier_ones_are_understood() {
        let mut reader = ChunkReader::default();
        // Whole; the same length and type 10 ms on; nothing at all: 10 ms on; another length; and one in two chunks.
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
    fn what_no_encoder_says_is_refused_within_bounds() {
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
        fn what_is_written_is_read_however_it_is_cut(
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
