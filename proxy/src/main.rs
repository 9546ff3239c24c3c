//! The program `outrigger-proxy`. Everything is in the library; here are the allocator, what has to be said before it begins,
//! and the exit code.

use std::process::ExitCode;

/// A proxy allocates many small short-lived blocks on few threads, which mimalloc serves without locks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Has the kernel give this process small pages alone.
///
/// The allocator asks for huge ones for its whole arena, of which a proxy at rest uses 2 MiB, here and there: as huge pages
/// they are 8. What was given so stays so, and the first block is taken before `main`: hence a constructor. (Of the
/// allocator's own settings only the environment speaks as early.)
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the standard library has no call for it")]
extern "C" fn small_pages() {
    // SAFETY: the call takes numbers alone, and changes how the kernel backs memory, not what is in it. A kernel that knows
    // no huge pages refuses it, and has none to leave out.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

#[cfg(target_os = "linux")]
#[used]
#[allow(unsafe_code, reason = "a constructor is named by its section")]
// SAFETY: the section is an array of such functions, which the C library calls once, one after the other, before `main`; this
// one needs nothing that is made later.
#[unsafe(link_section = ".init_array")]
static SMALL_PAGES: extern "C" fn() = small_pages;

fn main() -> ExitCode {
    outrigger_proxy::cli::main()
}
