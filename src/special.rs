//! Quantiles and probabilities of the distributions that bounds and intervals are made of. The only file that names `statrs`.

use statrs::distribution::{Beta, Binomial, ChiSquared, ContinuousCDF, DiscreteCDF, Normal, StudentsT};

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

/// The probability of at most `count` successes in n independent trials of probability p.
///
/// # Errors
/// [`Error::Argument`] for a p outside (0, 1).
pub fn binomial_probability(n: u64, p: f64, count: u64) -> Result<f64> {
    check_probability(p)?;
    Ok(Binomial::new(p, n).map_err(|e| failed("binomial probability", e))?.cdf(count))
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

    #[test]
    fn binomial_probabilities_equal_their_sums() {
        // 2⁻¹⁰ Σ C(10, k): 1, 11, 56, 176 of 1024.
        for (count, sum) in [(0, 1.0), (1, 11.0), (2, 56.0), (3, 176.0), (10, 1024.0)] {
            let found = binomial_probability(10, 0.5, count).unwrap();
            assert!((found - sum / 1024.0).abs() < 1e-13, "{found}");
        }
        assert!((binomial_probability(2000, 0.99, 1999).unwrap() - (1.0 - 0.99_f64.powi(2000))).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        for p in [0.0, 1.0, -0.1, f64::NAN] {
            assert_eq!(chi_square_quantile(3.0, p).unwrap_err().offending_argument(), Some("probability"));
        }
        assert!(binomial_probability(3, 0.0, 1).is_err());
        assert!(chi_square_quantile(0.0, 0.5).is_err() && beta_quantile(1.0, f64::NAN, 0.5).is_err());
    }
}
