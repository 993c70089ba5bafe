//! The NATS server of the deployment: a real nats-server with JetStream and an auth callout, on a free loopback port.
//! What the callout decides is in [`super::callout`].

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use async_nats::{Client, ConnectOptions, Event};
use rustix::process::Signal;
use tokio::sync::watch;

use super::child::Child;

/// Where the recorders and the server meet; the callout answers in the other account.
pub const ACCOUNT: &str = "PNM";
const CALLOUT_ACCOUNT: &str = "AUTH";
const SERVER_USER: &str = "plugnmeet-server";
const CALLOUT_USER: &str = "plugnmeet-callout";
const PASSWORD: &str = "stand-in";
/// Auth callout came with 2.10.
const OLDEST: (u32, u32) = (2, 10);
const START_LIMIT: Duration = Duration::from_secs(15);

/// One server process. It keeps its port and its store over restarts.
pub struct NatsServer {
    name: String,
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    process: Mutex<Option<Child>>,
}

impl NatsServer {
    /// Starts it with its files in `dir`; `issuer` is the public account key that signs the callout's answers, `cluster` the
    /// section of that name, if it is not alone. `port` 0: any that is free.
    pub async fn start(dir: &Path, name: &str, issuer: &str, cluster: &str, port: u16) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let program = binary()?;
        let config = format!(
            r#"server_name: "{name}"
jetstream {{ store_dir: "{store}" }}
accounts {{
  {ACCOUNT}: {{ jetstream: enabled, users: [ {{ user: "{SERVER_USER}", password: "{PASSWORD}" }} ] }}
  {CALLOUT_ACCOUNT}: {{ users: [ {{ user: "{CALLOUT_USER}", password: "{PASSWORD}" }} ] }}
  SYS: {{}}
}}
system_account: SYS
authorization {{
  auth_callout {{ issuer: {issuer}, auth_users: [ "{SERVER_USER}", "{CALLOUT_USER}" ], account: {CALLOUT_ACCOUNT} }}
}}
{cluster}"#,
            store = dir.join("jetstream").display()
        );
        std::fs::write(dir.join("nats.conf"), config)?;
        let mut server =
            Self { name: name.to_owned(), program, dir: dir.to_owned(), port: 0, process: Mutex::new(None) };
        let id = server.spawn(if port == 0 { -1 } else { i32::from(port) })?;
        server.port = server.wait_for_ports(id).await?;
        Ok(server)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it again, on its own port and with what it had stored.
    pub async fn resume(&self) -> anyhow::Result<()> {
        let id = self.spawn(i32::from(self.port))?;
        self.wait_for_ports(id).await?;
        Ok(())
    }

    /// SIGTERM; what was stored stays.
    pub fn stop(&self) -> anyhow::Result<()> {
        let process = self.process.lock().unwrap().take();
        if let Some(mut process) = process {
            process.stop(Duration::from_secs(5))?;
        }
        Ok(())
    }

    /// SIGKILL, as when the host goes.
    pub fn kill(&self) -> anyhow::Result<()> {
        let process = self.process.lock().unwrap().take();
        if let Some(mut process) = process {
            process.kill()?;
        }
        Ok(())
    }

    /// SIGSTOP, or SIGCONT.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &*self.process.lock().unwrap() {
            process.signal(signal);
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Every subject that a client was refused, as nats-server logged it.
    pub fn violations(&self) -> Vec<String> {
        self.log().lines().filter(|line| line.contains("Violation")).map(str::to_owned).collect()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("nats.log")
    }

    /// `port` −1 lets the server choose one, so that no other process can take it in between.
    fn spawn(&self, port: i32) -> anyhow::Result<u32> {
        let program = self.program.to_str().context("the path of nats-server is no text")?;
        let child = Child::spawn("nats-server", program, |command| {
            command
                .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
                .arg("--config")
                .arg(self.dir.join("nats.conf"))
                .arg("--ports_file_dir")
                .arg(&self.dir)
                .arg("--log")
                .arg(self.log_path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
        })?;
        let id = child.id();
        *self.process.lock().unwrap() = Some(child);
        Ok(id)
    }

    /// The server writes its ports file once it listens.
    async fn wait_for_ports(&self, id: u32) -> anyhow::Result<u16> {
        let file = self.dir.join(format!("nats-server_{id}.ports"));
        let end = Instant::now() + START_LIMIT;
        loop {
            if let Some(port) = std::fs::read(&file).ok().and_then(|bytes| client_port(&bytes)) {
                return Ok(port);
            }
            let ended = match self.process.lock().unwrap().as_mut() {
                Some(process) => process.ended()?,
                None => bail!("nats-server was stopped while it started"),
            };
            if ended.is_some() || Instant::now() > end {
                bail!("nats-server did not start ({ended:?}); its log:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The file may be half written.
fn client_port(ports: &[u8]) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_slice(ports).ok()?;
    url::Url::parse(ports["nats"][0].as_str()?).ok()?.port()
}

/// A connection of the stand-in itself, which the callout does not concern; it comes back by itself.
pub struct Link {
    pub client: Client,
    /// How often it has been connected.
    connects: watch::Receiver<u64>,
}

impl Link {
    /// The plugNmeet server's own connection.
    pub async fn server(urls: &[String]) -> anyhow::Result<Self> {
        Self::open(urls, SERVER_USER).await
    }

    /// The connection that answers auth callouts.
    pub async fn callout(urls: &[String]) -> anyhow::Result<Self> {
        Self::open(urls, CALLOUT_USER).await
    }

    async fn open(urls: &[String], user: &str) -> anyhow::Result<Self> {
        let (count, connects) = watch::channel(0);
        let client = ConnectOptions::with_user_and_password(user.to_owned(), PASSWORD.to_owned())
            .reconnect_delay_callback(|_| Duration::from_millis(50))
            .event_callback(move |event| {
                if event == Event::Connected {
                    count.send_modify(|connects| *connects += 1);
                }
                std::future::ready(())
            })
            .connect(urls)
            .await
            .with_context(|| format!("cannot connect to {} as {user}", urls.join(", ")))?;
        let mut link = Self { client, connects };
        link.wait_beyond(0).await?;
        Ok(link)
    }

    pub fn connects(&self) -> u64 {
        *self.connects.borrow()
    }

    /// Waits until it has been connected more than `connects` times.
    pub async fn wait_beyond(&mut self, connects: u64) -> anyhow::Result<()> {
        tokio::time::timeout(START_LIMIT, self.connects.wait_for(|now| *now > connects))
            .await
            .context("the stand-in could not reach its nats-server again")??;
        Ok(())
    }
}

/// The nats-server that tests and demo run: `PNM_NATS_SERVER`, else the one `tools/install-deps` fetched, else that on `PATH`.
pub fn binary() -> anyhow::Result<PathBuf> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/nats-server");
    let program = match std::env::var_os("PNM_NATS_SERVER") {
        Some(path) => PathBuf::from(path),
        None if fetched.exists() => fetched,
        None => PathBuf::from("nats-server"),
    };
    let wanted = format!(
        "nats-server {}.{} or newer is needed (auth callout); set PNM_NATS_SERVER or run tools/install-deps",
        OLDEST.0, OLDEST.1
    );
    let output = Command::new(&program)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {}: {wanted}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match version(&text) {
        Some(found) if found >= OLDEST => Ok(program),
        _ => bail!("{} says {text:?}: {wanted}", program.display()),
    }
}

/// Of `nats-server: v2.15.1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.rsplit_once('v')?.1.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
