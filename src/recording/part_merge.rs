//! Decides which parts a recording has that was taken over, of those that other nodes have recorded: pure.
//!
//! ```text
//! owner, cut off from the archive     ├── handed in before ──┤── handed in late ──┤┄┄ not used ┄┄┤
//! this node                                                                       ├── its own part ──┤
//! ```
//!
//! Of two nodes that recorded at the same time the later one counts, from its first media on. What was in the archive when
//! the recording was taken over is always used: it is older than that.

use crate::archive::description::PartDescription;
use crate::archive::names::{ListedPart, ListedPiece};
use crate::recording::journal::RecordingPart;
use crate::recording::taken_part::{TakenFile, TakenPart};

/// Clocks of two nodes that differ by no more are taken as they are, in milliseconds: a store says to the second when it
/// got a piece, and pieces are on their way for some seconds.
const CLOCK_TOLERANCE: i64 = 10_000;
/// Less of a part is not worth a cut, in milliseconds.
const LITTLE: u64 = 500;

/// A file of a part in the archive, with its beginning, and what is said of it.
#[derive(Clone, Debug)]
pub struct FoundFile {
    pub listed: ListedPart,
    pub description: PartDescription,
}

/// What is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchStep {
    /// The place in the archive.
    pub place: String,
    /// The part's file.
    pub file: String,
    pub goes_on: bool,
    /// So many pieces are there.
    pub from: usize,
}

/// A part that another node has recorded, as the archive has it now.
struct FoundPart<'a> {
    files: Vec<&'a FoundFile>,
    began_at: Option<u64>,
    length_ms: u64,
}

/// The parts of the recording, in their order: `parts` as they are in its record, and what is `found` in the archive. A new
/// part gets the `name` of its number. Files that this node is to fetch: see [`fetches`].
#[must_use]
pub fn merge(parts: &[RecordingPart], found: &[FoundFile], name: impl Fn(usize) -> String) -> Vec<RecordingPart> {
    let is_own = |file: &FoundFile| parts.iter().any(|part| part.archived_as.contains(&file.listed.dir));
    let (own_files, foreign): (Vec<_>, Vec<_>) = found.iter().partition(|file| is_own(file));
    let own: Vec<&RecordingPart> = parts.iter().filter(|part| part.taken.is_none()).collect();
    let own_began = own.iter().filter_map(|part| part.began_at).min();
    let groups = group(&foreign);
    let lead_of = |node: &str| store_lead(foreign.iter().copied().filter(|file| file.description.node == node));
    let latest = || lead_of(&groups.last()?.files.first()?.description.node);
    let own_lead = store_lead(own_files.into_iter()).or_else(latest);
    // Before this node had the recording there was none of its parts.
    let first_look = parts.is_empty();

    let mut merged: Vec<RecordingPart> = parts.iter().filter(|part| part.taken.is_some()).cloned().collect();
    let mut names = parts.len();
    for part in groups {
        let Some(first) = part.files.first() else { continue };
        let lead = part.began_at.and_then(|_| lead_of(&first.description.node));
        let began_at = part.began_at.map(|began| by_own_clock(began, lead, own_lead));
        let files = part.files.iter().map(|file| TakenFile {
            place: file.listed.dir.clone(),
            goes_on: file.description.goes_on,
            pieces: file.listed.pieces.len(),
            lacks_ms: file.listed.gaps(),
        });
        let known = merged.iter_mut().find(|known| known.taken.as_ref().is_some_and(|taken| is_same(taken, &part)));
        if let Some(known) = known {
            known.began_at = began_at.or(known.began_at);
            if let Some(taken) = &mut known.taken {
                let leading = part.files.iter().map(|file| file.listed.leading());
                update(taken, files.zip(leading));
            }
            continue;
        }
        names += 1;
        let taken = TakenPart {
            node: first.description.node.clone(),
            lease: first.description.lease,
            number: first.description.part,
            first_ms: if first_look { part.length_ms } else { 0 },
            used_ms: None,
            files: files.collect(),
        };
        merged.push(RecordingPart { file: name(names), began_at, taken: Some(taken), ..RecordingPart::default() });
    }
    merged.sort_by_key(|part| part.taken.as_ref().map(|taken| (taken.lease, taken.number)));
    cut_overlaps(&mut merged, found, own_began);
    // One of which nothing is used is not fetched.
    let is_known = |part: &RecordingPart| parts.iter().any(|known| known.file == part.file);
    merged.retain(|part| is_known(part) || part.taken.as_ref().is_none_or(|taken| taken.used_ms != Some(0)));
    merged.extend(own.into_iter().cloned());
    merged
}

/// What has to be fetched so that the files of `before` are those of `after`.
#[must_use]
pub fn fetches(before: &[RecordingPart], after: &[RecordingPart]) -> Vec<FetchStep> {
    let known: Vec<&TakenFile> = before.iter().filter_map(|part| part.taken.as_ref()).flat_map(|t| &t.files).collect();
    let mut steps = Vec::new();
    for part in after {
        for file in part.taken.iter().flat_map(|taken| &taken.files) {
            let had = known.iter().find(|known| known.place == file.place);
            if had.is_some_and(|had| *had == file) {
                continue;
            }
            // Bytes can be added to a file without a hole only.
            let from = had.filter(|had| had.lacks_ms.is_empty()).map_or(0, |had| had.pieces);
            let (place, goes_on) = (file.place.clone(), file.goes_on);
            steps.push(FetchStep { place, file: part.file.clone(), goes_on, from });
        }
    }
    steps
}

/// The files, in the order of their parts, each with those that go on where it ends.
fn group<'a>(files: &[&'a FoundFile]) -> Vec<FoundPart<'a>> {
    let mut files = files.to_vec();
    files.sort_by_key(|file| (file.description.order(), file.description.node.clone()));
    let mut parts: Vec<FoundPart<'a>> = Vec::new();
    for file in files {
        let of = |file: &FoundFile| (file.description.node.clone(), file.description.lease, file.description.part);
        match parts.last_mut().filter(|part| part.files.first().is_some_and(|first| of(first) == of(file))) {
            Some(part) if file.description.goes_on => {
                part.length_ms += file.listed.length_ms();
                part.files.push(file);
            }
            _ => parts.push(FoundPart {
                files: vec![file],
                began_at: file.description.began_at,
                length_ms: file.listed.length_ms(),
            }),
        }
    }
    parts
}

fn is_same(taken: &TakenPart, part: &FoundPart<'_>) -> bool {
    taken.files.iter().any(|known| part.files.iter().any(|file| file.listed.dir == known.place))
}

/// A listing may lag: what was there once is there. Each file with the number of its pieces before the first hole.
fn update(taken: &mut TakenPart, files: impl Iterator<Item = (TakenFile, usize)>) {
    for (file, leading) in files {
        let Some(known) = taken.files.iter_mut().find(|known| known.place == file.place) else {
            taken.files.push(file);
            continue;
        };
        let lags = known.lacks_ms.is_empty() && leading < known.pieces;
        if known.pieces < file.pieces && !lags {
            *known = file;
        }
    }
}

/// Notes how much of each part is used. `own_began`: the first media of this node.
fn cut_overlaps(parts: &mut [RecordingPart], found: &[FoundFile], own_began: Option<u64>) {
    let begins: Vec<(u32, u64)> =
        parts.iter().filter_map(|part| Some((part.taken.as_ref()?.lease, part.began_at?))).collect();
    for part in parts {
        let Some(taken) = &mut part.taken else { continue };
        // Of one whose time is not known nobody can say what it shows that the others do not.
        let up_to = |limit: u64| part.began_at.map_or(0, |began| limit.saturating_sub(began));
        let later = begins.iter().filter(|(lease, _)| *lease > taken.lease).map(|(_, began)| up_to(*began));
        let own = own_began.map(|began| up_to(began).max(taken.first_ms));
        let Some(until) = later.chain(own).min() else { continue };
        let files = |place: &String| found.iter().find(|file| file.listed.dir == *place);
        let lengths = taken.files.iter().filter_map(|file| files(&file.place)).map(|file| file.listed.length_ms());
        if until < LITTLE {
            taken.used_ms = Some(0);
        } else if until + LITTLE < lengths.sum() {
            taken.used_ms = Some(until);
        }
    }
}

/// By how much the clock of the store is ahead of that of a node, and how long the node takes to hand a piece in, both in
/// milliseconds: by the piece that came the soonest.
fn store_lead<'a>(files: impl Iterator<Item = &'a FoundFile>) -> Option<i64> {
    let lead = |file: &FoundFile, piece: &ListedPiece| {
        let end = file.description.began_at?.checked_add(piece.name.start_ms + piece.name.length_ms)?;
        i64::try_from(piece.put_at).ok()?.checked_sub(i64::try_from(end).ok()?)
    };
    files.flat_map(|file| file.listed.pieces.iter().filter_map(move |piece| lead(file, piece))).min()
}

/// A time of another node by this node's clock. Both of them hand in their pieces in about the same time.
fn by_own_clock(time: u64, lead: Option<i64>, own_lead: Option<i64>) -> u64 {
    let behind = lead.zip(own_lead).map_or(0, |(lead, own)| lead.saturating_sub(own));
    if behind.abs() > CLOCK_TOLERANCE { time.saturating_add_signed(behind) } else { time }
}

#[cfg(test)]
mod tests;
