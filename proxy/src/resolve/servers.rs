//! Which name servers are asked.

use std::{
    env,
    net::{IpAddr, SocketAddr},
};

/// The environment variable that names other name servers than the system's.
const VARIABLE: &str = "OUTRIGGER_DNS_SERVERS";
/// More name servers than that make an answer later, not better.
const MAX_SERVERS: usize = 8;

/// Which name servers are asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Servers {
    /// Those of `/etc/resolv.conf`, with its search list and time-outs.
    #[default]
    System,
    /// These, for absolute names.
    These(Vec<SocketAddr>),
}

/// The variable does not name any.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE}={0:?} is not a list of at most {MAX_SERVERS} IP[:PORT], separated by commas")]
pub struct WrongServers(String);

impl Servers {
    /// Those of `OUTRIGGER_DNS_SERVERS`, or the system's where it is not set or empty.
    ///
    /// # Errors
    /// It is set and not understood.
    pub fn from_env() -> Result<Self, WrongServers> {
        match env::var_os(VARIABLE) {
            Some(value) => Self::parse(&value.to_string_lossy()),
            None => Ok(Self::System),
        }
    }

    fn parse(text: &str) -> Result<Self, WrongServers> {
        if text.trim().is_empty() {
            return Ok(Self::System);
        }
        let server = |item: &str| {
            let item = item.trim();
            item.parse().or_else(|_| item.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)))
        };
        let servers: Result<Vec<_>, _> = text.split(',').map(server).collect();
        match servers {
            Ok(servers) if servers.len() <= MAX_SERVERS => Ok(Self::These(servers)),
            _ => Err(WrongServers(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_understood() {
        let these = |list: &[&str]| Ok(Servers::These(list.iter().map(|a| a.parse().unwrap()).collect()));
        assert_eq!(Servers::parse(" "), Ok(Servers::System));
        assert_eq!(Servers::parse("127.0.0.1:5353"), these(&["127.0.0.1:5353"]));
        assert_eq!(Servers::parse("10.0.0.1, ::1,[::1]:54"), these(&["10.0.0.1:53", "[::1]:53", "[::1]:54"]));
        for wrong in ["dns.example", "1.1.1.1,", "1.1.1.1:x"] {
            assert!(Servers::parse(wrong).is_err(), "{wrong}");
        }
    }
}
