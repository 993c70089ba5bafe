//! The HTTP client of a store: as every client of this program (HTTP/1.1: no part holds up another), with a limit for a
//! connection that stands still.

use std::path::PathBuf;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector};
use reqwest::Client;
use reqwest::redirect::Policy;
use url::Url;

use crate::http;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Makes the clients of one store.
#[derive(Debug)]
pub(super) struct StoreConnector {
    /// The store's own address, which decides on TLS and on the way round a proxy.
    pub endpoint: Url,
    pub ca: Option<PathBuf>,
    /// After so long without a byte taken, a connection is given up.
    pub stall: Duration,
}

impl HttpConnector for StoreConnector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = Client::builder()
            .connect_timeout(CONNECT_DEADLINE)
            .tcp_user_timeout(self.stall)
            // A redirect means a wrong region or endpoint, and the signature is for the first address only.
            .redirect(Policy::none())
            .user_agent(concat!("plugnmeet-recorder/", env!("CARGO_PKG_VERSION")));
        let client = http::build(client, &self.endpoint, self.ca.as_deref());
        client
            .map(HttpClient::new)
            .map_err(|error| object_store::Error::Generic { store: "HTTP", source: error.into() })
    }
}
