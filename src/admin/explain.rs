//! `explain`: what a code of the log means, its cause and its remedy.

use std::io::Write;

use serde_json::{Value, json};

use crate::admin::error::AdminError;
use crate::admin::output::print;
use crate::cli::ExplainArguments;
use crate::codes::text::explained;
use crate::codes::{self, Code, search};

/// Writes what is asked for to `out`: without a code, the list of all.
///
/// # Errors
/// Where one is no code, once the others are written, or `out` cannot be written to.
pub fn explain(arguments: &ExplainArguments, out: &mut (dyn Write + Send)) -> Result<(), AdminError> {
    let ExplainArguments { codes: asked, list, format } = arguments;
    let all = *list || asked.is_empty();
    let mut found: Vec<&Code> = if all { codes::all().collect() } else { Vec::new() };
    for code in asked.iter().filter_map(|text| search::named(text)) {
        if !found.contains(&code) {
            found.push(code);
        }
    }
    print(
        out,
        &match (format.json, all) {
            (true, _) => format!("{:#}\n", found.into_iter().map(object).collect::<Value>()),
            (false, true) => listed(),
            (false, false) => found.into_iter().map(explained).collect::<Vec<_>>().join("\n"),
        },
    )?;
    let unknown: Vec<&String> = asked.iter().filter(|text| search::named(text).is_none()).collect();
    if unknown.is_empty() { Ok(()) } else { Err(AdminError::UnknownCode(no_codes(&unknown))) }
}

/// Says that these are no codes, and which ones may be meant.
fn no_codes(unknown: &[&String]) -> String {
    let names: Vec<String> = unknown.iter().map(|text| format!("{text:?}")).collect();
    let mut meant: Vec<String> = Vec::new();
    for code in unknown.iter().flat_map(|text| search::near(text)) {
        let code = format!("{code} ({})", code.means.trim_end_matches('.'));
        if !meant.contains(&code) {
            meant.push(code);
        }
    }
    let is = if unknown.len() == 1 { "is no code" } else { "are no codes" };
    let meant = if meant.is_empty() { String::new() } else { format!("; perhaps {}", meant.join(", or ")) };
    format!("{} {is} of this version{meant}", names.join(", "))
}

fn object(code: &Code) -> Value {
    let Code { number: _, name, means, recordings, cause, remedy } = code;
    json!({
        "code": code.to_string(), "name": name, "means": means, "recordings": recordings, "cause": cause, "remedy": remedy
    })
}

/// A line for each code, by the parts of the program.
fn listed() -> String {
    let room = |room: &codes::Room| {
        let lines = room.codes.iter().map(|code| format!("{code}  {}\n", code.means));
        format!("{}\n{}", room.title, lines.collect::<String>())
    };
    codes::ROOMS.iter().map(room).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ListFormat;

    fn asked(codes: &[&str], list: bool, json: bool) -> ExplainArguments {
        let codes = codes.iter().map(|code| (*code).to_owned()).collect();
        ExplainArguments { codes, list, format: ListFormat { json } }
    }

    fn text(arguments: &ExplainArguments) -> (String, Result<(), AdminError>) {
        let mut out = Vec::new();
        let ended = explain(arguments, &mut out);
        (String::from_utf8(out).unwrap(), ended)
    }

    #[test]
    fn codes_are_explained_in_the_order_in_which_they_are_asked() {
        let (whole, ended) = text(&asked(&["PNR-0907"], false, false));
        assert!(ended.is_ok() && whole.starts_with("PNR-0907  A disk is full"), "{whole}");
        for part in ["\nRecordings: ", "\nCause:      ", "\nRemedy:     "] {
            assert!(whole.contains(part), "{whole}");
        }
        assert!(whole.lines().all(|line| line.chars().count() <= 80), "{whole}");
        let (two, _) = text(&asked(&["907", "pnr-101", "0907"], false, false));
        assert!(
            two.starts_with(&whole) && two.contains("\n\nPNR-0101  ") && two.matches("PNR-0907 ").count() == 1,
            "{two}"
        );
    }

    #[test]
    fn what_is_no_code_is_refused_behind_what_is_one_with_what_may_be_meant() {
        let (out, ended) = text(&asked(&["907", "PNR-9999", "banana"], false, false));
        let error = ended.unwrap_err();
        assert!(out.starts_with("PNR-0907  "), "{out}");
        assert_eq!(error.code(), codes::UNKNOWN_CODE);
        let error = error.to_string();
        assert!(
            error.starts_with("\"PNR-9999\", \"banana\" are no codes") && error.contains("explain --list"),
            "{error}"
        );
        let error = text(&asked(&["PNR-0970"], false, false)).1.unwrap_err().to_string();
        assert!(error.contains("PNR-0907 (A disk is full"), "{error}");
    }

    #[test]
    fn the_list_has_a_line_for_each_and_json_an_object() {
        let list = text(&asked(&[], true, false)).0;
        let found = list.lines().filter(|line| line.starts_with("PNR-")).count();
        assert_eq!(found, codes::all().count());
        assert_eq!(text(&asked(&[], false, false)).0, list, "without a code");
        let json: Value = serde_json::from_str(&text(&asked(&[], true, true)).0).unwrap();
        assert_eq!((&json[0]["code"], &json[0]["name"]), (&"PNR-0101".into(), &"START_FAILED".into()));
        assert_eq!(json.as_array().map(Vec::len), Some(found));
    }
}
