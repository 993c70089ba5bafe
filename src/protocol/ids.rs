//! Names from outside as types: a parsed name may be used in paths, URLs and command lines.
//!
//! The server's ids consist of letters, digits, `-`, `_`, `.` and `:` (the reference server checks room ids against
//! this set). An id may not start with `-` (an option) or `.` (a hidden or parent directory), and has at most
//! [`MAX_LEN`] bytes, so that it is a valid file name (255 bytes, `NAME_MAX`) with any suffix.

use std::fmt;

/// Length limit of an id in bytes.
pub const MAX_LEN: usize = 128;

/// Why a name was refused. The message quotes at most a few bytes of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("{field} is empty")]
    Empty { field: &'static str },
    #[error("{field} has {len} bytes; at most {max} are allowed")]
    TooLong { field: &'static str, len: usize, max: usize },
    #[error("{field} starts with {found:?}; a letter, a digit or '_' is allowed there")]
    Start { field: &'static str, found: char },
    #[error("{field} holds {found:?} at byte {at}; {allowed} are allowed")]
    Character { field: &'static str, found: char, at: usize, allowed: &'static str },
    #[error("{field} is not usable: {why}")]
    Other { field: &'static str, why: String },
}

/// Checks that `text` has 1 to `max` bytes.
pub(super) fn check_length(field: &'static str, text: &str, max: usize) -> Result<(), InvalidName> {
    match text.len() {
        0 => Err(InvalidName::Empty { field }),
        len if len > max => Err(InvalidName::TooLong { field, len, max }),
        _ => Ok(()),
    }
}

fn check(field: &'static str, text: &str) -> Result<(), InvalidName> {
    check_length(field, text, MAX_LEN)?;
    if let Some((at, found)) =
        text.char_indices().find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':')))
    {
        let allowed = "letters, digits, '-', '_', '.' and ':'";
        return Err(InvalidName::Character { field, found, at, allowed });
    }
    match text.chars().next() {
        Some(found @ ('-' | '.' | ':')) => Err(InvalidName::Start { field, found }),
        _ => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// Where `text` is empty, longer than [`MAX_LEN`], or has a character that is not allowed.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                $check($field, text).map(|()| Self(text.to_owned()))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Id of a recording or broadcast; names its files.
    RecordingId,
    "recording_id",
    check
);
id!(
    /// Id of a room, chosen by its owner; names the directory of its recordings.
    RoomId,
    "room_id",
    check
);
id!(
    /// Id of a node, unique in the fleet. It is part of NATS keys, so `.` and `:` are not allowed.
    RecorderId,
    "recorder id",
    check_key
);

/// [`check`] for a part of a NATS key: letters, digits, `-` and `_`.
fn check_key(field: &'static str, text: &str) -> Result<(), InvalidName> {
    let narrow = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if let Some((at, found)) = text.char_indices().find(|(_, c)| !narrow(*c)) {
        return Err(InvalidName::Character { field, found, at, allowed: "letters, digits, '-' and '_'" });
    }
    check(field, text)
}

impl RecorderId {
    /// Parses the id of another node, which is only repeated: the characters of other ids are accepted.
    ///
    /// # Errors
    /// As for the other ids of this module.
    pub fn of_another_node(text: &str) -> Result<Self, InvalidName> {
        check("recorder id", text).map(|()| Self(text.to_owned()))
    }
}

/// Id of a room's session; only returned to the server, and empty in some of its messages.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RoomSid(String);

impl RoomSid {
    /// # Errors
    /// As for other ids, but an empty text is accepted.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        check("room_sid", text).map(|()| Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The token that lets a browser into a room, with any query parameters after it. A secret: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    /// Length limit in bytes: far above a JWT with a design in its parameters, far below Chrome's limit of URLs.
    pub const MAX_LEN: usize = 16 * 1024;

    /// # Errors
    /// Where the token is empty, too long, or has a byte that ends a URL's query or is not printable ASCII. (RFC 3986
    /// allows less: Chrome escapes the rest, and the sender may not have escaped the parameters.)
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        const FIELD: &str = "access_token";
        check_length(FIELD, text, Self::MAX_LEN)?;
        let query = |c: char| c.is_ascii_graphic() && c != '#';
        if let Some((at, _)) = text.char_indices().find(|(_, c)| !query(*c)) {
            let why = format!("byte {at} cannot stand in a URL's query");
            return Err(InvalidName::Other { field: FIELD, why });
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret, for the URL of the meeting page and for redaction.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The token without query parameters. A secret.
    #[must_use]
    pub fn bare(&self) -> &str {
        self.0.split('&').next().unwrap_or(&self.0)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Destination of a broadcast. Its last path component is the stream key: a secret, so the URL is never shown
/// completely.
#[derive(Clone, PartialEq, Eq)]
pub struct RtmpUrl {
    url: url::Url,
    /// As it was given.
    text: String,
    /// What follows scheme, host and port, as it was given: a URL's parser escapes some characters of a stream key,
    /// and RTMP knows no such escapes.
    path: String,
}

impl RtmpUrl {
    /// Length limit in bytes: a stream key of 4 kB, and the rest.
    pub const MAX_LEN: usize = 8192;

    /// # Errors
    /// Where the text is not an `rtmp://` or `rtmps://` URL with host and application.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        const FIELD: &str = "rtmp_url";
        let other = |why: &str| InvalidName::Other { field: FIELD, why: why.to_owned() };
        check_length(FIELD, text, Self::MAX_LEN)?;
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(other("it holds a space, a control character or a character that is not ASCII"));
        }
        let url = url::Url::parse(text).map_err(|error| other(&error.to_string()))?;
        if !matches!(url.scheme(), "rtmp" | "rtmps") {
            return Err(other("only rtmp:// and rtmps:// are allowed"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(other("it names no host"));
        }
        if url.path().trim_matches('/').is_empty() {
            return Err(other("it names no application (rtmp://host/application/key)"));
        }
        if !url.path().trim_start_matches('/').contains('/') && (url.query().is_some() || url.fragment().is_some()) {
            return Err(other("it has parameters but no stream key (rtmp://host/application/key?parameters)"));
        }
        let behind_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
        let path = behind_scheme.find(['/', '?', '#']).map_or("", |at| &behind_scheme[at..]).to_owned();
        Ok(Self { url, path, text: text.to_owned() })
    }

    /// `rtmp://host:port`, which may be logged.
    #[must_use]
    pub fn origin(&self) -> String {
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.url.scheme(), self.url.host_str().unwrap_or_default())
    }

    /// Whether RTMP runs over TLS (`rtmps://`).
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "rtmps"
    }

    /// Host name or address; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.url.host_str().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port, by default 1935, or 443 with TLS.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.url.port().unwrap_or(if self.is_tls() { 443 } else { 1935 })
    }

    /// The whole URL: a secret.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// User name and password, decoded; `None` if the URL names no user. Both are secrets.
    #[must_use]
    pub fn user_info(&self) -> Option<(String, String)> {
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = Some(self.url.username()).filter(|user| !user.is_empty())?;
        Some((decoded(user), decoded(self.url.password().unwrap_or_default())))
    }

    /// What is to be kept out of logs: the stream key with and without the parameters that may follow it, and the
    /// password. The user name is shown nowhere, and is often a word that the log needs.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let key = self.key().unwrap_or_default();
        let bare = key.split(['?', '#']).next().unwrap_or_default().to_owned();
        [key, bare].into_iter().chain(self.user_info().map(|(_, password)| password)).collect()
    }

    /// RTMP's `tcUrl`: scheme, host, port and application.
    #[must_use]
    pub fn tc_url(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        format!("{}://{host}:{}/{}", self.url.scheme(), self.port(), self.application())
    }

    /// The RTMP application: the path without its last component, or the whole path if it has only one.
    #[must_use]
    pub fn application(&self) -> &str {
        let path = self.path.split(['?', '#']).next().unwrap_or_default().trim_start_matches('/');
        path.rsplit_once('/').map_or(path, |(application, _)| application)
    }

    /// The stream key (RTMP's play path) with query and fragment, character by character as it was given; `None` if
    /// the URL names an application only. A secret.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        let path = self.path.trim_start_matches('/');
        let parameters = path.find(['?', '#']).unwrap_or(path.len());
        let at = path[..parameters].rfind('/')? + 1;
        Some(path[at..].to_owned()).filter(|key| !key.is_empty())
    }
}

impl fmt::Debug for RtmpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/[redacted]", self.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_server_are_accepted() {
        for id in ["RM_b6UvReYDngee-1700133937567", "room01", "a", "_x", "a.b:c", "a..b"] {
            assert_eq!(RecordingId::parse(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn hostile_ids_are_refused_with_a_short_reason() {
        let long = "a".repeat(10_000);
        for id in ["", "../etc/passwd", "a/b", "a\0b", "-rf", ".", "..", ".hidden", "a b", "ä", "a\nb", &long, ":x"] {
            let reason = RoomId::parse(id).unwrap_err().to_string();
            assert!(reason.starts_with("room_id "), "{reason}");
            assert!(reason.len() < 120, "{reason}");
        }
    }

    #[test]
    fn a_recorder_id_fits_in_a_nats_key() {
        assert!(RecorderId::parse("node_01-a").is_ok());
        for id in ["node.01", "node:1", "node 1", "node*", "node>", "", "-x"] {
            assert!(RecorderId::parse(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_token_keeps_its_further_parameters_and_is_never_shown() {
        let token = AccessToken::parse("eyJ.a.b&custom_design=%7B%7D").unwrap();
        assert_eq!(token.expose(), "eyJ.a.b&custom_design=%7B%7D");
        assert_eq!(format!("{token:?}"), "[redacted]");
        for bad in ["", "a b", "a#b", "a\nb", "a\0b", "ä"] {
            assert!(AccessToken::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_rtmp_url_is_parsed_and_hides_its_key() {
        let url = RtmpUrl::parse("rtmp://live.example.com:1936/app/instance/s3cret?x=1").unwrap();
        assert_eq!(url.origin(), "rtmp://live.example.com:1936");
        assert_eq!(url.application(), "app/instance");
        assert_eq!(url.key().as_deref(), Some("s3cret?x=1"));
        assert_eq!(format!("{url:?}"), "rtmp://live.example.com:1936/[redacted]");
        assert_eq!(RtmpUrl::parse("rtmp://h/live/a#b").unwrap().key().as_deref(), Some("a#b"));
        assert_eq!(RtmpUrl::parse("rtmps://h/live").unwrap().key(), None);
        assert_eq!(RtmpUrl::parse("rtmps://h/live").unwrap().application(), "live");
        assert_eq!((url.host(), url.port(), url.is_tls()), ("live.example.com", 1936, false));
        assert_eq!(url.tc_url(), "rtmp://live.example.com:1936/app/instance");
        let url = RtmpUrl::parse("rtmps://[::1]/live/key").unwrap();
        assert_eq!((url.host(), url.port(), url.tc_url().as_str()), ("::1", 443, "rtmps://[::1]:443/live"));
        let url = RtmpUrl::parse(r#"rtmp://h/{a}/b<c>/k{e}y"<>`^|\%7B?x="{}"&y=%20#<f>"#).unwrap();
        assert_eq!(url.key().as_deref(), Some(r#"k{e}y"<>`^|\%7B?x="{}"&y=%20#<f>"#), "nothing is escaped");
        assert_eq!((url.application(), url.tc_url().as_str()), ("{a}/b<c>", "rtmp://h:1935/{a}/b<c>"));
        let url = RtmpUrl::parse("rtmp://ann:p%40ss@h/live/k@y?a=b@c").unwrap();
        assert_eq!(url.user_info(), Some(("ann".into(), "p@ss".into())));
        assert_eq!((url.origin().as_str(), url.host(), url.tc_url().as_str()), ("rtmp://h", "h", "rtmp://h:1935/live"));
        assert_eq!(url.key().as_deref(), Some("k@y?a=b@c"));
        assert_eq!(format!("{url:?}"), "rtmp://h/[redacted]");
        assert_eq!(RtmpUrl::parse("rtmp://h/live/k@y").unwrap().user_info(), None);
        let key = "k".repeat(4096);
        assert_eq!(RtmpUrl::parse(&format!("rtmp://h/live/{key}")).unwrap().key(), Some(key));
        assert!(RtmpUrl::parse(&format!("rtmp://h/live/{}", "k".repeat(RtmpUrl::MAX_LEN))).is_err());
    }

    #[test]
    fn only_rtmp_is_a_broadcast() {
        for bad in [
            "",
            "http://h/a/b",
            "file:///etc/passwd",
            "rtmp://",
            "rtmp:///a/b",
            "rtmp://h",
            "-i",
            "rtmp://h/a b",
            "rtmp://h/live?key=x",
            "rtmp://h/live/key\nrtmp_app=x",
            "rtmp://h/live/key\0",
            "rtmp://h/live/k\u{e9}y",
        ] {
            assert!(RtmpUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
