//! The registered families; a family of one's own, written here as someone outside the crate would, with the claims that it makes;
//! and the same with one fault at a time.

use std::any::Any;

use nhgd::curvature::{
    Approximation, Certainty, Curvature, CurvatureConfig, FrequentDirectionsConfig, Interval, NystromConfig, TestMatrix,
    WindowConfig,
};
use nhgd::dense::{Cholesky, Matrix, check_shape, matmul, matvec};
use nhgd::error::{check_count, check_finite, check_len};
use nhgd::gradient::{DenseRows, GradientBlock, KroneckerRows};
use nhgd::inverse::KnownCurvature;
use nhgd::operator::LinearOperator;
use nhgd::rng::Key;
use nhgd::testkit::{self, Agreement, CurvatureClaims, History, Intervals, KnownClaim, Merge, Report, RowsClaim, Target};
use nhgd::{Error, Result};

use super::caught;

type Settings = Box<dyn Fn(usize) -> CurvatureConfig + Sync>;

/// How a family goes through the suite: its settings for a dimension, and what it claims with them.
fn registered(name: &str) -> Vec<(String, Settings, CurvatureClaims<'static>)> {
    let all = CurvatureClaims::default();
    let line = |what: &str, settings: Settings, claims| (format!("{name}{what}"), settings, claims);
    match name {
        "window" => vec![line("", Box::new(|_| CurvatureConfig::Window(WindowConfig { samples: 10_000 })), all)],
        "nystrom" => {
            let sized = |size: fn(usize) -> usize, test_matrix| -> Settings {
                Box::new(move |d| {
                    CurvatureConfig::Nystrom(NystromConfig { sketch_size: size(d), test_matrix, probes: Some(2.min(d)) })
                })
            };
            // F̂ depends on Y through the inverse of its core, which magnifies rounding; `proptests/curvature.rs` compares the Y.
            let sketch = CurvatureClaims {
                estimate: Agreement::Unclaimed,
                merge: Merge::Within(1e-9),
                chunks: Agreement::Within(1e-9),
                ..all
            };
            vec![
                line(" of size d", sized(|d| d, TestMatrix::Gaussian), all),
                line(" of size d/3", sized(|d| d.div_ceil(3), TestMatrix::Gaussian), sketch),
                line(" of size d, signs", sized(|d| d, TestMatrix::Sign), all),
                line(" of size d/6, signs", sized(|d| d.div_ceil(6), TestMatrix::Sign), sketch),
            ]
        }
        // β is in the estimate, and a Λ' cannot be added.
        "rank-one" | "rank-one-smoothed" => {
            let config = CurvatureConfig::default_of(name).unwrap();
            let inverse = CurvatureClaims { estimate: Agreement::Unclaimed, known: KnownClaim::Zero, ..all };
            // The order of its rows is in what the smoothed form gives, and it fades by itself.
            let claims = match name {
                "rank-one" => inverse,
                _ => CurvatureClaims {
                    mass: Agreement::Unclaimed,
                    merge: Merge::Approximate,
                    interval: Intervals::Absent,
                    ..inverse
                },
            };
            vec![line("", Box::new(move |_| config.clone()), claims)]
        }
        // Buffers of two streams, or of one cut otherwise, shrink by other amounts: estimates of the same matrix, each within its interval.
        "frequent-directions" | "robust-frequent-directions" => {
            let sized = |size: fn(usize) -> usize| -> Settings {
                let robust = name.starts_with("robust");
                Box::new(move |d| {
                    let config = FrequentDirectionsConfig { sketch_size: size(d), probes: 2.min(d) };
                    if robust {
                        CurvatureConfig::RobustFrequentDirections(config)
                    } else {
                        CurvatureConfig::FrequentDirections(config)
                    }
                })
            };
            let sketch =
                CurvatureClaims { estimate: Agreement::Unclaimed, merge: Merge::Approximate, chunks: Agreement::Unclaimed, ..all };
            // A buffer of d rows loses nothing; rotating it rounds.
            let whole = CurvatureClaims { merge: Merge::Within(1e-11), chunks: Agreement::Within(1e-11), ..all };
            vec![line(" of size d", sized(|d| d), whole), line(" of size d/3", sized(|d| d.div_ceil(3)), sketch)]
        }
        "diagonal" => {
            let claims = CurvatureClaims { target: Target::Formula(&diagonal_of), interval: Intervals::Absent, ..all };
            vec![line("", Box::new(|_| CurvatureConfig::default_of("diagonal").unwrap()), claims)]
        }
        "kfac" => {
            let claims = CurvatureClaims {
                target: Target::Formula(&kfac_of),
                interval: Intervals::Absent,
                known: KnownClaim::Scalar,
                rows: RowsClaim::Factored,
                ..all
            };
            vec![line("", Box::new(|_| CurvatureConfig::default_of("kfac").unwrap()), claims)]
        }
        other => {
            let config = CurvatureConfig::default_of(other).unwrap();
            vec![line("", Box::new(move |_| config.clone()), all)]
        }
    }
}

/// The diagonal of F.
fn diagonal_of(history: &History) -> Result<Matrix> {
    let f = history.fisher();
    Ok(Matrix::from_fn(f.nrows(), f.nrows(), |i, j| if i == j { f[(i, j)] } else { 0.0 }))
}

/// Block by block the Kronecker product of two weighted means over samples, B of δδᵀ with A of xxᵀ: entry (k·p + j, l·p + m) is
/// B_kl A_jm.
fn kfac_of(history: &History) -> Result<Matrix> {
    fn layers(block: &GradientBlock) -> &[KroneckerRows] {
        match block {
            GradientBlock::Kronecker(rows) => std::slice::from_ref(rows),
            GradientBlock::Layered(rows) => rows.layers(),
            GradientBlock::Dense(_) => &[],
        }
    }
    let parts = history.parts();
    let mean = |l: usize, factor: fn(&KroneckerRows) -> &Matrix| -> Result<Matrix> {
        let size = factor(&layers(&parts[0].0.block)[l]).nrows();
        let mut sum = Matrix::zeros(size, size);
        for (case, weight) in &parts {
            let columns = factor(&layers(&case.block)[l]);
            sum.add_scaled(weight / history.mass(), &matmul(columns, columns.t())?)?;
        }
        Ok(sum)
    };
    let mut result = Matrix::zeros(parts[0].0.block.dim(), parts[0].0.block.dim());
    let mut start = 0;
    for l in 0..layers(&parts[0].0.block).len() {
        let (a, b) = (mean(l, KroneckerRows::inputs)?, mean(l, KroneckerRows::deltas)?);
        let p = a.nrows();
        let size = p * b.nrows();
        for i in 0..size {
            for j in 0..size {
                result[(start + i, start + j)] = b[(i / p, j / p)] * a[(i % p, j % p)];
            }
        }
        start += size;
    }
    Ok(result)
}

#[test]
fn every_registered_family_conforms() {
    for (name, _) in CurvatureConfig::REGISTRY {
        for (what, settings, claims) in registered(name) {
            let build = |d: usize, key: Key| settings(d).build(d, key);
            let report = testkit::curvature(&what, &build, &claims, Key::new(1));
            println!("{report}");
            report.assert_passes();
        }
    }
}

/// A negative case of the formula's claim: K-FAC is not the matrix that it was fed.
#[test]
fn kfac_that_claimed_to_be_the_fisher_matrix_is_caught() {
    for (_, settings, claims) in registered("kfac") {
        let build = |d: usize, key: Key| settings(d).build(d, key);
        let claims = CurvatureClaims { target: Target::Fisher, ..claims };
        caught("kfac as F", &testkit::curvature("kfac", &build, &claims, Key::new(1)), "F̂ is the matrix that was fed");
    }
}

/// What is wrong with a [`Plain`] estimate, and the claim that must notice.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    ForgetsTheNewestBlock,
    SquaresWeights,
    DividesByRows,
    CountsRows,
    IgnoresDecay,
    DecaysTheSumAlone,
    LosesBitsWhenSaved,
    LosesTheMassWhenSaved,
    SkipsTheCheckSum,
    MergesTheSumAlone,
    MergesAnything,
    TakesOneSampleFewerInChunks,
    NarrowInterval,
    WideInterval,
    HasNoInterval,
    ForgetsTheKnownCurvature,
    WrongTrace,
    NotSymmetric,
    DependsOnThreads,
    AcceptsAnyDecay,
    PanicsOnAnotherDimension,
    ChangesBeforeItRefuses,
    AbsorbsNan,
    SolvesNan,
    AnswersWithoutRows,
}

/// What F̂ keeps of F.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kept {
    All,
    Diagonal,
    /// All of it, with β on the diagonal of the sum, and solved with alone: no Λ'.
    WithPrior(f64),
}

/// F = sum / mass, in the plainest way.
#[derive(Debug, Clone)]
struct Plain {
    sum: Matrix,
    mass: f64,
    newest: Matrix,
    kept: Kept,
    fault: Fault,
}

const ROUNDING: f64 = 1e-12;

impl Plain {
    fn new(dim: usize, kept: Kept, fault: Fault) -> Result<Self> {
        check_count("dim", dim)?;
        Ok(Self { sum: Matrix::zeros(dim, dim), mass: 0.0, newest: Matrix::zeros(dim, dim), kept, fault })
    }

    fn load(bytes: &[u8], kept: Kept, fault: Fault) -> Result<Self> {
        let refused = || Error::argument("saved estimate", "bytes that `save` wrote", format_args!("{} others", bytes.len()));
        let (dim, rest) = bytes.split_first_chunk::<8>().ok_or_else(refused)?;
        let (body, check) = rest.split_last_chunk::<8>().ok_or_else(refused)?;
        let dim = u64::from_le_bytes(*dim) as usize;
        let numbers: Vec<f64> = body.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
        if dim > 1000 || body.len() != 8 * (2 * dim * dim + 1) {
            return Err(refused());
        }
        if fault != Fault::SkipsTheCheckSum && check_sum(dim as u64, body) != u64::from_le_bytes(*check) {
            return Err(refused());
        }
        let mut plain = Self::new(dim, kept, fault)?;
        plain.sum.as_mut_slice().copy_from_slice(&numbers[..dim * dim]);
        plain.newest.as_mut_slice().copy_from_slice(&numbers[dim * dim..2 * dim * dim]);
        plain.mass = numbers[2 * dim * dim];
        Ok(plain)
    }
}

fn check_sum(dim: u64, body: &[u8]) -> u64 {
    body.iter().fold(dim, |sum, byte| sum.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(*byte))
}

impl Curvature for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }
    fn dim(&self) -> usize {
        self.sum.nrows()
    }
    fn mass(&self) -> f64 {
        self.mass
    }
    fn absorb(&mut self, block: &GradientBlock) -> Result<()> {
        if self.fault == Fault::ChangesBeforeItRefuses {
            self.mass += 1e-3;
        }
        if self.fault == Fault::PanicsOnAnotherDimension {
            assert_eq!(block.dim(), self.dim());
        }
        check_len("block", block.dim(), self.dim())?;
        if self.fault != Fault::AbsorbsNan {
            block.check_finite()?;
            check_finite("squared norms", &block.squared_row_norms())?;
        }
        if self.fault == Fault::ChangesBeforeItRefuses {
            self.mass -= 1e-3;
        }
        self.newest = match self.fault {
            Fault::SquaresWeights => {
                // w s for √w s, as if the weighted gradient had been squared; the rows' norms stand for the unknown weights.
                let norms = block.squared_row_norms();
                let rows = block.project(&Matrix::identity(self.dim()))?;
                let scaled = Matrix::from_fn(self.dim(), block.rows(), |j, i| norms[i].sqrt() * rows[(i, j)]);
                GradientBlock::from(DenseRows::new(scaled, 1)?).scatter()?
            }
            Fault::TakesOneSampleFewerInChunks if block.samples() == 7 => block.last_samples(6).scatter()?,
            _ => block.scatter()?,
        };
        self.sum.add_scaled(1.0, &self.newest)?;
        let per_sample = (block.rows() / block.samples()) as f64;
        self.mass += block.samples() as f64 * if self.fault == Fault::CountsRows { per_sample } else { 1.0 };
        if self.fault == Fault::DividesByRows {
            self.sum.scale(1.0 / per_sample);
        }
        Ok(())
    }
    fn decay(&mut self, gamma: f64) -> Result<()> {
        if self.fault != Fault::AcceptsAnyDecay && !(0.0..1.0).contains(&gamma) {
            return Err(Error::argument("decay", "a number in [0, 1)", gamma));
        }
        if self.fault == Fault::IgnoresDecay {
            return Ok(());
        }
        self.sum.scale(1.0 - gamma);
        self.newest.scale(1.0 - gamma);
        if self.fault != Fault::DecaysTheSumAlone {
            self.mass *= 1.0 - gamma;
        }
        Ok(())
    }
    fn merge(&mut self, other: &dyn Curvature) -> Result<()> {
        let unlike = || Error::unsupported("merging another kind", "merge estimates of one family");
        if self.fault == Fault::MergesAnything && (other as &dyn Any).downcast_ref::<Self>().is_none() {
            return Ok(());
        }
        let other = (other as &dyn Any).downcast_ref::<Self>().ok_or_else(unlike)?;
        check_shape("other", &other.sum, self.dim(), self.dim())?;
        self.sum.add_scaled(1.0, &other.sum)?;
        if self.fault != Fault::MergesTheSumAlone {
            self.mass += other.mass;
        }
        Ok(())
    }
    fn approximate(&self) -> Result<Box<dyn Approximation>> {
        if self.mass <= 0.0 && self.fault != Fault::AnswersWithoutRows {
            return Err(Error::argument("curvature", "at least one absorbed sample", "none"));
        }
        let mut matrix = self.sum.clone();
        match self.kept {
            Kept::All => {}
            Kept::Diagonal => matrix = Matrix::from_fn(self.dim(), self.dim(), |i, j| if i == j { matrix[(i, j)] } else { 0.0 }),
            Kept::WithPrior(beta) => matrix.add_scaled(beta, &Matrix::identity(self.dim()))?,
        }
        match self.fault {
            Fault::ForgetsTheNewestBlock => matrix.add_scaled(-1.0, &self.newest)?,
            Fault::NotSymmetric if self.dim() > 1 => matrix[(0, 1)] += 1e-9 * matrix[(0, 0)],
            Fault::DependsOnThreads => matrix.scale(1.0 + 1e-15 * nhgd::par::threads() as f64),
            _ => {}
        }
        matrix.scale(1.0 / self.mass);
        Ok(Box::new(PlainApproximation { matrix, kept: self.kept, fault: self.fault }))
    }
    fn trace(&self) -> Option<f64> {
        (self.mass > 0.0).then(|| (self.sum.trace() + self.newest.trace()) / self.mass)
    }
    fn save_to(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        let dim = self.dim() as u64;
        let mass = if self.fault == Fault::LosesTheMassWhenSaved { self.mass.round() } else { self.mass };
        let numbers = self.sum.as_slice().iter().chain(self.newest.as_slice()).chain([&mass]);
        let stored = |x: &f64| if self.fault == Fault::LosesBitsWhenSaved { f64::from(*x as f32) } else { *x };
        let body: Vec<u8> = numbers.flat_map(|x| stored(x).to_le_bytes()).collect();
        out.write_all(&[&dim.to_le_bytes()[..], &body, &check_sum(dim, &body).to_le_bytes()].concat())
    }
    fn boxed_clone(&self) -> Box<dyn Curvature> {
        Box::new(self.clone())
    }
}

struct PlainApproximation {
    matrix: Matrix,
    kept: Kept,
    fault: Fault,
}

impl LinearOperator for PlainApproximation {
    fn dim(&self) -> usize {
        self.matrix.nrows()
    }
    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        matvec(&self.matrix, x)
    }
}

impl Approximation for PlainApproximation {
    fn inverse(&self, known: &KnownCurvature) -> Result<Box<dyn LinearOperator + '_>> {
        if matches!(self.kept, Kept::WithPrior(_)) && known.as_scalar() != Some(0.0) {
            return Err(Error::unsupported("a known curvature", "take another family"));
        }
        let mut matrix = self.matrix.clone();
        if self.fault != Fault::ForgetsTheKnownCurvature {
            known.add_to(&mut matrix)?;
        }
        let factor = Cholesky::new(matrix)?;
        Ok(Box::new(nhgd::operator::FromFn::new(self.dim(), move |x: &[f64]| factor.solve(x))))
    }
    fn solve(&self, known: &KnownCurvature, rhs: &[f64]) -> Result<Vec<f64>> {
        if self.fault == Fault::SolvesNan && rhs.iter().any(|x| !x.is_finite()) {
            return Ok(rhs.to_vec());
        }
        check_len("rhs", rhs.len(), self.dim())?;
        self.inverse(known)?.apply(rhs)
    }
    fn interval(&self) -> Option<Interval> {
        let hi = match (self.kept, self.fault) {
            (Kept::Diagonal | Kept::WithPrior(_), _) | (_, Fault::HasNoInterval) => return None,
            (_, Fault::NarrowInterval) => 0.0,
            (_, Fault::WideInterval) => self.matrix.trace(),
            _ => ROUNDING * self.matrix.trace(),
        };
        Some(Interval { lo: -hi, hi, certainty: Certainty::Deterministic {} })
    }
    fn trace(&self) -> f64 {
        if self.fault == Fault::WrongTrace { self.matrix.norm() } else { self.matrix.trace() }
    }
}

fn plain(kept: Kept, fault: Fault, claims: CurvatureClaims<'_>) -> Report {
    let load = move |bytes: &[u8]| Ok(Box::new(Plain::load(bytes, kept, fault)?) as Box<dyn Curvature>);
    let build = move |dim: usize, _key: Key| Ok(Box::new(Plain::new(dim, kept, fault)?) as Box<dyn Curvature>);
    testkit::curvature(&format!("{kept:?}, {fault:?}"), &build, &CurvatureClaims { load: &load, ..claims }, Key::new(2))
}

#[test]
fn a_family_of_ones_own_conforms_to_what_it_claims() {
    plain(Kept::All, Fault::None, CurvatureClaims::default()).assert_passes();
}

#[test]
fn a_family_that_keeps_the_diagonal_claims_that_formula_and_no_interval() {
    let claims = CurvatureClaims { target: Target::Formula(&diagonal_of), interval: Intervals::Absent, ..Default::default() };
    plain(Kept::Diagonal, Fault::None, claims).assert_passes();
    // Under the claims of a family that keeps all of F it fails, and the claims are named.
    let report = plain(Kept::Diagonal, Fault::None, CurvatureClaims::default());
    caught("the diagonal", &report, "F̂ is the matrix that was fed");
    caught("the diagonal", &report, "the interval is there where it is claimed, and only there");
}

#[test]
fn a_family_that_takes_no_known_curvature_claims_so() {
    let prior = |history: &History| {
        let mut f = history.fisher();
        f.add_scaled(1.0 / history.mass(), &Matrix::identity(f.nrows()))?;
        Ok(f)
    };
    let claims = CurvatureClaims {
        target: Target::Formula(&prior),
        interval: Intervals::Absent,
        known: KnownClaim::Zero,
        ..Default::default()
    };
    plain(Kept::WithPrior(1.0), Fault::None, claims).assert_passes();
    // It claims to take any Λ', and does not; it claims to take none, and does.
    let any = CurvatureClaims { known: KnownClaim::Any, ..claims };
    caught("no Λ'", &plain(Kept::WithPrior(1.0), Fault::None, any), "solve is (F̂ + Λ')⁻¹b");
    let zero = CurvatureClaims { known: KnownClaim::Zero, ..Default::default() };
    caught("any Λ'", &plain(Kept::All, Fault::None, zero), "a Λ' that the family cannot take is refused");
    // It claims not to merge, and does.
    let alone = CurvatureClaims { merge: Merge::Refused, ..Default::default() };
    caught("merges", &plain(Kept::All, Fault::None, alone), "a merge that is not claimed is refused");
}

#[test]
fn wrong_families_are_rejected_by_the_claim_that_they_break() {
    let fed = "F̂ is the matrix that was fed";
    let mass = "the mass is the decayed number of samples, not of rows";
    let poisoned = "rows that are not finite, or whose squares are not, are refused";
    for (fault, claim) in [
        (Fault::ForgetsTheNewestBlock, fed),
        (Fault::ForgetsTheNewestBlock, "the interval holds the spectrum of the residual"),
        (Fault::SquaresWeights, fed),
        (Fault::DividesByRows, fed),
        (Fault::CountsRows, mass),
        (Fault::CountsRows, fed),
        (Fault::IgnoresDecay, mass),
        (Fault::IgnoresDecay, fed),
        (Fault::DecaysTheSumAlone, mass),
        (Fault::LosesBitsWhenSaved, "a loaded estimate has the bits of the saved one"),
        (Fault::LosesTheMassWhenSaved, "a loaded estimate has the name, dim and mass of the saved one"),
        (Fault::SkipsTheCheckSum, "a changed byte is refused"),
        (Fault::MergesTheSumAlone, "merging equals one pass"),
        (Fault::MergesAnything, "an estimate of another kind does not merge"),
        (Fault::TakesOneSampleFewerInChunks, "chunks of the stream do not matter"),
        (Fault::NarrowInterval, "the interval holds the spectrum of the residual"),
        (Fault::WideInterval, "the interval of an estimate that keeps everything is as narrow as rounding"),
        (Fault::HasNoInterval, "the interval is there where it is claimed, and only there"),
        (Fault::ForgetsTheKnownCurvature, "solve is (F̂ + Λ')⁻¹b"),
        (Fault::WrongTrace, "trace is tr F̂"),
        (Fault::NotSymmetric, "F̂ is symmetric"),
        (Fault::DependsOnThreads, "the same bits at every thread count"),
        (Fault::AcceptsAnyDecay, "a decay outside [0, 1) is refused"),
        (Fault::PanicsOnAnotherDimension, "rows of another dimension are refused"),
        (Fault::ChangesBeforeItRefuses, "what is refused changes nothing"),
        (Fault::AbsorbsNan, poisoned),
        (Fault::SolvesNan, "a right-hand side that is not finite is refused"),
        (Fault::AnswersWithoutRows, "an approximation of nothing is refused"),
    ] {
        caught(fault, &plain(Kept::All, fault, CurvatureClaims::default()), claim);
    }
}

/// A sketch is held to its interval where it does not keep all of F: one that forgets its newest rows must not hide behind that.
#[test]
fn a_sketch_that_forgets_its_newest_rows_leaves_its_interval() {
    let sketch = CurvatureClaims { estimate: Agreement::Unclaimed, ..Default::default() };
    let claim = "the interval holds the spectrum of the residual";
    caught("a sketch", &plain(Kept::All, Fault::ForgetsTheNewestBlock, sketch), claim);
}

#[test]
fn bad_settings_are_refused_by_name() {
    let build = |config: CurvatureConfig, d| config.build(d, Key::new(0));
    let nystrom = |sketch_size, d| build(CurvatureConfig::Nystrom(NystromConfig { sketch_size, ..Default::default() }), d);
    let directions = |probes, d| build(CurvatureConfig::FrequentDirections(FrequentDirectionsConfig { sketch_size: 2, probes }), d);
    let dense = |max_bytes| build(CurvatureConfig::Dense(nhgd::curvature::DenseConfig { max_bytes }), 5);
    testkit::settings(
        "curvature families",
        [
            ("sketch_size", nystrom(0, 5)),
            ("sketch_size", nystrom(6, 5)),
            ("dim", nystrom(2, usize::MAX)),
            // 128 TiB: a count that fits, and more than there are addresses.
            ("dim", nystrom(1 << 22, 1 << 22)),
            ("probes", directions(6, 5)),
            ("dim", directions(1 << 22, 1 << 22)),
            ("samples", build(CurvatureConfig::Window(WindowConfig { samples: 0 }), 5)),
            ("max_bytes", dense(0)),
            ("max_bytes", dense(199)),
            ("max_bytes", build(CurvatureConfig::default_of("dense").unwrap(), usize::MAX)),
        ],
    )
    .assert_passes();
    assert!(nystrom(5, 5).is_ok() && dense(200).is_ok());
}
