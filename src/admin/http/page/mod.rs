//! The node's page for its operator: what runs, waits and failed here, with a live picture of each recording, and the
//! few orders that may be given (`docs/page.md`).
//!
//! Who may see it is decided by [`access`] and [`session`]; [`feed`] makes what is to be seen, once a second and
//! only while somebody looks, and [`events`] tells it. [`thumbnails`] makes the pictures, [`actions`] carries out orders,
//! [`playback`] shows what was recorded. Nothing here is waited for by a recording.

mod access;
mod actions;
mod asset;
mod events;
mod feed;
mod finished;
mod login;
mod picture;
mod playback;
mod processes;
mod range;
mod session;
mod state;
mod thumbnails;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use crate::admin::http::drain;
use crate::admin::http::node_state::NodeState;
use crate::admin::http::refusal::Refusal;
use crate::admin::http::token_limit::TokenLimit;
use crate::codes;
use crate::unix_time::unix_ms;

use access::Access;
use state::Page;

/// The paths of the page.
pub(super) fn router(node: &NodeState, tokens: Arc<TokenLimit>) -> Router {
    let page = Page::of(node, tokens);
    let guarded = Router::new()
        .route("/page/events", get(events::events))
        .route("/page/recordings/{kind}/{id}/thumbnail", get(thumbnail))
        .route("/page/recordings/{kind}/{id}/stop", post(actions::stop))
        .route("/page/jobs/{id}/retry", post(actions::retry_job))
        .route("/page/jobs/{id}/drop", post(actions::drop_job))
        .route("/page/outbox/{id}/retry", post(actions::retry_messages))
        .route("/page/outbox/{id}/drop/{message}", post(actions::drop_message))
        .route("/page/drain", post(actions::drain))
        .route("/page/undrain", post(actions::undrain))
        .route("/page/finished/{id}/summary", get(playback::summary))
        .route("/page/finished/{id}/video", get(playback::video))
        .layer(middleware::from_fn_with_state(page.clone(), session_required));
    Router::new()
        .route("/", get(asset::page))
        .route("/page/login", post(login::log_in))
        .route("/page/logout", post(login::log_out))
        .merge(guarded)
        .layer(middleware::from_fn_with_state(page.clone(), own_page_only))
        .with_state(page)
}

/// Refuses what other pages ask, and what was sent to another name than this node's.
async fn own_page_only(State(page): State<Page>, request: Request, next: Next) -> Response {
    let access = Access::of(&page.node.admin);
    let mut response = match access::check(access, request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => Refusal::new(StatusCode::FORBIDDEN, codes::FOREIGN_PAGE, why).into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static("default-src 'none'"));
    response
}

/// Refuses who has not logged in, where this node has a token.
async fn session_required(State(page): State<Page>, request: Request, next: Next) -> Response {
    match drain::expected(&page.node.admin).await {
        Err(refusal) => refusal.into_response(),
        Ok(None) => next.run(request).await,
        Ok(Some(token)) => {
            let name = page.session_name();
            if session::is_valid(&token, &name, request.headers(), unix_ms() / 1000) {
                return next.run(request).await;
            }
            Refusal::new(StatusCode::UNAUTHORIZED, codes::NOT_LOGGED_IN, "log in first").into_response()
        }
    }
}

async fn thumbnail(State(page): State<Page>, Path((kind, id)): Path<(String, String)>) -> Response {
    let Some(jpeg) = page.thumbnails.of(&kind, &id).await else {
        let why = "nothing is captured under this id now";
        return Refusal::new(StatusCode::NOT_FOUND, codes::NOTHING_THERE, why).into_response();
    };
    ([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response()
}
