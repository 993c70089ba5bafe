//! Process 1 of a container: the kernel makes it the parent of every orphan (each Chrome leaves some), and orphans that
//! nobody waits for stay as zombies. Where the recorder is process 1, it starts itself once more as a child and does
//! nothing but wait for children and pass signals on; the child is the daemon.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

/// Added to a signal's number for the exit code of a process that it ended, as shells do.
const BY_SIGNAL: i32 = 128;

/// Whether this process is the first of its container.
#[must_use]
pub fn is_process_1() -> bool {
    std::process::id() == 1
}

/// Runs this program with the same arguments as a child, until that ends; returns its exit code. SIGTERM and SIGINT are
/// passed on. To be called before the process has any other thread or child.
///
/// # Errors
/// Where the child cannot be started, or signals cannot be received.
pub fn run_daemon_as_child() -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut ended = signal(SignalKind::child())?;
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut arguments = std::env::args_os();
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        let daemon = Pid::from_child(&command.args(arguments).spawn()?);
        loop {
            let passed_on = tokio::select! {
                _ = ended.recv() => None,
                _ = terminate.recv() => Some(Signal::TERM),
                _ = interrupt.recv() => Some(Signal::INT),
            };
            if let Some(code) = reap_all(daemon) {
                return Ok(code);
            }
            if let Some(signal) = passed_on {
                // Not reaped yet, so the number is still the daemon's.
                let _ = kill_process(daemon, signal);
            }
        }
    })
}

/// Waits for all children that have ended; the exit code of the daemon, if it is one of them.
fn reap_all(daemon: Pid) -> Option<u8> {
    // An error: there are no children.
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == daemon {
            return Some(exit_code(status));
        }
    }
    None
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| Some(BY_SIGNAL + status.terminating_signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
