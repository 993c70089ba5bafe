//! Where broadcasts go to: nginx with its RTMP module (Debian's libnginx-mod-rtmp), which writes each publication to a file of
//! its own, and drops a publisher when it is asked to.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::child::Child;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The recorder takes an end within 3 s for a refusal of the stream key.
const ACCEPTED_AFTER: Duration = Duration::from_millis(3500);
/// By then there are two keyframes and some sound.
const ACCEPTED_MS: u32 = 5500;
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running nginx; it can be ended and started again on the same ports.
pub struct NginxRtmp {
    child: Option<Child>,
    dir: PathBuf,
    port: u16,
    control: u16,
}

impl NginxRtmp {
    /// Starts it; what it receives goes to files in `dir`.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let port = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let dir = dir.join("nginx");
        std::fs::create_dir_all(dir.join("received"))?;
        let mut nginx = Self { child: None, port: port()?, control: port()?, dir };
        nginx.resume().await?;
        Ok(nginx)
    }

    /// Starts it (again).
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        let (dir, port, control) = (self.dir.display(), self.port, self.control);
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {dir}/{name};"))
            .join(" ");
        let config = format!(
            "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
             daemon off; master_process off; user root; pid {dir}/pid; error_log {dir}/log warn;\n\
             events {{}}\n\
             http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{control}; location /control {{ rtmp_control all; }} }} }}\n\
             rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on;\n\
             record all; record_path {dir}/received; record_unique on; }} }} }}\n"
        );
        let file = self.dir.join("nginx.conf");
        std::fs::write(&file, config)?;
        let output = std::fs::File::create(self.dir.join("output"))?;
        let mut child = Child::spawn("nginx", "/usr/sbin/nginx", |command| {
            command.arg("-p").arg(&self.dir).arg("-c").arg(&file).arg("-e").arg(self.dir.join("log"));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        })?;
        let end = Instant::now() + START_LIMIT;
        while TcpStream::connect(("127.0.0.1", control)).await.is_err() {
            let said = || std::fs::read_to_string(self.dir.join("output")).unwrap_or_default();
            ensure!(child.ended()?.is_none() && Instant::now() < end, "nginx does not listen: {}", said());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.child = Some(child);
        Ok(())
    }

    /// It goes away, with all its connections.
    pub fn kill(&mut self) {
        self.child = None;
    }

    /// What `START_RTMP` names.
    pub fn url(&self, key: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{key}", self.port)
    }

    /// Ends the connection of who publishes this.
    pub async fn drop_publisher(&self, key: &str) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.control)).await?;
        let request = format!("GET /control/drop/publisher?app=live&name={key} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        // The body is how many it has dropped.
        ensure!(answer.trim_end().ends_with("\r\n1"), "nobody was dropped: {answer}");
        Ok(())
    }

    /// What was published under this key, a file for each publication, in order.
    pub fn received(&self, key: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.join("received")).into_iter().flatten().flatten();
        let of_key = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(key));
        let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(of_key).collect();
        files.sort();
        files
    }

    /// Waits until the first publication has gone on for so long that its end is no refusal.
    pub async fn wait_until_accepted(&self, key: &str, limit: Duration) -> anyhow::Result<PathBuf> {
        let began = Instant::now();
        self.wait_for_media(key, 1, 0, limit).await?;
        tokio::time::sleep(ACCEPTED_AFTER).await;
        self.wait_for_media(key, 1, ACCEPTED_MS, limit.saturating_sub(began.elapsed())).await
    }

    /// Waits until the n-th publication (from 1) has so many milliseconds of media.
    pub async fn wait_for_media(&self, key: &str, n: usize, ms: u32, limit: Duration) -> anyhow::Result<PathBuf> {
        let end = Instant::now() + limit;
        loop {
            let received = self.received(key);
            if let Some(file) = received.get(n - 1).filter(|file| last_ms(file) >= Some(ms)) {
                return Ok(file.clone());
            }
            ensure!(Instant::now() < end, "publication {n} has no {ms} ms of media: {received:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The timestamp of the last tag of an FLV file that may still grow.
pub fn last_ms(file: &Path) -> Option<u32> {
    let bytes = std::fs::read(file).ok()?;
    // A header of 9 bytes and the size of no tag; then each tag with its size behind it.
    let (mut at, mut last) = (13, None);
    while let Some(head) = bytes.get(at..at + 11) {
        let number = |from: usize| head[from..from + 3].iter().fold(0, |all, byte| all << 8 | u32::from(*byte));
        last = Some(number(4) | u32::from(head[7]) << 24);
        at += 15 + usize::try_from(number(1)).ok()?;
    }
    last
}
