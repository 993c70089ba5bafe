//! The URL of an object store: where it is, who asks, and how. Pure. Neither a text nor `Debug` shows a secret.
//!
//! ```text
//! s3://bucket/prefix?region=…&endpoint=…&path_style=true|false&ca=/file&credentials=/file
//! s3://KEY:SECRET@region/bucket/prefix?endpoint=…      a sign of the secret that is none of a URL is written as %2F
//! gs://bucket/prefix?credentials=/file
//! az://container/prefix?account=…&credentials=/file
//! file:///dir
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

/// The longest name of an object that every store takes, in bytes.
const LONGEST_KEY: usize = 1024;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    S3 {
        bucket: String,
        region: Option<String>,
        /// `None`: the host in the path where the store is not Amazon's, else the bucket in the host's name.
        path_style: Option<bool>,
    },
    Gcs {
        bucket: String,
    },
    Azure {
        container: String,
        account: Option<String>,
    },
    Directory(PathBuf),
}

/// An access key and its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    pub id: String,
    pub secret: String,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A parsed URL of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    pub place: StorePlace,
    /// What all names in the store begin with, without a slash at either end; may be empty.
    pub prefix: String,
    /// Of the URL itself.
    pub key: Option<AccessKey>,
    /// `http(s)://host[:port]`, without a slash at its end.
    pub endpoint: Option<String>,
    /// PEM file of a CA that is trusted besides the host's.
    pub ca: Option<PathBuf>,
    /// File with the credentials.
    pub credentials: Option<PathBuf>,
}

impl StoreUrl {
    /// # Errors
    /// What is wrong, and what is allowed. Quotes no part that may hold a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.trim().split_once("://").ok_or("it has no scheme; s3://, gs://, az:// or file://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let mut options = Options::parse(query)?;
        let scheme = scheme.to_ascii_lowercase();
        if user.is_some() && scheme != "s3" {
            return Err(format!(
                "{scheme}:// takes no key before an @; it comes from the environment or credentials=/file"
            ));
        }
        let (place, prefix, key) = match scheme.as_str() {
            "s3" => {
                let (key, region, rest) = match user {
                    Some(user) => {
                        let (region, rest) = rest.split_once('/').ok_or("s3://KEY:SECRET@region/bucket is expected")?;
                        (Some(access_key(user)?), Some(region.to_owned()), rest)
                    }
                    None => (None, options.take("region"), rest),
                };
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let path_style = options.take("path_style").map(|word| flag(&word)).transpose()?;
                let region = region.filter(|region| !region.is_empty());
                if region.as_ref().is_some_and(|region| !is_name(region)) {
                    return Err("the region has other characters than letters, digits and -".to_owned());
                }
                (StorePlace::S3 { bucket: bucket_name(bucket)?, region, path_style }, prefix, key)
            }
            "gs" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                (StorePlace::Gcs { bucket: bucket_name(bucket)? }, prefix, None)
            }
            "az" => {
                let (container, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let account = options.take("account");
                (StorePlace::Azure { container: bucket_name(container)?, account }, prefix, None)
            }
            "file" => {
                let path = decoded(rest)?;
                if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
                    return Err("a whole path without .. is expected: file:///srv/recordings".to_owned());
                }
                (StorePlace::Directory(PathBuf::from(path)), "", None)
            }
            other => {
                let known: String = other.chars().take(10).filter(char::is_ascii_alphanumeric).collect();
                return Err(format!("{known}:// is no store; s3://, gs://, az:// and file:// are"));
            }
        };
        let is_directory = matches!(place, StorePlace::Directory(_));
        let (endpoint, ca, credentials) = if is_directory {
            (None, None, None)
        } else {
            (options.endpoint(&place)?, options.path("ca")?, options.path("credentials")?)
        };
        options.end()?;
        let prefix = decoded(prefix.trim_matches('/'))?;
        if !prefix.is_empty() {
            check_key(&prefix).map_err(|why| format!("the prefix {why}"))?;
        }
        Ok(Self { place, prefix, key, endpoint, ca, credentials })
    }

    /// What must not be logged.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.key.iter().flat_map(|key| [key.id.as_str(), key.secret.as_str()])
    }

    /// The directory of a `file://` store.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match &self.place {
            StorePlace::Directory(dir) => Some(dir),
            _ => None,
        }
    }

    /// The whole name of an object in the store, of its name below this URL.
    #[must_use]
    pub fn full_key(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }

    /// How the server is told of an object: `s3://bucket/prefix/key`, without credentials or options.
    #[must_use]
    pub fn object(&self, key: &str) -> String {
        format!("{}/{key}", self.to_string().trim_end_matches('/'))
    }

    /// The name below this URL of an object that [`Self::object`] has named. `None`: it is not below it.
    #[must_use]
    pub fn key_of(&self, object: &str) -> Option<String> {
        let key = object.strip_prefix(self.to_string().trim_end_matches('/'))?.strip_prefix('/')?;
        check_key(key).is_ok().then(|| key.to_owned())
    }
}

/// Without key, secret and options.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            StorePlace::S3 { bucket, .. } => write!(f, "s3://{bucket}")?,
            StorePlace::Gcs { bucket } => write!(f, "gs://{bucket}")?,
            StorePlace::Azure { container, .. } => write!(f, "az://{container}")?,
            StorePlace::Directory(dir) => write!(f, "file://{}", dir.display())?,
        }
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// What stands behind the question mark.
struct Options(Vec<(String, String)>);

impl Options {
    fn parse(query: &str) -> Result<Self, String> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').ok_or("an option without a value; name=value is expected")?;
            Ok((name.to_owned(), decoded(value)?))
        };
        pairs.map(pair).collect::<Result<_, String>>().map(Self)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(found, _)| found == name)?;
        Some(self.0.remove(at).1).filter(|value| !value.is_empty())
    }

    fn path(&mut self, name: &str) -> Result<Option<PathBuf>, String> {
        let path = self.take(name).map(PathBuf::from);
        match path {
            Some(path) if !path.is_absolute() => Err(format!("{name}= needs a whole path, from / on")),
            path => Ok(path),
        }
    }

    /// That of Azure may have a path: where the account is none of the host's name, it is the first part of the path.
    fn endpoint(&mut self, place: &StorePlace) -> Result<Option<String>, String> {
        const ALLOWED: &str = "endpoint= needs http(s)://host[:port], without user, path and options";
        let with_path = matches!(place, StorePlace::Azure { .. });
        let Some(text) = self.take("endpoint") else { return Ok(None) };
        let url = Url::parse(&text).map_err(|_| ALLOWED)?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !plain || !matches!(url.scheme(), "http" | "https") || !(with_path || url.path() == "/") || !url.has_host() {
            return Err(ALLOWED.to_owned());
        }
        Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// Nothing must be left: a misspelt option would be ignored.
    fn end(self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) if is_name(name) => {
                Err(format!("the option {name} is unknown, or not for this kind of store"))
            }
            Some(_) => Err("it has an unknown option".to_owned()),
        }
    }
}

fn access_key(user: &str) -> Result<AccessKey, String> {
    let (id, secret) = user.split_once(':').ok_or("before the @, KEY:SECRET is expected")?;
    let key = AccessKey { id: decoded(id)?, secret: decoded(secret)? };
    if key.id.is_empty() || key.secret.is_empty() {
        return Err("before the @, KEY:SECRET is expected".to_owned());
    }
    Ok(key)
}

fn flag(word: &str) -> Result<bool, String> {
    match word {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("path_style= is true or false".to_owned()),
    }
}

fn bucket_name(name: &str) -> Result<String, String> {
    let right = (1..=63).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    if right && !name.starts_with('.') {
        return Ok(name.to_owned());
    }
    Err("the name of the bucket or container is missing, or has characters that none may have".to_owned())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "it holds % signs that are no UTF-8")?;
    if text.chars().any(char::is_control) {
        return Err("it holds a control character".to_owned());
    }
    Ok(text.into_owned())
}

/// Whether this can be the name of an object: it also becomes a path, and part of a URL.
///
/// # Errors
/// What is wrong with it.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.len() > LONGEST_KEY {
        return Err(format!("is longer than {LONGEST_KEY} bytes"));
    }
    if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("has an empty part, . or .. between its slashes".to_owned());
    }
    if key.chars().any(|c| c.is_control() || matches!(c, '\\' | '?' | '#' | '%')) {
        return Err("has a control character, or one of \\ ? # %".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> StoreUrl {
        StoreUrl::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn both_forms_of_s3_name_the_same_place() {
        let long = parsed(
            "s3://rec.bucket/a/b/?region=eu-1&endpoint=http%3A%2F%2F127.0.0.1%3A9000&path_style=true&ca=/ca.pem",
        );
        let place = StorePlace::S3 { bucket: "rec.bucket".into(), region: Some("eu-1".into()), path_style: Some(true) };
        assert_eq!((&long.place, long.prefix.as_str()), (&place, "a/b"));
        assert_eq!(long.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!((long.ca.as_deref(), &long.key), (Some(Path::new("/ca.pem")), &None));
        let azure = parsed("az://container?account=a&endpoint=http://127.0.0.1:10000/a");
        assert_eq!(azure.endpoint.as_deref(), Some("http://127.0.0.1:10000/a"));
        let short = parsed("s3://AKIA:se%2Fcr+et@eu-1/rec.bucket/a/b?endpoint=http://127.0.0.1:9000");
        assert_eq!((short.prefix.as_str(), &short.endpoint), ("a/b", &long.endpoint));
        assert_eq!(short.key, Some(AccessKey { id: "AKIA".into(), secret: "se/cr+et".into() }));
        // As they are given out.
        assert_eq!(parsed("s3://AKIA:a/b@eu-1/bucket").key.unwrap().secret, "a/b");
    }

    #[test]
    fn no_text_shows_a_secret() {
        let url = parsed("s3://AKIAKEY:verysecret@eu-1/bucket/pre?credentials=/file");
        for shown in [url.to_string(), format!("{url:?}"), url.object("a.mp4")] {
            assert!(!shown.contains("verysecret") && !shown.contains("AKIAKEY"), "{shown}");
        }
        assert_eq!(url.secrets().collect::<Vec<_>>(), ["AKIAKEY", "verysecret"]);
        for wrong in
            ["s3://verysecret@eu-1/b", "http://k:verysecret@x/", "s3://k:verysecret@eu/b?verysecret", "verysecret"]
        {
            let why = StoreUrl::parse(wrong).unwrap_err();
            assert!(!why.contains("verysecret"), "{why}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for wrong in [
            "s3://",
            "s3:///x",
            "s3://bucket/a/../b",
            "s3://bucket?endpiont=http://x",
            "s3://bucket?endpoint=ftp://x",
            "s3://bucket?endpoint=http://u:p@x",
            "s3://bucket?endpoint=http://x/path",
            "s3://bucket?path_style=perhaps",
            "s3://bucket?ca=relative",
            "s3://bucket?account=x",
            "gs://k:s@bucket",
            "az://",
            "file://host/dir",
            "file:///a/../b",
            "file:///a?ca=/x",
            "ftp://host",
        ] {
            assert!(StoreUrl::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_lies_below_the_url_is_its_own() {
        let url = parsed("s3://k:s@eu/bucket/pre");
        assert_eq!(url.object("room/a.mp4"), "s3://bucket/pre/room/a.mp4");
        assert_eq!(url.key_of("s3://bucket/pre/room/a.mp4").as_deref(), Some("room/a.mp4"));
        assert_eq!(url.full_key("a"), "pre/a");
        for foreign in [
            "s3://bucket/pre",
            "s3://bucket/pre/",
            "s3://bucket/prefix/a",
            "s3://bucket/pre/../a",
            "s3://bucket/pre//a",
            "s3://other/pre/a",
            "gs://bucket/pre/a",
            "/etc/passwd",
            "",
        ] {
            assert_eq!(url.key_of(foreign), None, "{foreign}");
        }
        let dir = parsed("file:///srv/rec%20s/");
        assert_eq!(dir.object("a.mp4"), "file:///srv/rec s/a.mp4");
        assert_eq!(dir.key_of("file:///srv/rec s/a.mp4").as_deref(), Some("a.mp4"));
    }
}
