//! Writes `recorder.max_limit` into the configuration's file: the old file or the new one is there at any moment, with the
//! same mode and owner. A copy that a kill leaves beside it is removed by the next run, or by the daemon's start.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::config::{self, Config, Environment};
use crate::sizing::config_edit::{Edit, set_max_limit};
use crate::sizing::leftover_files;

/// Values that are no one's `max_limit`: one of them differs from any other.
const TRIAL: [u32; 2] = [998, 999];

/// Finds out before the measurement whether the file can be written.
///
/// # Errors
/// Why not, and what to do.
pub fn try_out(path: &Path) -> Result<(), String> {
    let number = |edit: &Edit| edit.old.clone();
    for value in TRIAL {
        let (path, edit) = edited(path, value)?;
        if number(&edit) != Some(value.to_string()) {
            return prepared(&path, &edit.text).map(|_| ()).map_err(|error| unwritable(&path, &error));
        }
    }
    Ok(())
}

/// Writes the number; returns the old one.
///
/// # Errors
/// Why not, and what to do; the file is unchanged then.
pub fn write(path: &Path, value: u32) -> Result<Option<String>, String> {
    let (path, edit) = edited(path, value)?;
    if edit.old.as_deref() == Some(&*value.to_string()) {
        return Ok(edit.old);
    }
    let replace = || {
        let file = prepared(&path, &edit.text)?;
        file.persist(&path).map_err(|error| error.error)?;
        File::open(parent(&path))?.sync_all()
    };
    replace().map_err(|error| unwritable(&path, &error))?;
    Ok(edit.old)
}

/// Removes the copies of the file that killed runs have left beside it: they hold its secrets. Returns those that cannot be
/// removed.
#[must_use]
pub fn remove_leftovers(path: &Path) -> Vec<PathBuf> {
    fs::canonicalize(path).map(|file| leftover_files::remove_leftovers(parent(&file))).unwrap_or_default()
}

fn unwritable(path: &Path, error: &io::Error) -> String {
    format!(
        "{} cannot be replaced: {error}; run this as its owner or root where its directory can be written, or without --write, \
         and set recorder.max_limit yourself",
        path.display()
    )
}

/// The file itself, where `path` is a link to it, and its text with the number. The configuration is the same but for it.
fn edited(path: &Path, value: u32) -> Result<(PathBuf, Edit), String> {
    let by_hand = |why: String| format!("{why}; run this without --write, and set recorder.max_limit yourself");
    let unreadable = |error: io::Error| by_hand(format!("{} cannot be read: {error}", path.display()));
    let file = fs::canonicalize(path).map_err(unreadable)?;
    let text = fs::read_to_string(&file).map_err(unreadable)?;
    let edit = set_max_limit(&text, value)
        .map_err(|error| by_hand(format!("{} cannot be changed by a program: {error}", file.display())))?;
    let parse = |text: &str| -> Result<Config, String> {
        let parsed = config::parse_in(text, &file.display().to_string(), &Environment::of_process());
        parsed.map(|loaded| loaded.config).map_err(|problems| problems.to_string())
    };
    let (mut before, after) = (parse(&text)?, parse(&edit.text).map_err(by_hand)?);
    before.recorder.max_limit = value;
    if before != after {
        return Err(by_hand(format!("{} would mean something else than before", file.display())));
    }
    Ok((file, edit))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// A file beside `path` with its mode and owner, complete on the disk. Removed when dropped.
fn prepared(path: &Path, text: &str) -> io::Result<NamedTempFile> {
    let old = fs::metadata(path)?;
    // It holds secrets: nobody else may read it before it has its mode.
    let mut file = tempfile::Builder::new()
        .prefix(&leftover_files::prefix())
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(parent(path))?;
    // So that no other container takes it for a leftover. Some file systems have no locks.
    let _ = file.as_file().try_lock();
    file.write_all(text.as_bytes())?;
    let new = file.as_file().metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
    }
    file.as_file().set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const CONFIG: &str = "# Ours.\nrecorder:\n  id: a\n  max_limit: 10 # as told\n  copy_to_path: {main_path: /tmp}\n\
                          plugNmeet_info:\n  host: http://localhost\n  api_key: k\n  api_secret: a-secret-that-is-long-enough-for-it\n\
                          nats_info:\n  nats_urls: [\"nats://127.0.0.1\"]\n";

    #[test]
    fn the_file_behind_a_link_is_replaced_with_its_mode_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real.yaml"), dir.path().join("config.yaml"));
        fs::write(&file, CONFIG).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        symlink("real.yaml", &link).unwrap();
        try_out(&link).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), CONFIG);
        assert_eq!(write(&link, 4).unwrap().as_deref(), Some("10"));
        let expected = CONFIG.replace("10 # as", "4 # was 10 (plugnmeet-recorder size); as");
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(write(&link, 4).unwrap().as_deref(), Some("4"));
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_a_program_cannot_change_is_told_before_the_measurement() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        let flow = CONFIG.replace(
            "recorder:\n  id: a\n  max_limit: 10 # as told\n  copy_to_path: {main_path: /tmp}\n",
            "recorder: {id: a, copy_to_path: {main_path: /tmp}}\n",
        );
        assert_ne!(flow, CONFIG);
        fs::write(&file, &flow).unwrap();
        let why = try_out(&file).unwrap_err();
        assert!(why.contains("cannot be changed by a program") && why.contains("without --write"), "{why}");
        assert!(write(&file, 4).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), flow);
        let missing = try_out(&dir.path().join("no.yaml")).unwrap_err();
        assert!(missing.contains("cannot be read"), "{missing}");
    }
}
