//! The section `admin`.
//!
//! No problem quotes the token.

use std::net::SocketAddr;

use crate::config::reader::ConfigSection;
use crate::config::recorder::path;
use crate::config::sections::AdminConfig;

const DEFAULT_LISTEN: &str = "127.0.0.1:8089";
const LISTEN_ALLOWED: &str =
    "an address and a port are allowed, like 127.0.0.1:8089, 0.0.0.0:8089 or [::1]:8089; \"\" for none";
/// A token that is shorter can be guessed.
const SHORTEST_TOKEN: usize = 16;

pub(super) fn read(root: &ConfigSection<'_>) -> AdminConfig {
    let section = root.section("admin");
    let listen = match section.field_or_empty("listen") {
        None => DEFAULT_LISTEN.parse().ok(),
        Some(field) => match field.text(LISTEN_ALLOWED) {
            Some(text) if text.is_empty() => None,
            Some(text) => {
                let address = text.parse::<SocketAddr>();
                if address.is_err() {
                    field.refuse(LISTEN_ALLOWED);
                }
                address.ok()
            }
            None => None,
        },
    };
    let token = section.field("token").and_then(|field| {
        let token = field.text("a text")?;
        if !token.chars().all(|c| c.is_ascii_graphic()) {
            field.problem("found blanks or other characters that an Authorization header cannot hold; letters, digits and signs of ASCII are allowed");
            return None;
        }
        if token.len() < SHORTEST_TOKEN {
            field.warning(format!(
                "shorter than {SHORTEST_TOKEN} characters, so it can be guessed; take one of `openssl rand -hex 32`"
            ));
        }
        Some(token)
    });
    let token_file = section.field("token_file").and_then(|field| path(&field));
    if let (Some(_), Some(field)) = (&token, section.field("token_file")) {
        field.problem("`admin.token` is given too; one of both is allowed");
    }
    let allow_drain_without_token = section.flag("allow_drain_without_token", false);
    if allow_drain_without_token
        && listen.is_some_and(|listen| !listen.ip().is_loopback())
        && let Some(field) = section.field("allow_drain_without_token")
    {
        field.problem(
            "`admin.listen` is not an address of this host alone: everybody who reaches it could drain this node; set admin.token or \
             admin.token_file instead, or listen on 127.0.0.1",
        );
    }
    AdminConfig { listen, token, token_file, allow_drain_without_token }
}
