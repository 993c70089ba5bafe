//! The processes of one long-lived script, and the queue of requests to them.
//!
//! ```text
//! Waiting (backoff) → Idle → Busy ┬ answered, in sync ────────────────────────→ Idle
//!     ↑                 │         ├ ended without an answer → a new process gets the request, once
//!     └─ ended, output ─┴─────────┴ no answer in time, out of sync → ended ─┐
//!     └─────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Only a running process takes requests from the queue, so a request goes to whichever process is free.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::codes;
use crate::process::child::{ChildSpec, SpawnError};
use crate::retry::Backoff;
use crate::scripts::hooks::answer::NoAnswer;
use crate::scripts::hooks::failure::{HookFailure, stderr_tail};
use crate::scripts::hooks::lifetime::HookLifetime;
use crate::scripts::hooks::payload::Object;
use crate::scripts::hooks::step_result::{StepFailure, StepResult};
use crate::scripts::hooks::worker::{Exchange, IdleEvent, ScriptProcess};
use crate::telemetry::log_throttle::LogThrottle;

/// The number of requests in the channel; further senders wait.
const QUEUE: usize = 16;

/// A request and the sender of its result, which is closed where the request was given up.
struct PoolRequest {
    input: Object,
    reply: oneshot::Sender<Result<Result<Object, NoAnswer>, HookFailure>>,
}

/// The processes of a script.
#[derive(Debug)]
pub(super) struct WorkerPool {
    queue: mpsc::Sender<PoolRequest>,
}

impl WorkerPool {
    /// Starts `size` processes in the background. `limit`: the time limit of an answer.
    pub(super) fn start(spec: ChildSpec, size: usize, limit: Duration, lifetime: &HookLifetime, span: &Span) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let (spec, requests) = (Arc::new(spec), Arc::new(Mutex::new(requests)));
        for _ in 0..size {
            let keeper = PoolKeeper {
                spec: Arc::clone(&spec),
                limit,
                requests: Arc::clone(&requests),
                lifetime: lifetime.clone(),
                backoff: Backoff::new(lifetime.timeouts.first_wait, lifetime.timeouts.longest_wait),
                throttle: LogThrottle::default(),
                started_before: false,
            };
            lifetime.tasks.spawn(keeper.run().instrument(span.clone()));
        }
        Self { queue }
    }

    /// Has one of the processes answer. Where this is cancelled, that process is replaced.
    pub(super) async fn ask(&self, input: Object) -> StepResult {
        let (reply, answer) = oneshot::channel();
        // Both fail only after the processes were ended.
        self.queue.send(PoolRequest { input, reply }).await.map_err(|_| StepFailure::Stopped)?;
        answer.await.map_err(|_| StepFailure::Stopped)?.map_err(StepFailure::Failed)
    }
}

/// Keeps one process of the script running.
struct PoolKeeper {
    spec: Arc<ChildSpec>,
    limit: Duration,
    requests: Arc<Mutex<mpsc::Receiver<PoolRequest>>>,
    lifetime: HookLifetime,
    backoff: Backoff,
    /// For a script that ends by itself or cannot be started.
    throttle: LogThrottle,
    started_before: bool,
}

/// Why no process was started.
enum WorkerStartError {
    Stopped,
    Failed(SpawnError),
}

/// What a keeper handles next.
enum PoolEvent {
    Stop,
    Request(PoolRequest),
    Idle(IdleEvent),
}

impl PoolKeeper {
    async fn run(mut self) {
        let mut current: Option<ScriptProcess> = None;
        loop {
            let process = match current.take() {
                Some(process) => process,
                None => match self.start().await {
                    Ok(process) => process,
                    Err(WorkerStartError::Stopped) => return,
                    Err(WorkerStartError::Failed(error)) => {
                        if self.throttle.due(Instant::now()) {
                            tracing::error!(code = %codes::HOOK_NOT_STARTED, "{error}; it is tried again");
                        }
                        self.fail_waiting(error);
                        continue;
                    }
                },
            };
            current = self.handle_next(process).await;
            if self.lifetime.stop.is_cancelled() {
                if let Some(process) = current.take() {
                    self.end(process).await;
                }
                return;
            }
        }
    }

    /// Starts the next process, after a wait where needed.
    async fn start(&mut self) -> Result<ScriptProcess, WorkerStartError> {
        let stop = self.lifetime.stop.clone();
        if std::mem::replace(&mut self.started_before, true) {
            let wait = self.backoff.wait();
            stop.run_until_cancelled(tokio::time::sleep(wait)).await.ok_or(WorkerStartError::Stopped)?;
        }
        let process = stop
            .run_until_cancelled(ScriptProcess::start(&self.spec, self.lifetime.timeouts.quiet_period))
            .await
            .ok_or(WorkerStartError::Stopped)?;
        let process = process.map_err(WorkerStartError::Failed)?;
        tracing::debug!(pid = process.pid(), "a process of the script is up");
        Ok(process)
    }

    /// Fails a waiting request because the script cannot be started.
    fn fail_waiting(&self, error: SpawnError) {
        // Where it is locked, another process waits for a request.
        let Ok(mut requests) = self.requests.try_lock() else { return };
        if let Ok(request) = requests.try_recv() {
            let _ = request.reply.send(Err(error.into()));
        }
    }

    /// Waits for the next event and handles it. `None`: the process is gone.
    async fn handle_next(&mut self, mut process: ScriptProcess) -> Option<ScriptProcess> {
        let (stop, requests) = (self.lifetime.stop.clone(), Arc::clone(&self.requests));
        let next = async {
            match requests.lock().await.recv().await {
                Some(request) => PoolEvent::Request(request),
                // The hooks were dropped and are about to end.
                None => std::future::pending().await,
            }
        };
        // Requests come first: other output of the process is read before it gets the request.
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => PoolEvent::Stop,
            request = next => request,
            idle = process.idle() => PoolEvent::Idle(idle),
        };
        match event {
            PoolEvent::Stop => Some(process),
            PoolEvent::Request(request) => self.serve(process, request).await,
            PoolEvent::Idle(IdleEvent::Greeting(text)) => {
                process.log_greeting(&text);
                Some(process)
            }
            PoolEvent::Idle(IdleEvent::Output(text)) => {
                tracing::warn!(
                    code = %codes::HOOK_UNASKED,
                    pid = process.pid(),
                    "it put out something unasked: {text}; dropped, and the process is replaced"
                );
                self.end(process).await;
                None
            }
            PoolEvent::Idle(IdleEvent::Died) => {
                let (pid, age, tail) = (process.pid(), process.age(), process.tail());
                let exit = self.end(process).await;
                let ran_s = crate::telemetry::seconds(age);
                if self.throttle.due(Instant::now()) {
                    let words = stderr_tail(&tail);
                    tracing::warn!(
                        code = %codes::HOOK_DIED, pid, %exit, ran_s,
                        "the script has ended by itself and is started again; it said: {words}"
                    );
                }
                None
            }
        }
    }

    /// Has a request answered, by a new process if this one ends meanwhile. `None`: the process is gone.
    async fn serve(&mut self, mut process: ScriptProcess, mut request: PoolRequest) -> Option<ScriptProcess> {
        // The request was given up before the process got it.
        if request.reply.is_closed() {
            return Some(process);
        }
        let mut may_retry = true;
        loop {
            let exchange = tokio::select! {
                biased;
                () = self.lifetime.stop.cancelled() => return Some(process),
                () = request.reply.closed() => {
                    tracing::warn!(
                        code = %codes::HOOK_GIVEN_UP, pid = process.pid(),
                        "the request was given up: the process is replaced"
                    );
                    self.end(process).await;
                    return None;
                }
                exchange = tokio::time::timeout(self.limit, process.ask(&request.input)) => exchange,
            };
            let words = stderr_tail(&process.tail());
            match exchange {
                Ok(Exchange::Answered { answer, in_sync }) => {
                    self.backoff.reset();
                    self.throttle.end();
                    let _ = request.reply.send(Ok(answer));
                    if in_sync {
                        return Some(process);
                    }
                    tracing::warn!(
                        code = %codes::HOOK_OUT_OF_STEP, pid = process.pid(),
                        "the process is not in step any more and is replaced"
                    );
                    self.end(process).await;
                    return None;
                }
                Err(_) => {
                    let _ = request.reply.send(Err(HookFailure::Timeout { limit: self.limit, words }));
                    self.end(process).await;
                    return None;
                }
                Ok(Exchange::OutOfSync(text)) => {
                    tracing::warn!(
                        code = %codes::HOOK_UNASKED,
                        pid = process.pid(),
                        "it put out more than its last answer: {text}; dropped, and the process is replaced"
                    );
                    self.end(process).await;
                    process = self.replace(&mut request).await?;
                }
                Ok(Exchange::Died) => {
                    let (pid, tail) = (process.pid(), process.tail());
                    let exit = self.end(process).await;
                    // Output that came with the end of the process.
                    let words = stderr_tail(&tail);
                    if !std::mem::take(&mut may_retry) {
                        let _ = request.reply.send(Err(HookFailure::Died { exit, words }));
                        return None;
                    }
                    tracing::warn!(
                        code = %codes::HOOK_DIED, pid, %exit,
                        "it ended before it answered: a fresh process is asked; it said: {words}"
                    );
                    process = self.replace(&mut request).await?;
                }
            }
        }
    }

    /// A new process for this request; where it cannot be started, the request fails.
    async fn replace(&mut self, request: &mut PoolRequest) -> Option<ScriptProcess> {
        match self.start().await {
            Ok(process) => Some(process),
            Err(WorkerStartError::Stopped) => None,
            Err(WorkerStartError::Failed(error)) => {
                tracing::error!(code = %codes::HOOK_NOT_STARTED, "{error}");
                let (closed, _) = oneshot::channel();
                let _ = std::mem::replace(&mut request.reply, closed).send(Err(error.into()));
                None
            }
        }
    }

    async fn end(&mut self, process: ScriptProcess) -> crate::process::child::Exit {
        // A process that ran for so long does not count as failing at its start.
        if process.age() > self.lifetime.timeouts.longest_wait {
            self.backoff.reset();
            self.throttle.end();
        }
        process.end(self.lifetime.timeouts.grace).await
    }
}
