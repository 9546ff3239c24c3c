//! HAProxy as a plain reverse proxy: one thread, upstream connections shared by all clients.

use anyhow::Result;

use super::{Parts, Peer, free_address, version, words, write};

/// An answer of 64 KiB in one buffer, where it takes it in pieces of 16 KiB.
pub(super) const LARGE: &str = "  tune.bufsize 131072\n";

/// `more` goes into its `global` section.
pub(super) fn prepare(name: &str, more: &str, parts: &Parts<'_>) -> Result<Peer> {
    let (http1, http2) = (free_address()?, free_address()?);
    let servers: String = parts.origins.iter().enumerate().map(|(i, o)| format!("  server o{i} {o}\n")).collect();
    let text = format!(
        "global
  nbthread 1
  maxconn 10500
  no strict-limits
{more}defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend http1
  bind {http1} backlog 4096
  default_backend origin
frontend http2
  bind {http2} backlog 4096 proto h2
  default_backend origin
backend origin
{servers}"
    );
    let path = write(parts, &format!("{name}.cfg"), &text)?;
    Ok(Peer {
        name: name.into(),
        command: words(&["haproxy", "-db", "-f", &path.to_string_lossy()]),
        http1,
        http2: Some(http2),
        version: version("haproxy", "-v")?,
    })
}
