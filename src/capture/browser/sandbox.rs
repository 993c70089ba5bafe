//! Whether Chrome's sandbox can be used on this host.

use crate::process::programs::find_program;
use std::path::Path;
use std::time::Duration;

use crate::process::child;

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

/// Tries it: what the kernel's many switches add up to is only known by making a user namespace.
///
/// # Errors
/// The reason, where there can be no sandbox.
pub async fn check() -> Result<(), SandboxUnavailable> {
    if rustix::process::geteuid().is_root() {
        return Err(SandboxUnavailable::Root);
    }
    // Without util-linux's unshare there is nothing to try it with; Chrome itself will say so if it cannot.
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
