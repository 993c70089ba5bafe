//! A stand-in for a plugNmeet deployment: a real nats-server with the server's auth callout, the server's half of the fleet, its HTTP side
//! and a meeting page. Everything is on loopback and in a temporary directory, and is gone when the [`Standin`] is dropped.
//!
//! It runs on threads of its own, so that a test may block while it measures a file. Whoever includes it includes `measure` beside it.
#![allow(dead_code, reason = "the suite and the demo each use a part")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds, samples and pixels of short films are far from any limit"
)]
#![allow(clippy::missing_panics_doc, reason = "a lock is poisoned only by a panic of another test's thread")]

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub mod access;
pub mod call;
pub mod callout;
pub mod child;
pub mod cluster;
pub mod faulty_fs;
pub mod fleet;
pub mod https;
pub mod meeting;
pub mod nats;
pub mod nginx_rtmp;
pub mod notices;
pub mod object_store;
pub mod plain_page;
pub mod rtmp;
pub mod rtmp_server;
pub mod slow_line;
pub mod store_line;
pub mod web;

use callout::{Callout, SeenToken};
use cluster::Cluster;
use fleet::Fleet;
pub use meeting::{Meeting, Room};
use nats::Link;
use notices::Notices;
use web::Web;

/// The work queue's durable consumer (PROTOCOL 1).
pub const CONSUMER: &str = "transcoderWorker";

/// What the operator of this deployment has configured.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub api_key: String,
    pub api_secret: String,
    /// `recorder.recorder_channel`
    pub channel: String,
    /// `recorder.recorder_info_kv`
    pub bucket: String,
    /// `recorder.transcoding_jobs_subject`; also the stream's name.
    pub jobs: String,
    /// AckWait of the work queue; ten minutes in a real deployment.
    pub ack_wait: Duration,
    /// Whether bucket, stream and consumer are there from the start; else with [`Fleet::provision`].
    pub provisioned: bool,
    /// How long an access token is good for, and by how much the server's clock may differ.
    pub token_validity: Duration,
    pub token_leeway: Duration,
    /// Of one cluster; bucket and queue have as many replicas.
    pub nats_servers: usize,
    /// Where its HTTP side listens; port 0: any that is free.
    pub web: SocketAddr,
    /// Where its NATS server listens on loopback, where it is one; 0: any port that is free.
    pub nats_port: u16,
}

impl Default for Deployment {
    fn default() -> Self {
        Self {
            api_key: "plugnmeet".to_owned(),
            api_secret: "zumyyYWqv7KR2kUqvYdq4z4sXg7XTBD2ljT6".to_owned(),
            channel: "recorderChannel".to_owned(),
            bucket: "pnm-recorderInfo".to_owned(),
            jobs: "pnm-transcodingJobs".to_owned(),
            ack_wait: Duration::from_secs(600),
            provisioned: true,
            token_validity: Duration::from_secs(600),
            token_leeway: Duration::from_secs(60),
            nats_servers: 1,
            web: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            nats_port: 0,
        }
    }
}

impl Deployment {
    /// PROTOCOL 1's list, to the letter.
    pub fn may_publish(&self) -> Vec<String> {
        let Self { bucket, jobs, .. } = self;
        vec![
            "$JS.API.INFO".to_owned(),
            "_INBOX.>".to_owned(),
            format!("$JS.API.STREAM.INFO.KV_{bucket}"),
            format!("$KV.{bucket}.>"),
            format!("$JS.API.DIRECT.GET.KV_{bucket}.>"),
            jobs.clone(),
            format!("$JS.API.CONSUMER.MSG.NEXT.{jobs}.{CONSUMER}"),
            format!("$JS.API.CONSUMER.INFO.{jobs}.{CONSUMER}"),
            format!("$JS.ACK.{jobs}.{CONSUMER}.>"),
        ]
    }

    /// PROTOCOL 1's list, to the letter.
    pub fn may_subscribe(&self) -> Vec<String> {
        vec![self.channel.clone(), "_INBOX.>".to_owned()]
    }
}

/// The running deployment.
pub struct Standin {
    pub deployment: Deployment,
    /// Bucket, requests and jobs.
    pub fleet: Fleet,
    /// What recorders have reported over HTTP.
    pub notices: Arc<Notices>,
    web: Web,
    nats: Cluster,
    callout: Arc<Callout>,
    links: tokio::sync::Mutex<[Link; 2]>,
    /// Dropped last, after what keeps files in it.
    _runtime: Threads,
    dir: TempDir,
}

impl Standin {
    pub async fn start(deployment: Deployment) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("pnm-standin-").tempdir()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("standin")
            .enable_all()
            .build()?;
        let runtime = Threads(Some(runtime));
        let callout = Callout::new(deployment.clone());
        let nats = Cluster::start(dir.path(), &callout.issuer(), deployment.nats_servers, deployment.nats_port).await?;
        let notices = Notices::new(deployment.clone());

        let urls = nats.urls();
        let serve = {
            let (deployment, callout, notices) = (deployment.clone(), callout.clone(), notices.clone());
            async move {
                let callout_link = Link::callout(&urls).await?;
                callout.serve(callout_link.client.clone()).await?;
                let server_link = Link::server(&urls).await?;
                let fleet = Fleet::open(deployment.clone(), server_link.client.clone(), notices.clone()).await?;
                let web = Web::start(deployment, notices).await?;
                anyhow::Ok(([callout_link, server_link], fleet, web))
            }
        };
        let (links, fleet, web) = runtime.spawn(serve).await??;
        if deployment.provisioned {
            fleet.provision().await?;
        }
        Ok(Self { deployment, fleet, notices, web, nats, callout, links: links.into(), _runtime: runtime, dir })
    }

    /// `plugNmeet_info.host`
    pub fn host(&self) -> String {
        self.web.url()
    }

    /// One of `nats_info.nats_urls`.
    pub fn nats_url(&self) -> String {
        self.nats_urls().swap_remove(0)
    }

    /// `nats_info.nats_urls`, of all servers of the cluster.
    pub fn nats_urls(&self) -> Vec<String> {
        self.nats.urls()
    }

    /// What its servers call themselves.
    pub fn nats_names(&self) -> Vec<String> {
        self.nats.names()
    }

    /// A directory for whatever a test has to put somewhere.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How the server's token check is answered from now on.
    pub fn token_checks(&self, mood: notices::Mood) {
        self.web.token_checks(mood);
    }

    /// The header `Date` of its HTTP side from now on.
    pub fn tell_date(&self, date: &str) {
        self.web.tell_date(date);
    }

    /// A proxy answers everything of the server's HTTP side with this status, as while the server restarts; `None`: it is
    /// back.
    pub fn proxy_answers(&self, status: Option<u16>) {
        self.web.proxy_answers(status);
    }

    /// Waits until the proxy has answered so many loads of the meeting page.
    pub async fn wait_for_proxied_pages(&self, pages: usize, limit: Duration) -> anyhow::Result<()> {
        self.web.wait_for_proxied_pages(pages, limit).await
    }

    /// Opens a meeting; its token is good from now on.
    pub fn meeting(&self, meeting: Meeting) -> Room {
        self.web.open(meeting)
    }

    /// Every token somebody has connected with, in order.
    pub fn tokens(&self) -> Vec<SeenToken> {
        self.callout.seen()
    }

    /// Waits until `count` tokens have been seen.
    pub async fn wait_for_tokens(&self, count: usize, limit: Duration) -> anyhow::Result<Vec<SeenToken>> {
        let mut seen = self.callout.count();
        tokio::time::timeout(limit, seen.wait_for(|seen| *seen >= count))
            .await
            .with_context(|| format!("{} tokens seen within {limit:?}, not {count}", self.tokens().len()))??;
        Ok(self.tokens())
    }

    /// The auth callout does not answer from now on, as where the plugNmeet server does not run; or it does again.
    pub fn silence_callout(&self, silent: bool) {
        self.callout.answer_none(silent);
    }

    /// Every subject a recorder used although PROTOCOL 1 does not allow it.
    pub fn violations(&self) -> Vec<String> {
        self.nats.violations()
    }

    pub fn nats_log(&self) -> String {
        self.nats.log()
    }

    /// The nats-server ends; its store stays.
    pub fn stop_nats(&self) -> anyhow::Result<()> {
        self.nats.stop()
    }

    /// The nats-server is killed; its store stays.
    pub fn kill_nats(&self) -> anyhow::Result<()> {
        self.nats.kill()
    }

    /// SIGSTOP to the nats-server, which then answers nobody, or SIGCONT.
    pub fn signal_nats(&self, signal: Signal) {
        self.nats.signal(signal);
    }

    /// One server of the cluster is killed; who was connected to it finds another.
    pub fn kill_nats_server(&self, name: &str) -> anyhow::Result<()> {
        self.nats.kill_one(name)
    }

    /// The nats-server is back on its port, and the server with its callout connected to it.
    pub async fn start_nats(&self) -> anyhow::Result<()> {
        let mut links = self.links.lock().await;
        let before = [links[0].connects(), links[1].connects()];
        self.nats.resume().await?;
        for (link, before) in links.iter_mut().zip(before) {
            link.wait_beyond(before).await?;
        }
        Ok(())
    }

    pub async fn restart_nats(&self) -> anyhow::Result<()> {
        self.stop_nats()?;
        self.start_nats().await
    }
}

/// A runtime that may be dropped in a test's async context.
struct Threads(Option<Runtime>);

impl Deref for Threads {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("taken only on drop")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
