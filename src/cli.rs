//! The command line, with the flags of the reference's binary (PROTOCOL 8): Go's `flag` package takes a long flag with
//! one dash or two, so this program does too.

pub mod size;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cli::size::SizeArguments;
use crate::config::{HookStage, Mode};
use crate::delivery::message::MessageKey;
use crate::page_recording::arguments::{AFTER_HELP, RecordArguments};
use crate::protocol::ids::RecordingId;

/// As the program is called.
const NAME: &str = "plugnmeet-recorder";

/// The flags that are followed by a value.
const WITH_VALUE: [&str; 3] = ["--config", "--mode", "--recording-id"];

/// Shown behind the help.
const EXAMPLES: &str = "\
A long flag may have one dash or two: -config PATH, --config PATH and -config=PATH are the same.

Without a command the recorder runs. The commands answer from recorder.state_dir, whether it runs or not; `status` asks NATS:
  plugnmeet-recorder -config config.yaml check              whether this node is ready, before its first meeting
  plugnmeet-recorder -config config.yaml size --write       how many recordings this machine holds, into max_limit
  plugnmeet-recorder -config config.yaml recordings list    what is recorded or not handed over yet
  plugnmeet-recorder -config config.yaml jobs list --json   the transcoding jobs of this node, for a program
  plugnmeet-recorder -config config.yaml jobs retry ID      try a job again that was given up
  plugnmeet-recorder -config config.yaml outbox list --all  what the server was and is to be told
  plugnmeet-recorder -config config.yaml outbox retry ID    tell what was refused, now (outbox drop ID: never)
  plugnmeet-recorder -config config.yaml store check        what the object stores can do
  plugnmeet-recorder -config config.yaml store list         which files are not there yet (store drop ID: never)
  plugnmeet-recorder -config config.yaml status             the fleet as the server sees it, asked over NATS
  plugnmeet-recorder -config config.yaml hooks test STAGE   run the scripts of a stage, with processes of its own
  plugnmeet-recorder explain PNR-0123                       what a code of the log means, and what to do
  plugnmeet-recorder record URL -o out.mp4                  any web page into an MP4, without server and configuration

They end with 0, with 1 (not found, cannot be read, refused, a hook failed; standard error says why) or with 2 (wrong
usage or configuration).";

/// What was asked for on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(
    name = NAME,
    version,
    about = "Records plugNmeet meetings and turns the recordings into MP4s",
    after_help = EXAMPLES,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "config.yaml",
        allow_hyphen_values = true,
        help = "The configuration; config_sample.yaml shows every setting"
    )]
    pub config: PathBuf,

    /// What this node does, whatever the configuration says: both, recorderOnly or transcoderOnly
    #[arg(long, global = true, value_name = "MODE", allow_hyphen_values = true)]
    pub mode: Option<Mode>,

    /// `None`: run.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What an operator asks instead of running the recorder.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// What is recorded or broadcast, and what is not handed over yet
    #[command(subcommand, display_name = NAME, disable_help_subcommand = true)]
    Recordings(RecordingsCommand),
    /// The transcoding jobs that this node has in hand or has given up
    #[command(subcommand, display_name = NAME, disable_help_subcommand = true)]
    Jobs(JobsCommand),
    /// What the server and the work queue are to be told
    #[command(subcommand, display_name = NAME, disable_help_subcommand = true)]
    Outbox(OutboxCommand),
    /// The object store into which finished MP4s are delivered
    #[command(subcommand, display_name = NAME, disable_help_subcommand = true)]
    Store(StoreCommand),
    /// The recordings that become HLS
    #[command(subcommand, display_name = NAME, disable_help_subcommand = true)]
    Hls(HlsCommand),
    /// The fleet as the server sees it: every node, where the next recording would go and why, and the work queue
    #[command(display_name = NAME)]
    Status(ListFormat),
    /// Whether this node is ready: each thing that it needs, and what to do where it is missing
    ///
    /// Records a built-in page for 5 s, asks the server and NATS, and leaves nothing behind. A recorder that runs with the
    /// same configuration is not disturbed. Ends with 0 where the node can work (`!` says what could be better), else 1.
    #[command(display_name = NAME)]
    Check {
        /// Without what takes seconds and a processor: the speed of disks, fonts, and the recording
        #[arg(long)]
        quick: bool,
        #[command(flatten)]
        format: ListFormat,
    },
    /// How many recordings this machine holds at once: measured with built-in scenes, with what to set as `max_limit`
    ///
    /// Adds recordings of built-in pages until frames or sound are lost or the machine is full, in at most 5 minutes, and
    /// leaves nothing behind. In mode both it also measures beside transcoding.
    #[command(display_name = NAME, after_help = size::AFTER_HELP)]
    Size(SizeArguments),
    /// Try the scripts under `hooks` of the configuration
    #[command(subcommand, display_name = NAME, disable_help_subcommand = true)]
    Hooks(HooksCommand),
    /// What a code of the log means, its cause and what to do
    #[command(display_name = NAME)]
    Explain(ExplainArguments),
    /// Any web page into an MP4: no server, no NATS, no configuration
    #[command(display_name = NAME, after_help = AFTER_HELP)]
    Record(Box<RecordArguments>),
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum RecordingsCommand {
    /// Shows each with its state, its age and its parts, and whether the recorder runs
    #[command(display_name = NAME)]
    List(ListFormat),
    /// Has the MP4 of a recording made from what the archive of storage.archive has
    ///
    /// For one whose recorder is gone, where no node takes it over by itself. The recorder of this host does it, or does so
    /// at its next start.
    #[command(display_name = NAME)]
    Rebuild {
        /// Its URL in the archive, or `ROOM_ID/RECORDING_ID`
        recording: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum JobsCommand {
    /// Shows each with its state, its age and its last error
    #[command(display_name = NAME)]
    List(ListFormat),
    /// Has a job tried again that was given up
    #[command(display_name = NAME)]
    Retry {
        /// The recording's id, as `jobs list` shows it
        #[arg(value_parser = RecordingId::parse)]
        id: RecordingId,
    },
    /// Forgets a job that was given up; its raw file stays
    #[command(display_name = NAME)]
    Drop {
        /// The recording's id, as `jobs list` shows it
        #[arg(value_parser = RecordingId::parse)]
        id: RecordingId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum OutboxCommand {
    /// Shows each with its state, its age, its next try and its last error
    #[command(display_name = NAME)]
    List {
        /// Also what is delivered or dropped
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        format: ListFormat,
    },
    /// Has what is to be told of a recording tried at once
    #[command(display_name = NAME)]
    Retry {
        /// The recording's id, as `outbox list` shows it
        #[arg(value_parser = RecordingId::parse)]
        id: RecordingId,
    },
    /// Never tells what the server has not taken of a recording
    #[command(display_name = NAME)]
    Drop {
        /// The recording's id, as `outbox list` shows it
        #[arg(value_parser = RecordingId::parse)]
        id: RecordingId,
        /// Only this one; without it every notice, and never the job
        letter: Option<MessageKey>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum StoreCommand {
    /// Tries what delivery needs with small objects, which are removed: put, get, list, delete, and more
    #[command(display_name = NAME)]
    Check {
        /// Another store than storage.deliver. Other users of this host see what is typed here: leave keys to the environment
        url: Option<String>,
        #[command(flatten)]
        format: ListFormat,
    },
    /// Shows each MP4 that is on its way, with its next try and its last error
    #[command(display_name = NAME)]
    List(ListFormat),
    /// Delivers an MP4 no more; it stays in `main_path`, where the server knows it then
    #[command(display_name = NAME)]
    Drop {
        /// The recording's id, as `store list` shows it
        #[arg(value_parser = RecordingId::parse)]
        id: RecordingId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum HlsCommand {
    /// Shows each that is not made yet, or not in the store, with its next try and its last error
    #[command(display_name = NAME)]
    List(ListFormat),
    /// Gives one up; its MP4 stays
    #[command(display_name = NAME)]
    Drop {
        /// The recording's id, as `hls list` shows it
        #[arg(value_parser = RecordingId::parse)]
        id: RecordingId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum HooksCommand {
    /// Really runs the scripts of a stage, and shows what each gets and answers
    ///
    /// The scripts and HTTP requests of the stage are really run, in processes of their own, as this user and from this
    /// directory: what they upload or delete is uploaded or deleted. The recorder itself does nothing with their answers:
    /// it cleans nothing up, and tells nobody. What the scripts write to standard error is shown there.
    #[command(display_name = NAME)]
    Test {
        /// `post_recording`, `pre_transcoding` or `post_transcoding`
        stage: HookStage,
        /// A recording of this node, from its jobs, its records or its files; without it the data is made up
        #[arg(long, value_name = "ID", value_parser = RecordingId::parse)]
        recording_id: Option<RecordingId>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct ExplainArguments {
    /// As the log writes it, `PNR-0123`, its number, or a line of the log; without one, all codes
    #[arg(value_name = "CODE")]
    pub codes: Vec<String>,
    /// All codes, a line each
    #[arg(long, conflicts_with = "codes")]
    pub list: bool,
    #[command(flatten)]
    pub format: ListFormat,
}

/// How a list is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct ListFormat {
    /// As JSON; times are in Unix milliseconds
    #[arg(long)]
    pub json: bool,
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
            assert_eq!(cli(args).unwrap(), Cli { config: "a.yaml".into(), mode: None, command: None }, "{args:?}");
        }
        let both = cli(&["-mode", "recorderOnly", "-config=b.yaml"]).unwrap();
        assert_eq!(both, Cli { config: "b.yaml".into(), mode: Some(Mode::RecorderOnly), command: None });
        assert_eq!(cli(&[]).unwrap(), Cli { config: "config.yaml".into(), mode: None, command: None });
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

    #[test]
    fn the_flags_may_stand_before_and_behind_a_command() {
        let command = Command::Outbox(OutboxCommand::List { all: true, format: ListFormat { json: true } });
        let expected = Cli { config: "a.yaml".into(), mode: Some(Mode::Both), command: Some(command) };
        for line in [
            "-config a.yaml -mode both outbox list -all -json",
            "outbox -config=a.yaml list --all -mode=both --json",
            "outbox list -json -all --config a.yaml -mode both",
        ] {
            assert_eq!(cli(&line.split(' ').collect::<Vec<_>>()).unwrap(), expected, "{line}");
        }
        let id = RecordingId::parse("rec.1").unwrap();
        let test = |recording_id| {
            Some(Command::Hooks(HooksCommand::Test { stage: HookStage::PreTranscoding, recording_id, json: true }))
        };
        for line in ["-recording-id rec.1 -json", "--json --recording-id=rec.1"] {
            let line = format!("hooks test pre_transcoding {line}");
            assert_eq!(cli(&line.split(' ').collect::<Vec<_>>()).unwrap().command, test(Some(id.clone())), "{line}");
        }
        let retry = cli(&["jobs", "retry", "rec.1"]).unwrap();
        assert_eq!(
            (retry.config, retry.command),
            ("config.yaml".into(), Some(Command::Jobs(JobsCommand::Retry { id })))
        );
        let drop =
            |letter| Some(Command::Outbox(OutboxCommand::Drop { id: RecordingId::parse("rec.1").unwrap(), letter }));
        assert_eq!(cli(&["outbox", "drop", "rec.1"]).unwrap().command, drop(None));
        assert_eq!(
            cli(&["outbox", "drop", "rec.1", "broadcast_ended"]).unwrap().command,
            drop(Some(MessageKey::BroadcastEnded))
        );
        for line in ["-version jobs list", "jobs -version", "jobs list -version", "jobs retry -V"] {
            let answer = cli(&line.split(' ').collect::<Vec<_>>()).unwrap_err();
            assert_eq!(answer.to_string(), format!("plugnmeet-recorder {}\n", env!("CARGO_PKG_VERSION")), "{line}");
            assert_eq!(answer.exit_code(), 0);
        }
    }

    #[test]
    fn a_command_that_is_none_is_wrong_usage() {
        for line in [
            "jobs",
            "jobs retry",
            "jobs retry ../x",
            "jobs retry a b",
            "jobs help",
            "outbox drop",
            "outbox retry",
            "outbox retry ../x",
            "outbox drop rec.1 else",
            "recordings list -all",
            "status now",
            "hooks test",
            "hooks test recording",
            "hooks test post_recording -recording-id ../x",
        ] {
            let answer = cli(&line.split(' ').collect::<Vec<_>>()).unwrap_err();
            assert_eq!(answer.exit_code(), 2, "{line}: {answer}");
        }
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
