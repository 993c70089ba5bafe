//! Finds the code that somebody means. Pure.

use crate::codes::code::Code;
use crate::codes::{all, find};

/// The most codes that are proposed.
const MOST: usize = 3;

/// The code that somebody means by `PNR-0123`, `pnr-123`, `PNR123`, `123`, its name in JSON, or a line of the log.
#[must_use]
pub fn named(text: &str) -> Option<&'static Code> {
    let text = bare(text);
    let by_name = || all().find(|code| code.name.eq_ignore_ascii_case(text));
    let in_line = || text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| *word != text);
    number(text).or_else(|| prefixed(text)).and_then(find).or_else(by_name).or_else(|| {
        // A number alone in a line is no code.
        in_line().find_map(|word| prefixed(word).and_then(find))
    })
}

/// Codes that `text`, which names none, may be meant for; at most three.
#[must_use]
pub fn near(text: &str) -> Vec<&'static Code> {
    let text = bare(text);
    if let Some(number) = number(text).or_else(|| prefixed(text)) {
        let wanted = format!("{number:04}");
        let misspelt = all().filter(|code| is_one_slip(&wanted, &format!("{:04}", code.number)));
        let mut found: Vec<_> = misspelt.take(MOST).collect();
        if found.is_empty() {
            found = all().filter(|code| code.number / 100 == number / 100).collect();
            found.sort_by_key(|code| code.number.abs_diff(number));
            found.truncate(MOST);
        }
        return found;
    }
    let words: Vec<String> = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect();
    let words: Vec<&String> = words.iter().filter(|word| word.chars().count() > 2).collect();
    let has_all = |code: &&Code| {
        let of_code = format!("{} {}", code.name.replace('_', " "), code.means).to_lowercase();
        !words.is_empty() && words.iter().all(|word| of_code.contains(*word))
    };
    all().filter(has_all).take(MOST).collect()
}

/// Without what surrounds a code in prose and in answers.
fn bare(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || "[]()<>\"'`.,:;".contains(c))
}

fn number(digits: &str) -> Option<u16> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The number behind `PNR-` or `PNR`.
fn prefixed(text: &str) -> Option<u16> {
    let letters = Code::PREFIX.trim_end_matches('-');
    let starts = text.get(..letters.len()).is_some_and(|start| start.eq_ignore_ascii_case(letters));
    let rest = if starts { &text[letters.len()..] } else { return None };
    number(rest.strip_prefix('-').unwrap_or(rest))
}

/// Whether one digit is another, or two neighbours are exchanged.
fn is_one_slip(a: &str, b: &str) -> bool {
    let differ: Vec<usize> = (0..a.len()).filter(|at| a.as_bytes().get(*at) != b.as_bytes().get(*at)).collect();
    let at = |text: &str, place: usize| text.as_bytes().get(place).copied();
    match differ[..] {
        [_] => a.len() == b.len(),
        [first, second] => second == first + 1 && at(a, first) == at(b, second) && at(a, second) == at(b, first),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    #[test]
    fn a_code_is_found_by_number_by_name_and_in_a_line_of_the_log() {
        let line = "2026-11-27T08:12:03.120Z ERROR PNR-0907 recording{recording_id=101}: the disk is full";
        for text in ["907", "0907", "pnr-907", "PNR0907", " PNR-0907 ", "[PNR-0907]", "PNR-0907:", "disk_full", line] {
            assert_eq!(named(text), Some(&codes::DISK_FULL), "{text}");
        }
        for text in ["PNR-9999", "PNR-", "PNR", "", "x", "-907", "99999999", "PNR--907", "ä-0907", "the 907"] {
            assert_eq!(named(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_code_is_taken_for_a_slip_a_neighbour_or_words() {
        let numbers = |text: &str| near(text).into_iter().map(|code| code.number).collect::<Vec<_>>();
        assert!(numbers("9070").is_empty() && numbers("PNR-9999").is_empty());
        assert!(numbers("PNR-0970").contains(&codes::DISK_FULL.number), "exchanged digits");
        assert!(numbers("2101").contains(&codes::WRONG_TOKEN.number), "one wrong digit");
        assert_eq!(numbers("0490"), [codes::BROADCAST_ENDS_LOST.number, 407, 406], "the nearest of the hundred");
        assert!(numbers("certificate expired").contains(&codes::CERTIFICATE_EXPIRED.number), "words");
        assert!(numbers("banana").is_empty() && numbers("").is_empty() && numbers("a").is_empty());
    }
}
