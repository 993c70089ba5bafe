//! What a recording shows, pixel by pixel: colours, sharpness, whole frames, and nothing from before the meeting.

use std::time::Duration;

use plugnmeet_recorder::capture::video::display::Display;
use plugnmeet_recorder::capture::video::refresh_rate;
use rustix::process::{Pid, Signal, kill_process};
use x11rb::connection::Connection as _;
use x11rb::protocol::randr::ConnectionExt as _;
use x11rb::protocol::xproto::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use crate::measure::{self, Crop, picture};
use crate::recorder::SOON;
use crate::recording::standin;
use crate::rig::{go_on, record};
use crate::standin::Meeting;
use crate::standin::meeting::{Rgb, Stage, area};

/// What a channel may be off: rounding twice, and the encoder.
const COLOUR_TOLERANCE: u8 = 3;
/// Structural similarity of the recorded slide with the slide on the screen.
const LEAST_SSIM: f64 = 0.98;

/// A page of nothing but its stage, without a sound.
fn stage(stage: Stage) -> Meeting {
    Meeting { stage, webcams: 0, beep_hz: None, ..Meeting::default() }
}

fn off(found: Rgb, wanted: Rgb) -> u8 {
    found.iter().zip(wanted).map(|(a, b)| a.abs_diff(b)).max().unwrap()
}

/// What the display says of its refresh rate, in Hz; its screen and its mode have this size.
fn reported_rate(connection: &RustConnection, size: (u16, u16)) -> u32 {
    let root = connection.setup().roots[0].root;
    let screen = connection.get_geometry(root).unwrap().reply().unwrap();
    let resources = connection.randr_get_screen_resources_current(root).unwrap().reply().unwrap();
    let crtc = connection.randr_get_crtc_info(resources.crtcs[0], resources.config_timestamp).unwrap().reply().unwrap();
    let mode = resources.modes.iter().find(|mode| mode.id == crtc.mode).unwrap();
    assert_eq!([(screen.width, screen.height), (crtc.width, crtc.height), (mode.width, mode.height)], [size; 3]);
    let pixels = u32::from(mode.htotal) * u32::from(mode.vtotal);
    assert_eq!(mode.dot_clock % pixels, 0, "{mode:?}");
    mode.dot_clock / pixels
}

#[tokio::test(flavor = "multi_thread")]
async fn a_display_takes_the_rate_for_any_capture_and_keeps_its_size() {
    let dir = tempfile::tempdir().unwrap();
    for (framerate, hertz) in [(1, 20), (25, 34), (30, 40), (60, 60), (120, 120)] {
        let display = Display::start(dir.path(), 1_282, 722, 96).await.unwrap();
        let set = refresh_rate::set(display.address(), (1_282, 722), framerate).await;
        assert_eq!(set.unwrap(), hertz);
        assert_eq!(reported_rate(&display.address().connect().unwrap(), (1_282, 722)), hertz);
        display.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_display_that_does_not_answer_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let display = Display::start(dir.path(), 640, 360, 96).await.unwrap();
    let server = Pid::from_raw(display.pid().cast_signed()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    let set = tokio::time::timeout(SOON, refresh_rate::set(display.address(), (640, 360), 30)).await;
    display.kill();
    let why = set.expect("there is a time limit").unwrap_err().to_string();
    assert!(why.contains("does not answer within 3 s"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_colour_is_recorded_as_the_page_shows_it_and_tagged_bt709_limited() {
    let colours: Vec<Rgb> = vec![
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [128, 128, 128],
        [255, 255, 255],
        [0, 0, 0],
        [200, 120, 40],
        [30, 90, 160],
        [250, 220, 180],
        [90, 20, 110],
    ];
    let standin = standin().await;
    let recorded = record(&standin, stage(Stage::Patches(colours.clone())), async |_| go_on(2.0).await).await;
    recorded.outcome.unwrap();
    let info = measure::probe(&recorded.raw).unwrap();
    let video = info.video().unwrap();
    assert_eq!(video.pix_fmt.as_deref(), Some("yuv420p"));
    let tags = [&video.color_space, &video.color_transfer, &video.color_primaries, &video.color_range];
    assert_eq!(tags.map(Option::as_deref), [Some("bt709"), Some("bt709"), Some("bt709"), Some("tv")]);
    let width = 1920 / u32::try_from(colours.len()).unwrap();
    let column = |n: u32| Crop::new(n * width, 0, width, 1080).inner(8);
    let seen: Vec<_> = (0..)
        .zip(&colours)
        .map(|(n, colour)| (*colour, picture::mean_colour(&recorded.raw, info.duration, column(n)).unwrap()))
        .collect();
    println!("shown and recorded: {seen:?}");
    assert!(seen.iter().all(|(shown, recorded)| off(*shown, *recorded) <= COLOUR_TOLERANCE), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_slide_looks_like_the_one_on_the_screen() {
    let standin = standin().await;
    let shown = standin.dir().join("shown.png");
    let meeting = Meeting { webcams: 0, slide_every: None, flash: false, beep_hz: None, ..Meeting::default() };
    let recorded = record(&standin, meeting, async |live| {
        go_on(1.5).await;
        live.screenshot(&shown);
        go_on(1.0).await;
    })
    .await;
    recorded.outcome.unwrap();
    let duration = measure::probe(&recorded.raw).unwrap().duration;
    // As soon as it is there, and when it has stood for a while.
    let ssim = [0.1, duration].map(|at| picture::ssim(&recorded.raw, at, &shown, area::SLIDE).unwrap());
    println!("SSIM at the start and at the end: {ssim:?}");
    assert!(ssim.iter().all(|ssim| *ssim >= LEAST_SSIM), "{ssim:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_whole_page_is_never_recorded_in_part() {
    let colours = [[220, 40, 40], [30, 60, 200]];
    let standin = standin().await;
    let slow = Stage::Alternation { colours, hold: Some(Duration::from_millis(200)) };
    let recorded = record(&standin, stage(slow), async |_| go_on(8.0).await).await;
    let found = picture::mixed_frames(&recorded.raw, area::PAGE, colours).unwrap();
    println!("every 200 ms: {found:?}");
    assert_eq!(found.mixed, [] as [usize; 0], "{found:?}");
    assert!(found.whole.iter().all(|whole| *whole >= 15), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_changes_with_every_frame_is_recorded_in_whole_frames_but_for_one_in_a_hundred() {
    let colours = [[220, 40, 40], [30, 60, 200]];
    let standin = standin().await;
    let fast = Stage::Alternation { colours, hold: None };
    let mut hertz = 0;
    let recorded = record(&standin, stage(fast), async |live| {
        hertz = reported_rate(&live.connect_to_display(), (1920, 1080));
        go_on(10.0).await;
    })
    .await;
    assert_eq!(hertz, 40, "a third more than the capture's 30 fps");
    let found = picture::mixed_frames(&recorded.raw, area::PAGE, colours).unwrap();
    println!("every frame: {:?} whole, mixed {:?}", found.whole, found.mixed);
    let frames = found.whole[0] + found.whole[1] + found.mixed.len();
    assert!(frames >= 100 && found.mixed.len() * 100 <= frames, "{found:?}");
    assert_eq!(frames as u64, recorded.summary.frames_sent, "every frame that was sent is in the file");
    // Of three frames that are recorded, two follow the one before directly, and the third skips one of the page, so that
    // its colour is the same. At 60 Hz each would skip one.
    let shown = picture::luma(&recorded.raw, Crop::new(900, 500, 64, 64)).unwrap();
    let turns = shown.windows(2).filter(|pair| (pair[0].1 - pair[1].1).abs() > 10.0).count();
    println!("{turns} changes of colour in {frames} frames");
    assert!(turns * 2 >= frames, "{turns} changes of colour in {frames} frames");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_frame_is_of_the_meeting_and_nothing_of_the_way_there() {
    /// `#startupJoinModal`'s colour, and a part of it that is a part of the slide without any text.
    const DIALOG: Rgb = [0x26, 0x30, 0x3c];
    const IN_DIALOG: Crop = Crop::new(584, 388, 50, 200);
    let standin = standin().await;
    let meeting = Meeting {
        ready_after: Some(Duration::from_millis(1_500)),
        joined_after: Some(Duration::from_secs(1)),
        slide_every: None,
        ..Meeting::default()
    };
    let slide = meeting.slides[0];
    let room = meeting.colour;
    let recorded = record(&standin, meeting, async |_| go_on(1.0).await).await;
    let first = measure::packets(&recorded.raw).unwrap().into_iter().find(|packet| packet.is_video).unwrap().at;
    let seen = |crop: Crop| picture::mean_colour(&recorded.raw, first, crop.inner(8)).unwrap();
    let (seen_room, seen_slide) = (seen(area::ROOM_COLOUR), seen(IN_DIALOG));
    println!("first frame, at {first} s: room {seen_room:?}, slide {seen_slide:?}");
    assert!(off(seen_room, room) <= 6, "{seen_room:?}");
    assert!(off(seen_slide, slide) <= 6 && off(seen_slide, DIALOG) > 50, "{seen_slide:?}");
}
