//! The annotations of a pod that say how its proxy is to be: one table, from which they are read, checked and documented.
//!
//! What a pod does not say, the mesh's defaults say ([`Settings::annotations`]), and what those do not, the table. A name with our prefix that is not in
//! the table is refused: a setting that is misspelt would otherwise be no setting at all.

use outrigger_config::{identity::INJECT_LABEL, suggest};
use serde_json::Value;

use super::{
    Settings,
    record::INJECTED,
    refuse::{Reason, Refused},
    tree, values,
    values::Quantity,
};

/// Of all our annotations.
pub const PREFIX: &str = "outrigger.dev/";

pub(super) const CAPTURE: &str = "outrigger.dev/capture";
const SKIP_INBOUND_PORTS: &str = "outrigger.dev/skip-inbound-ports";
const CAPTURE_INBOUND_PORTS: &str = "outrigger.dev/capture-inbound-ports";
const SKIP_OUTBOUND_PORTS: &str = "outrigger.dev/skip-outbound-ports";
const SKIP_OUTBOUND_CIDRS: &str = "outrigger.dev/skip-outbound-cidrs";
const SKIP_UIDS: &str = "outrigger.dev/skip-uids";
const REDIRECT_BACKEND: &str = "outrigger.dev/redirect-backend";
const IP_FAMILIES: &str = "outrigger.dev/ip-families";
const OUTBOUND_LISTENERS: &str = "outrigger.dev/outbound-listeners";
const INBOUND_LISTENERS: &str = "outrigger.dev/inbound-listeners";
const REWRITE_PROBES: &str = "outrigger.dev/rewrite-probes";
const REWRITE_SCRAPE: &str = "outrigger.dev/rewrite-scrape";
const NATIVE_SIDECAR: &str = "outrigger.dev/native-sidecar";
const DRAIN_TIMEOUT: &str = "outrigger.dev/drain-timeout";
const DRAIN_QUIET: &str = "outrigger.dev/drain-quiet";
const IDLE: &str = "outrigger.dev/discovery-idle";
const WORKERS: &str = "outrigger.dev/workers";
const LOG_LEVEL: &str = "outrigger.dev/log-level";
const LOG_FORMAT: &str = "outrigger.dev/log-format";
const CPU_REQUEST: &str = "outrigger.dev/cpu-request";
const CPU_LIMIT: &str = "outrigger.dev/cpu-limit";
const MEMORY_REQUEST: &str = "outrigger.dev/memory-request";
const MEMORY_LIMIT: &str = "outrigger.dev/memory-limit";
const IMAGE: &str = "outrigger.dev/proxy-image";
const PULL_POLICY: &str = "outrigger.dev/proxy-image-pull-policy";
const TOKEN_EXPIRATION: &str = "outrigger.dev/token-expiration";

/// One annotation.
#[derive(Debug, Clone, Copy)]
pub struct Annotation {
    /// With the prefix.
    pub name: &'static str,
    /// What may be written, in words.
    pub values: &'static str,
    /// Taken where nobody says anything; empty: nothing.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// What is wrong with a value, and what would be right.
    check: fn(&str) -> Result<(), String>,
}

const fn annotation(
    name: &'static str,
    values: &'static str,
    default: &'static str,
    check: fn(&str) -> Result<(), String>,
    meaning: &'static str,
) -> Annotation {
    Annotation { name, values, default, meaning, check }
}

const PORTS: &str = "ports and ranges by commas: `3306,8000-8010`";
const SWITCH: &str = "`enabled`, `disabled`";
const QUANTITY: &str = "a quantity, or `none`";
const CAPTURES: &[&str] = &["redirect", "tproxy", "none"];
const SWITCHES: &[&str] = &["enabled", "disabled"];
const NATIVES: &[&str] = &["auto", "enabled", "disabled"];
const BACKENDS: &[&str] = &["auto", "nftables", "iptables"];
const FAMILIES: &[&str] = &["auto", "ipv4", "ipv6", "both"];
const FORMATS: &[&str] = &["text", "json"];

/// Every annotation there is, in the order of the documentation.
pub const ANNOTATIONS: &[Annotation] = &[
    annotation(
        CAPTURE,
        "`redirect`, `tproxy`, `none`",
        "redirect",
        |v| values::one_of(v, CAPTURES).map(drop),
        "How connections get to the proxy. `tproxy`: those to the pod keep the address of their peer; the proxy needs `NET_ADMIN`. `none`: not by themselves; the pod needs no privilege, and apps get `HTTP_PROXY`",
    ),
    annotation(
        SKIP_INBOUND_PORTS,
        PORTS,
        "",
        |v| values::ports(v).map(drop),
        "Ports of the pod whose connections go to the app directly, without mTLS and access policies",
    ),
    annotation(
        CAPTURE_INBOUND_PORTS,
        PORTS,
        "",
        |v| values::ports(v).map(drop),
        "Only these ports of the pod are captured",
    ),
    annotation(
        SKIP_OUTBOUND_PORTS,
        PORTS,
        "",
        |v| values::ports(v).map(drop),
        "Connections of the app to these ports go around the proxy",
    ),
    annotation(
        SKIP_OUTBOUND_CIDRS,
        "networks by commas: `10.0.0.0/8,fd00::/8`",
        "",
        |v| values::cidrs(v).map(drop),
        "Connections of the app to these networks go around the proxy",
    ),
    annotation(
        SKIP_UIDS,
        "user ids by commas: `1000,1001`",
        "",
        |v| values::uids(v).map(drop),
        "Connections of processes of these users go around the proxy",
    ),
    annotation(
        REDIRECT_BACKEND,
        "`auto`, `nftables`, `iptables`",
        "auto",
        |v| values::one_of(v, BACKENDS).map(drop),
        "What installs the capture rules",
    ),
    annotation(
        IP_FAMILIES,
        "`auto`, `ipv4`, `ipv6`, `both`",
        "auto",
        |v| values::one_of(v, FAMILIES).map(drop),
        "Families of addresses that are captured",
    ),
    annotation(
        OUTBOUND_LISTENERS,
        "`PORT=HOST:PORT` by commas: `15001=payments.shop:8080`",
        "",
        |v| values::outbound_listeners(v).map(drop),
        "With `capture: none`: ports of localhost on which the proxy listens, and where each leads",
    ),
    annotation(
        INBOUND_LISTENERS,
        "`PORT=PORT` by commas: `8080=18080`",
        "",
        |v| values::inbound_listeners(v).map(drop),
        "With `capture: none`: ports of the pod on which the proxy listens, and the port of 127.0.0.1 where the app does",
    ),
    annotation(
        REWRITE_PROBES,
        SWITCH,
        "enabled",
        |v| values::one_of(v, SWITCHES).map(drop),
        "Whether HTTP, TCP and gRPC probes and HTTP and TCP lifecycle hooks of the app go by way of the proxy's admin port",
    ),
    annotation(
        REWRITE_SCRAPE,
        SWITCH,
        "enabled",
        |v| values::one_of(v, SWITCHES).map(drop),
        "Whether `prometheus.io/port`, `path` and `scheme` of a pod with `prometheus.io/scrape: \"true\"` lead by way of the admin port",
    ),
    annotation(
        NATIVE_SIDECAR,
        "`auto`, `enabled`, `disabled`",
        "auto",
        |v| values::one_of(v, NATIVES).map(drop),
        "Native sidecar or ordinary container; `auto`: what the cluster can do",
    ),
    annotation(
        DRAIN_TIMEOUT,
        "a time below `terminationGracePeriodSeconds`",
        "",
        |v| values::seconds(v, 1, 86_400).map(drop),
        "For connections to end when the pod ends; by default five seconds less than the grace period",
    ),
    annotation(
        DRAIN_QUIET,
        "a time",
        "",
        |v| values::seconds(v, 1, 86_400).map(drop),
        "In an ordinary container: when the pod ends, an app without a port and a connection for so long is gone, and the proxy ends; by default `5s`",
    ),
    annotation(
        IDLE,
        "a time",
        "",
        |v| values::seconds(v, 1, 86_400).map(drop),
        "A destination that is not used for so long is forgotten by the proxy",
    ),
    annotation(
        WORKERS,
        "1 to 1024",
        "",
        |v| values::number(v, 1, 1024).map(drop),
        "Threads that forward; by default the CPU limit, at most 2",
    ),
    annotation(
        LOG_LEVEL,
        "`error`, `warn`, `info`, `debug`, `trace`, or a filter",
        "info",
        values::log_level,
        "What the proxy says of itself on stderr",
    ),
    annotation(LOG_FORMAT, "`text`, `json`", "json", |v| values::one_of(v, FORMATS).map(drop), "And how"),
    annotation(
        CPU_REQUEST,
        QUANTITY,
        "20m",
        |v| values::quantity(v).map(drop),
        "CPU that the scheduler reserves for the proxy",
    ),
    annotation(CPU_LIMIT, QUANTITY, "none", |v| values::quantity(v).map(drop), "CPU that the proxy gets at most"),
    annotation(
        MEMORY_REQUEST,
        QUANTITY,
        "32Mi",
        |v| values::quantity(v).map(drop),
        "Memory that the scheduler reserves for the proxy",
    ),
    annotation(
        MEMORY_LIMIT,
        QUANTITY,
        "256Mi",
        |v| values::quantity(v).map(drop),
        "Memory beyond which the proxy is killed",
    ),
    annotation(IMAGE, "an image", "", values::image, "Another image of the proxy than the mesh's"),
    annotation(
        PULL_POLICY,
        "`Always`, `IfNotPresent`, `Never`",
        "",
        |v| values::pull_policy(v).map(drop),
        "And when it is pulled",
    ),
    annotation(
        TOKEN_EXPIRATION,
        "10m to 24h",
        "1h",
        |v| values::seconds(v, 600, 86_400).map(drop),
        "Life of the token that proves the pod's identity; the kubelet renews it in time",
    ),
];

/// How connections get to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// NAT to the proxy's ports.
    Redirect,
    /// Inbound by TPROXY, which keeps addresses; outbound by NAT.
    Tproxy,
    /// Not captured.
    None,
}

/// What the annotations of one template say, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    pub(super) capture: Capture,
    /// Flags of `redirect install`, and their values.
    pub(super) redirect: Vec<(&'static str, String)>,
    pub(super) outbound_listeners: String,
    /// Port of the pod, port of 127.0.0.1.
    pub(super) inbound_listeners: Vec<(u16, u16)>,
    pub(super) probes: bool,
    pub(super) scrape: bool,
    pub(super) native: bool,
    /// Seconds, below the grace period.
    pub(super) drain: u64,
    pub(super) drain_quiet: String,
    pub(super) idle: String,
    pub(super) workers: String,
    pub(super) log_level: String,
    pub(super) log_format: String,
    pub(super) resources: Resources,
    pub(super) image: String,
    pub(super) pull_policy: String,
    /// Seconds.
    pub(super) token_life: u64,
}

/// Requests and limits; `None`: not set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resources {
    pub(super) cpu: (Option<Quantity>, Option<Quantity>),
    pub(super) memory: (Option<Quantity>, Option<Quantity>),
}

/// Whether an annotation of ours can be meant.
pub(super) fn check(name: &str, value: &str) -> Result<(), String> {
    let value = value.trim();
    if let Some(known) = ANNOTATIONS.iter().find(|known| known.name == name) {
        // Nothing is a value where it is the default: so a pod can do without a default of the mesh.
        return if value.is_empty() && known.default.is_empty() { Ok(()) } else { (known.check)(value) };
    }
    if name == INJECT_LABEL {
        return Err("this is a label, not an annotation: write it under metadata.labels".to_owned());
    }
    let near = suggest(name, ANNOTATIONS.iter().map(|known| known.name));
    let near = near.map_or_else(String::new, |near| format!(": did you mean {near}?"));
    Err(format!("there is no such annotation{near} (docs/annotations.md has all of them)"))
}

/// Annotations of a template over those of the mesh over the table's.
struct Said<'a> {
    template: &'a Value,
    settings: &'a Settings,
}

impl<'a> Said<'a> {
    fn get(&self, name: &str) -> &'a str {
        let of_mesh = || self.settings.annotations.get(name).map(String::as_str);
        let of_table = || ANNOTATIONS.iter().find(|known| known.name == name).map_or("", |known| known.default);
        tree::annotation(self.template, name).or_else(of_mesh).unwrap_or_else(of_table).trim()
    }

    /// A value that may be absent.
    fn read<T: Default>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Refused> {
        match self.get(name) {
            "" => Ok(T::default()),
            text => parse(text).map_err(|why| setting(name, why)),
        }
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == value
    }
}

fn setting(name: &str, why: String) -> Refused {
    Refused::new(Reason::Setting, &format!("metadata.annotations[{name}]"), why)
}

impl Choices {
    /// Reads them.
    ///
    /// # Errors
    /// A name that is unknown, a value that cannot be meant, two that contradict each other.
    pub(super) fn of(template: &Value, settings: &Settings) -> Result<Self, Refused> {
        for (name, value) in template["metadata"]["annotations"].as_object().into_iter().flatten() {
            if name.starts_with(PREFIX) && name != INJECTED && !value.is_null() {
                check(name, value.as_str().unwrap_or_default()).map_err(|why| setting(name, why))?;
            }
        }
        let said = Said { template, settings };
        let capture = match said.get(CAPTURE) {
            "none" => Capture::None,
            "tproxy" => Capture::Tproxy,
            _ => Capture::Redirect,
        };
        let choices = Self {
            capture,
            redirect: redirect(&said, capture)?,
            outbound_listeners: explicit(capture, said.read(OUTBOUND_LISTENERS, values::outbound_listeners)?),
            inbound_listeners: explicit(capture, said.read(INBOUND_LISTENERS, values::inbound_listeners)?),
            probes: said.is(REWRITE_PROBES, "enabled"),
            scrape: said.is(REWRITE_SCRAPE, "enabled"),
            native: match said.get(NATIVE_SIDECAR) {
                "enabled" => true,
                "disabled" => false,
                _ => settings.native_sidecars,
            },
            drain: drain(&said)?,
            drain_quiet: said.get(DRAIN_QUIET).to_owned(),
            idle: said.get(IDLE).to_owned(),
            workers: said.get(WORKERS).to_owned(),
            log_level: said.get(LOG_LEVEL).to_owned(),
            log_format: said.get(LOG_FORMAT).to_owned(),
            resources: resources(&said)?,
            image: said.get(IMAGE).to_owned(),
            pull_policy: said.get(PULL_POLICY).to_owned(),
            token_life: said.read(TOKEN_EXPIRATION, |v| values::seconds(v, 600, 86_400))?,
        };
        choices.consistent(&said)
    }

    /// Listeners of the one mode say nothing in the other.
    fn consistent(self, said: &Said<'_>) -> Result<Self, Refused> {
        for name in [OUTBOUND_LISTENERS, INBOUND_LISTENERS] {
            if self.capture != Capture::None && tree::annotation(said.template, name).is_some() {
                let why = format!("this needs the annotation {CAPTURE}: none; captured connections need no listeners");
                return Err(setting(name, why));
            }
        }
        let outbound =
            self.outbound_listeners.split(',').filter_map(|entry| entry.split_once('=')?.0.parse::<u16>().ok());
        let taken: Vec<u16> = self.inbound_listeners.iter().flat_map(|(from, to)| [*from, *to]).collect();
        match outbound.into_iter().find(|port| taken.contains(port)) {
            Some(port) => {
                Err(setting(OUTBOUND_LISTENERS, format!("the port {port} is one of {INBOUND_LISTENERS} as well")))
            }
            None => Ok(self),
        }
    }
}

/// Defaults of the mesh for pods without capture are for those alone.
fn explicit<T: Default>(capture: Capture, listeners: T) -> T {
    if capture == Capture::None { listeners } else { T::default() }
}

/// The flags of `redirect install` that differ from its defaults.
fn redirect(said: &Said<'_>, capture: Capture) -> Result<Vec<(&'static str, String)>, Refused> {
    let mut flags = vec![
        ("--skip-inbound-ports", said.read(SKIP_INBOUND_PORTS, values::ports)?),
        ("--capture-inbound-ports", said.read(CAPTURE_INBOUND_PORTS, values::ports)?),
        ("--skip-outbound-ports", said.read(SKIP_OUTBOUND_PORTS, values::ports)?),
        ("--skip-outbound-cidrs", said.read(SKIP_OUTBOUND_CIDRS, values::cidrs)?),
        ("--skip-uids", said.read(SKIP_UIDS, values::uids)?),
    ];
    if capture == Capture::Tproxy {
        flags.push(("--inbound-mode", "tproxy".to_owned()));
    }
    for (flag, name) in [("--backend", REDIRECT_BACKEND), ("--ip-families", IP_FAMILIES)] {
        if !said.is(name, "auto") {
            flags.push((flag, said.get(name).to_owned()));
        }
    }
    flags.retain(|(_, value)| !value.is_empty());
    Ok(flags)
}

/// Below the grace period, for after it the kubelet kills whatever is left.
fn drain(said: &Said<'_>) -> Result<u64, Refused> {
    const DEFAULT_GRACE: u64 = 30;
    /// For what comes after draining: the last write, the exit.
    const REST: u64 = 5;
    let grace = said.template["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(DEFAULT_GRACE);
    let longest = grace.saturating_sub(1).max(1);
    let own = tree::annotation(said.template, DRAIN_TIMEOUT).is_some();
    match said.read(DRAIN_TIMEOUT, |v| values::seconds(v, 1, 86_400))? {
        0 => Ok(grace.saturating_sub(REST).max(1)),
        asked if own && asked > longest => Err(setting(
            DRAIN_TIMEOUT,
            format!(
                "{asked} s is not below terminationGracePeriodSeconds ({grace}), when the pod is killed: write {longest}s or less, or give \
                 the pod more time"
            ),
        )),
        asked => Ok(asked.min(longest)),
    }
}

fn resources(said: &Said<'_>) -> Result<Resources, Refused> {
    // With resources of the pod as a whole, those of its containers may not exceed them together: only what the pod itself says is set.
    let of_pod = tree::says(&said.template["spec"], "resources").is_some();
    let quantity = |name: &str| {
        if of_pod && tree::annotation(said.template, name).is_none() {
            return Ok(None);
        }
        said.read(name, values::quantity)
    };
    let cpu = (quantity(CPU_REQUEST)?, quantity(CPU_LIMIT)?);
    let memory = (quantity(MEMORY_REQUEST)?, quantity(MEMORY_LIMIT)?);
    Ok(Resources {
        cpu: ordered(said, cpu, (CPU_REQUEST, CPU_LIMIT))?,
        memory: ordered(said, memory, (MEMORY_REQUEST, MEMORY_LIMIT))?,
    })
}

type Pair = (Option<Quantity>, Option<Quantity>);

/// A request above its limit is refused if the pod says both, and gives way to the one that it says otherwise.
fn ordered(said: &Said<'_>, pair: Pair, names: (&str, &str)) -> Result<Pair, Refused> {
    let (Some(request), Some(limit)) = &pair else { return Ok(pair) };
    if !request.exceeds(limit) {
        return Ok(pair);
    }
    let own = |name| tree::annotation(said.template, name).is_some();
    match (own(names.0), own(names.1)) {
        (true, false) => Ok((Some(request.clone()), Some(request.clone()))),
        (false, true) => Ok((Some(limit.clone()), Some(limit.clone()))),
        _ => Err(setting(names.0, format!("{} is above the limit {}: write at most that", request.text, limit.text))),
    }
}
