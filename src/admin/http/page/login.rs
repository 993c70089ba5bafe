//! `POST /page/login` with `Authorization: Bearer TOKEN`, and `/page/logout`.

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;

use crate::admin::http::connections::Caller;
use crate::admin::http::drain;
use crate::admin::http::page::session;
use crate::admin::http::page::state::Page;
use crate::admin::http::refusal::Refusal;
use crate::codes;
use crate::telemetry::redact;
use crate::unix_time::unix_ms;

pub(super) async fn log_in(
    State(page): State<Page>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    headers: HeaderMap,
) -> Response {
    let now = Instant::now();
    if let Some(refusal) = page.tokens.refusal(caller.address, now) {
        return refusal;
    }
    let token = match drain::expected(&page.node.admin).await {
        Ok(Some(token)) => token,
        Ok(None) => return StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => return refusal.into_response(),
    };
    // The token of a file is known only now.
    let _secret = redact::register(&token);
    let given = headers.get(header::AUTHORIZATION).and_then(|value| drain::bearer(value.as_bytes()));
    if !given.is_some_and(|given| drain::is_same(&token, given)) {
        if page.tokens.wrong(caller.address, now) {
            tracing::warn!(
                code = %codes::WRONG_TOKEN,
                address = %caller.address,
                "somebody has tried to log in to the node's page with a wrong token, and was refused; told once a minute"
            );
        }
        return Refusal::new(StatusCode::UNAUTHORIZED, codes::WRONG_TOKEN, drain::NOT_THE_TOKEN).into_response();
    }
    tracing::info!(address = %caller.address, "an operator has logged in to the node's page");
    let tls = headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https");
    let cookie = session::cookie(&token, &page.session_name(), unix_ms() / 1000, tls);
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

pub(super) async fn log_out(State(page): State<Page>) -> Response {
    let cookie = session::end(&page.session_name());
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}
