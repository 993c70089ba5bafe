//! Access to a room (PROTOCOL 3): the token of the start request, and its claims, which are signed again each time the
//! page opens later. A token is valid for some ten minutes, a meeting lasts for hours.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::protocol::ids::AccessToken;
use crate::protocol::jwt;

/// Validity of a token that does not specify one (the server's default `token_validity`).
const VALIDITY: Duration = Duration::from_secs(600);
/// Bounds of the validity that a token specifies.
const SHORTEST_VALIDITY: Duration = Duration::from_secs(60);
const LONGEST_VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// The claims of an access token, and the URL parameters after it. Useless without `api_secret`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomClaims {
    claims: Map<String, Value>,
    /// Query parameters after the token, with a leading `&`; may be empty.
    parameters: String,
}

impl RoomClaims {
    /// `None`: the token is not a JSON web token.
    #[must_use]
    pub fn of(token: &AccessToken) -> Option<Self> {
        let bare = token.bare();
        let parameters = token.expose()[bare.len()..].to_owned();
        Some(Self { claims: jwt::claims(bare)?, parameters })
    }

    /// A token with the same claims, valid from `now` (since the Unix epoch) on for as long as the first one: one
    /// minute to a day. `None`: the parameters cannot be in a URL, which is impossible for those of a parsed token.
    #[must_use]
    pub fn sign(&self, api_secret: &str, now: Duration) -> Option<AccessToken> {
        let mut claims = self.claims.clone();
        let seconds = |name: &str| claims.get(name).and_then(Value::as_f64);
        let validity = seconds("exp").zip(seconds("nbf").or_else(|| seconds("iat")));
        let validity = validity.and_then(|(end, begin)| Duration::try_from_secs_f64(end - begin).ok());
        let validity = validity.unwrap_or(VALIDITY).clamp(SHORTEST_VALIDITY, LONGEST_VALIDITY);
        claims.insert("nbf".to_owned(), now.as_secs().into());
        claims.insert("exp".to_owned(), (now + validity).as_secs().into());
        if let Some(issued) = claims.get_mut("iat") {
            *issued = now.as_secs().into();
        }
        AccessToken::parse(&format!("{}{}", jwt::sign(&claims, api_secret), self.parameters)).ok()
    }
}

impl std::fmt::Debug for RoomClaims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RoomClaims")
    }
}

/// The means to get into a room.
#[derive(Clone, Debug, PartialEq)]
pub enum RoomAccess {
    /// The token of the start request.
    Token(AccessToken),
    /// The claims of the token, for a recording that an earlier run of the program started.
    Claims(RoomClaims),
}

impl RoomAccess {
    /// The token as sent by the server; `None` if an earlier run of the program got it.
    #[must_use]
    pub fn sent(&self) -> Option<&AccessToken> {
        match self {
            Self::Token(token) => Some(token),
            Self::Claims(_) => None,
        }
    }

    #[must_use]
    pub fn claims(&self) -> Option<RoomClaims> {
        match self {
            Self::Token(token) => RoomClaims::of(token),
            Self::Claims(claims) => Some(claims.clone()),
        }
    }

    /// A token that is valid from `now` (since the Unix epoch) on. A token that is not a JSON web token is returned
    /// unchanged. `None`: see [`RoomClaims::sign`].
    #[must_use]
    pub fn sign(&self, api_secret: &str, now: Duration) -> Option<AccessToken> {
        match self.claims() {
            Some(claims) => claims.sign(api_secret, now),
            None => self.sent().cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(claims: &Value, parameters: &str) -> AccessToken {
        let signed = jwt::sign(claims.as_object().unwrap(), "secret");
        AccessToken::parse(&format!("{signed}{parameters}")).unwrap()
    }

    #[test]
    fn claims_are_signed_with_new_times_and_parameters_are_kept() {
        let claims = json!({
            "iss": "key", "sub": "RECORDER_BOT", "nbf": 1_000, "exp": 1_600, "room_id": "room01", "user_id": "RECORDER_BOT",
            "name": "RECORDER_BOT", "is_admin": false, "is_hidden": true, "user_metadata": { "a": [1, 2.5] },
        });
        let access = RoomAccess::Token(token(&claims, "&custom_design=%7B%7D"));
        let anew = access.sign("secret", Duration::from_millis(7_200_900)).unwrap();
        let (bare, parameters) = anew.expose().split_at(anew.bare().len());
        assert_eq!(parameters, "&custom_design=%7B%7D");
        let mut expected = claims.as_object().unwrap().clone();
        expected.insert("nbf".into(), 7_200.into());
        expected.insert("exp".into(), 7_800.into());
        assert_eq!(jwt::claims(bare).unwrap(), expected);
        assert_eq!(bare, jwt::sign(&expected, "secret"), "signed with the secret");
        assert_ne!(bare, jwt::sign(&expected, "another"));

        // The claims alone are sufficient, even after they were stored.
        let stored = serde_json::to_string(&access.claims().unwrap()).unwrap();
        let claims: RoomClaims = serde_json::from_str(&stored).unwrap();
        assert_eq!(RoomAccess::Claims(claims).sign("secret", Duration::from_secs(7_200)), Some(anew));
    }

    #[test]
    fn an_implausible_validity_is_clamped() {
        let validity = |claims: Value| {
            let anew = RoomAccess::Token(token(&claims, "")).sign("secret", Duration::from_secs(5_000)).unwrap();
            let claims = jwt::claims(anew.expose()).unwrap();
            claims["exp"].as_u64().unwrap() - claims["nbf"].as_u64().unwrap()
        };
        assert_eq!(validity(json!({ "nbf": 100, "exp": 160 })), 60);
        assert_eq!(validity(json!({ "nbf": 100, "exp": 50 })), 600);
        assert_eq!(validity(json!({ "nbf": 100, "exp": 101 })), 60);
        assert_eq!(validity(json!({ "nbf": 0, "exp": 1e12 })), 24 * 3600);
        assert_eq!(validity(json!({ "exp": 700 })), 600);
        assert_eq!(validity(json!({ "iat": 100, "exp": 400 })), 300);
    }

    #[test]
    fn a_token_of_another_kind_is_unchanged() {
        for text in ["opaque", "a.b", "a.b.c.d", "eyJhbGciOiJIUzI1NiJ9.bm8ganNvbg.x&y=1"] {
            let access = RoomAccess::Token(AccessToken::parse(text).unwrap());
            assert_eq!(access.claims(), None, "{text}");
            assert_eq!(access.sign("secret", Duration::ZERO).unwrap().expose(), text);
        }
    }
}
