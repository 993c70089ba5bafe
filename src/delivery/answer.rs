//! What an HTTP answer to a notice means (PROTOCOL 5): whether plugNmeet itself gave it, or something in between. Pure.
//!
//! The status alone does not tell: a reverse proxy whose backend restarts answers 404, one that asks for a password
//! 401, a captive portal 200. So the body decides. An answer that is not surely plugNmeet's only leads to another try.

use prost::Message as _;

use crate::protocol::messages::CommonResponse;

/// The number of bytes read of an answer's body. plugNmeet's own are far shorter.
pub const BODY_LIMIT: usize = 16 * 1024;
/// The number of characters of an answer's text that an error message quotes.
const EXCERPT_LENGTH: usize = 200;

/// An HTTP answer.
#[derive(Clone, Copy, Debug)]
pub struct NoticeResponse<'a> {
    pub status: u16,
    /// `Content-Type`, empty where there is none.
    pub content_type: &'a str,
    /// At most [`BODY_LIMIT`] bytes.
    pub body: &'a [u8],
    /// The body was longer.
    pub cut: bool,
}

/// What plugNmeet decided about a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeAnswer {
    Taken,
    /// plugNmeet itself does not accept the notice for now.
    Refused(NoticeRefusal),
    /// plugNmeet gave no answer; why. The notice is to be sent again soon.
    Again(String),
}

/// Why plugNmeet itself does not accept a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeRefusal {
    pub why: String,
    pub scope: RefusalScope,
}

/// Which notices a refusal concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalScope {
    /// Every notice of this node: its API key or signature is refused.
    Node,
    /// Every notice of the room's recordings.
    Room,
    /// Only this notice.
    Notice,
}

/// Interprets an answer.
#[must_use]
pub fn read(response: NoticeResponse<'_>) -> NoticeAnswer {
    let status = response.status;
    if matches!(status, 200 | 401 | 404)
        && let Some(why) = foreign(response)
    {
        return NoticeAnswer::Again(format!(
            "the answer {status} is not plugNmeet's own: {why}; does plugNmeet run behind the proxy, and is plugNmeet_info.host its address?"
        ));
    }
    let refused = |scope, why| NoticeAnswer::Refused(NoticeRefusal { why, scope });
    match status {
        200 => match decode_error(response.body) {
            Some(words) => refused(RefusalScope::Notice, format!("plugNmeet cannot read the notice ({words})")),
            None => NoticeAnswer::Taken,
        },
        404 => refused(RefusalScope::Room, "plugNmeet knows no such room (404)".to_owned()),
        401 => refused(
            RefusalScope::Node,
            format!(
                "plugNmeet refuses this recorder (401: {}): check plugNmeet_info.api_key and api_secret",
                excerpt(&common_response(response.body).unwrap_or_default())
            ),
        ),
        300..=399 => NoticeAnswer::Again(format!(
            "the server sends recorders elsewhere ({status}): set plugNmeet_info.host to where it really is"
        )),
        500 => NoticeAnswer::Again("the server answered 500, as plugNmeet does while its database is away".to_owned()),
        status => NoticeAnswer::Again(format!("the server answered {status}")),
    }
}

/// Why the answer is not plugNmeet's own; `None` where it may be.
fn foreign(NoticeResponse { status, content_type, body, cut }: NoticeResponse<'_>) -> Option<String> {
    if cut {
        return Some(format!("it has more than {} KiB", BODY_LIMIT / 1024));
    }
    // Markup of any kind: plugNmeet's answers begin with a letter, `{`, or a protobuf field number below 0x20.
    if essence(content_type).eq_ignore_ascii_case("text/html") || text(body).starts_with('<') {
        return Some("it is a page".to_owned());
    }
    match status {
        404 if !essence(content_type).eq_ignore_ascii_case("text/plain") || text(body) != "Not Found" => {
            Some("plugNmeet says \"Not Found\"".to_owned())
        }
        401 if common_response(body).is_none() => Some("plugNmeet gives a reason".to_owned()),
        _ => None,
    }
}

/// `text/plain; charset=utf-8` → `text/plain`.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// The body, trimmed; empty where it is not UTF-8.
fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap_or_default().trim_start_matches('\u{feff}').trim()
}

/// The reason in a protobuf `CommonResponse` with `status: false`.
fn common_response(body: &[u8]) -> Option<String> {
    CommonResponse::decode(body).ok().filter(|response| !response.status && !response.msg.is_empty()).map(|it| it.msg)
}

/// The message of plugNmeet's JSON answer to a request that it could not decode (`"status": false`).
fn decode_error(body: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    (answer.get("status")? == false)
        .then(|| excerpt(answer.get("msg").and_then(|msg| msg.as_str()).unwrap_or_default()))
}

/// `text` on one line, cut to [`EXCERPT_LENGTH`] characters.
fn excerpt(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXCERPT_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, content_type: &str, body: &[u8]) -> NoticeAnswer {
        read(NoticeResponse { status, content_type, body, cut: false })
    }

    fn scope(answer: &NoticeAnswer) -> Option<RefusalScope> {
        if let NoticeAnswer::Refused(refusal) = answer { Some(refusal.scope) } else { None }
    }

    const PAGE: &[u8] = b"<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>nginx</body></html>";

    #[test]
    fn plugnmeets_own_answers_are_recognized() {
        let no = CommonResponse { msg: "invalid signature".into(), ..CommonResponse::default() }.encode_to_vec();
        assert_eq!(answered(200, "text/plain; charset=utf-8", b"OK"), NoticeAnswer::Taken);
        // Answers that a later version may give.
        for body in [&b""[..], b"done", b"{\"status\":true}", b"\x08\x01\x12\x07success"] {
            assert_eq!(answered(200, "", body), NoticeAnswer::Taken, "{body:?}");
        }
        let unknown = answered(404, "text/plain; charset=utf-8", b"Not Found");
        assert_eq!(scope(&unknown), Some(RefusalScope::Room));
        let key = answered(401, "application/protobuf", &no);
        assert_eq!(scope(&key), Some(RefusalScope::Node));
        assert!(matches!(&key, NoticeAnswer::Refused(why) if why.why.contains("invalid signature")), "{key:?}");
        let decode_error = answered(200, "application/json", b"{\"status\":false,\"msg\":\"proto: cannot parse\"}");
        assert_eq!(scope(&decode_error), Some(RefusalScope::Notice));
    }

    #[test]
    fn a_foreign_answer_is_tried_again_whatever_its_status() {
        for status in [200, 401, 404, 500, 502, 503] {
            for content_type in ["text/html", "text/html; charset=UTF-8", "text/plain", ""] {
                assert!(
                    matches!(answered(status, content_type, PAGE), NoticeAnswer::Again(_)),
                    "{status} {content_type}"
                );
            }
        }
        for (status, content_type, body) in [
            (200, "text/html", &b"OK"[..]),
            (200, "application/xml", b"\n <?xml version=\"1.0\"?>"),
            (404, "text/plain", b"404 page not found\n"),
            (404, "text/plain", b"default backend - 404"),
            (404, "text/plain", b""),
            (404, "text/html", b"Not Found"),
            (404, "", b"Not Found"),
            (404, "application/json", b"{\"error\":\"Not Found\"}"),
            (401, "text/plain", b"Unauthorized"),
            (401, "", b""),
            (401, "application/protobuf", b"\x08\x01\x12\x07success"),
            (400, "text/plain", b"Bad Request"),
            (403, "text/plain", b"OK"),
            (429, "text/plain", b"slow down"),
        ] {
            let answer = answered(status, content_type, body);
            assert!(matches!(answer, NoticeAnswer::Again(_)), "{status} {content_type} {body:?}: {answer:?}");
        }
        for status in [201, 204, 206, 301, 302, 308, 500, 504] {
            assert!(matches!(answered(status, "text/plain", b"OK"), NoticeAnswer::Again(_)), "{status}");
        }
        let endless = NoticeResponse { status: 200, content_type: "text/plain", body: &[b'x'; BODY_LIMIT], cut: true };
        assert!(matches!(read(endless), NoticeAnswer::Again(_)));
    }

    #[test]
    fn an_excerpt_is_short_and_on_one_line() {
        let long = CommonResponse { msg: format!("a\nb{}", "x".repeat(1000)), ..CommonResponse::default() };
        let NoticeAnswer::Refused(refusal) = answered(401, "", &long.encode_to_vec()) else { panic!() };
        assert!(refusal.why.contains("a bxx") && refusal.why.len() < 400, "{}", refusal.why);
    }
}
