//! Where the server's requests come from: nowhere, until there is a connection.

use tokio::sync::oneshot;

use crate::nats::{Incoming, Requests};

/// Where requests come from.
pub(super) enum RequestSource {
    /// There is no connection yet.
    Awaited(oneshot::Receiver<Requests>),
    Connected(Requests),
    /// The program ends without a connection.
    Never,
}

impl RequestSource {
    pub fn of(connected: oneshot::Receiver<Requests>) -> Self {
        Self::Awaited(connected)
    }

    /// The next request. Cancel-safe. `None`: the client has ended.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            match self {
                Self::Connected(requests) => return requests.next().await,
                Self::Awaited(connected) => *self = connected.await.map_or(Self::Never, Self::Connected),
                Self::Never => std::future::pending::<()>().await,
            }
        }
    }
}
