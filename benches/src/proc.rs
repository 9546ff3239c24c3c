//! What the kernel says about a process: the CPU time that it used and the memory that it holds.
//!
//! CPU time is the first figure of `/proc/PID/task/TID/schedstat`: nanoseconds on a CPU, in user and kernel
//! mode together, without the 10 ms granularity of `/proc/PID/stat`. It is summed over the threads that exist
//! when it is read and over child processes; every peer keeps the same threads over a measurement.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// CPU time of `pid` and its descendants so far.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for thread in threads(pid)? {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"))?;
        let first = text.split_whitespace().next().context("an empty schedstat: is CONFIG_SCHED_INFO on?")?;
        nanos += first.parse::<u64>()?;
    }
    let mut total = Duration::from_nanos(nanos);
    for child in children(pid)? {
        total += cpu_time(child)?;
    }
    Ok(total)
}

/// Resident memory of `pid` and its descendants, in bytes.
pub fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    let mut total = kib * 1024;
    for child in children(pid)? {
        total += resident(child)?;
    }
    Ok(total)
}

/// File descriptors that this process, and what it starts, may have open.
pub fn open_files() -> Result<usize> {
    let text = fs::read_to_string("/proc/self/limits")?;
    let line = text.lines().find_map(|l| l.strip_prefix("Max open files")).context("no limit of open files")?;
    let soft = line.split_whitespace().next().context("an empty limit")?;
    // `unlimited` is none of the kernel's own answers for this one.
    Ok(soft.parse()?)
}

/// The processor's name, the number of CPUs and the kernel, for the head of a report.
#[must_use]
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| cpuinfo.lines().find(|l| l.starts_with(name)).and_then(|l| l.split(": ").nth(1));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} (family {}, model {}), {} CPUs, Linux {}",
        field("model name").unwrap_or("unknown processor"),
        field("cpu family").unwrap_or("?"),
        field("model\t").unwrap_or("?"),
        cpuinfo.lines().filter(|l| l.starts_with("processor")).count(),
        kernel.trim(),
    )
}

fn threads(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")? {
        found.push(entry?.file_name().to_string_lossy().parse()?);
    }
    Ok(found)
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for thread in threads(pid)? {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children"))?;
        for child in text.split_whitespace() {
            found.push(child.parse()?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_some() {
        let pid = std::process::id();
        assert!(cpu_time(pid).unwrap() > Duration::ZERO);
        assert!(resident(pid).unwrap() > 100 * 1024);
        assert!(machine().contains("Linux"));
    }
}
