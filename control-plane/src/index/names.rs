//! One copy of each text: namespaces, labels and zones are said a hundred thousand times.

use std::{
    collections::{BTreeMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use super::ObjectName;

/// Labels of pods; replicas have the same.
pub(super) type Labels = Arc<BTreeMap<Arc<str>, Arc<str>>>;

/// Ports of pods; replicas have the same.
pub(super) type Ports = Arc<[(Arc<str>, u16)]>;

/// Texts and sets of labels in use. What is used no more is dropped whenever the number of entries has doubled, so that sharing
/// costs no more than what is shared, and nothing to look at on each removal.
#[derive(Debug, Default)]
pub(super) struct Names {
    texts: Pool<Arc<str>>,
    labels: Pool<Labels>,
    ports: Pool<Ports>,
}

impl Names {
    pub(super) fn text(&mut self, text: &mut Arc<str>) {
        self.texts.share(text, |t| Arc::strong_count(t) == 1);
    }

    pub(super) fn object(&mut self, at: &mut ObjectName) {
        self.text(&mut at.namespace);
        self.text(&mut at.name);
    }

    pub(super) fn labels(&mut self, labels: &mut Labels) {
        if !self.labels.all.contains(labels) {
            let own = labels.iter().map(|(k, v)| {
                let (mut k, mut v) = (Arc::clone(k), Arc::clone(v));
                self.text(&mut k);
                self.text(&mut v);
                (k, v)
            });
            *labels = Arc::new(own.collect());
        }
        self.labels.share(labels, |l| Arc::strong_count(l) == 1);
    }

    pub(super) fn ports(&mut self, ports: &mut Ports) {
        self.ports.share(ports, |p| Arc::strong_count(p) == 1);
    }
}

#[derive(Debug)]
struct Pool<T> {
    all: HashSet<T>,
    /// Entries at which the unused ones are dropped.
    full: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { all: HashSet::new(), full: 1024 }
    }
}

impl<T: Eq + Hash + Clone> Pool<T> {
    fn share(&mut self, value: &mut T, unused: impl Fn(&T) -> bool) {
        if let Some(shared) = self.all.get(value) {
            *value = shared.clone();
            return;
        }
        if self.all.len() >= self.full {
            self.all.retain(|v| !unused(v));
            self.full = (2 * self.all.len()).max(1024);
        }
        self.all.insert(value.clone());
    }
}
