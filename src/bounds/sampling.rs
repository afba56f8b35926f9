//! How far the Fisher matrix of n fresh rows is from that of the population: matrix Bernstein with an intrinsic dimension, in the form
//! of Rudi, Camoriano & Rosasco (2015, Proposition 8). It needs bounded rows: [`BoundedRows`] exists only where every row that can be
//! drawn was seen. Fresh rows, one parameter; the rows of a trajectory are another matter (`sgd_path.rs`).

use super::coverage::check_inside;
use crate::dense::{Cholesky, Matrix, check_shape, dot, eigh};
use crate::error::{Error, Result, check_count, check_positive};
use crate::gradient::GradientBlock;
use crate::model::{FisherKind, Model, Weighted};
use crate::par;
use crate::rng::Key;
use crate::samples::{Samples, Targets};

/// Rows expanded at once.
const CHUNK: usize = 64;

/// What a finite population says of the rows that are drawn from it: all that [`deviation`](Self::deviation) needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundedRows {
    /// N∞(μ) = sup λ_max((F + μI)^{-1/2} M (F + μI)^{-1/2}) over what a sample can contribute to F: M = s sᵀ, or Σ s sᵀ over its rows. For one row
    /// a sample this is sup sᵀ(F + μI)⁻¹s. No unit.
    pub n_infinity: f64,
    /// tr F.
    pub trace: f64,
    /// ‖F‖₂.
    pub norm: f64,
    /// μ, in the unit of F.
    pub damping: f64,
}

/// A two-sided bound of (F_n + μI)⁻¹ by (F + μI)⁻¹ in the Löwner order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sandwich {
    /// t, the bound of ‖(F + μI)^{-1/2}(F_n − F)(F + μI)^{-1/2}‖.
    pub deviation: f64,
    /// (1 + t)⁻¹: (F_n + μI)⁻¹ is at least so many times (F + μI)⁻¹.
    pub lower: f64,
    /// (1 − t)⁻¹: and at most so many times; ∞ for t ≥ 1, where the bound says nothing.
    pub upper: f64,
}

impl BoundedRows {
    /// Rows of samples that are drawn uniformly, all of the population in `rows`: F = GᵀG/samples. O(rows·d²) and two factorizations.
    ///
    /// # Errors
    /// [`Error::Argument`] for a μ that is not positive or above ‖F‖, where the statement ends; [`Error::NotFinite`].
    pub fn of_rows(rows: &GradientBlock, damping: f64) -> Result<Self> {
        rows.check_finite()?;
        let mut fisher = rows.scatter()?;
        fisher.scale(1.0 / rows.samples() as f64);
        Self::of_support(&fisher, rows, damping)
    }

    /// The rows of a model at θ, its samples drawn uniformly and their labels as `kind` says. Of drawn labels every class counts as possible.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for labels that are drawn from a continuum: their rows have no bound. As [`of_rows`](Self::of_rows), and
    /// whatever the model meets.
    pub fn of_model(model: &dyn Model, data: Weighted<'_>, theta: &[f64], kind: FisherKind, damping: f64) -> Result<Self> {
        // No kind but the drawn one uses a key.
        let rows = |data: Weighted<'_>, kind| model.scores(data, theta, kind, Key::new(0));
        if kind != FisherKind::Sampled {
            return Self::of_rows(&rows(data, kind)?, damping);
        }
        let Targets::Classes { classes, .. } = data.samples.targets else {
            let remedy = "take the observed labels or the expectation over labels, whose rows are as bounded as the data";
            return Err(Error::unsupported(
                "a sampling bound for labels drawn from a continuum (their rows are unbounded)",
                remedy,
            ));
        };
        let labelled = |class: u32| -> Result<GradientBlock> {
            let targets = Targets::classes(vec![class; data.samples.len()], classes)?;
            let samples = Samples::new(data.samples.features.clone(), targets)?;
            rows(Weighted { samples: &samples, ..data }, FisherKind::Empirical)
        };
        let blocks = (0..classes as u32).map(labelled).collect::<Result<Vec<_>>>()?;
        let support = GradientBlock::stack(&blocks.iter().collect::<Vec<_>>())?;
        Self::of_support(&model.expected_fisher(data, theta)?, &support, damping)
    }

    /// The general case: F, and a block with the rows of everything that can be drawn, however likely. The caller vouches for both.
    ///
    /// # Errors
    /// As [`of_rows`](Self::of_rows), and [`Error::Shape`].
    pub fn of_support(fisher: &Matrix, support: &GradientBlock, damping: f64) -> Result<Self> {
        check_shape("fisher", fisher, support.dim(), support.dim())?;
        check_positive("damping", damping)?;
        let norm = eigh(fisher)?.values.first().copied().unwrap_or(0.0);
        if damping > norm {
            return Err(Error::argument("damping", format_args!("at most ‖F‖ = {norm:.3e} for this bound"), damping));
        }
        let mut damped = fisher.clone();
        (0..fisher.nrows()).for_each(|i| damped[(i, i)] += damping);
        let factor = Cholesky::new(damped)?;
        let n_infinity = largest_leverage(&factor, support)?;
        Ok(Self { n_infinity, trace: fisher.trace(), norm, damping })
    }

    /// β = log(4 tr F/(μδ)).
    fn beta(&self, delta: f64) -> f64 {
        (4.0 * self.trace / (self.damping * delta)).ln()
    }

    /// t = 2β(1 + N∞)/(3n) + √(2βN∞/n), β = log(4 tr F/(μδ)), for n fresh independent rows and μ ≤ ‖F‖: a bound of
    /// ‖(F + μI)^{-1/2}(F_n − F)(F + μI)^{-1/2}‖. Either side alone (λ_max of the difference, or of its negative) holds with probability 1 − δ,
    /// both together with 1 − 2δ.
    ///
    /// # Errors
    /// [`Error::Argument`] for n = 0 or a δ outside (0, 1).
    pub fn deviation(&self, rows: usize, delta: f64) -> Result<f64> {
        check_count("rows", rows)?;
        check_inside("delta", delta)?;
        let (n, beta) = (rows as f64, self.beta(delta));
        Ok(2.0 * beta * (1.0 + self.n_infinity) / (3.0 * n) + (2.0 * beta * self.n_infinity / n).sqrt())
    }

    /// (1 + t)⁻¹(F + μI)⁻¹ ≼ (F_n + μI)⁻¹ ≼ (1 − t)⁻¹(F + μI)⁻¹, both with probability 1 − 2δ: F_n + μI = (F + μI)^{1/2}(I + D)(F + μI)^{1/2} with
    /// ‖D‖ ≤ t.
    ///
    /// # Errors
    /// As [`deviation`](Self::deviation).
    pub fn sandwich(&self, rows: usize, delta: f64) -> Result<Sandwich> {
        let deviation = self.deviation(rows, delta)?;
        let upper = if deviation < 1.0 { 1.0 / (1.0 - deviation) } else { f64::INFINITY };
        Ok(Sandwich { deviation, lower: 1.0 / (1.0 + deviation), upper })
    }

    /// The least n whose [`deviation`](Self::deviation) is at most t: 1/u² rounded up, u the positive root of (2β(1 + N∞)/3)u² + √(2βN∞)u = t.
    ///
    /// # Errors
    /// [`Error::Argument`] for a t that is not positive or a δ outside (0, 1).
    pub fn rows_for(&self, deviation: f64, delta: f64) -> Result<usize> {
        check_positive("deviation", deviation)?;
        check_inside("delta", delta)?;
        let beta = self.beta(delta);
        let (a, b) = (2.0 * beta * (1.0 + self.n_infinity) / 3.0, (2.0 * beta * self.n_infinity).sqrt());
        // The root without cancellation: u = 2t/(b + √(b² + 4at)).
        let u = 2.0 * deviation / (b + (b * b + 4.0 * a * deviation).sqrt());
        let rows = (1.0 / (u * u)).ceil().max(1.0) as usize;
        // The rounding of the root can hide one row.
        let enough = |n: usize| Ok::<_, Error>(self.deviation(n, delta)? <= deviation);
        if rows > 1 && enough(rows - 1)? {
            return Ok(rows - 1);
        }
        Ok(if enough(rows)? { rows } else { rows + 1 })
    }
}

/// The largest λ_max(G_i A⁻¹ G_iᵀ), G_i the rows of one sample.
fn largest_leverage(factor: &Cholesky, support: &GradientBlock) -> Result<f64> {
    let per_sample = support.rows() / support.samples();
    let mut largest = 0.0_f64;
    for samples in par::blocks(support.samples(), CHUNK) {
        let rows = support.expand(samples.start * per_sample..samples.end * per_sample)?;
        let mut solved = rows.clone();
        factor.solve_in_place(&mut solved)?;
        for sample in 0..samples.len() {
            let at = |i: usize| sample * per_sample + i;
            let leverage = match per_sample {
                1 => dot(rows.col(sample), solved.col(sample)),
                r => eigh(&Matrix::from_fn(r, r, |i, j| dot(rows.col(at(i)), solved.col(at(j)))))?.values[0],
            };
            largest = largest.max(leverage);
        }
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::FailureRate;
    use crate::dense::matmul;
    use crate::gradient::DenseRows;
    use crate::model::{Gaussian, Softmax};
    use crate::samples::{Batch, Features};

    /// Rows of a population with a decaying spectrum and a few large rows.
    fn population(samples: usize, d: usize, key: Key) -> Matrix {
        let mut stream = key.stream();
        Matrix::from_fn(samples, d, |i, j| stream.normal() / (1.0 + j as f64) * if i % 10 == 0 { 2.0 } else { 1.0 })
    }

    fn block(rows: Matrix) -> GradientBlock {
        DenseRows::new(rows.t().to_matrix(), 1).unwrap().into()
    }

    /// The definition: (F + μI)^{-1/2} by an eigen-decomposition.
    fn whitener(fisher: &Matrix, damping: f64) -> Matrix {
        let eigen = eigh(fisher).unwrap();
        let d = fisher.nrows();
        let scaled = Matrix::from_fn(d, d, |i, j| eigen.vectors[(i, j)] / (eigen.values[j] + damping).sqrt());
        matmul(&scaled, eigen.vectors.t()).unwrap()
    }

    #[test]
    fn constants_equal_their_definitions() {
        let rows = population(60, 5, Key::new(1));
        let found = BoundedRows::of_rows(&block(rows.clone()), 0.03).unwrap();
        let mut fisher = matmul(rows.t(), &rows).unwrap();
        fisher.scale(1.0 / 60.0);
        let white = matmul(&rows, &whitener(&fisher, 0.03)).unwrap();
        let expected = (0..60).map(|i| (0..5).map(|j| white[(i, j)].powi(2)).sum::<f64>()).fold(0.0, f64::max);
        assert!((found.n_infinity / expected - 1.0).abs() < 1e-12, "{} for {expected}", found.n_infinity);
        assert!((found.trace / fisher.trace() - 1.0).abs() < 1e-12);
        // Two rows a sample contribute together.
        let pairs: GradientBlock = DenseRows::new(rows.t().to_matrix(), 2).unwrap().into();
        let paired = BoundedRows::of_rows(&pairs, 0.03).unwrap();
        let mut doubled = fisher;
        doubled.scale(2.0);
        let white = matmul(&pairs.expand(0..60).unwrap().t().to_matrix(), &whitener(&doubled, 0.03)).unwrap();
        let leverage = |i: usize| {
            let pair = white.rows(2 * i..2 * i + 2).to_matrix();
            eigh(&matmul(&pair, pair.t()).unwrap()).unwrap().values[0]
        };
        let expected = (0..30).map(leverage).fold(0.0, f64::max);
        assert!((paired.n_infinity / expected - 1.0).abs() < 1e-12, "{} for {expected}", paired.n_infinity);
    }

    /// The statement is recalled from its paper: 1,000 draws of n rows at each δ, all four sides of it.
    #[test]
    fn the_bound_and_the_sandwich_cover_as_they_say() {
        let (d, samples, damping) = (4, 50, 0.02);
        let rows = population(samples, d, Key::new(2));
        let bounded = BoundedRows::of_rows(&block(rows.clone()), damping).unwrap();
        let mut fisher = matmul(rows.t(), &rows).unwrap();
        fisher.scale(1.0 / samples as f64);
        let white = matmul(&rows, &whitener(&fisher, damping)).unwrap();
        let whole = matmul(white.t(), &white).unwrap();
        for (n, delta) in [(30, 0.2), (300, 0.2), (300, 0.05), (3000, 0.01)] {
            let Sandwich { deviation: t, lower, upper } = bounded.sandwich(n, delta).unwrap();
            let ends = par::map((0..1000).collect(), |trial: u64| {
                let drawn = Key::new(3).child(n as u64).child(trial).stream().indices(samples, n).unwrap();
                let picked = Matrix::from_fn(n, d, |i, j| white[(drawn[i], j)]);
                let mut difference = matmul(picked.t(), &picked).unwrap();
                difference.scale(1.0 / n as f64);
                difference.add_scaled(-1.0 / samples as f64, &whole).unwrap();
                let values = eigh(&difference).unwrap().values;
                (values[0], values[d - 1])
            });
            let failures = |failed: &dyn Fn(&(f64, f64)) -> bool| ends.iter().filter(|e| failed(e)).count() as u64;
            let above = FailureRate::new(failures(&|e| e.0 > t), 1000).unwrap();
            let below = FailureRate::new(failures(&|e| e.1 < -t), 1000).unwrap();
            // (F_n + μ)⁻¹ in whitened coordinates is (I + D)⁻¹.
            let outside = failures(&|e| 1.0 / (1.0 + e.0) < lower || 1.0 / (1.0 + e.1) > upper);
            let outside = FailureRate::new(outside, 1000).unwrap();
            assert!(above.is_compatible_with(delta, 0.95).unwrap() && below.is_compatible_with(delta, 0.95).unwrap());
            assert!(outside.is_compatible_with(2.0 * delta, 0.95).unwrap());
            // Not idle either: within a factor of 5 of what happens.
            let worst = ends.iter().map(|e| e.0.max(-e.1)).fold(0.0, f64::max);
            println!("n = {n}, δ = {delta}: t = {t:.3}, {above:?} above, {below:?} below, worst {worst:.3}");
            assert!(worst > t / 5.0, "n = {n}, δ = {delta}: {worst} for the bound {t}");
        }
    }

    #[test]
    fn as_many_rows_as_asked_for_are_enough_and_one_less_is_not() {
        let bounded = BoundedRows::of_rows(&block(population(60, 5, Key::new(1))), 0.03).unwrap();
        for t in [2.0, 0.5, 0.1, 0.003] {
            let rows = bounded.rows_for(t, 0.05).unwrap();
            assert!(bounded.deviation(rows, 0.05).unwrap() <= t && bounded.deviation(rows - 1, 0.05).unwrap() > t, "{t}: {rows}");
        }
        assert_eq!(bounded.rows_for(1e9, 0.05).unwrap(), 1);
        assert_eq!(bounded.sandwich(1, 0.05).unwrap().upper, f64::INFINITY);
    }

    #[test]
    fn drawn_classes_are_bounded_by_every_label_and_drawn_numbers_are_refused() {
        let (n, width, classes) = (20, 3, 3);
        let features = Features::from_f64(Key::new(4).stream().normals(n * width), n, width).unwrap();
        let samples = Samples::new(features.clone(), Targets::classes(vec![0; n], classes).unwrap()).unwrap();
        let model = Softmax::new(width, classes).unwrap();
        let theta = Key::new(5).stream().normals(model.dim());
        let data = Weighted::ones(&samples, Batch::All);
        let bound = |kind| BoundedRows::of_model(&model, data, &theta, kind, 1e-3).unwrap();
        let sampled = bound(FisherKind::Sampled);
        // By its definition: every sample with every label.
        let mut damped = model.expected_fisher(data, &theta).unwrap();
        (0..model.dim()).for_each(|i| damped[(i, i)] += 1e-3);
        let factor = Cholesky::new(damped).unwrap();
        let leverage = |i: usize, label: u32| {
            let one = Samples::new(features.select(&[i]).unwrap(), Targets::classes(vec![label], classes).unwrap()).unwrap();
            let score = model.gradient(Weighted::ones(&one, Batch::All), &theta).unwrap();
            dot(&score, &factor.solve(&score).unwrap())
        };
        let all = (0..n).flat_map(|i| (0..classes as u32).map(move |label| (i, label)));
        let expected = all.map(|(i, label)| leverage(i, label)).fold(0.0, f64::max);
        assert!((sampled.n_infinity / expected - 1.0).abs() < 1e-10, "{} for {expected}", sampled.n_infinity);
        assert!(bound(FisherKind::Expected).n_infinity < sampled.n_infinity);

        let real = Samples::new(features, Targets::real(vec![1.0; n]).unwrap()).unwrap();
        let gaussian = Gaussian::unit_variance(width).unwrap();
        let at = |kind| BoundedRows::of_model(&gaussian, Weighted::ones(&real, Batch::All), &[0.1, 0.2, 0.3], kind, 1e-3);
        let refusal = at(FisherKind::Sampled).unwrap_err();
        assert!(matches!(refusal, Error::Unsupported { .. }) && refusal.to_string().contains("unbounded"), "{refusal}");
        assert!(at(FisherKind::Empirical).is_ok() && at(FisherKind::Expected).is_ok());
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        let name = |e: Error| e.offending_argument();
        let rows = population(60, 5, Key::new(1));
        let top = BoundedRows::of_rows(&block(rows.clone()), 0.03).unwrap().norm;
        for damping in [0.0, -1.0, f64::NAN, 1.01 * top] {
            assert_eq!(BoundedRows::of_rows(&block(rows.clone()), damping).map_err(name), Err(Some("damping")));
        }
        let mut overflowing = block(rows.clone());
        overflowing.scale(f64::INFINITY);
        assert!(matches!(BoundedRows::of_rows(&overflowing, 0.1), Err(Error::NotFinite { .. })));
        let bounded = BoundedRows::of_rows(&block(rows), 0.03).unwrap();
        assert_eq!(bounded.deviation(0, 0.1).map_err(name), Err(Some("rows")));
        assert_eq!(bounded.deviation(5, 1.0).map_err(name), Err(Some("delta")));
        assert_eq!(bounded.rows_for(0.0, 0.1).map_err(name), Err(Some("deviation")));
    }
}
