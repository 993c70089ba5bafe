//! The ffmpeg options that turn a raw file into an MP4: pure.

use std::time::Duration;

use crate::config::FfmpegOptions;
use crate::media::ffprobe::{MediaInfo, MediaStream, StreamKind};
use crate::media::filter_delay::without_delay;
use crate::media::final_encoding::FinalEncoding;
use crate::media::index_space::{self, PacketCount};
use crate::media::verification::{ExpectedMedia, expected_track, tolerance};

/// Keeps the frames' own times. A raw file has 1 to 30 frames a second, one for each change on the page. By default
/// ffmpeg duplicates frames up to the constant rate that it guesses (5.1: 1000 a second where the container states
/// none), and a time base of that rate loses frames that are closer together (158 of 212 where it guessed 5 a second).
/// 90 kHz is exact for milliseconds and for MP4's usual time bases.
const VARIABLE_RATE: [&str; 4] = ["-fps_mode", "vfr", "-enc_time_base:v", "1:90000"];
/// With one of these options the operator sets the frame times. (ffmpeg 7 refuses `-r` and `-fpsmax` together with
/// `vfr`.)
const RATE_OPTIONS: [&str; 6] = ["-r", "-fpsmax", "-fps_mode", "-vsync", "-enc_time_base", "-vn"];
/// The sample rate of the sound as the MP4's time scale, so that the stated duration is exact. ffmpeg's default of 1000
/// ticks a second is rounded up twice (60.202 s stated for 60.2005).
const EXACT_DURATION: [&str; 2] = ["-movie_timescale", "48000"];
/// Audio filters wake a thread for every 20 to 40 ms of sound and wait for it: a tenth of the cost of the sound
/// (measured: docs/encoding-profiles.md). The output is the same to the byte.
const ONE_FILTER_THREAD: [&str; 2] = ["-filter_threads", "1"];
/// Video filters profit from threads, and an operator who sets one of these has decided. Our own filter cannot reach
/// frames that stay on a graphics card (the last option).
const FILTER_OPTIONS: [&str; 7] = [
    "-vf",
    "-filter",
    "-filter_complex",
    "-lavfi",
    "-filter_threads",
    "-filter_complex_threads",
    "-hwaccel_output_format",
];
/// The options whose value is a chain of audio filters.
const SOUND_FILTERS: [&str; 3] = ["-af", "-filter:a", "-filter:a:0"];
/// Drops repeated frames: a static picture is recorded once a second (30 times by a reference recorder), and each
/// repetition costs as much to encode as any frame. One in ten is kept, for seeking. A repetition is not identical,
/// because the recording encoder refines a static picture, most of all in keyframes (measured: up to 200 in a block of
/// 8×8 pixels, more than 64 in 1.4 % of the blocks). So a frame is dropped if no block differs from the last kept frame
/// by more than `hi`, four levels a pixel, and at most a fiftieth of the blocks by more than `lo`, one level (ffmpeg
/// counts blocks four pixels apart against a `frac` of those sixteen apart). A test shows that a line one pixel wide
/// and 40 levels lighter than its ground is kept.
pub(crate) const WITHOUT_REPETITIONS: [&str; 2] = ["-vf", "mpdecimate=max=9:hi=256:lo=64:frac=0.33"];
/// A B-frame is decoded after the frame that follows it. Among frames that are shown for ten seconds each, those are
/// decoded tens of seconds before they are shown, and a track of an MP4 lasts only as long as its frames are decoded: the
/// result would end too early. libx264 makes three in a row by default; without them an MP4 is 2 % larger (measured).
const NO_B_FRAMES: [&str; 2] = ["-bf", "0"];
/// The kept one of [`WITHOUT_REPETITIONS`] and the dropped ones before it.
pub(crate) const FRAMES_IN_ONE: u32 = 10;
/// A frame may be shown this much longer than the raw file's longest ones.
const FRAME_SLACK: Duration = Duration::from_secs(2);
/// Encoders count frames between keyframes, libx264 up to 250, which would be minutes of slides. With this a player
/// that seeks to keyframes finds one as often as at a constant 30 frames a second (every 8.3 s), or at the next frame.
const KEYFRAMES: [&str; 2] = ["-force_key_frames", "expr:gte(t,n_forced*8)"];
const KEYFRAME_OPTIONS: [&str; 3] = ["-force_key_frames", "-g", "-keyint_min"];
/// Matroska states when a frame is shown, not when it is decoded. ffmpeg derives the decoding order once it has seen by
/// how many frames the two differ. At one frame a second it does not see enough in the 5 s that it probes by default,
/// and assumes 33 ms per frame (5.1: frames shown up to minutes late; with B-frames "Invalid DTS"). ffmpeg stops
/// probing as soon as it knows. In microseconds and bytes: a minute of a raw file.
const SEE_THE_ORDER: [&str; 4] = ["-analyzeduration", "60000000", "-probesize", "100000000"];
/// A sound that was encoded while recording is late by the lead-in of its codec, which is one packet. (The unit of times is
/// another one here than ffmpeg says, so that it cannot be told in seconds.)
const WITHOUT_LEAD_IN: [&str; 2] = ["-bsf:a", "setts=ts=TS-DURATION"];
/// The unit of times in a raw file as that of the MP4: where they differ, `setts` is told the one and has times in the
/// other (5.1), and the last frame is not shown to the end.
const TIMES_OF_A_RAW_FILE: [&str; 2] = ["-video_track_timescale", "1000"];
const BITSTREAM_FILTERS: [&str; 2] = ["-bsf", "-vbsf"];
/// The codecs that browsers play from an MP4 and that ffmpeg 5.1's muxer accepts.
const VIDEO_IN_MP4: [&str; 4] = ["h264", "hevc", "av1", "vp9"];
const AUDIO_IN_MP4: [&str; 5] = ["aac", "mp3", "opus", "ac3", "eac3"];

/// ffmpeg's options before and after its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FfmpegArguments {
    pub pre_input: Vec<String>,
    pub post_input: Vec<String>,
    drops_video: bool,
    drops_audio: bool,
    /// How many frames of the raw file one frame of the result may stand for; `None`: the operator decides.
    pub(crate) frames_in_one: Option<u32>,
}

impl FfmpegArguments {
    /// Our options, then the operator's, so that the operator's win. Frames keep their own times unless the operator
    /// sets a rate. `raw` must be measured to its end, since the last frame is shown until then.
    #[must_use]
    pub fn convert(options: &FfmpegOptions, raw: &MediaInfo) -> Self {
        let mut pre_input = Vec::new();
        let before = without_refusal(&options.pre_input);
        let theirs = without_refusal(&options.post_input);
        let has = |names: &[&str]| theirs.iter().any(|word| names.contains(&option_name(word)));
        let copies = theirs.windows(2).any(|pair| {
            matches!(pair[0].as_str(), "-c" | "-c:v" | "-codec" | "-codec:v" | "-vcodec") && pair[1] == "copy"
        });
        let filters = before.iter().chain(&theirs).filter(|word| !SOUND_FILTERS.contains(&word.as_str()));
        let they_filter = filters.map(|word| option_name(word)).any(|name| FILTER_OPTIONS.contains(&name));
        if !they_filter {
            pre_input.extend(owned(&ONE_FILTER_THREAD));
        }
        let mut post_input = owned(&EXACT_DURATION);
        let (drops_video, drops_audio) = (has(&["-vn"]), has(&["-an"]));
        let mut frames_in_one = None;
        if !has(&RATE_OPTIONS) && !copies {
            post_input.extend(owned(&VARIABLE_RATE));
            frames_in_one = Some(1).filter(|_| !they_filter);
            if !has(&KEYFRAME_OPTIONS) && !theirs.iter().any(|word| word.contains("keyint=")) {
                post_input.extend(owned(&KEYFRAMES));
            }
            // Without sound the file would end with the last kept frame.
            if has_sound(raw) && !drops_audio && !they_filter && !has(&BITSTREAM_FILTERS) && !wants_b_frames(&theirs) {
                post_input.extend(owned(&WITHOUT_REPETITIONS));
                post_input.extend(owned(&NO_B_FRAMES));
                frames_in_one = Some(FRAMES_IN_ONE);
                post_input.extend(["-bsf:v".to_owned(), shown_to(raw.duration)]);
            }
        }
        pre_input.extend(before);
        let mut previous = "";
        for word in &theirs {
            let filters_sound = SOUND_FILTERS.contains(&previous);
            post_input.push(if filters_sound { without_delay(word).into_owned() } else { word.clone() });
            previous = word;
        }
        Self { pre_input, post_input, drops_video, drops_audio, frames_in_one }
    }

    /// Copies the tracks of a raw file that were encoded with these options while it was recorded, and encodes its sound
    /// where that was not. `None`: its picture was not.
    #[must_use]
    pub fn finish(options: &FfmpegOptions, raw: &MediaInfo) -> Option<Self> {
        let encoding = FinalEncoding::read(options).ok()?;
        let tracks = encoding.tracks_of(raw);
        let picture = format!("0:{}", tracks.video?);
        Some(Self::copy_picture(&encoding, raw, &picture, shown_to(raw.duration), tracks.sound))
    }

    /// Copies this picture (ffmpeg's name of the stream), and the sound that was encoded while recording, or encodes
    /// the sound as it was captured.
    pub(crate) fn copy_picture(
        encoding: &FinalEncoding,
        raw: &MediaInfo,
        picture: &str,
        filters: String,
        sound: Option<usize>,
    ) -> Self {
        let mut post_input = owned(&["-map", picture]);
        let mut pre_input = owned(&SEE_THE_ORDER);
        let mut packets = PacketCount::of(raw.video(), sound.and_then(|index| raw.streams.get(index)));
        if let Some(sound) = sound {
            post_input.extend(["-map".to_owned(), format!("0:{sound}"), "-c:a".to_owned(), "copy".to_owned()]);
            post_input.extend(owned(&WITHOUT_LEAD_IN));
        } else if has_sound(raw) {
            pre_input.extend(owned(&ONE_FILTER_THREAD));
            post_input.extend(owned(&["-map", "0:a:0"]));
            post_input.extend(encoding.sound_options());
            packets = packets.map(|known| known.with_aac(raw.duration, encoding.sample_rate()));
        }
        post_input.extend(owned(&["-c:v", "copy", "-bsf:v"]));
        post_input.push(filters);
        post_input.extend(owned(&TIMES_OF_A_RAW_FILE));
        // The times of the tracks as they are: the sound begins before 0, with its lead-in.
        post_input.push("-copyts".to_owned());
        post_input.extend(index_space::reserve(encoding.container_options(), packets));
        post_input.extend(owned(&EXACT_DURATION));
        Self { pre_input, post_input, drops_video: false, drops_audio: false, frames_in_one: Some(1) }
    }

    /// Copies the streams; encodes only what an MP4 cannot hold.
    #[must_use]
    pub fn remux(raw: &MediaInfo) -> Self {
        // Of two sounds of one recording the one as it was captured.
        let has_two_sounds = raw.streams.iter().any(|stream| stream.encoded_for.is_some());
        let mut post_input = owned(&["-map", "0:V?", "-map", if has_two_sounds { "0:a:0?" } else { "0:a?" }]);
        match raw.video().map(|stream| stream.codec.as_str()) {
            Some("hevc") => post_input.extend(owned(&["-c:v", "copy", "-tag:v", "hvc1"])),
            Some(codec) if VIDEO_IN_MP4.contains(&codec) => post_input.extend(owned(&["-c:v", "copy"])),
            Some(_) => {
                post_input.extend(owned(&VARIABLE_RATE));
                post_input.extend(owned(&["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]));
            }
            None => {}
        }
        if let Some(stream) = raw.audio() {
            let codec = if AUDIO_IN_MP4.contains(&stream.codec.as_str()) { "copy" } else { "aac" };
            post_input.extend(owned(&["-c:a", codec]));
        }
        let is_one_track = |kind| raw.streams.iter().filter(|stream| stream.kind == kind).count() <= 1;
        let is_one_of_each = is_one_track(StreamKind::Video) && (has_two_sounds || is_one_track(StreamKind::Audio));
        let packets = PacketCount::of(raw.video(), raw.audio()).filter(|_| is_one_of_each);
        let packets = match raw.audio() {
            Some(MediaStream { codec, sample_rate, .. }) if !AUDIO_IN_MP4.contains(&codec.as_str()) => {
                packets.filter(|_| *sample_rate > 0).map(|known| known.with_aac(raw.duration, f64::from(*sample_rate)))
            }
            _ => packets,
        };
        post_input.extend(index_space::reserve(owned(&["-movflags", "+faststart"]), packets));
        post_input.extend(owned(&EXACT_DURATION));
        Self {
            pre_input: owned(&SEE_THE_ORDER),
            post_input,
            drops_video: false,
            drops_audio: false,
            frames_in_one: Some(1),
        }
    }

    /// Encodes picture and sound, with options that every host knows.
    #[must_use]
    pub fn plain() -> Self {
        let mut post_input = owned(&["-map", "0:V:0?", "-map", "0:a:0?"]);
        post_input.extend(owned(&VARIABLE_RATE));
        post_input.extend(owned(&KEYFRAMES));
        // H.264 with 4:2:0 chroma needs even sizes.
        post_input.extend(owned(&["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-c:v", "libx264", "-preset", "veryfast"]));
        post_input.extend(owned(&["-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+faststart"]));
        post_input.extend(owned(&EXACT_DURATION));
        Self { pre_input: Vec::new(), post_input, drops_video: false, drops_audio: false, frames_in_one: Some(1) }
    }

    /// Encodes the sound and leaves the picture out.
    #[must_use]
    pub fn sound_only() -> Self {
        let mut post_input = owned(&["-map", "0:a:0", "-vn", "-c:a", "aac", "-movflags", "+faststart"]);
        post_input.extend(owned(&EXACT_DURATION));
        Self { pre_input: Vec::new(), post_input, drops_video: true, drops_audio: false, frames_in_one: None }
    }

    /// The same without sound.
    #[must_use]
    pub fn without_sound(mut self) -> Self {
        self.post_input.push("-an".to_owned());
        Self { drops_audio: true, ..self }
    }

    /// The same, going on over what cannot be read.
    #[must_use]
    pub fn tolerating_errors(mut self) -> Self {
        self.pre_input.extend(owned(&["-err_detect", "ignore_err", "-fflags", "+genpts+discardcorrupt"]));
        self
    }

    /// What the MP4 of `raw` must contain.
    #[must_use]
    pub fn expected(&self, raw: &MediaInfo) -> ExpectedMedia {
        let longest = raw.video().and_then(|stream| stream.times).map(|times| times.longest);
        let limit = |frames: u32| longest.map(|longest| longest * frames + FRAME_SLACK);
        ExpectedMedia {
            duration: raw.duration,
            tolerance: tolerance(raw),
            video: expected_track(raw.video()).filter(|_| !self.drops_video),
            audio: expected_track(raw.audio()).filter(|_| !self.drops_audio),
            longest_frame: self.frames_in_one.and_then(limit),
        }
    }
}

pub(crate) fn has_sound(raw: &MediaInfo) -> bool {
    raw.audio().is_some_and(|stream| stream.packets != Some(0))
}

/// Extends the last frame to the end of the raw file, as its last repetitions may have been dropped: else the video
/// track would end before the audio, and some players stop there.
pub(crate) fn shown_to(end: Duration) -> String {
    format!(
        "setts=pts=PTS:dts=DTS:duration=if(eq(NEXT_DTS\\,NOPTS)\\,max(DURATION\\,{:.6}/TB-PTS)\\,DURATION)",
        end.as_secs_f64()
    )
}

/// Whether the operator asks for B-frames by name.
fn wants_b_frames(options: &[String]) -> bool {
    let none = |value: &str| value == "0";
    options.windows(2).any(|pair| option_name(&pair[0]) == "-bf" && !none(&pair[1]))
        || options
            .iter()
            .flat_map(|word| word.split(':'))
            .any(|parameter| parameter.strip_prefix("bframes=").is_some_and(|value| !none(value)))
}

/// `-r:v` → `-r`.
pub(crate) fn option_name(word: &str) -> &str {
    word.split(':').next().unwrap_or(word)
}

/// `-n` (never overwrite) contradicts our `-y`, which concerns only our own unfinished file.
fn without_refusal(options: &[String]) -> Vec<String> {
    options.iter().filter(|word| *word != "-n").cloned().collect()
}

pub(crate) fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(post_input: &str) -> FfmpegOptions {
        FfmpegOptions { pre_input: Vec::new(), post_input: post_input.split_whitespace().map(str::to_owned).collect() }
    }

    fn raw(video: Option<&str>, audio: Option<&str>) -> MediaInfo {
        let stream = |kind, codec: &str| MediaStream {
            kind,
            codec: codec.to_owned(),
            width: 2,
            height: 2,
            ..MediaStream::default()
        };
        let streams = video.map(|codec| stream(StreamKind::Video, codec)).into_iter();
        MediaInfo {
            duration: Duration::from_secs(1),
            streams: streams.chain(audio.map(|codec| stream(StreamKind::Audio, codec))).collect(),
            ..MediaInfo::default()
        }
    }

    /// For a raw file as this program writes it.
    fn convert(post_input: &str) -> FfmpegArguments {
        FfmpegArguments::convert(&options(post_input), &raw(Some("h264"), Some("pcm_s16le")))
    }

    #[test]
    fn frames_keep_their_times_unless_the_operator_sets_the_rate() {
        let times = |post_input| convert(post_input).post_input.contains(&"1:90000".to_owned());
        assert!(times("-c:v libx264 -preset veryfast") && times("") && times("-c:a copy"));
        for set in [
            "-r 25",
            "-r:v 25",
            "-fpsmax 30",
            "-fps_mode cfr",
            "-vsync 1",
            "-enc_time_base:v 1:30",
            "-c:v copy",
            "-c copy",
            "-vn",
        ] {
            assert!(!times(set), "{set}");
        }
    }

    #[test]
    fn sound_is_filtered_in_one_thread_unless_the_operator_filters_the_picture() {
        let one = |post_input| convert(post_input).pre_input == ONE_FILTER_THREAD;
        assert!(one("") && one("-af highpass=f=200") && one("-filter:a afftdn"));
        assert!(!one("-vf scale=1280:-2") && !one("-filter:v scale=1280:-2") && !one("-filter_complex_threads 2"));
        let mut own = options("-c:v libx264");
        own.pre_input = vec!["-filter_threads".to_owned(), "4".to_owned()];
        assert_eq!(FfmpegArguments::convert(&own, &raw(Some("h264"), Some("pcm_s16le"))).pre_input, own.pre_input);
    }

    #[test]
    fn the_delay_of_the_operators_filters_is_compensated() {
        let line = |post_input: &str| convert(post_input).post_input.join(" ");
        for option in SOUND_FILTERS {
            assert!(line(&format!("-c:a aac {option} afftdn -y")).contains("afftdn,atrim=start=0.025"), "{option}");
        }
        assert!(!line("-metadata afftdn -af volume=2").contains("atrim"));
    }

    #[test]
    fn repeated_frames_are_dropped_where_the_sound_gives_the_duration() {
        let drops = |post_input, has_sound: bool| {
            let raw = raw(Some("h264"), has_sound.then_some("pcm_s16le"));
            let arguments = FfmpegArguments::convert(&options(post_input), &raw);
            arguments.post_input.iter().any(|word| word.starts_with("mpdecimate"))
        };
        assert!(drops("-c:v libx264 -af afftdn", true) && drops("-filter:a afftdn", true));
        for theirs in [
            "-vf scale=640:-2",
            "-filter:v fps=5",
            "-r 25",
            "-c copy",
            "-an",
            "-vn",
            "-filter_complex x",
            "-bsf:v null",
        ] {
            assert!(!drops(theirs, true), "{theirs}");
        }
        assert!(!drops("", false));
        let card = FfmpegOptions { pre_input: vec!["-hwaccel_output_format".into(), "cuda".into()], ..options("") };
        let kept = FfmpegArguments::convert(&card, &raw(Some("h264"), Some("pcm_s16le"))).post_input;
        assert!(!kept.contains(&"-vf".to_owned()), "{kept:?}");
        let announced = MediaStream { kind: StreamKind::Audio, packets: Some(0), ..MediaStream::default() };
        let silent = MediaInfo { streams: vec![announced], ..raw(Some("h264"), None) };
        assert!(!FfmpegArguments::convert(&options(""), &silent).post_input.contains(&"-bsf:v".to_owned()));
    }

    #[test]
    fn keyframes_are_at_most_some_seconds_apart_unless_the_operator_says_how_far() {
        let ours = |post_input| convert(post_input).post_input.contains(&"-force_key_frames".to_owned());
        assert!(ours("-c:v libx264 -preset slow") && ours(""));
        for theirs in [
            "-g 300",
            "-keyint_min 300",
            "-x264-params keyint=120:scenecut=0",
            "-x264opts keyint=60",
            "-r 25",
            "-c copy",
        ] {
            assert!(!ours(theirs), "{theirs}");
        }
    }

    #[test]
    fn repetitions_are_dropped_without_b_frames_or_not_at_all() {
        for (theirs, drops) in [
            ("-c:v libx264 -preset slow", true),
            ("-c:v libx264 -bf 0", true),
            ("-c:v libx264 -x264-params keyint=60:bframes=0", true),
            ("-c:v libx264 -bf 2", false),
            ("-c:v libx264 -bf:v 3", false),
            ("-c:v libx264 -x264-params keyint=60:bframes=3", false),
        ] {
            let line = convert(theirs).post_input.join(" ");
            assert_eq!((line.contains("mpdecimate"), line.contains("-bf 0 -bsf:v setts")), (drops, drops), "{line}");
        }
    }

    #[test]
    fn the_last_picture_is_shown_to_the_end() {
        let line = convert("-c:v libx264").post_input.join(" ");
        assert!(line.contains(r"-bsf:v setts=pts=PTS:dts=DTS:duration=if(eq(NEXT_DTS\,NOPTS)\,max(DURATION\,1.000000/TB-PTS)\,DURATION)"), "{line}");
    }

    #[test]
    fn only_conflicting_options_are_removed() {
        let arguments = convert("-r 25 -n -movflags faststart -y -f mov");
        assert_eq!(arguments.post_input.join(" "), "-movie_timescale 48000 -r 25 -movflags faststart -y -f mov");
    }

    #[test]
    fn a_remux_encodes_only_what_an_mp4_cannot_hold() {
        let line = |video, audio| FfmpegArguments::remux(&raw(video, audio)).post_input.join(" ");
        assert!(line(Some("h264"), Some("aac")).contains("-c:v copy -c:a copy -movflags +faststart"));
        assert!(line(Some("h264"), Some("pcm_s16le")).contains("-c:v copy -c:a aac"));
        assert!(line(Some("ffv1"), Some("flac")).contains("-c:v libx264"));
        assert!(line(Some("hevc"), None).contains("-tag:v hvc1") && !line(Some("hevc"), None).contains("-c:a"));
    }

    #[test]
    fn what_was_encoded_while_recording_is_copied() {
        let theirs = options("-c:v libx264 -preset veryfast -c:a aac -b:a 64k -movflags faststart");
        let encoding = FinalEncoding::read(&theirs).unwrap();
        let mut both = raw(Some("h264"), Some("pcm_s16le"));
        both.streams[0].encoded_for = Some(encoding.video_mark());
        both.streams[0].format = "yuv420p".to_owned();
        let mut sound = raw(None, Some("aac")).streams;
        sound[0].encoded_for = Some(encoding.sound_mark());
        let joined = both.clone();
        both.streams.extend(sound);
        let line = |raw: &MediaInfo| FfmpegArguments::finish(&theirs, raw).map(|made| made.post_input.join(" "));
        let whole = line(&both).unwrap();
        assert!(
            whole.starts_with("-map 0:0 -map 0:2 -c:a copy -bsf:a setts=ts=TS-DURATION -c:v copy -bsf:v setts="),
            "{whole}"
        );
        assert!(whole.ends_with("-copyts -movflags faststart -movie_timescale 48000"), "{whole}");
        for stream in &mut both.streams {
            stream.packets = Some(100);
        }
        let measured = line(&both).unwrap();
        assert!(measured.contains("-copyts -moov_size ") && !measured.contains("faststart"), "{measured}");
        // The sound of joined parts is encoded once for all of them.
        let joined = line(&joined).unwrap();
        assert!(joined.starts_with("-map 0:0 -map 0:a:0 -c:a aac -b:a 64k -c:v copy"), "{joined}");
        for other in ["-c:v libx264 -preset veryfast -crf 20", "-c:v libx264 -preset slow", "-c copy"] {
            assert_eq!(FfmpegArguments::finish(&options(other), &both), None, "{other}");
        }
        assert_eq!(line(&raw(Some("h264"), Some("pcm_s16le"))), None);
        assert!(FfmpegArguments::remux(&both).post_input.join(" ").contains("-map 0:a:0? "));
    }

    #[test]
    fn what_the_operator_drops_is_not_expected() {
        let raw = raw(Some("h264"), Some("aac"));
        let expected = FfmpegArguments::convert(&options("-an"), &raw).expected(&raw);
        assert!(expected.video.is_some() && expected.audio.is_none());
        assert!(FfmpegArguments::remux(&raw).expected(&raw).audio.is_some());
    }
}
