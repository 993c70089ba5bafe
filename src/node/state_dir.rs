//! Where the state of this node is, unless `recorder.state_dir` says it: on a disk of this host, since a share that hangs
//! would keep the node from taking work. Looks, and changes nothing: the operator's commands find the same directory.
//!
//! ```text
//! recorder.state_dir                     where it is set
//! <temporary_dir>/.state-<id>            where an earlier version has left records, or a recorder runs on it
//! $STATE_DIRECTORY/<id>                  where systemd gives one (StateDirectory=)
//! /var/lib/plugnmeet-recorder/<id>       where it can be written and outlives the host's restart
//! <temporary_dir>/.state-<id>            else
//! ```

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::codes;
use crate::config::{Config, HookStage, RecorderConfig};
use crate::delivery::message::{Message, RecordingMessages};
use crate::delivery::outbox;
use crate::protocol::request::Kind;
use crate::recording::journal::{self, RecordingJournal};
use crate::storage::file_system::{self, FileSystemKind};
use crate::storage::journal::Record as _;
use crate::storage::lock;
use crate::storage::state_version;
use crate::transcode::journal as jobs;

/// The directory that systemd makes for the unit in `packaging/`.
const VAR_LIB: &str = "/var/lib/plugnmeet-recorder";

/// What a default is made of.
#[derive(Clone, Debug)]
pub struct StateDirectories {
    /// `$STATE_DIRECTORY`: paths with colons between them (systemd.exec(5)).
    pub of_service: Option<OsString>,
    /// [`VAR_LIB`].
    pub of_host: PathBuf,
}

impl StateDirectories {
    /// Those of this process and host.
    #[must_use]
    pub fn of_process() -> Self {
        Self { of_service: std::env::var_os("STATE_DIRECTORY"), of_host: VAR_LIB.into() }
    }

    /// Whether a default is in use, and which.
    fn default_for(&self, recorder: &RecorderConfig) -> PathBuf {
        let id = recorder.id.as_str();
        let of_service = self.of_service.as_ref().and_then(|paths| {
            let first = paths.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
            let first = PathBuf::from(std::ffi::OsStr::from_bytes(first));
            // StateDirectory=plugnmeet-recorder/<id> is this node's already.
            let own = first.ends_with(id);
            first.is_absolute().then(|| if own { first } else { first.join(id) })
        });
        let of_host = self.of_host.join(id);
        let candidates = [of_service.clone(), Some(of_host.clone())];
        // The operator's commands do not have the service's environment.
        let in_use = candidates.into_iter().flatten().find(|dir| lock::holder(dir).is_some());
        in_use
            .or(of_service)
            .or_else(|| is_lasting(&of_host).then_some(of_host))
            .unwrap_or_else(|| recorder.state_dir.clone())
    }
}

/// The directory of this node's state. `log`: say so where it is not the one that a new node would have.
#[must_use]
pub fn choose(recorder: &RecorderConfig, directories: &StateDirectories, log: bool) -> PathBuf {
    let former = &recorder.state_dir;
    if !recorder.default_state_dir {
        return former.clone();
    }
    let default = directories.default_for(recorder);
    if default != *former && is_in_use(former) {
        if log {
            tracing::warn!(
                code = %codes::OLD_STATE_DIR,
                dir = %former.display(), instead_of = %default.display(),
                "an earlier version has left records in its default state directory, so that stays in use; to change it, \
                 restart the recorder once `recordings list`, `jobs list` and `outbox list` are empty"
            );
        }
        return former.clone();
    }
    default
}

/// Whether a recorder runs on this directory, or has left something there that is not over.
fn is_in_use(dir: &Path) -> bool {
    let records = [journal::dir_of(Kind::Recording), journal::dir_of(Kind::Broadcast), jobs::DIR];
    let is_open = |path: &PathBuf| {
        RecordingMessages::read(path).map_or(true, |stored| stored.messages.iter().any(Message::is_open))
    };
    lock::holder(dir).is_some()
        || records.iter().any(|records| !files(&dir.join(records)).is_empty())
        || files(&dir.join(outbox::DIR)).iter().any(is_open)
}

/// The files of a directory that are not hidden; none where it cannot be read.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.file_name().is_some_and(|name| !name.as_bytes().starts_with(b"."))).collect()
}

/// Whether this directory, or the first of its parents that is there, can be written to and is kept by a restart.
fn is_lasting(dir: &Path) -> bool {
    let there = dir.ancestors().find(|dir| dir.is_dir());
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    let writable = there.is_some_and(|dir| rustix::fs::access(dir, access).is_ok());
    writable && file_system::kind(dir).is_ok_and(|kind| kind == FileSystemKind::Local)
}

/// Warns of a state directory that may hang or does not last.
pub fn warn_unsuitable(dir: &Path) {
    let what = "set recorder.state_dir to a directory of a local disk that outlives a restart, or give the service StateDirectory=";
    match file_system::kind(dir) {
        Ok(FileSystemKind::Local) => {}
        Ok(FileSystemKind::Remote(kind)) => tracing::warn!(
            code = %codes::STATE_DIR_REMOTE,
            dir = %dir.display(), kind,
            "recorder.state_dir is on a file system that may hang: while it does, this node takes no work, and a crash loses what is not written; {what}"
        ),
        Ok(FileSystemKind::Volatile(kind)) => tracing::warn!(
            code = %codes::STATE_DIR_VOLATILE,
            dir = %dir.display(), kind,
            "recorder.state_dir does not outlive this host or container, nor does what it says of running recordings; {what}"
        ),
        Err(error) => {
            tracing::warn!(
                code = %codes::STATE_DIR_KIND_UNKNOWN, dir = %dir.display(), %error,
                "the file system of recorder.state_dir cannot be asked for its kind"
            );
        }
    }
}

/// Notes that `state_dir`, whose lock this process holds, is this version's now.
pub(super) fn own(state_dir: &Path) -> anyhow::Result<()> {
    // A newer version may have run since the first look.
    state_version::check(state_dir)?;
    if let Err(error) = state_version::write(state_dir) {
        tracing::warn!(
            code = %codes::STATE_VERSION_NOT_WRITTEN, dir = %state_dir.display(), %error,
            "the version of recorder.state_dir cannot be written, so that an older version would not refuse it; free the disk or \
             mend it, the next start tries again"
        );
    }
    Ok(())
}

/// The hook stages that this node runs: a node that does not record any more may still have to hand over a recording.
pub(super) fn hook_stages(config: &Config) -> Vec<HookStage> {
    let recorder = &config.recorder;
    let mut stages = HookStage::of(recorder.mode);
    if !recorder.mode.records() && RecordingJournal::new(&recorder.state_dir).has_any(Kind::Recording) {
        stages.push(HookStage::PostRecording);
    }
    stages
}
