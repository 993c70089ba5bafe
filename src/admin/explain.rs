//! `explain`: what a code of the log means, its cause and its remedy.

use std::io::Write;

use serde_json::{Value, json};

use crate::admin::error::AdminError;
use crate::admin::output::print;
use crate::cli::ExplainArguments;
use crate::codes::text::explained;
use crate::codes::{self, Code};

/// Writes what is asked for to `out`.
///
/// # Errors
/// Where there is no such code, or `out` cannot be written to.
pub fn explain(arguments: &ExplainArguments, out: &mut (dyn Write + Send)) -> Result<(), AdminError> {
    print(out, &text(arguments)?)
}

fn text(arguments: &ExplainArguments) -> Result<String, AdminError> {
    let ExplainArguments { codes: asked, list, format } = arguments;
    if *list && !format.json {
        return Ok(listed());
    }
    let find = |name: &String| codes::named(name).ok_or_else(|| AdminError::UnknownCode(name.clone()));
    let found: Vec<&Code> =
        if *list { codes::all().collect() } else { asked.iter().map(find).collect::<Result<_, _>>()? };
    if format.json {
        let all: Vec<Value> = found.into_iter().map(object).collect();
        return Ok(format!("{:#}\n", Value::from(all)));
    }
    Ok(found.into_iter().map(explained).collect::<Vec<_>>().join("\n"))
}

fn object(code: &Code) -> Value {
    let Code { number: _, name, means, cause, remedy } = code;
    json!({ "code": code.to_string(), "name": name, "means": means, "cause": cause, "remedy": remedy })
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

    #[test]
    fn a_code_is_found_as_the_log_writes_it_and_by_its_number() {
        let whole = text(&asked(&["PNR-0907"], false, false)).unwrap();
        assert!(whole.starts_with("PNR-0907  A disk is full") && whole.contains("\nRemedy:   Free room"), "{whole}");
        assert!(whole.lines().all(|line| line.chars().count() <= 80), "{whole}");
        for name in ["907", "0907", "pnr-907", " PNR-0907 "] {
            assert_eq!(text(&asked(&[name], false, false)).unwrap(), whole, "{name}");
        }
        let two = text(&asked(&["907", "101"], false, false)).unwrap();
        assert!(two.starts_with(&whole) && two.contains("\n\nPNR-0101  "), "{two}");
    }

    #[test]
    fn what_is_no_code_is_refused_with_the_way_to_the_list() {
        for name in ["PNR-9999", "PNR-", "", "x", "-907", "99999999", "PNR--907", "ä-0907"] {
            let error = text(&asked(&["907", name], false, false)).unwrap_err();
            assert_eq!(error.code(), codes::UNKNOWN_CODE, "{name}");
            assert!(error.to_string().contains("explain --list"), "{error}");
        }
    }

    #[test]
    fn the_list_has_every_code_for_people_and_for_programs() {
        let list = text(&asked(&[], true, false)).unwrap();
        let found = list.lines().filter(|line| line.starts_with("PNR-")).count();
        let json: Vec<Value> = serde_json::from_str(&text(&asked(&[], true, true)).unwrap()).unwrap();
        assert_eq!((found, json.len()), (codes::all().count(), codes::all().count()));
        assert_eq!((&json[0]["code"], &json[0]["name"]), (&"PNR-0101".into(), &"START_FAILED".into()));
    }
}
