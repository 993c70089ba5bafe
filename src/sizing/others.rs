//! Whether something is being recorded on this machine: then nothing is measured, as that would cost it frames.
//!
//! Seen are the recordings of this configuration, by its records, and the rigs of all processes that this user sees: of
//! other nodes, of `record` and of another `size`. In a container that are those of the container.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::capture::process_tag::{PROFILE, VARIABLE};
use crate::capture::rig_directory;
use crate::config::RecorderConfig;
use crate::process::procfs;
use crate::protocol::request::Kind;
use crate::recording::journal::RecordingJournal;
use crate::storage::lock;

/// Of Chrome's command line, which other users may read, where the environment may not be.
const PROFILE_FLAG: &str = "--user-data-dir=";

/// Why nothing is to be measured now: what is recorded by the recorder of this configuration. Reads the state directory.
#[must_use]
pub fn recordings(recorder: &RecorderConfig) -> Option<String> {
    let journal = RecordingJournal::new(&recorder.state_dir);
    let holder = lock::holder(&recorder.state_dir)?;
    let any = [Kind::Recording, Kind::Broadcast].iter().any(|kind| journal.has_any(*kind));
    any.then(|| format!("the recorder of this configuration ({holder}) has recordings that are not handed over yet"))
}

/// Why nothing is to be measured now, or no longer: the rigs of others. `own`: the owner name of this process's rigs.
#[must_use]
pub fn rigs(own: &str) -> Option<String> {
    let prefix = rig_directory::prefix(own);
    let mut rigs: BTreeMap<String, u32> = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(rig) = rig_of(pid).filter(|rig| !rig.starts_with(&prefix)) {
            rigs.entry(rig).or_insert(pid);
        }
    }
    let (name, pid) = rigs.iter().next()?;
    let more = if rigs.len() > 1 { format!(" and {} more", rigs.len() - 1) } else { String::new() };
    Some(format!("this program is recording on this machine (process {pid} of {name}{more})"))
}

/// The name of the rig that a process belongs to.
fn rig_of(pid: u32) -> Option<String> {
    let name = |dir: &str| {
        let name = Path::new(dir).file_name()?.to_str()?;
        name.starts_with(rig_directory::PREFIX).then(|| name.to_owned())
    };
    if let Some(dir) = procfs::environment(pid, VARIABLE) {
        return name(&dir);
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0);
    let profile = words.find_map(|word| std::str::from_utf8(word).ok()?.strip_prefix(PROFILE_FLAG))?;
    name(profile.strip_suffix(PROFILE)?.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::child::{self, ChildSpec};
    use rustix::process::Signal;
    use std::time::Duration;

    #[tokio::test]
    async fn a_rig_of_another_is_seen_by_its_environment_or_its_chrome_and_an_own_one_is_not_told() {
        let own = "plugnmeet-recorder size of a test";
        let mine = format!("{}abcdef", rig_directory::prefix(own));
        let spec = |script: &str| ChildSpec::new("sh", "/bin/sh").args(["-c", script]);
        let children = [
            spec("sleep 1000; true").env(VARIABLE, format!("/tmp/{mine}")),
            spec("sleep 1000; true").env(VARIABLE, "/tmp/pnm-00000000-tagged"),
            spec("sleep 1000; true").args(["chrome", "--user-data-dir=/tmp/pnm-00000000-chrome/chrome"]),
            spec("sleep 1000; true").args(["chrome", "--user-data-dir=/home/me/chrome"]),
        ];
        let mut running = Vec::new();
        for child in &children {
            running.push(child::spawn(child).await.unwrap());
        }
        let of = |pid: u32| async move {
            // The child runs its program a moment later.
            for _ in 0..200 {
                if fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"/bin/sh")) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            rig_of(pid)
        };
        assert_eq!(of(running[0].pid()).await, Some(mine.clone()));
        assert_eq!(of(running[1].pid()).await.as_deref(), Some("pnm-00000000-tagged"));
        assert_eq!(of(running[2].pid()).await.as_deref(), Some("pnm-00000000-chrome"));
        assert_eq!(of(running[3].pid()).await, None);
        let told = rigs(own).unwrap();
        assert!(told.contains("of pnm-") && !told.contains(&mine), "{told}");
        for mut child in running {
            child.stop(Signal::KILL, Duration::from_secs(5)).await;
        }
    }
}
