//! The room directories that reference transcoders write into and do not create themselves (PROTOCOL 7).

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::codes;
use crate::storage::files;

/// Creates a room's directory for a reference transcoder, or renews the modification time of an existing one.
pub(super) fn make_dir(dir: &Path) {
    let created = std::fs::create_dir_all(dir).and_then(|()| std::fs::File::open(dir)?.set_modified(SystemTime::now()));
    if let Err(error) = created {
        tracing::warn!(
            code = %codes::REFERENCE_DIR_NOT_MADE,
            dir = %dir.display(), %error,
            "recorder.copy_to_path.reference_sub_paths: the room's directory cannot be made, without which a reference transcoder fails"
        );
    }
}

/// The directories in which reference transcoders with these `sub_paths` would write.
pub(super) fn reference_dirs(main_path: &Path, sub_paths: &[PathBuf], ours: &Path) -> Vec<PathBuf> {
    let Some(room) = ours.file_name() else { return Vec::new() };
    let main_path = files::absolute(main_path);
    sub_paths.iter().map(|sub_path| main_path.join(sub_path).join(room)).filter(|dir| dir != ours).collect()
}
