//! The log file: a full file is renamed to a name with the time, and a new one is started; old files are removed by
//! number and age. The names are those of the reference's logger (`recorder-2026-08-01T10-00-00.000.log`), so its files
//! are removed as well.
//!
//! Nothing here panics or loses a line that could be written: if a file cannot be renamed, it grows.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Old files are also removed at this interval, because a quiet daemon does not fill its file for weeks.
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);

/// Limits of the log files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Size of a full file in bytes.
    pub size: u64,
    /// Number of old files that are kept, without the current one.
    pub backups: usize,
    /// Age of old files that are kept, since they were full.
    pub age: Duration,
}

#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    /// Size of the file in bytes.
    size: u64,
    limits: Limits,
    pruned: Instant,
}

impl RotatingFile {
    /// Opens `path` for appending; creates its directory if necessary.
    pub(super) fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)?;
        }
        let file = open_to_append(path)?;
        let size = file.metadata()?.len();
        let rotating = Self { path: path.to_owned(), file, size, limits, pruned: Instant::now() };
        rotating.prune(SystemTime::now())?;
        Ok(rotating)
    }

    fn rotate(&mut self, now: SystemTime) -> io::Result<()> {
        std::fs::rename(&self.path, self.free_name(now)?)?;
        self.file = open_to_append(&self.path)?;
        self.pruned = Instant::now();
        self.prune(now)
    }

    /// The name for a file that is full at `now`. It is later than all others, even where two files are full within a
    /// millisecond or the clock was set back: the order of names is the order of lines.
    fn free_name(&self, now: SystemTime) -> io::Result<PathBuf> {
        const STEP: Duration = Duration::from_millis(1);
        let (stem, extension) = self.name();
        let newest = self.backups()?.into_iter().next();
        let mut at = newest.map_or(now, |(newest, _)| now.max(newest + STEP));
        loop {
            let path = self.path.with_file_name(format!("{stem}-{}{extension}", format_time(at)));
            if !path.exists() {
                return Ok(path);
            }
            at += STEP;
        }
    }

    /// The file's name without its extension, and the extension with its dot.
    fn name(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = part(self.path.extension());
        let dot = if extension.is_empty() { "" } else { "." };
        (part(self.path.file_stem()), format!("{dot}{extension}"))
    }

    /// Removes old files by number and age.
    fn prune(&self, now: SystemTime) -> io::Result<()> {
        let oldest = now.checked_sub(self.limits.age);
        let mut result = Ok(());
        for (index, (at, path)) in self.backups()?.into_iter().enumerate() {
            if index >= self.limits.backups || oldest.is_some_and(|oldest| at < oldest) {
                result = result.and(std::fs::remove_file(path));
            }
        }
        result
    }

    /// The old files, newest first.
    fn backups(&self) -> io::Result<Vec<(SystemTime, PathBuf)>> {
        let (stem, extension) = self.name();
        let directory = self.path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let mut backups = Vec::new();
        for entry in std::fs::read_dir(directory.unwrap_or(Path::new(".")))? {
            let entry = entry?;
            let name = entry.file_name();
            let time =
                name.to_str().and_then(|name| name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&extension));
            if let Some(at) = time.and_then(parse_time) {
                backups.push((at, entry.path()));
            }
        }
        backups.sort_unstable_by(|a, b| b.cmp(a));
        Ok(backups)
    }
}

impl Write for RotatingFile {
    /// Writes one line, which is never split between two files.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let len = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let mut result = Ok(());
        if self.size > 0 && self.size.saturating_add(len) > self.limits.size {
            result = self.rotate(SystemTime::now());
            // Also after an error: the next rotation is tried after as many bytes again, not with every line.
            self.size = 0;
        } else if self.pruned.elapsed() >= PRUNE_EVERY {
            self.pruned = Instant::now();
            result = self.prune(SystemTime::now());
        }
        self.file.write_all(line)?;
        self.size = self.size.saturating_add(len);
        result.map(|()| line.len())
    }

    /// Syncs the file to disk.
    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Readable by owner and group only.
fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

/// UTC with milliseconds in characters that are allowed in file names: `2026-08-01T10-00-00.000`.
fn format_time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string().trim_end_matches('Z').replace(':', "-")
}

/// The inverse of [`format_time`].
fn parse_time(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once('T')?;
    let at = humantime::parse_rfc3339(&format!("{date}T{}Z", time.replace('-', ":"))).ok()?;
    (format_time(at) == text).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn limits(size: u64, backups: usize, age: Duration) -> Limits {
        Limits { size, backups, age }
    }

    fn names(directory: &Path) -> Vec<String> {
        let names =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn full_files_are_renamed_and_a_limited_number_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/deep/recorder.log");
        let mut file = RotatingFile::open(&path, limits(100, 2, DAY)).unwrap();
        for number in 0..50 {
            file.write_all(format!("line number {number:03}\n").as_bytes()).unwrap();
        }
        let names = names(path.parent().unwrap());
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names[0].starts_with("recorder-20") && names[2] == "recorder.log", "{names:?}");
        let mut text = String::new();
        for name in &names {
            let part = std::fs::read_to_string(path.with_file_name(name)).unwrap();
            assert!(part.len() <= 100 && part.ends_with('\n'), "{part:?}");
            text += &part;
        }
        let numbers: Vec<usize> = text.lines().map(|line| line[12..].parse().unwrap()).collect();
        assert_eq!(numbers, (50 - numbers.len()..50).collect::<Vec<_>>(), "the newest lines, in order");
    }

    #[test]
    fn an_existing_file_is_continued() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "0123456789\n").unwrap();
        let mut file = RotatingFile::open(&path, limits(20, 5, DAY)).unwrap();
        file.write_all(b"abc\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0123456789\nabc\n");
        file.write_all(b"0123456789\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0123456789\n");
        assert_eq!(names(directory.path()).len(), 2);
    }

    #[test]
    fn old_files_are_removed_at_start_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let name = |age: Duration| format!("recorder-{}.log", format_time(now - age));
        let (old, young) = (name(DAY * 3), name(DAY));
        let others = ["recorder-x.log", "recorder-2020-01-01T00-00-00.000.txt", "other-2020-01-01T00-00-00.000.log"];
        for name in others.iter().copied().chain([old.as_str(), young.as_str()]) {
            std::fs::write(directory.path().join(name), "x").unwrap();
        }
        let path = directory.path().join("recorder.log");
        drop(RotatingFile::open(&path, limits(100, 5, DAY * 2)).unwrap());
        let names = names(directory.path());
        assert!(!names.contains(&old) && names.contains(&young), "{names:?}");
        assert_eq!(names.len(), 5, "{names:?}");
        // Without limits nothing is removed.
        std::fs::write(directory.path().join(&old), "x").unwrap();
        drop(RotatingFile::open(&path, limits(100, usize::MAX, Duration::MAX)).unwrap());
        assert!(directory.path().join(&old).exists());
    }

    #[test]
    fn a_file_that_cannot_be_renamed_grows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/recorder.log");
        let mut file = RotatingFile::open(&path, limits(10, 2, DAY)).unwrap();
        file.write_all(b"12345678\n").unwrap();
        let aside = directory.path().join("moved");
        std::fs::rename(path.parent().unwrap(), &aside).unwrap();
        assert!(file.write_all(b"abcdefgh\n").is_err(), "the failure is told");
        assert_eq!(std::fs::read_to_string(aside.join("recorder.log")).unwrap(), "12345678\nabcdefgh\n");
    }

    #[test]
    fn times_in_names_are_read_back() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_785_578_400_042);
        assert_eq!(format_time(at), "2026-08-01T10-00-00.042");
        assert_eq!(parse_time("2026-08-01T10-00-00.042"), Some(at));
        for wrong in ["", "2026-08-01", "2026-08-01T10:00:00.042", "2026-08-01T10-00-00", "2026-13-01T10-00-00.042"] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }
}
