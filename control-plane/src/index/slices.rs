//! The slices of one Service, by name, so that what comes of them does not depend on the order in which they came.
//!
//! A sorted list, for most Services have one: a tree's node would have room for eleven.

use super::Slice;

/// Sorted by name.
#[derive(Debug, Default)]
pub(super) struct Slices(Vec<Slice>);

impl Slices {
    pub(super) fn get(&self, name: &str) -> Option<&Slice> {
        self.place(name).ok().and_then(|n| self.0.get(n))
    }

    /// What was there before.
    pub(super) fn insert(&mut self, slice: Slice) -> Option<Slice> {
        match self.place(&slice.at.name) {
            Ok(n) => self.0.get_mut(n).map(|old| std::mem::replace(old, slice)),
            Err(n) => {
                self.0.reserve_exact(1);
                self.0.insert(n, slice);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Slice> {
        self.place(name).ok().map(|n| self.0.remove(n))
    }

    pub(super) fn values(&self) -> std::slice::Iter<'_, Slice> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|slice| (*slice.at.name).cmp(name))
    }
}
