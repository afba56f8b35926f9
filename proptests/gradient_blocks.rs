//! Every operation of a gradient block against a matrix G that the test expands itself, for factored, layered and stored rows, at
//! sizes astride the block sizes.

mod support;

use nhgd::dense::Matrix;
use nhgd::gradient::{DenseRows, GradientBlock, KroneckerRows, LayeredRows};
use nhgd::par;
use nhgd::rng::Key;
use proptest::prelude::*;
use support::{
    Case, dense_case, kronecker_case, layered_case, random_dense, random_kronecker, random_layered, refused, short_normals,
};

const SIZES: [usize; 6] = [1, 2, 63, 64, 65, 127];

/// A B by the triple loop.
fn product(a: &Matrix, b: &Matrix) -> Matrix {
    Matrix::from_fn(a.nrows(), b.ncols(), |i, j| (0..a.ncols()).map(|k| a[(i, k)] * b[(k, j)]).sum())
}

fn transposed(a: &Matrix) -> Matrix {
    Matrix::from_fn(a.ncols(), a.nrows(), |i, j| a[(j, i)])
}

/// Checks entry by entry, to `1e-13 · scale`.
#[track_caller]
fn close(what: &str, found: &Matrix, expected: &Matrix, scale: f64) {
    assert_eq!((found.nrows(), found.ncols()), (expected.nrows(), expected.ncols()), "{what}: shape");
    for (f, e) in found.as_slice().iter().zip(expected.as_slice()) {
        assert!((f - e).abs() <= 1e-13 * scale, "{what}: found {f}, expected {e}, scale {scale}");
    }
}

/// All operations that return numbers, in one list: for comparing bits.
fn everything(block: &GradientBlock, key: Key, width: usize) -> Vec<Matrix> {
    let (d, rows) = (block.dim(), block.rows());
    let (omega, coefficients) = (short_normals(key.child(1), d, width), short_normals(key.child(2), rows, width));
    let diagonal: Vec<f64> = key.child(3).stream().normals(d).iter().map(|x| x.abs() + 0.1).collect();
    let mut accumulated = short_normals(key.child(4), d, width);
    block.accumulate_into(&coefficients, &mut accumulated).unwrap();
    vec![
        block.project(&omega).unwrap(),
        block.accumulate(&coefficients).unwrap(),
        accumulated,
        block.gram().unwrap(),
        block.gram_with(&diagonal).unwrap(),
        block.scatter().unwrap(),
        Matrix::column(block.squared_row_norms()),
        Matrix::column(block.squared_column_norms()),
        block.cross_gram(&block.last_samples(block.samples().div_ceil(3))).unwrap(),
    ]
}

/// The same list, from the expanded G.
fn everything_expanded(g: &Matrix, samples: usize, key: Key, width: usize) -> Vec<Matrix> {
    let (rows, d) = (g.nrows(), g.ncols());
    let (omega, coefficients) = (short_normals(key.child(1), d, width), short_normals(key.child(2), rows, width));
    let diagonal: Vec<f64> = key.child(3).stream().normals(d).iter().map(|x| x.abs() + 0.1).collect();
    let start = short_normals(key.child(4), d, width);
    let gt = transposed(g);
    let back = product(&gt, &coefficients);
    let scaled = Matrix::from_fn(d, rows, |i, j| diagonal[i] * g[(j, i)]);
    let last = samples.div_ceil(3) * rows / samples;
    let tail = Matrix::from_fn(d, last, |i, j| g[(rows - last + j, i)]);
    vec![
        product(g, &omega),
        back.clone(),
        Matrix::from_fn(d, width, |i, j| start[(i, j)] + back[(i, j)]),
        product(g, &gt),
        product(g, &scaled),
        product(&gt, g),
        Matrix::column((0..rows).map(|i| (0..d).map(|j| g[(i, j)] * g[(i, j)]).sum()).collect()),
        Matrix::column((0..d).map(|j| (0..rows).map(|i| g[(i, j)] * g[(i, j)]).sum()).collect()),
        product(g, &tail),
    ]
}

const OPERATIONS: [&str; 9] = [
    "project",
    "accumulate",
    "accumulate_into",
    "gram",
    "gram_with",
    "scatter",
    "squared_row_norms",
    "squared_column_norms",
    "cross_gram",
];

/// A bound for the sums of magnitudes that the entries of an operation are made of.
fn scales(g: &Matrix) -> [f64; 9] {
    let n = g.norm();
    // Test vectors are normal: their columns have norms near √size; 10 covers the tails.
    let (down, up) = (10.0 * n * (g.ncols() as f64).sqrt(), 10.0 * n * (g.nrows() as f64).sqrt());
    [down, up, up + 10.0, n * n, 5.0 * n * n, n * n, n * n, n * n, n * n]
}

fn check(case: &Case, key: Key, width: usize) {
    let (block, g) = (&case.block, &case.expanded);
    assert_eq!((block.samples(), block.rows(), block.dim()), (case.samples, g.nrows(), g.ncols()));
    let (found, expected) = (everything(block, key, width), everything_expanded(g, case.samples, key, width));
    for (k, name) in OPERATIONS.iter().enumerate() {
        close(name, &found[k], &expected[k], scales(g)[k]);
    }
    for symmetric in [3, 5] {
        assert_eq!(found[symmetric], transposed(&found[symmetric]), "{} is symmetric to the bit", OPERATIONS[symmetric]);
    }

    let r = g.nrows() / case.samples;
    for count in [1, case.samples.div_ceil(2), case.samples, case.samples + 5] {
        let kept = block.last_samples(count);
        let first = (case.samples - count.min(case.samples)) * r;
        let tail = Matrix::from_fn(g.nrows() - first, g.ncols(), |i, j| g[(first + i, j)]);
        assert_eq!(kept.samples(), count.min(case.samples));
        close("last_samples", &expand(&kept), &tail, tail.norm());
    }

    for range in [0..1, case.samples / 3..case.samples / 2 + 1, 1..case.samples + 3, case.samples - 1..case.samples] {
        let kept = block.part(range.clone());
        let (start, end) = (range.start.min(case.samples) * r, range.end.min(case.samples) * r);
        assert_eq!(kept.rows(), end - start);
        if end > start {
            let part = Matrix::from_fn(end - start, g.ncols(), |i, j| g[(start + i, j)]);
            close("part", &expand(&kept), &part, part.norm());
        }
    }
    // Across forms: with stored rows either way.
    let stored = dense_case(Matrix::from_fn(3, g.ncols(), |i, j| g[(i % g.nrows(), j)] - 0.5), 1);
    let (left, right) = (block.cross_gram(&stored.block).unwrap(), stored.block.cross_gram(block).unwrap());
    let across = product(g, &transposed(&stored.expanded));
    close("cross_gram", &left, &across, g.norm() * stored.expanded.norm());
    close("cross_gram", &transposed(&right), &across, g.norm() * stored.expanded.norm());

    let mut scaled = block.clone();
    scaled.scale(-0.5);
    close("scale", &expand(&scaled), &Matrix::from_fn(g.nrows(), g.ncols(), |i, j| -0.5 * g[(i, j)]), g.norm());

    let last = block.last_samples(1);
    let stacked = GradientBlock::stack(&[&last, block, &scaled]).unwrap();
    let n = g.nrows();
    let below = Matrix::from_fn(r + 2 * n, g.ncols(), |i, j| match i {
        i if i < r => g[(n - r + i, j)],
        i if i < r + n => g[(i - r, j)],
        i => -0.5 * g[(i - r - n, j)],
    });
    assert_eq!(stacked.samples(), 1 + 2 * case.samples);
    close("stack", &expand(&stacked), &below, g.norm());
    assert_eq!(stacked.bytes(), last.bytes() + 2 * block.bytes());
}

/// G as the block's public factors say, expanded here.
fn expand(block: &GradientBlock) -> Matrix {
    match block {
        GradientBlock::Dense(rows) => transposed(rows.transposed()),
        GradientBlock::Kronecker(rows) => {
            let (x, delta, r) = (rows.inputs(), rows.deltas(), block.rows() / block.samples());
            let p = x.nrows();
            Matrix::from_fn(block.rows(), p * delta.nrows(), |i, c| x[(c % p, i / r)] * delta[(c / p, i)])
        }
        GradientBlock::Layered(rows) => {
            let layers = rows.layers().iter().map(|layer| expand(&layer.clone().into()));
            let data = layers.flat_map(Matrix::into_vec).collect();
            Matrix::from_columns(block.rows(), block.dim(), data).unwrap()
        }
    }
}

#[test]
fn factored_rows_equal_their_expansion_at_every_size() {
    for (s, &samples) in SIZES.iter().enumerate() {
        for (p, c) in [(1, 1), (3, 1), (1, 4), (7, 3), (20, 5)] {
            for r in [1, 2, c] {
                let key = Key::new(1).child(s as u64).child((p * 10 + c) as u64).child(r as u64);
                check(&random_kronecker(key, samples, p, c, r), key, [1, 3, 65][(s + p) % 3]);
            }
        }
    }
}

#[test]
fn layered_rows_equal_their_expansion_at_every_size() {
    for (s, &samples) in SIZES.iter().enumerate() {
        for (k, shapes) in [&[(3, 2)][..], &[(1, 1), (1, 1)], &[(7, 3), (4, 5)], &[(2, 6), (7, 1), (2, 4)]].into_iter().enumerate()
        {
            for r in [1, 2, 5] {
                let key = Key::new(11).child(s as u64).child(k as u64).child(r as u64);
                check(&random_layered(key, samples, shapes, r), key, [1, 3, 65][(s + k) % 3]);
            }
        }
    }
}

#[test]
fn wide_sketches_of_factored_and_stored_rows_equal_their_expansion() {
    for &samples in &SIZES {
        for width in [1, 3, 65] {
            let key = Key::new(2).child(samples as u64);
            check(&random_kronecker(key, samples, 5, 3, 3), key, width);
            check(&random_dense(key, samples, 15, 2), key, width);
            check(&random_layered(key, samples, &[(4, 3), (4, 2)], 2), key, width);
        }
    }
}

#[test]
fn stored_rows_equal_their_expansion_at_every_size() {
    for &samples in &SIZES {
        for d in [1, 2, 63, 65] {
            for r in [1, 2, 5] {
                let key = Key::new(3).child(samples as u64).child((d * 10 + r) as u64);
                check(&random_dense(key, samples, d, r), key, 3);
            }
        }
    }
}

/// Zero rows, zero inputs, one row many times, inputs on one line.
#[test]
fn degenerate_rows_equal_their_expansion() {
    let key = Key::new(4);
    let (x, delta) = (short_normals(key.child(0), 6, 65), short_normals(key.child(1), 4, 130));
    let zero_deltas = Matrix::from_fn(4, 130, |i, j| if j % 3 == 0 { 0.0 } else { delta[(i, j)] });
    let zero_inputs = Matrix::from_fn(6, 65, |i, j| if j < 40 { 0.0 } else { x[(i, j)] });
    let one_input = Matrix::from_fn(6, 65, |i, _| x[(i, 0)]);
    let line = Matrix::from_fn(6, 65, |i, j| x[(i, 0)] * f64::from(j as u32));
    for inputs in [&x, &zero_inputs, &one_input, &line, &Matrix::zeros(6, 65)] {
        for deltas in [&delta, &zero_deltas, &Matrix::zeros(4, 130)] {
            check(&kronecker_case(inputs.clone(), deltas.clone(), 2), key, 3);
            // A dead layer before and behind one that is alive.
            let dead = (Matrix::zeros(2, 65), Matrix::zeros(3, 130));
            let layers = vec![dead.clone(), (inputs.clone(), deltas.clone()), dead];
            check(&layered_case(layers, 2), key, 3);
        }
        check(&dense_case(inputs.clone(), 1), key, 3);
        check(&dense_case(inputs.clone(), 3), key, 3);
    }
}

/// One block of each form: 3 samples, 6 rows, d = 4.
fn small_blocks(key: Key) -> [GradientBlock; 3] {
    let layered = random_layered(key, 3, &[(2, 1), (1, 2)], 2);
    [random_kronecker(key, 3, 2, 2, 2).block, random_dense(key, 3, 4, 2).block, layered.block]
}

#[test]
fn a_sketch_without_columns_is_empty_and_no_panic() {
    for block in small_blocks(Key::new(5)) {
        let projected = block.project(&Matrix::zeros(4, 0)).unwrap();
        assert_eq!((projected.nrows(), projected.ncols()), (6, 0));
        let accumulated = block.accumulate(&Matrix::zeros(6, 0)).unwrap();
        assert_eq!((accumulated.nrows(), accumulated.ncols()), (4, 0));
    }
}

/// Sizes past every cut: 128 samples of a projection, 256 rows or columns of a product.
#[test]
fn every_operation_has_the_same_bits_at_every_thread_count() {
    let key = Key::new(6);
    let layered = random_layered(key, 301, &[(33, 10), (11, 8), (9, 3)], 2);
    for block in [random_kronecker(key, 301, 33, 10, 2).block, random_dense(key, 290, 310, 2).block, layered.block] {
        let reference = par::with_threads(1, || everything(&block, key, 65)).unwrap();
        for threads in [2, 4] {
            let found = par::with_threads(threads, || everything(&block, key, 65)).unwrap();
            for (k, name) in OPERATIONS.iter().enumerate() {
                let bits = |m: &Matrix| m.as_slice().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert!(bits(&found[k]) == bits(&reference[k]), "{name} at {threads} threads");
            }
        }
    }
}

#[test]
fn bad_constructions_are_refused_by_name() {
    let zeros = Matrix::zeros;
    refused(DenseRows::new(zeros(0, 3), 1), "dimension");
    refused(DenseRows::new(zeros(3, 0), 1), "rows_per_sample");
    refused(DenseRows::new(zeros(3, 4), 0), "rows_per_sample");
    refused(DenseRows::new(zeros(3, 4), 3), "rows_per_sample");
    refused(KroneckerRows::new(zeros(0, 2), zeros(3, 2), 1), "input width");
    refused(KroneckerRows::new(zeros(3, 2), zeros(0, 2), 1), "output width");
    refused(KroneckerRows::new(zeros(3, 0), zeros(3, 0), 1), "rows_per_sample");
    refused(KroneckerRows::new(zeros(3, 2), zeros(3, 2), 0), "rows_per_sample");
    refused(KroneckerRows::new(zeros(3, 2), zeros(3, 5), 2), "rows_per_sample");
    refused(KroneckerRows::new(zeros(3, 2), zeros(3, 3), 1), "inputs");
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut poisoned = Matrix::identity(3);
        poisoned[(2, 1)] = bad;
        refused(DenseRows::new(poisoned.clone(), 1), "gradient rows");
        refused(KroneckerRows::new(poisoned.clone(), zeros(2, 3), 1), "gradient inputs");
        refused(KroneckerRows::new(zeros(2, 3), poisoned, 1), "gradient deltas");
    }
    let layer = |samples, r| KroneckerRows::new(zeros(2, samples), zeros(3, samples * r), r).unwrap();
    refused(LayeredRows::new(Vec::new()), "layers");
    refused(LayeredRows::new(vec![layer(4, 1), layer(5, 1)]), "layer samples");
    refused(LayeredRows::new(vec![layer(4, 2), layer(4, 1)]), "layer rows");
    refused(LayeredRows::new(vec![layer(2, 2), layer(4, 1)]), "layer samples");
}

#[test]
fn operands_that_do_not_fit_are_refused_by_name() {
    let zeros = Matrix::zeros;
    for block in small_blocks(Key::new(7)) {
        refused(block.project(&zeros(3, 1)), "omega");
        refused(block.accumulate(&zeros(3, 1)), "coefficients");
        refused(block.accumulate_into(&zeros(6, 2), &mut zeros(4, 1)), "y");
        refused(block.accumulate_into(&zeros(6, 2), &mut zeros(5, 2)), "y");
        refused(block.gram_with(&[1.0; 3]), "diagonal");
        refused(block.gram_with(&[1.0, f64::NAN, 1.0, 1.0]), "diagonal");

        refused(GradientBlock::stack(&[]), "blocks");
        refused(GradientBlock::stack(&[&block, &random_dense(Key::new(8), 3, 5, 2).block]), "block dimension");
        let other_rows = match &block {
            GradientBlock::Dense(_) => random_dense(Key::new(8), 3, 4, 1).block,
            GradientBlock::Kronecker(_) => random_kronecker(Key::new(8), 3, 2, 2, 1).block,
            GradientBlock::Layered(_) => random_layered(Key::new(8), 3, &[(2, 1), (1, 2)], 1).block,
        };
        refused(GradientBlock::stack(&[&block, &other_rows]), "rows per sample");

        let mut overflowing = block.clone();
        overflowing.scale(f64::INFINITY);
        assert!(overflowing.check_finite().is_err());
    }
    let [factored, stored, layered] = small_blocks(Key::new(9));
    for (one, other) in [(&factored, &stored), (&stored, &layered), (&layered, &factored)] {
        refused(GradientBlock::stack(&[one, other]), "different forms");
        refused(GradientBlock::stack(&[other, one]), "different forms");
    }
    // Stored rows meet any form; two factored forms do not meet.
    refused(factored.cross_gram(&layered), "different forms");
    refused(layered.cross_gram(&factored), "different forms");
    refused(layered.cross_gram(&random_layered(Key::new(9), 3, &[(2, 2)], 2).block), "layers");
    refused(layered.cross_gram(&random_layered(Key::new(9), 3, &[(1, 2), (2, 1)], 2).block), "input width");
    refused(layered.cross_gram(&random_layered(Key::new(9), 3, &[(2, 1), (1, 3)], 2).block), "block dimension");
    // As many weights in all, and as wide inputs, but other layers.
    let [narrow, wide] = [[(2, 1), (2, 2)], [(2, 2), (2, 1)]].map(|shapes| random_layered(Key::new(9), 3, &shapes, 2).block);
    refused(narrow.cross_gram(&wide), "output width");
    refused(GradientBlock::stack(&[&narrow, &wide]), "output width");
    refused(GradientBlock::stack(&[&layered, &random_layered(Key::new(9), 3, &[(2, 2)], 2).block]), "layers");
    refused(GradientBlock::stack(&[&layered, &random_layered(Key::new(9), 3, &[(1, 2), (2, 1)], 2).block]), "input width");
    refused(GradientBlock::stack(&[&factored, &random_kronecker(Key::new(9), 3, 4, 1, 2).block]), "input width");
}

/// The negative case: the comparison must see a wrong flattening order, and rows that are out of order.
#[test]
#[should_panic(expected = "project: found")]
fn another_flattening_order_is_noticed() {
    let mut case = random_kronecker(Key::new(10), 5, 3, 2, 1);
    case.expanded = Matrix::from_fn(5, 6, |i, c| case.expanded[(i, (c % 2) * 3 + c / 2)]);
    check(&case, Key::new(10), 3);
}

/// Nor may layers change places.
#[test]
#[should_panic(expected = "project: found")]
fn another_order_of_the_layers_is_noticed() {
    let mut case = random_layered(Key::new(10), 5, &[(3, 2), (3, 2)], 1);
    case.expanded = Matrix::from_fn(5, 12, |i, c| case.expanded[(i, (c + 6) % 12)]);
    check(&case, Key::new(10), 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn factored_rows_of_random_shape_equal_their_expansion(
        seed in any::<u64>(), samples in 1_usize..140, p in 1_usize..12, c in 1_usize..7, r in 1_usize..5, width in 1_usize..9,
        exponent in -100_i32..100,
    ) {
        let key = Key::new(seed);
        let mut deltas = short_normals(key.child(1), c, samples * r);
        deltas.scale(2.0_f64.powi(exponent));
        let case = kronecker_case(short_normals(key.child(0), p, samples), deltas, r);
        // The fixed start of `accumulate_into` would hide the sum at extreme scales: compare the operations that are homogeneous.
        let (found, expected) = (everything(&case.block, key, width), everything_expanded(&case.expanded, case.samples, key, width));
        for (k, name) in OPERATIONS.iter().enumerate() {
            close(name, &found[k], &expected[k], scales(&case.expanded)[k]);
        }
    }

    #[test]
    fn layered_rows_of_random_shape_equal_their_expansion(
        seed in any::<u64>(), samples in 1_usize..140, r in 1_usize..5, width in 1_usize..9,
        shapes in prop::collection::vec((1_usize..8, 1_usize..6), 1..4),
    ) {
        let key = Key::new(seed);
        check(&random_layered(key, samples, &shapes, r), key, width);
    }

    #[test]
    fn stored_rows_of_random_shape_equal_their_expansion(
        seed in any::<u64>(), samples in 1_usize..140, d in 1_usize..70, r in 1_usize..5, width in 1_usize..9,
    ) {
        let key = Key::new(seed);
        check(&random_dense(key, samples, d, r), key, width);
    }
}
