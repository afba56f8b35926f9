//! Quantiles of the distributions that bounds and intervals are made of. The only file that names `statrs`.

use statrs::distribution::{Beta, ChiSquared, ContinuousCDF, Normal, StudentsT};

use crate::error::{Error, Result, check_positive};

fn check_probability(p: f64) -> Result<()> {
    if p > 0.0 && p < 1.0 { Ok(()) } else { Err(Error::argument("probability", "a number in (0, 1)", p)) }
}

fn failed(distribution: &'static str, error: impl std::fmt::Display) -> Error {
    Error::Numerical { operation: distribution, reason: error.to_string() }
}

/// The p-quantile of the chi-square distribution with `degrees` degrees of freedom.
///
/// # Errors
/// [`Error::Argument`] for a p outside (0, 1) or degrees that are not positive.
pub fn chi_square_quantile(degrees: f64, p: f64) -> Result<f64> {
    check_positive("degrees of freedom", degrees)?;
    check_probability(p)?;
    Ok(ChiSquared::new(degrees).map_err(|e| failed("chi-square quantile", e))?.inverse_cdf(p))
}

/// The p-quantile of Student's t distribution with `degrees` degrees of freedom.
///
/// # Errors
/// As [`chi_square_quantile`].
pub fn student_quantile(degrees: f64, p: f64) -> Result<f64> {
    check_positive("degrees of freedom", degrees)?;
    check_probability(p)?;
    Ok(StudentsT::new(0.0, 1.0, degrees).map_err(|e| failed("Student quantile", e))?.inverse_cdf(p))
}

/// The p-quantile of the standard normal distribution.
///
/// # Errors
/// [`Error::Argument`] for a p outside (0, 1).
pub fn normal_quantile(p: f64) -> Result<f64> {
    check_probability(p)?;
    Ok(Normal::standard().inverse_cdf(p))
}

/// The p-quantile of the beta distribution with shapes a and b.
///
/// # Errors
/// [`Error::Argument`] for a p outside (0, 1) or shapes that are not positive.
pub fn beta_quantile(a: f64, b: f64, p: f64) -> Result<f64> {
    check_positive("a", a)?;
    check_positive("b", b)?;
    check_probability(p)?;
    Ok(Beta::new(a, b).map_err(|e| failed("beta quantile", e))?.inverse_cdf(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables: Abramowitz & Stegun 26.8 and 26.10, and closed forms.
    #[test]
    fn quantiles_equal_their_tables_and_closed_forms() {
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-4, "{found} against {expected}");
        close(chi_square_quantile(10.0, 0.05).unwrap(), 3.94030);
        close(chi_square_quantile(1.0, 0.01).unwrap(), 1.57088e-4);
        close(chi_square_quantile(16.0, 0.01).unwrap(), 5.81221);
        // With two degrees of freedom: −2 ln(1 − p).
        for p in [1e-6_f64, 0.01, 0.5, 0.999] {
            close(chi_square_quantile(2.0, p).unwrap(), -2.0 * (-p).ln_1p());
        }
        close(student_quantile(4.0, 0.975).unwrap(), 2.77645);
        close(student_quantile(1.0, 0.75).unwrap(), 1.0);
        close(normal_quantile(0.975).unwrap(), 1.959964);
        // Of Beta(1, b): 1 − (1 − p)^{1/b}.
        close(beta_quantile(1.0, 20.0, 0.95).unwrap(), 1.0 - 0.05_f64.powf(1.0 / 20.0));
    }

    /// Two-sided 95 % and 99 % values of the tables, and the closed forms for one and two degrees of freedom.
    #[test]
    fn student_quantiles_are_those_of_the_textbooks() {
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
    fn what_is_no_probability_is_refused() {
        for p in [0.0, 1.0, -0.1, f64::NAN] {
            assert_eq!(chi_square_quantile(3.0, p).unwrap_err().offending_argument(), Some("probability"));
        }
        assert!(student_quantile(0.0, 0.5).is_err() && student_quantile(3.0, 1.0).is_err());
        assert!(chi_square_quantile(0.0, 0.5).is_err() && beta_quantile(1.0, f64::NAN, 0.5).is_err());
    }
}
