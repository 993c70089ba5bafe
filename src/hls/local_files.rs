//! The HLS of a recording in `main_path`: its media first, then the playlists, the master playlist last, so that who finds
//! that finds all. The directory goes when its MP4 is gone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::hls::live::note::NOTE;
use crate::hls::packager::{MASTER, Package};
use crate::storage::detached;
use crate::storage::files;
use crate::storage::main_path::MainPath;
use crate::storage::placement::{self, IfExists, PlaceError};
use crate::store::sidecars::HLS;

/// What the names of the files end with. Nothing else in the directory is ours.
const ENDS: [&str; 5] = [".m3u8", ".mp4", ".m4s", ".unfinished", NOTE];
/// After so long without an MP4 a recording that was published while it ran has none.
const MP4_COMES_WITHIN: Duration = Duration::from_secs(48 * 60 * 60);
/// How the name of a directory begins and ends in which one is being made.
const UNFINISHED: (&str, &str) = (".", ".part");

/// The directory in which the files of `dir` are made by the node `node`: beside it, or in `elsewhere`.
pub(super) fn unfinished_dir(dir: &Path, node: &str, elsewhere: Option<&Path>) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{}{name}.{node}{}", UNFINISHED.0, UNFINISHED.1);
    elsewhere.map_or_else(|| dir.with_file_name(&name), |elsewhere| elsewhere.join(&name))
}

/// Moves a package into its directory; files of an earlier one are removed. Returns the names, in their order.
///
/// # Errors
/// Where the disk fails, or `main_path` is another one.
pub(super) async fn place(store: &MainPath, package: &Package, dir: &Path) -> Result<Vec<String>, PlaceError> {
    let mut names = Vec::new();
    for (from, name) in &package.media {
        placement::place_in(store, from, &dir.join(name), IfExists::Replace).await?;
        names.push(name.clone());
    }
    for (name, text) in &package.playlists {
        let path = dir.join(name);
        let written = placement::write_in(store, &path, text.clone().into_bytes()).await;
        written.map_err(|source| PlaceError::Io { action: "write", path, source })?;
        names.push(name.clone());
    }
    let (own, kept) = (dir.to_owned(), names.clone());
    let cleaned = detached::run("cleanup", move || {
        for name in files_of(&own)?.into_iter().filter(|name| !kept.contains(name)) {
            files::remove_unsynced(&own.join(name))?;
        }
        Ok(())
    });
    cleaned.await.map_err(|source| PlaceError::Io { action: "clean up", path: dir.to_owned(), source })?;
    Ok(names)
}

/// Removes the files of a directory, the master playlist first, then the directory and that of its room where nothing is
/// left in them. Blocks.
///
/// # Errors
/// Where `main_path` is another one, or the disk fails.
pub(super) fn remove(store: &MainPath, dir: &Path) -> io::Result<()> {
    // In the mount point of a share that is gone there is nothing to remove, which shows nothing.
    store.check().map_err(io::Error::other)?;
    files::remove_unsynced(&dir.join(MASTER))?;
    for name in files_of(dir)? {
        files::remove_unsynced(&dir.join(name))?;
    }
    for empty in [Some(dir), dir.parent()].into_iter().flatten() {
        match fs::remove_dir(empty) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Something else is in it.
            Err(_) => break,
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The directories below `main_path` whose MP4 is gone, of those that hold a master playlist or are unfinished. Blocks.
/// `making`: the recordings whose HLS this node is making.
///
/// # Errors
/// Where `main_path` is another one, or the disk fails.
pub(super) fn without_mp4(store: &MainPath, making: &BTreeSet<String>) -> io::Result<Vec<PathBuf>> {
    store.check().map_err(io::Error::other)?;
    let mut found = Vec::new();
    // `hls` itself, and those of the nodes' own directories.
    let below = subdirectories(store.path())?.into_iter();
    let own = below.filter(|dir| dir.file_name().is_some_and(|name| name != HLS)).collect::<Vec<_>>();
    for place in std::iter::once(store.path()).chain(own.iter().map(PathBuf::as_path)) {
        for room in subdirectories(&place.join(HLS))? {
            for dir in subdirectories(&room)? {
                if let Some(mp4) = mp4_of(place, &room, &dir, making)
                    && !mp4.try_exists()?
                {
                    found.push(dir);
                }
            }
        }
    }
    // It may have been unmounted meanwhile, so that nothing was found.
    store.check().map_err(io::Error::other)?;
    Ok(found)
}

/// The MP4 of a directory; `None`: it is none of ours, or is being made.
fn mp4_of(place: &Path, room: &Path, dir: &Path, making: &BTreeSet<String>) -> Option<PathBuf> {
    let name = dir.file_name()?.to_str()?;
    let unfinished = name.strip_prefix(UNFINISHED.0).and_then(|name| name.strip_suffix(UNFINISHED.1));
    // Behind the recording's id comes the node's, and either may hold dots: any MP4 whose name fits keeps it.
    let fits = |id: &str| match unfinished {
        Some(rest) => rest.strip_prefix(id).is_some_and(|rest| rest.starts_with('.')),
        None => name == id,
    };
    let is_published = fs::metadata(dir.join(NOTE)).is_ok_and(|note| is_recent(dir, &note));
    let is_ours = unfinished.is_some() || dir.join(MASTER).is_file() || dir.join(NOTE).is_file();
    if making.iter().any(|id| fits(id)) || is_published || !is_ours {
        return None;
    }
    let rooms_own = place.join(room.file_name()?);
    let Some(rest) = unfinished else { return Some(rooms_own.join(format!("{name}.mp4"))) };
    let mut ids = rest.match_indices('.').map(|(at, _)| rooms_own.join(format!("{}.mp4", &rest[..at])));
    let first = rooms_own.join(format!("{rest}.mp4"));
    Some(ids.find(|mp4| mp4.exists()).unwrap_or(first))
}

/// Whether a recording that is published while it runs, whose note this is, has changed its directory or the note lately:
/// its MP4 is still to come.
fn is_recent(dir: &Path, note: &fs::Metadata) -> bool {
    let changed = fs::metadata(dir).and_then(|dir| dir.modified()).ok().max(note.modified().ok());
    changed.and_then(|at| SystemTime::now().duration_since(at).ok()).is_none_or(|age| age < MP4_COMES_WITHIN)
}

/// The names of our files in a directory; one that is missing has none.
fn files_of(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string()
            && ENDS.iter().any(|end| name.ends_with(end))
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// The directories in one, no symbolic links; one that is missing has none.
fn subdirectories(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::main_path::StoreAbilities;

    #[test]
    fn only_what_has_lost_its_mp4_is_found_and_only_our_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let store = MainPath::unwatched(root, StoreAbilities::ALL);
        let write = |path: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        for path in [
            "node_01/room01/there.mp4",
            "node_01/hls/room01/there/master.m3u8",
            "node_01/hls/room01/gone/master.m3u8",
            "node_01/hls/room01/gone/720p-1.mp4",
            "node_01/hls/room01/gone/note.txt",
            "hls/room02/gone.1/master.m3u8",
            "hls/room02/making/master.m3u8",
            // One that is published while it runs.
            "node_01/hls/room01/live/live.json",
            "node_01/hls/room01/live/master.m3u8",
            "node_01/hls/room01/live/720p-1-000000.m4s",
            // A room of that name, a stranger's directory, and unfinished ones.
            "node_01/hls/rec.mp4",
            "node_01/hls/room01/other/index.html",
            "node_01/hls/room01/.there.node.1.part/720p.mp4",
            "node_01/hls/room01/.gone.node.1.part/720p.mp4",
            "node_01/hls/room01/.making.node.1.part/720p.mp4",
        ] {
            write(path);
        }
        let making = BTreeSet::from(["making".to_owned()]);
        let mut found = without_mp4(&store, &making).unwrap();
        found.sort();
        let gone = ["hls/room02/gone.1", "node_01/hls/room01/.gone.node.1.part", "node_01/hls/room01/gone"];
        assert_eq!(found, gone.map(|path| root.join(path)));
        for dir in found {
            remove(&store, &dir).unwrap();
        }
        assert_eq!(files_of(&root.join("node_01/hls/room01/gone")).unwrap(), [] as [String; 0]);
        assert!(root.join("node_01/hls/room01/gone/note.txt").exists() && !root.join("hls/room02/gone.1").exists());
        assert_eq!(without_mp4(&store, &making).unwrap(), [] as [PathBuf; 0]);
        remove(&store, &root.join("none/of/them")).unwrap();
        // Its note is gone, as a node has seen to it, and then its MP4.
        fs::remove_file(root.join("node_01/hls/room01/live/live.json")).unwrap();
        let live = root.join("node_01/hls/room01/live");
        assert_eq!(without_mp4(&store, &making).unwrap(), std::slice::from_ref(&live));
        remove(&store, &live).unwrap();
        assert!(!live.exists());
    }
}
