//! The settings of the quadratic problem: sizes, spectra and noise.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, check_count, check_nonnegative, check_positive};

/// The settings of [`Quadratic`](super::Quadratic), all of whose data are drawn.
///
/// x_i ~ N(0, Σ) with the eigenvalues of `spectrum` in random directions; a_i = Aᵀx_i + misfit · N(0, I) with A_jk ~ N(0, 1/d1);
/// c_i ~ N(0, noise²); z_j as x_i; t_j = z_jᵀθ° + N(0, noise²) with θ° ~ N(0, I).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// d2, the number of inner features.
    pub inner_dim: usize,
    /// d1.
    pub outer_dim: usize,
    /// n, the number of inner samples.
    pub samples: usize,
    /// m, the number of outer samples.
    pub outer_samples: usize,
    /// The eigenvalues of the covariance of the inner features.
    pub spectrum: Spectrum,
    /// The standard deviation of c_i and of the noise in t_j. Without noise the scores vanish at a perfect fit, and with them the
    /// empirical Fisher matrix; at 1 the model is well specified.
    pub noise: f64,
    /// The standard deviation of what of a_i is no linear function of x_i: 0 leaves the model well specified at every v.
    pub misfit: f64,
    /// λ of (λ/2)‖θ‖²; 0 is allowed where the features have full rank.
    pub ridge: f64,
    /// α of (α/2)‖v‖², or the largest eigenvalue of P.
    pub penalty: f64,
    /// Spectra that the drawn samples have exactly, not in the mean alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prescribed: Option<Prescribed>,
}

/// Spectra of second derivatives, each in a random orthogonal basis of its own, exact for the samples at hand: ∇²_θθ g has the eigenvalues
/// `inner_largest` · `spectrum` + ridge, ∇²_θθ f `outer_largest` · `outer`, ∇²_vv f `penalty` · `outer_penalty`, and J the singular values
/// `cross_largest` · `cross`.
///
/// x, z and what of a is no function of x are whitened over the samples, so that n ≥ d2 (n ≥ d2 + d1 with a misfit) and m ≥ d2; and
/// a_i = −JᵀΣ⁻¹x_i + misfit · (whitened noise), Σ = (1/n) Σ x_i x_iᵀ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prescribed {
    /// The largest eigenvalue of Σ, whose spectrum is `spectrum`.
    pub inner_largest: f64,
    /// The eigenvalues of ∇²_θθ f.
    pub outer: Spectrum,
    /// The largest of them.
    pub outer_largest: f64,
    /// The eigenvalues of ∇²_vv f, of which `penalty` is the largest.
    pub outer_penalty: Spectrum,
    /// The min(d1, d2) singular values of J.
    pub cross: Spectrum,
    /// The largest of them.
    pub cross_largest: f64,
}

impl Default for Prescribed {
    fn default() -> Self {
        let flat = Spectrum::Flat {};
        Self { inner_largest: 1.0, outer: flat, outer_largest: 1.0, outer_penalty: flat, cross: flat, cross_largest: 1.0 }
    }
}

impl Prescribed {
    fn validate(&self, config: &Config) -> Result<()> {
        for (name, largest) in
            [("inner_largest", self.inner_largest), ("outer_largest", self.outer_largest), ("cross_largest", self.cross_largest)]
        {
            check_positive(name, largest)?;
        }
        [self.outer, self.outer_penalty, self.cross].into_iter().try_for_each(Spectrum::validate)?;
        let (d2, d1) = (config.inner_dim, config.outer_dim);
        let whitened = if config.misfit == 0.0 { d2 } else { d2.saturating_add(d1) };
        for (name, found, needed) in [("samples", config.samples, whitened), ("outer_samples", config.outer_samples, d2)] {
            if found < needed {
                return Err(Error::argument(name, format_args!("at least {needed} for prescribed spectra"), found));
            }
        }
        // Σ⁻¹ and the solution of Φ are formed.
        for (name, spectrum, dim) in [("spectrum", config.spectrum, d2), ("outer_penalty", self.outer_penalty, d1)] {
            let smallest = spectrum.eigenvalue(dim - 1, dim);
            if smallest < SMALLEST {
                let expected = format!("eigenvalues of at least {SMALLEST:e} times the largest where spectra are prescribed");
                return Err(Error::argument(name, expected, format_args!("{smallest:e}")));
            }
        }
        Ok(())
    }
}

/// The smallest share of the largest eigenvalue that a matrix may have whose inverse is used.
const SMALLEST: f64 = 1e-10;

/// Eigenvalues λ_1 ≥ λ_2 ≥ …, the largest of them 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Spectrum {
    /// λ_j = 1.
    Flat {},
    /// λ_j = j^(−exponent).
    Power {
        /// The exponent.
        exponent: f64,
    },
    /// λ_j = exp(−rate · (j − 1)).
    Exponential {
        /// The rate.
        rate: f64,
    },
    /// λ_j = number^(−(j − 1)/(d − 1)): geometric from 1 down to 1/number.
    Condition {
        /// The condition number.
        number: f64,
    },
}

impl Spectrum {
    fn validate(self) -> Result<()> {
        match self {
            Self::Flat {} => Ok(()),
            Self::Power { exponent } => check_nonnegative("exponent", exponent),
            Self::Exponential { rate } => check_nonnegative("rate", rate),
            Self::Condition { number } if number.is_finite() && number >= 1.0 => Ok(()),
            Self::Condition { number } => Err(Error::argument("number", "a finite condition number of at least 1", number)),
        }
    }

    /// λ_{j+1} of d.
    pub(super) fn eigenvalue(self, j: usize, d: usize) -> f64 {
        match self {
            Self::Flat {} => 1.0,
            Self::Power { exponent } => (j as f64 + 1.0).powf(-exponent),
            Self::Exponential { rate } => (-rate * j as f64).exp(),
            Self::Condition { number } => number.powf(-(j as f64) / (d.max(2) - 1) as f64),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inner_dim: 20,
            outer_dim: 10,
            samples: 1000,
            outer_samples: 200,
            spectrum: Spectrum::Power { exponent: 1.0 },
            noise: 1.0,
            misfit: 0.0,
            ridge: 1e-3,
            penalty: 1e-2,
            prescribed: None,
        }
    }
}

/// The most numbers that a problem's data may hold: 2 GiB.
const MAX_NUMBERS: usize = 1 << 28;

impl Config {
    pub(in crate::problem) fn validate(&self) -> Result<()> {
        for (name, count) in [
            ("inner_dim", self.inner_dim),
            ("outer_dim", self.outer_dim),
            ("samples", self.samples),
            ("outer_samples", self.outer_samples),
        ] {
            check_count(name, count)?;
        }
        self.spectrum.validate()?;
        check_positive("noise", self.noise)?;
        check_nonnegative("misfit", self.misfit)?;
        check_nonnegative("ridge", self.ridge)?;
        check_positive("penalty", self.penalty)?;
        let joint = self.inner_dim.saturating_add(self.outer_dim);
        let rows = self.samples.saturating_add(self.outer_samples).saturating_add(joint);
        if rows.saturating_mul(joint) > MAX_NUMBERS {
            let expected = format!("at most {MAX_NUMBERS} numbers in all");
            return Err(Error::argument("samples", expected, format_args!("{rows} rows of {joint}, square matrices included")));
        }
        self.prescribed.as_ref().map_or(Ok(()), |prescribed| prescribed.validate(self))
    }
}
