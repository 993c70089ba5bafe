//! Hooks: pipelines of an operator's programs at three stages of a recording (PROTOCOL 7).
//!
//! A pipeline takes a JSON object from step to step ([`payload`]). A step is a long-lived script, of which `pool_size`
//! processes wait for requests ([`pool`], [`worker`]), a one-shot script ([`one_shot`]), or an HTTP request
//! ([`http_request`]). What is no answer is dropped with a warning; what failed fails the stage. What a hook has put
//! somewhere is removed by [`cleanup`], and nothing else.

pub mod answer;
pub mod cleanup;
mod failure;
mod http_request;
mod lines;
mod one_shot;
pub mod payload;
mod pool;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::config::{HookStage, HookStep, HookUrl, HooksConfig, StageConfig};
use crate::process::child::ChildSpec;
use crate::retry::Backoff;
use answer::NoAnswer;
pub use failure::{HookError, HookFailure};
use payload::{HookPayload, Object};
use pool::WorkerPool;

/// How long things may take that no operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookTimeouts {
    /// Between the request to end and the kill.
    pub grace: Duration,
    /// Before a process that ended is started again: at first, and at most.
    pub first_wait: Duration,
    pub longest_wait: Duration,
    /// So long a long-lived script is heard out, after its start and after an answer, before it is asked (again).
    pub settle: Duration,
}

impl Default for HookTimeouts {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(30),
            settle: Duration::from_millis(250),
        }
    }
}

impl HookTimeouts {
    fn backoff(self) -> Backoff {
        Backoff::new(self.first_wait, self.longest_wait)
    }
}

/// The pipelines of this node, shared by everything that runs them. When the last copy is dropped, the processes end.
#[derive(Clone, Debug)]
pub struct Hooks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pipelines: Vec<(HookStage, Pipeline)>,
    /// Whom https trusts besides the host's roots.
    ca_file: Option<PathBuf>,
    life: HookLifetime,
    _end: DropGuard,
}

/// What the parts of the hooks share: how they are ended, and who waits for them.
#[derive(Clone, Debug)]
struct HookLifetime {
    stop: CancellationToken,
    tasks: TaskTracker,
    patience: HookTimeouts,
}

#[derive(Debug)]
struct Pipeline {
    /// For each step.
    limit: Duration,
    steps: Vec<(String, Runner)>,
}

#[derive(Debug)]
enum Runner {
    LongLived(WorkerPool),
    OneShot(ChildSpec),
    HttpRequest(HookUrl),
}

/// What can be seen of a pipeline while it runs.
#[derive(Debug)]
pub enum StepReport<'a> {
    /// A step gets its input. `number`: from 1.
    Begins { number: usize, step: &'a str, input: &'a Object },
    /// It has answered: `Err`: what it put out is dropped, and its input goes on.
    Answered { number: usize, answer: Result<&'a Object, &'a NoAnswer>, took: Duration },
    /// It has failed, and with it the stage.
    Failed { number: usize, failure: &'a HookFailure, took: Duration },
}

/// How a step ended that was neither answered nor dropped.
enum StepFailure {
    Stopped,
    Failed(HookFailure),
}

impl From<HookFailure> for StepFailure {
    fn from(failure: HookFailure) -> Self {
        Self::Failed(failure)
    }
}

/// What became of a step.
type StepResult = Result<Result<Object, NoAnswer>, StepFailure>;

impl Hooks {
    /// Starts the processes of `stages` in the background; must be called within a runtime.
    #[must_use]
    pub fn start(config: &HooksConfig, stages: &[HookStage]) -> Self {
        Self::start_with(config, stages, HookTimeouts::default())
    }

    /// [`Self::start`] with other waits.
    #[must_use]
    pub fn start_with(config: &HooksConfig, stages: &[HookStage], patience: HookTimeouts) -> Self {
        let life = HookLifetime { stop: CancellationToken::new(), tasks: TaskTracker::new(), patience };
        let pipelines =
            stages.iter().map(|stage| (*stage, Pipeline::start(*stage, config.stage(*stage), &life))).collect();
        let ca_file = config.ca_file.clone();
        Self(Arc::new(Inner { pipelines, ca_file, _end: life.stop.clone().drop_guard(), life }))
    }

    /// Whether nothing is to be run at this stage (on this node).
    #[must_use]
    pub fn is_empty(&self, stage: HookStage) -> bool {
        self.pipeline(stage).is_none_or(|pipeline| pipeline.steps.is_empty())
    }

    /// Runs the pipeline of `stage`; without steps, `payload` comes back. `cancel` ends the wait at once.
    ///
    /// # Errors
    /// Where a step failed, or `cancel` or [`Self::shutdown`] came first.
    pub async fn run(
        &self,
        stage: HookStage,
        payload: HookPayload,
        cancel: &CancellationToken,
    ) -> Result<HookPayload, HookError> {
        self.run_seen(stage, payload, cancel, &mut |_| {}).await
    }

    /// [`Self::run`] with somebody who looks on.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_seen(
        &self,
        stage: HookStage,
        payload: HookPayload,
        cancel: &CancellationToken,
        see: &mut (dyn FnMut(StepReport<'_>) + Send),
    ) -> Result<HookPayload, HookError> {
        let Some(pipeline) = self.pipeline(stage) else { return Ok(payload) };
        let mut given = payload.to_object();
        for (index, (name, runner)) in pipeline.steps.iter().enumerate() {
            let number = index + 1;
            see(StepReport::Begins { number, step: name, input: &given });
            let started = Instant::now();
            let span = tracing::info_span!("hook", %stage, step = number, script = %name);
            let outcome = self.step(pipeline, runner, &given, cancel).instrument(span.clone()).await;
            let took = started.elapsed();
            let _in_span = span.enter();
            let failure = match outcome {
                Err(StepFailure::Stopped) => {
                    tracing::warn!("stopped before it answered: the program is shutting down");
                    return Err(HookError::Stopped { stage });
                }
                Err(StepFailure::Failed(failure)) => failure,
                Ok(Err(none)) => {
                    see(StepReport::Answered { number, answer: Err(&none), took });
                    dropped(&none);
                    continue;
                }
                Ok(Ok(answer)) => {
                    see(StepReport::Answered { number, answer: Ok(&answer), took });
                    match payload::lay_over(given.clone(), answer) {
                        Ok(over) => {
                            tracing::debug!(seconds = crate::telemetry::seconds(took), "answered");
                            given = over;
                            continue;
                        }
                        Err(refused) => refused.into(),
                    }
                }
            };
            see(StepReport::Failed { number, failure: &failure, took });
            return Err(HookError::Failed { stage, number, script: name.clone(), failure });
        }
        Ok(payload.with(&given))
    }

    async fn step(
        &self,
        pipeline: &Pipeline,
        runner: &Runner,
        given: &Object,
        cancel: &CancellationToken,
    ) -> StepResult {
        let stop = &self.0.life.stop;
        let ended = async {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = stop.cancelled() => {}
            }
        };
        let outcome = match runner {
            Runner::OneShot(spec) => one_shot::run(spec, given, pipeline.limit, &self.0.life, ended).await,
            Runner::LongLived(pool) => tokio::select! {
                outcome = pool.ask(given.clone()) => outcome,
                () = ended => Err(StepFailure::Stopped),
            },
            Runner::HttpRequest(url) => tokio::select! {
                outcome = http_request::post(url, self.0.ca_file.as_deref(), given, pipeline.limit) => outcome.map_err(StepFailure::Failed),
                () = ended => Err(StepFailure::Stopped),
            },
        };
        outcome.map(|answer| match answer {
            Ok(answer) if payload::names_another(given, &answer) => Err(NoAnswer::another(&answer)),
            answer => answer,
        })
    }

    fn pipeline(&self, stage: HookStage) -> Option<&Pipeline> {
        self.0.pipelines.iter().find(|(of, _)| *of == stage).map(|(_, pipeline)| pipeline)
    }

    /// Ends every process (SIGTERM, 10 s, SIGKILL) and every run; back when all are reaped.
    pub async fn shutdown(&self) {
        let life = &self.0.life;
        life.stop.cancel();
        life.tasks.close();
        life.tasks.wait().await;
    }
}

fn dropped(none: &NoAnswer) {
    if *none == NoAnswer::Nothing {
        tracing::debug!("it put out nothing: what it was given goes on");
    } else {
        tracing::warn!("{none}; dropped, what it was given goes on");
    }
}

impl Pipeline {
    fn start(stage: HookStage, config: &StageConfig, life: &HookLifetime) -> Self {
        let steps = config.steps.iter().enumerate().map(|(index, step)| {
            let runner = match step {
                HookStep::HttpRequest { url } => Runner::HttpRequest(url.clone()),
                HookStep::Script { command, one_shot: true } => Runner::OneShot(spec(command)),
                HookStep::Script { command, one_shot: false } => {
                    let span = tracing::info_span!("hook", %stage, step = index + 1, script = %name(step));
                    Runner::LongLived(WorkerPool::start(spec(command), config.pool_size, config.timeout, life, &span))
                }
            };
            (name(step), runner)
        });
        Self { limit: config.timeout, steps: steps.collect() }
    }
}

/// What a step is called: arguments may hold secrets.
#[must_use]
pub fn name(step: &HookStep) -> String {
    match step {
        HookStep::Script { command, .. } => command.first().cloned().unwrap_or_default(),
        HookStep::HttpRequest { url } => format!("http-request {url}"),
    }
}

/// A script as a child that is spoken with.
fn spec(command: &[String]) -> ChildSpec {
    let program = PathBuf::from(command.first().map_or("", String::as_str));
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let mut spec = ChildSpec::new(name, program).args(command.iter().skip(1));
    (spec.pipe_stdin, spec.pipe_stdout) = (true, true);
    spec
}

/// A script that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookProblem {
    pub stage: HookStage,
    pub script: String,
    pub why: &'static str,
}

impl std::fmt::Display for HookProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "hooks.{}: script {}: {}", self.stage, self.script, self.why)
    }
}

/// What is wrong with the scripts of `stages`, for the start of the program.
#[must_use]
pub fn check(config: &HooksConfig, stages: &[HookStage]) -> Vec<HookProblem> {
    let scripts = stages.iter().flat_map(|stage| config.stage(*stage).steps.iter().map(|step| (*stage, step)));
    let problem = |(stage, step): (HookStage, &HookStep)| {
        let HookStep::Script { command, .. } = step else { return None };
        let script = command.first()?;
        let why = super::why_not_runnable(script.as_ref())?;
        Some(HookProblem { stage, script: script.clone(), why })
    };
    scripts.filter_map(problem).collect()
}
