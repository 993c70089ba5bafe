//! Finds programs.

use std::path::{Path, PathBuf};

/// The file that `name` would run: itself if it has a slash, else the first executable of that name on `PATH`.
#[must_use]
pub fn find_program(name: &Path) -> Option<PathBuf> {
    let executable = |path: &Path| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    if name.components().count() > 1 {
        return executable(name).then(|| name.to_owned());
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| executable(path))
}
