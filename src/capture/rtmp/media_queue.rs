//! The media on their way from ffmpeg to the far end: what is left out while the far end is away or slow, and what a
//! new connection is sent first. Pure.
//!
//! ```text
//!            too much waits                 far end lost
//!   Open ──────────────────▶ Keyframe   ──────────────────▶ Closed
//!    ▲                          │                              │ connected again: headers first
//!    ├──────── a keyframe, and little waits                    ▼
//!    └──────── a keyframe: timestamps begin at 0 ◀────────── Restart
//! ```
//!
//! Sound is left out only while the far end is away, and until the keyframe with which a new connection begins.

use std::collections::VecDeque;
use std::time::Duration;

use crate::capture::rtmp::chunk_stream::{DATA, PICTURE, RtmpMessage, SOUND};

/// Milliseconds of media that may wait; with more, pictures are left out. The far end's viewers are that much late.
const BACKLOG_LIMIT: u32 = 2500;
/// Pictures are sent again, from a keyframe on, when no more than this waits, in milliseconds.
const RESUME_LIMIT: u32 = 500;
/// How long sound may wait. A far end that takes less than the sound is no better than one that is away.
const SOUND_LIMIT: Duration = Duration::from_secs(12);
/// Bytes that may wait: two of the largest messages.
const BYTES_LIMIT: usize = 24 * 1024 * 1024;

/// Which media pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// All.
    Open,
    /// Sound; pictures from the next keyframe on.
    Keyframe,
    /// None until the next keyframe.
    Restart,
    /// None.
    Closed,
}

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Metadata,
    PictureHeader,
    SoundHeader,
    Keyframe,
    /// A picture that depends on earlier ones.
    Picture,
    Sound,
    Other,
}

/// A message that waits for the far end.
#[derive(Debug)]
struct WaitingMessage {
    content: Content,
    message: RtmpMessage,
    /// When it came, which its timestamp does not say: after an encoder that hung, media of many seconds come at once.
    since: Duration,
}

/// The media that wait, and the headers of the stream. Each `now` is a time since the beginning of the broadcast.
#[derive(Debug)]
pub struct MediaQueue {
    gate: Gate,
    messages: VecDeque<WaitingMessage>,
    bytes: usize,
    metadata: Option<RtmpMessage>,
    picture_header: Option<RtmpMessage>,
    sound_header: Option<RtmpMessage>,
    has_picture: bool,
    /// ffmpeg's timestamp that is 0 for the far end.
    base: u32,
    /// Pictures left out since the far end was reached last.
    left_out: u64,
}

impl Default for MediaQueue {
    fn default() -> Self {
        Self {
            gate: Gate::Open,
            messages: VecDeque::new(),
            bytes: 0,
            metadata: None,
            picture_header: None,
            sound_header: None,
            has_picture: false,
            base: 0,
            left_out: 0,
        }
    }
}

impl MediaQueue {
    /// Takes a message of ffmpeg that has come now. Returns the number of pictures that are left out because of it.
    pub fn push(&mut self, message: RtmpMessage, now: Duration) -> u64 {
        let content = content(&message);
        let header = match content {
            Content::Metadata => Some(&mut self.metadata),
            Content::PictureHeader => Some(&mut self.picture_header),
            Content::SoundHeader => Some(&mut self.sound_header),
            _ => None,
        };
        if let Some(header) = header {
            *header = Some(message.clone());
        }
        self.has_picture |= message.kind == PICTURE;
        if !self.passes(content, &message) {
            let left_out = u64::from(self.gate == Gate::Keyframe && message.kind == PICTURE);
            self.left_out += left_out;
            return left_out;
        }
        self.bytes += message.payload.len();
        self.messages.push_back(WaitingMessage { content, message, since: now });
        self.leave_out()
    }

    fn passes(&mut self, content: Content, message: &RtmpMessage) -> bool {
        match (self.gate, content) {
            (Gate::Restart, Content::Keyframe) => self.open_at(message.timestamp),
            (Gate::Restart, Content::Sound) if !self.has_picture => self.open_at(message.timestamp),
            (Gate::Keyframe, Content::Keyframe) if self.waiting() <= RESUME_LIMIT => {
                self.gate = Gate::Open;
                true
            }
            // A new connection has got the headers before.
            (Gate::Closed | Gate::Restart, _) | (Gate::Keyframe, Content::Keyframe | Content::Picture) => false,
            // Sound from before the keyframe of the beginning.
            (Gate::Open | Gate::Keyframe, _) => message.timestamp.wrapping_sub(self.base) < u32::MAX / 2,
        }
    }

    /// The far end's time begins here.
    fn open_at(&mut self, timestamp: u32) -> bool {
        self.gate = Gate::Open;
        self.base = timestamp;
        true
    }

    /// Leaves out the waiting pictures where too much waits.
    fn leave_out(&mut self) -> u64 {
        if self.waiting() <= BACKLOG_LIMIT && self.bytes <= BYTES_LIMIT {
            return 0;
        }
        let before = self.messages.len();
        self.messages.retain(|waiting| !matches!(waiting.content, Content::Keyframe | Content::Picture));
        self.bytes = self.messages.iter().map(|waiting| waiting.message.payload.len()).sum();
        let left_out = u64::try_from(before - self.messages.len()).unwrap_or(u64::MAX);
        if left_out > 0 {
            self.gate = Gate::Keyframe;
        }
        self.left_out += left_out;
        left_out
    }

    /// Milliseconds of media that wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        let timed = |waiting: &&WaitingMessage| {
            matches!(waiting.content, Content::Keyframe | Content::Picture | Content::Sound)
        };
        let first = self.messages.iter().find(timed);
        let last = self.messages.iter().rfind(timed);
        first.zip(last).map_or(0, |(first, last)| last.message.timestamp.saturating_sub(first.message.timestamp))
    }

    /// Whether the far end takes less than the sound alone.
    #[must_use]
    pub fn is_overrun(&self, now: Duration) -> bool {
        let oldest = self.messages.front().map_or(now, |waiting| waiting.since);
        now.saturating_sub(oldest) > SOUND_LIMIT || self.bytes > BYTES_LIMIT
    }

    /// Pictures left out since the far end was reached last.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The next message for the far end.
    pub fn pop(&mut self) -> Option<RtmpMessage> {
        let WaitingMessage { content, mut message, .. } = self.messages.pop_front()?;
        self.bytes -= message.payload.len();
        message.timestamp = match content {
            Content::Metadata | Content::PictureHeader | Content::SoundHeader
                if message.timestamp.wrapping_sub(self.base) >= u32::MAX / 2 =>
            {
                0
            }
            _ => message.timestamp.wrapping_sub(self.base),
        };
        Some(message)
    }

    /// The far end is lost: what waits is late by the time it is reached again.
    pub fn close(&mut self) {
        self.gate = Gate::Closed;
        self.messages.clear();
        self.bytes = 0;
    }

    /// The far end is reached again now: the headers come first, then all from the next keyframe on.
    pub fn restart(&mut self, now: Duration) {
        self.close();
        self.gate = Gate::Restart;
        self.left_out = 0;
        let headers = [
            (Content::Metadata, &self.metadata),
            (Content::PictureHeader, &self.picture_header),
            (Content::SoundHeader, &self.sound_header),
        ];
        for (content, header) in headers {
            if let Some(header) = header {
                self.bytes += header.payload.len();
                // Taken for older than the keyframe that follows, so its time is 0.
                let message = RtmpMessage { timestamp: self.base, ..header.clone() };
                self.messages.push_back(WaitingMessage { content, message, since: now });
            }
        }
    }
}

/// Whether the message says that no more pictures follow.
#[must_use]
pub fn is_end_of_sequence(message: &RtmpMessage) -> bool {
    let first = message.payload.first().copied().unwrap_or_default();
    let second = message.payload.get(1).copied();
    match message.kind {
        PICTURE if first & 0x80 != 0 => first & 0xf == 2,
        PICTURE => matches!(first & 0xf, 7 | 12) && second == Some(2),
        _ => false,
    }
}

/// What a message holds (Video File Format Specification 10, E.4; Enhanced RTMP).
fn content(message: &RtmpMessage) -> Content {
    let first = message.payload.first().copied().unwrap_or_default();
    let second = message.payload.get(1).copied();
    match message.kind {
        DATA => Content::Metadata,
        // AAC, and the enhanced codecs.
        SOUND if first >> 4 == 10 && second == Some(0) || first == 0x90 => Content::SoundHeader,
        SOUND => Content::Sound,
        PICTURE if first & 0x80 != 0 && first.trailing_zeros() >= 4 => Content::PictureHeader,
        PICTURE if first & 0x80 != 0 => picture(first >> 4 & 7),
        // AVC and, as some encoders send it, HEVC.
        PICTURE if matches!(first & 0xf, 7 | 12) && second == Some(0) => Content::PictureHeader,
        // The end of the sequence calls itself a keyframe.
        PICTURE if matches!(first & 0xf, 7 | 12) && second == Some(2) => Content::Picture,
        PICTURE => picture(first >> 4),
        _ => Content::Other,
    }
}

fn picture(frame_type: u8) -> Content {
    if frame_type == 1 { Content::Keyframe } else { Content::Picture }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn message(kind: u8, timestamp: u32, payload: &[u8]) -> RtmpMessage {
        RtmpMessage { chunk_stream: 4, timestamp, kind, message_stream: 1, payload: payload.to_vec() }
    }

    fn keyframe(at: u32) -> RtmpMessage {
        message(PICTURE, at, &[0x17, 1, 0])
    }

    fn picture(at: u32) -> RtmpMessage {
        message(PICTURE, at, &[0x27, 1, 0])
    }

    fn sound(at: u32) -> RtmpMessage {
        message(SOUND, at, &[0xaf, 1, 0])
    }

    fn headers() -> [RtmpMessage; 3] {
        [message(DATA, 0, b"\x02\0\x0d@setDataFrame"), message(PICTURE, 0, &[0x17, 0]), message(SOUND, 0, &[0xaf, 0])]
    }

    fn all(queue: &mut MediaQueue) -> Vec<(u8, u32, usize)> {
        std::iter::from_fn(|| queue.pop()).map(|found| (found.kind, found.timestamp, found.payload.len())).collect()
    }

    #[test]
    fn a_new_connection_gets_the_headers_and_then_all_from_a_keyframe_on_with_times_from_0() {
        let mut queue = MediaQueue::default();
        for first in headers().into_iter().chain([keyframe(0), sound(10), picture(33)]) {
            queue.push(first, NOW);
        }
        assert_eq!(all(&mut queue).len(), 6);
        queue.close();
        for lost in [keyframe(2000), sound(2010)] {
            assert_eq!(queue.push(lost, NOW), 0);
        }
        assert_eq!(all(&mut queue), []);
        queue.restart(NOW);
        for later in [picture(3000), sound(3010), keyframe(4000), sound(3990), sound(4005), picture(4033)] {
            queue.push(later, NOW);
        }
        let header = [(DATA, 0, 16), (PICTURE, 0, 2), (SOUND, 0, 2)];
        let media = [(PICTURE, 0, 3), (SOUND, 5, 3), (PICTURE, 33, 3)];
        assert_eq!(all(&mut queue), [&header[..], &media[..]].concat());
        // And once more, while the headers of the second connection still waited.
        queue.restart(NOW);
        queue.restart(NOW);
        queue.push(keyframe(9000), NOW);
        assert_eq!(all(&mut queue), [&header[..], &[(PICTURE, 0, 3)]].concat());
    }

    #[test]
    fn a_slow_far_end_costs_pictures_up_to_a_keyframe_and_no_sound() {
        let mut queue = MediaQueue::default();
        let (mut sent, mut sounds) = (Vec::new(), 0);
        for n in 0_u32..600 {
            let at = n * 33;
            queue.push(if n % 60 == 0 { keyframe(at) } else { picture(at) }, NOW);
            queue.push(sound(at), NOW);
            sounds += 1;
            // Three messages of four.
            sent.extend((0..=n % 2).filter_map(|_| queue.pop()));
        }
        sent.extend(std::iter::from_fn(|| queue.pop()));
        let of = |kind| sent.iter().filter(|found| found.kind == kind).collect::<Vec<_>>();
        assert_eq!(of(SOUND).len(), sounds);
        assert!(queue.left_out() > 100 && of(PICTURE).len() > 100, "{} of {}", queue.left_out(), of(PICTURE).len());
        assert_eq!(u64::try_from(of(PICTURE).len()).unwrap() + queue.left_out(), 600);
        // No picture comes after one that is missing, unless it is a keyframe.
        for pair in of(PICTURE).windows(2) {
            assert!(pair[1].timestamp - pair[0].timestamp < 40 || pair[1].payload[0] == 0x17, "{pair:?}");
        }
        assert!(!queue.is_overrun(NOW));
    }

    #[test]
    fn a_far_end_that_takes_not_even_the_sound_is_noticed() {
        let mut queue = MediaQueue::default();
        queue.push(keyframe(0), NOW);
        let overrun = (0..2000_u32).find(|n| {
            let now = NOW + Duration::from_millis((n * 20).into());
            queue.push(sound(n * 20), now);
            queue.is_overrun(now)
        });
        let after = overrun.map(|n| Duration::from_millis((n * 20).into()));
        assert!(
            after.is_some_and(|after| after > SOUND_LIMIT && after < SOUND_LIMIT + Duration::from_millis(100)),
            "{after:?}"
        );
    }

    #[test]
    fn media_of_many_seconds_that_come_at_once_say_nothing_of_the_far_end() {
        let mut queue = MediaQueue::default();
        for n in 0..1000 {
            queue.push(sound(n * 20), NOW);
        }
        assert!(!queue.is_overrun(NOW + SOUND_LIMIT), "20 s of sound, none of which has waited for too long");
        assert!(queue.is_overrun(NOW + SOUND_LIMIT + Duration::from_millis(1)));
    }

    #[test]
    fn a_broadcast_without_pictures_goes_on_with_the_next_sound() {
        let mut queue = MediaQueue::default();
        queue.push(sound(0), NOW);
        queue.restart(NOW);
        queue.push(sound(700), NOW);
        assert_eq!(all(&mut queue), [(SOUND, 0, 3)]);
    }

    #[test]
    fn keyframes_and_headers_of_other_codecs_are_known() {
        for (kind, payload, expected) in [
            (PICTURE, &[0x90, b'h', b'v', b'c', b'1'][..], Content::PictureHeader),
            (PICTURE, &[0x91, b'a', b'v', b'0', b'1'], Content::Keyframe),
            (PICTURE, &[0xa1, b'a', b'v', b'0', b'1'], Content::Picture),
            (PICTURE, &[0x12, 0], Content::Keyframe),
            (PICTURE, &[0x22, 0], Content::Picture),
            (PICTURE, &[0x17, 2], Content::Picture),
            (SOUND, &[0x90, b'O', b'p', b'u', b's'], Content::SoundHeader),
            (SOUND, &[0x2f, 0], Content::Sound),
            (PICTURE, &[], Content::Picture),
        ] {
            assert_eq!(content(&message(kind, 0, payload)), expected, "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn what_waits_stays_bounded_and_times_never_run_backwards(
            steps in prop::collection::vec((0_u8..7, 0_u32..300), 1..400)
        ) {
            let mut queue = MediaQueue::default();
            let (mut now, mut last) = (0, [0_u32; 256]);
            for (what, later) in steps {
                now += later;
                match what {
                    0 => drop(queue.push(keyframe(now), NOW)),
                    1 => drop(queue.push(picture(now), NOW)),
                    2 => drop(queue.push(sound(now), NOW)),
                    3 => queue.close(),
                    4 => { queue.restart(NOW); last = [0; 256]; }
                    _ => if let Some(found) = queue.pop() {
                        prop_assert!(found.timestamp >= last[usize::from(found.kind)]);
                        last[usize::from(found.kind)] = found.timestamp;
                    }
                }
                let pictures = queue.messages.iter().filter(|waiting| waiting.message.kind == PICTURE).count();
                prop_assert!(pictures == 0 || queue.waiting() <= BACKLOG_LIMIT);
            }
        }
    }
}
