//! Absorbing, approximating and solving of every registered family, at the shape of the embedded digits (65 inputs × 10 outputs, 128
//! samples) and of MNIST (785 × 10, 1024 samples; not for families that hold a d × d matrix); and the rows a second of the two sketches
//! of a stream of stored rows.

#[path = "rate/beside.rs"]
mod beside;
mod rate;

use std::hint::black_box;
use std::time::{Duration, Instant};

use beside::{Beside, beside_peak, in_turns};
use criterion::{Criterion, criterion_group, criterion_main};
use nhgd::curvature::{
    Approximation, Curvature, CurvatureConfig, DenseConfig, FrequentDirections, FrequentDirectionsConfig, Nystrom, NystromConfig,
    TestMatrix, WindowConfig,
};
use nhgd::dense::{Matrix, axpy, dot, matmul_add};
use nhgd::gradient::{DenseRows, GradientBlock};
use nhgd::inverse::KnownCurvature;
use nhgd::operator::LinearOperator;
use nhgd::par;
use nhgd::rng::Key;
use nhgd::{Error, Result};
use rate::Peak;
use rate::support::{dense_solve, fisher, random_kronecker, relative_error, short_normals};

const CLASSES: usize = 10;
/// ℓ.
const SKETCH: usize = 64;
/// What a d × d matrix may take: enough for the digits.
const MATRIX_BYTES: usize = 1 << 26;
/// A family whose first block takes longer is left out at that shape.
const PATIENCE: Duration = Duration::from_secs(2);

struct Shape {
    name: &'static str,
    inputs: usize,
    samples: usize,
}

const SHAPES: [Shape; 2] =
    [Shape { name: "digits", inputs: 65, samples: 128 }, Shape { name: "mnist", inputs: 785, samples: 1024 }];

fn build(family: &str, d: usize, samples: usize) -> Result<Box<dyn Curvature>> {
    let config = match family {
        "window" => CurvatureConfig::Window(WindowConfig { samples }),
        "nystrom" => CurvatureConfig::Nystrom(NystromConfig { sketch_size: SKETCH, probes: Some(0), ..Default::default() }),
        "dense" => CurvatureConfig::Dense(DenseConfig { max_bytes: MATRIX_BYTES }),
        other => CurvatureConfig::default_of(other).unwrap(),
    };
    config.build(d, Key::new(1))
}

/// A Λ' that the family takes.
fn known_for(approximation: &dyn Approximation) -> KnownCurvature {
    let d = approximation.dim();
    let known = KnownCurvature::scalar(d, 1e-2).unwrap();
    match approximation.inverse(&known) {
        Err(Error::Unsupported { .. }) => KnownCurvature::scalar(d, 0.0).unwrap(),
        _ => known,
    }
}

/// Every family solves with its own F̂; where that is F (few enough samples that a sketch holds their rank), it equals the dense solve.
fn check_answers() {
    let case = random_kronecker(Key::new(2), SKETCH / 3, 65, CLASSES, 1);
    let d = case.block.dim();
    let b = Key::new(3).stream().normals(d);
    for (family, _) in CurvatureConfig::REGISTRY {
        let mut curvature = build(family, d, 1024).unwrap();
        curvature.absorb(&case.block).unwrap();
        let approximation = curvature.approximate().unwrap();
        let known = known_for(approximation.as_ref());
        let x = approximation.solve(&known, &b).unwrap();
        let mut product = approximation.apply(&x).unwrap();
        axpy(1.0, &known.apply(&x).unwrap(), &mut product);
        let residual = relative_error(&product, &b);
        println!("{family}, residual at d = {d}: {residual:.1e}");
        assert!(residual < 1e-8, "{family}: {residual:e}");
        if ["window", "nystrom", "dense"].contains(family) {
            let error = relative_error(&x, &dense_solve(&fisher(&[&case]), &known, &b));
            println!("{family} against the dense solve at d = {d}: {error:.1e}");
            assert!(error < 1e-8, "{family}: {error:e}");
        }
    }
}

/// Useful flops of absorbing, approximating, solving once, and applying an inverse that is factorized; 0 for what moves memory, or whose
/// work is the decomposition of a small matrix.
fn flops(family: &str, shape: &Shape) -> [f64; 4] {
    let (n, p, l) = (shape.samples as f64, shape.inputs as f64, SKETCH as f64);
    let c = CLASSES as f64;
    let d = p * c;
    let low_rank = [l * l * d + 4.0 * l * d, 4.0 * l * d];
    match family {
        "window" => [0.0, 0.0, n * n * (p + c) + n * n * n / 3.0 + 4.0 * n * d, 4.0 * n * d],
        "nystrom" => [4.0 * n * d * l, 10.0 * d * l * l, low_rank[0], low_rank[1]],
        // Shrinks of at most 3ℓ rows: GBᵀ and the rotation for stored directions, the rows' own Gram matrix from their factors.
        "frequent-directions" | "robust-frequent-directions" => {
            let shrinks = (n / (3.0 * l)).ceil();
            let absorb = 4.0 * n * d * l + shrinks * 3.0 * d * l * l + n * n / shrinks * (p + c);
            [absorb, 3.0 * d * l * l, low_rank[0], low_rank[1]]
        }
        "diagonal" => [2.0 * n * d, 0.0, 0.0, 0.0],
        "kfac" => [n * (p * p + c * c), 0.0, (p.powi(3) + c.powi(3)) / 3.0, 2.0 * d * (p + c)],
        "dense" => [n * p * p * c * (c + 1.0), 0.0, d * d * d / 3.0, 2.0 * d * d],
        "rank-one" | "rank-one-smoothed" => [6.0 * n * d * d, 0.0, 2.0 * d * d, 2.0 * d * d],
        _ => [0.0; 4],
    }
}

fn curvature(criterion: &mut Criterion) {
    check_answers();
    let peak = Peak::measure();
    for shape in &SHAPES {
        let block = random_kronecker(Key::new(4), shape.samples, shape.inputs, CLASSES, 1).block;
        let d = block.dim();
        let b = Key::new(5).stream().normals(d);
        let mut group = criterion.benchmark_group(shape.name);
        for (family, _) in CurvatureConfig::REGISTRY {
            let mut curvature = match build(family, d, shape.samples) {
                Ok(curvature) => curvature,
                Err(refusal) => {
                    println!("{}, {family}: left out: {refusal}", shape.name);
                    continue;
                }
            };
            let begun = Instant::now();
            curvature.absorb(&block).unwrap();
            if begun.elapsed() > PATIENCE {
                println!("{}, {family}: left out: a block takes {:.1} s", shape.name, begun.elapsed().as_secs_f64());
                continue;
            }
            let approximation = curvature.approximate().unwrap();
            let known = known_for(approximation.as_ref());
            let inverse = approximation.inverse(&known).unwrap();
            let [absorb, approximate, solve, apply] = flops(family, shape);
            let name = |operation: &str| format!("{}, {family} {operation}", shape.name);
            let mut absorbing = curvature.boxed_clone();
            peak.report(&name("absorb"), absorb, || absorbing.absorb(&block).unwrap());
            peak.report(&name("approximate"), approximate, || curvature.approximate().unwrap());
            peak.report(&name("solve, factorized anew"), solve, || approximation.solve(&known, &b).unwrap());
            peak.report(&name("solve, factorized before"), apply, || inverse.apply(&b).unwrap());

            group.bench_function(format!("{family}/absorb"), |bench| bench.iter(|| absorbing.absorb(black_box(&block)).unwrap()));
            group.bench_function(format!("{family}/approximate"), |bench| bench.iter(|| curvature.approximate().unwrap()));
            group.bench_function(format!("{family}/solve"), |bench| {
                bench.iter(|| approximation.solve(&known, black_box(&b)).unwrap());
            });
        }
        group.finish();
    }
}

/// The stream that the sketches are measured on: d, ℓ, rows of a block, and blocks absorbed before the answers are checked.
const STREAM: (usize, usize, usize, usize) = (100_000, 128, 256, 3);
/// Times that an absorbed block is measured.
const ROUNDS: usize = 15;

/// Rows a second of the two sketches of a stream of stored rows, beside the products of the same moment. A row of `nystrom` is 4dℓ useful
/// operations, of `frequent-directions` d(4ℓ + b + 3ℓ²/b) in blocks of b.
fn throughput(_: &mut Criterion) {
    let (d, l, b, count) = STREAM;
    // Two shared directions above the noise, so that neither spectrum nor bound is trivial.
    let block = |i: u64| {
        let mut rows = short_normals(Key::new(6).child(i), d, b);
        let shared = short_normals(Key::new(7), d, 2);
        matmul_add(&mut rows, 1.0, &shared, &short_normals(Key::new(8).child(i), 2, b)).unwrap();
        GradientBlock::from(DenseRows::new(rows, 1).unwrap())
    };
    let blocks: Vec<_> = (0..count as u64).map(block).collect();
    let empty = |test_matrix| {
        let config = NystromConfig { sketch_size: l, test_matrix, probes: Some(0) };
        Nystrom::new(d, &config, Key::new(1)).unwrap()
    };
    let (mut nystrom, mut signs) = (empty(TestMatrix::Gaussian), empty(TestMatrix::Sign));
    let config = FrequentDirectionsConfig { sketch_size: l, ..Default::default() };
    let mut directions = FrequentDirections::new(d, &config, Key::new(1)).unwrap();
    for block in &blocks {
        nystrom.absorb(block).unwrap();
        signs.absorb(block).unwrap();
        directions.absorb(block).unwrap();
    }
    check_nystrom(&nystrom, &blocks);
    check_nystrom(&signs, &blocks);
    check_directions(&directions, &blocks);

    let (n, wide, long) = (b as f64, d as f64, l as f64);
    let report = |name: &str, flops: f64, curvature: &mut dyn Curvature| {
        let Beside { seconds, ratio, peak } = beside_peak(ROUNDS, flops, || curvature.absorb(black_box(&blocks[0])).unwrap());
        let (rate, gigaflops) = (n / seconds, peak / 1e9);
        println!("{name}, d = {d}, ℓ = {l}, blocks of {b}: {rate:.0} rows/s, {ratio:.2} of the gemm rate ({gigaflops:.0} GFLOP/s)");
        println!("    at a gemm rate of 100 GFLOP/s: {:.0} rows/s", n * 1e11 * ratio / flops);
        let mut other = curvature.boxed_clone();
        let [one, all] = in_turns(
            ROUNDS / 2,
            [&mut || par::with_threads(1, || curvature.absorb(&blocks[0]).unwrap()).unwrap(), &mut || {
                other.absorb(&blocks[0]).unwrap()
            }],
        );
        println!("    {} threads against one: {:.2}", par::threads(), one / all);
    };
    report("nystrom", 4.0 * n * wide * long, &mut nystrom);
    report("nystrom, signs", 4.0 * n * wide * long, &mut signs);
    report("frequent-directions", wide * (4.0 * long * n + n * n + 3.0 * long * long), &mut directions);

    let known = KnownCurvature::scalar(d, 1e-2).unwrap();
    let rhs = Key::new(10).stream().normals(d);
    let sketches: [(&str, f64, &dyn Curvature); 3] =
        [("nystrom", 10.0, &nystrom), ("nystrom, signs", 12.0, &signs), ("frequent-directions", 3.0, &directions)];
    for (name, products, curvature) in sketches {
        let flops = products * wide * long * long;
        let Beside { seconds, ratio, .. } = beside_peak(3, flops, || drop(black_box(curvature.approximate().unwrap())));
        println!("{name}, d = {d}, ℓ = {l}, approximate: {:.0} ms, {ratio:.2} of the gemm rate", 1e3 * seconds);
        let approximation = curvature.approximate().unwrap();
        let flops = wide * (long * long + 4.0 * long);
        let Beside { seconds, ratio, .. } = beside_peak(3, flops, || drop(black_box(approximation.solve(&known, &rhs).unwrap())));
        println!("{name}, d = {d}, ℓ = {l}, solve: {:.0} ms, {ratio:.2} of the gemm rate", 1e3 * seconds);
    }
}

/// Some entries of Y/n against Σ s (sᵀω)/n, term by term.
fn check_nystrom(nystrom: &Nystrom, blocks: &[GradientBlock]) {
    let rows: Vec<Matrix> = blocks.iter().map(|block| block.expand(0..block.rows()).unwrap()).collect();
    let (y, omega) = nystrom.sketch().unwrap();
    for j in [0, 1, 64, 127] {
        let places: Vec<usize> = (0..y.nrows()).step_by(1013).collect();
        let mut expected = vec![0.0; places.len()];
        for row in rows.iter().flat_map(|rows| (0..rows.ncols()).map(|i| rows.col(i))) {
            let product: f64 = row.iter().zip(omega.col(j)).map(|(s, w)| s * w).sum();
            expected.iter_mut().zip(&places).for_each(|(sum, &i)| *sum += row[i] * product / nystrom.mass());
        }
        let found: Vec<f64> = places.iter().map(|&i| y[(i, j)]).collect();
        let error = relative_error(&found, &expected);
        println!("nystrom, column {j} of the sketch against its definition: {error:.1e}");
        assert!(error < 1e-11, "{error:e}");
    }
}

/// ‖F − F̂‖ by power iteration, F applied row by row, against the bound Δ: not above it, nor the bound many times too large; and
/// (ℓ + 1)Δ ≤ tr(F − F̂).
fn check_directions(directions: &FrequentDirections, blocks: &[GradientBlock]) {
    let approximation = directions.approximate().unwrap();
    let interval = approximation.interval().unwrap();
    let mut x = Matrix::column(Key::new(9).stream().normals(directions.dim()));
    let mut value = 0.0;
    for _ in 0..40 {
        x.scale(1.0 / x.norm());
        let mut y = Matrix::zeros(directions.dim(), 1);
        for block in blocks {
            block.accumulate_into(&block.project(&x).unwrap(), &mut y).unwrap();
        }
        y.scale(1.0 / directions.mass());
        y.add_scaled(-1.0, &approximation.apply_columns(&x).unwrap()).unwrap();
        value = dot(x.as_slice(), y.as_slice());
        x = y;
    }
    let missing = directions.trace().unwrap() - approximation.trace();
    let share = missing / ((directions.sketch_size() + 1) as f64 * directions.lost());
    println!(
        "frequent-directions: ‖F − F̂‖ is {:.3} of its bound; the trace allows a bound {share:.3} times as large",
        value / interval.hi
    );
    assert!(value <= interval.hi && value >= 0.2 * interval.hi, "{value:e}, {interval:?}");
    assert!(share >= 1.0, "{share}");
}

fn short() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500))
}

criterion_group! { name = benches; config = short(); targets = throughput, curvature }
criterion_main!(benches);
