//! What a window manager and a person would do on a display, and nobody does on a private one: the pointer out of the
//! way, Chrome's window over the whole screen.

use std::time::{Duration, Instant};

use x11rb::errors::ReplyError;
use x11rb::protocol::xproto::{ConfigureWindowAux, ConnectionExt as _, MapState, Window};
use x11rb::rust_connection::RustConnection;

use crate::capture::component_error::ComponentError;
use crate::capture::video::display::DisplayAddress;
use crate::capture::video::grabber::root;

const PART: &str = "Xvfb";
/// Chrome shows its window about when it can first be steered.
const WINDOW_LIMIT: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Moves the pointer to the top left corner, where it causes no hover effect (PROTOCOL 4).
///
/// # Errors
/// Where the display is gone.
pub fn rest_pointer(address: &DisplayAddress) -> Result<(), ComponentError> {
    let connection = address.connect()?;
    let root = root(&connection);
    let warp = || -> Result<(), ReplyError> { connection.warp_pointer(x11rb::NONE, root, 0, 0, 0, 0, 0, 0)?.check() };
    warp().map_err(|error| ComponentError::new(PART, error))
}

/// Gives the one large window the size of the screen. Chrome makes its own a pixel smaller each way, lest a window
/// manager take it for a full screen, and would leave a black line at the right and at the bottom of each picture.
///
/// # Errors
/// Where the display is gone. No window is no error: who waits for the page will say so.
pub fn cover(address: &DisplayAddress, (width, height): (u32, u32)) -> Result<(), ComponentError> {
    let connection = address.connect()?;
    let began = Instant::now();
    let cover = || -> Result<(), ReplyError> {
        loop {
            if let Some(window) = large_window(&connection, (width, height))? {
                let place = ConfigureWindowAux::new().x(0).y(0).width(width).height(height);
                return connection.configure_window(window, &place)?.check();
            }
            if began.elapsed() > WINDOW_LIMIT {
                tracing::debug!("Chrome shows no window to be made as large as the screen");
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    };
    cover().map_err(|error| ComponentError::new(PART, error))
}

/// The window that is shown and takes more than half of the screen each way.
fn large_window(connection: &RustConnection, (width, height): (u32, u32)) -> Result<Option<Window>, ReplyError> {
    for window in connection.query_tree(root(connection))?.reply()?.children {
        // It may be gone again; then it was not the one.
        let (Ok(shown), Ok(size)) =
            (connection.get_window_attributes(window)?.reply(), connection.get_geometry(window)?.reply())
        else {
            continue;
        };
        let is_large = u32::from(size.width) * 2 > width && u32::from(size.height) * 2 > height;
        if shown.map_state == MapState::VIEWABLE && is_large {
            return Ok(Some(window));
        }
    }
    Ok(None)
}
