//! One axis of a picture: its range, where its ticks stand and what they say. Plotters asks it where a value lies
//! ([`Ranged`]) and how it reads ([`ValueFormatter`]); it never decides a range or a tick itself.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::number;

/// How values lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances are equal differences.
    Linear,
    /// Linear, with ticks at whole numbers only.
    Count,
    /// Equal distances are equal ratios; numbers that are not positive have no place.
    Log,
}

impl Scale {
    /// Whether a value has a place on such an axis.
    pub fn holds(self, value: f64) -> bool {
        value.is_finite() && (self != Self::Log || value > 0.0)
    }
}

/// The space left beyond the outermost values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// The range ends at the outermost values.
    Tight,
    /// A little more on both sides.
    Loose,
}

/// An axis with a finite range that is not empty.
#[derive(Debug, Clone)]
pub struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    minor: Vec<f64>,
    step: f64,
}

/// More ticks than this, and labels crowd.
const MOST_TICKS: usize = 8;

impl Axis {
    /// The axis that shows all `values` that have a place on it; from 0 (1 if logarithmic) to 1 (10) if none has.
    pub fn spanning(scale: Scale, padding: Padding, values: impl IntoIterator<Item = f64>) -> Self {
        let kept = values.into_iter().filter(|x| scale.holds(*x));
        let bounds = kept.fold(None, |bounds: Option<(f64, f64)>, x| match bounds {
            None => Some((x, x)),
            Some((low, high)) => Some((low.min(x), high.max(x))),
        });
        match scale {
            Scale::Log => {
                let (low, high) = bounds.unwrap_or((1.0, 10.0));
                // Beyond these ends the arithmetic below would overflow; what lies there is drawn at the end.
                let (low, high) = (low.log10().clamp(-300.0, 300.0), high.log10().clamp(-300.0, 300.0));
                let margin = if high - low < 1e-6 { 0.3 } else { pad(padding) * (high - low) };
                Self::logarithmic(10f64.powf((low - margin).max(-301.0)), 10f64.powf((high + margin).min(301.0)))
            }
            Scale::Linear | Scale::Count => {
                let (low, high) = bounds.unwrap_or((0.0, 1.0));
                let (low, high) = (low.clamp(-1e300, 1e300), high.clamp(-1e300, 1e300));
                let largest = low.abs().max(high.abs());
                // Below this the difference is rounding, and ticks could not tell its ends apart.
                let constant = high - low <= (1e-9 * largest).max(1e-280);
                let margin = match (constant, scale) {
                    (true, Scale::Count) => 1.0_f64.max(1e-6 * largest),
                    (true, _) if largest > 1e-280 => 0.1 * largest,
                    (true, _) => 1.0,
                    (false, _) => pad(padding) * (high - low),
                };
                Self::linear(scale, low - margin, high + margin)
            }
        }
    }

    /// With every second, third … tick, so that there are at most so many.
    pub fn thinned(self, most: usize) -> Self {
        let stride = self.ticks.len().div_ceil(most.max(2)).max(1);
        Self { ticks: self.ticks.iter().copied().step_by(stride).collect(), ..self }
    }

    /// The axis of bars: from 0 to a little beyond the largest value.
    pub fn from_zero(largest: f64) -> Self {
        let largest = if largest.is_finite() && largest > 1e-280 { largest.min(1e300) } else { 1.0 };
        Self::linear(Scale::Linear, 0.0, largest * 1.12)
    }

    fn linear(scale: Scale, low: f64, high: f64) -> Self {
        let mut step = nice_step((high - low) / (MOST_TICKS - 1) as f64);
        if scale == Scale::Count {
            step = step.max(1.0);
        }
        Self { scale, low, high, ticks: multiples(step, low, high), minor: Vec::new(), step }
    }

    fn logarithmic(low: f64, high: f64) -> Self {
        let decades: Vec<i32> = (low.log10().ceil() as i32..=high.log10().floor() as i32).collect();
        let power = |e: &i32| 10f64.powi(*e);
        let inside = |x: &f64| (low..=high).contains(x);
        let within = |digits: &[f64]| -> Vec<f64> {
            let first = decades.first().map_or(low.log10().floor() as i32, |e| e - 1);
            let last = decades.last().copied().unwrap_or(first);
            (first..=last).flat_map(|e| digits.iter().map(move |d| d * 10f64.powi(e))).filter(inside).collect()
        };
        let stride = decades.len().div_ceil(MOST_TICKS).max(1);
        let minor = if decades.len() <= 5 { within(&[2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]) } else { Vec::new() };
        let mut ticks: Vec<f64> = match decades.len() {
            0..=2 => within(&[1.0, 2.0, 5.0]),
            _ => decades.iter().filter(|e| e.rem_euclid(stride as i32) == 0).map(power).collect(),
        };
        let mut step = 0.0;
        if ticks.len() < 2 {
            step = nice_step((high - low) / 4.0);
            ticks = multiples(step, low, high);
        }
        Self { scale: Scale::Log, low, high, ticks, minor, step }
    }

    /// What stands at a tick.
    pub fn label(&self, tick: f64) -> String {
        if tick == 0.0 {
            return "0".into();
        }
        if self.scale == Scale::Log && self.step == 0.0 {
            // A tick is 1, 2 or 5 times a power of ten: one digit says it all.
            return if (0.0099..9999.0).contains(&tick) { number::significant(tick, 1) } else { format!("{tick:.0e}") };
        }
        let (largest, step) = (number::exponent(self.low.abs().max(self.high.abs())), number::exponent(self.step));
        if (-3..7).contains(&largest) {
            let decimals = usize::try_from(-step).unwrap_or(0);
            return number::grouped(&format!("{tick:.decimals$}"));
        }
        let digits = usize::try_from(number::exponent(tick) - step).unwrap_or(0);
        format!("{tick:.digits$e}")
    }

    /// The labels of all ticks.
    pub fn labels(&self) -> Vec<String> {
        self.ticks.iter().map(|tick| self.label(*tick)).collect()
    }

    /// Where a value lies between the ends: 0 at the lower, 1 at the upper.
    fn fraction(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Log => (value.log10() - self.low.log10()) / (self.high.log10() - self.low.log10()),
            Scale::Linear | Scale::Count => (value - self.low) / (self.high - self.low),
        }
    }
}

fn pad(padding: Padding) -> f64 {
    match padding {
        Padding::Tight => 0.0,
        Padding::Loose => 0.04,
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is at least `least`.
fn nice_step(least: f64) -> f64 {
    let exponent = number::exponent(least);
    // Read from text, as a product of powers can miss the nearest number, and with it the digits of the labels.
    let candidate = |text: &str, exponent: i32| format!("{text}e{exponent}").parse().unwrap_or(f64::MAX);
    let steps = [candidate("1", exponent), candidate("2", exponent), candidate("5", exponent), candidate("1", exponent + 1)];
    steps.into_iter().find(|step| *step >= least * (1.0 - 1e-9)).unwrap_or(steps[3])
}

/// The multiples of `step` from `low` to `high`.
fn multiples(step: f64, low: f64, high: f64) -> Vec<f64> {
    // The slack takes in an end that misses its multiple by rounding.
    let (first, last) = ((low / step - 1e-6).ceil(), (high / step + 1e-6).floor());
    let count = (last - first).clamp(0.0, 4.0 * MOST_TICKS as f64) as usize;
    (0..=count).map(|i| (first + i as f64) * step).map(|x| x + 0.0).collect()
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let fraction = self.fraction(*value).clamp(0.0, 1.0);
        (f64::from(limit.0) + fraction * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.max_num_points() == 0 {
            Vec::new()
        } else if hint.weight().allow_light_points() {
            self.minor.clone()
        } else {
            self.ticks.clone()
        }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.label(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loose(scale: Scale, values: &[f64]) -> Axis {
        Axis::spanning(scale, Padding::Loose, values.iter().copied())
    }

    #[test]
    fn ticks_are_round_numbers_with_the_digits_they_need() {
        assert_eq!(loose(Scale::Linear, &[0.84, 0.96]).labels(), ["0.84", "0.86", "0.88", "0.90", "0.92", "0.94", "0.96"]);
        let tight = |high| Axis::spanning(Scale::Count, Padding::Tight, [0.0, high]).labels();
        assert_eq!(tight(200.0), ["0", "50", "100", "150", "200"]);
        assert_eq!(tight(3.0), ["0", "1", "2", "3"]);
        assert_eq!(tight(20_000.0), ["0", "5000", "10,000", "15,000", "20,000"]);
        assert_eq!(loose(Scale::Log, &[1e-4, 1.0]).labels(), ["1e-4", "1e-3", "0.01", "0.1", "1"]);
        assert_eq!(loose(Scale::Log, &[1.0, 1e4]).labels(), ["1", "10", "100", "1000", "1e4"]);
        assert_eq!(loose(Scale::Log, &[3.0, 40.0]).labels(), ["5", "10", "20"]);
        assert_eq!(loose(Scale::Linear, &[-2e-5, 3e-5]).labels(), ["-2e-5", "-1e-5", "0", "1e-5", "2e-5", "3e-5"]);
    }

    #[test]
    fn every_axis_has_a_range_and_few_ticks_inside_it() {
        let hard =
            [0.0, -0.0, 1.0, -1.0, 5e-324, 1e-300, 1e-16, 1.0 + 1e-15, 1e16, 1e300, f64::MAX, f64::MIN, f64::NAN, f64::INFINITY];
        for a in hard {
            for b in hard {
                for scale in [Scale::Linear, Scale::Count, Scale::Log] {
                    for padding in [Padding::Loose, Padding::Tight] {
                        let axis = Axis::spanning(scale, padding, [a, b]);
                        let Range { start, end } = axis.range();
                        assert!(start < end && (end - start).is_finite(), "{scale:?} {a} {b}: {start}..{end}");
                        assert!(axis.ticks.len() <= 4 * MOST_TICKS + 1, "{scale:?} {a} {b}: {:?}", axis.ticks);
                        assert!(axis.ticks.iter().all(|t| t.is_finite()));
                        assert!(axis.labels().iter().all(|label| label.len() < 20), "{:?}", axis.labels());
                        assert!([a, b].iter().all(|x| (0..=1000).contains(&axis.map(x, (0, 1000)))));
                    }
                }
            }
        }
    }

    #[test]
    fn a_thinned_axis_keeps_every_second_or_third_tick() {
        let axis = loose(Scale::Linear, &[0.0, 60.0]);
        let all = axis.ticks.len();
        assert!(all > 4, "{:?}", axis.ticks);
        assert_eq!(axis.clone().thinned(all).ticks, axis.ticks);
        let thinned = axis.clone().thinned(3).ticks;
        assert!((2..=3).contains(&thinned.len()) && thinned[0] == axis.ticks[0], "{thinned:?}");
        assert_eq!(axis.clone().thinned(0).ticks.len(), 2);
    }

    #[test]
    fn a_logarithmic_axis_has_no_place_for_zero() {
        assert!(!Scale::Log.holds(0.0) && !Scale::Log.holds(-1.0) && Scale::Linear.holds(-1.0));
        let axis = loose(Scale::Log, &[0.0, -5.0, 10.0, 1000.0]);
        assert!(axis.range().start > 5.0, "only positive values count");
    }
}
