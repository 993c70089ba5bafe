//! Counters and quality of a running capture.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::capture::audio::av_sync::SyncCorrections;
use crate::capture::quality::{AudioQuality, VideoQuality};

/// Counters and quality of the stream, readable while it runs.
#[derive(Debug)]
pub struct CaptureCounters {
    pub frames_sent: AtomicU64,
    /// Changed frames that were due but not sent in time because ffmpeg was behind.
    pub frames_dropped: AtomicU64,
    /// Changed frames that were late because the capture was: the machine is overloaded.
    pub frames_late: AtomicU64,
    /// Samples that came from PulseAudio, before any correction.
    pub samples_heard: AtomicU64,
    corrections: Mutex<SyncCorrections>,
    sound: Mutex<AudioQuality>,
    frame: Mutex<VideoQuality>,
}

impl CaptureCounters {
    #[must_use]
    pub fn new(sample_rate: u32) -> Self {
        Self {
            frames_sent: AtomicU64::new(0),
            frames_dropped: AtomicU64::new(0),
            frames_late: AtomicU64::new(0),
            samples_heard: AtomicU64::new(0),
            corrections: Mutex::default(),
            sound: Mutex::new(AudioQuality::new(sample_rate)),
            frame: Mutex::default(),
        }
    }

    /// Frames that were to be sent: those that were dropped because ffmpeg was behind, too.
    #[must_use]
    pub fn frames_offered(&self) -> u64 {
        self.frames_sent.load(Ordering::Relaxed) + self.frames_dropped.load(Ordering::Relaxed)
    }

    /// Corrections that keep audio and video in step.
    pub fn corrections(&self) -> MutexGuard<'_, SyncCorrections> {
        self.corrections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Quality of the audio; measured from all audio that is sent.
    pub fn audio(&self) -> MutexGuard<'_, AudioQuality> {
        self.sound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Quality of the video; updated by the sender of frames, which knows their changes.
    pub fn video(&self) -> MutexGuard<'_, VideoQuality> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
