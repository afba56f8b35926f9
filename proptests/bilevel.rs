//! Methods and problems against independent computations: NHGD with an exact curvature is the exact method, a state that was saved
//! continues to the same bits, a wrong derivative is caught, defaults by differences are found out.

use nhgd::bilevel::{self, CurvatureRows, ExactConfig, MethodConfig, NhgdConfig, SampleCount, Start, State, StepSize, Stop};
use nhgd::curvature::CurvatureConfig;
use nhgd::dense::{difference, norm};
use nhgd::gradient::GradientBlock;
use nhgd::inverse::KnownCurvature;
use nhgd::model::FisherKind;
use nhgd::oracle::{check_problem, exact_hypergradient};
use nhgd::par;
use nhgd::problem::{
    ClosedForm, Counted, DataCleaningConfig, DataSource, OracleCounts, OuterGradient, Problem, ProblemConfig, QuadraticConfig,
};
use nhgd::rng::Key;
use nhgd::samples::Batch;
use nhgd::{Error, Result, Status};

fn cleaning(train: usize, validation: usize, seed: u64) -> Box<dyn Problem> {
    let config = DataCleaningConfig { train, validation, ridge: 1e-2, ..Default::default() };
    ProblemConfig::DataCleaning(config).build(&DataSource::default(), Key::new(seed)).unwrap()
}

fn relative(a: &[f64], b: &[f64]) -> f64 {
    norm(&difference(a, b)) / norm(b)
}

fn final_state(problem: &dyn Problem, method: &MethodConfig, steps: u64) -> State {
    bilevel::run(problem, method.build().unwrap().as_ref(), Key::new(3), Stop::after(steps), &mut ()).unwrap().state
}

/// All rows, expected Fisher, no damping: F̂ + Λ is the Hessian, so that NHGD takes the exact method's steps.
#[test]
fn nhgd_with_the_whole_expected_fisher_is_the_exact_method() {
    let problem = cleaning(150, 40, 1);
    let (inner_step_size, outer_step_size) = (StepSize::constant(0.7), StepSize::constant(100.0));
    let exact = ExactConfig { inner_steps: 4, batch_size: SampleCount::Drawn(20), inner_step_size, outer_step_size };
    let exact = final_state(problem.as_ref(), &MethodConfig::Exact(exact), 6);
    for name in ["window", "dense"] {
        let nhgd = NhgdConfig {
            inner_steps: 4,
            batch_size: SampleCount::Drawn(20),
            inner_step_size,
            outer_step_size,
            damping: 0.0,
            fisher: FisherKind::Expected,
            curvature_rows: CurvatureRows::Fresh,
            curvature_samples: SampleCount::All,
            curvature_start: Start::Cold,
            curvature: CurvatureConfig::default_of(name).unwrap(),
            ..Default::default()
        };
        let found = final_state(problem.as_ref(), &MethodConfig::Nhgd(nhgd.clone()), 6);
        assert!(relative(&found.outer_var, &exact.outer_var) < 1e-9, "{name}");
        assert!(relative(&found.inner_var, &exact.inner_var) < 1e-9, "{name}");
        // The test can fail: a damping moves the steps.
        let damped = MethodConfig::Nhgd(NhgdConfig { damping: 0.1, ..nhgd });
        assert!(relative(&final_state(problem.as_ref(), &damped, 6).outer_var, &exact.outer_var) > 1e-4);
    }
}

/// Every option of the method, one at a time.
fn variants() -> Vec<NhgdConfig> {
    let base = NhgdConfig {
        inner_steps: 3,
        batch_size: SampleCount::Drawn(16),
        outer_step_size: StepSize::constant(50.0),
        ..Default::default()
    };
    let nystrom = CurvatureConfig::default_of("nystrom").unwrap();
    vec![
        base.clone(),
        NhgdConfig { curvature: nystrom.clone(), curvature_decay: 0.1, ..base.clone() },
        NhgdConfig { curvature: CurvatureConfig::default_of("dense").unwrap(), ..base.clone() },
        NhgdConfig { fisher: FisherKind::Empirical, ..base.clone() },
        NhgdConfig { fisher: FisherKind::Expected, ..base.clone() },
        NhgdConfig { curvature_rows: CurvatureRows::Fresh, curvature_samples: SampleCount::Drawn(30), ..base.clone() },
        NhgdConfig { curvature_samples: SampleCount::Drawn(5), cross_samples: SampleCount::Drawn(40), ..base.clone() },
        NhgdConfig { outer_batch_size: SampleCount::Drawn(10), batch_size: SampleCount::All, ..base.clone() },
        NhgdConfig { inner_start: Start::Cold, curvature_start: Start::Cold, ..base.clone() },
        NhgdConfig {
            inner_step_size: StepSize { initial: 1.0, power: 1.0, offset: 10.0 },
            outer_step_size: StepSize { initial: 50.0, power: 0.5, offset: 2.0 },
            ..base
        },
    ]
}

#[test]
fn every_option_runs_to_the_same_bits_at_every_thread_count_and_after_a_restart() {
    let problem = cleaning(80, 30, 2);
    for config in variants() {
        let method = MethodConfig::Nhgd(config.clone()).build().unwrap();
        let run = |steps| bilevel::run(problem.as_ref(), method.as_ref(), Key::new(5), Stop::after(steps), &mut ()).unwrap();
        let whole = par::with_threads(1, || run(6)).unwrap();
        assert!(whole.state.is_finite() && whole.state.step == 6);
        for threads in [2, 4] {
            let again = par::with_threads(threads, || run(6)).unwrap();
            assert_eq!(again.state.to_bytes().unwrap(), whole.state.to_bytes().unwrap(), "{threads} threads, {config:?}");
            assert_eq!(again.counts, whole.counts);
        }
        // By hand from the saved state of step 3: a step's randomness depends on the key and the step alone.
        let mut state = State::from_bytes(&run(3).state.to_bytes().unwrap()).unwrap();
        while state.step < 6 {
            let key = Key::new(5).named("step").child(state.step);
            assert_eq!(method.step(problem.as_ref(), &mut state, key, &mut ()).unwrap(), Status::Converged {});
            state.step += 1;
        }
        assert_eq!(state.to_bytes().unwrap(), whole.state.to_bytes().unwrap());
    }
    assert!(State::from_bytes(&[1, 2, 3]).is_err());
}

#[test]
fn oracle_counts_are_the_ones_of_the_settings() {
    let problem = cleaning(80, 30, 2);
    let config = NhgdConfig {
        inner_steps: 3,
        batch_size: SampleCount::Drawn(16),
        curvature_samples: SampleCount::Drawn(5),
        cross_samples: SampleCount::Drawn(40),
        outer_batch_size: SampleCount::Drawn(10),
        ..Default::default()
    };
    let method = MethodConfig::Nhgd(config).build().unwrap();
    let outcome = bilevel::run(problem.as_ref(), method.as_ref(), Key::new(0), Stop::after(4), &mut ()).unwrap();
    let expected = OracleCounts {
        inner_gradients: 4 * 3 * 16,
        outer_gradients: 4 * 10,
        scores: 4 * 3 * 5,
        label_draws: 4 * 3 * 5,
        hessian_products: 0,
        cross_products: 4 * 40,
    };
    assert_eq!(outcome.counts, expected);
    let budget = Stop { outer_steps: 100, oracle_budget: Some(2 * (48 + 10 + 15 + 40)) };
    assert_eq!(bilevel::run(problem.as_ref(), method.as_ref(), Key::new(0), budget, &mut ()).unwrap().state.step, 2);
}

#[test]
fn a_step_size_that_is_too_large_is_reported_as_divergence() {
    let problem = cleaning(60, 20, 0);
    let config = NhgdConfig { inner_step_size: StepSize::constant(1e300), ..Default::default() };
    let method = MethodConfig::Nhgd(config).build().unwrap();
    let outcome = bilevel::run(problem.as_ref(), method.as_ref(), Key::new(0), Stop::after(50), &mut ());
    match outcome.unwrap().ended {
        bilevel::Ended::Failed(status) => assert!(status.to_string().contains("smaller step sizes"), "{status}"),
        other => panic!("{other:?}"),
    }
}

/// A problem with one operation replaced.
struct Tampered<'a> {
    problem: &'a dyn Problem,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    /// Jᵀq too large by one part in a hundred thousand.
    CrossProduct,
    /// The regularizer forgotten in the Hessian product.
    Ridge,
    /// ∇_v g of the wrong sign.
    Sign,
    /// A closed form that is off by one part in a billion.
    ClosedForm,
    /// Nothing wrong, but no second derivatives of its own.
    OnlyGradients,
}

impl Problem for Tampered<'_> {
    fn name(&self) -> &'static str {
        "tampered"
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
        self.problem.grad_inner(v, theta, batch)
    }
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        let sign = if self.fault == Fault::Sign { -1.0 } else { 1.0 };
        Ok(self.problem.grad_v(v, theta, batch)?.iter().map(|x| sign * x).collect())
    }
    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.problem.f_outer(v, theta, batch)
    }
    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        self.problem.grad_outer(v, theta, batch)
    }
    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        self.problem.scores(v, theta, batch, kind, key)
    }
    fn known_curvature(&self, v: &[f64]) -> Result<KnownCurvature> {
        self.problem.known_curvature(v)
    }
    fn closed_form(&self, v: &[f64]) -> Result<Option<ClosedForm>> {
        let mut closed = self.problem.closed_form(v)?;
        if let (Fault::ClosedForm, Some(closed)) = (self.fault, &mut closed) {
            closed.hypergradient.iter_mut().for_each(|x| *x *= 1.0 + 1e-9);
        }
        Ok(closed)
    }
    fn hvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        match self.fault {
            Fault::OnlyGradients => nhgd::problem::differences::hvp(self, v, theta, batch, u),
            Fault::Ridge => {
                let ridge = self.known_curvature(v)?.entry(0);
                Ok(self.problem.hvp(v, theta, batch, u)?.iter().zip(u).map(|(h, u)| h - ridge * u).collect())
            }
            _ => self.problem.hvp(v, theta, batch, u),
        }
    }
    fn cross_vjp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
        match self.fault {
            Fault::OnlyGradients => nhgd::problem::differences::cross_vjp(self, v, theta, batch, q),
            Fault::CrossProduct => Ok(self.problem.cross_vjp(v, theta, batch, q)?.iter().map(|x| x * 1.00001).collect()),
            _ => self.problem.cross_vjp(v, theta, batch, q),
        }
    }
    fn cross_jvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        match self.fault {
            Fault::OnlyGradients => nhgd::problem::differences::cross_jvp(self, v, theta, batch, u),
            _ => self.problem.cross_jvp(v, theta, batch, u),
        }
    }
}

#[test]
fn planted_wrong_derivatives_are_caught_and_named() {
    let problem = cleaning(30, 15, 4);
    let small = QuadraticConfig { inner_dim: 5, outer_dim: 3, samples: 40, outer_samples: 20, ..Default::default() };
    let quadratic = ProblemConfig::Quadratic(small).build(&DataSource::default(), Key::new(4)).unwrap();
    let faults = [(Fault::CrossProduct, "Jᵀq"), (Fault::Ridge, "Hessian product"), (Fault::Sign, "∇v g")];
    for (problem, faults) in [(&problem, &faults[..]), (&quadratic, &[faults[0], (Fault::ClosedForm, "closed form")])] {
        for &(fault, named) in faults {
            let checks = check_problem(&Tampered { problem: problem.as_ref(), fault }, Key::new(1)).unwrap();
            let failed: Vec<_> = checks.iter().filter(|c| !c.passed()).map(|c| c.quantity.as_str()).collect();
            assert!(failed.iter().any(|quantity| quantity.contains(named)), "{fault:?}: {failed:?}");
        }
        assert!(check_problem(problem.as_ref(), Key::new(1)).unwrap().iter().all(|c| c.passed()));
    }
}

#[test]
fn a_problem_with_values_gradients_and_scores_alone_passes_and_is_marked() {
    let problem = cleaning(20, 12, 4);
    let bare = Tampered { problem: problem.as_ref(), fault: Fault::OnlyGradients };
    let checks = check_problem(&bare, Key::new(1)).unwrap();
    assert!(checks.iter().all(|c| c.passed()), "{checks:#?}");
    assert_eq!(checks.iter().filter(|c| c.note.contains("default in use")).count(), 3);
    let (v, theta) = problem.initial();
    let exact = exact_hypergradient(problem.as_ref(), &v, &theta).unwrap();
    assert!(relative(&exact_hypergradient(&bare, &v, &theta).unwrap(), &exact) < 1e-6);
}

#[test]
fn bad_points_and_settings_are_refused_by_name() {
    let problem = cleaning(20, 10, 0);
    let (v, theta) = problem.initial();
    let argument = |e: Error| e.offending_argument();
    assert_eq!(argument(problem.f_inner(&v[1..], &theta, Batch::All).unwrap_err()), Some("outer_var"));
    assert_eq!(argument(problem.grad_inner(&v, &theta[1..], Batch::All).unwrap_err()), Some("inner_var"));
    let nan = vec![f64::NAN; theta.len()];
    assert_eq!(argument(problem.grad_outer(&v, &nan, Batch::All).unwrap_err()), Some("inner_var"));
    assert_eq!(argument(problem.cross_jvp(&v, &theta, Batch::All, &[1.0]).unwrap_err()), Some("direction"));
    assert_eq!(argument(problem.cross_vjp(&v, &theta, Batch::Indices(&[20]), &theta).unwrap_err()), Some("batch"));
    for (config, named) in [
        (NhgdConfig { damping: -1.0, ..Default::default() }, "damping"),
        (NhgdConfig { inner_steps: 0, ..Default::default() }, "inner_steps"),
        (NhgdConfig { curvature_decay: 1.0, ..Default::default() }, "curvature_decay"),
        (NhgdConfig { outer_step_size: StepSize::constant(f64::NAN), ..Default::default() }, "outer_step_size"),
        (NhgdConfig { batch_size: SampleCount::Drawn(0), ..Default::default() }, "batch_size"),
    ] {
        assert_eq!(argument(MethodConfig::Nhgd(config).validate().unwrap_err()), Some(named));
    }
    let too_many = DataCleaningConfig { train: 1700, validation: 97, ..Default::default() };
    let error = ProblemConfig::DataCleaning(too_many).build(&DataSource::default(), Key::new(0)).err().unwrap();
    assert!(error.to_string().contains("1797"), "{error}");
    let counted = Counted::new(problem.as_ref());
    counted.f_inner(&v, &theta, Batch::All).unwrap();
    assert_eq!(counted.counts(), OracleCounts::default(), "values are evaluation");
}
