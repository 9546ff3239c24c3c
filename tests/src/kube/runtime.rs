//! Asynchronous clients in tests that are not: one runtime per process, driven by a thread of its own.

use std::{future::Future, sync::OnceLock};

use tokio::runtime::Handle;

/// Runs `future` to its end. Not for use inside a runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    handle().block_on(future)
}

fn handle() -> &'static Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    })
}
