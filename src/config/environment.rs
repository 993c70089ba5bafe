//! The environment of this process, for [`crate::config::Config::load`].

use crate::config::interpolation::Environment;

/// The host's name. Shells set it, but not every service manager or container does.
const HOSTNAME: &str = "HOSTNAME";

impl Environment {
    /// The variables of this process; `HOSTNAME` is the kernel's host name where it is not set. What is not UTF-8 counts
    /// as not set.
    #[must_use]
    pub fn of_process() -> Self {
        let uname = rustix::system::uname();
        let kernel = uname.nodename().to_str().map(|name| (HOSTNAME.to_owned(), name.to_owned()));
        let own = std::env::vars_os().filter_map(|(name, value)| {
            let variable = (name.into_string().ok()?, value.into_string().ok()?);
            (variable.0 != HOSTNAME || !variable.1.is_empty()).then_some(variable)
        });
        // A later one of the same name wins.
        kernel.into_iter().chain(own).collect()
    }
}
