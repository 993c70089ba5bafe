//! Why a capture does not go on. Pure.

use crate::capture::browser::error_page::{ErrorPage, ErrorPageMeaning};

/// Why a capture does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RigFailure {
    /// For the operator, and as the cause for the user.
    pub cause: String,
    /// The page shows its error page, which means this. `None`: a part of the capture has failed.
    pub page: Option<ErrorPageMeaning>,
}

impl RigFailure {
    /// The meeting goes on without us.
    pub fn of(cause: impl std::fmt::Display) -> Self {
        Self { cause: cause.to_string(), page: None }
    }

    /// By the error page.
    #[must_use]
    pub fn by(page: &ErrorPage) -> Self {
        Self { cause: page.cause(), page: Some(page.meaning()) }
    }
}
