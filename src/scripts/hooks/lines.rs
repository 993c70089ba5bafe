//! Reads a script's output line by line, with a limit.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::scripts::hooks::answer::LONGEST_ANSWER;

/// The number of bytes read at once: the capacity of a pipe.
const CHUNK: usize = 64 * 1024;
/// How long a pipe is still read when its script has ended, but another process may hold it open.
pub(super) const DRAIN: Duration = Duration::from_secs(1);

/// A line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its line feed; also a last line that has none.
    Whole(Vec<u8>),
    /// The beginning of a line that does not end within [`LONGEST_ANSWER`].
    TooLong(Vec<u8>),
    End,
}

/// Reads a pipe line by line.
#[derive(Debug)]
pub(super) struct Lines<R> {
    pipe: R,
    /// Bytes that were read but not returned yet.
    buffer: Vec<u8>,
    /// The number of bytes of the buffer that hold no line feed.
    searched: usize,
}

impl<R: AsyncRead + AsFd + Unpin> Lines<R> {
    pub(super) fn new(pipe: R) -> Self {
        Self { pipe, buffer: Vec::new(), searched: 0 }
    }

    /// The next line. Cancel-safe.
    pub(super) async fn next(&mut self) -> Line {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                self.searched = 0;
                return if line.len() > LONGEST_ANSWER { Line::TooLong(line) } else { Line::Whole(line) };
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LONGEST_ANSWER {
                self.searched = 0;
                return Line::TooLong(std::mem::take(&mut self.buffer));
            }
            self.buffer.reserve(CHUNK);
            // A failing pipe is treated like a closed one.
            if !matches!(self.pipe.read_buf(&mut self.buffer).await, Ok(1..)) {
                self.searched = 0;
                let last = std::mem::take(&mut self.buffer);
                return if last.is_empty() { Line::End } else { Line::Whole(last) };
            }
        }
    }

    /// Whether there is anything to read, including the end. Asks the kernel, as the runtime may not know yet.
    pub(super) fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(&self.pipe, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !self.buffer.is_empty() || poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tokio::net::unix::pipe;

    fn lines() -> (Lines<pipe::Receiver>, std::io::PipeWriter) {
        let (reader, writer) = std::io::pipe().unwrap();
        (Lines::new(pipe::Receiver::from_owned_fd(reader.into()).unwrap()), writer)
    }

    #[tokio::test]
    async fn lines_come_whole_and_the_last_one_without_its_line_feed() {
        let (mut lines, mut writer) = lines();
        assert!(!lines.is_readable());
        writer.write_all(b"one\n\ntw").unwrap();
        assert!(lines.is_readable());
        assert_eq!(lines.next().await, Line::Whole(b"one".to_vec()));
        assert_eq!(lines.next().await, Line::Whole(Vec::new()));
        // Cancelled in the middle of a line, nothing is lost.
        assert!(futures::FutureExt::now_or_never(lines.next()).is_none());
        writer.write_all(b"o\nthree").unwrap();
        drop(writer);
        assert_eq!(lines.next().await, Line::Whole(b"two".to_vec()));
        assert_eq!(lines.next().await, Line::Whole(b"three".to_vec()));
        assert!(lines.is_readable(), "the end can be read");
        assert_eq!(lines.next().await, Line::End);
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut_off() {
        let (mut lines, mut writer) = lines();
        let write = std::thread::spawn(move || {
            // The reader closes the pipe before everything is written.
            let _ = writer.write_all(&vec![b'x'; 10 * LONGEST_ANSWER]);
        });
        let Line::TooLong(beginning) = lines.next().await else { panic!("a line of ten times the bound was taken") };
        assert!(beginning.len() <= LONGEST_ANSWER + 2 * CHUNK, "{}", beginning.len());
        drop(lines);
        write.join().unwrap();
    }
}
