//! `record` as somebody runs it who has nothing but the program: a page, a signal, an MP4.

mod broken;
mod disks;
mod outlets;
mod segments;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use plugnmeet_recorder::capture::rig_directory;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use crate::measure::{self, Crop, picture, sound, sync};
use crate::recorder::{SOON, turn};
use crate::standin::faulty_fs::{Abilities, Fault, FaultyFs, Requests};
use crate::standin::plain_page::{COOKIE, HEADER, PlainPage};

const SIZE: (u32, u32) = (640, 360);
/// Within the flash, and within the page's blue ground.
const FLASH: Crop = Crop { x: 480, y: 270, w: 80, h: 44 };
const GROUND: Crop = Crop { x: 40, y: 250, w: 80, h: 44 };
/// As far as a flash may be from its beep on a busy machine, in milliseconds; `lip_sync` measures what it really is.
const IN_STEP: f64 = 150.0;

/// A directory with nothing in it, where the program is called without any configuration.
struct Place {
    dir: TempDir,
    /// The directory for temporary files.
    temp: TempDir,
}

impl Place {
    fn new() -> Self {
        let [dir, temp] =
            ["pnm-test-", "pnm-test-"].map(|prefix| tempfile::Builder::new().prefix(prefix).tempdir().unwrap());
        Self { dir, temp }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plugnmeet-recorder"));
        command.arg("record").args(arguments).current_dir(self.dir.path()).env("TMPDIR", self.temp.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let output = tokio::time::timeout(SOON, self.command(arguments).output()).await.expect("it ends").unwrap();
        Ended::of(&output)
    }

    /// What is in the directory.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The rig has left nothing.
    fn assert_no_rig(&self) {
        let left: Vec<_> = std::fs::read_dir(self.temp.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [] as [PathBuf; 0]);
    }
}

/// What somebody sees of a run that has ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// A run that records.
struct Running {
    child: Child,
    err: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        Self { child, err, said: String::new() }
    }

    /// Returns when it says that it records.
    async fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut running = Self::of(place.command(arguments));
        running.says("Recording, until").await;
        running
    }

    async fn says(&mut self, text: &str) {
        let wait = async {
            while !self.said.contains(text) {
                assert_ne!(self.err.read_line(&mut self.said).await.unwrap(), 0, "it has ended: {}", self.said);
            }
        };
        let said = tokio::time::timeout(SOON, wait).await;
        assert!(said.is_ok(), "{text:?} is not said: {}", self.said);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Returns when nothing of it is left but threads that the kernel keeps, as a disk has not answered them.
    async fn wait_until_over(&self) {
        let stat = format!("/proc/{}/stat", self.child.id().unwrap());
        let is_over = || std::fs::read_to_string(&stat).unwrap().rsplit(") ").next().unwrap().starts_with('Z');
        let wait = async {
            while !is_over() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("it does not end: {}", self.said));
    }

    async fn ended(mut self) -> Ended {
        let (mut out, mut err) = (String::new(), self.said);
        let mut stdout = self.child.stdout.take().unwrap();
        let wait = async {
            self.err.read_to_string(&mut err).await.unwrap();
            stdout.read_to_string(&mut out).await.unwrap();
            self.child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(SOON, wait).await.expect("it ends");
        Ended { code: status.code(), out, err }
    }
}

fn header() -> String {
    format!("{}: {}", HEADER.0, HEADER.1)
}

#[tokio::test]
async fn a_page_behind_a_cookie_a_header_and_two_buttons_becomes_an_mp4_until_an_element_is_gone() {
    let _turn = turn().await;
    let (page, place) = (PlainPage::start().await.unwrap(), Place::new());
    let url = format!("{}?seconds=6", page.url);
    let ended = place
        .run(&[
            &url,
            "-o",
            "page.mp4",
            "--click",
            "#start",
            "--click",
            "#more",
            "--until-gone",
            "#live",
            "--cookie",
            COOKIE,
            "--header",
            &header(),
            "--user-agent",
            "Test/1.0",
            "--size",
            "640x360",
            "--summary",
        ])
        .await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // The page was visited once, as was asked for, and clicked as by a user.
    assert_eq!(page.notes(), ["visited by Test/1.0", "start true", "more"]);
    let mp4 = place.path("page.mp4");
    let media = measure::probe(&mp4).unwrap();
    let video = media.video().unwrap();
    assert_eq!((video.codec.as_str(), (video.width, video.height)), ("h264", SIZE));
    assert_eq!(media.audio().unwrap().codec, "aac");
    // It was there for 6 s, of which the begin may be missing.
    assert!((3.0..8.0).contains(&media.duration), "{} s", media.duration);
    let [red, green, blue] = picture::mean_colour(&mp4, 1.0, GROUND).unwrap();
    assert!(red.abs_diff(0x20) < 8 && green.abs_diff(0x40) < 8 && blue.abs_diff(0x60) < 8, "{red} {green} {blue}");
    let (beeps, flashes) = (sound::beeps(&mp4, 1000.0).unwrap(), picture::flashes(&mp4, FLASH).unwrap());
    let steps = sync::pair(&beeps, &flashes, sync::expected(&beeps, media.duration));
    assert!(steps.times.len() >= 2 && steps.worst().abs() < IN_STEP, "{steps:?}");

    let summary: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert_eq!(summary["file"], "page.mp4");
    assert_eq!(summary["ended_by"], "\"#live\" is shown no more");
    assert!((summary["duration_s"].as_f64().unwrap() - media.duration).abs() < 0.1, "{summary}");
    assert!(summary["peak_dbfs"].as_f64().unwrap() > -20.0, "{summary}");
    assert_eq!(summary["warnings"], Value::Array(Vec::new()), "{summary}");
    assert_eq!((&summary["error"], &summary["code"]), (&Value::Null, &Value::Null), "{summary}");
    assert_eq!(place.files(), ["page.mp4"], "nothing else is left");
    assert!(!ended.err.contains("let-me-in") && !ended.err.contains("INFO"), "{}", ended.err);
    place.assert_no_rig();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_recording_and_its_mp4_is_made_and_a_second_one_keeps_the_raw_file() {
    let _turn = turn().await;
    let (page, place, other) = (PlainPage::start().await.unwrap(), Place::new(), Place::new());
    let header = header();
    let visit = [&*page.url, "--cookie", COOKIE, "--header", &*header, "--size", "640x360"];

    // Nothing can be removed from its disk.
    let disk = FaultyFs::mount(&other.path("backing"), &other.path("share"), Abilities::ALL);
    let mut one = Running::start(&other, &[&visit[..], &["-o", "share/one.mp4", "--no-sound"]].concat()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    disk.break_down(Requests::Removals, Fault::Hang);
    one.signal(Signal::INT);
    one.says("Making the MP4").await;

    let mut running = Running::start(&place, &[&visit[..], &["-o", "two.mp4"]].concat()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    running.signal(Signal::TERM);
    running.says("Ending the recording").await;
    running.signal(Signal::TERM);
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(130), "{ended:?}");
    let raw = ended.err.lines().find_map(|line| line.strip_prefix("The raw file is kept: ")).expect(&ended.err);
    let media = measure::probe(Path::new(raw)).unwrap();
    assert!(media.video().is_ok() && media.audio().is_ok(), "{media:?}");
    assert!(!place.path("two.mp4").exists());
    place.assert_no_rig();

    one.says("PNR-1237 warning: ").await;
    one.wait_until_over().await;
    // The kernel ends a process only when its disk has answered.
    disk.heal();
    let ended = one.ended().await;
    assert_eq!(ended.code, Some(0), "the MP4 is complete: {ended:?}");
    assert!(ended.out.starts_with("Saved share/one.mp4: 00:00:0"), "{ended:?}");
    let warning = "does not answer for 8 s: its disk or network share hangs; remove it when its disk is well: rm -r '/";
    assert!(ended.err.contains(warning) && ended.err.contains("share/one.mp4.recording-"), "{ended:?}");
    let media = measure::probe(&other.path("backing/one.mp4")).unwrap();
    assert!(media.duration >= 1.0 && media.audio().is_err(), "{media:?}");
    drop(disk);
    other.assert_no_rig();
}

#[tokio::test]
async fn what_a_killed_recording_leaves_is_removed_by_the_next_one_but_for_its_raw_file() {
    let _turn = turn().await;
    let (page, place) = (PlainPage::start().await.unwrap(), Place::new());
    let header = header();
    let visit = [&*page.url, "--cookie", COOKIE, "--header", &*header, "--size", "640x360"];
    let running = Running::start(&place, &[&visit[..], &["-o", "killed.mp4"]].concat()).await;
    running.signal(Signal::KILL);
    assert_eq!(running.ended().await.code, None);
    let rigs = || std::fs::read_dir(place.temp.path()).unwrap().map(|entry| entry.unwrap().path());
    assert!(rigs().any(|dir| dir.join(rig_directory::FILE).exists()), "it had no time to remove its rig");

    // The page refuses a visitor without cookie.
    let refused = place.run(&[&page.url, "-o", "next.mp4"]).await;
    assert_eq!((refused.code, &*refused.out), (Some(4), ""), "{refused:?}");
    assert!(refused.err.contains("answers HTTP 403; give what it asks for by --cookie or --header"), "{refused:?}");
    place.assert_no_rig();
    let [kept] = &place.files()[..] else { panic!("{:?}", place.files()) };
    assert!(kept.starts_with("killed.mp4.recording-"), "{kept}");
    assert!(place.path(kept).join("raw.mkv").metadata().unwrap().len() > 0);

    // Each of them tells what is wrong and what to do.
    let selector = place.run(&[&visit[..], &["-o", "next.mp4", "--click", "##"]].concat()).await;
    assert_eq!(selector.code, Some(4), "{selector:?}");
    assert!(selector.err.contains("--click \"##\" is no CSS selector"), "{selector:?}");
    let nobody = place.run(&["http://127.0.0.1:9/", "-o", "next.mp4", "--summary"]).await;
    assert_eq!(nobody.code, Some(4), "{nobody:?}");
    assert!(nobody.err.contains("error: http://127.0.0.1:9/ cannot be loaded"), "{nobody:?}");
    let told: Value = serde_json::from_str(&nobody.out).unwrap_or_else(|error| panic!("{error}: {nobody:?}"));
    let error = told["error"].as_str().unwrap();
    assert!(error.starts_with("http://127.0.0.1:9/ cannot be loaded") && told["code"] == "PNR-1233", "{told}");
    std::fs::write(place.path("next.mp4"), "something else").unwrap();
    let there = place.run(&[&page.url, "-o", "next.mp4"]).await;
    assert_eq!(there.code, Some(2), "{there:?}");
    assert!(there.err.contains("next.mp4 is there already") && there.err.contains("--force"), "{there:?}");
    assert_eq!(std::fs::read_to_string(place.path("next.mp4")).unwrap(), "something else");
    assert_eq!(place.files().len(), 2, "{:?}", place.files());
}
