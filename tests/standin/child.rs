//! A process of the stand-in: dies when its owner is dropped, and with the test process even if that is killed.

use std::os::unix::process::CommandExt;
use std::process::{Child as Process, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// A started process that is never left behind.
pub struct Child {
    name: &'static str,
    process: Process,
}

impl Child {
    /// Starts `program` through util-linux's `setpriv`, which asks for SIGKILL on the parent's death and then becomes the program:
    /// that covers a test run that is itself killed, without `unsafe` here. The kernel watches the *thread* that spawned.
    pub fn spawn(name: &'static str, program: &str, set: impl FnOnce(&mut Command)) -> anyhow::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]);
        // Ctrl-C in a terminal goes to the whole group; who ends this child, and when, is for its owner to say.
        command.process_group(0);
        set(&mut command);
        let process = command.spawn().with_context(|| format!("cannot start {name} ({program}) through setpriv"))?;
        Ok(Self { name, process })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// `None` while it runs.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.process.try_wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    pub fn signal(&self, signal: Signal) {
        // It has not been waited for, so the id is still its own; an error can only mean that it has ended.
        let _ = kill_process(self.pid(), signal);
    }

    /// SIGTERM, then SIGKILL once `grace` is over.
    pub fn stop(&mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let end = Instant::now() + grace;
        while Instant::now() < end {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill()
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::KILL);
        self.process.wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
            let _ = self.process.wait();
        }
    }
}
