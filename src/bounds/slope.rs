//! The rate at which an error falls: the slope of log error against log budget. Errors along one stream of samples are correlated,
//! so the limits of one regression over all points do not hold: too narrow where errors drift along a stream, too wide where
//! streams differ in level. A slope is fitted to each replicate (a stream, a seed) instead, and the limits are Student's (1908) for
//! the mean of these independent numbers.

use serde::{Deserialize, Serialize};

use super::coverage::check_inside;
use crate::error::{Error, Result, check_finite, check_len, check_positive};
use crate::special::student_quantile;

/// A mean slope over replicates with its confidence limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slope {
    /// The mean over the replicates.
    pub mean: f64,
    /// The lower confidence limit.
    pub lower: f64,
    /// The upper confidence limit.
    pub upper: f64,
    /// How many replicates.
    pub replicates: usize,
}

impl Slope {
    /// Whether the limits include `value`.
    pub fn covers(&self, value: f64) -> bool {
        (self.lower..=self.upper).contains(&value)
    }
}

/// Σ (u − ū)(w − w̄) / Σ (u − ū)² with u = ln x and w = ln y: the least-squares exponent of y ∝ x^slope.
///
/// # Errors
/// [`Error::Shape`], and [`Error::Argument`] for fewer than two different x, or an x or y that is not positive and finite.
pub fn log_log_slope(x: &[f64], y: &[f64]) -> Result<f64> {
    check_len("y", y.len(), x.len())?;
    x.iter().try_for_each(|&x| check_positive("x", x))?;
    y.iter().try_for_each(|&y| check_positive("y", y))?;
    if !x.iter().any(|other| *other != x[0]) {
        return Err(Error::argument("x", "at least 2 different values", format_args!("{x:?}")));
    }
    let centered = |values: &[f64]| -> Vec<f64> {
        let logs: Vec<f64> = values.iter().map(|x| x.ln()).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        logs.iter().map(|log| log - mean).collect()
    };
    let (u, w) = (centered(x), centered(y));
    let slope = u.iter().zip(&w).map(|(u, w)| u * w).sum::<f64>() / u.iter().map(|u| u * u).sum::<f64>();
    // Neighbouring x can share their logarithm.
    if slope.is_finite() { Ok(slope) } else { Err(Error::argument("x", "values with different logarithms", format_args!("{x:?}"))) }
}

/// The slope of each replicate's y against x, and of these R slopes b the limits mean ± t(R − 1, (1 + confidence)/2) · s/√R.
///
/// # Errors
/// As [`log_log_slope`], and [`Error::Argument`] for fewer than two replicates or a confidence outside (0, 1).
pub fn slope_with_limits(x: &[f64], replicates: &[Vec<f64>], confidence: f64) -> Result<Slope> {
    let slopes = replicates.iter().map(|y| log_log_slope(x, y)).collect::<Result<Vec<_>>>()?;
    let (mean, half_width) = mean_with_limits("replicates", &slopes, confidence)?;
    Ok(Slope { mean, lower: mean - half_width, upper: mean + half_width, replicates: slopes.len() })
}

/// The mean of independent numbers and the half-width of its Student limits.
///
/// # Errors
/// [`Error::Argument`] for fewer than two numbers or a confidence outside (0, 1), [`Error::NotFinite`].
pub fn mean_with_limits(argument: &'static str, values: &[f64], confidence: f64) -> Result<(f64, f64)> {
    check_finite(argument, values)?;
    if values.len() < 2 {
        return Err(Error::argument(argument, "at least 2", values.len()));
    }
    check_inside("confidence", confidence)?;
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0)).sqrt();
    Ok((mean, student_quantile(n - 1.0, 0.5 * (1.0 + confidence))? * deviation / n.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Key;

    /// Two-sided 95 % and 99 % values of the tables, and the closed forms for one and two degrees of freedom.
    #[test]
    fn quantiles_are_those_of_the_textbooks() {
        for (degrees, p, t) in [
            (3.0, 0.975, 3.182_446_305_284_263),
            (4.0, 0.975, 2.776_445_105_197_799),
            (9.0, 0.975, 2.262_157_162_798_205),
            (19.0, 0.975, 2.093_024_054_408_263),
            (4.0, 0.995, 4.604_094_871_349_993),
            (1000.0, 0.975, 1.962_339_080_810_405),
        ] {
            let found = student_quantile(degrees, p).unwrap();
            assert!((found - t).abs() < 1e-8 * t, "{degrees}: {found} for {t}");
        }
        for p in [0.001_f64, 0.2, 0.5, 0.8, 0.975, 0.9995] {
            let one = (std::f64::consts::PI * (p - 0.5)).tan();
            let two = (2.0 * p - 1.0) / (2.0 * p * (1.0 - p)).sqrt();
            for (degrees, t) in [(1.0, one), (2.0, two)] {
                let found = student_quantile(degrees, p).unwrap();
                assert!((found - t).abs() < 1e-8 * (1.0 + t.abs()), "{degrees}, {p}: {found} for {t}");
            }
        }
    }

    #[test]
    fn a_power_law_without_noise_gives_its_exponent() {
        let x = [1.0, 3.0, 10.0, 400.0];
        for exponent in [-1.0, -0.5, 0.0, 2.0] {
            let y: Vec<f64> = x.iter().map(|x: &f64| 7.0 * x.powf(exponent)).collect();
            assert!((log_log_slope(&x, &y).unwrap() - exponent).abs() < 1e-14);
        }
    }

    /// Noise with a part that all points of a replicate share, `level` large, and one that drifts along it, as along a stream.
    fn planted(key: Key, exponent: f64, level: f64, replicates: u64) -> (Vec<f64>, Vec<Vec<f64>>) {
        let x: Vec<f64> = (0..9).map(|k| 10.0 * 3.0_f64.powi(k)).collect();
        let replicate = |r: u64| {
            let mut stream = key.child(r).stream();
            let (shared, mut walk) = (stream.normal(), 0.0);
            let noisy = |x: &f64| {
                walk += 0.15 * stream.normal();
                x.powf(exponent) * (level * shared + walk).exp()
            };
            x.iter().map(noisy).collect()
        };
        let y = (0..replicates).map(replicate).collect();
        (x, y)
    }

    #[test]
    fn limits_cover_the_planted_slope_as_often_as_they_say_and_exclude_another() {
        let (trials, mut covered) = (1000_u64, 0);
        for trial in 0..trials {
            let (x, y) = planted(Key::new(trial), -0.5, 0.5, 5);
            let slope = slope_with_limits(&x, &y, 0.95).unwrap();
            covered += u64::from(slope.covers(-0.5));
            assert!(!slope.covers(-1.0), "{slope:?}");
        }
        // The number covered is binomial(1000, 0.95): its standard deviation is 6.9.
        assert!(covered.abs_diff(950) < 35, "{covered} of 1000");
        let (x, y) = planted(Key::new(7), -1.0, 0.5, 5);
        let slope = slope_with_limits(&x, &y, 0.95).unwrap();
        assert!(slope.covers(-1.0) && !slope.covers(-0.5) && slope.replicates == 5, "{slope:?}");
    }

    /// What the module exists for: limits of one regression over all points, as if these were independent, cover far too seldom.
    #[test]
    fn limits_that_pool_the_points_of_a_stream_would_be_too_narrow() {
        let mut covered = 0;
        for trial in 0..200 {
            let (x, y) = planted(Key::new(trial), -0.5, 0.05, 5);
            let points: Vec<(f64, f64)> = y.iter().flat_map(|y| x.iter().zip(y).map(|(x, y)| (x.ln(), y.ln()))).collect();
            let all: (Vec<f64>, Vec<f64>) = points.iter().map(|(u, w)| (u.exp(), w.exp())).unzip();
            let slope = log_log_slope(&all.0, &all.1).unwrap();
            let n = points.len() as f64;
            let mean = |f: fn(&(f64, f64)) -> f64| points.iter().map(f).sum::<f64>() / n;
            let (u, w) = (mean(|p| p.0), mean(|p| p.1));
            let squares: f64 = points.iter().map(|p| (p.0 - u).powi(2)).sum();
            let rest: f64 = points.iter().map(|p| (p.1 - w - slope * (p.0 - u)).powi(2)).sum();
            let half_width = student_quantile(n - 2.0, 0.975).unwrap() * (rest / (n - 2.0) / squares).sqrt();
            covered += u64::from((slope + 0.5).abs() <= half_width);
        }
        assert!(covered < 180, "{covered} of 200");
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        let name = |e: Error| e.offending_argument();
        let fit = |x: &[f64], y: &[f64]| name(log_log_slope(x, y).unwrap_err());
        assert_eq!(fit(&[1.0, 2.0], &[1.0]), Some("y"));
        assert_eq!(fit(&[1.0, 2.0], &[1.0, 0.0]), Some("y"));
        assert_eq!(fit(&[1.0, f64::NAN], &[1.0, 1.0]), Some("x"));
        assert_eq!(fit(&[0.0, 1.0], &[1.0, 1.0]), Some("x"));
        assert_eq!(fit(&[2.0, 2.0], &[1.0, 1.0]), Some("x"));
        assert_eq!(fit(&[], &[]), Some("x"));
        assert_eq!(fit(&[1e300, 1e300 * (1.0 + f64::EPSILON)], &[1.0, 2.0]), Some("x"));
        let limits =
            |replicates: &[Vec<f64>], confidence| name(slope_with_limits(&[1.0, 2.0], replicates, confidence).unwrap_err());
        assert_eq!(limits(&[], 0.95), Some("replicates"));
        assert_eq!(limits(&[vec![1.0, 2.0]], 0.95), Some("replicates"));
        let two = [vec![1.0, 2.0], vec![1.0, 3.0]];
        for confidence in [0.0, 1.0, f64::NAN] {
            assert_eq!(limits(&two, confidence), Some("confidence"));
        }
        assert_eq!(name(student_quantile(0.0, 0.5).unwrap_err()), Some("degrees of freedom"));
        assert_eq!(name(student_quantile(3.0, 1.0).unwrap_err()), Some("probability"));
    }
}
