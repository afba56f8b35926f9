//! How fast quantiles grow as δ falls: the exponent p of q(δ) = a + b·(log 1/δ)^p, q(δ) the (1 − δ)-quantile. The theory says p = ½
//! (sub-Gaussian deviations from something); sub-exponential ones have p = 1.
//!
//! a, b and p are fixed by the sample quantiles at three δ: p is the root of
//!
//! ```text
//! (q₃ − q₂)/(q₂ − q₁) = (y₃^p − y₂^p)/(y₂^p − y₁^p),   y = log 1/δ,
//! ```
//!
//! whose right side grows with p. A shift a must be free: of the absolute value of a normal variable log q against log log(1/δ) has the
//! slope 0.66 between δ = 0.2 and 0.01, though its tail is as sub-Gaussian as any (this exponent: 0.54 at δ = 0.5, 0.1, 0.01). The limits are
//! those of Efron's percentile bootstrap over the replicates: order statistics give no joint limits of three quantiles.

use serde::{Deserialize, Serialize};

use super::coverage::check_inside;
use super::verdict::Measured;
use crate::error::{Error, Result, check_count, check_finite};
use crate::par;
use crate::rng::{Key, Stream};

/// The exponents looked at: a law with another one is at the end of the range.
const RANGE: (f64, f64) = (-8.0, 8.0);

/// An exponent of tail growth with its limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TailGrowth {
    /// p of the sample.
    pub exponent: f64,
    /// The lower limit.
    pub lower: f64,
    /// The upper limit.
    pub upper: f64,
}

impl From<TailGrowth> for Measured {
    fn from(TailGrowth { exponent, lower, upper }: TailGrowth) -> Self {
        // Far out in a skew sample the percentile limits can miss the estimate itself.
        Self { value: exponent, low: lower.min(exponent), high: upper.max(exponent) }
    }
}

/// p from independent replicates at three falling δ, and its limits from `resamples` bootstrap samples. The least δ should leave some ten
/// replicates beyond its quantile.
///
/// # Errors
/// [`Error::Argument`] for δ that do not fall inside (0, 1), fewer than 1/δ₃ values, values whose quantiles are not all different, no resamples, a
/// confidence outside (0, 1); [`Error::NotFinite`].
pub fn tail_growth(values: &[f64], deltas: [f64; 3], confidence: f64, resamples: usize, key: Key) -> Result<TailGrowth> {
    check_finite("values", values)?;
    check_inside("confidence", confidence)?;
    check_count("resamples", resamples)?;
    deltas.iter().try_for_each(|&delta| check_inside("deltas", delta))?;
    if !(deltas[0] > deltas[1] && deltas[1] > deltas[2]) {
        return Err(Error::argument("deltas", "three falling probabilities", format_args!("{deltas:?}")));
    }
    if (values.len() as f64) * deltas[2] < 1.0 {
        return Err(Error::argument("values", format_args!("at least {} for this δ", (1.0 / deltas[2]).ceil()), values.len()));
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let exponent = exponent_of(&sorted, deltas);
    let Some(exponent) = exponent else {
        return Err(Error::argument("values", "three different quantiles", "equal ones"));
    };
    let resample = |block: std::ops::Range<usize>| -> Vec<f64> {
        let one = |i: usize| {
            let drawn = draw(&sorted, &mut key.child(i as u64).stream());
            // Equal quantiles of a resample say nothing: they count at the end that widens the limits.
            exponent_of(&drawn, deltas).unwrap_or(if i.is_multiple_of(2) { RANGE.0 } else { RANGE.1 })
        };
        block.map(one).collect()
    };
    let mut exponents = par::map_blocks(resamples, 16, resample).concat();
    exponents.sort_by(f64::total_cmp);
    let rank = |p: f64| exponents[((resamples as f64 * p) as usize).min(resamples - 1)];
    let tail = 0.5 * (1.0 - confidence);
    Ok(TailGrowth { exponent, lower: rank(tail), upper: rank(1.0 - tail) })
}

/// A bootstrap sample of sorted values, sorted: how often each is drawn decides, so that nothing has to be sorted.
fn draw(sorted: &[f64], stream: &mut Stream) -> Vec<f64> {
    let n = sorted.len();
    let mut counts = vec![0_u32; n];
    // Below n for a uniform number below 1; the minimum guards the rounding of the product.
    (0..n).for_each(|_| counts[((stream.uniform() * n as f64) as usize).min(n - 1)] += 1);
    sorted.iter().zip(counts).flat_map(|(&value, count)| std::iter::repeat_n(value, count as usize)).collect()
}

/// p of sorted values by bisection; `None` where quantiles coincide.
fn exponent_of(sorted: &[f64], deltas: [f64; 3]) -> Option<f64> {
    let n = sorted.len();
    let quantile = |delta: f64| sorted[((n as f64 * (1.0 - delta)).ceil() as usize).clamp(1, n) - 1];
    let [q1, q2, q3] = deltas.map(quantile);
    if !(q1 < q2 && q2 < q3) {
        return None;
    }
    let (found, y) = ((q3 - q2) / (q2 - q1), deltas.map(|delta| -delta.ln()));
    // y^p with the limit ln y at p = 0, divided by p so that its sign does not turn.
    let power = |y: f64, p: f64| if p.abs() < 1e-9 { y.ln() } else { (p * y.ln()).exp_m1() / p };
    let ratio = |p: f64| (power(y[2], p) - power(y[1], p)) / (power(y[1], p) - power(y[0], p));
    let (mut low, mut high) = RANGE;
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if ratio(middle) < found { low = middle } else { high = middle }
    }
    Some(0.5 * (low + high))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELTAS: [f64; 3] = [0.5, 0.1, 0.01];

    /// (log 1/U)^p, shifted and scaled: its quantiles are a + b·(log 1/δ)^p exactly.
    fn weibull(p: f64, n: usize, key: Key) -> Vec<f64> {
        let mut stream = key.stream();
        (0..n).map(|_| 5.0 + 0.1 * (-(1.0 - stream.uniform()).ln()).powf(p)).collect()
    }

    #[test]
    fn exact_quantiles_give_their_exponent_whatever_shift_and_scale() {
        for p in [-1.0, 0.0, 0.3, 0.5, 1.0, 2.0] {
            let y = |delta: f64| -delta.ln();
            let law = |delta: f64| if p == 0.0 { y(delta).ln() } else { y(delta).powf(p) / p };
            // 1,000 values, the (1 − δ)-quantile of each δ = 0, 0.001, … in its place; the largest one is never asked for.
            let sorted: Vec<f64> = (1..=1000).map(|i| 3.0 + 7.0 * law((f64::from(1000 - i) / 1000.0).max(1e-9))).collect();
            let found = exponent_of(&sorted, DELTAS).unwrap();
            assert!((found - p).abs() < 1e-6, "{found} for {p}");
        }
    }

    #[test]
    fn limits_cover_the_exponent_of_a_weibull_law_and_tell_a_half_from_one() {
        for (p, other) in [(0.5, 1.0), (1.0, 0.5)] {
            let (mut covered, mut excluded) = (0, 0);
            for trial in 0..200 {
                let key = Key::new(trial);
                let found = tail_growth(&weibull(p, 2000, key.child(0)), DELTAS, 0.95, 200, key.child(1)).unwrap();
                covered += u32::from((found.lower..=found.upper).contains(&p));
                excluded += u32::from(!(found.lower..=found.upper).contains(&other));
            }
            // 190 with a standard deviation of 3.1, and the bootstrap is approximate.
            assert!(covered >= 178, "p = {p}: {covered} of 200");
            assert!(excluded >= 180, "p = {p}: {other} excluded in {excluded} of 200");
        }
    }

    /// What the opening says of the absolute value of a normal variable, from its tables.
    #[test]
    fn a_half_normal_is_sub_gaussian_here() {
        let table = [(0.5, 0.674_490), (0.1, 1.644_854), (0.01, 2.575_829)];
        let mut sorted = vec![0.0; 1000];
        for (delta, quantile) in table {
            let rank = (1000.0_f64 * (1.0 - delta)).ceil() as usize;
            sorted[rank - 1..].iter_mut().for_each(|x| *x = quantile);
        }
        let found = exponent_of(&sorted, DELTAS).unwrap();
        assert!((found - 0.54).abs() < 0.01, "{found}");
        let naive = (2.575_829_f64 / 1.281_552).ln() / (0.01_f64.ln() / 0.2_f64.ln()).ln();
        assert!((naive - 0.66).abs() < 0.01, "{naive}");
    }

    #[test]
    fn the_same_key_gives_the_same_limits_at_any_number_of_threads() {
        let values = weibull(0.5, 500, Key::new(1));
        let run = || tail_growth(&values, DELTAS, 0.9, 50, Key::new(2)).unwrap();
        assert_eq!(par::with_threads(1, run).unwrap(), par::with_threads(4, run).unwrap());
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        let name = |e: Error| e.offending_argument();
        let values = weibull(0.5, 100, Key::new(1));
        let fit = |values: &[f64], deltas, resamples| tail_growth(values, deltas, 0.95, resamples, Key::new(2)).map_err(name);
        assert_eq!(fit(&values, [0.1, 0.5, 0.01], 10), Err(Some("deltas")));
        assert_eq!(fit(&values, [1.0, 0.5, 0.1], 10), Err(Some("deltas")));
        assert_eq!(fit(&values, [0.5, 0.1, 0.001], 10), Err(Some("values")));
        assert_eq!(fit(&vec![1.0; 100], DELTAS, 10), Err(Some("values")));
        assert_eq!(fit(&values, DELTAS, 0), Err(Some("resamples")));
        assert_eq!(fit(&[f64::NAN; 100], DELTAS, 10), Err(Some("values")));
    }
}
