//! What is to be captured, and how.

use std::path::PathBuf;
use std::time::Duration;

use crate::capture::browser::chrome_arguments::ChromeSettings;
use crate::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
use crate::capture::encoder_fallback::FallbackSpec;

/// What a rig needs to open.
#[derive(Clone)]
pub struct RigSpec {
    /// URL of the meeting page with its access token: a secret.
    pub url: String,
    pub target: EncoderTarget,
    pub encoder: EncoderSettings,
    /// Of a recording that is encoded as its MP4: how it goes on where that takes too much.
    pub fallback: Option<Box<FallbackSpec>>,
    pub chrome: ChromeSettings,
    /// Width and height in pixels; a size in the encoder's settings has precedence.
    pub size: (u32, u32),
    pub dpi: u32,
    /// How long a recording may be silent while the page plays sound before a warning is logged. `None`: no warning.
    pub silence_warning: Option<Duration>,
    /// Path of the screenshot that is taken when the page fails.
    pub screenshot: PathBuf,
    /// Name of the daemon that may remove the rig after a kill: [`crate::capture::rig_directory::name`].
    pub owner: String,
}
