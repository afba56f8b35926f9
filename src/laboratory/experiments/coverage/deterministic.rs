//! Certificates that hold always, on random cases that are hard for one sketch or another, against dense algebra of 32 digits: the
//! rounding that they allow for is examined too.

use super::tally::Statement;
use crate::bilevel::certified_nhgd;
use crate::curvature::{Approximation, CurvatureConfig, FrequentDirectionsConfig, NystromConfig, WindowConfig};
use crate::dense::{Cholesky, Matrix, difference, dot, norm};
use crate::error::Result;
use crate::inverse::{KnownCurvature, residual_bound};
use crate::model::FisherKind;
use crate::problem::{DataCleaningConfig, DataSource, Problem, ProblemConfig, QuadraticConfig};
use crate::rng::{Key, Stream};
use crate::samples::Batch;
use crate::testkit::cases::{Case, Shape, stored_of, with_spectrum};
use crate::testkit::reference::{ResidualRange, dense_solve, fisher, fisher_minus};

/// The families that bring an interval.
pub const FAMILIES: [&str; 4] = ["frequent-directions", "robust-frequent-directions", "nystrom", "window"];
/// The spectra, by name.
pub const SPECTRA: [&str; 6] = ["flat", "exponential", "j⁻²", "one spike", "clustered", "singular"];

/// F − F̂ ≼ hi·I.
pub const UPPER: &str = "upper end";
/// −F + F̂ ≼ −lo·I.
pub const LOWER: &str = "lower end";
/// What is stated of an inverse product.
pub const OF_PRODUCTS: [&str; 9] = [
    "radius",
    "coordinate",
    "bilinear form",
    "row",
    "norm of rows",
    "another estimate",
    "energy",
    "residual",
    "ellipsoid of a residual",
];
/// What is stated of a hypergradient.
pub const OF_HYPERGRADIENTS: [&str; 3] = ["hypergradient coordinate", "hypergradient norm", "hypergradient total"];

/// The largest dimension of a case.
const LARGEST: usize = 24;

/// The settings of a family of this size that loses something, windows apart.
pub fn config(family: &str, size: usize, probes: usize) -> CurvatureConfig {
    let directions = FrequentDirectionsConfig { sketch_size: size, probes };
    match family {
        "frequent-directions" => CurvatureConfig::FrequentDirections(directions),
        "robust-frequent-directions" => CurvatureConfig::RobustFrequentDirections(directions),
        "nystrom" => CurvatureConfig::Nystrom(NystromConfig { sketch_size: size, probes: Some(probes), ..Default::default() }),
        _ => CurvatureConfig::Window(WindowConfig { samples: 1 << 20 }),
    }
}

/// λ_1 … λ_d of a spectrum, the largest 1 up to rounding.
pub fn spectrum(name: &str, dim: usize) -> Vec<f64> {
    let value = |j: usize| match name {
        "exponential" => 0.5_f64.powi(j as i32),
        "j⁻¹" => 1.0 / (1 + j) as f64,
        "j⁻²" => ((1 + j) as f64).powi(-2),
        "one spike" => f64::from(u8::from(j == 0)) + 1e-6,
        "clustered" => [1.0, 1e-3, 1e-6][3 * j / dim],
        "singular" => f64::from(u8::from(j < dim.div_ceil(3))),
        _ => 1.0,
    };
    (0..dim).map(value).collect()
}

/// A damping between 1e-6 and 1 times the largest eigenvalue, as λI or uneven.
fn damping(dim: usize, scale: f64, stream: &mut Stream) -> Result<KnownCurvature> {
    let mu = scale * 10.0_f64.powf(-6.0 * stream.uniform());
    if stream.uniform() < 0.5 {
        return KnownCurvature::scalar(dim, mu);
    }
    KnownCurvature::diagonal((0..dim).map(|_| mu * (1.0 + 3.0 * stream.uniform())).collect())
}

/// Interval and inverse product of one random case of dimension up to 24, at scales from 1e-8 to 1e8.
///
/// # Errors
/// Whatever the family meets.
pub fn inverse_product(family: &str, spectrum_name: &str, key: Key) -> Result<Vec<Statement>> {
    let mut stream = key.stream();
    let d = 2 + stream.below(LARGEST - 1)?;
    let scale = 10.0_f64.powi(stream.below(17)? as i32 - 8);
    let eigenvalues: Vec<f64> = spectrum(spectrum_name, d).iter().map(|value| value * scale).collect();
    let case = with_spectrum(key.child(1), d + stream.below(10)?, d, &eigenvalues)?;
    let mut curvature = config(family, 1 + stream.below(d)?, 0).build(d, key.child(2))?;
    curvature.absorb(&case.block)?;
    let approximation = curvature.approximate()?;
    let known = damping(d, scale, &mut stream)?;
    let f = fisher(&[&case]);
    let v = if stream.uniform() < 0.5 { stream.normals(d) } else { f.col(0).to_vec() };
    let exact = dense_solve(&f, &known, &v)?;

    let mut out = interval(&case, &*approximation)?;
    let bracket = approximation.bracket(&known, None)?;
    let certified = bracket.solve(&v)?;
    let [radius, coordinate, bilinear, row, rows_norm, another, energy, residual, ellipsoid] = OF_PRODUCTS;
    let mut state = |name, truth, bound, rounding| out.push(Statement::bound(name, 0.0, truth, bound, rounding));
    // The oracle is right to the last digit or so.
    let digits = 4.0 * f64::EPSILON * norm(&exact);
    let error = difference(&certified.midpoint, &exact);
    state(radius, norm(&error), certified.radius, digits);
    for (error, bound) in error.iter().zip(bracket.coordinates(&certified)?) {
        state(coordinate, error.abs(), bound, digits);
    }
    let u = stream.normals(d);
    let enclosure = bracket.bilinear(&u, &v)?;
    let half = 0.5 * (enclosure.high - enclosure.low);
    state(bilinear, (dot(&u, &exact) - enclosure.value).abs(), half, 8.0 * norm(&u) * digits);
    let rows = stored_of(Shape::random(3), d, key.child(3))?;
    let bounds = bracket.rows(&rows.block, &certified)?;
    let products = rows.block.project(&Matrix::column(error))?;
    let size = rows.expanded.norm();
    for (product, bound) in products.as_slice().iter().zip(&bounds) {
        state(row, product.abs(), *bound, 8.0 * size * digits);
    }
    state(rows_norm, products.norm(), bracket.rows_norm(&rows.block, &bounds, &certified)?, 8.0 * size * digits);

    let estimate = stream.normals(d);
    let error = norm(&difference(&estimate, &exact));
    state(another, error, certified.radius_of(&estimate), 8.0 * f64::EPSILON * (error + norm(&exact)));
    let mut product = crate::dense::matvec(&f, &certified.upper)?;
    product.iter_mut().enumerate().for_each(|(i, p)| *p += known.entry(i) * certified.upper[i]);
    let r = difference(&v, &product);
    let error = norm(&difference(&certified.upper, &exact));
    // What the residual has lost to rounding before any bound sees it.
    let size = norm(&v) + (f.trace() + known.max_eigenvalue()) * norm(&certified.upper);
    let lost = 1e-14 * size / known.min_eigenvalue();
    state(energy, error, bracket.energy_bound(&r)?.radius, lost);
    state(residual, error, residual_bound(&r, &known)?.radius, lost);
    state(ellipsoid, error, bracket.refine(&certified.upper, &r)?.2.radius, lost);
    Ok(out)
}

/// lo·I ≼ F − F̂ ≼ hi·I.
fn interval(case: &Case, approximation: &dyn Approximation) -> Result<Vec<Statement>> {
    let Some(interval) = approximation.interval() else { return Ok(Vec::new()) };
    let estimate = approximation.to_dense()?;
    let range = ResidualRange::new(&fisher_minus(&[(case, 1.0)], Some(&estimate)), &estimate)?;
    Ok(vec![
        Statement::bound(UPPER, 0.0, range.high, interval.hi, range.rounding),
        Statement::bound(LOWER, 0.0, -range.low, -interval.lo, range.rounding),
    ])
}

/// A small quadratic problem.
///
/// # Errors
/// Never, for these settings.
pub fn quadratic(key: Key) -> Result<Box<dyn Problem>> {
    let settings = QuadraticConfig {
        inner_dim: 12,
        outer_dim: 4,
        samples: 60,
        outer_samples: 20,
        misfit: 0.5,
        ridge: 0.05,
        ..Default::default()
    };
    ProblemConfig::Quadratic(settings).build(&DataSource::default(), key)
}

/// μ at which hypergradients are taken.
pub const HYPERGRADIENT_DAMPING: f64 = 0.02;

/// A point, and the hypergradient there with the matrix that a sketch is fed in the place of its sketch.
pub struct FedHypergradient {
    /// v.
    pub outer: Vec<f64>,
    /// θ, off the minimizer.
    pub inner: Vec<f64>,
    /// ∇_v f − Jᵀ(F + Λ + μI)⁻¹b.
    pub value: Vec<f64>,
}

impl FedHypergradient {
    /// At a random v, for a problem whose expected Fisher matrix is the Hessian of its likelihood.
    ///
    /// # Errors
    /// Whatever the problem meets.
    pub fn new(problem: &dyn Problem, inner: Vec<f64>, outer: Vec<f64>) -> Result<Self> {
        let mut hessian = problem.hessian(&outer, &inner)?;
        (0..inner.len()).for_each(|i| hessian[(i, i)] += HYPERGRADIENT_DAMPING);
        let gradient = problem.grad_outer(&outer, &inner, Batch::All)?;
        let q = Cholesky::new(hessian)?.solve(&gradient.theta)?;
        let value = difference(&gradient.v.into_vec(), &problem.cross_vjp(&outer, &inner, Batch::All, &q)?);
        Ok(Self { outer, inner, value })
    }

    /// F̂ of the rows that F is the sum of.
    ///
    /// # Errors
    /// Whatever problem and family meet.
    pub fn sketch(&self, problem: &dyn Problem, config: &CurvatureConfig, key: Key) -> Result<Box<dyn Approximation>> {
        let rows = problem.scores(&self.outer, &self.inner, Batch::All, FisherKind::Expected, key)?;
        let mut curvature = config.build(problem.inner_dim(), key)?;
        curvature.absorb(&rows)?;
        curvature.approximate()
    }

    /// What rounding of the oracle's solve may come to.
    pub fn rounding(&self) -> f64 {
        1e-11 * norm(&self.value) + 1e-15
    }
}

/// The hypergradient of a random quadratic problem, off its inner solution.
///
/// # Errors
/// Whatever the family meets.
pub fn hypergradient(family: &str, key: Key) -> Result<Vec<Statement>> {
    let problem = quadratic(key)?;
    let mut stream = key.child(1).stream();
    let outer = stream.normals(problem.outer_dim());
    let mut inner = problem.closed_form(&outer)?.map_or_else(|| vec![0.0; problem.inner_dim()], |solution| solution.theta);
    crate::dense::axpy(1e-3, &stream.normals(inner.len()), &mut inner);
    let size = 1 + stream.below(problem.inner_dim())?;
    certify(&*problem, FedHypergradient::new(&*problem, inner, outer)?, &config(family, size, 0), key.child(2))
}

/// The hypergradient of a small data-cleaning problem on digits, at a random θ.
///
/// # Errors
/// Whatever the family meets.
pub fn cleaning(family: &str, key: Key) -> Result<Vec<Statement>> {
    let settings = DataCleaningConfig { train: 40, validation: 20, ridge: 0.05, ..Default::default() };
    let problem = ProblemConfig::DataCleaning(settings).build(&DataSource::default(), key)?;
    let mut stream = key.child(1).stream();
    let outer = stream.normals(problem.outer_dim());
    let inner: Vec<f64> = stream.normals(problem.inner_dim()).iter().map(|x| 0.05 * x).collect();
    let size = 20 + stream.below(80)?;
    certify(&*problem, FedHypergradient::new(&*problem, inner, outer)?, &config(family, size, 0), key.child(2))
}

fn certify(problem: &dyn Problem, fed: FedHypergradient, config: &CurvatureConfig, key: Key) -> Result<Vec<Statement>> {
    let approximation = fed.sketch(problem, config, key)?;
    let found = certified_nhgd(problem, &fed.outer, &fed.inner, &*approximation, HYPERGRADIENT_DAMPING, None)?;
    let [coordinate, whole, total] = OF_HYPERGRADIENTS;
    let error = difference(&found.value, &fed.value);
    let mut out = Vec::new();
    for (error, bound) in error.iter().zip(found.coordinates.iter().flatten()) {
        out.push(Statement::bound(coordinate, 0.0, error.abs(), *bound, fed.rounding()));
    }
    if let Some(bound) = found.norm {
        out.push(Statement::bound(whole, 0.0, norm(&error), bound, fed.rounding()));
    }
    // The other way to ∇Φ itself is a formula of its own.
    if let (Some(bound), Some(solution)) = (found.total, problem.closed_form(&fed.outer)?) {
        let error = norm(&difference(&found.value, &solution.hypergradient));
        out.push(Statement::bound(total, 0.0, error, bound, fed.rounding()));
    }
    Ok(out)
}
