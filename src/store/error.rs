//! Why a store did not do what it was asked, in words that name no secret, and what to do about it.

use std::error::Error;
use std::io;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};

use crate::telemetry::redact;

/// The longest text of a cause, in characters.
const CAUSE_LIMIT: usize = 300;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    #[error("the store refuses this: {0}")]
    Denied(String),
    #[error("the store has no such thing: {0}")]
    Missing(String),
    #[error("the store has the object already")]
    Exists,
    #[error("the store cannot do this: {0}")]
    Unsupported(String),
    #[error("the store answers with an error: {0}")]
    Other(String),
    #[error("the store has not answered within {} s", .0.as_secs())]
    Late(Duration),
    #[error("what the store has is not what was sent: {0}")]
    Mismatch(String),
    #[error("what came is not what the store says that it has: {0}")]
    Altered(String),
    #[error("{what}: {source}")]
    Local { what: String, source: io::Error },
    #[error("the store cannot be used: {0}")]
    Setup(String),
    #[error("the program ends")]
    Stopped,
}

impl StoreError {
    /// What an operator does about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Late(_) => {
                "see that endpoint= or region= is right, that the store runs, that this host reaches it (`curl -v`), and \
                 that its certificate is trusted (ca=/file)"
            }
            Self::Denied(_) => {
                "see that key and secret are the store's, that they may do this below the prefix, and that the clock of \
                 this host is right"
            }
            Self::Missing(_) => "see that the bucket exists, in this region, and that path_style= fits the store",
            Self::Unsupported(_) => "take a store that can do it",
            Self::Mismatch(_) => {
                "it is sent again; where this comes again, the store or what lies before it changes data"
            }
            Self::Altered(_) => {
                "it is fetched again; where this comes again, somebody replaces the object, or what lies before the store \
                 changes data"
            }
            Self::Local { .. } => "look at the disk of that path on this host",
            Self::Setup(_) => {
                "correct the store's URL in the section storage, the file that it names, or the environment"
            }
            Self::Exists | Self::Other(_) | Self::Stopped => "look at the log of the store",
        }
    }

    /// An upload in parts that the store does not know, any more.
    #[must_use]
    pub(super) fn is_unknown_upload(&self) -> bool {
        matches!(self, Self::Missing(why) | Self::Other(why) if why.contains("NoSuchUpload"))
    }

    /// The store answers with all of an object where a part of it was asked for.
    #[must_use]
    pub(super) fn is_without_ranges(&self) -> bool {
        matches!(self, Self::Other(why) if why.contains("non-partial response"))
    }

    pub(crate) fn local(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Local { what, source }
    }
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        let why = cause(&error);
        let unreachable = chain(&error).any(|cause| {
            cause.downcast_ref::<HttpError>().is_some_and(|error| {
                matches!(error.kind(), HttpErrorKind::Connect | HttpErrorKind::Timeout | HttpErrorKind::Request)
            })
        });
        match error {
            _ if unreachable => Self::Unreachable(why),
            E::NotFound { .. } => Self::Missing(why),
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Denied(why),
            E::AlreadyExists { .. } | E::Precondition { .. } => Self::Exists,
            E::NotImplemented { .. } | E::NotSupported { .. } => Self::Unsupported(why),
            _ => Self::Other(why),
        }
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The status and what the store says of it, else the innermost cause: the outer ones quote all inner ones, and URLs.
fn cause(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let status = text.split("status code: ").nth(1).map(|rest| rest.split(':').next().unwrap_or_default().trim());
    let said = ["Code", "Message"].map(|name| element(&text, name));
    let why = match (status, said) {
        (None, [None, _]) => chain(error).last().map(ToString::to_string).unwrap_or_default(),
        (status, said) => {
            let parts: Vec<&str> = status.into_iter().chain(said.into_iter().flatten()).collect();
            parts.join(", ")
        }
    };
    let line: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CAUSE_LIMIT).collect();
    redact::scrub(line.trim()).into_owned()
}

/// The text of an element of XML that holds text only.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let rest = xml.split(&format!("<{name}>")).nth(1)?;
    rest.split("</").next().map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_says_is_told_without_the_url() {
        let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
        let source = format!(
            "Error performing PUT http://k/x?uploadId=1 in 2ms - Server returned non-2xx status code: 503 Service Unavailable: {body}"
        );
        let error = StoreError::from(object_store::Error::Generic { store: "S3", source: source.into() });
        assert_eq!(
            error.to_string(),
            "the store answers with an error: 503 Service Unavailable, SlowDown, Please reduce your request rate."
        );
        let denied = object_store::Error::PermissionDenied { path: "a".into(), source: "why".into() };
        assert_eq!(StoreError::from(denied).to_string(), "the store refuses this: why");
    }
}
