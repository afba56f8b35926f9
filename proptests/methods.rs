//! Each method against the oracle and against its paper: with large budgets its direction is the exact hypergradient, and a step asks the
//! problem for as many samples as the paper says.

use nhgd::bilevel::{
    AidCgConfig, ExactConfig, F2saConfig, FslaConfig, ItdConfig, MethodConfig, NhgdConfig, NhgdPcgConfig, SampleCount, StepSize,
};
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

/// Methods whose directions are not the hypergradient itself, or only in the mean: `method_claims.rs` has what they do claim.
const ELSEWHERE: [&str; 4] = ["bsa", "ttsa", "bome", "pzobo"];

fn claimed_here() -> impl Iterator<Item = &'static str> {
    MethodConfig::REGISTRY.iter().map(|(name, _)| *name).filter(|name| !ELSEWHERE.contains(name))
}

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
        "nhgd-pcg" => {
            // A sketch far too small for the direction by itself: conjugate gradients mend it.
            let sketch = nhgd::curvature::NystromConfig { sketch_size: 4, ..Default::default() };
            let config = NhgdPcgConfig {
                batch_size: all,
                inner_step_size,
                outer_step_size: still,
                max_products: 200,
                tolerance: 1e-10,
                curvature: CurvatureConfig::Nystrom(sketch),
                curvature_rows: nhgd::bilevel::CurvatureRows::Fresh,
                ..Default::default()
            };
            let small = NhgdPcgConfig {
                inner_steps: 3,
                batch_size,
                outer_batch_size,
                hessian_samples: SampleCount::Drawn(6),
                cross_samples: SampleCount::Drawn(4),
                curvature_samples: SampleCount::Drawn(2),
                max_products: 4,
                tolerance: 0.0,
                ..Default::default()
            };
            Case {
                large: MethodConfig::NhgdPcg(config),
                warm_up: 400,
                tolerance: 1e-5,
                small: MethodConfig::NhgdPcg(small),
                counts: OracleCounts {
                    inner_gradients: 3 * B,
                    outer_gradients: OUTER_B,
                    scores: 3 * 2,
                    label_draws: 3 * 2,
                    hessian_products: 4 * 6,
                    cross_products: 4,
                },
            }
        }
        "aid-cg" => {
            let base = AidCgConfig { inner_step_size, outer_step_size: still, ..Default::default() };
            let large = AidCgConfig { linear_steps: 200, tolerance: 1e-10, ..base.clone() };
            let small = AidCgConfig {
                inner_steps: 3,
                linear_steps: 4,
                tolerance: 0.0,
                batch_size,
                outer_batch_size,
                hessian_samples: SampleCount::Drawn(6),
                cross_samples: SampleCount::Drawn(4),
                ..base
            };
            Case {
                large: MethodConfig::AidCg(large),
                warm_up: 400,
                tolerance: 1e-5,
                small: MethodConfig::AidCg(small),
                counts: OracleCounts {
                    inner_gradients: 3 * B,
                    outer_gradients: OUTER_B,
                    hessian_products: (4 + 2) * 6,
                    cross_products: 4,
                    ..Default::default()
                },
            }
        }
        "itd" => {
            let base = ItdConfig { inner_step_size, outer_step_size: still, ..Default::default() };
            // What is left of H⁻¹ is (1 − αλ)^K of it at the least eigenvalue λ, which the ridge keeps above 0.01.
            let large = ItdConfig { inner_steps: 4000, ..base.clone() };
            let small = ItdConfig { inner_steps: 3, unrolled_steps: Some(2), batch_size, outer_batch_size, ..base };
            Case {
                large: MethodConfig::Itd(large),
                warm_up: 1,
                tolerance: 1e-5,
                small: MethodConfig::Itd(small),
                counts: OracleCounts {
                    inner_gradients: 3 * B,
                    outer_gradients: OUTER_B,
                    hessian_products: B,
                    cross_products: 2 * B,
                    ..Default::default()
                },
            }
        }
        "fsla" => {
            let base =
                FslaConfig { inner_step_size, outer_step_size: still, momentum: StepSize::constant(0.1), ..Default::default() };
            Case {
                large: MethodConfig::Fsla(FslaConfig { batch_size: all, outer_batch_size: all, ..base.clone() }),
                warm_up: 4000,
                // v moves by η‖h‖ between two inner steps, where the others take ten, and q follows θ: a lag of that many more η/(αλ).
                tolerance: 2e-4,
                small: MethodConfig::Fsla(FslaConfig { batch_size, outer_batch_size, ..base }),
                counts: OracleCounts {
                    inner_gradients: B,
                    outer_gradients: 3 * OUTER_B,
                    hessian_products: B,
                    cross_products: 2 * B,
                    ..Default::default()
                },
            }
        }
        "f2sa" => {
            let base = F2saConfig { inner_step_size, outer_step_size: still, multiplier_power: 0.0, ..Default::default() };
            // Its bias is at most 6/λ here (`method_claims.rs` measures the slope); by how much y and z lag behind v is magnified by λ.
            let large = F2saConfig { inner_steps: 30, batch_size: all, outer_batch_size: all, multiplier: 1e3, ..base.clone() };
            Case {
                large: MethodConfig::F2sa(large),
                warm_up: 1000,
                tolerance: 1e-2,
                small: MethodConfig::F2sa(F2saConfig { inner_steps: 3, batch_size, outer_batch_size, ..base }),
                counts: OracleCounts { inner_gradients: (2 * 3 + 2) * B, outer_gradients: (3 + 1) * OUTER_B, ..Default::default() },
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
        for name in claimed_here() {
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
    for name in claimed_here() {
        let Case { small, mut counts, .. } = case(name, 1e-3);
        if name == "exact" {
            (counts.outer_gradients, counts.hessian_products, counts.cross_products) = (m, n * d, n);
        }
        let (mut state, method) = stepped(problem, &small, 3);
        let counted = Counted::new(problem);
        method.step(&counted, &mut state, Key::new(3), &mut ()).unwrap();
        assert_eq!(counted.counts(), counts, "{name}");
    }
}

#[test]
fn beyond_the_largest_dense_hessian_the_exact_method_takes_the_same_steps() {
    let problems = specimens(Key::new(0)).unwrap();
    for problem in problems.iter().filter(|problem| inner_step_size(problem.name()).is_some()) {
        let dense = ExactConfig::default();
        let iterative = ExactConfig { max_dense_dim: 1, tolerance: 1e-12, ..dense.clone() };
        let [dense, iterative] =
            [dense, iterative].map(|config| stepped(problem.as_ref(), &MethodConfig::Exact(config), 3).0.outer_var);
        assert!(relative_error(&iterative, &dense) < 1e-9 && iterative != dense, "{}", problem.name());
    }
}
