//! A problem of one's own: write its mathematics down, implement [`Problem`] with values, gradients and scores alone, have every
//! derivative compared with differences, run NHGD on it.
//!
//!     cargo run --release --example own_problem
//!
//! Ridge regression in which each of three groups of features has a penalty exp(v_j) of its own, for a good fit of validation data:
//!
//!     g(v, θ) = (1/n) Σ ½(x_iᵀθ − y_i)² + ½ Σ_k exp(v_{j(k)}) θ_k²,    f(v, θ) = (1/m) Σ_validation ½(x_iᵀθ − y_i)².
//!
//! ∇_θ g = Xᵀ(Xθ − y)/n + exp(v)∘θ and ∂g/∂v_j = ½ exp(v_j) Σ_{k in group j} θ_k². The losses are −log p of y ~ N(xᵀθ, 1), a model that
//! the crate has (with the constant ½ log 2π), and with it the scores. The penalty's Hessian diag(exp(v)) is known: it is not sketched.

use nhgd::bilevel::{self, MethodConfig, NhgdConfig, SampleCount, StepSize, Stop};
use nhgd::error::{check_finite, check_len};
use nhgd::gradient::GradientBlock;
use nhgd::inverse::KnownCurvature;
use nhgd::model::{FisherKind, Gaussian, Model, Weighted};
use nhgd::problem::{OuterGradient, OuterVector, Problem};
use nhgd::rng::Key;
use nhgd::samples::{Batch, Features, Samples, Targets};
use nhgd::{Result, oracle};

/// Groups of features, and features of a group; the first group alone says something about y.
const GROUPS: usize = 3;
const WIDTH: usize = 10;

pub struct GroupedRidge(Gaussian, Samples, Samples);

pub fn draw(key: Key) -> Result<GroupedRidge> {
    let part = |n: usize, key: Key| {
        let x = key.named("features").stream().normals(n * GROUPS * WIDTH);
        let noise = key.named("noise").stream().normals(n);
        let y = x.chunks(GROUPS * WIDTH).zip(noise).map(|(x, noise)| x[..WIDTH].iter().sum::<f64>() + noise).collect();
        Samples::new(Features::from_f64(x, n, GROUPS * WIDTH)?, Targets::real(y)?)
    };
    Ok(GroupedRidge(Gaussian::unit_variance(GROUPS * WIDTH)?, part(60, key.named("train"))?, part(40, key.named("validation"))?))
}

/// exp(v) for every feature; here a bad v is noticed, by the model a bad θ and a bad batch.
fn penalties(v: &[f64]) -> Result<Vec<f64>> {
    check_len("outer_var", v.len(), GROUPS)?;
    check_finite("outer_var", v)?;
    Ok((0..GROUPS * WIDTH).map(|k| v[k / WIDTH].exp()).collect())
}

#[rustfmt::skip]
impl Problem for GroupedRidge {
    fn name(&self) -> &'static str { "grouped-ridge" }
    fn outer_dim(&self) -> usize { GROUPS }
    fn inner_dim(&self) -> usize { GROUPS * WIDTH }
    fn inner_samples(&self) -> usize { self.1.len() }
    fn outer_samples(&self) -> usize { self.2.len() }
    fn initial(&self) -> (Vec<f64>, Vec<f64>) { (vec![0.0; GROUPS], vec![0.0; GROUPS * WIDTH]) }
    fn f_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        let penalty = penalties(v)?.iter().zip(theta).map(|(e, t)| 0.5 * e * t * t).sum::<f64>();
        Ok(self.0.loss(Weighted::ones(&self.1, batch), theta)? + penalty)
    }
    fn grad_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let (penalties, gradient) = (penalties(v)?, self.0.gradient(Weighted::ones(&self.1, batch), theta)?);
        Ok(gradient.iter().zip(penalties).zip(theta).map(|((g, e), t)| g + e * t).collect())
    }
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        self.grad_inner(v, theta, batch)?; // no part of the answer, but it refuses what is bad
        Ok(theta.chunks(WIDTH).zip(v).map(|(group, v)| 0.5 * v.exp() * group.iter().map(|t| t * t).sum::<f64>()).collect())
    }
    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        penalties(v).and_then(|_| self.0.loss(Weighted::ones(&self.2, batch), theta))
    }
    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        penalties(v)?;
        Ok(OuterGradient { theta: self.0.gradient(Weighted::ones(&self.2, batch), theta)?, v: OuterVector::zero(GROUPS) })
    }
    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        penalties(v).and_then(|_| self.0.scores(Weighted::ones(&self.1, batch), theta, kind, key))
    }
    fn known_curvature(&self, v: &[f64]) -> Result<KnownCurvature> { KnownCurvature::diagonal(penalties(v)?) }
}

pub fn main() -> Result<()> {
    let problem = draw(Key::new(0))?;
    for check in oracle::check_problem(&problem, Key::new(1))? {
        println!("{:50} {:8.1e} of {:.0e}  {}", check.quantity, check.error, check.tolerance, check.note);
    }
    let (batch_size, inner, outer) = (SampleCount::Drawn(20), StepSize::constant(0.05), StepSize::constant(2.0));
    let settings = NhgdConfig { batch_size, inner_step_size: inner, outer_step_size: outer, ..Default::default() };
    let method = MethodConfig::Nhgd(settings).build()?;
    let end = bilevel::run(&problem, method.as_ref(), Key::new(2), Stop::after(100), &mut ())?.state;
    let (v, theta) = problem.initial();
    let start = oracle::inner_solution(&problem, &v, &theta, oracle::NewtonOptions::default())?.theta;
    let value = |v: &[f64], theta: &[f64]| problem.f_outer(v, theta, Batch::All);
    println!("validation loss {:.3} with equal penalties, {:.3} with", value(&v, &start)?, value(&end.outer_var, &end.inner_var)?);
    println!("{:.3?} for the three groups", end.outer_var.iter().map(|v| v.exp()).collect::<Vec<_>>());
    Ok(())
}
