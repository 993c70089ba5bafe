//! HTTP: clients, bodies of answers, and texts of errors. A proxy of the environment (`http_proxy` and its like) is used,
//! but never for this host itself.

use std::path::Path;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, ClientBuilder, Response, StatusCode, Url};

use url::Host;

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

/// Builds a client for `url`, which is https or plain HTTP, and the URLs of its host. `ca_file`: certificates that https
/// trusts besides the host's roots.
///
/// # Errors
/// Where the CA file cannot be read, or TLS cannot be set up on this host.
pub fn build(client: ClientBuilder, url: &Url, ca_file: Option<&Path>) -> Result<Client, HttpClientError> {
    tls::provide_crypto();
    // The client of object stores brings HTTP/2 into the build; nothing here is tried with it.
    let client = client.http1_only();
    let client = if is_loopback(url) { client.no_proxy() } else { client };
    let client = if url.scheme() == "https" {
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
    if !matches!(url.scheme(), "http" | "https") {
        return Err(HttpClientError::Host(format!("its scheme is {:?}", url.scheme())));
    }
    let client = Client::builder()
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(REQUEST_DEADLINE)
        .redirect(Policy::custom(redirect));
    Ok((build(client, &url, server.ca_file.as_deref())?, url))
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

/// Whether the URL names this host itself, which no proxy can reach (RFC 6761, 6.3: all names in `localhost`).
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// To whom a request for `url` goes: scheme, host and port, and the proxy of the environment where there is one. No
/// path, parameters or credentials.
#[must_use]
pub fn route(url: &Url) -> String {
    let origin = url.origin().ascii_serialization();
    let proxy = || origin.parse().ok().and_then(|origin| Matcher::from_system().intercept(&origin));
    match (!is_loopback(url)).then(proxy).flatten() {
        // Its user and password are not in its URI.
        Some(proxy) => format!("{origin} by the proxy {}", proxy.uri().to_string().trim_end_matches('/')),
        None => origin,
    }
}

/// The error with all of its causes, and to whom the request went, without the rest of the URL. The outermost error only
/// says that the request failed.
#[must_use]
pub fn causes(error: reqwest::Error) -> String {
    let to = error.url().map(|url| format!("{}: ", route(url))).unwrap_or_default();
    format!("{to}{:#}", anyhow::Error::new(error.without_url()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_known_by_each_of_its_names() {
        let is = |url: &str| is_loopback(&Url::parse(url).unwrap());
        for url in [
            "http://127.0.0.1:8080/x",
            "http://127.9.9.9",
            "https://localhost",
            "http://a.LOCALHOST.:1",
            "http://[::1]/",
        ] {
            assert!(is(url), "{url}");
        }
        assert!(is("http://[::ffff:127.0.0.1]/"));
        for url in ["http://10.0.0.1", "https://localhost.example.com", "http://[::2]", "http://notlocalhost"] {
            assert!(!is(url), "{url}");
        }
    }

    #[test]
    fn a_route_names_no_secret() {
        let url = Url::parse("http://joe:correct-horse@127.0.0.1:8080/a?key=battery").unwrap();
        assert_eq!(route(&url), "http://127.0.0.1:8080");
    }
}
