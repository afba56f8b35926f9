//! F̂ = RᵀR/m + αI by the eigen-decomposition of its small Gram matrix RRᵀ: one factorization for a whole path of dampings, for the
//! effective dimension, and for many quadratic forms at once. The rows may be factored; they are never expanded.

use super::KnownCurvature;
use super::certificate::relative;
use crate::dense::{Matrix, check_shape, dot, eigh, matmul};
use crate::error::{Result, check_count, check_nonnegative, check_positive};
use crate::gradient::GradientBlock;

/// RRᵀ = V diag(σ) Vᵀ; the nonzero eigenvalues of F̂ are s = σ/m + α with eigenvectors u = RᵀV σ^{-1/2}.
pub struct RowSpace<'a> {
    rows: &'a GradientBlock,
    mass: f64,
    /// α.
    shift: f64,
    /// σ, of the eigenvectors that are kept.
    squares: Vec<f64>,
    /// V, rows × kept.
    vectors: Matrix,
}

impl<'a> RowSpace<'a> {
    /// Factorizes: the Gram matrix, and about 10·rows³ flops.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a mass that is not positive or a negative shift,
    /// [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn new(rows: &'a GradientBlock, mass: f64, shift: f64) -> Result<Self> {
        check_positive("mass", mass)?;
        check_nonnegative("shift", shift)?;
        let eigen = eigh(&rows.gram()?)?;
        // Below rounding an eigenvalue of the Gram matrix is noise: its direction belongs to the complement.
        let floor = eigen.values.first().copied().unwrap_or(0.0).max(0.0) * f64::EPSILON * rows.rows() as f64;
        let kept = eigen.values.iter().take_while(|&&value| value > floor).count();
        let vectors = eigen.vectors.columns(0..kept).to_matrix();
        Ok(Self { rows, mass, shift, squares: eigen.values[..kept].to_vec(), vectors })
    }

    /// The nonzero eigenvalues of RᵀR/m, descending.
    pub fn eigenvalues(&self) -> Vec<f64> {
        self.squares.iter().map(|square| square / self.mass).collect()
    }

    /// α.
    pub fn shift(&self) -> f64 {
        self.shift
    }

    /// d_eff(μ) = Σ s/(s + μ) over the eigenvalues of RᵀR/m.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a μ that is not positive.
    pub fn effective_dimension(&self, damping: f64) -> Result<f64> {
        check_positive("damping", damping)?;
        Ok(self.squares.iter().map(|square| square / (square + damping * self.mass)).sum())
    }

    /// (F̂ + λI)⁻¹B for one λ of a path, without factorizing anew: B/λ' − RᵀV diag(1/(λ'(σ + mλ'))) VᵀRB with λ' = λ + α, refined once.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::Argument`](crate::Error::Argument) for a λ + α that is not positive.
    pub fn solve(&self, lambda: f64, rhs: &Matrix) -> Result<Matrix> {
        check_shape("rhs", rhs, self.rows.dim(), rhs.ncols())?;
        let lambda = lambda + self.shift;
        check_positive("known curvature plus damping", lambda)?;
        let once = |b: &Matrix| -> Result<Matrix> {
            let mut inner = matmul(self.vectors.t(), &self.rows.project(b)?)?;
            for j in 0..inner.ncols() {
                let scaled = inner.col_mut(j).iter_mut().zip(&self.squares);
                scaled.for_each(|(x, square)| *x /= lambda * (square + self.mass * lambda));
            }
            let mut x = self.rows.accumulate(&matmul(&self.vectors, &inner)?)?;
            x.scale(-1.0);
            x.add_scaled(1.0 / lambda, b)?;
            Ok(x)
        };
        let mut x = once(rhs)?;
        let mut residual = self.rows.accumulate(&self.rows.project(&x)?)?;
        residual.scale(-1.0 / self.mass);
        residual.add_scaled(-lambda, &x)?;
        residual.add_scaled(1.0, rhs)?;
        x.add_scaled(1.0, &once(&residual)?)?;
        Ok(x)
    }

    /// What a right-hand side has along each kept eigenvector, squared, and what is left of ‖v‖²: all that norms along a path need.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub fn components(&self, v: &[f64]) -> Result<Components> {
        let inner = matmul(self.vectors.t(), &self.rows.project(&Matrix::column(v.to_vec()))?)?;
        let squares: Vec<f64> = inner.as_slice().iter().zip(&self.squares).map(|(x, square)| x * x / square).collect();
        let rest = (dot(v, v) - squares.iter().sum::<f64>()).max(0.0);
        Ok(Components { eigenvalues: self.eigenvalues(), squares, rest, total: dot(v, v), shift: self.shift })
    }

    /// The same in the mean over right-hand sides with covariance U diag(f(s)) Uᵀ and `rest` in all the other directions together.
    pub fn mean_components(&self, f: impl Fn(f64) -> f64, rest: f64) -> Components {
        let eigenvalues = self.eigenvalues();
        let squares: Vec<f64> = eigenvalues.iter().map(|&s| f(s)).collect();
        let total = rest + squares.iter().sum::<f64>();
        Components { eigenvalues, squares, rest, total, shift: self.shift }
    }

    /// gᵀWg for each row g of `block`, W = (Δ/2)A⁻¹(A + Δ)⁻¹ with A = RᵀR/m + (a + α)I:
    /// ω(0)‖g‖² − Σ_k (ω(0) − ω(s_k))(u_kᵀg)², ω(s) = Δ/(2(s + a)(s + a + Δ)), from one product GRᵀ.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub(super) fn forms(&self, block: &GradientBlock, a: f64, width: f64) -> Result<Vec<f64>> {
        let products = matmul(&block.cross_gram(self.rows)?, &self.vectors)?;
        Ok(self.combine(block.squared_row_norms().into_iter(), &products, a, width))
    }

    /// GWGᵀ itself, rows × rows of the block: ω(0)GGᵀ − Σ_k (ω(0) − ω(s_k))(Gu_k)(Gu_k)ᵀ.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub(super) fn form_matrix(&self, block: &GradientBlock, a: f64, width: f64) -> Result<Matrix> {
        let mut products = matmul(&block.cross_gram(self.rows)?, &self.vectors)?;
        let (whole, parts) = self.weights(a, width);
        for (k, part) in parts.iter().enumerate() {
            products.col_mut(k).iter_mut().for_each(|x| *x *= part.sqrt());
        }
        let mut forms = block.gram()?;
        forms.scale(whole);
        forms.add_scaled(-1.0, &crate::dense::gram(&products))?;
        Ok(forms)
    }

    /// The same for the unit vectors: the diagonal of W.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub(super) fn coordinate_forms(&self, a: f64, width: f64) -> Result<Vec<f64>> {
        let basis = self.rows.accumulate(&self.vectors)?;
        Ok(self.combine((0..basis.nrows()).map(|_| 1.0), &basis, a, width))
    }

    /// ω(0), and (ω(0) − ω(s_k))/σ_k without cancellation: ω(0) − ω(s) = (Δ/2) s(2a + Δ + s)/(a(a + Δ)(a + s)(a + s + Δ)).
    fn weights(&self, a: f64, width: f64) -> (f64, Vec<f64>) {
        let a = a + self.shift;
        let whole = width / (2.0 * a * (a + width));
        let part = |square: &f64| {
            let s = square / self.mass;
            whole * (2.0 * a + width + s) / ((a + s) * (a + s + width) * self.mass)
        };
        (whole, self.squares.iter().map(part).collect())
    }

    fn combine(&self, squared_norms: impl Iterator<Item = f64>, products: &Matrix, a: f64, width: f64) -> Vec<f64> {
        let (whole, parts) = self.weights(a, width);
        let form = |(j, square): (usize, f64)| {
            let removed: f64 = parts.iter().enumerate().map(|(k, part)| part * products[(j, k)] * products[(j, k)]).sum();
            // What cancels here rounds by some ε·ω‖g‖².
            (whole * square - removed).max(0.0) + 16.0 * f64::EPSILON * whole * square
        };
        squared_norms.enumerate().map(form).collect()
    }
}

/// |u_kᵀv|², and what the other directions hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Components {
    eigenvalues: Vec<f64>,
    squares: Vec<f64>,
    rest: f64,
    total: f64,
    shift: f64,
}

/// One point of a path of dampings, for one right-hand side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathPoint {
    /// μ.
    pub damping: f64,
    /// ‖c(μ)‖, of the midpoint.
    pub norm: f64,
    /// The radius of its certificate (rounding of the solve apart).
    pub radius: f64,
    /// radius/(norm − radius): a bound of the relative error.
    pub relative_error: f64,
}

impl Components {
    /// The certificate at Λ' = (λ + μ)I for an interval lo, hi of the residual: O(ℓ).
    pub fn certificate(&self, known: &KnownCurvature, damping: f64, (lo, hi): (f64, f64)) -> Option<PathPoint> {
        let a = known.as_scalar()? + damping + self.shift + lo;
        let width = hi - lo;
        if a <= 0.0 {
            return None;
        }
        let omega = width / (2.0 * a * (a + width));
        let sum = |f: &dyn Fn(f64) -> f64| -> f64 {
            self.eigenvalues.iter().zip(&self.squares).map(|(s, square)| f(s + a) * square).sum::<f64>() + f(a) * self.rest
        };
        let beta = 0.5 * width * sum(&|s| 1.0 / (s * (s + width)));
        let norm = sum(&|s| (0.5 * (1.0 / s + 1.0 / (s + width))).powi(2)).sqrt();
        let rounding = 8.0 * f64::EPSILON * self.total.sqrt() / a;
        let radius = (omega * beta).sqrt() + rounding;
        Some(PathPoint { damping, norm, radius, relative_error: relative(radius, norm) })
    }
}

/// `count` dampings from `least` to `most`, evenly spaced in their logarithms.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) for ends that are not positive or a count of 0.
pub fn damping_grid(least: f64, most: f64, count: usize) -> Result<Vec<f64>> {
    check_positive("least damping", least)?;
    check_positive("most damping", most)?;
    check_count("count", count)?;
    let step = if count > 1 { (most / least).ln() / (count - 1) as f64 } else { 0.0 };
    Ok((0..count).map(|i| least * (step * i as f64).exp()).collect())
}
