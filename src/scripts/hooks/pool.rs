//! The processes of one long-lived script, and the queue of requests before them.
//!
//! ```text
//! Waiting (backoff) → Idle → Asked ┬ answered, in step ─────────────────→ Idle
//!     ↑                 │          ├ ended before it answered → a fresh one is asked, once
//!     └── ended, spoke ─┴──────────┴ no answer in time, out of step → ended ─┐
//!     └─────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A process is fetched work only while it is up, so a request goes to whichever is free.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::process::child::{ChildSpec, SpawnError};
use crate::retry::Backoff;
use crate::scripts::hooks::failure::{HookFailure, last_words};
use crate::scripts::hooks::payload::Object;
use crate::scripts::hooks::worker::{Exchange, IdleEvent, ScriptProcess};
use crate::scripts::hooks::{HookLifetime, StepFailure, StepResult};
use crate::telemetry::log_throttle::LogThrottle;

/// Requests that wait in the queue itself; more wait before it.
const QUEUE: usize = 16;

/// A request and where its outcome goes; nobody there any more: it was given up.
struct PoolRequest {
    given: Object,
    reply: oneshot::Sender<Result<Result<Object, super::NoAnswer>, HookFailure>>,
}

/// A script whose processes wait for requests.
#[derive(Debug)]
pub(super) struct WorkerPool {
    queue: mpsc::Sender<PoolRequest>,
}

impl WorkerPool {
    /// Starts `size` processes in the background. `limit`: the longest answer that is waited for.
    pub(super) fn start(spec: ChildSpec, size: usize, limit: Duration, life: &HookLifetime, span: &Span) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let (spec, requests) = (Arc::new(spec), Arc::new(Mutex::new(requests)));
        for _ in 0..size {
            let keeper = PoolKeeper {
                spec: Arc::clone(&spec),
                limit,
                requests: Arc::clone(&requests),
                life: life.clone(),
                backoff: life.patience.backoff(),
                trouble: LogThrottle::default(),
                started_before: false,
            };
            life.tasks.spawn(keeper.run().instrument(span.clone()));
        }
        Self { queue }
    }

    /// Has one of the processes answer. Given up, its process is replaced.
    pub(super) async fn ask(&self, given: Object) -> StepResult {
        let (reply, answer) = oneshot::channel();
        // Both fail only when the processes were ended.
        self.queue.send(PoolRequest { given, reply }).await.map_err(|_| StepFailure::Stopped)?;
        answer.await.map_err(|_| StepFailure::Stopped)?.map_err(StepFailure::Failed)
    }
}

/// Keeps one process of the script up.
struct PoolKeeper {
    spec: Arc<ChildSpec>,
    limit: Duration,
    requests: Arc<Mutex<mpsc::Receiver<PoolRequest>>>,
    life: HookLifetime,
    backoff: Backoff,
    /// It ends by itself, or cannot be started: said ever more rarely while it lasts.
    trouble: LogThrottle,
    started_before: bool,
}

/// Why there is no process.
enum WorkerStartError {
    Stopped,
    Failed(SpawnError),
}

/// What a keeper turns to.
enum PoolEvent {
    Stop,
    Asked(PoolRequest),
    Idle(IdleEvent),
}

impl PoolKeeper {
    async fn run(mut self) {
        let mut up = None;
        loop {
            let worker = match up.take() {
                Some(worker) => worker,
                None => match self.start().await {
                    Ok(worker) => worker,
                    Err(WorkerStartError::Stopped) => return,
                    Err(WorkerStartError::Failed(error)) => {
                        if self.trouble.due(Instant::now()) {
                            tracing::error!("{error}; it is tried again");
                        }
                        self.refuse(error);
                        continue;
                    }
                },
            };
            up = self.attend(worker).await;
            if self.life.stop.is_cancelled() {
                if let Some(worker) = up.take() {
                    self.end(worker).await;
                }
                return;
            }
        }
    }

    /// The next process, after the wait that is due.
    async fn start(&mut self) -> Result<ScriptProcess, WorkerStartError> {
        let stop = self.life.stop.clone();
        if std::mem::replace(&mut self.started_before, true) {
            let wait = self.backoff.wait();
            stop.run_until_cancelled(tokio::time::sleep(wait)).await.ok_or(WorkerStartError::Stopped)?;
        }
        let worker = stop
            .run_until_cancelled(ScriptProcess::start(&self.spec, self.life.patience.settle))
            .await
            .ok_or(WorkerStartError::Stopped)?;
        let worker = worker.map_err(WorkerStartError::Failed)?;
        tracing::debug!(pid = worker.pid(), "a process of the script is up");
        Ok(worker)
    }

    /// The script cannot be started: whoever waits for it is told.
    fn refuse(&self, error: SpawnError) {
        // Where it is locked, another process waits for requests.
        let Ok(mut requests) = self.requests.try_lock() else { return };
        if let Ok(request) = requests.try_recv() {
            let _ = request.reply.send(Err(error.into()));
        }
    }

    /// Waits for what is next and does it; `None`: the process is gone.
    async fn attend(&mut self, mut worker: ScriptProcess) -> Option<ScriptProcess> {
        let (stop, requests) = (self.life.stop.clone(), Arc::clone(&self.requests));
        let next = async {
            match requests.lock().await.recv().await {
                Some(request) => PoolEvent::Asked(request),
                // The hooks are gone, and their end is on its way.
                None => std::future::pending().await,
            }
        };
        // A request first: what the process says meanwhile is looked at before it is asked.
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => PoolEvent::Stop,
            request = next => request,
            idle = worker.idle() => PoolEvent::Idle(idle),
        };
        match event {
            PoolEvent::Stop => Some(worker),
            PoolEvent::Asked(request) => self.serve(worker, request).await,
            PoolEvent::Idle(IdleEvent::Greeted(text)) => {
                worker.greeted(&text);
                Some(worker)
            }
            PoolEvent::Idle(IdleEvent::Spoke(text)) => {
                tracing::warn!(
                    pid = worker.pid(),
                    "it put out something unasked: {text}; dropped, and the process is replaced"
                );
                self.end(worker).await;
                None
            }
            PoolEvent::Idle(IdleEvent::Died) => {
                let (pid, age, tail) = (worker.pid(), worker.age(), worker.tail());
                let exit = self.end(worker).await;
                let ran_s = crate::telemetry::seconds(age);
                if self.trouble.due(Instant::now()) {
                    let words = last_words(&tail);
                    tracing::warn!(pid, %exit, ran_s, "the script has ended by itself and is started again; it said: {words}");
                }
                None
            }
        }
    }

    /// Has a request answered, by a fresh process if this one ends in between; `None`: the process is gone.
    async fn serve(&mut self, mut worker: ScriptProcess, mut request: PoolRequest) -> Option<ScriptProcess> {
        // Given up before its turn came: the process has nothing to do with it.
        if request.reply.is_closed() {
            return Some(worker);
        }
        let mut again = true;
        loop {
            let exchange = tokio::select! {
                biased;
                () = self.life.stop.cancelled() => return Some(worker),
                () = request.reply.closed() => {
                    tracing::warn!(pid = worker.pid(), "the request was given up: the process is replaced");
                    self.end(worker).await;
                    return None;
                }
                exchange = tokio::time::timeout(self.limit, worker.ask(&request.given)) => exchange,
            };
            let words = last_words(&worker.tail());
            match exchange {
                Ok(Exchange::Answered { answer, in_step }) => {
                    self.backoff.reset();
                    self.trouble.end();
                    let _ = request.reply.send(Ok(answer));
                    if in_step {
                        return Some(worker);
                    }
                    tracing::warn!(pid = worker.pid(), "the process is not in step any more and is replaced");
                    self.end(worker).await;
                    return None;
                }
                Err(_) => {
                    let _ = request.reply.send(Err(HookFailure::Timeout { limit: self.limit, words }));
                    self.end(worker).await;
                    return None;
                }
                Ok(Exchange::OutOfStep(text)) => {
                    tracing::warn!(
                        pid = worker.pid(),
                        "it put out more than its last answer: {text}; dropped, and the process is replaced"
                    );
                    self.end(worker).await;
                    worker = self.replace(&mut request).await?;
                }
                Ok(Exchange::Died) => {
                    let (pid, tail) = (worker.pid(), worker.tail());
                    let exit = self.end(worker).await;
                    // Its last words may have come with its end.
                    let words = last_words(&tail);
                    if !std::mem::take(&mut again) {
                        let _ = request.reply.send(Err(HookFailure::Died { exit, words }));
                        return None;
                    }
                    tracing::warn!(pid, %exit, "it ended before it answered: a fresh process is asked; it said: {words}");
                    worker = self.replace(&mut request).await?;
                }
            }
        }
    }

    /// A fresh process for this request; without one, the request is told.
    async fn replace(&mut self, request: &mut PoolRequest) -> Option<ScriptProcess> {
        match self.start().await {
            Ok(worker) => Some(worker),
            Err(WorkerStartError::Stopped) => None,
            Err(WorkerStartError::Failed(error)) => {
                tracing::error!("{error}");
                let (nobody, _) = oneshot::channel();
                let _ = std::mem::replace(&mut request.reply, nobody).send(Err(error.into()));
                None
            }
        }
    }

    async fn end(&mut self, worker: ScriptProcess) -> crate::process::child::Exit {
        // One that has run for long is not one that cannot run.
        if worker.age() > self.life.patience.longest_wait {
            self.backoff.reset();
            self.trouble.end();
        }
        worker.end(self.life.patience.grace).await
    }
}
