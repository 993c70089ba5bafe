//! Gives a display a refresh rate that suits the capture, by a mode of the X extension `RandR` (protocol 1.2).
//!
//! Chrome takes the rate at which it draws from its display: without a mode of its own, Xvfb has 60 Hz, of which a
//! capture of 30 fps sees every second frame only. At the capture's own rate, however, two frames of a call that arrive
//! within one refresh are shown as one: at 30 Hz, one frame in eleven of a call at 30 fps was lost (docs/benchmarks.md).

use std::time::Duration;

use x11rb::connection::RequestConnection as _;
use x11rb::errors::ReplyError;
use x11rb::protocol::randr::{self, ConnectionExt as _, ModeInfo, Rotation, SetConfig};
use x11rb::rust_connection::RustConnection;

use crate::capture::video::display::DisplayAddress;
use crate::capture::video::grabber::root;
use crate::codes;

/// Time limit for the answers of the X server, which take a millisecond on an idle machine.
const LIMIT: Duration = Duration::from_secs(3);
/// Chrome draws at least this often, in Hz: a page answers to clicks and layout only with its frames.
const SLOWEST: u32 = 20;
/// In Hz, of Xvfb without a mode of its own: more is of use to a capture that is faster itself only.
const DEFAULT: u32 = 60;

/// Why the display keeps its rate.
#[derive(Debug, thiserror::Error)]
pub enum ModeError {
    #[error("the X server lacks the RandR extension")]
    NoRandr,
    #[error("the X server's RandR has no {0}")]
    Lacks(&'static str),
    #[error("a mode of {0}x{1} pixels at {2} Hz cannot be described")]
    OutOfRange(u32, u32, u32),
    #[error("the X server refuses the mode: {0:?}")]
    Refused(SetConfig),
    #[error(transparent)]
    Reply(#[from] ReplyError),
    #[error("{0}")]
    NoAnswer(String),
}

impl From<x11rb::errors::ConnectionError> for ModeError {
    fn from(error: x11rb::errors::ConnectionError) -> Self {
        Self::Reply(error.into())
    }
}

/// Sets the display's refresh rate for a capture of `framerate` fps. Call it before Chrome starts. `size`: the screen's, in
/// pixels. A display that cannot do it keeps its rate, with a warning: the recording only costs more.
pub async fn follow_capture(address: &DisplayAddress, size: (u32, u32), framerate: u32) {
    match set(address, size, framerate).await {
        Ok(hertz) => tracing::debug!(hertz, "the display's refresh rate is set"),
        Err(error) => tracing::warn!(
            code = %codes::REFRESH_RATE_KEPT, %error, framerate,
            "the display keeps its refresh rate of 60 Hz: the recording is complete, but Chrome takes more processor \
             time. Xvfb 21.1, as Debian 12 has it, can do it"
        ),
    }
}

/// Sets the display's refresh rate for a capture of `framerate` fps; the rate in Hz.
///
/// # Errors
/// Where the X server lacks what is needed, refuses the mode, or does not answer within 3 s.
pub async fn set(address: &DisplayAddress, size: (u32, u32), framerate: u32) -> Result<u32, ModeError> {
    let (address, hertz) = (address.clone(), refresh_rate(framerate));
    let set = tokio::task::spawn_blocking(move || {
        let connection = address.connect().map_err(|error| ModeError::NoAnswer(error.to_string()))?;
        set_mode(&connection, size, hertz)
    });
    match tokio::time::timeout(LIMIT, set).await {
        Ok(Ok(outcome)) => outcome.map(|()| hertz),
        Ok(Err(error)) => Err(ModeError::NoAnswer(error.to_string())),
        Err(_) => Err(ModeError::NoAnswer(format!("the X server does not answer within {} s", LIMIT.as_secs()))),
    }
}

/// The display's refresh rate in Hz for a capture of `framerate` fps: a third more, so that frames of a call that come
/// up to a quarter of their distance too early or too late still have a refresh each; at most 60 Hz, unless the capture
/// itself is faster.
fn refresh_rate(framerate: u32) -> u32 {
    let third_more = framerate.saturating_mul(4).div_ceil(3);
    third_more.min(framerate.max(DEFAULT)).max(SLOWEST)
}

/// A mode without blanking, so that its rate is exact: dot clock ÷ (columns × rows). `None`: the numbers do not fit.
fn mode((width, height): (u32, u32), hertz: u32) -> Option<ModeInfo> {
    let dot_clock = width.checked_mul(height)?.checked_mul(hertz).filter(|clock| *clock > 0)?;
    let [width, height] = [u16::try_from(width).ok()?, u16::try_from(height).ok()?];
    Some(ModeInfo {
        width,
        height,
        dot_clock,
        hsync_start: width,
        hsync_end: width,
        htotal: width,
        vsync_start: height,
        vsync_end: height,
        vtotal: height,
        ..ModeInfo::default()
    })
}

/// Gives the display's one output a mode of this rate. The screen, its size and its pixels stay as they are.
fn set_mode(connection: &RustConnection, (width, height): (u32, u32), hertz: u32) -> Result<(), ModeError> {
    let root = root(connection);
    connection.extension_information(randr::X11_EXTENSION_NAME)?.ok_or(ModeError::NoRandr)?;
    connection.randr_query_version(1, 3)?.reply()?;
    let line = mode((width, height), hertz).ok_or(ModeError::OutOfRange(width, height, hertz))?;
    let outputs = connection.randr_get_screen_resources_current(root)?.reply()?.outputs;
    let output = *outputs.first().ok_or(ModeError::Lacks("output"))?;
    let name = format!("{width}x{height}@{hertz}");
    let line = ModeInfo { name_len: u16::try_from(name.len()).unwrap_or_default(), ..line };
    let mode = connection.randr_create_mode(root, line, name.as_bytes())?.reply()?.mode;
    connection.randr_add_output_mode(output, mode)?.check()?;
    // Asked again: a configuration is refused with the time of an earlier one.
    let resources = connection.randr_get_screen_resources_current(root)?.reply()?;
    let crtc = *resources.crtcs.first().ok_or(ModeError::Lacks("CRTC"))?;
    let (now, of) = (x11rb::CURRENT_TIME, resources.config_timestamp);
    let set = connection.randr_set_crtc_config(crtc, now, of, 0, 0, mode, Rotation::ROTATE0, &[output])?.reply()?;
    if set.status == SetConfig::SUCCESS { Ok(()) } else { Err(ModeError::Refused(set.status)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_display_refreshes_a_third_more_often_than_is_captured_and_60_times_at_most_for_up_to_60_fps() {
        let rates = [0, 1, 10, 15, 24, 25, 30, 45, 50, 60, 61, 120];
        assert_eq!(rates.map(refresh_rate), [20, 20, 20, 20, 32, 34, 40, 60, 60, 60, 61, 120]);
    }

    proptest! {
        /// Every size and frame rate that a configuration can have.
        #[test]
        fn a_mode_has_the_screens_size_and_exactly_its_rate(
            width in 2u32..=7680, height in 2u32..=4320, framerate in 1u32..=120,
        ) {
            let hertz = refresh_rate(framerate);
            let mode = mode((width, height), hertz).unwrap();
            prop_assert_eq!((u32::from(mode.width), u32::from(mode.height)), (width, height));
            prop_assert!(mode.htotal >= mode.width && mode.vtotal >= mode.height);
            // As X clients reckon it.
            let pixels = u32::from(mode.htotal) * u32::from(mode.vtotal);
            prop_assert_eq!((mode.dot_clock / pixels, mode.dot_clock % pixels), (hertz, 0));
            prop_assert!(hertz >= framerate && hertz >= SLOWEST);
        }
    }
}
