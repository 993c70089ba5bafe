//! The fragments of an MP4 of one track (ISO/IEC 14496-12) that ffmpeg is writing, from its bytes in their order: pure.

use std::ops::Range;
use std::time::Duration;

use crate::hls::fragment_boxes::{BOX_HEADER, FragmentTime, LARGE_BOX_HEADER, TrackHeader, box_header};
use crate::hls::fragment_boxes::{fragment_time, lengthen_last_sample, track_header};
use crate::hls::track_index::seconds;

/// The longest box that is taken, in bytes: that of seconds of media.
const LONGEST_BOX: u64 = 256 << 20;

/// What a player gets of a track: its header first, then media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackPiece {
    /// What each segment needs before it.
    Header {
        header: TrackHeader,
        bytes: Vec<u8>,
    },
    Media(MediaFragment),
}

/// One or more fragments that lie one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaFragment {
    pub begin: Duration,
    pub end: Duration,
    pub bytes: Vec<u8>,
}

impl MediaFragment {
    /// Has its last frame, which ffmpeg shows for a moment only, be shown to `end`. `timescale`: ticks a second. Where the
    /// frame states no duration it stays as it is.
    pub fn show_to(&mut self, end: Duration, timescale: u32) {
        let ticks = end.saturating_sub(self.end).as_nanos() * u128::from(timescale) / 1_000_000_000;
        let (Ok(ticks), Some(moof)) = (u32::try_from(ticks), self.last_moof()) else { return };
        if ticks > 0 && self.bytes.get_mut(moof).is_some_and(|moof| lengthen_last_sample(moof, ticks)) {
            self.end = end;
        }
    }

    /// The content of the last fragment's description.
    fn last_moof(&self) -> Option<Range<usize>> {
        let (mut at, mut found) = (0, None);
        while let Some((name, length)) = self.bytes.get(at..).and_then(box_header) {
            let end = at.checked_add(usize::try_from(length).ok()?)?;
            if &name == b"moof" {
                found = Some(at + BOX_HEADER..end);
            }
            at = end;
        }
        found
    }
}

/// Reads one track.
#[derive(Clone, Debug, Default)]
pub struct FragmentReader {
    /// What is not a whole box yet.
    rest: Vec<u8>,
    header: Option<TrackHeader>,
    /// Boxes that belong to the next piece.
    piece: Vec<u8>,
    time: Option<FragmentTime>,
}

impl FragmentReader {
    /// The pieces that are complete with these next bytes.
    ///
    /// # Errors
    /// What the bytes are not.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<TrackPiece>, &'static str> {
        self.rest.extend_from_slice(bytes);
        let mut found = Vec::new();
        loop {
            let Some((name, length)) = box_header(&self.rest) else {
                return if self.rest.len() < LARGE_BOX_HEADER {
                    Ok(found)
                } else {
                    Err("it has bytes that are no box")
                };
            };
            if length > LONGEST_BOX {
                return Err("it has a box that is too long");
            }
            let length = usize::try_from(length).map_err(|_| "it has a box that is too long")?;
            if self.rest.len() < length {
                return Ok(found);
            }
            let rest = self.rest.split_off(length);
            let whole = std::mem::replace(&mut self.rest, rest);
            found.extend(self.take_box(name, &whole)?);
        }
    }

    fn take_box(&mut self, name: [u8; 4], whole: &[u8]) -> Result<Option<TrackPiece>, &'static str> {
        let content = whole.get(BOX_HEADER..).unwrap_or_default();
        self.piece.extend_from_slice(whole);
        match &name {
            b"moov" => {
                let header = track_header(content)?;
                self.header = Some(header.clone());
                return Ok(Some(TrackPiece::Header { header, bytes: std::mem::take(&mut self.piece) }));
            }
            b"moof" => {
                let header = self.header.as_ref().ok_or("it has no moov")?;
                let time = fragment_time(content, header)?;
                if time.reordered {
                    return Err("its frames are decoded in another order than they are shown");
                }
                self.time = Some(time);
            }
            b"mdat" => {
                let (header, time) = (self.header.as_ref(), self.time.take());
                let (header, time) = header.zip(time).ok_or("it has media before its fragments")?;
                let begin = seconds(time.begin, header.timescale);
                let end = seconds(time.begin.saturating_add(time.duration), header.timescale);
                let bytes = std::mem::take(&mut self.piece);
                return Ok(Some(TrackPiece::Media(MediaFragment { begin, end, bytes })));
            }
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(name: [u8; 4], content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + BOX_HEADER).unwrap();
        [&length.to_be_bytes()[..], &name, content].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn moov() -> Vec<u8> {
        let mut picture = vec![0; 78];
        picture[24..28].copy_from_slice(&[0x05, 0x00, 0x02, 0xd0]);
        picture.extend(boxed(*b"avcC", &[1, 0x64, 0x00, 0x1f, 0xff]));
        let stsd = boxed(*b"stsd", &[words(&[0, 1]), boxed(*b"avc1", &picture)].concat());
        let minf = boxed(*b"minf", &boxed(*b"stbl", &stsd));
        let mdia = [boxed(*b"mdhd", &words(&[0, 0, 0, 1000, 0])), minf].concat();
        let trex = boxed(*b"mvex", &boxed(*b"trex", &words(&[0, 1, 1, 40, 0, 0])));
        boxed(*b"moov", &[boxed(*b"trak", &boxed(*b"mdia", &mdia)), trex].concat())
    }

    /// A fragment that begins there and has a frame of each of these durations.
    fn fragment(begin: u32, durations: &[u32], offset: Option<u32>) -> Vec<u8> {
        let mut trun = vec![0x100 | if offset.is_some() { 0x800 } else { 0 }, u32::try_from(durations.len()).unwrap()];
        trun.extend(durations.iter().flat_map(|duration| std::iter::once(*duration).chain(offset)));
        let traf =
            [boxed(*b"tfhd", &words(&[0, 1])), boxed(*b"tfdt", &words(&[0, begin])), boxed(*b"trun", &words(&trun))];
        [boxed(*b"moof", &boxed(*b"traf", &traf.concat())), boxed(*b"mdat", &[7; 9])].concat()
    }

    #[test]
    fn pieces_are_found_however_the_bytes_come_and_together_are_the_file() {
        let head = [boxed(*b"ftyp", b"cmfc"), moov()].concat();
        let second = [boxed(*b"styp", b"msdh"), fragment(4000, &[1000; 4], None)].concat();
        let file = [head.clone(), fragment(0, &[1500, 2500], None), second.clone()].concat();
        for step in [1, 7, 100, file.len()] {
            let mut reader = FragmentReader::default();
            let pieces: Vec<_> = file.chunks(step).flat_map(|bytes| reader.take(bytes).unwrap()).collect();
            let [TrackPiece::Header { header, bytes }, TrackPiece::Media(first), TrackPiece::Media(last)] = &pieces[..]
            else {
                panic!("{pieces:?}")
            };
            assert_eq!((header.width, bytes), (1280, &head));
            assert_eq!((first.begin.as_millis(), first.end.as_millis()), (0, 4000));
            assert_eq!((last.begin.as_millis(), last.end.as_millis(), &last.bytes), (4000, 8000, &second));
        }
    }

    #[test]
    fn the_last_frame_is_shown_to_the_end() {
        let bytes = [fragment(0, &[40, 40], None), fragment(80, &[40, 40], None)].concat();
        let ms = Duration::from_millis;
        let mut segment = MediaFragment { begin: ms(0), end: ms(160), bytes };
        segment.show_to(ms(100), 1000);
        assert_eq!(segment.end, ms(160));
        segment.show_to(ms(1000), 1000);
        let mut reader = FragmentReader::default();
        let found = reader.take(&[moov(), segment.bytes].concat()).unwrap();
        let Some(TrackPiece::Media(last)) = found.last() else { panic!("{found:?}") };
        assert_eq!((segment.end, last.end), (ms(1000), ms(1000)));
    }

    #[test]
    fn what_no_player_could_take_is_told() {
        for (file, why) in [
            (fragment(0, &[40], None), "no moov"),
            ([moov(), fragment(0, &[40, 40], Some(40))].concat(), "another order"),
            ([moov(), boxed(*b"mdat", &[0])].concat(), "media before"),
            (vec![0; 16], "no box"),
            ([words(&[u32::MAX]), b"mdat".to_vec()].concat(), "too long"),
        ] {
            let error = FragmentReader::default().take(&file).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
