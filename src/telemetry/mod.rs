//! The log: `tracing` events as lines of text or JSON, to standard output and a log file.
//!
//! In: events. Out: lines without secrets. Every line goes through `sink`, which masks secrets ([`redact`]); logging
//! never waits for an output.

mod format;
pub mod log_throttle;
pub mod metrics;
mod queue;
pub mod recent;
pub mod redact;
mod rotate;
mod sink;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterFn, Targets};
use tracing_subscriber::fmt::format::{DefaultFields, JsonFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::codes;
use crate::config::{LogConfig, LogFormat};

use format::{JsonFormat, TextFormat, is_own};
use queue::LogQueue;
use rotate::{Limits, RotatingFile};
use sink::Sink;

/// Libraries that log too much, with their maximum level without `recorder.debug`.
const LIBRARY_LIMITS: [(&str, LevelFilter); 8] = [
    // The program reports the important events of these two itself. chromiumoxide logs each unknown message of a newer
    // Chrome and each closed connection as an error, async_nats each refused token at each attempt.
    ("chromiumoxide", LevelFilter::OFF),
    ("async_nats", LevelFilter::OFF),
    ("hyper", LevelFilter::WARN),
    ("hyper_util", LevelFilter::WARN),
    ("reqwest", LevelFilter::WARN),
    ("rustls", LevelFilter::WARN),
    ("tokio_tungstenite", LevelFilter::WARN),
    ("tungstenite", LevelFilter::WARN),
];

/// How long a panic waits until its line is written, because the process may end at once.
const PANIC_LIMIT: Duration = Duration::from_millis(100);

/// Keeps the log open. Dropping it at the end of the program syncs all lines to disk. This takes at most a second, even
/// where standard output is blocked.
#[derive(Debug)]
#[must_use = "the log is only sure to be on the disk once the guard was dropped"]
pub struct LogGuard {
    queues: Vec<LogQueue>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // Losses are reported while all outputs are open, because a blocked output cannot report its own.
        self.queues.iter_mut().for_each(LogQueue::finish);
        self.queues.drain(..).for_each(LogQueue::close);
    }
}

/// Opens the log of the process; panics are logged from then on. `debug` (`recorder.debug`) logs events of libraries as
/// well.
///
/// # Errors
/// Where the log file or its directory cannot be created or opened, or the log is already open.
pub fn init(config: &LogConfig, debug: bool) -> anyhow::Result<LogGuard> {
    let file = config
        .file
        .as_deref()
        .map(|path| {
            let limits = Limits { size: config.max_size, backups: config.max_backups, age: config.max_age };
            RotatingFile::open(path, limits).with_context(|| format!("cannot open the log file {}", path.display()))
        })
        .transpose()?;
    // A duplicate of standard output, because a blocked write would hold the lock of `std::io::stdout` for ever.
    let stdout = config.stdout.then(|| io::stdout().as_fd().try_clone_to_owned().map(File::from)).transpose();
    let (sink, guard) = open(stdout.context("cannot open standard output")?, file);
    tracing::subscriber::set_global_default(subscriber(config.format, config.level, debug, sink))
        .context("the log was opened before")?;
    let states: Vec<_> = guard.queues.iter().map(LogQueue::state).collect();
    watch(states.clone()).context("no thread for the log can be started")?;
    std::panic::set_hook(Box::new(move |panic| {
        log_panic(panic);
        for state in &states {
            state.wait_until_written(PANIC_LIMIT);
        }
    }));
    Ok(guard)
}

/// Has each output that stands still reported by the other one, as it cannot report it itself.
fn watch(states: Vec<Arc<queue::State>>) -> io::Result<()> {
    if states.len() < 2 {
        return Ok(());
    }
    let look = move || loop {
        std::thread::sleep(queue::REPORT_EVERY);
        for state in &states {
            state.watch(queue::STILL_AFTER);
        }
    };
    std::thread::Builder::new().name("log-watch".to_owned()).spawn(look).map(drop)
}

fn open(stdout: Option<impl io::Write + Send + 'static>, file: Option<RotatingFile>) -> (Sink, LogGuard) {
    let stdout = stdout.map(|stdout| queue::start("standard output", stdout, queue::LINES));
    let file = file.map(|file| queue::start("the log file", file, queue::LINES));
    let (inputs, queues): (Vec<_>, _) = stdout.into_iter().chain(file).unzip();
    (Sink::new(inputs.into_iter().map(|input| Box::new(input) as _).collect()), LogGuard { queues })
}

/// Opens the log on standard error for an operator's command: text, from `level` up.
///
/// # Errors
/// Where the log is already open.
pub fn init_console(level: Level) -> anyhow::Result<()> {
    let sink = Sink::new(vec![Box::new(io::stderr())]);
    tracing::subscriber::set_global_default(subscriber(LogFormat::Text, level, false, sink))
        .context("the log was opened before")
}

fn subscriber(format: LogFormat, level: Level, debug: bool, sink: Sink) -> impl Subscriber + Send + Sync {
    let layer = fmt::layer().with_ansi(false).with_writer(sink);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => layer.fmt_fields(DefaultFields::new()).event_format(TextFormat).boxed(),
        LogFormat::Json => layer.fmt_fields(JsonFields::new()).event_format(JsonFormat).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter(level, debug)))
}

fn filter(level: Level, debug: bool) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    let level = LevelFilter::from_level(level);
    let level = if debug { level.max(LevelFilter::DEBUG) } else { level };
    let limits = LIBRARY_LIMITS.map(|(target, limit)| (target, if debug { level } else { level.min(limit) }));
    let targets = Targets::new().with_default(level).with_targets(limits);
    FilterFn::new(move |metadata| {
        // Own spans are always enabled: they name the recording in lines of any level.
        (metadata.is_span() && is_own(metadata.target())) || targets.would_enable(metadata.target(), metadata.level())
    })
}

/// Seconds rounded to two decimals, for log fields.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}

/// Logs a panic within the span in which it happened.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    if Sink::is_writing() {
        // The log itself has panicked: this thread holds its lock and would deadlock.
        let text = format!("plugnmeet-recorder: panic while logging: {message} ({location})");
        let _ = writeln!(io::stderr(), "{}", redact::scrub(&text));
        return;
    }
    let current = std::thread::current();
    let thread = current.name().unwrap_or("unnamed");
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        tracing::error!(code = %codes::PANIC, thread, location, %backtrace, "panic: {message}");
    } else {
        tracing::error!(code = %codes::PANIC, thread, location, "panic: {message}");
    }
}

#[cfg(test)]
mod tests;
