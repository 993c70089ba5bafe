//! The output of `record`, and the directory of its raw file.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;
use url::Url;

/// Name of the raw file in its directory.
const RAW: &str = "raw.mkv";
/// Name of the unfinished MP4 in the same directory.
const PART: &str = "unfinished.mp4";
/// Characters of a name that is made from an address.
const NAME_LENGTH: usize = 60;

/// The files of a recording.
#[derive(Debug)]
pub struct OutputFiles {
    /// The MP4; `None`: none is made.
    pub mp4: Option<PathBuf>,
    /// Holds the raw file while it grows; removed with this, unless it is kept.
    dir: TempDir,
}

impl OutputFiles {
    /// Makes the directory of the raw file beside the output, whose file system is known to take files then.
    ///
    /// # Errors
    /// Why nothing can be written there, and what to do.
    pub fn prepare(mp4: PathBuf, force: bool) -> Result<Self, String> {
        if mp4.is_dir() {
            return Err(format!("{} is a directory; name a file in it", mp4.display()));
        }
        if !force && mp4.symlink_metadata().is_ok() {
            return Err(format!("{} is there already; name another file, or replace it with --force", mp4.display()));
        }
        let dir = make_dir(&name_of(&mp4)?, &directory(&mp4))?;
        Ok(Self { mp4: Some(mp4), dir })
    }

    /// Has the raw file in this directory instead; see [`raw_directory`].
    pub fn move_raw(&mut self, dir: TempDir) {
        self.dir = dir;
    }

    /// The same where no MP4 is made, in this directory.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn without_mp4(name: &Path, dir: &Path) -> Result<Self, String> {
        let made = make_dir(&name.to_string_lossy(), dir);
        made.map(|dir| Self { mp4: None, dir }).map_err(|error| format!("{error} --temp DIR names another place"))
    }

    #[must_use]
    pub fn raw(&self) -> PathBuf {
        self.dir.path().join(RAW)
    }

    #[must_use]
    pub fn part(&self) -> PathBuf {
        self.dir.path().join(PART)
    }

    /// A picture of a page that failed; it is removed with the directory.
    #[must_use]
    pub fn screenshot(&self) -> PathBuf {
        self.dir.path().join("page.png")
    }

    /// Chrome's certificates; removed with the directory.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.dir.path().join("certificates")
    }

    /// Keeps the raw file, if there is one; its path.
    #[must_use]
    pub fn keep_raw(self) -> Option<PathBuf> {
        let raw = self.raw();
        // What else is in the directory is of no use.
        for useless in [self.part(), self.screenshot()] {
            let _ = std::fs::remove_file(useless);
        }
        let _ = std::fs::remove_dir_all(self.certificates());
        if !raw.metadata().is_ok_and(|file| file.len() > 0) {
            return None;
        }
        let dir = self.dir.keep();
        Some(dir.join(RAW))
    }
}

/// Makes the directory of the raw file of this output in `temp`.
///
/// # Errors
/// Why nothing can be written there, and what to do.
pub fn raw_directory(mp4: &Path, temp: &Path) -> Result<TempDir, String> {
    make_dir(&name_of(mp4)?, temp)
}

fn name_of(mp4: &Path) -> Result<String, String> {
    let name = mp4.file_name().ok_or_else(|| format!("{} names no file", mp4.display()))?;
    Ok(name.to_string_lossy().into_owned())
}

/// The directory of the output.
#[must_use]
pub fn directory(mp4: &Path) -> PathBuf {
    mp4.parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .map_or_else(|| std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")), Path::to_owned)
}

/// Makes the directory of a raw file.
fn make_dir(name: &str, dir: &Path) -> Result<TempDir, String> {
    // The page may be private.
    let private = std::fs::Permissions::from_mode(0o700);
    let mut builder = tempfile::Builder::new();
    let made = builder.prefix(&format!("{}.recording-", cut(name))).permissions(private).tempdir_in(dir);
    made.map_err(|error| {
        format!("nothing can be written into {}: {error}; is it there, and are you allowed to?", dir.display())
    })
}

/// As much of a name as leaves room for more.
fn cut(name: &str) -> String {
    name.chars().take(NAME_LENGTH).collect()
}

/// The name of an output that has none: host and time, UTC.
#[must_use]
pub fn default_name(url: &Url, now: SystemTime, sound_only: bool) -> PathBuf {
    let host = url.host_str().or_else(|| url.path_segments()?.next_back()).unwrap_or_default();
    let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let host = host.trim_matches(['-', '.']);
    let host = if host.is_empty() { "page" } else { host };
    let time: String =
        humantime::format_rfc3339_seconds(now).to_string().chars().filter(|c| !"-:".contains(*c)).collect();
    let extension = if sound_only { "m4a" } else { "mp4" };
    PathBuf::from(format!("{}-{time}.{extension}", cut(host)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn an_existing_output_is_refused_unless_it_may_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let mp4 = dir.path().join("a.mp4");
        fs::write(&mp4, "x").unwrap();
        assert!(OutputFiles::prepare(mp4.clone(), false).unwrap_err().contains("--force"));
        let files = OutputFiles::prepare(mp4, true).unwrap();
        assert!(files.raw().starts_with(dir.path()), "beside the output");
        drop(files);
        assert!(OutputFiles::prepare(dir.path().to_owned(), true).unwrap_err().contains("is a directory"));
        let missing = OutputFiles::prepare(dir.path().join("missing/a.mp4"), false).unwrap_err();
        assert!(missing.contains("missing") && missing.contains("is it there"), "{missing}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn only_a_raw_file_with_content_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("disk");
        fs::create_dir(&other).unwrap();
        let prepare = || {
            let mp4 = dir.path().join("a.mp4");
            let mut files = OutputFiles::prepare(mp4.clone(), false).unwrap();
            files.move_raw(raw_directory(&mp4, &other).unwrap());
            files
        };
        assert_eq!(prepare().keep_raw(), None);
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
        let files = prepare();
        fs::write(files.raw(), "x").unwrap();
        fs::write(files.part(), "y").unwrap();
        let raw = files.keep_raw().unwrap();
        assert!(raw.starts_with(&other) && raw.ends_with(RAW), "{}", raw.display());
        assert_eq!(fs::read_dir(raw.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside the output");
    }

    #[test]
    fn a_default_name_tells_host_and_time() {
        let name = |url: &str, sound_only| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_219_900);
            default_name(&Url::parse(url).unwrap(), now, sound_only).display().to_string()
        };
        assert_eq!(name("https://example.org/a?b", false), "example.org-20251127T050500Z.mp4");
        assert_eq!(name("http://[::1]:80/", true), "1-20251127T050500Z.m4a");
        assert_eq!(name("file:///tmp/a b.html", false), "a-20b.html-20251127T050500Z.mp4");
    }
}
