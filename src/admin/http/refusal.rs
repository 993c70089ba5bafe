//! A request that is refused: its status, and why, with the code that `explain` explains.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::codes::Code;
use crate::telemetry::redact;

/// Why a request is refused.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub code: Code,
    pub status: StatusCode,
    pub why: String,
}

impl Refusal {
    pub fn new(status: StatusCode, code: Code, why: impl Into<String>) -> Self {
        Self { code, status, why: why.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { code, status, why } = self;
        (status, format!("{} [{code}]\n", redact::scrub(why.trim_end()))).into_response()
    }
}
