//! Whoever follows a text finds what it names: keys, commands, flags, documents, other codes.
//!
//! Keys are written as their whole path in `config_sample.yaml`, commands and what is typed in backticks.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use plugnmeet_recorder::cli::Cli;
use plugnmeet_recorder::codes::{self, Code, search};

use super::ROOT;

const PROGRAM: &str = "plugnmeet-recorder ";
const AS_USER: &str = "sudo -u plugnmeet-recorder ";
/// Last parts of keys that are words of their own: the glossary of docs/messages.md, stages of hooks, a key of scripts.
const WORDS: [&str; 5] = ["main_path", "post_recording", "pre_transcoding", "post_transcoding", "is_one_shot"];
/// Flags of other programs.
const FOREIGN_FLAGS: [&str; 4] = ["--pids-limit", "--allow-delete", "-preset", "-b:v"];

/// All texts of a code.
pub fn of(code: &Code) -> impl Iterator<Item = &'static str> + use<> {
    [Some(code.means), code.recordings, Some(code.cause), Some(code.remedy)].into_iter().flatten()
}

/// The paths of all keys of `config_sample.yaml`, also of those in comments.
fn keys() -> BTreeSet<String> {
    let sample = std::fs::read_to_string(Path::new(ROOT).join("config_sample.yaml")).unwrap();
    let (mut above, mut found): (Vec<(usize, String)>, _) = (Vec::new(), BTreeSet::new());
    for line in sample.lines() {
        // A key in a comment stands where it would without.
        let indent = line.chars().take_while(|c| *c == ' ').count();
        let (line, indent) = match line[indent..].strip_prefix("# ") {
            Some(rest) => (rest.trim_start(), indent + rest.len() - rest.trim_start().len()),
            None => (&line[indent..], indent),
        };
        let line = line.trim_start_matches("- ");
        let name: String = line.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if name.is_empty() || !line[name.len()..].starts_with(':') {
            continue;
        }
        above.retain(|(of, _)| *of < indent);
        above.push((indent, name));
        found.insert(above.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join("."));
    }
    found
}

/// What stands in backticks.
fn typed(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The words that may be keys.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '.' | '*' | '<' | '>' | '/'));
    parts.map(|word| word.trim_matches('.'))
}

/// What is wrong with a text; empty: nothing.
fn wrong(text: &str, keys: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let sections: BTreeSet<&str> = keys.iter().map(String::as_str).filter(|key| !key.contains('.')).collect();
    let short: BTreeSet<String> = keys.iter().filter(|key| key.contains('.')).map(|key| last(key)).collect();
    for name in names(text) {
        let is_path = name.split_once('.').is_some_and(|(first, _)| sections.contains(first));
        if is_path && !keys.contains(name) {
            wrong.push(format!("{name} is no key"));
        }
        if name.contains('_') && short.contains(name) && !WORDS.contains(&name) {
            wrong.push(format!("{name} is to be written with its whole path"));
        }
    }
    for span in typed(text) {
        let first = span.split([' ', '.']).next().unwrap_or_default();
        let is_command = Cli::command().get_subcommands().any(|command| command.get_name() == first);
        if is_command && span.contains(' ') {
            wrong.push(format!("`{span}` is to be written with the program before it"));
        }
        if let Some(arguments) = span.strip_prefix(AS_USER).unwrap_or(span).strip_prefix(PROGRAM) {
            wrong.extend(not_accepted(arguments));
        }
        if span.starts_with('-') && span.len() > 2 && !FOREIGN_FLAGS.contains(&first) && !is_flag(first) {
            wrong.push(format!("`{span}` is no flag"));
        }
    }
    let outside: String = text.split('`').step_by(2).collect();
    if outside.contains(PROGRAM) {
        wrong.push("a command is to be in backticks".to_owned());
    }
    for word in text.split([' ', '(', ')', ',', ':', ';']).map(|word| word.trim_matches(['.', '`'])) {
        if word.starts_with("docs/") && !Path::new(ROOT).join(word).is_file() {
            wrong.push(format!("there is no {word}"));
        }
        if word.starts_with(Code::PREFIX) && search::named(word).is_none() {
            wrong.push(format!("there is no {word}"));
        }
    }
    wrong
}

/// Why the command line is not accepted.
fn not_accepted(arguments: &str) -> Option<String> {
    let example = |word: &str| match word {
        "STAGE" => "post_recording".to_owned(),
        "COMMAND" => "status".to_owned(),
        word => word.to_owned(),
    };
    let line = std::iter::once("plugnmeet-recorder".to_owned()).chain(arguments.split(' ').map(example));
    let answer = Cli::from_args(line.map(OsString::from)).err()?;
    let helps = matches!(answer.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    (!helps).then(|| format!("`{PROGRAM}{arguments}` is not accepted: {answer}"))
}

fn is_flag(flag: &str) -> bool {
    let mut program = Cli::command();
    program.build();
    let mut commands = vec![&program];
    // One dash is as good as two.
    let name = flag.trim_start_matches('-');
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands());
        if command.get_arguments().filter_map(|argument| argument.get_long()).any(|long| long == name) {
            return true;
        }
    }
    false
}

#[test]
fn the_keys_commands_documents_and_codes_that_are_named_exist() {
    let keys = keys();
    assert!(keys.contains("recorder.copy_to_path.main_path") && keys.contains("hooks.post_recording.pool_size"));
    let mut all = Vec::new();
    for code in codes::all() {
        all.extend(of(code).flat_map(|text| wrong(text, &keys)).map(|why| format!("{code} {}: {why}", code.name)));
    }
    assert!(all.is_empty(), "{all:#?}");
    let commands = codes::all().flat_map(of).flat_map(typed).filter(|span| span.contains(PROGRAM)).count();
    assert!(commands > 40, "only {commands} commands were found");
}

#[test]
fn what_does_not_exist_is_found() {
    let keys = keys();
    for text in [
        "Set recorder.max_limits.",
        "Set recorder.main_path.",
        "Set max_limit.",
        "`plugnmeet-recorder jobs retry`",
        "`plugnmeet-recorder job list`",
        "`sudo -u plugnmeet-recorder plugnmeet-recorder -config PATH outbox list --every`",
        "`jobs list`",
        "plugnmeet-recorder jobs list",
        "`--quickly`",
        "see docs/nothing.md.",
        "as PNR-0999 says.",
    ] {
        assert_eq!(wrong(text, &keys).len(), 1, "{text}: {:?}", wrong(text, &keys));
    }
    for text in [
        "Set recorder.max_limit, or nats_info.recorder.recorder_channel.",
        "`plugnmeet-recorder hooks test STAGE`, `plugnmeet-recorder COMMAND --help` or `--quick` (PNR-0101; docs/check.md)",
        "main_path.json, `docker run --shm-size=2g`, `<recording_id>_raw.mkv`, `plugnmeet-recorder outbox drop ID job`",
    ] {
        assert!(wrong(text, &keys).is_empty(), "{text}: {:?}", wrong(text, &keys));
    }
}

#[test]
fn every_code_about_recordings_says_whether_they_are_safe() {
    let about =
        ["Node", "Recordings", "Capture", "Broadcasts", "Transcoding", "Scripts", "Delivery", "Fleet", "Storage"];
    for room in codes::ROOMS.iter().filter(|room| about.iter().any(|name| room.title.starts_with(name))) {
        for code in room.codes {
            assert!(code.recordings.is_some(), "{code} {} does not say it", code.name);
        }
    }
    assert!(about.iter().all(|name| codes::ROOMS.iter().any(|room| room.title.starts_with(name))));
}

/// At night nobody knows what to look for on a disk or in a log.
#[test]
fn a_remedy_says_how_to_look_and_where() {
    for code in codes::all() {
        for vague in [
            "ook at that disk.",
            "ook at that disk;",
            "ook at that disk,",
            "ook at the log.",
            "Look at NATS.",
            "Follow the line.",
            "Remedy ",
        ] {
            assert!(!code.remedy.contains(vague), "{code} {}: {:?}", code.name, code.remedy);
        }
    }
}
