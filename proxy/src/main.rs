//! The program `outrigger-proxy`. Everything is in the library; here are the allocator and the exit code.

use std::process::ExitCode;

/// A proxy allocates many small short-lived blocks on few threads, which mimalloc serves without locks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    outrigger_proxy::cli::main()
}
