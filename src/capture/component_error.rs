//! A component of the rig failed.

/// A component of the rig failed; the text is for the operator and, as the cause, for the user.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{part}: {why}")]
pub struct ComponentError {
    /// `Xvfb`, `PulseAudio`, `Chrome`, `ffmpeg`, `picture`, `sound`.
    pub part: &'static str,
    pub why: String,
}

impl ComponentError {
    pub fn new(part: &'static str, why: impl std::fmt::Display) -> Self {
        Self { part, why: why.to_string() }
    }
}
