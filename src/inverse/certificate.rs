//! Certified inverse products: what (F + Λ')⁻¹v can be when only F̂ and an interval lo·I ≼ F − F̂ ≼ hi·I are known.
//!
//! With A = F̂ + Λ' + lo·I, Δ = hi − lo, x_U = A⁻¹v and x_L = (A + Δ)⁻¹v, the set of all (A + E)⁻¹v with 0 ≼ E ≼ ΔI is exactly the
//! ellipsoid (x − c)ᵀW⁻¹(x − c) ≤ β around the midpoint c = (x_U + x_L)/2, W = (Δ/2)A⁻¹(A + Δ)⁻¹, β = (Δ/2)·x_Uᵀx_L: every point
//! of its surface is attained by an E of rank one, so no tighter statement follows from F̂ and the interval. Two solves buy it.
//!
//! It certifies a sketch against *the matrix that it was fed*. How far that is from a Hessian is another question (`docs/theory.md`).

use serde::{Deserialize, Serialize};

use super::{KnownCurvature, RowSpace};
use crate::dense::{Matrix, difference, dot, eigh, norm};
use crate::error::{Error, Result, check_finite, check_len};
use crate::gradient::GradientBlock;
use crate::operator::LinearOperator;

/// lo·I ≼ F − F̂ ≼ hi·I.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub lo: f64,
    /// The upper end.
    pub hi: f64,
    /// How certain it is.
    pub certainty: Certainty,
}

/// What kind of statement a bound is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// Holds always.
    Deterministic {},
    /// Holds with at least this probability.
    Probability {
        /// The probability.
        at_least: f64,
    },
}

impl Certainty {
    /// Whether it holds always.
    pub fn is_deterministic(self) -> bool {
        matches!(self, Self::Deterministic {})
    }

    /// The probability with which it may fail.
    fn failure(self) -> f64 {
        match self {
            Self::Deterministic {} => 0.0,
            Self::Probability { at_least } => 1.0 - at_least,
        }
    }
}

/// A bound on ‖x̂ − x‖₂, by name.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// Which bound it is.
    pub name: &'static str,
    /// The radius.
    pub radius: f64,
    /// How certain it is.
    pub certainty: Certainty,
}

/// The smallest of several bounds on the same error. Looking at several is paid for: all must hold, so that the probabilities of
/// failure of those that are not deterministic add up.
pub fn smallest(bounds: &[Bound]) -> Option<Bound> {
    let best = bounds.iter().filter(|bound| bound.radius.is_finite()).min_by(|a, b| a.radius.total_cmp(&b.radius))?;
    let failure: f64 = bounds.iter().map(|bound| bound.certainty.failure()).sum();
    let certainty =
        if best.certainty.is_deterministic() { best.certainty } else { Certainty::Probability { at_least: 1.0 - failure } };
    Some(Bound { certainty, ..*best })
}

/// The smallest bound of ‖x̂ − (F + Λ')⁻¹v‖ for an estimate x̂, come by in any way, that brackets of the same matrix give (of several sketches, or
/// of one with and without probes); with the residual r = v − (F + Λ')x̂, where one more pass over the stream gave it, the sharper ones too.
///
/// # Errors
/// As [`Bracket::bound_of`], and [`Error::Argument`] for no brackets.
pub fn certify_estimate(brackets: &[&Bracket<'_>], v: &[f64], estimate: &[f64], residual: Option<&[f64]>) -> Result<Bound> {
    let bounds = brackets.iter().map(|bracket| bracket.bound_of(v, estimate, residual)).collect::<Result<Vec<_>>>()?;
    smallest(&bounds).ok_or_else(|| Error::argument("brackets", "at least one with a finite bound", bounds.len()))
}

/// After an iterative solve with a matrix H ≽ Λ_R: ‖x̂ − H⁻¹b‖ ≤ min(√(rᵀΛ_R⁻¹r/λ_min(Λ_R)), ‖r‖/λ_min(Λ_R)), r = b − Hx̂ recomputed. It is as
/// certain as r: what the product Hx̂ rounded is not in it.
///
/// # Errors
/// [`Error::Shape`], [`Error::Argument`] for a singular Λ_R.
pub fn residual_bound(residual: &[f64], regularizer: &KnownCurvature) -> Result<Bound> {
    check_finite("residual", residual)?;
    let mut solved = Matrix::column(residual.to_vec());
    regularizer.solve_in_place(&mut solved)?;
    let least = regularizer.min_eigenvalue();
    let radius = (dot(residual, solved.as_slice()) / least).sqrt().min(norm(residual) / least);
    Ok(Bound { name: "residual", radius, certainty: Certainty::Deterministic {} })
}

/// An inverse product with everything that is known of its error.
#[derive(Debug, Clone, PartialEq)]
pub struct Certified {
    /// c = (x_U + x_L)/2: of all estimates the one with the smallest bound.
    pub midpoint: Vec<f64>,
    /// x_U = (F̂ + Λ' + lo·I)⁻¹v.
    pub upper: Vec<f64>,
    /// A bound of ‖c − (F + Λ')⁻¹v‖₂, the rounding of the solves included.
    pub radius: f64,
    /// β of the ellipsoid, rounding included.
    pub spread: f64,
    /// What the solves may have rounded, in the 2-norm: a part of the radius.
    pub rounding: f64,
    /// How certain it is.
    pub certainty: Certainty,
}

impl Certified {
    /// A bound of ‖x̂ − (F + Λ')⁻¹v‖₂ for any other estimate: ‖x̂ − c‖ + radius.
    pub fn radius_of(&self, estimate: &[f64]) -> f64 {
        norm(&difference(estimate, &self.midpoint)) + self.radius
    }

    /// radius/(‖c‖ − radius), a bound of the error relative to the exact product; infinite where that may be 0.
    pub fn relative_error(&self) -> f64 {
        relative(self.radius, norm(&self.midpoint))
    }
}

/// radius/(size − radius), or infinity.
pub(super) fn relative(radius: f64, size: f64) -> f64 {
    if radius == 0.0 {
        0.0
    } else if size > radius {
        radius / (size - radius)
    } else {
        f64::INFINITY
    }
}

/// A number with an interval that contains the exact one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Enclosure {
    /// The estimate, the middle of the interval.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// What a [`Bracket`] is built from.
pub struct Parts<'a> {
    /// F̂.
    pub estimate: &'a dyn LinearOperator,
    /// tr F̂, for the allowance for rounding.
    pub trace: f64,
    /// (F̂ + Λ' + lo·I)⁻¹.
    pub lower_inverse: Box<dyn LinearOperator + 'a>,
    /// (F̂ + Λ' + hi·I)⁻¹.
    pub upper_inverse: Box<dyn LinearOperator + 'a>,
    /// Decomposes in the rows' space, where F̂ has one: it makes many quadratic forms cheap for Λ' = λI.
    pub row_space: Box<dyn Fn() -> Result<Option<RowSpace<'a>>> + Send + Sync + 'a>,
}

/// The two ends between which F + Λ' lies, each ready to be solved with.
pub struct Bracket<'a> {
    parts: Parts<'a>,
    /// Λ' + lo·I and Λ' + hi·I.
    lower: KnownCurvature,
    upper: KnownCurvature,
    certainty: Certainty,
}

/// The largest block whose matrix of quadratic forms is decomposed for its norm.
const MOST_ROWS: usize = 1200;

/// Rows whose quadratic forms are taken at once, where they must be expanded for it.
const CHUNK: usize = 64;

impl<'a> Bracket<'a> {
    /// The ends Λ' + lo·I and Λ' + hi·I of what is added to F̂; refused where −lo reaches half of λ_min(Λ'): rounding would decide.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn ends(known: &KnownCurvature, interval: Interval) -> Result<(KnownCurvature, KnownCurvature)> {
        let least = known.min_eigenvalue();
        if least <= 0.0 || -interval.lo >= 0.5 * least {
            let expected = format!("λ_min(Λ') above {:.3e} for a certificate of this sketch (add damping)", -2.0 * interval.lo);
            return Err(Error::argument("damping", expected, format_args!("{least:e}")));
        }
        Ok((known.shifted(interval.lo)?, known.shifted(interval.hi)?))
    }

    /// The bracket of the `ends`, from the parts that belong to them.
    ///
    /// # Errors
    /// [`Error::Shape`] if the parts differ in dimension.
    pub fn new(parts: Parts<'a>, (lower, upper): (KnownCurvature, KnownCurvature), certainty: Certainty) -> Result<Self> {
        for found in [parts.lower_inverse.dim(), parts.upper_inverse.dim(), lower.dim()] {
            check_len("bracket", found, parts.estimate.dim())?;
        }
        Ok(Self { parts, lower, upper, certainty })
    }

    /// Δ = hi − lo.
    pub fn width(&self) -> f64 {
        self.upper.min_eigenvalue() - self.lower.min_eigenvalue()
    }

    /// ω = Δ/(2a(a + Δ)), the largest eigenvalue that W can have; and of A⁻¹, 1/a.
    fn omega(&self) -> f64 {
        let (a, width) = (self.lower.min_eigenvalue(), self.width());
        width / (2.0 * a * (a + width))
    }

    /// A⁻¹V or (A + Δ)⁻¹V, for each column with a bound of what the solve rounded: the residual over the least eigenvalue, and an
    /// allowance for the rounding of the residual itself.
    fn end(&self, inverse: &dyn LinearOperator, known: &KnownCurvature, v: &Matrix) -> Result<(Matrix, Vec<f64>)> {
        let x = inverse.apply_columns(v)?;
        let mut product = self.parts.estimate.apply_columns(&x)?;
        let error = |j: usize| {
            let (v, x, product) = (v.col(j), x.col(j), product.col_mut(j));
            product.iter_mut().enumerate().for_each(|(i, p)| *p += known.entry(i) * x[i]);
            let allowance = 4.0 * f64::EPSILON * (norm(v) + (self.parts.trace + known.max_eigenvalue()) * norm(x));
            (norm(&difference(v, product)) + allowance) / known.min_eigenvalue()
        };
        let errors = (0..v.ncols()).map(error).collect();
        Ok((x, errors))
    }

    /// The midpoint for (F + Λ')⁻¹v and its radius. Two solves.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`].
    pub fn solve(&self, v: &[f64]) -> Result<Certified> {
        check_len("rhs", v.len(), self.parts.estimate.dim())?;
        Ok(self.solve_columns(&Matrix::column(v.to_vec()))?.swap_remove(0))
    }

    /// The same for each column of V, d × k: two solves with all of them at once, which for many is faster than one by one. In memory
    /// about six times V.
    ///
    /// # Errors
    /// As [`solve`](Self::solve).
    pub fn solve_columns(&self, v: &Matrix) -> Result<Vec<Certified>> {
        check_len("rhs", v.nrows(), self.parts.estimate.dim())?;
        check_finite("rhs", v.as_slice())?;
        let (upper, upper_errors) = self.end(&*self.parts.lower_inverse, &self.lower, v)?;
        let (lower, lower_errors) = self.end(&*self.parts.upper_inverse, &self.upper, v)?;
        let one = |j: usize| self.certify((upper.col(j), upper_errors[j]), (lower.col(j), lower_errors[j]));
        Ok((0..v.ncols()).map(one).collect())
    }

    /// The midpoint of x_U and x_L with what is known of its error; each end comes with its rounding.
    fn certify(&self, (upper, upper_error): (&[f64], f64), (lower, lower_error): (&[f64], f64)) -> Certified {
        let midpoint: Vec<f64> = upper.iter().zip(lower).map(|(a, b)| 0.5 * (a + b)).collect();
        let product =
            dot(upper, lower).max(0.0) + norm(upper) * lower_error + norm(lower) * upper_error + upper_error * lower_error;
        let spread = 0.5 * self.width() * product;
        let rounding = 0.5 * (upper_error + lower_error);
        let radius = (self.omega() * spread).sqrt() + rounding;
        Certified { midpoint, upper: upper.to_vec(), radius, spread, rounding, certainty: self.certainty }
    }

    /// For each coordinate j, a bound of |c_j − x_j|: √(W_jj β), rounding included. O(dℓ) in all for Λ' = λI and a sketch of ℓ rows.
    ///
    /// # Errors
    /// Those of the solves.
    pub fn coordinates(&self, certified: &Certified) -> Result<Vec<f64>> {
        let d = self.parts.estimate.dim();
        let weights = match self.row_space()? {
            Some((space, a)) => space.coordinate_forms(a, self.width())?,
            None => {
                let mut weights = Vec::with_capacity(d);
                for range in crate::par::blocks(d, CHUNK) {
                    let units = Matrix::from_fn(d, range.len(), |i, j| if i == range.start + j { 1.0 } else { 0.0 });
                    weights.extend(self.forms_of_columns(&units)?);
                }
                weights
            }
        };
        Ok(weights.iter().map(|w| (w.max(0.0) * certified.spread).sqrt() + certified.rounding).collect())
    }

    /// For each row g of a block, a bound of |gᵀ(c − x)|: √(gᵀWg β), rounding included. For Λ' = λI by one projection of the block,
    /// which is not expanded.
    ///
    /// # Errors
    /// [`Error::Shape`], and those of the solves.
    pub fn rows(&self, rows: &GradientBlock, certified: &Certified) -> Result<Vec<f64>> {
        check_len("rows", rows.dim(), self.parts.estimate.dim())?;
        let squared_norms = rows.squared_row_norms();
        let forms = match self.row_space()? {
            Some((space, a)) => space.forms(rows, a, self.width())?,
            None => {
                let mut forms = Vec::with_capacity(rows.rows());
                for range in crate::par::blocks(rows.rows(), CHUNK) {
                    forms.extend(self.forms_of_columns(&rows.expand(range)?)?);
                }
                forms
            }
        };
        let bound = |(form, square): (&f64, &f64)| (form.max(0.0) * certified.spread).sqrt() + square.sqrt() * certified.rounding;
        Ok(forms.iter().zip(&squared_norms).map(bound).collect())
    }

    /// A bound of ‖G(c − x)‖ for the rows G of a block: √(β λ_max(GWGᵀ)) for Λ' = λI and at most `MOST_ROWS` rows; else, or where that is
    /// smaller, the norm of the bounds of the single rows.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn rows_norm(&self, rows: &GradientBlock, bounds: &[f64], certified: &Certified) -> Result<f64> {
        let by_rows = norm(bounds);
        if rows.rows() > MOST_ROWS {
            return Ok(by_rows);
        }
        let Some((space, a)) = self.row_space()? else { return Ok(by_rows) };
        let forms = space.form_matrix(rows, a, self.width())?;
        let squared_norms = rows.squared_row_norms();
        let rounding = 16.0 * f64::EPSILON * self.omega() * squared_norms.iter().sum::<f64>();
        let top = eigh(&forms)?.values[0].max(0.0) + rounding;
        let whole = squared_norms.iter().sum::<f64>().sqrt() * certified.rounding;
        Ok(by_rows.min((top * certified.spread).sqrt() + whole))
    }

    /// The row space and the a of Λ' + lo·I = aI, where there are both.
    fn row_space(&self) -> Result<Option<(RowSpace<'a>, f64)>> {
        let Some(a) = self.lower.as_scalar() else { return Ok(None) };
        Ok((self.parts.row_space)()?.map(|space| (space, a)))
    }

    /// uᵀWu = (Δ/2)(A⁻¹u)ᵀ((A + Δ)⁻¹u) for each column.
    fn forms_of_columns(&self, columns: &Matrix) -> Result<Vec<f64>> {
        let upper = self.parts.lower_inverse.apply_columns(columns)?;
        let lower = self.parts.upper_inverse.apply_columns(columns)?;
        Ok((0..columns.ncols()).map(|j| 0.5 * self.width() * dot(upper.col(j), lower.col(j))).collect())
    }

    /// uᵀ(F + Λ')⁻¹v: uᵀc ± √(uᵀWu·β), rounding included.
    ///
    /// # Errors
    /// As [`solve`](Self::solve).
    pub fn bilinear(&self, u: &[f64], v: &[f64]) -> Result<Enclosure> {
        let (of_u, of_v) = (self.solve(u)?, self.solve(v)?);
        let value = dot(u, &of_v.midpoint);
        // uᵀWu is the β of u.
        let radius = (of_u.spread * of_v.spread).sqrt() + norm(u) * of_v.rounding;
        Ok(Enclosure { value, low: value - radius, high: value + radius })
    }

    /// For an estimate x̂ of (F + Λ')⁻¹v with residual r = v − (F + Λ')x̂ on the streamed matrix itself: the energy bound,
    /// ‖x̂ − x‖² ≤ rᵀA⁻¹r/a. (For another matrix, such as a true Hessian, it does not hold: take [`residual_bound`].)
    ///
    /// # Errors
    /// As [`solve`](Self::solve).
    pub fn energy_bound(&self, residual: &[f64]) -> Result<Bound> {
        let solved = self.solve(residual)?;
        let form = dot(residual, &solved.upper).max(0.0) + 2.0 * norm(residual) * solved.rounding;
        Ok(Bound { name: "energy", radius: (form / self.lower.min_eigenvalue()).sqrt(), certainty: self.certainty })
    }

    /// The smallest of the bounds for an estimate x̂ of (F + Λ')⁻¹v that this bracket gives: the ellipsoid of v, and where the residual
    /// on the streamed matrix is known, the energy bound and the ellipsoid of the residual. All rest on one interval, so that choosing among them
    /// costs no certainty.
    ///
    /// # Errors
    /// As [`solve`](Self::solve).
    pub fn bound_of(&self, v: &[f64], estimate: &[f64], residual: Option<&[f64]>) -> Result<Bound> {
        check_len("estimate", estimate.len(), v.len())?;
        check_finite("estimate", estimate)?;
        let mut best = Bound { name: "ellipsoid", radius: self.solve(v)?.radius_of(estimate), certainty: self.certainty };
        if let Some(residual) = residual {
            let (_, _, of_residual) = self.refine(estimate, residual)?;
            for bound in [self.energy_bound(residual)?, of_residual] {
                if bound.radius < best.radius {
                    best = bound;
                }
            }
        }
        Ok(best)
    }

    /// As [`energy_bound`](Self::energy_bound), refined: x − x̂ = (F + Λ')⁻¹r is itself bracketed, so that x̂ + c_r is an estimate
    /// with the radius of r. Returns it, and the bound for x̂ as it is: ‖c_r‖ + radius.
    ///
    /// # Errors
    /// As [`solve`](Self::solve).
    pub fn refine(&self, estimate: &[f64], residual: &[f64]) -> Result<(Vec<f64>, Bound, Bound)> {
        check_len("estimate", estimate.len(), residual.len())?;
        let correction = self.solve(residual)?;
        let refined = estimate.iter().zip(&correction.midpoint).map(|(x, c)| x + c).collect();
        let bound = |name, radius| Bound { name, radius, certainty: self.certainty };
        let plain = correction.radius_of(&vec![0.0; residual.len()]);
        Ok((refined, bound("refined", correction.radius), bound("ellipsoid of the residual", plain)))
    }
}
