//! Claims and what a measurement makes of them. A claim carries its rule, numbers included, as data that is written down before
//! anything is measured; the verdict follows from the rule and the measurement's limits alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::coverage::{FailureRate, Quantile};
use super::slope::Slope;
use crate::error::Result;

/// What a measurement says of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The measurement, limits and all, is as claimed.
    Holds,
    /// The claim is outside the limits.
    Fails,
    /// The limits allow both.
    Undecided,
}

impl Verdict {
    /// The verdict in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Undecided => "undecided",
        }
    }

    fn of(holds: bool, fails: bool) -> Self {
        match (holds, fails) {
            (true, _) => Self::Holds,
            (false, true) => Self::Fails,
            (false, false) => Self::Undecided,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a measurement decides a claim.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// Of a slope: holds where the limits lie inside predicted ± tolerance, fails where they lie outside of it entirely.
    SlopeWithin {
        /// The exponent.
        predicted: f64,
        /// The half-width of what still counts as it.
        tolerance: f64,
    },
    /// Of an error, a ratio, an exponent: holds where the upper limit is at most the bound, fails where the lower one exceeds it.
    AtMost {
        /// The bound.
        bound: f64,
    },
    /// Of a share of replicates: fails where the lower (Clopper–Pearson) limit exceeds δ, holds where the observed rate is at most δ. (To ask for
    /// an upper limit below δ would never let a bound hold whose failure rate *is* δ.)
    FailureRate {
        /// δ, the probability of failure that the statement allows.
        delta: f64,
    },
    /// Of a count of violations of a deterministic statement: holds at 0, fails at any other number.
    NoViolation {},
    /// Of a quantity that is known by another computation: holds where the limits lie inside predicted · (1 ± relative), fails where they lie
    /// outside of it entirely.
    Agrees {
        /// What the other computation gives.
        predicted: f64,
        /// The relative difference that is allowed.
        relative: f64,
    },
}

impl Rule {
    /// The number that the claim predicts: an exponent, a bound, δ, no violation, a value.
    pub fn predicted(self) -> f64 {
        match self {
            Self::SlopeWithin { predicted, .. } | Self::Agrees { predicted, .. } => predicted,
            Self::AtMost { bound } => bound,
            Self::FailureRate { delta } => delta,
            Self::NoViolation {} => 0.0,
        }
    }

    /// The verdict. Limits that do not enclose the value, NaN among them, decide nothing.
    pub fn verdict(self, Measured { value, low, high }: Measured) -> Verdict {
        if !(low <= value && value <= high) {
            return Verdict::Undecided;
        }
        let within = |centre: f64, half: f64| {
            let half = half.abs();
            Verdict::of(centre - half <= low && high <= centre + half, high < centre - half || centre + half < low)
        };
        match self {
            Self::SlopeWithin { predicted, tolerance } => within(predicted, tolerance),
            Self::Agrees { predicted, relative } => within(predicted, relative * predicted),
            Self::AtMost { bound } => Verdict::of(high <= bound, low > bound),
            Self::FailureRate { delta } => Verdict::of(value <= delta, low > delta),
            Self::NoViolation {} => Verdict::of(value == 0.0, value != 0.0),
        }
    }
}

/// The rule in words, for tables.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SlopeWithin { predicted, tolerance } => write!(f, "limits within {predicted} ± {tolerance}"),
            Self::AtMost { bound } => write!(f, "upper limit at most {bound}"),
            Self::FailureRate { delta } => write!(f, "rate at most {delta}; fails where its lower limit exceeds that"),
            Self::NoViolation {} => write!(f, "no violation"),
            Self::Agrees { predicted, relative } => write!(f, "limits within {} % of {predicted}", 100.0 * relative),
        }
    }
}

/// A number with its confidence limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The number.
    pub value: f64,
    /// The lower limit.
    pub low: f64,
    /// The upper limit.
    pub high: f64,
}

impl Measured {
    /// A number that is known as it is: a count, a ratio of two computed numbers.
    pub fn exactly(value: f64) -> Self {
        Self { value, low: value, high: value }
    }

    /// A failure rate with Clopper & Pearson's limits.
    ///
    /// # Errors
    /// As [`FailureRate::limits`].
    pub fn rate(rate: FailureRate, confidence: f64) -> Result<Self> {
        let (low, high) = rate.limits(confidence)?;
        Ok(Self { value: rate.rate(), low, high })
    }
}

impl From<Slope> for Measured {
    fn from(Slope { mean, lower, upper, .. }: Slope) -> Self {
        Self { value: mean, low: lower, high: upper }
    }
}

impl From<Quantile> for Measured {
    fn from(Quantile { value, lower, upper }: Quantile) -> Self {
        Self { value, low: lower, high: upper }
    }
}

/// A statement of the theory, to be judged by a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The experiment that measures it.
    pub experiment: String,
    /// The statement.
    pub claim: String,
    /// What decides it.
    pub rule: Rule,
}

impl Claim {
    /// A claim.
    pub fn new(experiment: impl Into<String>, claim: impl Into<String>, rule: Rule) -> Self {
        Self { experiment: experiment.into(), claim: claim.into(), rule }
    }

    /// The claim beside what was measured, with the verdict.
    pub fn judge(&self, measured: impl Into<Measured>) -> Judgement {
        let measured = measured.into();
        Judgement {
            experiment: self.experiment.clone(),
            claim: self.claim.clone(),
            predicted: self.rule.predicted(),
            measured: measured.value,
            low: measured.low,
            high: measured.high,
            verdict: self.rule.verdict(measured),
        }
    }
}

/// A row of the table of verdicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The experiment.
    pub experiment: String,
    /// The statement.
    pub claim: String,
    /// The number that it predicts.
    pub predicted: f64,
    /// The number that was measured.
    pub measured: f64,
    /// Its lower limit.
    pub low: f64,
    /// Its upper limit.
    pub high: f64,
    /// What follows.
    pub verdict: Verdict,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::slope_with_limits;
    use crate::rng::Key;

    fn verdict(rule: Rule, low: f64, value: f64, high: f64) -> Verdict {
        rule.verdict(Measured { value, low, high })
    }

    /// Errors of means of n coin tosses fall as n^−1/2; a claim of n^−1 about them is wrong, and found to be.
    #[test]
    fn a_planted_wrong_claim_fails_where_the_true_one_holds() {
        let counts = [16_usize, 64, 256, 1024];
        // The root of the mean square over 200 streams, so that one replicate is smooth.
        let error = |key: Key, n: usize| {
            let square = |i| {
                let mut stream = key.child(n as u64).child(i).stream();
                let sum: f64 = (0..n).map(|_| if stream.uniform() < 0.5 { -1.0 } else { 1.0 }).sum();
                (sum / n as f64).powi(2)
            };
            ((0..200).map(square).sum::<f64>() / 200.0).sqrt()
        };
        let x: Vec<f64> = counts.iter().map(|&n| n as f64).collect();
        let y: Vec<Vec<f64>> = (0..8).map(|r| counts.iter().map(|&n| error(Key::new(1).child(r), n)).collect()).collect();
        let slope = slope_with_limits(&x, &y, 0.95).unwrap();
        let claim = |predicted| Claim::new("means", "the rate", Rule::SlopeWithin { predicted, tolerance: 0.05 });
        let (right, wrong) = (claim(-0.5).judge(slope), claim(-1.0).judge(slope));
        assert_eq!(right.verdict, Verdict::Holds, "{right:?}");
        assert_eq!(wrong.verdict, Verdict::Fails, "{wrong:?}");
        assert_eq!((wrong.predicted, wrong.measured, wrong.low, wrong.high), (-1.0, slope.mean, slope.lower, slope.upper));
    }

    #[test]
    fn limits_astride_the_edge_leave_a_claim_undecided() {
        let slope = Rule::SlopeWithin { predicted: -0.5, tolerance: 0.05 };
        assert_eq!(verdict(slope, -0.54, -0.52, -0.50), Verdict::Holds);
        assert_eq!(verdict(slope, -0.56, -0.52, -0.50), Verdict::Undecided);
        assert_eq!(verdict(slope, -0.60, -0.5, -0.40), Verdict::Undecided);
        assert_eq!(verdict(slope, -0.44, -0.43, -0.42), Verdict::Fails);
        let bound = Rule::AtMost { bound: 2.0 };
        assert_eq!(verdict(bound, 1.0, 1.5, 2.0), Verdict::Holds);
        assert_eq!(verdict(bound, 1.0, 1.5, 2.1), Verdict::Undecided);
        assert_eq!(verdict(bound, 2.1, 2.5, f64::INFINITY), Verdict::Fails);
        // A negative prediction has its interval the right way round.
        let agrees = Rule::Agrees { predicted: -10.0, relative: 0.1 };
        assert_eq!(verdict(agrees, -10.5, -10.0, -9.5), Verdict::Holds);
        assert_eq!(verdict(agrees, -8.0, -7.0, -6.0), Verdict::Fails);
    }

    #[test]
    fn failure_rates_and_violations_are_judged_as_their_rules_say() {
        let judge = |failures, delta| {
            let rate = FailureRate::new(failures, 2000).unwrap();
            Rule::FailureRate { delta }.verdict(Measured::rate(rate, 0.95).unwrap())
        };
        assert_eq!(judge(100, 0.05), Verdict::Holds);
        assert_eq!(judge(110, 0.05), Verdict::Undecided);
        assert_eq!(judge(140, 0.05), Verdict::Fails);
        assert_eq!(judge(0, 0.01), Verdict::Holds);
        assert_eq!(Rule::NoViolation {}.verdict(Measured::exactly(0.0)), Verdict::Holds);
        assert_eq!(Rule::NoViolation {}.verdict(Measured::exactly(1.0)), Verdict::Fails);
    }

    #[test]
    fn what_is_not_a_measurement_decides_nothing() {
        let bound = Rule::AtMost { bound: 2.0 };
        let nan = f64::NAN;
        for (low, value, high) in [(nan, 1.0, 1.0), (1.0, nan, 1.0), (1.0, 1.0, nan), (1.5, 1.0, 1.6), (0.0, 1.0, 0.5)] {
            assert_eq!(verdict(bound, low, value, high), Verdict::Undecided);
        }
        assert_eq!(Rule::NoViolation {}.verdict(Measured::exactly(nan)), Verdict::Undecided);
    }
}
