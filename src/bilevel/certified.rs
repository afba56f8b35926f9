//! A hypergradient with a certificate. Three statements of different kinds stand beside each other and are never mixed: how far the
//! sketch may be from the matrix that it was fed (per coordinate and in norm); what one Hessian product shows of the step from that
//! matrix to the Hessian, the surrogate measured by itself; and a bound of the distance to ∇Φ itself, inner suboptimality included, where the
//! problem knows its constants (the structure of Ehrhardt & Roberts 2023).

use crate::curvature::Approximation;
use crate::dense::{Matrix, axpy, difference, norm};
use crate::error::{Error, Result};
use crate::inverse::{Bound, Certified, KnownCurvature, residual_bound};
use crate::model::FisherKind;
use crate::problem::{Constants, Problem};
use crate::rng::Key;
use crate::samples::Batch;

/// ĥ = ∇_v f − Jᵀc with c the midpoint of what (F + Λ + μI)⁻¹b can be.
#[derive(Debug, Clone, PartialEq)]
pub struct CertifiedHypergradient {
    /// ĥ.
    pub value: Vec<f64>,
    /// c and its radius.
    pub inverse_hvp: Certified,
    /// For each coordinate j a bound of |ĥ_j − h_j|, h the hypergradient with F itself in the place of its sketch; `None` where the problem
    /// has no [`cross_rows`](Problem::cross_rows).
    pub coordinates: Option<Vec<f64>>,
    /// A bound of ‖ĥ − h‖.
    pub norm: Option<f64>,
    /// ‖(H + μI)c − b‖ with the Hessian H over all samples: surrogate, sampling and sketch together.
    pub hessian_residual: f64,
    /// ‖(H − Λ − F_θ)c‖, F_θ the expected Fisher matrix of all samples at θ: the surrogate's part of it, measured by itself. `None` where the problem
    /// has no expected rows.
    pub surrogate: Option<f64>,
    /// The radius for which H⁻¹b, no damping, is certified by one Hessian product: surrogate, sketch, damping and solver together.
    /// `None` where the problem does not say that H ≽ Λ: without [`constants`](Problem::constants), as for a loss that is not convex.
    pub residual: Option<Bound>,
    /// A bound of ‖ĥ − ∇Φ(v)‖; `None` where the problem does not know its constants.
    pub total: Option<f64>,
}

/// What is known of q̂ and of the θ at which it was taken: enough for the distance to q and ∇Φ at θ*(v).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InexactPoint {
    /// ‖q̂‖.
    pub inverse_hvp: f64,
    /// A bound of ‖q̂ − H⁻¹b‖ at this θ.
    pub radius: f64,
    /// A bound of ‖J‖ at this θ.
    pub cross_norm: f64,
    /// ε, a bound of ‖θ − θ*(v)‖: ‖∇_θ g‖/μ_g.
    pub suboptimality: f64,
}

/// Bounds of the distances to what belongs to θ*(v).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TotalErrors {
    /// ε_q, of q̂ to H⁻¹b at θ*(v).
    pub inverse_hvp: f64,
    /// Of ∇_v f − Jᵀq̂ at θ to ∇Φ(v).
    pub hypergradient: f64,
}

impl InexactPoint {
    /// ε_q = radius + (L_b + L_H‖q̂‖)ε/μ_g and ‖ĥ − ∇Φ‖ ≤ (L_f + L_J‖q̂‖)ε + (‖J‖ + L_Jε)ε_q (the structure of Ehrhardt & Roberts 2023).
    pub fn errors(&self, constants: &Constants) -> TotalErrors {
        let Self { inverse_hvp: q, radius, cross_norm, suboptimality } = *self;
        let drift = (constants.right_hand_side + constants.hessian * q) * suboptimality / constants.strong_convexity;
        let inverse_hvp = radius + drift;
        let moved = (constants.outer_gradient + constants.cross * q) * suboptimality;
        TotalErrors { inverse_hvp, hypergradient: moved + (cross_norm + constants.cross * suboptimality) * inverse_hvp }
    }
}

/// ĥ with its certificates at (v, θ), all samples; the sketch's is deterministic, or fails with a probability of at most `failure`.
/// Costs two solves with F̂, one Hessian product, one product with the expected rows of all samples, and d1 rows of J.
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for a family without an interval, [`Error::Argument`](crate::Error::Argument) for a damping
/// too small for it or a regularizer that is singular, and whatever the problem meets.
pub fn certified_nhgd(
    problem: &dyn Problem,
    v: &[f64],
    theta: &[f64],
    approximation: &dyn Approximation,
    damping: f64,
    failure: Option<f64>,
) -> Result<CertifiedHypergradient> {
    let (b, mut value) = problem.grad_outer(v, theta, Batch::All)?.into_vecs();
    let regularizer = problem.known_curvature(v)?;
    let bracket = approximation.bracket(&regularizer.plus(damping)?, failure)?;
    let inverse_hvp = bracket.solve(&b)?;
    let c = &inverse_hvp.midpoint;
    axpy(-1.0, &problem.cross_vjp(v, theta, Batch::All, c)?, &mut value);

    let rows = problem.cross_rows(v, theta)?;
    let (coordinates, norm_bound, cross_norm) = match &rows {
        None => (None, None, None),
        Some(rows) => {
            let coordinates = bracket.rows(rows, &inverse_hvp)?;
            let whole = bracket.rows_norm(rows, &coordinates, &inverse_hvp)?;
            // ‖J‖ ≤ ‖J‖_F.
            (Some(coordinates), Some(whole), Some(rows.squared_row_norms().iter().sum::<f64>().sqrt()))
        }
    };

    let product = problem.hvp(v, theta, Batch::All, c)?;
    let residual = difference(&b, &product);
    let damped: Vec<f64> = residual.iter().zip(c).map(|(r, c)| r - damping * c).collect();
    let constants = problem.constants(v)?;
    let residual_radius = constants.map(|_| residual_bound(&residual, &regularizer)).transpose()?;
    let total = match (constants, residual_radius, cross_norm) {
        (Some(constants), Some(by_residual), Some(cross_norm)) => {
            let suboptimality = norm(&problem.grad_inner(v, theta, Batch::All)?) / constants.strong_convexity;
            let at = InexactPoint { inverse_hvp: norm(c), radius: by_residual.radius, cross_norm, suboptimality };
            Some(at.errors(&constants).hypergradient)
        }
        _ => None,
    };
    let surrogate = surrogate_product(problem, v, theta, (&regularizer, c, &product))?;
    Ok(CertifiedHypergradient {
        value,
        coordinates,
        norm: norm_bound,
        hessian_residual: norm(&damped),
        surrogate,
        residual: residual_radius,
        total,
        inverse_hvp,
    })
}

/// ‖(H − Λ − F_θ)c‖ from Hc.
fn surrogate_product(
    problem: &dyn Problem,
    v: &[f64],
    theta: &[f64],
    (regularizer, c, product): (&KnownCurvature, &[f64], &[f64]),
) -> Result<Option<f64>> {
    // The expected kind draws nothing: any key will do.
    let rows = match problem.scores(v, theta, Batch::All, FisherKind::Expected, Key::new(0)) {
        Err(Error::Unsupported { .. }) => return Ok(None),
        rows => rows?,
    };
    let fisher = rows.accumulate(&rows.project(&Matrix::column(c.to_vec()))?)?;
    let mut rest = product.to_vec();
    axpy(-1.0 / rows.samples() as f64, fisher.as_slice(), &mut rest);
    rest.iter_mut().enumerate().for_each(|(i, r)| *r -= regularizer.entry(i) * c[i]);
    Ok(Some(norm(&rest)))
}
