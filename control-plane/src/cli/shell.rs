//! `outrigger completions` and `outrigger man`: made from the arguments themselves, so that they cannot be out of date.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{DONE, Usage, print};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  source <(outrigger completions bash)                                    in this shell
  outrigger completions bash > ~/.local/share/bash-completion/completions/outrigger
  outrigger completions zsh > ~/.zfunc/_outrigger                         with fpath+=~/.zfunc in ~/.zshrc
  outrigger completions fish > ~/.config/fish/completions/outrigger.fish")]
pub(super) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  outrigger man | man -l -                       the page of the program
  outrigger man inject | man -l -                that of a command
  outrigger man --dir /usr/local/share/man/man1  all pages, a file each")]
pub(super) struct ManArgs {
    /// Directory for all pages; it is made if it is missing
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
    /// The command whose page is printed [default: the program]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn completions(args: &CompletionsArgs, mut program: Command) -> Result<u8> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, name, &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(DONE)
}

pub(super) fn man(args: &ManArgs, program: Command) -> Result<u8> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    if let Some(dir) = &args.dir {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        for command in commands(&program) {
            let path = dir.join(Man::new(command.clone()).get_filename());
            fs::write(&path, page(command)?).with_context(|| format!("writing {}", path.display()))?;
        }
        return Ok(DONE);
    }
    let mut command = &program;
    for name in &args.command {
        let known = || {
            let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            Usage(format!("{} has no command {name:?}; there are: {}", command.get_name(), names.join(", ")))
        };
        command = command.find_subcommand(name).ok_or_else(known)?;
    }
    print(&String::from_utf8_lossy(&page(command)?))?;
    Ok(DONE)
}

/// The command, and all below it that are offered.
fn commands(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().filter(|command| !command.is_hide_set()).flat_map(commands);
    std::iter::once(command).chain(below).collect()
}

/// A page for `man`. Examples keep their lines, which the generator would fill.
fn page(command: &Command) -> Result<Vec<u8>> {
    let examples = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(examples) = examples {
        page.extend_from_slice(verbatim("EXAMPLES", &examples).as_bytes());
    }
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    Ok(page)
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
