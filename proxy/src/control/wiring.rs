//! The calls from the control thread into the data plane and the observer, in one place.

use std::{
    io,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use outrigger_config::model;

use super::StartError;
use crate::{
    cli::LogFormat,
    observe::diagnostics::{self, Handle},
    serve::worker,
    shared::Shared,
};

/// How long the access log may take to be written out at the end.
const FLUSH: Duration = Duration::from_secs(1);
/// The environment variable that sets the filter of the diagnostics, as in other Rust programs.
const FILTER: &str = "RUST_LOG";

/// Sets up the diagnostics. `filter` is used where the environment has none.
///
/// # Errors
/// The filter of the environment is none.
pub fn diagnostics(format: LogFormat, verbose: u8, filter: Option<&str>) -> Result<Handle, StartError> {
    let format = match format {
        LogFormat::Text => model::LogFormat::Text,
        LogFormat::Json => model::LogFormat::Json,
    };
    let set = std::env::var(FILTER).ok().filter(|f| !f.trim().is_empty());
    Ok(diagnostics::init(format, verbose, set.as_deref().or(filter))?)
}

/// A configuration is in force.
pub(crate) fn applied(shared: &Shared) {
    let snapshot = shared.snapshot();
    shared.observer.set_access_log(snapshot.model.proxy.telemetry.access_log.as_ref());
    identified(shared);
    if snapshot.model.proxy.telemetry.tracing.is_some() {
        tracing::warn!("telemetry.tracing: traces are joined and passed on, but spans are not exported yet");
    }
}

/// An identity is in force, or none.
pub(super) fn identified(shared: &Shared) {
    let snapshot = shared.snapshot();
    let expiry = snapshot.tls.identity_expiry().and_then(|s| u64::try_from(s).ok());
    shared.observer.set_identity_expiry(expiry.map(|s| UNIX_EPOCH + Duration::from_secs(s)));
    super::reload::warn_of(snapshot.tls.warnings());
}

/// Writes what is not written yet.
pub(super) fn flush(shared: &Shared) {
    shared.observer.close(FLUSH);
}

/// Runs a worker until the drain is over.
pub(super) fn worker(index: usize, shared: Arc<Shared>) -> io::Result<()> {
    worker::run(index, shared)
}
