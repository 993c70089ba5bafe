//! Where the fragments of a file lie: its boxes are read one after the other, without the media.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::hls::fragment_boxes::{self, BOX_HEADER, LARGE_BOX_HEADER, TrackHeader, box_header};
use crate::hls::segments::Fragment;

/// The longest `moov` or `moof` that is read, in bytes: one sample has 16 bytes, so this is hours of one fragment.
const INDEX_LIMIT: u64 = 64 << 20;
/// From here on a number is a negative one: a track whose packets are decoded before the recording begins.
const NEGATIVE: u64 = 1 << 63;
/// Digits of a digest in a file's name.
const DIGEST_DIGITS: usize = 12;

/// A fragmented MP4 of one track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackIndex {
    pub header: TrackHeader,
    /// Length of what is before the first fragment, in bytes.
    pub header_bytes: u64,
    pub fragments: Vec<Fragment>,
    /// Some packets are decoded before packets that are shown before them.
    pub reordered: bool,
    /// Another one for other media: of the sizes and times of all samples.
    pub digest: String,
}

impl TrackIndex {
    /// Reads the file. Blocks.
    ///
    /// # Errors
    /// Where it cannot be read, or is no such file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut reading = Reading { file, hash: Sha256::new(), header: None, fragments: Vec::new(), reordered: false };
        let mut at = 0;
        while at < length {
            at += reading.next_box(at, length)?;
        }
        let Reading { hash, header, mut fragments, reordered, .. } = reading;
        let (header, header_bytes) = header.ok_or_else(|| broken("it has no moov"))?;
        if fragments.is_empty() {
            return Err(broken("it has no fragments"));
        }
        for index in 1..fragments.len() {
            fragments[index - 1].end = fragments[index].begin;
        }
        let digest = hex::encode(hash.finalize()).chars().take(DIGEST_DIGITS).collect();
        Ok(Self { header, header_bytes, fragments, reordered, digest })
    }
}

struct Reading {
    file: File,
    hash: Sha256,
    /// And where it ends.
    header: Option<(TrackHeader, u64)>,
    fragments: Vec<Fragment>,
    reordered: bool,
}

impl Reading {
    /// Reads the box at this place; its length.
    fn next_box(&mut self, at: u64, file_length: u64) -> io::Result<u64> {
        let mut head =
            vec![0; usize::try_from(file_length - at).map_or(LARGE_BOX_HEADER, |left| left.min(LARGE_BOX_HEADER))];
        self.file.read_exact_at(&mut head, at)?;
        let (name, length) = box_header(&head)
            .filter(|(_, length)| at + length <= file_length)
            .ok_or_else(|| broken("it ends within a box"))?;
        match &name {
            b"moov" => {
                let moov = self.content(at, length)?;
                let header = fragment_boxes::track_header(&moov).map_err(broken)?;
                self.header = Some((header, at + length));
            }
            b"moof" => {
                let moof = self.content(at, length)?;
                let (header, _) = self.header.as_ref().ok_or_else(|| broken("it has no moov"))?;
                let time = fragment_boxes::fragment_time(&moof, header).map_err(broken)?;
                self.reordered |= time.reordered || time.begin >= NEGATIVE;
                let begin = if time.begin >= NEGATIVE { 0 } else { time.begin };
                let scale = header.timescale;
                let (begin, end) = (seconds(begin, scale), seconds(begin.saturating_add(time.duration), scale));
                self.fragments.push(Fragment { begin, end, at, bytes: length });
            }
            // The media of the fragment before.
            b"mdat" => {
                let fragment = self.fragments.last_mut().ok_or_else(|| broken("it has media before its fragments"))?;
                fragment.bytes = at + length - fragment.at;
            }
            _ => {}
        }
        Ok(length)
    }

    /// The content of a box of this place and length; it counts for the digest.
    fn content(&mut self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        if length > INDEX_LIMIT {
            return Err(broken("its index is too long"));
        }
        let header = BOX_HEADER as u64;
        let mut content = vec![0; usize::try_from(length - header).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut content, at + header)?;
        self.hash.update(&content);
        Ok(content)
    }
}

pub(super) fn seconds(ticks: u64, scale: u32) -> Duration {
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(scale.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_fragmented_file_is_told_with_the_cause() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mp4");
        for (bytes, why) in [
            (&b""[..], "no moov"),
            (b"\0\0\0\x08ftyp", "no moov"),
            (b"\0\0\0\x08moov", "no track"),
            (b"\0\0\0\x08mdat", "before its fragments"),
            (b"\0\0\0\x09free", "within a box"),
            (b"text that is no box", "within a box"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = TrackIndex::read(&path).unwrap_err();
            assert!(error.to_string().contains(why), "{bytes:?}: {error}");
        }
    }
}
