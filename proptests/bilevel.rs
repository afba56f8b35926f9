//! Methods and problems against independent computations, beyond the suites that all of them pass (`testkit`): NHGD with an exact
//! curvature is the exact method, every option of it restarts to the same bits, counts are those of the settings.

use nhgd::bilevel::{
    self, CurvatureRows, Damping, ExactConfig, MethodConfig, NhgdConfig, Observer, SampleCount, Start, State, StepSize, Stop,
};
use nhgd::curvature::{CurvatureConfig, FrequentDirectionsConfig, NystromConfig, OnKnownCurvature, RankOneSmoothedConfig};
use nhgd::dense::{difference, norm};
use nhgd::gradient::GradientBlock;
use nhgd::inverse::KnownCurvature;
use nhgd::model::FisherKind;
use nhgd::oracle::exact_hypergradient;
use nhgd::par;
use nhgd::problem::{Counted, DataCleaningConfig, DataSource, OracleCounts, OuterGradient, Problem, ProblemConfig};
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
    let exact =
        ExactConfig { inner_steps: 4, batch_size: SampleCount::Drawn(20), inner_step_size, outer_step_size, ..Default::default() };
    let exact = final_state(problem.as_ref(), &MethodConfig::Exact(exact), 6);
    for name in ["window", "dense"] {
        let nhgd = NhgdConfig {
            inner_steps: 4,
            batch_size: SampleCount::Drawn(20),
            inner_step_size,
            outer_step_size,
            damping: Damping::Fixed(0.0),
            fisher: Some(FisherKind::Expected),
            curvature_rows: CurvatureRows::Fresh,
            curvature_samples: Some(SampleCount::All),
            curvature_start: Start::Cold,
            curvature: CurvatureConfig::default_of(name).unwrap(),
            ..Default::default()
        };
        let found = final_state(problem.as_ref(), &MethodConfig::Nhgd(nhgd.clone()), 6);
        assert!(relative(&found.outer_var, &exact.outer_var) < 1e-9, "{name}");
        assert!(relative(&found.inner_var, &exact.inner_var) < 1e-9, "{name}");
        // The test can fail: a damping moves the steps.
        let damped = MethodConfig::Nhgd(NhgdConfig { damping: Damping::Fixed(0.1), ..nhgd });
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
    // Winds up within the run.
    let winding = RankOneSmoothedConfig { gamma: 0.3, known_curvature: OnKnownCurvature::Ignore, ..Default::default() };
    vec![
        base.clone(),
        NhgdConfig { curvature: nystrom.clone(), curvature_decay: 0.1, ..base.clone() },
        NhgdConfig { curvature: CurvatureConfig::default_of("dense").unwrap(), ..base.clone() },
        NhgdConfig { curvature: CurvatureConfig::RankOneSmoothed(winding), ..base.clone() },
        NhgdConfig { fisher: Some(FisherKind::Empirical), ..base.clone() },
        NhgdConfig { fisher: Some(FisherKind::Expected), ..base.clone() },
        NhgdConfig { curvature_rows: CurvatureRows::Fresh, curvature_samples: Some(SampleCount::Drawn(30)), ..base.clone() },
        NhgdConfig { curvature_samples: Some(SampleCount::Drawn(5)), cross_samples: SampleCount::Drawn(40), ..base.clone() },
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
        curvature_samples: Some(SampleCount::Drawn(5)),
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

/// A user's own problem, with values, gradients and scores alone, has the hypergradient of the one with derivatives of its own.
#[test]
fn default_derivatives_give_the_hypergradient_of_analytic_ones() {
    let problem = cleaning(20, 12, 4);
    let (v, theta) = problem.initial();
    let exact = exact_hypergradient(problem.as_ref(), &v, &theta).unwrap();
    let bare = exact_hypergradient(&Bare(problem.as_ref()), &v, &theta).unwrap();
    assert!(relative(&bare, &exact) < 1e-6 && bare != exact);
}

/// What a problem must bring, and nothing else.
struct Bare<'a>(&'a dyn Problem);

impl Problem for Bare<'_> {
    fn name(&self) -> &'static str {
        "bare"
    }
    fn outer_dim(&self) -> usize {
        self.0.outer_dim()
    }
    fn inner_dim(&self) -> usize {
        self.0.inner_dim()
    }
    fn inner_samples(&self) -> usize {
        self.0.inner_samples()
    }
    fn outer_samples(&self) -> usize {
        self.0.outer_samples()
    }
    fn initial(&self) -> (Vec<f64>, Vec<f64>) {
        self.0.initial()
    }
    fn f_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.0.f_inner(v, theta, batch)
    }
    fn grad_inner(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        self.0.grad_inner(v, theta, batch)
    }
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        self.0.grad_v(v, theta, batch)
    }
    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.0.f_outer(v, theta, batch)
    }
    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        self.0.grad_outer(v, theta, batch)
    }
    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        if kind == FisherKind::Expected {
            return Err(Error::unsupported("rows of all labels", "take `sampled`"));
        }
        self.0.scores(v, theta, batch, kind, key)
    }
    fn known_curvature(&self, v: &[f64]) -> Result<KnownCurvature> {
        self.0.known_curvature(v)
    }
}

/// A sketch asks for the rows of all labels; where a problem has none it takes those of drawn ones, unless it was told which.
#[test]
fn a_sketch_takes_drawn_labels_where_a_problem_has_no_others() {
    let problem = cleaning(120, 30, 4);
    let sketch = CurvatureConfig::Nystrom(NystromConfig { sketch_size: 24, ..Default::default() });
    let config = NhgdConfig { inner_steps: 3, batch_size: SampleCount::Drawn(40), curvature: sketch, ..Default::default() };
    let told = |fisher| {
        let (curvature_samples, curvature_every) = (Some(SampleCount::Drawn(12)), Some(10));
        MethodConfig::Nhgd(NhgdConfig { fisher: Some(fisher), curvature_samples, curvature_every, ..config.clone() })
    };
    let default = MethodConfig::Nhgd(config.clone());
    let same = |a: State, b: State| (a.outer_var, a.inner_var) == (b.outer_var, b.inner_var);
    let (bare, full) = (&Bare(problem.as_ref()), problem.as_ref());
    assert!(same(final_state(bare, &default, 3), final_state(bare, &told(FisherKind::Sampled), 3)));
    assert!(same(final_state(full, &default, 3), final_state(full, &told(FisherKind::Expected), 3)));
    assert!(!same(final_state(full, &default, 3), final_state(full, &told(FisherKind::Sampled), 3)));
    // Nobody asks a run's sketch for a bound: it carries the probes that are named, and no others.
    for (named, carried) in [(None, 0), (Some(3), 3)] {
        let curvature = CurvatureConfig::Nystrom(NystromConfig { sketch_size: 24, probes: named, ..Default::default() });
        let method = MethodConfig::Nhgd(NhgdConfig { curvature: curvature.clone(), ..config.clone() }).build().unwrap();
        let held = curvature.held_by(method.init(full, Key::new(3)).unwrap().curvature.unwrap().as_ref());
        assert_eq!(held, CurvatureConfig::Nystrom(NystromConfig { sketch_size: 24, probes: Some(carried), ..Default::default() }));
    }
    let refused = told(FisherKind::Expected).build().unwrap();
    match bilevel::run(bare, refused.as_ref(), Key::new(3), Stop::after(3), &mut ()) {
        Err(Error::Unsupported { .. }) => {}
        other => panic!("{:?}", other.map(|outcome| outcome.ended)),
    }
}

#[test]
fn more_samples_than_there_are_are_refused_with_their_number() {
    for (train, validation) in [(1700, 97), (usize::MAX, 1), (1, usize::MAX)] {
        let config = DataCleaningConfig { train, validation, ..Default::default() };
        let error = ProblemConfig::DataCleaning(config).build(&DataSource::default(), Key::new(0)).err().unwrap();
        assert!(error.to_string().contains("1797"), "{error}");
    }
}

#[test]
fn values_are_evaluation_and_not_counted() {
    let problem = cleaning(20, 10, 0);
    let (v, theta) = problem.initial();
    let counted = Counted::new(problem.as_ref());
    counted.f_inner(&v, &theta, Batch::All).unwrap();
    counted.f_outer(&v, &theta, Batch::All).unwrap();
    assert_eq!(counted.counts(), OracleCounts::default());
}

/// The dampings that a run took.
#[derive(Default)]
struct Dampings(Vec<f64>);

impl Observer for Dampings {
    fn damping(&mut self, damping: f64) {
        self.0.push(damping);
    }
}

/// With `auto` a step takes the damping that its own b asks for and tells it. A sketch that leaves nothing out asks for none beside the
/// ridge, and the step is then that of the number; one that leaves much out asks for more.
#[test]
fn nhgd_chooses_its_damping_and_tells_it() {
    let problem = cleaning(120, 40, 2);
    let run = |damping: Damping, curvature: CurvatureConfig| {
        let config = NhgdConfig {
            inner_steps: 3,
            batch_size: SampleCount::Drawn(30),
            outer_step_size: StepSize::constant(50.0),
            damping,
            curvature_samples: Some(SampleCount::All),
            curvature,
            ..Default::default()
        };
        let (method, mut dampings) = (MethodConfig::Nhgd(config).build().unwrap(), Dampings::default());
        let outcome = bilevel::run(problem.as_ref(), method.as_ref(), Key::new(3), Stop::after(4), &mut dampings).unwrap();
        (outcome.state.outer_var, dampings.0)
    };
    let sketch = |size| CurvatureConfig::FrequentDirections(FrequentDirectionsConfig { sketch_size: size, probes: 0 });
    let window = CurvatureConfig::default_of("window").unwrap();
    let (outer, chosen) = run(Damping::AUTO, window.clone());
    assert_eq!(chosen, [0.0; 4]);
    let (fixed, told) = run(Damping::Fixed(0.0), window.clone());
    assert_eq!(told, [0.0; 4]);
    assert!(relative(&outer, &fixed) < 1e-9);
    let (_, small) = run(Damping::AUTO, sketch(4));
    let (_, large) = run(Damping::AUTO, sketch(40));
    let (_, loose) = run(Damping::Auto { target: 1.0 }, sketch(4));
    assert!(small.iter().zip(&large).all(|(small, large)| *small > 2.0 * large), "{small:?} {large:?}");
    assert!(small.iter().zip(&loose).all(|(small, loose)| *small > 2.0 * loose), "{small:?} {loose:?}");
    let (outer, told) = run(Damping::Fixed(0.3), window);
    assert_eq!(told, [0.3; 4]);
    assert!(relative(&outer, &fixed) > 1e-3, "the test can fail");
}
