//! The data that hooks get about a recording, and what they may answer (PROTOCOL 7). Pure.
//!
//! The steps of a pipeline pass a JSON object on. A step's answer is merged into its input, so a step may answer with
//! only the fields that it changes, and unknown fields are kept. `null`, an empty text and an empty list mean that a
//! field is not set, as Go writes unset fields.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::protocol::ids::RecorderId;
use crate::protocol::job::{Job, RawFileName, Work};
use crate::protocol::request::RecordingInfo;
use crate::scripts::post_processing::megabytes;

/// A JSON object.
pub type Object = Map<String, Value>;

/// The longest path, in bytes (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;
/// The longest error, in characters; it is cut for logs and for the server.
const LONGEST_ERROR: usize = 1000;

/// What is done with the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HookTask {
    /// One raw file becomes an MP4.
    Single,
    /// Several MP4s become one.
    Merge,
}

/// The fields of PROTOCOL 7. A hook cannot change those that identify the recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HookPayload {
    pub task: HookTask,
    pub recording_id: String,
    pub room_table_id: i64,
    pub room_id: String,
    pub room_sid: String,
    /// The node that recorded it.
    pub recorder_id: String,
    /// The name of the file in `input_path`; after the pipeline, of the file in `output_path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// MB (10⁶ bytes), two decimals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<f64>,
    /// The directory of the file, without its name.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "path_text")]
    pub input_path: Option<PathBuf>,
    /// The files of a merge.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "path_texts")]
    pub input_paths: Vec<PathBuf>,
    /// Where a hook has put the file. Only its text is checked, and after `post_recording` it may be no path but a
    /// store's URL that only the `pre_transcoding` hook of the other node understands.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "path_text")]
    pub output_path: Option<PathBuf>,
    /// Whether to remove `output_path` at the end of the job.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub should_cleanup: bool,
    /// The file that the job named, which a hook that put it there may remove.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "path_text")]
    pub source_for_cleanup: Option<PathBuf>,
    /// The store into which this recording is delivered: its URL as the configuration has it, or `none`. Only its text is
    /// checked here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// A field of an answer with an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the field `{field}` of its answer {why}")]
pub struct InvalidField {
    pub field: &'static str,
    pub why: String,
}

/// Why an answer cannot be merged into its step's input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedAnswer {
    /// The step reports an error.
    #[error("it answered with the error {0:?}")]
    Error(String),
    #[error(transparent)]
    Field(#[from] InvalidField),
}

impl HookPayload {
    /// For one file: a raw file for `post_recording` and `pre_transcoding`, the MP4 for `post_transcoding`. `bytes`:
    /// its size, where known.
    #[must_use]
    pub fn single(
        info: &RecordingInfo,
        recorder: &RecorderId,
        input_path: &Path,
        file_name: &str,
        bytes: Option<u64>,
    ) -> Self {
        Self {
            file_name: Some(file_name.to_owned()),
            file_size: bytes.map(megabytes),
            input_path: Some(input_path.to_owned()),
            ..Self::of(HookTask::Single, info, recorder)
        }
    }

    /// For the files of a merge.
    #[must_use]
    pub fn merge(info: &RecordingInfo, recorder: &RecorderId, input_paths: &[PathBuf]) -> Self {
        Self { input_paths: input_paths.to_vec(), ..Self::of(HookTask::Merge, info, recorder) }
    }

    /// For a job from the queue, before `pre_transcoding`.
    #[must_use]
    pub fn of_job(job: &Job) -> Self {
        match &job.work {
            Work::PostRecording { dir, file_name, .. } => {
                Self::single(&job.info, &job.recorder_id, dir, file_name.as_str(), None)
            }
            Work::Merge { paths } => Self::merge(&job.info, &job.recorder_id, paths),
        }
    }

    /// Adds the file that the job named, for `post_transcoding`.
    #[must_use]
    pub fn with_source(mut self, source: &Path) -> Self {
        self.source_for_cleanup = Some(source.to_owned());
        self
    }

    fn of(task: HookTask, info: &RecordingInfo, recorder: &RecorderId) -> Self {
        Self {
            task,
            recording_id: info.recording_id.to_string(),
            room_table_id: info.room_table_id,
            room_id: info.room_id.to_string(),
            room_sid: info.room_sid.as_str().to_owned(),
            recorder_id: recorder.to_string(),
            file_name: None,
            file_size: None,
            input_path: None,
            input_paths: Vec::new(),
            output_path: None,
            should_cleanup: false,
            source_for_cleanup: None,
            store: None,
        }
    }

    /// The input of a pipeline's first step.
    #[must_use]
    pub fn to_object(&self) -> Object {
        match serde_json::to_value(self) {
            Ok(Value::Object(object)) => object,
            // Impossible: a struct of texts, numbers and flags is an object.
            _ => Object::new(),
        }
    }

    /// The payload with a pipeline's result. `object` comes from [`apply_answer`], so its types are valid.
    #[must_use]
    pub fn with(self, object: &Object) -> Self {
        let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        let path = |key: &str| text(key).map(PathBuf::from);
        let paths = object.get("input_paths").and_then(Value::as_array).into_iter().flatten();
        Self {
            file_name: text("file_name"),
            file_size: object.get("file_size").and_then(Value::as_f64),
            input_path: path("input_path"),
            input_paths: paths.filter_map(Value::as_str).map(PathBuf::from).collect(),
            output_path: path("output_path"),
            should_cleanup: object.get("should_cleanup").and_then(Value::as_bool).unwrap_or(false),
            source_for_cleanup: path("source_for_cleanup"),
            store: text("store"),
            ..self
        }
    }
}

/// The fields that identify the recording.
const IDENTITY: [&str; 6] = ["task", "recording_id", "room_table_id", "room_id", "room_sid", "recorder_id"];

/// Merges a step's answer into its input.
///
/// # Errors
/// Where the step reports an error, or a known field has an invalid value.
pub fn apply_answer(mut input: Object, answer: Object) -> Result<Object, RefusedAnswer> {
    // Checked first: a step that reports an error may leave other fields invalid.
    if let Some(error) = reported_error(answer.get("error"))? {
        return Err(RefusedAnswer::Error(error));
    }
    for (key, value) in answer {
        if IDENTITY.contains(&key.as_str()) || key == "error" {
            continue;
        }
        let Some(field) = KNOWN.iter().find(|field| field.0 == key) else {
            input.insert(key, value);
            continue;
        };
        match (field.1)(&value) {
            Ok(true) => {
                input.insert(key, value);
            }
            Ok(false) => {
                input.remove(&key);
            }
            Err(why) => return Err(InvalidField { field: field.0, why }.into()),
        }
    }
    Ok(input)
}

/// Whether the answer has another recording's id.
#[must_use]
pub fn names_other_recording(input: &Object, answer: &Object) -> bool {
    match answer.get("recording_id") {
        None | Some(Value::Null) => false,
        Some(id) => input.get("recording_id") != Some(id),
    }
}

/// Whether the value is set (`false`: the field is unset), or why it is invalid.
type Check = fn(&Value) -> Result<bool, String>;

const KNOWN: [(&str, Check); 8] = [
    ("file_name", file_name),
    ("file_size", number),
    ("input_path", path),
    ("input_paths", paths),
    ("output_path", path),
    ("should_cleanup", flag),
    ("source_for_cleanup", path),
    ("store", path),
];

fn reported_error(value: Option<&Value>) -> Result<Option<String>, InvalidField> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().chars().take(LONGEST_ERROR).collect())),
        Some(other) => Err(InvalidField { field: "error", why: wrong_type("a text", other) }),
    }
}

fn file_name(value: &Value) -> Result<bool, String> {
    let Some(name) = text(value)? else { return Ok(false) };
    RawFileName::parse(name).map_err(|error| format!("is no plain file name: {error}"))?;
    Ok(true)
}

fn path(value: &Value) -> Result<bool, String> {
    let Some(path) = text(value)? else { return Ok(false) };
    if path.len() > LONGEST_PATH {
        return Err(format!("is no path: it is {} bytes long, {LONGEST_PATH} are possible", path.len()));
    }
    if path.chars().any(char::is_control) {
        return Err("is no path: it holds a control character".to_owned());
    }
    Ok(true)
}

fn paths(value: &Value) -> Result<bool, String> {
    match value {
        Value::Null => Ok(false),
        Value::Array(items) => {
            for item in items {
                if !path(item)? {
                    return Err("holds an empty path".to_owned());
                }
            }
            Ok(!items.is_empty())
        }
        other => Err(wrong_type("a list of texts", other)),
    }
}

fn number(value: &Value) -> Result<bool, String> {
    match value {
        Value::Null => Ok(false),
        Value::Number(number) if number.as_f64().is_some_and(|number| number >= 0.0) => Ok(true),
        other => Err(wrong_type("a number of megabytes", other)),
    }
}

fn flag(value: &Value) -> Result<bool, String> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(_) => Ok(true),
        other => Err(wrong_type("true or false", other)),
    }
}

/// `None`: not set.
fn text(value: &Value) -> Result<Option<&str>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        other => Err(wrong_type("a text", other)),
    }
}

fn wrong_type(expected: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("is {found}, where {expected} is expected")
}

#[expect(clippy::ref_option, reason = "serde calls it")]
fn path_text<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_deref().unwrap_or(Path::new("")).to_string_lossy().serialize(serializer)
}

fn path_texts<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{RecordingId, RoomId, RoomSid};
    use serde_json::json;

    fn payload() -> HookPayload {
        let info = RecordingInfo {
            room_table_id: 852,
            room_id: RoomId::parse("room01").unwrap(),
            room_sid: RoomSid::parse("RM_1").unwrap(),
            recording_id: RecordingId::parse("RM_1-17").unwrap(),
        };
        let node = RecorderId::parse("node_01").unwrap();
        HookPayload::single(&info, &node, Path::new("/srv/a b"), "RM_1-17_raw.mkv", Some(12_344_999))
    }

    fn object(value: Value) -> Object {
        let Value::Object(object) = value else { panic!("{value}") };
        object
    }

    #[test]
    fn unset_fields_are_omitted() {
        let expected = json!({
            "task": "single", "recording_id": "RM_1-17", "room_table_id": 852, "room_id": "room01", "room_sid": "RM_1",
            "recorder_id": "node_01", "file_name": "RM_1-17_raw.mkv", "file_size": 12.34, "input_path": "/srv/a b"
        });
        assert_eq!(Value::Object(payload().to_object()), expected);
        assert_eq!(payload().with(&payload().to_object()), payload());
        let full = HookPayload {
            task: HookTask::Merge,
            input_paths: vec!["a/b.mp4".into(), "c.mp4".into()],
            should_cleanup: true,
            output_path: Some("/x".into()),
            ..payload().with_source(Path::new("/srv/raw"))
        };
        assert_eq!(full.to_object()["input_paths"], json!(["a/b.mp4", "c.mp4"]));
        assert_eq!(full.clone().with(&full.to_object()), full);
    }

    #[test]
    fn an_answer_is_merged_and_unknown_keys_are_kept() {
        let answer = json!({"output_path": "s3://b/x", "file_name": "", "file_size": null, "error": "", "etag": [1],
            "recording_id": "RM_1-17", "room_id": "another", "task": "merge"});
        let merged = apply_answer(payload().to_object(), object(answer)).unwrap();
        assert_eq!(merged["etag"], json!([1]));
        let after = payload().with(&merged);
        let expected =
            HookPayload { output_path: Some("s3://b/x".into()), file_name: None, file_size: None, ..payload() };
        assert_eq!(after, expected);
        assert_eq!((merged["room_id"].as_str(), merged["task"].as_str()), (Some("room01"), Some("single")));
        assert_eq!(apply_answer(merged.clone(), Object::new()).unwrap(), merged);
    }

    #[test]
    fn an_error_and_a_field_of_a_wrong_type_fail_the_stage() {
        let refused = |answer: Value| apply_answer(payload().to_object(), object(answer)).unwrap_err().to_string();
        assert_eq!(
            refused(json!({"error": " no room \n", "output_path": 7})),
            "it answered with the error \"no room\""
        );
        for (answer, said) in [
            (json!({"error": {"code": 1}}), "`error`"),
            (json!({"output_path": 7}), "`output_path` of its answer is a number, where a text is expected"),
            (json!({"output_path": "/a\0b"}), "control character"),
            (json!({"input_path": "/a\nb"}), "control character"),
            (json!({"output_path": "x".repeat(5000)}), "5000 bytes"),
            (json!({"should_cleanup": "true"}), "`should_cleanup` of its answer is a text"),
            (json!({"file_name": "../x"}), "`file_name`"),
            (json!({"file_name": "-rf"}), "`file_name`"),
            (json!({"file_size": "12"}), "`file_size`"),
            (json!({"input_paths": "a"}), "`input_paths`"),
            (json!({"input_paths": ["a", ""]}), "`input_paths`"),
            (json!({"source_for_cleanup": []}), "`source_for_cleanup`"),
        ] {
            let text = refused(answer.clone());
            assert!(text.contains(said), "{answer}: {text}");
        }
    }

    #[test]
    fn an_answer_for_another_recording_is_known_by_its_id() {
        let input = payload().to_object();
        assert!(!names_other_recording(&input, &object(json!({}))));
        assert!(!names_other_recording(&input, &object(json!({"recording_id": "RM_1-17"}))));
        assert!(names_other_recording(&input, &object(json!({"recording_id": "RM_1-18"}))));
        assert!(names_other_recording(&input, &object(json!({"recording_id": 17}))));
    }
}
