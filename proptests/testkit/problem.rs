//! The registered problems, one that brings no second derivatives of its own, and data cleaning with a fault at a time.

use nhgd::bilevel::certified_nhgd;
use nhgd::curvature::CurvatureConfig;
use nhgd::dense::norm;
use nhgd::gradient::GradientBlock;
use nhgd::inverse::KnownCurvature;
use nhgd::model::{Activation, FisherIdentity, FisherKind};
use nhgd::problem::{
    ClosedForm, DataCleaningConfig, DataSource, FeatureScale, ModelConfig, NetworkConfig, OuterGradient, Problem, ProblemConfig,
    QuadraticConfig, differences, specimens,
};
use nhgd::rng::Key;
use nhgd::samples::Batch;
use nhgd::testkit::{self, ProblemClaims, Report};
use nhgd::{Error, Result};

use super::{caught, small_cleaning};

/// The registered problems whose model lacks the canonical link.
const APART: [&str; 0] = [];

fn claims(name: &str) -> ProblemClaims<'static> {
    ProblemClaims {
        fisher: if APART.contains(&name) { FisherIdentity::GaussNewton } else { FisherIdentity::Hessian },
        ..Default::default()
    }
}

#[test]
fn every_registered_problem_conforms() {
    let problems = specimens(Key::new(0)).unwrap();
    assert_eq!(problems.len(), ProblemConfig::REGISTRY.len());
    for problem in problems {
        let report = testkit::problem(problem.as_ref(), claims(problem.name()), Key::new(1));
        println!("{report}");
        report.assert_passes();
    }
}

/// Data cleaning on standardized features, and with a network, whose expected Fisher matrix is not its Hessian.
#[test]
fn data_cleaning_conforms_in_every_setting() {
    let base = DataCleaningConfig { train: 40, validation: 12, ridge: 1e-2, ..Default::default() };
    let network = |activation| ModelConfig::Mlp(NetworkConfig { hidden: vec![3], activation });
    let settings = [
        (DataCleaningConfig { features: FeatureScale::Standardized, ..base.clone() }, FisherIdentity::Hessian),
        (DataCleaningConfig { model: network(Activation::Tanh), ..base }, FisherIdentity::GaussNewton),
    ];
    for (config, fisher) in settings {
        let problem = ProblemConfig::DataCleaning(config).build(&DataSource::default(), Key::new(2)).unwrap();
        testkit::problem(problem.as_ref(), ProblemClaims { fisher, ..Default::default() }, Key::new(3)).assert_passes();
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Nothing wrong, but no second derivatives of its own.
    OnlyGradients,
    CrossProductOffByALittle,
    RidgeForgottenInHvp,
    GradVSign,
    OuterGradientDoubled,
    MeanOverAllSamples,
    RepeatedSamplesOnce,
    RidgeOncePerBatchEntry,
    ScoresWithoutWeights,
    ScoresOfTheFirstBatch,
    KnownCurvatureTwice,
    NoEmpiricalScores,
    InitialPointOfAnotherSize,
    MetricsWithoutNames,
    LongGradient,
    AcceptsNan,
    AcceptsAnyBatch,
    PanicsOnALongDirection,
    DependsOnThreads,
    /// Of the quadratic: by one part in a billion.
    ClosedFormOffByALittle,
}

/// A problem with a fault.
struct Faulty<'a> {
    problem: &'a dyn Problem,
    fault: Fault,
}

impl Faulty<'_> {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

fn scaled(mut x: Vec<f64>, factor: f64) -> Vec<f64> {
    x.iter_mut().for_each(|x| *x *= factor);
    x
}

impl Problem for Faulty<'_> {
    fn name(&self) -> &'static str {
        "faulty"
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
        let (mut v, theta) = self.problem.initial();
        if self.is(Fault::InitialPointOfAnotherSize) {
            v.push(0.0);
        }
        (v, theta)
    }
    fn f_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        match (self.fault, batch) {
            (Fault::AcceptsNan, _) if theta.iter().any(|x| x.is_nan()) => Ok(f64::NAN),
            (Fault::AcceptsAnyBatch, Batch::Indices(indices)) => {
                let there: Vec<usize> = indices.iter().copied().filter(|&i| i < self.inner_samples()).collect();
                if there.is_empty() { Ok(0.0) } else { self.problem.f_inner(v, theta, Batch::Indices(&there)) }
            }
            _ => self.problem.f_inner(v, theta, batch),
        }
    }
    fn grad_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let gradient = self.problem.grad_inner(v, theta, batch)?;
        Ok(match self.fault {
            Fault::RidgeOncePerBatchEntry => {
                let ridge = self.known_curvature(v)?.entry(0) * (batch.len(self.inner_samples()) - 1) as f64;
                gradient.iter().zip(theta).map(|(g, t)| g + ridge * t).collect()
            }
            Fault::LongGradient => [gradient, vec![0.0]].concat(),
            Fault::DependsOnThreads => scaled(gradient, 1.0 + 1e-15 * nhgd::par::threads() as f64),
            _ => gradient,
        })
    }
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let gradient = self.problem.grad_v(v, theta, batch)?;
        Ok(match self.fault {
            Fault::GradVSign => scaled(gradient, -1.0),
            Fault::MeanOverAllSamples => scaled(gradient, batch.len(self.inner_samples()) as f64 / self.inner_samples() as f64),
            Fault::RepeatedSamplesOnce => match batch {
                Batch::Indices(indices) => {
                    let mut once = indices.to_vec();
                    once.sort_unstable();
                    once.dedup();
                    self.problem.grad_v(v, theta, Batch::Indices(&once))?
                }
                Batch::All => gradient,
            },
            _ => gradient,
        })
    }
    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.problem.f_outer(v, theta, batch)
    }
    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        let mut outer = self.problem.grad_outer(v, theta, batch)?;
        if self.is(Fault::OuterGradientDoubled) {
            outer.theta = scaled(outer.theta, 2.0);
        }
        Ok(outer)
    }
    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        match self.fault {
            Fault::NoEmpiricalScores if kind == FisherKind::Empirical => {
                Err(Error::unsupported("the empirical Fisher matrix", "take another kind"))
            }
            // Logits of 40: weights of 1.
            Fault::ScoresWithoutWeights => self.problem.scores(&vec![40.0; v.len()], theta, batch, kind, key),
            Fault::ScoresOfTheFirstBatch => match batch {
                Batch::Indices(indices) if indices.iter().all(|&i| i < self.inner_samples()) => {
                    let first: Vec<usize> = (0..indices.len()).map(|i| i % self.inner_samples()).collect();
                    self.problem.scores(v, theta, Batch::Indices(&first), kind, key)
                }
                _ => self.problem.scores(v, theta, batch, kind, key),
            },
            _ => self.problem.scores(v, theta, batch, kind, key),
        }
    }
    fn known_curvature(&self, v: &[f64]) -> Result<KnownCurvature> {
        let known = self.problem.known_curvature(v)?;
        if self.is(Fault::KnownCurvatureTwice) { known.plus(known.entry(0)) } else { Ok(known) }
    }
    fn hvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        match self.fault {
            Fault::OnlyGradients => differences::hvp(self, v, theta, batch, u),
            Fault::RidgeForgottenInHvp => {
                let ridge = self.known_curvature(v)?.entry(0);
                Ok(self.problem.hvp(v, theta, batch, u)?.iter().zip(u).map(|(h, u)| h - ridge * u).collect())
            }
            Fault::PanicsOnALongDirection => {
                assert_eq!(u.len(), self.inner_dim());
                self.problem.hvp(v, theta, batch, u)
            }
            _ => self.problem.hvp(v, theta, batch, u),
        }
    }
    fn cross_vjp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
        match self.fault {
            Fault::OnlyGradients => differences::cross_vjp(self, v, theta, batch, q),
            Fault::CrossProductOffByALittle => Ok(scaled(self.problem.cross_vjp(v, theta, batch, q)?, 1.00001)),
            _ => self.problem.cross_vjp(v, theta, batch, q),
        }
    }
    fn cross_jvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        match self.fault {
            Fault::OnlyGradients => differences::cross_jvp(self, v, theta, batch, u),
            _ => self.problem.cross_jvp(v, theta, batch, u),
        }
    }
    fn closed_form(&self, v: &[f64]) -> Result<Option<ClosedForm>> {
        let closed = self.problem.closed_form(v)?;
        let factor = if self.is(Fault::ClosedFormOffByALittle) { 1.0 + 1e-9 } else { 1.0 };
        Ok(closed.map(|closed| ClosedForm { hypergradient: scaled(closed.hypergradient, factor), ..closed }))
    }
    fn metric_names(&self) -> Vec<&'static str> {
        if self.is(Fault::MetricsWithoutNames) { vec!["one"] } else { self.problem.metric_names() }
    }
    fn metrics(&self, v: &[f64], theta: &[f64]) -> Result<Vec<f64>> {
        self.problem.metrics(v, theta)
    }
}

fn faulty(fault: Fault, claims: ProblemClaims<'_>) -> Report {
    testkit::problem(&Faulty { problem: &small_cleaning(), fault }, claims, Key::new(5))
}

#[test]
fn wrong_problems_are_rejected_by_the_claim_that_they_break() {
    let mean = "an operation is the mean over the batch, repeated samples included";
    faulty(Fault::None, ProblemClaims::default()).assert_passes();
    for (fault, claim) in [
        (Fault::CrossProductOffByALittle, "Jᵀq = differences of ∇v g"),
        (Fault::CrossProductOffByALittle, "uᵀJᵀq = qᵀJu"),
        (Fault::RidgeForgottenInHvp, "Hessian product = differences of ∇θ g"),
        (Fault::RidgeForgottenInHvp, "expected Fisher matrix + Λ = Hessian"),
        (Fault::GradVSign, "∇v g = differences of g"),
        (Fault::OuterGradientDoubled, "∇θ f = differences of f"),
        (Fault::OuterGradientDoubled, "∇Φ = differences of Φ"),
        (Fault::MeanOverAllSamples, mean),
        (Fault::RepeatedSamplesOnce, mean),
        (Fault::RidgeOncePerBatchEntry, mean),
        (Fault::ScoresWithoutWeights, "expected Fisher matrix + Λ = Hessian"),
        (Fault::ScoresOfTheFirstBatch, "a sample's rows do not depend on its batch"),
        (Fault::KnownCurvatureTwice, "expected Fisher matrix + Λ = Hessian"),
        (Fault::NoEmpiricalScores, "scores are a function of their key"),
        (Fault::InitialPointOfAnotherSize, "runs start at a finite point of the right size"),
        (Fault::MetricsWithoutNames, "there is a metric for each name"),
        (Fault::LongGradient, "derivatives exist"),
        (Fault::AcceptsNan, "a θ that is not finite is refused"),
        (Fault::AcceptsAnyBatch, "an empty batch is refused"),
        (Fault::AcceptsAnyBatch, "an index that is not there is refused"),
        (Fault::PanicsOnALongDirection, "a direction of another length is refused"),
        (Fault::DependsOnThreads, "the same bits at every thread count"),
    ] {
        caught(fault, &faulty(fault, ProblemClaims::default()), claim);
    }
}

#[test]
fn a_wrong_closed_form_is_rejected() {
    let small = QuadraticConfig { inner_dim: 5, outer_dim: 3, samples: 40, outer_samples: 20, ..Default::default() };
    let quadratic = ProblemConfig::Quadratic(small).build(&DataSource::default(), Key::new(4)).unwrap();
    let report = |fault| testkit::problem(&Faulty { problem: quadratic.as_ref(), fault }, ProblemClaims::default(), Key::new(5));
    report(Fault::None).assert_passes();
    caught(Fault::ClosedFormOffByALittle, &report(Fault::ClosedFormOffByALittle), "hypergradient = closed form");
}

#[test]
fn a_problem_with_values_gradients_and_scores_alone_claims_less_and_is_marked() {
    // Central differences of gradients of size 1: about ε^{2/3}.
    let report = faulty(Fault::OnlyGradients, ProblemClaims { derivatives: 1e-6, ..Default::default() });
    report.assert_passes();
    assert_eq!(report.findings().iter().filter(|finding| finding.note.contains("default in use")).count(), 3);
    assert!(!faulty(Fault::OnlyGradients, ProblemClaims::default()).passed());
}

#[test]
fn kinds_of_score_and_a_fisher_matrix_that_are_not_claimed_are_not_asked_for() {
    let kinds = [FisherKind::Sampled, FisherKind::Expected];
    faulty(Fault::NoEmpiricalScores, ProblemClaims { kinds: &kinds, ..Default::default() }).assert_passes();
    faulty(Fault::KnownCurvatureTwice, ProblemClaims { fisher: FisherIdentity::GaussNewton, ..Default::default() }).assert_passes();
    // A kind that is there although it was said not to be.
    let report = faulty(Fault::None, ProblemClaims { kinds: &kinds, ..Default::default() });
    caught("a kind too many", &report, "a kind of score that is not claimed is refused");
}

/// A problem that does not say that its losses are convex has no bound from a residual; and what its Hessian has beyond Fisher matrix
/// and Λ is measured by itself: here −Λ, since Λ is said to be twice what it is.
#[test]
fn a_surrogate_is_measured_by_itself_and_certifies_nothing() {
    let problem = small_cleaning();
    let problem = Faulty { problem: &problem, fault: Fault::KnownCurvatureTwice };
    let key = Key::new(3);
    let (v, theta) = (key.child(0).stream().normals(problem.outer_dim()), key.child(1).stream().normals(problem.inner_dim()));
    let rows = problem.scores(&v, &theta, Batch::All, FisherKind::Expected, key).unwrap();
    let mut curvature = CurvatureConfig::default_of("dense").unwrap().build(problem.inner_dim(), key).unwrap();
    curvature.absorb(&rows).unwrap();
    let found = certified_nhgd(&problem, &v, &theta, &*curvature.approximate().unwrap(), 0.1, None).unwrap();
    assert_eq!((found.residual, found.total), (None, None));
    let ridge = 0.5 * problem.known_curvature(&v).unwrap().entry(0);
    let expected = ridge * norm(&found.inverse_hvp.midpoint);
    assert!((found.surrogate.unwrap() / expected - 1.0).abs() < 1e-9, "{:?} for {expected:e}", found.surrogate);
}
