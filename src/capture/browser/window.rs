//! Replaces window manager and user on the private display: moves the pointer aside and makes Chrome's window cover the
//! screen.

use std::time::{Duration, Instant};

use x11rb::errors::ReplyError;
use x11rb::protocol::xproto::{ConfigureWindowAux, ConnectionExt as _, MapState, Window};
use x11rb::rust_connection::RustConnection;

use crate::capture::component_error::ComponentError;
use crate::capture::video::display::DisplayAddress;
use crate::capture::video::grabber::root;

const COMPONENT: &str = "Xvfb";
/// Chrome shows its window about when it accepts the DevTools connection.
const WINDOW_LIMIT: Duration = Duration::from_secs(3);
const WINDOW_POLL: Duration = Duration::from_millis(10);

/// Moves the pointer to the top left corner, where it causes no hover effect (PROTOCOL 4).
///
/// # Errors
/// Where the display is gone.
pub fn rest_pointer(address: &DisplayAddress) -> Result<(), ComponentError> {
    let connection = address.connect()?;
    let root = root(&connection);
    let warp = || -> Result<(), ReplyError> { connection.warp_pointer(x11rb::NONE, root, 0, 0, 0, 0, 0, 0)?.check() };
    warp().map_err(|error| ComponentError::new(COMPONENT, error))
}

/// Resizes Chrome's window to the screen. Chrome makes it one pixel smaller each way, so that a window manager does not
/// treat it as full screen; that leaves a black line at the right and at the bottom of each frame.
///
/// # Errors
/// Where the display is gone. A missing window is no error: joining the meeting fails without it.
pub fn cover_screen(address: &DisplayAddress, (width, height): (u32, u32)) -> Result<(), ComponentError> {
    let connection = address.connect()?;
    let began = Instant::now();
    let cover_screen = || -> Result<(), ReplyError> {
        loop {
            if let Some(window) = large_window(&connection, (width, height))? {
                let place = ConfigureWindowAux::new().x(0).y(0).width(width).height(height);
                return connection.configure_window(window, &place)?.check();
            }
            if began.elapsed() > WINDOW_LIMIT {
                tracing::debug!("Chrome shows no window to be made as large as the screen");
                return Ok(());
            }
            std::thread::sleep(WINDOW_POLL);
        }
    };
    cover_screen().map_err(|error| ComponentError::new(COMPONENT, error))
}

/// The visible window that takes more than half of the screen each way.
fn large_window(connection: &RustConnection, (width, height): (u32, u32)) -> Result<Option<Window>, ReplyError> {
    for window in connection.query_tree(root(connection))?.reply()?.children {
        // An error means that the window has been closed.
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
