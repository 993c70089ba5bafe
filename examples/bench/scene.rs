//! What is recorded: pages of the stand-in, from a still one to a film.

use std::time::Duration;

use crate::standin::Meeting;
use crate::standin::meeting::Stage;

/// The pitch of the beep of every page here.
pub const BEEP_HZ: f64 = 1000.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scene {
    /// Slides, one change a second.
    Slides,
    /// The same and a webcam of 25 frames a second.
    OneWebcam,
    /// The same and four webcams.
    FourWebcams,
    /// A film of 30 frames a second over the whole page.
    Film,
}

impl Scene {
    pub const ALL: [Self; 4] = [Self::Slides, Self::OneWebcam, Self::FourWebcams, Self::Film];

    pub fn name(self) -> &'static str {
        match self {
            Self::Slides => "slides",
            Self::OneWebcam => "slides + 1 webcam",
            Self::FourWebcams => "slides + 4 webcams",
            Self::Film => "film, 30 fps",
        }
    }

    /// The page, with a beep each second and so with sound that plays all the time, but without the flash, which
    /// would be two changes of the picture more.
    pub fn meeting(self) -> Meeting {
        let webcams = match self {
            Self::Slides | Self::Film => 0,
            Self::OneWebcam => 1,
            Self::FourWebcams => 4,
        };
        let stage = if self == Self::Film { Stage::Film } else { Stage::Meeting };
        let (beep_hz, slide_every) = (Some(BEEP_HZ), Some(Duration::from_secs(1)));
        Meeting { stage, webcams, beep_hz, slide_every, flash: false, ..Meeting::default() }
    }

    /// The least that the reference pipeline must cost over what ours costs: with PulseAudio on both sides, and without.
    pub fn target(self) -> (f64, f64) {
        match self {
            Self::Slides => (8.0, 12.0),
            Self::OneWebcam => (2.1, 2.3),
            Self::FourWebcams => (1.8, 1.9),
            Self::Film => (1.4, 1.4),
        }
    }
}
