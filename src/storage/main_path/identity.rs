//! Decides whether a directory is the one that this node knows. Pure.

/// A directory on its file system. A share gets another device number with each mount; a directory that is mounted
/// elsewhere on the same file system has another inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirectoryId {
    pub device: u64,
    pub inode: u64,
}

/// What this node knows of `main_path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownStore {
    /// The marker's id.
    pub marker: String,
    /// `None`: not seen since the start of the program.
    pub directory: Option<DirectoryId>,
}

/// What is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundStore {
    /// The marker's id; `None`: there is no marker.
    pub marker: Option<String>,
    pub directory: DirectoryId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreMatch {
    /// Nothing is known yet: this is `main_path` from now on.
    New,
    Same,
    /// The same directory as a moment ago, but somebody has removed the marker.
    MarkerMissing,
    Other,
}

pub(super) fn compare(known: Option<&KnownStore>, found: &FoundStore) -> StoreMatch {
    let Some(known) = known else { return StoreMatch::New };
    match &found.marker {
        Some(marker) if *marker == known.marker => StoreMatch::Same,
        None if known.directory == Some(found.directory) => StoreMatch::MarkerMissing,
        Some(_) | None => StoreMatch::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_known_by_its_marker_and_without_it_by_its_place() {
        let (here, there) = (DirectoryId { device: 1, inode: 2 }, DirectoryId { device: 1, inode: 3 });
        let found = |marker: Option<&str>, directory| FoundStore { marker: marker.map(str::to_owned), directory };
        let known = |directory| KnownStore { marker: "a".to_owned(), directory };
        for (known, found, expected) in [
            (None, found(None, here), StoreMatch::New),
            (None, found(Some("b"), here), StoreMatch::New),
            (Some(known(Some(here))), found(Some("a"), here), StoreMatch::Same),
            // Mounted again, or after a restart.
            (Some(known(Some(here))), found(Some("a"), there), StoreMatch::Same),
            (Some(known(None)), found(Some("a"), there), StoreMatch::Same),
            (Some(known(Some(here))), found(None, here), StoreMatch::MarkerMissing),
            // The bare mount point, while the program runs and after a restart.
            (Some(known(Some(here))), found(None, there), StoreMatch::Other),
            (Some(known(None)), found(None, here), StoreMatch::Other),
            // Another share.
            (Some(known(Some(here))), found(Some("b"), here), StoreMatch::Other),
        ] {
            assert_eq!(compare(known.as_ref(), &found), expected, "{known:?} {found:?}");
        }
    }
}
