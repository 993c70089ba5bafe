//! One notice as one HTTP request (PROTOCOL 5).

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{StatusCode, Url};

use super::answer::{self, Answer, BODY_LIMIT, Response};
use crate::config::ServerConfig;
use crate::protocol::signature::hash_signature;
use crate::tls::ca_file::CaFileError;
use crate::tls::roots;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// For the whole request, the last byte of its answer included.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
const MOST_REDIRECTS: usize = 3;

/// Why notices cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum NotifierError {
    #[error("plugNmeet_info.host is no http:// or https:// address: {0}")]
    Host(String),
    #[error("plugNmeet_info.api_key holds a character that cannot stand in an HTTP header")]
    ApiKey,
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    #[error("HTTP cannot be set up ({0}); for https the package ca-certificates must be installed")]
    Client(String),
}

/// Where notices go, and as whom.
pub(super) struct Post {
    client: reqwest::Client,
    url: Url,
    api_key: HeaderValue,
    api_secret: String,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Post").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

impl Post {
    pub fn new(server: &ServerConfig) -> Result<Self, NotifierError> {
        let (client, url) = client(server, "/auth/recorder/notify")?;
        let mut api_key = HeaderValue::from_str(&server.api_key).map_err(|_| NotifierError::ApiKey)?;
        api_key.set_sensitive(true);
        Ok(Self { client, url, api_key, api_secret: server.api_secret.clone() })
    }

    /// Sends the bytes of a `RecorderToPlugNmeet` once.
    pub async fn send(&self, body: Bytes) -> Answer {
        let signature = hash_signature(&self.api_secret, &body);
        let request = self
            .client
            .post(self.url.clone())
            .header("API-KEY", self.api_key.clone())
            .header("HASH-SIGNATURE", signature)
            .header(CONTENT_TYPE, "application/protobuf")
            .body(body);
        match request.send().await {
            Ok(response) => answer(response).await,
            Err(error) => Answer::Again(causes(&error.without_url())),
        }
    }
}

/// What speaks with the server, and the address of one of its paths.
///
/// # Errors
/// Where the server's address cannot be used, or TLS cannot be set up on this host.
pub(crate) fn client(server: &ServerConfig, path: &str) -> Result<(reqwest::Client, Url), NotifierError> {
    crate::tls::provide_crypto();
    let url = format!("{}{path}", server.host.trim_end_matches('/'));
    let url = Url::parse(&url).map_err(|error| NotifierError::Host(error.to_string()))?;
    let https = match url.scheme() {
        "https" => true,
        "http" => false,
        other => return Err(NotifierError::Host(format!("its scheme is {other:?}"))),
    };
    let mut client = reqwest::Client::builder()
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(REQUEST_DEADLINE)
        .redirect(Policy::custom(redirect));
    if https {
        client = client.tls_certs_merge(roots::for_http(server.ca_file.as_deref())?);
    } else {
        // Else the host's root certificates are loaded, and a host without any could not even speak plain HTTP.
        client = client.tls_certs_only([]);
    }
    let client = client.build().map_err(|error| NotifierError::Client(causes(&error)))?;
    Ok((client, url))
}

/// What an answer means, of whose body no more is read than it takes to tell.
async fn answer(mut response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    match body(&mut response).await {
        Ok((body, cut)) => answer::read(Response { status, content_type: &content_type, body: &body, cut }),
        Err(error) => {
            let why = causes(&error.without_url());
            Answer::Again(format!("the server's answer {status} broke off: {why}"))
        }
    }
}

/// What an answer's body begins with, at most [`BODY_LIMIT`] bytes, and whether there is more.
///
/// # Errors
/// Where it breaks off.
pub(crate) async fn body(response: &mut reqwest::Response) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let (mut body, mut cut) = (Vec::new(), false);
    while !cut {
        let Some(chunk) = response.chunk().await? else { break };
        let room = BODY_LIMIT - body.len();
        cut = chunk.len() > room;
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok((body, cut))
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

/// The error and its causes: the first alone only says that the request failed. The URL is not in it.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let _ = write!(text, ": {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_said_at_once() {
        let server = |host: &str, key: &str| ServerConfig {
            host: host.into(),
            api_key: key.into(),
            api_secret: "s3cret".into(),
            join_host: None,
            ca_file: None,
        };
        assert!(matches!(Post::new(&server("ftp://a", "k")), Err(NotifierError::Host(_))));
        assert!(matches!(Post::new(&server("a b", "k")), Err(NotifierError::Host(_))));
        assert!(matches!(Post::new(&server("http://a", "k\n")), Err(NotifierError::ApiKey)));
        let post = Post::new(&server("http://a:1/", "k")).unwrap();
        assert_eq!(post.url.as_str(), "http://a:1/auth/recorder/notify");
        assert!(!format!("{post:?}").contains("s3cret"));
    }
}
