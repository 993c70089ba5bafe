//! Nothing of Chrome's own is recorded or stops the page: a page asks for all that Chrome has dialogs, pickers, bubbles, bars and
//! windows for, each after a click of somebody who sits at the display.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use plugnmeet_recorder::capture::rig::{Rig as _, RigSpec};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ChangeWindowAttributesAux, ConnectionExt as _, EventMask,
    MOTION_NOTIFY_EVENT,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use crate::measure::{self, Crop, picture};
use crate::recorder::{SOON, turn};
use crate::recording::standin;
use crate::rig::{Live, command_line, go_on, record_as};
use crate::standin::Meeting;
use crate::standin::meeting::area;

const COLOURS: [[u8; 3]; 2] = [[220, 40, 40], [30, 60, 200]];
/// How long the page shows each.
const HOLD_S: f64 = 0.2;
const LEFT: u8 = 1;
const RIGHT: u8 = 3;

/// A page at its own server, and what it tells.
struct Site {
    url: String,
    told: mpsc::UnboundedReceiver<String>,
    _server: AbortOnDropHandle<()>,
}

impl Site {
    async fn start(page: String) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let locked = (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"a\"")]);
        let file = [(header::CONTENT_TYPE, "application/zip"), (header::CONTENT_DISPOSITION, "attachment")];
        let note = async |State(tell): State<Arc<Mutex<mpsc::UnboundedSender<String>>>>, what: String| {
            // The test may have ended.
            let _ = tell.lock().unwrap().send(what);
        };
        let routes = Router::new()
            .route("/", get(async || Html(page)))
            .route("/alert", get(async || Html("<script>setTimeout(() => alert('of a frame'))</script>")))
            .route("/other", get(async || Html("<body style='background: lime'>")).post(async || ""))
            .route("/locked", get(async move || locked.into_response()))
            .route("/file", get(async move || (file, "PK").into_response()))
            .route("/told", post(note))
            .with_state(Arc::new(Mutex::new(tell)));
        // By name for the page, and by address for what is another site to Chrome.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, told, _server: AbortOnDropHandle::new(server) }
    }

    async fn told(&mut self) -> String {
        let told = tokio::time::timeout(SOON, self.told.recv()).await;
        told.expect("the page stands still").expect("the server lives")
    }

    fn is_shown_by(&self, spec: RigSpec) -> RigSpec {
        RigSpec { url: self.url.clone(), ..spec }
    }
}

/// Somebody at the display.
struct User {
    display: RustConnection,
    /// Windows of Chrome's that were mapped since then.
    windows: usize,
}

impl User {
    fn at(live: &Live) -> Self {
        let user = Self { display: live.connect_to_display(), windows: 0 };
        let root = user.display.setup().roots[0].root;
        let told = ChangeWindowAttributesAux::new().event_mask(EventMask::SUBSTRUCTURE_NOTIFY);
        user.display.change_window_attributes(root, &told).unwrap().check().unwrap();
        user.input(MOTION_NOTIFY_EVENT, 0);
        user
    }

    /// How many windows came up besides the page's.
    fn windows(&mut self) -> usize {
        while let Some(event) = self.display.poll_for_event().unwrap() {
            self.windows += usize::from(matches!(event, Event::MapNotify(_)));
        }
        self.windows
    }

    /// Moves the pointer to the middle of the page, or presses or releases a button.
    fn input(&self, kind: u8, button: u8) {
        let [now, root] = [x11rb::CURRENT_TIME, x11rb::NONE];
        self.display.xtest_fake_input(kind, button, now, root, 960, 300, 0).unwrap().check().unwrap();
    }

    fn click(&self, button: u8) {
        self.input(BUTTON_PRESS_EVENT, button);
        self.input(BUTTON_RELEASE_EVENT, button);
    }
}

/// The TCP addresses at which a process listens, as the kernel writes them.
fn listening(pid: u32) -> Vec<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sockets: Vec<_> = files.filter_map(|file| std::fs::read_link(file.path()).ok()).collect();
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let socket = format!("socket:[{}]", fields.get(9)?);
            // TCP_LISTEN in include/net/tcp_states.h of the kernel.
            (fields[3] == "0A" && sockets.iter().any(|open| open.as_os_str() == socket.as_str()))
                .then(|| format!("{} of {pid}", fields[1]))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_chromes_own_is_recorded_or_stops_the_page() {
    let standin = standin().await;
    let mut site = Site::start(include_str!("fixtures/asking.html").to_owned()).await;
    let url = site.url.clone();
    let (mut told, mut windows, mut listens) = (Vec::new(), 0, Vec::new());
    let recorded = record_as(
        &standin,
        Meeting::default(),
        |spec| RigSpec { url, ..spec },
        turn().await,
        async |live| {
            let mut user = User::at(live);
            listens = live.processes().into_iter().flat_map(listening).collect();
            while told.last().is_none_or(|last: &String| !last.starts_with("all")) {
                user.click(LEFT);
                told.push(site.told().await);
            }
            user.click(RIGHT);
            told.push(site.told().await);
            go_on(0.5).await;
            windows = user.windows();
        },
    )
    .await;
    recorded.outcome.unwrap();
    println!("{told:#?}, {windows} windows");
    assert_eq!(listens, [] as [String; 0], "open to all users of the host");
    // There was something to hide: a picker, a menu, a tooltip, a page.
    assert!(windows >= 10, "{windows}");
    for wanted in [
        "alert: undefined",
        "confirm: false",
        "prompt: null",
        "HTTP authentication: 401",
        "full screen: undefined",
        "a further page: undefined",
        "a further window: undefined",
        "loaded again after its own code",
        "context menu",
    ] {
        assert!(told.iter().any(|told| told == wanted), "{wanted}: {told:#?}");
    }
    let found = picture::mixed_frames(&recorded.raw, area::PAGE, COLOURS).unwrap();
    let duration = measure::probe(&recorded.raw).unwrap().duration;
    println!("{duration} s: {:?} whole frames, others {:?}", found.whole, found.mixed);
    assert_eq!(found.mixed, [] as [usize; 0], "{found:?}");
    // It went on all the time: no colour stood for more than a change or two.
    let frames = f64::from(u32::try_from(found.whole[0] + found.whole[1]).unwrap());
    assert!(frames >= duration / HOLD_S * 0.8, "{frames} frames in {duration} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn chromes_page_of_a_crash_is_marked_to_be_cut_off() {
    let standin = standin().await;
    let site = Site::start(include_str!("fixtures/asking.html").to_owned()).await;
    let prepare = |spec| site.is_shown_by(spec);
    let recorded = record_as(&standin, Meeting::default(), prepare, turn().await, async |live| {
        go_on(1.5).await;
        for pid in live.processes() {
            if command_line(pid).join(" ").contains(" --type=renderer") {
                kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
            }
        }
        let failure = tokio::time::timeout(SOON, live.rig.broken()).await.expect("the crash is noticed");
        assert!(failure.cause.contains("crashed"), "{failure:?}");
        // Chrome shows it.
        go_on(0.5).await;
    })
    .await;
    recorded.outcome.unwrap();
    let until = recorded.summary.meeting_until.expect("there is something to cut off").as_secs_f64();
    let found = picture::mixed_frames(&recorded.raw, area::PAGE, COLOURS).unwrap();
    let packets = measure::packets(&recorded.raw).unwrap();
    let frames: Vec<_> = packets.into_iter().filter(|packet| packet.is_video).map(|packet| packet.at).collect();
    let first = found.mixed.first().map(|n| frames[*n]).expect("Chrome's page of the crash");
    println!("the meeting until {until} s, Chrome's page from {first} s on, in {} frames", frames.len());
    assert!(until > 1.0 && first >= until, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_dots_per_inch_make_the_letters_larger_and_not_the_picture() {
    /// A square of 100 CSS pixels in the corner. The first click is lost, as before a page's script has come.
    const PAGE: &str = "<style>html { background: rgb(220, 40, 40) }
        #main-area { position: fixed; left: 0; top: 0; width: 100px; height: 100px; background: rgb(30, 60, 200) }</style>
        <div id=startupJoinModal><button id=listenOnlyJoin></button></div><script>
        const join = () => {
            startupJoinModal.remove();
            document.body.innerHTML = '<div id=main-area></div>';
        };
        listenOnlyJoin.onclick = () => { listenOnlyJoin.onclick = join; };</script>";
    let standin = standin().await;
    let site = Site::start(PAGE.to_owned()).await;
    let prepare = |spec: RigSpec| RigSpec { dpi: 144, ..site.is_shown_by(spec) };
    let recorded = record_as(&standin, Meeting::default(), prepare, turn().await, async |_| go_on(0.5).await).await;
    recorded.outcome.unwrap();
    let info = measure::probe(&recorded.raw).unwrap();
    let video = info.video().unwrap();
    assert_eq!((video.width, video.height), (1920, 1080));
    let at = info.duration;
    let seen = |crop: Crop| picture::mean_colour(&recorded.raw, at, crop).unwrap();
    let seen = [Crop::new(4, 4, 140, 140), Crop::new(156, 4, 1760, 1072), Crop::new(4, 156, 1912, 920)].map(seen);
    println!("{seen:?}");
    let off = |found: [u8; 3], wanted: [u8; 3]| found.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) <= 3);
    assert!(off(seen[0], COLOURS[1]) && off(seen[1], COLOURS[0]) && off(seen[2], COLOURS[0]), "{seen:?}");
}
