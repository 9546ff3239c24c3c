//! nginx as a plain reverse proxy. HTTP/2 without TLS needs a port of its own before 1.25.
//!
//! One process without a master: the same event loop, but nothing to leave behind. Limits on the number of
//! requests of a connection are lifted, because reconnecting every 1,000 requests is not what is compared.

use anyhow::Result;

use super::{Parts, Peer, free_address, version, words, write};

/// The fields that Outrigger's own line has, as far as nginx knows them; written by batches, too.
pub(super) const LOG: &str = r#"  log_format json escape=json '{"time":"$time_iso8601","remote":"$remote_addr:$remote_port",'
    '"method":"$request_method","authority":"$http_host","path":"$request_uri","protocol":"$server_protocol",'
    '"status":$status,"request_id":"$request_id","upstream":"$upstream_addr","duration":$request_time,'
    '"first_byte":"$upstream_header_time","request_bytes":$request_length,"response_bytes":$body_bytes_sent,'
    '"user_agent":"$http_user_agent"}';
  access_log /dev/null json buffer=64k flush=1s;
"#;

/// Without a line per request.
pub(super) const SILENT: &str = "  access_log off;\n";

/// An answer of 64 KiB in one buffer, where the others take it in pieces of 4 KiB.
pub(super) const LARGE: &str = "  access_log off;
  proxy_buffer_size 64k;
  proxy_buffers 8 128k;
  proxy_busy_buffers_size 256k;
";

/// `more` goes into its `http` block.
pub(super) fn prepare(name: &str, more: &str, parts: &Parts<'_>) -> Result<Peer> {
    let (http1, http2) = (free_address()?, free_address()?);
    let work = parts.work.display();
    let servers: String = parts.origins.iter().map(|o| format!("    server {o};\n")).collect();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {work}/nginx-{kind};\n"))
        .collect();
    let text = format!(
        "daemon off;
master_process off;
pid {work}/{name}.pid;
error_log {work}/{name}-error.log warn;
events {{ worker_connections 20000; }}
http {{
{temporary}{more}  keepalive_requests 1000000000;
  proxy_max_temp_file_size 0;
  upstream origin {{
{servers}    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {http1} backlog=4096;
    listen {http2} backlog=4096 http2;
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
"
    );
    let path = write(parts, &format!("{name}.conf"), &text)?;
    Ok(Peer {
        name: name.into(),
        command: words(&["nginx", "-c", &path.to_string_lossy(), "-p", &parts.work.to_string_lossy()]),
        http1,
        http2: Some(http2),
        version: version("nginx", "-v")?,
    })
}
