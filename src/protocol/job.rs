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
    /// Its recording or room cannot be told, so nobody can be told of it.
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("{why}")]
    Unusable { subject: Box<JobSubject>, why: UnusableField },
}

/// Which recording a job is about, whatever is wrong with the rest of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSubject {
    /// With an empty session id where the job's is not allowed.
    pub info: RecordingInfo,
    /// `None` where the job's is not allowed.
    pub recorder_id: Option<RecorderId>,
}

/// What is wrong with a job whose recording and room are known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableField {
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
        let mut info = RecordingInfo {
            room_table_id: task.room_table_id,
            room_id: RoomId::parse(&task.room_id)?,
            room_sid: RoomSid::default(),
            recording_id: RecordingId::parse(&task.recording_id)?,
        };
        let recorder_id = RecorderId::of_another_node(&task.recorder_id);
        let rest = RoomSid::parse(&task.room_sid).map_err(UnusableField::from).and_then(|room_sid| {
            info.room_sid = room_sid;
            Ok((recorder_id.clone()?, work(task.work)?))
        });
        match rest {
            Ok((recorder_id, work)) => Ok(Self { info, recorder_id, work }),
            Err(why) => {
                let subject = Box::new(JobSubject { info, recorder_id: recorder_id.ok() });
                Err(InvalidJob::Unusable { subject, why })
            }
        }
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

fn work(work: Option<transcoding_task::Work>) -> Result<Work, UnusableField> {
    Ok(match work.ok_or(UnusableField::NoWork)? {
        transcoding_task::Work::PostRecording(post) => Work::PostRecording {
            dir: directory(&post.file_path)?,
            file_name: RawFileName::parse(&post.file_name)?,
            variant: post.recording_variant,
        },
        transcoding_task::Work::MergeRecordings(merge) => {
            Work::Merge { paths: merge.file_paths.iter().map(|path| relative(path)).collect::<Result<_, _>>()? }
        }
    })
}

/// The URL of an object or of a directory of objects, where a job's path is one (`s3://bucket/key`); `None`: a path.
#[must_use]
pub fn object_url(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme.then_some(text)
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
    fn whose_job_it_is_is_known_whatever_else_is_wrong_with_it() {
        let good = TranscodingTask::decode(&task("/srv", "rec-1_raw.mkv")[..]).unwrap();
        let merge = |path: &str| {
            let file_paths = vec!["a/b.mp4".to_owned(), path.to_owned()];
            Some(transcoding_task::Work::MergeRecordings(TranscodingTaskMergeRecordings { file_paths }))
        };
        let cases = [
            (TranscodingTask { work: merge("../x.mp4"), ..good.clone() }, "file_paths", Some("node_01")),
            (TranscodingTask { work: None, ..good.clone() }, "neither post_recording nor", Some("node_01")),
            (TranscodingTask { recorder_id: "a/b".into(), ..good.clone() }, "recorder id", None),
            (TranscodingTask { room_sid: "a/b".into(), ..good.clone() }, "room_sid", Some("node_01")),
        ];
        for (task, said, recorder) in cases {
            let Err(InvalidJob::Unusable { subject, why }) = Job::decode(&task.encode_to_vec()) else {
                panic!("{task:?}")
            };
            assert!(why.to_string().contains(said), "{why}");
            assert_eq!((subject.info.recording_id.as_str(), subject.info.room_id.as_str()), ("rec-1", "room01"));
            assert_eq!(subject.recorder_id.as_ref().map(RecorderId::as_str), recorder, "{said}");
        }
        let nobody = TranscodingTask { room_id: "a/b".into(), ..good };
        assert!(matches!(Job::decode(&nobody.encode_to_vec()), Err(InvalidJob::Name(_))));
    }

    #[test]
    fn the_url_of_an_object_is_told_from_a_path() {
        for url in ["s3://bucket/a/b.mp4", "file:///srv/a", "az://c"] {
            assert_eq!(object_url(Path::new(url)), Some(url));
        }
        for path in ["/srv/s3://x", "a/b.mp4", "s3:/bucket", "://x", ""] {
            assert_eq!(object_url(Path::new(path)), None, "{path}");
        }
        let job = Job::decode(&task("s3://bucket/pre/node_01/room01/", "rec-1_raw.mkv")).unwrap();
        let Work::PostRecording { dir, .. } = &job.work else { panic!("{job:?}") };
        assert_eq!(object_url(dir).unwrap().trim_end_matches('/'), "s3://bucket/pre/node_01/room01");
        assert_eq!(Job::decode(&job.encode()).unwrap().encode(), job.encode());
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
