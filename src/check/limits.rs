//! What recordings need of a host, against what it allows. Pure: counts and bytes are arguments.
//!
//! The needs are of recordings of meetings at 1920×1080, as `size` has measured them ([`MEASURED`]), and those of the
//! recorder itself.

use crate::check::report::Finding;
use crate::fleet::recording_needs::{MEASURED, SHARED_MEMORY_OF_OLDER_CHROMES, with_margin};
use crate::storage::disk_space::ByteSize;

/// Open files of the recorder itself.
const OWN_FILES: u64 = 512;
/// Processes and threads of the recorder itself.
const OWN_TASKS: u64 = 100;
/// Memory of the recorder itself.
const OWN_MEMORY: u64 = 256 << 20;

fn advice(max_limit: u32) -> String {
    format!("or lower recorder.max_limit ({max_limit}; `plugnmeet-recorder size` measures what this machine holds)")
}

/// `allowed`: open files of a process; `None`: no limit.
#[must_use]
pub fn open_files(allowed: Option<u64>, max_limit: u32) -> Finding {
    let need = OWN_FILES + with_margin(MEASURED.open_files, max_limit);
    match allowed {
        Some(allowed) if allowed < need => Finding::warning(
            "open files",
            format!(
                "{allowed} are allowed, {need} may be needed: raise LimitNOFILE of the unit, or ulimit -n, {}",
                advice(max_limit)
            ),
        ),
        Some(allowed) => Finding::ok("open files", format!("{allowed} are allowed")),
        None => Finding::ok("open files", "no limit"),
    }
}

/// `allowed`: processes and threads by each limit, with its name.
#[must_use]
pub fn processes(allowed: &[(String, u64)], max_limit: u32) -> Finding {
    let need = OWN_TASKS + with_margin(MEASURED.tasks, max_limit);
    match allowed.iter().min_by_key(|(_, allowed)| *allowed) {
        Some((name, allowed)) if *allowed < need => Finding::warning(
            "processes",
            format!(
                "{name} allows {allowed} processes and threads, {need} may be needed: raise it (TasksMax or LimitNPROC of \
                 the unit, --pids-limit of the container), {}",
                advice(max_limit)
            ),
        ),
        Some((name, allowed)) => Finding::ok("processes", format!("{name} allows {allowed}")),
        None => Finding::ok("processes", "no limit"),
    }
}

/// `limit`: bytes of the tightest limit; `name`: whose it is.
#[must_use]
pub fn memory(name: &str, limit: u64, max_limit: u32) -> Finding {
    let need = OWN_MEMORY + with_margin(MEASURED.memory, max_limit);
    let has = format!("{} ({name})", ByteSize(limit));
    if limit < need {
        return Finding::warning(
            "memory",
            format!("{has}, {} may be needed: give it more, {}", ByteSize(need), advice(max_limit)),
        );
    }
    Finding::ok("memory", has)
}

/// `cores`: processors that this node may use. Meetings with four webcams need as many; such that hardly move a fifth.
#[must_use]
pub fn processors(cores: f64, max_limit: u32) -> Finding {
    let has = format!("{cores:.1}");
    let need = MEASURED.cores * f64::from(max_limit);
    if cores < need {
        return Finding::warning(
            "processors",
            format!(
                "{has}, {max_limit} recordings with webcams need {need:.1} or more: give it more, {}",
                advice(max_limit)
            ),
        );
    }
    Finding::ok("processors", has)
}

/// `space`: free bytes and all bytes of `/dev/shm`.
#[must_use]
pub fn shared_memory((free, total): (u64, u64), max_limit: u32) -> Finding {
    let need = SHARED_MEMORY_OF_OLDER_CHROMES * u64::from(max_limit);
    let has = format!("{} of {} are free", ByteSize(free), ByteSize(total));
    if free < need {
        let need = ByteSize(need);
        return Finding::warning(
            "/dev/shm",
            format!("{has}, {need} may be needed, and pages crash without: docker run --shm-size, or mount it larger"),
        );
    }
    Finding::ok("/dev/shm", has)
}

/// Which limit of `/proc/self/limits` or the like says nothing: the kernel's largest number stands for none.
#[must_use]
pub fn finite(limit: Option<u64>) -> Option<u64> {
    limit.filter(|limit| *limit < u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::Verdict::{Ok, Warning};

    #[test]
    fn a_limit_is_told_where_it_is_below_the_need_of_max_limit() {
        let verdicts = |max_limit| {
            [
                open_files(Some(1024), max_limit),
                processes(&[("a".into(), 9000), ("b".into(), 2600)], max_limit),
                memory("the host", 8 << 30, max_limit),
                processors(4.0, max_limit),
                shared_memory((1 << 30, 2 << 30), max_limit),
            ]
            .map(|finding| finding.verdict)
        };
        assert_eq!(verdicts(8), [Ok; 5]);
        assert_eq!(verdicts(18), [Warning; 5]);
        assert_eq!(open_files(None, 99).verdict, Ok);
        assert_eq!(processes(&[], 99).verdict, Ok);
        assert!(processes(&[("a".into(), 9000), ("b".into(), 10)], 1).text.starts_with("b allows 10 "));
        assert_eq!((finite(Some(u64::MAX)), finite(Some(5)), finite(None)), (None, Some(5), None));
    }
}
