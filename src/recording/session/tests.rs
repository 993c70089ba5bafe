//! Unit and property tests of the session.

use proptest::prelude::*;

use super::states::*;
use super::*;

const NO_LIMITS: SessionLimits = SessionLimits { max_duration: None, end_when_idle: None };

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

/// Runs a recording through these events, one a second.
fn run(kind: Kind, events: Vec<SessionEvent>) -> (Session, Vec<Effect>) {
    let (mut session, mut effects) = Session::begin(kind, NO_LIMITS, at(0));
    for (i, event) in (1..).zip(events) {
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
fn a_broadcast_has_nothing_to_store_and_ends_with_its_first_break() {
    for end in [SessionEvent::Stop(None), broke("ffmpeg: Broken pipe")] {
        let outcome = if end == SessionEvent::Stop(None) { Ok(()) } else { Err("ffmpeg: Broken pipe".to_owned()) };
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
        effects[2..],
        [
            Effect::FinishEncoder,
            Effect::CloseRig,
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
    assert_eq!(session.state(), SessionState::Resuming(Resuming::Opening { cancelled: false }));
    assert_eq!(effects.last(), Some(&Effect::OpenRig));

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
    let (mut session, _) = Session::recover(InterruptedRecording::Running, NO_LIMITS, at(0));
    let effects = session.on(at(1), over());
    assert_eq!(effects.last(), Some(&store(Some(&format!("{RESTARTED}; {TOO_LATE}")))));
}

#[test]
fn a_room_that_ends_before_a_second_first_opening_is_reported_in_the_pages_words() {
    let events = vec![
        SessionEvent::OpenFailed(OpenFailure::Failed("Verification Failed!: no".into())),
        SessionEvent::OpenFailed(OpenFailure::Over("the room is over".into())),
    ];
    let (_, effects) = run(Kind::Recording, events);
    assert_eq!(effects.last(), Some(&deliver(Err("Verification Failed!: no".into()), false)));
    let (_, effects) =
        run(Kind::Recording, vec![SessionEvent::OpenFailed(OpenFailure::Unrecordable("Enter Security Key".into()))]);
    assert_eq!(effects.last(), Some(&deliver(Err("Enter Security Key".into()), false)));
}

#[test]
fn a_first_opening_that_fails_at_once_is_tried_again_and_a_page_that_does_not_come_is_not() {
    let failed = || SessionEvent::OpenFailed(OpenFailure::Failed("PulseAudio: ended at its start".into()));
    let (mut session, _) = Session::begin(Kind::Recording, NO_LIMITS, at(0));
    assert_eq!(session.on(at(1), failed()), [Effect::OpenRig]);
    assert_eq!(session.on(at(2), failed()), [Effect::OpenRig]);
    let effects = session.clone().on(at(3), failed());
    assert_eq!(effects, [Effect::FreeSlot, deliver(Err("PulseAudio: ended at its start".into()), false)]);
    assert_eq!(session.on(at(3), SessionEvent::Opened), [Effect::NotifyStarted]);
    let (mut session, _) = Session::begin(Kind::Recording, NO_LIMITS, at(0));
    assert_eq!(session.on(at(31), failed()).len(), 2, "the page");
    let (mut session, _) = Session::begin(Kind::Broadcast, NO_LIMITS, at(0));
    assert_eq!(session.on(at(1), failed()).len(), 2, "the far end");
}

#[test]
fn a_slow_opening_is_a_failure_like_any_other() {
    let (mut session, _) = run(Kind::Recording, vec![SessionEvent::Opened, broke("x")]);
    session.on(at(3), SessionEvent::Finished(Ok(())));
    session.on(at(3), SessionEvent::Closed);
    assert_eq!(session.on(at(3) + STARTING_LIMIT, tick()), [Effect::CancelOpening]);
    let cancelled = SessionEvent::OpenFailed(OpenFailure::Cancelled);
    assert_eq!(session.on(at(4) + STARTING_LIMIT, cancelled), [], "it waits");
    assert_eq!(session.on(at(60) + STARTING_LIMIT, tick()), [Effect::OpenRig]);
}

#[test]
fn a_recording_is_given_up_after_failures_in_a_row_and_keeps_its_parts() {
    let (mut session, _) = run(Kind::Recording, vec![SessionEvent::Opened]);
    let mut now = at(1);
    let mut effects = Vec::new();
    session.on(now, broke("Chrome ended"));
    session.on(now, SessionEvent::Finished(Ok(())));
    effects.extend(session.on(now, SessionEvent::Closed));
    let mut openings = 0;
    while session.state() != SessionState::Stopping(StopStep::Checking) {
        if session.state() == SessionState::Resuming(Resuming::Opening { cancelled: false }) {
            openings += 1;
            effects.extend(session.on(now, SessionEvent::OpenFailed(OpenFailure::Failed("no Xvfb".into()))));
        }
        now += at(1);
        effects.extend(session.on(now, tick()));
    }
    assert_eq!(openings, MOST_FAILURES);
    assert!(now >= at(20) && now <= at(60), "{now:?}");
    let effects = session.on(now, SessionEvent::Checked(Ok(())));
    let [Effect::NotifyEnded { outcome: Err(cause), file: true }] = &effects[..] else { panic!("{effects:?}") };
    assert!(cause.contains("6 failures in a row; the last: no Xvfb"), "{cause}");
}

#[test]
fn a_good_capture_begins_a_new_row_of_failures() {
    let (mut session, _) = run(Kind::Recording, vec![SessionEvent::Opened]);
    let mut now = at(1);
    for _ in 0..3 * MOST_FAILURES {
        now += HEALTHY_AFTER;
        assert_eq!(session.on(now, broke("Chrome ended")), [Effect::FinishEncoder]);
        session.on(now, SessionEvent::Finished(Ok(())));
        // The first failure of a row does not wait.
        assert_eq!(session.on(now, SessionEvent::Closed), [Effect::OpenRig]);
        session.on(now, SessionEvent::Opened);
    }
    assert_eq!(session.state(), SessionState::Capturing);
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
    let (mut session, effects) = Session::recover(InterruptedRecording::Running, NO_LIMITS, at(0));
    assert_eq!(effects, [Effect::OpenRig]);
    assert_eq!(session.on(at(1), SessionEvent::Opened), [Effect::NotifyStarted]);
    assert_eq!(session.state(), SessionState::Capturing);
    let (mut session, effects) = Session::recover(InterruptedRecording::Stopped(None), NO_LIMITS, at(0));
    assert_eq!(effects, [store(None)]);
    assert_eq!(session.on(at(1), SessionEvent::Checked(Ok(()))), [deliver(Ok(()), true)]);
}

#[test]
fn a_limit_ends_a_recording_with_its_cause() {
    let limits = SessionLimits { max_duration: Some(at(100)), end_when_idle: Some(at(30)) };
    let (mut session, _) = Session::begin(Kind::Recording, limits, at(0));
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
fn a_stop_before_media_flows_cancels_the_opening_and_is_no_fault() {
    let cancelled = SessionEvent::OpenFailed(OpenFailure::Cancelled);
    let (session, effects) = run(Kind::Recording, vec![SessionEvent::Stop(None), cancelled, SessionEvent::EndNotified]);
    assert_eq!(session.state(), SessionState::Ended);
    assert_eq!(effects, [Effect::OpenRig, Effect::CancelOpening, Effect::FreeSlot, deliver(Ok(()), false)]);
    // The opening was faster than its cancellation: its media are kept.
    let (session, effects) = run(Kind::Recording, vec![SessionEvent::Stop(None), SessionEvent::Opened]);
    assert_eq!(session.state(), SessionState::Stopping(StopStep::Finishing));
    assert!(effects.ends_with(&[Effect::NotifyStarted, Effect::FinishEncoder]));
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
    assert!(matches!(&effects[..], [Effect::GiveUp(_), Effect::OpenRig]), "{effects:?}");
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

fn event() -> impl Strategy<Value = SessionEvent> {
    let result = || prop_oneof![Just(Ok(())), Just(Err("why".to_owned()))];
    prop_oneof![
        3 => Just(SessionEvent::Opened),
        1 => prop_oneof![
            Just(OpenFailure::Cancelled),
            Just(OpenFailure::Over("why".to_owned())),
            Just(OpenFailure::Failed("why".to_owned())),
        ]
        .prop_map(SessionEvent::OpenFailed),
        3 => prop::sample::select(vec![
            Interruption::Fault,
            Interruption::PageLeft,
            Interruption::MeetingOver,
            Interruption::Final,
        ])
        .prop_map(|after| SessionEvent::Broke { cause: "why".into(), after }),
        1 => prop_oneof![Just(None), Just(Some("why".to_owned()))].prop_map(SessionEvent::Stop),
        2 => result().prop_map(SessionEvent::Finished),
        2 => Just(SessionEvent::Closed),
        1 => result().prop_map(SessionEvent::Checked),
        1 => Just(SessionEvent::EndNotified),
        2 => (0u64..5000).prop_map(|idle| SessionEvent::Tick { idle: at(idle) }),
    ]
}

/// What holds for the effects of any session.
fn check(kind: Kind, effects: &[Effect]) -> Result<(), TestCaseError> {
    let count = |matches: fn(&Effect) -> bool| effects.iter().filter(|effect| matches(effect)).count();
    let position = |matches: fn(&Effect) -> bool| effects.iter().position(matches);
    prop_assert!(count(|e| matches!(e, Effect::NotifyStarted)) <= 1);
    prop_assert_eq!(count(|e| matches!(e, Effect::NotifyEnded { .. })), 1);
    prop_assert!(count(|e| matches!(e, Effect::CheckParts { .. })) <= 1, "stored twice");
    let notice = position(|e| matches!(e, Effect::NotifyEnded { .. }));
    prop_assert!(position(|e| matches!(e, Effect::NotifyStarted)) < notice);
    prop_assert!(count(|e| matches!(e, Effect::FreeSlot)) == 1);
    // After the notice of the end nothing is opened or stored.
    for effect in &effects[notice.unwrap_or(0) + 1..] {
        prop_assert!(matches!(effect, Effect::GiveUp(_)), "{:?}", effect);
    }
    // One rig at a time: each is finished and closed, cancelled or given up before the next is opened.
    let mut finished = true;
    for effect in effects {
        match effect {
            Effect::FinishEncoder => finished = false,
            Effect::CloseRig => {
                prop_assert!(!finished, "closed before its encoder has ended");
                finished = true;
            }
            Effect::GiveUp(_) => finished = true,
            Effect::OpenRig | Effect::CheckParts { .. } => {
                prop_assert!(finished, "{:?} before the rig is closed", effect);
            }
            _ => {}
        }
    }
    if kind == Kind::Broadcast {
        prop_assert_eq!(count(|e| matches!(e, Effect::OpenRig)), 1);
        prop_assert_eq!(count(|e| matches!(e, Effect::CheckParts { .. } | Effect::NotifyEnded { file: true, .. })), 0);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_sequence_of_events_ends_with_its_notices_in_order(
        kind in prop_oneof![Just(Kind::Recording), Just(Kind::Broadcast)],
        limits in (0u64..3, 0u64..3).prop_map(|(most, idle)| SessionLimits {
            max_duration: (most > 0).then(|| at(most * 500)),
            end_when_idle: (idle > 0).then(|| at(idle * 1000)),
        }),
        events in proptest::collection::vec((event(), 0u64..200_000), 0..60),
        stop_at in 0usize..60,
    ) {
        let (mut session, mut effects) = Session::begin(kind, limits, at(0));
        let mut now = at(0);
        for (i, (event, later)) in events.into_iter().enumerate() {
            now += Duration::from_millis(later);
            if i == stop_at {
                effects.extend(session.on(now, SessionEvent::Stop(None)));
            }
            effects.extend(session.on(now, event));
        }
        // Once stopped, ticks alone bring the session to its end.
        effects.extend(session.on(now, SessionEvent::Stop(None)));
        for _ in 0..10 {
            now += FINISHING_LIMIT;
            effects.extend(session.on(now, tick()));
        }
        prop_assert_eq!(session.state(), SessionState::Ended);
        check(kind, &effects)?;
    }
}
