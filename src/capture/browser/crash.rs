//! The cause of a page's crash. Pure.

/// Chrome's code for a process killed by SIGKILL, which only the kernel or an operator sends.
const SIGKILL: i64 = 9;
/// Length limit of text taken from Chrome's log, in characters.
const CAUSE_LIMIT: usize = 300;

/// The cause of a page's crash. `end`: status and code of its process (`Target.targetCrashed` of the DevTools
/// protocol). `last_lines`: the end of Chrome's log, of which the last line about memory is quoted.
#[must_use]
pub fn crash_cause(end: Option<(&str, i64)>, last_lines: &[String]) -> String {
    // A line with a URL comes from the page and may hold the token.
    let of_memory = |line: &&String| {
        (line.contains(" OOM ") || line.to_ascii_lowercase().contains("out of memory")) && !line.contains("://")
    };
    if let Some(line) = last_lines.iter().rfind(of_memory) {
        // The line begins with process, time and source file in brackets.
        let message: String =
            line.rsplit_once("] ").map_or(line.as_str(), |(_, message)| message).chars().take(CAUSE_LIMIT).collect();
        return format!("the meeting page crashed: it ran out of memory (Chrome says: {message})");
    }
    match end {
        Some(("killed", SIGKILL)) => {
            "the meeting page crashed: its process was killed (signal 9), as the kernel does where \
             the host or the container runs out of memory (dmesg tells)"
                .to_owned()
        }
        Some((status, code)) => format!("the meeting page crashed ({status}, code {code})"),
        None => "the meeting page crashed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_cause_holds_status_code_and_memory_log() {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let v8 = lines(&[
            "<--- Last few GCs --->",
            "[7:7:1121/210534.757551:ERROR:third_party/blink/renderer/bindings/core/v8/v8_oom.cc:49] V8 javascript OOM (Reached heap limit).",
            "[1121/210535.148050:ERROR:file_io_posix.cc:145] open /sys/x: No such file or directory (2)",
        ]);
        assert_eq!(
            crash_cause(Some(("crashed", 5)), &v8),
            "the meeting page crashed: it ran out of memory (Chrome says: V8 javascript OOM (Reached heap limit).)"
        );
        assert!(crash_cause(None, &lines(&["Out of memory"])).contains("ran out of memory"));
        let of_the_page =
            lines(&["[7:7:ERROR:CONSOLE(1)] out of memory, source: https://host/?access_token=s3cret (1)"]);
        assert!(!crash_cause(None, &of_the_page).contains("s3cret"));
        let killed = crash_cause(Some(("killed", 9)), &v8[2..]);
        assert!(killed.contains("signal 9") && killed.contains("runs out of memory"), "{killed}");
        assert_eq!(crash_cause(Some(("crashed", 11)), &[]), "the meeting page crashed (crashed, code 11)");
        assert_eq!(crash_cause(None, &[]), "the meeting page crashed");
    }
}
