//! What a recording shows, pixel by pixel: colours, sharpness, whole frames, and nothing from before the meeting.

use std::time::Duration;

use crate::measure::{self, Crop, picture};
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
    let recorded = record(&standin, stage(fast), async |_| go_on(10.0).await).await;
    let found = picture::mixed_frames(&recorded.raw, area::PAGE, colours).unwrap();
    println!("every frame: {:?} whole, mixed {:?}", found.whole, found.mixed);
    let frames = found.whole[0] + found.whole[1] + found.mixed.len();
    assert!(frames >= 100 && found.mixed.len() * 100 <= frames, "{found:?}");
    assert_eq!(frames as u64, recorded.summary.frames_sent, "every frame that was sent is in the file");
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
