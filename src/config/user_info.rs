//! User info in a URL, which may hold a password or a token. Pure.

/// User info before the `@`: user and password, or a token. Both the whole and the password alone are secrets.
pub(super) fn secrets_of(url: &str) -> impl Iterator<Item = &str> {
    let userinfo = split_userinfo(url).map(|(_, userinfo, _)| userinfo);
    let password = userinfo.and_then(|userinfo| userinfo.split_once(':')).map(|(_, password)| password);
    userinfo.into_iter().chain(password)
}

/// `url` with user, password or token masked.
pub(super) fn masked(url: &str) -> String {
    split_userinfo(url).map_or_else(|| url.to_owned(), |(before, _, after)| format!("{before}[redacted]@{after}"))
}

/// The scheme with `://`, the user info, and the rest after the `@`.
fn split_userinfo(url: &str) -> Option<(&str, &str, &str)> {
    let start = url.find("://").map_or(0, |at| at + "://".len());
    let (before, rest) = url.split_at(start);
    rest.rsplit_once('@').map(|(userinfo, after)| (before, userinfo, after))
}
