use super::*;
use crate::archive::names::PieceName;
use crate::protocol::ids::{RecorderId, RecordingId, RoomId, RoomSid};
use crate::protocol::request::RecordingInfo;

/// A file of so many pieces of 4 s, of a part that began at this second by the node's clock, which is ahead by `ahead` s.
fn found(node: &str, lease: u32, part: usize, began_s: u64, pieces: u32, ahead: i64) -> FoundFile {
    let info = RecordingInfo {
        room_table_id: 7,
        room_id: RoomId::parse("room01").unwrap(),
        room_sid: RoomSid::default(),
        recording_id: RecordingId::parse("rec").unwrap(),
    };
    let began_at = (began_s * 1000).checked_add_signed(ahead * 1000).unwrap();
    let description = PartDescription {
        lease,
        began_at: Some(began_at),
        ..PartDescription::new(&info, &RecorderId::parse(node).unwrap(), part)
    };
    let piece = |n: u32| ListedPiece {
        name: PieceName { number: n, start_ms: u64::from(n) * 4000, length_ms: 4000 },
        bytes: 10,
        // In the store 2 s after its end, by the true time.
        put_at: began_s * 1000 + u64::from(n + 1) * 4000 + 2000,
    };
    let listed = ListedPart { dir: format!("{node}-{lease}{part}"), pieces: (0..pieces).map(piece).collect() };
    FoundFile { listed, description }
}

fn name(n: usize) -> String {
    format!("part{n}")
}

fn own(file: &str, began_s: u64, place: &str) -> RecordingPart {
    RecordingPart {
        file: file.to_owned(),
        began_at: Some(began_s * 1000),
        archived_as: vec![place.to_owned()],
        ..RecordingPart::default()
    }
}

/// Each part's file, the second at which it begins, and how much of it is used.
fn told(parts: &[RecordingPart]) -> Vec<(&str, u64, Option<u64>)> {
    let of = |part: &RecordingPart| part.taken.as_ref().and_then(|taken| taken.used_ms);
    parts.iter().map(|part| (part.file.as_str(), part.began_at.unwrap() / 1000, of(part))).collect()
}

#[test]
fn what_comes_late_is_used_up_to_the_first_media_of_this_node() {
    let taken_over = merge(&[], &[found("a", 0, 1, 100, 3, 0)], name);
    assert_eq!(told(&taken_over), [("part1", 100, None)]);
    assert_eq!(taken_over[0].taken.as_ref().unwrap().first_ms, 12_000);
    assert_eq!(fetches(&[], &taken_over), [step("a-01", "part1", 0)]);

    // It joined at 150 s; a recorded up to 152 s in this part, and from 153 s in another one.
    let record = [taken_over, vec![own("part2", 150, "me-11")]].concat();
    let late = [found("a", 0, 1, 100, 13, 0), found("a", 0, 2, 153, 2, 0), found("me", 1, 2, 150, 5, 0)];
    let merged = merge(&record, &late, name);
    assert_eq!(told(&merged), [("part1", 100, Some(50_000)), ("part2", 150, None)]);
    assert_eq!(fetches(&record, &merged), [step("a-01", "part1", 3)]);
    // And what it recorded in between, in a part of its own.
    let between = merge(&record, &[late[0].clone(), found("a", 0, 2, 130, 1, 0)], name);
    assert_eq!(told(&between), [("part1", 100, Some(50_000)), ("part3", 130, None), ("part2", 150, None)]);
    assert_eq!(fetches(&record, &between), [step("a-01", "part1", 3), step("a-02", "part3", 0)]);
    // Nothing more to do.
    assert_eq!(merge(&merged, &late, name), merged);
    assert_eq!(fetches(&merged, &merged), []);
}

fn step(place: &str, file: &str, from: usize) -> FetchStep {
    FetchStep { place: place.to_owned(), file: file.to_owned(), goes_on: false, from }
}

#[test]
fn of_three_nodes_the_later_one_counts() {
    let files = [found("c", 2, 1, 200, 2, 0), found("a", 0, 1, 0, 40, 0), found("b", 1, 2, 100, 40, 0)];
    let merged = merge(&[], &files, name);
    let used = |parts: &[RecordingPart]| told(parts).iter().map(|part| (part.1, part.2)).collect::<Vec<_>>();
    assert_eq!(used(&merged), [(0, Some(100_000)), (100, Some(100_000)), (200, None)]);
    let record = [merge(&[], &[found("a", 0, 1, 0, 2, 0)], name), vec![own("part2", 300, "me-31")]].concat();
    let merged = merge(&record, &files, name);
    assert_eq!(used(&merged), [(0, Some(100_000)), (100, Some(100_000)), (200, None), (300, None)]);
}

#[test]
fn clocks_that_differ_are_compared_by_that_of_the_store() {
    for ahead in [-90, 0, 3600] {
        let record = [merge(&[], &[found("a", 0, 1, 100, 3, ahead)], name), vec![own("part2", 150, "me-12")]].concat();
        let late = [found("a", 0, 1, 100, 20, ahead), found("me", 1, 2, 150, 5, 0)];
        let merged = merge(&record, &late, name);
        assert_eq!(told(&merged), [("part1", 100, Some(50_000)), ("part2", 150, None)], "{ahead}");
    }
    // What was there before is used whatever a clock says that nobody can compare.
    let record = [merge(&[], &[found("a", 0, 1, 100, 3, 3600)], name), vec![own("part2", 150, "me-12")]].concat();
    let merged = merge(&record, &[found("a", 0, 1, 100, 3, 3600)], name);
    assert_eq!(told(&merged)[0].2, None);
}

#[test]
fn a_listing_that_lags_takes_nothing_away_and_a_hole_that_is_filled_has_all_fetched_again() {
    let mut holey = found("a", 0, 1, 100, 5, 0);
    holey.listed.pieces.remove(2);
    let record = merge(&[], std::slice::from_ref(&holey), name);
    assert_eq!(record[0].taken.as_ref().unwrap().files[0].lacks_ms, [(8_000, 12_000)]);
    assert_eq!(merge(&record, &[], name), record);
    assert_eq!(merge(&record, &[found("a", 0, 1, 100, 2, 0)], name), record);
    // It shows more, but not a piece that is here.
    let mut lagging = found("a", 0, 1, 100, 9, 0);
    lagging.listed.pieces.remove(1);
    let three = merge(&[], &[found("a", 0, 1, 100, 3, 0)], name);
    assert_eq!(merge(&three, &[lagging], name), three);
    let whole = merge(&record, &[found("a", 0, 1, 100, 5, 0)], name);
    assert_eq!(whole[0].taken.as_ref().unwrap().files[0].lacks_ms, []);
    assert_eq!(fetches(&record, &whole), [step("a-01", "part1", 0)]);
}

#[test]
fn a_file_that_goes_on_belongs_to_its_part() {
    let (first, mut on) = (found("a", 0, 1, 100, 3, 0), found("a", 0, 1, 100, 2, 0));
    on.description.goes_on = true;
    on.listed.dir = "a-on".to_owned();
    let merged = merge(&[], &[on.clone(), first.clone()], name);
    let [part] = &merged[..] else { panic!("{merged:?}") };
    let places: Vec<_> = part.taken.as_ref().unwrap().files.iter().map(|file| file.place.as_str()).collect();
    assert_eq!(places, ["a-01", "a-on"]);
    assert_eq!(part.taken.as_ref().unwrap().first_ms, 20_000);
    let on_step = FetchStep { goes_on: true, ..step("a-on", "part1", 0) };
    assert_eq!(fetches(&[], &merged), [step("a-01", "part1", 0), on_step]);
    // One whose first file never came is a part, behind the others.
    let alone = merge(&[], &[on, found("a", 0, 2, 130, 1, 0)], name);
    assert_eq!(alone.len(), 2);
}
