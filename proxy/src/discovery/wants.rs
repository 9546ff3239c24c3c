//! What this proxy has asked for: the destinations that its app talks to, who waits for them, and when they were last used.
//!
//! Bounded: past `MAX_WANTS` the one that was not used for the longest goes. What nobody has used for a while goes too,
//! so that memory, and what the control plane pushes, follow what the app does today. Names outside the mesh are
//! resolved here, by the system's own resolver, because that is what the app would have asked.

use std::{collections::HashMap, future::pending, net::SocketAddr, sync::Arc, time::Duration};

use outrigger_config::model::Endpoint;
use tokio::{
    net::lookup_host,
    sync::oneshot,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{Verdict, directory::Entry};

/// Destinations at once: each costs about half a kilobyte here and a subscription there. An app that talks to more of them
/// within minutes is a crawler, which loses nothing but a lookup.
const MAX_WANTS: usize = 4096;
/// Connections that wait for one destination; more go on at once.
const MAX_WAITERS: usize = 1024;
/// A destination that is not answered for so long is not waited for any more.
const LATE: Duration = Duration::from_secs(1);
/// How long the addresses of a name are believed: the system's resolver tells no TTL, and this is that of most services.
const TTL: Duration = Duration::from_secs(30);
/// And how long it is believed that there are none.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// Bound of one lookup.
const LOOKUP: Duration = Duration::from_secs(5);
/// Lookups at once: each is a thread that waits.
const MAX_LOOKUPS: usize = 32;
/// Addresses of one name that are kept.
const MAX_ADDRESSES: usize = 16;

/// See the module.
pub struct Wants {
    all: HashMap<String, Want>,
    idle: Duration,
    lookups: JoinSet<Resolved>,
}

struct Want {
    entry: Option<Arc<Entry>>,
    waiters: Vec<oneshot::Sender<()>>,
    used: Instant,
    asked: Instant,
    outside: Outside,
}

/// What a name stands for outside the mesh.
#[derive(Default)]
struct Outside {
    found: Option<Found>,
    looking: bool,
}

struct Found {
    endpoints: Arc<[Arc<Endpoint>]>,
    until: Instant,
}

/// What a name resolves to.
pub struct Resolved {
    key: String,
    addresses: Option<Vec<SocketAddr>>,
}

/// What became of a question.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// It must be subscribed to.
    pub new: bool,
    /// It took the place of this one.
    pub evicted: Option<String>,
}

impl Wants {
    /// Of which those go that are without use for `idle`.
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        Self { all: HashMap::new(), idle, lookups: JoinSet::new() }
    }

    /// Somebody needs `key`, and is told by `done` when it is known or not worth waiting for.
    pub fn ask(&mut self, key: &str, done: oneshot::Sender<()>, connected: bool, now: Instant) -> Asked {
        let mut asked = Asked::default();
        if !self.all.contains_key(key) {
            asked.evicted = self.make_room();
            asked.new = true;
            self.restore(key, now);
        }
        let named = is_name(key);
        if !connected && named {
            self.look_up(key);
        }
        let Some(want) = self.all.get_mut(key) else { return asked };
        want.used = now;
        let late = now.saturating_duration_since(want.asked) >= LATE;
        let looking = want.outside.looking;
        let worth = want.entry.is_none() && want.waiters.len() < MAX_WAITERS;
        let comes = looking || (connected && !late);
        if worth && comes {
            want.waiters.push(done);
        } else {
            tell(done);
        }
        asked
    }

    /// Wants `key` without anybody who waits.
    pub fn restore(&mut self, key: &str, now: Instant) {
        let want = Want { entry: None, waiters: Vec::new(), used: now, asked: now, outside: Outside::default() };
        self.all.insert(key.to_owned(), want);
    }

    /// The one that goes so that another has room.
    fn make_room(&mut self) -> Option<String> {
        if self.all.len() < MAX_WANTS {
            return None;
        }
        self.forget_waiters();
        let idle = self.all.iter().filter(|(_, want)| want.waiters.is_empty());
        let key = idle.min_by_key(|(_, want)| want.used).map(|(key, _)| key.clone())?;
        self.all.remove(&key);
        Some(key)
    }

    /// Who went away meanwhile keeps nothing here.
    fn forget_waiters(&mut self) {
        for want in self.all.values_mut() {
            want.waiters.retain(|waiter| !waiter.is_closed());
        }
    }

    /// What has no answer yet is asked for anew, and may be waited for again.
    pub fn renew(&mut self, now: Instant) {
        for want in self.all.values_mut().filter(|w| w.entry.is_none()) {
            want.asked = now;
        }
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    /// The addresses of a name, if they are known; `absent`: the mesh does not know it, so they are looked up.
    pub fn outside(&mut self, key: &str, absent: bool) -> Option<Arc<[Arc<Endpoint>]>> {
        let known = self.all.get(key)?.outside.found.as_ref().map(|f| Arc::clone(&f.endpoints));
        if known.is_none() && absent {
            self.look_up(key);
        }
        known
    }

    /// The directory's entry for `key`: that of before, if it says the same, so that its use is not forgotten.
    pub fn entry(&mut self, key: &str, verdict: Verdict) -> Arc<Entry> {
        let Some(want) = self.all.get_mut(key) else { return Entry::new(verdict) };
        match &want.entry {
            Some(entry) if entry.verdict == verdict => Arc::clone(entry),
            _ => Arc::clone(want.entry.insert(Entry::new(verdict))),
        }
    }

    /// Tells those who wait for what has an entry now.
    pub fn tell(&mut self) {
        for want in self.all.values_mut().filter(|w| w.entry.is_some()) {
            want.waiters.drain(..).for_each(tell);
        }
    }

    /// The control plane will not answer: addresses are not waited for, names are looked up outside.
    pub fn release(&mut self) {
        let unanswered =
            |(key, want): (&String, &Want)| (is_name(key) && !want.waiters.is_empty()).then(|| key.clone());
        let names: Vec<_> = self.all.iter().filter_map(unanswered).collect();
        names.iter().for_each(|key| self.look_up(key));
        for want in self.all.values_mut().filter(|w| !w.outside.looking) {
            want.waiters.drain(..).for_each(tell);
        }
    }

    /// Notes use; looks up what is old, or not answered in time; forgets what nobody has used for long, and returns it.
    pub fn sweep(&mut self, now: Instant) -> Vec<String> {
        self.forget_waiters();
        let mut look = Vec::new();
        for (key, want) in &mut self.all {
            let used = want.entry.as_ref().is_some_and(|e| e.take_used());
            if used {
                want.used = now;
            }
            let old = want.outside.found.as_ref().is_some_and(|f| f.until <= now);
            let late = want.entry.is_none() && !want.waiters.is_empty() && now - want.asked >= LATE;
            if is_name(key) && ((used && old) || late) {
                look.push(key.clone());
            }
        }
        look.iter().for_each(|key| self.look_up(key));
        let idle = self.idle;
        let gone = |want: &Want| want.waiters.is_empty() && now.saturating_duration_since(want.used) >= idle;
        let evicted: Vec<_> = self.all.iter().filter(|(_, w)| gone(w)).map(|(key, _)| key.clone()).collect();
        evicted.iter().for_each(|key| drop(self.all.remove(key)));
        evicted
    }

    /// The next name that was resolved.
    pub async fn resolved(&mut self) -> Resolved {
        match self.lookups.join_next().await {
            Some(Ok(resolved)) => resolved,
            Some(Err(_)) | None => pending().await,
        }
    }

    /// Takes what a name was resolved to. A failure changes nothing of what was known.
    pub fn take(&mut self, resolved: Resolved, now: Instant) {
        let Some(want) = self.all.get_mut(&resolved.key) else { return };
        want.outside.looking = false;
        let ttl = if resolved.addresses.is_some() { TTL } else { NEGATIVE_TTL };
        let until = now + ttl;
        want.outside.found = match (resolved.addresses, want.outside.found.take()) {
            (None, Some(found)) => Some(Found { until, ..found }),
            (addresses, _) => {
                let plain = |address| Arc::new(Endpoint { address, weight: 1, zone: None, identity: None });
                let endpoints = addresses.unwrap_or_default().into_iter().take(MAX_ADDRESSES).map(plain).collect();
                Some(Found { endpoints, until })
            }
        };
    }

    fn look_up(&mut self, key: &str) {
        let Some(host) = key.strip_prefix(NAME) else { return };
        let full = self.lookups.len() >= MAX_LOOKUPS;
        let Some(want) = self.all.get_mut(key).filter(|w| !w.outside.looking && !full) else { return };
        want.outside.looking = true;
        let (key, host) = (key.to_owned(), host.to_owned());
        self.lookups.spawn(async move {
            let found = timeout(LOOKUP, lookup_host(host)).await;
            let addresses = found.ok().and_then(Result::ok).map(Iterator::collect);
            Resolved { key, addresses }
        });
    }
}

/// Prefix of the keys of names.
const NAME: &str = "name/";

/// Who went away meanwhile needs to hear nothing.
fn tell(waiter: oneshot::Sender<()>) {
    waiter.send(()).ok();
}

fn is_name(key: &str) -> bool {
    key.starts_with(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn ask(wants: &mut Wants, key: &str, connected: bool, now: Instant) -> (Asked, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (wants.ask(key, sender, connected, now), receiver)
    }

    #[tokio::test]
    async fn one_question_for_many_who_wait() {
        let (mut wants, now) = (Wants::new(MINUTE), Instant::now());
        let (first, mut a) = ask(&mut wants, "address/10.0.0.1:80", true, now);
        let (second, mut b) = ask(&mut wants, "address/10.0.0.1:80", true, now);
        assert_eq!((first.new, second.new), (true, false));
        wants.tell();
        assert!(a.try_recv().is_err());
        wants.entry("address/10.0.0.1:80", Verdict::Outside);
        wants.tell();
        assert!(a.try_recv().is_ok() && b.try_recv().is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_control_plane_that_is_away_or_silent() {
        let (mut wants, now) = (Wants::new(MINUTE), Instant::now());
        let (asked, mut a) = ask(&mut wants, "address/10.0.0.1:80", false, now);
        assert!(asked.new && a.try_recv().is_ok());
        let (_, mut b) = ask(&mut wants, "address/10.0.0.2:80", true, now);
        assert!(b.try_recv().is_err());
        wants.release();
        assert!(b.try_recv().is_ok());
        let (_, mut c) = ask(&mut wants, "address/10.0.0.2:80", true, now + LATE);
        assert!(c.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_name_is_looked_up_without_a_control_plane() {
        let (mut wants, now) = (Wants::new(MINUTE), Instant::now());
        let (_, mut told) = ask(&mut wants, "name/localhost:80", false, now);
        assert!(told.try_recv().is_err());
        let resolved = wants.resolved().await;
        wants.take(resolved, now);
        let found = wants.outside("name/localhost:80", false).unwrap();
        assert!(found.iter().any(|e| e.address.ip().is_loopback()), "{found:?}");
    }

    #[tokio::test]
    async fn what_is_not_used_goes() {
        let (mut wants, now) = (Wants::new(MINUTE), Instant::now());
        drop(ask(&mut wants, "address/10.0.0.1:80", true, now));
        drop(ask(&mut wants, "address/10.0.0.2:80", true, now));
        let used = wants.entry("address/10.0.0.1:80", Verdict::Outside);
        wants.entry("address/10.0.0.2:80", Verdict::Outside);
        wants.tell();
        let directory = crate::discovery::Directory::new([("10.0.0.1:80".parse().unwrap(), used)], []);
        assert!(wants.sweep(now + MINUTE / 2).is_empty());
        assert!(directory.address("10.0.0.1:80".parse().unwrap()).is_some());
        assert_eq!(wants.sweep(now + MINUTE), ["address/10.0.0.2:80"]);
        assert_eq!(wants.sweep(now + MINUTE * 2), ["address/10.0.0.1:80"]);
    }

    #[tokio::test]
    async fn who_went_away_keeps_nothing() {
        let (mut wants, now) = (Wants::new(MINUTE), Instant::now());
        drop(ask(&mut wants, "address/10.0.0.1:80", true, now));
        let (_, waits) = ask(&mut wants, "address/10.0.0.2:80", true, now);
        assert_eq!(wants.sweep(now + MINUTE), ["address/10.0.0.1:80"]);
        drop(waits);
        assert_eq!(wants.sweep(now + MINUTE), ["address/10.0.0.2:80"]);
        for n in 0..MAX_WANTS {
            drop(ask(&mut wants, &format!("address/10.0.{}.{}:80", n / 256, n % 256), true, now));
        }
        let (asked, _told) = ask(&mut wants, "address/10.1.0.0:80", true, now);
        assert!(asked.evicted.is_some());
        assert_eq!(wants.all.len(), MAX_WANTS);
    }

    #[tokio::test]
    async fn what_had_no_answer_is_waited_for_again_after_a_reconnect() {
        let (mut wants, now) = (Wants::new(MINUTE), Instant::now());
        drop(ask(&mut wants, "address/10.0.0.1:80", false, now));
        wants.renew(now + MINUTE / 2);
        let (asked, mut told) = ask(&mut wants, "address/10.0.0.1:80", true, now + MINUTE / 2);
        assert!(!asked.new && told.try_recv().is_err());
        wants.entry("address/10.0.0.1:80", Verdict::Outside);
        wants.tell();
        assert!(told.try_recv().is_ok());
    }

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let (mut wants, now) = (Wants::new(MINUTE), Instant::now());
        for n in 0..MAX_WANTS {
            let key = format!("address/10.0.{}.{}:80", n / 256, n % 256);
            let at = now + Duration::from_millis(n as u64);
            drop(ask(&mut wants, &key, false, at));
        }
        let (asked, _told) = ask(&mut wants, "address/10.1.0.0:80", false, now + MINUTE);
        assert_eq!(asked.evicted.as_deref(), Some("address/10.0.0.0:80"));
        assert_eq!(wants.all.len(), MAX_WANTS);
    }
}
