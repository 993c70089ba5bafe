//! HTTP: clients, bodies of answers, and texts of errors.

use std::path::Path;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, ClientBuilder, Response, StatusCode, Url};

use crate::config::ServerConfig;
use crate::tls::ca_file::CaFileError;
use crate::tls::{self, roots};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Time limit of the whole request, including the body of its answer.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 3;

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    #[error("plugNmeet_info.host is no http:// or https:// address: {0}")]
    Host(String),
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    #[error("HTTP cannot be set up ({0}); for https the package ca-certificates must be installed")]
    Setup(String),
}

/// Builds a client for https or plain HTTP. `ca_file`: certificates that https trusts besides the host's roots.
///
/// # Errors
/// Where the CA file cannot be read, or TLS cannot be set up on this host.
pub fn build(client: ClientBuilder, https: bool, ca_file: Option<&Path>) -> Result<Client, HttpClientError> {
    tls::provide_crypto();
    let client = if https {
        client.tls_certs_merge(roots::for_http(ca_file)?)
    } else {
        // Otherwise reqwest loads the host's roots, and fails on a host without any even for plain HTTP.
        client.tls_certs_only([])
    };
    client.build().map_err(|error| HttpClientError::Setup(causes(error)))
}

/// A client for the plugNmeet server, and the URL of one of its paths.
///
/// # Errors
/// Where the server's address is invalid, or as [`build`].
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

/// Follows redirects within the host and never from https to plain HTTP, because key and signature are sent along. Only
/// with codes that keep method and body (RFC 9110, 15.4.8 and 15.4.9).
fn redirect(attempt: Attempt) -> reqwest::redirect::Action {
    let keeps_body = matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let same_place = attempt.previous().last().is_some_and(|from| {
        let to = attempt.url();
        let upgrade = from.scheme() == "http" && to.scheme() == "https";
        from.host_str() == to.host_str() && (from.origin() == to.origin() || upgrade)
    });
    if keeps_body && same_place && attempt.previous().len() <= MAX_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// The first `limit` bytes of an answer's body, and whether there are more.
///
/// # Errors
/// Where the connection breaks.
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

/// The error with all of its causes, without the URL. The outermost error only says that the request failed.
#[must_use]
pub fn causes(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::new(error.without_url()))
}
