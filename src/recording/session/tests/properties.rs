//! What holds for any sequence of events.

use proptest::prelude::*;

use super::*;

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
            Effect::OpenRig | Effect::CheckParts { .. } => {
                prop_assert!(finished, "{:?} before the rig is closed", effect);
            }
            _ => {}
        }
    }
    if kind == Kind::Broadcast {
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
            now += FINISHING_LIMIT;
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
            Session::recover(Kind::Recording, InterruptedRecording::Running, limits, at(0))
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
            if effects.iter().any(|effect| matches!(effect, Effect::CheckParts { .. } | Effect::NotifyEnded { .. })) {
                let patience = if captured { at(rejoin_for) } else { START_FOR };
                prop_assert!(now >= media.unwrap() + patience, "{:?} after {:?}", now, media);
                return Ok(());
            }
        }
        prop_assert!(!matches!(session.state(), SessionState::Stopping(_) | SessionState::Ended));
    }
}
