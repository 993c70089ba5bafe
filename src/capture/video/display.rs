//! A private X server without a screen (Xvfb). It chooses its own display number; access is by cookie over a Unix
//! socket, never TCP.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use x11rb::rust_connection::{DefaultStream, RustConnection};

use crate::capture::component_error::ComponentError;
use crate::capture::process_tag;
use crate::process::child::{self, Child};

const COMPONENT: &str = "Xvfb";
/// Time limit for the start, which takes some 50 ms on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Name of the access protocol.
const COOKIE_PROTOCOL: &[u8] = b"MIT-MAGIC-COOKIE-1";

/// A running X server.
#[derive(Debug)]
pub struct Display {
    child: Child,
    address: DisplayAddress,
    auth_file: PathBuf,
}

/// Address of a display, for clients that need a connection of their own.
#[derive(Clone)]
pub struct DisplayAddress {
    number: u32,
    cookie: [u8; 16],
}

impl std::fmt::Debug for DisplayAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, ":{}", self.number)
    }
}

impl Display {
    /// Starts a server with one screen of `width` × `height` pixels, 24 bits deep; writes its cookie to `dir`.
    ///
    /// # Errors
    /// Where Xvfb is missing, ends, or does not report its display number within 10 s.
    pub async fn start(dir: &Path, width: u32, height: u32, dpi: u32) -> Result<Self, ComponentError> {
        let failed = |why: String| ComponentError::new(COMPONENT, why);
        let mut cookie = [0; 16];
        rustix::rand::getrandom(&mut cookie, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| failed(format!("no random cookie: {error}")))?;
        let auth_file = dir.join("Xauthority");
        write_cookie(&auth_file, cookie).map_err(|error| failed(format!("{}: {error}", auth_file.display())))?;
        let mut spec = child::ChildSpec::new(COMPONENT, "Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-nocursor", "-dpi"])
            .args([dpi.to_string()])
            .args(["-screen", "0", &format!("{width}x{height}x24"), "-auth"])
            .args([&auth_file])
            .env(process_tag::VARIABLE, dir);
        spec.pipe_stdout = true;
        spec.log_level = tracing::Level::DEBUG;
        let mut child = child::spawn(&spec).await.map_err(|error| failed(error.to_string()))?;
        let mut line = String::new();
        let read_number = async {
            if let Some(stdout) = child.stdout.take() {
                // On an error the line stays empty, as at the end of the stream.
                let _ = BufReader::new(stdout).read_line(&mut line).await;
            }
        };
        let timed_out = tokio::time::timeout(START_LIMIT, read_number).await.is_err();
        let Ok(number) = line.trim().parse() else {
            let exit = child.stop(Signal::KILL, Duration::from_secs(1)).await;
            let last_words = child.tail().last_lines(4);
            return Err(failed(if timed_out {
                format!("did not start within {} s: {last_words}", START_LIMIT.as_secs())
            } else {
                format!("ended at its start ({exit}): {last_words}")
            }));
        };
        tracing::debug!(pid = child.pid(), display = number, "X server started");
        Ok(Self { child, address: DisplayAddress { number, cookie }, auth_file })
    }

    #[must_use]
    pub fn address(&self) -> &DisplayAddress {
        &self.address
    }

    #[must_use]
    pub fn number(&self) -> u32 {
        self.address.number
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Environment variables for clients.
    #[must_use]
    pub fn env(&self) -> [(&'static str, String); 2] {
        [("DISPLAY", format!(":{}", self.address.number)), ("XAUTHORITY", self.auth_file.display().to_string())]
    }

    /// Kills the server, which may hang.
    pub fn kill(&self) {
        self.child.signal(Signal::KILL);
    }

    /// Resolves when the server has ended by itself. Cancel-safe.
    pub async fn ended(&mut self) -> ComponentError {
        let exit = self.child.wait().await;
        ComponentError::new(COMPONENT, format!("ended ({exit}): {}", self.child.tail().last_lines(4)))
    }

    /// Ends the server, which removes its socket and lock file.
    pub async fn stop(mut self) {
        self.child.stop(Signal::TERM, Duration::from_secs(5)).await;
    }
}

impl DisplayAddress {
    /// Connects to the display.
    ///
    /// # Errors
    /// Where the server is gone or refuses the connection.
    pub fn connect(&self) -> Result<RustConnection, ComponentError> {
        let failed = |why: String| ComponentError::new(COMPONENT, why);
        let socket = UnixStream::connect(socket(self.number))
            .map_err(|error| failed(format!("cannot reach display :{}: {error}", self.number)))?;
        let (stream, _) = DefaultStream::from_unix_stream(socket).map_err(|error| failed(error.to_string()))?;
        RustConnection::connect_to_stream_with_auth_info(stream, 0, COOKIE_PROTOCOL.to_vec(), self.cookie.to_vec())
            .map_err(|error| failed(format!("display :{} refuses the connection: {error}", self.number)))
    }
}

/// Path of the socket of the server with this number.
#[must_use]
pub fn socket(number: u32) -> PathBuf {
    format!("/tmp/.X11-unix/X{number}").into()
}

/// Path of the lock file of the server with this number. A server that chose its number itself (`-displayfd`) has none.
#[must_use]
pub fn lock(number: u32) -> PathBuf {
    format!("/tmp/.X{number}-lock").into()
}

/// Writes an Xauthority file (Xau's record: family, address, display number, protocol, data; big-endian lengths) with
/// one cookie for any address and display number.
fn write_cookie(path: &Path, cookie: [u8; 16]) -> std::io::Result<()> {
    const FAMILY_WILD: u16 = 0xffff;
    let mut record = FAMILY_WILD.to_be_bytes().to_vec();
    for field in [b"".as_slice(), b"", COOKIE_PROTOCOL, &cookie] {
        record.extend_from_slice(&u16::try_from(field.len()).unwrap_or(u16::MAX).to_be_bytes());
        record.extend_from_slice(field);
    }
    std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(&record)
}
