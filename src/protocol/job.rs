//! Transcoding jobs as checked types (PROTOCOL 6).

use std::path::{Component, Path, PathBuf};

use prost::Message;

use crate::protocol::ids::{InvalidName, RecorderId, RecordingId, RoomId, RoomSid, check_length};
use crate::protocol::messages::{
    TranscodingTask, TranscodingTaskMergeRecordings, TranscodingTaskPostRecording, transcoding_task,
};
use crate::protocol::request::RecordingInfo;

/// A checked job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub info: RecordingInfo,
    /// The node that recorded, for scripts and the server; `merged-recording` for a merge.
    pub recorder_id: RecorderId,
    pub work: Work,
}

/// The work of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Convert `<dir>/<file_name>` to `<recording_id>.mp4` beside it.
    PostRecording {
        /// As written by the recording node: absolute, or relative to that node's working directory.
        dir: PathBuf,
        file_name: RawFileName,
        /// 0 full screen, 1 media only.
        variant: i32,
    },
    /// Join these MP4s in order; paths are relative to `main_path`, without `..`.
    Merge { paths: Vec<PathBuf> },
}

/// Suffix of the raw files of this program, after the recording id.
const RAW_SUFFIX: &str = "_raw.mkv";

/// A plain file name: no directory, not hidden, not an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFileName(String);

impl RawFileName {
    /// The name of the raw file of a recording of this program.
    ///
    /// # Errors
    /// Never for a parsed id.
    pub fn of(recording: &RecordingId) -> Result<Self, InvalidName> {
        Self::parse(&format!("{recording}{RAW_SUFFIX}"))
    }

    /// # Errors
    /// Where `text` is empty, longer than 255 bytes, or not a plain file name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        const FIELD: &str = "file_name";
        let other = |why: &str| InvalidName::Other { field: FIELD, why: why.to_owned() };
        match text.chars().next() {
            None => return Err(InvalidName::Empty { field: FIELD }),
            Some(found @ ('-' | '.')) => return Err(InvalidName::Start { field: FIELD, found }),
            Some(_) => {}
        }
        if text.len() > 255 {
            return Err(InvalidName::TooLong { field: FIELD, len: text.len(), max: 255 });
        }
        if text.contains(['/', '\\']) || text.chars().any(char::is_control) {
            return Err(other("it holds a '/', a '\\' or a control character"));
        }
        Ok(Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the summary file, which belongs to the raw file. `None`: another program has named the raw file and
    /// wrote no summary.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        self.0.strip_suffix(RAW_SUFFIX).map(|id| format!("{id}_raw.json"))
    }
}

/// Why a job can never be done.
#[derive(Debug, thiserror::Error)]
pub enum InvalidJob {
    #[error("the bytes are no TranscodingTask: {0}")]
    Undecodable(#[from] prost::DecodeError),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("it names neither post_recording nor merge_recordings")]
    NoWork,
}

impl Job {
    /// # Errors
    /// Where the bytes are not a job, or a name or path in it is not allowed.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidJob> {
        let task = TranscodingTask::decode(bytes)?;
        let work = match task.work.ok_or(InvalidJob::NoWork)? {
            transcoding_task::Work::PostRecording(post) => Work::PostRecording {
                dir: directory(&post.file_path)?,
                file_name: RawFileName::parse(&post.file_name)?,
                variant: post.recording_variant,
            },
            transcoding_task::Work::MergeRecordings(merge) => {
                Work::Merge { paths: merge.file_paths.iter().map(|path| relative(path)).collect::<Result<_, _>>()? }
            }
        };
        Ok(Self {
            info: RecordingInfo {
                room_table_id: task.room_table_id,
                room_id: RoomId::parse(&task.room_id)?,
                room_sid: RoomSid::parse(&task.room_sid)?,
                recording_id: RecordingId::parse(&task.recording_id)?,
            },
            recorder_id: RecorderId::of_another_node(&task.recorder_id)?,
            work,
        })
    }

    /// The job in protobuf.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let work = match &self.work {
            Work::PostRecording { dir, file_name, variant } => {
                transcoding_task::Work::PostRecording(TranscodingTaskPostRecording {
                    // Reference transcoders concatenate directory and name, so the directory must end with a slash.
                    file_path: format!("{}/", dir.display().to_string().trim_end_matches('/')),
                    file_name: file_name.as_str().to_owned(),
                    recording_variant: *variant,
                })
            }
            Work::Merge { paths } => transcoding_task::Work::MergeRecordings(TranscodingTaskMergeRecordings {
                file_paths: paths.iter().map(|path| path.display().to_string()).collect(),
            }),
        };
        TranscodingTask {
            recording_id: self.info.recording_id.to_string(),
            room_id: self.info.room_id.to_string(),
            room_sid: self.info.room_sid.as_str().to_owned(),
            room_table_id: self.info.room_table_id,
            recorder_id: self.recorder_id.to_string(),
            work: Some(work),
        }
        .encode_to_vec()
    }
}

/// Length limit of a path in bytes (Linux's `PATH_MAX`).
const PATH_LIMIT: usize = 4096;

/// A directory named by another node; the transcoder checks it against its `main_path`.
fn directory(text: &str) -> Result<PathBuf, InvalidName> {
    const FIELD: &str = "file_path";
    check_length(FIELD, text, PATH_LIMIT)?;
    if text.chars().any(char::is_control) {
        return Err(InvalidName::Other { field: FIELD, why: "it holds a control character".to_owned() });
    }
    // A relative `main_path` begins with `..` in the reference's sample; elsewhere `..` has no legitimate use.
    let inner_parent = Path::new(text)
        .components()
        .skip_while(|part| matches!(part, Component::ParentDir | Component::CurDir))
        .any(|part| part == Component::ParentDir);
    if inner_parent {
        return Err(InvalidName::Other { field: FIELD, why: "it holds '..' behind a name".to_owned() });
    }
    Ok(PathBuf::from(text))
}

/// A path within `main_path`; names are chosen by users and may hold any character.
fn relative(text: &str) -> Result<PathBuf, InvalidName> {
    const FIELD: &str = "file_paths";
    check_length(FIELD, text, PATH_LIMIT)?;
    let path = PathBuf::from(text);
    if text.contains('\0') || !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(InvalidName::Other { field: FIELD, why: "it is not a path within main_path".to_owned() });
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(dir: &str, name: &str) -> Vec<u8> {
        TranscodingTask {
            recording_id: "rec-1".into(),
            room_id: "room01".into(),
            room_sid: String::new(),
            room_table_id: 1,
            recorder_id: "node_01".into(),
            work: Some(transcoding_task::Work::PostRecording(TranscodingTaskPostRecording {
                file_path: dir.into(),
                file_name: name.into(),
                recording_variant: 0,
            })),
        }
        .encode_to_vec()
    }

    #[test]
    fn a_job_survives_the_wire() {
        let job = Job::decode(&task("/srv/node_01/room01/", "rec-1_raw.mkv")).unwrap();
        assert_eq!(Job::decode(&job.encode()).unwrap(), job);
        assert!(Job::decode(&task("../recording_files/node_01/room01", "rec-1_raw.mp4")).is_ok());
    }

    #[test]
    fn hostile_paths_and_names_are_refused() {
        for (dir, name) in [
            ("", "a"),
            ("/srv/../etc", "a"),
            ("/srv", "../a"),
            ("/srv", ""),
            ("/srv", "-i"),
            ("/srv", ".."),
            ("/srv\n", "a"),
            ("/srv", "a\0"),
        ] {
            assert!(Job::decode(&task(dir, name)).is_err(), "{dir:?} {name:?}");
        }
        assert!(matches!(Job::decode(b"\xff\xff"), Err(InvalidJob::Undecodable(_))));
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a\0b"] {
            assert!(relative(path).is_err(), "{path:?}");
        }
        for path in ["a/b c.mp4", "it's \"1\".mp4", "line\nbreak.mp4"] {
            assert_eq!(relative(path).unwrap(), Path::new(path));
        }
    }
}
