//! The arithmetic of a comparison: medians, ranges and ratios paired within a round.
//!
//! A shared machine drifts over minutes, so figures of different rounds are not comparable, while those of one
//! round, taken seconds apart, are. Ratios are therefore formed within each round first and summarised after;
//! the ratio of two medians would let the drift back in.

/// Median and range of some figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The middle one; the mean of the two middle ones of an even number.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Summary {
    /// Of `values`; `None` when there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, low, high })
    }
}

/// `values[i] / base[i]` for every round that both have taken part in.
#[must_use]
pub fn paired(values: &[f64], base: &[f64]) -> Vec<f64> {
    values.iter().zip(base).filter(|(_, b)| **b > 0.0).map(|(a, b)| a / b).collect()
}

/// The value below which a share `q` of `sorted` lies (nearest rank); 0 when empty.
#[must_use]
pub fn quantile(sorted: &[u64], q: f64) -> u64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]), Some(Summary { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Summary::of(&[4.0, 1.0]), Some(Summary { median: 2.5, low: 1.0, high: 4.0 }));
    }

    #[test]
    fn a_drift_common_to_a_round_cancels() {
        assert_eq!(paired(&[20.0, 40.0, 10.0], &[10.0, 20.0, 5.0]), [2.0, 2.0, 2.0]);
        assert_eq!(paired(&[20.0, 40.0], &[0.0, 20.0]), [2.0]);
    }

    #[test]
    fn quantiles_take_the_nearest_rank() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99), quantile(&values, 1.0)), (50, 99, 100));
        assert_eq!(quantile(&[], 0.5), 0);
    }
}
