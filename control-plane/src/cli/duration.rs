//! Spans of time on the command line: GEP-2257, as in documents.

use outrigger_config::documents::Duration;

/// `24h`, `1h30m`: in whole seconds, of which there must be one.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let Duration(span) = text.parse()?;
    match span.as_secs() {
        0 => Err(format!("`{text}` is shorter than a second: write it as `24h` or `30m`")),
        seconds => Ok(seconds),
    }
}
