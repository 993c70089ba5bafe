//! How an MP4 is made of a raw file of which only the beginning was encoded as its MP4 shall be
//! ([`crate::media::encoded_span`]): pure. The rest of the picture is encoded, its beginning copied, and the sound
//! encoded once as a whole.
//!
//! ```text
//! raw: picture │ as its MP4, in the MP4's options │ fast ──────┐  encoded from here to the end: the tail
//!              └───────────────── copied ──────┐  └── tail ──┐
//! MP4: picture                                 └─────────────┴── parameters of the beginning, which the tail must have
//! raw: sound as it was captured ── encoded ────────────────────── sound
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::FfmpegOptions;
use crate::media::concat_plan::{LIST_HEAD, UnlistablePath, listed};
use crate::media::encoded_span::EncodedSpan;
use crate::media::ffmpeg_arguments::{
    FRAMES_IN_ONE, FfmpegArguments, WITHOUT_REPETITIONS, has_sound, option_name, owned, shown_to,
};
use crate::media::ffprobe::{FILES_ONLY, MediaInfo, MediaStream};
use crate::media::final_encoding::FinalEncoding;

/// Frames keep their times, to the millisecond, as while recording: the parameters of the picture have that unit.
const OWN_TIMES: [&str; 4] = ["-fps_mode", "vfr", "-enc_time_base:v", "1:1000"];

/// The files that exist only while an MP4 is spliced, beside its unfinished file: the tail, and the list by which
/// ffmpeg reads beginning and tail one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpliceFiles {
    pub tail: PathBuf,
    pub list: PathBuf,
}

impl SpliceFiles {
    /// Of the job with this unfinished file.
    #[must_use]
    pub fn of(part: &Path) -> Self {
        Self { tail: part.with_extension("tail.part"), list: part.with_extension("list.part") }
    }
}

/// How an MP4 is spliced.
#[derive(Clone, Debug, PartialEq)]
pub struct SplicePlan {
    pub span: EncodedSpan,
    pub files: SpliceFiles,
    pub tail: TailArguments,
    /// Copies beginning and tail, and encodes the sound.
    pub whole: FfmpegArguments,
    /// What of the disk tail and MP4 take at most: no more than the raw file, whose sound as it was captured is larger
    /// than the tail, and whose picture is not smaller than theirs. Bytes.
    pub needs: u64,
    /// Hash of the parameters of the beginning.
    setup: String,
}

/// ffmpeg's options around its input, the raw file, that encode the tail as it would have been encoded while recording:
/// so it gets the parameters of the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailArguments {
    pub pre_input: Vec<String>,
    pub post_input: Vec<String>,
}

/// What a spliced picture must be, beyond what any result must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seam {
    pub at: Duration,
    /// Packets of the beginning and of the tail.
    pub packets: u64,
}

/// Why an MP4 is not spliced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceRefusal {
    #[error(
        "this ffmpeg gives the picture other parameters than the one that recorded, and an MP4 has one set of them"
    )]
    Parameters,
    #[error("the picture's tail has no packets")]
    Empty,
    #[error("the disk has {free} bytes free, and the picture's tail and the MP4 may need {needs}")]
    Space { free: u64, needs: u64 },
}

impl SplicePlan {
    /// `None`: the raw file has no such beginning, or not one with these options, or is damaged. `size`: of the raw
    /// file, in bytes. `part`: the unfinished MP4.
    #[must_use]
    pub fn new(options: &FfmpegOptions, raw: &MediaInfo, size: u64, part: &Path) -> Option<Self> {
        let picture = raw.video().filter(|picture| picture.codec == "h264")?;
        let span = picture.encoded_span.as_ref()?;
        let encoding = FinalEncoding::read(options).ok()?;
        let fits = span.mark == encoding.video_mark()
            && span.until < raw.duration
            && picture.packets.is_some_and(|packets| packets > span.packets);
        if !fits || raw.unknown_part().is_some() || picture.setup.is_empty() {
            return None;
        }
        let files = SpliceFiles::of(part);
        // It is an argument among the operator's words.
        let list = files.list.to_str()?;
        Some(Self {
            tail: tail(options, &encoding, raw, span),
            whole: whole(&encoding, raw, list),
            span: span.clone(),
            files,
            needs: size,
            setup: picture.setup.clone(),
        })
    }

    /// # Errors
    /// Where the disk may be too small. `free`: bytes; `None`: unknown.
    pub fn check_space(&self, free: Option<u64>) -> Result<(), SpliceRefusal> {
        match free {
            Some(free) if free < self.needs => Err(SpliceRefusal::Space { free, needs: self.needs }),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// Where the tail cannot follow the beginning in one track.
    pub fn check_parameters(&self, tail: &MediaInfo) -> Result<(), SpliceRefusal> {
        let same = |picture: &MediaStream| picture.codec == "h264" && picture.setup == self.setup;
        if tail.video().is_some_and(same) { Ok(()) } else { Err(SpliceRefusal::Parameters) }
    }

    /// What the spliced picture must be. `tail`: measured.
    ///
    /// # Errors
    /// Where the tail is empty.
    pub fn seam(&self, tail: &MediaInfo) -> Result<Seam, SpliceRefusal> {
        let packets = tail.video().and_then(|picture| picture.packets).filter(|packets| *packets > 0);
        let packets = self.span.packets + packets.ok_or(SpliceRefusal::Empty)?;
        Ok(Seam { at: self.span.until, packets })
    }

    /// The list for ffmpeg: the raw file up to the end of its beginning, then the tail. The times of both begin with 0.
    ///
    /// # Errors
    /// For a name with a line break.
    pub fn list(&self, raw: &Path) -> Result<Vec<u8>, UnlistablePath> {
        let until = self.span.until_seconds();
        let mut list = LIST_HEAD.to_vec();
        list.extend(listed(raw)?);
        list.extend_from_slice(format!("inpoint 0\noutpoint {until}\nduration {until}\n").as_bytes());
        list.extend(listed(&self.files.tail)?);
        list.extend_from_slice(b"inpoint 0\n");
        Ok(list)
    }
}

fn tail(options: &FfmpegOptions, encoding: &FinalEncoding, raw: &MediaInfo, span: &EncodedSpan) -> TailArguments {
    let mut post_input = owned(&["-map", "0:V:0"]);
    post_input.extend(owned(&OWN_TIMES));
    if has_sound(raw) {
        post_input.extend(owned(&WITHOUT_REPETITIONS));
    }
    post_input.extend(encoding.video_options());
    // How many threads is no matter of what comes out.
    let words: Vec<_> = options.pre_input.iter().chain(&options.post_input).collect();
    if let Some(pair) = words.windows(2).rfind(|pair| option_name(pair[0]) == "-threads") {
        post_input.extend(["-threads".to_owned(), pair[1].clone()]);
    }
    TailArguments { pre_input: owned(&["-ss", &span.until_seconds(), "-seek_timestamp", "1"]), post_input }
}

/// The raw file is the first input, for its sound, and the list the second one, for the picture. Each keyframe of a
/// joined raw file has the parameters of its part before it, which a track of an MP4 may not have.
fn whole(encoding: &FinalEncoding, raw: &MediaInfo, list: &str) -> FfmpegArguments {
    let filters = format!("filter_units=remove_types=7-8,{}", shown_to(raw.duration));
    let mut whole = FfmpegArguments::copy_picture(encoding, raw, "1:V:0", filters, None);
    let [.., formats] = FILES_ONLY;
    let mut post_input = owned(&["-protocol_whitelist", "file", "-format_whitelist"]);
    post_input.push(format!("concat,{formats}"));
    post_input.extend(owned(&["-f", "concat", "-safe", "0", "-auto_convert", "0", "-i"]));
    post_input.push(format!("file:{list}"));
    post_input.append(&mut whole.post_input);
    whole.post_input = post_input;
    whole.frames_in_one = Some(if has_sound(raw) { FRAMES_IN_ONE } else { 1 });
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::ffprobe::StreamKind;
    use crate::media::packet_times::TrackTimes;

    const THEIRS: &str = "-threads 3 -c:v libx264 -preset veryfast -c:a aac -movflags faststart";

    fn options(post_input: &str) -> FfmpegOptions {
        FfmpegOptions { pre_input: Vec::new(), post_input: post_input.split_whitespace().map(str::to_owned).collect() }
    }

    fn raw() -> MediaInfo {
        let mark = FinalEncoding::read(&options(THEIRS)).unwrap().video_mark();
        let picture = MediaStream {
            kind: StreamKind::Video,
            codec: "h264".into(),
            setup: "x".into(),
            encoded_span: Some(EncodedSpan { until: Duration::from_millis(40_007), packets: 1001, mark }),
            packets: Some(1500),
            times: Some(TrackTimes::default()),
            ..MediaStream::default()
        };
        let sound =
            MediaStream { kind: StreamKind::Audio, codec: "pcm_s16le".into(), packets: Some(9), ..picture.clone() };
        MediaInfo { duration: Duration::from_secs(60), streams: vec![picture, sound], ..MediaInfo::default() }
    }

    fn plan(theirs: &str, raw: &MediaInfo) -> Option<SplicePlan> {
        SplicePlan::new(&options(theirs), raw, 900, Path::new("/srv/.rec.mp4.node_01.part"))
    }

    #[test]
    fn only_what_follows_the_beginning_is_encoded() {
        let plan = plan(THEIRS, &raw()).unwrap();
        assert_eq!(plan.files.tail, Path::new("/srv/.rec.mp4.node_01.tail.part"));
        let tail = (plan.tail.pre_input.join(" "), plan.tail.post_input.join(" "));
        assert_eq!(tail.0, "-ss 40.007 -seek_timestamp 1");
        assert!(tail.1.starts_with("-map 0:V:0 -fps_mode vfr -enc_time_base:v 1:1000 -vf mpdecimate"), "{}", tail.1);
        let recorded = FinalEncoding::read(&options(THEIRS)).unwrap().video_options().join(" ");
        assert!(tail.1.ends_with(&format!("{recorded} -threads 3")), "{}", tail.1);
        let whole = plan.whole.post_input.join(" ");
        assert!(whole.starts_with("-protocol_whitelist file -format_whitelist concat,matroska"), "{whole}");
        assert!(
            whole.contains(
                "-i file:/srv/.rec.mp4.node_01.list.part -map 1:V:0 -map 0:a:0 -c:a aac -c:v copy \
                 -bsf:v filter_units=remove_types=7-8,setts="
            ),
            "{whole}"
        );
        assert_eq!(
            String::from_utf8(plan.list(Path::new("/srv/a'b.mkv")).unwrap()).unwrap(),
            "ffconcat version 1.0\nfile 'file:/srv/a'\\''b.mkv'\ninpoint 0\noutpoint 40.007\nduration 40.007\n\
             file 'file:/srv/.rec.mp4.node_01.tail.part'\ninpoint 0\n"
        );
        assert!(plan.list(Path::new("/srv/a\nb.mkv")).is_err());
    }

    #[test]
    fn a_raw_file_that_is_not_understood_is_converted_as_a_whole() {
        let change = |change: fn(&mut MediaInfo)| {
            let mut raw = raw();
            change(&mut raw);
            plan(THEIRS, &raw)
        };
        assert!(change(|_| {}).is_some());
        for changed in [
            change(|raw| raw.streams[0].encoded_span = None),
            change(|raw| raw.streams[0].codec = "vp9".into()),
            change(|raw| raw.streams[0].setup.clear()),
            change(|raw| raw.streams[0].packets = Some(1001)),
            change(|raw| raw.duration = Duration::from_secs(40)),
            change(|raw| raw.incomplete = Some("cut off".into())),
        ] {
            assert_eq!(changed, None);
        }
        for other in ["-c:v libx264 -preset veryfast -crf 20", "-c:v libx264 -preset slow", "-c copy"] {
            assert_eq!(plan(other, &raw()), None, "{other}");
        }
    }

    #[test]
    fn a_tail_must_have_the_parameters_of_the_beginning() {
        let plan = plan(THEIRS, &raw()).unwrap();
        assert_eq!(plan.check_parameters(&raw()), Ok(()));
        assert_eq!(plan.seam(&raw()), Ok(Seam { at: Duration::from_millis(40_007), packets: 2501 }));
        let mut other = raw();
        (other.streams[0].setup, other.streams[0].packets) = ("y".into(), Some(0));
        assert_eq!(plan.check_parameters(&other), Err(SpliceRefusal::Parameters));
        assert_eq!(plan.check_parameters(&MediaInfo::default()), Err(SpliceRefusal::Parameters));
        assert_eq!(plan.seam(&other), Err(SpliceRefusal::Empty));
        assert_eq!((plan.check_space(None), plan.check_space(Some(900))), (Ok(()), Ok(())));
        assert_eq!(plan.check_space(Some(899)), Err(SpliceRefusal::Space { free: 899, needs: 900 }));
    }
}
