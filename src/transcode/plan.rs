//! Decides what is to be done for a job, from the job and the files on disk: pure.

use std::path::{Component, Path, PathBuf};

use crate::config::FfmpegOptions;
use crate::media::ffmpeg_arguments::FfmpegArguments;
use crate::media::ffprobe::MediaInfo;
use crate::media::verification;
use crate::protocol::ids::{RecorderId, RecordingId};
use crate::transcode::splice_plan::{Seam, SplicePlan};

/// The number of bytes of the recorder's id in an unfinished file's name: with the longest recording id the name is
/// still shorter than `NAME_MAX` (255 bytes).
const ID_IN_NAME: usize = 100;
/// How many trailing names of a foreign directory are tried: room, `sub_path` and a few more.
const MAX_SUFFIX: usize = 8;

/// A file on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredFile {
    /// Bytes.
    pub size: u64,
    /// What the file holds, or why it cannot be measured.
    pub media: Result<MediaInfo, String>,
}

/// What is on disk for a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFacts {
    /// `main_path`, absolute.
    pub root: PathBuf,
    /// The result's directory, relative to `root`.
    pub dir: PathBuf,
    /// The raw file's path, absolute, whether it exists or not: beside the result, unless a hook has fetched it.
    pub raw_path: PathBuf,
    pub raw: Option<MeasuredFile>,
    /// A file with the result's name; the same as `raw` where the job names it as its raw file.
    pub mp4: Option<MeasuredFile>,
}

/// The files of a job, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPaths {
    pub raw: PathBuf,
    /// Where the result is written until it is complete: a hidden file with the node's id in its name, beside the
    /// result or in [`PlanRules::unfinished_dir`].
    pub part: PathBuf,
    /// The result.
    pub mp4: PathBuf,
    /// The result, relative to `main_path`, as the server gets it.
    pub file_path: String,
}

/// What is to be done for a job.
#[derive(Clone, Debug, PartialEq)]
pub enum JobPlan {
    /// The result exists; it only has to be reported.
    AlreadyDone {
        paths: JobPaths,
        media: MediaInfo,
        /// Bytes.
        size: u64,
        /// The raw file exists and the result was compared with it: the raw file may be removed.
        remove_raw: bool,
    },
    /// There is neither a usable raw file nor a playable result.
    MissingInput { cause: String },
    /// Copy what was encoded with the operator's options while it was recorded, by these arguments; where that makes no
    /// good MP4, encode the raw file by the plan.
    Finish(FfmpegArguments, ProducePlan),
    /// Copy the beginning of the picture, which was encoded so, and encode the rest of it; where that makes no good
    /// MP4, encode the raw file by the plan.
    Splice(Box<SplicePlan>, ProducePlan),
    /// Encode the raw file with the operator's options.
    Convert(ProducePlan),
    /// Copy the raw file's streams into an MP4.
    Remux(ProducePlan),
}

/// How a result is produced.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducePlan {
    pub paths: JobPaths,
    /// The content of the raw file.
    pub raw: MediaInfo,
    pub arguments: FfmpegArguments,
    /// Why the existing file with the result's name will be replaced; `None` where there is no such file.
    pub replaces: Option<String>,
    /// Where the picture is spliced, and what it must have; `None`: it is not.
    pub seam: Option<Seam>,
}

/// The configuration that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct PlanRules<'a> {
    pub recorder_id: &'a RecorderId,
    /// Re-encode (true) or remux.
    pub convert: bool,
    /// Make the result again though it exists: it could only be remuxed before.
    pub anew: bool,
    pub options: &'a FfmpegOptions,
    /// The directory for unfinished results; `None`: that of the result.
    pub unfinished_dir: Option<&'a Path>,
}

/// The directories under `main_path` that a job's directory may mean on this node, best first, relative to `main_path`.
///
/// `roots` are the names of `main_path` (as configured, absolute, without links). A directory under one of them is
/// taken as it is. Any other comes from a node with another `main_path`: then its suffixes are tried, longest first, as
/// it is only known to end in `<sub_path>/<room_id>`.
#[must_use]
pub fn places(dir: &Path, roots: &[&Path]) -> Vec<PathBuf> {
    let inside = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if let Some(relative) = roots.iter().find_map(|root| dir.strip_prefix(root).ok()).filter(|path| inside(path)) {
        return vec![relative.components().filter(|part| matches!(part, Component::Normal(_))).collect()];
    }
    let names: Vec<_> = dir.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    (names.len().saturating_sub(MAX_SUFFIX)..names.len()).map(|skipped| names[skipped..].iter().collect()).collect()
}

/// The files of a job whose result goes to `dir`, relative to `root`.
#[must_use]
pub fn paths(
    root: &Path,
    dir: &Path,
    raw: &Path,
    recording_id: &RecordingId,
    recorder_id: &RecorderId,
    unfinished_dir: Option<&Path>,
) -> JobPaths {
    let at = root.join(dir);
    let mp4 = mp4_name(recording_id);
    let node = recorder_id.as_str();
    let node = node.get(..ID_IN_NAME).unwrap_or(node);
    JobPaths {
        raw: raw.to_owned(),
        part: unfinished_dir.unwrap_or(&at).join(format!(".{mp4}.{node}.part")),
        file_path: dir.join(&mp4).to_string_lossy().into_owned(),
        mp4: at.join(mp4),
    }
}

/// The name of a recording's result (PROTOCOL 6).
#[must_use]
pub fn mp4_name(recording_id: &RecordingId) -> String {
    format!("{recording_id}.mp4")
}

/// Decides what is to be done for a job.
#[must_use]
pub fn plan(recording_id: &RecordingId, facts: &JobFacts, rules: PlanRules<'_>) -> JobPlan {
    let paths = paths(&facts.root, &facts.dir, &facts.raw_path, recording_id, rules.recorder_id, rules.unfinished_dir);
    let already_done = |media: &MediaInfo, size, remove_raw| JobPlan::AlreadyDone {
        paths: paths.clone(),
        media: media.clone(),
        size,
        remove_raw,
    };
    let raw = match (&facts.raw, &facts.mp4) {
        // The job names the result itself as its raw file: a playable file is the result, and there is nothing to
        // remove.
        (_, Some(mp4)) if paths.raw == paths.mp4 => {
            return match &mp4.media {
                Ok(media) => already_done(media, mp4.size, false),
                Err(cause) => missing(&paths.raw, cause),
            };
        }
        (None, None) => return missing(&paths.raw, "there is no such file"),
        (None, Some(MeasuredFile { media: Err(cause), .. })) => {
            let cause = format!("there is no such file, and {} does not play ({cause})", paths.mp4.display());
            return missing(&paths.raw, &cause);
        }
        (None, Some(MeasuredFile { media: Ok(media), size })) => return already_done(media, *size, false),
        // An unreadable raw file neither holds up a playable result nor is removed.
        (Some(MeasuredFile { media: Err(_), .. }), Some(MeasuredFile { media: Ok(media), size })) => {
            return already_done(media, *size, false);
        }
        (Some(MeasuredFile { media: Err(cause), .. }), _) => return missing(&paths.raw, cause),
        (Some(MeasuredFile { media: Ok(raw), .. }), _) => raw,
    };
    let arguments =
        if rules.convert { FfmpegArguments::convert(rules.options, raw) } else { FfmpegArguments::remux(raw) };
    let replaces = match &facts.mp4 {
        None => None,
        Some(MeasuredFile { media: Err(cause), .. }) => Some(cause.clone()),
        Some(_) if rules.anew => Some("it could only be remuxed the last time".to_owned()),
        Some(MeasuredFile { media: Ok(made), size }) => match verification::compare(made, &arguments.expected(raw)) {
            Ok(()) => return already_done(made, *size, raw.unknown_part().is_none()),
            // The result is longer than the raw file, so it holds more: both stay.
            Err(verification::MediaMismatch::Duration { made: long, raw: short }) if long > short => {
                return already_done(made, *size, false);
            }
            Err(mismatch) => Some(mismatch.to_string()),
        },
    };
    let produce = ProducePlan { paths, raw: raw.clone(), arguments, replaces, seam: None };
    if !rules.convert {
        return JobPlan::Remux(produce);
    }
    if let Some(copy) = FfmpegArguments::finish(rules.options, raw) {
        return JobPlan::Finish(copy, produce);
    }
    let size = facts.raw.as_ref().map_or(0, |raw| raw.size);
    match SplicePlan::new(rules.options, raw, size, &produce.paths.part) {
        Some(splice) => JobPlan::Splice(Box::new(splice), produce),
        None => JobPlan::Convert(produce),
    }
}

fn missing(raw: &Path, why: &str) -> JobPlan {
    JobPlan::MissingInput { cause: format!("the raw file {} cannot be used: {why}", raw.display()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::media::ffprobe::{MediaStream, StreamKind};

    fn found(seconds: u64) -> MeasuredFile {
        let stream = |kind, codec: &str| MediaStream {
            kind,
            codec: codec.into(),
            width: 2,
            height: 2,
            ..MediaStream::default()
        };
        let streams = vec![stream(StreamKind::Video, "h264"), stream(StreamKind::Audio, "aac")];
        MeasuredFile {
            size: 9,
            media: Ok(MediaInfo { duration: Duration::from_secs(seconds), streams, ..MediaInfo::default() }),
        }
    }

    fn broken() -> MeasuredFile {
        MeasuredFile { size: 9, media: Err("moov atom not found".into()) }
    }

    fn decide(raw_name: &str, raw: impl Into<Option<MeasuredFile>>, mp4: impl Into<Option<MeasuredFile>>) -> JobPlan {
        decide_again(raw_name, raw, mp4, false)
    }

    fn decide_again(
        raw_name: &str,
        raw: impl Into<Option<MeasuredFile>>,
        mp4: impl Into<Option<MeasuredFile>>,
        anew: bool,
    ) -> JobPlan {
        let (raw, mp4) = (raw.into(), mp4.into());
        let (root, dir) = (PathBuf::from("/srv/rec"), PathBuf::from("node_01/room01"));
        let facts = JobFacts { raw_path: root.join(&dir).join(raw_name), root, dir, raw, mp4 };
        let rules = PlanRules {
            recorder_id: &RecorderId::parse("node_02").unwrap(),
            convert: true,
            anew,
            options: &FfmpegOptions::default(),
            unfinished_dir: None,
        };
        plan(&RecordingId::parse("rec-1").unwrap(), &facts, rules)
    }

    #[test]
    fn a_directory_under_main_path_is_taken_as_it_is() {
        let roots = [Path::new("../recording_files"), Path::new("/srv/rec")];
        for dir in ["/srv/rec/node_01/room01/", "../recording_files/node_01/room01", "/srv/rec/./node_01/room01"] {
            assert_eq!(places(Path::new(dir), &roots), [PathBuf::from("node_01/room01")], "{dir}");
        }
        assert_eq!(places(Path::new("/srv/rec"), &roots), [PathBuf::new()]);
    }

    #[test]
    fn a_foreign_directory_is_tried_by_its_suffixes() {
        let roots = [Path::new("/srv/rec")];
        let suffixes = |dir| places(Path::new(dir), &roots).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            suffixes("/mnt/nfs/node_01/room01"),
            ["mnt/nfs/node_01/room01", "nfs/node_01/room01", "node_01/room01", "room01"]
        );
        assert_eq!(suffixes("../files/room01/"), ["files/room01", "room01"]);
        assert_eq!(suffixes("/srv/recordings/a"), ["srv/recordings/a", "recordings/a", "a"]);
        assert!(suffixes("/").is_empty() && suffixes("../..").is_empty());
        // Never above main_path, whatever the job says.
        assert!(suffixes("/srv/rec/../../etc").iter().all(|suffix| !suffix.contains("..")));
    }

    #[test]
    fn the_result_lies_beside_the_raw_file() {
        let JobPlan::Convert(produce) = decide("rec-1_raw.mkv", found(10), None) else { panic!() };
        assert_eq!(produce.paths.raw, Path::new("/srv/rec/node_01/room01/rec-1_raw.mkv"));
        assert_eq!(produce.paths.part, Path::new("/srv/rec/node_01/room01/.rec-1.mp4.node_02.part"));
        assert_eq!(produce.paths.mp4, Path::new("/srv/rec/node_01/room01/rec-1.mp4"));
        assert_eq!(produce.paths.file_path, "node_01/room01/rec-1.mp4");
        assert_eq!(produce.replaces, None);
    }

    #[test]
    fn the_longest_ids_still_make_a_file_name() {
        let id = "r".repeat(128);
        let paths = paths(
            Path::new("/"),
            Path::new("a"),
            Path::new("/a/x"),
            &RecordingId::parse(&id).unwrap(),
            &RecorderId::parse(&id).unwrap(),
            None,
        );
        assert!(paths.part.file_name().unwrap().len() <= 255);
    }

    #[test]
    fn a_finished_result_is_only_announced_and_frees_its_raw_file() {
        let JobPlan::AlreadyDone { remove_raw, .. } = decide("rec-1_raw.mkv", found(10), found(10)) else { panic!() };
        assert!(remove_raw);
        let JobPlan::AlreadyDone { remove_raw, size, .. } = decide("rec-1_raw.mkv", None, found(10)) else { panic!() };
        assert_eq!((remove_raw, size), (false, 9));
        // A remuxed result is made again on request, but never without its raw file.
        let JobPlan::Convert(produce) = decide_again("rec-1_raw.mkv", found(10), found(10), true) else { panic!() };
        assert!(produce.replaces.is_some());
        assert!(matches!(decide_again("rec-1_raw.mkv", None, found(10), true), JobPlan::AlreadyDone { .. }));
    }

    #[test]
    fn a_raw_file_that_differs_from_the_result_is_never_removed_unread() {
        // The result is longer than the raw file, or the raw file does not open: both stay.
        for raw in [found(10), broken()] {
            let JobPlan::AlreadyDone { remove_raw, .. } = decide("rec-1_raw.mkv", raw, found(60)) else { panic!() };
            assert!(!remove_raw);
        }
        // An interrupted transcoder has left an incomplete result: it is made again.
        for mp4 in [found(5), broken()] {
            let JobPlan::Convert(produce) = decide("rec-1_raw.mkv", found(10), mp4) else { panic!() };
            assert!(produce.replaces.is_some());
        }
    }

    #[test]
    fn a_raw_file_of_the_results_name_is_the_result() {
        let JobPlan::AlreadyDone { remove_raw, .. } = decide("rec-1.mp4", found(10), found(10)) else { panic!() };
        assert!(!remove_raw);
        assert!(matches!(decide("rec-1.mp4", broken(), broken()), JobPlan::MissingInput { .. }));
    }

    #[test]
    fn without_input_the_cause_names_the_path() {
        let broken = || Some(broken());
        for (raw, mp4) in [(None, None), (broken(), None), (None, broken()), (broken(), broken())] {
            let JobPlan::MissingInput { cause } = decide("rec-1_raw.mkv", raw, mp4) else { panic!() };
            assert!(cause.contains("/srv/rec/node_01/room01/rec-1_raw.mkv"), "{cause}");
        }
    }
}
