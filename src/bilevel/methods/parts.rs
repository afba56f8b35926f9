//! What several methods are made of.

use std::time::Duration;

use super::Observer;
use crate::bilevel::{Phase, SampleCount, Span, StepSize};
use crate::dense::add_scaled;
use crate::error::{Error, Result, Status};
use crate::par;
use crate::problem::{InnerProducts, OuterGradient, OuterVector, Problem};
use crate::reused::Reused;
use crate::rng::Key;
use crate::samples::Batch;

/// Steps of SGD on g(v, ·), each on a batch of its own.
pub(crate) struct InnerSgd {
    /// K.
    pub(crate) steps: u64,
    /// Samples of a gradient.
    pub(crate) batch_size: SampleCount,
}

impl InnerSgd {
    /// θ ← θ − α_k ∇_θ g(v, θ), K times, `step_size` giving α_k. Whether θ stayed finite.
    pub(crate) fn run(
        &self,
        problem: &dyn Problem,
        v: &[f64],
        theta: &mut [f64],
        step_size: impl Fn(u64) -> f64,
        key: Key,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        observer.phase(Phase::InnerStep);
        for k in 0..self.steps {
            let batch = self.batch_size.draw(problem.inner_samples(), key.named("inner").child(k).named("batch"))?;
            let gradient = Reused::from(problem.grad_inner(v, theta, batch.batch())?);
            if !descend("grad_inner", step_size(k), &gradient, theta)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// x ← x − `size`·`direction`, the direction under its name. Whether x stayed finite.
pub(crate) fn descend(argument: &'static str, size: f64, direction: &[f64], x: &mut [f64]) -> Result<bool> {
    add_scaled(argument, -size, direction, x)?;
    Ok(finite(x))
}

/// The end of a step: v ← v − `size`·h. A v that is no longer finite is [`Status::Diverged`].
pub(crate) fn outer_step(step: u64, size: f64, h: &[f64], v: &mut [f64], observer: &mut dyn Observer) -> Result<Status> {
    observer.phase(Phase::OuterStep);
    Ok(if descend("hypergradient", size, h, v)? { Status::Converged {} } else { Status::Diverged { step } })
}

/// Two pieces of work of which neither needs the other: at once if `overlap` and there are two threads, else one after the other. What
/// they give is the same to the bit.
pub(crate) fn both<A: Send, B: Send>(
    overlap: bool,
    (first, a): (Phase, impl FnOnce() -> A + Send),
    (second, b): (Phase, impl FnOnce() -> B + Send),
    observer: &mut dyn Observer,
) -> (A, B) {
    observer.phase(first);
    if !overlap || par::threads() == 1 {
        let a = a();
        observer.phase(second);
        return (a, b());
    }
    let clock = observer.clock();
    let now = || clock.as_ref().map_or(Duration::ZERO, |clock| clock());
    let ((a, a_span), (b, b_span)) = par::join(|| timed(first, a, &now), || timed(second, b, &now));
    if clock.is_some() {
        observer.overlapped([a_span, b_span]);
    }
    (a, b)
}

fn timed<T>(phase: Phase, work: impl FnOnce() -> T, now: &impl Fn() -> Duration) -> (T, Span) {
    let begin = now();
    let result = work();
    (result, Span { phase, begin, end: now() })
}

/// Tells the observer of a solve that went wrong; reaching its limit of products is what most solves are meant to do.
pub(crate) fn note_solve(status: Status, observer: &mut dyn Observer) {
    if !matches!(status, Status::Converged {} | Status::StepLimit { .. }) {
        observer.notice(status);
    }
}
/// The directions of methods of one loop, which change v, θ and the linear system's variable q together.
pub(crate) struct Directions {
    /// D_θ = ∇_θ g.
    pub(crate) theta: Vec<f64>,
    /// D_q = Hq − b.
    pub(crate) q: Vec<f64>,
    /// D_v = ∇_v f − Jᵀq.
    pub(crate) v: OuterVector,
}

impl Directions {
    /// The directions at (v, θ, q), those of g on the inner batch and those of f on the outer one, both at once where a thread is free.
    pub(crate) fn at(
        problem: &dyn Problem,
        (v, theta, q): (&[f64], &[f64], &[f64]),
        (inner, outer): (Batch<'_>, Batch<'_>),
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        observer.phase(Phase::InnerStep);
        let (products, outer) = par::join(|| problem.inner_products(v, theta, inner, q), || problem.grad_outer(v, theta, outer));
        Self::assemble(products?, outer?)
    }

    /// The directions of these products and gradients.
    pub(crate) fn assemble(products: InnerProducts, outer: OuterGradient) -> Result<Self> {
        let InnerProducts { gradient, hvp: mut q, cross_vjp } = products;
        let OuterGradient { theta: b, mut v } = outer;
        add_scaled("grad_outer.theta", -1.0, &b, &mut q)?;
        v.add_scaled("cross_vjp", -1.0, cross_vjp)?;
        Ok(Self { theta: gradient, q, v })
    }

    /// Adds `factor` times other directions.
    pub(crate) fn add_scaled(&mut self, factor: f64, other: Self) -> Result<()> {
        add_scaled("grad_inner", factor, &other.theta, &mut self.theta)?;
        add_scaled("linear_direction", factor, &other.q, &mut self.q)?;
        self.v.add_scaled("hypergradient", factor, other.v)
    }

    /// One step along each: θ − α D_θ, q − γ D_q, v − η D_v. Whether all stayed finite.
    pub(crate) fn descend(
        &self,
        (v, theta, q): (&mut [f64], &mut [f64], &mut [f64]),
        (alpha, gamma, eta): (f64, f64, f64),
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        observer.phase(Phase::InnerStep);
        add_scaled("grad_inner", -alpha, &self.theta, theta)?;
        add_scaled("linear_direction", -gamma, &self.q, q)?;
        observer.phase(Phase::OuterStep);
        let v_stays_finite = self.v.add_to("hypergradient", -eta, v)?;
        Ok(v_stays_finite && finite(theta) && finite(q))
    }
}

pub(crate) use crate::error::all_finite as finite;

/// Checks an optional step size under its name.
pub(crate) fn validate_linear(step_size: Option<StepSize>) -> Result<()> {
    step_size.map_or(Ok(()), |step_size| step_size.validate("linear_step_size"))
}

/// Checks the weights of recursive momentum: a step size that starts at 1 or below.
pub(crate) fn validate_momentum(momentum: StepSize) -> Result<()> {
    momentum.validate("momentum")?;
    if momentum.initial > 1.0 {
        return Err(Error::argument("momentum", "an initial weight in (0, 1]", momentum.initial));
    }
    Ok(())
}

/// Steps between two visits of all samples: as given, or the steps in which batches touch as many samples as there are, (n + m)/B.
pub(crate) fn period(given: Option<u64>, problem: &dyn Problem, batch_size: SampleCount) -> u64 {
    let samples = problem.inner_samples() + problem.outer_samples();
    given.unwrap_or_else(|| match batch_size {
        SampleCount::All => 1,
        SampleCount::Drawn(count) => (samples / count).max(1) as u64,
    })
}
