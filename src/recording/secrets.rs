//! Keeps the secrets of a start request out of the log while its recording lasts.

use crate::protocol::ids::AccessToken;
use crate::protocol::request::{Output, Start};
use crate::telemetry::redact;

/// Registers the secrets of a start request for redaction.
pub(super) fn secrets(start: &Start) -> Vec<redact::SecretRegistration> {
    // The token with and without the parameters that may follow it.
    let mut secrets: Vec<_> = start.access.sent().into_iter().flat_map(secrets_of).collect();
    if let Output::Rtmp(url) = &start.output {
        secrets.extend(url.secrets().iter().map(|secret| redact::register(secret)));
    }
    secrets
}

/// Registers a token for redaction, with and without the parameters that may follow it.
pub(super) fn secrets_of(token: &AccessToken) -> [redact::SecretRegistration; 2] {
    [redact::register(token.expose()), redact::register(token.bare())]
}
