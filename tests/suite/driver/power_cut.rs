//! The power goes after any step of a recording, and the next start goes on from there.

use std::path::Path;
use std::sync::Arc;

use plugnmeet_recorder::capture::rig::CaptureReport;
use plugnmeet_recorder::delivery::dispatcher::Delivery;
use plugnmeet_recorder::fleet::availability::Availability;
use plugnmeet_recorder::fleet::slots::Slots;
use plugnmeet_recorder::media::concat::{ConcatTarget, concat};
use plugnmeet_recorder::protocol::ids::{RecordingId, RoomId, RoomSid};
use plugnmeet_recorder::protocol::job::{Job, Work};
use plugnmeet_recorder::protocol::messages::RecordingTasks;
use plugnmeet_recorder::protocol::notice::{Notice, NoticeEvent};
use plugnmeet_recorder::protocol::request::{Kind, Output, RecordingInfo, Start};
use plugnmeet_recorder::recording::journal::{RecordingJournal, RecordingRecord, RecordingStage, StopRequest};
use plugnmeet_recorder::recording::raw_file::{RawFile, continuation};
use plugnmeet_recorder::recording::requests::RequestService;
use plugnmeet_recorder::storage::disk_space::DiskStatus;
use tokio_util::sync::CancellationToken;

use super::{LIMIT, Leaves, Node, Paper, PaperRig, media};
use crate::measure;

/// How far a recording had come on the disk when the power went: each step has all before it.
const STEPS: [&str; 11] = [
    "taken on",
    "part named",
    "part cut off",
    "part ended",
    "stop noted",
    "half joined",
    "in place",
    "stored",
    "told",
    "parts removed",
    "record removed",
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_last_step_on_disk_was_the_next_start_delivers_all_of_it_once() {
    let node = Node::new().await;
    let (temporary, main) = (node.standin.dir().join("temporary"), node.standin.dir().join("main"));
    let (whole, cut) = (node.standin.dir().join("whole.mkv"), node.standin.dir().join("cut.mkv"));
    media(&whole);
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - bytes.len() / 20]).unwrap();

    for (parts, goes_on) in [(1, false), (2, false), (1, true)] {
        for (reached, step) in STEPS.into_iter().enumerate() {
            let id = format!("rec-{parts}-{goes_on}-{reached}");
            let context = format!("{parts} parts, the last one in two files: {goes_on}; {step}");
            let info = RecordingInfo {
                room_table_id: i64::try_from(100 * parts + 50 * usize::from(goes_on) + reached).unwrap(),
                room_id: RoomId::parse("room01").unwrap(),
                room_sid: RoomSid::default(),
                recording_id: RecordingId::parse(&id).unwrap(),
            };
            let raw = RawFile::new(&temporary, &main, "node_01".as_ref(), &info.recording_id, &info.room_id).unwrap();
            let start = Start { info: info.clone(), access: node.access(), output: Output::File };
            let rigs = Arc::new(Paper {
                raw: raw.clone(),
                leaves: Leaves { refuses: Some("Room ended"), ..Leaves::default() },
            });
            lay_out(&node, &start, &raw, (parts, goes_on), reached, &whole, &cut).await;

            // The next start.
            let room = tokio::sync::watch::channel(DiskStatus::default()).1;
            let mut service = RequestService::<PaperRig>::new(
                node.context.clone(),
                Slots::new(1),
                rigs,
                RecordingJournal::new(&node.standin.dir().join("state")),
                Availability::default(),
                room,
            );
            node.context.dispatcher.resume_outbox().await;
            service.recover(true).unwrap();
            tokio::time::timeout(LIMIT, service.finish()).await.unwrap();

            let place = raw.dir.join(raw.name.as_str());
            let captured = reached >= 2;
            if reached < 10 {
                let ended = node.standin.notices.wait_for(RecordingTasks::EndRecording, &id, LIMIT).await.unwrap();
                // Not stopped: it was to go on, but the meeting is over. Stopped: all is well, if there was anything.
                assert_eq!(ended.message.status, captured && reached >= 4, "{context}: {}", ended.message.msg);
            }
            if captured && reached < 10 {
                node.standin.fleet.wait_for_job(&id, LIMIT).await.unwrap();
                let found = measure::probe(&place).unwrap_or_else(|why| panic!("{context}: {why:#}"));
                #[expect(clippy::cast_precision_loss, reason = "one or two")]
                let wanted = 1.5 * (parts + usize::from(goes_on)) as f64;
                assert!((found.duration - wanted).abs() < 0.3, "{context}: {} s, not {wanted}", found.duration);
                assert_eq!(measure::decode(&place).unwrap(), [] as [String; 0], "{context}");
            } else {
                assert!(!place.exists(), "{context}");
            }
            assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "{context}: something is left");
            assert_eq!(std::fs::read_dir(node.standin.dir().join("state/recordings")).unwrap().count(), 0, "{context}");
            let ends = node.standin.notices.tasks_of(&id);
            assert_eq!(ends.len(), usize::from(reached < 10), "{context}: {ends:?}");
            let jobs = node.standin.fleet.published_jobs();
            let jobs = jobs.iter().filter(|job| job.message_id.as_deref() == Some(id.as_str())).count();
            assert_eq!(jobs, usize::from(captured && reached < 10), "{context}");
            let _ = std::fs::remove_file(place);
        }
    }
}

/// Makes the disk look as after the step `STEPS[reached]`, of a recording with so many parts, of which the last one went on
/// in a second file or not.
async fn lay_out(
    node: &Node,
    start: &Start,
    raw: &RawFile,
    (parts, goes_on): (usize, bool),
    reached: usize,
    whole: &Path,
    cut: &Path,
) {
    let on = continuation(&raw.part(&raw.part_name(parts)));
    let place = raw.dir.join(raw.name.as_str());
    std::fs::create_dir_all(&raw.dir).unwrap();
    let journal = RecordingJournal::new(&node.standin.dir().join("state"));
    let entry = journal.begin(start).await;
    for n in 1..=parts {
        let last = n == parts;
        if last && reached < 1 {
            continue;
        }
        let names = raw.clone();
        entry.add_part(move |n| names.part_name(n)).await;
        let path = raw.part(&raw.part_name(n));
        if !last || reached >= 3 {
            std::fs::copy(whole, &path).unwrap();
            entry.part_began().await;
            entry.part_ended(None, CaptureReport::default()).await;
        } else if reached == 2 {
            std::fs::copy(if goes_on { whole } else { cut }, &path).unwrap();
            entry.part_began().await;
        }
    }
    if goes_on && reached >= 2 {
        std::fs::copy(if reached == 2 { cut } else { whole }, &on).unwrap();
    }
    // Before its last part was there, all that two parts have is the first: as if it had but one.
    if reached < 2 && parts == 2 {
        let _ = std::fs::remove_file(raw.part(&raw.part_name(1)));
    }
    if reached >= 4 {
        entry.update(|record| record.stop = Some(StopRequest { reason: None })).await;
    }
    // The end is told before anything is stored; earlier versions told it together with the job.
    if reached >= if parts == 2 { 5 } else { 8 } && reached < 10 {
        let event = NoticeEvent::Ended(Kind::Recording, Ok(()));
        let ended = Notice { info: start.info.clone(), recorder_id: node.context.recorder.clone(), event };
        node.context.dispatcher.send_all(vec![ended.into()]).await;
        entry.update(move |record| record.end_told = parts == 2).await;
    }
    let joined = raw.part(raw.name.as_str());
    if reached == 5 && parts > 1 {
        std::fs::write(&joined, "half of it").unwrap();
        std::fs::write(raw.part(&format!(".{}.parts", raw.name.as_str())), "ffconcat version 1.0\n").unwrap();
    }
    if reached >= 6 {
        let mut all: Vec<_> = (1..=parts).map(|n| raw.part(&raw.part_name(n))).collect();
        all.extend(goes_on.then(|| on.clone()));
        if let [one] = &all[..] {
            std::fs::rename(one, &place).unwrap();
        } else {
            let target = ConcatTarget { going_on: &all[parts..], ..ConcatTarget::raw(&joined) };
            concat(&all, target, &CancellationToken::new()).await.unwrap();
            std::fs::rename(&joined, &place).unwrap();
        }
    }
    if reached >= 7 {
        let stored = move |record: &mut RecordingRecord| {
            record.stage = RecordingStage::Stored;
            record.lengths_ms = vec![Some(if goes_on { 3000 } else { 1500 }); parts];
        };
        entry.update(stored).await;
    }
    if reached >= 9 {
        for n in 1..=parts {
            let _ = std::fs::remove_file(raw.part(&raw.part_name(n)));
        }
        let _ = std::fs::remove_file(&on);
    }
    if reached >= 10 {
        // Others have it by now.
        entry.remove().await;
        std::fs::remove_file(&place).unwrap();
    } else if reached >= 8 {
        let info = start.info.clone();
        let work = Work::PostRecording { dir: raw.dir.clone(), file_name: raw.name.clone(), variant: 0 };
        let job = Job { info, recorder_id: node.context.recorder.clone(), work };
        node.context.dispatcher.send_all(vec![Delivery::Job(job)]).await;
    }
}
