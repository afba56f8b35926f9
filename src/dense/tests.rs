//! Products and factorizations against the triple loop and each other, at sizes past every cut.

use super::factorizations::leading_sign;
use super::products::{CUT, INNER_CUT};
use super::tall::{PASS, RUN, TILE};
use super::vectors::SUM_BLOCK;
use super::*;
use crate::error::Error;
use crate::par;
use crate::rng::Key;

const SIZES: [usize; 6] = [1, 2, 63, 64, 65, 127];

fn random(key: u64, m: usize, n: usize) -> Matrix {
    Matrix::from_columns(m, n, Key::new(key).stream().normals(m * n)).unwrap()
}

fn naive(a: &Matrix, b: &Matrix) -> Matrix {
    Matrix::from_fn(a.nrows(), b.ncols(), |i, j| (0..a.ncols()).map(|k| a[(i, k)] * b[(k, j)]).sum())
}

fn distance(a: &Matrix, b: &Matrix) -> Real {
    assert_eq!((a.nrows(), a.ncols()), (b.nrows(), b.ncols()));
    norm(&difference(a.as_slice(), b.as_slice())) / a.norm().max(1e-300)
}

#[test]
fn products_of_every_orientation_equal_the_triple_loop() {
    for &m in &SIZES {
        for &k in &[1, 3, 64, 127] {
            for &n in &[1, 2, 65] {
                let (a, b) = (random(1, m, k), random(2, k, n));
                let expected = naive(&a, &b);
                assert!(distance(&expected, &matmul(&a, &b).unwrap()) < 1e-13);
                let (at, bt) = (a.t().to_matrix(), b.t().to_matrix());
                assert!(distance(&expected, &matmul(at.t(), &b).unwrap()) < 1e-13);
                assert!(distance(&expected, &matmul(&a, bt.t()).unwrap()) < 1e-13);
                let rows = m / 2..m;
                let part = matmul(a.rows(rows.clone()), &b).unwrap();
                assert!(distance(&expected.rows(rows).to_matrix(), &part) < 1e-13);
            }
        }
        assert!(distance(&naive(&random(3, m, 7), &random(3, m, 7).t().to_matrix()), &gram(&random(3, m, 7))) < 1e-13);
    }
}

/// Sizes past every cut: of tall matrices, of long sums, of their passes.
#[test]
fn tall_and_long_products_equal_the_triple_loop_with_the_same_bits_at_every_thread_count() {
    let (tall, start) = (random(1, 2 * RUN + TILE + 5, 5), random(2, 2 * RUN + TILE + 5, 7));
    let (wide, narrow, square) = (random(3, 5, 7), random(4, 5, 2), random(5, 5, 5));
    let (long, other) = (random(6, 2 * INNER_CUT + PASS + 3, CUT + 4), random(7, 2 * INNER_CUT + PASS + 3, 3));
    let run = || {
        let mut sum = start.clone();
        matmul_add(&mut sum, -2.0, &tall, &wide).unwrap();
        let in_place = [&wide, &narrow, &square, &Matrix::zeros(5, 0)].map(|b| {
            let mut a = tall.clone();
            matmul_in_place(&mut a, b).unwrap();
            a
        });
        (sum, in_place, matmul(long.t(), &other).unwrap(), matmul_and_squares(&long, &other).unwrap(), gram(long.t()))
    };
    let (sum, in_place, product, (again, squares), long_gram) = par::with_threads(1, run).unwrap();
    let mut expected = naive(&tall, &wide);
    expected.scale(-2.0);
    expected.add_scaled(1.0, &start).unwrap();
    assert!(distance(&expected, &sum) < 1e-14);
    for (found, b) in in_place.iter().zip([&wide, &narrow, &square, &Matrix::zeros(5, 0)]) {
        assert!(distance(&naive(&tall, b), found) < 1e-14);
    }
    let expected = naive(&long.t().to_matrix(), &other);
    assert!(distance(&expected, &product) < 1e-13 && distance(&expected, &again) < 1e-13);
    for (i, square) in squares.iter().enumerate() {
        let expected: Real = long.col(i).iter().map(|x| x * x).sum();
        assert!((square - expected).abs() < 1e-13 * expected);
        assert!((long_gram[(i, i)] - expected).abs() < 1e-13 * expected);
    }
    assert!(distance(&naive(&long.columns(0..2).t().to_matrix(), &long), &long_gram.rows(0..2).to_matrix()) < 1e-13);
    for threads in [2, 4] {
        assert_eq!(
            par::with_threads(threads, run).unwrap(),
            (sum.clone(), in_place.clone(), product.clone(), (again.clone(), squares.clone()), long_gram.clone())
        );
    }
    assert!(matmul_in_place(&mut tall.clone(), &Matrix::zeros(6, 2)).is_err());
    assert!(matmul_and_squares(&long, &tall).is_err());
}

/// A stored matrix in the place of one that is made.
struct Made(Matrix);

impl TallRows for Made {
    fn nrows(&self) -> usize {
        self.0.nrows()
    }

    fn ncols(&self) -> usize {
        self.0.ncols()
    }

    fn fill(&self, rows: std::ops::Range<usize>, tile: &mut Matrix) {
        tile.copy_rows(&self.0, rows);
    }
}

#[test]
fn products_that_are_measured_or_made_are_those_of_stored_matrices() {
    for rows in [1, 64, PASS + 1, RUN, 2 * RUN + TILE + 5, 2 * INNER_CUT + 3] {
        let (a, b, start) = (random(1, rows, 5), random(2, 5, 7), random(3, rows, 7));
        let run = || {
            let (mut sum, mut plain) = (start.clone(), start.clone());
            let square = matmul_add_and_square(&mut sum, -2.0, &a, &b).unwrap();
            matmul_add(&mut plain, -2.0, &a, &b).unwrap();
            (sum == plain, square, sum.norm(), rows_matmul_and_squares(&a, &Made(start.clone())).unwrap())
        };
        let (equal, square, norm, made) = par::with_threads(1, run).unwrap();
        assert!(equal && (square.sqrt() / norm - 1.0).abs() < 1e-14, "{rows} rows");
        assert_eq!(made, matmul_and_squares(&a, &start).unwrap(), "{rows} rows");
        for threads in [2, 4] {
            assert_eq!(par::with_threads(threads, run).unwrap(), (equal, square, norm, made.clone()), "{threads} threads");
        }
    }
    assert!(rows_matmul_and_squares(&random(1, 4, 2), &Made(random(2, 5, 2))).is_err());
    assert!(matmul_add_and_square(&mut random(1, 4, 2), 1.0, &random(2, 4, 3), &random(3, 2, 2)).is_err());
}

#[test]
fn runs_of_rows_are_handed_out_once_in_order_and_put_back() {
    for (rows, size) in [(1, 4), (4, 4), (7, 4), (8, 4), (11, 4), (1000, 64)] {
        let before = random(1, rows, 3);
        let mut after = before.clone();
        let ranges = each_run(&mut after, size, &|range, part| {
            assert_eq!(*part, before.rows(range.clone()).to_matrix());
            part.scale(2.0);
            range
        });
        assert!(ranges.iter().all(|range| range.start % size == 0 && range.len() < 2 * size), "{ranges:?}");
        assert_eq!(ranges.into_iter().flatten().collect::<Vec<_>>(), (0..rows).collect::<Vec<_>>());
        let doubled = Matrix::from_fn(rows, 3, |i, j| 2.0 * before[(i, j)]);
        assert_eq!(after, doubled);
    }
    let sum = |rows: usize| {
        sum_over_rows(rows, (1, 1), &|range, sum| {
            sum[(0, 0)] += range.map(|i| i as Real).sum::<Real>();
            Ok(())
        })
    };
    assert_eq!(sum(2 * INNER_CUT + 5).unwrap()[(0, 0)], (2 * INNER_CUT + 5) as Real * (2 * INNER_CUT + 4) as Real / 2.0);
    assert_eq!(sum(0).unwrap()[(0, 0)], 0.0);
}

/// A in runs: RᵀR = AᵀA for the triangle, and an orthonormal basis in whose space A lies, also where A has dependent columns.
#[test]
fn tall_factorizations_in_runs_are_those_of_the_whole_with_the_same_bits_at_every_thread_count() {
    for (rows, columns) in [(1_usize, 1_usize), (5, 5), (RUN, 3), (2 * RUN - 1, 7), (2 * RUN, 7), (7 * RUN + 11, 4), (9000, 60)] {
        for rank in [columns, columns.div_ceil(2)] {
            let a = naive(&random(1, rows, rank), &random(2, rank, columns));
            let run = || {
                let triangle = triangular_factor((rows, columns), &|range, part| {
                    part.copy_rows(&a, range);
                    Ok(())
                });
                let mut basis = a.clone();
                orthonormalize(&mut basis).unwrap();
                (triangle.unwrap(), basis)
            };
            let (triangle, basis) = par::with_threads(1, run).unwrap();
            assert!(distance(&gram(a.t()), &gram(triangle.t())) < 1e-13, "{rows} × {columns}");
            assert!((0..columns).all(|j| (j + 1..columns).all(|i| triangle[(i, j)] == 0.0)));
            assert!(distance(&Matrix::identity(columns), &gram(basis.t())) < 1e-13, "{rows} × {columns}");
            let again = matmul(&basis, &matmul(basis.t(), &a).unwrap()).unwrap();
            assert!(distance(&a, &again) < 1e-13, "{rows} × {columns}, rank {rank}");
            for threads in [2, 4] {
                assert_eq!(par::with_threads(threads, run).unwrap(), (triangle.clone(), basis.clone()));
            }
        }
    }
    let wide = triangular_factor((3, 5), &|range, part| {
        part.copy_rows(&random(3, 3, 5), range);
        Ok(())
    });
    assert_eq!((wide.as_ref().unwrap().nrows(), wide.unwrap().ncols()), (3, 5));
    let mut poisoned = random(4, 3 * RUN, 2);
    poisoned[(2 * RUN, 1)] = Real::NAN;
    assert!(matches!(orthonormalize(&mut poisoned.clone()), Err(Error::NotFinite { .. })));
    let refused = triangular_factor((3 * RUN, 2), &|range, part| {
        part.copy_rows(&poisoned, range);
        Ok(())
    });
    assert!(matches!(refused, Err(Error::NotFinite { .. })));
}

#[test]
fn rows_of_a_view_are_those_of_its_matrix() {
    let a = random(1, 9, 7);
    let part = a.columns(2..6).rows(3..5).to_matrix();
    assert_eq!(part, Matrix::from_fn(2, 4, |i, j| a[(3 + i, 2 + j)]));
    let transposed = a.columns(2..6).t().rows(1..3).to_matrix();
    assert_eq!(transposed, Matrix::from_fn(2, 9, |i, j| a[(j, 3 + i)]));
    assert_eq!((a.view().rows(9..9).nrows(), a.t().rows(2..2).nrows()), (0, 0));
    let mut copy = Matrix::zeros(20, 1);
    copy.copy_rows(&a, 4..6);
    assert_eq!(copy, a.rows(4..6).to_matrix());
}

#[test]
fn long_sums_are_those_of_their_blocks_and_have_the_same_bits_at_every_thread_count() {
    let (x, y) = (random(1, 3 * SUM_BLOCK + 11, 1), random(2, 3 * SUM_BLOCK + 11, 1));
    let run = || dot(x.as_slice(), y.as_slice());
    let reference = par::with_threads(1, run).unwrap();
    let mut exact = CompensatedSum::default();
    x.as_slice().iter().zip(y.as_slice()).for_each(|(x, y)| exact.add(x * y));
    assert!((reference - exact.value()).abs() < 1e-15 * x.norm() * y.norm());
    for threads in [2, 4] {
        assert_eq!(par::with_threads(threads, run).unwrap().to_bits(), reference.to_bits());
    }
}

#[test]
fn products_have_the_same_bits_at_every_thread_count() {
    let (a, b) = (random(1, 1030, 70), random(2, 70, 300));
    let run = || (matmul(&a, &b).unwrap(), gram(&a), matmul(b.t(), a.t()).unwrap());
    let reference = par::with_threads(1, run).unwrap();
    assert!(distance(&naive(&a, &a.t().to_matrix()), &reference.1) < 1e-13);
    for threads in [2, 4] {
        assert_eq!(par::with_threads(threads, run).unwrap(), reference);
    }
}

#[test]
fn rank_one_updates_are_outer_products_and_stay_symmetric_to_the_bit() {
    for &n in &SIZES {
        let (mut c, x) = (gram(&random(4, n, 3)), random(5, n, 1));
        let before = c.clone();
        rank_one_update(&mut c, 0.75, -1.5, x.as_slice());
        assert_eq!(c, c.t().to_matrix());
        let expected = Matrix::from_fn(n, n, |i, j| 0.75 * before[(i, j)] - 1.5 * x[(i, 0)] * x[(j, 0)]);
        assert!(distance(&expected, &c) < 1e-15);
        let run = || {
            let mut c = before.clone();
            rank_one_update(&mut c, 0.75, -1.5, x.as_slice());
            c
        };
        for threads in [1, 2, 4] {
            assert_eq!(par::with_threads(threads, run).unwrap(), c);
        }
    }
}

#[test]
fn factorizations_rebuild_their_matrix() {
    for &n in &SIZES {
        let a = random(n as u64, n + 3, n);
        let spd = gram(a.t());
        let x = random(9, n, 2);
        let mut solved = matmul(&spd, &x).unwrap();
        Cholesky::new(spd.clone()).unwrap().solve_in_place(&mut solved).unwrap();
        assert!(distance(&x, &solved) < 1e-6, "{n}");

        let e = eigh(&spd).unwrap();
        assert!(e.values.windows(2).all(|w| w[0] >= w[1]), "descending");
        let scaled = Matrix::from_fn(n, n, |i, j| e.vectors[(i, j)] * e.values[j]);
        assert!(distance(&spd, &matmul(&scaled, e.vectors.t()).unwrap()) < 1e-12);
        assert!(distance(&Matrix::identity(n), &gram(e.vectors.t())) < 1e-12);
        assert!((0..n).all(|j| leading_sign(e.vectors.col(j)) > 0.0));

        for matrix in [a.clone(), a.t().to_matrix()] {
            let s = svd(&matrix).unwrap();
            assert!(s.values.windows(2).all(|w| w[0] >= w[1]), "descending");
            let scaled = Matrix::from_fn(s.u.nrows(), n, |i, j| s.u[(i, j)] * s.values[j]);
            assert!(distance(&matrix, &matmul(&scaled, s.v.t()).unwrap()) < 1e-12);
            let (q, r) = qr(&matrix).unwrap();
            assert!(distance(&matrix, &matmul(&q, &r).unwrap()) < 1e-12);
            assert!(distance(&Matrix::identity(n), &gram(q.t())) < 1e-12);
            assert!((0..n).all(|i| r[(i, i)] >= 0.0));
        }
    }
}

#[test]
fn bad_input_is_an_error_that_names_it() {
    let (a, b) = (random(1, 3, 4), random(2, 3, 4));
    assert_eq!(matmul(&a, &b).unwrap_err().to_string(), "b: expected 4 × 4, found 3 × 4");
    assert!(Matrix::from_columns(2, 2, vec![0.0; 3]).is_err());
    let mut poisoned = Matrix::identity(100);
    poisoned[(57, 3)] = Real::NAN;
    for error in [eigh(&poisoned).unwrap_err(), svd(&poisoned).unwrap_err(), qr(&poisoned).unwrap_err()] {
        assert!(matches!(error, Error::NotFinite { index: 357, .. }), "{error}");
    }
    assert!(matches!(Cholesky::new(poisoned).unwrap_err(), Error::NotFinite { .. }));
    let indefinite = Matrix::from_fn(2, 2, |i, j| if i == j { 1.0 } else { 2.0 });
    assert!(Cholesky::new(indefinite).unwrap_err().to_string().contains("not positive definite"));
    assert!(eigh(&a).is_err());
}

#[test]
fn sums_survive_cancellation_and_extreme_scales() {
    let mut sum = CompensatedSum::default();
    [1.0, 1e100, 1.0, -1e100].into_iter().for_each(|x| sum.add(x));
    assert_eq!(sum.value(), 2.0);
    assert!((norm(&[3e200, 4e200]) / 5e200 - 1.0).abs() < 1e-15);
    assert!((norm(&[3e-200, 4e-200]) / 5e-200 - 1.0).abs() < 1e-15);
    assert_eq!(norm(&[]), 0.0);
}

/// Workspaces of an order of zero are a subtraction below zero where overflow is checked, as by a plain `cargo test`.
#[test]
fn matrices_without_entries_have_empty_factors() {
    assert!(eigh(&Matrix::zeros(0, 0)).unwrap().values.is_empty());
    for (m, n) in [(0, 0), (0, 3), (3, 0)] {
        let (decomposed, (q, r)) = (svd(&Matrix::zeros(m, n)).unwrap(), qr(&Matrix::zeros(m, n)).unwrap());
        assert!(decomposed.values.is_empty());
        assert_eq!((decomposed.u.nrows(), decomposed.v.nrows(), q.nrows(), r.ncols()), (m, n, m, n));
    }
}
