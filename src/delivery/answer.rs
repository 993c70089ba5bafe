//! What an answer to a notice means (PROTOCOL 5): whether it is plugNmeet's own word, or that of something that stands
//! between. Pure.
//!
//! A status alone says nothing: a reverse proxy whose backend restarts answers 404, one that asks for a password 401, a
//! captive portal 200. So the body decides. Whatever is not surely plugNmeet's is a stranger's, and changes nothing.

use prost::Message as _;

use crate::protocol::messages::CommonResponse;

/// Of an answer's body no more is read, in bytes. plugNmeet's own are far shorter.
pub const BODY_LIMIT: usize = 16 * 1024;
/// Of plugNmeet's own words so much is shown, in characters.
const WORDS: usize = 200;

/// An answer as it came.
#[derive(Clone, Copy, Debug)]
pub struct NoticeResponse<'a> {
    pub status: u16,
    /// `Content-Type`, empty where there is none.
    pub content_type: &'a str,
    /// At most [`BODY_LIMIT`] bytes.
    pub body: &'a [u8],
    /// There was more of it.
    pub cut: bool,
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeAnswer {
    Taken,
    /// plugNmeet itself does not take the notice as things stand.
    Refused(Refusal),
    /// There is no answer of plugNmeet's: to be tried again soon; why.
    Again(String),
}

/// Why plugNmeet itself does not take a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub why: String,
    pub concerns: RefusalScope,
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalScope {
    /// Key or signature: every notice of this node.
    Node,
    /// The room: every notice of its recordings.
    Room,
    /// Only this notice.
    Notice,
}

/// What an answer means.
#[must_use]
pub fn read(response: NoticeResponse<'_>) -> NoticeAnswer {
    let status = response.status;
    if matches!(status, 200 | 401 | 404)
        && let Some(why) = stranger(response)
    {
        return NoticeAnswer::Again(format!(
            "the answer {status} is not plugNmeet's own: {why}; does plugNmeet run behind the proxy, and is plugNmeet_info.host its address?"
        ));
    }
    let refused = |concerns, why| NoticeAnswer::Refused(Refusal { why, concerns });
    match status {
        200 => match undecodable(response.body) {
            Some(words) => refused(RefusalScope::Notice, format!("plugNmeet cannot read the notice ({words})")),
            None => NoticeAnswer::Taken,
        },
        404 => refused(RefusalScope::Room, "plugNmeet knows no such room (404)".to_owned()),
        401 => refused(
            RefusalScope::Node,
            format!(
                "plugNmeet refuses this recorder (401: {}): check plugNmeet_info.api_key and api_secret",
                words(&common_response(response.body).unwrap_or_default())
            ),
        ),
        300..=399 => NoticeAnswer::Again(format!(
            "the server sends recorders elsewhere ({status}): set plugNmeet_info.host to where it really is"
        )),
        500 => NoticeAnswer::Again("the server answered 500, as plugNmeet does while its database is away".to_owned()),
        status => NoticeAnswer::Again(format!("the server answered {status}")),
    }
}

/// Why the answer is not plugNmeet's, if that can be told.
fn stranger(NoticeResponse { status, content_type, body, cut }: NoticeResponse<'_>) -> Option<String> {
    if cut {
        return Some(format!("it has more than {} KiB", BODY_LIMIT / 1024));
    }
    // A markup of any kind: plugNmeet's answers begin with a letter, `{`, or a field's number below 0x20.
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

/// The body where it is text, without what stands around it; else nothing.
fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap_or_default().trim_start_matches('\u{feff}').trim()
}

/// The reason in a protobuf `CommonResponse` that says no.
fn common_response(body: &[u8]) -> Option<String> {
    CommonResponse::decode(body).ok().filter(|response| !response.status && !response.msg.is_empty()).map(|it| it.msg)
}

/// What plugNmeet says of a request that it could not decode: JSON with `"status": false`.
fn undecodable(body: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    (answer.get("status")? == false).then(|| words(answer.get("msg").and_then(|msg| msg.as_str()).unwrap_or_default()))
}

/// A text of the other side's for a line of the log.
fn words(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, content_type: &str, body: &[u8]) -> NoticeAnswer {
        read(NoticeResponse { status, content_type, body, cut: false })
    }

    fn concerns(answer: &NoticeAnswer) -> Option<RefusalScope> {
        if let NoticeAnswer::Refused(refusal) = answer { Some(refusal.concerns) } else { None }
    }

    const PAGE: &[u8] = b"<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>nginx</body></html>";

    #[test]
    fn plugnmeets_own_words_are_known() {
        let no = CommonResponse { msg: "invalid signature".into(), ..CommonResponse::default() }.encode_to_vec();
        assert_eq!(answered(200, "text/plain; charset=utf-8", b"OK"), NoticeAnswer::Taken);
        // What a later version may say.
        for body in [&b""[..], b"done", b"{\"status\":true}", b"\x08\x01\x12\x07success"] {
            assert_eq!(answered(200, "", body), NoticeAnswer::Taken, "{body:?}");
        }
        let unknown = answered(404, "text/plain; charset=utf-8", b"Not Found");
        assert_eq!(concerns(&unknown), Some(RefusalScope::Room));
        let key = answered(401, "application/protobuf", &no);
        assert_eq!(concerns(&key), Some(RefusalScope::Node));
        assert!(matches!(&key, NoticeAnswer::Refused(why) if why.why.contains("invalid signature")), "{key:?}");
        let undecodable = answered(200, "application/json", b"{\"status\":false,\"msg\":\"proto: cannot parse\"}");
        assert_eq!(concerns(&undecodable), Some(RefusalScope::Notice));
    }

    #[test]
    fn a_strangers_word_changes_nothing_whatever_its_status() {
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
    fn the_other_sides_words_stay_on_their_line_and_short() {
        let long = CommonResponse { msg: format!("a\nb{}", "x".repeat(1000)), ..CommonResponse::default() };
        let NoticeAnswer::Refused(refusal) = answered(401, "", &long.encode_to_vec()) else { panic!() };
        assert!(refusal.why.contains("a bxx") && refusal.why.len() < 400, "{}", refusal.why);
    }
}
