//! What a tapper wants to see: the query of `/tap`.
//!
//! Different parameters are all to hold, the values of one parameter are alternatives. What is not known is an
//! error with the list of what is, because a filter that is silently ignored shows what nobody asked for.

use http::Method;
use outrigger_config::{matching::names_alike, model::Direction};

use crate::http::RequestHead;

/// Requests per second that a tap shows unless it says otherwise: more than anybody reads.
pub const DEFAULT_RATE: u32 = 100;

/// The most that a tap may ask for: at some 10 µs for the three lines of a request, 1 % of a worker.
pub const MAX_RATE: u32 = 1_000;

/// Values of one parameter, and header names to show: more than anybody types.
const MOST: usize = 32;

/// The parameters.
const PARAMETERS: &str =
    "direction, upstream, route, method, path, status, peer, header, show-header, sample, rate, max";

/// What a tapper has asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Which requests.
    pub filter: Filter,
    /// Headers, in lower case, whose values are shown though they are secret.
    pub show: Vec<String>,
    /// Requests per second, all workers together; 1 to [`MAX_RATE`].
    pub rate: u32,
    /// The tap ends after this many requests; `None`: it does not.
    pub max: Option<u64>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    direction: Option<Direction>,
    upstreams: Vec<String>,
    routes: Vec<String>,
    methods: Vec<Method>,
    /// Prefixes.
    paths: Vec<String>,
    /// First and last.
    statuses: Vec<(u16, u16)>,
    /// Identities; what ends in `*` is a prefix. Empty: without one.
    peers: Vec<String>,
    /// Name, and a part of the value.
    headers: Vec<(String, Option<String>)>,
    /// Share of the requests, 0 to 1.
    sample: f64,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            direction: None,
            upstreams: Vec::new(),
            routes: Vec::new(),
            methods: Vec::new(),
            paths: Vec::new(),
            statuses: Vec::new(),
            peers: Vec::new(),
            headers: Vec::new(),
            sample: 1.0,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { filter: Filter::default(), show: Vec::new(), rate: DEFAULT_RATE, max: None }
    }
}

impl Settings {
    /// Reads the parameters of a query.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut settings = Self::default();
        for (name, value) in pairs {
            settings.set(name, value)?;
        }
        let filter = &settings.filter;
        let lists = [filter.upstreams.len(), filter.routes.len(), filter.methods.len(), filter.paths.len()];
        let more = [filter.statuses.len(), filter.peers.len(), filter.headers.len(), settings.show.len()];
        if lists.into_iter().chain(more).any(|n| n > MOST) {
            return Err(format!("a parameter may have {MOST} values at most"));
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let filter = &mut self.filter;
        let own = value.to_owned();
        match name {
            "direction" => filter.direction = Some(direction(value)?),
            "upstream" => filter.upstreams.push(own),
            "route" => filter.routes.push(own),
            "method" => filter.methods.push(method(value)?),
            "path" if value.starts_with('/') => filter.paths.push(own),
            "path" => return Err(format!("path={value:?}: the beginning of a path begins with /")),
            "status" => filter.statuses.push(status(value)?),
            "peer" => filter.peers.push(own),
            "header" => {
                let (name, part) = value.split_once(':').map_or((value, None), |(n, v)| (n, Some(v.trim().to_owned())));
                filter.headers.push((header(name)?, part));
            }
            "show-header" => self.show.push(header(value)?),
            "sample" => filter.sample = number(name, value, 0.0..=1.0)?,
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
            "rate" => self.rate = number(name, value, 1.0..=f64::from(MAX_RATE))? as u32,
            "max" => {
                let wanted = value.parse().map_err(|_| format!("max={value:?}: write a number of requests"))?;
                self.max = (wanted > 0).then_some(wanted);
            }
            _ => return Err(format!("{name:?} is no parameter; there are: {PARAMETERS}")),
        }
        Ok(())
    }

    /// True if the value of this header is shown whatever it is.
    #[must_use]
    pub fn shows(&self, name: &[u8]) -> bool {
        self.show.iter().any(|n| names_alike(name, n.as_bytes()))
    }
}

impl Filter {
    /// What is known when a request comes: false if it cannot be wanted.
    pub(super) fn may_want(&self, direction: Direction, head: &RequestHead, peer: Option<&str>) -> bool {
        let any = |empty: bool, found: bool| empty || found;
        self.direction.is_none_or(|d| d == direction)
            && any(self.methods.is_empty(), self.methods.contains(&head.method))
            && any(self.paths.is_empty(), self.paths.iter().any(|p| head.path().starts_with(&**p)))
            && any(self.peers.is_empty(), self.peers.iter().any(|p| fits(p, peer.unwrap_or_default())))
            && self.headers.iter().all(|(name, part)| has(head, name, part.as_deref()))
    }

    /// True for a share of the requests; `random` is in 0 to 1.
    pub(super) fn samples(&self, random: f64) -> bool {
        random < self.sample || self.sample >= 1.0
    }

    /// True if a status is asked for: nothing can be said before there is one.
    pub(super) fn asks_status(&self) -> bool {
        !self.statuses.is_empty()
    }

    /// What is known later; `status` 0: there is none.
    pub(super) fn wants(&self, upstream: &str, route: &str, status: u16) -> bool {
        (self.upstreams.is_empty() || self.upstreams.iter().any(|u| fits(u, upstream)))
            && (self.routes.is_empty() || self.routes.iter().any(|r| fits(r, route)))
            && (self.statuses.is_empty()
                || self.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status)))
    }
}

/// The same, or what begins as `pattern` does, without its `*`.
fn fits(pattern: &str, value: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == value, |prefix| value.starts_with(prefix))
}

/// Different names are all to be there; of several fields of one name, one suffices.
fn has(head: &RequestHead, name: &str, part: Option<&str>) -> bool {
    let holds =
        |value: &[u8]| part.is_none_or(|p| value.windows(p.len().max(1)).any(|w| w == p.as_bytes()) || p.is_empty());
    match name {
        "host" => holds(head.authority.as_bytes()),
        _ => head.headers.all(name.as_bytes()).any(holds),
    }
}

fn direction(text: &str) -> Result<Direction, String> {
    match text {
        "inbound" => Ok(Direction::Inbound),
        "outbound" => Ok(Direction::Outbound),
        _ => Err(format!("direction={text:?}: write inbound or outbound")),
    }
}

fn method(text: &str) -> Result<Method, String> {
    text.to_ascii_uppercase().parse().map_err(|_| format!("method={text:?} is no method"))
}

fn header(name: &str) -> Result<String, String> {
    let name = name.trim();
    let name: Result<http::HeaderName, _> = name.parse();
    name.map(|n| n.as_str().to_owned()).map_err(|_| "a header is NAME or NAME:PART-OF-ITS-VALUE".to_owned())
}

/// `503`, `5xx`, `500-504`, `none`.
fn status(text: &str) -> Result<(u16, u16), String> {
    let wrong = || format!("status={text:?}: write 503, 5xx, 500-504, or none (no answer was sent)");
    let whole = |t: &str| t.parse::<u16>().ok().filter(|n| (100..=999).contains(n));
    if text == "none" {
        return Ok((0, 0));
    }
    if let Some(class) = text.to_ascii_lowercase().strip_suffix("xx") {
        let class = class.parse::<u16>().ok().filter(|c| (1..=5).contains(c)).ok_or_else(wrong)?;
        return Ok((class * 100, class * 100 + 99));
    }
    match text.split_once('-') {
        Some((first, last)) => {
            let range = whole(first).zip(whole(last)).ok_or_else(wrong)?;
            if range.0 <= range.1 { Ok(range) } else { Err(wrong()) }
        }
        None => whole(text).map(|n| (n, n)).ok_or_else(wrong),
    }
}

fn number(name: &str, text: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let found = text.parse::<f64>().ok().filter(|n| range.contains(n));
    found.ok_or_else(|| format!("{name}={text:?}: write a number from {} to {}", range.start(), range.end()))
}
