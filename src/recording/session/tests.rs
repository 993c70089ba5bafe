//! Unit and property tests of the session.

mod openings;
mod properties;

use super::states::*;
use super::*;

const NO_LIMITS: SessionLimits = SessionLimits { max_duration: None, end_when_idle: None, rejoin_for: REJOIN_FOR };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn tick() -> SessionEvent {
    SessionEvent::Tick { idle: Duration::ZERO }
}

fn broke(cause: &str) -> SessionEvent {
    SessionEvent::Broke { cause: cause.into(), after: Interruption::Fault }
}

fn store(cause: Option<&str>) -> Effect {
    Effect::CheckParts { cause: cause.map(str::to_owned) }
}

fn deliver(outcome: Outcome, job: bool) -> Effect {
    Effect::NotifyEnded { outcome, file: job }
}

fn failed(cause: &str) -> SessionEvent {
    SessionEvent::OpenFailed(OpenFailure::Failed(cause.into()))
}

/// Lets a rig be opened, as soon as the session wants one. Returns when.
fn until_running(session: &mut Session, mut now: Duration, effects: &mut Vec<Effect>) -> Duration {
    loop {
        match session.state().opening() {
            Some(OpeningStep::Queued) => effects.extend(session.on(now, SessionEvent::TurnCame)),
            Some(OpeningStep::Running) | None => return now,
            Some(_) => {
                now += at(1);
                effects.extend(session.on(now, tick()));
            }
        }
    }
}

/// Runs a recording through these events, one a second. Turns come at once.
fn run(kind: Kind, events: Vec<SessionEvent>) -> (Session, Vec<Effect>) {
    let (mut session, mut effects) = Session::begin(kind, NO_LIMITS, at(0));
    for (i, event) in (1..).zip(events) {
        if session.state().opening() == Some(OpeningStep::Queued) && !matches!(event, SessionEvent::Stop(_)) {
            effects.extend(session.on(at(i - 1), SessionEvent::TurnCame));
        }
        effects.extend(session.on(at(i), event));
    }
    (session, effects)
}

#[test]
fn a_recording_from_start_to_job() {
    let events = vec![
        SessionEvent::Opened,
        SessionEvent::Stop(None),
        SessionEvent::Finished(Ok(())),
        SessionEvent::Closed,
        SessionEvent::Checked(Ok(())),
        SessionEvent::EndNotified,
    ];
    let (session, effects) = run(Kind::Recording, events);
    assert_eq!(session.state(), SessionState::Ended);
    assert_eq!(
        effects,
        [
            Effect::AwaitTurn,
            Effect::OpenRig,
            Effect::NotifyStarted,
            Effect::FinishEncoder,
            Effect::CloseRig,
            Effect::FreeSlot,
            store(None),
            deliver(Ok(()), true),
        ]
    );
}

#[test]
fn a_broadcast_has_nothing_to_store_and_ends_with_its_far_end() {
    let lost = "far end: rtmp://h: closed the connection";
    for end in [SessionEvent::Stop(None), broke(lost)] {
        let outcome = if end == SessionEvent::Stop(None) { Ok(()) } else { Err(lost.to_owned()) };
        let events = vec![
            SessionEvent::Opened,
            end,
            SessionEvent::Finished(Ok(())),
            SessionEvent::Closed,
            SessionEvent::EndNotified,
        ];
        let (session, effects) = run(Kind::Broadcast, events);
        assert_eq!(session.state(), SessionState::Ended);
        assert!(effects.ends_with(&[Effect::CloseRig, Effect::FreeSlot, deliver(outcome, false)]));
    }
}

#[test]
fn a_broadcast_whose_capture_breaks_resumes_and_is_started_and_ended_once() {
    let events = vec![
        SessionEvent::Opened,
        broke("ffmpeg: ended with signal 9"),
        SessionEvent::Finished(Ok(())),
        SessionEvent::Closed,
        SessionEvent::Opened,
    ];
    let (mut session, effects) = run(Kind::Broadcast, events);
    assert_eq!(session.state(), SessionState::Capturing, "{effects:?}");
    let of = |wanted: &Effect| effects.iter().filter(|effect| *effect == wanted).count();
    assert_eq!((of(&Effect::OpenRig), of(&Effect::NotifyStarted)), (2, 1));
    // The meeting ends before it could be joined again: there are no parts to look at.
    session.on(at(1000), broke("Chrome ended (signal 9)"));
    session.on(at(1001), SessionEvent::Finished(Ok(())));
    session.on(at(1001), SessionEvent::Closed);
    let effects = session.on(at(1002), SessionEvent::OpenFailed(OpenFailure::Over("over".into())));
    let cause = format!("Chrome ended (signal 9); {TOO_LATE}");
    assert_eq!(effects, [Effect::FreeSlot, deliver(Err(cause), false)]);
}

#[test]
fn a_broadcast_of_an_earlier_run_is_resumed_or_its_end_is_told() {
    let (mut session, effects) = Session::recover(Kind::Broadcast, InterruptedRecording::Running, NO_LIMITS, at(0));
    assert_eq!(effects, [Effect::AwaitTurn]);
    session.on(at(1), SessionEvent::TurnCame);
    assert_eq!(session.on(at(1), failed("far end: rtmp://h: Already publishing")), [Effect::AwaitTurn]);
    session.on(at(2), SessionEvent::TurnCame);
    assert_eq!(session.on(at(3), SessionEvent::Opened), [Effect::NotifyStarted]);
    let stopped = InterruptedRecording::Stopped(None);
    let (mut session, effects) = Session::recover(Kind::Broadcast, stopped, NO_LIMITS, at(0));
    assert_eq!(effects, [Effect::FreeSlot, deliver(Ok(()), false)]);
    session.on(at(1), SessionEvent::EndNotified);
    assert_eq!(session.state(), SessionState::Ended);
}

#[test]
fn a_broken_capture_resumes_as_the_next_part() {
    let events = vec![
        SessionEvent::Opened,
        broke("Chrome ended (signal 9)"),
        SessionEvent::Finished(Err("ffmpeg: ended with exit code 255".into())),
        SessionEvent::Closed,
        SessionEvent::Opened,
        SessionEvent::Stop(None),
        SessionEvent::Finished(Ok(())),
        SessionEvent::Closed,
        SessionEvent::Checked(Ok(())),
    ];
    let (_, effects) = run(Kind::Recording, events);
    assert_eq!(
        effects[3..],
        [
            Effect::FinishEncoder,
            Effect::CloseRig,
            Effect::AwaitTurn,
            Effect::OpenRig,
            Effect::FinishEncoder,
            Effect::CloseRig,
            Effect::FreeSlot,
            store(None),
            deliver(Ok(()), true),
        ]
    );
}

#[test]
fn the_end_of_the_meeting_is_a_normal_end_and_it_is_not_joined_again() {
    let end = || vec![SessionEvent::Finished(Ok(())), SessionEvent::Closed, SessionEvent::Checked(Ok(()))];
    for kind in [Kind::Recording, Kind::Broadcast] {
        let mut events =
            vec![SessionEvent::Opened, SessionEvent::Broke { cause: "ended".into(), after: Interruption::MeetingOver }];
        events.extend(end());
        let (_, effects) = run(kind, events);
        assert_eq!(effects.last(), Some(&deliver(Ok(()), kind == Kind::Recording)));
        assert_eq!(effects.iter().filter(|effect| **effect == Effect::OpenRig).count(), 1);
    }
}

#[test]
fn a_meeting_is_joined_again_unless_its_room_is_over() {
    let over = || SessionEvent::OpenFailed(OpenFailure::Over("the room is over".into()));
    let until_opening = |after| {
        vec![
            SessionEvent::Opened,
            SessionEvent::Broke { cause: "x".into(), after },
            SessionEvent::Finished(Ok(())),
            SessionEvent::Closed,
        ]
    };
    let (session, effects) = run(Kind::Recording, until_opening(Interruption::PageLeft));
    assert_eq!(session.state(), SessionState::Resuming(Resuming::Opening(OpeningStep::Queued)));
    assert_eq!(effects.last(), Some(&Effect::AwaitTurn));

    // The page left the meeting; the rig did not fail.
    let events = until_opening(Interruption::PageLeft).into_iter().chain([over(), SessionEvent::Checked(Ok(()))]);
    let (_, effects) = run(Kind::Recording, events.collect());
    assert!(effects.ends_with(&[Effect::FreeSlot, store(None), deliver(Ok(()), true)]), "{effects:?}");

    // Chrome had failed, so the rest of the meeting is missing.
    let events = until_opening(Interruption::Fault).into_iter().chain([over(), SessionEvent::Checked(Ok(()))]);
    let (_, effects) = run(Kind::Recording, events.collect());
    let missing = format!("x; {TOO_LATE}");
    assert!(
        effects.ends_with(&[Effect::FreeSlot, store(Some(&missing)), deliver(Err(missing.clone()), true)]),
        "{effects:?}"
    );

    // The same after a crash of the program.
    let (mut session, _) = Session::recover(Kind::Recording, InterruptedRecording::Running, NO_LIMITS, at(0));
    let effects = session.on(at(1), over());
    assert_eq!(effects.last(), Some(&store(Some(&format!("{RESTARTED}; {TOO_LATE}")))));
}

#[test]
fn a_stop_while_resuming_keeps_the_parts() {
    let broken = || vec![SessionEvent::Opened, broke("x")];
    for (events, after) in [
        (vec![], vec![SessionEvent::Finished(Ok(())), SessionEvent::Closed]),
        (vec![SessionEvent::Finished(Ok(()))], vec![SessionEvent::Closed]),
        (
            vec![SessionEvent::Finished(Ok(())), SessionEvent::Closed],
            vec![SessionEvent::OpenFailed(OpenFailure::Cancelled)],
        ),
    ] {
        let all = broken().into_iter().chain(events).chain([SessionEvent::Stop(None)]).chain(after);
        let (session, effects) = run(Kind::Recording, all.collect());
        assert_eq!(session.state(), SessionState::Stopping(StopStep::Checking), "{effects:?}");
        assert!(effects.ends_with(&[Effect::FreeSlot, store(None)]), "{effects:?}");
    }
}

#[test]
fn a_recording_of_an_earlier_run_is_resumed_or_finished() {
    let (mut session, effects) = Session::recover(Kind::Recording, InterruptedRecording::Running, NO_LIMITS, at(0));
    assert_eq!(effects, [Effect::AwaitTurn]);
    assert_eq!(session.on(at(1), SessionEvent::TurnCame), [Effect::OpenRig]);
    assert_eq!(session.on(at(1), SessionEvent::Opened), [Effect::NotifyStarted]);
    assert_eq!(session.state(), SessionState::Capturing);
    let (mut session, effects) =
        Session::recover(Kind::Recording, InterruptedRecording::Stopped(None), NO_LIMITS, at(0));
    assert_eq!(effects, [store(None)]);
    assert_eq!(session.on(at(1), SessionEvent::Checked(Ok(()))), [deliver(Ok(()), true)]);
}

#[test]
fn a_limit_ends_a_recording_with_its_cause() {
    let limits = SessionLimits { max_duration: Some(at(100)), end_when_idle: Some(at(30)), ..NO_LIMITS };
    let (mut session, _) = Session::begin(Kind::Recording, limits, at(0));
    session.on(at(9), SessionEvent::TurnCame);
    session.on(at(10), SessionEvent::Opened);
    assert_eq!(session.on(at(50), SessionEvent::Tick { idle: at(29) }), []);
    let mut idle = session.clone();
    assert_eq!(idle.on(at(51), SessionEvent::Tick { idle: at(30) }), [Effect::FinishEncoder]);
    assert_eq!(session.on(at(109), tick()), []);
    assert_eq!(session.on(at(110), tick()), [Effect::FinishEncoder]);
    for (session, key) in [(&mut idle, "end_when_idle (30 s)"), (&mut session, "max_duration (100 s)")] {
        session.on(at(111), SessionEvent::Finished(Ok(())));
        session.on(at(111), SessionEvent::Closed);
        let effects = session.on(at(111), SessionEvent::Checked(Ok(())));
        assert!(
            matches!(&effects[..], [Effect::NotifyEnded { outcome: Err(cause), .. }] if cause.contains(key)),
            "{effects:?}"
        );
    }
}

#[test]
fn an_unreadable_raw_file_is_reported_and_makes_no_job() {
    let events = vec![
        SessionEvent::Opened,
        SessionEvent::Stop(None),
        SessionEvent::Finished(Ok(())),
        SessionEvent::Closed,
        SessionEvent::Checked(Err("the raw file is empty".into())),
        SessionEvent::EndNotified,
    ];
    let (session, effects) = run(Kind::Recording, events);
    assert_eq!(session.state(), SessionState::Ended);
    assert_eq!(effects.last(), Some(&deliver(Err("the raw file is empty".into()), false)));
}

#[test]
fn a_slow_step_is_given_up_and_the_file_is_still_stored() {
    let (mut session, _) = run(Kind::Recording, vec![SessionEvent::Opened, SessionEvent::Stop(None)]);
    assert_eq!(session.on(at(1) + FINISHING_LIMIT, tick()), []);
    let effects = session.on(at(2) + FINISHING_LIMIT, tick());
    assert!(matches!(&effects[..], [Effect::GiveUp(_), Effect::FreeSlot, Effect::CheckParts { .. }]), "{effects:?}");
    // A rig that cannot be closed does not prevent the next opening.
    let (mut session, _) = run(Kind::Recording, vec![SessionEvent::Opened, broke("x")]);
    let effects = session.on(at(2) + FINISHING_LIMIT, tick());
    assert!(matches!(&effects[..], [Effect::GiveUp(_), Effect::AwaitTurn]), "{effects:?}");
}

#[test]
fn a_disk_that_does_not_show_the_parts_in_time_leaves_open_what_is_on_it() {
    let events =
        vec![SessionEvent::Opened, SessionEvent::Stop(None), SessionEvent::Finished(Ok(())), SessionEvent::Closed];
    let (mut session, _) = run(Kind::Recording, events);
    let effects = session.on(at(4) + CHECKING_LIMIT, tick());
    assert!(matches!(&effects[..], [Effect::GiveUp(_), end] if *end == deliver(Ok(()), true)), "{effects:?}");
    // Nor does a slow disk of state_dir end the recording's way.
    let effects = session.on(at(4) + CHECKING_LIMIT + NOTIFYING_LIMIT, tick());
    assert!(matches!(&effects[..], [Effect::GiveUp(_)]), "{effects:?}");
    assert_eq!(session.state(), SessionState::Ended);
}
