//! Post-processing scripts: the contract with an operator's programs, and the samples that come with this one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use plugnmeet_recorder::scripts::post_processing::{self, ScriptError, ScriptPayload, ScriptsReport};
use tokio_util::sync::CancellationToken;

use crate::logs::Logs;

/// Long enough for any script here on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

fn payload(file_path: impl Into<PathBuf>) -> ScriptPayload {
    ScriptPayload {
        recording_id: "RM_1-17".into(),
        room_table_id: 852,
        room_id: "room01".into(),
        room_sid: "RM_1".into(),
        file_name: "RM_1-17.mp4".into(),
        file_path: file_path.into(),
        file_size: post_processing::megabytes(12_344_999),
        recorder_id: "node_01".into(),
    }
}

/// An executable file.
fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn run(scripts: &[PathBuf], limit: Duration) -> ScriptsReport {
    post_processing::run(scripts, &payload("/srv/a b/RM_1-17.mp4"), None, limit, &CancellationToken::new()).await
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test]
async fn scripts_run_in_order_and_one_that_fails_keeps_none_from_running() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let say = |word: &str| format!("#!/bin/sh\nsleep 0.05\necho {word} >>'{}'\n", log.display());
    let not_executable = dir.path().join("plain.sh");
    fs::write(&not_executable, "#!/bin/sh\n").unwrap();
    let scripts = [
        script(dir.path(), "a.sh", &say("one")),
        script(dir.path(), "b.sh", &format!("{}exit 7\n", say("two"))),
        not_executable.clone(),
        dir.path().join("missing.sh"),
        script(dir.path(), "c d.sh", &format!("{}kill -SEGV $$\n", say("three"))),
        script(dir.path(), "e.sh", &say("four")),
    ];
    let summary = run(&scripts, LIMIT).await;
    assert_eq!(read(&log), "one\ntwo\nthree\nfour\n");
    assert_eq!((summary.succeeded, summary.not_run.len(), summary.is_complete()), (2, 0, true));
    let failed: Vec<_> = summary.failed.iter().map(|(path, error)| (path.clone(), error.to_string())).collect();
    assert_eq!(failed.len(), 4, "{failed:?}");
    assert_eq!(failed[0], (scripts[1].clone(), "it failed (exit code 7)".into()));
    assert!(failed[1].1.contains("plain.sh") && failed[1].1.contains("Permission denied"), "{failed:?}");
    assert!(failed[2].1.contains("missing.sh") && failed[2].1.contains("No such file"), "{failed:?}");
    assert_eq!(failed[3].1, "it failed (signal 11)");
}

#[tokio::test]
async fn a_script_gets_one_argument_and_an_empty_stdin() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let text = format!("#!/bin/sh\nprintf '%s|%s|' \"$#\" \"$1\" >'{}'\ncat >>'{0}'\n", out.display());
    let summary = run(&[script(dir.path(), "x.sh", &text)], LIMIT).await;
    assert_eq!(summary.succeeded, 1, "{summary:?}");
    let argument = concat!(
        r#"{"recording_id":"RM_1-17","room_table_id":852,"room_id":"room01","room_sid":"RM_1","#,
        r#""file_name":"RM_1-17.mp4","file_path":"/srv/a b/RM_1-17.mp4","file_size":12.34,"recorder_id":"node_01"}"#
    );
    assert_eq!(read(&out), format!("1|{argument}|"));
}

#[tokio::test]
async fn a_script_is_told_where_the_summary_is_if_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let text = format!("#!/bin/sh\nprintf '%s' \"${{PNM_SUMMARY-unset}}\" >'{}'\n", out.display());
    let scripts = [script(dir.path(), "x.sh", &text)];
    let summary = dir.path().join("RM_1-17 a_raw.json");
    for (summary, told) in [(Some(&*summary), summary.to_str().unwrap()), (None, "unset")] {
        let payload = payload("/srv/x.mp4");
        post_processing::run(&scripts, &payload, summary, LIMIT, &CancellationToken::new()).await;
        assert_eq!(read(&out), told);
    }
}

#[tokio::test]
async fn a_script_that_takes_too_long_is_ended_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let text = format!("#!/bin/sh\nsleep 1000 &\necho $! >'{}'\nwait\n", pid.display());
    let scripts = [script(dir.path(), "slow.sh", &text), script(dir.path(), "next.sh", "#!/bin/sh\n")];
    let started = Instant::now();
    let summary = run(&scripts, Duration::from_millis(500)).await;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!(summary.succeeded, 1);
    assert!(matches!(summary.failed[0].1, ScriptError::Timeout { .. }), "{summary:?}");
    assert_gone(&pid).await;
}

#[tokio::test]
async fn what_a_script_leaves_running_is_ended_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let text = format!("#!/bin/sh\ntrap '' TERM\nsleep 1000 &\necho $! >'{}'\n", pid.display());
    assert_eq!(run(&[script(dir.path(), "x.sh", &text)], LIMIT).await.succeeded, 1);
    assert_gone(&pid).await;
}

/// The process of this file has ended (a zombie has).
async fn assert_gone(pid: &Path) {
    let stat = format!("/proc/{}/stat", read(pid).trim());
    let gone = async {
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z") && !stat.contains(") X")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_the_script_and_runs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (begun, never) = (dir.path().join("begun"), dir.path().join("never"));
    let scripts = [
        script(dir.path(), "slow.sh", &format!("#!/bin/sh\n: >'{}'\nsleep 1000\n", begun.display())),
        script(dir.path(), "next.sh", &format!("#!/bin/sh\n: >'{}'\n", never.display())),
    ];
    let cancel = CancellationToken::new();
    let stop = async {
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let payload = payload("/srv/x.mp4");
    let (summary, ()) = tokio::join!(post_processing::run(&scripts, &payload, None, LIMIT, &cancel), stop);
    assert!(matches!(summary.failed[0].1, ScriptError::Stopped(_)), "{summary:?}");
    assert_eq!(summary.not_run, [scripts[1].clone()]);
    assert!(!summary.is_complete() && !never.exists());
}

#[tokio::test]
async fn a_script_whose_interpreter_is_not_there_is_named_at_the_start_and_when_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("windows.sh", "#!/bin/bash\r\nexit 0\r\n", r#""/bin/bash\r""#),
        ("gone.sh", "#!/opt/no/such/python3\nexit()\n", "\"/opt/no/such/python3\""),
    ];
    for (name, text, interpreter) in cases {
        let scripts = [script(dir.path(), name, text)];
        let wanted = format!("its interpreter {interpreter} is not there");
        let problems = post_processing::check(&scripts);
        assert!(problems.len() == 1 && problems[0].to_string().contains(&wanted), "{problems:?}");
        let failed = run(&scripts, LIMIT).await.failed;
        let why = failed[0].1.to_string();
        assert!(why.contains(&wanted) && why.contains(&scripts[0].display().to_string()), "{why}");
    }
}

/// Writes 300,000 lines to each output, some 12 MB, and then says why it fails.
const TALKATIVE: &str = "seq -f 'to standard output, line %.0f' 300000; seq -f 'to standard error, line %.0f' 300000 >&2; \
     echo 'at last: no space left' >&2";

/// The lines of `name` in the log that it wrote itself; and how many lines were left out, by what is told.
fn in_log(logs: &Logs, name: &str) -> (usize, u64) {
    let lines = logs.lines(&format!("child=\"{name}\""));
    let (told, own): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.contains("is left out of the log"));
    let number = |line: &String| line.split("lines=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    assert!(told.iter().all(|line| line.contains(" WARN ")), "{told:?}");
    (own.len(), told.iter().map(|line| number(line).unwrap_or_else(|| panic!("{line}"))).sum())
}

#[tokio::test]
async fn a_script_that_writes_without_end_fills_no_log_and_what_is_left_out_is_counted() {
    let logs = Logs::capture();
    let dir = tempfile::tempdir().unwrap();
    let scripts = [script(dir.path(), "talks.sh", &format!("#!/bin/sh\n{TALKATIVE}\nexit 3\n"))];
    for _ in 0..2 {
        assert_eq!(run(&scripts, LIMIT).await.failed[0].1.to_string(), "it failed (exit code 3)");
    }
    let (own, left_out) = in_log(&logs, "talks.sh");
    // Of both runs together: one budget of 600 lines, and after each output its last ten lines.
    assert!((600..=600 + 2 * 2 * 10).contains(&own), "{own}");
    assert!(left_out >= 2 * 600_001 - 600, "{left_out}");
    assert_eq!(logs.lines("at last: no space left").len(), 2, "its last words are there");
}

#[tokio::test]
async fn output_that_is_no_text_and_has_no_end_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        "#!/bin/sh\nhead -c 3000000 /dev/urandom\nhead -c 3000000 /dev/urandom >&2\nprintf '\\377\\000no newline'\n";
    let closed = "#!/bin/sh\nexec >&- 2>&-\nsleep 0.1\n";
    let scripts = [script(dir.path(), "noise.sh", text), script(dir.path(), "closed.sh", closed)];
    let summary = run(&scripts, LIMIT).await;
    assert_eq!(summary.succeeded, 2, "{summary:?}");
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("post_processing_scripts").join(name)
}

#[tokio::test]
async fn the_samples_can_be_run() {
    assert_eq!(post_processing::check(&[sample("print_fields.sh"), sample("upload.sh")]), []);
}

#[tokio::test]
async fn the_printing_sample_prints_each_field() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    // The sample's output goes to the log; this puts it where the test can read it.
    let wrapper = format!("#!/bin/sh\nexec '{}' \"$1\" >'{}'\n", sample("print_fields.sh").display(), out.display());
    let summary = run(&[script(dir.path(), "wrapper.sh", &wrapper)], LIMIT).await;
    assert_eq!(summary.succeeded, 1, "{summary:?}");
    let expected = "recording_id: RM_1-17\nroom_table_id: 852\nroom_id: room01\nroom_sid: RM_1\nfile_name: RM_1-17.mp4\n\
        file_path: /srv/a b/RM_1-17.mp4\nfile_size: 12.34\nrecorder_id: node_01\n";
    assert_eq!(read(&out), expected);
}

type Uploads = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A web server that keeps what is PUT to it, and refuses everything under `/refused/`.
async fn web_server() -> (String, Uploads, tokio::task::AbortHandle) {
    use axum::http::{Method, StatusCode, Uri};
    let uploads = Uploads::default();
    let kept = Arc::clone(&uploads);
    let take = async move |method: Method, uri: Uri, body: axum::body::Bytes| {
        if uri.path().starts_with("/refused/") || method != Method::PUT {
            return StatusCode::FORBIDDEN;
        }
        kept.lock().unwrap().push((uri.to_string(), body.to_vec()));
        StatusCode::CREATED
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = axum::Router::new().fallback(take).layer(axum::extract::DefaultBodyLimit::disable());
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (url, uploads, server.abort_handle())
}

#[tokio::test]
async fn the_uploading_sample_puts_the_mp4_and_fails_where_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mp4 = dir.path().join("RM_1-17 a&b.mp4");
    let media: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    fs::write(&mp4, &media).unwrap();
    let (url, uploads, server) = web_server().await;
    // Scripts get the recorder's environment; a test cannot set its own without disturbing the others.
    let upload = |name: &str, target: &str| {
        let text = format!("#!/bin/sh\nUPLOAD_TARGET='{target}' exec '{}' \"$1\"\n", sample("upload.sh").display());
        script(dir.path(), name, &text)
    };
    let scripts = [
        upload("good.sh", &format!("{url}/recordings/")),
        upload("refused.sh", &format!("{url}/refused/")),
        upload("nowhere.sh", "gopher://host/"),
    ];
    let payload = ScriptPayload { file_name: "RM_1-17 a&b.mp4".into(), ..payload(&mp4) };
    let summary =
        post_processing::run(&scripts, &payload, None, Duration::from_secs(60), &CancellationToken::new()).await;
    server.abort();
    assert_eq!((summary.succeeded, summary.failed.len()), (1, 2), "{summary:?}");
    let uploads = uploads.lock().unwrap();
    assert_eq!(uploads.len(), 1);
    assert_eq!(uploads[0].0, "/recordings/RM_1-17%20a%26b.mp4");
    assert!(uploads[0].1 == media);
    assert!(mp4.exists());
}
