//! The interpreter that a script's first line names (execve(2), "Interpreter scripts"). Where it is not there, the kernel
//! says only "No such file or directory", although the script is there.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::process::programs::find_program;

/// How much of the file the kernel looks at, in bytes (`BINPRM_BUF_SIZE`).
const HEAD: u64 = 256;

/// What a `#!` line says.
#[derive(Debug, PartialEq, Eq)]
struct InterpreterLine<'a> {
    interpreter: &'a [u8],
    /// All that follows, as one.
    argument: &'a [u8],
}

/// Why the interpreter of `script` cannot be run; `None` where it can, where the file is no script, or cannot be read.
#[must_use]
pub fn missing_interpreter(script: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(script).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    let line = parse(&head)?;
    let runs = |program: &[u8]| find_program(Path::new(std::ffi::OsStr::from_bytes(program))).is_some();
    if !runs(line.interpreter) {
        return Some(format!(
            "its interpreter {} is not there or not executable{}",
            shown(line.interpreter),
            cure(line.interpreter)
        ));
    }
    let sought = sought_by_env(&line)?;
    (!runs(sought)).then(|| format!("its interpreter {} is not on PATH{}", shown(sought), cure(sought)))
}

fn parse(head: &[u8]) -> Option<InterpreterLine<'_>> {
    let line = head.strip_prefix(b"#!")?.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let line = trim(line);
    let end = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    (end > 0).then(|| InterpreterLine { interpreter: &line[..end], argument: trim(&line[end..]) })
}

/// The kernel's blanks: a carriage return is none.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_blank(*byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_blank(*byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// The program that env(1) is to find on `PATH`, if that is the interpreter.
fn sought_by_env<'a>(line: &InterpreterLine<'a>) -> Option<&'a [u8]> {
    if !line.interpreter.ends_with(b"/env") || line.argument.is_empty() {
        return None;
    }
    match line.argument.strip_prefix(b"-S") {
        // Further options and variables may come first.
        Some(words) => {
            let mut words = trim(words).split(|byte| is_blank(*byte)).filter(|word| !word.is_empty());
            words.next().filter(|word| !word.starts_with(b"-") && !word.contains(&b'='))
        }
        None => Some(line.argument).filter(|argument| !argument.starts_with(b"-") && !argument.contains(&b'=')),
    }
}

/// Quoted, so that a carriage return can be seen.
fn shown(program: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(program))
}

fn cure(program: &[u8]) -> &'static str {
    if program.ends_with(b"\r") {
        ": the script has the line ends of Windows (sed -i 's/\\r$//' FILE)"
    } else {
        " (see the first line of the script)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("x.sh");
        for (head, said) in [
            ("#!/bin/sh\n", None),
            ("#! /bin/sh -e\nx", None),
            ("#!/bin/sh", None),
            ("no script", None),
            ("", None),
            ("#!\n", None),
            ("#!/usr/bin/env sh\n", None),
            ("#!/usr/bin/env -S sh -e\n", None),
            ("#!/usr/bin/env -S X=1 sh\n", None),
            ("#!/usr/bin/env -i\n", None),
            (
                "#!/bin/bash\r\n",
                Some(r#"its interpreter "/bin/bash\r" is not there or not executable: the script has the line ends"#),
            ),
            ("#!/no/such/interpreter -x\n", Some(r#"its interpreter "/no/such/interpreter" is not there"#)),
            (
                "#!/etc/passwd\n",
                Some(r#"its interpreter "/etc/passwd" is not there or not executable (see the first line"#),
            ),
            (
                "#!/usr/bin/env bash\r\n",
                Some(r#"its interpreter "bash\r" is not on PATH: the script has the line ends"#),
            ),
            (
                "#!/usr/bin/env no-such-interpreter-7f\n",
                Some(r#"its interpreter "no-such-interpreter-7f" is not on PATH"#),
            ),
            ("#!/usr/bin/env -S no-such-interpreter-7f -x\n", Some(r#""no-such-interpreter-7f" is not on PATH"#)),
        ] {
            std::fs::write(&script, head).unwrap();
            match (missing_interpreter(&script), said) {
                (None, None) => {}
                (Some(why), Some(said)) => assert!(why.contains(said), "{head:?}: {why}"),
                other => panic!("{head:?}: {other:?}"),
            }
        }
        assert_eq!(missing_interpreter(Path::new("/no/such/script")), None);
    }
}
