//! Which requests may come at all, whoever sends them: a page of somebody else in the operator's browser must neither
//! see nor do anything here, also where its name was made to lead to this host (DNS rebinding). Pure.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::config::AdminConfig;

/// Whether a token is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Only this host reaches the page, and all of its users may.
    HostOnly,
    Token,
}

impl Access {
    /// As configured: without a token only `allow_drain_without_token` opens the page, which is allowed on loopback only.
    pub fn of(admin: &AdminConfig) -> Self {
        if admin.token.is_none() && admin.token_file.is_none() { Self::HostOnly } else { Self::Token }
    }
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// # Errors
/// Why the request is refused.
pub(super) fn check(access: Access, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), &'static str> {
    let host = one(headers, header::HOST).ok_or("the header Host is missing, or there are two")?;
    // A session belongs to the name that it was given under. Without one, only this host's own names are right.
    if access == Access::HostOnly && !matches!(name(host), "localhost" | "127.0.0.1" | "[::1]") {
        return Err("without a token this page is only for http://127.0.0.1, http://localhost and http://[::1]");
    }
    let is_safe = matches!(*method, Method::GET | Method::HEAD);
    // The page itself holds nothing, and may be linked to.
    if path == "/" && is_safe {
        return Ok(());
    }
    match headers.get(FETCH_SITE).map(HeaderValue::as_bytes) {
        None | Some(b"same-origin") => {}
        // Typed in by the user.
        Some(b"none") if is_safe => {}
        Some(_) => return Err("a page of somebody else may not ask this"),
    }
    // Every browser names the origin of a POST; without TLS it does not say more.
    match one(headers, header::ORIGIN) {
        Some(origin) if !is_origin(origin, host) => Err("a page of somebody else may not ask this"),
        None if !is_safe || headers.contains_key(header::ORIGIN) => Err(
            "only the page itself may ask this: the header Origin is missing; scripts use the commands of plugnmeet-recorder",
        ),
        Some(_) | None => Ok(()),
    }
}

/// The value of a header that occurs exactly once.
fn one(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// The name of `name`, `name:port`, `[address]` or `[address]:port`.
fn name(host: &str) -> &str {
    match host.rfind(']') {
        Some(end) => &host[..=end],
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// Whether the origin is that of a page of `host`. A proxy in front of this node may speak TLS.
fn is_origin(origin: &str, host: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| !authority.is_empty() && authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(access: Access, method: &Method, path: &str, given: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        check(access, method, path, &headers).is_ok()
    }

    #[test]
    fn only_the_page_itself_may_give_orders() {
        const HOST: (&str, &str) = ("host", "127.0.0.1:8089");
        let stop = |given: &[_]| answer(Access::HostOnly, &Method::POST, "/page/drain", given);
        assert!(stop(&[HOST, ("origin", "http://127.0.0.1:8089"), ("sec-fetch-site", "same-origin")]));
        assert!(stop(&[HOST, ("origin", "http://127.0.0.1:8089")]), "an old browser");
        assert!(stop(&[HOST, ("origin", "https://127.0.0.1:8089")]), "a proxy that speaks TLS");
        let order = |given: &[_]| answer(Access::Token, &Method::POST, "/page/drain", given);
        assert!(order(&[("host", "Node:8089"), ("origin", "http://node:8089")]), "names have no case");
        assert!(!order(&[("host", ""), ("origin", "http://")]));
        assert!(answer(Access::Token, &Method::GET, "/page/events", &[HOST, ("sec-fetch-site", "none")]), "typed in");
        for other in [
            vec![HOST],
            vec![HOST, ("origin", "null")],
            vec![HOST, ("origin", "http://127.0.0.1:8090")],
            vec![HOST, ("origin", "http://localhost:8089")],
            vec![HOST, ("origin", "http://evil.example")],
            vec![HOST, ("origin", "http://127.0.0.1:8089.evil.example")],
            vec![HOST, ("origin", "file://127.0.0.1:8089")],
            vec![HOST, ("origin", "http://")],
            vec![HOST, ("origin", "http://127.0.0.1:8089"), ("origin", "http://evil.example")],
            vec![HOST, ("origin", "http://127.0.0.1:8089"), ("sec-fetch-site", "cross-site")],
            vec![HOST, ("origin", "http://127.0.0.1:8089"), ("sec-fetch-site", "same-site")],
            vec![HOST, ("origin", "http://127.0.0.1:8089"), ("sec-fetch-site", "none")],
            vec![("origin", "http://127.0.0.1:8089")],
            vec![HOST, HOST, ("origin", "http://127.0.0.1:8089")],
        ] {
            assert!(!stop(&other), "{other:?}");
        }
    }

    #[test]
    fn a_token_opens_the_page_for_others_than_this_host() {
        let of = |token: Option<&str>, file: Option<&str>| {
            let (token, token_file) = (token.map(str::to_owned), file.map(Into::into));
            Access::of(&AdminConfig { listen: None, token, token_file, allow_drain_without_token: true })
        };
        assert_eq!(of(None, None), Access::HostOnly);
        assert_eq!((of(Some("a"), None), of(None, Some("/b"))), (Access::Token, Access::Token));
    }

    #[test]
    fn without_a_token_only_names_of_this_host_lead_to_the_page() {
        for (host, own) in [
            ("127.0.0.1:8089", true),
            ("127.0.0.1", true),
            ("localhost:8089", true),
            ("[::1]:8089", true),
            ("[::1]", true),
            ("evil.example:8089", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("", false),
            ("[", false),
        ] {
            for path in ["/", "/page/events"] {
                assert_eq!(answer(Access::HostOnly, &Method::GET, path, &[("host", host)]), own, "{host} {path}");
                assert!(answer(Access::Token, &Method::GET, path, &[("host", host)]), "{host}: the session decides");
            }
        }
    }

    #[test]
    fn another_page_may_link_to_the_page_and_see_nothing_of_it() {
        let given = [("host", "node:8089"), ("sec-fetch-site", "cross-site")];
        assert!(answer(Access::Token, &Method::GET, "/", &given));
        assert!(!answer(Access::Token, &Method::GET, "/page/recordings/recording/a/thumbnail", &given));
        assert!(!answer(Access::Token, &Method::POST, "/", &given));
        let foreign = [("host", "node:8089"), ("origin", "http://evil.example")];
        assert!(!answer(Access::Token, &Method::GET, "/page/events", &foreign));
    }
}
