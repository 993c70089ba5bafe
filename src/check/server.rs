//! The plugNmeet server, asked with this node's key, and its meeting page.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};

use crate::check::clock::{self, ClockSample};
use crate::check::report::Finding;
use crate::config::{Config, ServerConfig};
use crate::delivery::answer::{NoticeAnswer, RefusalScope};
use crate::delivery::probe;
use crate::http;
use crate::protocol::ids::RecorderId;

/// Time limit of each request.
const LIMIT: Duration = Duration::from_secs(8);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of the page that are looked at.
const PAGE_BYTES: usize = 64 * 1024;

/// The lines `server` and `key`, and the server's clock.
pub async fn check(server: &ServerConfig, recorder: &RecorderId) -> (Vec<Finding>, Option<ClockSample>) {
    const UNASKED: &str = "the server has not answered";
    let failed = |why: String| (vec![Finding::fault("server", why), Finding::skipped("key", UNASKED)], None);
    let answer = match tokio::time::timeout(LIMIT, probe::send(server, recorder)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return failed(error.to_string()),
        Err(_) => {
            return failed(format!(
                "{} takes connections or not, and does not answer within {} s: does the server run, and does a firewall \
                 or proxy stand between?",
                server.host,
                LIMIT.as_secs()
            ));
        }
    };
    let sample = answer.date.as_deref().and_then(clock::http_date).map(|told| ClockSample {
        of: "the server",
        asked: answer.asked.duration_since(UNIX_EPOCH).unwrap_or_default(),
        answered: answer.answered.duration_since(UNIX_EPOCH).unwrap_or_default(),
        told,
        resolution: Duration::from_secs(1),
    });
    let reached = Finding::ok("server", format!("{} answers recorders", server.host));
    let key = match answer.answer {
        NoticeAnswer::Refused(refusal) if refusal.scope == RefusalScope::Room => {
            Finding::ok("key", "the server takes key and signature")
        }
        NoticeAnswer::Refused(refusal) if refusal.scope == RefusalScope::Node => Finding::fault("key", refusal.why),
        NoticeAnswer::Refused(refusal) => Finding::warning("key", refusal.why),
        NoticeAnswer::Taken => Finding::warning(
            "key",
            "the server has taken a notice about a room that cannot exist: is plugNmeet_info.host a plugNmeet server?",
        ),
        NoticeAnswer::Again(why) => {
            let what = "look at plugNmeet_info.host, at the server's log, and at the proxy before it";
            return (
                vec![Finding::fault("server", format!("{why}; {what}")), Finding::skipped("key", UNASKED)],
                sample,
            );
        }
    };
    (vec![reached, key], sample)
}

/// The line `meeting page`: whether it answers, and whether Chrome may join by it.
pub async fn page(config: &Config) -> Finding {
    const NAME: &str = "meeting page";
    let server = &config.server;
    let address = server.join_host.clone().unwrap_or_else(|| format!("{}/", server.host));
    let Ok(url) = Url::parse(&address) else { return Finding::fault(NAME, "plugNmeet_info.join_host is no address") };
    let is_local = url.host_str().is_some_and(|host| host == "localhost" || host.ends_with(".localhost"));
    if url.scheme() != "https" && !is_local {
        return Finding::fault(
            NAME,
            format!(
                "{} is plain http, where the page shows only \"Secure Connection Required\": use https, or the name localhost",
                http::route(&url)
            ),
        );
    }
    match tokio::time::timeout(LIMIT, fetch(server, url.clone())).await {
        Ok(Ok(())) => Finding::ok(NAME, format!("{} answers with a page", http::route(&url))),
        Ok(Err(why)) => Finding::fault(NAME, why),
        Err(_) => Finding::fault(NAME, format!("{} does not answer within {} s", http::route(&url), LIMIT.as_secs())),
    }
}

async fn fetch(server: &ServerConfig, url: Url) -> Result<(), String> {
    let builder = Client::builder().connect_timeout(CONNECT_LIMIT);
    let client = http::build(builder, &url, server.ca_file.as_deref()).map_err(|error| error.to_string())?;
    let route = http::route(&url);
    let mut response = client.get(url).send().await.map_err(http::causes)?;
    let status = response.status();
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_page = content_type.to_ascii_lowercase().starts_with("text/html");
    let (body, _) = http::body(&mut response, PAGE_BYTES).await.map_err(http::causes)?;
    if !status.is_success() {
        return Err(format!("{route} answers {status} instead of the page: does the client's site run there?"));
    }
    if !is_page || body.is_empty() {
        return Err(format!(
            "{route} answers with something else than a page: look at plugNmeet_info.host and join_host"
        ));
    }
    Ok(())
}
