//! Each method against the oracle and against its paper: with large budgets its direction is the exact hypergradient, and a step asks the
//! problem for as many samples as the paper says.

use nhgd::bilevel::{
    AidCgConfig, AmigoConfig, ExactConfig, F2saConfig, FslaConfig, ItdConfig, MethodConfig, MrboConfig, NhgdConfig, NhgdPcgConfig,
    SabaConfig, SampleCount, SobaConfig, SrbaConfig, StepSize, StocbioConfig, SustainConfig, VrboConfig,
};
use nhgd::curvature::CurvatureConfig;
use nhgd::dense::{axpy, relative_error};
use nhgd::model::FisherKind;
use nhgd::oracle::{NewtonOptions, exact_hypergradient, inner_solution};
use nhgd::problem::{Counted, OracleCounts, Problem, SampleTables, TablePoint, TableSide, WholeRows, specimens};
use nhgd::rng::Key;
use nhgd::samples::Batch;

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
    start: Start,
    /// The relative error of the direction then.
    tolerance: f64,
    /// With [`B`] and [`OUTER_B`] samples: what a later step asks for.
    small: MethodConfig,
    counts: OracleCounts,
}

/// Where θ starts in the direction tests.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    Initial,
    /// At θ*(v), for methods whose one step costs a whole series.
    Solved,
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
                fisher: Some(FisherKind::Expected),
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
                curvature_samples: Some(SampleCount::Drawn(2)),
                ..Default::default()
            };
            Case {
                large: MethodConfig::Nhgd(config),
                warm_up: 1000,
                start: Start::Initial,
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
                start: Start::Initial,
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
                curvature_samples: Some(SampleCount::Drawn(2)),
                max_products: 4,
                tolerance: 0.0,
                ..Default::default()
            };
            Case {
                large: MethodConfig::NhgdPcg(config),
                warm_up: 400,
                start: Start::Initial,
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
                start: Start::Initial,
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
                start: Start::Initial,
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
                start: Start::Initial,
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
                start: Start::Initial,
                tolerance: 1e-2,
                small: MethodConfig::F2sa(F2saConfig { inner_steps: 3, batch_size, outer_batch_size, ..base }),
                counts: OracleCounts { inner_gradients: (2 * 3 + 2) * B, outer_gradients: (3 + 1) * OUTER_B, ..Default::default() },
            }
        }
        "soba" => {
            let base = SobaConfig { batch_size, outer_batch_size, inner_step_size, outer_step_size: still, ..Default::default() };
            Case {
                large: MethodConfig::Soba(SobaConfig { batch_size: all, outer_batch_size: all, ..base.clone() }),
                warm_up: 4000,
                start: Start::Initial,
                // θ and q follow v, which still moves, at a distance.
                tolerance: 1e-4,
                small: MethodConfig::Soba(base),
                counts: fused(1),
            }
        }
        "saba" => {
            let base = SabaConfig { batch_size, outer_batch_size, inner_step_size, outer_step_size: still, ..Default::default() };
            Case {
                large: MethodConfig::Saba(SabaConfig { batch_size: all, outer_batch_size: all, ..base.clone() }),
                warm_up: 4000,
                start: Start::Initial,
                // θ and q follow v, which still moves, at a distance.
                tolerance: 1e-4,
                small: MethodConfig::Saba(base),
                counts: fused(1),
            }
        }
        "srba" => {
            let base = SrbaConfig {
                batch_size,
                outer_batch_size,
                inner_step_size,
                outer_step_size: still,
                period: Some(100),
                ..Default::default()
            };
            Case {
                large: MethodConfig::Srba(SrbaConfig { batch_size: all, outer_batch_size: all, ..base.clone() }),
                warm_up: 4050,
                start: Start::Initial,
                // θ and q follow v, which still moves, at a distance.
                tolerance: 1e-4,
                small: MethodConfig::Srba(base),
                counts: fused(2),
            }
        }
        "amigo" => {
            let base = AmigoConfig { inner_step_size, outer_step_size: still, batch_size, outer_batch_size, ..Default::default() };
            Case {
                large: MethodConfig::Amigo(AmigoConfig { batch_size: all, outer_batch_size: all, ..base.clone() }),
                warm_up: 400,
                start: Start::Initial,
                // θ and q follow v, which still moves, at a distance.
                tolerance: 1e-4,
                small: MethodConfig::Amigo(AmigoConfig { inner_steps: 3, linear_steps: 4, ..base }),
                counts: series(3, 1, 4),
            }
        }
        "stocbio" => {
            let base =
                StocbioConfig { inner_step_size, outer_step_size: still, batch_size, outer_batch_size, ..Default::default() };
            let large =
                StocbioConfig { inner_steps: 2000, linear_steps: SERIES, batch_size: all, outer_batch_size: all, ..base.clone() };
            Case {
                large: MethodConfig::Stocbio(large),
                warm_up: 1,
                start: Start::Initial,
                tolerance: 1e-5,
                small: MethodConfig::Stocbio(StocbioConfig { inner_steps: 3, linear_steps: 4, ..base }),
                counts: series(3, 1, 4),
            }
        }
        "mrbo" => {
            let base = MrboConfig { inner_step_size, outer_step_size: still, batch_size, outer_batch_size, ..Default::default() };
            Case {
                large: MethodConfig::Mrbo(MrboConfig {
                    linear_steps: SERIES,
                    batch_size: all,
                    outer_batch_size: all,
                    ..base.clone()
                }),
                warm_up: 2,
                start: Start::Solved,
                tolerance: 1e-5,
                small: MethodConfig::Mrbo(MrboConfig { linear_steps: 4, ..base }),
                counts: series(2, 2, 4),
            }
        }
        "vrbo" => {
            let base = VrboConfig {
                inner_step_size,
                outer_step_size: still,
                batch_size,
                outer_batch_size,
                period: Some(100),
                ..Default::default()
            };
            let large = VrboConfig { inner_steps: 1, linear_steps: SERIES, batch_size: all, outer_batch_size: all, ..base.clone() };
            Case {
                large: MethodConfig::Vrbo(large),
                warm_up: 1,
                start: Start::Solved,
                tolerance: 1e-5,
                small: MethodConfig::Vrbo(VrboConfig { inner_steps: 3, linear_steps: 4, ..base }),
                // Both estimates, at two points, for each of three inner steps and for the new v.
                counts: series(8, 8, 4),
            }
        }
        "sustain" => {
            let base =
                SustainConfig { inner_step_size, outer_step_size: still, batch_size, outer_batch_size, ..Default::default() };
            Case {
                large: MethodConfig::Sustain(SustainConfig { batch_size: all, outer_batch_size: all, ..base.clone() }),
                warm_up: 0,
                start: Start::Solved,
                // One drawn term is the inverse product in the mean only: `sustain_draws_…` below says what a direction is.
                tolerance: f64::INFINITY,
                // One factor at most: cut at p = 0 always, no Hessian product.
                small: MethodConfig::Sustain(SustainConfig { linear_steps: 1, ..base }),
                counts: series(2, 2, 0),
            }
        }
        other => panic!("declare what `{other}` claims here"),
    }
}

/// Factors of Neumann's series in the direction tests.
const SERIES: u64 = 2000;

/// ∇_θ g, Hq and Jᵀq on one batch, and both gradients of f, at so many points.
fn fused(points: u64) -> OracleCounts {
    OracleCounts {
        inner_gradients: points * B,
        outer_gradients: points * OUTER_B,
        hessian_products: points * B,
        cross_products: points * B,
        ..Default::default()
    }
}

/// So many inner gradients, and so many hypergradients of `factors` Hessian products each.
fn series(gradients: u64, hypergradients: u64, factors: u64) -> OracleCounts {
    OracleCounts {
        inner_gradients: gradients * B,
        outer_gradients: hypergradients * OUTER_B,
        hessian_products: hypergradients * factors * B,
        cross_products: hypergradients * B,
        ..Default::default()
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

fn stepped(
    problem: &dyn Problem,
    config: &MethodConfig,
    (start, steps): (Start, u64),
) -> (nhgd::bilevel::State, Box<dyn nhgd::bilevel::Method>) {
    let method = config.build().unwrap();
    let mut state = method.init(problem, Key::new(1)).unwrap();
    if start == Start::Solved {
        let solved = inner_solution(problem, &state.outer_var, &state.inner_var, NewtonOptions::default()).unwrap();
        state.inner_var = solved.theta;
    }
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
            let Case { large, warm_up, start, tolerance, .. } = case(name, alpha);
            let (mut state, method) = stepped(problem.as_ref(), &large, (start, warm_up));
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
        let (mut state, method) = stepped(problem, &small, (Start::Initial, 3));
        let counted = Counted::new(problem);
        method.step(&counted, &mut state, Key::new(3), &mut ()).unwrap();
        assert_eq!(counted.counts(), counts, "{name}");
    }
}

/// Runs two methods with all samples in every batch, and compares v and θ.
fn assert_equal(problem: &dyn Problem, one: &MethodConfig, other: &MethodConfig) {
    let ((one_end, one), (other_end, other)) =
        (stepped(problem, one, (Start::Initial, 60)), stepped(problem, other, (Start::Initial, 60)));
    for (what, a, b) in [("v", &one_end.outer_var, &other_end.outer_var), ("θ", &one_end.inner_var, &other_end.inner_var)] {
        let error = relative_error(a, b);
        println!("{} and {} on {}: {what} {error:.1e}", one.name(), other.name(), problem.name());
        assert!(error < 1e-11, "{} is not {} on {}: {what} {error:.1e}", one.name(), other.name(), problem.name());
    }
    let initial = problem.initial().0;
    assert!(relative_error(&one_end.outer_var, &initial) > 1e-3, "v has not moved, and nothing is compared");
}

#[test]
fn with_full_batches_saba_and_srba_are_soba() {
    for problem in specimens(Key::new(0)).unwrap() {
        let Some(alpha) = inner_step_size(problem.name()) else { continue };
        let (batch_size, inner, outer) = (SampleCount::All, StepSize::constant(alpha), StepSize::constant(0.1 * alpha));
        let soba = SobaConfig {
            batch_size,
            outer_batch_size: batch_size,
            inner_step_size: inner,
            linear_step_size: Some(StepSize::constant(0.5 * alpha)),
            outer_step_size: outer,
        };
        let SobaConfig { batch_size, outer_batch_size, inner_step_size, linear_step_size, outer_step_size } = soba.clone();
        let soba = MethodConfig::Soba(soba);
        let saba =
            SabaConfig { batch_size, outer_batch_size, inner_step_size, linear_step_size, outer_step_size, ..Default::default() };
        let srba =
            SrbaConfig { batch_size, outer_batch_size, inner_step_size, linear_step_size, outer_step_size, period: Some(50) };
        assert_equal(problem.as_ref(), &MethodConfig::Saba(saba), &soba);
        assert_equal(problem.as_ref(), &MethodConfig::Srba(srba), &soba);
    }
}

/// ∇_v f − Jᵀq with all samples, q = ς Σ_{j ≤ N} (I − ςH)^j b, and the terms' own N ς (I − ςH)^p b in its place for p < N.
fn by_series(problem: &dyn Problem, (v, theta): (&[f64], &[f64]), factors: u64, step_size: f64) -> (Vec<f64>, Vec<Vec<f64>>) {
    let outer = problem.grad_outer(v, theta, Batch::All).unwrap();
    let with = |q: &[f64]| {
        let mut hypergradient = outer.v.to_vec();
        axpy(-1.0, &problem.cross_vjp(v, theta, Batch::All, q).unwrap(), &mut hypergradient);
        hypergradient
    };
    let (mut term, mut q, mut single) = (outer.theta.clone(), vec![0.0; theta.len()], Vec::new());
    for _ in 0..factors {
        axpy(step_size, &term, &mut q);
        single.push(with(&term.iter().map(|t| factors as f64 * step_size * t).collect::<Vec<f64>>()));
        let product = problem.hvp(v, theta, Batch::All, &term).unwrap();
        axpy(-step_size, &product, &mut term);
    }
    axpy(step_size, &term, &mut q);
    (with(&q), single)
}

#[test]
fn with_full_batches_mrbo_is_gradient_descent_in_one_loop() {
    for problem in specimens(Key::new(0)).unwrap() {
        let Some(alpha) = inner_step_size(problem.name()) else { continue };
        let (inner_step_size, outer_step_size) = (StepSize::constant(alpha), StepSize::constant(0.1 * alpha));
        let (batch_size, outer_batch_size) = (SampleCount::All, SampleCount::All);
        let config =
            MrboConfig { batch_size, outer_batch_size, inner_step_size, outer_step_size, linear_steps: 5, ..Default::default() };
        let (state, _) = stepped(problem.as_ref(), &MethodConfig::Mrbo(config), (Start::Initial, 30));
        let (mut v, mut theta) = problem.initial();
        for _ in 0..30 {
            let (hypergradient, _) = by_series(problem.as_ref(), (&v, &theta), 5, alpha);
            let gradient = problem.grad_inner(&v, &theta, Batch::All).unwrap();
            axpy(-alpha, &gradient, &mut theta);
            axpy(-0.1 * alpha, &hypergradient, &mut v);
        }
        assert!(relative_error(&state.outer_var, &v) < 1e-11 && relative_error(&state.inner_var, &theta) < 1e-11);
    }
}

/// VRBO changes v first, so that it starts at the θ that stocBIO's first step makes.
#[test]
fn with_full_batches_vrbo_is_stocbio() {
    for problem in specimens(Key::new(0)).unwrap() {
        let Some(alpha) = inner_step_size(problem.name()) else { continue };
        let (inner_step_size, outer_step_size) = (StepSize::constant(alpha), StepSize::constant(0.1 * alpha));
        let (batch_size, outer_batch_size) = (SampleCount::All, SampleCount::All);
        let (inner_steps, linear_steps, linear_step_size) = (3, 5, None);
        let stocbio = StocbioConfig {
            inner_steps,
            linear_steps,
            batch_size,
            outer_batch_size,
            inner_step_size,
            linear_step_size,
            outer_step_size,
        };
        let first = stepped(problem.as_ref(), &MethodConfig::Stocbio(stocbio.clone()), (Start::Initial, 1)).0.inner_var;
        let twentieth = stepped(problem.as_ref(), &MethodConfig::Stocbio(stocbio), (Start::Initial, 20)).0.outer_var;
        let vrbo = VrboConfig {
            inner_steps,
            linear_steps,
            batch_size,
            outer_batch_size,
            inner_step_size,
            linear_step_size,
            outer_step_size,
            period: Some(8),
        };
        let method = MethodConfig::Vrbo(vrbo).build().unwrap();
        let mut state = method.init(problem.as_ref(), Key::new(1)).unwrap();
        state.inner_var = first;
        for step in 0..20 {
            assert!(method.step(problem.as_ref(), &mut state, Key::new(step), &mut ()).unwrap().is_converged());
            state.step += 1;
        }
        let error = relative_error(&state.outer_var, &twentieth);
        println!("vrbo and stocbio on {}: {error:.1e}", problem.name());
        assert!(error < 1e-11, "{error:.1e}");
    }
}

#[test]
fn sustain_draws_each_single_term_of_the_series_equally_often() {
    let (all, factors, draws) = (SampleCount::All, 5, 200);
    for problem in specimens(Key::new(0)).unwrap() {
        let Some(alpha) = inner_step_size(problem.name()) else { continue };
        let config = SustainConfig {
            batch_size: all,
            outer_batch_size: all,
            linear_steps: factors,
            inner_step_size: StepSize::constant(alpha),
            outer_step_size: StepSize::constant(STILL),
            ..Default::default()
        };
        let method = MethodConfig::Sustain(config).build().unwrap();
        let (v, theta) = problem.initial();
        let (_, terms) = by_series(problem.as_ref(), (&v, &theta), factors, alpha);
        let mut counts = vec![0; factors as usize];
        for draw in 0..draws {
            let mut state = method.init(problem.as_ref(), Key::new(1)).unwrap();
            method.step(problem.as_ref(), &mut state, Key::new(draw), &mut ()).unwrap();
            let direction: Vec<f64> = v.iter().zip(&state.outer_var).map(|(before, after)| (before - after) / STILL).collect();
            let matching = terms.iter().position(|term| relative_error(&direction, term) < 1e-6);
            counts[matching.expect("a single term of the series")] += 1;
        }
        // Binomial: 40 of 200 expected, standard deviation 5.7.
        assert!(counts.iter().all(|&count| (20..=60).contains(&count)), "{counts:?}");
    }
}

#[test]
fn tables_in_few_numbers_stand_for_the_whole_terms() {
    for problem in specimens(Key::new(0)).unwrap() {
        let mut stream = Key::new(5).stream();
        let (d1, d2) = (problem.outer_dim(), problem.inner_dim());
        let (v, theta, q) = (stream.normals(d1), stream.normals(d2), stream.normals(d2));
        let point = TablePoint { v: &v, theta: &theta, q: &q };
        let (tables, whole) = (problem.tables(), WholeRows(problem.as_ref()));
        for side in [TableSide::Inner, TableSide::Outer] {
            for batch in [Batch::All, Batch::Indices(&[3, 0, 3])] {
                let samples = if side == TableSide::Inner { problem.inner_samples() } else { problem.outer_samples() };
                let mean = |tables: &dyn SampleTables| {
                    let coefficients = tables.coefficients(side, point, batch).unwrap();
                    assert_eq!(coefficients.len(), batch.len(samples) * tables.width(side));
                    let mut mean = tables.expand(side, batch, &coefficients).unwrap();
                    mean.iter_mut().for_each(|x| *x /= batch.len(samples) as f64);
                    tables.add_rest(side, point, &mut mean).unwrap();
                    assert!(tables.expand(side, batch, &coefficients[1..]).is_err());
                    mean
                };
                assert!(relative_error(&mean(tables.as_ref()), &mean(&whole)) < 1e-12, "{} {side:?}", problem.name());
            }
        }
        if problem.name() == "data-cleaning" {
            assert_eq!((tables.width(TableSide::Inner), tables.width(TableSide::Outer)), (21, 10));
        }
    }
}

/// Also where a batch holds a sample twice.
#[test]
fn the_means_that_saba_carries_are_those_of_its_tables() {
    for problem in specimens(Key::new(0)).unwrap() {
        let Some(alpha) = inner_step_size(problem.name()) else { continue };
        let (batch_size, outer_batch_size) = (SampleCount::Drawn(40), SampleCount::Drawn(15));
        let inner_step_size = StepSize::constant(0.1 * alpha);
        let config = SabaConfig { batch_size, outer_batch_size, inner_step_size, ..Default::default() };
        let (mut state, _) = stepped(problem.as_ref(), &MethodConfig::Saba(config), (Start::Initial, 30));
        let (tables, d1, d2) = (problem.tables(), problem.outer_dim(), problem.inner_dim());
        for (side, samples, len, table, mean) in [
            (TableSide::Inner, problem.inner_samples(), 2 * d2 + d1, "inner_table", "inner_mean"),
            (TableSide::Outer, problem.outer_samples(), d2 + d1, "outer_table", "outer_mean"),
        ] {
            let table = state.memory.take(table, samples * tables.width(side)).unwrap();
            let mut expected = tables.expand(side, Batch::All, &table).unwrap();
            expected.iter_mut().for_each(|x| *x /= samples as f64);
            let error = relative_error(&state.memory.take(mean, len).unwrap(), &expected);
            assert!(error < 1e-11, "{} {side:?}: {error:.1e}", problem.name());
        }
        let tight = MethodConfig::Saba(SabaConfig { max_bytes: 1000, ..Default::default() }).build().unwrap();
        let refused = tight.init(problem.as_ref(), Key::new(0)).err().unwrap();
        assert_eq!(refused.offending_argument(), Some("max_bytes"));
        assert!(refused.to_string().contains("bytes of the tables"), "{refused}");
    }
}

#[test]
fn beyond_the_largest_dense_hessian_the_exact_method_takes_the_same_steps() {
    let problems = specimens(Key::new(0)).unwrap();
    for problem in problems.iter().filter(|problem| inner_step_size(problem.name()).is_some()) {
        let dense = ExactConfig::default();
        let iterative = ExactConfig { max_dense_dim: 1, tolerance: 1e-12, ..dense.clone() };
        let [dense, iterative] = [dense, iterative]
            .map(|config| stepped(problem.as_ref(), &MethodConfig::Exact(config), (Start::Initial, 3)).0.outer_var);
        assert!(relative_error(&iterative, &dense) < 1e-9 && iterative != dense, "{}", problem.name());
    }
}
