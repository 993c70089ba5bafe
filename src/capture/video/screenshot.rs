//! A screenshot of a display for the operator, as PNG.

use std::fs::OpenOptions;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use x11rb::protocol::xproto::{ConnectionExt as _, ImageFormat};

use crate::capture::component_error::ComponentError;
use crate::capture::video::display::DisplayAddress;
use crate::capture::video::grabber::root;
use crate::codes;

const COMPONENT: &str = "screenshot";

/// Time limit for a screenshot of the page. It delays the next part of the recording.
const LIMIT: Duration = Duration::from_secs(2);

/// Writes a screenshot of the display to `path`, and logs whether that worked.
pub async fn keep(address: DisplayAddress, size: (u32, u32), path: PathBuf) {
    let taking = tokio::task::spawn_blocking(move || write(&address, size, &path).map(|()| path));
    let error = match tokio::time::timeout(LIMIT, taking).await {
        Ok(Ok(Ok(path))) => return tracing::info!(path = %path.display(), "kept a picture of the page"),
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the display does not answer".to_owned(),
    };
    tracing::warn!(code = %codes::NO_SCREENSHOT, error, "no picture of the page could be kept");
}

/// Writes a screenshot of the display to `path`, readable by this user only.
///
/// # Errors
/// Where the display is gone or the file cannot be written.
pub fn write(address: &DisplayAddress, (width, height): (u32, u32), path: &Path) -> Result<(), ComponentError> {
    let failed = |why: &dyn std::fmt::Display| ComponentError::new(COMPONENT, why);
    let connection = address.connect()?;
    let [w, h] = [width, height].map(|v| u16::try_from(v).unwrap_or(u16::MAX));
    let image = connection
        .get_image(ImageFormat::Z_PIXMAP, root(&connection), 0, 0, w, h, !0)
        .map_err(|error| failed(&error))?
        .reply()
        .map_err(|error| failed(&error))?;
    let rgb: Vec<u8> = image.data.chunks_exact(4).flat_map(|bgrx| [bgrx[2], bgrx[1], bgrx[0]]).collect();
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|error| failed(&error))?;
    }
    // The screenshot may show what only the room should see.
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).to_owned();
    let file = options.open(path).map_err(|error| failed(&error))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().and_then(|mut png| png.write_image_data(&rgb)).map_err(|error| failed(&error))
}
