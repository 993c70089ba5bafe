//! Openings: their turns, their failures, and the patience with them.

use super::*;

#[test]
fn a_room_that_ends_before_a_second_first_opening_is_reported_in_the_pages_words() {
    for (refusal, told) in [
        (OpenFailure::Over("the room is over".into()), "Verification Failed!: no"),
        (OpenFailure::Refused("the room is full".into()), "Verification Failed!: no; the room is full"),
    ] {
        let events = vec![failed("Verification Failed!: no"), SessionEvent::OpenFailed(refusal)];
        let (_, effects) = run(Kind::Recording, events);
        assert_eq!(effects.last(), Some(&deliver(Err(told.into()), false)));
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
        let Some(Effect::NotifyEnded { outcome: Err(cause), file: false }) = effects.last() else {
            panic!("{effects:?}")
        };
        assert!(cause.starts_with("Chrome: cannot be steered 20 s after its start (tried "), "{cause}");
    }
    // The far end of a broadcast has refused it; before, nothing was sent there.
    let (session, _) = run(Kind::Broadcast, vec![failed("Chrome: cannot be steered 20 s after its start")]);
    assert_eq!(session.state(), SessionState::Starting(OpeningStep::Queued));
    for cause in ["far end: rtmp://h: no connection: Connection refused", "ffmpeg: Unrecognized option 'x'"] {
        let (_, effects) = run(Kind::Broadcast, vec![failed(cause)]);
        assert_eq!(effects.last(), Some(&deliver(Err(cause.into()), false)));
    }
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
        assert_eq!(opened.on(at(39_999) + STARTING_LIMIT, tick()), []);
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
        assert!(
            !after.iter().any(|effect| matches!(effect, Effect::FreeSlot | Effect::NotifyEnded { .. })),
            "{after:?}"
        );
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
    while session.state() != SessionState::Stopping(StopStep::Checking) {
        let begun = until_running(&mut session, now, &mut effects);
        longest = longest.max(begun.saturating_sub(now));
        now = begun + at(takes);
        effects.extend(session.on(now, failed("no Xvfb")));
        tries += 1;
    }
    effects.extend(session.on(now, SessionEvent::Checked(Ok(()))));
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
        let Some(Effect::NotifyEnded { outcome: Err(cause), file: true }) = effects.last() else {
            panic!("{effects:?}")
        };
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
fn a_stop_before_media_flows_cancels_the_opening_and_is_no_fault() {
    let cancelled = || SessionEvent::OpenFailed(OpenFailure::Cancelled);
    // While it waits for its turn, and while it opens.
    for opens in [false, true] {
        let (mut session, mut effects) = Session::begin(Kind::Recording, NO_LIMITS, at(0));
        if opens {
            effects.extend(session.on(at(1), SessionEvent::TurnCame));
        }
        for event in [SessionEvent::Stop(None), cancelled(), SessionEvent::EndNotified] {
            effects.extend(session.on(at(2), event));
        }
        assert_eq!(session.state(), SessionState::Ended);
        effects.retain(|effect| *effect != Effect::OpenRig);
        assert_eq!(effects, [Effect::AwaitTurn, Effect::CancelOpening, Effect::FreeSlot, deliver(Ok(()), false)]);
    }
    // Between two tries: nothing has to be cancelled, and the failure is the reason why there is no file.
    let events = vec![failed("no Xvfb"), failed("no Xvfb"), SessionEvent::Stop(None)];
    let (session, effects) = run(Kind::Recording, events);
    assert_eq!(session.state(), SessionState::Stopping(StopStep::Notifying));
    assert!(effects.ends_with(&[Effect::FreeSlot, deliver(Err("no Xvfb".into()), false)]), "{effects:?}");
    // The opening was faster than its cancellation: its media are kept.
    let (mut session, mut effects) = Session::begin(Kind::Recording, NO_LIMITS, at(0));
    for event in [SessionEvent::TurnCame, SessionEvent::Stop(None), SessionEvent::Opened] {
        effects.extend(session.on(at(1), event));
    }
    assert_eq!(session.state(), SessionState::Stopping(StopStep::Finishing));
    assert!(effects.ends_with(&[Effect::NotifyStarted, Effect::FinishEncoder]));
}
