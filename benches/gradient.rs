//! Operations of a factored gradient block at the MNIST shape (784 features, 10 classes), against the same rows expanded.

mod rate;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use nhgd::dense::{gram, matmul, matmul_add};
use nhgd::par;
use nhgd::rng::Key;
use rate::Peak;
use rate::support::{dense_case, random_kronecker, relative_error, short_normals};

const SAMPLES: usize = 256;
const FEATURES: usize = 784;
const CLASSES: usize = 10;
const SKETCH: usize = 64;

fn gradient(criterion: &mut Criterion) {
    let factored = random_kronecker(Key::new(1), SAMPLES, FEATURES, CLASSES, 1);
    let expanded = dense_case(factored.expanded.clone(), 1).block;
    let factored = factored.block;
    let d = factored.dim();
    let (omega, coefficients) = (short_normals(Key::new(2), d, SKETCH), short_normals(Key::new(3), SAMPLES, SKETCH));

    // The answers first.
    let agree = |a: nhgd::dense::Matrix, b: nhgd::dense::Matrix| assert!(relative_error(a.as_slice(), b.as_slice()) < 1e-12);
    agree(factored.gram().unwrap(), expanded.gram().unwrap());
    agree(factored.project(&omega).unwrap(), expanded.project(&omega).unwrap());
    agree(factored.accumulate(&coefficients).unwrap(), expanded.accumulate(&coefficients).unwrap());

    let peak = Peak::measure();
    let (n, width) = (SAMPLES as f64, (FEATURES + CLASSES) as f64);
    let sketched = 2.0 * n * d as f64 * SKETCH as f64;
    let fast = peak.report("gram, factored", n * n * width, || factored.gram().unwrap());
    let slow = peak.report("gram, expanded", n * n * d as f64, || expanded.gram().unwrap());
    println!("gram: factored is {:.1} times faster than expanded", slow / fast);
    // 7840/794 = 9.9 times fewer flops. On one thread: the expanded one has ten times the work to share, and shares it better.
    par::with_threads(1, || {
        let fast = peak.report("gram, factored, one thread", n * n * width, || factored.gram().unwrap());
        let slow = peak.report("gram, expanded, one thread", n * n * d as f64, || expanded.gram().unwrap());
        println!("gram, one thread: factored is {:.1} times faster than expanded", slow / fast);
        assert!(slow / fast >= 8.0, "the factored Gram matrix is only {:.1} times faster", slow / fast);
    })
    .unwrap();
    peak.report("project, factored", sketched, || factored.project(&omega).unwrap());
    peak.report("project, expanded", sketched, || expanded.project(&omega).unwrap());
    peak.report("accumulate, factored", sketched, || factored.accumulate(&coefficients).unwrap());
    peak.report("accumulate, expanded", sketched, || expanded.accumulate(&coefficients).unwrap());

    let mut group = criterion.benchmark_group("gradient");
    for (name, block) in [("factored", &factored), ("expanded", &expanded)] {
        group.bench_function(format!("gram/{name}"), |b| b.iter(|| black_box(block).gram().unwrap()));
        group.bench_function(format!("project/{name}"), |b| b.iter(|| black_box(block).project(&omega).unwrap()));
        group.bench_function(format!("accumulate/{name}"), |b| b.iter(|| black_box(block).accumulate(&coefficients).unwrap()));
    }
    group.finish();
}

/// `exp` after a product, which may leave the vector registers in a state that slows it tens of times on x86: the least of many times.
fn functions_after_products(_: &mut Criterion) {
    let (square, numbers) = (short_normals(Key::new(4), 128, 128), short_normals(Key::new(5), 256, 1));
    let (tall, narrow) = (short_normals(Key::new(6), 4000, 8), short_normals(Key::new(7), 8, 8));
    let time = |first: &(dyn Fn() + Sync)| {
        let once = |_| {
            first();
            let start = Instant::now();
            black_box(numbers.as_slice().iter().map(|x| x.exp()).sum::<f64>());
            start.elapsed().as_secs_f64()
        };
        (0..200).map(once).fold(f64::INFINITY, f64::min)
    };
    let before = time(&|| ());
    let add_tall = || drop(matmul_add(&mut tall.clone(), 1.0, &tall, &narrow));
    let products: [(&str, &(dyn Fn() + Sync)); 3] =
        [("matmul", &|| drop(matmul(&square, &square))), ("gram", &|| drop(gram(&square))), ("tall matmul_add", &add_tall)];
    for (name, product) in products {
        let after = par::with_threads(1, || time(product)).unwrap();
        println!("256 times exp: {:.2} µs, after {name} {:.2} µs", 1e6 * before, 1e6 * after);
        assert!(after < 6.0 * before, "{after:e} s after {name}, {before:e} s before");
    }
}

fn short() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500))
}

criterion_group! { name = benches; config = short(); targets = gradient, functions_after_products }
criterion_main!(benches);
