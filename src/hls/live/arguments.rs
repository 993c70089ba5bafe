//! The options of the ffmpeg that makes renditions while a recording runs: pure. It reads the raw file from its standard
//! input, and writes each track into a pipe of its own.

use std::ffi::OsString;
use std::time::Duration;

use crate::hls::arguments::{DROP_LEAD_IN, FLAGS, FRAGMENTS, H264, Keyframes, VARIABLE_RATE, filters, rate};
use crate::hls::ladder::{Encoding, Rung};

/// One thread decodes: each more holds back a frame, which is a second of a picture that stands still. And the header says
/// all there is to know: ffmpeg need not read ahead.
const INPUT: [&str; 14] = [
    "-threads",
    "1",
    "-protocol_whitelist",
    "pipe",
    "-f",
    "matroska",
    "-probesize",
    "32",
    "-analyzeduration",
    "0",
    "-fpsprobesize",
    "0",
    "-i",
    "pipe:0",
];
/// As of finished recordings (`hls/arguments.rs`), but that it looks only one frame ahead and uses one thread, for the same
/// reason.
const KEYFRAMES: [&str; 4] =
    ["-threads", "1", "-x264-params", "keyint=infinite:scenecut=0:rc-lookahead=1:sync-lookahead=0"];
/// A raw file counts in milliseconds, an encoder as MP4s do.
const TIME_SCALE: [&str; 2] = ["-video_track_timescale", "90000"];
/// Each packet goes into the pipe at once.
const UNBUFFERED: [&str; 2] = ["-flush_packets", "1"];
/// A sound that was encoded while recording is late by the lead-in of its codec (`media/ffmpeg_arguments.rs`).
const EARLIER: &str = "setts=ts=TS-DURATION";

/// Where the sound comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveSound {
    /// The stream of this number is the AAC of the MP4.
    Copy(usize),
    /// The first sound is encoded with these options.
    Encode(Vec<String>),
}

/// What is made of a raw file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveTracks {
    /// From the highest to the lowest, which is the order of the pipes; then comes the sound.
    pub rungs: Vec<Rung>,
    pub keyframes: Keyframes,
    pub sound: LiveSound,
    /// Its times begin at 0: the first picture is shown from then on.
    pub from_zero: bool,
    /// The length of a fragment of the sound.
    pub segment: Duration,
}

impl LiveTracks {
    #[must_use]
    pub fn count(&self) -> usize {
        self.rungs.len() + 1
    }

    /// ffmpeg's options; the pipes are its file descriptors from `first_pipe` on.
    #[must_use]
    pub fn arguments(&self, first_pipe: i32) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = INPUT.iter().map(OsString::from).collect();
        let encoded: Vec<&Rung> = self.rungs.iter().filter(|rung| rung.encoding != Encoding::Copy).collect();
        if !encoded.is_empty() {
            arguments.extend(["-filter_complex".into(), filters(encoded.into_iter()).into()]);
        }
        let mut next_encoded = 0;
        for (rung, pipe) in self.rungs.iter().zip(first_pipe..) {
            if rung.encoding == Encoding::Copy {
                arguments.extend(["-map", "0:V:0", "-c:v", "copy"].map(OsString::from));
            } else {
                arguments.extend(["-map".into(), format!("[out{next_encoded}]").into()]);
                next_encoded += 1;
                arguments.extend(H264.into_iter().chain(KEYFRAMES).map(OsString::from));
                arguments.extend(rate(rung.encoding));
                arguments.extend(["-force_key_frames".into(), self.keyframes.expression().into()]);
                arguments.extend(VARIABLE_RATE.map(OsString::from));
            }
            arguments.extend(["-bsf:v".into(), self.times().into()]);
            arguments.extend(TIME_SCALE.map(OsString::from));
            output(&mut arguments, "+frag_keyframe", pipe);
        }
        match &self.sound {
            LiveSound::Copy(stream) => {
                arguments.extend(["-map".into(), format!("0:{stream}").into(), "-c:a".into(), "copy".into()]);
                arguments.extend(["-bsf:a".into(), format!("{EARLIER},{DROP_LEAD_IN}").into()]);
            }
            LiveSound::Encode(options) => {
                arguments.extend(["-map", "0:a:0"].map(OsString::from));
                arguments.extend(options.iter().map(OsString::from));
                arguments.extend(["-bsf:a", DROP_LEAD_IN].map(OsString::from));
            }
        }
        arguments.extend(["-frag_duration".into(), self.segment.as_micros().to_string().into()]);
        let pipe = (first_pipe..).nth(self.rungs.len()).unwrap_or(first_pipe);
        output(&mut arguments, "", pipe);
        arguments
    }

    /// Frames are decoded in the order in which they are shown: ffmpeg, which does not read ahead, does not know.
    fn times(&self) -> String {
        let time = if self.from_zero { "if(eq(N\\,0)\\,min(PTS\\,0)\\,PTS)" } else { "PTS" };
        format!("setts=pts={time}:dts={time}")
    }
}

fn output(arguments: &mut Vec<OsString>, flags: &str, pipe: i32) {
    arguments.extend(UNBUFFERED.map(OsString::from));
    arguments.extend(FRAGMENTS.map(OsString::from));
    arguments.extend([format!("{FLAGS}{flags}").into(), "-y".into(), format!("pipe:{pipe}").into()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(tracks: &LiveTracks) -> String {
        let words = tracks.arguments(5).into_iter().map(|word| word.into_string().unwrap());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_track_has_a_pipe_and_the_picture_is_decoded_once() {
        let rung = |height, encoding| Rung { width: 2 * height, height, encoding };
        let mut tracks = LiveTracks {
            rungs: vec![
                rung(720, Encoding::Copy),
                rung(360, Encoding::Encode(None)),
                rung(180, Encoding::Encode(None)),
            ],
            keyframes: Keyframes::OfSource,
            sound: LiveSound::Copy(2),
            from_zero: true,
            segment: Duration::from_secs(4),
        };
        let all = line(&tracks);
        assert!(all.contains("[0:V:0]split=2[in0][in1];[in0]scale=720:360[out0];[in1]scale=360:180[out1] "), "{all}");
        let pipes: Vec<_> = all.split(" -y pipe:").skip(1).map(|rest| &rest[..1]).collect();
        assert_eq!(pipes, ["5", "6", "7", "8"]);
        assert_eq!((all.matches(" -c:v libx264 ").count(), all.matches(" -c:v copy ").count()), (2, 1));
        assert!(all.contains("-map 0:2 -c:a copy -bsf:a setts=ts=TS-DURATION,noise=drop"), "{all}");
        tracks.rungs.truncate(1);
        (tracks.sound, tracks.from_zero) = (LiveSound::Encode(vec!["-c:a".into(), "aac".into()]), false);
        let copied = line(&tracks);
        assert!(!copied.contains("filter_complex") && copied.contains("-bsf:v setts=pts=PTS:dts=PTS "), "{copied}");
        assert!(copied.contains("-map 0:a:0 -c:a aac -bsf:a noise=drop") && copied.ends_with("pipe:6"), "{copied}");
    }
}
