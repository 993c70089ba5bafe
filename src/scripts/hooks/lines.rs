//! What a script puts out, line by line, within a bound.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::scripts::hooks::answer::LONGEST_ANSWER;

/// Read at once, in bytes: as much as a pipe holds.
const CHUNK: usize = 64 * 1024;
/// A script has ended, but somebody it started elsewhere still holds the pipe: so much longer is read.
pub(super) const DRAIN: Duration = Duration::from_secs(1);

/// A line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its line feed. Also what came last without one.
    Whole(Vec<u8>),
    /// The beginning of a line that does not end within [`LONGEST_ANSWER`].
    TooLong(Vec<u8>),
    End,
}

/// A pipe that is read line by line.
#[derive(Debug)]
pub(super) struct Lines<R> {
    pipe: R,
    /// What was read and not given out.
    buffer: Vec<u8>,
    /// So much of it is known to hold no line feed.
    searched: usize,
}

impl<R: AsyncRead + AsFd + Unpin> Lines<R> {
    pub(super) fn new(pipe: R) -> Self {
        Self { pipe, buffer: Vec::new(), searched: 0 }
    }

    /// The next line. Cancel-safe: what was read is kept.
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
            // A pipe that fails has nothing more to say, like one that is closed.
            if !matches!(self.pipe.read_buf(&mut self.buffer).await, Ok(1..)) {
                self.searched = 0;
                let last = std::mem::take(&mut self.buffer);
                return if last.is_empty() { Line::End } else { Line::Whole(last) };
            }
        }
    }

    /// Whether there is anything to read, the end included; the kernel is asked, as the runtime may not know yet.
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
        // Given up in the middle of a line, nothing is lost.
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
            // The reader goes before all is written.
            let _ = writer.write_all(&vec![b'x'; 10 * LONGEST_ANSWER]);
        });
        let Line::TooLong(beginning) = lines.next().await else { panic!("a line of ten times the bound was taken") };
        assert!(beginning.len() <= LONGEST_ANSWER + 2 * CHUNK, "{}", beginning.len());
        drop(lines);
        write.join().unwrap();
    }
}
