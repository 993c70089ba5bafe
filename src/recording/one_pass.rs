//! Which recordings are encoded as their MP4 while they run: as many as the node's processors carry beside all else. That
//! costs more while they run and much less in all, and the MP4 is there when they end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::fleet::cost::Costs;
use crate::media::final_encoding::FinalEncoding;
use crate::recording::processor_room::ProcessorRoom;

/// After a recording was changed to the fast encoder, until what that saves shows in the costs, which are those of a
/// minute. A recording that loses frames meanwhile changes by itself.
const SETTLE: Duration = Duration::from_secs(30);

/// The recordings of this node that are encoded as their MP4.
#[derive(Clone, Debug)]
pub struct OnePass {
    pub encoding: Arc<FinalEncoding>,
    room: ProcessorRoom,
    /// Recordings and broadcasts running or about to.
    running: watch::Receiver<usize>,
    costs: watch::Receiver<Costs>,
    /// To each rig, in the order of their openings: whether it must use the fast encoder from now on.
    rigs: Arc<Mutex<Vec<watch::Sender<bool>>>>,
}

impl OnePass {
    /// `None`: the configuration does not allow it; the reason is logged. `cores`: the processors that this node may use.
    #[must_use]
    pub fn new(
        config: &Config,
        cores: f64,
        running: watch::Receiver<usize>,
        costs: watch::Receiver<Costs>,
    ) -> Option<Self> {
        let ffmpeg = &config.ffmpeg;
        if !ffmpeg.one_pass || !config.recorder.post_mp4_convert {
            return None;
        }
        let not = |why: &str| tracing::info!(why, "recordings are encoded twice: while they run, and for their MP4");
        if !ffmpeg.records_as_by_default() {
            not(
                "ffmpeg_settings.recording.post_input has options of your own, which encode each recording while it runs",
            );
            return None;
        }
        let encoding = FinalEncoding::read(&ffmpeg.post_recording);
        let encoding = encoding.inspect_err(|why| not(&format!("ffmpeg_settings.post_recording: {why}"))).ok()?;
        Some(Self { encoding: Arc::new(encoding), room: ProcessorRoom { cores }, running, costs, rigs: Arc::default() })
    }

    /// Admits a recording where there is room; becomes true where it must use the fast encoder.
    #[must_use]
    pub fn admit(&self) -> Option<watch::Receiver<bool>> {
        let (running, costs) = (*self.running.borrow(), self.costs.borrow().clone());
        if !self.room.has_room(&costs, running) {
            tracing::info!(
                running,
                cores = self.room.cores,
                "encoded fast while it runs, and for its MP4 afterwards: the processors are needed for recording"
            );
            return None;
        }
        let (sender, receiver) = watch::channel(false);
        self.rigs().push(sender);
        Some(receiver)
    }

    /// Has recordings use the fast encoder while they take too much together: the newest first, of
    /// which least was encoded as its MP4 in vain. Runs until cancelled.
    pub async fn watch(mut self, cancel: CancellationToken) {
        loop {
            let changed = cancel.run_until_cancelled(self.costs.changed()).await;
            if !matches!(changed, Some(Ok(()))) {
                return;
            }
            let costs = self.costs.borrow_and_update().clone();
            if self.room.is_exceeded(&costs, *self.running.borrow()) {
                self.end_newest();
                if cancel.run_until_cancelled(tokio::time::sleep(SETTLE)).await.is_none() {
                    return;
                }
            }
        }
    }

    fn end_newest(&self) {
        let rigs = self.rigs();
        if let Some(newest) = rigs.iter().rev().find(|rig| !*rig.borrow()) {
            newest.send_replace(true);
        }
    }

    /// Those whose rigs are open.
    fn rigs(&self) -> std::sync::MutexGuard<'_, Vec<watch::Sender<bool>>> {
        // The list is consistent at every point that could panic.
        let mut rigs = self.rigs.lock().unwrap_or_else(PoisonError::into_inner);
        rigs.retain(|rig| !rig.is_closed());
        rigs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FfmpegOptions;

    fn one_pass(cores: f64, costs: Costs) -> (OnePass, watch::Sender<Costs>) {
        let encoding = Arc::new(FinalEncoding::read(&FfmpegOptions::post_recording(None)).unwrap());
        let (sender, costs) = watch::channel(costs);
        let running = watch::channel(1).1;
        (OnePass { encoding, room: ProcessorRoom { cores }, running, costs, rigs: Arc::default() }, sender)
    }

    #[tokio::test(start_paused = true)]
    async fn where_recordings_take_too_much_the_newest_is_encoded_fast() {
        let (one_pass, costs) = one_pass(2.0, Costs::default());
        let (first, second) = (one_pass.admit().unwrap(), one_pass.admit().unwrap());
        drop(one_pass.admit());
        let cancel = CancellationToken::new();
        let watch = tokio::spawn(one_pass.watch(cancel.clone()));
        let full = Costs { recordings: vec![1.9], typical: 0.5 };
        costs.send_replace(full.clone());
        let mut told = second.clone();
        told.wait_for(|told| *told).await.unwrap();
        costs.send_replace(full.clone());
        tokio::time::sleep(SETTLE / 2).await;
        assert!(!*first.borrow(), "what the second one saves does not show yet");
        tokio::time::sleep(SETTLE).await;
        costs.send_replace(full);
        let mut told = first.clone();
        told.wait_for(|told| *told).await.unwrap();
        cancel.cancel();
        watch.await.unwrap();
    }

    #[test]
    fn a_node_without_room_admits_none() {
        let costs = Costs { recordings: vec![0.5, 0.5, 0.4], typical: 0.5 };
        assert!(one_pass(2.0, costs.clone()).0.admit().is_none());
        assert!(one_pass(4.0, costs).0.admit().is_some());
    }
}
