//! The output of `record`, and the directory of its raw file.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;
use url::Url;

use crate::page_recording::disk;

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
    /// The directory that holds the raw file while it grows.
    path: PathBuf,
    /// The same, until it is removed or kept.
    dir: Option<TempDir>,
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
        Ok(Self::new(Some(mp4), dir))
    }

    /// The same with the raw file in `temp`, after [`Self::prepare`]: that has found the output's directory in order.
    ///
    /// # Errors
    /// Why nothing can be written there, and what to do.
    pub fn in_temp(mp4: PathBuf, temp: &Path) -> Result<Self, String> {
        let dir = make_dir(&name_of(&mp4)?, temp)?;
        Ok(Self::new(Some(mp4), dir))
    }

    fn new(mp4: Option<PathBuf>, dir: TempDir) -> Self {
        Self { mp4, path: dir.path().to_owned(), dir: Some(dir) }
    }

    /// The same where no MP4 is made, in this directory.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn without_mp4(name: &Path, dir: &Path) -> Result<Self, String> {
        let made = make_dir(&name.to_string_lossy(), dir);
        made.map(|dir| Self::new(None, dir)).map_err(|error| format!("{error} --temp DIR names another place"))
    }

    #[must_use]
    pub fn raw(&self) -> PathBuf {
        self.path.join(RAW)
    }

    #[must_use]
    pub fn part(&self) -> PathBuf {
        self.path.join(PART)
    }

    /// A picture of a page that failed; it is removed with the directory.
    #[must_use]
    pub fn screenshot(&self) -> PathBuf {
        self.path.join("page.png")
    }

    /// Chrome's certificates; removed with the directory.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.path.join("certificates")
    }

    /// Keeps the raw file, if there is one: its path, and where its disk does not answer, why it may hold more or less.
    pub async fn keep_raw(&mut self) -> (Option<PathBuf>, Option<String>) {
        let Some(dir) = self.dir.take() else { return (None, None) };
        let (raw, useless) = (self.raw(), [self.part(), self.screenshot()]);
        let (certificates, looked_at) = (self.certificates(), raw.clone());
        let kept = disk::end(&self.path, move || {
            // What else is in the directory is of no use.
            for file in useless {
                let _ = std::fs::remove_file(file);
            }
            let _ = std::fs::remove_dir_all(certificates);
            if looked_at.metadata().is_ok_and(|file| file.len() > 0) { Some(dir.keep()) } else { None }
        });
        match kept.await {
            Ok(kept) => (kept.map(|_| raw), None),
            Err(why) => (Some(raw), Some(why)),
        }
    }

    /// Removes the directory with the raw file, unless that is kept.
    ///
    /// # Errors
    /// Why it is left there, and what to do.
    pub async fn remove(&mut self) -> Result<(), String> {
        let Some(dir) = self.dir.take() else { return Ok(()) };
        let remove = move || match dir.close() {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        };
        let removed = disk::end(&self.path, remove).await;
        removed.flatten().map_err(|why| {
            let dir = self.path.display();
            format!(
                "the directory of the raw file is left there: {why}; remove it when its disk is well: rm -r '{dir}'"
            )
        })
    }
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

    #[tokio::test]
    async fn only_a_raw_file_with_content_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("disk");
        fs::create_dir(&other).unwrap();
        let prepare = || OutputFiles::in_temp(dir.path().join("a.mp4"), &other).unwrap();
        assert_eq!(prepare().keep_raw().await, (None, None));
        assert_eq!(prepare().remove().await, Ok(()));
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
        let mut files = prepare();
        fs::write(files.raw(), "x").unwrap();
        fs::write(files.part(), "y").unwrap();
        let (raw, why) = files.keep_raw().await;
        let raw = raw.unwrap();
        assert_eq!((why, files.remove().await), (None, Ok(())), "what is kept is not removed");
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
