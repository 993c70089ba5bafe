//! The names of objects in an archive, below the URL of `storage.archive`: pure.
//!
//! ```text
//! .running/NODE/ROOM/RECORDING                          the node has this recording, which is not handed over yet
//! .ended/ROOM/RECORDING                                 it is handed over: its job is published
//! ROOM/RECORDING/lease-0001                             the first node that has taken the recording over
//! ROOM/RECORDING/handing-in-NODE                        a node whose recording was taken over sends what the archive lacks
//! ROOM/RECORDING/NODE-NONCE/part.json                   one file of one part: whose, which, and since when
//! ROOM/RECORDING/NODE-NONCE/000000-000000000-4012.mkv   its bytes: number, first millisecond, milliseconds
//! ```
//!
//! A listing says all that is needed to put a recording together. Rooms do not begin with a dot.

use std::fmt;

use crate::protocol::ids::{RecorderId, RecordingId, RoomId};

/// What the description of a part is called.
pub const DESCRIPTION: &str = "part.json";
/// Where recordings are that a node has.
pub const RUNNING: &str = ".running";
/// Where recordings are that are handed over.
pub const ENDED: &str = ".ended";
const LEASE: &str = "lease-";
const HANDING_IN: &str = "handing-in-";
/// Lengths of numbers, so that names are in their order.
const NUMBER: usize = 6;
const TIME: usize = 9;

/// A recording in an archive.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchivedRecording {
    pub room: RoomId,
    pub recording: RecordingId,
}

impl fmt::Debug for ArchivedRecording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dir())
    }
}

impl ArchivedRecording {
    /// Where all of it is.
    #[must_use]
    pub fn dir(&self) -> String {
        format!("{}/{}", self.room, self.recording)
    }

    /// Of the object that says that `node` has it.
    #[must_use]
    pub fn running(&self, node: &RecorderId) -> String {
        format!("{RUNNING}/{node}/{}", self.dir())
    }

    /// Of the object that says that it is handed over.
    #[must_use]
    pub fn ended(&self) -> String {
        format!("{ENDED}/{}", self.dir())
    }

    /// Of a lease, counted from 1.
    #[must_use]
    pub fn lease(&self, number: u32) -> String {
        format!("{}/{LEASE}{number:04}", self.dir())
    }

    /// Of the object that says that `node` sends what the archive lacks of a recording that another node has now.
    #[must_use]
    pub fn handing_in(&self, node: &RecorderId) -> String {
        format!("{}/{HANDING_IN}{node}", self.dir())
    }

    /// Of the files of a part.
    #[must_use]
    pub fn part(&self, part: &str) -> String {
        format!("{}/{part}", self.dir())
    }

    /// Whose recording a name below [`RUNNING`] tells of.
    #[must_use]
    pub fn of_running(name: &str) -> Option<(RecorderId, Self)> {
        let (node, recording) = name.strip_prefix(RUNNING)?.strip_prefix('/')?.split_once('/')?;
        Some((RecorderId::parse(node).ok()?, Self::of_dir(recording)?))
    }

    /// Of a name below [`ENDED`].
    #[must_use]
    pub fn of_ended(name: &str) -> Option<Self> {
        Self::of_dir(name.strip_prefix(ENDED)?.strip_prefix('/')?)
    }

    /// Of `ROOM/RECORDING`.
    #[must_use]
    pub fn of_dir(name: &str) -> Option<Self> {
        let (room, recording) = name.split_once('/')?;
        Some(Self { room: RoomId::parse(room).ok()?, recording: RecordingId::parse(recording).ok()? })
    }
}

/// The place of one file of a part: the node that writes it, and what no other file has.
#[must_use]
pub fn part_dir(node: &RecorderId, nonce: u64) -> String {
    format!("{node}-{nonce:016x}")
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PieceName {
    /// Counted from 0.
    pub number: u32,
    /// The time of its first cluster in the file, and the time up to the next piece, in milliseconds.
    pub start_ms: u64,
    pub length_ms: u64,
}

impl fmt::Display for PieceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, start_ms, length_ms } = self;
        write!(f, "{number:0NUMBER$}-{start_ms:0TIME$}-{length_ms}.mkv")
    }
}

impl PieceName {
    fn parse(name: &str) -> Option<Self> {
        let mut words = name.strip_suffix(".mkv")?.splitn(3, '-');
        Some(Self {
            number: words.next()?.parse().ok()?,
            start_ms: words.next()?.parse().ok()?,
            length_ms: words.next()?.parse().ok()?,
        })
    }
}

/// What is in the directory of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveListing {
    /// The number of the latest lease; 0: there is none.
    pub lease: u32,
    /// A node that has lost the recording sends what the archive lacks.
    pub handing_in: bool,
    pub parts: Vec<ListedPart>,
}

/// A piece in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedPiece {
    pub name: PieceName,
    pub bytes: u64,
    /// When it was put there, by the clock of the store, in Unix milliseconds.
    pub put_at: u64,
}

/// One file of a part, as far as it is in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPart {
    /// The place of its objects in the directory of the recording.
    pub dir: String,
    /// In their order.
    pub pieces: Vec<ListedPiece>,
}

impl ListedPart {
    /// Where nothing is: pieces behind a missing one are none that can be read from the start.
    #[must_use]
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut next = (0, 0);
        for ListedPiece { name: piece, .. } in &self.pieces {
            if piece.number != next.0 {
                gaps.push((next.1, piece.start_ms));
            }
            next = (piece.number + 1, piece.start_ms + piece.length_ms);
        }
        gaps
    }

    /// Milliseconds of the file that are in the archive, gaps included.
    #[must_use]
    pub fn length_ms(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.name.start_ms + piece.name.length_ms)
    }

    /// How many pieces there are before the first that is missing.
    #[must_use]
    pub fn leading(&self) -> usize {
        (0..).zip(&self.pieces).take_while(|(number, piece)| *number == piece.name.number).count()
    }

    /// Bytes of the pieces from this index on.
    #[must_use]
    pub fn bytes_from(&self, index: usize) -> u64 {
        self.pieces.iter().skip(index).map(|piece| piece.bytes).sum()
    }

    /// Whether the file has its beginning: without that it cannot be read.
    #[must_use]
    pub fn has_beginning(&self) -> bool {
        self.pieces.first().is_some_and(|piece| piece.name.number == 0)
    }
}

impl ArchiveListing {
    /// Of the names in the directory of a recording, each with its bytes and the time at which it was put there. What is
    /// none of the archive is passed over.
    pub fn read(recording: &ArchivedRecording, objects: impl IntoIterator<Item = (String, u64, u64)>) -> Self {
        let begin = format!("{}/", recording.dir());
        let mut listing = Self::default();
        for (name, bytes, put_at) in objects {
            let Some(name) = name.strip_prefix(&begin) else { continue };
            match name.split_once('/') {
                None => {
                    let number = name.strip_prefix(LEASE).and_then(|number| number.parse().ok());
                    listing.lease = listing.lease.max(number.unwrap_or(0));
                    listing.handing_in |= name.starts_with(HANDING_IN);
                }
                Some((dir, name)) => {
                    let found = listing.parts.iter().position(|part| part.dir == dir);
                    let at = found.unwrap_or_else(|| {
                        listing.parts.push(ListedPart { dir: dir.to_owned(), pieces: Vec::new() });
                        listing.parts.len() - 1
                    });
                    let piece = PieceName::parse(name).map(|name| ListedPiece { name, bytes, put_at });
                    listing.parts[at].pieces.extend(piece);
                }
            }
        }
        for part in &mut listing.parts {
            // Of a piece that is there twice, the longer one: an upload that was begun anew may have cut it elsewhere.
            part.pieces.sort_unstable_by_key(|piece| (piece.name.number, std::cmp::Reverse(piece.bytes)));
            part.pieces.dedup_by_key(|piece| piece.name.number);
        }
        listing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> ArchivedRecording {
        ArchivedRecording::of_dir("room:1/RM_1").unwrap()
    }

    #[test]
    fn names_say_what_they_are_of() {
        let (node, recording) = (RecorderId::parse("node_01").unwrap(), recording());
        let running = recording.running(&node);
        assert_eq!(running, ".running/node_01/room:1/RM_1");
        assert_eq!(ArchivedRecording::of_running(&running), Some((node.clone(), recording.clone())));
        assert_eq!(ArchivedRecording::of_ended(&recording.ended()), Some(recording));
        for foreign in [".running/node_01/../RM_1", ".running/node_01", ".ended/a", "room/RM_1", ".running/a/b/c/d"] {
            assert_eq!(ArchivedRecording::of_running(foreign), None, "{foreign}");
        }
        assert_eq!(part_dir(&node, 255), "node_01-00000000000000ff");
    }

    #[test]
    fn a_listing_is_the_manifest() {
        let recording = recording();
        let piece = |number, start_ms, length_ms| PieceName { number, start_ms, length_ms };
        let names = [piece(2, 8_100, 3_900), piece(0, 0, 4_000), piece(1, 4_000, 4_100), piece(4, 16_000, 900)];
        let mut objects: Vec<_> = names.iter().map(|piece| (recording.part(&format!("n-1/{piece}")), 7, 1)).collect();
        assert_eq!(objects[0].0, "room:1/RM_1/n-1/000002-000008100-3900.mkv");
        let others = [
            recording.part("n-1/part.json"),
            recording.part("n-2/part.json"),
            recording.lease(2),
            recording.lease(1),
            "other/RM_1/n-9/part.json".to_owned(),
        ];
        objects.extend(others.map(|name| (name, 1, 1)));
        let listing = ArchiveListing::read(&recording, objects.clone());
        assert_eq!((listing.lease, listing.handing_in), (2, false));
        objects.push((recording.handing_in(&RecorderId::parse("node_01").unwrap()), 1, 1));
        assert!(ArchiveListing::read(&recording, objects).handing_in);
        let [first, second] = &listing.parts[..] else { panic!("{listing:?}") };
        assert_eq!(first.pieces.iter().map(|piece| piece.name.number).collect::<Vec<_>>(), [0, 1, 2, 4]);
        assert_eq!((first.gaps(), first.length_ms()), (vec![(12_000, 16_000)], 16_900));
        assert_eq!((first.bytes_from(0), first.bytes_from(3), first.leading()), (28, 7, 3));
        assert_eq!((second.dir.as_str(), second.pieces.len()), ("n-2", 0));
        assert!(first.has_beginning() && !second.has_beginning());
    }
}
