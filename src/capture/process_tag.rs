//! Recognises the processes of a rig: by an environment variable, or by Chrome's profile path in the process title.
//! Pure.

/// Environment variable of all children of a rig, inherited by their children. Its value is the rig's directory.
pub const VARIABLE: &str = "PNM_RIG";
/// Name of Chrome's profile within the rig's directory.
pub const PROFILE: &str = "chrome";

/// Recognises the processes of one rig.
#[derive(Clone, Debug)]
pub struct ProcessTag {
    environ: Vec<u8>,
    profile: Vec<u8>,
}

impl ProcessTag {
    /// `dir`: the rig's directory as it was passed to the processes.
    #[must_use]
    pub fn of(dir: &str) -> Self {
        Self {
            environ: format!("{VARIABLE}={dir}").into_bytes(),
            profile: format!(" --user-data-dir={dir}/{PROFILE}").into_bytes(),
        }
    }

    /// Whether a process belongs to the rig, by `/proc/PID/environ` and `/proc/PID/cmdline`.
    ///
    /// Chrome's zygotes and their children overwrite command line and environment with a title: arguments separated by
    /// spaces, `--user-data-dir` among them, then zeroes. Only such a title matches. A process that merely mentions the
    /// profile (`grep`, a shell) has arguments separated by zeroes.
    #[must_use]
    pub fn matches(&self, environ: &[u8], command_line: &[u8]) -> bool {
        if environ.split(|byte| *byte == 0).any(|entry| entry == self.environ) {
            return true;
        }
        let end = command_line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let title = &command_line[..end];
        let whole = |at: usize| matches!(title.get(at + self.profile.len()), None | Some(b' '));
        !title.contains(&0)
            && title.windows(self.profile.len()).enumerate().any(|(at, found)| found == self.profile && whole(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognised_by_its_environment_or_its_title() {
        let tag = ProcessTag::of("/tmp/pnm-a b");
        let by_environ = |environ: &str| tag.matches(environ.as_bytes(), b"Xvfb\0");
        assert!(by_environ("HOME=/\0PNM_RIG=/tmp/pnm-a b\0"));
        for other in ["", "PNM_RIG=/tmp/pnm-a b2\0", "PNM_RIG=/tmp/pnm-a\0", "OLD_PNM_RIG=/tmp/pnm-a b\0", "\0\0\0"] {
            assert!(!by_environ(other), "{other:?}");
        }
        let by_title = |title: &str| tag.matches(b"\0\0\0", title.as_bytes());
        assert!(by_title("/usr/lib/chromium --type=zygote --user-data-dir=/tmp/pnm-a b/chrome\0\0"));
        assert!(by_title("chrome --type=renderer --user-data-dir=/tmp/pnm-a b/chrome --no-sandbox\0"));
        for other in [
            "grep\0--\0--user-data-dir=/tmp/pnm-a b/chrome\0",
            "sh\0-c\0chrome --user-data-dir=/tmp/pnm-a b/chrome\0",
            "chrome --user-data-dir=/tmp/pnm-a b/chrome2\0",
            "chrome --user-data-dir=/tmp/pnm-a/chrome\0",
            "",
        ] {
            assert!(!by_title(other), "{other:?}");
        }
    }
}
