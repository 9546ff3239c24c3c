//! What the system lets this process use: file descriptors and processors.

use std::{io, num::NonZero, thread};

/// Most workers that are started unasked: beside a service, more threads cost memory and gain little.
const MAX_DEFAULT_WORKERS: usize = 2;

/// Raises the soft limit on open files to the hard one and returns it: each connection takes two.
///
/// # Errors
/// The system call's; the limit is then what it was.
#[expect(unsafe_code, reason = "the standard library has no call for resource limits")]
pub(super) fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, exclusively borrowed `rlimit` for the length of the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid `rlimit` that outlives the call, which only reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// How many workers to start when the configuration does not say: the CPU quota, at most two.
///
/// The standard library knows the affinity mask and the quotas of both cgroup versions, nested ones too. It
/// rounds a quota of 1.5 down, which is right here: the control thread and the service want the rest.
pub(super) fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).clamp(1, MAX_DEFAULT_WORKERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_worker_and_not_too_many() {
        assert!((1..=MAX_DEFAULT_WORKERS).contains(&default_workers()));
    }

    #[test]
    fn open_files_are_raised_to_the_hard_limit() {
        assert!(raise_open_files().unwrap() > 0);
    }
}
