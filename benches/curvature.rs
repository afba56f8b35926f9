//! Absorbing, approximating and solving of every registered family, at the shape of the embedded digits (65 inputs × 10 outputs, 128
//! samples) and of MNIST (785 × 10, 1024 samples; not for families that hold a d × d matrix).

mod rate;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use nhgd::curvature::{Approximation, Curvature, CurvatureConfig, DenseConfig, NystromConfig, WindowConfig};
use nhgd::dense::axpy;
use nhgd::inverse::KnownCurvature;
use nhgd::operator::LinearOperator;
use nhgd::rng::Key;
use nhgd::{Error, Result};
use rate::Peak;
use rate::support::{dense_solve, fisher, random_kronecker, relative_error};

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

/// Useful flops of absorbing, approximating, solving once, and applying an inverse that is factorized.
fn flops(family: &str, shape: &Shape) -> [f64; 4] {
    let (n, p, l) = (shape.samples as f64, shape.inputs as f64, SKETCH as f64);
    let c = CLASSES as f64;
    let d = p * c;
    match family {
        "window" => [0.0, 0.0, n * n * (p + c) + n * n * n / 3.0 + 4.0 * n * d, 4.0 * n * d],
        "nystrom" => [4.0 * n * d * l, 8.0 * d * l * l, l * l * d + 4.0 * l * d, 4.0 * l * d],
        "dense" => [n * p * p * c * (c + 1.0), 0.0, d * d * d / 3.0, 2.0 * d * d],
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

fn short() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500))
}

criterion_group! { name = benches; config = short(); targets = curvature }
criterion_main!(benches);
