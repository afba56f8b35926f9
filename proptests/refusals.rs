//! Misuse of the public interface, file by file: an error that names the argument and says what was expected and found, and no panic.
//! What the suites of the testkit refuse on every implementation of a trait is not repeated here.

mod support;

use nhgd::bilevel::{self, MethodConfig, NhgdConfig, Outcome, Sampling, State, Stop};
use nhgd::curvature::{CurvatureConfig, LowRank, load};
use nhgd::data::{corrupt_labels, gaussian_mixture, softmax_samples};
use nhgd::dense::{Cholesky, Matrix, View, add_scaled, dot, eigh, gram, matmul, matmul_add, matvec, norm, qr, relative_error, svd};
use nhgd::error::Error;
use nhgd::gradient::{DenseRows, GradientBlock, KroneckerRows, weighted_outer};
use nhgd::inverse::{KnownCurvature, SolveOptions, Woodbury, conjugate_gradients};
use nhgd::model::{FisherKind, Model, Softmax, Weighted};
use nhgd::operator::{Diagonal, FromFn, LinearOperator, Sum};
use nhgd::oracle::{NewtonOptions, exact_hypergradient, exact_inverse_hvp, inner_solution, value_difference};
use nhgd::par;
use nhgd::problem::{
    DataCleaning, DataCleaningConfig, DataSource, ModelConfig, NetworkConfig, OuterGradient, Problem, ProblemConfig, differences,
};
use nhgd::rng::Key;
use nhgd::samples::{Batch, Features, Samples, Targets};
use nhgd::{Result, Status};
use support::{random_dense, random_kronecker, refused};

/// That a call neither panics nor is accepted; the message is one line.
#[track_caller]
fn fails<T>(result: Result<T>, words: &[&str]) {
    let message = result.err().expect("accepted").to_string();
    assert!(words.iter().all(|word| message.contains(word)) && !message.contains('\n'), "{message}");
}

const NAN: f64 = f64::NAN;
const HUGE: usize = usize::MAX;

#[test]
fn dense_algebra_refuses_shapes_and_numbers() {
    fails(Matrix::from_columns(2, 3, vec![0.0; 5]), &["data", "length 6", "length 5"]);
    // A product of the sizes that wraps around to the length found.
    fails(Matrix::from_columns(1 << 33, 1 << 31, vec![]), &["data", "length 0"]);
    fails(View::from_slice(&[], 1 << 33, 1 << 31), &["data", "length 0"]);
    fails(View::from_slice(&[1.0], 1, 2), &["data", "length 2", "length 1"]);
    let (a, b) = (Matrix::zeros(2, 3), Matrix::zeros(2, 3));
    fails(matmul(&a, &b), &["b", "3 × 3", "2 × 3"]);
    fails(matmul_add(&mut Matrix::zeros(2, 2), 1.0, &a, Matrix::zeros(3, 3).view()), &["c", "2 × 3", "2 × 2"]);
    fails(matvec(&a, &[1.0]), &["x", "length 3", "length 1"]);
    refused(Matrix::zeros(2, 2).add_scaled(1.0, &a), "other");
    refused(add_scaled("gradient", 1.0, &[1.0], &mut [1.0, 2.0]), "gradient");
    refused(Cholesky::new(a.clone()), "a");
    refused(eigh(&a), "a");
    for poisoned in [Matrix::column(vec![NAN]), Matrix::column(vec![f64::INFINITY])] {
        refused(Cholesky::new(poisoned.clone()), "a");
        refused(eigh(&poisoned), "a");
        refused(svd(&poisoned), "a");
        refused(qr(&poisoned), "a");
        let factor = Cholesky::new(Matrix::identity(1)).unwrap();
        refused(factor.solve(poisoned.as_slice()), "rhs");
        refused(factor.solve(&[1.0, 2.0]), "rhs");
    }
    fails(Cholesky::new(Matrix::zeros(2, 2)), &["not positive definite", "add damping"]);
    assert_eq!(relative_error(&[1.0], &[1.0, 2.0]), f64::INFINITY);
}

#[test]
fn empty_matrices_are_matrices() {
    for (m, k, n) in [(0, 0, 0), (3, 0, 2), (0, 3, 2), (3, 2, 0), (300, 0, 300)] {
        let product = matmul(&Matrix::zeros(m, k), &Matrix::zeros(k, n)).unwrap();
        assert_eq!(product, Matrix::zeros(m, n));
        assert_eq!(gram(&Matrix::zeros(m, k)), Matrix::zeros(m, m));
        let (q, r) = qr(&Matrix::zeros(m, k)).unwrap();
        assert_eq!((q.ncols(), r.nrows()), (m.min(k), m.min(k)));
        assert_eq!(svd(&Matrix::zeros(m, k)).unwrap().values.len(), m.min(k));
        assert_eq!(Matrix::zeros(m, k).t().to_matrix(), Matrix::zeros(k, m));
        assert_eq!(Matrix::zeros(m, k).rows(0..0).to_matrix(), Matrix::zeros(0, k));
    }
    let empty = Matrix::zeros(0, 0);
    assert!(eigh(&empty).unwrap().values.is_empty());
    assert!(Cholesky::new(empty).unwrap().solve(&[]).unwrap().is_empty());
    assert_eq!((norm(&[]), dot(&[], &[])), (0.0, 0.0));
}

/// Positions and lengths of slices: the documented panics, at once and not as another entry of the same matrix.
#[test]
fn indices_that_are_not_there_panic_as_those_of_slices() {
    let quiet = |f: &(dyn Fn() + std::panic::RefUnwindSafe)| std::panic::catch_unwind(f).is_err();
    let a = || Matrix::identity(3);
    assert!(quiet(&|| _ = a()[(3, 0)]) && quiet(&|| _ = a()[(0, 3)]) && quiet(&|| a()[(3, 1)] = 1.0));
    assert!(quiet(&|| _ = a().col(3)) && quiet(&|| _ = a().columns(2..4)) && quiet(&|| _ = a().rows(2..4)));
    assert!(quiet(&|| _ = dot(&[1.0], &[1.0, 2.0])) && quiet(&|| _ = nhgd::dense::difference(&[1.0], &[])));
    assert!(quiet(&|| nhgd::dense::axpy(1.0, &[1.0], &mut [])));
}

#[test]
fn bytes_that_contradict_themselves_are_refused() {
    // As postcard writes them: sizes, then the entries.
    let matrix = postcard::to_stdvec(&(2_usize, 2_usize, vec![1.0; 3])).unwrap();
    assert!(postcard::from_bytes::<Matrix>(&matrix).is_err());
    let good = postcard::to_stdvec(&Matrix::identity(2)).unwrap();
    assert_eq!(postcard::from_bytes::<Matrix>(&good).unwrap(), Matrix::identity(2));
    for rows_per_sample in [0_usize, 2] {
        let rows = postcard::to_stdvec(&(Matrix::zeros(2, 3), rows_per_sample)).unwrap();
        assert!(postcard::from_bytes::<DenseRows>(&rows).is_err());
        let rows = postcard::to_stdvec(&(Matrix::zeros(2, 3), Matrix::zeros(2, 3), rows_per_sample)).unwrap();
        assert!(postcard::from_bytes::<KroneckerRows>(&rows).is_err());
    }
    for case in [random_dense(Key::new(0), 3, 4, 2), random_kronecker(Key::new(0), 3, 2, 2, 2)] {
        let bytes = postcard::to_stdvec(&case.block).unwrap();
        assert_eq!(postcard::from_bytes::<GradientBlock>(&bytes).unwrap(), case.block);
    }
    for known in [KnownCurvature::scalar(2, 0.5).unwrap(), KnownCurvature::diagonal(vec![1.0, 2.0]).unwrap()] {
        let mut bytes = postcard::to_stdvec(&known).unwrap();
        assert_eq!(postcard::from_bytes::<KnownCurvature>(&bytes).unwrap(), known);
        // The sign of the last number.
        *bytes.last_mut().unwrap() ^= 0x80;
        assert!(postcard::from_bytes::<KnownCurvature>(&bytes).is_err());
    }
    for bytes in [&[][..], &[0], &[14; 40], &[255; 40]] {
        refused(load(bytes), "saved curvature");
        refused(State::from_bytes(bytes), "saved state");
    }
}

#[test]
fn gradients_and_operators_refuse_what_does_not_fit() {
    let zeros = Matrix::zeros;
    fails(KroneckerRows::new(zeros(3, 2), zeros(3, 3), 1), &["inputs", "3 × 3", "3 × 2"]);
    fails(DenseRows::new(zeros(3, 4), 3), &["rows_per_sample", "4 rows at 3 a sample"]);
    assert_eq!(weighted_outer(&zeros(3, 0), 2, |_, _, _| 1.0).unwrap(), zeros(6, 6));

    let diagonal = Diagonal::new(vec![1.0, 2.0]).unwrap();
    refused(Diagonal::new(vec![1.0, NAN]), "diagonal");
    refused(diagonal.apply(&[1.0]), "x");
    refused(Sum(&diagonal, Diagonal::new(vec![1.0; 3]).unwrap()).apply(&[1.0, 2.0]), "x");
    refused(diagonal.apply_columns(&zeros(3, 1)), "x");
    /// An operator whose products have another length than it says.
    struct Liar;
    impl LinearOperator for Liar {
        fn dim(&self) -> usize {
            2
        }
        fn apply(&self, _: &[f64]) -> Result<Vec<f64>> {
            Ok(vec![1.0; 3])
        }
    }
    refused(Liar.to_dense(), "operator product");
    refused(Sum(&diagonal, Liar).apply(&[1.0, 2.0]), "operator product");
    refused(FromFn::new(2, |_: &[f64]| Ok(vec![0.0])).apply(&[1.0, 2.0]), "operator product");
    let block = random_dense(Key::new(0), 3, 2, 1).block;
    refused(LowRank::new(block.clone(), 0.0, None), "mass");
    refused(LowRank::new(block.clone(), NAN, None), "mass");
    let mut poisoned = block;
    poisoned.scale(NAN);
    refused(LowRank::new(poisoned, 1.0, None), "gradient rows");
}

#[test]
fn solvers_refuse_what_does_not_fit() {
    let known = KnownCurvature::scalar(2, 1.0).unwrap();
    refused(KnownCurvature::scalar(0, 1.0), "dim");
    refused(KnownCurvature::scalar(2, -1.0), "known curvature");
    refused(KnownCurvature::scalar(2, NAN), "known curvature");
    refused(KnownCurvature::diagonal(vec![]), "dim");
    refused(KnownCurvature::diagonal(vec![1.0, -1.0]), "known curvature");
    refused(known.plus(-1.0), "damping");
    refused(known.plus(NAN), "damping");
    for large in [KnownCurvature::scalar(1, f64::MAX), KnownCurvature::diagonal(vec![f64::MAX])] {
        refused(large.unwrap().plus(f64::MAX), "damping");
    }
    refused(known.apply(&[1.0]), "x");
    refused(known.solve_in_place(&mut Matrix::zeros(3, 1)), "rhs");
    refused(known.solve_in_place(&mut Matrix::column(vec![1.0, NAN])), "rhs");
    refused(known.add_to(&mut Matrix::zeros(2, 3)), "matrix");
    refused(KnownCurvature::scalar(2, 0.0).unwrap().check_invertible(), "known curvature plus damping");
    refused(KnownCurvature::scalar(2, 1e-310).unwrap().check_invertible(), "known curvature plus damping");

    for rows in [1, 5] {
        let block = random_dense(Key::new(0), rows, 2, 1).block;
        refused(Woodbury::new(&block, 0.0, &known), "mass");
        refused(Woodbury::new(&block, 1.0, &KnownCurvature::scalar(3, 1.0).unwrap()), "known curvature");
        refused(Woodbury::new(&block, 1.0, &KnownCurvature::scalar(2, 0.0).unwrap()), "known curvature plus damping");
        let inverse = Woodbury::new(&block, 1.0, &known).unwrap();
        refused(inverse.apply(&[1.0]), "rhs");
        refused(inverse.apply(&[1.0, NAN]), "rhs");
    }
    let operator = Diagonal::new(vec![1.0, 2.0]).unwrap();
    let cg = |b: &[f64], tolerance, max_iterations| conjugate_gradients(&operator, b, SolveOptions { tolerance, max_iterations });
    refused(cg(&[1.0], 0.1, 1), "rhs");
    refused(cg(&[1.0, NAN], 0.1, 1), "rhs");
    refused(cg(&[1.0, 1.0], -0.1, 1), "tolerance");
    refused(cg(&[1.0, 1.0], NAN, 1), "tolerance");
    refused(cg(&[1.0, 1.0], 0.1, 0), "max_iterations");
}

#[test]
fn data_refuse_what_is_not_there() {
    refused(Features::from_f64(vec![0.0; 5], 2, 3), "features");
    refused(Features::from_f64(vec![], 1 << 33, 1 << 31), "features");
    refused(Features::from_f64(vec![], 0, 3), "samples");
    refused(Features::from_f64(vec![], 3, 0), "width");
    refused(Features::from_f64(vec![1.0, NAN], 1, 2), "features");
    refused(Features::from_f32(vec![f32::INFINITY], 1, 1), "features");
    refused(Features::from_bytes(vec![1], 1, 1, NAN), "scale");
    refused(Features::from_bytes(vec![1], 1, 1, 1e307), "scale");
    let features = Features::from_f64(vec![0.0; 6], 2, 3).unwrap();
    for indices in [&[][..], &[2], &[0, HUGE]] {
        let batch = Batch::Indices(indices);
        refused(features.select(indices), "batch");
        refused(features.gather(batch), "batch");
        refused(features.project(batch, &[&[0.0; 3]]), "batch");
        refused(features.accumulate(batch, &Matrix::zeros(1, indices.len())), "batch");
        refused(Targets::classes(vec![0, 1], 2).unwrap().select(indices), "batch");
    }
    refused(features.project(Batch::All, &[&[0.0; 2]]), "w");
    refused(features.accumulate(Batch::All, &Matrix::zeros(1, 3)), "delta");
    fails(Targets::classes(vec![0, 3], 3), &["labels", "below 3", "3 at sample 1"]);
    refused(Targets::classes(vec![], 0), "classes");
    fails(Samples::new(features, Targets::classes(vec![0], 3).unwrap()), &["targets", "length 2", "length 1"]);

    let key = Key::new(0);
    refused(gaussian_mixture(HUGE, 2, 2, 1.0, key), "width");
    refused(gaussian_mixture(1, HUGE, 2, 1.0, key), "width");
    refused(gaussian_mixture(1, 2, 2, -1.0, key), "separation");
    refused(softmax_samples(&Matrix::zeros(2, 2), HUGE, key), "width");
    refused(corrupt_labels(&[0], 1, 1.5, key), "probability");
    refused(corrupt_labels(&[1], 1, 0.5, key), "labels");
    refused(key.stream().below(0), "n");
    refused(par::with_threads(0, || ()), "threads");
    refused(par::with_threads(HUGE, || ()), "threads");
}

fn cleaning() -> DataCleaning {
    let config = DataCleaningConfig { train: 20, validation: 10, ..Default::default() };
    DataCleaning::load(&config, &DataSource::default(), Key::new(0)).unwrap()
}

#[test]
fn models_and_problems_refuse_by_the_argument_s_name() {
    refused(Softmax::new(0, 3), "width");
    refused(Softmax::new(2, 1), "classes");
    refused(Softmax::new(HUGE, 2), "width");
    let samples = gaussian_mixture(5, 2, 3, 1.0, Key::new(0)).unwrap();
    let (model, theta) = (Softmax::new(2, 3).unwrap(), [0.5; 6]);
    let all = Weighted::ones(&samples, Batch::All);
    refused(model.loss(all, &theta[1..]), "theta");
    refused(model.gradient(all, &[NAN; 6]), "theta");
    refused(model.hvp(all, &theta, &[0.0]), "direction");
    refused(model.score_products(&samples, Batch::All, &theta, &[NAN; 6]), "direction");
    refused(model.loss(Weighted { weights: Some(&[1.0]), ..all }, &theta), "weights");
    refused(model.gradient(Weighted { weights: Some(&[NAN; 5]), ..all }, &theta), "weights");
    refused(model.scores(Weighted { weights: Some(&[-1.0; 5]), ..all }, &theta, FisherKind::Expected, Key::new(0)), "weights");
    refused(model.hessian(Weighted { batch: Batch::Indices(&[]), ..all }, &theta), "batch");
    refused(Softmax::new(3, 3).unwrap().losses(&samples, Batch::All, &[0.0; 9]), "feature width");
    refused(Softmax::new(2, 4).unwrap().losses(&samples, Batch::All, &[0.0; 8]), "classes");
    // The fields are public: what was checked when it was made may have been changed since.
    let relabelled = |labels: Vec<u32>| Samples { targets: Targets::Classes { labels, classes: 3 }, ..samples.clone() };
    let beyond = relabelled(vec![0, 1, 2, 0, 3]);
    refused(model.losses(&beyond, Batch::All, &theta), "labels");
    assert!(model.losses(&beyond, Batch::Indices(&[0, 3]), &theta).is_ok());
    refused(model.accuracy(&relabelled(vec![0; 4]), Batch::All, &theta), "targets");

    let problem = cleaning();
    let (v, theta) = problem.initial();
    refused(problem.f_inner(&v[1..], &theta, Batch::All), "outer_var");
    refused(problem.grad_inner(&v, &theta[1..], Batch::All), "inner_var");
    refused(problem.grad_v(&vec![NAN; v.len()], &theta, Batch::All), "outer_var");
    refused(problem.grad_outer(&v, &vec![NAN; theta.len()], Batch::All), "inner_var");
    refused(problem.cross_jvp(&v, &theta, Batch::All, &[1.0]), "direction");
    refused(problem.cross_jvp(&v, &theta, Batch::All, &vec![NAN; v.len()]), "direction");
    refused(problem.cross_vjp(&v, &theta, Batch::All, &vec![NAN; theta.len()]), "direction");
    refused(problem.hvp(&v, &theta, Batch::Indices(&[20]), &theta), "batch");
    refused(problem.f_outer(&v, &theta, Batch::Indices(&[10])), "batch");
    refused(differences::hvp(&problem, &v, &theta, Batch::All, &theta[1..]), "direction");
    refused(differences::hvp(&problem, &v, &theta, Batch::All, &vec![NAN; theta.len()]), "direction");
    refused(problem.hold_out(0, 1), "folds");
    refused(problem.hold_out(0, 11), "folds");
    refused(problem.hold_out(3, 3), "fold");
    let build = |config| ProblemConfig::DataCleaning(config).build(&DataSource::default(), Key::new(0));
    let base = DataCleaningConfig::default;
    refused(build(DataCleaningConfig { train: 0, ..base() }), "train");
    refused(build(DataCleaningConfig { train: HUGE, ..base() }), "train");
    refused(build(DataCleaningConfig { validation: 0, ..base() }), "validation");
    refused(build(DataCleaningConfig { ridge: 0.0, ..base() }), "ridge");
    refused(build(DataCleaningConfig { corruption: NAN, ..base() }), "corruption");
    refused(build(DataCleaningConfig { initial_logit: NAN, ..base() }), "initial_logit");
    let network = NetworkConfig { hidden: vec![4, 0], ..Default::default() };
    refused(build(DataCleaningConfig { model: ModelConfig::Mlp(network), ..base() }), "hidden");
    // A batch is refused for the numbers of v that it uses.
    let poisoned = [&v[..19], &[NAN]].concat();
    for batch in [Batch::All, Batch::Indices(&[0, 19])] {
        refused(problem.grad_inner(&poisoned, &theta, batch), "outer_var");
        refused(problem.inner_products(&poisoned, &theta, batch, &theta), "outer_var");
    }
    refused(problem.inner_products(&v, &theta, Batch::All, &theta[1..]), "direction");
}

#[test]
fn oracle_and_estimators_refuse_by_the_argument_s_name() {
    let problem = cleaning();
    let (v, theta) = problem.initial();
    let b = vec![1.0; theta.len()];
    refused(inner_solution(&problem, &v, &theta[1..], NewtonOptions::default()), "start");
    refused(inner_solution(&problem, &v, &theta, NewtonOptions { gradient_norm: 0.0, ..Default::default() }), "gradient_norm");
    refused(inner_solution(&problem, &v[1..], &theta, NewtonOptions::default()), "outer_var");
    refused(exact_inverse_hvp(&problem, &v, &theta, &b[1..]), "rhs");
    refused(exact_inverse_hvp(&problem, &v, &theta, &vec![NAN; b.len()]), "rhs");
    refused(exact_hypergradient(&problem, &v, &theta[1..]), "inner_var");
    refused(value_difference(&problem, &v, &theta, &v[1..], 1e-4), "direction");
    refused(value_difference(&problem, &v, &theta, &vec![NAN; v.len()], 1e-4), "direction");
    for h in [0.0, -1.0, NAN] {
        refused(value_difference(&problem, &v, &theta, &v, h), "h");
    }
    let sampling = Sampling::default();
    refused(bilevel::exact(&problem, &v[1..], &theta, sampling), "outer_var");
    refused(bilevel::exact(&problem, &v, &theta, Sampling { outer: Batch::Indices(&[10]), ..sampling }), "batch");
    refused(bilevel::cg(&problem, &v, &theta, sampling, SolveOptions { tolerance: NAN, max_iterations: 1 }), "tolerance");
    let mut curvature = CurvatureConfig::default_of("window").unwrap().build(theta.len() + 1, Key::new(0)).unwrap();
    curvature.absorb(&random_dense(Key::new(0), 3, theta.len() + 1, 1).block).unwrap();
    let other = curvature.approximate().unwrap();
    fails(bilevel::nhgd(&problem, &v, &theta, sampling, other.as_ref(), 0.1), &["rhs", "length 651", "length 650"]);
    fails(bilevel::nhgd(&problem, &v, &theta, sampling, other.as_ref(), -0.1), &["damping"]);
    let method = MethodConfig::Nhgd(NhgdConfig::default()).build().unwrap();
    let mut state = method.init(&problem, Key::new(0)).unwrap();
    state.inner_var.pop();
    refused(method.step(&problem, &mut state, Key::new(0), &mut ()), "inner_var");
    let wide = NhgdConfig {
        curvature: CurvatureConfig::Nystrom(nhgd::curvature::NystromConfig { sketch_size: 651, ..Default::default() }),
        ..Default::default()
    };
    let wide = MethodConfig::Nhgd(wide).build().unwrap();
    fails(wide.init(&problem, Key::new(0)), &["sketch_size", "at most the dimension 650", "651"]);
}

/// A problem of someone else whose vectors have wrong lengths, one at a time.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Wrong {
    GradInner,
    GradOuterTheta,
    GradOuterV,
    CrossVjp,
    Hvp,
}

struct Sloppy(DataCleaning, Wrong);

impl Sloppy {
    fn cut(&self, wrong: Wrong, mut x: Vec<f64>) -> Vec<f64> {
        if self.1 == wrong {
            x.pop();
        }
        x
    }
}

impl Problem for Sloppy {
    fn name(&self) -> &'static str {
        "sloppy"
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
        Ok(self.cut(Wrong::GradInner, self.0.grad_inner(v, theta, batch)?))
    }
    fn grad_v(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<Vec<f64>> {
        self.0.grad_v(v, theta, batch)
    }
    fn f_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<f64> {
        self.0.f_outer(v, theta, batch)
    }
    fn grad_outer(&self, v: &[f64], theta: &[f64], batch: Batch<'_>) -> Result<OuterGradient> {
        let OuterGradient { theta, v } = self.0.grad_outer(v, theta, batch)?;
        Ok(OuterGradient { theta: self.cut(Wrong::GradOuterTheta, theta), v: self.cut(Wrong::GradOuterV, v.into_vec()).into() })
    }
    fn scores(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, kind: FisherKind, key: Key) -> Result<GradientBlock> {
        self.0.scores(v, theta, batch, kind, key)
    }
    fn known_curvature(&self, v: &[f64]) -> Result<KnownCurvature> {
        self.0.known_curvature(v)
    }
    fn hvp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, u: &[f64]) -> Result<Vec<f64>> {
        Ok(self.cut(Wrong::Hvp, self.0.hvp(v, theta, batch, u)?))
    }
    fn cross_vjp(&self, v: &[f64], theta: &[f64], batch: Batch<'_>, q: &[f64]) -> Result<Vec<f64>> {
        Ok(self.cut(Wrong::CrossVjp, self.0.cross_vjp(v, theta, batch, q)?))
    }
}

#[test]
fn a_problem_with_vectors_of_wrong_lengths_is_an_error_of_every_method_and_of_the_oracle() {
    for wrong in [Wrong::GradInner, Wrong::GradOuterTheta, Wrong::GradOuterV, Wrong::CrossVjp, Wrong::Hvp] {
        let problem = Sloppy(cleaning(), wrong);
        let (v, theta) = problem.initial();
        for (name, _) in MethodConfig::REGISTRY {
            let Some(method) = MethodConfig::default_of(name) else { panic!("{name}") };
            let outcome = bilevel::run(&problem, method.build().unwrap().as_ref(), Key::new(0), Stop::after(1), &mut ());
            match outcome {
                // A method that forms no such product does not meet that fault.
                Ok(Outcome { counts, .. }) => assert!(
                    (wrong == Wrong::Hvp && counts.hessian_products == 0)
                        || (wrong == Wrong::CrossVjp && counts.cross_products == 0),
                    "{name}, {wrong:?}"
                ),
                Err(error) => assert!(error.offending_argument().is_some(), "{name}, {wrong:?}: {error}"),
            }
        }
        assert_eq!(exact_hypergradient(&problem, &v, &theta).is_err(), wrong != Wrong::GradInner, "{wrong:?}");
        let options = SolveOptions::default();
        assert_eq!(bilevel::cg(&problem, &v, &theta, Sampling::default(), options).is_err(), wrong != Wrong::GradInner);
    }
}

#[test]
fn statuses_and_errors_are_one_line() {
    let statuses = [
        Status::StepLimit { limit: 3, residual: 0.1 },
        Status::NegativeCurvature { step: 1, curvature: -1.0 },
        Status::Diverged { step: 2 },
        Status::Breakdown { step: 3, residual: NAN },
    ];
    for status in statuses {
        assert!(!status.is_converged() && !status.remedy().is_empty() && !status.to_string().contains('\n'));
    }
    let error = Error::argument("x", "a number", "a word");
    assert_eq!((error.to_string().as_str(), error.offending_argument()), ("x: expected a number, found a word", Some("x")));
}

#[cfg(feature = "io")]
#[test]
fn an_experiment_with_values_out_of_their_domain_is_refused() {
    use nhgd::experiment::config::Config;
    use nhgd::experiment::hypergradient_errors::{self, Reference};
    use nhgd::experiment::record::Table;
    use nhgd::experiment::runner::{Environment, run};

    struct NoClock;
    impl Environment for NoClock {
        fn now(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
    }
    let text = "title = \"x\"\nchecks = true\nbaselines = false\n[problem.data-cleaning]\ntrain = 20\nvalidation = 10";
    let config = Config::parse(text, std::path::Path::new("x.toml")).unwrap();
    let run = |config: Config| run(&config, &DataSource::default(), Default::default(), &mut NoClock);
    refused(run(Config { seeds: vec![], ..config.clone() }), "seeds");
    refused(run(Config { record_every: 0, ..config.clone() }), "record_every");
    let errors = hypergradient_errors::Config { rows: vec![10, 1], ..Default::default() };
    refused(Reference::solve(&cleaning(), &errors, Key::new(0), || Ok(())), "rows");
    refused(run(Config { hypergradient_errors: Some(errors), ..config }), "rows");

    let mut table = Table::new(["a", "b"]);
    assert!(table.push(["1"]).is_err() && table.push(["x", "2"]).is_ok());
    assert!(
        table.text("c").is_err() && table.numbers("a").is_err() && table.filter("c", "x").is_err() && table.distinct("c").is_err()
    );
}
