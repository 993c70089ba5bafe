//! The arguments of `size`.

use clap::{Args, ValueEnum};

/// Shown behind the help of `size`.
pub const AFTER_HELP: &str = "\
Examples:
  plugnmeet-recorder size                                    without configuration: all scenes, at 1920x1080
  plugnmeet-recorder -config config.yaml size --write        and put the most cautious number into the configuration
  plugnmeet-recorder -config config.yaml size --scene 1-webcam --write    or that of the meetings held here
  plugnmeet-recorder size --scene slides --max 2 --json      whether two recordings hold, for a program

The machine is loaded to its limit for up to 5 minutes. Drain the node first: while recordings run on this machine, nothing
is measured, and one that begins ends the measurement.

Exit codes:
  0    measured, and with --write written
  1    something broke, or the configuration cannot be written; what was measured before is shown
  2    wrong usage or configuration
  3    refused: something is being recorded on this machine
  130  stopped by a signal";

/// The most recordings that are tried, as the configuration takes no larger `max_limit`.
const MOST: u32 = 1000;

/// What `size` is to do.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct SizeArguments {
    /// Only this scene; may be repeated
    #[arg(long, value_name = "SCENE")]
    pub scene: Vec<Scene>,
    /// Try no more recordings at once than this
    #[arg(long, value_name = "N", default_value_t = MOST, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    pub max: u32,
    /// How long each number of recordings is looked at, 1 to 60 s; a longer time is surer
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub seconds: u32,
    /// Write the smallest recommendation of the measured scenes into `recorder.max_limit` of the configuration; a comment
    /// keeps the old value
    #[arg(long)]
    pub write: bool,
    /// As one JSON object on standard output
    #[arg(long)]
    pub json: bool,
    /// Log what the recorder does
    #[arg(long)]
    pub verbose: bool,
}

impl SizeArguments {
    /// The scenes in the order of their cost; all where none is named.
    #[must_use]
    pub fn scenes(&self) -> Vec<Scene> {
        let wanted = |scene: &Scene| self.scene.is_empty() || self.scene.contains(scene);
        Scene::ALL.into_iter().filter(wanted).collect()
    }
}

/// What a meeting shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scene {
    /// Slides, one change a second
    #[value(name = "slides")]
    Slides,
    /// The same, and a webcam of 25 frames a second
    #[value(name = "1-webcam")]
    OneWebcam,
    /// The same, and four webcams
    #[value(name = "4-webcams")]
    FourWebcams,
}

impl Scene {
    /// In the order of their cost.
    pub const ALL: [Self; 3] = [Self::Slides, Self::OneWebcam, Self::FourWebcams];

    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slides => "slides",
            Self::OneWebcam => "1-webcam",
            Self::FourWebcams => "4-webcams",
        }
    }

    /// Changes of the picture in a second.
    #[must_use]
    pub fn frames_per_second(self) -> u32 {
        if self.webcams() == 0 { 1 } else { 25 }
    }

    #[must_use]
    pub fn webcams(self) -> u32 {
        match self {
            Self::Slides => 0,
            Self::OneWebcam => 1,
            Self::FourWebcams => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_is_named_as_on_the_command_line_and_all_are_measured_where_none_is_named() {
        for scene in Scene::ALL {
            assert_eq!(scene.to_possible_value().unwrap().get_name(), scene.name());
        }
        let arguments = |scene: &[Scene]| SizeArguments {
            scene: scene.to_vec(),
            max: 1,
            seconds: 5,
            write: false,
            json: false,
            verbose: false,
        };
        assert_eq!(arguments(&[]).scenes(), Scene::ALL);
        let two = arguments(&[Scene::FourWebcams, Scene::Slides, Scene::Slides]);
        assert_eq!(two.scenes(), [Scene::Slides, Scene::FourWebcams]);
    }
}
