//! Which series there are: names, labels, and the cells of each worker.
//!
//! The registry is asked when a route is compiled or a combination of labels is met for the first time,
//! never on the way of an ordinary request. The same labels give the same cell again, so counts go on over
//! a reload. A series once made stays for the life of the process (counters must not go back), which is
//! why each family is bounded: past [`SERIES_LIMIT`] samples, further label sets share one series whose
//! labels say `other`, and `outrigger_series_folded_total` counts them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    cells::{BUCKETS, Counter, Histogram},
    families::{Family, Kind},
};

/// Samples of one family in one scrape. With about 200 bytes each, families stay well below the megabyte
/// that a scrape should not pass.
pub const SERIES_LIMIT: usize = 2_000;

/// The value of folded labels.
pub const OTHER: &str = "other";

/// Samples that one histogram takes: its buckets, `+Inf`, sum and count.
const HISTOGRAM_SAMPLES: usize = BUCKETS.len() + 3;

/// One label set and its cells, one for each worker that uses it.
#[derive(Debug)]
pub(crate) struct Series<C> {
    pub(crate) labels: Arc<[Arc<str>]>,
    pub(crate) cells: Vec<Option<Arc<C>>>,
}

/// The series of one family.
#[derive(Debug)]
pub(crate) struct Table<C> {
    index: HashMap<Arc<[Arc<str>]>, usize>,
    /// In the order in which they were made.
    pub(crate) series: Vec<Series<C>>,
    /// Label sets that found no place.
    pub(crate) folded: u64,
}

impl<C> Default for Table<C> {
    fn default() -> Self {
        Self { index: HashMap::new(), series: Vec::new(), folded: 0 }
    }
}

impl<C: Default> Table<C> {
    /// The cell of `slot` for these labels, or for the series that they are folded into.
    fn cell(&mut self, labels: &[&str], limit: usize, keep: usize, slot: usize) -> Arc<C> {
        let key: Arc<[Arc<str>]> = labels.iter().map(|l| Arc::from(*l)).collect();
        if let Some(&index) = self.index.get(&key) {
            return self.cell_of(index, slot);
        }
        // Room is kept for the folded series: one for each value of the labels that are kept, which are
        // enumerations of at most two.
        if self.series.len() < limit.saturating_sub(2) {
            return self.insert(key, slot);
        }
        self.folded += 1;
        let folded: Arc<[Arc<str>]> =
            labels.iter().enumerate().map(|(i, l)| Arc::from(if i < keep { *l } else { OTHER })).collect();
        match self.index.get(&folded) {
            Some(&index) => self.cell_of(index, slot),
            None => self.insert(folded, slot),
        }
    }

    fn insert(&mut self, labels: Arc<[Arc<str>]>, slot: usize) -> Arc<C> {
        let index = self.series.len();
        self.index.insert(Arc::clone(&labels), index);
        self.series.push(Series { labels, cells: Vec::new() });
        self.cell_of(index, slot)
    }

    fn cell_of(&mut self, index: usize, slot: usize) -> Arc<C> {
        let cells = &mut self.series[index].cells;
        if cells.len() <= slot {
            cells.resize_with(slot + 1, || None);
        }
        Arc::clone(cells[slot].get_or_insert_default())
    }
}

/// Everything behind the lock.
#[derive(Debug)]
pub(crate) struct Tables {
    counters: Vec<Table<Counter>>,
    histograms: Vec<Table<Histogram>>,
}

impl Tables {
    pub(crate) fn counters(&self, family: Family) -> &Table<Counter> {
        &self.counters[family as usize]
    }

    pub(crate) fn histograms(&self, family: Family) -> &Table<Histogram> {
        &self.histograms[family as usize]
    }

    /// Label sets that found no place, by family; families without any are left out.
    pub(crate) fn folded(&self) -> impl Iterator<Item = (Family, u64)> {
        Family::ALL.into_iter().filter_map(|f| {
            let folded = self.counters(f).folded + self.histograms(f).folded;
            (folded > 0).then_some((f, folded))
        })
    }
}

/// One per process.
#[derive(Debug)]
pub(crate) struct Registry {
    tables: Mutex<Tables>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        let tables = Tables {
            counters: Family::ALL.iter().map(|_| Table::default()).collect(),
            histograms: Family::ALL.iter().map(|_| Table::default()).collect(),
        };
        Self { tables: Mutex::new(tables) }
    }

    /// The cell of worker `slot` in a family of counters. `labels` are in the order of the family.
    pub(crate) fn counter(&self, family: Family, labels: &[&str], slot: usize) -> Arc<Counter> {
        debug_assert_eq!(labels.len(), family.row().labels.len());
        debug_assert_ne!(family.row().kind, Kind::Histogram);
        self.read(|t| t.counters[family as usize].cell(labels, SERIES_LIMIT, family.row().keep, slot))
    }

    /// The cell of worker `slot` in a family of histograms.
    pub(crate) fn histogram(&self, family: Family, labels: &[&str], slot: usize) -> Arc<Histogram> {
        debug_assert_eq!(labels.len(), family.row().labels.len());
        debug_assert_eq!(family.row().kind, Kind::Histogram);
        let limit = SERIES_LIMIT / HISTOGRAM_SAMPLES;
        self.read(|t| t.histograms[family as usize].cell(labels, limit, family.row().keep, slot))
    }

    /// Looks at the tables. What is done under the lock is short and cannot panic half-way, so a poisoned
    /// lock still guards whole tables.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&mut Tables) -> T) -> T {
        look(&mut self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_labels_give_the_same_cell() {
        let registry = Registry::new();
        let a = registry.counter(Family::Attempts, &["u", "success"], 0);
        let b = registry.counter(Family::Attempts, &["u", "success"], 0);
        let other_worker = registry.counter(Family::Attempts, &["u", "success"], 1);
        assert!(Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&a, &other_worker));
        registry.read(|t| assert_eq!(t.counters(Family::Attempts).series.len(), 1));
    }

    #[test]
    fn a_family_past_its_bound_folds_and_keeps_the_first_label() {
        let registry = Registry::new();
        for i in 0..SERIES_LIMIT + 500 {
            let (route, direction) = (format!("r{i}"), if i % 2 == 0 { "inbound" } else { "outbound" });
            registry.counter(Family::Requests, &[direction, "u", &route, "GET", "200", "", "", ""], 0).add(1);
        }
        registry.read(|t| {
            let table = t.counters(Family::Requests);
            assert_eq!(table.series.len(), SERIES_LIMIT);
            assert_eq!(table.folded, 502);
            let folded: Vec<_> = table.series.iter().filter(|s| &*s.labels[2] == OTHER).collect();
            assert_eq!(folded.len(), 2);
            let total: u64 = table.series.iter().flat_map(|s| s.cells.iter().flatten()).map(|c| c.value()).sum();
            assert_eq!(total as usize, SERIES_LIMIT + 500);
            assert_eq!(folded[0].cells[0].as_ref().map(|c| c.value()), Some(251));
            assert_eq!(t.folded().collect::<Vec<_>>(), [(Family::Requests, 502)]);
        });
    }

    #[test]
    fn a_family_of_histograms_counts_its_buckets() {
        let registry = Registry::new();
        for i in 0..SERIES_LIMIT {
            drop(registry.histogram(Family::Duration, &["inbound", &format!("u{i}"), "", "2xx"], 0));
        }
        registry.read(|t| assert!(t.histograms(Family::Duration).series.len() * HISTOGRAM_SAMPLES <= SERIES_LIMIT));
    }
}
