//! By what a process is known to belong to a rig: an environment variable, or Chrome's profile in its title. Pure.

/// What every child of a rig has in its environment, and so has what that starts: the rig's directory.
pub const VARIABLE: &str = "PNM_RIG";
/// Chrome's profile within the rig's directory.
pub const PROFILE: &str = "chrome";

/// How a process of a rig is known.
#[derive(Clone, Debug)]
pub struct ProcessTag {
    environ: Vec<u8>,
    profile: Vec<u8>,
}

impl ProcessTag {
    /// `dir`: as the processes were given it.
    #[must_use]
    pub fn of(dir: &str) -> Self {
        Self {
            environ: format!("{VARIABLE}={dir}").into_bytes(),
            profile: format!(" --user-data-dir={dir}/{PROFILE}").into_bytes(),
        }
    }

    /// Whether a process is one of the rig's, by `/proc/PID/environ` and `/proc/PID/cmdline`.
    ///
    /// Chrome's zygotes, and all that they fork, write a title over their command line and environment: arguments with
    /// spaces between them, the profile among them, and zeroes up to the end. Only such a title counts. Who merely speaks of a
    /// profile (`grep`, a shell) has its words apart, with zeroes between.
    #[must_use]
    pub fn is_on(&self, environ: &[u8], command_line: &[u8]) -> bool {
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
    fn a_process_is_known_by_its_environment_or_by_the_title_over_it() {
        let tag = ProcessTag::of("/tmp/pnm-a b");
        let by_environ = |environ: &str| tag.is_on(environ.as_bytes(), b"Xvfb\0");
        assert!(by_environ("HOME=/\0PNM_RIG=/tmp/pnm-a b\0"));
        for other in ["", "PNM_RIG=/tmp/pnm-a b2\0", "PNM_RIG=/tmp/pnm-a\0", "OLD_PNM_RIG=/tmp/pnm-a b\0", "\0\0\0"] {
            assert!(!by_environ(other), "{other:?}");
        }
        let by_title = |title: &str| tag.is_on(b"\0\0\0", title.as_bytes());
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
