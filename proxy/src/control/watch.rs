//! Tells when configuration files may have changed.
//!
//! Two ways together. inotify is quick but blind to bind mounts of single files, network file systems and
//! an exhausted `max_user_watches`; so the content is also compared every two seconds. Both only say
//! "look": what is found decides, so a hint too many costs a read and nothing else.
//!
//! Directories are watched, never the files in them: a file replaced by rename is another inode, and a
//! watch on the old one would be silent from then on.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use super::{debounce::Debounce, sources};

/// How often the content is compared, whatever inotify says.
const POLL: Duration = Duration::from_secs(2);

/// Watches the files behind some paths.
pub(super) struct Watch {
    paths: Vec<PathBuf>,
    /// Files that the configuration names: certificates, keys, roots.
    named: Vec<PathBuf>,
    /// Held for its `Drop`; `None` where the system has no watch to give.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// One slot: a second hint before the first is read says nothing more.
    hints: mpsc::Receiver<()>,
    poll: Interval,
    debounce: Debounce,
    /// Digest of what was last returned by [`Watch::changed`] or told by [`Watch::seen`].
    known: u64,
}

impl Watch {
    /// Watches `paths`, whose content has the digest `known`.
    pub(super) fn new(paths: Vec<PathBuf>, known: u64) -> Self {
        let (sender, hints) = mpsc::channel(1);
        let handler = move |event: notify::Result<Event>| {
            // Reading our own files must not wake us for ever.
            if event.is_ok_and(|e| e.kind.is_access()) {
                return;
            }
            if sender.try_send(()).is_err() {
                // Full: a hint is waiting already. Closed: nobody looks any more.
            }
        };
        let watcher = notify::recommended_watcher(handler)
            .inspect_err(|e| tracing::warn!("files are watched by polling alone: {e}"))
            .ok();
        let mut poll = interval_at(Instant::now() + POLL, POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Self {
            paths,
            named: Vec::new(),
            watcher,
            watched: BTreeSet::new(),
            hints,
            poll,
            debounce: Debounce::default(),
            known,
        };
        watch.follow();
        watch
    }

    /// Watches the files that the configuration in force names, too. True if they are others than before: what they
    /// held before this call is not watched for.
    pub(super) fn name(&mut self, named: Vec<PathBuf>) -> bool {
        let others = named != self.named;
        if others {
            // What they hold now was just read; only a change from here on is one.
            let (loaded, before) = (sources::load(&self.paths), self.known);
            let unchanged = self.digest(&loaded) == before;
            self.named = named;
            if unchanged {
                self.known = self.digest(&loaded);
            }
            self.follow();
        }
        others
    }

    fn digest(&self, loaded: &Loaded) -> u64 {
        sources::digest(loaded, &self.named)
    }

    /// Waits until the content is another than the one known.
    pub(super) async fn changed(&mut self) -> Loaded {
        loop {
            let due = self.debounce.due();
            tokio::select! {
                Some(()) = self.hints.recv() => self.debounce.touch(Instant::now()),
                _ = self.poll.tick() => {
                    if self.digest(&sources::load(&self.paths)) != self.known {
                        self.debounce.touch(Instant::now());
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.debounce.reset();
                    self.follow();
                    let loaded = sources::load(&self.paths);
                    let digest = self.digest(&loaded);
                    if digest != self.known {
                        self.known = digest;
                        return loaded;
                    }
                }
            }
        }
    }

    /// Loads now, whether it changed or not.
    pub(super) fn load(&mut self) -> Loaded {
        self.follow();
        let loaded = sources::load(&self.paths);
        self.known = self.digest(&loaded);
        loaded
    }

    /// Watches the directories that matter now: those of the paths, and those that links lead to.
    fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut wanted = directories(&self.paths);
        wanted.extend(directories(&self.named));
        for gone in self.watched.difference(&wanted) {
            if let Err(e) = watcher.unwatch(gone) {
                // The kernel ends the watch of a removed directory by itself.
                tracing::debug!("{}: {e}", gone.display());
            }
        }
        let mut watched = BTreeSet::new();
        for directory in wanted {
            if self.watched.contains(&directory) {
                watched.insert(directory);
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(watched.insert(directory)),
                Err(e) => tracing::debug!("{} is watched by polling alone: {e}", directory.display()),
            }
        }
        self.watched = watched;
    }
}

/// Texts and the faults of reading them.
pub(super) type Loaded = (Vec<outrigger_config::Source>, Vec<outrigger_config::Fault>);

fn directories(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for path in paths {
        if path.is_dir() {
            directories.insert(path.clone());
            continue;
        }
        for file in [Some(path.clone()), fs::canonicalize(path).ok()].into_iter().flatten() {
            let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            directories.insert(parent.into());
        }
    }
    directories
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn watch(path: &Path) -> Watch {
        let paths = vec![path.to_owned()];
        let known = sources::digest(&sources::load(&paths), &[]);
        Watch::new(paths, known)
    }

    async fn next(watch: &mut Watch) -> String {
        let (sources, faults) = timeout(Duration::from_secs(10), watch.changed()).await.unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        sources.into_iter().map(|s| s.text).collect()
    }

    #[tokio::test]
    async fn a_file_that_is_written_or_replaced_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, "1").unwrap();
        let mut watch = watch(&file);
        fs::write(&file, "2").unwrap();
        assert_eq!(next(&mut watch).await, "2");
        for n in 3..6 {
            let other = dir.path().join("tmp");
            fs::write(&other, n.to_string()).unwrap();
            fs::rename(&other, &file).unwrap();
            assert_eq!(next(&mut watch).await, n.to_string());
        }
    }

    #[tokio::test]
    async fn without_inotify_the_content_is_compared() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, "1").unwrap();
        let mut watch = watch(&file);
        watch.watcher = None;
        fs::write(&file, "2").unwrap();
        assert_eq!(next(&mut watch).await, "2");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_content_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, "1").unwrap();
        let mut watch = watch(&file);
        fs::write(&file, "1").unwrap();
        assert!(timeout(Duration::from_secs(60), watch.changed()).await.is_err());
        fs::write(&file, "2").unwrap();
        watch.load();
        assert!(timeout(Duration::from_secs(60), watch.changed()).await.is_err());
    }
}
