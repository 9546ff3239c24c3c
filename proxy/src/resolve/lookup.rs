//! Asks name servers: one question in, records or the reason for none out.
//!
//! Both address families are asked for at once, and one that answers is enough. `/etc/hosts` and
//! `localhost` come first. Nothing is cached here: the schedule of the caller is the cache.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::pin,
    time::Duration,
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RData, RecordType},
    },
    system_conf::read_system_conf,
};
use tokio::time::timeout;

use super::{
    names::candidates,
    policy::{self, Answer, Found, MAX_ENDPOINTS, Miss, Records, Service},
    servers::Servers,
};
use crate::error::Reason;

/// What `/etc/hosts` says holds this long: the file is local and cheap to read again.
const HOSTS_TTL: Duration = Duration::from_secs(10);
/// How long the second address family may take once the first has answered.
const GRACE: Duration = Duration::from_millis(300);
/// Time-out of one question to a server of the environment variable, of which there are usually one.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(1);
/// Most targets of one SRV name that are resolved.
const MAX_TARGETS: usize = 64;

/// A client of the name servers.
pub(super) struct Lookup {
    client: TokioResolver,
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
}

impl Lookup {
    /// A client of `servers`. Reads the system's files.
    pub(super) fn new(servers: &Servers) -> Result<Self, String> {
        let (config, mut options) = match servers {
            Servers::System => read_system_conf().map_err(|e| format!("cannot use /etc/resolv.conf: {e}"))?,
            Servers::These(servers) => {
                let mut options = ResolverOpts::default();
                options.timeout = QUESTION_TIMEOUT;
                (ResolverConfig::from_name_servers(servers.iter().map(name_server).collect()), options)
            }
        };
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let (search, ndots) = (config.search().to_vec(), options.ndots);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let client = builder.with_options(options).build().map_err(|e| format!("cannot ask name servers: {e}"))?;
        let hosts = Hosts::from_system().unwrap_or_default();
        Ok(Self { client, hosts, search, ndots })
    }

    /// The addresses of `name`, those first that have a route.
    pub(super) async fn addresses(&self, name: &str) -> Found<IpAddr> {
        if let Ok(ip) = name.parse() {
            return Ok(Records { list: vec![ip], ttl: Duration::MAX });
        }
        let name = parse(name)?;
        let mut found = match self.local(&name) {
            Some(found) => found,
            None => self.search(&name, |name| self.both(name)).await?,
        };
        found.list = routable(found.list);
        Ok(found)
    }

    /// The endpoints of an SRV name.
    pub(super) async fn services(&self, name: &str) -> Answer {
        let found = match parse(name) {
            Ok(name) => self.search(&name, |name| self.one(name, RecordType::SRV)).await,
            Err(miss) => Err(miss),
        };
        match found {
            Ok(records) => self.targets(records).await,
            Err(miss) => miss.into(),
        }
    }

    /// Resolves the targets of SRV records, each name once.
    async fn targets(&self, records: Records<RData>) -> Answer {
        let mut ttl = records.ttl;
        let mut services = Vec::new();
        let mut missed: Option<Miss> = None;
        let mut known: Vec<(Name, Vec<IpAddr>)> = Vec::new();
        let mut list: Vec<_> =
            records.list.into_iter().filter_map(|r| if let RData::SRV(s) = r { Some(s) } else { None }).collect();
        // A target of "." says that there is decidedly no such service (RFC 2782).
        list.retain(|s| !s.target.is_root());
        list.sort_by_key(|s| s.priority);
        for srv in list.into_iter().take(MAX_TARGETS) {
            let addresses = match known.iter().find(|(name, _)| *name == srv.target) {
                Some((_, addresses)) => addresses.clone(),
                None => match self.target(&srv.target).await {
                    Ok(found) => {
                        ttl = ttl.min(found.ttl);
                        known.push((srv.target.clone(), found.list.clone()));
                        found.list
                    }
                    Err(miss) => {
                        missed = Some(match missed {
                            Some(other) => other.or(miss),
                            None => miss,
                        });
                        known.push((srv.target.clone(), Vec::new()));
                        Vec::new()
                    }
                },
            };
            services.push(Service { priority: srv.priority, weight: srv.weight, port: srv.port, addresses });
            if services.iter().map(|s| s.addresses.len()).sum::<usize>() > MAX_ENDPOINTS {
                break;
            }
        }
        match missed {
            // Not "nothing": the missing answer might have named the whole group.
            Some(Miss::Failed { reason, details }) if services.iter().all(|s| s.addresses.is_empty()) => {
                Answer::Failed { reason, details }
            }
            _ => policy::services(Ok(Records { list: services, ttl })),
        }
    }

    async fn target(&self, name: &Name) -> Found<IpAddr> {
        match self.local(name) {
            Some(found) => Ok(found),
            None => self.both(name.clone()).await,
        }
    }

    /// What this machine knows itself.
    fn local(&self, name: &Name) -> Option<Records<IpAddr>> {
        let mut list = Vec::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            if let Some(found) = self.hosts.lookup_static_host(&Query::query(name.clone(), kind)) {
                list.extend(found.answers().iter().filter_map(|r| r.data.ip_addr()));
            }
        }
        if list.is_empty() && name.is_localhost() {
            list = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        (!list.is_empty()).then_some(Records { list, ttl: HOSTS_TTL })
    }

    /// Asks for each name that `name` may mean until one is there. A server that does not answer for one
    /// ends the search: the next might be a stranger of the same first label.
    async fn search<T, F>(&self, name: &Name, ask: impl Fn(Name) -> F) -> Found<T>
    where
        F: Future<Output = Found<T>>,
    {
        let mut missed: Option<Miss> = None;
        for candidate in candidates(name, &self.search, self.ndots) {
            let miss = match ask(candidate).await {
                Ok(found) => return Ok(found),
                Err(miss) => miss,
            };
            let timeout = matches!(miss, Miss::Failed { reason: Reason::DnsTimeout, .. });
            missed = Some(match missed {
                Some(other) => other.or(miss),
                None => miss,
            });
            if timeout {
                break;
            }
        }
        Err(missed.unwrap_or_else(|| Miss::Failed { reason: Reason::DnsError, details: "no name to ask for".into() }))
    }

    /// A and AAAA records of one absolute name.
    async fn both(&self, name: Name) -> Found<IpAddr> {
        let mut v4 = pin!(self.one(name.clone(), RecordType::A));
        let mut v6 = pin!(self.one(name, RecordType::AAAA));
        let (first, second) = tokio::select! {
            first = &mut v4 => if first.is_ok() {
                (first, timeout(GRACE, v6).await.ok())
            } else {
                (first, Some(v6.await))
            },
            first = &mut v6 => if first.is_ok() {
                (first, timeout(GRACE, v4).await.ok())
            } else {
                (first, Some(v4.await))
            },
        };
        let (list, ttl) = match (first, second) {
            (Ok(a), Some(Ok(b))) => (a.list.into_iter().chain(b.list).collect(), a.ttl.min(b.ttl)),
            (Ok(one), _) | (_, Some(Ok(one))) => (one.list, one.ttl),
            (Err(a), Some(Err(b))) => return Err(a.or(b)),
            (Err(a), None) => return Err(a),
        };
        let list: Vec<RData> = list;
        Ok(Records { list: list.iter().filter_map(RData::ip_addr).collect(), ttl })
    }

    /// Records of one kind of one absolute name.
    async fn one(&self, name: Name, kind: RecordType) -> Found<RData> {
        let lookup = self.client.lookup(name.clone(), kind).await.map_err(|e| miss(&name, kind, &e))?;
        let ttl = lookup.answers().iter().map(|r| r.ttl).min().map(|s| Duration::from_secs(s.into()));
        let right = lookup.answers().iter().filter(|r| r.record_type() == kind);
        let list: Vec<_> = right.map(|r| r.data.clone()).collect();
        match ttl {
            Some(ttl) if !list.is_empty() => Ok(Records { list, ttl }),
            _ => Err(Miss::Nothing { ttl, details: format!("{name} has no {kind} record") }),
        }
    }
}

fn parse(name: &str) -> Result<Name, Miss> {
    Name::from_str_relaxed(name)
        .map_err(|e| Miss::Failed { reason: Reason::DnsError, details: format!("{name:?} is no name: {e}") })
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn miss(name: &Name, kind: RecordType, error: &NetError) -> Miss {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let what = if error.is_nx_domain() { "does not exist".into() } else { format!("has no {kind} record") };
            let ttl = none.negative_ttl.map(|s| Duration::from_secs(s.into()));
            Miss::Nothing { ttl, details: format!("{name} {what}") }
        }
        NetError::Timeout => {
            Miss::Failed { reason: Reason::DnsTimeout, details: format!("no name server answers for {name}") }
        }
        error => Miss::Failed { reason: Reason::DnsError, details: format!("{name}: {error}") },
    }
}

/// Leaves out addresses without a route, if others have one (RFC 6724, rule 1): on a machine without IPv6
/// each AAAA record would be a connection that must fail. Connecting a UDP socket asks the routing table
/// and sends nothing.
fn routable(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let routed = |ip: &IpAddr| {
        let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let connected = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((*ip, 9)));
        !connected.is_err_and(|e| {
            matches!(
                e.kind(),
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::AddrNotAvailable
            ) || e.raw_os_error() == Some(libc::EAFNOSUPPORT)
        })
    };
    let (good, bad): (Vec<_>, Vec<_>) = addresses.into_iter().take(MAX_ENDPOINTS).partition(routed);
    if good.is_empty() { bad } else { good }
}
