//! HTTP: how a client is built, an answer's body read, and an error named.

use std::error::Error as _;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, ClientBuilder, Response, StatusCode, Url};

use crate::config::ServerConfig;
use crate::tls::ca_file::CaFileError;
use crate::tls::{self, roots};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// For the whole request, the last byte of its answer included.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
const MOST_REDIRECTS: usize = 3;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    #[error("plugNmeet_info.host is no http:// or https:// address: {0}")]
    Host(String),
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    #[error("HTTP cannot be set up ({0}); for https the package ca-certificates must be installed")]
    Setup(String),
}

/// Builds a client for `https` or for plain HTTP. `ca_file`: whom https trusts besides the host's roots.
///
/// # Errors
/// Where the CA file cannot be read, or TLS cannot be set up on this host.
pub fn build(client: ClientBuilder, https: bool, ca_file: Option<&Path>) -> Result<Client, HttpClientError> {
    tls::provide_crypto();
    let client = if https {
        client.tls_certs_merge(roots::for_http(ca_file)?)
    } else {
        // Else the host's root certificates are loaded, and a host without any could not even speak plain HTTP.
        client.tls_certs_only([])
    };
    client.build().map_err(|error| HttpClientError::Setup(causes(error)))
}

/// What speaks with the plugNmeet server, and the address of one of its paths.
///
/// # Errors
/// Where the server's address cannot be used, or as [`build`].
pub fn server_client(server: &ServerConfig, path: &str) -> Result<(Client, Url), HttpClientError> {
    let url = format!("{}{path}", server.host.trim_end_matches('/'));
    let url = Url::parse(&url).map_err(|error| HttpClientError::Host(error.to_string()))?;
    let https = match url.scheme() {
        "https" => true,
        "http" => false,
        other => return Err(HttpClientError::Host(format!("its scheme is {other:?}"))),
    };
    let client = Client::builder()
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(REQUEST_DEADLINE)
        .redirect(Policy::custom(redirect));
    Ok((build(client, https, server.ca_file.as_deref())?, url))
}

/// Followed within the host and never down to plain HTTP: the key and the signature travel along. Only the codes that keep
/// method and body (RFC 9110, 15.4.8 and 15.4.9).
fn redirect(attempt: Attempt) -> reqwest::redirect::Action {
    let keeps_body = matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let same_place = attempt.previous().last().is_some_and(|from| {
        let to = attempt.url();
        let upgrade = from.scheme() == "http" && to.scheme() == "https";
        from.host_str() == to.host_str() && (from.origin() == to.origin() || upgrade)
    });
    if keeps_body && same_place && attempt.previous().len() <= MOST_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// What an answer's body begins with, at most `limit` bytes, and whether there is more.
///
/// # Errors
/// Where it breaks off.
pub async fn body(response: &mut Response, limit: usize) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let (mut body, mut cut) = (Vec::new(), false);
    while !cut {
        let Some(chunk) = response.chunk().await? else { break };
        let free = limit - body.len();
        cut = chunk.len() > free;
        body.extend_from_slice(&chunk[..chunk.len().min(free)]);
    }
    Ok((body, cut))
}

/// The error and its causes: the first alone only says that the request failed. The URL is not in it.
#[must_use]
pub fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let _ = write!(text, ": {next}");
        cause = next.source();
    }
    text
}
