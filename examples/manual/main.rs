//! Writes what a package carries beside the program and the program itself does not: completions for bash, zsh and fish,
//! and a man page for each command. `manual DIR` makes `DIR/completions` and `DIR/man`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use plugnmeet_recorder::cli::Cli;

fn main() -> anyhow::Result<()> {
    let dir = PathBuf::from(std::env::args_os().nth(1).context("usage: manual DIR")?);
    let (completions, man) = (dir.join("completions"), dir.join("man"));
    for made in [&completions, &man] {
        fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
    }
    let command = Cli::command();
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command.clone(), &name, &completions)?;
    }
    write_pages(command, &name, &man)
}

/// Writes the page of this command, `PAGE.1`, and those of the ones below it, `PAGE-NAME.1`.
fn write_pages(command: Command, page: &str, dir: &Path) -> anyhow::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_pages(below.clone(), &format!("{page}-{}", below.get_name()), dir)?;
    }
    let file = dir.join(format!("{page}.1"));
    let version = env!("CARGO_PKG_VERSION");
    // Every command's name for clap is the program's, which would be the title of every page. clap takes names that live
    // for ever.
    let title: &str = page.to_owned().leak();
    let command = command.name(title).display_name(title).version(version);
    let man = Man::new(command).source(format!("plugnmeet-recorder {version}")).manual("plugnmeet-recorder");
    let mut text = Vec::new();
    man.render(&mut text)?;
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}
