//! A plugNmeet server for development: its NATS, its notices, its meeting page, and a page from which recordings are
//! started, stopped, listed and played. `docker-compose_sample.yaml` runs it beside a recorder; `--help` says how to do so
//! by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[path = "../../tests/measure/mod.rs"]
mod measure;
mod site;
#[path = "../../tests/standin/mod.rs"]
mod standin;

use site::Site;
use standin::{Deployment, Standin};

/// A stand-in for a plugNmeet server, with a page at <http://localhost:8090>
///
/// For development only: whoever reaches it may do anything. Recorders join it with packaging/compose/config.yaml.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where its own page is
    #[arg(long, default_value = "127.0.0.1:8090")]
    page: SocketAddr,
    /// Where meetings are, and where recorders report: `plugNmeet_info.host`, which must be localhost over plain HTTP
    #[arg(long, default_value = "127.0.0.1:8088")]
    meetings: SocketAddr,
    /// Port of its nats-server on 127.0.0.1
    #[arg(long, default_value_t = 4222)]
    nats_port: u16,
    /// The recorders' `main_path`, from which recordings are played
    #[arg(long, default_value = "recordings")]
    recordings: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let deployment = Deployment { web: arguments.meetings, nats_port: arguments.nats_port, ..Deployment::default() };
    let standin = Standin::start(deployment).await?;
    let listener =
        TcpListener::bind(arguments.page).await.with_context(|| format!("cannot listen at {}", arguments.page))?;
    let shown = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr()?.port()));
    println!("page http://{shown}, meetings {}, NATS {}", standin.host(), standin.nats_url());
    let site = Site::new(Arc::new(standin), arguments.recordings);
    tokio::select! {
        served = axum::serve(listener, site.router()) => served.context("the page is not served any more"),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}
