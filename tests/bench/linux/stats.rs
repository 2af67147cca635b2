//! The arithmetic over runs and streams. Pure.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The middle of several runs, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of no runs. Of an even number the median is the mean of the two in the middle.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Self { median, min, max })
    }
}

/// Jain's index of fairness: 1 when all rates are equal, 1/n when one of n has everything.
pub(crate) fn jain(rates: &[f64]) -> Option<f64> {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    (squares > 0.0).then(|| sum * sum / (rates.len() as f64 * squares))
}

/// Quantiles of latencies in nanoseconds, as microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quantiles {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

/// Over all calls of all streams; `latencies` are pairs of nanoseconds and how many calls took them.
pub(crate) fn quantiles(latencies: impl IntoIterator<Item = (u64, u64)>) -> Option<Quantiles> {
    // Three digits, growing as needed: valid by its documentation.
    let mut all = Histogram::<u64>::new(3).ok()?;
    for (ns, count) in latencies {
        all.record_n(ns, count).ok()?;
    }
    let micros = |quantile| all.value_at_quantile(quantile) as f64 / 1000.0;
    (!all.is_empty()).then(|| Quantiles {
        p50_us: micros(0.5),
        p99_us: micros(0.99),
        p999_us: micros(0.999),
        max_us: all.max() as f64 / 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0]), Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
        let odd = Spread::of(&[9.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 9.0));
        assert!((Spread::of(&[4.0, 1.0, 2.0, 9.0]).unwrap().median - 3.0).abs() < 1e-9);
    }

    #[test]
    fn jain_is_one_for_equals_and_a_part_for_one_that_has_all() {
        assert_eq!(jain(&[5.0; 4]), Some(1.0));
        assert_eq!(jain(&[8.0, 0.0, 0.0, 0.0]), Some(0.25));
        let almost = jain(&[10.0, 10.0, 10.0, 8.0]).unwrap();
        assert!((almost - 38.0 * 38.0 / (4.0 * 364.0)).abs() < 1e-9, "{almost}");
        assert_eq!(jain(&[0.0, 0.0]), None, "nobody got anything");
    }

    #[test]
    fn quantiles_are_taken_over_the_calls_of_all_streams() {
        let quick = std::iter::repeat_n((1_000, 1), 990);
        let found = quantiles(quick.chain([(2_000_000, 9), (50_000_000, 1)])).unwrap();
        assert!((found.p50_us - 1.0).abs() < 0.01, "{found:?}");
        assert!((found.p99_us - 1.0).abs() < 0.01, "{found:?}");
        assert!((found.p999_us / 2000.0 - 1.0).abs() < 0.01, "{found:?}");
        assert!((found.max_us / 50_000.0 - 1.0).abs() < 0.01, "{found:?}");
        assert_eq!(quantiles([]), None);
    }
}
