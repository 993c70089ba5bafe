//! Keeps out of the log what came with a start, for as long as the recording lasts.

use crate::protocol::ids::AccessToken;
use crate::protocol::request::{Output, Start};
use crate::telemetry::redact;

/// Keeps what came with a start out of the log for as long as it lasts.
pub(super) fn secrets(start: &Start) -> Vec<redact::Registration> {
    // The token alone, and with the parameters that may follow it.
    let mut secrets: Vec<_> = start.access.sent().into_iter().flat_map(secrets_of).collect();
    if let Output::Rtmp(url) = &start.output {
        // The key alone, and with the parameters that may follow it.
        let key = url.key().unwrap_or_default();
        let bare = key.split(['?', '#']).next().unwrap_or_default();
        secrets.extend([redact::register(&key), redact::register(bare)]);
    }
    secrets
}

/// Keeps a token out of the log: alone, and with the parameters that may follow it.
pub(super) fn secrets_of(token: &AccessToken) -> [redact::Registration; 2] {
    [redact::register(token.expose()), redact::register(token.bare())]
}
