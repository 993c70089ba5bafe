//! Access tokens as the server makes and checks them (PROTOCOL 3).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use plugnmeet_recorder::protocol::jwt;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Deployment;
use super::meeting::Room;

/// As whom a recorder's page joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bot {
    Recorder,
    Broadcaster,
}

impl Bot {
    pub fn user_id(self) -> &'static str {
        match self {
            Self::Recorder => "RECORDER_BOT",
            Self::Broadcaster => "RTMP_BOT",
        }
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A token that was signed `age` ago.
pub fn token(deployment: &Deployment, room_id: &str, bot: Bot, age: Duration) -> String {
    let from = now().saturating_sub(age);
    let claims = json!({
        "iss": deployment.api_key,
        "sub": bot.user_id(),
        "nbf": from.as_secs(),
        "exp": (from + deployment.token_validity).as_secs(),
        "name": bot.user_id(),
        "user_id": bot.user_id(),
        "room_id": room_id,
        "is_admin": true,
        "is_hidden": true,
        "unlike_any_other": unlike_any_other(NEXT.fetch_add(1, Ordering::Relaxed)),
    });
    jwt::sign(claims.as_object().expect("an object"), &deployment.api_secret)
}

/// What the check of a token comes to.
pub enum Check {
    Valid,
    /// HTTP status, the key that is told, and what the page makes of it.
    Refused {
        status: u16,
        key: &'static str,
        heading: String,
        text: String,
    },
}

/// The room and the user that a token is of, whether it has expired or not.
pub fn holder(
    deployment: &Deployment,
    rooms: &HashMap<String, Room>,
    token: &str,
) -> Option<(Room, String, Map<String, Value>)> {
    let (signed, signature) = token.rsplit_once('.')?;
    let claims = jwt::claims(token)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(deployment.api_secret.as_bytes()).ok()?;
    mac.update(signed.as_bytes());
    let signature = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, signature).ok()?;
    mac.verify_slice(&signature).ok()?;
    let room = rooms.get(claims.get("room_id")?.as_str()?)?.clone();
    let user_id = claims.get("user_id").or_else(|| claims.get("sub"))?.as_str()?.to_owned();
    Some((room, user_id, claims))
}

/// As `POST /api/verifyToken` does it.
pub fn check(deployment: &Deployment, rooms: &HashMap<String, Room>, token: &str) -> Check {
    let refused = |status, key, text: &str| Check::Refused {
        status,
        key,
        heading: "Verification Failed!".to_owned(),
        text: text.to_owned(),
    };
    let Some((room, user_id, claims)) = holder(deployment, rooms, token) else {
        return refused(401, "notifications.invalid-token", "The access token is not valid or expired");
    };
    let time = |name: &str| claims.get(name).and_then(Value::as_u64).map(Duration::from_secs).unwrap_or_default();
    if now() + deployment.token_leeway < time("nbf") {
        return refused(401, "notifications.invalid-token", "The access token is not valid yet");
    }
    if now() > time("exp") + deployment.token_leeway {
        return refused(401, "notifications.token-expired", "Your session has expired. Please login again.");
    }
    if room.is_over() {
        let (heading, text) = room
            .forced_error()
            .unwrap_or_else(|| ("Verification Failed!".to_owned(), "This room is not active.".to_owned()));
        return Check::Refused { status: 401, key: "notifications.room-not-active", heading, text };
    }
    if room.is_online(&user_id) {
        let key = "notifications.room-disconnected-duplicate-entry";
        return refused(200, key, "You are already in this meeting from another device.");
    }
    Check::Valid
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A text that shows up nowhere by chance, so that a test can look for a leaked token.
fn unlike_any_other(n: u64) -> String {
    let seed = format!("{n} {} {:?}", std::process::id(), SystemTime::now());
    hex::encode(&Sha256::digest(seed)[..16])
}
