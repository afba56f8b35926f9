//! Limits of what replicates show, without assumptions on the distribution behind them: of a failure rate those of Clopper & Pearson
//! (1934), of a quantile those of order statistics (David & Nagaraja 2003, section 7.1). Both are exact binomial statements: they cover
//! with at least the stated confidence for any number of replicates.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, check_count, check_finite};
use crate::special::{beta_quantile, binomial_probability};

/// How often something failed in independent replicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRate {
    /// How many failed.
    pub failures: u64,
    /// How many there were.
    pub replicates: u64,
}

impl FailureRate {
    /// Counts.
    ///
    /// # Errors
    /// [`Error::Argument`] for no replicates, or more failures than replicates.
    pub fn new(failures: u64, replicates: u64) -> Result<Self> {
        check_count("replicates", replicates as usize)?;
        if failures > replicates {
            return Err(Error::argument("failures", format_args!("at most {replicates}"), failures));
        }
        Ok(Self { failures, replicates })
    }

    /// failures / replicates.
    pub fn rate(self) -> f64 {
        self.failures as f64 / self.replicates as f64
    }

    /// Clopper & Pearson's limits of the probability behind x failures of n: the (α/2)-quantile of Beta(x, n − x + 1) (0 for x = 0) and
    /// the (1 − α/2)-quantile of Beta(x + 1, n − x) (1 for x = n), α = 1 − confidence.
    ///
    /// # Errors
    /// [`Error::Argument`] for a confidence outside (0, 1) or counts that [`new`](Self::new) refuses.
    pub fn limits(self, confidence: f64) -> Result<(f64, f64)> {
        let Self { failures, replicates } = Self::new(self.failures, self.replicates)?;
        check_inside("confidence", confidence)?;
        let (x, n, tail) = (failures as f64, replicates as f64, 0.5 * (1.0 - confidence));
        let low = if failures == 0 { 0.0 } else { beta_quantile(x, n - x + 1.0, tail)? };
        let high = if failures == replicates { 1.0 } else { beta_quantile(x + 1.0, n - x, 1.0 - tail)? };
        Ok((low, high))
    }

    /// Whether a statement that fails with a probability of at most δ may be true: the lower limit does not exceed δ. Where the probability
    /// is δ or less, this says so with a probability of at least (1 + confidence)/2.
    ///
    /// # Errors
    /// As [`limits`](Self::limits).
    pub fn is_compatible_with(self, delta: f64, confidence: f64) -> Result<bool> {
        Ok(self.limits(confidence)?.0 <= delta)
    }
}

/// A sample quantile with distribution-free limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// The ⌈np⌉-th smallest value.
    pub value: f64,
    /// The lower limit; −∞ where n replicates have none at this confidence.
    pub lower: f64,
    /// The upper limit; ∞ where n replicates have none.
    pub upper: f64,
}

/// The p-quantile of independent replicates with limits that hold for any distribution: x₍ₗ₎ and x₍ᵤ₎ of the sorted values, l the largest
/// rank with P(Bin(n, p) ≤ l − 1) ≤ α/2 and u the smallest with P(Bin(n, p) ≤ u − 1) ≥ 1 − α/2, α = 1 − confidence. An upper limit of the
/// (1 − δ)-quantile needs n ≥ ln(α/2)/ln(1 − δ) replicates.
///
/// # Errors
/// [`Error::Argument`] for no values, a p or a confidence outside (0, 1); [`Error::NotFinite`].
pub fn quantile_with_limits(values: &[f64], p: f64, confidence: f64) -> Result<Quantile> {
    check_count("values", values.len())?;
    check_finite("values", values)?;
    check_inside("confidence", confidence)?;
    check_inside("p", p)?;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (n, tail) = (sorted.len(), 0.5 * (1.0 - confidence));
    // Ranks 1..=n; P(Bin ≤ rank − 1) grows with the rank. Rank n + 1 always reaches 1 − α/2.
    let at_most = |rank: usize| binomial_probability(n as u64, p, rank as u64 - 1);
    let below = first_rank(n, |rank| Ok(at_most(rank)? > tail))? - 1;
    let above = first_rank(n, |rank| Ok(at_most(rank)? >= 1.0 - tail))?;
    let nearest = ((n as f64 * p).ceil() as usize).clamp(1, n);
    Ok(Quantile {
        value: sorted[nearest - 1],
        lower: below.checked_sub(1).map_or(f64::NEG_INFINITY, |i| sorted[i]),
        upper: sorted.get(above - 1).copied().unwrap_or(f64::INFINITY),
    })
}

/// The first rank of 1..=n for which a monotone condition holds, or n + 1.
fn first_rank(n: usize, holds: impl Fn(usize) -> Result<bool>) -> Result<usize> {
    let (mut low, mut high) = (1, n + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle)? { high = middle } else { low = middle + 1 }
    }
    Ok(low)
}

/// Checks a confidence, a δ, the order of a quantile.
pub(super) fn check_inside(argument: &'static str, probability: f64) -> Result<()> {
    if probability > 0.0 && probability < 1.0 {
        return Ok(());
    }
    Err(Error::argument(argument, "a probability inside (0, 1)", probability))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Key;

    /// P(Bin(n, p) = k), by the logarithms of factorials.
    fn binomial(n: u64, p: f64, k: u64) -> f64 {
        let log_factorial = |m: u64| (1..=m).map(|i| (i as f64).ln()).sum::<f64>();
        let choose = log_factorial(n) - log_factorial(k) - log_factorial(n - k);
        (choose + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp()
    }

    #[test]
    fn clopper_pearson_limits_solve_their_binomial_equations() {
        for (failures, replicates) in [(1, 10), (3, 10), (9, 10), (7, 200), (20, 2000), (400, 2000)] {
            let (low, high) = FailureRate::new(failures, replicates).unwrap().limits(0.95).unwrap();
            let at_least: f64 = (failures..=replicates).map(|k| binomial(replicates, low, k)).sum();
            let at_most: f64 = (0..=failures).map(|k| binomial(replicates, high, k)).sum();
            assert!((at_least - 0.025).abs() < 1e-8, "{failures} of {replicates}: {at_least}");
            assert!((at_most - 0.025).abs() < 1e-8, "{failures} of {replicates}: {at_most}");
        }
        // No failure: 1 − (α/2)^{1/n}, the "rule of three" and a half.
        let (low, high) = FailureRate::new(0, 2000).unwrap().limits(0.95).unwrap();
        assert!(low == 0.0 && (high - (1.0 - 0.025_f64.powf(1.0 / 2000.0))).abs() < 1e-9, "{high}");
        assert_eq!(FailureRate::new(5, 5).unwrap().limits(0.95).unwrap().1, 1.0);
    }

    #[test]
    fn compatibility_lets_the_true_rate_pass_and_finds_twice_the_rate() {
        let key = Key::new(3);
        let compatible = |rate: f64, trial: u64| {
            let mut stream = key.child(trial).stream();
            let failures = (0..2000).filter(|_| stream.uniform() < rate).count();
            FailureRate::new(failures as u64, 2000).unwrap().is_compatible_with(0.05, 0.95).unwrap()
        };
        // At the rate itself at most 2.5 % are found incompatible: of 400, 10 with a standard deviation of 3.1.
        let refused = (0..400).filter(|&trial| !compatible(0.05, trial)).count();
        assert!(refused <= 22, "{refused} of 400");
        assert!((400..500).all(|trial| !compatible(0.1, trial)));
        assert!((500..600).all(|trial| compatible(0.01, trial)));
    }

    #[test]
    fn order_statistics_cover_quantiles_of_a_heavy_tail_as_often_as_they_say() {
        // Pareto with exponent 1: no mean. Its p-quantile is 1/(1 − p).
        for (p, n) in [(0.5, 30), (0.9, 100), (0.95, 200)] {
            let covered = (0..1000).filter(|&trial| {
                let mut stream = Key::new(11).child(n as u64).child(trial).stream();
                let values: Vec<f64> = (0..n).map(|_| 1.0 / (1.0 - stream.uniform())).collect();
                let found = quantile_with_limits(&values, p, 0.95).unwrap();
                assert!(found.lower <= found.value && found.value <= found.upper, "{found:?}");
                (found.lower..=found.upper).contains(&(1.0 / (1.0 - p)))
            });
            let covered = covered.count();
            // At least 95 %, with a standard deviation of 6.9; not all either, or the limits would be idle.
            assert!((930..995).contains(&covered), "p = {p}, n = {n}: {covered} of 1000");
        }
    }

    /// The textbook case: the median of 10 values lies between the 2nd and the 9th with probability 1 − 2·11/1024 = 0.9785.
    #[test]
    fn ranks_are_those_of_the_tables() {
        let values: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        assert_eq!(quantile_with_limits(&values, 0.5, 0.95).unwrap(), Quantile { value: 5.0, lower: 2.0, upper: 9.0 });
        // Five values: P(all on one side) = 2/32 > 5 %, so that there are no limits.
        let few = quantile_with_limits(&values[..5], 0.5, 0.95).unwrap();
        assert_eq!((few.lower, few.upper), (f64::NEG_INFINITY, f64::INFINITY));
        // The 0.99-quantile has an upper limit from ln 0.025/ln 0.99 = 367.04 on.
        let ramp: Vec<f64> = (0..368).map(f64::from).collect();
        assert_eq!(quantile_with_limits(&ramp, 0.99, 0.95).unwrap().upper, 367.0);
        assert_eq!(quantile_with_limits(&ramp[1..], 0.99, 0.95).unwrap().upper, f64::INFINITY);
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        let name = |e: Error| e.offending_argument();
        assert_eq!(FailureRate::new(0, 0).map_err(name), Err(Some("replicates")));
        assert_eq!(FailureRate::new(3, 2).map_err(name), Err(Some("failures")));
        assert_eq!(FailureRate { failures: 3, replicates: 2 }.limits(0.9).map_err(name), Err(Some("failures")));
        assert_eq!(FailureRate::new(1, 2).unwrap().limits(1.0).map_err(name), Err(Some("confidence")));
        assert_eq!(quantile_with_limits(&[], 0.5, 0.95).map_err(name), Err(Some("values")));
        assert_eq!(quantile_with_limits(&[f64::NAN], 0.5, 0.95).map_err(name), Err(Some("values")));
        assert_eq!(quantile_with_limits(&[1.0], 1.0, 0.95).map_err(name), Err(Some("p")));
    }
}
