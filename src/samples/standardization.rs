//! Features of mean 0 and standard deviation 1 over some samples, and others on the same scale.

use super::{Batch, Features, Intercept};
use crate::error::{Result, check_len};
use crate::reused::Reused;

/// Samples read at once.
const BLOCK: usize = 256;

/// The map x_j ↦ (x_j − μ_j)/σ_j of every stored feature j, with mean and standard deviation (over n, not n − 1) of the samples that it was fitted
/// to; σ_j is 1 for a feature that is constant there. An intercept is left as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Standardization {
    means: Vec<f64>,
    deviations: Vec<f64>,
}

impl Standardization {
    /// The map for these samples: two passes over them.
    ///
    /// # Errors
    /// Never, for features that were checked when they were built.
    pub fn of(features: &Features) -> Result<Self> {
        let (n, width) = (features.samples as f64, features.stored_width);
        let first = features.gather(Batch::Indices(&[0]))?.into_vec();
        let (mut sums, mut constant) = (vec![0.0; width], vec![true; width]);
        each_row(features, |row| {
            for j in 0..width {
                sums[j] += row[j];
                constant[j] &= row[j] == first[j];
            }
        })?;
        // The mean of equal numbers is that number, whatever rounding makes of their sum.
        let means: Vec<f64> = (0..width).map(|j| if constant[j] { first[j] } else { sums[j] / n }).collect();
        let mut squares = vec![0.0; width];
        each_row(features, |row| (0..width).for_each(|j| squares[j] += (row[j] - means[j]).powi(2)))?;
        let deviations = (0..width).map(|j| if constant[j] { 1.0 } else { (squares[j] / n).sqrt() }).collect();
        Ok(Self { means, deviations })
    }

    /// The features on this scale, in single precision: rows are gathered from it faster than from bytes with a scale and a shift for each
    /// feature.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for another number of features, [`Error::NotFinite`](crate::Error::NotFinite) where single precision
    /// is exceeded.
    pub fn apply(&self, features: &Features) -> Result<Features> {
        check_len("features", features.stored_width, self.means.len())?;
        let mut values = Vec::with_capacity(features.samples * features.stored_width);
        each_row(features, |row| {
            values.extend(row.iter().zip(&self.means).zip(&self.deviations).map(|((x, mean), sd)| ((x - mean) / sd) as f32));
        })?;
        let scaled = Features::from_f32(values, features.samples, features.stored_width)?;
        Ok(if features.intercept == Intercept::Last { scaled.with_intercept() } else { scaled })
    }
}

/// Calls `f` with every row, the intercept among its numbers or not.
fn each_row(features: &Features, mut f: impl FnMut(&[f64])) -> Result<()> {
    let mut buffer = Reused::default();
    for block in crate::par::blocks(features.samples, BLOCK) {
        features.gather_into(Batch::All, block, &mut buffer)?;
        buffer.chunks_exact(features.width()).for_each(&mut f);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn standardized_features_have_mean_zero_and_deviation_one() {
        let (n, p) = (500, 4);
        // The third feature is 0.1 throughout, of which no sum is exact.
        let value = |i: usize, j: usize| if j == 2 { 0.1 } else { (i * (3 * j + 1) % 71) as f64 * 10f64.powi(j as i32) };
        let table: Vec<f64> = (0..n * p).map(|k| value(k / p, k % p)).collect();
        let features = Features::from_f64(table, n, p).unwrap().with_intercept();
        let scale = Standardization::of(&features).unwrap();
        let scaled = scale.apply(&features).unwrap().gather(Batch::All).unwrap();
        for j in 0..p {
            let mean = (0..n).map(|i| scaled[(j, i)]).sum::<f64>() / n as f64;
            let square = (0..n).map(|i| scaled[(j, i)].powi(2)).sum::<f64>() / n as f64;
            assert!(mean.abs() < 1e-7, "feature {j}: {mean}");
            assert!((square - if j == 2 { 0.0 } else { 1.0 }).abs() < 1e-6, "feature {j}: {square}");
        }
        assert!((0..n).all(|i| scaled[(p, i)] == 1.0), "the intercept is left alone");
        // Others are on the scale of those: 0.6 lies 0.5 above a constant 0.1.
        let other = Features::from_f64(vec![0.0, 10.0, 0.6, 0.0], 1, p).unwrap();
        let other = scale.apply(&other).unwrap().gather(Batch::All).unwrap();
        assert!((other[(2, 0)] - 0.5).abs() < 1e-7 && other.nrows() == p);
        let third: Vec<f64> = (0..n).map(|i| value(i, 1)).collect();
        let mean = third.iter().sum::<f64>() / n as f64;
        let deviation = (third.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        assert!((other[(1, 0)] - (10.0 - mean) / deviation).abs() < 1e-6);
    }

    #[test]
    fn another_width_is_refused() {
        let scale = Standardization::of(&Features::from_f64(vec![0.0, 1.0], 2, 1).unwrap()).unwrap();
        let wide = Features::from_f64(vec![0.0, 1.0], 1, 2).unwrap();
        assert!(matches!(scale.apply(&wide), Err(Error::Shape { .. })));
        let far = Features::from_f64(vec![1e300], 1, 1).unwrap();
        assert!(matches!(scale.apply(&far), Err(Error::NotFinite { .. })));
    }
}
