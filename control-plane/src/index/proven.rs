//! At which ports of a meshed pod its proxy answers, and so proves who the pod is.
//!
//! Not at all of them: what the rules of its capture leave out goes to the app, and to call that with mutual TLS would be to
//! call it in a language that it does not speak. The rules are those of the capture container's arguments, which cannot change
//! during the life of a pod; where nothing is captured, the proxy answers where it listens in the app's place.

/// Admin port of proxies, and name resolution: never captured unless the latter is asked for by number.
const NEVER: [u16; 2] = [9990, 53];
/// Ranges of one list, as many as the capture container takes.
const MAX_RANGES: usize = 512;

/// Ports at which the proxy of a pod answers. The default: all but those that are never captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proven {
    only: Option<Box<[(u16, u16)]>>,
    skip: Box<[(u16, u16)]>,
}

impl Proven {
    /// As the arguments of `outrigger-proxy redirect install` say.
    #[must_use]
    pub fn captured<'a>(args: impl Iterator<Item = &'a str>) -> Self {
        let mut proven = Self::default();
        let mut args = args;
        while let Some(arg) = args.next() {
            let (flag, value) = match arg.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (arg, None),
            };
            match flag {
                "--skip-inbound-ports" => proven.skip = ranges(value.or_else(|| args.next())),
                "--capture-inbound-ports" => {
                    proven.only = Some(ranges(value.or_else(|| args.next()))).filter(|only| !only.is_empty());
                }
                _ => {}
            }
        }
        proven
    }

    /// As the list of ports says that the proxy listens on in the app's place: `8080=18080,...`.
    #[must_use]
    pub fn listed(listeners: &str) -> Self {
        let ports = listeners.split(',').filter_map(|entry| entry.split_once('=')?.0.trim().parse().ok());
        Self { only: Some(ports.map(|port| (port, port)).take(MAX_RANGES).collect()), skip: Box::default() }
    }

    /// Whether a connection to `port` gets to the proxy.
    #[must_use]
    pub fn has(&self, port: u16) -> bool {
        let among = |ranges: &[(u16, u16)]| ranges.iter().any(|(first, last)| (*first..=*last).contains(&port));
        let wanted = match &self.only {
            Some(only) => among(only) && port != NEVER[0],
            None => !NEVER.contains(&port),
        };
        wanted && !among(&self.skip)
    }
}

/// Ranges of a list that the capture container has taken; what it would not take is left out.
fn ranges(list: Option<&str>) -> Box<[(u16, u16)]> {
    let range = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    list.unwrap_or_default().split(',').filter_map(range).take(MAX_RANGES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_captured_proves_nothing() {
        let proven = |args: &str| Proven::captured(args.split(' '));
        let all = proven("redirect install");
        assert_eq!(all, Proven::default());
        assert!(all.has(8080) && all.has(9991) && !all.has(9990) && !all.has(53));
        let some = proven("redirect install --skip-inbound-ports 22,8000-8010 --skip-uids 7");
        assert!(some.has(80) && !some.has(22) && !some.has(8000) && !some.has(8010) && some.has(8011));
        let only = proven("redirect install --capture-inbound-ports=53,80,9900-9999 --skip-inbound-ports=80");
        assert!(only.has(53) && only.has(9989) && !only.has(9990) && !only.has(80) && !only.has(8080));
        assert_eq!(proven("redirect install --capture-inbound-ports "), Proven::default());
    }

    #[test]
    fn without_capture_the_proxy_answers_where_it_listens() {
        let proven = Proven::listed("8080=18080, 9000=19000");
        assert!(proven.has(8080) && proven.has(9000) && !proven.has(18080) && !proven.has(80));
        assert!(!Proven::listed("").has(8080));
    }
}
