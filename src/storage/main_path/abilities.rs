//! What a file system can do beyond taking a new file from its first byte to its last. Pure.

/// The operations that some stores lack: object stores behind FUSE (goofys, mountpoint-s3, rclone), and some shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreAbilities {
    /// Bytes that were written may be written again. ffmpeg does that to finish an MP4.
    pub rewrite: bool,
    /// A file can be renamed, and so appears under its name as a whole.
    pub rename: bool,
    /// A file can be synced.
    pub fsync: bool,
}

impl StoreAbilities {
    /// Those of an ordinary file system.
    pub const ALL: Self = Self { rewrite: true, rename: true, fsync: true };

    /// What is missing, in words; `None` where nothing is.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        let missing: Vec<&str> = [(self.rewrite, "rewriting"), (self.rename, "renaming"), (self.fsync, "fsync")]
            .into_iter()
            .filter_map(|(able, name)| (!able).then_some(name))
            .collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    }
}

impl Default for StoreAbilities {
    fn default() -> Self {
        Self::ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(StoreAbilities::ALL.missing(), None);
        let s3 = StoreAbilities { rewrite: false, rename: false, fsync: true };
        assert_eq!(s3.missing().as_deref(), Some("rewriting, renaming"));
    }
}
