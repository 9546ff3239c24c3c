//! The explanation for people: one fact per line, indented under what it belongs to, and at the end of
//! the line where it was written.

use std::fmt;

use super::{AccessPart, BackendPart, CausePart, DecisionPart, Explanation, PolicyPart};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        let grpc = if request.grpc { " (gRPC)" } else { "" };
        writeln!(f, "request   {} {}{}{grpc}", request.method, request.authority, request.target)?;
        if let Some(normal) = &request.normal {
            writeln!(f, "  normal  {normal}")?;
        }
        writeln!(f, "  from    {}", request.from.as_deref().unwrap_or("a caller without an identity"))?;
        let l = &self.listener;
        let about = format!("{}, {}, protocol {}, mtls {}", l.address, l.direction, l.protocol, l.mtls);
        writeln!(f, "listener  {} ({about})  [{}]", l.name, l.origin)?;
        match &self.upstream {
            Some(upstream) => writeln!(f, "upstream  {}: {}  [{}]", upstream.name, upstream.why, upstream.origin)?,
            None => writeln!(f, "upstream  none")?,
        }
        if let Some(access) = &self.access {
            write_access(f, access)?;
        }
        match &self.route {
            Some(r) => {
                writeln!(f, "route     {} {}, rule {}  [{}]", r.kind, r.name, r.rule, r.origin)?;
                writeln!(f, "  matched {}", r.matched)?;
            }
            None if self.policy.is_some() => writeln!(f, "route     none; the upstream has no routes")?,
            None => writeln!(f, "route     none")?,
        }
        for filter in &self.filters {
            writeln!(f, "  {filter}")?;
        }
        if let Some(policy) = &self.policy {
            write_policy(f, "", "policy   ", policy)?;
        }
        for decision in &self.decisions {
            write_decision(f, decision)?;
        }
        for backend in &self.backends {
            write_backend(f, backend, self.policy.as_ref())?;
        }
        match &self.answer {
            Some(answer) => {
                let token = answer.token.unwrap_or("no error");
                writeln!(f, "answer    {} {token}: {}", answer.status, answer.details)
            }
            None => writeln!(f, "answer    that of the upstream"),
        }
    }
}

fn write_access(f: &mut fmt::Formatter<'_>, access: &AccessPart) -> fmt::Result {
    write!(f, "access    {}: {}", access.verdict, access.why)?;
    write_cause(f, access.cause.as_ref())?;
    if let Some(observed) = &access.observed {
        write!(f, "  AccessPolicy {} only observes; enforced, it would refuse", observed.policy)?;
        write_cause(f, Some(observed))?;
    }
    Ok(())
}

fn write_cause(f: &mut fmt::Formatter<'_>, cause: Option<&CausePart>) -> fmt::Result {
    match cause {
        Some(cause) => writeln!(f, "  [{}]", cause.origin),
        None => writeln!(f),
    }
}

fn write_policy(f: &mut fmt::Formatter<'_>, indent: &str, label: &str, policy: &PolicyPart) -> fmt::Result {
    write!(f, "{indent}{label} {} ({})", policy.name, policy.mode)?;
    match &policy.origin {
        Some(origin) => writeln!(f, "  [{origin}]")?,
        None => writeln!(f, "  [built in]")?,
    }
    for (name, value) in &policy.settings {
        writeln!(f, "{indent}  {name}: {value}")?;
    }
    Ok(())
}

fn write_decision(f: &mut fmt::Formatter<'_>, decision: &DecisionPart) -> fmt::Result {
    write!(f, "decided   {}: {} wins", decision.subject, decision.winner)?;
    match &decision.origin {
        Some(origin) => writeln!(f, "  [{origin}]")?,
        None => writeln!(f)?,
    }
    for loser in &decision.losers {
        writeln!(f, "  {} loses: {}  [{}]", loser.name, loser.why, loser.origin)?;
    }
    Ok(())
}

fn write_backend(f: &mut fmt::Formatter<'_>, backend: &BackendPart, request: Option<&PolicyPart>) -> fmt::Result {
    let share = format!("weight {}, {}%", backend.weight, backend.percent);
    writeln!(f, "backend   {} ({share})  [{}]", backend.upstream, backend.origin)?;
    for filter in &backend.filters {
        writeln!(f, "  {filter}")?;
    }
    writeln!(f, "  protocol {}, tls {}", backend.protocol, backend.tls)?;
    if let Some(breaker) = &backend.breaker {
        writeln!(f, "  breaker {breaker}")?;
    }
    if let Some(limits) = &backend.limits {
        writeln!(f, "  limits {limits}")?;
    }
    // Most often it is the same; twice would hide the rest.
    if request != Some(&backend.policy) {
        write_policy(f, "  ", "policy", &backend.policy)?;
    }
    writeln!(f, "  from {}", backend.source)?;
    match backend.endpoints.as_deref() {
        None => writeln!(f, "  endpoints are known to the running proxy only"),
        Some([]) => writeln!(f, "  no endpoint"),
        Some(endpoints) => endpoints.iter().try_for_each(|endpoint| {
            write!(f, "  endpoint {} (weight {}", endpoint.address, endpoint.weight)?;
            if let Some(zone) = &endpoint.zone {
                write!(f, ", zone {zone}")?;
            }
            match &endpoint.state {
                Some(state) => writeln!(f, ", {state})"),
                None => writeln!(f, ")"),
            }
        }),
    }
}
