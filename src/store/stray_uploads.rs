//! Uploads in parts whose ids nobody knows: the store's answer was lost, or the program was killed before its record was
//! written. The store is asked for those of one object, and they are given up. Only S3 knows them by a list; elsewhere they
//! expire.

use std::time::Duration;

use object_store::path::Path as ObjectPath;
use object_store::signer::{SignedUrlOptions, Signer as _};
use reqwest::Client;

use crate::http;
use crate::store::connect::Backend;
use crate::store::error::{StoreError, element};
use crate::store::handle::Store;

/// The longest answer that is looked at: a list of a thousand.
const ANSWER_LIMIT: usize = 4 << 20;
const LIMIT: Duration = Duration::from_secs(30);

/// Gives up every upload of this object that is not completed, but `keep`.
pub(super) async fn abort(store: &Store, key: &str, keep: Option<&str>) -> Result<(), StoreError> {
    let ids = open_uploads(store, key).await?.unwrap_or_default();
    for id in ids.into_iter().filter(|id| Some(id.as_str()) != keep) {
        tracing::info!(key, "an upload whose id was lost is given up");
        store.abort_parts(key, &id).await?;
    }
    Ok(())
}

/// Whether the store says that it knows this upload no more. A server that refuses a part may end the connection before it
/// has read it, and then its answer does not arrive.
pub(super) async fn is_over(store: &Store, key: &str, id: &str) -> bool {
    matches!(open_uploads(store, key).await, Ok(Some(ids)) if !ids.iter().any(|open| open == id))
}

/// The uploads of this object that are not completed; `None`: the store has no list of them.
async fn open_uploads(store: &Store, key: &str) -> Result<Option<Vec<String>>, StoreError> {
    let Backend::S3(s3) = &store.backend else { return Ok(None) };
    let full = store.url().full_key(key);
    let options = SignedUrlOptions::default().with_query([("uploads", String::new()), ("prefix", full.clone())]);
    let root = ObjectPath::default();
    let signed = s3.signed_url_opts(reqwest::Method::GET, &root, LIMIT, &options);
    let url = store.within(0, signed).await?;
    let failed = |error: reqwest::Error| StoreError::Unreachable(http::causes(error));
    let client = http::build(Client::builder().timeout(LIMIT), &url, store.url().ca.as_deref());
    let client = client.map_err(|error| StoreError::Setup(error.to_string()))?;
    let mut response = client.get(url).send().await.map_err(failed)?;
    let (body, _) = http::body(&mut response, ANSWER_LIMIT).await.map_err(failed)?;
    let text = String::from_utf8_lossy(&body);
    if response.status().is_success() {
        let is_list = text.contains("ListMultipartUploadsResult");
        return Ok(is_list.then(|| ids_of(&text, &full)));
    }
    match response.status().as_u16() {
        400 | 404 | 405 | 501 => Ok(None),
        _ => Err(StoreError::Other(format!("{} to a list of uploads", response.status()))),
    }
}

/// The ids of the uploads of exactly this object.
fn ids_of(xml: &str, key: &str) -> Vec<String> {
    let uploads = xml.split("<Upload>").skip(1);
    let of_key = uploads.filter(|upload| element(upload, "Key").is_some_and(|found| unescaped(found) == key));
    of_key.filter_map(|upload| element(upload, "UploadId").map(unescaped)).collect()
}

fn unescaped(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, sign)| text.replace(entity, sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_uploads_of_the_object_are_found() {
        let xml = "<R><Prefix>a/b</Prefix><Upload><Key>a/b&amp;c.mp4</Key><UploadId>1</UploadId></Upload>\
                   <Upload><UploadId>2</UploadId><Key>a/b&amp;c.mp4.x</Key></Upload>\
                   <Upload><UploadId>3&amp;4</UploadId><Key>a/b&amp;c.mp4</Key></Upload></R>";
        assert_eq!(ids_of(xml, "a/b&c.mp4"), ["1", "3&4"]);
        assert!(ids_of("<html>", "a").is_empty());
    }
}
