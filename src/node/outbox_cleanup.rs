//! Removes from the outbox what nobody needs any more: recordings whose messages were all delivered or dropped more than
//! a day ago. A recording that is not handed over yet, or whose job this node still knows, relies on its messages for
//! longer: they tell what the server was told already.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::delivery::outbox::Outbox;
use crate::protocol::request::Kind;
use crate::recording::journal::dir_of;
use crate::storage::files::{on_disk, record_ids};
use crate::transcode::journal as jobs;

const INTERVAL: Duration = Duration::from_secs(3600);

/// Cleans up at once, and then every hour until `end`. To be started when the recordings of an earlier run are resumed.
pub(super) async fn run(outbox: Outbox, state_dir: PathBuf, end: CancellationToken) {
    loop {
        let removed = end.run_until_cancelled(clean_up(&outbox, &state_dir)).await;
        match removed {
            None => return,
            Some(Ok(0)) => {}
            Some(Ok(recordings)) => tracing::debug!(recordings, "removed from the outbox: all was told a day ago"),
            Some(Err(error)) => tracing::warn!(
                code = %codes::OUTBOX_NOT_CLEANED,
                dir = %state_dir.display(), %error,
                "what was told long ago cannot be removed from the outbox; trying again in an hour"
            ),
        }
        if end.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
            return;
        }
    }
}

async fn clean_up(outbox: &Outbox, state_dir: &Path) -> io::Result<usize> {
    let dirs = [dir_of(Kind::Recording), dir_of(Kind::Broadcast), jobs::DIR].map(|dir| state_dir.join(dir));
    let live = on_disk(move || {
        let mut live = HashSet::new();
        for dir in dirs {
            live.extend(record_ids(&dir)?);
        }
        Ok(live)
    });
    let live = live.await?;
    outbox.remove_old(|id| live.contains(id.as_str())).await
}
