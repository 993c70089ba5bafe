//! What recordings and broadcasts tell of themselves while they run: their numbers, and that their threads turn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::capture::capture_report::{CaptureGauge, CaptureReport};
use crate::capture::live_capture::LiveCapture;
use crate::protocol::ids::{RecordingId, RoomId};
use crate::protocol::request::{Kind, RecordingInfo};
use crate::telemetry::metrics::Metrics;

/// The threads whose turns are watched.
const THREADS: [&str; 2] = ["screen", "sound"];

/// What the recordings and broadcasts of a node tell; clones share it.
#[derive(Clone, Debug, Default)]
pub struct RecordingSignals {
    pub metrics: Metrics,
    running: Arc<Mutex<BTreeMap<u64, InHand>>>,
}

/// What was seen of one recording.
#[derive(Debug, Default)]
struct Progress {
    /// Already counted, of its current part.
    frames: u64,
    dropped: u64,
    silence: Duration,
    /// The turns of each thread, and since when they are these. `None`: nothing is captured.
    turns: Option<[(u64, Instant); THREADS.len()]>,
}

/// One recording in hand.
#[derive(Debug)]
struct InHand {
    shown: ShownRecording,
    progress: Progress,
}

/// A recording or broadcast in hand, for those who look at this node.
#[derive(Clone, Debug)]
pub struct ShownRecording {
    pub kind: Kind,
    pub id: RecordingId,
    pub room: RoomId,
    /// Frames that are missing from the parts before the current one: dropped and late ones.
    pub lost_before: u64,
    /// The current part; `None` while nothing is captured.
    pub live: Option<LiveCapture>,
}

impl RecordingSignals {
    /// A recording or broadcast that this node has in hand from now on. `is_new`: no earlier run has begun it.
    #[must_use]
    pub fn take(&self, kind: Kind, info: &RecordingInfo, is_new: bool) -> Arc<RecordingSignal> {
        let mut running = self.lock();
        let key = running.last_key_value().map_or(0, |(last, _)| last + 1);
        let (id, room) = (info.recording_id.clone(), info.room_id.clone());
        let shown = ShownRecording { kind, id, room, lost_before: 0, live: None };
        running.insert(key, InHand { shown, progress: Progress::default() });
        drop(running);
        let taken = is_new.then(Instant::now);
        Arc::new(RecordingSignal { all: self.clone(), key, kind, taken })
    }

    /// Recordings and broadcasts that this node has in hand, also those whose capture has ended and which are not stored
    /// yet.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.lock().len()
    }

    /// Those recordings, oldest first.
    #[must_use]
    pub fn shown(&self) -> Vec<ShownRecording> {
        self.lock().values().map(|one| one.shown.clone()).collect()
    }

    /// A thread of a running capture that has not turned for `limit`, or whose driver has not looked.
    #[must_use]
    pub fn still_thread(&self, limit: Duration) -> Option<String> {
        let running = self.lock();
        let turns =
            running.values().filter_map(|one| one.progress.turns).flat_map(|turns| THREADS.into_iter().zip(turns));
        let mut still = turns.filter(|(_, (_, since))| since.elapsed() > limit);
        still.next().map(|(name, (_, since))| {
            format!("the thread `{name}` of a recording stands still for {} s", since.elapsed().as_secs())
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, InHand>> {
        // The map is consistent at every point that could panic.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one recording or broadcast tells, until this is dropped.
#[derive(Debug)]
pub struct RecordingSignal {
    all: RecordingSignals,
    key: u64,
    kind: Kind,
    /// When it was taken on; `None` where an earlier run has begun it.
    taken: Option<Instant>,
}

impl RecordingSignal {
    /// Its media flow for the first time.
    pub fn started(&self) {
        if let Some(taken) = self.taken {
            self.all.metrics.started_after(taken.elapsed());
        }
    }

    /// Its capture runs.
    pub fn look(&self, gauge: &CaptureGauge) {
        self.count(&gauge.report);
        let mut running = self.all.lock();
        let Some(InHand { progress, .. }) = running.get_mut(&self.key) else { return };
        let now = Instant::now();
        let before = progress.turns.unwrap_or(gauge.turns.map(|turns| (turns, now)));
        let mut turns = before;
        for (at, turn) in turns.iter_mut().enumerate() {
            if gauge.turns[at] != turn.0 {
                *turn = (gauge.turns[at], now);
            }
        }
        progress.turns = Some(turns);
    }

    /// Nothing is captured now.
    pub fn pause(&self) {
        if let Some(one) = self.all.lock().get_mut(&self.key) {
            one.progress.turns = None;
        }
    }

    /// What is captured now, for those who look.
    pub fn show(&self, live: Option<LiveCapture>) {
        if let Some(one) = self.all.lock().get_mut(&self.key) {
            one.shown.live = live;
        }
    }

    /// A capture of it has ended.
    pub fn part_ended(&self, report: &CaptureReport) {
        self.count(report);
        if let Some(InHand { shown, progress }) = self.all.lock().get_mut(&self.key) {
            *progress = Progress::default();
            shown.lost_before += report.frames_dropped + report.frames_late;
            shown.live = None;
        }
    }

    /// It is told to the server as ended.
    pub fn ended(&self, success: bool) {
        match self.kind {
            Kind::Recording => self.all.metrics.recording_ended(success),
            Kind::Broadcast => self.all.metrics.broadcast_ended(success),
        }
    }

    fn count(&self, report: &CaptureReport) {
        let mut running = self.all.lock();
        let Some(InHand { progress, .. }) = running.get_mut(&self.key) else { return };
        let silence = report.duration.mul_f64(report.sound.silence_share.clamp(0.0, 1.0));
        self.all.metrics.captured(
            report.frames_sent.saturating_sub(progress.frames),
            report.frames_dropped.saturating_sub(progress.dropped),
            silence.saturating_sub(progress.silence),
        );
        progress.frames = progress.frames.max(report.frames_sent);
        progress.dropped = progress.dropped.max(report.frames_dropped);
        progress.silence = progress.silence.max(silence);
    }
}

impl Drop for RecordingSignal {
    fn drop(&mut self) {
        self.all.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::quality::AudioStats;
    use crate::protocol::ids::RoomSid;

    fn info() -> RecordingInfo {
        RecordingInfo {
            room_table_id: 7,
            room_id: RoomId::parse("room01").unwrap(),
            room_sid: RoomSid::default(),
            recording_id: RecordingId::parse("rec-1").unwrap(),
        }
    }

    fn report(frames: u64, seconds: u64, silence_share: f64) -> CaptureReport {
        let sound = AudioStats { silence_share, ..AudioStats::default() };
        CaptureReport { frames_sent: frames, duration: Duration::from_secs(seconds), sound, ..CaptureReport::default() }
    }

    #[test]
    fn a_recording_counts_each_frame_once_over_all_of_its_parts() {
        let signals = RecordingSignals::default();
        let signal = signals.take(Kind::Recording, &info(), true);
        assert_eq!(signals.in_hand(), 1);
        signal.look(&CaptureGauge { report: report(10, 2, 1.0), turns: [1, 1] });
        signal.look(&CaptureGauge { report: report(30, 4, 0.75), turns: [2, 2] });
        signal.part_ended(&report(31, 4, 0.75));
        signal.look(&CaptureGauge { report: report(5, 1, 0.0), turns: [1, 1] });
        signal.ended(false);
        let text = signals.metrics.encode();
        for line in ["frames_total 36", "silence_seconds_total 3.0", "recordings_total{outcome=\"failed\"} 1"] {
            assert!(text.contains(&format!("plugnmeet_recorder_{line}\n")), "{line}: {text}");
        }
        drop(signal);
        assert_eq!(signals.in_hand(), 0);
    }

    #[test]
    fn a_thread_stands_still_where_it_does_not_turn_while_media_are_captured() {
        let signals = RecordingSignals::default();
        let signal = signals.take(Kind::Broadcast, &info(), true);
        assert_eq!(signals.still_thread(Duration::ZERO), None, "nothing is captured yet");
        for turns in [[1, 1], [2, 1]] {
            std::thread::sleep(Duration::from_millis(20));
            signal.look(&CaptureGauge { turns, ..CaptureGauge::default() });
        }
        let still = signals.still_thread(Duration::from_millis(10)).unwrap();
        assert!(still.contains("`sound`"), "{still}");
        signal.pause();
        assert_eq!(signals.still_thread(Duration::ZERO), None);
    }
}
