//! `run --control-plane`: who the pod is, from flags or from the environment that the chart gives the sidecar.
//!
//! Every flag has its variable, so that the container needs no arguments but `run`. What is missing is named with
//! both, and with what the chart usually puts there.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use outrigger_config::discovery::Pod;

use crate::{
    admin::app::{AppEndpoints, Places},
    control::Leave,
    discovery::{Bootstrap, Explicit, bootstrap, explicit},
    tls::SpiffeId,
};

/// Account of the control plane, and namespace of its chart where nobody says another.
const ACCOUNT: &str = "outrigger-control-plane";
/// See [`ACCOUNT`].
const NAMESPACE: &str = "outrigger-system";

/// Flags of a proxy in a pod.
#[derive(Debug, Args)]
#[command(next_help_heading = "In a pod (each can be set by its environment variable)")]
pub(super) struct PodArgs {
    /// Everything but the flags below comes from the control plane at HOST:PORT
    #[arg(long, value_name = "ADDR", env = "OUTRIGGER_CONTROL_PLANE")]
    pub(super) control_plane: Option<String>,
    /// Namespace of the control plane, a part of its identity [default: that in its address, or outrigger-system]
    #[arg(long, value_name = "NAMESPACE", env = "OUTRIGGER_CONTROL_PLANE_NAMESPACE")]
    control_plane_namespace: Option<String>,
    /// Trust domain of the mesh
    #[arg(long, value_name = "NAME", env = "OUTRIGGER_TRUST_DOMAIN", default_value = "cluster.local")]
    trust_domain: String,
    /// PEM roots that the control plane is authenticated by; read again for each connection
    #[arg(
        long,
        value_name = "FILE",
        env = "OUTRIGGER_TRUST_BUNDLE",
        default_value = "/var/run/outrigger/trust/ca.crt"
    )]
    trust_bundle: PathBuf,
    /// Service-account token with the audience outrigger.dev; read again for each certificate
    #[arg(long, value_name = "FILE", env = "OUTRIGGER_TOKEN", default_value = "/var/run/outrigger/token/token")]
    token: PathBuf,
    /// Namespace of the pod (downward API: metadata.namespace)
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pod_namespace: Option<String>,
    /// Name of the pod (downward API: metadata.name)
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pod_name: Option<String>,
    /// UID of the pod (downward API: metadata.uid)
    #[arg(long, value_name = "UID", env = "POD_UID", default_value = "")]
    pod_uid: String,
    /// Addresses of the pod, IP[,IP] (downward API: status.podIPs)
    #[arg(long, value_name = "IPS", env = "POD_IPS")]
    pod_ips: Option<String>,
    /// Service account of the pod (downward API: spec.serviceAccountName)
    #[arg(long, value_name = "NAME", env = "POD_SERVICE_ACCOUNT")]
    service_account: Option<String>,
    /// Zone of the node, if it is known
    #[arg(long, value_name = "ZONE", env = "POD_ZONE", default_value = "")]
    zone: String,
    /// Where redirected connections to the pod arrive; may be repeated [default: [::]:9992, or 0.0.0.0:9992 without IPv6]
    #[arg(long, value_name = "ADDR", env = "OUTRIGGER_INBOUND", value_delimiter = ',')]
    inbound: Vec<SocketAddr>,
    /// Where those of the app arrive; may be repeated [default: 127.0.0.1:9991, and [::1]:9991 with IPv6]
    #[arg(long, value_name = "ADDR", env = "OUTRIGGER_OUTBOUND", value_delimiter = ',')]
    outbound: Vec<SocketAddr>,
    /// Threads that forward [default: the CPU quota, at most 2]
    #[arg(long, value_name = "N", env = "OUTRIGGER_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Where the last good state is saved, so that a container that is started again needs no control plane; never keys
    #[arg(long, value_name = "DIR", env = "OUTRIGGER_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// A destination that is not used for so long is forgotten
    #[arg(long, value_name = "TIME", env = "OUTRIGGER_IDLE", default_value = "10m", value_parser = super::parse_duration)]
    idle: Duration,
    /// What of the app is asked for the kubelet and Prometheus on the admin port: a JSON object from path to target
    #[arg(long, value_name = "JSON", env = "OUTRIGGER_APP_ENDPOINTS")]
    app_endpoints: Option<String>,
    /// Most time from SIGTERM to the end; below the pod's terminationGracePeriodSeconds
    #[arg(long, value_name = "TIME", env = "OUTRIGGER_DRAIN_TIMEOUT", default_value = "25s", value_parser = super::parse_duration)]
    drain_timeout: Duration,
    /// After SIGTERM, an app without a port and a connection for so long is gone
    #[arg(long, value_name = "TIME", env = "OUTRIGGER_DRAIN_QUIET", default_value = "5s", value_parser = super::parse_duration)]
    drain_quiet: Duration,
    /// This is a native sidecar: SIGTERM comes when the app has ended, and nothing is waited for but what is in flight
    #[arg(long, env = "OUTRIGGER_NATIVE_SIDECAR", value_parser = clap::builder::BoolishValueParser::new(), default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    native_sidecar: bool,
    /// Nothing is captured in this pod: the outbound listener is an HTTP proxy for the app (HTTP_PROXY), CONNECT included
    #[arg(long, env = "OUTRIGGER_EXPLICIT", value_parser = clap::builder::BoolishValueParser::new(), default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    explicit: bool,
    /// Ports of localhost that stand for a destination: PORT=HOST:PORT,...
    #[arg(long, value_name = "LIST", env = "OUTRIGGER_OUTBOUND_LISTENERS", default_value = "")]
    outbound_listeners: String,
    /// Ports of the pod that the proxy takes in the place of the app, which listens on another of localhost: PORT=APP_PORT,...
    #[arg(long, value_name = "LIST", env = "OUTRIGGER_INBOUND_LISTENERS", default_value = "")]
    inbound_listeners: String,
}

/// Shortest time to leave: idle connections are closed within it.
const LEAST_DRAIN: Duration = Duration::from_secs(1);
/// Where the admin port of a pod listens: the kubelet and Prometheus ask it.
const ADMIN_PORT: u16 = 9990;

impl PodArgs {
    /// What a proxy in a pod starts with.
    ///
    /// # Errors
    /// What is missing or wrong, and what would be right.
    pub(super) fn bootstrap(self, admin: Option<&str>) -> Result<Bootstrap, String> {
        let control_plane = self.control_plane.unwrap_or_default();
        let host = host(&control_plane)?;
        let from_address = host.split('.').nth(1).filter(|_| host.parse::<IpAddr>().is_err()).map(str::to_owned);
        let namespace = self.control_plane_namespace.or(from_address).unwrap_or_else(|| NAMESPACE.to_owned());
        let control_plane_id = identity(&self.trust_domain, &namespace, ACCOUNT)?;
        let pod_namespace = needed(self.pod_namespace, "--pod-namespace", "POD_NAMESPACE", "metadata.namespace")?;
        let service_account =
            needed(self.service_account, "--service-account", "POD_SERVICE_ACCOUNT", "spec.serviceAccountName")?;
        let id = identity(&self.trust_domain, &pod_namespace, &service_account)?;
        let name = needed(self.pod_name, "--pod-name", "POD_NAME", "metadata.name")?;
        let ips = needed(self.pod_ips, "--pod-ips", "POD_IPS", "status.podIPs")?;
        let ips = bootstrap::addresses(&ips).map_err(|e| format!("--pod-ips (POD_IPS): {e}"))?;
        if ips.is_empty() {
            return Err(
                "--pod-ips (POD_IPS) has no address; the pod has none yet if it is started before its sandbox".into()
            );
        }
        let v6 = has_ipv6();
        let ips: Vec<_> = ips.into_iter().map(|ip| ip.to_canonical()).collect();
        let inbound = or(self.inbound, || vec![any(9992, v6)]);
        let outbound = or(self.outbound, || {
            let v4 = SocketAddr::from(([127, 0, 0, 1], 9991));
            let v6 = v6.then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, 9991)));
            std::iter::once(v4).chain(v6).collect()
        });
        let admin = match admin {
            None => any(ADMIN_PORT, v6),
            Some(text) => text.parse().map_err(|_| format!("--admin {text:?}: write IP:PORT or [IPV6]:PORT"))?,
        };
        let own: Vec<u16> =
            inbound.iter().chain(&outbound).chain([&admin]).map(SocketAddr::port).filter(|p| *p != 0).collect();
        let explicit = explicit(self.explicit, &self.outbound_listeners, &self.inbound_listeners, &outbound, own)?;
        let (app, leave) = app(self.app_endpoints.as_deref(), &explicit, ips[0])?;
        let leave =
            Leave { timeout: self.drain_timeout, quiet: self.drain_quiet, native: self.native_sidecar, ..leave };
        if leave.timeout < LEAST_DRAIN {
            return Err("--drain-timeout (OUTRIGGER_DRAIN_TIMEOUT) must be 1s or more: write for example 25s".into());
        }
        let pod = Pod {
            namespace: pod_namespace,
            name,
            uid: self.pod_uid,
            ips: ips.iter().map(ToString::to_string).collect(),
            service_account,
            zone: self.zone,
        };
        Ok(Bootstrap {
            control_plane,
            control_plane_id,
            pod,
            ips,
            id,
            trust_bundle: self.trust_bundle,
            token: self.token,
            inbound,
            outbound,
            admin,
            workers: self.workers,
            state_dir: self.state_dir,
            idle: self.idle.max(Duration::from_secs(1)),
            explicit,
            app,
            leave,
        })
    }
}

/// What is proxied explicitly. `own`: ports of the proxy.
fn explicit(
    proxy: bool,
    outbound: &str,
    inbound: &str,
    listeners: &[SocketAddr],
    own: Vec<u16>,
) -> Result<Explicit, String> {
    if let Some(open) = listeners.iter().find(|l| proxy && !l.ip().to_canonical().is_loopback()) {
        return Err(format!(
            "--explicit (OUTRIGGER_EXPLICIT) with --outbound {open} would be a proxy for everybody who reaches this pod; listen on loopback"
        ));
    }
    let outbound = explicit::outbound(outbound)
        .map_err(|e| format!("--outbound-listeners (OUTRIGGER_OUTBOUND_LISTENERS): {e}"))?;
    let inbound =
        explicit::inbound(inbound).map_err(|e| format!("--inbound-listeners (OUTRIGGER_INBOUND_LISTENERS): {e}"))?;
    let mut own = own;
    let new = inbound.iter().flat_map(|m| [m.port, m.app]).chain(outbound.iter().map(|n| n.port));
    for port in new {
        if own.contains(&port) {
            return Err(format!(
                "port {port} is listened on twice: among --outbound-listeners, --inbound-listeners and the proxy's own"
            ));
        }
        own.push(port);
    }
    // A port in the app's place may be called, and where the app is may not: that would be past its own proxy.
    own.retain(|port| inbound.iter().all(|m| m.port != *port));
    Ok(Explicit { proxy, outbound, inbound, own })
}

/// What of the app is asked on the admin port, and by which ports it is seen to be there.
fn app(endpoints: Option<&str>, explicit: &Explicit, ip: IpAddr) -> Result<(AppEndpoints, Leave), String> {
    let moved: Vec<_> = explicit.inbound.iter().filter_map(|m| Some((m.port, explicit.app(m.port)?))).collect();
    let apps: Vec<u16> = explicit.inbound.iter().map(|m| m.app).collect();
    let own = explicit.own.iter().copied().filter(|port| !apps.contains(port)).collect();
    let places = Places { ip, moved, own };
    let endpoints = match endpoints.filter(|e| !e.trim().is_empty()) {
        Some(text) => {
            AppEndpoints::parse(text, places).map_err(|e| format!("--app-endpoints (OUTRIGGER_APP_ENDPOINTS): {e}"))?
        }
        None => AppEndpoints::default(),
    };
    let mut ports = endpoints.ports();
    ports.extend(apps);
    Ok((endpoints, Leave { ports, ..Leave::default() }))
}

fn or(said: Vec<SocketAddr>, default: impl FnOnce() -> Vec<SocketAddr>) -> Vec<SocketAddr> {
    if said.is_empty() { default() } else { said }
}

/// The host of `HOST:PORT`.
fn host(address: &str) -> Result<&str, String> {
    let wrong = || {
        format!(
            "--control-plane {address:?}: write HOST:PORT, for example {ACCOUNT}.{NAMESPACE}.svc.cluster.local:9980"
        )
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if host.is_empty() || port == 0 || host.contains('/') {
        return Err(wrong());
    }
    Ok(host.trim_start_matches('[').trim_end_matches(']'))
}

fn needed(said: Option<String>, flag: &str, variable: &str, field: &str) -> Result<String, String> {
    said.filter(|s| !s.trim().is_empty()).ok_or_else(|| {
        format!(
            "{flag} is missing: a proxy in a pod must know it; the chart's sidecar has it in {variable} (downward API: {field})"
        )
    })
}

fn identity(trust_domain: &str, namespace: &str, account: &str) -> Result<SpiffeId, String> {
    let text = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}");
    SpiffeId::parse(&text).map_err(|e| format!("{text} is no SPIFFE ID: {e}"))
}

/// Every address, of both families where there are two.
fn any(port: u16, v6: bool) -> SocketAddr {
    if v6 { SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)) } else { SocketAddr::from(([0, 0, 0, 0], port)) }
}

/// Whether sockets of IPv6 can be bound: a kernel or a pod may be without it.
fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        pod: PodArgs,
    }

    const WHOLE: &[&str] = &[
        "x",
        "--control-plane=outrigger-control-plane.mesh.svc:9980",
        "--pod-namespace=shop",
        "--pod-name=web-1",
        "--pod-ips=10.0.0.1,fd00::1",
        "--service-account=web",
    ];

    fn parse(args: &[&str]) -> Result<Bootstrap, String> {
        Line::try_parse_from(args).map_err(|e| e.to_string())?.pod.bootstrap(None)
    }

    #[test]
    fn a_pod_is_known_by_its_flags() {
        let boot = parse(WHOLE).unwrap();
        assert_eq!(boot.id.as_str(), "spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!(boot.control_plane_id.as_str(), "spiffe://cluster.local/ns/mesh/sa/outrigger-control-plane");
        assert_eq!(boot.ips.len(), 2);
        assert_eq!(boot.outbound[0].to_string(), "127.0.0.1:9991");
        assert_eq!((boot.inbound[0].port(), boot.admin.port()), (9992, 9990));
        let at_address = parse(&[&["x", "--control-plane=10.0.0.9:9980"], &WHOLE[2..]].concat()).unwrap();
        assert_eq!(
            at_address.control_plane_id.as_str(),
            "spiffe://cluster.local/ns/outrigger-system/sa/outrigger-control-plane"
        );
    }

    #[test]
    fn what_is_missing_is_named_with_what_the_chart_does() {
        for (missing, variable) in [(2, "POD_NAMESPACE"), (3, "POD_NAME"), (4, "POD_IPS"), (5, "POD_SERVICE_ACCOUNT")] {
            let args: Vec<_> = WHOLE.iter().enumerate().filter(|(i, _)| *i != missing).map(|(_, a)| *a).collect();
            let said = parse(&args).unwrap_err();
            assert!(said.contains(variable) && said.contains("downward API"), "{said}");
        }
        for wrong in ["outrigger", ":9980", "x:0", "http://x:1"] {
            let flag = format!("--control-plane={wrong}");
            let said = parse(&[&["x", flag.as_str()], &WHOLE[2..]].concat()).unwrap_err();
            assert!(said.contains("HOST:PORT"), "{said}");
        }
    }
}
