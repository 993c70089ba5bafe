//! Records a built-in page that beeps and flashes, and looks at what came out.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::check::command::output_of;
use crate::check::marks;
use crate::check::place::{self, Place};
use crate::check::report::Finding;
use crate::check::test_recording::{self, TestRecording};
use crate::config::Config;
use crate::media::ffprobe::file_url;
use crate::process::programs::find_program;
use crate::recording::live_rig_factory::LiveRigFactory;
use crate::storage::main_path::{MainPath, StoreAbilities};

const NAME: &str = "self-recording";
/// The page: four colours, and a middle that flashes with each beep; joined as a meeting is (PROTOCOL 4).
const PAGE: &str = concat!("data:text/html,", include_str!("self_recording.html"));
/// How long the page is recorded.
pub const LENGTH: Duration = Duration::from_secs(5);
/// Time limit for decoding it.
const DECODE_LIMIT: Duration = Duration::from_secs(20);
/// Bytes of what is decoded.
const DECODED: u64 = 64 << 20;
/// Beep against flash, in milliseconds: below what is seen, and far beyond.
const OFFSET_WARNING: f64 = 80.0;
const OFFSET_FAULT: f64 = 250.0;
/// Lost frames, in percent.
const LOST_WARNING: f64 = 2.0;
const LOST_FAULT: f64 = 25.0;

/// What the recording of the page was like.
#[derive(Clone, Copy, Debug)]
struct Quality {
    /// Milliseconds of beep minus flash, and the number of pairs; `None`: there is no beep with its flash.
    offset: Option<(f64, usize)>,
    beeps: usize,
    flashes: usize,
    lost_percent: f64,
    cores: f64,
}

/// The line `self-recording`. `sandbox`: whether Chrome's sandbox works here. All that it makes is in a directory of its
/// own, and has gone when this returns; `cancel` ends it within seconds.
pub async fn check(config: &Config, sandbox: bool, cancel: CancellationToken) -> Finding {
    match Box::pin(recorded(config, sandbox, cancel)).await {
        Ok(quality) => judge(&quality),
        Err(why) => Finding::fault(NAME, format!("{why}; see self-test in docs/troubleshooting.md")),
    }
}

async fn recorded(config: &Config, sandbox: bool, cancel: CancellationToken) -> Result<Quality, String> {
    let dir = Place::new().await?;
    let mut own = config.clone();
    // Not those of the recorder, which may run: it would take what it finds there for its own.
    dir.path().clone_into(&mut own.recorder.state_dir);
    dir.path().clone_into(&mut own.recorder.temporary_dir);
    own.log.file = None;
    let store = MainPath::unwatched(&own.recorder.main_path, StoreAbilities::ALL);
    let file = dir.path().join("self-recording.mkv");
    let mut spec = LiveRigFactory::new(&own, &store, sandbox).self_test(PAGE, file.clone());
    spec.owner = place::owner();
    let TestRecording { report, cores } = Box::pin(test_recording::record(spec, LENGTH, cancel)).await?;
    let (frames, samples) = tokio::try_join!(picture(&file), sound(&file))?;
    let frame = marks::WIDTH * marks::HEIGHT * marks::PIXEL;
    let middle = frames.chunks_exact(frame).nth(frames.len() / frame / 2);
    let middle = middle.ok_or_else(|| "the recording has no picture".to_owned())?;
    if let Some(wrong) = marks::wrong_colour(middle) {
        return Err(format!("the recording shows {wrong}"));
    }
    let (beeps, flashes) = (marks::beeps(&samples), marks::flashes(&frames));
    #[expect(clippy::cast_precision_loss, reason = "frames of seconds")]
    let lost_percent =
        100.0 * report.frames_dropped as f64 / (report.frames_sent + report.frames_dropped).max(1) as f64;
    Ok(Quality {
        offset: marks::offset(&beeps, &flashes),
        beeps: beeps.len(),
        flashes: flashes.len(),
        lost_percent,
        cores,
    })
}

/// Decodes the picture, made small, at a steady rate from the beginning of the file on.
async fn picture(file: &Path) -> Result<Vec<u8>, String> {
    let (width, height, rate) = (marks::WIDTH, marks::HEIGHT, marks::RATE);
    let filter = format!("fps={rate}:start_time=0,scale={width}:{height}:flags=area");
    decode(file, &["-map", "0:v:0", "-vf", &filter, "-f", "rawvideo", "-pix_fmt", "rgb24"]).await
}

async fn sound(file: &Path) -> Result<Vec<i16>, String> {
    let rate = marks::SAMPLE_RATE.to_string();
    let args = ["-map", "0:a:0", "-af", "aresample=async=1:first_pts=0", "-ar", &rate, "-ac", "1", "-f", "s16le"];
    let bytes = decode(file, &args).await?;
    Ok(bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect())
}

async fn decode(file: &Path, args: &[&str]) -> Result<Vec<u8>, String> {
    let program = find_program(Path::new("ffmpeg")).ok_or_else(|| "ffmpeg is missing".to_owned())?;
    let mut all: Vec<OsString> = ["-v", "error", "-nostdin", "-i"].map(OsString::from).to_vec();
    all.push(file_url(file));
    all.extend(args.iter().map(OsString::from));
    all.push("pipe:1".into());
    output_of(&program, all, &[], DECODED, DECODE_LIMIT).await
}

fn judge(quality: &Quality) -> Finding {
    let Quality { offset, beeps, flashes, lost_percent, cores } = quality;
    let cost = format!("{lost_percent:.1} % of the frames lost, {cores:.1} processors used");
    let Some((offset, pairs)) = offset else {
        let what = match (beeps, flashes) {
            (0, 0) => "neither beeps nor flashes, as of a page that stands still",
            (0, _) => "no beep: PulseAudio or Chrome's sound does not work",
            (_, 0) => "no flash: the picture stands still",
            _ => "no beep near any flash",
        };
        return Finding::fault(NAME, format!("the recording has {what}; {cost}"));
    };
    let text = format!("picture right, beep − flash {offset:+.0} ms over {pairs} pairs, {cost}");
    let busy = "this host is too slow or too busy: end what else runs, or record a smaller picture (recorder.width)";
    if offset.abs() >= OFFSET_FAULT || *lost_percent >= LOST_FAULT {
        Finding::fault(NAME, format!("{text}: {busy}"))
    } else if offset.abs() >= OFFSET_WARNING || *lost_percent >= LOST_WARNING {
        Finding::warning(NAME, format!("{text}: {busy}"))
    } else {
        Finding::ok(NAME, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::Verdict;

    #[test]
    fn sound_that_is_late_lost_frames_and_silence_are_told() {
        let good = Quality { offset: Some((12.0, 4)), beeps: 4, flashes: 4, lost_percent: 0.0, cores: 0.7 };
        let found = judge(&good);
        assert_eq!(found.verdict, Verdict::Ok);
        assert_eq!(
            found.text,
            "picture right, beep − flash +12 ms over 4 pairs, 0.0 % of the frames lost, 0.7 processors used"
        );
        for (quality, verdict) in [
            (Quality { offset: Some((-90.0, 4)), ..good }, Verdict::Warning),
            (Quality { offset: Some((300.0, 4)), ..good }, Verdict::Fault),
            (Quality { lost_percent: 3.0, ..good }, Verdict::Warning),
            (Quality { lost_percent: 40.0, ..good }, Verdict::Fault),
        ] {
            assert_eq!(judge(&quality).verdict, verdict, "{quality:?}");
        }
        let silent = judge(&Quality { offset: None, beeps: 0, ..good });
        assert!(silent.verdict == Verdict::Fault && silent.text.contains("no beep: PulseAudio"), "{silent:?}");
    }

    #[test]
    fn the_page_is_a_url_as_it_stands() {
        assert!(!PAGE.contains(['#', '%']), "both have a meaning of their own in a URL");
        assert!(!PAGE.contains("//"), "its lines may be joined");
    }
}
