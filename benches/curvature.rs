//! Absorbing, approximating and solving of every family, at the shape of the embedded digits (65 inputs × 10 outputs, 128 samples)
//! and of MNIST (785 × 10, 1024 samples; not for `dense`).

mod rate;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use nhgd::curvature::{Curvature, CurvatureConfig, DenseConfig, NystromConfig, WindowConfig};
use nhgd::inverse::KnownCurvature;
use nhgd::rng::Key;
use rate::Peak;
use rate::support::{dense_solve, fisher, random_kronecker, relative_error};

const CLASSES: usize = 10;
/// ℓ.
const SKETCH: usize = 64;

struct Shape {
    name: &'static str,
    inputs: usize,
    samples: usize,
    families: &'static [&'static str],
}

const SHAPES: [Shape; 2] = [
    Shape { name: "digits", inputs: 65, samples: 128, families: &["window", "nystrom", "dense"] },
    Shape { name: "mnist", inputs: 785, samples: 1024, families: &["window", "nystrom"] },
];

fn build(family: &str, d: usize, samples: usize) -> Box<dyn Curvature> {
    let config = match family {
        "window" => CurvatureConfig::Window(WindowConfig { samples }),
        "nystrom" => CurvatureConfig::Nystrom(NystromConfig { sketch_size: SKETCH, probes: Some(0), ..Default::default() }),
        _ => CurvatureConfig::Dense(DenseConfig::default()),
    };
    config.build(d, Key::new(1)).unwrap()
}

/// Every family against the dense solve, with few enough samples that the sketch holds their rank.
fn check_answers() {
    let case = random_kronecker(Key::new(2), SKETCH / 3, 65, CLASSES, 1);
    let d = case.block.dim();
    let known = KnownCurvature::scalar(d, 1e-2).unwrap();
    let b = Key::new(3).stream().normals(d);
    let exact = dense_solve(&fisher(&[&case]), &known, &b);
    for family in SHAPES[0].families {
        let mut curvature = build(family, d, 1024);
        curvature.absorb(&case.block).unwrap();
        let error = relative_error(&curvature.approximate().unwrap().solve(&known, &b).unwrap(), &exact);
        println!("{family} against the dense solve at d = {d}: {error:.1e}");
        assert!(error < 1e-8, "{family}: {error:e}");
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
        _ => [n * p * p * c * (c + 1.0), 0.0, d * d * d / 3.0, 2.0 * d * d],
    }
}

fn curvature(criterion: &mut Criterion) {
    check_answers();
    let peak = Peak::measure();
    for shape in &SHAPES {
        let block = random_kronecker(Key::new(4), shape.samples, shape.inputs, CLASSES, 1).block;
        let d = block.dim();
        let known = KnownCurvature::scalar(d, 1e-2).unwrap();
        let b = Key::new(5).stream().normals(d);
        let mut group = criterion.benchmark_group(shape.name);
        for family in shape.families {
            let mut curvature = build(family, d, shape.samples);
            curvature.absorb(&block).unwrap();
            let approximation = curvature.approximate().unwrap();
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
