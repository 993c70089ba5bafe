use super::*;

#[tokio::test]
async fn an_undecodable_job_is_kept_byte_by_byte() {
    let dir = tempfile::tempdir().unwrap();
    for bytes in [b"\xff\xfe\0".as_slice(), b"other"] {
        set_aside(dir.path(), bytes, "test").await;
    }
    let mut kept: Vec<_> = std::fs::read_dir(dir.path().join("undecodable-jobs"))
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, [b"other".to_vec(), b"\xff\xfe\0".to_vec()]);
    // Where the payload cannot be kept, it is logged, and the worker goes on.
    set_aside(Path::new("/proc/no-such"), b"x", "test").await;
}

#[tokio::test]
async fn a_raw_file_is_removed_with_its_summary_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut names = ["a.json", "a_raw.json", "a_raw.mkv", "b_raw.json", "b_raw.mp4"];
    for name in names {
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    remove_raw(dir.path().join("a_raw.mkv")).await;
    remove_raw(dir.path().join("b_raw.mp4")).await;
    names.sort_unstable();
    let remaining: Vec<_> = names.into_iter().filter(|name| dir.path().join(name).exists()).collect();
    assert_eq!(remaining, ["a.json", "b_raw.json"]);
}
