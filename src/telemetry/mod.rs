//! What the program tells about itself: `tracing` events as lines of text or JSON, to standard output and a log file.
//!
//! A line may leave the program only through `sink`, which masks secrets ([`redact`]).

mod format;
pub mod log_throttle;
mod queue;
pub mod redact;
mod rotate;
mod sink;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::Context as _;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{FilterFn, Targets};
use tracing_subscriber::fmt::format::{DefaultFields, JsonFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{LogConfig, LogFormat, LogLevel};
use queue::Queue;
use rotate::{Limits, RotatingFile};
use sink::Sink;

/// The targets of this program's own events and spans begin with it.
const OWN: &str = "plugnmeet_recorder";

/// Libraries that say too much, and the level above which they are heard unless everything is asked for.
const DAMPED: [(&str, LevelFilter); 8] = [
    // What matters of these two the program says in its own words; the one reports each message of a newer Chrome and
    // each closed connection as an error, the other each refused token at each try.
    ("chromiumoxide", LevelFilter::OFF),
    ("async_nats", LevelFilter::OFF),
    ("hyper", LevelFilter::WARN),
    ("hyper_util", LevelFilter::WARN),
    ("reqwest", LevelFilter::WARN),
    ("rustls", LevelFilter::WARN),
    ("tokio_tungstenite", LevelFilter::WARN),
    ("tungstenite", LevelFilter::WARN),
];

/// How long a panic waits until its line is written: the process may be gone in a moment.
const PANIC_LIMIT: Duration = Duration::from_millis(100);

/// Keeps the log open. Dropped at the very end, it makes sure that every line is on the disk, where that takes a second at
/// most: a standard output that stands still keeps no process from ending.
#[derive(Debug)]
#[must_use = "the log is only sure to be on the disk once the guard was dropped"]
pub struct LogGuard {
    /// The log file comes last, so that it tells what others have lost.
    queues: Vec<Queue>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.queues.drain(..).for_each(Queue::close);
    }
}

/// Opens the log for the whole process, and from then on also logs panics. `debug` (`recorder.debug`) lets the
/// libraries have their say as well.
///
/// # Errors
/// Where the log file or its directory cannot be made or opened, or where this was called before.
pub fn init(config: &LogConfig, debug: bool) -> anyhow::Result<LogGuard> {
    let file = config
        .file
        .as_deref()
        .map(|path| {
            let limits = Limits { size: config.max_size, backups: config.max_backups, age: config.max_age };
            RotatingFile::open(path, limits).with_context(|| format!("cannot open the log file {}", path.display()))
        })
        .transpose()?;
    // Not by `std::io::stdout`, whose lock would be held by a write that does not end.
    let stdout = config.stdout.then(|| io::stdout().as_fd().try_clone_to_owned().map(File::from)).transpose();
    let (sink, guard) = open(stdout.context("cannot open standard output")?, file);
    tracing::subscriber::set_global_default(subscriber(config, debug, sink)).context("the log was opened before")?;
    let states: Vec<_> = guard.queues.iter().map(Queue::state).collect();
    std::panic::set_hook(Box::new(move |panic| {
        log_panic(panic);
        for state in &states {
            state.settle(PANIC_LIMIT);
        }
    }));
    Ok(guard)
}

fn open(stdout: Option<impl io::Write + Send + 'static>, file: Option<RotatingFile>) -> (Sink, LogGuard) {
    let stdout = stdout.map(|stdout| queue::start("standard output", stdout, queue::LINES));
    let file = file.map(|file| queue::start("the log file", file, queue::LINES));
    let (inputs, queues): (Vec<_>, _) = stdout.into_iter().chain(file).unzip();
    (Sink::new(inputs.into_iter().map(|input| Box::new(input) as _).collect()), LogGuard { queues })
}

/// Opens the log on standard error, for a command that an operator looks at: text, from `level` up.
///
/// # Errors
/// Where this or [`init`] was called before.
pub fn init_console(level: LogLevel) -> anyhow::Result<()> {
    let config = LogConfig {
        file: None,
        stdout: false,
        max_size: u64::MAX,
        max_backups: 0,
        max_age: Duration::MAX,
        level,
        format: LogFormat::Text,
    };
    let sink = Sink::new(vec![Box::new(io::stderr())]);
    tracing::subscriber::set_global_default(subscriber(&config, false, sink)).context("the log was opened before")
}

fn subscriber(config: &LogConfig, debug: bool, sink: Sink) -> impl Subscriber + Send + Sync {
    let layer = fmt::layer().with_ansi(false).with_writer(sink);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
        LogFormat::Text => layer.fmt_fields(DefaultFields::new()).event_format(format::TextFormat).boxed(),
        LogFormat::Json => layer.fmt_fields(JsonFields::new()).event_format(format::JsonFormat).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter(config.level, debug)))
}

fn filter(level: LogLevel, debug: bool) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    let level = match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let level = if debug { level.max(LevelFilter::DEBUG) } else { level };
    let damped = DAMPED.map(|(target, damped)| (target, if debug { level } else { level.min(damped) }));
    let targets = Targets::new().with_default(level).with_targets(damped);
    FilterFn::new(move |metadata| {
        // A span of ours is no line of its own; it names the recording in the lines of whatever level.
        (metadata.is_span() && is_own(metadata.target())) || targets.would_enable(metadata.target(), metadata.level())
    })
}

fn is_own(target: &str) -> bool {
    target.strip_prefix(OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Seconds with two decimals, for a field of a line.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}

/// A panic as a line of the log, with the span it happened in.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    if Sink::is_writing() {
        // The log itself broke: this thread holds it, and would wait for itself for ever.
        let text = format!("plugnmeet-recorder: panic while logging: {message} ({location})");
        let _ = writeln!(io::stderr(), "{}", redact::scrub(&text));
        return;
    }
    let current = std::thread::current();
    let thread = current.name().unwrap_or("unnamed");
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        tracing::error!(thread, location, %backtrace, "panic: {message}");
    } else {
        tracing::error!(thread, location, "panic: {message}");
    }
}

#[cfg(test)]
mod tests;
