//! The directories of a node: there, writable, with space, on what file systems. Nothing is made: what the recorder
//! makes at its start is only looked for.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, StatVfsMountFlags};

use crate::check::report::{Finding, Verdict};
use crate::config::{Config, RecorderConfig};
use crate::storage::disk_space::{self, DiskLevel};
use crate::storage::file_system::{self, FileSystemKind};
use crate::storage::{detached, directory_check, lock, main_path, state_version};

/// Time limit for the answer of a disk or share.
const LIMIT: Duration = Duration::from_secs(6);

/// Time limit for reading what is known of `main_path`.
const MEMORY_LIMIT: Duration = Duration::from_secs(2);
const MAIN_PATH: &str = "main_path";

/// All of them. Each is looked at on a thread of its own, which a share that hangs holds for as long as it hangs.
pub async fn check(config: &Config) -> Vec<Finding> {
    let recorder = &config.recorder;
    let (state_dir, temporary_dir, main_path, one_file_system, running) = tokio::join!(
        look("state_dir", recorder, &recorder.state_dir, state_dir),
        look("temporary_dir", recorder, &recorder.temporary_dir, temporary_dir),
        main_path(recorder),
        look("file systems", recorder, &recorder.main_path, file_systems),
        look("recorder", recorder, &recorder.state_dir, running),
    );
    // The lines of the directories themselves say it.
    let [one_file_system, running] = [one_file_system, running].map(|finding| match finding.verdict {
        Verdict::Fault => Finding::skipped(finding.check, "a disk does not answer"),
        _ => finding,
    });
    vec![running, state_dir, temporary_dir, main_path, one_file_system]
}

async fn look(
    name: &'static str,
    recorder: &RecorderConfig,
    dir: &Path,
    at: impl FnOnce(&RecorderConfig) -> Finding + Send + 'static,
) -> Finding {
    let (recorder, dir) = (recorder.clone(), dir.to_owned());
    match tokio::time::timeout(LIMIT, detached::start("check-directory", move || at(&recorder))).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(_)) => Finding::fault(name, "no thread could be started to look at it"),
        Err(_) => Finding::fault(
            name,
            format!(
                "{} does not answer within {} s: its disk or share hangs, look at its mount (for one that is dead, umount -l)",
                dir.display(),
                LIMIT.as_secs()
            ),
        ),
    }
}

/// The directory itself, or the nearest of its parents that is there.
fn there(dir: &Path) -> PathBuf {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Whether files can be made in it, or where it is missing, whether it can be made.
fn unwritable(dir: &Path) -> Option<String> {
    let error = if dir.is_dir() {
        directory_check::write_byte(dir).err()?
    } else {
        rustix::fs::access(there(dir), Access::WRITE_OK | Access::EXEC_OK).err()?.into()
    };
    Some(format!(
        "cannot write to {}: {error}; create it, mount it, or give it to the user this runs as",
        dir.display()
    ))
}

/// `4.8 GiB of 250 GiB free`, or what is to be said where that is too little.
fn space(name: &'static str, recorder: &RecorderConfig, dir: &Path) -> Result<String, String> {
    let space = disk_space::free(dir).map_err(|error| format!("its space cannot be asked for: {error}"))?;
    let reserve = recorder.min_free_space;
    let level = disk_space::judge(space, reserve, DiskLevel::Enough);
    let reason = disk_space::reason(name, dir, space, reserve, level);
    let text = reason.strip_prefix(name).unwrap_or(&reason).trim_start().to_owned();
    if level == DiskLevel::Enough { Ok(text) } else { Err(format!("{text}; free some, or lower the reserve")) }
}

fn suffix(dir: &Path) -> &'static str {
    if dir.is_dir() { "" } else { " (made at the start)" }
}

fn running(recorder: &RecorderConfig) -> Finding {
    Finding::ok(
        "recorder",
        lock::holder(&recorder.state_dir).map_or_else(
            || "none runs with this configuration".to_owned(),
            |holder| format!("one runs with this configuration ({holder}), and is not disturbed"),
        ),
    )
}

fn state_dir(recorder: &RecorderConfig) -> Finding {
    const NAME: &str = "state_dir";
    let dir = &recorder.state_dir;
    if let Err(error) = state_version::check(dir) {
        return Finding::fault(NAME, error.to_string());
    }
    if let Some(why) = unwritable(dir) {
        return Finding::fault(NAME, why);
    }
    let what = "set recorder.state_dir to a directory of a local disk that outlives a restart";
    match file_system::kind(dir) {
        Ok(FileSystemKind::Local) => Finding::ok(NAME, format!("{}{}, on a local disk", dir.display(), suffix(dir))),
        Ok(FileSystemKind::Remote(kind)) => Finding::warning(
            NAME,
            format!("{} is on {kind}, and while that hangs this node takes no work: {what}", dir.display()),
        ),
        Ok(FileSystemKind::Volatile(kind)) => Finding::warning(
            NAME,
            format!(
                "{} is on {kind}, and with it ends what this node knows of running recordings: {what}",
                dir.display()
            ),
        ),
        Err(error) => Finding::warning(NAME, format!("{}: its file system cannot be asked: {error}", dir.display())),
    }
}

fn temporary_dir(recorder: &RecorderConfig) -> Finding {
    const NAME: &str = "temporary_dir";
    let dir = &recorder.temporary_dir;
    if let Some(why) = unwritable(dir) {
        return Finding::fault(NAME, why);
    }
    let space = match space(NAME, recorder, dir) {
        Ok(space) => format!("{space}{}", suffix(dir)),
        Err(why) => return Finding::fault(NAME, why),
    };
    match file_system::kind(dir) {
        Ok(FileSystemKind::Remote(kind)) => Finding::warning(
            NAME,
            format!("{space}, on {kind}: a share that hangs costs the recordings their picture; use a local disk"),
        ),
        Ok(FileSystemKind::Volatile(kind @ ("tmpfs" | "ramfs"))) => Finding::warning(
            NAME,
            format!("{space}, on {kind}: recordings take memory, and are lost with the host; use a disk"),
        ),
        _ => Finding::ok(NAME, space),
    }
}

async fn main_path(recorder: &RecorderConfig) -> Finding {
    // Where the disk of the state directory hangs, it says nothing of this one.
    let (dir, state_dir) = (recorder.main_path.clone(), recorder.state_dir.clone());
    let known = detached::start("check-memory", move || main_path::is_remembered(&dir, &state_dir));
    let known = matches!(tokio::time::timeout(MEMORY_LIMIT, known).await, Ok(Ok(true)));
    look(MAIN_PATH, recorder, &recorder.main_path, move |recorder| at_main_path(recorder, known)).await
}

fn at_main_path(recorder: &RecorderConfig, known: bool) -> Finding {
    const NAME: &str = MAIN_PATH;
    let dir = &recorder.main_path;
    if !dir.exists() {
        return match unwritable(dir) {
            _ if known => Finding::fault(NAME, format!("{} is not there: mount it", dir.display())),
            Some(why) => Finding::fault(NAME, why),
            None => Finding::warning(
                NAME,
                format!("{} is not there, and is made at the start: should it have been mounted?", dir.display()),
            ),
        };
    }
    if known && main_path::is_other(dir, &recorder.state_dir).unwrap_or(false) {
        return Finding::fault(
            NAME,
            format!(
                "{} is not the file system that this node knows: mount that one, or remove {} if this one is to be used",
                dir.display(),
                recorder.state_dir.join(main_path::MEMORY).display()
            ),
        );
    }
    if rustix::fs::statvfs(dir).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Finding::fault(NAME, format!("{} is mounted read-only: mount it rw", dir.display()));
    }
    let sub_dir = dir.join(&recorder.sub_path);
    let tried = main_path::try_out(dir).and_then(|abilities| {
        if sub_dir != *dir && sub_dir.is_dir() { main_path::try_out(&sub_dir) } else { Ok(abilities) }
    });
    let abilities = match tried {
        Ok(abilities) => abilities,
        Err(error) => {
            let what = "give it to the user this runs as, or repair its share";
            return Finding::fault(NAME, format!("cannot write to {}: {error}; {what}", sub_dir.display()));
        }
    };
    match (space(NAME, recorder, dir), abilities.missing()) {
        (Err(why), _) => Finding::fault(NAME, why),
        (Ok(space), None) => Finding::ok(NAME, space),
        (Ok(space), Some(missing)) if recorder.temporary_dir.starts_with(dir) => Finding::fault(
            NAME,
            format!("{space}; it cannot do {missing}, which recordings need: set temporary_dir to a local disk"),
        ),
        (Ok(space), Some(missing)) => Finding::warning(
            NAME,
            format!("{space}; it cannot do {missing}: MP4s are made in temporary_dir and then copied"),
        ),
    }
}

/// Whether a recording is renamed into its place or copied.
fn file_systems(recorder: &RecorderConfig) -> Finding {
    let device = |dir: &Path| std::fs::metadata(there(dir)).map(|found| found.dev());
    match (device(&recorder.temporary_dir), device(&recorder.main_path)) {
        (Ok(one), Ok(other)) if one == other => {
            Finding::ok("file systems", "temporary_dir and main_path are on one: recordings are moved at once")
        }
        (Ok(_), Ok(_)) => Finding::ok(
            "file systems",
            "temporary_dir and main_path are on two: each recording is copied, and needs space on both",
        ),
        (one, other) => {
            let why = one.err().or(other.err()).map(|error| error.to_string()).unwrap_or_default();
            Finding::skipped("file systems", format!("temporary_dir or main_path cannot be asked: {why}"))
        }
    }
}
