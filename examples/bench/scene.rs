//! What is recorded: pages of the stand-in, from a still one to a film.

use std::time::Duration;

use crate::standin::Meeting;
use crate::standin::meeting::{Content, Stage};

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
    /// A still slide, the border of one who speaks and a toast, moved by CSS.
    Speaking,
    /// A WebRTC call at 30 frames a second, 640×360 over most of the page.
    LargeCall,
    /// A WebRTC call with four pictures at 30 frames a second, 320×180 each.
    FourCalls,
}

impl Scene {
    /// Those that are measured where none is named. The others show what Chrome costs.
    pub const ALL: [Self; 4] = [Self::Slides, Self::OneWebcam, Self::FourWebcams, Self::Film];

    pub fn name(self) -> &'static str {
        match self {
            Self::Slides => "slides",
            Self::OneWebcam => "slides + 1 webcam",
            Self::FourWebcams => "slides + 4 webcams",
            Self::Film => "film, 30 fps",
            Self::Speaking => "speaking border",
            Self::LargeCall => "large call",
            Self::FourCalls => "four calls",
        }
    }

    /// The page, with a beep each second and so with sound that plays all the time, but without the flash, which
    /// would be two changes of the picture more.
    pub fn meeting(self) -> Meeting {
        let webcams = match self {
            Self::OneWebcam => 1,
            Self::FourWebcams => 4,
            _ => 0,
        };
        let stage = if self == Self::Film { Stage::Film } else { Stage::Meeting };
        let is_still = matches!(self, Self::Speaking | Self::LargeCall | Self::FourCalls);
        let slide_every = (!is_still).then_some(Duration::from_secs(1));
        let contents =
            if self == Self::Speaking { vec![Content::Animation] } else { self.call().into_iter().collect() };
        // A call has a sound of its own.
        let beep_hz = self.call().is_none().then_some(BEEP_HZ);
        Meeting { stage, webcams, beep_hz, slide_every, contents, flash: false, ..Meeting::default() }
    }

    /// The call on the page, for which a guest is needed.
    pub fn call(self) -> Option<Content> {
        match self {
            Self::LargeCall => Some(Content::LargeCall),
            Self::FourCalls => Some(Content::FourCalls),
            _ => None,
        }
    }

    /// The least that the reference pipeline must cost over what ours costs: with PulseAudio on both sides, and without.
    pub fn target(self) -> (f64, f64) {
        match self {
            Self::Slides => (8.0, 12.0),
            Self::OneWebcam => (2.1, 2.3),
            Self::FourWebcams => (1.8, 1.9),
            Self::Film => (1.4, 1.4),
            Self::Speaking | Self::LargeCall | Self::FourCalls => (1.0, 1.0),
        }
    }
}
