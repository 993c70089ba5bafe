//! The recordings that run: opened some at a time, closed again, and watched by a task each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::capture::encoder::arguments::EncoderTarget;
use crate::capture::rig::{CaptureReport, LiveRig, OpenError, Rig as _, RigSpec};
use crate::recording::opening_turns::OpeningTurns;

/// Time limit for opening a rig; each of its parts has a limit of its own, after which it is named.
const OPEN_LIMIT: Duration = Duration::from_secs(60);
/// Time limit for closing all of them; what has not ended then ends with this process.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);

type Reports = Box<dyn Fn() -> CaptureReport + Send>;

/// One of them.
struct Running {
    reports: Reports,
    file: PathBuf,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The recordings of a scene, in the order in which they were opened.
pub struct Rigs {
    /// Of the first one; the others have other files.
    spec: RigSpec,
    dir: PathBuf,
    running: Vec<Running>,
    opened: u32,
    turns: OpeningTurns,
    broken: (mpsc::Sender<String>, mpsc::Receiver<String>),
}

impl Rigs {
    /// `spec`: of a rig; its file gets another name. `dir`: where the files are written. `cores`: how many are opened at
    /// once.
    #[must_use]
    pub fn new(spec: RigSpec, dir: &Path, cores: usize) -> Self {
        Self {
            spec,
            dir: dir.to_owned(),
            running: Vec::new(),
            opened: 0,
            turns: OpeningTurns::new(cores),
            broken: mpsc::channel(16),
        }
    }

    #[must_use]
    pub fn running(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

    /// What each of them has done so far.
    #[must_use]
    pub fn reports(&self) -> Vec<CaptureReport> {
        self.running.iter().map(|one| (one.reports)()).collect()
    }

    /// The file that has grown the longest.
    #[must_use]
    pub fn oldest_file(&self) -> Option<&Path> {
        self.running.first().map(|one| one.file.as_path())
    }

    /// Opens `more`. Where one cannot be opened, those that could be run on.
    ///
    /// # Errors
    /// Why one cannot be opened; `None`: cancelled.
    pub async fn open(&mut self, more: u32, cancel: &CancellationToken) -> Result<(), Option<String>> {
        let batch = cancel.child_token();
        let mut opening = Vec::new();
        for _ in 0..more {
            self.opened += 1;
            opening.push(self.start(&batch));
        }
        let mut failure = Ok(());
        for (opened, stop, file, task) in opening {
            match opened.await {
                Ok(Ok(reports)) => self.running.push(Running { reports, file, stop, task }),
                Ok(Err(error)) => {
                    // The others of this batch would only take longer.
                    batch.cancel();
                    close_task(task).await;
                    if failure.is_ok() {
                        failure = Err(cause(error));
                    }
                }
                Err(_) => failure = Err(Some("a task of this program has failed".to_owned())),
            }
        }
        if cancel.is_cancelled() { Err(None) } else { failure }
    }

    /// Starts to open one. Its task closes it again, whatever becomes of it.
    fn start(
        &self,
        batch: &CancellationToken,
    ) -> (oneshot::Receiver<Result<Reports, OpenError>>, CancellationToken, PathBuf, JoinHandle<()>) {
        let (sender, opened) = oneshot::channel();
        let file = self.dir.join(format!("{}.mkv", self.opened));
        let mut spec = self.spec.clone();
        spec.target = EncoderTarget::File(file.clone());
        let (stop, batch, turns) = (CancellationToken::new(), batch.child_token(), self.turns.clone());
        let (stopped, broken, number, written) = (stop.clone(), self.broken.0.clone(), self.opened, file.clone());
        let task = tokio::spawn(async move {
            let Some(turn) = batch.run_until_cancelled(turns.take(0)).await else {
                let _ = sender.send(Err(OpenError::Cancelled));
                return;
            };
            let mut rig = match Box::pin(open(spec, &batch)).await {
                Ok(rig) => rig,
                Err(error) => {
                    // Nobody waits any more: this is told by who cancelled.
                    let _ = sender.send(Err(error));
                    return;
                }
            };
            drop(turn);
            let reports = rig.reports().map(|reports| -> Reports { Box::new(reports) });
            if let Some(reports) = reports
                && sender.send(Ok(reports)).is_ok()
            {
                tokio::select! {
                    failure = rig.broken() => {
                        // Where more than some break at once, one cause is enough.
                        let _ = broken.try_send(format!("recording {number} broke: {}", failure.cause));
                        stopped.cancelled().await;
                    }
                    () = stopped.cancelled() => {}
                }
            }
            Box::pin(rig.close()).await;
            // It may be the disk that has failed.
            let _ = tokio::fs::remove_file(&written).await;
        });
        (opened, stop, file, task)
    }

    /// Resolves when one breaks: why. Cancel-safe.
    pub async fn broken(&mut self) -> String {
        // A sender is in `self`.
        self.broken.1.recv().await.unwrap_or_default()
    }

    /// Closes the youngest, so that `number` are left. Returns false where some do not end in time: they end with this
    /// process.
    pub async fn close_to(&mut self, number: u32) -> bool {
        let keep = usize::try_from(number).unwrap_or(usize::MAX).min(self.running.len());
        let closing = self.running.split_off(keep);
        for one in &closing {
            one.stop.cancel();
        }
        join_all(closing.into_iter().map(|one| close_task(one.task))).await.into_iter().all(|ended| ended)
    }
}

async fn close_task(mut task: JoinHandle<()>) -> bool {
    let ended = tokio::time::timeout(CLOSE_LIMIT, &mut task).await.is_ok();
    if !ended {
        // Dropped, its children are killed.
        task.abort();
    }
    ended
}

async fn open(spec: RigSpec, cancel: &CancellationToken) -> Result<LiveRig, OpenError> {
    let limit = cancel.child_token();
    let mut opening = std::pin::pin!(LiveRig::open(spec, limit.clone()));
    if let Ok(opened) = tokio::time::timeout(OPEN_LIMIT, &mut opening).await {
        return opened;
    }
    limit.cancel();
    match opening.await {
        Ok(rig) => Ok(rig),
        Err(_) => Err(OpenError::Failed(format!("no picture came within {} s", OPEN_LIMIT.as_secs()))),
    }
}

/// `None`: cancelled.
fn cause(error: OpenError) -> Option<String> {
    match error {
        OpenError::Cancelled => None,
        OpenError::Over(cause)
        | OpenError::Unrecordable(cause)
        | OpenError::Refused(cause)
        | OpenError::Failed(cause) => Some(cause.replace("the meeting page", "the page")),
    }
}
