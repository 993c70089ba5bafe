//! The signature of a notice (PROTOCOL 5): HMAC-SHA256 of the body in lower-case hex.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// HMAC-SHA256 of `body` with the API secret as key (of any length, RFC 2104).
#[must_use]
pub fn hmac_sha256(api_secret: &str, body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(api_secret.as_bytes())
        .unwrap_or_else(|_| unreachable!("HMAC takes a key of any length"));
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// Value of the `HASH-SIGNATURE` header.
#[must_use]
pub fn hash_signature(api_secret: &str, body: &[u8]) -> String {
    hex::encode(hmac_sha256(api_secret, body))
}
