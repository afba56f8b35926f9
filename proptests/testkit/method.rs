//! The registered methods on every registered problem that settings are declared for, and one written here with a fault at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use nhgd::bilevel::{self, Method, MethodConfig, NhgdConfig, Observer, SampleCount, State, StepSize};
use nhgd::curvature::CurvatureConfig;
use nhgd::dense::{add_scaled, axpy};
use nhgd::problem::{Problem, specimens};
use nhgd::rng::Key;
use nhgd::samples::Batch;
use nhgd::testkit::{self, MethodClaims, Randomness, Report};
use nhgd::{Result, Status};

use super::{caught, small_cleaning};

/// Step sizes that suit the specimen of a problem, and what 30 outer steps make of Φ with them.
fn step_sizes(problem: &str) -> (StepSize, StepSize, f64) {
    match problem {
        "data-cleaning" => (StepSize::constant(1.0), StepSize::constant(100.0), 0.9),
        "quadratic" => (StepSize::constant(0.2), StepSize::constant(0.5), 0.95),
        "distillation" => (StepSize::constant(0.5), StepSize::constant(2.0), 0.95),
        "poisson-control" => (StepSize::constant(0.1), StepSize::constant(1e4), 0.9),
        other => panic!("declare step sizes for the specimen of `{other}` here"),
    }
}

/// The settings that a method goes through the suite with.
fn registered(name: &str, inner_step_size: StepSize, outer_step_size: StepSize) -> Vec<MethodConfig> {
    let batch_size = SampleCount::Drawn(20);
    match name {
        "nhgd" => {
            let base = NhgdConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() };
            let dense = CurvatureConfig::default_of("dense").unwrap();
            vec![
                MethodConfig::Nhgd(base.clone()),
                MethodConfig::Nhgd(NhgdConfig { curvature: dense, curvature_decay: 0.05, cross_samples: batch_size, ..base }),
            ]
        }
        "exact" => {
            vec![MethodConfig::Exact(bilevel::ExactConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() })]
        }
        other => panic!("declare the settings of `{other}` here"),
    }
}

#[test]
fn every_registered_method_conforms_on_every_registered_problem() {
    for problem in specimens(Key::new(0)).unwrap() {
        let (inner, outer, reduction) = step_sizes(problem.name());
        for (name, _) in MethodConfig::REGISTRY {
            for config in registered(name, inner, outer) {
                let claims = MethodClaims { steps: 30, reduction, randomness: Randomness::Drawn };
                let report = testkit::method(config.build().unwrap().as_ref(), problem.as_ref(), claims, Key::new(3));
                println!("{}: {report}", problem.name());
                report.assert_passes();
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    CarriesRandomness,
    IgnoresItsKey,
    KeepsANumberOutsideTheState,
    CountsItsOwnSteps,
    AsksForMetrics,
    LooksAtValues,
    HasAProblemOfItsOwn,
    DoesNothing,
    Ascends,
    LeavesTheFiniteNumbers,
    StartsElsewhere,
    DependsOnThreads,
    Panics,
}

/// Gradient descent that takes H for a multiple of the identity: crude, and enough to make progress.
struct Crude<'a> {
    fault: Fault,
    draws: AtomicU64,
    own: &'a dyn Problem,
}

impl Method for Crude<'_> {
    fn name(&self) -> &'static str {
        "crude"
    }
    fn init(&self, problem: &dyn Problem, _key: Key) -> Result<State> {
        let (mut outer_var, inner_var) = problem.initial();
        if self.fault == Fault::StartsElsewhere {
            outer_var[0] += 1.0;
        }
        Ok(State::new(outer_var, inner_var))
    }
    fn step(&self, problem: &dyn Problem, state: &mut State, key: Key, _observer: &mut dyn Observer) -> Result<Status> {
        let problem = if self.fault == Fault::HasAProblemOfItsOwn { self.own } else { problem };
        let State { step, outer_var: v, inner_var: theta, .. } = state;
        let carried = self.draws.fetch_add(1, Ordering::Relaxed);
        let key = match self.fault {
            Fault::CarriesRandomness => key.child(carried),
            Fault::IgnoresItsKey => Key::new(7).child(*step),
            _ => key,
        };
        for k in 0..10 {
            let batch = key.child(k).stream().indices(problem.inner_samples(), 20)?;
            add_scaled("grad_inner", -1.0, &problem.grad_inner(v, theta, Batch::Indices(&batch))?, theta)?;
        }
        let outer = problem.grad_outer(v, theta, Batch::All)?;
        let mut hypergradient = outer.v;
        axpy(-5.0, &problem.cross_vjp(v, theta, Batch::All, &outer.theta)?, &mut hypergradient);
        let size = match self.fault {
            Fault::DoesNothing => 0.0,
            Fault::Ascends => -100.0,
            Fault::KeepsANumberOutsideTheState => 100.0 / (1 + carried) as f64,
            Fault::DependsOnThreads => 100.0 + 1e-9 * nhgd::par::threads() as f64,
            Fault::LeavesTheFiniteNumbers => f64::NAN,
            _ => 100.0,
        };
        axpy(-size, &hypergradient, v);
        match self.fault {
            Fault::CountsItsOwnSteps => *step += 1,
            Fault::AsksForMetrics => drop(problem.metrics(v, theta)?),
            Fault::LooksAtValues => drop(problem.f_outer(v, theta, Batch::All)?),
            Fault::Panics => panic!("out of range"),
            _ => {}
        }
        Ok(Status::Converged {})
    }
}

fn crude(fault: Fault, randomness: Randomness) -> Report {
    let problem = small_cleaning();
    let method = Crude { fault, draws: AtomicU64::new(0), own: &problem };
    testkit::method(&method, &problem, MethodClaims { steps: 30, reduction: 0.98, randomness }, Key::new(5))
}

#[test]
fn wrong_methods_are_rejected_by_the_claim_that_they_break() {
    crude(Fault::None, Randomness::Drawn).assert_passes();
    let same = "the same key gives the same bits, whatever ran between";
    let cut = "step, save, load, step equals two steps in one go";
    let other = "another key gives another run where something is drawn, and only there";
    let evaluations = "no values or metrics are asked for, which nobody counts";
    for (fault, claim) in [
        (Fault::CarriesRandomness, same),
        (Fault::CarriesRandomness, cut),
        (Fault::IgnoresItsKey, other),
        (Fault::IgnoresItsKey, "a step is a function of its state and its key"),
        (Fault::KeepsANumberOutsideTheState, same),
        (Fault::CountsItsOwnSteps, cut),
        (Fault::AsksForMetrics, evaluations),
        (Fault::LooksAtValues, evaluations),
        (Fault::HasAProblemOfItsOwn, "every step asks the problem that it is given, which counts"),
        (Fault::DoesNothing, "Φ falls"),
        (Fault::Ascends, "Φ falls"),
        (Fault::LeavesTheFiniteNumbers, "runs end with their steps"),
        (Fault::StartsElsewhere, "the state is finite and of the problem's size, and starts at its initial point"),
        (Fault::DependsOnThreads, "the same bits at every thread count"),
        (Fault::Panics, "runs end with their steps"),
    ] {
        caught(fault, &crude(fault, Randomness::Drawn), claim);
    }
    caught("a claim of no randomness", &crude(Fault::None, Randomness::Absent), other);
}

#[test]
fn bad_settings_are_refused_by_name() {
    let nhgd = |config: NhgdConfig| MethodConfig::Nhgd(config).build();
    let exact = |config: bilevel::ExactConfig| MethodConfig::Exact(config).build();
    let base = NhgdConfig::default;
    let bad = StepSize::constant;
    testkit::settings(
        "methods",
        [
            ("damping", nhgd(NhgdConfig { damping: bilevel::Damping::Fixed(-1.0), ..base() })),
            ("damping", nhgd(NhgdConfig { damping: bilevel::Damping::Fixed(f64::NAN), ..base() })),
            ("inner_steps", nhgd(NhgdConfig { inner_steps: 0, ..base() })),
            ("curvature_decay", nhgd(NhgdConfig { curvature_decay: 1.0, ..base() })),
            ("curvature_decay", nhgd(NhgdConfig { curvature_decay: f64::NAN, ..base() })),
            ("inner_step_size", nhgd(NhgdConfig { inner_step_size: bad(0.0), ..base() })),
            ("outer_step_size", nhgd(NhgdConfig { outer_step_size: bad(f64::NAN), ..base() })),
            ("outer_step_size", nhgd(NhgdConfig { outer_step_size: StepSize { offset: 0.0, ..bad(1.0) }, ..base() })),
            ("batch_size", nhgd(NhgdConfig { batch_size: SampleCount::Drawn(0), ..base() })),
            ("batch_size", nhgd(NhgdConfig { batch_size: SampleCount::Drawn(usize::MAX), ..base() })),
            ("outer_batch_size", nhgd(NhgdConfig { outer_batch_size: SampleCount::Drawn(0), ..base() })),
            ("cross_samples", nhgd(NhgdConfig { cross_samples: SampleCount::Drawn(0), ..base() })),
            ("curvature_samples", nhgd(NhgdConfig { curvature_samples: SampleCount::Drawn(0), ..base() })),
            (
                "sketch_size",
                nhgd(NhgdConfig {
                    curvature: CurvatureConfig::Nystrom(nhgd::curvature::NystromConfig { sketch_size: 0, ..Default::default() }),
                    ..base()
                }),
            ),
            ("inner_steps", exact(bilevel::ExactConfig { inner_steps: 0, ..Default::default() })),
            ("batch_size", exact(bilevel::ExactConfig { batch_size: SampleCount::Drawn(0), ..Default::default() })),
            ("inner_step_size", exact(bilevel::ExactConfig { inner_step_size: bad(-1.0), ..Default::default() })),
            ("outer_step_size", exact(bilevel::ExactConfig { outer_step_size: bad(f64::INFINITY), ..Default::default() })),
        ],
    )
    .assert_passes();
}
