//! Why a recording is not there as HLS.

use std::io;

use crate::hls::packager::PackageError;
use crate::storage::placement::PlaceError;
use crate::store::error::StoreError;

#[derive(Debug, thiserror::Error)]
pub(super) enum HlsError {
    #[error("its renditions cannot be made: {0}")]
    Package(PackageError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("{what}: {source}")]
    Disk { what: String, source: io::Error },
    #[error(transparent)]
    Store(StoreError),
    /// There is nothing to make it of, or to put it beside, any more.
    #[error("{0}")]
    WithoutMp4(String),
    #[error("the program ends")]
    Stopped,
}

impl HlsError {
    pub fn disk(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Disk { what, source }
    }

    /// What an operator does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Package(_) => {
                "see that ffmpeg plays the MP4, and that there is room for as much again; give it up with `hls drop ID`"
            }
            Self::Place(_) | Self::Disk { .. } => "look at the disk of that path on this host",
            Self::Store(error) => error.remedy(),
            Self::WithoutMp4(_) | Self::Stopped => "nothing is to be done",
        }
    }
}

impl From<PackageError> for HlsError {
    fn from(error: PackageError) -> Self {
        match error {
            PackageError::Stopped => Self::Stopped,
            error => Self::Package(error),
        }
    }
}

impl From<StoreError> for HlsError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stopped => Self::Stopped,
            error => Self::Store(error),
        }
    }
}
