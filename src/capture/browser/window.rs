//! Replaces window manager and user on the private display: moves the pointer aside, makes Chrome's window cover the
//! screen, and hides all other windows.
//!
//! Menus, pickers, tooltips, bubbles, dialogs and further pages are windows of their own. They are hidden by the X
//! extension Composite: the server draws the windows below the root window into memory and leaves it to a compositing
//! manager to show them, and there is none. Only Chrome's first window is excepted. No window is visible for a moment,
//! as it would be if it were closed once it is noticed.

use std::time::{Duration, Instant};

use x11rb::errors::{ConnectionError, ReplyError};
use x11rb::protocol::composite::{ConnectionExt as _, Redirect};
use x11rb::protocol::xproto::{ConfigureWindowAux, ConnectionExt as _, MapState, Window};
use x11rb::rust_connection::RustConnection;

use crate::capture::component_error::ComponentError;
use crate::capture::video::display::DisplayAddress;
use crate::capture::video::grabber::root;
use crate::codes;

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

/// The connection by which all windows but Chrome's first one are hidden. Dropped, it shows them.
#[derive(Debug)]
pub struct HiddenWindows {
    _connection: RustConnection,
}

/// Resizes Chrome's window to the screen and hides all other windows, those to come too. Chrome makes its window one
/// pixel smaller each way, so that a window manager does not treat it as full screen; that leaves a black line at the
/// right and at the bottom of each frame.
///
/// # Errors
/// Where the display is gone. A missing window is no error: joining the meeting fails without it.
pub fn cover_screen(
    address: &DisplayAddress,
    (width, height): (u32, u32),
) -> Result<Option<HiddenWindows>, ComponentError> {
    let connection = address.connect()?;
    let began = Instant::now();
    let cover_screen = || -> Result<Option<Window>, ReplyError> {
        loop {
            if let Some(window) = large_window(&connection, (width, height))? {
                let place = ConfigureWindowAux::new().x(0).y(0).width(width).height(height);
                connection.configure_window(window, &place)?.check()?;
                return Ok(Some(window));
            }
            if began.elapsed() > WINDOW_LIMIT {
                tracing::debug!("Chrome shows no window to be made as large as the screen");
                return Ok(None);
            }
            std::thread::sleep(WINDOW_POLL);
        }
    };
    let Some(window) = cover_screen().map_err(|error| ComponentError::new(COMPONENT, error))? else { return Ok(None) };
    match hide_others(&connection, window) {
        Ok(()) => Ok(Some(HiddenWindows { _connection: connection })),
        Err(error) => {
            // Closing the connection shows all windows again.
            tracing::warn!(
                code = %codes::WINDOWS_NOT_HIDDEN, %error,
                "the X server cannot hide windows: menus and dialogs of Chrome may be recorded"
            );
            Ok(None)
        }
    }
}

/// Hides all windows but this one.
fn hide_others(connection: &RustConnection, shown: Window) -> Result<(), ReplyError> {
    connection.composite_query_version(0, 4)?.reply()?;
    // While the server is grabbed it draws for nobody else: the shown window does not vanish for a moment.
    connection.grab_server()?;
    let hide = || -> Result<_, ConnectionError> {
        let hidden = connection.composite_redirect_subwindows(root(connection), Redirect::MANUAL)?;
        Ok((hidden, connection.composite_unredirect_window(shown, Redirect::MANUAL)?))
    };
    let requests = hide();
    connection.ungrab_server()?;
    let (hidden, excepted) = requests?;
    hidden.check()?;
    excepted.check()
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
