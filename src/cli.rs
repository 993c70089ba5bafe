//! The command line, with the flags of the reference's binary (PROTOCOL 8): Go's `flag` package takes a long flag with
//! one dash or two, so this program does too.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Parser;

use crate::config::Mode;

/// The flags that are followed by a value.
const WITH_VALUE: [&str; 2] = ["--config", "--mode"];

/// What was asked for on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(
    name = "plugnmeet-recorder",
    version,
    about = "Records plugNmeet meetings and turns the recordings into MP4s",
    after_help = "A long flag may have one dash or two: -config PATH, --config PATH and -config=PATH are the same.",
    disable_help_subcommand = true
)]
pub struct Cli {
    #[arg(
        long,
        value_name = "PATH",
        default_value = "config.yaml",
        allow_hyphen_values = true,
        help = "The configuration; config_sample.yaml shows every setting"
    )]
    pub config: PathBuf,

    /// What this node does, whatever the configuration says: both, recorderOnly or transcoderOnly
    #[arg(long, value_name = "MODE", allow_hyphen_values = true)]
    pub mode: Option<Mode>,
}

impl Cli {
    /// Reads the arguments, the program's name first.
    ///
    /// # Errors
    /// What is to be printed instead of running: a usage error, the help or the version. [`clap::Error::exit`] prints it
    /// to the right stream and ends with the right code: 2 for a usage error, else 0.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(with_two_dashes(args))
    }
}

/// Gives every long flag its second dash; values and everything behind `--` stay as they are.
fn with_two_dashes(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut rewritten: Vec<OsString> = Vec::new();
    let mut literal = false;
    for (index, arg) in args.into_iter().enumerate() {
        let is_value = index == 0
            || literal
            || rewritten.last().is_some_and(|before| index > 1 && WITH_VALUE.iter().any(|flag| before == flag));
        literal |= !is_value && arg == "--";
        rewritten.push(if is_value { arg } else { with_two(arg) });
    }
    rewritten
}

/// `-config=x` → `--config=x`. `-h` and `-V`, one letter, are clap's own short flags.
fn with_two(arg: OsString) -> OsString {
    let bytes = arg.as_encoded_bytes();
    if bytes.len() < 3 || bytes[0] != b'-' || bytes[1] == b'-' {
        return arg;
    }
    let mut two = OsString::from("-");
    two.push::<&OsStr>(&arg);
    two
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    fn cli(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::from_args(std::iter::once("plugnmeet-recorder").chain(args.iter().copied()).map(OsString::from))
    }

    #[test]
    fn one_dash_or_two_with_a_space_or_an_equals_sign() {
        for args in [&["-config", "a.yaml"][..], &["--config", "a.yaml"], &["-config=a.yaml"], &["--config=a.yaml"]] {
            assert_eq!(cli(args).unwrap(), Cli { config: "a.yaml".into(), mode: None }, "{args:?}");
        }
        let both = cli(&["-mode", "recorderOnly", "-config=b.yaml"]).unwrap();
        assert_eq!(both, Cli { config: "b.yaml".into(), mode: Some(Mode::RecorderOnly) });
        assert_eq!(cli(&[]).unwrap(), Cli { config: "config.yaml".into(), mode: None });
    }

    #[test]
    fn a_value_that_looks_like_a_flag_stays_a_value() {
        assert_eq!(cli(&["-config", "-odd.yaml"]).unwrap().config, PathBuf::from("-odd.yaml"));
        assert_eq!(cli(&["-config=-mode"]).unwrap().config, PathBuf::from("-mode"));
        let arguments = ["p", "-config", "-config", "-mode", "both", "--", "-x"].map(OsString::from);
        assert_eq!(with_two_dashes(arguments), ["p", "--config", "-config", "--mode", "both", "--", "-x"]);
    }

    #[test]
    fn help_and_version_end_well_and_usage_errors_with_2() {
        for args in [&["-version"][..], &["--version"], &["-V"]] {
            let answer = cli(args).unwrap_err();
            assert_eq!((answer.kind(), answer.exit_code()), (ErrorKind::DisplayVersion, 0));
            assert_eq!(answer.to_string(), format!("plugnmeet-recorder {}\n", env!("CARGO_PKG_VERSION")));
        }
        for args in [&["-help"][..], &["--help"], &["-h"]] {
            assert_eq!(cli(args).unwrap_err().exit_code(), 0, "{args:?}");
        }
        for args in [&["-mode", "all"][..], &["-colour"], &["-config"], &["extra"], &["--", "extra"]] {
            let answer = cli(args).unwrap_err();
            assert_eq!(answer.exit_code(), 2, "{args:?}");
            assert!(answer.to_string().lines().count() <= 6, "{answer}");
        }
        let wrong = cli(&["-mode", "all"]).unwrap_err().to_string();
        assert!(wrong.contains("one of both, recorderOnly, transcoderOnly is allowed"), "{wrong}");
    }

    #[cfg(unix)]
    #[test]
    fn a_path_need_not_be_unicode() {
        use std::os::unix::ffi::OsStringExt as _;
        let path = OsString::from_vec(b"\xff.yaml".to_vec());
        let cli = Cli::from_args(["p".into(), "-config".into(), path.clone()]).unwrap();
        assert_eq!(cli.config, PathBuf::from(path));
    }
}
