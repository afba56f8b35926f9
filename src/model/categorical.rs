//! The categorical likelihood of logits z: p_k = exp(z_k)/Σ exp(z), ℓ = log Σ exp(z) − z_y. Its derivatives in z, one column a
//! sample, are shared by every model with a softmax output; nothing here knows where the logits come from.

use crate::dense::{Matrix, dot};
use crate::error::{Error, Result, check_len};
use crate::samples::{Batch, Samples};

/// The labels, after a look at those of the batch: the fields of [`Samples`] are anyone's to change.
pub(super) fn labels<'a>(samples: &'a Samples, batch: Batch<'_>, expected: usize) -> Result<&'a [u32]> {
    let (labels, classes) = samples.targets.as_classes()?;
    check_len("classes", classes, expected)?;
    check_len("targets", labels.len(), samples.len())?;
    batch.check(samples.len())?;
    match batch.iter(samples.len()).find(|&i| labels[i] as usize >= classes) {
        None => Ok(labels),
        Some(i) => {
            let found = format!("{} at sample {i}", labels[i]);
            Err(Error::argument("labels", format_args!("labels below {classes}"), found))
        }
    }
}

/// Replaces logits by probabilities and returns log Σ exp.
pub(super) fn softmax_in_place(z: &mut [f64]) -> f64 {
    let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut total = 0.0;
    for x in z.iter_mut() {
        *x = (*x - largest).exp();
        total += *x;
    }
    z.iter_mut().for_each(|x| *x /= total);
    largest + total.ln()
}

/// Replaces logits by probabilities, column by column.
pub(super) fn softmax_columns(z: &mut Matrix) {
    for i in 0..z.ncols() {
        softmax_in_place(z.col_mut(i));
    }
}

/// ℓ of every column of logits, for one label a column.
pub(super) fn losses(mut z: Matrix, labels: impl Iterator<Item = u32>) -> Vec<f64> {
    let loss = |(i, y): (usize, u32)| {
        let logit = z[(y as usize, i)];
        softmax_in_place(z.col_mut(i)) - logit
    };
    labels.enumerate().map(loss).collect()
}

/// Turns probabilities into ∂ℓ/∂z = p − e_y.
pub(super) fn subtract_labels(p: &mut Matrix, labels: impl Iterator<Item = u32>) {
    labels.enumerate().for_each(|(i, y)| p[(y as usize, i)] -= 1.0);
}

/// The C columns √p_c (p − e_c) for every column p: their outer products sum to E_y[(p − e_y)(p − e_y)ᵀ].
pub(super) fn expected_deltas(p: &Matrix) -> Matrix {
    let c = p.nrows();
    let entry = |k: usize, row: usize| {
        let (i, class) = (row / c, row % c);
        p[(class, i)].sqrt() * (p[(k, i)] - if k == class { 1.0 } else { 0.0 })
    };
    Matrix::from_fn(c, c * p.ncols(), entry)
}

/// Replaces every column t by scale(i) · (diag(p) − ppᵀ) t: the Hessian of ℓ in z.
pub(super) fn multiply_hessian(p: &Matrix, t: &mut Matrix, scale: impl Fn(usize) -> f64) {
    (0..p.ncols()).for_each(|i| {
        multiply_column(p.col(i), t.col_mut(i), scale(i));
    });
}

/// Replaces t by scale · (diag(p) − ppᵀ) t and returns pᵀt.
pub(super) fn multiply_column(p: &[f64], t: &mut [f64], scale: f64) -> f64 {
    let mean = dot(p, t);
    t.iter_mut().zip(p).for_each(|(t, p)| *t = scale * p * (*t - mean));
    mean
}

/// The class drawn by a uniform number.
pub(super) fn draw(p: &[f64], uniform: f64) -> u32 {
    let mut cumulative = 0.0;
    for (k, p) in p.iter().enumerate() {
        cumulative += p;
        if uniform < cumulative {
            return k as u32;
        }
    }
    // Rounding left the sum of the probabilities below the uniform number: the last class that can occur.
    p.iter().rposition(|&p| p > 0.0).unwrap_or(0) as u32
}

/// The share of columns whose largest entry (the first among equals) stands at the label.
pub(super) fn accuracy(z: &Matrix, labels: impl Iterator<Item = u32>) -> f64 {
    let best = |column: &[f64]| (0..column.len()).fold(0, |best, k| if column[k] > column[best] { k } else { best });
    let right = labels.enumerate().filter(|&(i, y)| best(z.col(i)) == y as usize);
    right.count() as f64 / z.ncols() as f64
}
