//! A node as its operator and its server meet it, without any Chrome: starts that cannot work, requests and jobs that
//! are hostile, servers that come late or go away.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use plugnmeet_recorder::protocol::messages::{
    RecordingTasks, StatusCode, TranscodingTask, TranscodingTaskPostRecording, transcoding_task,
};
use prost::Message as _;

use crate::measure;
use crate::recorder::{Recorder, SOON, Setup};
use crate::standin::{Deployment, Meeting, Standin};

async fn standin() -> Standin {
    Standin::start(Deployment::default()).await.unwrap()
}

/// Starts it, expects it to end with this code, and returns its log.
pub async fn fails(standin: &Standin, setup: &Setup, code: i32) -> String {
    let mut recorder = Recorder::spawn(standin, "node_01", setup);
    let status = recorder.wait_for_end().await;
    let log = recorder.log();
    assert_eq!(status.code(), Some(code), "{log}");
    assert!(!log.contains("panicked") && !log.contains("RUST_BACKTRACE"), "{log}");
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_lacks_is_named_at_the_start_all_in_one_go() {
    let standin = standin().await;
    // A PATH with nothing on it but what starts the process.
    let bare = standin.dir().join("bare");
    std::fs::create_dir(&bare).unwrap();
    std::os::unix::fs::symlink("/usr/bin/setpriv", bare.join("setpriv")).unwrap();
    let plain_file = standin.dir().join("plain.txt");
    std::fs::write(&plain_file, "not executable").unwrap();
    let setup = Setup {
        path: Some(bare.display().to_string()),
        main_path: Some(plain_file.join("below")),
        recorder: format!(
            "  state_dir: {0}/state\n  post_processing_scripts:\n    - /no/such/script.sh\n    - {0}\n",
            plain_file.display()
        ),
        ..Setup::default()
    };
    let log = fails(&standin, &setup, 1).await;
    for wanted in [
        "ffmpeg is missing (not on PATH): apt-get install ffmpeg",
        "ffprobe is missing (not on PATH): apt-get install ffmpeg",
        "Xvfb is missing (not on PATH): apt-get install xvfb",
        "pulseaudio is missing (not on PATH): apt-get install pulseaudio",
        "apt-get install chromium",
        "recorder.copy_to_path.main_path: cannot write to",
        "recorder.state_dir: cannot write to",
        "/no/such/script.sh: there is no such file",
        "plain.txt: it is not executable (chmod +x it)",
    ] {
        assert!(log.contains(wanted), "{wanted} is not in\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_or_wrapper_with_the_line_ends_of_windows_is_named_at_the_start_with_its_interpreter() {
    let standin = standin().await;
    let [upload, chrome] = ["upload.sh", "chrome"].map(|name| {
        let path = standin.dir().join(name);
        std::fs::write(&path, "#!/bin/bash\r\nexit 0\r\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    });
    let setup = Setup {
        recorder: format!("  post_processing_scripts:\n    - {upload}\n"),
        sections: format!("chrome_settings:\n  custom_chrome_path: {chrome}\n"),
        ..Setup::default()
    };
    let log = fails(&standin, &setup, 1).await;
    for path in [upload, chrome] {
        let wanted = format!(r#"{path}: its interpreter "/bin/bash\r" is not there"#);
        assert!(log.contains(&wanted), "{wanted} is not in\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_ends_with_code_2_and_every_problem() {
    let standin = standin().await;
    let setup = Setup { recorder: "  max_limit: ten\n  widht: 1280\n  height: 3\n".into(), ..Setup::default() };
    let log = fails(&standin, &setup, 2).await;
    assert!(log.contains("recorder.max_limit: found \"ten\""), "{log}");
    assert!(log.contains("recorder.height"), "{log}");
    assert!(log.contains("did you mean `width`?"), "{log}");

    let missing =
        Command::new(env!("CARGO_BIN_EXE_plugnmeet-recorder")).args(["-config", "/no/such.yaml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such.yaml"));
    let version = Command::new(env!("CARGO_BIN_EXE_plugnmeet-recorder")).arg("-version").output().unwrap();
    assert_eq!(version.status.code(), Some(0));
    let said = String::from_utf8_lossy(&version.stdout).into_owned();
    assert_eq!(said.trim(), format!("plugnmeet-recorder {}", env!("CARGO_PKG_VERSION")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_that_is_not_there_is_waited_for_with_a_clear_line() {
    let standin = standin().await;
    let setup = Setup { nats_url: Some("nats://127.0.0.1:9".into()), ..Setup::default() };
    let recorder = Recorder::spawn(&standin, "node_01", &setup);
    recorder.wait_for_log("127.0.0.1:9").await;
    let log = recorder.stop(&[&standin.deployment.api_secret]);
    assert!(log.contains("refused"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugnmeet_server_that_does_not_run_is_named_where_nats_refuses_for_it() {
    let standin = standin().await;
    standin.silence_callout(true);
    let recorder = Recorder::spawn(&standin, "node_01", &Setup::default());
    recorder.wait_for_log("no connection to NATS, trying on").await;
    // nats-server waits 5 s for each.
    standin.wait_for_tokens(3, SOON).await.unwrap();
    standin.silence_callout(false);
    recorder.wait_for_log("connected to NATS").await;
    let log = recorder.stop(&[&standin.deployment.api_secret]);
    let errors: Vec<&str> = log.lines().filter(|line| line.contains(" ERROR ")).collect();
    assert!(errors.iter().all(|line| line.contains("the plugNmeet server, which answers for NATS")), "{errors:#?}");
    // Three refusals, in some 15 s.
    assert!((1..=2).contains(&errors.len()), "{errors:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_waits_for_its_server_and_gets_a_new_token_at_each_connect() {
    let standin = Standin::start(Deployment { provisioned: false, ..Deployment::default() }).await.unwrap();
    let recorder = Recorder::spawn(&standin, "node_01", &Setup::default());
    recorder.wait_for_log(&format!("{} is not there yet", standin.deployment.bucket)).await;
    standin.fleet.provision().await.unwrap();
    standin.fleet.wait_selectable("node_01", SOON).await.unwrap();
    assert_eq!(standin.fleet.select().await.unwrap().as_deref(), Some("node_01"));
    let announced = standin.fleet.announcement("node_01").await.unwrap().unwrap();
    assert_eq!((announced.max_limit, announced.current_progress), (Some(10), Some(0)));
    assert!(announced.total_cores.is_some_and(|cores| cores > 0) && announced.cpu_score.is_some());

    let before = standin.tokens().len();
    standin.restart_nats().await.unwrap();
    let tokens = standin.wait_for_tokens(before + 1, SOON).await.unwrap();
    assert!(tokens.len() > before, "{tokens:?}");
    // What is in the bucket may be from before the restart.
    recorder.wait_for_log("connected to NATS again").await;
    standin.fleet.wait_selectable("node_01", SOON).await.unwrap();
    assert_eq!(standin.violations(), [] as [String; 0]);
    recorder.stop(&[&standin.deployment.api_secret]);
    assert_eq!(standin.fleet.keys().await.unwrap(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_are_refused_with_a_reason_and_leave_the_node_working() {
    let standin = standin().await;
    let recorder = Recorder::start(&standin, "node_01", &Setup::default()).await;
    let room = standin.meeting(Meeting::default());
    let start = |change: &dyn Fn(&mut plugnmeet_recorder::protocol::messages::PlugNmeetToRecorder)| {
        let mut message = room.request(RecordingTasks::StartRecording, "RM_1-1", "node_01");
        change(&mut message);
        message
    };
    let long = "x".repeat(10_000);
    let hostile = [
        start(&|m| m.room_id = "../../etc".into()),
        start(&|m| m.recording_id = "../x".into()),
        start(&|m| m.recording_id = "a\0b".into()),
        start(&|m| m.recording_id = "-rf".into()),
        start(&|m| m.recording_id.clone_from(&long)),
        start(&|m| m.recording_id = String::new()),
        start(&|m| m.room_sid = "a/b".into()),
        start(&|m| m.access_token = "tok en\"<script>".into()),
        start(&|m| {
            m.task = RecordingTasks::StartRtmp.into();
            m.rtmp_url = Some("file:///etc/passwd".into());
        }),
        start(&|m| m.task = RecordingTasks::StartRtmp.into()),
    ];
    for message in hostile {
        let response = standin.fleet.request(&message).await.unwrap().response.expect("an answer");
        assert!(!response.status && !response.msg.is_empty() && response.msg.len() < 300, "{response:?}");
        assert_eq!(response.status_code(), StatusCode::InvalidParameters, "{response:?}");
    }
    // Not for this node, or no request at all: silence.
    let silent = [
        start(&|m| m.recorder_id = "node_02".into()).encode_to_vec(),
        start(&|m| m.from = "somebody".into()).encode_to_vec(),
        start(&|m| m.task = 99).encode_to_vec(),
        start(&|m| m.task = RecordingTasks::StopRecording.into()).encode_to_vec(),
        b"\xff\xff\xff\xff".to_vec(),
        vec![],
    ];
    // Each takes as long as the server waits.
    for reply in futures::future::join_all(silent.map(|bytes| standin.fleet.raw_request(bytes))).await {
        assert!(reply.unwrap().response.is_none());
    }
    assert_eq!(standin.fleet.announcement("node_01").await.unwrap().unwrap().current_progress, Some(0));
    assert_eq!(room.visits().len(), 0);
    assert!(standin.notices.all().is_empty());
    recorder.stop(&[&room.token]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_file_that_was_kept_is_not_overwritten() {
    let standin = standin().await;
    let recorder = Recorder::start(&standin, "node_01", &Setup::default()).await;
    let room = standin.meeting(Meeting::default());
    let kept = recorder.temporary_dir.join("again_raw.mkv");
    std::fs::write(&kept, "what was recorded before").unwrap();
    let response = standin.fleet.start_recording(&room, "again", "node_01").await.unwrap().response.unwrap();
    assert!(!response.status && response.status_code() == StatusCode::Conflict, "{response:?}");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "what was recorded before");
    assert_eq!(standin.fleet.announcement("node_01").await.unwrap().unwrap().current_progress, Some(0));
    std::fs::remove_file(&kept).unwrap();
    recorder.stop(&[&room.token]);
}

pub fn job(dir: &Path, id: &str, file_name: &str) -> Vec<u8> {
    TranscodingTask {
        recording_id: id.into(),
        room_id: "room01".into(),
        room_sid: "RM_x".into(),
        room_table_id: 7,
        recorder_id: "reference_node".into(),
        work: Some(transcoding_task::Work::PostRecording(TranscodingTaskPostRecording {
            file_path: format!("{}/", dir.display()),
            file_name: file_name.into(),
            recording_variant: 1,
        })),
    }
    .encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_reference_recorder_are_done_and_hostile_ones_leave_the_node_working() {
    let standin = standin().await;
    let setup = Setup { mode: Some("transcoderOnly"), ..Setup::default() };
    let recorder = Recorder::spawn(&standin, "transcoder", &setup);
    recorder.wait_for_log("starting").await;
    let dir = recorder.main_path.join("reference_node/room01");
    std::fs::create_dir_all(&dir).unwrap();
    // As the reference leaves it: a fragmented MP4 with H.264 and AAC.
    let raw = dir.join("RM_ref-1_raw.mp4");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=30:d=4", "-f", "lavfi", "-i", "sine=d=4"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"])
        .args(["-movflags", "frag_keyframe+empty_moov+default_base_moof"])
        .arg(&raw)
        .status()
        .unwrap();
    assert!(made.success());

    standin.fleet.publish_job(b"\xff\xff no job".to_vec()).await.unwrap();
    standin.fleet.publish_job(job(Path::new("/etc"), "RM_evil-1", "passwd")).await.unwrap();
    standin.fleet.publish_job(job(&dir, "../RM_evil-2", "RM_ref-1_raw.mp4")).await.unwrap();
    standin.fleet.publish_job(job(&dir, "RM_ref-1", "RM_ref-1_raw.mp4")).await.unwrap();

    let finished = RecordingTasks::RecordingTranscodingFinished;
    let notice = standin.notices.wait_for(finished, "RM_ref-1", SOON).await;
    let notice = notice.unwrap_or_else(|error| panic!("{error:#}\n{}", recorder.log())).message;
    assert!(notice.status, "{}", notice.msg);
    let proceeded =
        standin.notices.wait_for(RecordingTasks::RecordingProceeded, "RM_ref-1", SOON).await.unwrap().message;
    assert_eq!(proceeded.file_path, "reference_node/room01/RM_ref-1.mp4");
    assert_eq!(proceeded.recording_variant, Some(1));
    let info = measure::probe(&recorder.main_path.join(&proceeded.file_path)).unwrap();
    assert!((info.duration - 4.0).abs() < 0.3 && info.audio().is_ok(), "{info:?}");
    while raw.exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What could not be read as a job is kept for the operator, under the temporary directory.
    let aside = recorder.temporary_dir.join("undecodable-jobs");
    assert!(std::fs::read_dir(&aside).is_ok_and(|entries| entries.count() >= 1), "{}", recorder.log());
    std::fs::remove_dir_all(&aside).unwrap();
    assert_eq!(standin.fleet.keys().await.unwrap(), [] as [String; 0], "a transcoder does not announce itself");
    assert_eq!(standin.violations(), [] as [String; 0]);
    recorder.stop(&[]);
}

#[test]
fn the_sample_scripts_and_the_tools_are_executable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for script in [
        "post_processing_scripts/print_fields.sh",
        "post_processing_scripts/upload.sh",
        "tools/install-deps",
        ".ci/run",
    ] {
        let mode =
            std::fs::metadata(root.join(script)).unwrap_or_else(|e| panic!("{script}: {e}")).permissions().mode();
        assert!(mode & 0o111 != 0, "{script}");
    }
}
