//! One notice as one HTTP request (PROTOCOL 5): what is sent, and what an answer means.

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{StatusCode, Url};

use crate::config::ServerConfig;
use crate::protocol::signature::hash_signature;
use crate::tls::ca_file::CaFileError;
use crate::tls::roots;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// For the whole request, its answer included.
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

/// What became of one request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Taken,
    /// Never to be tried again; why, and what to do.
    Final(String),
    /// To be tried again; why.
    Again(String),
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
        crate::tls::provide_crypto();
        let url = format!("{}/auth/recorder/notify", server.host.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| NotifierError::Host(error.to_string()))?;
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(NotifierError::Host(format!("its scheme is {other:?}"))),
        };
        let mut api_key = HeaderValue::from_str(&server.api_key).map_err(|_| NotifierError::ApiKey)?;
        api_key.set_sensitive(true);
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
            Ok(response) => verdict(response.status()),
            Err(error) => Answer::Again(causes(&error.without_url())),
        }
    }
}

/// What a status says of the notice (PROTOCOL 5).
fn verdict(status: StatusCode) -> Answer {
    match status {
        StatusCode::OK => Answer::Taken,
        StatusCode::NOT_FOUND => Answer::Final("the server does not know this room (any more) (404)".to_owned()),
        StatusCode::UNAUTHORIZED => Answer::Final(
            "the server refuses this recorder (401): check plugNmeet_info.api_key and api_secret".to_owned(),
        ),
        status if status.is_redirection() => Answer::Again(format!(
            "the server sends recorders elsewhere ({status}): set plugNmeet_info.host to where it really is"
        )),
        status => Answer::Again(format!("the server answered {status}")),
    }
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
fn causes(error: &reqwest::Error) -> String {
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
    fn only_200_is_taken_and_only_404_and_401_are_final() {
        assert_eq!(verdict(StatusCode::OK), Answer::Taken);
        for code in [404, 401] {
            assert!(matches!(verdict(StatusCode::from_u16(code).unwrap()), Answer::Final(_)), "{code}");
        }
        for code in [201, 204, 301, 302, 308, 400, 403, 408, 429, 500, 502, 503] {
            assert!(matches!(verdict(StatusCode::from_u16(code).unwrap()), Answer::Again(_)), "{code}");
        }
    }

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
