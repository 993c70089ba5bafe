//! What is needed to join a room again: a fresh access token, and the server's answer whether the room is still open
//! (PROTOCOL 3).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};

use crate::config::ServerConfig;
use crate::delivery::answer::BODY_LIMIT;
use crate::http::{self, HttpClientError};
use crate::protocol::access::RoomAccess;
use crate::protocol::ids::AccessToken;
use crate::protocol::room_status::{self, RoomStatus};

/// The time limit of one request. The page, which is opened next, takes longer where the server is slow.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long the server may count an earlier page as present after its connection broke.
const OCCUPIED_LIMIT: Duration = Duration::from_secs(20);
/// The wait before the next request.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Signs tokens and queries the server; clones share the connection.
#[derive(Clone, Debug)]
pub struct RoomClient {
    shared: Arc<Shared>,
}

struct Shared {
    client: reqwest::Client,
    url: reqwest::Url,
    api_secret: String,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomClient").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

impl RoomClient {
    /// # Errors
    /// Where the server's address cannot be used, or TLS cannot be set up on this host.
    pub fn new(server: &ServerConfig) -> Result<Self, HttpClientError> {
        let (client, url) = http::server_client(server, "/api/verifyToken")?;
        Ok(Self { shared: Arc::new(Shared { client, url, api_secret: server.api_secret.clone() }) })
    }

    /// Signs a token that is valid from now on; `None` where `access` has no claims to sign.
    #[must_use]
    pub fn sign(&self, access: &RoomAccess) -> Option<AccessToken> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        access.sign(&self.shared.api_secret, now)
    }

    /// Asks whether the room accepts a newly signed token; repeatedly, for at most 20 s, while the server counts an
    /// earlier page of the recorder as present.
    pub async fn status(&self, access: &RoomAccess) -> RoomStatus {
        let asked = tokio::time::Instant::now();
        loop {
            let status = self.check(access).await;
            if status != RoomStatus::Occupied || asked.elapsed() >= OCCUPIED_LIMIT {
                return status;
            }
            tracing::debug!("the server still counts the recorder's last page as present; asking again");
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Asks once, with a newly signed token.
    pub async fn check(&self, access: &RoomAccess) -> RoomStatus {
        match self.sign(access) {
            Some(token) => self.verify(&token).await,
            None => RoomStatus::Unknown("no access token can be signed".to_owned()),
        }
    }

    async fn verify(&self, token: &AccessToken) -> RoomStatus {
        let Ok(mut authorization) = HeaderValue::from_str(token.bare()) else {
            return RoomStatus::Unknown("the token cannot stand in an HTTP header".to_owned());
        };
        authorization.set_sensitive(true);
        let request = self
            .shared
            .client
            .post(self.shared.url.clone())
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, "application/protobuf");
        let answer = async {
            let mut response = request.send().await?;
            let (body, _) = http::body(&mut response, BODY_LIMIT).await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), body))
        };
        let why = match tokio::time::timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok((status, body))) => match room_status::read(status, &body) {
                RoomStatus::Unknown(why) => why,
                known => return known,
            },
            // This names the address.
            Ok(Err(error)) => return RoomStatus::Unknown(http::causes(error)),
            Err(_) => format!("the server's token check did not answer in {} s", ANSWER_LIMIT.as_secs()),
        };
        RoomStatus::Unknown(format!("{}: {why}", http::route(&self.shared.url)))
    }
}
