//! ffmpeg's options: pure. Every output is a fragmented MP4 of one track whose times are those of the recording.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::VideoRate;
use crate::hls::ladder::{Encoding, Rung};
use crate::media::ffprobe::{FILES_ONLY, file_url};

/// Each fragment with its own begin in it, and nothing that refers to another one. No edit lists (not all players heed
/// them in fragments): a track begins when its first packet does. And no index at the end, which a player of segments never
/// reads.
pub(super) const FRAGMENTS: [&str; 9] =
    ["-map_metadata", "-1", "-use_editlist", "0", "-avoid_negative_ts", "disabled", "-f", "mp4", "-movflags"];
pub(super) const FLAGS: &str = "+empty_moov+default_base_moof+frag_discont+skip_trailer+cmaf";
/// A picture is shown from the beginning on, though it was there a moment later.
const FROM_THE_BEGINNING: &str = "ts=if(eq(N\\,0)\\,min(TS\\,0)\\,TS)";
/// The lead-in of the codec, which a player of fragments would play, is left out.
const WITHOUT_LEAD_IN: [&str; 2] = ["-bsf:a", DROP_LEAD_IN];
pub(super) const DROP_LEAD_IN: &str = "noise=drop=lt(pts\\,0)";
/// The frames' own times, as in the MP4 (`media/ffmpeg_arguments.rs`).
pub(super) const VARIABLE_RATE: [&str; 6] =
    ["-fps_mode", "vfr", "-enc_time_base:v", "1:90000", "-video_track_timescale", "90000"];
/// No B-frames, as in the MP4: among frames of ten seconds they are decoded tens of seconds before they are shown.
pub(super) const H264: [&str; 10] =
    ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-pix_fmt", "yuv420p", "-bf", "0"];
/// Keyframes where they are asked for and nowhere else: segments begin with one, in all renditions at the same times.
const KEYFRAMES: [&str; 2] = ["-x264-params", "keyint=infinite:scenecut=0"];
/// libx264's own default.
const CRF: u32 = 23;
/// What a sound is encoded with that is no AAC.
const AAC: [&str; 4] = ["-c:a", "aac", "-b:a", "128k"];

/// Where the pictures have their keyframes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyframes {
    /// Where the MP4 has them.
    OfSource,
    /// So far apart, or at the next frame.
    Every(Duration),
}

impl Keyframes {
    /// For `-force_key_frames`.
    pub(super) fn expression(self) -> String {
        match self {
            Self::OfSource => "source".to_owned(),
            Self::Every(every) => format!("expr:gte(t,n_forced*{})", every.as_secs_f64()),
        }
    }
}

/// The sound of an MP4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sound {
    /// AAC, which is copied.
    Aac,
    /// Another one, which is encoded.
    Other,
}

/// Copies picture and sound into a file each. `segment`: the length of a fragment of the sound.
#[must_use]
pub fn copy(mp4: &Path, picture: Option<&Path>, sound: Option<(&Path, Sound)>, segment: Duration) -> Vec<OsString> {
    let mut arguments = input(mp4);
    if let Some(path) = picture {
        add(&mut arguments, &["-map", "0:V:0", "-c:v", "copy", "-bsf:v"]);
        arguments.push(format!("setts={FROM_THE_BEGINNING}").into());
        add(&mut arguments, &FRAGMENTS);
        arguments.extend([format!("{FLAGS}+frag_keyframe").into(), "-y".into(), file_url(path)]);
    }
    if let Some((path, sound)) = sound {
        add(&mut arguments, &["-map", "0:a:0"]);
        match sound {
            Sound::Aac => add(&mut arguments, &["-c:a", "copy"]),
            Sound::Other => add(&mut arguments, &AAC),
        }
        add(&mut arguments, &WITHOUT_LEAD_IN);
        arguments.extend(["-frag_duration".into(), segment.as_micros().to_string().into()]);
        add(&mut arguments, &FRAGMENTS);
        arguments.extend([FLAGS.into(), "-y".into(), file_url(path)]);
    }
    arguments
}

/// Decodes the picture once, and encodes it for each of these rungs into a file. `end`: how long the last frame is shown.
#[must_use]
pub fn encode(mp4: &Path, rungs: &[(Rung, PathBuf)], keyframes: Keyframes, end: Duration) -> Vec<OsString> {
    let mut arguments = input(mp4);
    arguments.extend(["-filter_complex".into(), filters(rungs.iter().map(|(rung, _)| rung)).into()]);
    for (index, (rung, path)) in rungs.iter().enumerate() {
        arguments.extend(["-map".into(), format!("[out{index}]").into()]);
        add(&mut arguments, &H264);
        add(&mut arguments, &KEYFRAMES);
        arguments.extend(rate(rung.encoding));
        arguments.extend(["-force_key_frames".into(), keyframes.expression().into()]);
        add(&mut arguments, &VARIABLE_RATE);
        let last = format!("if(eq(NEXT_DTS\\,NOPTS)\\,max(DURATION\\,{:.6}/TB-PTS)\\,DURATION)", end.as_secs_f64());
        arguments.extend(["-bsf:v".into(), format!("setts={FROM_THE_BEGINNING}:duration={last}").into()]);
        add(&mut arguments, &FRAGMENTS);
        arguments.extend([format!("{FLAGS}+frag_keyframe").into(), "-y".into(), file_url(path)]);
    }
    arguments
}

/// What the bits of a rendition are spent by.
pub(super) fn rate(encoding: Encoding) -> Vec<OsString> {
    match encoding {
        Encoding::Copy | Encoding::Encode(None) => vec!["-crf".into(), CRF.to_string().into()],
        Encoding::Encode(Some(VideoRate::Crf(crf))) => vec!["-crf".into(), crf.to_string().into()],
        Encoding::Encode(Some(VideoRate::BitRate(bits))) => {
            let rates = [("-b:v", u64::from(bits)), ("-maxrate", most_bits(bits)), ("-bufsize", u64::from(bits) * 2)];
            rates.into_iter().flat_map(|(name, bits)| [name.into(), bits.to_string().into()]).collect()
        }
    }
}

/// Half as much again at most, over two seconds: what a player measures is what it gets.
pub(super) fn most_bits(bits: u32) -> u64 {
    u64::from(bits) * 3 / 2
}

/// One input, scaled for each rung that is not of its size.
pub(super) fn filters<'a>(rungs: impl ExactSizeIterator<Item = &'a Rung>) -> String {
    let (mut split, mut scale) = (format!("[0:V:0]split={}", rungs.len()), String::new());
    for (index, rung) in rungs.enumerate() {
        let _ = write!(split, "[in{index}]");
        let _ = write!(scale, ";[in{index}]scale={}:{}[out{index}]", rung.width, rung.height);
    }
    split + &scale
}

fn input(mp4: &Path) -> Vec<OsString> {
    let mut arguments = Vec::new();
    add(&mut arguments, &FILES_ONLY);
    arguments.extend(["-i".into(), file_url(mp4)]);
    arguments
}

fn add(arguments: &mut Vec<OsString>, words: &[&str]) {
    arguments.extend(words.iter().map(OsString::from));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arguments: &[OsString]) -> String {
        arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn picture_and_sound_are_copied_into_files_of_their_own() {
        let segment = Duration::from_millis(4500);
        let both = copy(
            Path::new("/a/r.mp4"),
            Some(Path::new("/w/v.mp4")),
            Some((Path::new("/w/a.mp4"), Sound::Aac)),
            segment,
        );
        let both = line(&both);
        assert!(both.contains("-i file:/a/r.mp4 -map 0:V:0 -c:v copy -bsf:v setts="), "{both}");
        assert!(both.contains("+frag_keyframe -y file:/w/v.mp4 -map 0:a:0 -c:a copy -bsf:a noise="), "{both}");
        assert!(both.contains("-frag_duration 4500000 ") && both.ends_with("-y file:/w/a.mp4"), "{both}");
        let sound = line(&copy(Path::new("r"), None, Some((Path::new("a"), Sound::Other)), segment));
        assert!(sound.contains("-c:a aac -b:a 128k") && !sound.contains("0:V"), "{sound}");
    }

    #[test]
    fn a_picture_is_decoded_once_for_all_renditions() {
        let rung = |height: u32, rate| Rung { width: 2 * height, height, encoding: Encoding::Encode(rate) };
        let rungs = [
            (rung(720, None), PathBuf::from("b")),
            (rung(360, Some(VideoRate::BitRate(800_000))), PathBuf::from("c")),
            (rung(180, Some(VideoRate::Crf(30))), PathBuf::from("d")),
        ];
        let all = line(&encode(Path::new("r"), &rungs, Keyframes::OfSource, Duration::from_secs(9)));
        assert!(
            all.contains(
                "-filter_complex [0:V:0]split=3[in0][in1][in2];[in0]scale=1440:720[out0];[in1]scale=720:360[out1];\
                 [in2]scale=360:180[out2] -map [out0] "
            ),
            "{all}"
        );
        assert_eq!((all.matches(" -i ").count(), all.matches("-force_key_frames source ").count()), (1, 3));
        assert!(all.contains(" -crf 23 ") && all.contains(" -crf 30 "), "{all}");
        assert!(all.contains(" -b:v 800000 -maxrate 1200000 -bufsize 1600000 "), "{all}");
        let every = Keyframes::Every(Duration::from_millis(2500));
        assert!(line(&encode(Path::new("r"), &rungs, every, Duration::ZERO)).contains("expr:gte(t,n_forced*2.5) "));
    }
}
