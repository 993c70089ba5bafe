//! Encoding a recording once: while it runs, as its MP4 shall be. Pure.
//!
//! What the recording node has encoded is marked in the raw file, track by track, with the options it was encoded with.
//! A transcoding node whose own options give the same mark copies the track; any other encodes it as ever. The sound as
//! it was captured stays in the raw file beside the encoded one: parts can only be joined without a seam where the sound
//! is encoded once from all of them, and other transcoders (PROTOCOL 6) take it, because it is the default track.

use crate::config::FfmpegOptions;
use crate::media::ffprobe::{MediaInfo, MediaStream, StreamKind};
use crate::media::filter_delay::without_delay;

/// Name of the tag of a track that holds its mark.
pub const TAG: &str = "ENCODED_FOR";
/// The first word of each mark. It is raised when the recording node encodes the same options in another way that a
/// transcoding node may not copy.
const VERSION: &str = "1";
/// The presets that encode a meeting with ease while it runs (measured: docs/benchmarks.md), and whether they look ahead.
const PRESETS: [(&str, bool); 3] = [("ultrafast", false), ("superfast", false), ("veryfast", true)];
/// How many frames the encoder looks ahead instead of the 10 of `veryfast`: as good and smaller (measured), and what it
/// holds back is lost in a crash. Without any, a picture with webcams is twice as large.
const LOOKAHEAD: &str = "1";
/// How finely movement is looked for between pixels, instead of the 2 of `veryfast`: a quarter of the encoder's time less.
const SUBPIXEL: &str = "1";
/// How much finer the quality must be set with both for the likeness of `veryfast`, and at most a quarter more bytes.
const FINER: f64 = 2.7;
/// What libx264 takes where neither quality nor bit rate is given.
const DEFAULT_CRF: f64 = 23.0;
/// The lead-in of ffmpeg's encoder `aac`, in samples, and the capture's samples per second.
const LEAD_IN_SAMPLES: f64 = 1024.0;
const SAMPLE_RATE: f64 = 48_000.0;
/// The same distance of keyframes as in a transcoded MP4.
const KEYFRAMES: [&str; 2] = ["-force_key_frames", "expr:gte(t,n_forced*8)"];

/// The pixels that are captured, and encoded where no others are asked for.
const PIXELS: &str = "yuv420p";

/// What an option is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    Video,
    Sound,
    Container,
    /// Logging, or how fast it goes: nothing that is in a file.
    Run,
}

/// The options that can be carried out while recording: their names, one of them for all spellings, and whether they
/// have a value.
const OPTIONS: [(&[&str], Topic, bool); 24] = [
    (&["-c:v", "-codec:v", "-vcodec", "-c:v:0"], Topic::Video, true),
    (&["-profile:v", "-vprofile"], Topic::Video, true),
    (&["-level:v", "-level"], Topic::Video, true),
    (&["-pix_fmt", "-pix_fmt:v"], Topic::Video, true),
    (&["-preset", "-preset:v"], Topic::Video, true),
    (&["-tune", "-tune:v"], Topic::Video, true),
    (&["-crf", "-crf:v"], Topic::Video, true),
    (&["-b:v", "-vb"], Topic::Video, true),
    (&["-maxrate", "-maxrate:v"], Topic::Video, true),
    (&["-bufsize", "-bufsize:v"], Topic::Video, true),
    (&["-bf", "-bf:v"], Topic::Video, true),
    (&["-g", "-g:v"], Topic::Video, true),
    (&["-keyint_min", "-keyint_min:v"], Topic::Video, true),
    (&["-force_key_frames", "-force_key_frames:v"], Topic::Video, true),
    (&["-x264-params", "-x264-params:v"], Topic::Video, true),
    (&["-c:a", "-codec:a", "-acodec", "-c:a:0"], Topic::Sound, true),
    (&["-b:a", "-ab"], Topic::Sound, true),
    (&["-ac", "-ac:a"], Topic::Sound, true),
    (&["-ar", "-ar:a"], Topic::Sound, true),
    (&["-af", "-filter:a", "-filter:a:0"], Topic::Sound, true),
    (&["-movflags"], Topic::Container, true),
    (&["-f", "-movie_timescale"], Topic::Run, true),
    (&["-loglevel", "-v", "-threads", "-threads:v", "-max_muxing_queue_size"], Topic::Run, true),
    (&["-y", "-n", "-hide_banner", "-nostdin", "-nostats"], Topic::Run, false),
];

/// Why a recording cannot be encoded as its MP4 while it runs: it is encoded afterwards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    #[error("{0} is done after the recording only")]
    Option(String),
    #[error("the codec {0:?} is none of libx264 and aac")]
    Codec(String),
    #[error("the preset {0:?} of libx264 is too slow for a meeting that runs; superfast and veryfast are not")]
    Preset(String),
    #[error("B-frames are asked for, and their times cannot be told from a raw file")]
    BFrames,
}

/// The options of one track: names in the order of [`OPTIONS`], each once, with values.
type TrackOptions = Vec<(&'static str, String)>;

/// The encoding of an MP4 that can be done while recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalEncoding {
    video: TrackOptions,
    sound: TrackOptions,
    container: TrackOptions,
}

/// The tracks of a raw file that are encoded as an MP4 shall be, by their index in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FinalTracks {
    pub video: Option<usize>,
    pub sound: Option<usize>,
}

impl FinalEncoding {
    /// Reads the operator's options for MP4s (`ffmpeg_settings.post_recording`, the profile included).
    ///
    /// # Errors
    /// Where one of them is not known to be possible while recording.
    pub fn read(options: &FfmpegOptions) -> Result<Self, Unsuitable> {
        let mut found: [Option<String>; OPTIONS.len()] = Default::default();
        let mut words = options.pre_input.iter().chain(&options.post_input);
        while let Some(word) = words.next() {
            let unknown = || Unsuitable::Option(word.clone());
            let known = OPTIONS.iter().position(|(names, ..)| names.contains(&word.as_str())).ok_or_else(unknown)?;
            if OPTIONS[known].2 {
                // ffmpeg takes the last of repeated options.
                found[known] = Some(words.next().ok_or_else(unknown)?.clone());
            }
        }
        let of = |topic| -> TrackOptions {
            let options = OPTIONS.iter().zip(&found).filter(|((_, about, _), _)| *about == topic);
            options.filter_map(|((names, ..), value)| Some((names[0], value.clone()?))).collect()
        };
        let encoding = Self { video: of(Topic::Video), sound: of(Topic::Sound), container: of(Topic::Container) };
        encoding.check()?;
        Ok(encoding)
    }

    fn check(&self) -> Result<(), Unsuitable> {
        let video = |name| value(&self.video, name);
        for (codec, ours) in [(video("-c:v"), "libx264"), (value(&self.sound, "-c:a").or(Some("aac")), "aac")] {
            if codec != Some(ours) {
                return Err(Unsuitable::Codec(codec.unwrap_or_default().to_owned()));
            }
        }
        let preset = video("-preset").unwrap_or("medium");
        if !PRESETS.iter().any(|(name, _)| *name == preset) {
            return Err(Unsuitable::Preset(preset.to_owned()));
        }
        let parameters = video("-x264-params").unwrap_or_default();
        let more = parameters.split(':').filter_map(|parameter| parameter.strip_prefix("bframes="));
        if video("-bf").into_iter().chain(more).any(|frames| frames != "0") {
            return Err(Unsuitable::BFrames);
        }
        Ok(())
    }

    /// ffmpeg's options for the picture of a recording that runs.
    #[must_use]
    pub fn video_options(&self) -> Vec<String> {
        let mut options = flat(&self.video);
        let given = |names: &[&str]| self.video.iter().any(|(name, _)| names.contains(name));
        let parameters = value(&self.video, "-x264-params").unwrap_or_default();
        if !given(&["-g", "-keyint_min", "-force_key_frames"]) && !parameters.contains("keyint=") {
            options.extend(KEYFRAMES.map(str::to_owned));
        }
        if !given(&["-bf"]) {
            options.extend(["-bf", "0"].map(str::to_owned));
        }
        if self.looks_ahead() && !parameters.contains("rc-lookahead=") {
            options.extend(["-rc-lookahead", LOOKAHEAD].map(str::to_owned));
            if let Some(crf) = self.finer() {
                // Theirs is before it, and ffmpeg takes the last.
                options.extend(["-crf".to_owned(), crf]);
                if !parameters.contains("subme=") {
                    options.extend(["-subq", SUBPIXEL].map(str::to_owned));
                }
            }
        }
        options
    }

    /// How many frames the encoder waits for before it gives one.
    #[must_use]
    pub fn lookahead(&self) -> u32 {
        let parameters = value(&self.video, "-x264-params").unwrap_or_default();
        let theirs = parameters.split(':').find_map(|parameter| parameter.strip_prefix("rc-lookahead="));
        let ours = if self.looks_ahead() { LOOKAHEAD } else { "0" };
        theirs.unwrap_or(ours).parse().unwrap_or_default()
    }

    /// `None`: a bit rate is given, or no number.
    fn finer(&self) -> Option<String> {
        let parameters = value(&self.video, "-x264-params").unwrap_or_default();
        let theirs = value(&self.video, "-crf").map_or(Some(DEFAULT_CRF), |crf| crf.parse().ok())?;
        let by_rate =
            value(&self.video, "-b:v").is_some() || parameters.contains("crf=") || parameters.contains("bitrate=");
        (!by_rate).then(|| format!("{:.1}", (theirs - FINER).max(0.0)))
    }

    fn looks_ahead(&self) -> bool {
        PRESETS.iter().any(|(name, ahead)| value(&self.video, "-preset") == Some(name) && *ahead)
    }

    /// ffmpeg's options for the sound of a raw file.
    #[must_use]
    pub fn sound_options(&self) -> Vec<String> {
        self.sound_of("", None)
    }

    /// ffmpeg's options for the sound of a recording that runs, each with this suffix (`:1`: the output's second track of
    /// sound). It is put late by the lead-in of its codec: otherwise it would begin before all else, and ffmpeg would
    /// move all tracks of the file, or leave their beginning out where it reads parts one after the other.
    #[must_use]
    pub fn live_sound_options(&self, suffix: &str) -> Vec<String> {
        self.sound_of(suffix, Some(self.lead_in()))
    }

    fn sound_of(&self, suffix: &str, late: Option<String>) -> Vec<String> {
        let mut options = vec![format!("-c:a{suffix}"), "aac".to_owned()];
        let mut filters = Vec::new();
        for (name, value) in &self.sound {
            match *name {
                "-c:a" => {}
                "-af" => filters.push(without_delay(value).into_owned()),
                "-ac" | "-ar" => options.extend([format!("{name}:a{suffix}"), value.clone()]),
                name => options.extend([format!("{name}{suffix}"), value.clone()]),
            }
        }
        filters.extend(late.map(|late| format!("asetpts=PTS+{late}/TB")));
        if !filters.is_empty() {
            options.extend([format!("-filter:a{suffix}"), filters.join(",")]);
        }
        options
    }

    /// The lead-in of the sound's codec in seconds: what comes out of a decoder before the first sample.
    fn lead_in(&self) -> String {
        format!("{:.6}", LEAD_IN_SAMPLES / self.sample_rate())
    }

    /// Samples of the encoded sound in a second.
    #[must_use]
    pub fn sample_rate(&self) -> f64 {
        let rate = value(&self.sound, "-ar").and_then(|rate| rate.parse().ok()).filter(|rate| *rate > 0.0);
        rate.unwrap_or(SAMPLE_RATE)
    }

    /// ffmpeg's options for the MP4 itself.
    #[must_use]
    pub fn container_options(&self) -> Vec<String> {
        flat(&self.container)
    }

    /// What marks a picture that was encoded with these options.
    #[must_use]
    pub fn video_mark(&self) -> String {
        mark(&self.video)
    }

    /// What marks a sound that was encoded with these options.
    #[must_use]
    pub fn sound_mark(&self) -> String {
        mark(&self.sound)
    }

    /// Which tracks of a raw file are encoded with these options. A hook's ffmpeg that encodes a track anew keeps its tag, so
    /// codec and pixels must be ours as well.
    #[must_use]
    pub fn tracks_of(&self, raw: &MediaInfo) -> FinalTracks {
        let pixels = value(&self.video, "-pix_fmt").unwrap_or(PIXELS);
        let find = |kind, codec: &str, mark: &str| {
            let is_it = |stream: &MediaStream| {
                stream.kind == kind
                    && stream.codec == codec
                    && stream.encoded_for.as_deref() == Some(mark)
                    && (kind != StreamKind::Video || stream.format == pixels)
            };
            raw.streams.iter().position(is_it)
        };
        FinalTracks {
            video: find(StreamKind::Video, "h264", &self.video_mark()),
            sound: find(StreamKind::Audio, "aac", &self.sound_mark()),
        }
    }
}

fn value<'a>(options: &'a TrackOptions, name: &str) -> Option<&'a str> {
    options.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

fn flat(options: &TrackOptions) -> Vec<String> {
    options.iter().flat_map(|(name, value)| [(*name).to_owned(), value.clone()]).collect()
}

fn mark(options: &TrackOptions) -> String {
    let words = std::iter::once(VERSION.to_owned()).chain(flat(options));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Profile;

    fn options(post_input: &str) -> FfmpegOptions {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        FfmpegOptions { pre_input: words("-loglevel error"), post_input: words(post_input) }
    }

    const SHORT: &str = "-c:v libx264 -preset veryfast";

    #[test]
    fn the_default_options_can_be_carried_out_while_recording() {
        let encoding = FinalEncoding::read(&FfmpegOptions::post_recording(None)).unwrap();
        assert_eq!(
            encoding.video_options().join(" "),
            "-c:v libx264 -profile:v baseline -pix_fmt yuv420p -preset veryfast \
             -force_key_frames expr:gte(t,n_forced*8) -bf 0 -rc-lookahead 1 -crf 20.3 -subq 1"
        );
        let sound = encoding.live_sound_options(":1").join(" ");
        assert!(sound.starts_with("-c:a:1 aac -filter:a:1 apad=pad_dur=0.025,highpass"), "{sound}");
        assert!(sound.ends_with("asetpts=PTS-0.025/TB,asetpts=PTS+0.021333/TB"), "{sound}");
        assert_eq!(encoding.video_mark(), "1 -c:v libx264 -profile:v baseline -pix_fmt yuv420p -preset veryfast");
        assert_eq!(encoding.sound_mark(), "1 -c:a aac -af highpass=f=200,lowpass=f=4000,afftdn");
        for profile in Profile::ALL {
            let read = FinalEncoding::read(&FfmpegOptions::post_recording(Some(profile)));
            assert_eq!(read.is_ok(), profile != Profile::Small, "{read:?}");
        }
    }

    #[test]
    fn what_is_not_known_to_be_possible_is_done_afterwards() {
        for (theirs, why) in [
            ("", Unsuitable::Codec(String::new())),
            ("-c:v libx265 -preset veryfast", Unsuitable::Codec("libx265".into())),
            ("-c:v libx264 -preset veryfast -c:a libopus", Unsuitable::Codec("libopus".into())),
            ("-c:v libx264", Unsuitable::Preset("medium".into())),
            ("-c:v libx264 -preset slow", Unsuitable::Preset("slow".into())),
            ("-c:v libx264 -preset veryfast -bf 2", Unsuitable::BFrames),
            ("-c:v libx264 -preset veryfast -x264-params keyint=60:bframes=3", Unsuitable::BFrames),
            ("-c:v libx264 -preset veryfast -vf scale=640:-2", Unsuitable::Option("-vf".into())),
            ("-c:v libx264 -preset veryfast -r 25", Unsuitable::Option("-r".into())),
            ("-c:v libx264 -preset veryfast -an", Unsuitable::Option("-an".into())),
            ("-c:v libx264 -preset veryfast -map 0", Unsuitable::Option("-map".into())),
            ("-c copy", Unsuitable::Option("-c".into())),
            ("-c:v libx264 -preset", Unsuitable::Option("-preset".into())),
        ] {
            assert_eq!(FinalEncoding::read(&options(theirs)), Err(why), "{theirs}");
        }
    }

    #[test]
    fn a_mark_says_what_is_in_the_track_and_nothing_else() {
        let mark =
            |theirs: &str| FinalEncoding::read(&options(theirs)).map(|read| (read.video_mark(), read.sound_mark()));
        let same = mark(SHORT);
        for theirs in [
            "-preset slow -vcodec libx264 -preset:v veryfast -y -movflags faststart",
            "-threads 4 -c:v libx264 -preset veryfast -f mp4 -loglevel debug",
        ] {
            assert_eq!(mark(theirs), same, "{theirs}");
        }
        let other = mark(&format!("{SHORT} -crf 20 -b:a 64k")).unwrap();
        let same = same.unwrap();
        assert!(other.0 != same.0 && other.1 != same.1);
    }

    #[test]
    fn a_track_is_copied_only_by_who_would_encode_it_so() {
        let encoding = FinalEncoding::read(&options(SHORT)).unwrap();
        let stream = |kind, codec: &str, encoded_for: Option<String>| MediaStream {
            kind,
            codec: codec.to_owned(),
            format: if kind == StreamKind::Video { PIXELS.to_owned() } else { String::new() },
            encoded_for,
            ..MediaStream::default()
        };
        let streams = vec![
            stream(StreamKind::Video, "h264", Some(encoding.video_mark())),
            stream(StreamKind::Audio, "pcm_s16le", None),
            stream(StreamKind::Audio, "aac", Some(encoding.sound_mark())),
        ];
        let raw = MediaInfo { streams, ..MediaInfo::default() };
        assert_eq!(encoding.tracks_of(&raw), FinalTracks { video: Some(0), sound: Some(2) });
        let other = FinalEncoding::read(&options(&format!("{SHORT} -ac 1"))).unwrap();
        assert_eq!(other.tracks_of(&raw), FinalTracks { video: Some(0), sound: None });
        // A hook has encoded it anew.
        let mut pixels = raw.clone();
        pixels.streams[0].format = "yuv444p".to_owned();
        assert_eq!(encoding.tracks_of(&pixels), FinalTracks { video: None, sound: Some(2) });
        let mut hooked = raw;
        (hooked.streams[0].codec, hooked.streams[2].codec) = ("vp9".to_owned(), "opus".to_owned());
        assert_eq!(encoding.tracks_of(&hooked), FinalTracks::default());
    }

    #[test]
    fn the_operators_own_lookahead_and_keyframes_stay() {
        let line =
            |more: &str| FinalEncoding::read(&options(&format!("{SHORT} {more}"))).unwrap().video_options().join(" ");
        assert!(!line("-x264-params rc-lookahead=20").contains("-rc-lookahead"));
        for theirs in ["-g 60", "-x264-params keyint=120:scenecut=0", "-force_key_frames expr:gte(t,n_forced*5)"] {
            assert!(!line(theirs).contains("n_forced*8"), "{theirs}");
        }
        assert!(!line("-preset ultrafast").contains("-rc-lookahead"));
        assert!(line("-crf 26").ends_with("-crf 23.3 -subq 1") && line("-crf 1").ends_with("-crf 0.0 -subq 1"));
        assert!(!line("-x264-params subme=4").contains("-subq"));
        for theirs in ["-b:v 2M", "-x264-params crf=20", "-x264-params bitrate=900"] {
            assert!(!line(theirs).contains("-crf"), "{theirs}");
        }
        let sound = FinalEncoding::read(&options(&format!("{SHORT} -ac 1 -ar 44100 -b:a 64k"))).unwrap();
        assert_eq!(
            sound.live_sound_options(":1").join(" "),
            "-c:a:1 aac -b:a:1 64k -ac:a:1 1 -ar:a:1 44100 -filter:a:1 asetpts=PTS+0.023220/TB"
        );
        assert_eq!(sound.sound_options().join(" "), "-c:a aac -b:a 64k -ac:a 1 -ar:a 44100");
    }
}
