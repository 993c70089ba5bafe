//! Where a broadcast goes to: a real RTMP receiver (`ffmpeg -listen`), which takes one stream and writes it down.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;

use super::child::Child;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// LISTEN in `/proc/net/tcp`.
const TCP_LISTEN: &str = "0A";

/// A far end that takes one broadcast.
pub struct RtmpReceiver {
    child: Child,
    port: u16,
    key: String,
    file: PathBuf,
    log: PathBuf,
}

impl RtmpReceiver {
    /// Starts it; what it receives goes to `<name>.flv` in `dir`. Listens when this returns.
    pub async fn start(dir: &Path, name: &str) -> anyhow::Result<Self> {
        // ffmpeg cannot choose a port by itself.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let key = format!("streamkey-{name}-{port}");
        let file = dir.join(format!("{name}.flv"));
        let log = dir.join(format!("{name}.log"));
        let written = std::fs::File::create(&log)?;
        let mut child = Child::spawn("the RTMP receiver", "ffmpeg", |command| {
            command
                .args(["-hide_banner", "-nostdin", "-y", "-listen", "1"])
                .args(["-i", &format!("rtmp://127.0.0.1:{port}/live/{key}")])
                .args(["-c", "copy", "-flush_packets", "1"])
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(written);
        })?;
        // It takes one connection only, so it must not be tried: the kernel's table says when it listens.
        let end = Instant::now() + Duration::from_secs(10);
        while !listens(port)? {
            let ended = child.ended()?;
            ensure!(ended.is_none() && Instant::now() < end, "the RTMP receiver does not listen: {}", read(&log));
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Self { child, port, key, file, log })
    }

    /// What `START_RTMP` names.
    pub fn url(&self) -> String {
        format!("rtmp://127.0.0.1:{}/live/{}", self.port, self.key)
    }

    /// The secret part of [`Self::url`].
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What has been received up to now.
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn log(&self) -> String {
        read(&self.log)
    }

    pub fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |data| data.len())
    }

    /// Waits until at least `more` further bytes have come.
    pub async fn wait_for_bytes(&self, more: u64, limit: Duration) -> anyhow::Result<()> {
        let wanted = self.bytes() + more;
        let end = Instant::now() + limit;
        while self.bytes() < wanted {
            ensure!(
                Instant::now() < end,
                "{} of {wanted} bytes within {limit:?}; the receiver says: {}",
                self.bytes(),
                self.log()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until the sender has ended the stream and the file is whole.
    pub async fn wait_until_over(&mut self, limit: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        while self.child.ended()?.is_none() {
            ensure!(
                Instant::now() < end,
                "the stream was not ended within {limit:?}; the receiver says: {}",
                self.log()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The far end stops taking anything, but keeps the connection.
    pub fn freeze(&self) {
        self.child.signal(Signal::STOP);
    }

    /// Undoes [`Self::freeze`].
    pub fn thaw(&self) {
        self.child.signal(Signal::CONT);
    }

    /// The far end goes away; the file stays.
    pub fn kill(mut self) -> anyhow::Result<PathBuf> {
        self.child.kill()?;
        Ok(self.file)
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn listens(port: u16) -> anyhow::Result<bool> {
    let table = std::fs::read_to_string("/proc/net/tcp").context("cannot read the table of sockets")?;
    let local = format!("0100007F:{port:04X}");
    Ok(table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next() == Some(&local) && fields.nth(1) == Some(TCP_LISTEN)
    }))
}
