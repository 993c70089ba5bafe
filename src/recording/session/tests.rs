//! Unit and property tests of the session.

use proptest::prelude::*;

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
    Effect::Store { cause: cause.map(str::to_owned) }
}

fn deliver(outcome: Outcome, job: bool) -> Effect {
    Effect::Deliver { outcome, job }
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
        SessionEvent::Stored(Ok(())),
        SessionEvent::Delivered,
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
fn a_broadcast_has_nothing_to_store_and_ends_with_its_first_break() {
    for end in [SessionEvent::Stop(None), broke("ffmpeg: Broken pipe")] {
        let outcome = if end == SessionEvent::Stop(None) { Ok(()) } else { Err("ffmpeg: Broken pipe".to_owned()) };
        let events = vec![
            SessionEvent::Opened,
            end,
            SessionEvent::Finished(Ok(())),
            SessionEvent::Closed,
            SessionEvent::Delivered,
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
        SessionEvent::Stored(Ok(())),
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
    let end = || vec![SessionEvent::Finished(Ok(())), SessionEvent::Closed, SessionEvent::Stored(Ok(()))];
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
    let events = until_opening(Interruption::PageLeft).into_iter().chain([over(), SessionEvent::Stored(Ok(()))]);
    let (_, effects) = run(Kind::Recording, events.collect());
    assert!(effects.ends_with(&[Effect::FreeSlot, store(None), deliver(Ok(()), true)]), "{effects:?}");

    // Chrome had failed, so the rest of the meeting is missing.
    let events = until_opening(Interruption::Fault).into_iter().chain([over(), SessionEvent::Stored(Ok(()))]);
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
    for refusal in [OpenFailure::Over("the room is over".into()), OpenFailure::Refused("the room is full".into())] {
        let events = vec![failed("Verification Failed!: no"), SessionEvent::OpenFailed(refusal)];
        let (_, effects) = run(Kind::Recording, events);
        assert_eq!(effects.last(), Some(&deliver(Err("Verification Failed!: no".into()), false)));
    }
    let (_, effects) =
        run(Kind::Recording, vec![SessionEvent::OpenFailed(OpenFailure::Unrecordable("Enter Security Key".into()))]);
    assert_eq!(effects.last(), Some(&deliver(Err("Enter Security Key".into()), false)));
}

#[test]
fn a_recording_that_has_captured_nothing_is_tried_for_two_minutes_however_slow_a_try_is() {
    for slow in [1, 25, 40] {
        let (mut session, mut effects) = Session::begin(Kind::Recording, NO_LIMITS, at(0));
        // The wait for a turn does not count.
        let (mut now, mut tries) = (at(1000), 0);
        while session.state().opening().is_some() {
            now = until_running(&mut session, now, &mut effects) + at(slow);
            assert_eq!(session.clone().on(now, SessionEvent::Opened), [Effect::NotifyStarted]);
            effects.extend(session.on(now, failed("Chrome: cannot be steered 20 s after its start")));
            tries += 1;
        }
        assert!(now >= at(1000) + START_FOR && now <= at(1000) + START_FOR + at(slow + 31), "{slow}: {now:?}");
        assert!(tries >= 3, "{slow}: {tries}");
        let Some(Effect::Deliver { outcome: Err(cause), job: false }) = effects.last() else { panic!("{effects:?}") };
        assert!(cause.starts_with("Chrome: cannot be steered 20 s after its start (tried "), "{cause}");
    }
    // The far end of a broadcast has refused it.
    let (_, effects) = run(Kind::Broadcast, vec![failed("ffmpeg: Connection refused")]);
    assert_eq!(effects.last(), Some(&deliver(Err("ffmpeg: Connection refused".into()), false)));
}

#[test]
fn the_wait_for_a_turn_is_no_failure_and_has_no_limit_but_a_stop_ends_it_at_once() {
    let (mut session, _) = run(Kind::Recording, vec![SessionEvent::Opened, broke("x")]);
    session.on(at(3), SessionEvent::Finished(Ok(())));
    assert_eq!(session.on(at(3), SessionEvent::Closed), [Effect::AwaitTurn]);
    let mut first = Session::begin(Kind::Recording, NO_LIMITS, at(0)).0;
    for session in [&mut session, &mut first] {
        for hours in 1..10 {
            assert_eq!(session.on(at(hours * 3600), tick()), []);
        }
        // The opening has all of its time.
        assert_eq!(session.clone().on(at(40_000), SessionEvent::TurnCame), [Effect::OpenRig]);
        let mut opened = session.clone();
        opened.on(at(40_000), SessionEvent::TurnCame);
        assert_eq!(opened.on(at(40_000) + STARTING_LIMIT - at(1), tick()), []);
        assert_eq!(session.on(at(40_000), SessionEvent::Stop(None)), [Effect::CancelOpening]);
        // The turn came just then.
        let mut late = session.clone();
        let ended = late.on(at(40_000), SessionEvent::TurnCame);
        assert_eq!(session.on(at(40_000), SessionEvent::OpenFailed(OpenFailure::Cancelled)), ended);
        assert_eq!(ended[0], Effect::FreeSlot);
    }
}

#[test]
fn a_slow_opening_is_a_failure_like_any_other() {
    for events in [vec![], vec![SessionEvent::Opened, broke("x"), SessionEvent::Finished(Ok(())), SessionEvent::Closed]]
    {
        let (mut session, mut effects) = run(Kind::Recording, events);
        let now = until_running(&mut session, at(5), &mut effects);
        assert_eq!(session.on(now + STARTING_LIMIT, tick()), [Effect::CancelOpening]);
        // It was open just then: that is what was wanted.
        let mut opened = session.clone();
        opened.on(now + STARTING_LIMIT, SessionEvent::Opened);
        assert_eq!(opened.state(), SessionState::Capturing);
        let after = session.on(now + at(1) + STARTING_LIMIT, SessionEvent::OpenFailed(OpenFailure::Cancelled));
        assert!(!after.iter().any(|effect| matches!(effect, Effect::FreeSlot | Effect::Deliver { .. })), "{after:?}");
        until_running(&mut session, now + at(1) + STARTING_LIMIT, &mut effects);
        assert_eq!(effects.last(), Some(&Effect::OpenRig));
    }
}

/// Openings of a recording that was captured until second 1, each of which fails after `takes` seconds. Returns when it
/// was given up, how often it was tried, and the longest wait between two tries.
fn patience(limits: SessionLimits, takes: u64) -> (Duration, u32, Duration, Vec<Effect>) {
    let (mut session, _) = Session::begin(Kind::Recording, limits, at(0));
    session.on(at(0), SessionEvent::TurnCame);
    session.on(at(1), SessionEvent::Opened);
    let (mut now, mut tries, mut longest, mut effects) = (at(1), 0, at(0), Vec::new());
    session.on(now, broke("Chrome ended"));
    session.on(now, SessionEvent::Finished(Ok(())));
    session.on(now, SessionEvent::Closed);
    while session.state() != SessionState::Stopping(StopStep::Storing) {
        let begun = until_running(&mut session, now, &mut effects);
        longest = longest.max(begun - now);
        now = begun + at(takes);
        effects.extend(session.on(now, failed("no Xvfb")));
        tries += 1;
    }
    effects.extend(session.on(now, SessionEvent::Stored(Ok(()))));
    (now, tries, longest, effects)
}

#[test]
fn a_recording_is_given_up_when_no_media_has_flowed_for_rejoin_for_and_never_by_count() {
    for takes in [0, 1, 35, 100] {
        let (now, tries, longest, effects) = patience(NO_LIMITS, takes);
        assert!(now >= at(1) + REJOIN_FOR && now <= at(1) + REJOIN_FOR + at(31 + takes), "{takes}: {now:?}");
        // The waits grow to half a minute.
        assert_eq!(longest, at(30));
        assert!(u64::from(tries) >= REJOIN_FOR.as_secs() / (takes + 30), "{takes}: {tries}");
        let Some(Effect::Deliver { outcome: Err(cause), job: true }) = effects.last() else { panic!("{effects:?}") };
        let wanted = "given up after 30m without media (recorder.rejoin_for); the last try: no Xvfb";
        assert_eq!(cause, wanted, "what was captured is delivered");
    }
    let (now, tries, ..) = patience(SessionLimits { rejoin_for: at(0), ..NO_LIMITS }, 2);
    assert_eq!((now, tries), (at(3), 1), "one try");
}

#[test]
fn a_capture_that_breaks_at_once_again_and_again_is_not_given_up() {
    let (mut session, mut effects) = run(Kind::Recording, vec![SessionEvent::Opened]);
    let mut now = at(1);
    for _ in 0..200 {
        now += at(2);
        assert_eq!(session.on(now, broke("ffmpeg ended")), [Effect::FinishEncoder]);
        session.on(now, SessionEvent::Finished(Ok(())));
        session.on(now, SessionEvent::Closed);
        now = until_running(&mut session, now, &mut effects);
        session.on(now, SessionEvent::Opened);
    }
    assert_eq!(session.state(), SessionState::Capturing);
    assert!(now > 2 * REJOIN_FOR);
}

#[test]
fn a_good_capture_begins_a_new_row_of_failures() {
    let (mut session, _) = run(Kind::Recording, vec![SessionEvent::Opened]);
    let mut now = at(1);
    for _ in 0..15 {
        now += HEALTHY_AFTER;
        assert_eq!(session.on(now, broke("Chrome ended")), [Effect::FinishEncoder]);
        session.on(now, SessionEvent::Finished(Ok(())));
        // The first failure of a row does not wait.
        assert_eq!(session.on(now, SessionEvent::Closed), [Effect::AwaitTurn]);
        assert_eq!(session.on(now, SessionEvent::TurnCame), [Effect::OpenRig]);
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
        assert_eq!(session.state(), SessionState::Stopping(StopStep::Storing), "{effects:?}");
        assert!(effects.ends_with(&[Effect::FreeSlot, store(None)]), "{effects:?}");
    }
}

#[test]
fn a_recording_of_an_earlier_run_is_resumed_or_finished() {
    let (mut session, effects) = Session::recover(InterruptedRecording::Running, NO_LIMITS, at(0));
    assert_eq!(effects, [Effect::AwaitTurn]);
    assert_eq!(session.on(at(1), SessionEvent::TurnCame), [Effect::OpenRig]);
    assert_eq!(session.on(at(1), SessionEvent::Opened), [Effect::NotifyStarted]);
    assert_eq!(session.state(), SessionState::Capturing);
    let (mut session, effects) = Session::recover(InterruptedRecording::Stopped(None), NO_LIMITS, at(0));
    assert_eq!(effects, [store(None)]);
    assert_eq!(session.on(at(1), SessionEvent::Stored(Ok(()))), [deliver(Ok(()), true)]);
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
        let effects = session.on(at(111), SessionEvent::Stored(Ok(())));
        assert!(
            matches!(&effects[..], [Effect::Deliver { outcome: Err(cause), .. }] if cause.contains(key)),
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
        SessionEvent::Stored(Err("the raw file is empty".into())),
        SessionEvent::Delivered,
    ];
    let (session, effects) = run(Kind::Recording, events);
    assert_eq!(session.state(), SessionState::Ended);
    assert_eq!(effects.last(), Some(&deliver(Err("the raw file is empty".into()), false)));
}

#[test]
fn a_stop_before_media_flows_cancels_the_opening_and_is_no_fault() {
    let cancelled = || SessionEvent::OpenFailed(OpenFailure::Cancelled);
    // While it waits for its turn, and while it opens.
    for opens in [false, true] {
        let (mut session, mut effects) = Session::begin(Kind::Recording, NO_LIMITS, at(0));
        if opens {
            effects.extend(session.on(at(1), SessionEvent::TurnCame));
        }
        for event in [SessionEvent::Stop(None), cancelled(), SessionEvent::Delivered] {
            effects.extend(session.on(at(2), event));
        }
        assert_eq!(session.state(), SessionState::Ended);
        effects.retain(|effect| *effect != Effect::OpenRig);
        assert_eq!(effects, [Effect::AwaitTurn, Effect::CancelOpening, Effect::FreeSlot, deliver(Ok(()), false)]);
    }
    // Between two tries: nothing has to be cancelled, and the failure is the reason why there is no file.
    let events = vec![failed("no Xvfb"), failed("no Xvfb"), SessionEvent::Stop(None)];
    let (session, effects) = run(Kind::Recording, events);
    assert_eq!(session.state(), SessionState::Stopping(StopStep::Delivering));
    assert!(effects.ends_with(&[Effect::FreeSlot, deliver(Err("no Xvfb".into()), false)]), "{effects:?}");
    // The opening was faster than its cancellation: its media are kept.
    let (mut session, mut effects) = Session::begin(Kind::Recording, NO_LIMITS, at(0));
    for event in [SessionEvent::TurnCame, SessionEvent::Stop(None), SessionEvent::Opened] {
        effects.extend(session.on(at(1), event));
    }
    assert_eq!(session.state(), SessionState::Stopping(StopStep::Finishing));
    assert!(effects.ends_with(&[Effect::NotifyStarted, Effect::FinishEncoder]));
}

#[test]
fn a_slow_step_is_given_up_and_the_file_is_still_stored() {
    let (mut session, _) = run(Kind::Recording, vec![SessionEvent::Opened, SessionEvent::Stop(None)]);
    assert_eq!(session.on(at(1) + FINISHING_LIMIT, tick()), []);
    let effects = session.on(at(2) + FINISHING_LIMIT, tick());
    assert!(matches!(&effects[..], [Effect::GiveUp(_), Effect::FreeSlot, Effect::Store { .. }]), "{effects:?}");
    // A rig that cannot be closed does not prevent the next opening.
    let (mut session, _) = run(Kind::Recording, vec![SessionEvent::Opened, broke("x")]);
    let effects = session.on(at(2) + FINISHING_LIMIT, tick());
    assert!(matches!(&effects[..], [Effect::GiveUp(_), Effect::AwaitTurn]), "{effects:?}");
}

fn event() -> impl Strategy<Value = SessionEvent> {
    let result = || prop_oneof![Just(Ok(())), Just(Err("why".to_owned()))];
    prop_oneof![
        3 => Just(SessionEvent::TurnCame),
        3 => Just(SessionEvent::Opened),
        1 => prop_oneof![
            Just(OpenFailure::Cancelled),
            Just(OpenFailure::Over("why".to_owned())),
            Just(OpenFailure::Refused("why".to_owned())),
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
        1 => result().prop_map(SessionEvent::Stored),
        1 => Just(SessionEvent::Delivered),
        2 => (0u64..5000).prop_map(|idle| SessionEvent::Tick { idle: at(idle) }),
    ]
}

/// What holds for the effects of any session.
fn check(kind: Kind, effects: &[Effect]) -> Result<(), TestCaseError> {
    let count = |matches: fn(&Effect) -> bool| effects.iter().filter(|effect| matches(effect)).count();
    let position = |matches: fn(&Effect) -> bool| effects.iter().position(matches);
    prop_assert!(count(|e| matches!(e, Effect::NotifyStarted)) <= 1);
    prop_assert_eq!(count(|e| matches!(e, Effect::Deliver { .. })), 1);
    prop_assert!(count(|e| matches!(e, Effect::Store { .. })) <= 1, "stored twice");
    let notice = position(|e| matches!(e, Effect::Deliver { .. }));
    prop_assert!(position(|e| matches!(e, Effect::NotifyStarted)) < notice);
    prop_assert!(count(|e| matches!(e, Effect::FreeSlot)) == 1);
    // After the notice of the end nothing is opened or stored.
    for effect in &effects[notice.unwrap_or(0) + 1..] {
        prop_assert!(matches!(effect, Effect::GiveUp(_)), "{:?}", effect);
    }
    // Each opening has waited for its turn.
    let mut waited = false;
    for effect in effects {
        match effect {
            Effect::AwaitTurn => waited = true,
            Effect::OpenRig => prop_assert!(std::mem::take(&mut waited)),
            _ => {}
        }
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
            Effect::OpenRig | Effect::Store { .. } => {
                prop_assert!(finished, "{:?} before the rig is closed", effect);
            }
            _ => {}
        }
    }
    if kind == Kind::Broadcast {
        prop_assert!(count(|e| matches!(e, Effect::OpenRig)) <= 1);
        prop_assert_eq!(count(|e| matches!(e, Effect::Store { .. } | Effect::Deliver { job: true, .. })), 0);
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
            ..NO_LIMITS
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
            now += STORING_LIMIT;
            effects.extend(session.on(now, tick()));
        }
        prop_assert_eq!(session.state(), SessionState::Ended);
        check(kind, &effects)?;
    }

    #[test]
    fn nothing_but_time_without_media_ends_a_recording_whose_meeting_goes_on(
        rejoin_for in 0u64..4000,
        recovered in any::<bool>(),
        events in proptest::collection::vec((prop_oneof![
            Just(SessionEvent::TurnCame),
            Just(SessionEvent::Opened),
            Just(failed("why")),
            Just(SessionEvent::OpenFailed(OpenFailure::Cancelled)),
            prop::sample::select(vec![Interruption::Fault, Interruption::PageLeft])
                .prop_map(|after| SessionEvent::Broke { cause: "why".into(), after }),
            Just(SessionEvent::Finished(Err("why".into()))),
            Just(SessionEvent::Closed),
            Just(tick()),
        ], 0u64..100), 0..400),
    ) {
        let limits = SessionLimits { rejoin_for: at(rejoin_for), ..NO_LIMITS };
        let (mut session, _) = if recovered {
            Session::recover(InterruptedRecording::Running, limits, at(0))
        } else {
            Session::begin(Kind::Recording, limits, at(0))
        };
        // The last media of a recording that had any; else its first turn.
        let (mut now, mut media, mut captured) = (at(0), recovered.then_some(at(0)), recovered);
        for (event, later) in events {
            now += at(later);
            if session.state() == SessionState::Capturing {
                (media, captured) = (Some(now), true);
            }
            let queued = session.state() == SessionState::Starting(OpeningStep::Queued);
            if queued && event == SessionEvent::TurnCame {
                media.get_or_insert(now);
            }
            let effects = session.on(now, event);
            if effects.iter().any(|effect| matches!(effect, Effect::Store { .. } | Effect::Deliver { .. })) {
                let patience = if captured { at(rejoin_for) } else { START_FOR };
                prop_assert!(now - media.unwrap() >= patience, "{:?} after {:?}", now, media);
                return Ok(());
            }
        }
        prop_assert!(!matches!(session.state(), SessionState::Stopping(_) | SessionState::Ended));
    }
}
