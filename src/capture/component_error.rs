//! A component of the rig failed.

/// A component of the rig failed. The text is for the operator and for the user.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{component}: {why}")]
pub struct ComponentError {
    /// `Xvfb`, `PulseAudio`, `Chrome`, `ffmpeg`, `far end`, `picture`, `sound`.
    pub component: &'static str,
    pub why: String,
}

impl ComponentError {
    pub fn new(component: &'static str, why: impl std::fmt::Display) -> Self {
        Self { component, why: why.to_string() }
    }
}
