//! Whether a room is active and accepts the recorder's page, from the server's token check (PROTOCOL 3, `verifyToken`).

use prost::Message as _;

use crate::protocol::messages::TokenStatus;

/// Status of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomStatus {
    /// Active; accepts the token.
    Open,
    /// Active, but an earlier page of this recorder still counts as present: ask again after some seconds.
    Occupied,
    Over,
    /// Does not accept the token, with the reason.
    Refused(String),
    /// The server did not answer, or another program did; with the reason.
    Unknown(String),
}

/// Common prefix of plugNmeet's keys.
const KEYS: &str = "notifications.";

/// Evaluates an answer: HTTP status and body.
#[must_use]
pub fn read(http_status: u16, body: &[u8]) -> RoomStatus {
    let unknown = |why: &str| RoomStatus::Unknown(format!("the server's token check answered {http_status}{why}"));
    if !matches!(http_status, 200 | 401) {
        return unknown("");
    }
    let Ok(TokenStatus { status, msg }) = TokenStatus::decode(body) else {
        return unknown(" with a body that is not plugNmeet's");
    };
    if http_status == 200 && status {
        return RoomStatus::Open;
    }
    let Some(key) = msg.strip_prefix(KEYS) else { return unknown(" with a text that is not plugNmeet's") };
    let refused = |why: &str| RoomStatus::Refused(why.to_owned());
    match key {
        "room-not-active" => RoomStatus::Over,
        "room-disconnected-duplicate-entry" => RoomStatus::Occupied,
        "token-expired" => refused(
            "the server says that a token signed just now has expired: set the clocks of this host and of the server",
        ),
        "invalid-token" => refused(
            "the server refuses a token signed with plugNmeet_info.api_secret: compare it with the server's, and the clocks",
        ),
        "you-are-blocked" => refused("a moderator has blocked the recorder in this room"),
        "max-num-participates-exceeded" => refused("the room is full"),
        "user-info-not-found" => refused("the room does not know the recorder any more"),
        other => refused(&format!("the server says: {}", other.chars().take(80).collect::<String>())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(http_status: u16, status: bool, msg: &str) -> RoomStatus {
        read(http_status, &TokenStatus { status, msg: msg.into() }.encode_to_vec())
    }

    #[test]
    fn the_servers_keys_determine_the_status() {
        assert_eq!(answer(200, true, "token is valid"), RoomStatus::Open);
        assert_eq!(answer(200, true, ""), RoomStatus::Open);
        for code in [200, 401] {
            assert_eq!(answer(code, false, "notifications.room-not-active"), RoomStatus::Over);
        }
        assert_eq!(answer(200, false, "notifications.room-disconnected-duplicate-entry"), RoomStatus::Occupied);
        for key in ["token-expired", "invalid-token", "you-are-blocked", "user-info-not-found", "something-new"] {
            assert!(matches!(answer(401, false, &format!("notifications.{key}")), RoomStatus::Refused(_)), "{key}");
        }
    }

    #[test]
    fn other_answers_leave_the_status_unknown() {
        for code in [302, 400, 404, 429, 500, 502, 503] {
            assert!(matches!(answer(code, true, "notifications.room-not-active"), RoomStatus::Unknown(_)), "{code}");
        }
        for body in [&b"<html>404</html>"[..], b"", b"OK", b"{\"status\":false}", b"\xff\xff\xff"] {
            for code in [200, 401] {
                assert!(matches!(read(code, body), RoomStatus::Unknown(_)), "{code} {body:?}");
            }
        }
    }
}
