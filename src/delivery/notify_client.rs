//! One notice as one HTTP request (PROTOCOL 5).

use bytes::Bytes;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderValue};

use crate::config::ServerConfig;
use crate::delivery::answer::{self, BODY_LIMIT, NoticeAnswer, NoticeResponse};
use crate::http::{self, HttpClientError, causes};
use crate::protocol::signature::hash_signature;

/// Why no notice can be sent.
#[derive(Debug, thiserror::Error)]
pub enum NotifyClientError {
    #[error(transparent)]
    Client(#[from] HttpClientError),
    #[error("plugNmeet_info.api_key holds a character that cannot stand in an HTTP header")]
    ApiKey,
}

/// The server's address and this node's key.
pub(super) struct NotifyClient {
    client: reqwest::Client,
    url: Url,
    api_key: HeaderValue,
    api_secret: String,
}

impl std::fmt::Debug for NotifyClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotifyClient").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

impl NotifyClient {
    pub fn new(server: &ServerConfig) -> Result<Self, NotifyClientError> {
        let (client, url) = http::server_client(server, "/auth/recorder/notify")?;
        let mut api_key = HeaderValue::from_str(&server.api_key).map_err(|_| NotifyClientError::ApiKey)?;
        api_key.set_sensitive(true);
        Ok(Self { client, url, api_key, api_secret: server.api_secret.clone() })
    }

    /// Sends the bytes of a `RecorderToPlugNmeet` once.
    pub async fn send(&self, body: Bytes) -> NoticeAnswer {
        self.exchange(body).await.0
    }

    /// [`Self::send`], with the answer's header `Date`.
    pub async fn exchange(&self, body: Bytes) -> (NoticeAnswer, Option<String>) {
        let signature = hash_signature(&self.api_secret, &body);
        let request = self
            .client
            .post(self.url.clone())
            .header("API-KEY", self.api_key.clone())
            .header("HASH-SIGNATURE", signature)
            .header(CONTENT_TYPE, "application/protobuf")
            .body(body);
        match request.send().await {
            Ok(response) => {
                let date = response.headers().get(DATE).and_then(|date| Some(date.to_str().ok()?.to_owned()));
                let answer = match answer(response).await {
                    // A proxy may have answered in the server's place.
                    NoticeAnswer::Again(why) => NoticeAnswer::Again(format!("{}: {why}", http::route(&self.url))),
                    answer => answer,
                };
                (answer, date)
            }
            Err(error) => (NoticeAnswer::Again(causes(error)), None),
        }
    }
}

/// Reads no more of the answer's body than [`BODY_LIMIT`].
async fn answer(mut response: reqwest::Response) -> NoticeAnswer {
    let status = response.status().as_u16();
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    match http::body(&mut response, BODY_LIMIT).await {
        Ok((body, cut)) => answer::read(NoticeResponse { status, content_type: &content_type, body: &body, cut }),
        Err(error) => {
            let why = anyhow::Error::new(error.without_url());
            NoticeAnswer::Again(format!("the server's answer {status} broke off: {why:#}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_configuration_is_an_error() {
        let server = |host: &str, key: &str| ServerConfig {
            host: host.into(),
            api_key: key.into(),
            api_secret: "s3cret".into(),
            join_host: None,
            ca_file: None,
        };
        assert!(matches!(
            NotifyClient::new(&server("ftp://a", "k")),
            Err(NotifyClientError::Client(HttpClientError::Host(_)))
        ));
        assert!(matches!(
            NotifyClient::new(&server("a b", "k")),
            Err(NotifyClientError::Client(HttpClientError::Host(_)))
        ));
        assert!(matches!(NotifyClient::new(&server("http://a", "k\n")), Err(NotifyClientError::ApiKey)));
        let client = NotifyClient::new(&server("http://a:1/", "k")).unwrap();
        assert_eq!(client.url.as_str(), "http://a:1/auth/recorder/notify");
        assert!(!format!("{client:?}").contains("s3cret"));
    }
}
