//! The MP4 that is written while a meeting runs: it is the one that the job would make, and whatever goes wrong with it
//! costs time only.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use plugnmeet_recorder::media::early_mp4::EarlyMp4;
use plugnmeet_recorder::recording::early_copy::{EarlyCopies, EarlyCopy};
use plugnmeet_recorder::recording::raw_file::RawFile;
use plugnmeet_recorder::storage::main_path;
use plugnmeet_recorder::storage::placement::{self, IfExists, PlaceMethod};
use rustix::process::{Pid, Signal, kill_process};

use super::once::{assert_plays, raw_encoded_once};
use super::*;
use crate::logs::Logs;
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};

/// How its MP4 came to be, as the log tells.
const CHECKED: &str = "how=\"early\"";
const MADE: &str = "how=\"finish\"";
const UNUSABLE: &str = "PNR-0537";

/// What becomes of a recording's files before its job.
type Damage = fn(&Growing);

/// A recording that runs: its raw file grows.
struct Growing {
    node: Node,
    raw: RawFile,
    part: fs::File,
    early: Option<EarlyCopy>,
}

impl Growing {
    /// `from`: the size from which on its MP4 is written.
    fn start(from: u64) -> Self {
        Self::start_in(None, from)
    }

    /// The same, with another `temporary_dir`.
    fn start_in(temporary_dir: Option<&Path>, from: u64) -> Self {
        let options = FfmpegOptions::post_recording(None);
        let node = Node::with_options(true, &options.post_input.join(" "));
        let Node { settings, .. } = &node;
        let temporary_dir = temporary_dir.unwrap_or(&settings.temporary_dir);
        fs::create_dir_all(temporary_dir).unwrap();
        let (recording, room) = (RecordingId::parse("rec-1").unwrap(), RoomId::parse("room01").unwrap());
        let raw = RawFile::new(temporary_dir, &settings.main_path, Path::new("node_01"), &recording, &room).unwrap();
        let path = raw.part(&raw.part_name(1));
        let part = fs::File::create(&path).unwrap();
        let early = EarlyCopies::from_size(&options, from).unwrap().start(&raw, path);
        Self { node, raw, part, early }
    }

    fn grow(&mut self, bytes: &[u8]) {
        self.part.write_all(bytes).unwrap();
    }

    /// The meeting is over: the raw file comes into its place.
    async fn end(&mut self) {
        let early = self.early.take().unwrap();
        early.part_is_complete();
        fs::rename(self.raw.part(&self.raw.part_name(1)), self.raw.place()).unwrap();
        early.finish(&self.raw).await;
    }

    /// Waits until there is no early MP4.
    async fn removed(&self) {
        while self.early().mp4.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn early(&self) -> EarlyMp4 {
        EarlyMp4::of(&self.raw.place())
    }

    /// Runs the job; its log.
    async fn job(&self, logs: &Logs) -> String {
        let before = logs.text().len();
        let outcome = self.node.run(&job_for(&self.node.room(), "rec-1_raw.mkv"), 1).await;
        assert_eq!(outcome, remove(&self.raw.place()));
        self.node.assert_told_success();
        logs.text().split_off(before)
    }

    /// The ffmpeg that writes the MP4, once there is one.
    async fn copying(&self) -> Pid {
        self.copying_but(None).await
    }

    /// The same, when it is not this one.
    async fn copying_but(&self, other: Option<Pid>) -> Pid {
        let output = self.early().mp4.display().to_string();
        loop {
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
                let words = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
                if words.starts_with("ffmpeg") && words.contains(&output) && Pid::from_raw(pid) != other {
                    return Pid::from_raw(pid).unwrap();
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The raw file of a meeting.
fn meeting(seconds: u32, fps: u32) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("whole.mkv");
    raw_encoded_once(&raw, seconds, fps);
    fs::read(raw).unwrap()
}

#[tokio::test]
async fn an_mp4_that_was_written_while_the_meeting_ran_is_the_one_that_its_job_would_make() {
    let (logs, bytes) = (Logs::capture(), meeting(20, 100));
    let packets = |node: &Node| {
        let list =
            ["-v", "error", "-show_entries", "packet=stream_index,pts_time,dts_time,size,flags", "-of", "csv=p=0"];
        let ffprobe = Command::new("ffprobe").args(list).arg(node.mp4()).output().unwrap();
        assert!(ffprobe.status.success());
        String::from_utf8(ffprobe.stdout).unwrap()
    };
    // Begun when most of it is there, and when so little is that the index gets too little room at first.
    let mut made = Vec::new();
    for (case, at, anew) in [("late", bytes.len() / 2, false), ("early", bytes.len() / 20, true)] {
        let mut meeting = Growing::start(at as u64);
        let before = logs.text().len();
        meeting.grow(&bytes[..at]);
        let first = meeting.copying().await;
        for piece in bytes[at..].chunks(64 << 10) {
            meeting.grow(piece);
            tokio::task::yield_now().await;
        }
        if anew {
            meeting.copying_but(Some(first)).await;
        }
        meeting.end().await;
        let log = logs.text().split_off(before);
        assert_eq!(log.contains("writing that anew, with more"), anew, "{case}: {log}");
        meeting.node.assert_holds(&[".rec-1_raw.mkv.early.json", ".rec-1_raw.mkv.early.mp4", "rec-1_raw.mkv"]);
        let log = meeting.job(&logs).await;
        assert!(log.contains(CHECKED) && !log.contains(MADE) && !log.contains("PNR-"), "{case}: {log}");
        assert_plays(&meeting.node.mp4(), 20.0, case);
        let mp4 = fs::read(meeting.node.mp4()).unwrap();
        let at = |name: &[u8]| mp4.windows(4).position(|word| word == name);
        assert!(at(b"moov").unwrap() < at(b"mdat").unwrap(), "{case}: its index is in front of its media");
        made.push(packets(&meeting.node));
    }
    // Where there is none, the job makes it.
    let mut meeting = Growing::start(u64::MAX);
    meeting.grow(&bytes);
    meeting.end().await;
    meeting.node.assert_holds(&["rec-1_raw.mkv"]);
    assert!(meeting.job(&logs).await.contains(MADE));
    let job = packets(&meeting.node);
    assert!(made.iter().all(|early| *early == job), "the packets differ");
}

#[tokio::test]
async fn an_mp4_that_is_not_there_in_time_or_of_another_file_is_made_by_the_job() {
    let (logs, bytes) = (Logs::capture(), meeting(12, 25));
    let half = bytes.len() / 2;
    for case in ["hangs", "killed", "cut", "little", "dropped"] {
        let mut meeting = Growing::start(half as u64);
        meeting.grow(&bytes[..half]);
        let copying = meeting.copying().await;
        let before = logs.text().len();
        let mut why = match case {
            "hangs" => {
                kill_process(copying, Signal::STOP).unwrap();
                "it was not there 15 s after the end"
            }
            "killed" => {
                kill_process(copying, Signal::KILL).unwrap();
                "ffmpeg failed (signal 9)"
            }
            // As where the page had left the meeting before that was noticed.
            "cut" => "the raw file is not the one that was copied",
            _ => "",
        };
        meeting.grow(&bytes[half..]);
        match case {
            "cut" => {
                let part = meeting.raw.part(&meeting.raw.part_name(1));
                copied(&meeting, bytes.len()).await;
                let shorter = part.with_extension("cut");
                ffmpeg(&format!("-i {} -map 0 -c copy -t 8 -f matroska", part.display()), &shorter);
                fs::rename(shorter, part).unwrap();
                meeting.end().await;
            }
            // The recording goes on in another part.
            "dropped" => {
                meeting.early = None;
                why = "";
                let part = meeting.raw.part(&meeting.raw.part_name(1));
                fs::rename(part, meeting.raw.place()).unwrap();
                meeting.removed().await;
            }
            _ => meeting.end().await,
        }
        let log = logs.text().split_off(before);
        if !why.is_empty() {
            assert!(log.contains(why) && log.contains("but afterwards"), "{case}: {log}");
            meeting.node.assert_holds(&["rec-1_raw.mkv"]);
        }
        let log = meeting.job(&logs).await;
        let (expected, lasts) =
            if case == "little" { (CHECKED, 12.0) } else { (MADE, if case == "cut" { 8.0 } else { 12.0 }) };
        assert!(log.contains(expected), "{case}: {log}");
        assert_plays(&meeting.node.mp4(), lasts, case);
    }
}

/// Waits until the copy holds nearly all that is in the raw file.
async fn copied(meeting: &Growing, bytes: usize) {
    let whole = bytes as u64;
    // Without the sound as it was captured, the MP4 is a part of it.
    while fs::metadata(meeting.early().mp4).map_or(0, |file| file.len()) * 8 < whole {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_mp4_that_was_changed_since_or_lost_its_bytes_is_made_again() {
    let (logs, bytes) = (Logs::capture(), meeting(12, 25));
    let cases: [(&str, Damage, &[&str]); 6] = [
        ("none", |_| {}, &[CHECKED]),
        // A hook has touched it.
        (
            "raw",
            |meeting| fs::File::open(meeting.raw.place()).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap(),
            &[MADE],
        ),
        (
            "shorter",
            |meeting| fs::File::options().write(true).open(meeting.early().mp4).unwrap().set_len(9999).unwrap(),
            &[MADE],
        ),
        // A disk that has lost its beginning.
        ("zeros", |meeting| zero(&meeting.early().mp4, 0), &[CHECKED, UNUSABLE, MADE]),
        ("media", |meeting| zero(&meeting.early().mp4, first_frame(&meeting.early().mp4)), &[CHECKED, UNUSABLE, MADE]),
        ("note", |meeting| fs::write(meeting.early().note, "{").unwrap(), &[MADE]),
    ];
    for (case, damage, expected) in cases {
        let mut meeting = Growing::start(1);
        meeting.grow(&bytes);
        meeting.copying().await;
        meeting.end().await;
        assert!(meeting.early().note.exists(), "{case}");
        damage(&meeting);
        let log = meeting.job(&logs).await;
        let found: Vec<_> = [CHECKED, UNUSABLE, MADE].into_iter().filter(|words| log.contains(words)).collect();
        assert_eq!(found, expected, "{case}: {log}");
        assert_plays(&meeting.node.mp4(), 12.0, case);
    }
}

/// Where the media of an MP4 begin.
fn first_frame(mp4: &Path) -> u64 {
    let bytes = fs::read(mp4).unwrap();
    bytes.windows(4).position(|word| word == b"mdat").unwrap() as u64
}

/// Overwrites 60 kB.
fn zero(path: &Path, from: u64) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; 60_000], from).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_as_the_mp4_is_taken_costs_only_time() {
    let (logs, bytes) = (Logs::capture(), meeting(12, 25));
    let mut meeting = Growing::start(1);
    meeting.grow(&bytes);
    meeting.copying().await;
    meeting.end().await;
    let (main_path, backing) = (meeting.node.settings.main_path.clone(), meeting.node.dir.path().join("backing"));
    fs::rename(&main_path, &backing).unwrap();
    let disk = FaultyFs::mount(&backing, &main_path, Abilities::ALL);
    disk.break_down(Requests::Changes, Fault::Hang);
    // Longer than the note is waited for.
    let heal = async {
        disk.wait_until_hanging(1).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        disk.heal();
    };
    let (log, ()) = tokio::join!(meeting.job(&logs), heal);
    assert!(log.contains(CHECKED) && !log.contains(MADE), "{log}");
    assert_plays(&meeting.node.mp4(), 12.0, "after a hang");
    meeting.node.assert_holds(&[".rec-1_raw.mkv.early.json", "rec-1.mp4", "rec-1_raw.mkv"]);
    drop(disk);
}

#[tokio::test]
async fn nothing_is_written_where_main_path_is_not_mounted_any_more() {
    let (logs, bytes) = (Logs::capture(), meeting(4, 25));
    let mut meeting = Growing::start(u64::MAX);
    let (main_path, elsewhere) = (meeting.node.settings.main_path.clone(), meeting.node.dir.path().join("elsewhere"));
    let store = MainPath::new(&main_path, &meeting.node.settings.state_dir);
    main_path::first_look(&store).await;
    assert_eq!(store.status().fault, None);
    // The mount point of a share that is gone.
    fs::rename(&main_path, &elsewhere).unwrap();
    fs::create_dir(&main_path).unwrap();
    let raw = meeting.raw.clone().in_store(&store);
    meeting.grow(&bytes);
    let part = raw.part(&raw.part_name(1));
    let early = EarlyCopies::from_size(&FfmpegOptions::post_recording(None), 1).unwrap().start(&raw, part).unwrap();
    while !logs.text().contains("is not the file system that it was") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    early.finish(&raw).await;
    assert_eq!(names(&main_path), [] as [String; 0], "{}", logs.text());
}

#[tokio::test]
async fn a_node_with_other_options_makes_its_own_mp4() {
    let (logs, bytes) = (Logs::capture(), meeting(12, 25));
    for options in ["-c:v libx264 -preset ultrafast -c:a aac", "-movflags +faststart+write_colr"] {
        let mut meeting = Growing::start(1);
        meeting.grow(&bytes);
        meeting.copying().await;
        meeting.end().await;
        let theirs = FfmpegOptions::post_recording(None).post_input.join(" ");
        let line = if options.starts_with("-c:v") { options.to_owned() } else { format!("{theirs} {options}") };
        meeting.node.settings.ffmpeg.post_input = line.split_whitespace().map(str::to_owned).collect();
        let log = meeting.job(&logs).await;
        assert!(log.contains("has other options than this node's") && !log.contains(CHECKED), "{options}: {log}");
        meeting.node.assert_holds(&[".rec-1_raw.mkv.early.json", "rec-1.mp4", "rec-1_raw.mkv"]);
    }
}

#[tokio::test]
async fn a_raw_file_that_must_be_copied_to_another_file_system_is_copied_there_while_it_grows() {
    let bytes = meeting(20, 100);
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let half = bytes.len() / 2;
    let mut meeting = Growing::start_in(Some(memory.path()), 1);
    meeting.grow(&bytes[..half]);
    meeting.copying().await;
    let ahead = meeting.raw.place().with_file_name(".rec-1_raw.mkv.ahead");
    while fs::metadata(&ahead).map_or(0, |file| file.len()) + (128 << 10) < half as u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let inode = fs::metadata(&ahead).unwrap().ino();
    meeting.grow(&bytes[half..]);
    // The header, with the duration, is written last.
    let mut whole = bytes.clone();
    whole[300] ^= 1;
    let part = meeting.raw.part(&meeting.raw.part_name(1));
    let mut early = meeting.early.take().unwrap();
    let copied = early.raw_ahead().await;
    fs::write(&part, &whole).unwrap();
    let (store, place) = (meeting.raw.store(), meeting.raw.place());
    let placed = placement::place_ahead(store, &part, &place, IfExists::Refuse, copied).await.unwrap();
    assert_eq!(placed, PlaceMethod::Copied);
    assert!(fs::read(&place).unwrap() == whole, "the raw file is another one");
    assert_eq!(fs::metadata(&place).unwrap().ino(), inode, "it was copied once more");
    drop(early);
    meeting.removed().await;
    meeting.node.assert_holds(&["rec-1_raw.mkv"]);
    assert_eq!(names(memory.path()), [] as [String; 0]);
}
