//! The section `ffmpeg_settings`. The defaults are literally those of the reference, because operators copy and change
//! them. Profiles are an addition: ready-made options for the MP4, before the operator's own.

use std::time::Duration;

use crate::config::reader::{ConfigSection, split};
use crate::config::sections::{FfmpegConfig, FfmpegOptions, Profile};

/// Options before and after `-i` as written in the file.
struct OptionStrings {
    pre_input: &'static str,
    post_input: &'static str,
}

const RECORDING: OptionStrings = OptionStrings {
    pre_input: "-loglevel error -thread_queue_size 512 -draw_mouse 0 -threads 1",
    post_input: "-c:v libx264 -bf 0 -x264-params keyint=120:scenecut=0 -preset ultrafast -crf 23 -c:a copy \
                 -movflags frag_keyframe+empty_moov+default_base_moof -flush_packets 1 -tune zerolatency -y",
};

const POST_RECORDING: OptionStrings = OptionStrings {
    pre_input: "-loglevel error",
    post_input: "-c:v libx264 -profile:v baseline -pix_fmt yuv420p -preset veryfast -movflags faststart -y -c:a aac \
                 -af highpass=f=200,lowpass=f=4000,afftdn",
};

const RTMP: OptionStrings = OptionStrings {
    pre_input: "-loglevel error -draw_mouse 0 -threads 1",
    post_input: "-c:v libx264 -profile:v baseline -bf 0 -x264-params keyint=120:scenecut=0 -b:v 2500k \
                 -video_size 1920x1080 -c:a aac -b:a 128k -ar 44100 -preset ultrafast -crf 23 \
                 -movflags frag_keyframe+empty_moov+default_base_moof -bufsize 5000k -flush_packets 1 \
                 -tune zerolatency -f flv",
};

/// With one of these the options say where keyframes are.
const KEYFRAME_OPTIONS: [&str; 3] = ["-force_key_frames", "-g", "-keyint_min"];

const VIDEO_CODEC_OPTIONS: [&str; 5] = ["-c", "-c:v", "-codec", "-codec:v", "-vcodec"];

/// Profiles by their names in the file.
const PROFILES: [(&str, Profile); 3] =
    [("compatible", Profile::Compatible), ("small", Profile::Small), ("fast", Profile::Fast)];

impl Profile {
    pub const ALL: [Self; 3] = [Self::Compatible, Self::Small, Self::Fast];

    /// The name in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        PROFILES.iter().find(|(_, profile)| *profile == self).map_or("", |(name, _)| name)
    }

    /// The options after `-i`, as in the file. Measured for screen content: docs/encoding-profiles.md.
    #[must_use]
    pub fn post_input(self) -> &'static str {
        match self {
            // The defaults, with explicit values for what they leave open: the level of every 1080p decoder, a keyframe
            // every 5 s (250 frames of slides are 4 minutes), stereo.
            Self::Compatible => {
                "-c:v libx264 -profile:v baseline -level:v 4.0 -pix_fmt yuv420p -preset veryfast -crf 23 \
                 -force_key_frames expr:gte(t,n_forced*5) -movflags +faststart -c:a aac -b:a 128k -ac 2 -ar 48000 \
                 -af highpass=f=200,lowpass=f=4000,afftdn"
            }
            // x264's tuning for cartoons suits letters and flat areas. 64 kbit/s are enough up to 4 kHz.
            Self::Small => {
                "-c:v libx264 -profile:v high -pix_fmt yuv420p -preset slow -tune animation -crf 30 \
                 -movflags +faststart -c:a aac -b:a 64k -af highpass=f=200,lowpass=f=4000,afftdn"
            }
            // No audio filters: they cost nearly as much as encoding slides.
            Self::Fast => {
                "-c:v libx264 -pix_fmt yuv420p -preset ultrafast -crf 26 -movflags +faststart -c:a aac -b:a 128k"
            }
        }
    }
}

impl FfmpegConfig {
    /// Whether raw files have a keyframe as often as [`FfmpegOptions::keyframes_every`] wants, and no B-frames, whichever of
    /// the two encoders writes them.
    #[must_use]
    pub fn has_keyframes_every(&self, distance: Duration) -> bool {
        let theirs = &self.recording.post_input;
        // More keyframes (`-g`) do no harm; with these options there are none of ours (`capture/encoder/arguments.rs`).
        let ours = !theirs.iter().any(|word| word.starts_with("-force_key_frames"));
        let in_order = theirs.iter().any(|word| ["ultrafast", "zerolatency"].contains(&word.as_str()))
            || theirs.windows(2).any(|pair| pair[0].starts_with("-bf") && pair[1] == "0");
        ours && in_order && (!self.one_pass || self.post_recording.post_input.ends_with(&keyframes(distance)))
    }

    /// Whether recordings are encoded with the default options while they run: an operator has not decided about that.
    #[must_use]
    pub fn records_as_by_default(&self) -> bool {
        self.recording.post_input == split(RECORDING.post_input)
    }
}

impl FfmpegOptions {
    /// The default of `ffmpeg_settings.post_recording`: the profile's options, or the reference's without a profile.
    #[must_use]
    pub fn post_recording(profile: Option<Profile>) -> Self {
        let post_input = profile.map_or(POST_RECORDING.post_input, Profile::post_input);
        Self { pre_input: split(POST_RECORDING.pre_input), post_input: split(post_input) }
    }
}

impl FfmpegOptions {
    /// Adds keyframes this far apart, unless the options say where they are or copy the picture.
    pub(super) fn keyframes_every(&mut self, distance: Duration) {
        let copies = |pair: &[String]| VIDEO_CODEC_OPTIONS.contains(&pair[0].as_str()) && pair[1] == "copy";
        if !self.post_input.iter().any(|word| says_where_keyframes_are(word)) && !self.post_input.windows(2).any(copies)
        {
            self.post_input.extend(keyframes(distance));
        }
    }
}

fn says_where_keyframes_are(word: &str) -> bool {
    let name = word.split(':').next().unwrap_or(word);
    KEYFRAME_OPTIONS.contains(&name) || word.contains("keyint=")
}

/// The options for keyframes so far apart.
fn keyframes(distance: Duration) -> [String; 2] {
    ["-force_key_frames".to_owned(), format!("expr:gte(t,n_forced*{})", distance.as_secs_f64())]
}

pub(super) fn read(root: &ConfigSection<'_>) -> FfmpegConfig {
    let section = root.section("ffmpeg_settings");
    let options = |key: &str, default: &OptionStrings| {
        let section = section.section(key);
        FfmpegOptions {
            pre_input: section.words("pre_input", default.pre_input),
            post_input: section.words("post_input", default.post_input),
        }
    };
    let profile = section.optional_choice("profile", &PROFILES);
    FfmpegConfig {
        one_pass: section.flag("one_pass", true),
        early_mp4_from: u64::from(section.whole("early_mp4_from_mb", 0..=1_000_000, 256)) * 1_000_000,
        profile,
        recording: options("recording", &RECORDING),
        post_recording: match profile {
            None => options("post_recording", &POST_RECORDING),
            // ffmpeg takes the last of repeated options, so the operator's win.
            Some(profile) => {
                let own = options("post_recording", &OptionStrings { post_input: "", ..POST_RECORDING });
                let mut post_input = split(profile.post_input());
                post_input.extend(own.post_input);
                FfmpegOptions { post_input, ..own }
            }
        },
        rtmp: options("rtmp", &RTMP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_files_have_keyframes_where_segments_begin_unless_an_operator_says_where() {
        let every = Duration::from_secs(4);
        let with = |recording: &str, post_recording: &str, one_pass| {
            let options = |words: &str| FfmpegOptions { pre_input: Vec::new(), post_input: split(words) };
            let mut post_recording = options(post_recording);
            post_recording.keyframes_every(every);
            let early_mp4_from = 0;
            let (recording, rtmp) = (options(recording), options(""));
            FfmpegConfig { one_pass, early_mp4_from, profile: None, recording, post_recording, rtmp }
                .has_keyframes_every(every)
        };
        let (fast, small) = (RECORDING.post_input, "-c:v libx264 -preset veryfast");
        assert!(with(fast, POST_RECORDING.post_input, true) && with("-preset fast -bf 0 -g 60", small, true));
        assert!(!with("-preset ultrafast -force_key_frames 0", small, true) && !with(small, small, true));
        assert!(!with(fast, "-c:v libx264 -g 600", true) && with(fast, "-c:v libx264 -g 600", false));
    }
}
