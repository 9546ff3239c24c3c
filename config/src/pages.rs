//! What a shell and `man` read of a program: its completions and its manual pages.
//!
//! Both are made from the arguments as clap knows them, when they are asked for, so they cannot be out of date. Both
//! programs use this module, each behind a `completions` and a `man` command of its own; it stands in this crate,
//! behind the feature `pages`, because there is no other that they share. Without the feature nothing here knows clap.
//!
//! The generators' output is taken as it is, but for two things: the names in completions of bash ([`completions`]),
//! and examples in manual pages, which keep their lines.

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use thiserror::Error;

/// Arguments of `completions`; the program adds its examples.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Arguments of `man`; the program adds its examples.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Directory for all pages; it is made if it is missing
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub dir: Option<PathBuf>,
    /// The command whose page is printed [default: the program]
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Why there is no page.
#[derive(Debug, Error)]
pub enum PageError {
    /// What was typed names no command: wrong usage.
    #[error("{parent} has no command {name:?}; there are: {there}")]
    Unknown {
        /// The command in which it was sought.
        parent: String,
        /// What was typed.
        name: String,
        /// The commands that there are, separated by commas.
        there: String,
    },
    /// The directory of the pages could not be made.
    #[error("making {path}")]
    Making {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A page could not be written.
    #[error("writing {path}")]
    Writing {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The script with which `shell` completes what is typed behind the name of the program.
#[must_use]
pub fn completions(shell: Shell, mut program: Command) -> String {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name.clone(), &mut script);
    // The generator of bash spells a name with a dash in two ways, so that its flags would not be found.
    String::from_utf8_lossy(&script).replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"))
}

/// Writes all pages into the directory that was named; else answers with the page that was asked for.
///
/// # Errors
///
/// If there is no such command, or the directory cannot be written to. Pages before the one that failed stay.
pub fn man(args: &ManArgs, program: Command) -> Result<Option<String>, PageError> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    match &args.dir {
        Some(dir) => write_all(dir, &program).map(|()| None),
        None => find(&program, &args.command).map(|command| Some(page(command))),
    }
}

fn find<'a>(mut command: &'a Command, path: &[String]) -> Result<&'a Command, PageError> {
    for name in path {
        command = command.find_subcommand(name).ok_or_else(|| {
            let there: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            PageError::Unknown { parent: command.get_name().to_owned(), name: name.clone(), there: there.join(", ") }
        })?;
    }
    Ok(command)
}

fn write_all(dir: &Path, program: &Command) -> Result<(), PageError> {
    fs::create_dir_all(dir).map_err(|source| PageError::Making { path: dir.to_owned(), source })?;
    for command in commands(program) {
        let path = dir.join(Man::new(command.clone()).get_filename());
        fs::write(&path, page(command)).map_err(|source| PageError::Writing { path, source })?;
    }
    Ok(())
}

/// The command, and all below it that are offered.
fn commands(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().filter(|command| !command.is_hide_set()).flat_map(commands);
    std::iter::once(command).chain(below).collect()
}

/// A page for `man`.
fn page(command: &Command) -> String {
    let mut page = Vec::new();
    render(command, &mut page).expect("a vector takes all that is written");
    String::from_utf8_lossy(&page).into_owned()
}

/// As the generator has it, but for the examples, whose lines it would fill.
fn render(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    if let Some(examples) = command.get_after_long_help().or(command.get_after_help()) {
        page.extend_from_slice(verbatim("EXAMPLES", &examples.to_string()).as_bytes());
    }
    if command.get_version().is_some() {
        man.render_version_section(page)?;
    }
    Ok(())
}

/// A section whose lines stay as they are.
fn verbatim(title: &str, text: &str) -> String {
    let text = text.strip_prefix("Examples:\n").unwrap_or(text);
    let lines: String = text
        .lines()
        .map(|line| {
            let escaped = line.replace('\\', "\\e").replace('-', "\\-");
            let guard = if escaped.starts_with(['.', '\'']) { "\\&" } else { "" };
            format!("{guard}{escaped}\n")
        })
        .collect();
    format!(".SH {title}\n.nf\n{lines}.fi\n")
}
