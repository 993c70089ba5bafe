//! The orders of an operator: those of the commands (`jobs retry` …), and the stop of a recording.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use crate::admin::error::AdminError;
use crate::admin::http::drain as node_drain;
use crate::admin::http::node_state::NodeState;
use crate::admin::http::page::state::Page;
use crate::admin::http::refusal::Refusal;
use crate::admin::state_dir::StateDir;
use crate::admin::{jobs, outbox};
use crate::codes::{self, Code};
use crate::delivery::message::MessageKey;
use crate::protocol::ids::{InvalidName, RecordingId};
use crate::protocol::request::Kind;
use crate::storage::files;
use crate::telemetry::redact;
use crate::unix_time::unix_ms;

/// How long an order may take.
const LIMIT: Duration = Duration::from_secs(5);

fn answer(status: StatusCode, text: &str) -> Response {
    (status, format!("{}\n", redact::scrub(text.trim_end()))).into_response()
}

fn refuse(status: StatusCode, code: Code, why: impl Into<String>) -> Response {
    Refusal::new(status, code, why).into_response()
}

fn no_id(error: &InvalidName) -> Response {
    Refusal::new(StatusCode::BAD_REQUEST, codes::BAD_REQUEST, error.to_string()).into_response()
}

pub(super) async fn stop(State(page): State<Page>, Path((kind, id)): Path<(String, String)>) -> Response {
    let kind = match kind.as_str() {
        "recording" => Kind::Recording,
        "broadcast" => Kind::Broadcast,
        _ => return refuse(StatusCode::NOT_FOUND, codes::NOTHING_THERE, "there are recordings and broadcasts"),
    };
    let id = match RecordingId::parse(&id) {
        Ok(id) => id,
        Err(error) => return no_id(&error),
    };
    let Some(parts) = page.node.parts.get() else {
        let why = "the node is starting; try again in a moment";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, codes::NO_ORDERS_NOW, why);
    };
    match tokio::time::timeout(LIMIT, parts.stops.stop(kind, id.clone())).await {
        Ok(Some(true)) => {
            tracing::info!(recording_id = %id, task = kind.as_str(), "an operator stops it on the node's page");
            answer(StatusCode::OK, &format!("{id} ends now"))
        }
        Ok(Some(false)) => {
            let why = format!("no {} {id} runs here", kind.as_str());
            refuse(StatusCode::NOT_FOUND, codes::NOTHING_THERE, why)
        }
        Ok(None) | Err(_) => {
            let why = "the node takes no orders now: it starts, ends, or is very busy";
            refuse(StatusCode::SERVICE_UNAVAILABLE, codes::NO_ORDERS_NOW, why)
        }
    }
}

/// Carries out an operator's command on the files of `state_dir`.
async fn command(
    node: &NodeState,
    id: &str,
    what: &'static str,
    work: impl FnOnce(&StateDir, &RecordingId) -> Result<String, AdminError> + Send + 'static,
) -> Response {
    let id = match RecordingId::parse(id) {
        Ok(id) => id,
        Err(error) => return no_id(&error),
    };
    let (state, of) = (StateDir::of_node(node), id.clone());
    match files::on_disk_within(LIMIT, move || Ok(work(&state, &of))).await {
        Ok(Ok(text)) => {
            tracing::info!(recording_id = %id, order = what, "an operator has ordered it on the node's page");
            answer(StatusCode::OK, &text)
        }
        Ok(Err(error)) => {
            let status = match &error {
                AdminError::NoJob { .. } | AdminError::NoLetters { .. } => StatusCode::NOT_FOUND,
                AdminError::Refused { .. } | AdminError::OutboxRefused { .. } => StatusCode::CONFLICT,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            refuse(status, error.code(), error.to_string())
        }
        Err(error) => {
            let why = format!("recorder.state_dir: {error}");
            refuse(StatusCode::SERVICE_UNAVAILABLE, codes::NOT_READABLE_NOW, why)
        }
    }
}

pub(super) async fn retry_job(State(page): State<Page>, Path(id): Path<String>) -> Response {
    command(&page.node, &id, "retry the job", |state, id| jobs::retry(state, id, unix_ms())).await
}

pub(super) async fn drop_job(State(page): State<Page>, Path(id): Path<String>) -> Response {
    command(&page.node, &id, "drop the job", jobs::forget).await
}

pub(super) async fn retry_messages(State(page): State<Page>, Path(id): Path<String>) -> Response {
    command(&page.node, &id, "retry the messages", outbox::retry).await
}

pub(super) async fn drop_message(
    State(page): State<Page>,
    Path((id, message)): Path<(String, MessageKey)>,
) -> Response {
    // A job is dropped on its own command: without it there is no MP4.
    if message == MessageKey::Job {
        let why = "a job is dropped by `plugnmeet-recorder outbox drop ID job`";
        return refuse(StatusCode::CONFLICT, codes::BAD_REQUEST, why);
    }
    command(&page.node, &id, "drop the message", move |state, id| outbox::forget(state, id, Some(message))).await
}

pub(super) async fn drain(State(page): State<Page>) -> Response {
    answer(StatusCode::OK, &node_drain::set(&page.node, true))
}

pub(super) async fn undrain(State(page): State<Page>) -> Response {
    answer(StatusCode::OK, &node_drain::set(&page.node, false))
}
