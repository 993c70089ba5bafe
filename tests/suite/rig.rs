//! A rig of this very process that records a page of the stand-in: for what needs no daemon around it.

use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use plugnmeet_recorder::capture::browser::chrome_arguments::ChromeSettings;
use plugnmeet_recorder::capture::browser::sandbox;
use plugnmeet_recorder::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
use plugnmeet_recorder::capture::process_tag::ProcessTag;
use plugnmeet_recorder::capture::rig::{CaptureReport, LiveRig, Rig as _, RigSpec};
use plugnmeet_recorder::capture::rig_directory;
use plugnmeet_recorder::capture::video::display::socket;
use plugnmeet_recorder::config::ChromeFlag;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{ClientMessageEvent, ConnectionExt as _, EventMask, Window};
use x11rb::rust_connection::{DefaultStream, RustConnection};

use crate::recorder::{SOON, alone, descendants, processes_of};
use crate::standin::{Meeting, Room, Standin};

/// The default of the configuration.
const PRE_INPUT: &str = "-loglevel error -thread_queue_size 512 -draw_mouse 0 -threads 1";
const POST_INPUT: &str = "-c:v libx264 -bf 0 -x264-params keyint=120:scenecut=0 -preset ultrafast -crf 23 -c:a copy -flush_packets 1 -tune zerolatency";
const SIZE: (u32, u32) = (1920, 1080);

/// A rig that is open.
pub struct Live {
    pub rig: LiveRig,
    pub room: Room,
    /// It grows.
    pub raw: PathBuf,
    /// When the rig said that media flows.
    pub opened: Instant,
    /// The number of its display, and the file with the cookie, which lies in the rig's own directory.
    display: (u32, PathBuf),
    /// The rig's own directory.
    pub dir: PathBuf,
}

/// A recording that is over.
pub struct Recorded {
    pub raw: PathBuf,
    pub summary: CaptureReport,
    pub outcome: Result<(), String>,
}

/// Records a meeting into the stand-in's directory for as long as `during` takes. It waits for its turn itself, and
/// whatever becomes of `during`, the rig is closed, and leaves neither a process nor a file.
pub async fn record(standin: &Standin, meeting: Meeting, during: impl AsyncFnOnce(&mut Live)) -> Recorded {
    record_with(standin, meeting, Vec::new(), alone().await, during).await
}

/// The same with flags of the operator's for Chrome, in a turn that the test has taken.
pub async fn record_with(
    standin: &Standin,
    meeting: Meeting,
    flags: Vec<ChromeFlag>,
    turn: SemaphorePermit<'static>,
    during: impl AsyncFnOnce(&mut Live),
) -> Recorded {
    let prepare = |spec: RigSpec| RigSpec { chrome: ChromeSettings { flags, ..spec.chrome }, ..spec };
    record_as(standin, meeting, prepare, turn, during).await
}

/// The same with a rig that `prepare` makes another of.
pub async fn record_as(
    standin: &Standin,
    meeting: Meeting,
    prepare: impl FnOnce(RigSpec) -> RigSpec,
    _turn: SemaphorePermit<'static>,
    during: impl AsyncFnOnce(&mut Live),
) -> Recorded {
    let room = standin.meeting(meeting);
    let spec = prepare(spec(standin, &room, standin.dir()).await);
    let mut live = open(spec, room).await;
    let dir = live.dir.clone();
    let went = Box::pin(AssertUnwindSafe(during(&mut live)).catch_unwind()).await;
    let Live { mut rig, raw, .. } = live;
    let (summary, outcome) = Box::pin(rig.finish()).await;
    Box::pin(rig.close()).await;
    if let Err(panic) = went {
        std::panic::resume_unwind(panic);
    }
    assert!(!dir.exists(), "{} was left behind", dir.display());
    assert_eq!(processes_of(&dir), [] as [String; 0], "left running");
    Recorded { raw, summary, outcome }
}

/// What records a room into a directory.
pub async fn spec(standin: &Standin, room: &Room, into: &Path) -> RigSpec {
    let words = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let sandbox = sandbox::check().await.is_ok();
    RigSpec {
        url: format!("{}/?access_token={}", standin.host(), room.token),
        target: EncoderTarget::File(into.join(format!("{}_raw.mkv", room.id))),
        encoder: EncoderSettings::new(&words(PRE_INPUT), &words(POST_INPUT)),
        fallback: None,
        chrome: ChromeSettings { path: None, flags: Vec::new(), sandbox, trusted: None },
        size: SIZE,
        dpi: 96,
        silence_warning: None,
        screenshot: standin.dir().join("failed.png"),
        // Tells this rig from those of other tests.
        owner: room.id.clone(),
    }
}

/// Opens a rig, which whoever calls this closes. It is in its turn.
pub async fn open(spec: RigSpec, room: Room) -> Live {
    let EncoderTarget::File(raw) = spec.target.clone() else { panic!("a broadcast") };
    let rig =
        Box::pin(LiveRig::open(spec, CancellationToken::new())).await.unwrap_or_else(|why| panic!("not open: {why:?}"));
    let opened = Instant::now();
    let display = display(&rig_directory::prefix(&room.id));
    let dir = display.1.parent().unwrap().to_owned();
    Live { rig, room, raw, opened, display, dir }
}

pub fn command_line(pid: u32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The number of the display of the rig whose directory begins with `prefix`, and the file with its cookie.
fn display(prefix: &str) -> (u32, PathBuf) {
    for pid in descendants(std::process::id()) {
        let words = command_line(pid);
        let Some(auth) = words.iter().position(|word| word == "-auth") else { continue };
        if !words[auth + 1].contains(&format!("/{prefix}")) {
            continue;
        }
        // The number was the server's own choice; it shows in the socket that it listens on.
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let sockets: Vec<_> = files.filter_map(|file| std::fs::read_link(file.path()).ok()).collect();
        let number = std::fs::read_to_string("/proc/net/unix").unwrap().lines().find_map(|line| {
            let mut fields = line.split_whitespace().skip(6);
            let socket = format!("socket:[{}]", fields.next()?);
            let number = fields.next()?.strip_prefix("/tmp/.X11-unix/X")?.parse().ok()?;
            sockets.iter().any(|open| open.as_os_str() == socket.as_str()).then_some(number)
        });
        if let Some(number) = number {
            return (number, PathBuf::from(&words[auth + 1]));
        }
    }
    panic!("no display runs");
}

fn connect((number, authority): &(u32, PathBuf)) -> RustConnection {
    let socket = UnixStream::connect(socket(*number)).unwrap();
    let (stream, _) = DefaultStream::from_unix_stream(socket).unwrap();
    // The file has one record, and the cookie is its end.
    let authority = std::fs::read(authority).unwrap();
    let cookie = authority[authority.len() - 16..].to_vec();
    RustConnection::connect_to_stream_with_auth_info(stream, 0, b"MIT-MAGIC-COOKIE-1".to_vec(), cookie).unwrap()
}

/// Closes Chrome's window in the one rig of this owner, as the button of a window manager does.
pub fn close_window(owner: &str) {
    let connection = connect(&display(&rig_directory::prefix(owner)));
    let root = connection.setup().roots[0].root;
    let windows = connection.query_tree(root).unwrap().reply().unwrap().children;
    let size = |window: Window| connection.get_geometry(window).unwrap().reply().unwrap();
    let window = windows.into_iter().max_by_key(|window| u32::from(size(*window).width)).unwrap();
    let atom = |name: &str| connection.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom;
    let data = [atom("WM_DELETE_WINDOW"), x11rb::CURRENT_TIME, 0, 0, 0];
    let close = ClientMessageEvent::new(32, window, atom("WM_PROTOCOLS"), data);
    connection.send_event(false, window, EventMask::NO_EVENT, close).unwrap().check().unwrap();
}

impl Live {
    /// The processes of this rig, and of no other.
    pub fn processes(&self) -> Vec<u32> {
        let tag = ProcessTag::of(self.dir.to_str().unwrap());
        let read = |pid: u32, name| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let mut processes = descendants(std::process::id());
        processes.retain(|pid| tag.matches(&read(*pid, "environ"), &read(*pid, "cmdline")));
        processes
    }

    /// What the display shows, as ffmpeg's grabber sees it: nothing of the recorder is involved.
    pub fn screenshot(&self, png: &Path) {
        let (number, cookie) = &self.display;
        let taken = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-y", "-f", "x11grab", "-draw_mouse", "0"])
            .args(["-video_size", &format!("{}x{}", SIZE.0, SIZE.1), "-i", &format!(":{number}")])
            .args(["-frames:v", "1", "-update", "1"])
            .arg(png)
            .env("XAUTHORITY", cookie)
            .status()
            .unwrap();
        assert!(taken.success(), "{taken}");
    }

    /// A connection to the display, as of one who sits at it.
    pub fn connect_to_display(&self) -> RustConnection {
        connect(&self.display)
    }

    /// Kills the ffmpeg that writes the raw file, and waits until the rig has noticed; its cause.
    pub async fn kill_ffmpeg(&mut self) -> String {
        let raw = self.raw.to_str().unwrap();
        let writes = |pid: &u32| command_line(*pid).iter().any(|word| word == raw);
        let ffmpeg = descendants(std::process::id()).into_iter().find(writes).expect("an ffmpeg that writes");
        kill_process(Pid::from_raw(ffmpeg.cast_signed()).unwrap(), Signal::KILL).unwrap();
        tokio::time::timeout(SOON, self.rig.broken()).await.expect("the rig notices that its ffmpeg is gone").cause
    }
}

/// Lets the recording go on for a while: what it holds is measured in time.
pub async fn go_on(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}
