//! JSON web tokens (RFC 7519) as used by plugNmeet's server: HS256 with `api_secret`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::protocol::signature::hmac_sha256;

/// A token with these claims.
#[must_use]
pub fn sign(claims: &Map<String, Value>, api_secret: &str) -> String {
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let claims = serde_json::to_string(claims).unwrap_or_default();
    let signed = format!("{}.{}", part(header.to_string()), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(hmac_sha256(api_secret, signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// The claims of a token, whose signature is not checked; `None`: not a JSON web token.
#[must_use]
pub fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    // The standard requires base64url without padding; some libraries use padding or plain base64.
    let claims = claims.trim_end_matches('=');
    let bytes = URL_SAFE_NO_PAD.decode(claims).or_else(|_| STANDARD_NO_PAD.decode(claims)).ok()?;
    serde_json::from_slice(&bytes).ok()
}
