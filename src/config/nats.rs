//! The section `nats_info`.
//!
//! A NATS URL may hold a password or a token, so no problem quotes one.

use crate::config::reader::ConfigSection;
use crate::config::sections::NatsConfig;

const URLS_ALLOWED: &str = "a list of at least one URL is required, like nats://127.0.0.1:4222";

/// `None`: a problem was reported.
pub(super) fn read(root: &ConfigSection<'_>) -> Option<NatsConfig> {
    let section = root.section("nats_info");
    let urls = read_urls(&section);
    check_replicas(&section);
    let names = section.section("recorder");
    Some(NatsConfig {
        recorder_channel: name(&names, "recorder_channel", "recorderChannel", true),
        recorder_info_kv: name(&names, "recorder_info_kv", "pnm-recorderInfo", false),
        transcoding_jobs_subject: name(&names, "transcoding_jobs_subject", "pnm-RecorderTranscoderJobs", false),
        urls: urls?,
    })
}

fn read_urls(section: &ConfigSection<'_>) -> Option<Vec<String>> {
    let field = section.required("nats_urls", URLS_ALLOWED)?;
    // The reference's client also takes one URL, or several separated by commas.
    let items = field.items().unwrap_or_else(|| vec![field.clone()]);
    if items.is_empty() {
        field.problem(format!("found an empty list; {URLS_ALLOWED}"));
        return None;
    }
    let mut urls = Vec::new();
    let mut is_valid = true;
    for item in items {
        let Some(text) = item.node.text() else {
            item.refuse("a URL like nats://127.0.0.1:4222 is expected");
            is_valid = false;
            continue;
        };
        for url in text.split(',').map(str::trim) {
            match check_url(url) {
                Ok(()) => urls.push(url.to_owned()),
                Err(why) => {
                    item.problem(format!(
                        "{why}; a URL like nats://127.0.0.1:4222 or tls://nats.example.com is allowed"
                    ));
                    is_valid = false;
                }
            }
        }
    }
    is_valid.then_some(urls)
}

/// What is wrong with `url`, quoting only its scheme.
fn check_url(url: &str) -> Result<(), String> {
    if url.is_empty() {
        return Err("found an empty text".to_owned());
    }
    let (scheme, _) = url.split_once("://").unwrap_or(("nats", ""));
    if !matches!(scheme, "nats" | "tls") {
        let scheme: String = scheme.chars().take(12).filter(char::is_ascii_graphic).collect();
        return Err(format!("found a URL that starts with {scheme}://"));
    }
    // Checked as http, because the URL standard checks unknown schemes less strictly.
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let parsed =
        url::Url::parse(&format!("http://{rest}")).map_err(|error| format!("found a URL with a fault: {error}"))?;
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err("found a URL without a host".to_owned());
    }
    if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() || parsed.fragment().is_some() {
        return Err("found a URL with more behind its host and port".to_owned());
    }
    Ok(())
}

/// The server creates bucket and stream; the setting exists because the file may be shared with the server.
fn check_replicas(section: &ConfigSection<'_>) {
    let Some(field) = section.field("num_replicas") else { return };
    if !matches!(field.node.text(), Some("1" | "3" | "5")) {
        field.warning("1, 3 or 5 is understood; ignored, because the server makes bucket and stream");
    }
}

/// Name of a subject, a stream or a bucket. `dots`: whether `.`, which separates the tokens of a subject, is allowed.
fn name(section: &ConfigSection<'_>, key: &str, default: &str, dots: bool) -> String {
    let Some(field) = section.field(key) else { return default.to_owned() };
    let Some(text) = field.text("a name") else { return default.to_owned() };
    let fits = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || (dots && c == '.'));
    if !fits || text.starts_with('.') || text.ends_with('.') || text.contains("..") {
        let also = if dots { ", `_` and `.` between them" } else { " and `_`" };
        field.refuse(&format!("a name of letters, digits, `-`{also} is allowed (default {default})"));
        return default.to_owned();
    }
    text
}
