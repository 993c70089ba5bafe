//! The playlist of one track of a recording that runs (RFC 8216, 4.3.3.5): pure. Lines are only ever added.

use std::fmt::Write as _;
use std::time::Duration;

use crate::hls::playlist::VERSION;
use crate::hls::segments::Segment;

/// A picture that stands still has a frame each second (`capture/video/pacer.rs`), on a busy host later, and a segment ends
/// with one. A longer segment would break the promise of `EXT-X-TARGETDURATION`; a longer promise costs latency, as players
/// stay three of it behind.
pub(super) const LONGEST_FRAME: Duration = Duration::from_secs(4);

/// What the playlists of a recording state as `EXT-X-TARGETDURATION`, in seconds. `every`: the configured length of a
/// segment.
#[must_use]
pub fn target_duration(every: Duration) -> u64 {
    (every + LONGEST_FRAME + Duration::from_millis(999)).as_secs()
}

/// A playlist that grows.
#[derive(Clone, Debug)]
pub struct EventPlaylist {
    text: String,
    target: u64,
    /// The header of a part that has no segment yet.
    header: Option<String>,
    /// All segments, their times as they follow one another.
    segments: Vec<Segment>,
}

impl EventPlaylist {
    #[must_use]
    pub fn new(target: u64) -> Self {
        let text = format!(
            "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:0\n\
             #EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        );
        Self { text, target, header: None, segments: Vec::new() }
    }

    /// What follows has this header, and begins anew. It counts from its first segment on.
    pub fn begin_part(&mut self, header: &str) {
        self.header = Some(header.to_owned());
    }

    /// Adds a segment; `bytes`: its size. False: it is longer than this playlist may hold, and is not in it.
    #[must_use]
    pub fn add(&mut self, name: &str, lasts: Duration, bytes: u64) -> bool {
        if (lasts + Duration::from_millis(500)).as_secs() > self.target {
            return false;
        }
        if let Some(header) = self.header.take() {
            if !self.segments.is_empty() {
                self.text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            let _ = writeln!(self.text, "#EXT-X-MAP:URI=\"{header}\"");
        }
        let _ = write!(self.text, "#EXTINF:{:.6},\n{name}\n", lasts.as_secs_f64());
        let (begin, at) = self.segments.last().map_or_else(Default::default, |last| (last.end, last.at + last.bytes));
        self.segments.push(Segment { begin, end: begin + lasts, at, bytes });
        true
    }

    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The last text: nothing follows.
    #[must_use]
    pub fn ended(&self) -> String {
        format!("{}#EXT-X-ENDLIST\n", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlist_only_grows_and_each_part_begins_with_its_header() {
        let mut playlist = EventPlaylist::new(target_duration(Duration::from_secs(4)));
        let mut before = playlist.text().to_owned();
        playlist.begin_part("a-1-init.mp4");
        // A part without media leaves nothing.
        playlist.begin_part("a-2-init.mp4");
        for (part, lasts) in [(2, 4_000), (2, 4_033), (3, 1_000)] {
            if part == 3 {
                playlist.begin_part("a-3-init.mp4");
            }
            assert!(playlist.add(&format!("a-{part}.m4s"), Duration::from_millis(lasts), 10));
            assert!(playlist.text().starts_with(&before));
            before = playlist.text().to_owned();
        }
        assert_eq!(
            playlist.ended(),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:8\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:EVENT\n\
             #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"a-2-init.mp4\"\n#EXTINF:4.000000,\na-2.m4s\n\
             #EXTINF:4.033000,\na-2.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"a-3-init.mp4\"\n\
             #EXTINF:1.000000,\na-3.m4s\n#EXT-X-ENDLIST\n"
        );
        assert_eq!(playlist.segments().last().unwrap().end, Duration::from_millis(9_033));
    }

    #[test]
    fn a_segment_that_breaks_the_promised_length_is_refused() {
        let mut playlist = EventPlaylist::new(target_duration(Duration::from_millis(2500)));
        assert!(playlist.add("a", Duration::from_millis(7_499), 1));
        assert!(!playlist.add("b", Duration::from_millis(7_500), 1));
        assert_eq!(playlist.segments().len(), 1);
    }
}
