//! The paths and their answers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use crate::admin::http::connections::Caller;
use crate::admin::http::node_state::NodeState;
use crate::admin::http::readiness::Reason;
use crate::admin::http::refusal::Refusal;
use crate::admin::http::server_hooks::ServerHook;
use crate::admin::http::token_limit::TokenLimit;
use crate::admin::http::{drain, health, page, protection, readiness, sampling, server_hooks};
use crate::codes;
use crate::telemetry::metrics::Metrics;

const NOTHING_HERE: &str =
    "nothing is here; there are GET / (the page), /healthz, /readyz, /metrics, /protect and POST /drain, /undrain\n";

pub(super) fn router(node: &NodeState) -> Router {
    let tokens = Arc::<TokenLimit>::default();
    let orders = Router::new()
        .route("/drain", post(drain))
        .route("/undrain", post(undrain))
        .route("/server-hooks/{secret}/download", post(hook_download))
        .route("/server-hooks/{secret}/delete", post(hook_delete))
        .with_state((node.clone(), Arc::clone(&tokens)));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/protect", get(protect))
        .with_state(node.clone())
        .merge(orders)
        .merge(page::router(node, tokens))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, codes::NOTHING_THERE, NOTHING_HERE) })
        .layer(middleware::from_fn(one_answer))
}

/// No request has a body but those of the server's hooks, and a connection is for one answer.
async fn one_answer(request: Request, next: Next) -> Response {
    let has_body = request.uri().path().starts_with(server_hooks::PATH);
    let mut response = match body_of(request.headers()).filter(|_| !has_body) {
        None => next.run(request).await,
        Some(status) => Refusal::new(status, codes::BAD_REQUEST, "no request here has a body").into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// How a body is refused; `None`: there is none.
fn body_of(headers: &HeaderMap) -> Option<StatusCode> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Some(StatusCode::LENGTH_REQUIRED);
    }
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok().and_then(|length| length.parse::<u64>().ok());
    match length {
        Some(0) => None,
        Some(_) => Some(StatusCode::PAYLOAD_TOO_LARGE),
        None => Some(StatusCode::BAD_REQUEST),
    }
}

/// 200 where there are no reasons, else 503 with them.
fn answer(reasons: &[Reason]) -> Response {
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(reasons)).into_response()
}

async fn healthz(State(node): State<NodeState>) -> Response {
    answer(&health::faults(&node).await)
}

async fn readyz(State(node): State<NodeState>) -> Response {
    answer(&readiness::reasons(&node))
}

async fn metrics(State(node): State<NodeState>) -> Response {
    sampling::refresh(&node);
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], node.metrics().encode()).into_response()
}

async fn protect(State(node): State<NodeState>) -> Response {
    let reasons = protection::reasons(&node);
    if reasons.is_empty() {
        return (StatusCode::NOT_FOUND, "nothing needs this node\n").into_response();
    }
    (StatusCode::OK, reasons.join("\n") + "\n").into_response()
}

/// The node, and who has given wrong tokens.
type Orders = State<(NodeState, Arc<TokenLimit>)>;

async fn drain(State((node, tokens)): Orders, caller: ConnectInfo<Caller>, headers: HeaderMap) -> Response {
    set(&node, &tokens, caller.0.address, &headers, true).await
}

async fn undrain(State((node, tokens)): Orders, caller: ConnectInfo<Caller>, headers: HeaderMap) -> Response {
    set(&node, &tokens, caller.0.address, &headers, false).await
}

async fn hook_download(state: Orders, caller: ConnectInfo<Caller>, path: Path<String>, request: Request) -> Response {
    server_hook(&state.0, ServerHook::Download, &caller.0, &path.0, request).await
}

async fn hook_delete(state: Orders, caller: ConnectInfo<Caller>, path: Path<String>, request: Request) -> Response {
    server_hook(&state.0, ServerHook::Delete, &caller.0, &path.0, request).await
}

async fn server_hook(
    (node, tokens): &(NodeState, Arc<TokenLimit>),
    hook: ServerHook,
    caller: &Caller,
    secret: &str,
    request: Request,
) -> Response {
    server_hooks::answer(node, hook, secret, tokens, caller, request.into_body()).await
}

async fn set(node: &NodeState, tokens: &TokenLimit, from: IpAddr, headers: &HeaderMap, drained: bool) -> Response {
    match drain::authorise(&node.admin, headers, tokens, from).await {
        Ok(()) => drain::set(node, drained).into_response(),
        Err(refusal) => refusal,
    }
}
