//! What methods ask of a problem, for data cleaning by softmax regression on one batch: ∇_θ g, Hq, Jᵀq, all three at once, and the score rows.

mod rate;
#[path = "rate/shapes.rs"]
mod shapes;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use nhgd::dense::{axpy, dot, norm};
use nhgd::model::FisherKind;
use nhgd::operator::LinearOperator;
use nhgd::problem::{InnerProducts, Problem};
use nhgd::rng::Key;
use nhgd::samples::Batch;
use rate::Peak;
use rate::support::relative_error;
use shapes::{CLASSES, Shape, shapes};

/// A point, a direction and a batch.
struct Case<'a> {
    shape: &'a Shape,
    v: Vec<f64>,
    theta: Vec<f64>,
    q: Vec<f64>,
    batch: Batch<'a>,
}

impl Case<'_> {
    fn gradient(&self, v: &[f64], theta: &[f64]) -> Vec<f64> {
        self.shape.problem.grad_inner(v, theta, self.batch).unwrap()
    }

    fn three_calls(&self) -> InnerProducts {
        let Self { shape, v, theta, q, batch } = self;
        let gradient = self.gradient(v, theta);
        let hvp = shape.problem.hvp(v, theta, *batch, q).unwrap();
        InnerProducts { gradient, hvp, cross_vjp: shape.problem.cross_vjp(v, theta, *batch, q).unwrap().into() }
    }

    /// Each derivative against a difference of the one before it; the score rows against the gradient, for all weights are 1/2 at v = 0.
    fn check(&self) {
        let Self { shape, v, theta, q, batch } = self;
        let (problem, h) = (&shape.problem, 1e-5);
        let moved = |x: &[f64], direction: &[f64], step: f64| {
            let mut x = x.to_vec();
            axpy(step, direction, &mut x);
            x
        };
        let products = problem.inner_products(v, theta, *batch, q).unwrap();
        let agree = |what: &str, found: f64, expected: f64, scale: f64| {
            let error = (found - expected).abs() / scale;
            println!("{}, {what}: {error:.1e}", shape.name);
            assert!(error < 1e-6, "{what}: {error:e}");
        };

        let value = |step: f64| problem.f_inner(v, &moved(theta, q, step), *batch).unwrap();
        let slope = (value(h) - value(-h)) / (2.0 * h);
        agree("gradient against a difference quotient", dot(&products.gradient, q), slope, norm(&products.gradient) * norm(q));

        let mut difference = self.gradient(v, &moved(theta, q, h));
        axpy(-1.0, &self.gradient(v, &moved(theta, q, -h)), &mut difference);
        difference.iter_mut().for_each(|x| *x /= 2.0 * h);
        agree("Hessian product", relative_error(&products.hvp, &difference), 0.0, 1.0);

        let u = Key::new(7).stream().normals(v.len());
        let along = |step: f64| dot(&self.gradient(&moved(v, &u, step), theta), q);
        let cross = products.cross_vjp.to_vec();
        let slope = (along(h) - along(-h)) / (2.0 * h);
        agree("cross product", dot(&cross, &u), slope, norm(&cross) * (v.len() as f64).sqrt());

        let three = self.three_calls();
        agree("Hessian product of three calls", relative_error(&products.hvp, &three.hvp), 0.0, 1.0);
        agree("cross product of three calls", relative_error(&cross, &three.cross_vjp.to_vec()), 0.0, 1.0);

        let rows = problem.scores(v, theta, *batch, FisherKind::Empirical, Key::new(8)).unwrap();
        let m = rows.samples();
        let weights = nhgd::dense::Matrix::column(vec![0.5_f64.sqrt() / m as f64; rows.rows()]);
        let mut sum = rows.accumulate(&weights).unwrap().into_vec();
        axpy(1.0, &problem.known_curvature(v).unwrap().apply(theta).unwrap(), &mut sum);
        agree("score rows against the gradient", relative_error(&sum, &products.gradient), 0.0, 1.0);
    }
}

fn kernels(criterion: &mut Criterion) {
    let peak = Peak::measure();
    for shape in &shapes() {
        let problem = &shape.problem;
        let indices = Key::new(4).stream().indices(problem.inner_samples(), shape.batch).unwrap();
        let (v, _) = problem.initial();
        let normals = |key: u64| -> Vec<f64> { Key::new(key).stream().normals(problem.inner_dim()) };
        let theta: Vec<f64> = normals(5).iter().map(|x| 0.1 * x).collect();
        let case = Case { shape, v, theta, q: normals(6), batch: Batch::Indices(&indices) };
        case.check();

        let Case { v, theta, q, batch, .. } = &case;
        // A product of the batch with one p × C matrix.
        let product = 2.0 * (shape.batch * shape.features * CLASSES) as f64;
        let mut group = criterion.benchmark_group(shape.name);
        let mut time = |name: &str, products: f64, run: &mut dyn FnMut()| {
            peak.report(&format!("{}, {name}", shape.name), products * product, &mut *run);
            group.bench_function(name, |bench| bench.iter(&mut *run));
        };
        time("grad_inner", 2.0, &mut || drop(black_box(problem.grad_inner(v, theta, *batch).unwrap())));
        time("hvp", 3.0, &mut || drop(black_box(problem.hvp(v, theta, *batch, q).unwrap())));
        time("cross_vjp", 2.0, &mut || drop(black_box(problem.cross_vjp(v, theta, *batch, q).unwrap())));
        time("inner_products", 4.0, &mut || drop(black_box(problem.inner_products(v, theta, *batch, q).unwrap())));
        time("the same by three calls", 7.0, &mut || drop(black_box(case.three_calls())));
        for kind in FisherKind::ALL {
            let key = Key::new(8);
            time(&format!("scores, {}", kind.name()), 1.0, &mut || {
                drop(black_box(problem.scores(v, theta, *batch, kind, key).unwrap()));
            });
        }
        group.finish();
    }
}

fn short() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500))
}

criterion_group! { name = benches; config = short(); targets = kernels }
criterion_main!(benches);
