//! Every warning and error of the source has a code, and every code its place, its texts, its number for ever and its
//! entry in docs/messages.md.
//!
//! `PNM_BLESS=1 cargo test --test suite -- codes::` writes docs/messages.md anew, and adds new codes to the golden list.

mod texts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use plugnmeet_recorder::codes::text::fill;
use plugnmeet_recorder::codes::{self, Code};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DOCUMENT: &str = "docs/messages.md";
const GOLDEN: &str = "tests/golden/codes.txt";
const BLESS: &str = "PNM_BLESS=1 cargo test --test suite -- codes::";

/// A token of Rust's source, as far as it matters here.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// Of strings, whatever is in them.
    Text,
    Sign(char),
}

/// Tokens with their lines. Comments are left out, and lifetimes.
fn tokens(source: &str) -> Vec<(usize, Token)> {
    let chars: Vec<char> = source.chars().collect();
    let (mut at, mut line, mut found) = (0, 1, Vec::new());
    let starts = |at: usize, with: &str| with.chars().enumerate().all(|(n, c)| chars.get(at + n) == Some(&c));
    while at < chars.len() {
        let begin = at;
        let c = chars[at];
        if starts(at, "//") {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if starts(at, "/*") {
            at += 2 + (at..chars.len()).take_while(|at| !starts(*at, "*/")).count();
        } else if c.is_alphanumeric() || c == '_' {
            at += chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
            let word: String = chars[begin..at].iter().collect();
            let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
            if matches!(word.as_str(), "r" | "br") && chars.get(at + hashes) == Some(&'"') {
                let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                at += hashes + 1;
                at += (at..chars.len()).take_while(|at| !starts(*at, &end)).count() + end.len();
                found.push((line, Token::Text));
            } else {
                found.push((line, Token::Word(word)));
            }
        } else if c == '"' {
            at += 1;
            while chars.get(at).is_some_and(|c| *c != '"') {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
            found.push((line, Token::Text));
        } else if c == '\'' {
            // A character, else a lifetime.
            at += match (chars.get(at + 1), chars.get(at + 2)) {
                (Some('\\'), _) => 3 + chars[at + 3..].iter().take_while(|c| **c != '\'').count() + 1,
                (_, Some('\'')) => 3,
                _ => 1,
            };
        } else {
            at += 1;
            if !c.is_whitespace() {
                found.push((line, Token::Sign(c)));
            }
        }
        line += chars[begin..at.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    found
}

fn word(token: Option<&(usize, Token)>) -> Option<&str> {
    match token {
        Some((_, Token::Word(word))) => Some(word),
        _ => None,
    }
}

fn is(token: Option<&(usize, Token)>, sign: char) -> bool {
    matches!(token, Some((_, Token::Sign(found))) if *found == sign)
}

/// The lines of warnings and errors whose first field, after a `target`, is no code.
fn without_code(tokens: &[(usize, Token)]) -> Vec<usize> {
    let mut lines = Vec::new();
    for (n, (line, token)) in tokens.iter().enumerate() {
        let logs = matches!(token, Token::Word(name) if matches!(name.as_str(), "warn" | "error" | "event"));
        if !logs || !is(tokens.get(n + 1), '!') || !is(tokens.get(n + 2), '(') {
            continue;
        }
        let mut first = n + 3;
        if word(tokens.get(first)) == Some("target") && is(tokens.get(first + 1), ':') {
            first += 4;
        }
        let has =
            word(tokens.get(first)) == Some("code") && is(tokens.get(first + 1), '=') && is(tokens.get(first + 2), '%');
        if !has {
            lines.push(*line);
        }
    }
    lines
}

/// The names after `codes::`.
fn named(tokens: &[(usize, Token)]) -> BTreeSet<String> {
    let after = |n: usize| (is(tokens.get(n + 1), ':') && is(tokens.get(n + 2), ':')).then(|| word(tokens.get(n + 3)));
    let found = (0..tokens.len()).filter(|n| word(tokens.get(*n)) == Some("codes")).filter_map(after);
    found.flatten().map(str::to_owned).collect()
}

/// Each file of `src/` but the tables, and its tokens without its tests.
fn sources() -> BTreeMap<String, Vec<(usize, Token)>> {
    let src = Path::new(ROOT).join("src");
    let (mut dirs, mut files) = (vec![src.clone()], BTreeMap::new());
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let is_test = path.ends_with("tests.rs") || path.ends_with("tests");
            if path.is_dir() && !is_test && path != src.join("codes") {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                files.insert(path.strip_prefix(&src).unwrap().display().to_string(), tokens(code));
            }
        }
    }
    files
}

#[test]
fn every_warning_and_every_error_of_the_log_names_its_code_first() {
    let sources = sources();
    let wrong: Vec<String> = sources
        .iter()
        .flat_map(|(file, tokens)| without_code(tokens).into_iter().map(move |line| format!("src/{file}:{line}")))
        .collect();
    assert!(wrong.is_empty(), "these lines of the log lack `code = %codes::NAME` as their first field: {wrong:#?}");
    let all = sources.values().map(|tokens| named(tokens).len()).sum::<usize>();
    assert!(all > 200, "only {all} codes were found");
}

#[test]
fn every_code_is_used() {
    let used: BTreeSet<String> = sources().values().flat_map(|tokens| named(tokens)).collect();
    let unused: Vec<&str> = codes::all().map(|code| code.name).filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "nothing in src/ says codes::… of {unused:?}");
}

#[test]
fn every_code_has_a_number_of_its_own_a_cause_and_a_remedy() {
    let mut numbers = BTreeMap::new();
    for room in codes::ROOMS {
        let hundred = room.codes[0].number / 100;
        for code in room.codes {
            assert_eq!(code.number / 100, hundred, "{} is in the room {:?}", code.name, room.title);
            if let Some(other) = numbers.insert(code.number, code.name) {
                panic!("{code} is {other} and {}", code.name);
            }
            for text in texts::of(code) {
                let is_sentence = text.len() > 4 && text.ends_with('.') && !text.contains(['\n', '\t']);
                assert!(is_sentence && !text.contains("  "), "{code} {}: {text:?}", code.name);
            }
            assert_eq!(codes::find(code.number).map(|found| found.name), Some(code.name));
        }
        assert!(room.codes.is_sorted_by_key(|code| code.number), "{:?} is not in the order of numbers", room.title);
    }
    assert!(codes::all().is_sorted_by_key(|code| code.number), "the rooms are not in the order of numbers");
}

/// The golden list has a line for each number that was ever given: `0101 START_FAILED`. Where the program says it no
/// more, ` gone` is written behind it by hand.
#[test]
fn a_number_never_changes_its_meaning() {
    let path = Path::new(ROOT).join(GOLDEN);
    let mut golden = std::fs::read_to_string(&path).unwrap_or_default();
    let number = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    if std::env::var_os("PNM_BLESS").is_some() {
        let known: BTreeSet<String> = golden.lines().map(number).collect();
        let new = codes::all().map(entry).filter(|line| !known.contains(&number(line)));
        let mut lines: Vec<String> = golden.lines().map(str::to_owned).chain(new).collect();
        lines.sort();
        golden = lines.into_iter().map(|line| line + "\n").collect();
        std::fs::write(&path, &golden).unwrap();
    }
    let (gone, there): (BTreeSet<&str>, BTreeSet<&str>) = golden.lines().partition(|line| line.ends_with(" gone"));
    let now: BTreeSet<String> = codes::all().map(entry).collect();
    for line in &there {
        assert!(now.contains(*line), "{line} is in {GOLDEN}: a code keeps its number and name for ever");
    }
    for line in &now {
        assert!(there.contains(line.as_str()), "{line} is new: {BLESS}");
        assert!(!gone.iter().any(|old| number(old) == number(line)), "{line}: this number was another's");
    }
}

fn entry(code: &Code) -> String {
    format!("{:04} {}", code.number, code.name)
}

#[test]
fn the_document_lists_every_code_with_cause_and_remedy() {
    let path = Path::new(ROOT).join(DOCUMENT);
    let document = document();
    if std::env::var_os("PNM_BLESS").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    for (n, (found, expected)) in found.lines().zip(document.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of {DOCUMENT}; it is made by {BLESS}", n + 1);
    }
    assert_eq!(found.len(), document.len(), "{DOCUMENT} is made by {BLESS}");
}

const INTRODUCTION: &str = "\
# Messages

Every line of the log at `warn` and above, every refusal and every error of a command has a code: `PNR-0123`. It stands
after the level, and as `code` in JSON. A code keeps its meaning for ever, also where its line is worded anew.

    plugnmeet-recorder explain PNR-0123        what follows here, of this code
    plugnmeet-recorder explain                 all of them
    grep -o 'PNR-[0-9]*' recorder.log | sort | uniq -c | sort -rn      how often each one came

Each entry says what has happened, and whether recordings are safe, late or lost. Commands are asked as the recorder's
user, with its configuration: of an installed recorder

    sudo -u plugnmeet-recorder plugnmeet-recorder -config /etc/plugnmeet-recorder/config.yaml recordings list

| word | what it is |
| ---- | ---------- |
| the plugNmeet server | the program at `plugNmeet_info.host`, which asks for recordings and is told of them |
| START, STOP | its orders, which come by NATS |
| part | what was captured without a break; `<recording_id>_raw.part1.mkv` … in `recorder.temporary_dir` |
| raw file | the joined parts, `<recording_id>_raw.mkv` under `main_path`, from which the MP4 is made |
| job | the order to make that MP4, in a queue of NATS for all nodes |
| main_path | `recorder.copy_to_path.main_path`, where recordings are stored |
| record | a file in `recorder.state_dir` about one recording or job |
| notice, message | what the server (a notice) or the queue is to be told; they wait in the outbox, `plugnmeet-recorder outbox list` |
| far end | the RTMP server of a broadcast |
| claim | a file beside an MP4 by which one node tells the server of it |
| drain | take nothing new on, and let what runs end |

This page is made of the tables in `src/codes/`.
";

fn document() -> String {
    const WIDTH: usize = 120;
    let mut text = INTRODUCTION.to_owned();
    for room in codes::ROOMS {
        let _ = writeln!(text, "\n## {}", room.title);
        for code in room.codes {
            let _ = writeln!(text, "\n### {code}\n\n{}", fill("", 0, code.means, WIDTH));
            let recordings = code.recordings.map(|recordings| ("Recordings", recordings));
            let _ = writeln!(text);
            for (name, part) in recordings.into_iter().chain([("Cause", code.cause), ("Remedy", code.remedy)]) {
                let _ = writeln!(text, "{}", fill(&format!("- {name}: "), 2, part, WIDTH));
            }
        }
    }
    text
}

#[test]
fn a_warning_without_a_code_is_found_wherever_it_hides() {
    let found = |source: &str| without_code(&tokens(source));
    assert_eq!(found("warn!(code = %codes::A, \"x\");\ntracing::error!(\n    code = %fault.code, x,\n\"\")"), [0; 0]);
    assert_eq!(found("warn!(\"code = %codes::A\")"), [1]);
    assert_eq!(found("// warn!(\"x\")\n/* error!(\"x\")\n*/ let s = \"warn!(\";\nerror!(why, code = %codes::A)"), [4]);
    assert_eq!(found("match '\"' { c => tracing :: warn ! (\n\"{c}\") }"), [1]);
    assert_eq!(
        found("let r = r#\"warn!(\"x\")\"#; let e = '\\''; fn f<'a>() { warn!(target: \"t\", code = %X, \"\") }"),
        [0; 0]
    );
    assert_eq!(found("warn!(target: \"t\", \"\")"), [1]);
    assert_eq!(found("event!(Level::WARN, \"\")"), [1], "no code can be found in it");
    assert_eq!(
        named(&tokens("use codes::{self}; codes::A_B; x.codes; crate::codes::C")),
        ["A_B", "C"].map(str::to_owned).into()
    );
}
