//! System calls per request, counted by strace.
//!
//! Most of what a proxy costs is the kernel's, and the number of its calls says where: four that carry data are
//! the least for a request that is read and written on both sides by itself. strace is attached for a counted
//! number of requests after a warm-up; it makes the proxy some thirty times slower, so more requests wait at each
//! wake-up than otherwise, and what is gathered per wake-up shows at its best.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    load::{self, Case},
    process::tick,
};

/// Requests that are counted.
pub const REQUESTS: usize = 10_000;
/// Enough to see that it works.
pub const FEW: usize = 1_000;

/// Calls per request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calls {
    /// All of them.
    pub all: f64,
    /// Those that read from a socket.
    pub reads: f64,
    /// Those that write to one.
    pub writes: f64,
    /// Those that wait for one.
    pub waits: f64,
}

/// What `pid`, which serves at `address`, calls for one of `count` requests of `case`.
pub fn calls(case: Case, address: SocketAddr, pid: u32, count: usize, work: &Path) -> Result<Calls> {
    load::counted(case, address, count / 10)?;
    let path = work.join(format!("{pid}.strace"));
    let tracer = Tracer::attach(pid, &path)?;
    load::counted(case, address, count)?;
    tracer.detach()?;
    let text = fs::read_to_string(&path).context("what strace counted")?;
    Ok(summary(&text, count))
}

/// A running strace. It lets go of its process when it ends, however it ends.
struct Tracer(Child);

impl Tracer {
    fn attach(pid: u32, path: &Path) -> Result<Self> {
        let mut command = Command::new("strace");
        command.args(["--follow-forks", "--summary-only", "--summary-columns=calls,name", "-p", &pid.to_string()]);
        let child = command.arg("-o").arg(path).stderr(Stdio::null()).spawn().context("starting strace")?;
        let mut tracer = Self(child);
        while !is_traced(pid)? {
            if let Some(status) = tracer.0.try_wait()? {
                bail!("strace cannot attach to {pid} ({status})");
            }
            tick();
        }
        Ok(tracer)
    }

    fn detach(mut self) -> Result<()> {
        // It prints its summary on SIGINT.
        Command::new("kill").args(["-INT", &self.0.id().to_string()]).status()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// True once every thread of the process is traced.
fn is_traced(pid: u32) -> Result<bool> {
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        if status.lines().any(|l| l.strip_prefix("TracerPid:").is_some_and(|p| p.trim() == "0")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Of lines such as `   20000 writev`.
fn summary(text: &str, count: usize) -> Calls {
    let mut calls = Calls { all: 0.0, reads: 0.0, writes: 0.0, waits: 0.0 };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(number), Some(name)) = (words.next().and_then(|w| w.parse::<f64>().ok()), words.next()) else {
            continue;
        };
        if name == "total" {
            continue;
        }
        let each = number / count as f64;
        calls.all += each;
        match name {
            "read" | "readv" | "recvfrom" | "recvmsg" => calls.reads += each,
            "write" | "writev" | "sendto" | "sendmsg" => calls.writes += each,
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => calls.waits += each,
            _ => {}
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read() {
        let text = "    calls syscall\n--------- ----------------\n    20000 sendto\n      700 epoll_wait\n    20100 recvfrom\n       40 futex\n    40840 total\n";
        let calls = summary(text, 10_000);
        assert_eq!(calls, Calls { all: 4.084, reads: 2.01, writes: 2.0, waits: 0.07 });
    }
}
