//! `POST /drain` and `/undrain`: who may, and what they do. A restart forgets that the node was drained.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;

use crate::admin::http::node_state::NodeState;
use crate::admin::http::refusal::Refusal;
use crate::admin::http::token_limit::TokenLimit;
use crate::codes;
use crate::config::AdminConfig;
use crate::fleet::availability::Obstacle;
use crate::protocol::signature::hmac_sha256;
use crate::storage::files;
use crate::telemetry::redact;

/// Time limit for the token's file.
const FILE_LIMIT: Duration = Duration::from_secs(2);
/// The longest token, in bytes.
const LONGEST_TOKEN: u64 = 4096;

pub(super) const NOT_THE_TOKEN: &str = "this is not the token of admin.token or admin.token_file";
const UNCONFIGURED: &str = "nobody may drain this node: set admin.token or admin.token_file in its configuration, or, where admin.listen is \
                            127.0.0.1 or ::1, admin.allow_drain_without_token: true";
const DRAINED: &str = "an operator has drained it (POST /drain); POST /undrain or a restart ends that";

/// Drains the node, or takes that back; what to answer.
pub(super) fn set(node: &NodeState, drained: bool) -> String {
    if drained {
        let before = node.availability.watch().borrow().contains_key(&Obstacle::Drained);
        node.availability.block(Obstacle::Drained, DRAINED);
        if !before {
            tracing::info!(
                "drained by its operator: nothing new is taken on, what runs goes on, and the node does not end"
            );
        }
        return "drained: GET /protect answers 404 when nothing is left that needs this node\n".to_owned();
    }
    if node.availability.clear(Obstacle::Drained) {
        tracing::info!("not drained any more: the node takes work again");
    }
    match node.availability.obstacle() {
        Some((obstacle, _)) => format!("not drained any more, but it takes nothing on: {}\n", obstacle.refusal()),
        None => "not drained any more\n".to_owned(),
    }
}

/// Whether the sender of these headers may drain the node; wrong tokens count as those of the page's form do.
///
/// # Errors
/// The answer where they may not.
pub(super) async fn authorise(
    admin: &AdminConfig,
    headers: &HeaderMap,
    tokens: &TokenLimit,
    from: IpAddr,
) -> Result<(), Response> {
    // A page in a browser of this host, as that of a meeting in our own Chrome, must not drain it.
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        let foreign = Refusal::new(StatusCode::FORBIDDEN, codes::FOREIGN_PAGE, "a page in a browser may not do this");
        return Err(foreign.into_response());
    }
    let now = Instant::now();
    if let Some(refusal) = tokens.refusal(from, now) {
        return Err(refusal);
    }
    let expected = expected(admin).await.map_err(Refusal::into_response)?;
    let Some(expected) = expected else { return Ok(()) };
    // The token of a file is known only now.
    let _secret = redact::register(&expected);
    let (code, why) = match headers.get(header::AUTHORIZATION).map(|value| bearer(value.as_bytes())) {
        Some(Some(given)) if is_same(&expected, given) => return Ok(()),
        Some(_) => {
            if tokens.wrong(from, now) {
                tracing::warn!(
                    code = %codes::WRONG_TOKEN,
                    address = %from,
                    "somebody has asked to drain this node with a wrong token, and was refused; told once a minute"
                );
            }
            (codes::WRONG_TOKEN, NOT_THE_TOKEN)
        }
        None => (codes::NOT_LOGGED_IN, "the header `Authorization: Bearer TOKEN` is missing"),
    };
    let mut response = Refusal::new(StatusCode::UNAUTHORIZED, code, why).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Err(response)
}

/// The token that is to be given; `None`: none is needed.
///
/// # Errors
/// What to answer where none is configured, or it cannot be read.
pub(super) async fn expected(admin: &AdminConfig) -> Result<Option<String>, Refusal> {
    match (&admin.token, &admin.token_file) {
        (Some(token), _) => Ok(Some(token.clone())),
        (None, Some(file)) => read(file).await.map(Some),
        (None, None) if admin.allow_drain_without_token => Ok(None),
        (None, None) => Err(Refusal::new(StatusCode::FORBIDDEN, codes::DRAIN_NOT_CONFIGURED, UNCONFIGURED)),
    }
}

/// The token of `Bearer TOKEN` (RFC 6750, 2.1; the scheme in any case).
pub(super) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Compares in a time that says nothing of where they differ: not the tokens are compared, but their signatures.
pub(super) fn is_same(expected: &str, given: &[u8]) -> bool {
    hmac_sha256(expected, given) == hmac_sha256(expected, expected.as_bytes())
}

async fn read(path: &Path) -> Result<String, Refusal> {
    let file = path.to_owned();
    let work = move || {
        let mut text = String::new();
        std::fs::File::open(file)?.take(LONGEST_TOKEN).read_to_string(&mut text)?;
        Ok(text)
    };
    let why = match files::on_disk_within(FILE_LIMIT, work).await {
        Ok(text) if text.trim().is_empty() => "it is empty".to_owned(),
        Ok(text) => return Ok(text.trim().to_owned()),
        Err(error) => error.to_string(),
    };
    tracing::error!(
        code = %codes::TOKEN_FILE_UNREADABLE, path = %path.display(), why,
        "nobody can drain this node: admin.token_file cannot be read"
    );
    let why = format!("admin.token_file {} cannot be read: {why}", path.display());
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, codes::TOKEN_FILE_UNREADABLE, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        for (given, same) in [("correct-horse", true), ("correct-hors", false), ("correct-horse1", false), ("", false)]
        {
            assert_eq!(is_same("correct-horse", given.as_bytes()), same, "{given}");
        }
        assert_eq!(bearer(b"bEARER  x "), Some(&b"x"[..]));
        for bad in [&b"Basic eA=="[..], b"Bearerx", b"Bearer", b""] {
            assert_eq!(bearer(bad), None, "{bad:?}");
        }
    }
}
