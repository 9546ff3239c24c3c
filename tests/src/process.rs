//! What /proc says about a process, and signals to it.

use std::{
    fs,
    process::{Command, Output},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Runs a program to its end, which it has to reach within `patience`.
///
/// # Panics
/// It cannot be run, or takes longer and is killed.
#[track_caller]
pub fn finish(command: &mut Command, patience: Duration) -> Output {
    let child = command.spawn().unwrap_or_else(|e| panic!("{command:?} does not run: {e}"));
    let pid = child.id();
    let (sender, ended) = mpsc::sync_channel(1);
    thread::spawn(move || sender.send(child.wait_with_output()));
    match ended.recv_timeout(patience) {
        Ok(output) => output.expect("a child"),
        Err(_) => {
            signal(pid, "KILL");
            panic!("{command:?} does not end within {patience:?}");
        }
    }
}

/// Resident memory in bytes.
#[must_use]
pub fn rss(pid: u32) -> u64 {
    status(pid, "VmRSS:") * 1024
}

/// Resident memory of files in bytes: of the program and its libraries.
#[must_use]
pub fn rss_of_files(pid: u32) -> u64 {
    status(pid, "RssFile:") * 1024
}

/// The most resident memory that it ever had, in bytes.
#[must_use]
pub fn peak_rss(pid: u32) -> u64 {
    status(pid, "VmHWM:") * 1024
}

/// Open file descriptors.
#[must_use]
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Sends a signal by name (`HUP`).
#[track_caller]
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("sh runs");
    assert!(status.success(), "kill -{name} {pid}");
}

fn status(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
