//! What the page of a meeting shows and plays, and where.

use std::time::Duration;

/// Where things are on the page at 1920×1080; `page.html` is laid out to these.
pub mod area {
    use crate::measure::Crop;

    /// The whole page.
    pub const PAGE: Crop = Crop::new(0, 0, 1920, 1080);
    /// The slide with its number.
    pub const SLIDE: Crop = Crop::new(20, 20, 1480, 1040);
    /// A part of the slide with nothing but its colour.
    pub const SLIDE_COLOUR: Crop = Crop::new(60, 60, 360, 160);
    /// A part of the slide that turns magenta while a pointer is over the slide.
    pub const HOVER: Crop = Crop::new(80, 890, 1360, 40);
    /// The meeting's own colour; never changes.
    pub const ROOM_COLOUR: Crop = Crop::new(1520, 840, 100, 200);
    /// Black, and white at each beep.
    pub const FLASH: Crop = Crop::new(1640, 820, 240, 240);

    /// A webcam over the slide.
    pub const LARGE: Crop = Crop::new(20, 20, 1480, 832);

    /// The n-th webcam, 0 to 3.
    pub const fn webcam(n: u32) -> Crop {
        Crop::new(1560, 20 + 200 * n, 320, 180)
    }
}

pub type Rgb = [u8; 3];

/// What fills the page once the meeting is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Slides, webcams, the room's colour and the flash, as in [`area`].
    Meeting,
    /// A video of 30 frames a second that fills the page: somebody shares a film.
    Film,
    /// Each colour in a column of its own, from left to right, over the whole height.
    Patches(Vec<Rgb>),
    /// The whole page in one of two colours, which change places after each hold; `None`: with every frame of Chrome.
    Alternation { colours: [Rgb; 2], hold: Option<Duration> },
}

/// What plays on a page without making up for anything, as real ones do. Each flashes in the place of a webcam, all but the
/// last two beep with it, and the page is sounding ([`super::Room::wait_for_sound`]) when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A guest in a Chrome of its own ([`crate::standin::call::Guest`]) is seen and heard: a WebRTC call with each track in a
    /// stream of its own, as `LiveKit` has it.
    Call,
    /// The same with both tracks in one stream.
    CallInOneStream,
    /// As [`Self::Call`], 640×360 shown over most of the page.
    LargeCall,
    /// As [`Self::Call`] with four pictures, 320×180 each, in the places of all webcams.
    FourCalls,
    /// A `<video>` with sound.
    Clip,
    /// A `<div>` that flashes while an oscillator is started at the `AudioContext`'s `currentTime`.
    Oscillator,
    /// A WebRTC call of the page with itself, VP8 in three sizes. Silent.
    Loopback,
    /// Borders of those who speak, and toasts, moved by CSS.
    Animation,
}

impl Content {
    pub(in crate::standin) fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::CallInOneStream => "call-in-one-stream",
            Self::LargeCall => "large-call",
            Self::FourCalls => "four-calls",
            Self::Clip => "clip",
            Self::Oscillator => "oscillator",
            Self::Loopback => "loopback",
            Self::Animation => "animation",
        }
    }

    /// Where it is, on the page at 1920×1080.
    pub const fn area(self) -> crate::measure::Crop {
        area::webcam(match self {
            Self::LargeCall => return area::LARGE,
            Self::Call | Self::CallInOneStream | Self::FourCalls => 0,
            Self::Clip => 1,
            Self::Oscillator => 2,
            Self::Loopback | Self::Animation => 3,
        })
    }

    /// The pitch of its beep.
    pub const fn beep_hz(self) -> f64 {
        match self {
            Self::Call | Self::CallInOneStream | Self::LargeCall | Self::FourCalls => 1000.0,
            Self::Clip => 1700.0,
            Self::Oscillator | Self::Loopback | Self::Animation => 2400.0,
        }
    }
}

/// What the page of a meeting shows, plays and does.
#[derive(Debug, Clone)]
pub struct Meeting {
    /// What its owner calls it, which may be anything; `None`: a name that no other room has.
    pub room_id: Option<String>,
    /// All that is not the stage's own is left out of the page where it is not [`Stage::Meeting`], but for the beep.
    pub stage: Stage,
    /// In [`area::ROOM_COLOUR`].
    pub colour: Rgb,
    /// The slides' colours; shown in turn, for ever.
    pub slides: Vec<Rgb>,
    /// `None`: only when a test says so ([`super::Room::show_slide`]).
    pub slide_every: Option<Duration>,
    /// 0 to 4 tiles of real VP8 video.
    pub webcams: u8,
    /// The videos are there but never get any data.
    pub webcams_stall: bool,
    /// What plays besides, each in a place of its own.
    pub contents: Vec<Content>,
    /// The pitch of the beep each second; `None`: the page is silent and opens no sound at all.
    pub beep_hz: Option<f64>,
    /// The flash each second, with the beep.
    pub flash: bool,
    /// From the page's load until the join button is enabled; `None`: never.
    pub ready_after: Option<Duration>,
    /// From the click until `#main-area` is there; `None`: never.
    pub joined_after: Option<Duration>,
    /// It is encrypted from end to end with a key that its participants type.
    pub security_key: bool,
    /// For how long the recorder's page stays after the last participant has left.
    pub lonely_for: Duration,
}

impl Default for Meeting {
    fn default() -> Self {
        Self {
            room_id: None,
            stage: Stage::Meeting,
            colour: [40, 90, 200],
            slides: vec![[180, 40, 40], [40, 150, 60], [50, 70, 190], [200, 160, 30], [130, 50, 160], [30, 150, 160]],
            slide_every: Some(Duration::from_secs(1)),
            webcams: 3,
            webcams_stall: false,
            contents: Vec::new(),
            beep_hz: Some(1000.0),
            flash: true,
            ready_after: Some(Duration::from_millis(400)),
            joined_after: Some(Duration::from_millis(100)),
            security_key: false,
            lonely_for: Duration::from_secs(6),
        }
    }
}
