//! The registered methods on every registered problem that settings are declared for, and one written here with a fault at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use nhgd::bilevel::{self, CurvatureRows, Method, MethodConfig, NhgdConfig, Observer, SampleCount, State, StepSize};
use nhgd::curvature::CurvatureConfig;
use nhgd::dense::{add_scaled, axpy};
use nhgd::problem::{Problem, specimens};
use nhgd::rng::Key;
use nhgd::samples::Batch;
use nhgd::testkit::{self, MethodClaims, Randomness, Report};
use nhgd::{Result, Status};

use super::{caught, small_cleaning};

/// Step sizes that suit a method on the specimen of a problem, and what 30 outer steps make of Φ with them.
fn step_sizes(problem: &str, method: &str) -> (StepSize, StepSize, f64) {
    match (problem, method) {
        ("data-cleaning", _) => (StepSize::constant(1.0), StepSize::constant(100.0), 0.9),
        // f is seen by θ alone, and v moves by the little that its step leaves of g.
        ("regularization-selection", "bome") => (StepSize::constant(0.2), StepSize::constant(300.0), 0.95),
        ("regularization-selection", _) => (StepSize::constant(0.2), StepSize::constant(20.0), 0.9),
        ("distillation", "vrbo") => (StepSize::constant(0.2), StepSize::constant(0.3), 0.99),
        ("distillation", _) => (StepSize::constant(0.5), StepSize::constant(2.0), 0.95),
        // Differences of gradients of g on drawn rows: noise that H⁻¹ enlarges, and that thirty steps do not average out. Φ stays where it is.
        ("poisson-control", "f2sa" | "bome") => (StepSize::constant(0.05), StepSize::constant(30.0), 1.05),
        // A Hessian of few rows.
        ("poisson-control", "aid-cg") => (StepSize::constant(0.1), StepSize::constant(100.0), 0.99),
        ("poisson-control", _) => (StepSize::constant(0.1), StepSize::constant(1e4), 0.9),
        ("quadratic", _) => (StepSize::constant(0.2), StepSize::constant(0.5), 0.95),
        (other, _) => panic!("declare step sizes for the specimen of `{other}` here"),
    }
}

/// The settings that a method goes through the suite with.
fn registered(name: &str, inner_step_size: StepSize, outer_step_size: StepSize) -> Vec<MethodConfig> {
    let batch_size = SampleCount::Drawn(20);
    // For methods of one inner step, and for those whose directions are noisier.
    let share = |share: f64| StepSize { initial: share * outer_step_size.initial, ..outer_step_size };
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
        "nhgd-pcg" => {
            let base = bilevel::NhgdPcgConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() };
            let sketch = nhgd::curvature::NystromConfig { sketch_size: 4, ..Default::default() };
            let drawn =
                bilevel::NhgdPcgConfig { hessian_samples: batch_size, curvature: CurvatureConfig::Nystrom(sketch), ..base.clone() };
            vec![MethodConfig::NhgdPcg(base), MethodConfig::NhgdPcg(drawn)]
        }
        "aid-cg" => {
            let base = bilevel::AidCgConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() };
            let drawn = bilevel::AidCgConfig { hessian_samples: batch_size, cross_samples: batch_size, ..base.clone() };
            vec![MethodConfig::AidCg(base), MethodConfig::AidCg(drawn)]
        }
        "itd" => {
            let base = bilevel::ItdConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() };
            let cold = bilevel::ItdConfig { inner_start: bilevel::Start::Cold, unrolled_steps: Some(5), ..base.clone() };
            vec![MethodConfig::Itd(base), MethodConfig::Itd(cold)]
        }
        "bsa" => {
            vec![MethodConfig::Bsa(bilevel::BsaConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() })]
        }
        "ttsa" => {
            let outer_step_size = share(0.2);
            vec![MethodConfig::Ttsa(bilevel::TtsaConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() })]
        }
        "fsla" => {
            let (outer_step_size, momentum) = (share(0.1), StepSize::constant(0.5));
            let config = bilevel::FslaConfig { batch_size, inner_step_size, outer_step_size, momentum, ..Default::default() };
            vec![MethodConfig::Fsla(config)]
        }
        "f2sa" => {
            let (outer_step_size, multiplier) = (share(0.5), 0.3);
            let config = bilevel::F2saConfig { batch_size, inner_step_size, outer_step_size, multiplier, ..Default::default() };
            vec![MethodConfig::F2sa(config)]
        }
        "bome" => {
            vec![MethodConfig::Bome(bilevel::BomeConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() })]
        }
        "pzobo" => {
            vec![MethodConfig::Pzobo(bilevel::PzoboConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() })]
        }
        "soba" => {
            vec![MethodConfig::Soba(bilevel::SobaConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() })]
        }
        "amigo" => {
            vec![MethodConfig::Amigo(bilevel::AmigoConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() })]
        }
        "stocbio" => vec![MethodConfig::Stocbio(bilevel::StocbioConfig {
            batch_size,
            inner_step_size,
            outer_step_size,
            ..Default::default()
        })],
        "saba" => {
            vec![MethodConfig::Saba(bilevel::SabaConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() })]
        }
        "mrbo" => {
            vec![MethodConfig::Mrbo(bilevel::MrboConfig {
                linear_steps: 40,
                batch_size,
                inner_step_size,
                outer_step_size,
                ..Default::default()
            })]
        }
        "vrbo" => {
            vec![MethodConfig::Vrbo(bilevel::VrboConfig {
                linear_steps: 40,
                batch_size,
                inner_step_size,
                outer_step_size,
                ..Default::default()
            })]
        }
        "sustain" => vec![MethodConfig::Sustain(bilevel::SustainConfig {
            linear_steps: 40,
            batch_size,
            inner_step_size,
            outer_step_size,
            ..Default::default()
        })],
        "srba" => {
            vec![MethodConfig::Srba(bilevel::SrbaConfig { batch_size, inner_step_size, outer_step_size, ..Default::default() })]
        }
        other => panic!("declare the settings of `{other}` here"),
    }
}

/// Outer steps that the claim about Φ is made of: those of one loop change θ once in each.
fn outer_steps(name: &str) -> u64 {
    match name {
        "soba" | "saba" | "srba" | "mrbo" | "sustain" | "ttsa" | "fsla" => 300,
        _ => 30,
    }
}

#[test]
fn every_registered_method_conforms_on_every_registered_problem() {
    let mut failures = Vec::new();
    for problem in specimens(Key::new(0)).unwrap() {
        for (name, _) in MethodConfig::REGISTRY {
            let (inner, outer, reduction) = step_sizes(problem.name(), name);
            // Methods that change v at every inner step go as far in as many more.
            let outer = StepSize { initial: outer.initial * 30.0 / outer_steps(name) as f64, ..outer };
            for config in registered(name, inner, outer) {
                let claims = MethodClaims { steps: outer_steps(name), reduction, randomness: Randomness::Drawn };
                let report = testkit::method(config.build().unwrap().as_ref(), problem.as_ref(), claims, Key::new(3));
                assert!(!report.findings().is_empty());
                failures.extend(report.failures().map(|finding| format!("{} on {}: {finding}", report.subject(), problem.name())));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
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
        let (b, mut hypergradient) = problem.grad_outer(v, theta, Batch::All)?.into_vecs();
        axpy(-5.0, &problem.cross_vjp(v, theta, Batch::All, &b)?, &mut hypergradient);
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
            ("curvature_samples", nhgd(NhgdConfig { curvature_samples: Some(SampleCount::Drawn(0)), ..base() })),
            ("curvature_every", nhgd(NhgdConfig { curvature_every: Some(0), ..base() })),
            ("curvature_every", nhgd(NhgdConfig { curvature_every: Some(2), curvature_rows: CurvatureRows::Fresh, ..base() })),
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
            (
                "batch_size",
                MethodConfig::Soba(bilevel::SobaConfig { batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "outer_batch_size",
                MethodConfig::Soba(bilevel::SobaConfig { outer_batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "inner_step_size",
                MethodConfig::Soba(bilevel::SobaConfig { inner_step_size: bad(0.0), ..Default::default() }).build(),
            ),
            (
                "linear_step_size",
                MethodConfig::Soba(bilevel::SobaConfig { linear_step_size: Some(bad(f64::NAN)), ..Default::default() }).build(),
            ),
            (
                "outer_step_size",
                MethodConfig::Soba(bilevel::SobaConfig { outer_step_size: bad(-1.0), ..Default::default() }).build(),
            ),
            (
                "batch_size",
                MethodConfig::Amigo(bilevel::AmigoConfig { batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "outer_batch_size",
                MethodConfig::Amigo(bilevel::AmigoConfig { outer_batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "inner_step_size",
                MethodConfig::Amigo(bilevel::AmigoConfig { inner_step_size: bad(0.0), ..Default::default() }).build(),
            ),
            (
                "linear_step_size",
                MethodConfig::Amigo(bilevel::AmigoConfig { linear_step_size: Some(bad(f64::NAN)), ..Default::default() }).build(),
            ),
            (
                "outer_step_size",
                MethodConfig::Amigo(bilevel::AmigoConfig { outer_step_size: bad(-1.0), ..Default::default() }).build(),
            ),
            ("inner_steps", MethodConfig::Amigo(bilevel::AmigoConfig { inner_steps: 0, ..Default::default() }).build()),
            ("linear_steps", MethodConfig::Amigo(bilevel::AmigoConfig { linear_steps: 0, ..Default::default() }).build()),
            (
                "batch_size",
                MethodConfig::Stocbio(bilevel::StocbioConfig { batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "outer_batch_size",
                MethodConfig::Stocbio(bilevel::StocbioConfig { outer_batch_size: SampleCount::Drawn(0), ..Default::default() })
                    .build(),
            ),
            (
                "inner_step_size",
                MethodConfig::Stocbio(bilevel::StocbioConfig { inner_step_size: bad(0.0), ..Default::default() }).build(),
            ),
            (
                "linear_step_size",
                MethodConfig::Stocbio(bilevel::StocbioConfig { linear_step_size: Some(bad(f64::NAN)), ..Default::default() })
                    .build(),
            ),
            (
                "outer_step_size",
                MethodConfig::Stocbio(bilevel::StocbioConfig { outer_step_size: bad(-1.0), ..Default::default() }).build(),
            ),
            ("inner_steps", MethodConfig::Stocbio(bilevel::StocbioConfig { inner_steps: 0, ..Default::default() }).build()),
            ("linear_steps", MethodConfig::Stocbio(bilevel::StocbioConfig { linear_steps: 0, ..Default::default() }).build()),
            (
                "batch_size",
                MethodConfig::Saba(bilevel::SabaConfig { batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "outer_batch_size",
                MethodConfig::Saba(bilevel::SabaConfig { outer_batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "inner_step_size",
                MethodConfig::Saba(bilevel::SabaConfig { inner_step_size: bad(0.0), ..Default::default() }).build(),
            ),
            (
                "linear_step_size",
                MethodConfig::Saba(bilevel::SabaConfig { linear_step_size: Some(bad(f64::NAN)), ..Default::default() }).build(),
            ),
            (
                "outer_step_size",
                MethodConfig::Saba(bilevel::SabaConfig { outer_step_size: bad(-1.0), ..Default::default() }).build(),
            ),
            ("max_bytes", MethodConfig::Saba(bilevel::SabaConfig { max_bytes: 0, ..Default::default() }).build()),
            (
                "batch_size",
                MethodConfig::Mrbo(bilevel::MrboConfig { batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "outer_batch_size",
                MethodConfig::Mrbo(bilevel::MrboConfig { outer_batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "inner_step_size",
                MethodConfig::Mrbo(bilevel::MrboConfig { inner_step_size: bad(0.0), ..Default::default() }).build(),
            ),
            (
                "linear_step_size",
                MethodConfig::Mrbo(bilevel::MrboConfig { linear_step_size: Some(bad(f64::NAN)), ..Default::default() }).build(),
            ),
            (
                "outer_step_size",
                MethodConfig::Mrbo(bilevel::MrboConfig { outer_step_size: bad(-1.0), ..Default::default() }).build(),
            ),
            ("linear_steps", MethodConfig::Mrbo(bilevel::MrboConfig { linear_steps: 0, ..Default::default() }).build()),
            ("momentum", MethodConfig::Mrbo(bilevel::MrboConfig { momentum: bad(1.5), ..Default::default() }).build()),
            (
                "batch_size",
                MethodConfig::Vrbo(bilevel::VrboConfig { batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "outer_batch_size",
                MethodConfig::Vrbo(bilevel::VrboConfig { outer_batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "inner_step_size",
                MethodConfig::Vrbo(bilevel::VrboConfig { inner_step_size: bad(0.0), ..Default::default() }).build(),
            ),
            (
                "linear_step_size",
                MethodConfig::Vrbo(bilevel::VrboConfig { linear_step_size: Some(bad(f64::NAN)), ..Default::default() }).build(),
            ),
            (
                "outer_step_size",
                MethodConfig::Vrbo(bilevel::VrboConfig { outer_step_size: bad(-1.0), ..Default::default() }).build(),
            ),
            ("inner_steps", MethodConfig::Vrbo(bilevel::VrboConfig { inner_steps: 0, ..Default::default() }).build()),
            ("linear_steps", MethodConfig::Vrbo(bilevel::VrboConfig { linear_steps: 0, ..Default::default() }).build()),
            ("period", MethodConfig::Vrbo(bilevel::VrboConfig { period: Some(0), ..Default::default() }).build()),
            (
                "batch_size",
                MethodConfig::Sustain(bilevel::SustainConfig { batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "outer_batch_size",
                MethodConfig::Sustain(bilevel::SustainConfig { outer_batch_size: SampleCount::Drawn(0), ..Default::default() })
                    .build(),
            ),
            (
                "inner_step_size",
                MethodConfig::Sustain(bilevel::SustainConfig { inner_step_size: bad(0.0), ..Default::default() }).build(),
            ),
            (
                "linear_step_size",
                MethodConfig::Sustain(bilevel::SustainConfig { linear_step_size: Some(bad(f64::NAN)), ..Default::default() })
                    .build(),
            ),
            (
                "outer_step_size",
                MethodConfig::Sustain(bilevel::SustainConfig { outer_step_size: bad(-1.0), ..Default::default() }).build(),
            ),
            ("linear_steps", MethodConfig::Sustain(bilevel::SustainConfig { linear_steps: 0, ..Default::default() }).build()),
            ("momentum", MethodConfig::Sustain(bilevel::SustainConfig { momentum: bad(1.5), ..Default::default() }).build()),
            (
                "batch_size",
                MethodConfig::Srba(bilevel::SrbaConfig { batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "outer_batch_size",
                MethodConfig::Srba(bilevel::SrbaConfig { outer_batch_size: SampleCount::Drawn(0), ..Default::default() }).build(),
            ),
            (
                "inner_step_size",
                MethodConfig::Srba(bilevel::SrbaConfig { inner_step_size: bad(0.0), ..Default::default() }).build(),
            ),
            (
                "linear_step_size",
                MethodConfig::Srba(bilevel::SrbaConfig { linear_step_size: Some(bad(f64::NAN)), ..Default::default() }).build(),
            ),
            (
                "outer_step_size",
                MethodConfig::Srba(bilevel::SrbaConfig { outer_step_size: bad(-1.0), ..Default::default() }).build(),
            ),
            ("period", MethodConfig::Srba(bilevel::SrbaConfig { period: Some(0), ..Default::default() }).build()),
        ],
    )
    .assert_passes();
}

#[test]
fn bad_settings_of_the_methods_compared_with_are_refused_by_name() {
    use bilevel::{AidCgConfig, BomeConfig, BsaConfig, F2saConfig, FslaConfig, ItdConfig, NhgdPcgConfig, PzoboConfig, TtsaConfig};
    let (bad, none) = (StepSize::constant(-1.0), SampleCount::Drawn(0));
    let pcg = |config| MethodConfig::NhgdPcg(config).build();
    let aid = |config| MethodConfig::AidCg(config).build();
    let itd = |config| MethodConfig::Itd(config).build();
    let bsa = |config| MethodConfig::Bsa(config).build();
    let ttsa = |config| MethodConfig::Ttsa(config).build();
    let fsla = |config| MethodConfig::Fsla(config).build();
    let f2sa = |config| MethodConfig::F2sa(config).build();
    let bome = |config| MethodConfig::Bome(config).build();
    let pzobo = |config| MethodConfig::Pzobo(config).build();
    testkit::settings(
        "methods",
        [
            ("max_products", pcg(NhgdPcgConfig { max_products: 1, ..Default::default() })),
            ("tolerance", pcg(NhgdPcgConfig { tolerance: f64::NAN, ..Default::default() })),
            ("damping", pcg(NhgdPcgConfig { damping: -1.0, ..Default::default() })),
            ("hessian_samples", pcg(NhgdPcgConfig { hessian_samples: none, ..Default::default() })),
            ("inner_steps", pcg(NhgdPcgConfig { inner_steps: 0, ..Default::default() })),
            ("linear_steps", aid(AidCgConfig { linear_steps: 0, ..Default::default() })),
            ("tolerance", aid(AidCgConfig { tolerance: -1.0, ..Default::default() })),
            ("hessian_samples", aid(AidCgConfig { hessian_samples: none, ..Default::default() })),
            ("cross_samples", aid(AidCgConfig { cross_samples: none, ..Default::default() })),
            ("unrolled_steps", itd(ItdConfig { unrolled_steps: Some(0), ..Default::default() })),
            ("unrolled_steps", itd(ItdConfig { unrolled_steps: Some(11), ..Default::default() })),
            ("inner_step_size", itd(ItdConfig { inner_step_size: bad, ..Default::default() })),
            ("linear_steps", bsa(BsaConfig { linear_steps: 0, ..Default::default() })),
            ("linear_step_size", bsa(BsaConfig { linear_step_size: Some(bad), ..Default::default() })),
            ("linear_steps", ttsa(TtsaConfig { linear_steps: 0, ..Default::default() })),
            ("outer_batch_size", ttsa(TtsaConfig { outer_batch_size: none, ..Default::default() })),
            ("momentum", fsla(FslaConfig { momentum: StepSize::constant(1.5), ..Default::default() })),
            ("linear_step_size", fsla(FslaConfig { linear_step_size: Some(bad), ..Default::default() })),
            ("multiplier", f2sa(F2saConfig { multiplier: 0.0, ..Default::default() })),
            ("multiplier_power", f2sa(F2saConfig { multiplier_power: f64::NAN, ..Default::default() })),
            ("penalized_step_size", f2sa(F2saConfig { penalized_step_size: Some(bad), ..Default::default() })),
            ("barrier", bome(BomeConfig { barrier: 0.0, ..Default::default() })),
            ("batch_size", bome(BomeConfig { batch_size: none, ..Default::default() })),
            ("directions", pzobo(PzoboConfig { directions: 0, ..Default::default() })),
            ("smoothing", pzobo(PzoboConfig { smoothing: 0.0, ..Default::default() })),
        ],
    )
    .assert_passes();
}
