//! Samples drawn from models whose truth is known: a mixture of Gaussians, and softmax regression itself, for which the model
//! is well specified (so the Fisher matrix and the Hessian of the expected loss agree at the truth: the information equality).

use super::draw_class;
use crate::dense::Matrix;
use crate::error::{Error, Result, check_count, check_finite, check_nonnegative};
use crate::rng::Key;
use crate::samples::{Batch, Features, Samples, Targets};

/// A mixture of Gaussians: y uniform on 0..classes and x | y ~ N(μ_y, I), where μ_c = separation · g_c / √width with g_c
/// standard normal. So E‖μ_c‖² = separation², and two means lie about √2 · separation apart whatever the width.
///
/// The means depend on `key`, `width` and `classes` only: a call with more samples begins with the same samples.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) for no samples, features or classes, or a separation that is negative or not
/// finite.
pub fn gaussian_mixture(samples: usize, width: usize, classes: usize, separation: f64, key: Key) -> Result<Samples> {
    for (argument, count) in [("samples", samples), ("width", width), ("classes", classes)] {
        check_count(argument, count)?;
    }
    check_nonnegative("separation", separation)?;
    check_size(samples, width)?;
    check_size(width, classes)?;
    let mut stream = key.named("labels").stream();
    let labels = (0..samples).map(|_| draw_class(&mut stream, classes)).collect::<Result<Vec<_>>>()?;
    let mut means = Matrix::from_columns(width, classes, key.named("means").stream().normals(width * classes))?;
    means.scale(separation / (width as f64).sqrt());

    let mut rows = key.named("features").stream().normals(samples * width);
    for (row, &label) in rows.chunks_exact_mut(width).zip(&labels) {
        row.iter_mut().zip(means.col(label as usize)).for_each(|(x, mean)| *x += mean);
    }
    Samples::new(Features::from_f64(rows, samples, width)?, Targets::classes(labels, classes)?)
}

/// Softmax regression with the truth Θ (width × classes): x ~ N(0, I) and P(y = c | x) = exp(θ_cᵀx) / Σ_k exp(θ_kᵀx).
///
/// The features depend on `key` and the width only: another Θ relabels the same rows. Costs 2 · width · classes flops a sample.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) for no samples, features or classes;
/// [`Error::NotFinite`](crate::Error::NotFinite) for a Θ with such an entry, or so large that Θᵀx overflows.
pub fn softmax_samples(theta: &Matrix, samples: usize, key: Key) -> Result<Samples> {
    let (width, classes) = (theta.nrows(), theta.ncols());
    for (argument, count) in [("samples", samples), ("rows of theta", width), ("columns of theta", classes)] {
        check_count(argument, count)?;
    }
    check_finite("theta", theta.as_slice())?;
    check_size(samples, width)?;
    let rows = key.named("features").stream().normals(samples * width);
    let features = Features::from_f64(rows, samples, width)?;
    let logits = features.project(Batch::All, &[theta.as_slice()])?;
    check_finite("products of theta with the features", logits.as_slice())?;

    let mut stream = key.named("labels").stream();
    let labels = (0..samples).map(|i| draw_softmax(logits.col(i), stream.uniform())).collect();
    Samples::new(features, Targets::classes(labels, classes)?)
}

/// Checks that a table of numbers has a place in the address space.
fn check_size(rows: usize, width: usize) -> Result<()> {
    let most = isize::MAX as usize / size_of::<f64>() / rows;
    if width <= most { Ok(()) } else { Err(Error::argument("width", format_args!("at most {most} for {rows} rows"), width)) }
}

/// The class at which the cumulative softmax of the logits passes u, for u in [0, 1).
fn draw_softmax(logits: &[f64], u: f64) -> u32 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut total = 0.0;
    let cumulative: Vec<f64> = logits
        .iter()
        .map(|z| {
            total += (z - largest).exp();
            total
        })
        .collect();
    // The classes passed by; below `classes` because u < 1.
    cumulative.iter().take_while(|&&mass| mass <= u * total).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(samples: Samples) -> (Matrix, Vec<u32>) {
        (samples.features.gather(Batch::All).unwrap(), samples.targets.as_classes().unwrap().0.to_vec())
    }

    /// Checks that every count lies within 5 standard errors of n · share.
    fn check_shares(labels: &[u32], shares: &[f64]) {
        for (class, &share) in shares.iter().enumerate() {
            let n = labels.len() as f64;
            let count = labels.iter().filter(|&&y| y as usize == class).count() as f64;
            assert!((count - n * share).abs() < 5.0 * (n * share * (1.0 - share)).sqrt(), "class {class}: {count} of {n}");
        }
    }

    #[test]
    fn mixture_has_uniform_labels_unit_covariance_and_means_of_the_stated_size() {
        let (n, width, classes, separation) = (20_000, 200, 4, 3.0);
        let (rows, labels) = parts(gaussian_mixture(n, width, classes, separation, Key::new(1)).unwrap());
        check_shares(&labels, &[0.25; 4]);
        let mut sizes = 0.0;
        for class in 0..classes {
            let members: Vec<usize> = (0..n).filter(|&i| labels[i] as usize == class).collect();
            let m = members.len() as f64;
            let mean: Vec<f64> = (0..width).map(|j| members.iter().map(|&i| rows[(j, i)]).sum::<f64>() / m).collect();
            let squares: f64 = members.iter().flat_map(|&i| rows.col(i).iter().zip(&mean)).map(|(x, mu)| (x - mu).powi(2)).sum();
            // The squares are χ² with width (m − 1) degrees of freedom.
            let degrees = width as f64 * (m - 1.0);
            assert!((squares / degrees - 1.0).abs() < 5.0 * (2.0 / degrees).sqrt(), "variance of class {class}");
            let product: f64 = members.iter().map(|&i| (rows[(0, i)] - mean[0]) * (rows[(1, i)] - mean[1])).sum::<f64>() / m;
            assert!(product.abs() < 5.0 / m.sqrt(), "covariance of class {class}: {product}");
            sizes += mean.iter().map(|x| x * x).sum::<f64>() - width as f64 / m;
        }
        // Σ_c ‖μ_c‖² is separation² / width times a χ² with width · classes degrees of freedom.
        let relative = sizes / (classes as f64 * separation * separation) - 1.0;
        assert!(relative.abs() < 5.0 * (2.0 / (width * classes) as f64).sqrt(), "{relative}");
    }

    #[test]
    fn more_samples_begin_with_the_same_samples() {
        let key = Key::new(2);
        let (few, few_labels) = parts(gaussian_mixture(50, 3, 5, 2.0, key).unwrap());
        let (many, many_labels) = parts(gaussian_mixture(300, 3, 5, 2.0, key).unwrap());
        assert_eq!(few.as_slice(), many.columns(0..50).to_matrix().as_slice());
        assert_eq!(few_labels, many_labels[..50]);
        let (other, _) = parts(gaussian_mixture(50, 3, 5, 2.0, Key::new(3)).unwrap());
        assert_ne!(few, other);
    }

    /// At the truth the score x (1[y = c] − P(c | x)) has mean 0 and variance E x_j² P (1 − P); a label law other than the
    /// softmax of Θ would shift it.
    #[test]
    fn softmax_labels_have_a_score_of_mean_zero_at_the_truth() {
        let (n, width, classes) = (40_000, 4, 3);
        let theta = Matrix::from_columns(width, classes, Key::new(5).stream().normals(width * classes)).unwrap();
        let z_scores = |truth: &Matrix| {
            let (rows, labels) = parts(softmax_samples(&theta, n, Key::new(6)).unwrap());
            let (mut sum, mut variance) = (Matrix::zeros(width, classes), Matrix::zeros(width, classes));
            for (i, &label) in labels.iter().enumerate() {
                let x = rows.col(i);
                let weight = |c: usize| (0..width).map(|j| truth[(j, c)] * x[j]).sum::<f64>().exp();
                let total: f64 = (0..classes).map(weight).sum();
                for c in 0..classes {
                    let p = weight(c) / total;
                    let residual = if label as usize == c { 1.0 - p } else { -p };
                    for j in 0..width {
                        sum[(j, c)] += x[j] * residual;
                        variance[(j, c)] += x[j] * x[j] * p * (1.0 - p);
                    }
                }
            }
            sum.as_slice().iter().zip(variance.as_slice()).map(|(s, v)| (s / v.sqrt()).abs()).fold(0.0, f64::max)
        };
        let at_truth = z_scores(&theta);
        assert!(at_truth < 5.0, "{at_truth} standard errors");
        let mut off = theta.clone();
        off[(0, 0)] += 0.3;
        assert!(z_scores(&off) > 5.0, "the test must notice another law");
    }

    #[test]
    fn softmax_features_are_standard_normal_and_labels_balanced_without_a_signal() {
        let (n, width) = (30_000, 3);
        let (rows, labels) = parts(softmax_samples(&Matrix::zeros(width, 5), n, Key::new(7)).unwrap());
        check_shares(&labels, &[0.2; 5]);
        let count = (n * width) as f64;
        assert!(rows.as_slice().iter().sum::<f64>().abs() < 5.0 * count.sqrt());
        // Fourth moment 3: the squares have variance 2.
        assert!((rows.as_slice().iter().map(|x| x * x).sum::<f64>() - count).abs() < 5.0 * (2.0 * count).sqrt());
        let (same_rows, other_labels) = parts(softmax_samples(&Matrix::identity(3), n, Key::new(7)).unwrap());
        assert_eq!(rows, same_rows);
        assert_ne!(labels, other_labels);
    }

    #[test]
    fn a_huge_theta_labels_by_its_largest_logit() {
        let theta = Matrix::from_fn(1, 2, |_, c| if c == 0 { -1e200 } else { 1e200 });
        let (rows, labels) = parts(softmax_samples(&theta, 1000, Key::new(8)).unwrap());
        assert!(labels.iter().zip(rows.as_slice()).all(|(&y, &x)| y == u32::from(x > 0.0)));
    }

    #[test]
    fn the_drawn_class_is_where_the_cumulative_softmax_passes_u() {
        let logits = [0.2_f64.ln(), f64::NEG_INFINITY, 0.5_f64.ln(), 0.3_f64.ln()];
        for (u, class) in [(0.0, 0), (0.19, 0), (0.21, 2), (0.69, 2), (0.71, 3), (1.0 - f64::EPSILON / 2.0, 3)] {
            assert_eq!(draw_softmax(&logits, u), class, "u = {u}");
        }
        // The largest u must not run past the end, however the total is rounded.
        for n in 1..500 {
            let logits: Vec<f64> = Key::new(n).stream().normals(n as usize);
            assert!(draw_softmax(&logits, 1.0 - f64::EPSILON / 2.0) < n as u32);
        }
    }

    #[test]
    fn misuse_is_refused_by_name() {
        let key = Key::new(1);
        let mixture = |n, p, c, s| gaussian_mixture(n, p, c, s, key).unwrap_err().offending_argument();
        assert_eq!(mixture(0, 1, 1, 1.0), Some("samples"));
        assert_eq!(mixture(1, 0, 1, 1.0), Some("width"));
        assert_eq!(mixture(1, 1, 0, 1.0), Some("classes"));
        assert_eq!(mixture(1, 1, 1, f64::NAN), Some("separation"));
        let softmax = |theta: Matrix, n| softmax_samples(&theta, n, key).unwrap_err().offending_argument();
        assert_eq!(softmax(Matrix::zeros(2, 2), 0), Some("samples"));
        assert_eq!(softmax(Matrix::zeros(0, 2), 1), Some("rows of theta"));
        assert_eq!(softmax(Matrix::zeros(2, 0), 1), Some("columns of theta"));
        assert_eq!(softmax(Matrix::column(vec![f64::NAN]), 1), Some("theta"));
        assert!(softmax(Matrix::column(vec![1.7e308; 50]), 100).is_some());
    }
}
