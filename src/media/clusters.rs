//! Where the clusters of a Matroska file begin (RFC 9559, 5.1.3) whose end is still being written: pure.

/// The longest head of an element in bytes: an id of 4, a size of 8 (RFC 8794, 4 and 5).
pub const HEAD: usize = 12;

const SEGMENT: u32 = 0x1853_8067;
pub(super) const CLUSTER: u32 = 0x1F43_B675;

/// The head of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub id: u32,
    /// Bytes of the head.
    pub head: u64,
    /// Bytes of the content; `None`: up to the end of the file.
    pub size: Option<u64>,
}

impl Element {
    /// `None`: the head is not complete, or not written yet.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let id_length = length(*bytes.first()?).filter(|length| *length <= 4)?;
        let id = bytes.get(..id_length)?.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
        let size_length = length(*bytes.get(id_length)?)?;
        let head = id_length + size_length;
        let number = bytes.get(id_length..head)?.iter().fold(0, |size, byte| size << 8 | u64::from(*byte));
        // Without the bit that tells the length; all others set: unknown.
        let bits = 7 * size_length;
        let size = number & ((1 << bits) - 1);
        Some(Self { id, head: head as u64, size: Some(size).filter(|size| *size != (1 << bits) - 1) })
    }
}

/// Bytes of a number whose first byte is this.
fn length(first: u8) -> Option<usize> {
    (first != 0).then_some(first.leading_zeros() as usize + 1)
}

/// Follows the elements of a file as it grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterIndex {
    next: u64,
    clusters: Option<Clusters>,
}

impl Element {
    /// Bytes from its head to the next element of its level; `None`: up to the end of the file. What is in a segment is
    /// taken one by one.
    pub fn length(&self) -> Option<u64> {
        let content = if self.id == SEGMENT { Some(0) } else { self.size };
        content.and_then(|size| self.head.checked_add(size))
    }
}

/// Positions in bytes from the start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clusters {
    /// The first one begins here: what is before it describes the tracks.
    pub first: u64,
    /// The last one begins here.
    pub last: u64,
}

impl ClusterIndex {
    /// The position of the next element.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Where the clusters are; `None`: there is none yet.
    #[must_use]
    pub fn clusters(&self) -> Option<Clusters> {
        self.clusters
    }

    /// Takes up to [`HEAD`] bytes of the file from [`Self::next`] on. `length`: that of the file. False: what follows is
    /// not there yet.
    pub fn take(&mut self, bytes: &[u8], length: u64) -> bool {
        let Some(element) = Element::read(bytes) else { return false };
        if element.id == CLUSTER {
            let first = self.clusters.map_or(self.next, |clusters| clusters.first);
            self.clusters = Some(Clusters { first, last: self.next });
        }
        let end = element.length().and_then(|length| self.next.checked_add(length));
        match end {
            Some(end) if end <= length => {
                self.next = end;
                true
            }
            Some(_) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The index of these bytes.
    fn follow(index: &mut ClusterIndex, file: &[u8]) {
        let from = |index: &ClusterIndex| usize::try_from(index.next()).unwrap();
        while index.take(&file[from(index)..file.len().min(from(index) + HEAD)], file.len() as u64) {}
    }

    #[test]
    fn the_last_cluster_of_a_growing_file_is_found_wherever_it_is_cut() {
        let cluster = |size: u8| {
            let head = [&0x1F43_B675_u32.to_be_bytes()[..], &[0x40, size]].concat();
            [head, vec![7; usize::from(size)]].concat()
        };
        let mut file = vec![0x1A, 0x45, 0xDF, 0xA3, 0x83, 1, 2, 3];
        file.extend([0x18, 0x53, 0x80, 0x67, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        // Tracks.
        file.extend([0x16, 0x54, 0xAE, 0x6B, 0x82, 9, 9]);
        let first = file.len();
        file.extend(cluster(100));
        let second = file.len();
        file.extend(cluster(20));
        let end = file.len();
        let mut growing = ClusterIndex::default();
        for cut in 0..=end {
            follow(&mut growing, &file[..cut]);
            let mut anew = ClusterIndex::default();
            follow(&mut anew, &file[..cut]);
            assert_eq!(growing, anew, "cut at {cut}");
            // A cluster counts from its head on.
            let wanted = match cut {
                _ if cut >= second + 6 => Some(second),
                _ if cut >= first + 6 => Some(first),
                _ => None,
            };
            let found = growing.clusters().map(|clusters| (clusters.first, clusters.last));
            assert_eq!(found, wanted.map(|last| (first as u64, last as u64)), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_written_yet_is_waited_for() {
        for bytes in [&[][..], &[0; HEAD], &[0x1F, 0x43, 0xB6, 0x75], &[0x08, 0, 0, 0, 0, 0x81]] {
            assert!(!ClusterIndex::default().take(bytes, u64::MAX), "{bytes:?}");
        }
        // A size that no file has.
        let huge = [0x1F, 0x43, 0xB6, 0x75, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE];
        assert!(!ClusterIndex::default().take(&huge, 1 << 40));
    }
}
