//! Whether sound and picture are in step where the page does nothing for it: calls with a guest in a Chrome of its own, films
//! and oscillators. Beeps are measured in the sound, flashes are decoded from the picture.

use crate::measure::sync::{self, Sync};
use crate::measure::{self, picture, sound};
use crate::recorder::SOON;
use crate::recording::standin;
use crate::rig::{Live, Recorded, go_on, record};
use crate::standin::Meeting;
use crate::standin::call::Guest;
use crate::standin::meeting::Content;

/// How far the beeps may be from their flashes on average, in milliseconds…
const MEAN_LIMIT: f64 = 40.0;
/// …and each of them.
const EACH_LIMIT: f64 = 80.0;
/// Seconds that are recorded once it sounds.
const RECORDED: f64 = 15.0;

fn meeting(contents: Vec<Content>) -> Meeting {
    Meeting { contents, webcams: 0, beep_hz: None, flash: false, ..Meeting::default() }
}

/// Beeps against flashes of one content.
fn measured(recorded: &Recorded, content: Content) -> Sync {
    let beeps = sound::beeps(&recorded.raw, content.beep_hz()).unwrap();
    let flashes = picture::flashes(&recorded.raw, content.area().inner(24)).unwrap();
    let expected = sync::expected(&beeps, measure::probe(&recorded.raw).unwrap().duration);
    let sync = sync::pair(&beeps, &flashes, expected);
    println!("{content:?}: {sync}; {:.0?}; {:?}", sync.offsets, recorded.summary.call_offset);
    sync
}

fn assert_in_step(recorded: &Recorded, content: Content) {
    let sync = measured(recorded, content);
    assert!(sync.offsets.len() >= 10, "{content:?}: {sync}");
    assert!(sync.mean().abs() <= MEAN_LIMIT, "{content:?}: {sync}");
    assert!(sync.worst().abs() <= EACH_LIMIT, "{content:?}: {sync}: {:?}", sync.offsets);
}

async fn a_call(content: Content) {
    let standin = standin().await;
    let recorded = record(&standin, meeting(vec![content]), async |live: &mut Live| {
        let guest = Guest::join(&standin, &live.room, content).await.unwrap();
        live.room.wait_for_sound(1, SOON).await.unwrap();
        go_on(RECORDED).await;
        drop(guest);
    });
    let recorded = recorded.await;
    assert_eq!(recorded.outcome, Ok(()));
    assert_in_step(&recorded, content);
    // The summary tells by how much the picture was held back.
    let offset = recorded.summary.call_offset;
    assert!(offset.seconds >= 8 && offset.max_ms > 5.0 && offset.max_ms >= offset.mean_ms, "{offset:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_tracks_come_in_separate_streams_is_heard_when_it_is_seen() {
    a_call(Content::Call).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_tracks_come_in_one_stream_is_heard_when_it_is_seen() {
    a_call(Content::CallInOneStream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_and_an_oscillator_that_make_up_for_nothing_are_heard_when_they_are_seen() {
    let standin = standin().await;
    let contents = [Content::Clip, Content::Oscillator];
    let recorded = record(&standin, meeting(contents.to_vec()), async |live: &mut Live| {
        live.room.wait_for_sound(2, SOON).await.unwrap();
        go_on(RECORDED).await;
    });
    let recorded = recorded.await;
    for content in contents {
        assert_in_step(&recorded, content);
    }
    assert_eq!(recorded.summary.call_offset.seconds, 0, "there was no call");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_three_sizes_with_borders_and_toasts_that_move_is_recorded_as_it_moves() {
    let standin = standin().await;
    let recorded = record(&standin, meeting(vec![Content::Loopback, Content::Animation]), async |live: &mut Live| {
        live.room.wait_for_sound(3, SOON).await.unwrap();
        go_on(5.0).await;
    });
    let recorded = recorded.await;
    assert_eq!(recorded.outcome, Ok(()));
    // Each of its frames is another one.
    let shown = picture::luma(&recorded.raw, Content::Loopback.area().inner(20)).unwrap();
    let last = shown.last().unwrap().0;
    let moving = shown.windows(2).filter(|pair| pair[1].0 > last - 3.0 && (pair[1].1 - pair[0].1).abs() > 0.2).count();
    assert!(moving >= 20, "{moving} new pictures in three seconds: {shown:?}");
    assert_eq!(recorded.summary.call_offset.seconds, 0, "a call without sound is let be");
}
