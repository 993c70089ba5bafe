//! The store that a hook answers for one recording: one of the configuration, since a hook brings no credentials. Pure.

use crate::config::StorageConfig;
use crate::config::store_url::StoreUrl;

/// The answer of a hook that wants no delivery.
const NO_STORE: &str = "none";
/// The field of a recording's summary in which the recording node leaves the answer of its `post_recording` hooks for the node
/// that transcodes.
pub const SUMMARY_FIELD: &str = "store";

/// What a hook has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAnswer<'a> {
    /// The recording is not delivered.
    NoStore,
    Url(&'a StoreUrl),
}

/// The answer without key and options, which may be secret and do not count: `none`, or the URL of a store.
///
/// # Errors
/// Why it is neither. Quotes no part that may hold a secret.
pub fn name(answer: &str) -> Result<String, String> {
    let answer = answer.trim();
    if answer == NO_STORE {
        return Ok(answer.to_owned());
    }
    let url = StoreUrl::parse(answer).map_err(|why| format!("it is neither `none` nor the URL of a store: {why}"))?;
    Ok(url.to_string())
}

/// The store of this [`name`].
///
/// # Errors
/// Where it is not one into which the configuration delivers.
pub fn find<'a>(name: &str, storage: &'a StorageConfig) -> Result<StoreAnswer<'a>, String> {
    if name == NO_STORE {
        return Ok(StoreAnswer::NoStore);
    }
    let found = storage.delivery_stores().into_iter().find(|url| url.to_string() == name);
    found.map(StoreAnswer::Url).ok_or_else(|| {
        format!("{name} is neither that of storage.deliver nor of a rule in storage.rules of this node's configuration")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_store_of_the_configuration_is_taken_and_only_with_its_credentials() {
        let url = |text: &str| StoreUrl::parse(text).unwrap();
        let full = "s3://KEYID:SECRET@eu/a/rec?endpoint=http://127.0.0.1:9";
        let (deliver, fail) = (Some(url(full)), Some(url("s3://failed")));
        let storage = StorageConfig { deliver, fail, ..StorageConfig::default() };
        let found = |answer: &str| find(&name(answer)?, &storage).map(|found| format!("{found:?}"));
        assert_eq!(found("none"), Ok("NoStore".to_owned()));
        let expected = format!("{:?}", StoreAnswer::Url(&url(full)));
        for answer in
            ["s3://a/rec", " s3://a/rec/ ", full, "s3://OTHERKEY:OTHER@eu/a/rec?endpoint=http://evil.example.com"]
        {
            assert_eq!(found(answer), Ok(expected.clone()), "{answer}");
            assert_eq!(name(answer).unwrap(), "s3://a/rec");
        }
        for answer in ["s3://a", "s3://KEYID:SECRET@eu/failed", "gopher://SECRET", ""] {
            let why = found(answer).unwrap_err();
            assert!(!why.contains("SECRET"), "{answer}: {why}");
        }
    }
}
