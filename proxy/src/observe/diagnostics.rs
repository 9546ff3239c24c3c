//! Diagnostics: what the proxy says about itself, to standard error.
//!
//! Standard output belongs to the access log and to what people pipe. The filter can be changed while the
//! process runs ([`Handle::set_filter`]), which is what one wants in the middle of an incident. Colour only
//! on a terminal, and not where `NO_COLOR` asks for none.

use std::{fmt, io::IsTerminal as _, sync::Arc};

use outrigger_config::model::LogFormat;
use thiserror::Error;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt as layers, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

/// Bytes of a filter that are looked at: a filter is a list of a few targets.
const FILTER_LIMIT: usize = 1024;

/// A filter that cannot be used.
#[derive(Debug, Error)]
pub enum FilterError {
    /// It is not a filter.
    #[error("{0:?} is no filter: {1}; write a level (error, warn, info, debug, trace), or TARGET=LEVEL,...")]
    Syntax(String, String),
    /// It is longer than any filter should be.
    #[error("the filter is longer than {FILTER_LIMIT} bytes")]
    TooLong,
    /// The subscriber is gone or another one was set first.
    #[error("diagnostics are not set up: {0}")]
    NotInstalled(String),
}

/// Changes the filter of the diagnostics.
#[derive(Clone)]
pub struct Handle {
    set: Arc<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    /// Puts `filter` in the place of the one in use.
    ///
    /// # Errors
    /// It is not a filter; the one in use stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), FilterError> {
        let filter = parse(filter)?;
        (self.set)(filter).map_err(FilterError::NotInstalled)
    }
}

/// Sets up the diagnostics of the process. `filter`, if given, wins over `verbosity` (0 info, 1 debug of this
/// program, 2 trace of it, 3 everything).
///
/// # Errors
/// `filter` is not a filter, or diagnostics were set up before.
pub fn init(format: LogFormat, verbosity: u8, filter: Option<&str>) -> Result<Handle, FilterError> {
    let filter = match filter {
        Some(filter) if !filter.trim().is_empty() => parse(filter)?,
        _ => parse(default_filter(verbosity))?,
    };
    let (filter, handle) = reload::Layer::new(filter);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let output: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => {
            let layer = layers::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            layer.with_ansi(false).with_writer(std::io::stderr).with_filter(filter).boxed()
        }
        LogFormat::Text => layers::layer().with_ansi(colour).with_writer(std::io::stderr).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(output).try_init().map_err(|e| FilterError::NotInstalled(e.to_string()))?;
    Ok(Handle { set: Arc::new(move |filter| handle.reload(filter).map_err(|e| e.to_string())) })
}

/// The filter of a number of `-v`.
fn default_filter(verbosity: u8) -> &'static str {
    match verbosity {
        0 => "info",
        1 => "info,outrigger_proxy=debug,outrigger_config=debug",
        2 => "debug,outrigger_proxy=trace,outrigger_config=trace",
        _ => "trace",
    }
}

fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    if filter.len() > FILTER_LIMIT {
        return Err(FilterError::TooLong);
    }
    // A lone word that is no level would be taken for the name of a target, and silence everything else.
    for directive in filter.split(',').map(str::trim) {
        let bare = !directive.contains(['=', '[', ':', '_']);
        if directive.is_empty() || bare && directive.parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
            return Err(FilterError::Syntax(filter.into(), format!("{directive:?} is no level")));
        }
    }
    EnvFilter::try_new(filter).map_err(|e| FilterError::Syntax(filter.into(), e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        for good in ["debug", "off", "info,h2=warn", "outrigger_proxy::observe=trace", "WARN"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "info,", "h2=loud", "info,chatty"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(matches!(parse(&"a=info,".repeat(1000)), Err(FilterError::TooLong)));
        for verbosity in 0..=4 {
            assert!(parse(default_filter(verbosity)).is_ok());
        }
    }
}
