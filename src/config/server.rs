//! The section `plugNmeet_info`.
//!
//! No problem quotes the key, the secret, or the user info of a URL.

use crate::config::reader::{ConfigField, ConfigSection, shown};
use crate::config::recorder::path;
use crate::config::sections::ServerConfig;

/// The placeholder of the secret in `config_sample.yaml`.
const SAMPLE_SECRET: &str = "change-me-to-the-api-secret-of-the-server";

const HOST_ALLOWED: &str = "the address of the plugNmeet server is required, like https://meet.example.com";

/// `None`: a problem was reported.
pub(super) fn read(root: &ConfigSection<'_>) -> Option<ServerConfig> {
    let section = root.section("plugNmeet_info");
    let joins_here = section.field("join_host").is_none();
    let host = section.required("host", HOST_ALLOWED).and_then(|field| read_host(&field, joins_here));
    let api_key = credential(&section, "api_key");
    let api_secret = credential(&section, "api_secret");
    let join_host = section.field("join_host").and_then(|field| read_join_host(&field));
    let ca_file = section.field("ca_file").and_then(|field| path(&field));
    Some(ServerConfig { host: host?, api_key: api_key?, api_secret: api_secret?, join_host, ca_file })
}

/// `api_key` or `api_secret`, with the same values as in the server's configuration.
fn credential(section: &ConfigSection<'_>, key: &str) -> Option<String> {
    let allowed = format!("the {key} of the server's own configuration is required");
    let field = section.required(key, &allowed)?;
    let text = field.filled_in(&format!("the {key} of the server's own configuration"))?;
    if text.chars().any(char::is_control) {
        field.problem("found a control character or a line break; one line of text is allowed");
        return None;
    }
    if text == SAMPLE_SECRET {
        field.warning("still the sample's secret; the server will refuse everything that is signed with it");
    }
    Some(text)
}

fn read_host(field: &ConfigField<'_>, joins_here: bool) -> Option<String> {
    let text = field.filled_in("the address of your plugNmeet server, like https://meet.example.com")?;
    let text = text.trim_end_matches('/');
    let url = web_url(field, text)?;
    if url.query().is_some() || url.fragment().is_some() {
        field.problem(format!("found {}; an address without `?` and `#` is allowed", shown(text)));
        return None;
    }
    // If meetings are joined elsewhere, this URL is only for notices.
    if joins_here {
        warn_of_plain_http(field, &url);
    }
    Some(text.to_owned())
}

/// The access token is appended without separator, so the URL must end in a parameter without a value, normally
/// `access_token=` (PROTOCOL 4).
fn read_join_host(field: &ConfigField<'_>) -> Option<String> {
    const LIKE: &str = "https://meet.example.com/?access_token=";
    let text = field.filled_in(&format!("the address of the meeting page, like {LIKE}"))?;
    let url = web_url(field, &text)?;
    warn_of_plain_http(field, &url);
    let parameters = text.split_once(['?', '#']).map(|(_, parameters)| parameters);
    let (found, last) = match parameters {
        // A value could be a token.
        Some(parameters) => (text.split(['?', '#']).next().unwrap_or_default(), parameters.rsplit('&').next()),
        None => (text.as_str(), None),
    };
    match last {
        Some(last) if last.ends_with("access_token=") => {}
        Some(last) if last.ends_with('=') => {
            field.warning("does not end in `access_token=`; the token is put right behind it");
        }
        Some(_) => {
            field.problem(format!("found {} with parameters, the last of which has a value or no `=`; the access token is put right behind it, so it must end like {LIKE}", shown(found)));
            return None;
        }
        None => {
            field.problem(format!(
                "found {} without a parameter; the access token is put right behind it, so it must end like {LIKE}",
                shown(found)
            ));
            return None;
        }
    }
    Some(text)
}

/// The page works over https, or where the host name is `localhost` (PROTOCOL 4).
fn warn_of_plain_http(field: &ConfigField<'_>, page: &url::Url) {
    if page.scheme() == "http" && page.host_str() != Some("localhost") {
        field.warning(
            "plain http:// where the host is not `localhost`: the meeting page will only say \"Secure Connection Required\", and \
             nothing can be recorded; use https://",
        );
    }
}

fn web_url(field: &ConfigField<'_>, text: &str) -> Option<url::Url> {
    if text.contains('@') {
        field.problem("a user name or password in the address is not supported");
        return None;
    }
    let found = shown(text);
    let Some((scheme, _)) = text.split_once("://") else {
        field.problem(format!("found {found}; an address starts with https:// or http://, like https://{text}"));
        return None;
    };
    if !(scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")) {
        field.problem(format!("found {found}; an address starts with https:// or http://"));
        return None;
    }
    match url::Url::parse(text) {
        Ok(url) if url.host_str().is_some_and(|host| !host.is_empty()) => Some(url),
        Ok(_) => {
            field.problem(format!("found {found}; it names no host"));
            None
        }
        Err(error) => {
            field.problem(format!("found {found}; it is no address: {error}"));
            None
        }
    }
}
