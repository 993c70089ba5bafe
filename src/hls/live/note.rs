//! The note beside the playlists of a recording that is published while it runs: whether they are all of its HLS, in
//! `main_path` as in the store. It goes when a node has seen to that HLS, or made another one.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Its name.
pub const NOTE: &str = "live.json";

/// What is known of the playlists beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveNote {
    /// The node that publishes.
    pub node: String,
    pub state: LiveState,
    /// The names of all files, in the order in which they are put into a store; none before the end.
    #[serde(default)]
    pub files: Vec<String>,
    /// How long it plays, in milliseconds; 0 before the end.
    #[serde(default)]
    pub length_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveState {
    Running,
    /// It is all of the recording.
    Complete,
    /// It ended before the recording.
    Abandoned,
}

impl LiveNote {
    #[must_use]
    pub fn new(node: &str, state: LiveState) -> Self {
        Self { node: node.to_owned(), state, files: Vec::new(), length_ms: 0 }
    }

    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `None`: it says nothing that is known.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let is_name = |name: &String| !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        serde_json::from_slice::<Self>(bytes).ok().filter(|note| note.files.iter().all(is_name))
    }

    /// The note of a directory of HLS; `None`: it has none. Blocks.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(dir.join(NOTE)) {
            Ok(bytes) => Ok(Self::from_bytes(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_what_was_written_and_names_files_of_its_directory_only() {
        let mut note = LiveNote::new("node_01", LiveState::Complete);
        (note.files, note.length_ms) = (vec!["720p-1-000000.m4s".to_owned()], 4000);
        assert_eq!(LiveNote::from_bytes(&note.to_bytes()), Some(note.clone()));
        let running = LiveNote::from_bytes(br#"{"node":"a","state":"running"}"#).unwrap();
        assert_eq!((running.state, running.files.len()), (LiveState::Running, 0));
        for name in ["../a", "", ".a", "/a"] {
            note.files = vec![name.to_owned()];
            assert_eq!(LiveNote::from_bytes(&note.to_bytes()), None, "{name:?}");
        }
        assert_eq!(LiveNote::from_bytes(b"{"), None);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(LiveNote::read(dir.path()).unwrap(), None);
    }
}
