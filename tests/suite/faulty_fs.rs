//! The promises of the file system that misbehaves.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};

fn is_mounted(place: &Path) -> bool {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(place.to_str().unwrap())
}

#[test]
fn it_shows_a_directory_and_is_unmounted_when_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (backing, place) = (dir.path().join("backing"), dir.path().join("place"));
    let disk = FaultyFs::mount(&backing, &place, Abilities::ALL);
    std::fs::create_dir_all(place.join("a/b")).unwrap();
    std::fs::write(place.join("a/b/file"), "one two").unwrap();
    std::fs::hard_link(place.join("a/b/file"), place.join("linked")).unwrap();
    std::fs::rename(place.join("a"), place.join("c")).unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(place.join("c/b/file")).unwrap();
    file.seek(SeekFrom::Start(4)).unwrap();
    file.write_all(b"six").unwrap();
    file.sync_all().unwrap();
    std::fs::File::open(&place).unwrap().sync_all().unwrap();
    let names: Vec<_> = std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    for shown in [place.join("linked"), backing.join("c/b/file")] {
        assert_eq!(std::fs::read_to_string(shown).unwrap(), "one six");
    }
    std::fs::remove_file(place.join("linked")).unwrap();
    assert!(!backing.join("linked").exists() && is_mounted(&place));
    drop((file, disk));
    assert!(!is_mounted(&place));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fails_as_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (backing, place) = (dir.path().join("backing"), dir.path().join("place"));
    let disk = FaultyFs::mount(&backing, &place, Abilities::NONE);
    let file = place.join("file");
    std::fs::write(&file, "in order").unwrap();
    let not_supported = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(Errno::OPNOTSUPP.raw_os_error()));
    };
    not_supported(std::fs::rename(&file, place.join("other")));
    not_supported(std::fs::hard_link(&file, place.join("other")));
    not_supported(std::fs::OpenOptions::new().append(true).open(&file).map(drop));
    not_supported(std::fs::File::open(&file).unwrap().sync_all());

    disk.break_down(Requests::Changes, Fault::Error(Errno::ROFS.raw_os_error()));
    let refused = std::fs::write(place.join("new"), "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "in order");

    disk.break_down(Requests::Writes, Fault::Hang);
    let late = place.join("late");
    let writing = tokio::task::spawn_blocking(move || std::fs::write(late, "late"));
    tokio::time::timeout(Duration::from_secs(20), disk.wait_until_hanging(1)).await.unwrap();
    assert!(file.exists(), "reads are answered");
    disk.heal();
    writing.await.unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(backing.join("late")).unwrap(), "late");
}
