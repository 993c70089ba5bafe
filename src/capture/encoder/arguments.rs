//! The command line of the recording ffmpeg: pure.
//!
//! The operator's options follow the recorder's, so that they win, except for the container of a raw file: always
//! Matroska, which survives a kill at any byte.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::media::final_encoding::{FinalEncoding, TAG};
use crate::protocol::ids::RtmpUrl;

/// Longest distance of keyframes: what a seek must decode, and what a kill may lose.
const KEYFRAMES: Duration = Duration::from_secs(4);
/// The same for a broadcast: what `YouTube` and Twitch ask for. A viewer waits that long, and so does a new connection.
const BROADCAST_KEYFRAMES: Duration = Duration::from_secs(2);
/// Frames per second without `-framerate` in `pre_input`.
const DEFAULT_FRAMERATE: u32 = 30;

/// Destination of the encoded media.
#[derive(Clone, Debug)]
pub enum EncoderTarget {
    /// A Matroska file.
    File(PathBuf),
    Rtmp {
        url: RtmpUrl,
        /// How long a far end that was lost is tried again.
        reconnect_for: Duration,
        /// Whether the bit rate follows what the far end takes.
        adaptive: bool,
    },
}

impl EncoderTarget {
    /// The directory that ffmpeg writes to; `None` for a broadcast.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::File(path) => path.parent().filter(|dir| !dir.as_os_str().is_empty()),
            Self::Rtmp { .. } => None,
        }
    }
}

/// The capture options in `pre_input`, and the rest of it, which goes to ffmpeg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureOptions {
    /// Frames per second, 1…120.
    pub framerate: u32,
    /// `-video_size` in pixels; even.
    pub size: Option<(u32, u32)>,
    /// The options for ffmpeg.
    pub rest: Vec<String>,
}

/// Settings of the encoder, from the operator's `ffmpeg_settings`.
#[derive(Clone, Debug)]
pub struct EncoderSettings {
    /// From `pre_input`.
    pub capture: CaptureOptions,
    /// ffmpeg's options behind the input.
    pub post_input: Vec<String>,
    /// Encode a file as its MP4 shall be instead, with the sound as it was captured beside.
    pub final_encoding: Option<Arc<FinalEncoding>>,
    /// Longest distance of keyframes in a file.
    pub keyframes: Duration,
    /// The first frame of a file only starts the encoder, and is not in it.
    pub first_is_trial: bool,
}

impl EncoderSettings {
    #[must_use]
    pub fn new(pre_input: &[String], post_input: &[String]) -> Self {
        let (capture, post_input) = (CaptureOptions::read(pre_input), post_input.to_vec());
        Self { capture, post_input, final_encoding: None, keyframes: KEYFRAMES, first_is_trial: false }
    }

    /// How many frames the encoder waits for before it gives one.
    #[must_use]
    pub fn lookahead(&self) -> u32 {
        self.final_encoding.as_ref().map_or(0, |encoding| encoding.lookahead())
    }

    /// The same with a bit rate of the picture in kbit/s that is kept within each second; `None`: the operator's.
    #[must_use]
    pub fn with_bit_rate(&self, kbit_per_s: Option<u32>) -> Self {
        let mut settings = self.clone();
        let rate = kbit_per_s.map(|rate| format!("{rate}k"));
        // A constant quality (-crf) stays, and is limited by these.
        let words = rate.iter().flat_map(|rate| ["-b:v", rate, "-maxrate", rate, "-bufsize", rate]);
        settings.post_input.extend(words.map(str::to_owned));
        settings
    }
}

impl CaptureOptions {
    /// Splits `pre_input`: takes out the options for `-f x11grab` and `-f pulse` of the reference recorder.
    ///
    /// `-thread_queue_size` is taken out too: it counts packets, and with raw frames of 3 MB the reference's 512 would
    /// let ffmpeg 7 hold 1.6 GB.
    #[must_use]
    pub fn read(pre_input: &[String]) -> Self {
        let mut options = Self { framerate: DEFAULT_FRAMERATE, size: None, rest: Vec::new() };
        let mut words = pre_input.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-framerate" | "-r" => {
                    let value = words.next().and_then(|value| value.parse().ok());
                    options.framerate = value.unwrap_or(DEFAULT_FRAMERATE).clamp(1, 120);
                }
                "-video_size" | "-s" => options.size = words.next().and_then(|value| size(value)),
                "-draw_mouse" | "-thread_queue_size" | "-f" | "-i" | "-ac" | "-ar" | "-show_region" | "-grab_x"
                | "-grab_y" | "-follow_mouse" | "-fragment_size" => {
                    words.next();
                }
                _ => options.rest.push(word.clone()),
            }
        }
        options
    }
}

fn size(value: &str) -> Option<(u32, u32)> {
    let (width, height) = value.split_once('x')?;
    let (width, height): (u32, u32) = (width.parse().ok()?, height.parse().ok()?);
    ((2..=7680).contains(&width) && (2..=4320).contains(&height)).then_some((width & !1, height & !1))
}

/// What one thread of libx264's two fastest presets encodes with ease, in pixels per second: 1080p at 60 fps.
const PIXELS_PER_THREAD: u64 = 1920 * 1080 * 60;

/// Number of encoder threads. `None`: left to the encoder.
///
/// By default, libx264 cuts each frame into 1.5 slices per processor and encodes them in threads, which costs a tenth
/// more than one thread where one is enough.
fn threads(size: (u32, u32), framerate: u32, post_input: &[String]) -> Option<u64> {
    let value = |names: &[&str]| {
        let at = post_input.iter().rposition(|word| names.contains(&word.as_str()))?;
        post_input.get(at + 1).map(String::as_str)
    };
    let codec = value(&["-c:v", "-codec:v", "-vcodec", "-c:v:0"]);
    let is_fast =
        codec == Some("libx264") && matches!(value(&["-preset", "-preset:v"]), Some("ultrafast" | "superfast"));
    let rate = u64::from(size.0) * u64::from(size.1) * u64::from(framerate);
    is_fast.then_some(rate.div_ceil(PIXELS_PER_THREAD).max(1))
}

/// Address of a broadcast's relay ([`crate::capture::rtmp::relay`]).
#[derive(Clone, Debug)]
pub struct RelayAddress {
    /// Port on the loopback.
    pub port: u16,
    /// Random strings in the place of application and stream key, by which the relay recognises ffmpeg.
    pub app: String,
    pub key: String,
}

impl RelayAddress {
    /// The URL for ffmpeg, with all names in it, which every version understands. (ffmpeg 9.0 ignores RTMP options in a
    /// preset file.)
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/{}/{}", self.origin(), self.app, self.key)
    }

    /// Scheme, host and port of the URL.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("rtmp://127.0.0.1:{}", self.port)
    }
}

/// The complete command line of ffmpeg for frames of `size` pixels. `relay`: for a broadcast.
#[must_use]
pub fn arguments(
    settings: &EncoderSettings,
    size: (u32, u32),
    target: &EncoderTarget,
    relay: Option<&RelayAddress>,
) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut push = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    push(&["-hide_banner", "-nostdin", "-nostats", "-progress", "pipe:1", "-stats_period", "0.5"]);
    push(&settings.capture.rest.iter().map(String::as_str).collect::<Vec<_>>());
    // The header describes both tracks completely, so ffmpeg does not need to probe.
    push(&["-f", "matroska", "-probesize", "32", "-analyzeduration", "0", "-fpsprobesize", "0", "-i", "pipe:0"]);
    let options = match (&settings.final_encoding, target) {
        (Some(encoding), EncoderTarget::File(_)) => final_options(encoding),
        _ => live_options(settings, size, target),
    };
    args.extend(options.into_iter().map(OsString::from));
    match target {
        EncoderTarget::File(path) => {
            let cluster = if settings.lookahead() > 0 { CLUSTER_MS_AHEAD } else { CLUSTER_MS };
            args.extend(
                ["-f", "matroska", "-cluster_time_limit", cluster, "-flush_packets", "1", "-y"].map(OsString::from),
            );
            args.push(path.into());
        }
        EncoderTarget::Rtmp { .. } => {
            args.extend(["-f", "flv"].map(OsString::from));
            if let Some(relay) = relay {
                args.push(relay.url().into());
            }
        }
    }
    args
}

/// The container of a raw file: a crash loses what is in its latest cluster, in milliseconds. An encoder that looks ahead
/// holds back more itself.
const CLUSTER_MS: &str = "1000";
const CLUSTER_MS_AHEAD: &str = "500";
/// Frames keep their times, to the millisecond.
const OWN_TIMES: [&str; 4] = ["-fps_mode", "vfr", "-enc_time_base:v", "1:1000"];

/// Leaves the first packet of the picture out: `n` counts from 0.
const WITHOUT_FIRST: [&str; 2] = ["-bsf:v", "noise=drop=not(n)"];

/// The operator's options for a recording or broadcast, after ours.
fn live_options(settings: &EncoderSettings, size: (u32, u32), target: &EncoderTarget) -> Vec<String> {
    let EncoderSettings { capture, post_input, .. } = settings;
    let mut options = Vec::new();
    let given = |names: &[&str]| post_input.iter().any(|word| names.contains(&word.split(':').next().unwrap_or(word)));
    if !given(&["-force_key_frames"]) {
        let (distance, forced) = match target {
            EncoderTarget::File(_) if settings.first_is_trial && !given(&["-bsf"]) => {
                options.extend(WITHOUT_FIRST.map(str::to_owned));
                // The second frame is a keyframe too, and counts as the first.
                (settings.keyframes, "(n_forced-1)")
            }
            EncoderTarget::File(_) => (settings.keyframes, "n_forced"),
            EncoderTarget::Rtmp { .. } => (BROADCAST_KEYFRAMES, "n_forced"),
        };
        let seconds = distance.as_secs_f64();
        options.extend(["-force_key_frames".to_owned(), format!("expr:gte(t,{forced}*{seconds})")]);
    }
    if let Some(threads) = threads(size, capture.framerate, post_input) {
        options.extend(["-threads".to_owned(), threads.to_string()]);
    }
    let rate_given = given(&["-r", "-fps_mode", "-vsync"]);
    match target {
        EncoderTarget::File(_) if !rate_given => options.extend(OWN_TIMES.map(str::to_owned)),
        EncoderTarget::Rtmp { .. } if !rate_given => {
            options.extend(["-fps_mode", "cfr", "-r"].map(str::to_owned));
            options.push(capture.framerate.to_string());
        }
        EncoderTarget::File(_) | EncoderTarget::Rtmp { .. } => {}
    }
    options.extend(post_input.iter().cloned());
    options
}

/// The options for a recording that is encoded as its MP4 shall be: picture, sound as it was captured, sound of the MP4.
fn final_options(encoding: &FinalEncoding) -> Vec<String> {
    let mut options = ["-filter_threads", "1", "-map", "0:v", "-map", "0:a", "-map", "0:a"].map(str::to_owned).to_vec();
    // More threads give their frames later, and cost more.
    options.extend(["-threads:v", "1"].map(str::to_owned));
    options.extend(OWN_TIMES.map(str::to_owned));
    options.extend(encoding.video_options());
    options.extend(["-c:a:0", "copy", "-disposition:a:0", "default", "-disposition:a:1", "0"].map(str::to_owned));
    options.extend(encoding.live_sound_options(":1"));
    for (track, mark) in [("v", encoding.video_mark()), ("a:1", encoding.sound_mark())] {
        options.extend([format!("-metadata:s:{track}"), format!("{TAG}={mark}")]);
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FfmpegOptions;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn line(args: &[OsString]) -> String {
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_of_the_x11_grabber_set_the_capture() {
        let options = CaptureOptions::read(&words(
            "-loglevel error -thread_queue_size 512 -draw_mouse 0 -framerate 25 -video_size 1281x721 -threads 1",
        ));
        assert_eq!(options.framerate, 25);
        assert_eq!(options.size, Some((1280, 720)));
        assert_eq!(options.rest, words("-loglevel error -threads 1"));
    }

    #[test]
    fn a_raw_file_is_matroska_whatever_the_operator_says() {
        let target = EncoderTarget::File("/x/rec_raw.mkv".into());
        let args_of =
            |post: &str| line(&arguments(&EncoderSettings::new(&[], &words(post)), (1920, 1080), &target, None));
        let args = args_of("-c:v libx264 -f mp4");
        assert!(
            args.ends_with(
                "-c:v libx264 -f mp4 -f matroska -cluster_time_limit 1000 -flush_packets 1 -y /x/rec_raw.mkv"
            ),
            "{args}"
        );
        assert!(args.contains("-fps_mode vfr"));
        let args = args_of("-r 15");
        assert!(!args.contains("-fps_mode"), "{args}");
    }

    #[test]
    fn a_frame_that_only_starts_the_encoder_is_left_out_where_the_next_one_can_stand_alone() {
        let args = |first_is_trial, post: &str| {
            let settings = EncoderSettings { first_is_trial, ..EncoderSettings::new(&[], &words(post)) };
            line(&arguments(&settings, (1920, 1080), &EncoderTarget::File("/x".into()), None))
        };
        let fast = "-c:v libx264 -preset ultrafast";
        assert!(args(true, fast).contains("-bsf:v noise=drop=not(n) -force_key_frames expr:gte(t,(n_forced-1)*4) "));
        assert!(args(false, fast).contains("-force_key_frames expr:gte(t,n_forced*4) "));
        for kept in [args(false, fast), args(true, "-force_key_frames 0"), args(true, "-bsf:v null")] {
            assert!(!kept.contains("noise"), "{kept}");
        }
    }

    #[test]
    fn a_recording_is_encoded_as_its_mp4_with_the_captured_sound_beside() {
        let options = FfmpegOptions::post_recording(None);
        let final_encoding = Some(Arc::new(FinalEncoding::read(&options).unwrap()));
        let settings = EncoderSettings { final_encoding, ..EncoderSettings::new(&[], &words("-preset ultrafast")) };
        let file = EncoderTarget::File("/x/rec_raw.mkv".into());
        let args = line(&arguments(&settings, (1920, 1080), &file, None));
        for wanted in [
            "-map 0:v -map 0:a -map 0:a -threads:v 1 -fps_mode vfr",
            "-preset veryfast",
            "-c:a:0 copy -disposition:a:0 default -disposition:a:1 0 -c:a:1 aac -filter:a:1 apad",
            "-metadata:s:v ENCODED_FOR=1 -c:v libx264",
            "-metadata:s:a:1 ENCODED_FOR=1 -c:a aac",
        ] {
            assert!(args.contains(wanted), "{wanted}: {args}");
        }
        assert!(!args.contains("ultrafast") && settings.lookahead() == 1);
    }

    #[test]
    fn the_fastest_presets_get_as_many_threads_as_they_need() {
        let fast = words("-c:v libx264 -preset ultrafast -crf 23");
        assert_eq!(threads((1920, 1080), 30, &fast), Some(1));
        assert_eq!(threads((1920, 1080), 60, &fast), Some(1));
        assert_eq!(threads((3840, 2160), 30, &fast), Some(2));
        assert_eq!(threads((7680, 4320), 120, &fast), Some(32));
        for other in ["-c:v libx264 -preset veryfast", "-c:v libx264", "-c:v h264_nvenc -preset ultrafast", ""] {
            assert_eq!(threads((1920, 1080), 30, &words(other)), None, "{other}");
        }
        let args = |post: &str| {
            let settings = EncoderSettings::new(&[], &words(post));
            line(&arguments(&settings, (1920, 1080), &EncoderTarget::File("/x".into()), None))
        };
        // The operator's options come last, and ffmpeg takes the last one.
        let given = args("-c:v libx264 -preset ultrafast -threads 4");
        assert!(given.find("-threads 1").unwrap() < given.find("-threads 4").unwrap(), "{given}");
    }
}
