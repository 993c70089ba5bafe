//! The built-in `http-request URL`: sends a step's input to the URL; the answer's body is the step's output.

use std::path::Path;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;

use crate::codes;
use crate::config::HookUrl;
use crate::http;
use crate::scripts::hooks::answer::{self, LONGEST_ANSWER, NoAnswer};
use crate::scripts::hooks::failure::HookFailure;
use crate::scripts::hooks::payload::Object;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Sends the request; once more where it could not connect. `ca_file`: trusted besides the host's roots.
pub(super) async fn post(
    url: &HookUrl,
    ca_file: Option<&Path>,
    input: &Object,
    limit: Duration,
) -> Result<Result<Object, NoAnswer>, HookFailure> {
    // A new client each time: requests are rare, and a kept connection would mostly be closed by then. A redirect is
    // not followed: it would take the recording's data, and a password in the URL, elsewhere.
    let client = reqwest::Client::builder().connect_timeout(CONNECT_DEADLINE).redirect(Policy::none());
    let client = http::build(client, url.expose(), ca_file).map_err(|error| HookFailure::Http(error.to_string()))?;
    let body = serde_json::to_vec(input).unwrap_or_default();
    let request = async {
        match ask(&client, url, body.clone()).await {
            Err(HttpRequestError::Connection(why)) => {
                tracing::warn!(code = %codes::HOOK_SENT_AGAIN, "the request failed and is sent once more: {why}");
                ask(&client, url, body).await
            }
            answer => answer,
        }
    };
    match tokio::time::timeout(limit, request).await {
        Ok(Ok((body, true))) => Ok(Err(NoAnswer::TooLong { first: answer::printable(&body) })),
        Ok(Ok((body, false))) => Ok(answer::of_output(&body, false)),
        Ok(Err(HttpRequestError::Connection(why) | HttpRequestError::Other(why))) => Err(HookFailure::Http(why)),
        Err(_) => {
            let (to, limit) = (http::route(url.expose()), humantime::format_duration(limit));
            Err(HookFailure::Http(format!("{to}: no answer within {limit} (hook_timeout)")))
        }
    }
}

enum HttpRequestError {
    /// The connection failed, so the request was not sent.
    Connection(String),
    Other(String),
}

impl From<reqwest::Error> for HttpRequestError {
    fn from(error: reqwest::Error) -> Self {
        let connection = error.is_connect();
        let why = http::causes(error);
        if connection { Self::Connection(why) } else { Self::Other(why) }
    }
}

/// The body of a successful answer, and whether it is cut at [`LONGEST_ANSWER`].
async fn ask(client: &reqwest::Client, url: &HookUrl, body: Vec<u8>) -> Result<(Vec<u8>, bool), HttpRequestError> {
    let request = client.post(url.expose().clone()).header(CONTENT_TYPE, "application/json").body(body);
    let mut response = request.send().await?;
    let status = response.status();
    let (body, cut) = http::body(&mut response, LONGEST_ANSWER).await?;
    if !status.is_success() {
        let moved =
            if status.is_redirection() { "; redirects are not followed: give the URL where it really is" } else { "" };
        return Err(HttpRequestError::Other(format!("it answered {status}{moved}: {}", answer::printable(&body))));
    }
    Ok((body, cut))
}
