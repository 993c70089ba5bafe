//! The token for the connection to NATS (PROTOCOL 1): a JWT (HS256), created anew for every connect.

use std::time::Duration;

use serde_json::Value;

use crate::protocol::ids::RecorderId;
use crate::protocol::jwt;

/// Validity of a token (PROTOCOL 1).
pub const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The token for a connect at `now` (since the Unix epoch).
#[must_use]
pub fn nats_token(api_key: &str, api_secret: &str, recorder: &RecorderId, now: Duration) -> String {
    let claims = [
        ("iss", Value::from(api_key)),
        ("sub", recorder.as_str().into()),
        ("nbf", now.as_secs().into()),
        ("exp", (now + LIFETIME).as_secs().into()),
        ("name", "PLUGNMEET_RECORDER_AUTH".into()),
        ("user_id", recorder.as_str().into()),
    ];
    jwt::sign(&claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(), api_secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::signature::hmac_sha256;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    #[test]
    fn a_token_has_the_claims_that_the_server_checks() {
        let id = RecorderId::parse("node_01").unwrap();
        let token = nats_token("key", "secret", &id, Duration::from_secs(1_000));
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!(claims["iss"], "key");
        assert_eq!(claims["sub"], "node_01");
        assert_eq!(claims["user_id"], "node_01");
        assert_eq!(claims["name"], "PLUGNMEET_RECORDER_AUTH");
        assert_eq!(claims["nbf"], 1_000);
        assert_eq!(claims["exp"], 1_300);
        let signed = format!("{}.{}", parts[0], parts[1]);
        assert_eq!(parts[2], URL_SAFE_NO_PAD.encode(hmac_sha256("secret", signed.as_bytes())));
    }
}
