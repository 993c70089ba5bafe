//! What programs that watch this node ask by HTTP: is it alive, would it take work, its numbers, may it be taken away;
//! and the order to drain it (`docs/signals.md`).
//!
//! Nothing that asks holds anything up: connections are few and short ([`connections`]), every answer has a deadline,
//! and only [`sampling`] touches a disk or a server, in time with itself.

mod connections;
mod drain;
mod health;
mod measurement;
pub mod node_state;
mod page;
mod protection;
pub(super) mod readiness;
mod refusal;
mod routes;
mod sampling;
mod server_hooks;
mod token_limit;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::admin::http::connections::{Caller, Connections};
use crate::admin::http::node_state::NodeState;
use crate::codes;
use crate::config::Config;
use crate::retry::Backoff;
use crate::telemetry::log_throttle::LogThrottle;

/// Waits between two tries to get the port.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Serves until the handle is dropped; `None` where the configuration wants none.
#[must_use]
pub fn start(config: &Config, node: &NodeState) -> Option<AbortOnDropHandle<()>> {
    let listen = config.admin.listen?;
    let (server, node) = (config.server.clone(), node.clone());
    let run = async move {
        tokio::join!(serve(listen, node.clone()), sampling::run(&node, &server));
    };
    Some(AbortOnDropHandle::new(tokio::spawn(run)))
}

async fn serve(listen: SocketAddr, node: NodeState) {
    let listener = bind(listen).await;
    tracing::info!(%listen, "health, metrics, drain and the node's page are served here (admin.listen)");
    let service = routes::router(&node).into_make_service_with_connect_info::<Caller>();
    // It returns never.
    let _ = axum::serve(Connections::of(listener), service).await;
}

/// The port, as soon as it can be had: another node may have it.
async fn bind(listen: SocketAddr) -> TcpListener {
    let (mut backoff, mut throttle) = (Backoff::new(FIRST_WAIT, LONGEST_WAIT), LogThrottle::default());
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => return listener,
            Err(error) if throttle.due(Instant::now()) => tracing::error!(
                code = %codes::LISTEN_FAILED,
                %listen, %error,
                "nobody can ask for this node's health and metrics: admin.listen cannot be opened. The node works without, and \
                 tries it again. Where two nodes run on this host, give each another port, or \"\" to one of them"
            ),
            Err(_) => {}
        }
        tokio::time::sleep(backoff.wait()).await;
    }
}
