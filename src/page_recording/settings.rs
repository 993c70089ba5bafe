//! What `record` captures and encodes with: the embedded configuration, and the arguments.

use std::path::{Path, PathBuf};

use crate::capture::browser::chrome_arguments::ChromeSettings;
use crate::capture::browser::visit::PageVisit;
use crate::capture::encoder::arguments::{EncoderSettings, EncoderTarget};
use crate::capture::rig::RigSpec;
use crate::config::{self, ChromeFlag, Config, FfmpegOptions};
use crate::page_recording::arguments::RecordArguments;
use crate::page_recording::outlet::rtmp;
use crate::page_recording::summary::Tracks;

/// The embedded configuration.
const DEFAULTS: &str = include_str!("defaults.yaml");

/// # Errors
/// Where the embedded configuration is not valid, which a test excludes.
pub fn defaults() -> Result<Config, String> {
    let parsed = config::parse(DEFAULTS, "the embedded configuration");
    parsed.map(|(config, _)| config).map_err(|problems| problems.to_string())
}

/// The rig of a recording. `owner`: see [`crate::page_recording::leftovers`]; `sandbox`: whether Chrome can use its own;
/// `trusted`: Chrome's database of certificates.
#[must_use]
pub fn rig(
    config: &Config,
    arguments: &RecordArguments,
    raw: &Path,
    owner: String,
    sandbox: bool,
    screenshot: PathBuf,
    trusted: Option<PathBuf>,
) -> RigSpec {
    let recording = &config.ffmpeg.recording;
    let mut encoder = EncoderSettings::new(&recording.pre_input, &recording.post_input);
    if arguments.rtmp.is_some() {
        encoder.post_input.extend(rtmp::encoding(arguments.fps));
    }
    (encoder.capture.framerate, encoder.capture.size) = (arguments.fps, Some(arguments.size));
    let user_agent = arguments.user_agent.as_ref();
    let flags = user_agent.map(|name| ChromeFlag { name: "user-agent".to_owned(), value: Some(name.clone()) });
    RigSpec {
        url: arguments.url.to_string(),
        target: EncoderTarget::File(raw.to_owned()),
        encoder,
        fallback: None,
        chrome: ChromeSettings { path: None, flags: flags.into_iter().collect(), sandbox, trusted },
        size: arguments.size,
        dpi: config.recorder.dpi,
        silence_warning: None,
        screenshot,
        owner,
    }
}

#[must_use]
pub fn visit(arguments: &RecordArguments) -> PageVisit {
    PageVisit {
        cookies: arguments.cookie.clone(),
        headers: arguments.header.clone(),
        clicks: arguments.click.clone(),
        wait_for: arguments.wait_for.clone(),
        until_gone: arguments.until_gone.clone(),
    }
}

#[must_use]
pub fn tracks(arguments: &RecordArguments) -> Tracks {
    Tracks { picture: !arguments.sound_only, sound: !arguments.no_sound }
}

/// ffmpeg's options for the MP4.
#[must_use]
pub fn mp4_options(config: &Config, tracks: Tracks) -> FfmpegOptions {
    let mut options = config.ffmpeg.post_recording.clone();
    if !tracks.sound {
        options.post_input.push("-an".to_owned());
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_configuration_is_valid_and_leaves_music_as_it_is() {
        let config = defaults().unwrap();
        let options = mp4_options(&config, Tracks { picture: true, sound: true });
        assert!(!options.post_input.iter().any(|word| word == "-af" || word == "-an"), "{options:?}");
        let silent = mp4_options(&config, Tracks { picture: true, sound: false });
        assert_eq!(silent.post_input.last().map(String::as_str), Some("-an"));
    }
}
