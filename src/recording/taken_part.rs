//! What a record says of a part that another node has recorded: pure.

use serde::{Deserialize, Serialize};

/// A part that was fetched from the archive of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenPart {
    /// The node that has recorded it, by which lease, and which of its parts it is, from 1.
    pub node: String,
    pub lease: u32,
    pub number: usize,
    /// Milliseconds of it that were in the archive when the recording was taken over: before this node captured any.
    pub first_ms: u64,
    /// How much of it is in the recording, in milliseconds: what follows, a later node has. `None`: all.
    #[serde(default)]
    pub used_ms: Option<u64>,
    pub files: Vec<TakenFile>,
}

/// A file of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenFile {
    /// Its place in the archive.
    pub place: String,
    /// It goes on where the part's first file ends.
    #[serde(default)]
    pub goes_on: bool,
    /// How many of its pieces were fetched.
    pub pieces: usize,
    /// What the archive lacks between them, in milliseconds of the file.
    #[serde(default)]
    pub lacks_ms: Vec<(u64, u64)>,
}
