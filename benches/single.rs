//! What single precision would bring, and cost in accuracy, before anything is changed for it: the two products of a Nyström sketch with rows
//! stored as f32 (multiplied in double or in single precision, sums in double), and the softmax gradient whose products may be single already.
//! An experiment: the kernels are written here, and the library's own are what they are held to.

#[path = "rate/beside.rs"]
mod beside;
mod rate;
#[path = "rate/shapes.rs"]
mod shapes;

use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

use beside::in_turns;
use criterion::{Criterion, criterion_group, criterion_main};
use faer::linalg::matmul::matmul as product;
use faer::prelude::ReborrowMut;
use faer::{Accum, MatMut, MatRef, Par};
use nhgd::dense::{Cholesky, Matrix, dot, eigh, gram, matmul};
use nhgd::gradient::{DenseRows, GradientBlock};
use nhgd::model::FisherKind;
use nhgd::oracle::{NewtonOptions, inner_solution};
use nhgd::par;
use nhgd::problem::{DataCleaning, DataCleaningConfig, DataSource, Problem};
use nhgd::rng::Key;
use nhgd::samples::{Batch, Precision};
use rate::support::{relative_error, short_normals};
use shapes::mnist;

/// d, ℓ and the rows of a block.
const STREAM: (usize, usize, usize) = (100_000, 128, 256);
const ROUNDS: usize = 9;
/// Terms that are summed in single precision, and rows of Y that are worked on at once.
const PASS: usize = 256;
const TILE: usize = 192;
const RUN: usize = 8 * TILE;

/// A d × n matrix in single precision, column by column.
struct Single {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
}

/// In which precision products of f32 rows are formed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Arithmetic {
    Double,
    Single,
}

impl Single {
    fn of(matrix: &Matrix) -> Self {
        let values = matrix.as_slice().iter().map(|&x| x as f32).collect();
        Self { values, rows: matrix.nrows(), columns: matrix.ncols() }
    }

    fn part(&self, rows: Range<usize>) -> MatRef<'_, f32> {
        MatRef::from_column_major_slice(&self.values, self.rows, self.columns).subrows(rows.start, rows.len())
    }
}

/// A part in double precision, in the memory of `tile`.
fn widen<'t>(part: MatRef<'_, f32>, tile: &'t mut Vec<f64>) -> MatRef<'t, f64> {
    tile.clear();
    for j in 0..part.ncols() {
        tile.extend(part.col(j).try_as_col_major().unwrap().as_slice().iter().map(|&x| f64::from(x)));
    }
    MatRef::from_column_major_slice(tile, part.nrows(), part.ncols())
}

/// GΩ for rows and Ω in single precision: b × ℓ, the sums over passes in double.
fn project(g: &Single, omega: &Single, arithmetic: Arithmetic) -> Matrix {
    let (b, l) = (g.columns, omega.columns);
    let leaf = |rows: Range<usize>| {
        let mut sum = vec![0.0_f64; b * l];
        let (mut part, mut tiles) = (vec![0.0_f32; b * l], (Vec::new(), Vec::new()));
        for rows in par::blocks_of(rows, PASS) {
            let (g, omega) = (g.part(rows.clone()), omega.part(rows));
            match arithmetic {
                Arithmetic::Double => {
                    let (g, omega) = (widen(g, &mut tiles.0), widen(omega, &mut tiles.1));
                    let sum = MatMut::from_column_major_slice_mut(&mut sum, b, l);
                    product(sum, Accum::Add, g.transpose(), omega, 1.0, Par::Seq);
                }
                Arithmetic::Single => {
                    let c = MatMut::from_column_major_slice_mut(&mut part, b, l);
                    product(c, Accum::Replace, g.transpose(), omega, 1.0_f32, Par::Seq);
                    sum.iter_mut().zip(&part).for_each(|(sum, part)| *sum += f64::from(*part));
                }
            }
        }
        sum
    };
    let sum = par::reduce_blocks(0..g.rows, 16 * PASS, &leaf, &|mut left: Vec<f64>, right| {
        left.iter_mut().zip(&right).for_each(|(left, right)| *left += right);
        left
    });
    Matrix::from_columns(b, l, sum).unwrap()
}

/// Y += GᵀC for rows in single precision, Y in double.
fn accumulate(y: MatMut<'_, f64>, start: usize, g: &Single, c: &Matrix, arithmetic: Arithmetic) {
    let count = y.nrows();
    if count > RUN {
        let half = (count / 2).next_multiple_of(RUN);
        let (top, bottom) = y.split_at_row_mut(half);
        par::join(|| accumulate(top, start, g, c, arithmetic), || accumulate(bottom, start + half, g, c, arithmetic));
        return;
    }
    let (mut y, single, l) = (y, Single::of(c), c.ncols());
    let c = MatRef::from_column_major_slice(c.as_slice(), c.nrows(), l);
    let (mut tile, mut wide, mut narrow) = (Vec::new(), vec![0.0_f64; TILE * l], vec![0.0_f32; TILE * l]);
    for rows in par::blocks(count, TILE) {
        let g = g.part(start + rows.start..start + rows.end);
        let n = rows.len();
        match arithmetic {
            Arithmetic::Double => {
                let sum = MatMut::from_column_major_slice_mut(&mut wide[..n * l], n, l);
                product(sum, Accum::Replace, widen(g, &mut tile), c, 1.0, Par::Seq);
            }
            Arithmetic::Single => {
                let sum = MatMut::from_column_major_slice_mut(&mut narrow[..n * l], n, l);
                product(sum, Accum::Replace, g, single.part(0..single.rows), 1.0_f32, Par::Seq);
                wide.iter_mut().zip(&narrow).for_each(|(wide, narrow)| *wide = f64::from(*narrow));
            }
        }
        let mut part = y.rb_mut().subrows_mut(rows.start, n);
        part += MatRef::from_column_major_slice(&wide[..n * l], n, l);
    }
}

/// Y = GᵀGΩ by the kernels above.
fn sketch(g: &Single, omega: &Single, arithmetic: Arithmetic) -> Matrix {
    let projected = project(g, omega, arithmetic);
    let mut y = Matrix::zeros(g.rows, omega.columns);
    let (rows, columns) = (g.rows, omega.columns);
    accumulate(MatMut::from_column_major_slice_mut(y.as_mut_slice(), rows, columns), 0, g, &projected, arithmetic);
    y
}

fn of_faer(y: &mut Matrix) -> MatMut<'_, f64> {
    let (rows, columns) = (y.nrows(), y.ncols());
    MatMut::from_column_major_slice_mut(y.as_mut_slice(), rows, columns)
}

fn stream_kernels(criterion: &mut Criterion) {
    let (d, l, b) = STREAM;
    let rows = short_normals(Key::new(1), d, b);
    let omega = short_normals(Key::new(2), d, l);
    let block = GradientBlock::from(DenseRows::new(rows.clone(), 1).unwrap());
    let (g, narrow) = (Single::of(&rows), Single::of(&omega));
    // The rows have 24 bits, so that storing them loses nothing: what differs is rounding of the products.
    let exact = block.project(&omega).unwrap();
    let y = block.accumulate(&exact).unwrap();
    for (arithmetic, allowed) in [(Arithmetic::Double, 1e-14), (Arithmetic::Single, 1e-6)] {
        let error = relative_error(project(&g, &narrow, arithmetic).as_slice(), exact.as_slice());
        let whole = relative_error(sketch(&g, &narrow, arithmetic).as_slice(), y.as_slice());
        println!("f32 rows, {arithmetic:?} arithmetic: GΩ is off by {error:.1e}, Y by {whole:.1e}");
        assert!(error < allowed && whole < 2.0 * allowed, "{error:e}, {whole:e}");
    }

    let mut group = criterion.benchmark_group("f32 rows");
    let mut sums = [y.clone(), y.clone(), y];
    let [first, second, third] = &mut sums;
    let projects = in_turns(
        ROUNDS,
        [
            &mut || drop(black_box(block.project(&omega).unwrap())),
            &mut || drop(black_box(project(&g, &narrow, Arithmetic::Double))),
            &mut || drop(black_box(project(&g, &narrow, Arithmetic::Single))),
        ],
    );
    let accumulates = in_turns(
        ROUNDS,
        [
            &mut || block.accumulate_into(&exact, first).unwrap(),
            &mut || accumulate(of_faer(second), 0, &g, &exact, Arithmetic::Double),
            &mut || accumulate(of_faer(third), 0, &g, &exact, Arithmetic::Single),
        ],
    );
    for (name, [double, stored, single]) in [("GΩ", projects), ("GᵀC", accumulates)] {
        println!(
            "{name}, d = {d}, ℓ = {l}, {b} rows: {:.1} ms in f64; f32 rows are {:.2} times as fast in double arithmetic, {:.2} in single",
            1e3 * double,
            double / stored,
            double / single
        );
    }
    group.bench_function("project, single", |bench| bench.iter(|| project(black_box(&g), &narrow, Arithmetic::Single)));
    group.finish();
}

/// F̂ = BBᵀ by the shifted formula, ν = √d·ε·‖Y‖ for the ε of the arithmetic: B.
fn approximation(y: &Matrix, omega: &Matrix, epsilon: f64) -> Matrix {
    let (d, l) = (y.nrows(), y.ncols());
    let shift = (d as f64).sqrt() * epsilon * eigh(&gram(y.t())).unwrap().values[0].sqrt();
    let mut shifted = y.clone();
    shifted.add_scaled(shift, omega).unwrap();
    let core = matmul(omega.t(), &shifted).unwrap();
    let core = eigh(&Matrix::from_fn(l, l, |i, j| 0.5 * (core[(i, j)] + core[(j, i)]))).unwrap();
    let kept = core.values.iter().take_while(|&&value| value > 0.0).count();
    let root = Matrix::from_fn(l, kept, |i, j| core.vectors[(i, j)] / core.values[j].sqrt());
    let b = matmul(&shifted, &root).unwrap();
    let squares = eigh(&gram(b.t())).unwrap();
    let lowered = |j: usize| ((squares.values[j] - shift).max(0.0) / squares.values[j]).sqrt();
    matmul(&b, &Matrix::from_fn(kept, kept, |i, j| squares.vectors[(i, j)] * lowered(j))).unwrap()
}

/// On the embedded digits at θ*, ℓ = 64: what f32 does to F̂ and to the hypergradient, beside what the sketch itself leaves out.
fn accuracy() {
    let problem = DataCleaning::load(&DataCleaningConfig::default(), &DataSource::default(), Key::new(1)).unwrap();
    let (v, start) = problem.initial();
    let theta = inner_solution(&problem, &v, &start, NewtonOptions::default()).unwrap().theta;
    let scores = problem.scores(&v, &theta, Batch::All, FisherKind::Sampled, Key::new(2)).unwrap();
    let (d, n, l) = (scores.dim(), scores.rows(), 64);
    let rows = scores.expand(0..n).unwrap();
    let (omega, _) = nhgd::dense::qr(&short_normals(Key::new(3), d, l)).unwrap();
    let mean = |mut y: Matrix| {
        y.scale(1.0 / n as f64);
        y
    };
    let exact = mean(scores.scatter().unwrap());
    let double = approximation(&mean(scores.accumulate(&scores.project(&omega).unwrap()).unwrap()), &omega, f64::EPSILON);
    let (narrow, narrow_omega) = (Single::of(&rows), Single::of(&omega));
    let stored = approximation(&mean(sketch(&narrow, &narrow_omega, Arithmetic::Double)), &omega, f64::from(f32::EPSILON));
    let single = approximation(&mean(sketch(&narrow, &narrow_omega, Arithmetic::Single)), &omega, f64::from(f32::EPSILON));
    let matrix = |b: &Matrix| matmul(b, b.t()).unwrap();
    let (f64_, stored, single) = (matrix(&double), matrix(&stored), matrix(&single));
    println!("digits, d = {d}, ℓ = {l}, relative errors in the Frobenius norm:");
    println!("  F̂ of f64 against F {:.1e}", relative_error(f64_.as_slice(), exact.as_slice()));
    println!("  F̂ of f32 rows against that of f64: double arithmetic {:.1e}", relative_error(stored.as_slice(), f64_.as_slice()));
    println!("  the same, single arithmetic {:.1e}", relative_error(single.as_slice(), f64_.as_slice()));

    let (b, _) = problem.grad_outer(&v, &theta, Batch::All).unwrap().into_vecs();
    let known = problem.known_curvature(&v).unwrap();
    for damping in [1e-2, 1e-4] {
        let hypergradient = |f: &Matrix| {
            let mut a = f.clone();
            (0..d).for_each(|i| a[(i, i)] += known.entry(i) + damping);
            let q = Cholesky::new(a).unwrap().solve(&b).unwrap();
            problem.cross_vjp(&v, &theta, Batch::All, &q).unwrap()
        };
        let (whole, wide) = (hypergradient(&exact), hypergradient(&f64_));
        let sketched = relative_error(&wide, &whole);
        println!("  hypergradient at μ = {damping:e}: the sketch is off by {sketched:.1e}");
        for (name, f) in [("double", &stored), ("single", &single)] {
            let found = hypergradient(f);
            let error = relative_error(&found, &wide);
            println!("    f32 rows, {name} arithmetic, add {error:.1e} (in all {:.1e})", relative_error(&found, &whole));
            assert!(error < 0.1 * sketched, "{name}: {error:e} beside {sketched:e}");
        }
    }
}

/// The gradient and the cross product of softmax regression at the shape of MNIST, in both precisions.
fn softmax(criterion: &mut Criterion) {
    accuracy();
    let (double, single) = (mnist(Precision::Double), mnist(Precision::Single));
    let (v, _) = double.initial();
    let normals = |key: u64| -> Vec<f64> { Key::new(key).stream().normals(double.inner_dim()) };
    let theta: Vec<f64> = normals(5).iter().map(|x| 0.1 * x).collect();
    let q = normals(6);
    for m in [64, 1024] {
        let indices = Key::new(4).stream().indices(double.inner_samples(), m).unwrap();
        let batch = Batch::Indices(&indices);
        let gradient = |problem: &DataCleaning| problem.grad_inner(&v, &theta, batch).unwrap();
        let cross = |problem: &DataCleaning| problem.cross_vjp(&v, &theta, batch, &q).unwrap();
        let errors = (relative_error(&gradient(&single), &gradient(&double)), relative_error(&cross(&single), &cross(&double)));
        let angle = dot(&gradient(&single), &gradient(&double));
        assert!(errors.0 < 1e-5 && errors.1 < 1e-5 && angle > 0.0, "{errors:?}");
        let times = in_turns(
            50,
            [
                &mut || drop(black_box(gradient(&double))),
                &mut || drop(black_box(gradient(&single))),
                &mut || drop(black_box(cross(&double))),
                &mut || drop(black_box(cross(&single))),
            ],
        );
        println!(
            "softmax at the shape of MNIST, batch {m}: gradient {:.3} ms, single {:.2} times as fast, off by {:.1e}; cross product {:.3} ms, \
             {:.2} times, {:.1e}",
            1e3 * times[0],
            times[0] / times[1],
            errors.0,
            1e3 * times[2],
            times[2] / times[3],
            errors.1
        );
        let mut group = criterion.benchmark_group(format!("softmax gradient, batch {m}"));
        group.bench_function("double", |bench| bench.iter(|| gradient(black_box(&double))));
        group.bench_function("single", |bench| bench.iter(|| gradient(black_box(&single))));
        group.finish();
    }
}

fn short() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500))
}

criterion_group! { name = benches; config = short(); targets = stream_kernels, softmax }
criterion_main!(benches);
