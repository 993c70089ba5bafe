//! Whether a room is on and takes the recorder's page, as the server's token check says (PROTOCOL 3, `verifyToken`).

use prost::Message as _;

use crate::protocol::messages::TokenStatus;

/// What is known of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomStatus {
    /// It is on and takes the token.
    Open,
    /// It is on, and an earlier page of this recorder still counts as present: to be asked again in some seconds.
    Occupied,
    Over,
    /// It does not take the token, for this reason.
    Refused(String),
    /// The server did not answer, or somebody else did: why.
    Unknown(String),
}

/// What all of plugNmeet's own keys begin with.
const KEYS: &str = "notifications.";

/// Reads an answer: its HTTP status and its body.
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
    fn the_servers_keys_say_what_becomes_of_the_room() {
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
    fn what_is_not_plugnmeets_word_says_nothing_of_the_room() {
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
