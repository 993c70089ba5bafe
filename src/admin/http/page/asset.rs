//! The page itself: one document with its style and script inside, the same for everybody. It holds nothing of this
//! node; what is to be seen comes by `/page/events`.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse as _, Response};
use base64::Engine as _;
use sha2::{Digest as _, Sha256};

struct Document {
    html: String,
    policy: String,
}

static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    let style = include_str!("page.css");
    let script = concat!("\"use strict\";\n", include_str!("page.js"), include_str!("player.js"));
    let html = include_str!("page.html").replace("/*STYLE*/", style).replace("/*SCRIPT*/", script);
    let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text));
    // Nothing but these two runs, nothing is fetched from elsewhere, and no text can become HTML.
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src 'self' data:; media-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(script),
        hash(style)
    );
    Document { html, policy }
});

/// Names this build of the document: an open page loads itself again where a node of another build answers.
pub(super) fn build() -> String {
    hex::encode(&Sha256::digest(&DOCUMENT.html)[..6])
}

pub(super) async fn page() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, DOCUMENT.policy.as_str())], Html(DOCUMENT.html.as_str())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_whole_and_needs_nothing_from_elsewhere() {
        let html = &DOCUMENT.html;
        for text in ["/*STYLE*/", "/*SCRIPT*/", "http://", "https://", "innerHTML", " onclick", " style=\"", "eval("] {
            // A namespace is no address.
            let html = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!html.contains(text), "{text}");
        }
        assert_eq!(html.matches("<script>").count(), 1);
        assert_eq!(html.matches("</script>").count(), 1, "the script would end early");
    }
}
