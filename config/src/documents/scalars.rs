//! The scalars of documents: strings of a certain form.
//!
//! Each form stands once, in [`FORMATS`]: the pattern that schemas publish, and the check that gives the message.
//! The newtypes parse what passes the check. `check` runs the check at the node, so no newtype refuses what it passed.

use std::{borrow::Cow, fmt, net::SocketAddr, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A form of strings.
pub(crate) struct Format {
    /// As types name it in `format`.
    pub(crate) name: &'static str,
    /// For published schemas; RE2 and ECMA agree on it. Looser than the check where a regex cannot say it.
    pub(crate) pattern: &'static str,
    /// What is wrong, and what would be right.
    pub(crate) check: fn(&str) -> Result<(), String>,
    /// For a faulty one, where a newtype refuses its text: it meets no other, and breaks no bound.
    pub(crate) stand_in: Option<&'static str>,
}

impl Format {
    const fn new(name: &'static str, pattern: &'static str, check: fn(&str) -> Result<(), String>) -> Self {
        Self { name, pattern, check, stand_in: None }
    }
}

/// Every form there is.
pub(crate) const FORMATS: &[Format] = &[
    Format {
        name: "gep-2257",
        pattern: "^([0-9]{1,5}(h|m|s|ms)){1,4}$",
        check: |s| s.parse::<Duration>().map(drop),
        stand_in: Some("0s"),
    },
    Format {
        name: "socket-address",
        pattern: r"^([0-9.]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$",
        check: check_address,
        // Of a network for examples (RFC 5737); with port 0 it conflicts with nothing.
        stand_in: Some("192.0.2.1:0"),
    },
    Format::new("cidr", "^[0-9a-fA-F:.]+/[0-9]{1,3}$", check_cidr),
    Format::new("spiffe-id", "^spiffe://[a-z0-9._-]{1,255}(/[a-zA-Z0-9._-]+)+$", check_spiffe_id),
    Format::new("object-name", "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", check_object_name),
    Format::new("header-name", "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$", check_header_name),
    Format::new("http-method", "^[A-Z][A-Z0-9_-]{0,31}$", check_method),
    Format::new("hostname", r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", |s| {
        check_hostname(s, true, false)
    }),
    Format::new("precise-hostname", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", |s| {
        check_hostname(s, false, false)
    }),
    Format::new(
        "host-and-port",
        r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*(:[0-9]{1,5})?$",
        |s| check_hostname(s, true, true),
    ),
    Format::new("server", r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$", check_server),
    Format::new("dns-name", r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$", check_dns_name),
    Format::new("http-url", "^https?://[^/ ]+(/[^ ]*)?$", check_http_url),
    Format::new("rate-limit-key", "^(client|all|header:[A-Za-z0-9!#$%&'*+.^_`|~-]+)$", check_rate_key),
];

/// `HOST:PORT`, the host a name or an IP address.
fn check_server(text: &str) -> Result<(), String> {
    let wrong = || {
        let text = crate::yaml::excerpt(text);
        Err(format!("`{text}` is no host with a port, such as `consul.internal:8500`, `10.0.0.7:2379` or `[::1]:2181`"))
    };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { wrong() } else { Ok(()) };
    }
    let Some((host, port)) = text.rsplit_once(':') else { return wrong() };
    if port.parse::<u16>().is_ok_and(|port| port > 0) { check_hostname(host, false, false) } else { wrong() }
}

/// A GEP-2257 duration: `1h30m`, `250ms`. `0s` disables what it is set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let mut hint = "write it as `1h30m`, `10s` or `250ms` (GEP-2257)";
            if text == "0" {
                hint = "write `0s`";
            } else if text.contains('.') {
                hint = "no fractions: write `1500ms` for 1.5 s (GEP-2257)";
            } else if text.contains("us") || text.contains('µ') || text.contains("ns") {
                hint = "a millisecond is the smallest unit (GEP-2257)";
            } else if text.ends_with('d') {
                hint = "an hour is the largest unit (GEP-2257)";
            }
            format!("`{}` is not a duration: {hint}", crate::yaml::excerpt(text))
        };
        let (mut rest, mut millis, mut parts) = (text, 0u64, 0);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let unit = if tail.starts_with("ms") { 2 } else { tail.len().min(1) };
            let scale = match tail.get(..unit) {
                Some("h") => 3_600_000,
                Some("m") => 60_000,
                Some("s") => 1_000,
                Some("ms") => 1,
                _ => return Err(wrong()),
            };
            parts += 1;
            if digits == 0 || digits > 5 || parts > 4 {
                return Err(wrong());
            }
            // Five digits of hours, four times over, are far below 2^64 milliseconds.
            millis += number.parse::<u64>().map_err(|_| wrong())? * scale;
            rest = &tail[unit..];
        }
        match millis {
            _ if parts == 0 => Err(wrong()),
            // So that the canonical form always fits the pattern.
            n if n > 99_999 * 3_600_000 => Err(format!("`{text}` is longer than 99999h")),
            n => Ok(Self(std::time::Duration::from_millis(n))),
        }
    }
}

impl fmt::Display for Duration {
    /// The canonical form: largest units first, none of them zero, parts below a millisecond dropped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        let parts = [
            (millis / 3_600_000, "h"),
            (millis / 60_000 % 60, "m"),
            (millis / 1_000 % 60, "s"),
            (millis % 1_000, "ms"),
        ];
        parts.iter().filter(|(n, _)| *n > 0).try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

/// An IP address and a port: `127.0.0.1:8080`, `[::1]:8080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!(
                "`{}` is not an IP address with a port, such as `127.0.0.1:8080` or `[::1]:8080`",
                crate::yaml::excerpt(text)
            )
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What serde and schemars need of a scalar that is printed and parsed as a string of one [`Format`].
macro_rules! scalar {
    ($type:ty, $format:literal, $name:literal, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "description": $description })
            }
        }
    };
}

scalar!(Duration, "gep-2257", "Duration", "A duration such as `1h30m` or `250ms`; `0s` disables.");
scalar!(Address, "socket-address", "Address", "An IP address and a port.");

fn check_address(text: &str) -> Result<(), String> {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    if !host.is_empty() && host.bytes().any(|b| b.is_ascii_alphabetic()) && !host.contains([':', '[']) {
        let text = crate::yaml::excerpt(text);
        return Err(format!(
            "`{text}` names a host; an IP address with a port belongs here (a name goes to `dns` of an Upstream)"
        ));
    }
    text.parse::<Address>().map(drop)
}

fn check_cidr(text: &str) -> Result<(), String> {
    text.parse::<ipnet::IpNet>().map(drop).map_err(|_| {
        let example = if text.parse::<std::net::IpAddr>().is_ok() {
            format!("{text}/{}", if text.contains(':') { 128 } else { 32 })
        } else {
            "10.0.0.0/8".into()
        };
        format!("`{}` is not an address range such as `{example}`", crate::yaml::excerpt(text))
    })
}

/// SPIFFE-ID 2: trust domain of lower-case letters, digits, `.-_`; a path of segments without escapes.
fn check_spiffe_id(text: &str) -> Result<(), String> {
    let shown = crate::yaml::excerpt(text);
    let fault = |why: &str| Err(format!("`{shown}` is not a SPIFFE ID: {why}"));
    let Some(rest) = text.strip_prefix("spiffe://") else {
        return fault("it starts with `spiffe://`, such as `spiffe://cluster.local/ns/shop/sa/web`");
    };
    if text.len() > 2048 {
        return fault("it is longer than 2048 bytes");
    }
    let Some((domain, path)) = rest.split_once('/') else {
        return fault("a path is missing, such as `/ns/shop/sa/web`");
    };
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(lower) {
        return fault("its trust domain has 1 to 255 of `a-z0-9._-`");
    }
    let segment =
        |s: &str| !matches!(s, "" | "." | "..") && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !path.split('/').all(segment) {
        return fault("each part of its path has one or more of `a-zA-Z0-9._-`, and is not `.` or `..`");
    }
    Ok(())
}

fn check_object_name(text: &str) -> Result<(), String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    if bytes.len() <= 253 && bytes.iter().all(|b| inner(*b)) && end(bytes.first()) && end(bytes.last()) {
        return Ok(());
    }
    let text = crate::yaml::excerpt(text);
    Err(format!("`{text}` is not a name: 1 to 253 of `a-z0-9-.`, with a letter or digit at both ends"))
}

fn check_header_name(text: &str) -> Result<(), String> {
    if text.len() <= 256 && !text.is_empty() && http::HeaderName::from_bytes(text.as_bytes()).is_ok() {
        return Ok(());
    }
    Err(format!("`{}` is not a header name (RFC 9110 5.1)", crate::yaml::excerpt(text)))
}

fn check_method(text: &str) -> Result<(), String> {
    let shown = crate::yaml::excerpt(text);
    if text.len() > 32 || http::Method::from_bytes(text.as_bytes()).is_err() {
        return Err(format!("`{shown}` is not an HTTP method"));
    }
    let upper = text.to_ascii_uppercase();
    if upper != text {
        return Err(format!("`{shown}` is not an HTTP method, which are case-sensitive: did you mean `{upper}`?"));
    }
    Ok(())
}

fn check_hostname(text: &str, wildcard: bool, port: bool) -> Result<(), String> {
    let shown = crate::yaml::excerpt(text);
    let (host, number) = match text.rsplit_once(':') {
        Some((host, number)) if port => (host, Some(number)),
        _ => (text, None),
    };
    if number.is_some_and(|n| !n.bytes().all(|b| b.is_ascii_digit()) || n.parse::<u16>().unwrap_or(0) == 0) {
        return Err(format!("`{shown}` has no port from 1 to 65535 behind its colon"));
    }
    let name = host.strip_prefix("*.").filter(|_| wildcard).unwrap_or(host);
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("`{shown}` is not a host name: write it in lower case, `{}`", shown.to_ascii_lowercase()));
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        let star = if wildcard { ", with `*.` before them for all names below" } else { "" };
        return Err(format!("`{shown}` is not a host name: labels of `a-z0-9-` between dots{star}"));
    }
    Ok(())
}

fn check_dns_name(text: &str) -> Result<(), String> {
    let label =
        |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    let port = if text.contains(':') { "; the port has a field of its own" } else { "" };
    Err(format!("`{}` is not a DNS name{port}", crate::yaml::excerpt(text)))
}

fn check_http_url(text: &str) -> Result<(), String> {
    let good = text
        .parse::<http::Uri>()
        .is_ok_and(|u| matches!(u.scheme_str(), Some("http" | "https")) && u.host().is_some_and(|h| !h.is_empty()));
    if good {
        Ok(())
    } else {
        Err(format!("`{}` is not a URL such as `http://127.0.0.1:4317`", crate::yaml::excerpt(text)))
    }
}

fn check_rate_key(text: &str) -> Result<(), String> {
    match text.strip_prefix("header:") {
        Some(name) => check_header_name(name),
        None if matches!(text, "client" | "all") => Ok(()),
        None => Err(format!("`{}` is none of `client`, `all` and `header:NAME`", crate::yaml::excerpt(text))),
    }
}
