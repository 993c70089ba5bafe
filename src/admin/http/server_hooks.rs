//! `POST /server-hooks/SECRET/download` and `/delete`: what the plugNmeet server asks for recordings that are in a store of
//! `storage.deliver` (PROTOCOL 9). Only objects below the URLs of such stores are answered for.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use crate::admin::http::connections::Caller;
use crate::admin::http::node_state::NodeState;
use crate::admin::http::refusal::Refusal;
use crate::admin::http::token_limit::TokenLimit;
use crate::codes;
use crate::config::store_url::StoreUrl;
use crate::hls::packager::MASTER;
use crate::store::error::StoreError;
use crate::store::sidecars;
use crate::store::uploads::Uploads;

/// What all these paths begin with: requests to them have a body.
pub(super) const PATH: &str = "/server-hooks/";
/// The longest body, in bytes: a path and some words.
const BODY_LIMIT: usize = 16 << 10;
/// Time limit for the store.
const STORE_LIMIT: Duration = Duration::from_secs(10);
/// How long a link lasts: a player asks for further ranges of it for as long as somebody watches.
const LINK_LIFETIME: Duration = Duration::from_secs(6 * 60 * 60);
const MIME_TYPE: &str = "video/mp4";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerHook {
    Download,
    Delete,
}

#[derive(Deserialize)]
struct HookInput {
    input_path: String,
}

/// Answers a hook of the server.
pub(super) async fn answer(
    node: &NodeState,
    hook: ServerHook,
    secret: &str,
    tokens: &TokenLimit,
    caller: &Caller,
    body: Body,
) -> Response {
    let (from, now) = (caller.address, Instant::now());
    if let Some(refusal) = tokens.refusal(from, now) {
        return refusal;
    }
    let expected = node.storage.hooks_secret.as_deref();
    let right = expected.is_some_and(|expected| bool::from(expected.as_bytes().ct_eq(secret.as_bytes())));
    let (true, Some(uploads)) = (right, node.uploads.get()) else {
        if expected.is_some() && !right && tokens.wrong(from, now) {
            tracing::warn!(
                code = %codes::WRONG_HOOKS_SECRET, address = %from,
                "somebody has asked the storage hooks with a wrong secret, and was refused; told once a minute"
            );
        }
        let why = "nothing is here: storage.hooks_secret is another one, or not set";
        return Refusal::new(StatusCode::NOT_FOUND, codes::WRONG_HOOKS_SECRET, why).into_response();
    };
    caller.may_stay(2 * STORE_LIMIT);
    let input =
        to_bytes(body, BODY_LIMIT).await.ok().and_then(|bytes| serde_json::from_slice::<HookInput>(&bytes).ok());
    let Some(HookInput { input_path }) = input else {
        return told(StatusCode::BAD_REQUEST, json!({"error": "a JSON object with input_path is expected"}));
    };
    let Some((store, key)) = uploads.of_object(&input_path) else {
        return told(StatusCode::NOT_FOUND, json!({"error": "this is no recording in a store of this node"}));
    };
    let work = async {
        match hook {
            ServerHook::Download => download(uploads, store, &key).await,
            ServerHook::Delete => delete(node, uploads, store, &key).await,
        }
    };
    let done = tokio::time::timeout(STORE_LIMIT, work).await.unwrap_or(Err(StoreError::Late(STORE_LIMIT)));
    match done {
        Ok(Some(answer)) => told(StatusCode::OK, answer),
        Ok(None) => told(StatusCode::NOT_FOUND, json!({"error": "the store has no such recording"})),
        Err(error) => {
            tracing::error!(
                code = %codes::STORE_HOOK_FAILED, ?hook, %store, key, %error,
                "what the server has asked of a recording in the store cannot be done; {}", error.remedy()
            );
            // The server takes the answer of a deletion whatever its status.
            let status = if hook == ServerHook::Delete { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
            told(status, json!({"error": error.to_string()}))
        }
    }
}

fn told(status: StatusCode, answer: Value) -> Response {
    (status, axum::Json(answer)).into_response()
}

/// `None`: there is no such object.
async fn download(uploads: &Uploads, url: &StoreUrl, key: &str) -> Result<Option<Value>, StoreError> {
    let store = uploads.store(url).await?;
    if store.head(key).await?.is_none() {
        return Ok(None);
    }
    Ok(Some(match (store.presigned(key, LINK_LIFETIME).await?, store.url().directory()) {
        (Some(url), _) => json!({"action": "redirect", "redirect_url": url}),
        (None, Some(dir)) => {
            json!({"action": "serve_local", "output_path": dir.join(key).display().to_string(), "mime_type": MIME_TYPE})
        }
        (None, None) => return Err(StoreError::Unsupported("it gives no links".to_owned())),
    }))
}

/// What is not there any more is deleted.
async fn delete(node: &NodeState, uploads: &Uploads, url: &StoreUrl, key: &str) -> Result<Option<Value>, StoreError> {
    uploads.forget(url, key).await?;
    let store = uploads.store(url).await?;
    // The MP4 first: a node that still delivers its HLS sees then that it is not wanted any more.
    for key in sidecars::all_of(key) {
        store.delete(&key).await?;
    }
    if let Some(hls) = node.hls.get() {
        hls.forget(key).await;
    }
    store.delete_below(&sidecars::hls_dir(key), MASTER, &[]).await?;
    tracing::info!(store = %url, key, "a recording is deleted from the store: the server has asked for it");
    Ok(Some(json!({"msg": "deleted"})))
}
