//! Into which parts a file is cut for a store, and the checksum by which the store knows the whole. Pure.

use md5::{Digest as _, Md5};

/// The size of a part: large enough to make round trips cheap, small enough to be held in memory four times.
const PART_SIZE: u64 = 8 << 20;
/// The most parts of an upload (Amazon S3, "Multipart upload limits"; others follow it).
const MOST_PARTS: u64 = 10_000;
const MIB: u64 = 1 << 20;

/// How a file of this size is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartPlan {
    size: u64,
    /// Of every part but the last.
    pub part_size: u64,
}

impl PartPlan {
    /// The plan for a file of so many bytes.
    #[must_use]
    pub fn of(size: u64) -> Self {
        let part_size = size.div_ceil(MOST_PARTS).div_ceil(MIB).saturating_mul(MIB);
        Self { size, part_size: part_size.max(PART_SIZE) }
    }

    /// The plan of an upload that was begun with this size of parts.
    #[must_use]
    pub fn with(size: u64, part_size: u64) -> Self {
        Self { size, part_size: part_size.max(1) }
    }

    /// Whether the file is one part, and needs no upload in parts.
    #[must_use]
    pub fn is_single(self) -> bool {
        self.size <= self.part_size
    }

    #[must_use]
    pub fn count(self) -> usize {
        usize::try_from(self.size.div_ceil(self.part_size)).unwrap_or(usize::MAX)
    }

    /// Where the part begins, and its length.
    #[must_use]
    pub fn part(self, index: usize) -> (u64, u64) {
        let at = self.part_size.saturating_mul(index as u64).min(self.size);
        (at, self.part_size.min(self.size - at))
    }
}

/// The `ETag` that S3 gives to an object of these parts, whose MD5s are given in hexadecimal digits: the MD5 of the MD5s, a
/// dash, and their number. Of an object that was put whole: its MD5. Stores that encrypt with keys of their own have others.
#[must_use]
pub fn etag(md5s: &[String], whole: bool) -> Option<String> {
    if let ([md5], true) = (md5s, whole) {
        return Some(md5.clone());
    }
    let mut all = Md5::new();
    for md5 in md5s {
        all.update(hex::decode(md5).ok()?);
    }
    Some(format!("{}-{}", hex::encode(all.finalize()), md5s.len()))
}

/// The checksum that an `ETag` may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtagChecksum {
    /// The MD5 of all bytes.
    Whole(String),
    /// That of parts which are cut as [`PartPlan::of`] cuts, as [`etag`] makes it.
    Parts(String),
}

impl EtagChecksum {
    /// Of an object with this plan. `None`: it has not the form of one, or is of parts that were cut otherwise. Stores that
    /// encrypt with keys of their own give others of the same form.
    #[must_use]
    pub fn of(etag: &str, plan: PartPlan) -> Option<Self> {
        let (md5, parts) = etag.split_once('-').map_or((etag, None), |(md5, parts)| (md5, Some(parts)));
        if md5.len() != 32 || !md5.chars().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        let etag = etag.to_ascii_lowercase();
        match parts {
            None => Some(Self::Whole(etag)),
            Some(parts) => (parts.parse() == Ok(plan.count())).then_some(Self::Parts(etag)),
        }
    }
}

/// Takes the bytes of an object in their order, and compares the MD5 of each part.
#[derive(Debug)]
pub struct PartComparison<'a> {
    plan: PartPlan,
    expected: &'a [String],
    index: usize,
    hash: Md5,
    /// Bytes of the part that are still to come.
    left: u64,
    same: bool,
}

impl<'a> PartComparison<'a> {
    #[must_use]
    pub fn new(plan: PartPlan, expected: &'a [String]) -> Self {
        Self { plan, expected, index: 0, hash: Md5::new(), left: plan.part(0).1, same: true }
    }

    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.same {
            if self.left == 0 {
                // More than there should be.
                self.same = false;
                return;
            }
            let now = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            let (part, rest) = bytes.split_at(now);
            self.hash.update(part);
            (bytes, self.left) = (rest, self.left - now as u64);
            if self.left == 0 {
                self.end_of_part();
            }
        }
    }

    fn end_of_part(&mut self) {
        let md5 = hex::encode(std::mem::take(&mut self.hash).finalize());
        self.same &= self.expected.get(self.index).is_some_and(|expected| *expected == md5);
        self.index += 1;
        self.left = self.plan.part(self.index).1;
    }

    /// Whether all bytes came, and were the right ones.
    #[must_use]
    pub fn is_same(mut self) -> bool {
        // A file without a byte is one part.
        if self.plan.count() == 0 {
            self.end_of_part();
            return self.same;
        }
        self.same && self.index == self.plan.count()
    }
}

/// The MD5 of these bytes in hexadecimal digits.
#[must_use]
pub fn md5_of(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_in_one_part_and_there_are_never_too_many() {
        for size in [1, PART_SIZE, PART_SIZE + 1, 3 * PART_SIZE, 80 << 30, 5 << 40] {
            let plan = PartPlan::of(size);
            assert!(plan.count() as u64 <= MOST_PARTS, "{size}: {plan:?}");
            let mut at = 0;
            for index in 0..plan.count() {
                let (begin, length) = plan.part(index);
                assert!(begin == at && length > 0, "{size}: {index}");
                assert!(
                    index + 1 == plan.count() || length >= 5 << 20,
                    "{size}: a part but the last has 5 MiB or more"
                );
                at += length;
            }
            assert_eq!(at, size);
        }
        assert!(
            PartPlan::of(0).is_single()
                && PartPlan::of(PART_SIZE).is_single()
                && !PartPlan::of(PART_SIZE + 1).is_single()
        );
        assert_eq!(PartPlan::of(100 << 30).part_size, 11 << 20);
    }

    #[test]
    fn the_etag_is_that_of_s3() {
        let md5s = [md5_of(b"a"), md5_of(b"b")];
        assert_eq!(md5s[0], "0cc175b9c0f1b6a831c399e269772661");
        assert_eq!(etag(&md5s[..1], true).unwrap(), md5s[0]);
        assert_eq!(
            etag(&md5s, false).unwrap(),
            "96a2da9b1e87bcf6f3ba7b6f2ae9c5a5-2".replace("96a2da9b1e87bcf6f3ba7b6f2ae9c5a5", &{
                let mut both = hex::decode(&md5s[0]).unwrap();
                both.extend(hex::decode(&md5s[1]).unwrap());
                md5_of(&both)
            })
        );
        assert_eq!(etag(&["no hex".to_owned(), String::new()], false), None);
    }

    #[test]
    fn only_what_can_be_compared_is_a_checksum() {
        let (md5, plan) = ("0cc175b9c0f1b6a831c399e269772661", PartPlan::of(3 * PART_SIZE));
        assert_eq!(EtagChecksum::of(md5, plan), Some(EtagChecksum::Whole(md5.to_owned())));
        let parts = format!("{md5}-3");
        assert_eq!(EtagChecksum::of(&parts, plan), Some(EtagChecksum::Parts(parts)));
        for other in ["", "0x8D1", "CJ-3", &format!("{md5}-4"), &format!("{md5}0"), &format!("{md5}-x"), "1f-2-3"] {
            assert_eq!(EtagChecksum::of(other, plan), None, "{other}");
        }
    }

    #[test]
    fn what_is_read_back_is_compared_to_its_last_byte() {
        let (plan, file) = (PartPlan::with(7, 3), b"abcdefg");
        let expected: Vec<String> = [&file[..3], &file[3..6], &file[6..]].map(md5_of).into();
        let same = |pieces: &[&[u8]]| {
            let mut comparison = PartComparison::new(plan, &expected);
            for piece in pieces {
                comparison.take(piece);
            }
            comparison.is_same()
        };
        assert!(same(&[b"abcdefg"]) && same(&[b"a", b"bcd", b"", b"efg"]));
        for wrong in [&b"abcdef"[..], b"abcdefgh", b"abXdefg", b"abcdefX", b""] {
            assert!(!same(&[wrong]), "{wrong:?}");
        }
        assert!(PartComparison::new(PartPlan::of(0), &[md5_of(b"")]).is_same());
    }
}
