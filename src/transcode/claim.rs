//! Which node reports a result to the server: several nodes may work on the same job, because the queue redelivers a
//! job when its node was silent for `AckWait`, dead or not.
//!
//! A claim is a hidden file beside the result, which only one node can create. It is removed at the end of the job,
//! after the raw file: a node that finds neither file knows that another node has finished the job. A node that cannot
//! acknowledge its job notes in the claim that the server was told of the result, so that no other node tells it again.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::codes;
use crate::protocol::ids::RecorderId;
use crate::storage::main_path::MainPath;
use crate::storage::{files, placement};

/// A claim older than this is a dead node's: the queue's `AckWait` (PROTOCOL 1).
pub(super) const STALE: Duration = Duration::from_secs(10 * 60);

/// Which node has claimed a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultClaim {
    Ours,
    /// Another node, by its id, for so long.
    Of {
        node: String,
        since: Duration,
    },
    /// This node has reported the result: the server has its notices, and its scripts have run.
    Reported {
        node: String,
        /// The raw file is to be kept.
        keep_raw: bool,
    },
}

/// The second line of a claim whose result was reported.
const REPORTED: &str = "reported";
const REPORTED_KEEP_RAW: &str = "reported, raw file kept";

/// The file of a result's claim.
#[must_use]
pub fn path(mp4: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(mp4.file_name().unwrap_or_default());
    name.push(".claim");
    mp4.with_file_name(name)
}

/// Claims a result for `node`, unless another node holds a claim younger than [`STALE`].
///
/// # Errors
/// Where the directory of the result cannot be written to or read.
pub fn take(store: &MainPath, mp4: &Path, node: &RecorderId) -> io::Result<ResultClaim> {
    store.check().map_err(io::Error::other)?;
    let path = path(mp4);
    let created = OpenOptions::new().write(true).create_new(true).open(&path);
    match created {
        Ok(mut file) => {
            file.write_all(node.as_str().as_bytes())?;
            if store.abilities().fsync {
                file.sync_all()?;
            }
            return Ok(ResultClaim::Ours);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let (holder, since) = match holder(&path) {
        Ok(found) => found,
        // The claim was released in between: its holder has finished.
        Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), Duration::ZERO),
        Err(error) => return Err(error),
    };
    if let Some((node, state)) = holder.split_once('\n') {
        return Ok(ResultClaim::Reported { node: node.to_owned(), keep_raw: state.trim() != REPORTED });
    }
    if holder == node.as_str() {
        return Ok(ResultClaim::Ours);
    }
    if since < STALE {
        return Ok(ResultClaim::Of { node: holder, since });
    }
    tracing::warn!(
        code = %codes::CLAIM_TAKEN_OVER, node = holder, since_s = since.as_secs(), claim = %path.display(),
        "another node has left its job unfinished"
    );
    renew(store, mp4, node)?;
    Ok(ResultClaim::Ours)
}

/// Claims a result for `node`, whoever has claimed it before.
///
/// # Errors
/// Where the directory of the result cannot be written to.
pub fn renew(store: &MainPath, mp4: &Path, node: &RecorderId) -> io::Result<()> {
    placement::write_blocking(store, &path(mp4), node.as_str().as_bytes())
}

/// Notes in a claim of `node` that its result was reported. A claim that is another node's by now, or gone, is left as
/// it is.
///
/// # Errors
/// Where the claim cannot be read or written.
pub fn mark_reported(store: &MainPath, claim: &Path, node: &RecorderId, keep_raw: bool) -> io::Result<()> {
    let (holder, _) = holder(claim)?;
    if holder != node.as_str() {
        return Ok(());
    }
    let state = if keep_raw { REPORTED_KEEP_RAW } else { REPORTED };
    placement::write_blocking(store, claim, format!("{node}\n{state}\n").as_bytes())
}

/// Removes a claim.
///
/// # Errors
/// Where it cannot be removed.
pub fn release(claim: &Path) -> io::Result<()> {
    files::remove(claim)
}

/// The node that holds the claim, and for how long; zero where the file's time is in the future.
fn holder(path: &Path) -> io::Result<(String, Duration)> {
    let since = std::fs::symlink_metadata(path)?.modified()?;
    let node = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
    Ok((node, SystemTime::now().duration_since(since).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::main_path::StoreAbilities;

    #[test]
    fn a_claim_lasts_until_it_is_released_or_its_node_is_dead() {
        let dir = tempfile::tempdir().unwrap();
        let mp4 = dir.path().join("rec.mp4");
        let node = |id| RecorderId::parse(id).unwrap();
        let store = MainPath::unwatched(dir.path(), StoreAbilities::ALL);
        let take = |mp4: &Path, node: &RecorderId| super::take(&store, mp4, node);
        assert_eq!(take(&mp4, &node("a")).unwrap(), ResultClaim::Ours);
        assert_eq!(take(&mp4, &node("a")).unwrap(), ResultClaim::Ours, "the next start of the same");
        assert!(matches!(take(&mp4, &node("b")).unwrap(), ResultClaim::Of { node, .. } if node == "a"));
        let old = SystemTime::now() - STALE - Duration::from_secs(1);
        std::fs::File::open(path(&mp4)).unwrap().set_modified(old).unwrap();
        assert_eq!(take(&mp4, &node("b")).unwrap(), ResultClaim::Ours);
        assert!(matches!(take(&mp4, &node("a")).unwrap(), ResultClaim::Of { node, .. } if node == "b"));
        release(&path(&mp4)).unwrap();
        release(&path(&mp4)).unwrap();
        assert_eq!(take(&mp4, &node("a")).unwrap(), ResultClaim::Ours);
        // Reported: nobody has to do it again, however old the claim is.
        for (keep_raw, name) in [(false, "a"), (true, "b")] {
            renew(&store, &mp4, &node(name)).unwrap();
            mark_reported(&store, &path(&mp4), &node("c"), keep_raw).unwrap();
            assert!(!std::fs::read_to_string(path(&mp4)).unwrap().contains(REPORTED), "it is not c's");
            mark_reported(&store, &path(&mp4), &node(name), keep_raw).unwrap();
            std::fs::File::open(path(&mp4)).unwrap().set_modified(old).unwrap();
            for taking in ["a", "b"] {
                let reported = ResultClaim::Reported { node: name.to_owned(), keep_raw };
                assert_eq!(take(&mp4, &node(taking)).unwrap(), reported);
            }
        }
        release(&path(&mp4)).unwrap();
        assert!(mark_reported(&store, &path(&mp4), &node("a"), false).is_err() && !path(&mp4).exists());
    }
}
