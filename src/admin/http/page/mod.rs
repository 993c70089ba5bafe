//! The node's page for its operator: what runs, waits and failed here, with a live picture of each recording, and the
//! few orders that may be given (`docs/page.md`).
//!
//! Who may see it is decided by [`access`] and [`session`]; [`feed`] tells what is to be seen, once a second and only
//! while somebody looks. [`thumbnails`] makes the pictures, [`actions`] carries out orders, [`finished`] and [`video`]
//! show what was recorded. Nothing here is waited for by a recording.

mod access;
mod actions;
mod asset;
mod feed;
mod finished;
mod login;
mod login_limit;
mod picture;
mod processes;
mod range;
mod session;
mod thumbnails;
mod video;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::admin::http::drain;
use crate::admin::http::node_state::NodeState;
use crate::unix_time::unix_ms;

use access::Access;
use feed::Feed;
use login_limit::LoginLimit;
use thumbnails::Thumbnails;

/// Viewers at once, and videos that play at once.
const MOST_VIEWERS: usize = 16;
const MOST_VIDEOS: usize = 8;
/// How long a viewer or a player may stay on one connection; then the browser connects again by itself.
const LONGEST: Duration = Duration::from_secs(600);

/// What the page needs.
#[derive(Clone)]
pub(super) struct Page(Arc<Parts>);

pub(super) struct Parts {
    node: NodeState,
    feed: Feed,
    thumbnails: Thumbnails,
    logins: LoginLimit,
    viewers: Arc<Semaphore>,
    videos: Arc<Semaphore>,
}

impl std::ops::Deref for Page {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The paths of the page.
pub(super) fn router(node: &NodeState) -> Router {
    let page = Page(Arc::new(Parts {
        feed: Feed::new(node),
        thumbnails: Thumbnails::new(node),
        node: node.clone(),
        logins: LoginLimit::default(),
        viewers: Arc::new(Semaphore::new(MOST_VIEWERS)),
        videos: Arc::new(Semaphore::new(MOST_VIDEOS)),
    }));
    let guarded = Router::new()
        .route("/page/events", get(feed::events))
        .route("/page/recordings/{kind}/{id}/thumbnail", get(thumbnails::thumbnail))
        .route("/page/recordings/{kind}/{id}/stop", post(actions::stop))
        .route("/page/jobs/{id}/retry", post(actions::retry_job))
        .route("/page/jobs/{id}/drop", post(actions::drop_job))
        .route("/page/outbox/{id}/retry", post(actions::retry_messages))
        .route("/page/drain", post(actions::drain))
        .route("/page/undrain", post(actions::undrain))
        .route("/page/finished/{id}/summary", get(finished::summary))
        .route("/page/finished/{id}/video", get(video::video))
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
        Err(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
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
        Err((status, why)) => (status, format!("{why}\n")).into_response(),
        Ok(None) => next.run(request).await,
        Ok(Some(token)) => {
            let name = session::name(page.node.admin.listen);
            if session::is_valid(&token, &name, request.headers(), unix_ms() / 1000) {
                return next.run(request).await;
            }
            (StatusCode::UNAUTHORIZED, "log in first\n").into_response()
        }
    }
}
