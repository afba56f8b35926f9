//! What the methods claim whose directions are not the hypergradient itself, each against its own formula in dense algebra: series
//! cut off at random and differences along random directions are right in the mean, a penalty has a bias of O(1/λ), a barrier keeps
//! its promise. And what all methods do when numbers leave the finite ones, or a Hessian is indefinite.

use nhgd::bilevel::{
    self, AidCgConfig, BomeConfig, BsaConfig, Ended, F2saConfig, FslaConfig, ItdConfig, MethodConfig, NhgdPcgConfig, Observer,
    PzoboConfig, SampleCount, State, StepSize, Stop, TtsaConfig,
};
use nhgd::dense::{Matrix, axpy, difference, dot, matvec, norm, relative_error};
use nhgd::gradient::{DenseRows, GradientBlock};
use nhgd::inverse::KnownCurvature;
use nhgd::model::FisherKind;
use nhgd::oracle::{NewtonOptions, exact_hypergradient, inner_solution};
use nhgd::problem::{Counted, OracleCounts, OuterGradient, Problem, specimens};
use nhgd::rng::Key;
use nhgd::samples::Batch;
use nhgd::{Result, Status};

const ALL: SampleCount = SampleCount::All;
const B: u64 = 7;
const OUTER_B: u64 = 5;

fn size(value: f64) -> StepSize {
    StepSize::constant(value)
}

/// The specimens that the tests are made for, with an inner step size that suits each.
fn problems() -> Vec<(Box<dyn Problem>, f64)> {
    let alpha = |name: &str| match name {
        "data-cleaning" => Some(1.0),
        "quadratic" => Some(0.2),
        _ => None,
    };
    specimens(Key::new(0)).unwrap().into_iter().filter_map(|p| alpha(p.name()).map(|alpha| (p, alpha))).collect()
}

fn quadratic() -> Box<dyn Problem> {
    problems().into_iter().map(|(p, _)| p).find(|p| p.name() == "quadratic").unwrap()
}

/// v − v' and θ' after one step from the method's start, and what it asked for.
fn one_step(problem: &dyn Problem, config: &MethodConfig, key: Key) -> (Vec<f64>, State, OracleCounts) {
    let method = config.build().unwrap();
    let counted = Counted::new(problem);
    let mut state = method.init(&counted, Key::new(1)).unwrap();
    let before = state.outer_var.clone();
    let status = method.step(&counted, &mut state, key, &mut ()).unwrap();
    assert!(status.is_converged(), "{}: {status}", method.name());
    (difference(&before, &state.outer_var), state, counted.counts())
}

/// Jᵀx with J formed column by column from the other cross product.
fn dense_cross_vjp(problem: &dyn Problem, v: &[f64], theta: &[f64], x: &[f64]) -> Vec<f64> {
    let unit = |j: usize| (0..v.len()).map(|i| f64::from(i == j)).collect::<Vec<f64>>();
    (0..v.len()).map(|j| dot(&problem.cross_jvp(v, theta, Batch::All, &unit(j)).unwrap(), x)).collect()
}

/// ∇_v f − Jᵀ β Σ_{j<N} (I − βH)^j b, in dense algebra.
fn truncated(problem: &dyn Problem, v: &[f64], theta: &[f64], beta: f64, terms: usize) -> Vec<f64> {
    let hessian = problem.hessian(v, theta).unwrap();
    let (b, mut direction) = problem.grad_outer(v, theta, Batch::All).unwrap().into_vecs();
    let (mut power, mut sum) = (b.clone(), vec![0.0; b.len()]);
    for _ in 0..terms {
        axpy(beta, &power, &mut sum);
        let next = matvec(&hessian, &power).unwrap();
        axpy(-beta, &next, &mut power);
    }
    axpy(-1.0, &dense_cross_vjp(problem, v, theta, &sum), &mut direction);
    direction
}

#[test]
fn series_cut_off_at_random_are_the_first_terms_in_the_mean() {
    const TERMS: usize = 12;
    const KEYS: u64 = 1200;
    for (problem, alpha) in problems() {
        let problem = problem.as_ref();
        let (inner_step_size, outer_step_size) = (size(alpha), size(1.0));
        let bsa = BsaConfig {
            linear_steps: TERMS as u64,
            batch_size: ALL,
            outer_batch_size: ALL,
            inner_step_size,
            outer_step_size,
            ..Default::default()
        };
        let ttsa = TtsaConfig {
            linear_steps: TERMS as u64,
            batch_size: ALL,
            outer_batch_size: ALL,
            inner_step_size,
            outer_step_size,
            linear_step_size: Some(size(0.5 * alpha)),
        };
        for (config, beta) in [(MethodConfig::Bsa(bsa), alpha), (MethodConfig::Ttsa(ttsa), 0.5 * alpha)] {
            // With all samples in every batch only the number of products is random: N directions, of equal probability.
            let mut directions: Vec<Option<Vec<f64>>> = vec![None; TERMS];
            let mut seen = [0_u64; TERMS];
            let mut theta = Vec::new();
            for key in 0..KEYS {
                let (direction, state, counts) = one_step(problem, &config, Key::new(9).child(key));
                let products = (counts.hessian_products / problem.inner_samples() as u64) as usize;
                seen[products] += 1;
                directions[products].get_or_insert(direction);
                theta = state.inner_var;
            }
            let mut mean = vec![0.0; problem.outer_dim()];
            directions.iter().for_each(|d| axpy(1.0 / TERMS as f64, d.as_ref().unwrap(), &mut mean));
            let v = problem.initial().0;
            let error = relative_error(&mean, &truncated(problem, &v, &theta, beta, TERMS));
            println!("{} {config:?}: {error:.1e}, {seen:?}", problem.name());
            assert!(error < 1e-9, "{error:.1e}");
            // Each count is binomial of mean 100 and deviation 9.6.
            assert!(seen.iter().all(|&count| (50..=150).contains(&count)), "{seen:?}");
            let single = directions[0].as_ref().unwrap();
            assert!(relative_error(single, &mean) > 1e-3, "a single draw must not pass for the mean");
        }
    }
}

#[test]
fn steps_ask_for_as_many_samples_as_their_papers_say() {
    let (problem, _) = problems().into_iter().find(|(p, _)| p.name() == "data-cleaning").unwrap();
    let (batch_size, outer_batch_size) = (SampleCount::Drawn(B as usize), SampleCount::Drawn(OUTER_B as usize));
    let bsa = MethodConfig::Bsa(BsaConfig { inner_steps: 3, batch_size, outer_batch_size, ..Default::default() });
    let ttsa = MethodConfig::Ttsa(TtsaConfig { batch_size, outer_batch_size, ..Default::default() });
    for (config, inner_steps) in [(bsa, 3), (ttsa, 1)] {
        let (mut sum, keys) = (0, 400);
        for key in 0..keys {
            let counts = one_step(problem.as_ref(), &config, Key::new(4).child(key)).2;
            let hessian_products = counts.hessian_products;
            assert!(hessian_products.is_multiple_of(B) && hessian_products < 10 * B, "{hessian_products}");
            let rest = OracleCounts {
                inner_gradients: inner_steps * B,
                outer_gradients: OUTER_B,
                cross_products: B,
                hessian_products,
                ..Default::default()
            };
            assert_eq!(counts, rest);
            sum += hessian_products / B;
        }
        // (N − 1)/2 = 4.5, with a deviation of 2.87/√400 = 0.14.
        let mean = sum as f64 / keys as f64;
        assert!((mean - 4.5).abs() < 0.6, "{mean}");
    }
    let bome = MethodConfig::Bome(BomeConfig { inner_steps: 3, batch_size, outer_batch_size, ..Default::default() });
    let counts = OracleCounts { inner_gradients: (3 + 3) * B, outer_gradients: OUTER_B, ..Default::default() };
    assert_eq!(one_step(problem.as_ref(), &bome, Key::new(4)).2, counts);
    let pzobo =
        MethodConfig::Pzobo(PzoboConfig { inner_steps: 3, directions: 2, batch_size, outer_batch_size, ..Default::default() });
    let counts = OracleCounts { inner_gradients: 3 * (2 + 1) * B, outer_gradients: OUTER_B, ..Default::default() };
    assert_eq!(one_step(problem.as_ref(), &pzobo, Key::new(4)).2, counts);
}

#[test]
fn directions_along_gaussian_vectors_are_those_of_iterative_differentiation_in_the_mean() {
    for (problem, alpha) in problems() {
        let problem = problem.as_ref();
        // The deviation of the mean is √((d1 + 1)/Q) of the implicit part: a factor 3 or more is left.
        let (directions, tolerance) = if problem.outer_dim() < 10 { (20_000, 0.05) } else { (8_000, 0.26) };
        let pzobo = PzoboConfig {
            inner_steps: 5,
            directions,
            smoothing: 1e-4,
            inner_step_size: size(alpha),
            outer_step_size: size(1.0),
            ..Default::default()
        };
        let itd = ItdConfig { inner_steps: 5, inner_step_size: size(alpha), outer_step_size: size(1.0), ..Default::default() };
        let (found, state, _) = one_step(problem, &MethodConfig::Pzobo(pzobo), Key::new(5));
        let (expected, reference, _) = one_step(problem, &MethodConfig::Itd(itd), Key::new(5));
        assert_eq!(state.inner_var, reference.inner_var);
        let explicit = problem.grad_outer(&problem.initial().0, &state.inner_var, Batch::All).unwrap().v.into_vec();
        let error = relative_error(&difference(&found, &explicit), &difference(&expected, &explicit));
        println!("{}: {error:.1e}", problem.name());
        assert!(error < tolerance, "{}: {error:.1e}", problem.name());
    }
}

#[test]
fn one_gaussian_direction_is_a_projection_where_the_inner_solution_is_linear_in_v() {
    let problem = quadratic();
    let (inner_step_size, outer_step_size) = (size(0.2), size(1.0));
    let itd = MethodConfig::Itd(ItdConfig { inner_step_size, outer_step_size, ..Default::default() });
    let (expected, state, _) = one_step(problem.as_ref(), &itd, Key::new(0));
    let explicit = problem.grad_outer(&problem.initial().0, &state.inner_var, Batch::All).unwrap().v.into_vec();
    let exact = difference(&expected, &explicit);
    for key in 0..100 {
        let config = PzoboConfig { directions: 1, smoothing: 0.5, inner_step_size, outer_step_size, ..Default::default() };
        let found = one_step(problem.as_ref(), &MethodConfig::Pzobo(config), Key::new(6).child(key)).0;
        // r = u uᵀg, so rᵀg = (uᵀg)² whatever u and μ are.
        let r = difference(&found, &explicit);
        assert!(dot(&r, &exact) > 0.0);
    }
}

#[test]
fn the_bias_of_a_penalty_falls_as_its_inverse() {
    for (problem, alpha) in problems() {
        let problem = problem.as_ref();
        let errors = [1e2, 1e3, 1e4].map(|multiplier| {
            let config = F2saConfig {
                batch_size: ALL,
                outer_batch_size: ALL,
                inner_steps: 6000,
                inner_step_size: size(alpha),
                outer_step_size: size(1.0),
                multiplier,
                ..Default::default()
            };
            let (direction, _, _) = one_step(problem, &MethodConfig::F2sa(config), Key::new(0));
            let (v, start) = problem.initial();
            let theta = inner_solution(problem, &v, &start, NewtonOptions::default()).unwrap().theta;
            relative_error(&direction, &exact_hypergradient(problem, &v, &theta).unwrap())
        });
        println!("{}: {errors:?}", problem.name());
        for pair in errors.windows(2) {
            let ratio = pair[0] / pair[1];
            assert!((7.0..13.0).contains(&ratio), "{}: {errors:?}", problem.name());
        }
    }
}

/// A step of BOME on an inner problem of constant H and J, where everything is a formula.
#[test]
fn the_barrier_step_is_its_formula_in_dense_algebra() {
    let problem = quadratic();
    let (alpha, eta, kappa, steps) = (0.2, 0.3, 0.5, 10);
    let config = BomeConfig {
        inner_steps: steps,
        inner_step_size: size(alpha),
        outer_step_size: size(eta),
        barrier: kappa,
        ..Default::default()
    };
    let method = MethodConfig::Bome(config).build().unwrap();
    let mut state = method.init(problem.as_ref(), Key::new(0)).unwrap();
    let mut pushed = 0;
    for step in 0..40 {
        let (v, theta) = (state.outer_var.clone(), state.inner_var.clone());
        let hessian = problem.hessian(&v, &theta).unwrap();
        let distance = difference(&theta, &problem.closed_form(&v).unwrap().unwrap().theta);
        // θ_K − θ* = (I − αH)^K (θ − θ*), and ∇_v g(θ) − ∇_v g(θ_K) = Jᵀ(θ − θ_K).
        let mut left = distance.clone();
        for _ in 0..steps {
            let product = matvec(&hessian, &left).unwrap();
            axpy(-alpha, &product, &mut left);
        }
        let q_theta = matvec(&hessian, &distance).unwrap();
        let q_v = dense_cross_vjp(problem.as_ref(), &v, &theta, &difference(&distance, &left));
        let (f_theta, f_v) = problem.grad_outer(&v, &theta, Batch::All).unwrap().into_vecs();
        let square = norm(&q_theta).powi(2) + norm(&q_v).powi(2);
        let lambda = ((kappa * square - dot(&f_theta, &q_theta) - dot(&f_v, &q_v)) / square).max(0.0);
        let (mut expected_theta, mut expected_v) = (f_theta, f_v);
        axpy(lambda, &q_theta, &mut expected_theta);
        axpy(lambda, &q_v, &mut expected_v);
        pushed += u64::from(lambda > 0.0);

        assert!(method.step(problem.as_ref(), &mut state, Key::new(step), &mut ()).unwrap().is_converged());
        state.step += 1;
        let found_theta: Vec<f64> = difference(&theta, &state.inner_var).iter().map(|x| x / alpha).collect();
        let found_v: Vec<f64> = difference(&v, &state.outer_var).iter().map(|x| x / eta).collect();
        assert!(relative_error(&found_theta, &expected_theta) < 1e-8, "step {step}");
        assert!(relative_error(&found_v, &expected_v) < 1e-8, "step {step}");
        let promise = dot(&found_theta, &q_theta) + dot(&found_v, &q_v);
        assert!(promise >= kappa * square * (1.0 - 1e-6), "step {step}: {promise}");
    }
    assert!(pushed > 0, "the barrier never acted");
}

/// The methods of this file with step sizes that must throw them out of the finite numbers.
fn wild() -> [MethodConfig; 9] {
    let (inner_step_size, outer_step_size) = (size(1e120), size(1e120));
    [
        MethodConfig::NhgdPcg(NhgdPcgConfig { inner_step_size, outer_step_size, ..Default::default() }),
        MethodConfig::AidCg(AidCgConfig { inner_step_size, outer_step_size, ..Default::default() }),
        MethodConfig::Itd(ItdConfig { inner_step_size, outer_step_size, ..Default::default() }),
        MethodConfig::Bsa(BsaConfig { inner_step_size, outer_step_size, ..Default::default() }),
        MethodConfig::Ttsa(TtsaConfig { inner_step_size, outer_step_size, ..Default::default() }),
        MethodConfig::Fsla(FslaConfig { inner_step_size, outer_step_size, ..Default::default() }),
        MethodConfig::F2sa(F2saConfig { inner_step_size, outer_step_size, ..Default::default() }),
        MethodConfig::Bome(BomeConfig { inner_step_size, outer_step_size, ..Default::default() }),
        MethodConfig::Pzobo(PzoboConfig { inner_step_size, outer_step_size, ..Default::default() }),
    ]
}

#[test]
fn a_run_that_leaves_the_finite_numbers_ends_with_that_status() {
    let problem = quadratic();
    for config in wild() {
        let method = config.build().unwrap();
        let ended = bilevel::run(problem.as_ref(), method.as_ref(), Key::new(0), Stop::after(10), &mut ()).unwrap().ended;
        assert!(matches!(ended, Ended::Failed(Status::Diverged { .. })), "{}: {ended:?}", method.name());
    }
}

/// g = ½ θᵀ diag(1, −1) θ − vθ₁ with f = ½‖θ − (1, 1)‖²: H is indefinite.
struct Saddle;

impl Problem for Saddle {
    fn name(&self) -> &'static str {
        "saddle"
    }
    fn outer_dim(&self) -> usize {
        1
    }
    fn inner_dim(&self) -> usize {
        2
    }
    fn inner_samples(&self) -> usize {
        1
    }
    fn outer_samples(&self) -> usize {
        1
    }
    fn initial(&self) -> (Vec<f64>, Vec<f64>) {
        (vec![0.0], vec![0.5, 0.0])
    }
    fn f_inner(&self, v: &[f64], theta: &[f64], _batch: Batch<'_>) -> Result<f64> {
        Ok(0.5 * (theta[0] * theta[0] - theta[1] * theta[1]) - v[0] * theta[0])
    }
    fn grad_inner(&self, v: &[f64], theta: &[f64], _batch: Batch<'_>) -> Result<Vec<f64>> {
        Ok(vec![theta[0] - v[0], -theta[1]])
    }
    fn grad_v(&self, _v: &[f64], theta: &[f64], _batch: Batch<'_>) -> Result<Vec<f64>> {
        Ok(vec![-theta[0]])
    }
    fn f_outer(&self, _v: &[f64], theta: &[f64], _batch: Batch<'_>) -> Result<f64> {
        Ok(0.5 * ((theta[0] - 1.0).powi(2) + (theta[1] - 1.0).powi(2)))
    }
    fn grad_outer(&self, _v: &[f64], theta: &[f64], _batch: Batch<'_>) -> Result<OuterGradient> {
        Ok(OuterGradient { theta: vec![theta[0] - 1.0, theta[1] - 1.0], v: vec![0.0].into() })
    }
    fn scores(&self, _v: &[f64], _theta: &[f64], _batch: Batch<'_>, _kind: FisherKind, _key: Key) -> Result<GradientBlock> {
        Ok(GradientBlock::Dense(DenseRows::new(Matrix::identity(2), 2)?))
    }
    fn known_curvature(&self, _v: &[f64]) -> Result<KnownCurvature> {
        KnownCurvature::scalar(2, 0.0)
    }
}

#[derive(Default)]
struct Notices(Vec<Status>);

impl Observer for Notices {
    fn notice(&mut self, status: Status) {
        self.0.push(status);
    }
}

#[test]
fn negative_curvature_is_noticed_and_the_run_goes_on() {
    for name in ["aid-cg", "nhgd-pcg"] {
        let method = MethodConfig::default_of(name).unwrap().build().unwrap();
        let mut notices = Notices::default();
        let outcome = bilevel::run(&Saddle, method.as_ref(), Key::new(0), Stop::after(3), &mut notices).unwrap();
        assert_eq!(outcome.ended, Ended::Steps, "{name}");
        assert!(outcome.state.is_finite());
        assert!(notices.0.iter().any(|status| matches!(status, Status::NegativeCurvature { .. })), "{name}: {:?}", notices.0);
    }
    // Nothing to notice where H is positive definite and the products merely run out.
    for (problem, _) in problems() {
        let config = MethodConfig::AidCg(AidCgConfig { linear_steps: 1, ..Default::default() });
        let mut notices = Notices::default();
        bilevel::run(problem.as_ref(), config.build().unwrap().as_ref(), Key::new(0), Stop::after(3), &mut notices).unwrap();
        assert!(notices.0.is_empty(), "{:?}", notices.0);
    }
}
