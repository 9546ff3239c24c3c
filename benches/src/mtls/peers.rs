//! The proxies that terminate mutual TLS, and a pair of ours with it in between.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::pki::{Files, SERVER};
use crate::process::free_address;

/// What peers are made from.
pub(super) struct Place<'a> {
    pub(super) proxy: &'a Path,
    pub(super) work: &'a Path,
    pub(super) files: &'a Files,
    pub(super) origin: SocketAddr,
}

impl Place<'_> {
    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.work.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// A proxy that can be started.
pub(super) struct Proxied {
    pub(super) name: &'static str,
    pub(super) command: Vec<String>,
    pub(super) address: SocketAddr,
}

/// Outrigger with a strict listener.
pub(super) fn outrigger(place: &Place<'_>) -> Result<Proxied> {
    outrigger_named(place, "strict")
}

/// The same of another build of the program.
pub(super) fn outrigger_pgo(place: &Place<'_>, program: &Path) -> Result<Proxied> {
    let made = outrigger_named(&Place { proxy: program, ..*place }, "strict-pgo")?;
    Ok(Proxied { name: "outrigger-pgo", ..made })
}

/// Two of them: what terminates, and what calls it, speaking `protocol`.
pub(super) fn pair(place: &Place<'_>, protocol: &str) -> Result<[Proxied; 2]> {
    let server = outrigger_named(place, &format!("pair-{protocol}"))?;
    let address = free_address()?;
    let listener = format!("address: \"{address}\", direction: outbound");
    let to = format!("address: \"{}\"", server.address);
    let tls = format!(", protocol: {protocol}, tls: {{ mode: mesh, identity: \"{SERVER}\" }}");
    let name = format!("calls-{protocol}");
    let client = configured(place, &name, address, &place.files.client, &listener, &to, &tls)?;
    Ok([server, client])
}

fn outrigger_named(place: &Place<'_>, name: &str) -> Result<Proxied> {
    let address = free_address()?;
    let listener = format!("address: \"{address}\", direction: inbound, mtls: strict");
    configured(place, name, address, &place.files.server, &listener, &format!("address: \"{}\"", place.origin), "")
}

fn configured(
    place: &Place<'_>,
    name: &str,
    address: SocketAddr,
    [certificate, key]: &[PathBuf; 2],
    listener: &str,
    endpoint: &str,
    more: &str,
) -> Result<Proxied> {
    let text = format!(
        "apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: {{ name: {name} }}
spec:
  workers: 1
  admin: {{ address: \"{admin}\" }}
  identity: {{ certificate: {certificate}, privateKey: {key}, trustBundle: {ca} }}
  listeners:
    - {{ name: bench, {listener}, forwardTo: {{ kind: Upstream, name: origin }} }}
---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: {{ name: origin }}
spec: {{ endpoints: [{{ {endpoint} }}]{more} }}
",
        admin = free_address()?,
        certificate = certificate.display(),
        key = key.display(),
        ca = place.files.ca.display(),
    );
    let path = place.write(&format!("{name}.yaml"), &text)?;
    let command = [&*place.proxy.to_string_lossy(), "run", "--config", &*path.to_string_lossy()].map(str::to_owned);
    Ok(Proxied { name: "outrigger", command: command.to_vec(), address })
}

/// nginx, one process. `ssl_session_tickets` are off: nobody resumes, and no other peer would have to make them.
pub(super) fn nginx(place: &Place<'_>) -> Result<Proxied> {
    let address = free_address()?;
    let (work, Files { ca, server: [certificate, key], .. }) = (place.work.display(), place.files);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {work}/nginx-{kind};\n"))
        .collect();
    let text = format!(
        "daemon off;
master_process off;
pid {work}/nginx.pid;
error_log {work}/nginx-error.log warn;
events {{ worker_connections 4096; }}
http {{
{temporary}  access_log off;
  keepalive_requests 1000000000;
  upstream origin {{ server {origin}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {address} ssl backlog=4096;
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_client_certificate {ca};
    ssl_verify_client on;
    location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
  }}
}}
",
        origin = place.origin,
        certificate = certificate.display(),
        key = key.display(),
        ca = ca.display(),
    );
    let path = place.write("nginx.conf", &text)?;
    let command = ["nginx", "-c", &*path.to_string_lossy(), "-p", &*place.work.to_string_lossy()].map(str::to_owned);
    Ok(Proxied { name: "nginx", command: command.to_vec(), address })
}

/// HAProxy, one thread.
pub(super) fn haproxy(place: &Place<'_>) -> Result<Proxied> {
    let address = free_address()?;
    let text = format!(
        "global
  nbthread 1
  maxconn 2048
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend tls
  bind {address} backlog 4096 ssl crt {both} ca-file {ca} verify required ssl-min-ver TLSv1.3 no-tls-tickets
  default_backend origin
backend origin
  server o {origin}
",
        both = place.files.server_both.display(),
        ca = place.files.ca.display(),
        origin = place.origin,
    );
    let path = place.write("haproxy.cfg", &text)?;
    let command = ["haproxy", "-db", "-f", &*path.to_string_lossy()].map(str::to_owned);
    Ok(Proxied { name: "haproxy", command: command.to_vec(), address })
}

/// hyper and rustls, as one writes it first.
pub(super) fn naive(place: &Place<'_>) -> Result<Proxied> {
    let address = free_address()?;
    let Files { ca, server: [certificate, key], .. } = place.files;
    let mut command = vec![std::env::current_exe()?.to_string_lossy().into_owned(), "naive".into()];
    command.extend([address, place.origin].map(|a| a.to_string()));
    command.extend([certificate, key, ca].map(|p| p.to_string_lossy().into_owned()));
    Ok(Proxied { name: "naive hyper", command, address })
}
