//! The session of somebody who has given the token: a cookie that this node has signed with it. So it outlives a restart
//! of the node, and ends with the token. Pure.

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

use crate::protocol::signature::hash_signature;

/// Seconds that a session lasts: a working day.
const LENGTH: u64 = 12 * 3600;

/// The cookie's name: cookies do not know ports, and two nodes may be on one host.
pub(super) fn name(port: u16) -> String {
    format!("pnm_page_{port}")
}

/// The cookie of a new session. `now`: Unix seconds; `tls`: a proxy in front of this node speaks it.
pub(super) fn cookie(token: &str, name: &str, now: u64, tls: bool) -> String {
    let until = now + LENGTH;
    let secure = if tls { "; Secure" } else { "" };
    format!("{name}={until}.{}; Max-Age={LENGTH}; Path=/; HttpOnly; SameSite=Strict{secure}", signature(token, until))
}

/// The cookie that ends a session.
pub(super) fn end(name: &str) -> String {
    format!("{name}=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict")
}

/// Whether the headers have a session of this token.
pub(super) fn is_valid(token: &str, name: &str, headers: &HeaderMap, now: u64) -> bool {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut values = cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().strip_prefix(name)?.strip_prefix('='));
    values.any(|value| is_session(token, value, now))
}

fn is_session(token: &str, value: &str, now: u64) -> bool {
    let Some((until, given)) = value.split_once('.') else { return false };
    let Ok(until) = until.parse::<u64>() else { return false };
    // Both have always been compared when this returns.
    let same: bool = signature(token, until).as_bytes().ct_eq(given.as_bytes()).into();
    same && now < until && until <= now + LENGTH
}

/// The text tells it from all else that is signed with the token.
fn signature(token: &str, until: u64) -> String {
    hash_signature(token, format!("session of the node's page until {until}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a-token-of-this-test";
    const NOW: u64 = 1_800_000_000;

    fn valid(token: &str, cookies: &[&str], now: u64) -> bool {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, cookie.parse().unwrap());
        }
        is_valid(token, "pnm_page_8089", &headers, now)
    }

    #[test]
    fn a_session_is_good_for_a_day_and_only_with_its_token() {
        let set = cookie(TOKEN, "pnm_page_8089", NOW, false);
        let session = set.split(';').next().unwrap();
        assert!(set.contains("; HttpOnly; SameSite=Strict") && !set.contains(TOKEN) && !set.contains("Secure"));
        assert!(cookie(TOKEN, "x", NOW, true).ends_with("; Secure"));
        assert!(valid(TOKEN, &[session], NOW) && valid(TOKEN, &[session], NOW + LENGTH - 1));
        assert!(valid(TOKEN, &["other=1", &format!("a=b; {session}; c=d")], NOW));
        assert!(!valid(TOKEN, &[session], NOW + LENGTH), "it is over");
        assert!(!valid("another-token-of-it", &[session], NOW), "the token was changed");
        assert!(!valid(TOKEN, &[session], NOW - LENGTH), "it would be longer than any");
        let (until, signed) = session.split_once('=').unwrap().1.split_once('.').unwrap();
        for forged in [
            String::new(),
            "pnm_page_8089=".to_owned(),
            format!("pnm_page_8089={until}."),
            format!("pnm_page_8089={until}.{}", &signed[1..]),
            format!("pnm_page_8089={}.{signed}", NOW + 1),
            format!("pnm_page_80890={until}.{signed}"),
            format!("pnm_page_8089=-1.{signed}"),
            format!("pnm_page_8089={until}.{signed}0"),
        ] {
            assert!(!valid(TOKEN, &[&forged], NOW), "{forged}");
        }
        assert!(end("pnm_page_8089").contains("Max-Age=0"));
    }
}
