//! Things that are kept for whoever needs one next, so that a request does not go to the allocator.
//!
//! As many are kept as the busiest moment of the last interval took, up to a bound; what no moment of an interval has
//! needed goes back to the allocator at its end ([`Spare::trim`]): what a burst took is not held after it.

/// See the module.
#[derive(Debug)]
pub struct Spare<T> {
    items: Vec<T>,
    /// Fewest that there were since the last [`Spare::trim`].
    fewest: usize,
    most: usize,
}

/// So many stay whatever happens: the next request after a quiet second finds them.
const KEPT: usize = 4;

impl<T> Spare<T> {
    /// Of at most `most`.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { items: Vec::new(), fewest: 0, most }
    }

    /// One of them.
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        let item = self.items.pop();
        self.fewest = self.fewest.min(self.items.len());
        item
    }

    /// Keeps one, or hands it back where there are enough.
    #[inline]
    pub fn give(&mut self, item: T) -> Option<T> {
        if self.items.len() >= self.most {
            return Some(item);
        }
        self.items.push(item);
        None
    }

    /// Drops what was not needed since the last call; to be called every second or so.
    pub fn trim(&mut self) {
        let left = self.items.len() - self.fewest.min(self.items.len().saturating_sub(KEPT));
        if left < self.items.len() {
            self.items.truncate(left);
            self.items.shrink_to(left);
        }
        self.fewest = self.items.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interval_needs_is_kept_and_the_rest_goes() {
        let mut spare = Spare::new(100);
        assert!((0..100).all(|n| spare.give(n).is_none()));
        assert_eq!(spare.give(100), Some(100));
        spare.trim();
        assert_eq!(spare.items.len(), 100, "they were made in this interval");
        let taken: Vec<_> = (0..30).filter_map(|_| spare.take()).collect();
        assert!(taken.into_iter().all(|n| spare.give(n).is_none()));
        spare.trim();
        assert_eq!(spare.items.len(), 30, "so many were needed at once");
        spare.trim();
        assert_eq!(spare.items.len(), KEPT);
        spare.trim();
        assert_eq!(spare.items.len(), KEPT);
    }
}
