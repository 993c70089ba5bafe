//! `jobs retry` and `jobs drop`: try a job again, or forget it. The raw file is never touched.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::admin::cells::words;
use crate::admin::error::AdminError;
use crate::admin::state_dir::StateDir;
use crate::protocol::ids::RecordingId;
use crate::protocol::job::{Job, Work};
use crate::storage::disk_space::ByteSize;
use crate::storage::files;
use crate::storage::journal::Record as _;
use crate::transcode::journal::{JobJournal, JobRecord, JobState};

/// How often writing a record is tried before the disk is believed to fail.
const WRITE_ATTEMPTS: u32 = 5;

/// Requests another attempt at a job that this node has given up or only remuxed.
///
/// # Errors
/// Where there is no such job, another attempt is not possible, or the record cannot be written. The record is
/// unchanged then.
pub fn retry(state: &StateDir, id: &RecordingId, now: u64) -> Result<String, AdminError> {
    let (path, record) = read(state, id)?;
    let refused = |why| AdminError::Refused { id: id.clone(), why };
    may_retry(record.state, state.runs(), now).map_err(refused)?;
    if !state.mode.transcodes() {
        return Err(refused(format!(
            "this node would not try it: its mode is {} (recorder.mode, -mode)",
            state.mode.as_str()
        )));
    }
    // The daemon could not get rid of a request that it cannot carry out.
    let job = record.payload().and_then(|bytes| Job::decode(&bytes).map_err(|error| error.to_string()));
    let job = job.map_err(|why| refused(format!("it cannot be tried again: {why}")))?;
    if job.info.recording_id != *id {
        return Err(refused(format!(
            "the record {} is that of another job, {}",
            path.display(),
            job.info.recording_id
        )));
    }
    let failed = |action| {
        let (id, path) = (id.clone(), path.clone());
        move |source| AdminError::Disk { id, action, path, source }
    };
    let owner = std::fs::metadata(&path).map_err(failed("read"))?.uid();
    of_another_user(owner, rustix::process::geteuid().as_raw()).map_err(refused)?;
    let last_error = record.last_error.clone();
    let request = record.with_state(JobState::Retry, last_error);
    let text = serde_json::to_vec_pretty(&request).map_err(|error| failed("write")(error.into()))?;
    write(&path, &text).map_err(failed("write"))?;
    let when = match &state.daemon {
        Some(holder) => format!("the recorder ({holder}) looks for it every 5 s, once the job in hand is done"),
        None => format!("when the recorder {} is started", state.recorder),
    };
    Ok(format!("job {id} will be tried again: {when}\n"))
}

/// Forgets a job that this node has given up.
///
/// # Errors
/// Where there is no such job, it may still be worked on, or its record cannot be removed. The record is unchanged
/// then.
pub fn forget(state: &StateDir, id: &RecordingId) -> Result<String, AdminError> {
    let (path, record) = match read(state, id) {
        // An undecodable job has no record, and an id that this program gave it.
        Err(no @ AdminError::NoJob { .. }) => {
            return state.undecodable_path(id.as_str()).map_or(Err(no), |path| forget_undecodable(id, path));
        }
        read => read?,
    };
    may_drop(record.state, state.runs()).map_err(|why| AdminError::Refused { id: id.clone(), why })?;
    files::remove(&path).map_err(|source| AdminError::Disk { id: id.clone(), action: "remove", path, source })?;
    let kept = raw_files(&record).iter().map(|raw| kept(raw)).collect::<Vec<_>>().join("; ");
    Ok(format!("job {id} is forgotten{kept}\n"))
}

fn forget_undecodable(id: &RecordingId, path: PathBuf) -> Result<String, AdminError> {
    match files::remove(&path) {
        Ok(()) => {
            // Removes the directory too, if that was the last one in it.
            let _ = path.parent().map(std::fs::remove_dir);
            Ok(format!("{id}, which is no job, is forgotten\n"))
        }
        Err(source) => Err(AdminError::Disk { id: id.clone(), action: "remove", path, source }),
    }
}

fn read(state: &StateDir, id: &RecordingId) -> Result<(PathBuf, JobRecord), AdminError> {
    let path = JobJournal::new(&state.dir).path(id.as_str());
    // Not `exists`, which reports no file in an unreadable directory.
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(AdminError::NoJob { id: id.clone(), path }),
        Err(source) => Err(AdminError::Unreadable { path, source }),
        Ok(_) => match JobRecord::read(&path) {
            Ok(record) => Ok((path, record)),
            Err(why) => Err(AdminError::NoRecord { id: id.clone(), path, why: why.to_string() }),
        },
    }
}

/// Whether a job may be tried again, or why not. `runs`: a daemon runs; `now`: Unix milliseconds.
fn may_retry(state: JobState, runs: bool, now: u64) -> Result<(), String> {
    match state {
        JobState::GivenUp { .. } | JobState::Remuxed { .. } => Ok(()),
        // The queue will redeliver it: a retry beside that would run it twice, and report its failure as the last.
        JobState::HandedBack { until } => {
            let wait = std::time::Duration::from_millis(until.saturating_sub(now));
            Err(format!("it is handed back to the queue, which gives it out again in {}", words(wait)))
        }
        JobState::Working if runs => Err("it is in hand".to_owned()),
        JobState::Working => Err("the next start of the recorder goes on with it by itself".to_owned()),
        JobState::Retry if runs => Err("it is to be tried again already".to_owned()),
        JobState::Retry => Err("it is to be tried again already, when the recorder is started".to_owned()),
    }
}

/// Whether a job may be forgotten, or why not.
fn may_drop(state: JobState, runs: bool) -> Result<(), String> {
    match state {
        JobState::GivenUp { .. } | JobState::Remuxed { .. } => Ok(()),
        // No daemon can start it meanwhile.
        JobState::Retry if !runs => Ok(()),
        JobState::Retry => Err("it is to be tried again in a moment; wait for the outcome".to_owned()),
        JobState::Working if runs => Err("it is in hand; wait for the outcome".to_owned()),
        JobState::Working => {
            Err("it was in hand when the recorder ended, and the next start goes on with it".to_owned())
        }
        JobState::HandedBack { .. } => {
            Err("it is handed back: the queue gives it out again, and this node forgets it by itself an hour later"
                .to_owned())
        }
    }
}

/// A file belongs to the user who writes it, and the daemon's user must be able to read it.
pub(super) fn of_another_user(owner: u32, me: u32) -> Result<(), String> {
    if owner == me {
        return Ok(());
    }
    Err(format!("it belongs to the user with the id {owner}, who must ask for this (sudo -u '#{owner}' …)"))
}

/// The files that the job names; relative ones are within `main_path`.
fn raw_files(record: &JobRecord) -> Vec<PathBuf> {
    let job = record.payload().ok().and_then(|bytes| Job::decode(&bytes).ok());
    match job.map(|job| job.work) {
        Some(Work::PostRecording { dir, file_name, .. }) => vec![dir.join(file_name.as_str())],
        Some(Work::Merge { paths }) => paths,
        None => Vec::new(),
    }
}

fn kept(raw: &Path) -> String {
    match std::fs::metadata(raw) {
        Ok(file) => format!("; its raw file is kept: {} ({})", raw.display(), ByteSize(file.len())),
        Err(_) => format!("; its raw file was named {}, which is not there as seen from here", raw.display()),
    }
}

/// Writes a record; again where the daemon has removed the unfinished file, as it does when it reads the directory.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut remaining = WRITE_ATTEMPTS;
    loop {
        remaining -= 1;
        match files::write_private(path, text) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && remaining > 0 => {}
            written => return written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn only_an_idle_job_is_tried_again_or_forgotten() {
        // State; may it be retried with a daemon and without; may it be forgotten with and without.
        for (state, expected) in [
            (JobState::GivenUp { at: NOW }, [true, true, true, true]),
            (JobState::Remuxed { at: NOW }, [true, true, true, true]),
            (JobState::HandedBack { until: NOW }, [false, false, false, false]),
            (JobState::HandedBack { until: NOW + 1 }, [false, false, false, false]),
            (JobState::Working, [false, false, false, false]),
            (JobState::Retry, [false, false, false, true]),
        ] {
            let (retry, drop) = (|runs| may_retry(state, runs, NOW).is_ok(), |runs| may_drop(state, runs).is_ok());
            assert_eq!([retry(true), retry(false), drop(true), drop(false)], expected, "{state:?}");
        }
        let why = may_retry(JobState::HandedBack { until: NOW + 25_000 }, true, NOW).unwrap_err();
        assert!(why.ends_with("gives it out again in 25s"), "{why}");
    }

    #[test]
    fn a_record_that_the_daemon_could_not_read_is_not_written() {
        assert_eq!(of_another_user(998, 998), Ok(()));
        assert!(of_another_user(998, 0).unwrap_err().contains("sudo -u '#998'"));
    }
}
