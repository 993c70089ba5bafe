//! A private PulseAudio with one null sink for one meeting, isolated from other meetings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::capture::component_error::ComponentError;
use crate::capture::process_tag;
use crate::process::child::{self, Child};

const COMPONENT: &str = "PulseAudio";
/// Time limit for the start.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Sample rate of the sink in Hz: that of Chrome and Opus, so that nothing is resampled.
pub const SAMPLE_RATE: u32 = 48_000;
/// The monitor of the sink that Chrome plays into: the source of the recording.
pub const MONITOR: &str = "meeting.monitor";

/// A running PulseAudio daemon.
#[derive(Debug)]
pub struct PulseAudio {
    child: Child,
    socket: PathBuf,
}

impl PulseAudio {
    /// Starts a daemon with socket and state in `dir`, which must be accessible to this user only: the socket has no
    /// other access control.
    ///
    /// # Errors
    /// Where pulseaudio is missing, ends, or does not listen within 10 s.
    pub async fn start(dir: &Path) -> Result<Self, ComponentError> {
        let failed = |why: String| ComponentError::new(COMPONENT, why);
        let socket = dir.join("sound.socket");
        // Without `norewinds` (PulseAudio 15) the sink renders its first two seconds at once and then stalls for as
        // long: connecting takes that time, Chrome's audio clock stops, and the ages of samples are wrong meanwhile.
        let sink = format!("module-null-sink sink_name=meeting format=s16le rate={SAMPLE_RATE} channels=2 norewinds=1");
        let listen =
            format!("module-native-protocol-unix auth-anonymous=1 auth-cookie-enabled=0 socket={}", socket.display());
        // Clients use the daemon's default rate, not the sink's: at 44,100 Hz Chrome would render at that rate and its
        // audio would be resampled.
        let config = dir.join("daemon.conf");
        std::fs::write(&config, format!("default-sample-rate = {SAMPLE_RATE}\n"))
            .map_err(|error| failed(format!("{}: {error}", config.display())))?;
        let mut spec = child::ChildSpec::new("pulseaudio", "pulseaudio")
            .args(["-n", "--daemonize=no", "--use-pid-file=no", "--fail=yes", "--exit-idle-time=-1", "--realtime=no"])
            .args(["--high-priority=no", "--disallow-exit", "--log-target=stderr", "--log-level=warning"])
            .args(["-L", &sink, "-L", &listen])
            .env(process_tag::VARIABLE, dir)
            .env("PULSE_CONFIG", &config)
            .env("HOME", dir)
            .env("XDG_RUNTIME_DIR", dir)
            .env("XDG_CONFIG_HOME", dir)
            // Otherwise PulseAudio starts a session bus, which is not needed.
            .env("DBUS_SESSION_BUS_ADDRESS", "disabled:")
            .env("PULSE_RUNTIME_PATH", dir)
            .env("PULSE_STATE_PATH", dir);
        spec.log_level = tracing::Level::DEBUG;
        let mut child = child::spawn(&spec).await.map_err(|error| failed(error.to_string()))?;
        // The socket appears when the last module is loaded; nothing announces it.
        let listening = async {
            while tokio::net::UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let why = tokio::select! {
            () = listening => None,
            exit = child.wait() => Some(format!("ended at its start ({exit})")),
            () = tokio::time::sleep(START_LIMIT) => Some(format!("does not listen after {} s", START_LIMIT.as_secs())),
        };
        if let Some(why) = why {
            child.stop(Signal::KILL, Duration::from_secs(1)).await;
            return Err(failed(format!("{why}: {}", child.tail().last_lines(4))));
        }
        tracing::debug!(pid = child.pid(), "sound server started");
        Ok(Self { child, socket })
    }

    /// Value of `PULSE_SERVER` for clients.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Kills the daemon, which may hang.
    pub fn kill(&self) {
        self.child.signal(Signal::KILL);
    }

    /// Resolves when the daemon has ended by itself. Cancel-safe.
    pub async fn ended(&mut self) -> ComponentError {
        let exit = self.child.wait().await;
        ComponentError::new(COMPONENT, format!("ended ({exit}): {}", self.child.tail().last_lines(4)))
    }

    /// Ends the daemon.
    pub async fn stop(mut self) {
        self.child.stop(Signal::TERM, Duration::from_secs(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_get_the_rate_of_the_sink() {
        let dir = tempfile::tempdir().unwrap();
        let server = PulseAudio::start(dir.path()).await.unwrap();
        // `pactl` comes with the server: Debian's package depends on it.
        let mut pactl = tokio::process::Command::new("pactl");
        let output = pactl.arg("info").env("PULSE_SERVER", server.address()).env("LC_ALL", "C").output().await.unwrap();
        server.stop().await;
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.contains("Default Sample Specification: s16le 2ch 48000Hz"), "{output}");
    }
}
