//! The configuration as an operator meets it: a reference file, our sample, and what is said about broken ones.

mod complaints;
mod interpolation;
mod values;

use plugnmeet_recorder::config::{self, Config};

const REFERENCE: &str = include_str!("../fixtures/reference_v2_3.yaml");
const SAMPLE: &str = include_str!("../../../config_sample.yaml");

/// Only what has no default.
const REQUIRED: &str = "
recorder:
  id: node_01
  copy_to_path: {main_path: ../recording_files}
plugNmeet_info:
  host: http://localhost:8080
  api_key: plugnmeet
  api_secret: change-me-to-the-api-secret-of-the-server
nats_info:
  nats_urls: [nats://127.0.0.1:4222]
";

/// The configuration of [`REQUIRED`] with `more` appended, without any warning.
#[track_caller]
fn with(more: &str) -> Config {
    let (config, warnings) =
        config::parse(&more_of(more), "config.yaml").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(warnings.len(), 1, "only the sample's secret is odd: {warnings:?}");
    config
}

/// [`REQUIRED`] with keys added: `section.key: value` on each line of `more`, as a flow mapping merged by hand.
fn more_of(more: &str) -> String {
    let mut text = REQUIRED.to_owned();
    for line in more.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (path, value) = line.split_once(": ").unwrap();
        let (section, key) = path.split_once('.').unwrap();
        let head = format!("\n{section}:\n");
        text = if text.contains(&head) {
            text.replace(&head, &format!("{head}  {key}: {value}\n"))
        } else {
            format!("{text}{section}:\n  {key}: {value}\n")
        };
    }
    text
}

/// What is said about `text`.
#[track_caller]
fn problems(text: &str) -> String {
    config::parse(text, "config.yaml").unwrap_err().to_string()
}
