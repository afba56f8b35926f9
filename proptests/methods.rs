//! Each method against the oracle and against its paper: with large budgets its direction is the exact hypergradient, and a step asks the
//! problem for as many samples as the paper says.

use nhgd::bilevel::{ExactConfig, MethodConfig, NhgdConfig, SampleCount, StepSize};
use nhgd::curvature::CurvatureConfig;
use nhgd::dense::relative_error;
use nhgd::model::FisherKind;
use nhgd::oracle::{NewtonOptions, exact_hypergradient, inner_solution};
use nhgd::problem::{Counted, OracleCounts, Problem, specimens};
use nhgd::rng::Key;

/// η of the direction tests: small enough for v to stay where it is.
const STILL: f64 = 1e-6;
/// Samples of an inner and of an outer batch in the count tests.
const B: u64 = 7;
const OUTER_B: u64 = 5;

/// What a method claims.
struct Case {
    /// With all samples in every batch and the outer step size [`STILL`], and so many steps before the one that is looked at.
    large: MethodConfig,
    warm_up: u64,
    /// The relative error of the direction then.
    tolerance: f64,
    /// With [`B`] and [`OUTER_B`] samples: what a later step asks for.
    small: MethodConfig,
    counts: OracleCounts,
}

/// Declares what `name` claims, `alpha` being an inner step size that suits the problem.
fn case(name: &str, alpha: f64) -> Case {
    let (all, still, inner_step_size) = (SampleCount::All, StepSize::constant(STILL), StepSize::constant(alpha));
    let (batch_size, outer_batch_size) = (SampleCount::Drawn(B as usize), SampleCount::Drawn(OUTER_B as usize));
    match name {
        "nhgd" => {
            let config = NhgdConfig {
                batch_size: all,
                inner_step_size,
                outer_step_size: still,
                fisher: FisherKind::Expected,
                damping: nhgd::bilevel::Damping::Fixed(0.0),
                curvature: CurvatureConfig::default_of("dense").unwrap(),
                curvature_rows: nhgd::bilevel::CurvatureRows::Fresh,
                curvature_start: nhgd::bilevel::Start::Cold,
                ..Default::default()
            };
            let small = NhgdConfig {
                inner_steps: 3,
                batch_size,
                outer_batch_size,
                cross_samples: SampleCount::Drawn(4),
                curvature_samples: SampleCount::Drawn(2),
                ..Default::default()
            };
            Case {
                large: MethodConfig::Nhgd(config),
                warm_up: 1000,
                tolerance: 1e-5,
                small: MethodConfig::Nhgd(small),
                counts: OracleCounts {
                    inner_gradients: 3 * B,
                    outer_gradients: OUTER_B,
                    scores: 3 * 2,
                    label_draws: 3 * 2,
                    cross_products: 4,
                    ..Default::default()
                },
            }
        }
        "exact" => {
            let base = ExactConfig { inner_step_size, outer_step_size: still, batch_size: all, ..Default::default() };
            Case {
                large: MethodConfig::Exact(base.clone()),
                warm_up: 1000,
                tolerance: 1e-5,
                small: MethodConfig::Exact(ExactConfig { inner_steps: 3, batch_size, ..base }),
                // All data but for the inner steps; the dense Hessian is d2 products a sample.
                counts: OracleCounts { inner_gradients: 3 * B, ..Default::default() },
            }
        }
        other => panic!("declare what `{other}` claims here"),
    }
}

/// Inner step sizes that suit the specimens.
fn inner_step_size(problem: &str) -> Option<f64> {
    match problem {
        "data-cleaning" => Some(1.0),
        "quadratic" => Some(0.2),
        "distillation" => Some(0.5),
        "poisson-control" => Some(0.1),
        _ => None,
    }
}

fn stepped(problem: &dyn Problem, config: &MethodConfig, steps: u64) -> (nhgd::bilevel::State, Box<dyn nhgd::bilevel::Method>) {
    let method = config.build().unwrap();
    let mut state = method.init(problem, Key::new(1)).unwrap();
    for step in 0..steps {
        let status = method.step(problem, &mut state, Key::new(2).child(step), &mut ()).unwrap();
        assert!(status.is_converged(), "{}: {status}", method.name());
        state.step += 1;
    }
    (state, method)
}

#[test]
fn with_large_budgets_every_direction_is_the_exact_hypergradient() {
    for problem in specimens(Key::new(0)).unwrap() {
        let Some(alpha) = inner_step_size(problem.name()) else { continue };
        for (name, _) in MethodConfig::REGISTRY {
            let Case { large, warm_up, tolerance, .. } = case(name, alpha);
            let (mut state, method) = stepped(problem.as_ref(), &large, warm_up);
            let before = state.outer_var.clone();
            method.step(problem.as_ref(), &mut state, Key::new(3), &mut ()).unwrap();
            let direction: Vec<f64> = before.iter().zip(&state.outer_var).map(|(before, after)| (before - after) / STILL).collect();
            let theta = inner_solution(problem.as_ref(), &before, &state.inner_var, NewtonOptions::default()).unwrap().theta;
            let error = relative_error(&direction, &exact_hypergradient(problem.as_ref(), &before, &theta).unwrap());
            println!("{name} on {}: {error:.1e}", problem.name());
            assert!(error <= tolerance, "{name} on {}: {error:.1e} > {tolerance:.1e}", problem.name());
        }
    }
}

#[test]
fn a_step_asks_for_as_many_samples_as_its_paper_says() {
    let problems = specimens(Key::new(0)).unwrap();
    let problem = problems.iter().find(|p| p.name() == "data-cleaning").unwrap().as_ref();
    let (n, m, d) = (problem.inner_samples() as u64, problem.outer_samples() as u64, problem.inner_dim() as u64);
    for (name, _) in MethodConfig::REGISTRY {
        let Case { small, mut counts, .. } = case(name, 1e-3);
        if *name == "exact" {
            (counts.outer_gradients, counts.hessian_products, counts.cross_products) = (m, n * d, n);
        }
        let (mut state, method) = stepped(problem, &small, 3);
        let counted = Counted::new(problem);
        method.step(&counted, &mut state, Key::new(3), &mut ()).unwrap();
        assert_eq!(counted.counts(), counts, "{name}");
    }
}
