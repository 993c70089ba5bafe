//! Tests of the log as a whole: events in, lines out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::*;

/// Standard output of a test.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn config(format: LogFormat, level: Level) -> LogConfig {
    LogConfig {
        file: None,
        stdout: true,
        max_size: 4096,
        max_backups: 1000,
        max_age: Duration::from_secs(3600),
        level,
        format,
    }
}

/// The lines that `log` causes.
fn logged(config: &LogConfig, debug: bool, log: impl FnOnce()) -> Vec<String> {
    let capture = Capture::default();
    let (sink, guard) = open(Some(capture.clone()), None);
    tracing::subscriber::with_default(subscriber(config.format, config.level, debug, sink), log);
    drop(guard);
    capture.lines()
}

fn recording_span() -> tracing::Span {
    tracing::info_span!("recording", recording_id = %"rec-1", room_id = %"room-1", task = "recording")
}

#[test]
fn a_line_of_text_names_time_level_recording_and_message() {
    let lines = logged(&config(LogFormat::Text, Level::INFO), false, || {
        let _span = recording_span().entered();
        tracing::warn!(code = %crate::codes::FRAMES_LOST, dropped = 3, "the encoder is slow");
        tracing::debug!("not asked for");
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (time, rest) = lines[0].split_once(' ').unwrap();
    assert!(humantime::parse_rfc3339(time).is_ok() && time.len() == "2026-08-01T10:00:00.042Z".len(), "{time}");
    let expected = " WARN PNR-0319 recording{recording_id=rec-1 room_id=room-1 task=\"recording\"}: \
                    the encoder is slow dropped=3";
    assert_eq!(rest, expected);
}

#[test]
fn a_line_of_json_has_the_recording_at_the_top_level() {
    let lines = logged(&config(LogFormat::Json, Level::INFO), false, || {
        let _span = recording_span().entered();
        let _inner = tracing::info_span!("part", part = 2, task = "inner", level = "x").entered();
        tracing::info!(size = 1.5, ok = true, error = %"no \"disk\"\n", task = "event", "done");
    });
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["recording_id"], "rec-1");
    assert_eq!(line["room_id"], "room-1");
    assert_eq!(line["task"], "event", "the innermost wins");
    assert_eq!((&line["level"], &line["level_"]), (&"info".into(), &"x".into()));
    assert_eq!((&line["part"], &line["size"], &line["ok"]), (&2.into(), &1.5.into(), &true.into()));
    assert_eq!((&line["message"], &line["error"]), (&"done".into(), &"no \"disk\"\n".into()));
    assert!(lines[0].starts_with("{\"timestamp\":\""), "{}", lines[0]);
    assert!(line.get("code").is_none(), "{line}");
}

#[test]
fn a_line_of_json_has_the_code_beside_the_level() {
    let lines = logged(&config(LogFormat::Json, Level::INFO), false, || {
        tracing::error!(code = %crate::codes::DISK_FULL, left = 1, "the disk is full");
        tracing::warn!(target: "rustls", code = 7, "slow consumer");
        tracing::info!(target: "rustls", "not a warning");
    });
    let lines: Vec<&str> = lines.iter().map(|line| line.split_once(",\"level\":").unwrap().1).collect();
    assert_eq!(
        lines[0],
        "\"error\",\"code\":\"PNR-0907\",\"message\":\"the disk is full\",\
         \"target\":\"plugnmeet_recorder::telemetry::tests\",\"left\":1}"
    );
    assert!(lines[1].starts_with("\"warn\",\"code\":\"PNR-1001\""), "{lines:?}");
    assert!(lines[1].contains("\"code_\":7"), "{lines:?}");
    assert!(lines.len() == 2, "{lines:?}");
}

#[test]
fn the_recording_is_named_whatever_the_level() {
    for (level, format) in [(Level::ERROR, LogFormat::Text), (Level::WARN, LogFormat::Json)] {
        let lines = logged(&config(format, level), false, || {
            let _span = recording_span().entered();
            tracing::error!(code = %crate::codes::CAPTURE_BROKE, "it broke");
        });
        assert!(lines[0].contains("rec-1"), "{lines:?}");
    }
}

#[test]
fn libraries_are_quiet_unless_debug() {
    let speak = || {
        tracing::warn!(target: "chromiumoxide::handler", "unknown message");
        tracing::info!(target: "async_nats", "connected");
        tracing::warn!(target: "rustls", "slow consumer");
        tracing::debug!(target: "hyper::client", "pooled");
        tracing::info!(target: "some_library", "hello");
    };
    let quiet = logged(&config(LogFormat::Text, Level::INFO), false, speak);
    assert_eq!(quiet.len(), 2, "{quiet:?}");
    assert!(quiet[0].ends_with(" WARN PNR-1001 [rustls] slow consumer"), "{quiet:?}");
    assert_eq!(logged(&config(LogFormat::Text, Level::INFO), true, speak).len(), 5);
    assert_eq!(logged(&config(LogFormat::Text, Level::ERROR), false, speak).len(), 0);
}

#[test]
fn no_secret_gets_out_in_either_format() {
    let secret = "p\"ss-wörd-of-the-server";
    let _registration = redact::register(secret);
    for format in [LogFormat::Text, LogFormat::Json] {
        let lines = logged(&config(format, Level::INFO), false, || {
            let _span =
                tracing::info_span!("recording", url = "http://h/?access_token=abcdef&x=1", key = secret).entered();
            tracing::info!(field = secret, debug = ?Some(secret), "with {secret} and nats://me:too@h");
        });
        assert_eq!(lines.len(), 1);
        for word in ["wörd", "abcdef", "me:too"] {
            assert!(!lines[0].contains(word), "{word} in {}", lines[0]);
        }
        assert!(lines[0].contains("&x=1"), "{}", lines[0]);
        if format == LogFormat::Json {
            serde_json::from_str::<serde_json::Value>(&lines[0]).unwrap();
        }
    }
}

#[test]
fn one_event_is_one_line() {
    let lines = logged(&config(LogFormat::Text, Level::INFO), false, || {
        tracing::info!("first\n2026-08-01T10:00:00.042Z ERROR forged\r");
    });
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("first\\n2026"), "{lines:?}");
}

#[test]
fn a_panic_is_logged_without_its_secrets() {
    let _registration = redact::register("panic-secret-77");
    let lines = logged(&config(LogFormat::Text, Level::INFO), false, || {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        let _span = recording_span().entered();
        let result = std::panic::catch_unwind(|| panic!("lost panic-secret-77"));
        std::panic::set_hook(before);
        assert!(result.is_err());
    });
    let line = lines.iter().find(|line| line.contains("panic:")).unwrap();
    assert!(
        line.contains("ERROR PNR-1002 recording{recording_id=rec-1") && line.contains("panic: lost [redacted]"),
        "{line}"
    );
    assert!(line.contains("src/telemetry/tests.rs"), "{line}");
}

fn file_config(path: &Path) -> (LogConfig, RotatingFile) {
    let config = LogConfig { file: Some(PathBuf::from(path)), ..config(LogFormat::Json, Level::INFO) };
    let limits = Limits { size: config.max_size, backups: config.max_backups, age: config.max_age };
    let file = RotatingFile::open(path, limits).unwrap();
    (config, file)
}

#[test]
fn many_threads_lose_and_mix_no_line_over_many_files() {
    let directory = tempfile::tempdir().unwrap();
    let (config, file) = file_config(&directory.path().join("a.log"));
    let capture = Capture::default();
    let (sink, guard) = open(Some(capture.clone()), Some(file));
    let dispatch = tracing::Dispatch::new(subscriber(config.format, config.level, false, sink));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let dispatch = dispatch.clone();
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    for number in 0..250 {
                        tracing::info!(thread, number, "a line");
                    }
                });
            });
        }
    });
    drop(guard);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10, "{} files", files.len());
    let text: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), capture.lines(), "file and standard output tell the same");
    let mut seen: Vec<(u64, u64)> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| (line["thread"].as_u64().unwrap(), line["number"].as_u64().unwrap()))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..4).flat_map(|thread| (0..250).map(move |number| (thread, number))).collect::<Vec<_>>());
}

#[test]
fn a_standard_output_that_nobody_reads_holds_back_neither_the_program_nor_the_file() {
    const LOGGED: usize = 5_000;
    let secret = "secret-of-a-full-pipe";
    let _registration = redact::register(secret);
    let directory = tempfile::tempdir().unwrap();
    let (config, _) = file_config(&directory.path().join("a.log"));
    let limits = Limits { size: u64::MAX, backups: 0, age: Duration::MAX };
    let file = RotatingFile::open(config.file.as_deref().unwrap(), limits).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let (stdout, stdout_queue) = queue::start("standard output", writer, 100);
    let (file, file_queue) = queue::start("the log file", file, LOGGED);
    let sink = Sink::new(vec![Box::new(stdout), Box::new(file)]);
    let guard = LogGuard { queues: vec![file_queue] };
    tracing::subscriber::with_default(subscriber(config.format, config.level, false, sink), || {
        for number in 0..LOGGED {
            tracing::info!(number, "with {secret}");
        }
    });
    drop(guard);
    let numbers = |text: &str| -> Vec<u64> {
        assert!(!text.contains(secret) && text.contains("with [redacted]"), "{text:.300}");
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line["number"].as_u64().unwrap()).collect()
    };
    let written = std::fs::read_to_string(config.file.as_deref().unwrap()).unwrap();
    assert!(numbers(&written).into_iter().eq(0..LOGGED as u64), "the file has every line");
    let state = stdout_queue.state();
    assert!(state.dropped() > LOGGED / 2, "{} are dropped", state.dropped());
    // Standard output is read again.
    let reading = std::thread::spawn(move || std::io::read_to_string(reader).unwrap());
    assert!(state.wait_until_written(Duration::from_secs(60)));
    stdout_queue.close();
    let read = numbers(&reading.join().unwrap());
    assert!(read.is_sorted() && read[0] == 0, "{read:?}");
    assert_eq!(read.len(), LOGGED - state.dropped(), "what is not dropped arrives");
}

#[test]
fn standard_output_tells_what_a_blocked_log_file_has_lost() {
    let capture = Capture::default();
    // A pipe that nobody reads stands for a disk that hangs.
    let (_reader, writer) = std::io::pipe().unwrap();
    let (stdout, stdout_queue) = queue::start("standard output", capture.clone(), 5_000);
    let (file, file_queue) = queue::start("the log file", writer, 100);
    let sink = Sink::new(vec![Box::new(stdout), Box::new(file)]);
    tracing::subscriber::with_default(subscriber(LogFormat::Text, Level::INFO, false, sink), || {
        (0..4_000).for_each(|number| tracing::info!(number, "a line of some length, so that the pipe is full soon"));
        drop(LogGuard { queues: vec![stdout_queue, file_queue] });
    });
    let lines = capture.lines();
    let reports: Vec<_> = lines.iter().filter(|line| line.contains("lines of the log are lost")).collect();
    assert_eq!((reports.len(), lines.len()), (1, 4_001), "{reports:?}");
    assert!(reports[0].contains("output=\"the log file\""), "{reports:?}");
}

#[test]
fn an_output_that_stands_still_is_told_of_before_a_line_is_lost_and_when_it_goes_on() {
    /// A disk that hangs until the sender is dropped; it says when the first line has come.
    struct Hanging(mpsc::Sender<()>, mpsc::Receiver<()>);
    impl Write for Hanging {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.send(()).ok();
            self.1.recv().ok();
            Ok(line.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let capture = Capture::default();
    let ((came, comes), (release, released)) = (mpsc::channel(), mpsc::channel());
    let (stdout, stdout_queue) = queue::start("standard output", capture.clone(), 100);
    let (file, file_queue) = queue::start("the log file", Hanging(came, released), 100);
    let sink = Sink::new(vec![Box::new(stdout), Box::new(file)]);
    tracing::subscriber::with_default(subscriber(LogFormat::Text, Level::INFO, false, sink), || {
        (0..50).for_each(|number| tracing::info!(number, "a line"));
        comes.recv().unwrap();
        let state = file_queue.state();
        (0..2).for_each(|_| state.watch(Duration::ZERO));
        drop(release);
        assert!(state.wait_until_written(Duration::from_secs(60)));
        state.watch(Duration::ZERO);
        drop(LogGuard { queues: vec![stdout_queue, file_queue] });
    });
    let lines = capture.lines();
    assert_eq!(lines.len(), 50 + 2, "{lines:?}");
    assert!(lines[50].contains("has stood still") && lines[50].contains("output=\"the log file\""), "{lines:?}");
    assert!(lines[51].contains("takes lines again"), "{lines:?}");
}

#[test]
fn an_output_that_panics_takes_nothing_with_it() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            panic!("a broken output")
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let capture = Capture::default();
    let (broken, broken_queue) = queue::start("standard output", Broken, 10);
    let (whole, whole_queue) = queue::start("the log file", capture.clone(), 100);
    let sink = Sink::new(vec![Box::new(broken), Box::new(whole)]);
    tracing::subscriber::with_default(subscriber(LogFormat::Text, tracing::Level::INFO, false, sink), || {
        (0..50).for_each(|number| tracing::info!(number, "a line"));
    });
    drop(LogGuard { queues: vec![broken_queue, whole_queue] });
    assert_eq!(capture.lines().len(), 50);
}

#[test]
fn a_log_file_that_cannot_be_opened_is_named() {
    let config =
        LogConfig { file: Some(PathBuf::from("/dev/null/recorder.log")), ..config(LogFormat::Text, Level::INFO) };
    let error = format!("{:#}", init(&config, false).unwrap_err());
    assert!(error.starts_with("cannot open the log file /dev/null/recorder.log: "), "{error}");
}
