//! The log of the real program where nobody reads its standard output.

use std::io::PipeReader;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::recorder::SOON;
use crate::standin::child::Child;

/// More than a pipe and the queue before it hold.
const WARNINGS: usize = 12_000;
const UNKNOWN: &str = "unknown key, ignored";
const LOST: &str = "lines of the log are lost";

/// A daemon with much to say of its configuration, and then of a server that is not there.
struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
}

impl Daemon {
    /// It has logged all that it was to, but nothing of what it wrote to standard output was read.
    fn talkative() -> (Self, PipeReader) {
        let dir = tempfile::tempdir().unwrap();
        // Keys without letters or digits, so that the search for what was meant by each is short.
        let unknown: String =
            (0..WARNINGS).map(|number| format!("_{number:015b}: x\n").replace('0', "-").replace('1', "_")).collect();
        let config = format!(
            "recorder:\n  id: node_01\n  temporary_dir: {0}/parts\n  state_dir: {0}/state\n  copy_to_path:\n    main_path: {0}/main\n\
             log_settings:\n  log_file: {0}/recorder.log\nplugNmeet_info:\n  host: http://127.0.0.1:9\n  api_key: key\n  \
             api_secret: secret-of-a-server\nnats_info:\n  nats_urls:\n    - nats://127.0.0.1:9\nadmin:\n  listen: \"\"\n{unknown}",
            dir.path().display()
        );
        std::fs::write(dir.path().join("config.yaml"), config).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let errors = std::fs::File::create(dir.path().join("errors")).unwrap();
        let child = Child::spawn("the recorder", env!("CARGO_BIN_EXE_plugnmeet-recorder"), |command| {
            command.arg("--config").arg(dir.path().join("config.yaml")).current_dir(dir.path());
            command.stdin(Stdio::null()).stdout(writer).stderr(errors);
        });
        let daemon = Self { child: child.unwrap(), dir };
        daemon.wait_for("no connection to NATS");
        let log = daemon.log();
        assert_eq!(log.matches(UNKNOWN).count(), WARNINGS, "the file has every line");
        (daemon, reader)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("recorder.log")).unwrap_or_default()
    }

    fn wait_for(&self, text: &str) {
        self.wait_until(text, |log| log.contains(text));
    }

    fn wait_until(&self, what: &str, so: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !so(&self.log()) {
            let log = self.log();
            let end = &log[log.len().saturating_sub(1_000)..];
            let errors = std::fs::read_to_string(self.path("errors")).unwrap();
            assert!(begun.elapsed() < SOON, "{what} is not in its log: …{end}\n{errors}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it, and returns its log.
    fn stop(mut self) -> String {
        let status = self.child.stop(SOON).unwrap();
        let (log, errors) = (self.log(), std::fs::read_to_string(self.path("errors")).unwrap());
        assert!(status.success() && errors.is_empty(), "{status}: {errors}");
        log
    }
}

/// How many lines were lost, as the last line about it says.
fn lost(log: &str) -> usize {
    let line = log.lines().rfind(|line| line.contains(LOST)).unwrap_or_else(|| panic!("no loss is told"));
    assert!(line.contains(" WARN ") && line.contains("output=\"standard output\""), "{line}");
    line.split_once("dropped_in_all=").unwrap().1.parse().unwrap()
}

#[test]
fn lines_that_nobody_read_are_told_of_when_somebody_reads_again() {
    let (daemon, reader) = Daemon::talkative();
    // At once, by the log file: nobody has read a line yet.
    daemon.wait_for(LOST);
    assert!(lost(&daemon.log()) > 0);
    let reading = std::thread::spawn(move || std::io::read_to_string(reader).unwrap());
    // The news of the loss itself was lost to standard output, which now gets it.
    daemon.wait_until("told once more", |log| log.matches(LOST).count() > 1);
    let log = daemon.stop();
    let read = reading.join().unwrap();
    assert_eq!(lost(&read), lost(&log));
    assert_eq!(read.lines().count() + lost(&log), log.lines().count(), "{} are lost", lost(&log));
    // The last line before the gap, the news of it, the first one behind.
    let gap = read.lines().position(|line| line.contains(LOST)).unwrap();
    assert!(read.lines().nth(gap - 1).unwrap().contains(UNKNOWN));
}

#[test]
fn a_standard_output_that_nobody_reads_keeps_no_daemon_from_ending() {
    let (daemon, reader) = Daemon::talkative();
    let log = daemon.stop();
    assert!(lost(&log) > 0);
    drop(reader);
}
