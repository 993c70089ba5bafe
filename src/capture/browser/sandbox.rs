//! Whether Chrome's sandbox can be used on this host.

use std::path::Path;
use std::time::Duration;

use crate::process::child;
use crate::process::programs::find_program;

/// Why Chrome has to run without its sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SandboxUnavailable {
    #[error("the recorder runs as root, and Chrome refuses its sandbox to root: run it as a user of its own")]
    Root,
    #[error(
        "this host gives no user namespaces to ordinary users: see user.max_user_namespaces, \
         kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns (sysctl), or the container's seccomp profile"
    )]
    NoUserNamespaces,
}

/// Tests the sandbox by creating a user namespace: too many kernel switches affect it to read them all.
///
/// # Errors
/// The reason where Chrome's sandbox cannot work.
pub async fn check() -> Result<(), SandboxUnavailable> {
    if rustix::process::geteuid().is_root() {
        return Err(SandboxUnavailable::Root);
    }
    // Without util-linux's `unshare` there is no test; Chrome itself reports a missing sandbox.
    let Some(unshare) = find_program(Path::new("unshare")) else { return Ok(()) };
    let mut spec = child::ChildSpec::new("unshare", unshare).args(["--user", "--map-root-user", "true"]);
    spec.log_level = tracing::Level::DEBUG;
    let Ok(mut child) = child::spawn(&spec).await else { return Ok(()) };
    if child.end_within(Duration::from_secs(5)).await.success() {
        Ok(())
    } else {
        Err(SandboxUnavailable::NoUserNamespaces)
    }
}
