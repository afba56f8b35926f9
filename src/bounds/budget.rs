//! The error budget: where the error of a hypergradient comes from, as a telescope. Between ∇Φ(v) and the estimate stand vectors that
//! each change one thing; the difference of neighbours is a line. They sum to the whole error exactly, as vectors, and by the triangle
//! inequality the sum of their norms bounds its norm.
//!
//! ```text
//! H⁻¹b at θ* → at θ_K (inner suboptimality) → with μ (damping) → expected Fisher for H (surrogate) → the chosen kind, all data (kind)
//!   → finite fresh rows (sampling) → the rows as fed (staleness) → F̂ (sketch) → the family's own solve (solver)
//!   → b and ∇_v f from their batch (outer batch) → Jᵀq̂ from its samples (cross samples)
//! ```

use serde::{Deserialize, Serialize};

use crate::bilevel::Sampling;
use crate::curvature::Approximation;
use crate::dense::{Cholesky, Matrix, add_scaled, check_shape, difference, norm};
use crate::error::{Result, check_count};
use crate::inverse::KnownCurvature;
use crate::model::FisherKind;
use crate::problem::{OuterGradient, Problem};
use crate::rng::Key;
use crate::samples::Batch;

/// What changes from one vector of the telescope to the next, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BudgetTerm {
    /// θ_K for θ*.
    Suboptimality,
    /// H + μI for H.
    Damping,
    /// The expected Fisher matrix of all data for the likelihood's Hessian.
    Surrogate,
    /// Observed labels, all data, for the expectation. Labels drawn from the model have that expectation: what a draw adds is sampling.
    Kind,
    /// Fresh rows at θ_K, as many as stated, for all data.
    Sampling,
    /// The rows as they were fed, along the trajectory and at other v, for fresh ones.
    Staleness,
    /// F̂ for the matrix as fed.
    Sketch,
    /// The family's own solve for an exact one.
    Solver,
    /// b and ∇_v f from their batch.
    OuterBatch,
    /// Jᵀq̂ from its samples.
    CrossSamples,
}

impl BudgetTerm {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Suboptimality,
        Self::Damping,
        Self::Surrogate,
        Self::Kind,
        Self::Sampling,
        Self::Staleness,
        Self::Sketch,
        Self::Solver,
        Self::OuterBatch,
        Self::CrossSamples,
    ];

    /// The name for tables and pictures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Suboptimality => "inner suboptimality",
            Self::Damping => "damping",
            Self::Surrogate => "surrogate",
            Self::Kind => "kind",
            Self::Sampling => "sampling",
            Self::Staleness => "staleness",
            Self::Sketch => "sketch",
            Self::Solver => "solver",
            Self::OuterBatch => "outer batch",
            Self::CrossSamples => "cross samples",
        }
    }
}

/// What is to be accounted for.
#[derive(Clone, Copy)]
pub struct BudgetPoint<'a> {
    /// v.
    pub outer_var: &'a [f64],
    /// θ_K, where the estimate was taken.
    pub inner_var: &'a [f64],
    /// θ*(v), from the oracle.
    pub inner_solution: &'a [f64],
    /// μ.
    pub damping: f64,
    /// Which labels the rows have.
    pub kind: FisherKind,
    /// The number of samples of fresh rows that stand for those that were fed.
    pub fresh_samples: usize,
    /// F as it was fed: d2 × d2, from a `dense` estimate beside the sketch.
    pub fed: &'a Matrix,
    /// F̂.
    pub approximation: &'a dyn Approximation,
    /// The samples of b, ∇_v f and of the cross product.
    pub sampling: Sampling<'a>,
}

/// One term of the budget.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetLine {
    /// What changed.
    pub term: BudgetTerm,
    /// The change of q, of length d2.
    pub inverse_hvp: Vec<f64>,
    /// The change of ∇_v f − Jᵀq, of length d1.
    pub hypergradient: Vec<f64>,
}

/// The whole error in terms. Vectors, so that everything else follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// The terms, in the order of [`BudgetTerm::ALL`].
    pub lines: Vec<BudgetLine>,
    /// q̂ − H⁻¹b at θ*: the sum of the lines'.
    pub inverse_hvp: Vec<f64>,
    /// ĥ − ∇Φ(v): the sum of the lines'.
    pub hypergradient: Vec<f64>,
    /// ‖H⁻¹b‖ at θ*, to measure against.
    pub exact_inverse_hvp_norm: f64,
    /// ‖∇Φ(v)‖.
    pub exact_hypergradient_norm: f64,
}

impl Budget {
    /// Σ of the norms of the lines in ∇Φ: at least the norm of [`hypergradient`](Self::hypergradient).
    pub fn hypergradient_sum(&self) -> f64 {
        self.lines.iter().map(|line| norm(&line.hypergradient)).sum()
    }

    /// Σ of the norms of the lines in q.
    pub fn inverse_hvp_sum(&self) -> f64 {
        self.lines.iter().map(|line| norm(&line.inverse_hvp)).sum()
    }
}

/// A vector of the telescope: q and h.
type Station = (Vec<f64>, Vec<f64>);

/// The budget at a point. Dense: some d2² numbers and eight factorizations of d2³/3 flops. `key` draws the fresh rows.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), [`Error::Argument`](crate::Error::Argument) for no fresh samples,
/// [`Error::Numerical`](crate::Error::Numerical) where a matrix of the telescope is not positive definite, and whatever problem and family meet.
pub fn budget(problem: &dyn Problem, point: BudgetPoint<'_>, key: Key) -> Result<Budget> {
    let (v, theta) = (point.outer_var, point.inner_var);
    let d2 = problem.inner_dim();
    check_count("fresh_samples", point.fresh_samples)?;
    check_shape("fed", point.fed, d2, d2)?;
    let regularizer = problem.known_curvature(v)?;
    let damped = regularizer.plus(point.damping)?;

    let best = {
        let at = point.inner_solution;
        let outer = problem.grad_outer(v, at, Batch::All)?;
        let q = solved(problem.hessian(v, at)?, None, &outer.theta)?;
        let h = hypergradient(problem, (v, at), &outer.v.to_vec(), Batch::All, &q)?;
        (q, h)
    };
    // Every station but the last is at θ_K and takes the cross product over all samples.
    let outer = problem.grad_outer(v, theta, Batch::All)?;
    let station = |outer: &OuterGradient, q: Vec<f64>| -> Result<Station> {
        let h = hypergradient(problem, (v, theta), &outer.v.to_vec(), Batch::All, &q)?;
        Ok((q, h))
    };
    let with = |matrix: Matrix, known: Option<&KnownCurvature>| station(&outer, solved(matrix, known, &outer.theta)?);

    let hessian = problem.hessian(v, theta)?;
    let expected = fisher(problem, (v, theta), Batch::All, FisherKind::Expected, key)?;
    let of_kind = match point.kind {
        FisherKind::Empirical => fisher(problem, (v, theta), Batch::All, FisherKind::Empirical, key)?,
        FisherKind::Sampled | FisherKind::Expected => expected.clone(),
    };
    let drawn = key.named("fresh samples").stream().indices(problem.inner_samples(), point.fresh_samples)?;
    let fresh = fisher(problem, (v, theta), Batch::Indices(&drawn), point.kind, key.named("fresh labels"))?;
    let damping_alone = KnownCurvature::scalar(d2, point.damping)?;

    let batch = problem.grad_outer(v, theta, point.sampling.outer)?;
    let q = point.approximation.solve(&damped, &batch.theta)?;
    let last = hypergradient(problem, (v, theta), &batch.v.to_vec(), point.sampling.inner, &q)?;

    let stations: Vec<Station> = vec![
        best,
        with(hessian.clone(), None)?,
        with(hessian, Some(&damping_alone))?,
        with(expected, Some(&damped))?,
        with(of_kind, Some(&damped))?,
        with(fresh, Some(&damped))?,
        with(point.fed.clone(), Some(&damped))?,
        with(point.approximation.to_dense()?, Some(&damped))?,
        station(&outer, point.approximation.solve(&damped, &outer.theta)?)?,
        station(&batch, q.clone())?,
        (q, last),
    ];
    Ok(telescope(&stations))
}

fn telescope(stations: &[Station]) -> Budget {
    let line = |(&term, pair): (&BudgetTerm, &[Station])| BudgetLine {
        term,
        inverse_hvp: difference(&pair[1].0, &pair[0].0),
        hypergradient: difference(&pair[1].1, &pair[0].1),
    };
    let ((first_q, first_h), (last_q, last_h)) = (&stations[0], &stations[stations.len() - 1]);
    Budget {
        lines: BudgetTerm::ALL.iter().zip(stations.windows(2)).map(line).collect(),
        inverse_hvp: difference(last_q, first_q),
        hypergradient: difference(last_h, first_h),
        exact_inverse_hvp_norm: norm(first_q),
        exact_hypergradient_norm: norm(first_h),
    }
}

/// (A + Λ')⁻¹b.
fn solved(mut matrix: Matrix, known: Option<&KnownCurvature>, b: &[f64]) -> Result<Vec<f64>> {
    if let Some(known) = known {
        known.add_to(&mut matrix)?;
    }
    Cholesky::new(matrix)?.solve(b)
}

/// ∇_v f − Jᵀq.
fn hypergradient(
    problem: &dyn Problem,
    (v, theta): (&[f64], &[f64]),
    gradient: &[f64],
    batch: Batch<'_>,
    q: &[f64],
) -> Result<Vec<f64>> {
    let mut h = gradient.to_vec();
    add_scaled("cross_vjp", -1.0, &problem.cross_vjp(v, theta, batch, q)?, &mut h)?;
    Ok(h)
}

/// GᵀG/samples of the batch's rows.
fn fisher(problem: &dyn Problem, (v, theta): (&[f64], &[f64]), batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<Matrix> {
    let rows = problem.scores(v, theta, batch, kind, key)?;
    let mut fisher = rows.scatter()?;
    fisher.scale(1.0 / rows.samples() as f64);
    Ok(fisher)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bilevel::nhgd;
    use crate::curvature::{Curvature, CurvatureConfig, DenseConfig, FrequentDirectionsConfig};
    use crate::dense::axpy;
    use crate::error::Error;
    use crate::oracle::{NewtonOptions, exact_hypergradient, exact_inverse_hvp, inner_solution};
    use crate::problem::specimens;

    struct Setting {
        problem: Box<dyn Problem>,
        v: Vec<f64>,
        best: Vec<f64>,
        theta: Vec<f64>,
        fed: Matrix,
        sketch: Box<dyn Curvature>,
    }

    /// Rows fed along a short path to θ, to a sketch and to the dense matrix beside it.
    fn setting(problem: Box<dyn Problem>, kind: FisherKind, family: &CurvatureConfig, distance: f64, key: Key) -> Setting {
        let v = key.named("v").stream().normals(problem.outer_dim());
        let best = inner_solution(problem.as_ref(), &v, &problem.initial().1, NewtonOptions::default()).unwrap().theta;
        let mut theta = best.clone();
        axpy(distance, &key.named("theta").stream().normals(theta.len()), &mut theta);
        let mut sketch = family.build(problem.inner_dim(), key).unwrap();
        let mut shadow = CurvatureConfig::Dense(DenseConfig::default()).build(problem.inner_dim(), key).unwrap();
        for step in 0..3 {
            let mut at = theta.clone();
            axpy(0.5 * distance / (1.0 + step as f64), &vec![1.0; at.len()], &mut at);
            let drawn = key.named("fed").child(step).stream().indices(problem.inner_samples(), 20).unwrap();
            let rows = problem.scores(&v, &at, Batch::Indices(&drawn), kind, key.named("labels").child(step)).unwrap();
            sketch.absorb(&rows).unwrap();
            shadow.absorb(&rows).unwrap();
        }
        let fed = shadow.approximate().unwrap().to_dense().unwrap();
        Setting { problem, v, best, theta, fed, sketch }
    }

    fn frequent_directions() -> CurvatureConfig {
        CurvatureConfig::FrequentDirections(FrequentDirectionsConfig { sketch_size: 4, ..Default::default() })
    }

    /// The sum of the vectors is the error of `bilevel::nhgd` against the oracle's ∇Φ, both computed elsewhere.
    #[test]
    fn lines_sum_to_the_error_and_their_norms_bound_it() {
        for index in 0..specimens(Key::new(1)).unwrap().len() {
            for (kind, seed) in FisherKind::ALL.into_iter().zip(0..) {
                let problem = specimens(Key::new(1)).unwrap().swap_remove(index);
                let Setting { problem, v, best, theta, fed, sketch } =
                    setting(problem, kind, &frequent_directions(), 0.05, Key::new(seed));
                let approximation = sketch.approximate().unwrap();
                let n = problem.inner_samples();
                let (outer, inner) = ([0, 1, 2, 2], [5, 0, 7].map(|i| i % n));
                let sampling = Sampling { outer: Batch::Indices(&outer), inner: Batch::Indices(&inner) };
                let point = BudgetPoint {
                    outer_var: &v,
                    inner_var: &theta,
                    inner_solution: &best,
                    damping: 0.02,
                    kind,
                    fresh_samples: 60,
                    fed: &fed,
                    approximation: approximation.as_ref(),
                    sampling,
                };
                let found = budget(problem.as_ref(), point, Key::new(9)).unwrap();

                let estimate = nhgd(problem.as_ref(), &v, &theta, sampling, approximation.as_ref(), 0.02).unwrap();
                let exact = exact_hypergradient(problem.as_ref(), &v, &best).unwrap();
                let error = difference(&estimate.value, &exact);
                let b = problem.grad_outer(&v, &best, Batch::All).unwrap().theta;
                let q = exact_inverse_hvp(problem.as_ref(), &v, &best, &b).unwrap();
                let error_of_q = difference(&estimate.inverse_hvp, &q);
                let sum = |part: fn(&BudgetLine) -> &Vec<f64>| {
                    let mut sum = vec![0.0; part(&found.lines[0]).len()];
                    found.lines.iter().for_each(|line| axpy(1.0, part(line), &mut sum));
                    sum
                };
                let close =
                    |a: &[f64], b: &[f64], scale: f64| assert!(norm(&difference(a, b)) <= 1e-10 * scale, "{}", problem.name());
                close(&sum(|line| &line.hypergradient), &error, norm(&exact));
                close(&found.hypergradient, &error, norm(&exact));
                close(&sum(|line| &line.inverse_hvp), &error_of_q, norm(&q));
                close(&found.inverse_hvp, &error_of_q, norm(&q));
                assert!(found.hypergradient_sum() >= norm(&error) && found.inverse_hvp_sum() >= norm(&error_of_q));
                assert_eq!(found.lines.iter().map(|line| line.term).collect::<Vec<_>>(), BudgetTerm::ALL);
                // The specimens' models have a canonical link: their expected Fisher matrix is the Hessian.
                for line in &found.lines {
                    let nothing = match line.term {
                        BudgetTerm::Surrogate | BudgetTerm::Solver => true,
                        BudgetTerm::Kind => kind != FisherKind::Empirical,
                        // J of a regularizer's strengths does not depend on samples.
                        BudgetTerm::CrossSamples => problem.name() == "regularization-selection",
                        _ => false,
                    };
                    let size = norm(&line.hypergradient) / norm(&exact);
                    let name = (problem.name(), kind, line.term);
                    assert!(if nothing { size < 1e-9 } else { size > 1e-6 }, "{name:?}: {size}");
                }
            }
        }
    }

    /// Where nothing is approximated nothing is left: θ*, no damping, the expectation over all data, an exact family, all samples.
    #[test]
    fn an_exact_estimate_has_an_empty_budget() {
        for problem in specimens(Key::new(1)).unwrap() {
            let v = Key::new(2).stream().normals(problem.outer_dim());
            let best = inner_solution(problem.as_ref(), &v, &problem.initial().1, NewtonOptions::default()).unwrap().theta;
            let mut exact = CurvatureConfig::Dense(DenseConfig::default()).build(problem.inner_dim(), Key::new(0)).unwrap();
            exact.absorb(&problem.scores(&v, &best, Batch::All, FisherKind::Expected, Key::new(0)).unwrap()).unwrap();
            let approximation = exact.approximate().unwrap();
            let point = BudgetPoint {
                outer_var: &v,
                inner_var: &best,
                inner_solution: &best,
                damping: 0.0,
                kind: FisherKind::Expected,
                fresh_samples: 10,
                fed: &approximation.to_dense().unwrap(),
                approximation: approximation.as_ref(),
                sampling: Sampling::default(),
            };
            let found = budget(problem.as_ref(), point, Key::new(3)).unwrap();
            for line in &found.lines {
                let size = norm(&line.hypergradient) / found.exact_hypergradient_norm;
                let passing = matches!(line.term, BudgetTerm::Sampling | BudgetTerm::Staleness);
                assert!(passing || size < 1e-9, "{}: {:?} {size}", problem.name(), line.term);
            }
            // The fresh rows are few, and what was fed takes their error back.
            assert!(norm(&found.hypergradient) < 1e-9 * found.exact_hypergradient_norm);
            let none = budget(problem.as_ref(), BudgetPoint { fresh_samples: 0, ..point }, Key::new(3)).map(|_| ());
            assert_eq!(none.map_err(|e: Error| e.offending_argument()), Err(Some("fresh_samples")));
            let small = Matrix::identity(2);
            let wrong = budget(problem.as_ref(), BudgetPoint { fed: &small, ..point }, Key::new(3)).map(|_| ());
            assert_eq!(wrong.map_err(|e: Error| e.offending_argument()), Err(Some("fed")));
        }
    }
}
