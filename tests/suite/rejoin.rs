//! The end of a meeting, and the way back into one that goes on: with tokens that expire, pages that leave, and a server whose
//! word decides.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use plugnmeet_recorder::protocol::messages::RecordingTasks;
use rustix::process::{Pid, Signal, kill_process};

use crate::measure::{self, picture};
use crate::recorder::{Recorder, SOON, Setup, turn};
use crate::recording::{ENDED, record, stop, wait_for};
use crate::standin::meeting::area;
use crate::standin::notices::Mood;
use crate::standin::{Deployment, Meeting, Room, Standin};
use crate::survival::{delivered, length, play, quick, reboot};

const STARTED: RecordingTasks = RecordingTasks::StartRecording;
/// The shortest that the server can be told to let tokens live.
const VALIDITY: Duration = Duration::from_secs(60);
/// The age of the token that comes with the start: good for as long as a busy machine takes to join.
const AGE: Duration = Duration::from_secs(35);
/// What is left of its time, and a second.
const PAST_ITS_TIME: Duration = Duration::from_secs(26);
/// How a meeting ends.
type End = fn(&Room);

async fn node(deployment: Deployment) -> (Standin, Recorder) {
    let standin = Standin::start(deployment).await.unwrap();
    let recorder = Recorder::start(&standin, "node_01", &quick()).await;
    (standin, recorder)
}

fn quiet() -> Meeting {
    Meeting { webcams: 0, beep_hz: None, ..Meeting::default() }
}

/// Waits until the page was joined so many times in all, and media flows again.
async fn joined(standin: &Standin, recorder: &Recorder, room: &Room, times: usize) {
    tokio::select! {
        joined = room.wait_for_join(times, SOON) => joined.unwrap_or_else(|error| panic!("{error:#}\n{}", recorder.log())),
        ended = standin.notices.wait_for(ENDED, "rec", 2 * SOON) => {
            panic!("it ended instead of joining for time {times}: {ended:?}\n{}", recorder.log())
        }
    }
    recorder.wait_for_started(times).await;
    play(1.5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_next_part_has_a_token_of_its_own_and_the_journal_has_none() {
    let turn = turn().await;
    let deployment = Deployment { token_validity: VALIDITY, token_leeway: Duration::ZERO, ..Deployment::default() };
    let (standin, mut recorder) = node(deployment).await;
    let room = standin.meeting(quiet()).with_token_of_age(AGE);
    let begun = Instant::now();
    let mut start = room.request(STARTED, "rec", "node_01");
    start.access_token += "&custom_design=%7B%7D";
    assert!(standin.fleet.request(&start).await.unwrap().response.unwrap().status);
    joined(&standin, &recorder, &room, 1).await;
    // The next look at the token is after its time.
    tokio::time::sleep(PAST_ITS_TIME.saturating_sub(begun.elapsed())).await;
    let record = std::fs::read_to_string(recorder.state_dir().join("recordings/rec.json")).unwrap();
    assert!(!record.contains(&room.token) && !record.contains(room.token.rsplit('.').next().unwrap()), "{record}");

    // The page loads itself anew, with the token in its address.
    room.reload_page();
    joined(&standin, &recorder, &room, 2).await;
    recorder.wait_for_log("page_says=\"Verification Failed!: Your session has expired").await;
    // It goes elsewhere, and the server does not say that the meeting is over.
    room.leave_page();
    joined(&standin, &recorder, &room, 3).await;
    recorder.wait_for_log("page_says=\"the page left the meeting (it has gone to another site)").await;
    // Chrome dies, and a proxy answers for the server.
    standin.token_checks(Mood::Answer(502));
    let [chrome] = recorder.children("chromium")[..] else { panic!("{}", recorder.log()) };
    kill_process(Pid::from_raw(chrome.cast_signed()).unwrap(), Signal::KILL).unwrap();
    joined(&standin, &recorder, &room, 4).await;
    // The recorder dies.
    standin.token_checks(Mood::Take);
    recorder.kill();
    recorder.restart();
    joined(&standin, &recorder, &room, 5).await;
    // The host goes down, and the server hangs when it is back.
    recorder.kill();
    reboot(&recorder);
    standin.token_checks(Mood::Hang);
    recorder.restart();
    joined(&standin, &recorder, &room, 6).await;
    standin.token_checks(Mood::Take);
    // The server is asked for another recording of the room, and removes the bot before this node refuses.
    let again = standin.fleet.start_recording(&room, "other", "node_01").await.unwrap().response.unwrap();
    assert!(!again.status);
    joined(&standin, &recorder, &room, 7).await;
    // The page loses its connection.
    room.lose_network(Duration::from_millis(500));
    joined(&standin, &recorder, &room, 8).await;

    stop(&standin, &room, "rec").await;
    assert_eq!(wait_for(&standin, &recorder, ENDED, "rec").await, (true, "success".into()));
    drop(turn);
    let (mp4, summary) = delivered(&standin, &recorder, &room, "rec").await;
    // Of the two that were killed with the recorder after a moment, nothing may have been written yet.
    let parts = summary["parts"].as_u64().unwrap();
    assert!((6..=8).contains(&parts) && summary["outcome"] == "success", "{summary}");
    assert!(length(&mp4) > 6.0 * 1.5, "{}", length(&mp4));
    only_the_meeting_is_shown(&mp4);
    let visits = room.visits();
    assert!(visits.iter().all(|visit| visit.query.ends_with("&custom_design=%7B%7D")), "{visits:?}");
    let tokens: HashSet<_> = visits.iter().map(|visit| visit.query.clone()).collect();
    assert_eq!(tokens.len(), 8, "each opening has a token of its own");
    let mut secrets = vec![room.token.clone()];
    secrets.extend(tokens.iter().filter_map(|query| Some(query.split(['=', '&']).nth(1)?.to_owned())));
    let log = recorder.stop(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!log.contains("the meeting cannot be recorded"), "{log}");
    let said = |text: &str| log.lines().filter(|line| line.ends_with(text)).count();
    assert_eq!((said("}: started"), said("}: goes on with its next part")), (1, 7), "{log}");
    let host = standin.host();
    for answer in ["answered 502", "did not answer in 5 s"] {
        assert!(log.contains(&format!("{host}: the server's token check {answer}")), "{answer}: {log}");
    }
}

/// No error page is in it, at any time. (A Chrome that is killed leaves a black screen.)
fn only_the_meeting_is_shown(mp4: &Path) {
    let room = picture::luma(mp4, area::ROOM_COLOUR.inner(8)).unwrap();
    let (_, usual) = room[room.len() / 2];
    let other: Vec<_> = room.iter().filter(|(_, luma)| (luma - usual).abs() > 4.0 && *luma > 17.0).collect();
    assert!(other.is_empty(), "{}: another page is shown at {other:?}, of {:?}", mp4.display(), room.last());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_fails_no_start_and_a_page_that_loads_itself_anew_ends_no_part() {
    let turn = turn().await;
    let (standin, recorder) = node(Deployment::default()).await;
    let room = standin.meeting(quiet());
    standin.proxy_answers(Some(502));
    assert!(standin.fleet.start_recording(&room, "rec", "node_01").await.unwrap().response.unwrap().status);
    standin.wait_for_proxied_pages(3, SOON).await.unwrap();
    standin.proxy_answers(None);
    joined(&standin, &recorder, &room, 1).await;
    let log = recorder.log();
    assert!(log.contains("the meeting page cannot be loaded yet why=\"the server answers HTTP 502\""), "{log}");
    assert_eq!(log.matches("Chrome is ready").count(), 1, "{log}");

    room.reload_page();
    room.wait_for_join(2, SOON).await.unwrap_or_else(|error| panic!("{error:#}\n{}", recorder.log()));
    recorder.wait_for_log("in the meeting again").await;
    play(3.0).await;
    assert_eq!(recorder.log().matches("Chrome is ready").count(), 1, "{}", recorder.log());

    // It loads itself anew while the server is away: the dialog will not come.
    standin.proxy_answers(Some(503));
    room.reload_page();
    recorder.wait_for_log("page_says=\"the page left the meeting (the server answers HTTP 503)\"").await;
    standin.proxy_answers(None);
    room.wait_for_join(3, SOON).await.unwrap_or_else(|error| panic!("{error:#}\n{}", recorder.log()));
    recorder.wait_for_started(2).await;
    play(1.5).await;

    stop(&standin, &room, "rec").await;
    assert_eq!(wait_for(&standin, &recorder, ENDED, "rec").await, (true, "success".into()));
    drop(turn);
    let (mp4, summary) = delivered(&standin, &recorder, &room, "rec").await;
    let causes: Vec<_> = summary["gaps"].as_array().unwrap().iter().map(|gap| gap["cause"].as_str().unwrap()).collect();
    assert_eq!(causes, ["the page left the meeting (the server answers HTTP 503)"], "{summary}");
    // Of the dialog no more is recorded than it takes to join; the proxy's page is cut off.
    let luma = picture::luma(&mp4, area::ROOM_COLOUR.inner(8)).unwrap();
    let usual = luma.last().unwrap().1;
    let (first, last) = (luma[0].0, luma.last().unwrap().0);
    let other: f64 =
        luma.windows(2).filter(|pair| (pair[0].1 - usual).abs() > 4.0).map(|pair| pair[1].0 - pair[0].0).sum();
    println!("{other:.2} s of {:.2} s show something else", last - first);
    assert!((luma[0].1 - usual).abs() < 4.0 && other < 8.0, "{other} s of {} s", last - first);
    recorder.stop(&[&room.token]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_meeting_is_a_normal_end_and_its_error_page_is_not_in_the_mp4() {
    let (standin, recorder) = node(Deployment::default()).await;
    let by_host = "Disconnected: The meeting has ended.";
    let ends: [(&str, End, Option<&str>); 5] = [
        ("host", Room::end_by_host, Some(by_host)),
        ("lonely", Room::last_participant_leaves, Some("Disconnected: NO_USER_ONLINE")),
        // In words that nobody here knows; the server knows.
        (
            "elsewhere",
            |room| room.end("Getrennt", "Die Sitzung wurde beendet."),
            Some("Getrennt: Die Sitzung wurde beendet."),
        ),
        // The page goes to the address that the room names for it, as where users are to see another site afterwards.
        (
            "logout",
            |room| {
                room.end_silently();
                room.leave_page();
            },
            Some("the page left the meeting (it has gone to another site)"),
        ),
        // The server stops the recording as it ends the room: the page has left, and nobody has looked yet.
        ("stopped", Room::end_by_host, None),
    ];
    for (id, end, words) in ends {
        let turn = turn().await;
        let meeting = Meeting { lonely_for: Duration::from_secs(1), beep_hz: Some(1000.0), ..quiet() };
        let room = standin.meeting(meeting);
        record(&standin, &recorder, &room, id).await;
        room.wait_for_sound(1, SOON).await.unwrap();
        play(2.5).await;
        end(&room);
        // Nobody answers where the recorder was quicker and has ended the recording already.
        let mut stopped_first = false;
        if words.is_none() {
            let reply = standin.fleet.stop(RecordingTasks::Stop, &room, id).await.unwrap();
            stopped_first = reply.response.is_some_and(|response| response.status);
        }
        let ended = wait_for(&standin, &recorder, ENDED, id).await;
        drop(turn);
        assert_eq!(ended, (true, "success".into()), "{id}\n{}", recorder.log());
        let (mp4, summary) = delivered(&standin, &recorder, &room, id).await;
        assert_eq!((&summary["outcome"], &summary["parts"]), (&"success".into(), &1.into()), "{id}: {summary}");
        let ended_by = summary["ended_by"].as_str();
        // A STOP may come while the recorder already ends the recording because of the page.
        let expected = ended_by == words || words.is_none() && ended_by == Some(by_host);
        assert!(expected && (stopped_first || ended_by.is_some()), "{id}: {summary}");
        let info = measure::probe(&mp4).unwrap();
        assert!(info.duration > 2.0, "{id}: {info:?}");
        assert!((info.duration - summary["duration_s"].as_f64().unwrap()).abs() < 0.25, "{id}: {info:?} {summary}");
        only_the_meeting_is_shown(&mp4);
        assert_eq!(room.presence().joins, 1, "{id}: a meeting that is over is not joined again");
        assert!(!recorder.log_dir().join(format!("{id}-recording.png")).exists(), "{id}: there is nothing to look at");
    }
    let log = recorder.stop(&[]);
    assert!(log.contains(&format!("the meeting has ended page_says=\"{by_host}\"")), "{log}");
    assert!(log.contains("cut off what was recorded after the page had left the meeting"), "{log}");
    let complaints: Vec<_> = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    let complaints: Vec<_> = complaints.into_iter().filter(|line| line.contains("recording_id")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_that_cannot_be_recorded_is_told_at_once_with_what_it_lacks() {
    let _turn = turn().await;
    let standin = Standin::start(Deployment::default()).await.unwrap();
    let plain = standin.host().replace("localhost", "127.0.0.1");
    let elsewhere = Setup { server: format!("  join_host: {plain}/?access_token=\n"), ..Setup::default() };
    for (id, setup, security_key, words) in [
        ("encrypted", Setup::default(), true, "Enter Security Key…"),
        ("plain", elsewhere, false, "Secure Connection Required: "),
    ] {
        let recorder = Recorder::start(&standin, "node_01", &setup).await;
        let room = standin.meeting(Meeting { security_key, ..quiet() });
        let reply = standin.fleet.start_recording(&room, id, "node_01").await.unwrap();
        assert!(reply.response.unwrap().status);
        let (ok, msg) = wait_for(&standin, &recorder, ENDED, id).await;
        assert!(!ok && msg.starts_with(words) && msg.contains(" (the "), "{id}: {msg}");
        assert_eq!(room.visits().len(), 1, "{id}: trying again is of no use");
        recorder.stop(&[&room.token]);
    }
}
