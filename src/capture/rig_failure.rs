//! Why a capture cannot continue. Pure.

use crate::capture::browser::error_page::{ErrorPage, ErrorPageMeaning};

/// Why a capture cannot continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RigFailure {
    /// Text for the operator and for the user.
    pub cause: String,
    /// What it means that the page has left the meeting. `None`: a component of the rig has failed.
    pub page: Option<ErrorPageMeaning>,
}

impl RigFailure {
    /// A component has failed; the meeting continues.
    pub fn of(cause: impl std::fmt::Display) -> Self {
        Self { cause: cause.to_string(), page: None }
    }

    /// The page shows the meeting no more, for a reason of its own; whether the meeting continues is not known.
    pub fn left(cause: impl std::fmt::Display) -> Self {
        Self { page: Some(ErrorPageMeaning::Unclear), ..Self::of(format_args!("the page left the meeting ({cause})")) }
    }

    /// The page shows an error page.
    #[must_use]
    pub fn by(page: &ErrorPage) -> Self {
        Self { cause: page.cause(), page: Some(page.meaning()) }
    }
}
