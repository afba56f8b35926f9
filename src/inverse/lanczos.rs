//! The ends of an operator's spectrum, from inside, by the method of Lanczos (1950) with full reorthogonalization. From a random
//! start, k products in dimension n err on the largest eigenvalue by about (ln(n k⁴)/k)²/10 of it (Kuczyński & Woźniakowski 1992).

use crate::dense::{Matrix, axpy, dot, eigh, norm};
use crate::error::{Result, check_count};
use crate::operator::LinearOperator;
use crate::rng::Key;

/// Rayleigh quotients from both ends of a spectrum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpectralEstimate {
    /// At most λ_max.
    pub largest: f64,
    /// At least λ_min.
    pub smallest: f64,
}

/// The extreme Ritz values of A after `steps` products, or as many as the space has, and the number of products spent; no values
/// where a product left the finite numbers. The vectors of the basis are kept: d numbers a product.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) for no steps, and those of the products.
pub fn extreme_eigenvalues<A: LinearOperator + ?Sized>(a: &A, steps: usize, key: Key) -> Result<(Option<SpectralEstimate>, usize)> {
    check_count("products of the spectral estimate", steps)?;
    let mut q = key.stream().normals(a.dim());
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let (mut diagonal, mut off_diagonal) = (Vec::new(), Vec::new());
    let mut scale = 0.0_f64;
    for products in 1..=steps.min(a.dim()) {
        let length = norm(&q);
        q.iter_mut().for_each(|x| *x /= length);
        let mut next = a.apply(&q)?;
        if !norm(&next).is_finite() {
            return Ok((None, products));
        }
        scale = scale.max(norm(&next));
        diagonal.push(dot(&q, &next));
        basis.push(q);
        // Twice is enough (Parlett): what the first pass leaves by rounding goes with the second.
        for _ in 0..2 {
            basis.iter().for_each(|q| axpy(-dot(q, &next), q, &mut next));
        }
        let rest = norm(&next);
        if rest <= 1e-13 * scale {
            break;
        }
        off_diagonal.push(rest);
        q = next;
    }
    let k = diagonal.len();
    let tridiagonal = Matrix::from_fn(k, k, |i, j| match i.abs_diff(j) {
        0 => diagonal[i],
        1 => off_diagonal[i.min(j)],
        _ => 0.0,
    });
    let values = eigh(&tridiagonal)?.values;
    let estimate = values.first().zip(values.last()).map(|(&largest, &smallest)| SpectralEstimate { largest, smallest });
    Ok((estimate, k))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::{Counting, Diagonal, FromFn};

    #[test]
    fn a_full_run_finds_both_ends_and_a_short_one_stays_inside() {
        for n in [1, 2, 63, 64, 65, 127] {
            let entries: Vec<f64> = (0..n).map(|i| -1.0 + 3.0 * (i as f64 + 1.0) / n as f64).collect();
            let (low, high) = (entries[0], entries[n - 1]);
            let a = Counting::new(Diagonal::new(entries).unwrap());
            let (whole, products) = extreme_eigenvalues(&a, n, Key::new(1)).unwrap();
            let whole = whole.unwrap();
            assert!((whole.largest - high).abs() < 1e-12 && (whole.smallest - low).abs() < 1e-12, "{n}: {whole:?}");
            assert_eq!(a.products(), products as u64);
            let (short, products) = extreme_eigenvalues(&a, 12, Key::new(2)).unwrap();
            let short = short.unwrap();
            assert!(products <= 12 && short.largest <= high + 1e-13 && short.smallest >= low - 1e-13);
            assert!(short.largest > 0.8 * high, "{n}: {short:?}");
        }
    }

    #[test]
    fn a_multiple_of_the_identity_takes_one_product_and_an_overflow_gives_none() {
        let (estimate, products) = extreme_eigenvalues(&Diagonal::new(vec![4.0; 50]).unwrap(), 20, Key::new(3)).unwrap();
        assert_eq!(products, 1);
        assert!((estimate.unwrap().largest - 4.0).abs() < 1e-14);
        let zero = extreme_eigenvalues(&Diagonal::new(vec![0.0; 5]).unwrap(), 20, Key::new(3)).unwrap();
        assert_eq!(zero, (Some(SpectralEstimate { largest: 0.0, smallest: 0.0 }), 1));
        let overflow = FromFn::new(3, |x: &[f64]| Ok(x.iter().map(|x| x * 1e308 * 1e10).collect()));
        assert_eq!(extreme_eigenvalues(&overflow, 5, Key::new(3)).unwrap(), (None, 1));
        assert!(extreme_eigenvalues(&overflow, 0, Key::new(3)).is_err());
    }
}
