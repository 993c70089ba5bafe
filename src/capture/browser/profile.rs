//! Chrome's profile: settings that forbid what Chrome would show or ask by itself.
//!
//! Enterprise policies would be read from `/etc`, which needs root and concerns every Chrome of the host. Most policies
//! are preferences with a lock; the profile is new with every recording, so a preference is as good.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::storage::files;

/// In the rig's directory: programs that Chrome finds before those of the host.
const PROGRAMS: &str = "bin";
/// "No, and no question", as a content setting of Chrome's.
const BLOCK: u8 = 2;
/// `DownloadRestrictions` of Chrome's policies: no file at all.
const NO_DOWNLOADS: u8 = 3;

/// Chrome asks `xdg-settings` whether it is itself the program for a scheme such as `mailto:`. If it is, it neither
/// opens the address nor asks whether it may.
const XDG_SETTINGS: &str = "#!/bin/sh\necho yes\n";
/// Nothing is opened outside of Chrome.
const XDG_OPEN: &str = "#!/bin/sh\n";

/// `Preferences` of the profile. The names are those of Chrome's source (`chrome/common/pref_names.h` and the
/// components' own).
fn preferences() -> Value {
    json!({
        "autofill": { "credit_card_enabled": false, "enabled": false, "profile_enabled": false },
        "browser": { "check_default_browser": false, "enable_spellchecking": false },
        "credentials_enable_autosignin": false,
        "credentials_enable_passkeys": false,
        "credentials_enable_service": false,
        "download_restrictions": NO_DOWNLOADS,
        "hardware": { "screen_capture_enabled": false },
        "printing": { "enabled": false },
        "profile": {
            "default_content_setting_values": {
                "automatic_downloads": BLOCK,
                "bluetooth_guard": BLOCK,
                "file_system_read_guard": BLOCK,
                "file_system_write_guard": BLOCK,
                "hid_guard": BLOCK,
                "payment_handler": BLOCK,
                "serial_guard": BLOCK,
                "usb_guard": BLOCK,
            },
        },
        "translate": { "enabled": false },
    })
}

/// `Local State`, which is common to the profiles of a Chrome.
fn local_state() -> Value {
    // Without a scheme there is no dialog for user and password. The configuration takes no address with a password.
    json!({ "auth": { "schemes": "" } })
}

/// Writes the profile into `profile`, and programs into `dir`; returns the value of `PATH` for Chrome. `path`: that of
/// the recorder.
///
/// # Errors
/// Where a file cannot be written.
pub fn write(profile: &Path, dir: &Path, path: &OsStr) -> io::Result<OsString> {
    let default = profile.join("Default");
    files::create_private_dir(&default)?;
    fs::write(default.join("Preferences"), preferences().to_string())?;
    fs::write(profile.join("Local State"), local_state().to_string())?;
    let programs = dir.join(PROGRAMS);
    files::create_private_dir(&programs)?;
    for (name, script) in [("xdg-settings", XDG_SETTINGS), ("xdg-open", XDG_OPEN)] {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o700);
        options.open(programs.join(name))?.write_all(script.as_bytes())?;
    }
    let mut search = programs.into_os_string();
    search.push(":");
    search.push(path);
    Ok(search)
}
