//! The addresses of the NATS servers and the credentials for them. The user info of a URL is split off, and never
//! shown.

use std::fmt;
use std::time::Duration;

use async_nats::{Auth, ServerAddr};

use crate::config::{NatsConfig, ServerConfig};
use crate::protocol::ids::RecorderId;
use crate::protocol::token::nats_token;

use crate::nats::connect_error::ConnectError;

/// The addresses of all servers of the cluster, without user info.
#[derive(Clone, Debug)]
pub struct Addresses(Vec<ServerAddr>);

/// Comma-separated, for logs.
impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}://{}:{}", address.scheme(), address.host(), address.port())?;
        }
        Ok(())
    }
}

impl Addresses {
    pub fn as_slice(&self) -> &[ServerAddr] {
        &self.0
    }

    /// Each by itself.
    pub fn each(&self) -> Vec<Self> {
        self.0.iter().map(|address| Self(vec![address.clone()])).collect()
    }
}

/// This node's credentials for the NATS servers. No `Debug`: it holds secrets.
pub struct Credentials {
    api_key: String,
    api_secret: String,
    recorder: RecorderId,
    user_info: Option<UserInfo>,
}

struct UserInfo {
    name: String,
    password: Option<String>,
}

impl Credentials {
    /// The authentication for a CONNECT at `now` (since the Unix epoch): a token made for this moment (PROTOCOL 1), and
    /// the URL's user and password. A URL with only a user means a fixed token, as in other NATS clients.
    pub fn auth(&self, now: Duration) -> Auth {
        let mut auth = Auth::new();
        auth.token = Some(nats_token(&self.api_key, &self.api_secret, &self.recorder, now));
        match &self.user_info {
            Some(UserInfo { name, password: Some(password) }) => {
                auth.username = Some(name.clone());
                auth.password = Some(password.clone());
            }
            Some(UserInfo { name, password: None }) => auth.token = Some(name.clone()),
            None => {}
        }
        auth
    }
}

/// Splits the URLs into addresses and credentials. As in the reference, an entry may hold several URLs, separated by
/// commas.
///
/// # Errors
/// Where an entry is no `nats://` or `tls://` URL with a host.
pub fn read(
    nats: &NatsConfig,
    server: &ServerConfig,
    recorder: &RecorderId,
) -> Result<(Addresses, Credentials), ConnectError> {
    let mut addresses = Vec::new();
    let mut user_info = None;
    let entries = nats.urls.iter().flat_map(|entry| entry.split(',')).map(str::trim).filter(|entry| !entry.is_empty());
    for (at, entry) in entries.enumerate() {
        let bad = |why: String| ConnectError::Url { at: at + 1, why };
        let entry = if entry.contains("://") { entry.to_owned() } else { format!("nats://{entry}") };
        let mut url = url::Url::parse(&entry).map_err(|error| bad(error.to_string()))?;
        if !matches!(url.scheme(), "nats" | "tls") {
            return Err(bad(format!("its scheme is {:?}; nats and tls are allowed", url.scheme())));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(bad("it names no host".to_owned()));
        }
        if !url.username().is_empty() {
            // The client does not tell which server it is about to greet, so the first user info is used for all
            // servers.
            user_info.get_or_insert(UserInfo {
                name: percent_decoded(url.username()),
                password: url.password().map(percent_decoded),
            });
        }
        // Cannot fail: the URL has a host.
        let _ = (url.set_username(""), url.set_password(None));
        addresses.push(ServerAddr::from_url(url).map_err(|error| bad(error.to_string()))?);
    }
    if addresses.is_empty() {
        return Err(ConnectError::Url { at: 1, why: "there is none".to_owned() });
    }
    let credentials = Credentials {
        api_key: server.api_key.clone(),
        api_secret: server.api_secret.clone(),
        recorder: recorder.clone(),
        user_info,
    };
    Ok((Addresses(addresses), credentials))
}

/// A `%` that begins no escape sequence stays.
fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(urls: &[&str]) -> Result<(Addresses, Credentials), ConnectError> {
        let nats = NatsConfig {
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            recorder_channel: String::new(),
            recorder_info_kv: String::new(),
            transcoding_jobs_subject: String::new(),
        };
        let server = ServerConfig {
            host: "http://localhost".into(),
            api_key: "key".into(),
            api_secret: "secret".into(),
            join_host: None,
            ca_file: None,
        };
        read(&nats, &server, &RecorderId::parse("node_01").unwrap())
    }

    #[test]
    fn user_info_is_used_but_never_shown() {
        let (addresses, credentials) = parts(&["nats://us%40er:p%3Aw%25@a:4000", "tls://b, c:5000"]).unwrap();
        assert_eq!(addresses.to_string(), "nats://a:4000, tls://b:4222, nats://c:5000");
        assert!(!format!("{addresses:?}").contains("us%40er"));
        let auth = credentials.auth(Duration::from_secs(1));
        assert_eq!((auth.username.as_deref(), auth.password.as_deref()), (Some("us@er"), Some("p:w%")));
        assert!(auth.token.is_some());
    }

    #[test]
    fn each_moment_has_its_own_token() {
        let (_, credentials) = parts(&["a"]).unwrap();
        let at = |seconds| credentials.auth(Duration::from_secs(seconds)).token;
        assert_ne!(at(1), at(2));
        let (_, fixed) = parts(&["nats://t0ken@a"]).unwrap();
        assert_eq!(fixed.auth(Duration::ZERO).token.as_deref(), Some("t0ken"));
    }

    #[test]
    fn a_bad_url_is_named_by_its_position_only() {
        for bad in ["http://u:s3cret@a", "nats://u:s3cret@", "nats://u:s3cret@a:99999", "://s3cret", ""] {
            let Err(error) = parts(&["nats://good", bad, "x://"]) else { panic!("{bad}") };
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        assert!(parts(&[]).is_err());
    }
}
