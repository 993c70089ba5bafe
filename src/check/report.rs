//! What the checks have found: a line for people, JSON for programs. Pure.

use serde::Serialize;
use serde_json::{Value, json};

use crate::check::finding_code;
use crate::codes::Code;

/// Column of the text: the longest name of a check and its gap.
const TEXT_COLUMN: usize = 23;

/// How a check has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    /// The node works, though not as it could.
    Warning,
    /// The node cannot work.
    Fault,
    /// It depends on what another check has found missing.
    Skipped,
}

impl Verdict {
    fn sign(self) -> char {
        match self {
            Self::Ok => '✓',
            Self::Warning => '!',
            Self::Fault => '✗',
            Self::Skipped => '-',
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Names the check, in a word or two.
    pub check: &'static str,
    pub verdict: Verdict,
    /// What was found, and where it is not well, what to do.
    pub text: String,
}

impl Finding {
    pub fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, text: text.into() }
    }

    pub fn warning(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, text: text.into() }
    }

    pub fn fault(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fault, text: text.into() }
    }

    pub fn skipped(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Skipped, text: text.into() }
    }

    /// The code of what is not well; `None`: it is well, or was not looked at.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        matches!(self.verdict, Verdict::Warning | Verdict::Fault).then(|| finding_code::of_check(self.check))
    }

    /// [`Self::line`], and the code at its end.
    pub fn line_with_code(&self) -> String {
        let line = self.line();
        self.code().map_or_else(|| line.clone(), |code| format!("{line} [{code}]"))
    }

    /// As in [`Report::json`].
    fn json(&self) -> Value {
        let Self { check, verdict, text } = self;
        let mut object = json!({ "check": check, "verdict": verdict, "text": text });
        if let Some(code) = self.code() {
            object["code"] = code.to_string().into();
        }
        object
    }

    /// One line, without a line feed; control characters of what others have said are escaped.
    pub fn line(&self) -> String {
        let head = format!("{} {}", self.verdict.sign(), self.check);
        let gap = " ".repeat(TEXT_COLUMN.saturating_sub(head.chars().count()).max(1));
        one_line(&format!("{head}{gap}{}", self.text))
    }
}

fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.trim_end().chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// All results, in the order of the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// Whether nothing is missing without which the node cannot work.
    pub fn is_ready(&self) -> bool {
        self.count(Verdict::Fault) == 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.0.iter().filter(|finding| finding.verdict == verdict).count()
    }

    /// The last line.
    pub fn summary(&self) -> String {
        let (faults, warnings) = (self.count(Verdict::Fault), self.count(Verdict::Warning));
        let checks = self.0.len();
        match (faults, warnings) {
            (0, 0) => format!("this node is ready: {checks} checks"),
            (0, _) => format!("this node is ready; of {checks} checks {warnings} have something to improve"),
            _ => format!("this node is not ready: of {checks} checks {faults} failed"),
        }
    }

    /// `{"ready": …, "checks": [{"check": …, "verdict": "ok|warning|fault|skipped", "text": …, "code": …}]}`; what is well has no
    /// code.
    pub fn json(&self) -> Value {
        json!({ "ready": self.is_ready(), "checks": self.0.iter().map(Finding::json).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_leaves_a_node_ready_and_a_fault_does_not() {
        let mut report = Report(vec![Finding::ok("ffmpeg", "5.1"), Finding::skipped("key", "not asked")]);
        assert_eq!((report.is_ready(), report.summary().as_str()), (true, "this node is ready: 2 checks"));
        report.0.push(Finding::warning("fonts", "no emoji"));
        assert!(report.is_ready() && report.summary().contains("of 3 checks 1 have something to improve"));
        report.0.push(Finding::fault("server", "silent"));
        assert!(!report.is_ready() && report.summary().contains("of 4 checks 1 failed"), "{}", report.summary());
        let silent = json!({ "check": "server", "verdict": "fault", "text": "silent", "code": "PNR-1321" });
        assert_eq!(report.json()["checks"][3], silent);
        assert_eq!(report.json()["checks"][0].get("code"), None);
        assert!(report.0[3].line_with_code().ends_with(" silent [PNR-1321]"));
    }

    #[test]
    fn what_others_say_stays_on_its_line() {
        let finding = Finding::fault("server", "it says \"a\nb\x1b[31m\"");
        assert_eq!(finding.line(), "✗ server               it says \"a\\nb\\u{1b}[31m\"");
        assert_eq!(Finding::ok("a name that is too long", "x").line(), "✓ a name that is too long x");
    }
}
