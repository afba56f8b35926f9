//! Gradient blocks beyond the suite that every form passes (`testkit/gradient_block.rs`): rows of random shapes and scales, degenerate
//! factors, and every way to be refused, by name.

mod support;

use nhgd::dense::Matrix;
use nhgd::gradient::{DenseRows, GradientBlock, KroneckerRows};
use nhgd::rng::Key;
use nhgd::testkit;
use proptest::prelude::*;
use support::{Case, dense_case, kronecker_case, random_dense, random_kronecker, refused, relative_error, short_normals};

fn check(case: &Case, key: Key) {
    testkit::gradient_block("rows", &case.block, &case.expanded, key).assert_passes();
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
            check(&kronecker_case(inputs.clone(), deltas.clone(), 2), key);
        }
        check(&dense_case(inputs.clone(), 1), key);
        check(&dense_case(inputs.clone(), 3), key);
    }
}

/// At shapes past the cuts of the stored form's single pass; norms in the entries' own order of summation.
#[test]
fn products_with_norms_are_those_of_the_two_operations() {
    for case in [
        random_dense(Key::new(5), 150, 10, 2),
        random_dense(Key::new(5), 3, 9000, 1),
        random_dense(Key::new(5), 300, 700, 1),
        random_kronecker(Key::new(5), 40, 30, 5, 2),
    ] {
        for width in [0, 1, 17] {
            let omega = short_normals(Key::new(6), case.block.dim(), width);
            let (product, squares) = case.block.project_with_norms(&omega).unwrap();
            let expected = Matrix::from_fn(case.expanded.nrows(), width, |i, j| {
                (0..omega.nrows()).map(|k| case.expanded[(i, k)] * omega[(k, j)]).sum()
            });
            assert!(relative_error(product.as_slice(), expected.as_slice()) < 1e-12);
            let row = |i: usize| (0..case.expanded.ncols()).map(|k| case.expanded[(i, k)].powi(2)).sum();
            let expected: Vec<f64> = (0..case.expanded.nrows()).map(row).collect();
            assert!(relative_error(&squares, &expected) < 1e-12);
        }
    }
}

#[test]
fn a_pass_over_rows_that_are_not_finite_or_overflow_is_refused() {
    let case = random_dense(Key::new(5), 3, 5000, 1);
    for (factor, what) in [(f64::INFINITY, "gradient rows"), (1e200, "squared norms of gradient rows")] {
        let mut block = case.block.clone();
        block.scale(factor);
        refused(block.project_with_norms(&short_normals(Key::new(6), 5000, 2)), what);
        refused(block.finite_squared_row_norms(), what);
    }
    refused(case.block.project_with_norms(&Matrix::zeros(4999, 2)), "omega");
    let mut omega = Matrix::zeros(5000, 2);
    omega[(4999, 1)] = f64::NAN;
    refused(case.block.project_with_norms(&omega), "omega");
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
}

#[test]
fn operands_that_do_not_fit_are_refused_by_name() {
    let zeros = Matrix::zeros;
    for block in [random_kronecker(Key::new(7), 3, 2, 2, 2).block, random_dense(Key::new(7), 3, 4, 2).block] {
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
            GradientBlock::Kronecker(_) | GradientBlock::Layered(_) => random_kronecker(Key::new(8), 3, 2, 2, 1).block,
        };
        refused(GradientBlock::stack(&[&block, &other_rows]), "rows per sample");

        let mut overflowing = block.clone();
        overflowing.scale(f64::INFINITY);
        assert!(overflowing.check_finite().is_err());
    }
    let (factored, stored) = (random_kronecker(Key::new(9), 3, 2, 2, 2).block, random_dense(Key::new(9), 3, 4, 2).block);
    refused(GradientBlock::stack(&[&factored, &stored]), "different forms");
    refused(GradientBlock::stack(&[&stored, &factored]), "different forms");
    refused(GradientBlock::stack(&[&factored, &random_kronecker(Key::new(9), 3, 4, 1, 2).block]), "input width");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn factored_rows_of_random_shape_equal_their_expansion(
        seed in any::<u64>(), samples in 1_usize..140, p in 1_usize..12, c in 1_usize..7, r in 1_usize..5, exponent in -100_i32..100,
    ) {
        let key = Key::new(seed);
        let mut deltas = short_normals(key.child(1), c, samples * r);
        deltas.scale(2.0_f64.powi(exponent));
        check(&kronecker_case(short_normals(key.child(0), p, samples), deltas, r), key);
    }

    #[test]
    fn stored_rows_of_random_shape_equal_their_expansion(
        seed in any::<u64>(), samples in 1_usize..140, d in 1_usize..70, r in 1_usize..5,
    ) {
        let key = Key::new(seed);
        check(&random_dense(key, samples, d, r), key);
    }
}

#[test]
fn expanded_rows_are_the_rows() {
    for samples in [1, 2, 63, 64, 65, 127] {
        for r in [1, 3] {
            let key = Key::new(31).child(samples as u64);
            for case in [random_kronecker(key, samples, 5, 4, r), random_dense(key, samples, 20, r)] {
                let rows = samples * r;
                for range in [0..rows, 0..1, rows - 1..rows, rows / 2..rows, rows..rows, 0..0] {
                    let found = case.block.expand(range.clone()).unwrap();
                    let expected = Matrix::from_fn(20, range.len(), |j, i| case.expanded[(range.start + i, j)]);
                    assert_eq!(found, expected, "{samples} samples, {range:?}");
                }
                refused(case.block.expand(0..rows + 1), "rows");
                #[expect(clippy::reversed_empty_ranges, reason = "a range that is wrong on purpose")]
                refused(case.block.expand(1..0), "rows");
            }
        }
    }
}
