//! Checks an unfinished result before it is put into its place.

use std::path::Path;

use crate::media::decode_check;
use crate::media::ffprobe::MediaInfo;
use crate::media::verification::{self, ExpectedMedia};
use crate::transcode::failure::JobFailure;
use crate::transcode::splice_plan::Seam;

/// Compares an unfinished result, which was measured packet by packet, with its raw file, and decodes samples of it.
/// `is_copy`: its picture was copied, and could be encoded.
pub(super) async fn check(
    part: &Path,
    result: MediaInfo,
    expected: ExpectedMedia,
    seam: Option<Seam>,
    raw: &Path,
    is_copy: bool,
    nice: u8,
) -> Result<MediaInfo, JobFailure> {
    if let Some(why) = &result.incomplete {
        return Err(JobFailure::Cause(format!("the result cannot be checked: {why}")));
    }
    verification::compare(&result, &expected).map_err(JobFailure::of)?;
    let decoded = if is_copy {
        decode_check::check_copy(part, &result, raw, nice).await
    } else {
        decode_check::check_result(part, &result, raw, nice).await
    };
    decoded.map_err(|error| undecodable(&error))?;
    if let Some(seam) = seam {
        let packets = result.video().and_then(|picture| picture.packets).unwrap_or_default();
        if packets != seam.packets {
            let cause = format!("it has {packets} packets of picture, its beginning and its tail {}", seam.packets);
            return Err(JobFailure::Cause(format!("the result is no good: {cause}")));
        }
        decode_check::check_at(part, "seam", seam.at, nice).await.map_err(|error| undecodable(&error))?;
    }
    Ok(result)
}

/// Checks an unfinished result that need not hold all of its raw file; and what it lacks. It must play something.
pub(super) async fn check_partial(
    part: &Path,
    result: MediaInfo,
    expected: ExpectedMedia,
    nice: u8,
) -> Result<(MediaInfo, Option<String>), JobFailure> {
    if result.streams.iter().all(|stream| stream.times.is_none()) {
        return Err(JobFailure::Cause("the result plays nothing".to_owned()));
    }
    let checked = decode_check::check(part, &result, nice).await;
    let lacks = verification::compare(&result, &expected).err().map(|mismatch| mismatch.to_string());
    Ok((result, lacks.or_else(|| checked.err().map(|error| error.to_string()))))
}

pub(super) fn undecodable(error: &decode_check::DecodeError) -> JobFailure {
    JobFailure::Cause(format!("the result is no good: {error}"))
}
