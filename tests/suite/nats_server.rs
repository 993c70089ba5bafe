//! A real nats-server of a test's own: free port, its data in a temporary directory, killed at the end.
//!
//! `PNM_NATS_SERVER` names another binary than the one on PATH or in `/usr/sbin`.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::{self, consumer, kv, stream};
use plugnmeet_recorder::config::{NatsConfig, ServerConfig};
use tempfile::TempDir;

pub const BUCKET: &str = "pnm-recorderInfo";
pub const CHANNEL: &str = "pnm-recorderChannel";
pub const JOBS: &str = "pnm-transcodingJobs";
pub const CONSUMER: &str = "transcoderWorker";
pub const API_SECRET: &str = "s3cretOfTheApi";

pub struct NatsServer {
    child: Option<Child>,
    port: u16,
    dir: TempDir,
}

impl NatsServer {
    /// With `more` in its configuration file.
    pub async fn start(more: &str) -> Self {
        let mut server = Self::stopped();
        server.resume(more).await;
        server
    }

    /// Only its port is chosen.
    pub fn stopped() -> Self {
        Self { child: None, port: free_port(), dir: tempfile::tempdir().unwrap() }
    }

    /// Starts it (again), on the same port and data.
    pub async fn resume(&mut self, more: &str) {
        assert!(self.child.is_none());
        let dir = self.dir.path();
        let config = format!(
            "listen: \"127.0.0.1:{}\"\nserver_name: test\njetstream {{ store_dir: {:?} }}\nlog_file: {:?}\n{more}\n",
            self.port,
            dir.join("data").display(),
            self.log_file().display(),
        );
        std::fs::write(dir.join("nats.conf"), config).unwrap();
        let mut child = Command::new(binary())
            .arg("-c")
            .arg(dir.join("nats.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is needed: apt-get install nats-server");
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                self.child = Some(child);
                return;
            }
            assert!(child.try_wait().unwrap().is_none(), "nats-server ended: {}", self.log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        child.kill().ok();
        panic!("nats-server does not listen: {}", self.log());
    }

    /// As a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("nats.log")
    }

    /// A client with all rights, `user_info` being `user:password@` or empty.
    pub async fn client(&self, user_info: &str) -> async_nats::Client {
        let mut options = async_nats::ConnectOptions::new();
        if let Some((user, password)) = user_info.trim_end_matches('@').split_once(':') {
            options = options.user_and_password(user.to_owned(), password.to_owned());
        }
        options.connect(format!("127.0.0.1:{}", self.port)).await.unwrap()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the plugNmeet server makes at its start (PROTOCOL 1). Made as a stream, as a bucket is one: the client's own call
/// does not understand what a server 2.9 says of the account.
pub async fn make_bucket(client: &async_nats::Client) -> kv::Store {
    let context = jetstream::new(client.clone());
    let stream = stream::Config {
        name: format!("KV_{BUCKET}"),
        subjects: vec![format!("$KV.{BUCKET}.>")],
        max_messages_per_subject: 1,
        allow_rollup: true,
        allow_direct: true,
        deny_delete: true,
        ..stream::Config::default()
    };
    context.create_stream(stream).await.unwrap();
    context.get_key_value(BUCKET).await.unwrap()
}

pub async fn make_queue(client: &async_nats::Client, ack_wait: Duration) {
    let stream = jetstream::new(client.clone())
        .create_stream(stream::Config {
            name: JOBS.to_owned(),
            subjects: vec![JOBS.to_owned()],
            retention: stream::RetentionPolicy::WorkQueue,
            ..stream::Config::default()
        })
        .await
        .unwrap();
    stream
        .create_consumer(consumer::pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: consumer::AckPolicy::Explicit,
            ack_wait,
            max_deliver: 3,
            ..consumer::pull::Config::default()
        })
        .await
        .unwrap();
}

/// `urls`: of the NATS servers.
pub fn nats_config(urls: &[String]) -> NatsConfig {
    NatsConfig {
        urls: urls.to_vec(),
        recorder_channel: CHANNEL.to_owned(),
        recorder_info_kv: BUCKET.to_owned(),
        transcoding_jobs_subject: JOBS.to_owned(),
    }
}

pub fn server_config(host: &str) -> ServerConfig {
    ServerConfig {
        host: host.to_owned(),
        api_key: "keyOfTheApi".to_owned(),
        api_secret: API_SECRET.to_owned(),
        join_host: None,
        ca_file: None,
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn binary() -> PathBuf {
    crate::standin::nats::binary().unwrap()
}
