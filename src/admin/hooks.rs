//! `hooks test`: runs the pipeline of a stage and shows the input and output of each step.
//!
//! The scripts are started in processes of their own, apart from a running daemon's; their answers have no effect.

use std::io::Write;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Level;

use crate::admin::error::AdminError;
use crate::admin::output::print;
use crate::admin::sample_payload::{self, SamplePayload};
use crate::codes;
use crate::config::{Config, HookStage, HookStep};
use crate::protocol::ids::RecordingId;
use crate::scripts::hooks::{self, HookError, Hooks, StepReport};
use crate::telemetry::{self, redact, seconds};

/// What the recorder would do and this command does not.
const NOTHING_MORE: &str = "the scripts really run; nothing is sent, moved or cleaned up with what they answer";

/// Runs the stage; returns whether it succeeded.
///
/// # Errors
/// Where there is no such recording, the scripts cannot be started, or writing to `out` fails.
pub fn test(
    config: &Config,
    stage: HookStage,
    id: Option<&RecordingId>,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<bool, AdminError> {
    let _secrets: Vec<_> = config.secrets().into_iter().map(redact::register).collect();
    let data = sample_payload::find(config, stage, id)?;
    let level = if config.recorder.debug { Level::DEBUG } else { Level::INFO };
    telemetry::init_console(level).map_err(|error| AdminError::Start(format!("{error:#}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| AdminError::Start(error.to_string()))?;
    runtime.block_on(run(config, stage, data, json, out))
}

async fn run(
    config: &Config,
    stage: HookStage,
    data: SamplePayload,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<bool, AdminError> {
    let steps = &config.hooks.stage(stage).steps;
    let mut show = ShownSteps { json, steps, out, failed: None };
    show.head(stage, &data, config);
    let cancel = CancellationToken::new();
    let interrupted = tokio::spawn(on_signal(cancel.clone()));
    let hooks = Hooks::start(&config.hooks, &[stage]);
    let ended = hooks.run_observed(stage, data.payload, &cancel, &mut |seen| show.step(&seen)).await;
    hooks.shutdown().await;
    interrupted.abort();
    show.end(stage, &ended);
    show.failed.map_or(Ok(ended.is_ok()), Err)
}

async fn on_signal(cancel: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    cancel.cancel();
}

struct ShownSteps<'a> {
    json: bool,
    steps: &'a [HookStep],
    out: &'a mut (dyn Write + Send),
    /// The first error of `out`; the scripts run on.
    failed: Option<AdminError>,
}

impl ShownSteps<'_> {
    /// Prints `text` for an operator, or `value` for a program.
    fn say(&mut self, text: &str, value: &Value) {
        let line = if self.json { value.to_string() } else { text.to_owned() };
        let line = format!("{}\n", redact::scrub(&line));
        if let Err(error) = print(self.out, &line) {
            self.failed.get_or_insert(error);
        }
    }

    fn head(&mut self, stage: HookStage, data: &SamplePayload, config: &Config) {
        let count = self.steps.len();
        let limit = humantime::format_duration(config.hooks.stage(stage).timeout);
        let text =
            format!("hooks.{stage}: {count} step(s), each at most {limit}; {NOTHING_MORE}\ndata: {}\n", data.origin);
        let steps: Vec<_> = self.steps.iter().map(hooks::name).collect();
        self.say(&text, &json!({"stage": stage.as_str(), "steps": steps, "data": data.origin, "note": NOTHING_MORE}));
    }

    fn step(&mut self, seen: &StepReport<'_>) {
        match seen {
            StepReport::Begins { number, step, input } => {
                let kind = match self.steps.get(number - 1) {
                    Some(HookStep::Script { one_shot: true, .. }) => "one-shot script",
                    Some(HookStep::Script { one_shot: false, .. }) => "long-lived script",
                    _ => "built in",
                };
                let text = format!("step {number}: {step} ({kind})\n  input   {}", compact(input));
                self.say(&text, &json!({"step": number, "script": step, "kind": kind, "input": input}));
            }
            StepReport::Answered { number, answer: Ok(output), took } => {
                let text = format!("  output  {}\n  took    {} s\n", compact(output), seconds(*took));
                self.say(&text, &json!({"step": number, "output": output, "took_s": seconds(*took)}));
            }
            StepReport::Answered { number, answer: Err(none), took } => {
                let none = none.to_string();
                let text = format!("  output  none: {none}; its input goes on\n  took    {} s\n", seconds(*took));
                self.say(&text, &json!({"step": number, "output": null, "why": none, "took_s": seconds(*took)}));
            }
            StepReport::Failed { number, failure, took } => {
                let failure = failure.to_string();
                let text = format!("  failed  {failure}\n  took    {} s\n", seconds(*took));
                self.say(&text, &json!({"step": number, "failed": failure, "took_s": seconds(*took)}));
            }
        }
    }

    fn end(&mut self, stage: HookStage, ended: &Result<hooks::payload::HookPayload, HookError>) {
        match ended {
            Ok(payload) => {
                let result = payload.to_object();
                let empty = if self.steps.is_empty() { " (it has no steps)" } else { "" };
                let text = format!("the stage would succeed{empty}, with\n  {}", compact(&result));
                self.say(&text, &json!({"stage": stage.as_str(), "success": true, "result": result}));
            }
            Err(error) => {
                let (error, code) = (error.to_string(), codes::HOOKS_FAIL);
                let object = json!({
                    "stage": stage.as_str(), "success": false, "code": code.to_string(), "error": error
                });
                self.say(&format!("the stage would fail: {error} [{code}]"), &object);
            }
        }
    }
}

fn compact(object: &hooks::payload::Object) -> String {
    serde_json::to_string(object).unwrap_or_default()
}
