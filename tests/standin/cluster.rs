//! The deployment's NATS: one server, or a cluster of several over which bucket and queue are spread.

use std::net::TcpListener;
use std::path::Path;

use anyhow::Context as _;
use rustix::process::Signal;

use super::nats::NatsServer;

/// All servers of the deployment; never empty.
pub struct Cluster {
    servers: Vec<NatsServer>,
}

impl Cluster {
    /// Starts `size` servers, each with its files in a directory of its own in `dir`; `issuer` is the public account key that
    /// signs the callout's answers. `port`: of the one where there is one, else 0: any.
    pub async fn start(dir: &Path, issuer: &str, size: usize, port: u16) -> anyhow::Result<Self> {
        let routes = Routes::choose(size)?;
        let mut servers = Vec::new();
        for n in 0..size {
            let name = format!("stand-in-{}", n + 1);
            servers.push(NatsServer::start(&dir.join(&name), &name, issuer, &routes.section(n), port).await?);
        }
        Ok(Self { servers })
    }

    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsServer::url).collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.name().to_owned()).collect()
    }

    /// SIGKILL to one of them, as when its host goes.
    pub fn kill_one(&self, name: &str) -> anyhow::Result<()> {
        self.servers.iter().find(|server| server.name() == name).context("no such server")?.kill()
    }

    /// SIGTERM to all.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.servers.iter().try_for_each(NatsServer::stop)
    }

    /// SIGKILL to all.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.servers.iter().try_for_each(NatsServer::kill)
    }

    /// SIGSTOP or SIGCONT to all.
    pub fn signal(&self, signal: Signal) {
        self.servers.iter().for_each(|server| server.signal(signal));
    }

    /// Starts all again, which must have been stopped.
    pub async fn resume(&self) -> anyhow::Result<()> {
        for server in &self.servers {
            server.resume().await?;
        }
        Ok(())
    }

    pub fn log(&self) -> String {
        self.servers.iter().map(NatsServer::log).collect()
    }

    pub fn violations(&self) -> Vec<String> {
        self.servers.iter().flat_map(NatsServer::violations).collect()
    }
}

/// The ports at which the servers of a cluster reach each other. Each has to know them all from the start: who leads is voted
/// on among as many as the configuration names.
struct Routes(Vec<u16>);

impl Routes {
    fn choose(size: usize) -> anyhow::Result<Self> {
        // All are held until the last is chosen, so that none is chosen twice.
        let listeners: Vec<_> = (0..size).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        Ok(Self(listeners.iter().map(|one| one.local_addr().map(|at| at.port())).collect::<Result<_, _>>()?))
    }

    /// The `cluster` section of the n-th server's configuration; a server that is alone has none.
    fn section(&self, n: usize) -> String {
        let Self(ports) = self;
        if ports.len() < 2 {
            return String::new();
        }
        let routes: Vec<String> = ports.iter().map(|port| format!("\"nats-route://127.0.0.1:{port}\"")).collect();
        let (own, routes) = (ports[n], routes.join(", "));
        format!("cluster {{ name: \"stand-in\", listen: \"127.0.0.1:{own}\", routes: [ {routes} ] }}\n")
    }
}
