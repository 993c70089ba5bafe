//! Copies a raw file to another file system while it grows.
//!
//! A process of its own writes there (dd). This one never has a file open for long on a share that may hang: then no child
//! could be started.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use crate::process::child::{self, ChildSpec};
use crate::storage::advance_copy::AdvanceCopy;
use crate::storage::growing_file::{GrowingFile, Growth};

/// How long the disk may take no bytes.
const STALLED: Duration = Duration::from_secs(60);

/// Copies a file that will have its place at `to`, until it is complete. `nice`: 0…19.
///
/// # Errors
/// Where one of the files cannot be read or written, or a disk stands still for 60 s. Nothing is left then.
pub(super) async fn copy(from: &Path, to: &Path, growth: watch::Receiver<Growth>, nice: u8) -> io::Result<AdvanceCopy> {
    let mut growing = GrowingFile::open(from, growth).await?;
    let mut copy = AdvanceCopy::new(to);
    let mut output = OsString::from("of=");
    output.push(copy.path());
    let mut spec =
        ChildSpec::new("dd", "dd").args([output]).args(["bs=128K", "iflag=fullblock", "status=none"]).nice(nice);
    spec.pipe_stdin = true;
    let mut dd = child::spawn(&spec).await.map_err(io::Error::other)?;
    let stdin = dd.stdin.take();
    let Some(mut stdin) = stdin else { return Err(io::Error::other("dd has no input")) };
    while let Some(chunk) = growing.next().await? {
        copy.add(&chunk);
        let written = tokio::time::timeout(STALLED, stdin.write_all(&chunk)).await;
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    }
    drop(stdin);
    if dd.end_within(STALLED).await.success() {
        return Ok(copy);
    }
    let said = dd.tail().lines().join(" ");
    Err(io::Error::other(format!("the raw file cannot be written to {}: {said}", copy.path().display())))
}
