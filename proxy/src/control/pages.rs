//! Gives back, once it is over, the memory that a start or a new configuration took of files.
//!
//! Reading YAML, resolving policies and setting up TLS runs code that nothing needs afterwards, and the kernel maps 64 KiB
//! for each page of it that is touched: 10.1 of the 12.0 MiB that a release build holds when it is ready. They are taken out of the
//! process once a second has passed without a change. They stay in the page cache, and what is needed comes back by minor
//! faults. With the configuration of `benches/compare`, it is 5.0 MiB then, 7.0 once requests are served, and 8.9 instead of 13.3
//! after a hundred thousand of them. The first request takes 34 minor faults instead of 21, and no more CPU time than it varies by (1.0 to 1.4
//! ms, as everything runs for the first time).
//!
//! Why not after each burst of requests too: what serves them is what the next one needs, and a service that is asked
//! every few seconds would fault each time. A kernel that is short of memory takes such pages by itself.
//!
//! Why the mappings are read from `/proc/self/smaps` and not from the program's headers: there the kernel says that no page
//! of a mapping differs from its file. Relocated pages do, and so do those with the breakpoints of a debugger or the probes of
//! a tracer: such a mapping is left alone as a whole.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    sync::Arc,
    time::Duration,
};

use tokio::time::{sleep, timeout};

use crate::shared::Shared;

/// So long nothing has changed when pages are given back: what a change starts has been done by then, such as the first connections
/// to new endpoints.
const QUIET: Duration = Duration::from_secs(1);
/// Not more often than this, whatever changes: what comes back does so by some hundred faults of a microsecond.
const APART: Duration = Duration::from_secs(60);

/// Gives pages back after the start and after changes of the configuration, for as long as the process runs.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut changes = shared.changes();
    loop {
        while let Ok(changed) = timeout(QUIET, changes.changed()).await {
            if changed.is_err() {
                return;
            }
        }
        match release() {
            Ok(bytes) => tracing::debug!(bytes, "unneeded pages of files given back"),
            Err(e) => tracing::debug!("pages of files stay as they are: {e}"),
        }
        sleep(APART).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Takes the pages of read-only files that nobody has written out of the process. Returns the bytes that were resident of them.
///
/// # Errors
/// `/proc` is not there, or the kernel refuses; memory is then as it was, or in part.
fn release() -> io::Result<u64> {
    let mut given = 0;
    for mapping in unwritten(BufReader::new(File::open("/proc/self/smaps")?))? {
        forget(&mapping)?;
        given += mapping.resident;
    }
    Ok(given)
}

/// A private mapping of a file that cannot be written, and no page of which differs from the file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    length: usize,
    /// Bytes.
    resident: u64,
}

#[allow(unsafe_code, reason = "the standard library has no call for it; 6 MiB of 12 (see the module)")]
fn forget(mapping: &Mapping) -> io::Result<()> {
    // SAFETY: nothing unmaps what the program and its libraries are mapped from. The mapping is read-only, and the kernel has just said
    // that none of its pages is a copy, so whoever reads or runs one of them finds the same bytes again in the file.
    match unsafe { libc::madvise(mapping.start as *mut libc::c_void, mapping.length, libc::MADV_DONTNEED) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Those of `smaps`, in its order.
fn unwritten(mut smaps: impl BufRead) -> io::Result<Vec<Mapping>> {
    let mut found = Vec::new();
    let mut current = None;
    let mut line = String::new();
    while smaps.read_line(&mut line)? > 0 {
        if let Some(kib) = field(&line, "Rss:") {
            if let Some(Mapping { resident, .. }) = &mut current {
                *resident = kib * 1024;
            }
        } else if let Some(kib) = field(&line, "Anonymous:") {
            // A mapping ends its list of fields long after this one, but there is one each.
            found.extend(current.take().filter(|m: &Mapping| kib == 0 && m.resident > 0));
        } else if let Some(head) = head(&line) {
            current = head.file;
        }
        line.clear();
    }
    Ok(found)
}

/// The value of a field, in KiB.
fn field(line: &str, name: &str) -> Option<u64> {
    line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok()
}

/// The line that begins a mapping.
struct Head {
    /// `None`: it may be written, is shared, or is of no file.
    file: Option<Mapping>,
}

/// `START-END PERMISSIONS OFFSET DEVICE INODE PATH`, or `None` for a field of a mapping.
fn head(line: &str) -> Option<Head> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16));
    let (start, end) = (start.ok()?, end.ok()?);
    let read_only = matches!(words.next()?, "r--p" | "r-xp");
    let of_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
    let file = (read_only && of_file).then(|| Mapping { start, length: end.saturating_sub(start), resident: 0 });
    Some(Head { file })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_files_that_nobody_wrote_are_named() {
        let of = |head: &str, anonymous: u32| {
            format!(
                "{head}\nSize: 8 kB\nRss:                   8 kB\nAnonymous:             {anonymous} kB\nVmFlags: rd mr\n"
            )
        };
        let text = [
            of("1000-3000 r--p 00000000 fe:00 42                         /usr/bin/a b", 0),
            of("3000-5000 r-xp 00002000 fe:00 42                         /usr/bin/a b", 4),
            of("5000-7000 rw-p 00004000 fe:00 42                         /usr/bin/a b", 0),
            of("7000-9000 r--s 00004000 fe:00 42                         /usr/bin/a b", 0),
            of("9000-b000 r--p 00000000 00:00 0 ", 0),
            of("b000-d000 r-xp 00000000 00:00 0                          [vdso]", 0),
            of("7f0000000000-7f0000002000 r-xp 00000000 fe:00 7          /lib/x.so (deleted)", 0),
            "not-numbers r-xp 0 0 0 /x\nAnonymous: 0 kB\n".to_owned(),
        ];
        let found = unwritten(text.concat().as_bytes()).unwrap();
        let starts: Vec<_> = found.iter().map(|m| (m.start, m.length, m.resident)).collect();
        assert_eq!(starts, [(0x1000, 0x2000, 8192), (0x7f00_0000_0000, 0x2000, 8192)]);
    }

    #[test]
    fn this_process_goes_on_without_its_pages() {
        let rss_of_files = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            status.lines().find_map(|line| field(line, "RssFile:")).unwrap()
        };
        let before = rss_of_files();
        let given = release().unwrap() / 1024;
        assert!(given > before / 4, "{given} KiB of {before}");
        assert!(rss_of_files() < before);
    }
}
