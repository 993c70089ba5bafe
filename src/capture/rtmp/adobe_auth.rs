//! The authentication of publishers with user name and password (`authmod=adobe`), as Wowza, Akamai and Adobe's own
//! servers have it. Pure.
//!
//! ```text
//! connect APP                                            → _error: … need auth; authmod=adobe …
//! connect APP?authmod=adobe&user=U                       → _error: … ?reason=needauth&user=U&salt=S&challenge=C&opaque=O
//! connect APP?authmod=adobe&user=U&challenge=…&response=…&opaque=O → _result
//! ```
//!
//! Each is a connection of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

/// User name and password of an RTMP URL: secrets.
pub struct UserInfo {
    pub user: String,
    pub password: String,
}

/// What a server's refusal of `connect` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextConnect {
    /// Again, with this behind the application.
    With(String),
    /// Nothing helps, and why.
    Refused(&'static str),
    /// It is about something else.
    Unrelated,
}

/// Reads a refusal of `connect`. `own_challenge`: random, made for each broadcast.
#[must_use]
pub fn next_connect(words: &str, user_info: Option<&UserInfo>, own_challenge: &str) -> NextConnect {
    if words.contains("authmod=llnw") {
        return NextConnect::Refused(
            "it wants the authentication of Limelight (authmod=llnw), which is not known here",
        );
    }
    if !words.contains("authmod=adobe") {
        return NextConnect::Unrelated;
    }
    let Some(UserInfo { user, password }) = user_info else {
        return NextConnect::Refused("it wants a user name and password: rtmp://user:password@host/…");
    };
    let Some((_, parameters)) = words.split_once("?reason=") else {
        return NextConnect::With(format!("?authmod=adobe&user={user}"));
    };
    if !parameters.starts_with("needauth") {
        return NextConnect::Refused("user name or password are wrong");
    }
    let value = |name: &str| {
        let of = |parameter: &str| {
            Some(parameter.trim().split_once('=')?).filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        parameters.split('&').find_map(of)
    };
    let (salt, opaque) = (value("salt").unwrap_or_default(), value("opaque"));
    let challenge = value("challenge").unwrap_or_default();
    let secret = STANDARD.encode(Md5::digest(format!("{user}{salt}{password}")));
    let asked = opaque.as_ref().unwrap_or(&challenge);
    let response = STANDARD.encode(Md5::digest(format!("{secret}{asked}{own_challenge}")));
    let opaque = opaque.map(|opaque| format!("&opaque={opaque}")).unwrap_or_default();
    NextConnect::With(format!("?authmod=adobe&user={user}&challenge={own_challenge}&response={response}{opaque}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_answers_the_challenge_of_a_server() {
        let info = UserInfo { user: "ann".into(), password: "secret".into() };
        let next = |words: &str| next_connect(words, Some(&info), "0123abcd");
        let need = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
        assert_eq!(next(need), NextConnect::With("?authmod=adobe&user=ann".into()));
        let asked =
            "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=ann&salt=SALT&challenge=CH&opaque=OP";
        // base64(md5(base64(md5("annSALTsecret")) + "OP" + "0123abcd")), by coreutils.
        let response = "eidTIp75ReAhu4qaB3911w==";
        let expected = format!("?authmod=adobe&user=ann&challenge=0123abcd&response={response}&opaque=OP");
        assert_eq!(next(asked), NextConnect::With(expected));
        let failed = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=authfailed&opaque=OP";
        assert_eq!(next(failed), NextConnect::Refused("user name or password are wrong"));
        assert!(matches!(next_connect(need, None, ""), NextConnect::Refused(_)));
        assert_eq!(next("[ app not found ]"), NextConnect::Unrelated);
    }
}
