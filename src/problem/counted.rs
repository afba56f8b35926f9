//! Counting what a method asks of a problem, in samples: the currency in which methods are compared. Evaluation goes to the
//! problem itself and is not counted.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::{
    Baseline, ClosedForm, Constants, HeldOut, InnerProducts, OuterGradient, Picture, Problem, SampleTables, TablePoint, TableSide,
};
use crate::dense::Matrix;
use crate::error::Result;
use crate::gradient::GradientBlock;
use crate::inverse::KnownCurvature;
use crate::model::FisherKind;
use crate::rng::Key;
use crate::samples::Batch;

/// Oracle calls, in samples: a product with a mean over a batch of m counts m.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OracleCounts {
    /// ∇_θ and ∇_v of one ℓ_i.
    pub inner_gradients: u64,
    /// Both gradients of one outer sample's loss.
    pub outer_gradients: u64,
    /// Samples whose score rows were handed out.
    pub scores: u64,
    /// Labels drawn from the model.
    pub label_draws: u64,
    /// Products of one ∇²ℓ_i with a vector; a dense Hessian counts d2 for each sample.
    pub hessian_products: u64,
    /// Products of one sample's cross derivative with a vector.
    pub cross_products: u64,
}

impl OracleCounts {
    /// The column names, in the order of [`values`](Self::values).
    pub const NAMES: [&'static str; 6] =
        ["inner_gradients", "outer_gradients", "scores", "label_draws", "hessian_products", "cross_products"];

    /// The counts.
    pub fn values(&self) -> [u64; 6] {
        [self.inner_gradients, self.outer_gradients, self.scores, self.label_draws, self.hessian_products, self.cross_products]
    }

    /// The sum of all calls but label draws: each costs about one gradient of one sample.
    pub fn gradient_equivalents(&self) -> u64 {
        self.values().iter().sum::<u64>() - self.label_draws
    }
}

/// A problem that counts its oracle calls.
pub struct Counted<'a> {
    problem: &'a dyn Problem,
    counts: [AtomicU64; 6],
}

impl<'a> Counted<'a> {
    /// Wraps `problem`, with all counts at 0.
    pub fn new(problem: &'a dyn Problem) -> Self {
        Self { problem, counts: Default::default() }
    }

    /// Goes on from counts of an earlier run.
    pub fn resume(problem: &'a dyn Problem, counts: OracleCounts) -> Self {
        Self { problem, counts: counts.values().map(AtomicU64::new) }
    }

    /// The problem itself, for evaluation.
    pub fn uncounted(&self) -> &'a dyn Problem {
        self.problem
    }

    /// The counts so far.
    pub fn counts(&self) -> OracleCounts {
        let [inner_gradients, outer_gradients, scores, label_draws, hessian_products, cross_products] =
            std::array::from_fn(|i| self.counts[i].load(Ordering::Relaxed));
        OracleCounts { inner_gradients, outer_gradients, scores, label_draws, hessian_products, cross_products }
    }

    fn inner(&self, index: usize, batch: Batch<'_>) {
        self.add(index, batch.len(self.problem.inner_samples()));
    }

    fn add(&self, index: usize, samples: usize) {
        self.counts[index].fetch_add(samples as u64, Ordering::Relaxed);
    }
}

impl Problem for Counted<'_> {
    fn name(&self) -> &'static str {
        self.problem.name()
    }
    fn outer_dim(&self) -> usize {
        self.problem.outer_dim()
    }
    fn inner_dim(&self) -> usize {
        self.problem.inner_dim()
    }
    fn inner_samples(&self) -> usize {
        self.problem.inner_samples()
    }
    fn outer_samples(&self) -> usize {
        self.problem.outer_samples()
    }
    fn initial(&self) -> (Vec<f64>, Vec<f64>) {
        self.problem.initial()
    }
    fn f_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.problem.f_inner(v, theta, batch)
    }
    fn grad_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        self.inner(0, batch);
        self.problem.grad_inner(v, theta, batch)
    }
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        self.inner(0, batch);
        self.problem.grad_v(v, theta, batch)
    }
    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.problem.f_outer(v, theta, batch)
    }
    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        self.add(1, batch.len(self.problem.outer_samples()));
        self.problem.grad_outer(v, theta, batch)
    }
    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        let scores = self.problem.scores(v, theta, batch, kind, key)?;
        self.inner(2, batch);
        if kind == FisherKind::Sampled {
            self.inner(3, batch);
        }
        Ok(scores)
    }
    fn known_curvature(&self, v: &[f64]) -> Result<KnownCurvature> {
        self.problem.known_curvature(v)
    }
    fn hvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        self.inner(4, batch);
        self.problem.hvp(v, theta, batch, u)
    }
    fn cross_vjp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
        self.inner(5, batch);
        self.problem.cross_vjp(v, theta, batch, q)
    }
    fn cross_jvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        self.inner(5, batch);
        self.problem.cross_jvp(v, theta, batch, u)
    }
    fn inner_products(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<InnerProducts> {
        [0, 4, 5].into_iter().for_each(|index| self.inner(index, batch));
        self.problem.inner_products(v, theta, batch, q)
    }
    fn tables(&self) -> Box<dyn SampleTables + '_> {
        Box::new(CountedTables { counted: self, tables: self.problem.tables() })
    }
    fn hold_out(&self, fold: usize, folds: usize) -> Result<Option<HeldOut>> {
        self.problem.hold_out(fold, folds)
    }
    fn cross_rows(&self, v: &[f64], theta: &[f64]) -> Result<Option<GradientBlock>> {
        self.inner(2, Batch::All);
        self.problem.cross_rows(v, theta)
    }
    fn constants(&self, v: &[f64]) -> Result<Option<Constants>> {
        self.problem.constants(v)
    }
    fn hessian(&self, v: &[f64], theta: &[f64]) -> Result<Matrix> {
        self.add(4, self.inner_dim() * self.inner_samples());
        self.problem.hessian(v, theta)
    }
    fn metric_names(&self) -> Vec<&'static str> {
        self.problem.metric_names()
    }
    fn metrics(&self, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
        self.problem.metrics(v, theta)
    }
    fn pictures(&self, v: &[f64], theta: &[f64]) -> Result<Vec<Picture>> {
        self.problem.pictures(v, theta)
    }
    fn closed_form(&self, v: &[f64]) -> Result<Option<ClosedForm>> {
        self.problem.closed_form(v)
    }
    fn baselines(&self) -> Result<Vec<Baseline>> {
        self.problem.baselines()
    }
}

/// Counts the coefficients that are asked for: an inner sample's are a gradient, a Hessian product and a cross product.
struct CountedTables<'a> {
    counted: &'a Counted<'a>,
    tables: Box<dyn SampleTables + 'a>,
}

impl SampleTables for CountedTables<'_> {
    fn width(&self, side: TableSide) -> usize {
        self.tables.width(side)
    }
    fn coefficients(&self, side: TableSide, point: TablePoint<'_>, batch: Batch<'_>) -> Result<Vec<f64>> {
        match side {
            TableSide::Inner => [0, 4, 5].into_iter().for_each(|index| self.counted.inner(index, batch)),
            TableSide::Outer => self.counted.add(1, batch.len(self.counted.problem.outer_samples())),
        }
        self.tables.coefficients(side, point, batch)
    }
    fn expand(&self, side: TableSide, batch: Batch<'_>, coefficients: &[f64]) -> Result<Vec<f64>> {
        self.tables.expand(side, batch, coefficients)
    }
    fn add_rest(&self, side: TableSide, point: TablePoint<'_>, mean: &mut [f64]) -> Result<()> {
        self.tables.add_rest(side, point, mean)
    }
}
