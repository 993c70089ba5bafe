//! The clusters of a Matroska file that is read from its start, each with its time (RFC 9559, 5.1.3): pure.

use crate::media::clusters::{CLUSTER, Element, HEAD};

const TIMESTAMP: u32 = 0xE7;
const CRC_32: u32 = 0xBF;
/// Bytes of a cluster's beginning that are kept: its head, a CRC-32 of 6 bytes, the head of its time, and that.
const BEGINNING: usize = HEAD + 6 + 2 + 8;

/// Where a cluster begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterStart {
    /// Bytes from the start of the file.
    pub at: u64,
    /// Milliseconds: the unit of the files that ffmpeg writes.
    pub time_ms: u64,
}

/// Reads the bytes of a file in order.
#[derive(Clone, Debug, Default)]
pub struct ClusterTimes {
    /// The position of the first byte of `beginning`.
    at: u64,
    /// Bytes that are passed over, before `beginning`.
    pass: u64,
    /// The first bytes of the next element.
    beginning: Vec<u8>,
    /// An element reaches to the end of the file: nothing is found any more.
    over: bool,
}

impl ClusterTimes {
    /// The clusters whose beginning is complete with these next bytes of the file.
    pub fn take(&mut self, mut bytes: &[u8]) -> Vec<ClusterStart> {
        let mut found = Vec::new();
        while !self.over && !bytes.is_empty() {
            let passed = usize::try_from(self.pass).unwrap_or(usize::MAX).min(bytes.len());
            bytes = &bytes[passed..];
            self.pass -= passed as u64;
            if self.pass > 0 {
                break;
            }
            let more = (BEGINNING - self.beginning.len()).min(bytes.len());
            self.beginning.extend_from_slice(&bytes[..more]);
            bytes = &bytes[more..];
            self.read_beginnings(&mut found);
        }
        found
    }

    /// Reads the elements that begin in `beginning`, as far as that goes.
    fn read_beginnings(&mut self, found: &mut Vec<ClusterStart>) {
        while let Some(element) = Element::read(&self.beginning) {
            if element.id == CLUSTER {
                match time_of(&self.beginning[usize::try_from(element.head).unwrap_or(usize::MAX)..]) {
                    Some(time_ms) => found.push(ClusterStart { at: self.at, time_ms }),
                    // Its time is not there yet, or where none is expected.
                    None if self.beginning.len() < BEGINNING => return,
                    None => {}
                }
            }
            let Some(length) = element.length() else {
                self.over = true;
                return;
            };
            self.at = self.at.saturating_add(length);
            let read = usize::try_from(length).unwrap_or(usize::MAX).min(self.beginning.len());
            self.beginning.drain(..read);
            self.pass = length - read as u64;
            if self.pass > 0 {
                return;
            }
        }
        // No head has more bytes.
        self.over = self.beginning.len() >= HEAD;
    }
}

/// The time of a cluster with this content.
fn time_of(content: &[u8]) -> Option<u64> {
    let element = Element::read(content)?;
    let (head, size) = (usize::try_from(element.head).ok()?, usize::try_from(element.size?).ok()?);
    let value = content.get(head..head.checked_add(size)?)?;
    match element.id {
        TIMESTAMP if size <= 8 => Some(value.iter().fold(0, |time, byte| time << 8 | u64::from(*byte))),
        CRC_32 => time_of(&content[head + size..]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(time: u16, crc: bool, size: usize) -> Vec<u8> {
        let crc = if crc { vec![0xBF, 0x84, 1, 2, 3, 4] } else { Vec::new() };
        let content = [crc, vec![0xE7, 0x82], time.to_be_bytes().to_vec(), vec![0xEC; 1], vec![0x80]].concat();
        let padding = vec![7; size];
        let length = u8::try_from(content.len() + size).unwrap();
        [vec![0x1F, 0x43, 0xB6, 0x75, 0x40, length], content, padding].concat()
    }

    #[test]
    fn clusters_are_found_with_their_times_however_the_bytes_come() {
        let mut file = vec![0x1A, 0x45, 0xDF, 0xA3, 0x83, 1, 2, 3];
        file.extend([0x18, 0x53, 0x80, 0x67, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        file.extend([0x16, 0x54, 0xAE, 0x6B, 0x82, 9, 9]);
        let mut wanted = Vec::new();
        for (time, crc, size) in [(0, true, 100), (980, false, 0), (2021, true, 60), (60_000, true, 40)] {
            wanted.push(ClusterStart { at: file.len() as u64, time_ms: time.into() });
            file.extend(cluster(time, crc, size));
        }
        // What ffmpeg writes at the end.
        file.extend([0x1C, 0x53, 0xBB, 0x6B, 0x82, 9, 9]);
        for step in 1..=file.len() {
            let mut times = ClusterTimes::default();
            let found: Vec<_> = file.chunks(step).flat_map(|bytes| times.take(bytes)).collect();
            assert_eq!(found, wanted, "in steps of {step}");
        }
    }

    #[test]
    fn what_is_no_matroska_file_has_no_clusters() {
        for bytes in [vec![0; 100], vec![0xFF; 100], vec![0x1F; 3]] {
            assert_eq!(ClusterTimes::default().take(&bytes), []);
        }
    }
}
