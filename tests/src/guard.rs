//! A program that never outlives the test process, whichever way that ends.
//!
//! It runs under a small shell that waits on a pipe which only the test process holds: a panic, an abort and a
//! `kill -9` of the test close the pipe, and the shell kills the program and removes its directory. Neither
//! `Drop` (not run for a `static`, nor after `kill -9`) nor a parent-death signal (sent when the *thread* that
//! started it ends) does that.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::process;

/// `$1` the log, `$2` the directory, then the program. A line on stdin ends it and keeps the directory.
const SCRIPT: &str = r#"
log=$1 dir=$2; shift 2
"$@" </dev/null >>"$log" 2>&1 & pid=$!
echo "$pid"
trap : INT TERM HUP
read -r keep
kill -9 "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
[ -n "$keep" ] || rm -rf "$dir"
"#;

/// A running program. Dropping it kills it and removes its directory.
#[derive(Debug)]
pub struct Guarded {
    shell: Child,
    pid: u32,
    log: PathBuf,
}

impl Guarded {
    /// Starts `command`; what it writes goes to `NAME.log` in `dir`, which must be its own.
    #[must_use]
    #[track_caller]
    pub fn start(name: &str, command: &Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "guard"]).arg(&log).arg(dir).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = shell.spawn().expect("sh runs");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("a pipe")).read_line(&mut line).expect("the shell says the pid");
        let pid = line.trim().parse().unwrap_or_else(|_| panic!("{name} does not start: {line:?}"));
        Self { shell, pid, log }
    }

    /// Kills it (`kill -9`), waits for its end, and leaves its directory.
    pub fn kill(mut self) {
        self.end("keep\n");
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by name (`STOP`, `CONT`).
    #[track_caller]
    pub fn signal(&self, name: &str) {
        process::signal(self.pid, name);
    }

    /// Whether it still runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        state.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z') && !rest.is_empty())
    }

    /// The last lines of what it wrote.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn end(&mut self, word: &str) {
        if let Some(mut stdin) = self.shell.stdin.take() {
            stdin.write_all(word.as_bytes()).ok();
        }
        self.shell.wait().ok();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.end("");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{LONG, eventually};

    #[test]
    fn a_program_ends_with_its_guard() {
        let dir = tempfile::TempDir::new().expect("a temporary directory").keep();
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        let guarded = Guarded::start("sleep", &sleep, &dir);
        assert!(guarded.runs());
        let proc = PathBuf::from(format!("/proc/{}", guarded.pid()));
        guarded.kill();
        eventually("the program is gone", LONG, || (!proc.exists()).then_some(()));
        assert!(dir.exists(), "a killed program keeps its directory, so that it can be started again");
        drop(Guarded::start("sleep", &sleep, &dir));
        assert!(fs::metadata(&dir).is_err(), "the directory went");
    }
}
