//! Hooks: pipelines of an operator's programs at three stages of a recording (PROTOCOL 7).
//!
//! A pipeline passes a JSON object from step to step ([`payload`]). A step is a long-lived script, of which `pool_size`
//! processes wait for requests ([`pool`], [`worker`]), a one-shot script ([`one_shot`]), or an HTTP request
//! ([`http_request`]). Output that is no answer is dropped with a warning; a failed step fails the stage. Only
//! [`cleanup`] removes files at a hook's request.

pub mod answer;
pub mod cleanup;
mod failure;
mod http_request;
mod lifetime;
mod lines;
mod one_shot;
pub mod payload;
mod pool;
mod step_result;
pub mod store_answer;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::codes;
use crate::config::{HookStage, HookStep, HookUrl, HooksConfig, StageConfig};
use crate::process::child::ChildSpec;
use crate::process::output::OutputBudget;

use answer::NoAnswer;

pub use failure::{HookError, HookFailure};
use lifetime::HookLifetime;
pub use lifetime::HookTimeouts;
use payload::{HookPayload, Object};
use pool::WorkerPool;
use step_result::{StepFailure, StepResult};

/// The pipelines of this node; clones share them. When the last clone is dropped, their processes end.
#[derive(Clone, Debug)]
pub struct Hooks(Arc<SharedHooks>);

#[derive(Debug)]
struct SharedHooks {
    pipelines: Vec<(HookStage, Pipeline)>,
    /// The CA file that https trusts besides the host's roots.
    ca_file: Option<PathBuf>,
    lifetime: HookLifetime,
    _end: DropGuard,
}

#[derive(Debug)]
struct Pipeline {
    /// The time limit of each step.
    limit: Duration,
    steps: Vec<(String, Runner)>,
}

#[derive(Debug)]
enum Runner {
    LongLived(WorkerPool),
    OneShot(ChildSpec),
    HttpRequest(HookUrl),
}

/// A report on a step of a running pipeline.
#[derive(Debug)]
pub enum StepReport<'a> {
    /// The step gets its input. `number` counts from 1.
    Begins { number: usize, step: &'a str, input: &'a Object },
    /// The step has ended. `Err`: its output is dropped, and its input goes to the next step.
    Answered { number: usize, answer: Result<&'a Object, &'a NoAnswer>, took: Duration },
    /// The step has failed, and with it the stage.
    Failed { number: usize, failure: &'a HookFailure, took: Duration },
}

impl Hooks {
    /// Starts the processes of `stages` in the background; must be called within a runtime.
    #[must_use]
    pub fn start(config: &HooksConfig, stages: &[HookStage]) -> Self {
        Self::start_with(config, stages, HookTimeouts::default())
    }

    /// [`Self::start`] with other time limits.
    #[must_use]
    pub fn start_with(config: &HooksConfig, stages: &[HookStage], timeouts: HookTimeouts) -> Self {
        let lifetime = HookLifetime { stop: CancellationToken::new(), tasks: TaskTracker::new(), timeouts };
        let pipelines =
            stages.iter().map(|stage| (*stage, Pipeline::start(*stage, config.stage(*stage), &lifetime))).collect();
        let ca_file = config.ca_file.clone();
        Self(Arc::new(SharedHooks { pipelines, ca_file, _end: lifetime.stop.clone().drop_guard(), lifetime }))
    }

    /// Whether this node has no steps at this stage.
    #[must_use]
    pub fn is_empty(&self, stage: HookStage) -> bool {
        self.pipeline(stage).is_none_or(|pipeline| pipeline.steps.is_empty())
    }

    /// Runs the pipeline of `stage`; without steps, `payload` is returned. `cancel` stops it at once.
    ///
    /// # Errors
    /// Where a step failed, or `cancel` or [`Self::shutdown`] came first.
    pub async fn run(
        &self,
        stage: HookStage,
        payload: HookPayload,
        cancel: &CancellationToken,
    ) -> Result<HookPayload, HookError> {
        self.run_observed(stage, payload, cancel, &mut |_| {}).await
    }

    /// [`Self::run`], with a report on each step to `observe`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_observed(
        &self,
        stage: HookStage,
        payload: HookPayload,
        cancel: &CancellationToken,
        observe: &mut (dyn FnMut(StepReport<'_>) + Send),
    ) -> Result<HookPayload, HookError> {
        let Some(pipeline) = self.pipeline(stage) else { return Ok(payload) };
        let mut input = payload.to_object();
        for (index, (name, runner)) in pipeline.steps.iter().enumerate() {
            let number = index + 1;
            observe(StepReport::Begins { number, step: name, input: &input });
            let started = Instant::now();
            let span = tracing::info_span!("hook", %stage, step = number, script = %name);
            let outcome = self.step(pipeline, runner, &input, cancel).instrument(span.clone()).await;
            let took = started.elapsed();
            let _in_span = span.enter();
            let failure = match outcome {
                Err(StepFailure::Stopped) => {
                    tracing::warn!(
                        code = %codes::HOOK_STOPPED,
                        "stopped before it answered: the program is shutting down"
                    );
                    return Err(HookError::Stopped { stage });
                }
                Err(StepFailure::Failed(failure)) => failure,
                Ok(Err(none)) => {
                    observe(StepReport::Answered { number, answer: Err(&none), took });
                    log_no_answer(&none);
                    continue;
                }
                Ok(Ok(answer)) => {
                    observe(StepReport::Answered { number, answer: Ok(&answer), took });
                    match payload::apply_answer(input.clone(), answer) {
                        Ok(merged) => {
                            tracing::debug!(seconds = crate::telemetry::seconds(took), "answered");
                            input = merged;
                            continue;
                        }
                        Err(refused) => refused.into(),
                    }
                }
            };
            observe(StepReport::Failed { number, failure: &failure, took });
            return Err(HookError::Failed { stage, number, script: name.clone(), failure });
        }
        Ok(payload.with(&input))
    }

    async fn step(
        &self,
        pipeline: &Pipeline,
        runner: &Runner,
        input: &Object,
        cancel: &CancellationToken,
    ) -> StepResult {
        let stop = &self.0.lifetime.stop;
        let ended = async {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = stop.cancelled() => {}
            }
        };
        let outcome = match runner {
            Runner::OneShot(spec) => one_shot::run(spec, input, pipeline.limit, &self.0.lifetime, ended).await,
            Runner::LongLived(pool) => tokio::select! {
                outcome = pool.ask(input.clone()) => outcome,
                () = ended => Err(StepFailure::Stopped),
            },
            Runner::HttpRequest(url) => tokio::select! {
                outcome = http_request::post(url, self.0.ca_file.as_deref(), input, pipeline.limit) => outcome.map_err(StepFailure::Failed),
                () = ended => Err(StepFailure::Stopped),
            },
        };
        outcome.map(|answer| match answer {
            Ok(answer) if payload::names_other_recording(input, &answer) => Err(NoAnswer::other_recording(&answer)),
            answer => answer,
        })
    }

    fn pipeline(&self, stage: HookStage) -> Option<&Pipeline> {
        self.0.pipelines.iter().find(|(of, _)| *of == stage).map(|(_, pipeline)| pipeline)
    }

    /// Ends every process (SIGTERM, 10 s, SIGKILL) and every run; returns when all processes are reaped.
    pub async fn shutdown(&self) {
        let lifetime = &self.0.lifetime;
        lifetime.stop.cancel();
        lifetime.tasks.close();
        lifetime.tasks.wait().await;
    }
}

fn log_no_answer(none: &NoAnswer) {
    if *none == NoAnswer::Nothing {
        tracing::debug!("it put out nothing: what it was given goes on");
    } else {
        tracing::warn!(code = %codes::HOOK_NO_ANSWER, "{none}; dropped, what it was given goes on");
    }
}

impl Pipeline {
    fn start(stage: HookStage, config: &StageConfig, lifetime: &HookLifetime) -> Self {
        let steps = config.steps.iter().enumerate().map(|(index, step)| {
            let runner = match step {
                HookStep::HttpRequest { url } => Runner::HttpRequest(url.clone()),
                HookStep::Script { command, one_shot: true } => Runner::OneShot(spec(command)),
                HookStep::Script { command, one_shot: false } => {
                    let span = tracing::info_span!("hook", %stage, step = index + 1, script = %name(step));
                    Runner::LongLived(WorkerPool::start(
                        spec(command),
                        config.pool_size,
                        config.timeout,
                        lifetime,
                        &span,
                    ))
                }
            };
            (name(step), runner)
        });
        Self { limit: config.timeout, steps: steps.collect() }
    }
}

/// A step's name, without arguments, which may hold secrets.
#[must_use]
pub fn name(step: &HookStep) -> String {
    match step {
        HookStep::Script { command, .. } => command.first().cloned().unwrap_or_default(),
        HookStep::HttpRequest { url } => format!("http-request {url}"),
    }
}

/// A script as a child process with pipes.
fn spec(command: &[String]) -> ChildSpec {
    let program = PathBuf::from(command.first().map_or("", String::as_str));
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let mut spec = ChildSpec::new(name, program).args(command.iter().skip(1));
    (spec.pipe_stdin, spec.pipe_stdout) = (true, true);
    spec.log_budget = OutputBudget::of_script(&command.join(" "));
    spec
}

/// A script that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hooks.{}: script {}: {}", .stage, .script, .why)]
pub struct HookProblem {
    pub stage: HookStage,
    pub script: String,
    pub why: String,
}

/// The scripts of `stages` that cannot be run, for the start of the program.
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
