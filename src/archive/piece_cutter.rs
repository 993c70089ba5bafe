//! Cuts a growing file into the pieces of an archive, each of whole clusters: pure.

use std::ops::Range;

use crate::archive::names::PieceName;
use crate::media::cluster_times::ClusterTimes;

/// A piece is complete with the first cluster that begins so much later than it, in milliseconds. A host that is
/// destroyed loses up to so much, and what ffmpeg and the way to the store hold.
const PIECE_MS: u64 = 4000;

/// A piece of the file: its name and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub name: PieceName,
    pub bytes: Range<u64>,
}

/// Cuts the bytes of a file, which come in order. The same file is always cut in the same way.
#[derive(Clone, Debug, Default)]
pub struct PieceCutter {
    clusters: ClusterTimes,
    /// Bytes taken.
    length: u64,
    number: u32,
    /// Where the next piece begins, and its time; the header belongs to the first one.
    begin: u64,
    start_ms: Option<u64>,
    /// The time of the latest cluster.
    latest_ms: u64,
}

impl PieceCutter {
    /// The pieces that are complete with these next bytes.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.length += bytes.len() as u64;
        let mut pieces = Vec::new();
        for cluster in self.clusters.take(bytes) {
            self.latest_ms = cluster.time_ms;
            let start = *self.start_ms.get_or_insert(cluster.time_ms);
            if cluster.time_ms >= start + PIECE_MS {
                pieces.push(self.cut(start, cluster.at));
                self.start_ms = Some(cluster.time_ms);
            }
        }
        pieces
    }

    /// The last piece: the file has no more bytes.
    pub fn end(&mut self) -> Option<Piece> {
        (self.length > self.begin).then(|| self.cut(self.start_ms.unwrap_or(0), self.length))
    }

    fn cut(&mut self, start_ms: u64, end: u64) -> Piece {
        let length_ms = self.latest_ms.saturating_sub(start_ms);
        let piece = Piece { name: PieceName { number: self.number, start_ms, length_ms }, bytes: self.begin..end };
        (self.number, self.begin) = (self.number + 1, end);
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_clusters_of_four_seconds_and_together_the_file() {
        let mut file = vec![0x1A, 0x45, 0xDF, 0xA3, 0x80, 0x18, 0x53, 0x80, 0x67, 0x01];
        file.extend([0xFF; 7]);
        for time in (0_u16..10).map(|n| n * 1500) {
            file.extend([0x1F, 0x43, 0xB6, 0x75, 0x84, 0xE7, 0x82]);
            file.extend(time.to_be_bytes());
        }
        for step in [1, 7, 50, 1000] {
            let mut cutter = PieceCutter::default();
            let mut pieces: Vec<_> = file.chunks(step).flat_map(|bytes| cutter.take(bytes)).collect();
            pieces.extend(cutter.end());
            let times: Vec<_> = pieces.iter().map(|piece| (piece.name.start_ms, piece.name.length_ms)).collect();
            assert_eq!(times, [(0, 4500), (4500, 4500), (9000, 4500), (13_500, 0)], "in steps of {step}");
            assert_eq!(pieces.iter().map(|piece| piece.name.number).collect::<Vec<_>>(), [0, 1, 2, 3]);
            let mut at = 0;
            for Piece { bytes, .. } in &pieces {
                assert_eq!(bytes.start, at);
                at = bytes.end;
            }
            assert_eq!(at, file.len() as u64);
            assert_eq!(cutter.end(), None);
        }
    }
}
