//! Messages about a configuration: problems (the program does not start) and warnings (it starts).
//!
//! No message quotes a secret; the readers ensure that.

use std::fmt;
use std::path::PathBuf;

use crate::codes::{self, Code};

/// An error in the file: the program does not start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Counted from 1; `None` for a missing setting.
    pub line: Option<usize>,
    /// Like `recorder.max_limit`; empty for the whole file.
    pub key: String,
    /// What was found and what is allowed.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_placed(f, self.line, &self.key, &self.text)
    }
}

/// A probable mistake in the file. Lines are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    pub line: Option<usize>,
    pub key: String,
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_placed(f, self.line, &self.key, &self.text)
    }
}

fn write_placed(f: &mut fmt::Formatter<'_>, line: Option<usize>, key: &str, text: &str) -> fmt::Result {
    if let Some(line) = line {
        write!(f, "line {line}: ")?;
    }
    if !key.is_empty() {
        write!(f, "{key}: ")?;
    }
    f.write_str(text)
}

/// All problems of a file, ordered by line; those without a line are last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    pub file_name: String,
    pub list: Vec<Problem>,
    /// Shown too, because a misspelt key may be the cause of a missing one.
    pub warnings: Vec<Warning>,
}

impl Problems {
    pub(super) fn new(file_name: &str, mut list: Vec<Problem>, warnings: Vec<Warning>) -> Self {
        list.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        Self { file_name: file_name.to_owned(), list, warnings }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file_name, count_of(self.list.len(), "problem"))?;
        self.list.iter().try_for_each(|problem| write!(f, "\n  {problem}"))?;
        if !self.warnings.is_empty() {
            write!(f, "\n{}: {}", self.file_name, count_of(self.warnings.len(), "warning"))?;
        }
        self.warnings.iter().try_for_each(|warning| write!(f, "\n  {warning}"))
    }
}

fn count_of(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {source}; name another file with --config PATH", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Invalid(Problems),
}

impl ConfigError {
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Unreadable { .. } => codes::CONFIGURATION_UNREADABLE,
            Self::Invalid(_) => codes::CONFIGURATION_INVALID,
        }
    }
}
