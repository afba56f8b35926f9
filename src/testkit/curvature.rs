//! The suite of curvature families: estimates, solves, intervals, decay, merging and saved bytes against dense algebra on expanded
//! rows. What a family does not claim (an exact merge, a Λ' of its own, all of F) is said in [`CurvatureClaims`], a line each.

use super::Report;
use super::cases::{Case, Content, Shape, kronecker_of, layered_of, stored_of};
use super::reference::{ResidualRange, dense_solve, fisher_minus};
use crate::curvature::{self, Approximation, Curvature, Window};
use crate::dense::{Matrix, eigh, matvec, norm, relative_error};
use crate::error::{Error, Result};
use crate::inverse::KnownCurvature;
use crate::par;
use crate::rng::Key;

/// Makes an empty estimate for a dimension and a key.
pub type Build<'a> = &'a (dyn Fn(usize, Key) -> Result<Box<dyn Curvature>> + Sync);

/// Turns saved bytes back into an estimate.
pub type Load<'a> = &'a (dyn Fn(&[u8]) -> Result<Box<dyn Curvature>> + Sync);

/// What a family claims beyond the contract of [`Curvature`]. The default is everything; weaken what does not apply.
#[derive(Clone, Copy)]
pub struct CurvatureClaims<'a> {
    /// The matrix that F̂ stands for.
    pub target: Target<'a>,
    /// How near F̂ comes to it.
    pub estimate: Agreement,
    /// How near the mass comes to the decayed number of samples.
    pub mass: Agreement,
    /// Whether there is an interval; where there is one, it must hold.
    pub interval: Intervals,
    /// What merging gives, against one pass over all rows.
    pub merge: Merge,
    /// What cutting the stream into other blocks gives.
    pub chunks: Agreement,
    /// Which Λ' it solves with.
    pub known: KnownClaim,
    /// Which rows it takes.
    pub rows: RowsClaim,
    /// Reads what `save` wrote.
    pub load: Load<'a>,
}

impl Default for CurvatureClaims<'_> {
    fn default() -> Self {
        Self {
            target: Target::Fisher,
            estimate: Agreement::Within(1e-11),
            mass: Agreement::Within(1e-13),
            interval: Intervals::Given,
            merge: Merge::Within(1e-12),
            chunks: Agreement::Within(1e-12),
            known: KnownClaim::Any,
            rows: RowsClaim::Any,
            load: &curvature::load,
        }
    }
}

/// Makes a d × d matrix of what an estimate was fed.
pub type Formula<'a> = &'a (dyn Fn(&History) -> Result<Matrix> + Sync);

/// The matrix that F̂ stands for.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// F, the weighted mean of all that was fed.
    Fisher,
    /// Another matrix, which this dense formula makes of what was fed (its diagonal, say).
    Formula(Formula<'a>),
}

/// Whether two matrices agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Agreement {
    /// To this relative error in the Frobenius norm.
    Within(f64),
    /// Not claimed.
    Unclaimed,
}

/// Whether an approximation has an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intervals {
    /// Always.
    Given,
    /// Never.
    Absent,
}

/// What merging gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Merge {
    /// The estimate of one pass, to this relative error.
    Within(f64),
    /// An estimate of the same target; its interval holds.
    Approximate,
    /// Nothing: it is refused.
    Refused,
}

/// Which Λ' a family solves with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownClaim {
    /// Any positive diagonal.
    Any,
    /// λI with λ > 0; another diagonal is refused.
    Scalar,
    /// None: F̂ alone is solved with, and any other Λ' than 0 refused.
    Zero,
}

/// Which rows a family takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsClaim {
    /// All.
    Any,
    /// Factored ones; stored ones are refused.
    Factored,
}

/// What an estimate has been fed, and with what weight.
#[derive(Debug, Clone, Default)]
pub struct History(Vec<(Case, f64)>);

impl History {
    fn absorb(&mut self, case: &Case) {
        self.0.push((case.clone(), 1.0));
    }

    fn decay(&mut self, gamma: f64) {
        self.0.iter_mut().for_each(|(_, weight)| *weight *= 1.0 - gamma);
    }

    /// The blocks in the order in which they came, each with what decay has left of its weight.
    pub fn parts(&self) -> Vec<(&Case, f64)> {
        self.0.iter().map(|(case, weight)| (case, *weight)).collect()
    }

    /// Σ weight · samples.
    pub fn mass(&self) -> f64 {
        self.0.iter().map(|(case, weight)| weight * case.samples as f64).sum()
    }

    /// F = Σ weight · GᵀG / mass.
    pub fn fisher(&self) -> Matrix {
        fisher_minus(&self.parts(), None)
    }
}

/// An estimate together with what it should be an estimate of.
struct Tracked {
    curvature: Box<dyn Curvature>,
    history: History,
}

impl Tracked {
    fn absorb(&mut self, case: &Case) -> Result<()> {
        self.curvature.absorb(&case.block)?;
        self.history.absorb(case);
        Ok(())
    }

    fn decay(&mut self, gamma: f64) -> Result<()> {
        self.curvature.decay(gamma)?;
        self.history.decay(gamma);
        Ok(())
    }
}

struct Suite<'a> {
    build: Build<'a>,
    claims: &'a CurvatureClaims<'a>,
    key: Key,
}

/// A family, with the settings that `build` gives it, against everything that its claims and the contract of [`Curvature`] say.
pub fn curvature(name: &str, build: Build<'_>, claims: &CurvatureClaims<'_>, key: Key) -> Report {
    let mut report = Report::new(name);
    let suite = Suite { build, claims, key };
    report.part("estimates are made", "every shape", |report| suite.shapes(report));
    report.part("histories are followed", "absorb, decay, absorb", |report| suite.histories(report));
    report.part("streams are cut", "chunks", |report| suite.chunks(report));
    report.part("estimates are merged", "two streams", |report| suite.merges(report));
    report.part("estimates are saved", "bytes", |report| suite.saves(report));
    report.part("threads", "large blocks", |report| suite.threads(report));
    report.part("misuse is answered", "refusals", |report| suite.refusals(report));
    report
}

/// The forms that blocks come in: p × C factors, two layers of such, or stored rows of a length.
#[derive(Debug, Clone, Copy)]
enum Form {
    Kronecker(usize, usize),
    Layered([(usize, usize); 2]),
    Stored(usize),
}

/// Odd ones are factored.
const FORMS: [Form; 8] = [
    Form::Stored(15),
    Form::Kronecker(8, 5),
    Form::Stored(1),
    Form::Layered([(3, 4), (5, 1)]),
    Form::Stored(65),
    Form::Kronecker(1, 2),
    Form::Stored(30),
    Form::Kronecker(5, 3),
];
const FACTORED: [Form; 8] = [
    Form::Kronecker(5, 3),
    Form::Kronecker(8, 5),
    Form::Kronecker(1, 1),
    Form::Layered([(3, 4), (5, 1)]),
    Form::Kronecker(13, 5),
    Form::Kronecker(1, 2),
    Form::Layered([(4, 3), (6, 3)]),
    Form::Kronecker(1, 7),
];

impl Form {
    fn dim(self) -> usize {
        match self {
            Self::Kronecker(p, c) => p * c,
            Self::Layered(layers) => layers.iter().map(|(p, c)| p * c).sum(),
            Self::Stored(d) => d,
        }
    }

    fn case(self, shape: Shape, key: Key) -> Result<Case> {
        match self {
            Self::Kronecker(p, c) => kronecker_of(shape, p, c, key),
            Self::Layered(layers) => layered_of(shape, &layers, key),
            Self::Stored(d) => stored_of(shape, d, key),
        }
    }
}

fn to_dense(curvature: &dyn Curvature) -> Result<Matrix> {
    curvature.approximate()?.to_dense()
}

/// The state and what it says, as bits: saved bytes, F̂, its interval and a solve.
fn fingerprint(curvature: &dyn Curvature, known: &KnownCurvature) -> Result<Vec<u8>> {
    let approximation = curvature.approximate()?;
    let rhs = Key::new(99).stream().normals(curvature.dim());
    let mut numbers = approximation.to_dense()?.into_vec();
    numbers.extend(approximation.solve(known, &rhs)?);
    numbers.extend(approximation.interval().iter().flat_map(|interval| [interval.lo, interval.hi]));
    numbers.push(approximation.trace());
    let mut bytes = curvature.save()?;
    bytes.extend(numbers.iter().flat_map(|x| x.to_bits().to_le_bytes()));
    Ok(bytes)
}

impl Suite<'_> {
    fn start(&self, dim: usize) -> Result<Tracked> {
        Ok(Tracked { curvature: (self.build)(dim, self.key)?, history: History::default() })
    }

    /// The forms that the family takes.
    fn forms(&self) -> [Form; 8] {
        match self.claims.rows {
            RowsClaim::Any => FORMS,
            RowsClaim::Factored => FACTORED,
        }
    }

    /// Rows of length `dim` that carry no structure beyond their form.
    fn plain(&self, dim: usize) -> Form {
        match self.claims.rows {
            RowsClaim::Any => Form::Stored(dim),
            RowsClaim::Factored => Form::Kronecker(dim, 1),
        }
    }

    fn target(&self, history: &History) -> Result<Matrix> {
        match self.claims.target {
            Target::Fisher => Ok(history.fisher()),
            Target::Formula(formula) => formula(history),
        }
    }

    /// Λ' that the family must take, for a target of norm `scale`.
    fn knowns(&self, dim: usize, scale: f64) -> Result<Vec<KnownCurvature>> {
        let scale = if scale > 0.0 { scale } else { 1.0 };
        let mut stream = self.key.named("known").stream();
        Ok(match self.claims.known {
            KnownClaim::Zero => vec![KnownCurvature::scalar(dim, 0.0)?],
            KnownClaim::Scalar => {
                vec![KnownCurvature::scalar(dim, 1e-3 * scale)?, KnownCurvature::scalar(dim, scale)?]
            }
            KnownClaim::Any => vec![
                KnownCurvature::scalar(dim, 1e-3 * scale)?,
                KnownCurvature::scalar(dim, scale)?,
                KnownCurvature::diagonal((0..dim).map(|_| 1e-3 * scale * 100.0_f64.powf(stream.uniform())).collect())?,
            ],
        })
    }

    fn some_known(&self, dim: usize) -> Result<KnownCurvature> {
        KnownCurvature::scalar(dim, if self.claims.known == KnownClaim::Zero { 0.0 } else { 0.1 })
    }

    /// Everything that must hold of an estimate, whatever it has been through.
    fn check(&self, report: &mut Report, case: &str, tracked: &Tracked) {
        let Tracked { curvature, history } = tracked;
        if let Agreement::Within(tolerance) = self.claims.mass {
            report.within("the mass is the decayed number of samples, not of rows", case, tolerance, || {
                Ok((curvature.mass() / history.mass() - 1.0).abs())
            });
        }
        report.part("F̂ is there", case, |report| {
            let approximation = curvature.approximate()?;
            let (approximation, estimate) = (approximation.as_ref(), approximation.to_dense()?);
            self.check_estimate(report, case, history, approximation, &estimate);
            self.check_solves(report, case, approximation, &estimate)
        });
    }

    fn check_estimate(&self, report: &mut Report, case: &str, history: &History, approximation: &dyn Approximation, f: &Matrix) {
        let d = f.nrows();
        if let Agreement::Within(tolerance) = self.claims.estimate {
            report.within("F̂ is the matrix that was fed", case, tolerance, || {
                Ok(relative_error(f.as_slice(), self.target(history)?.as_slice()))
            });
        }
        report.within("F̂ is symmetric", case, 1e-13, || Ok(relative_error(f.t().to_matrix().as_slice(), f.as_slice())));
        report.within("F̂ is positive semi-definite", case, 1e-12, || {
            let values = eigh(f)?.values;
            Ok(if values[0] > 0.0 { (-values[d - 1]).max(0.0) / values[0] } else { values[d - 1].abs() })
        });
        report.within("trace is tr F̂", case, 1e-12, || Ok(relative_error(&[approximation.trace()], &[f.trace()])));
        report.holds("the interval is there where it is claimed, and only there", case, || {
            Ok(approximation.interval().is_some() == (self.claims.interval == Intervals::Given))
        });
        if let Some(interval) = approximation.interval() {
            if matches!(self.claims.estimate, Agreement::Within(_)) {
                report.within("the interval of an estimate that keeps everything is as narrow as rounding", case, 1e-8, || {
                    let width = interval.hi - interval.lo;
                    Ok(if width < f64::MIN_POSITIVE { 0.0 } else { width / f.trace() })
                });
            }
            report.holds("the interval holds the spectrum of the residual", case, || {
                let residual = match self.claims.target {
                    Target::Fisher => fisher_minus(&history.parts(), Some(f)),
                    Target::Formula(formula) => {
                        let mut residual = formula(history)?;
                        residual.add_scaled(-1.0, f)?;
                        residual
                    }
                };
                let ResidualRange { low, high, rounding } = ResidualRange::new(&residual, f)?;
                Ok(interval.lo - rounding <= low && high <= interval.hi + rounding)
            });
        }
    }

    fn check_solves(&self, report: &mut Report, case: &str, approximation: &dyn Approximation, f: &Matrix) -> Result<()> {
        let d = f.nrows();
        // Anywhere, and where Λ' helps least.
        let rhs = [self.key.named("rhs").stream().normals(d), eigh(f)?.vectors.col(0).to_vec()];
        for known in self.knowns(d, f.norm())? {
            report.within("solve is (F̂ + Λ')⁻¹b", case, 1e-9, || {
                let errors = rhs.iter().map(|b| Ok(relative_error(&approximation.solve(&known, b)?, &dense_solve(f, &known, b)?)));
                errors.collect::<Result<Vec<_>>>().map(|errors| errors.into_iter().fold(0.0, f64::max))
            });
            report.within("inverse, column by column, is solve", case, 1e-12, || {
                let columns = Matrix::from_columns(d, 2, rhs.concat())?;
                let found = approximation.inverse(&known)?.apply_columns(&columns)?;
                let each = [approximation.solve(&known, &rhs[0])?, approximation.solve(&known, &rhs[1])?];
                Ok(relative_error(found.as_slice(), &each.concat()))
            });
        }
        report.within("F̂x is F̂ times x", case, 1e-12, || {
            Ok(relative_error(&approximation.apply(&rhs[0])?, &matvec(f, &rhs[0])?))
        });
        Ok(())
    }

    fn shapes(&self, report: &mut Report) -> Result<()> {
        let forms = self.forms();
        let turns = Shape::all().enumerate().map(|(turn, shape)| (shape, forms[(turn + turn / forms.len()) % forms.len()]));
        let single = forms.into_iter().map(|form| (Shape::random(1), form));
        let wide = forms.into_iter().map(|form| (Shape { samples: 65, rows_per_sample: 3, content: Content::Weighted }, form));
        for (turn, (shape, form)) in turns.chain(single).chain(wide).enumerate() {
            let case = format!("{form:?}, {shape:?}");
            report.part("rows are absorbed", &case, |report| {
                let mut tracked = self.start(form.dim())?;
                tracked.absorb(&form.case(shape, self.key.child(turn as u64))?)?;
                self.check(report, &case, &tracked);
                Ok(())
            });
        }
        Ok(())
    }

    fn histories(&self, report: &mut Report) -> Result<()> {
        for (turn, form) in self.forms().into_iter().enumerate() {
            let next = |step: u64, samples: usize, content: Content| {
                let shape = Shape { samples, rows_per_sample: 1 + turn % 2, content };
                form.case(shape, self.key.child(turn as u64).child(step))
            };
            let mut tracked = self.start(form.dim())?;
            tracked.absorb(&next(0, 20, Content::Random)?)?;
            tracked.decay(0.25)?;
            self.check(report, &format!("{form:?}, decayed"), &tracked);
            tracked.absorb(&next(1, 7, Content::Weighted)?)?;
            self.check(report, &format!("{form:?}, newest rows after decay"), &tracked);
            tracked.decay(0.0)?;
            tracked.decay(0.9)?;
            tracked.absorb(&next(2, 1, Content::Random)?)?;
            tracked.absorb(&next(3, 64, Content::Line)?)?;
            self.check(report, &format!("{form:?}, a long history"), &tracked);
        }
        Ok(())
    }

    fn chunks(&self, report: &mut Report) -> Result<()> {
        let form = self.forms()[6];
        let whole = form.case(Shape { samples: 129, rows_per_sample: 2, content: Content::Random }, self.key)?;
        let mut reference = self.start(form.dim())?;
        reference.absorb(&whole)?;
        let expected = to_dense(reference.curvature.as_ref())?;
        for chunk in [1, 7, 64, 128] {
            let mut cut = self.start(form.dim())?;
            whole.pieces(chunk).iter().try_for_each(|piece| cut.absorb(piece))?;
            let case = format!("chunks of {chunk}");
            self.check(report, &case, &cut);
            if let Agreement::Within(tolerance) = self.claims.chunks {
                report.within("chunks of the stream do not matter", &case, tolerance, || {
                    Ok(relative_error(to_dense(cut.curvature.as_ref())?.as_slice(), expected.as_slice()))
                });
            }
        }
        Ok(())
    }

    fn merges(&self, report: &mut Report) -> Result<()> {
        let forms = self.forms();
        for (turn, (form, n, m)) in
            [(forms[1], 17, 64), (forms[4], 5, 127), (forms[2], 1, 2), (forms[0], 63, 65), (forms[3], 9, 2)].into_iter().enumerate()
        {
            let case = format!("{form:?}, {n} and {m} samples");
            let key = self.key.named("merge").child(turn as u64);
            let (first, second) = (form.case(Shape::random(n), key.child(0))?, form.case(Shape::random(m), key.child(1))?);
            let (mut one, mut other, mut whole) = (self.start(form.dim())?, self.start(form.dim())?, self.start(form.dim())?);
            one.absorb(&first)?;
            one.decay(0.5)?;
            other.absorb(&second)?;
            whole.absorb(&first)?;
            whole.decay(0.5)?;
            whole.absorb(&second)?;
            if self.claims.merge == Merge::Refused {
                self.unchanged(report, &case, &mut one.curvature, |report, curvature| {
                    report.refuses("a merge that is not claimed is refused", &case, || curvature.merge(other.curvature.as_ref()));
                });
                continue;
            }
            one.curvature.merge(other.curvature.as_ref())?;
            one.history = whole.history.clone();
            self.check(report, &format!("merged, {case}"), &one);
            let expected = to_dense(whole.curvature.as_ref())?;
            if let Merge::Within(tolerance) = self.claims.merge {
                report.within("merging equals one pass", &case, tolerance, || {
                    Ok(relative_error(to_dense(one.curvature.as_ref())?.as_slice(), expected.as_slice()))
                });
            }
            report.within("merging an empty estimate changes nothing", &case, 1e-12, || {
                let before = to_dense(one.curvature.as_ref())?;
                one.curvature.merge(self.start(form.dim())?.curvature.as_ref())?;
                Ok(relative_error(to_dense(one.curvature.as_ref())?.as_slice(), before.as_slice()))
            });
            // Another key: right, or refused.
            let mut stranger = Tracked { curvature: (self.build)(form.dim(), key)?, history: History::default() };
            stranger.absorb(&first)?;
            stranger.decay(0.5)?;
            let before = stranger.curvature.save()?;
            match stranger.curvature.merge(other.curvature.as_ref()) {
                Ok(()) => {
                    stranger.history = whole.history.clone();
                    self.check(report, &format!("merged with another key, {case}"), &stranger);
                }
                Err(_) => report.holds("what is refused changes nothing", "a merge with another key", || {
                    Ok(stranger.curvature.save()? == before)
                }),
            }
        }
        Ok(())
    }

    fn saves(&self, report: &mut Report) -> Result<()> {
        let forms = self.forms();
        for form in [forms[1], forms[0], forms[3]] {
            let case = format!("{form:?}");
            let known = self.some_known(form.dim())?;
            let mut original = self.start(form.dim())?;
            original.absorb(&form.case(Shape::random(20), self.key.child(0))?)?;
            original.decay(0.37)?;
            let bytes = original.curvature.save()?;
            let mut loaded = Tracked { curvature: (self.claims.load)(&bytes)?, history: original.history.clone() };
            report.holds("a loaded estimate has the name, dim and mass of the saved one", &case, || {
                let of = |c: &dyn Curvature| (c.name(), c.dim(), c.mass().to_bits());
                Ok(of(loaded.curvature.as_ref()) == of(original.curvature.as_ref()))
            });
            report.holds("a loaded estimate has the bits of the saved one", &case, || {
                Ok(fingerprint(loaded.curvature.as_ref(), &known)? == fingerprint(original.curvature.as_ref(), &known)?)
            });
            let next = form.case(Shape::random(9), self.key.child(1))?;
            for tracked in [&mut original, &mut loaded] {
                tracked.absorb(&next)?;
                tracked.decay(0.1)?;
                if self.claims.merge != Merge::Refused {
                    let copy = tracked.curvature.boxed_clone();
                    tracked.curvature.merge(copy.as_ref())?;
                }
            }
            report.holds("a loaded estimate continues with the bits of the saved one", &case, || {
                Ok(fingerprint(loaded.curvature.as_ref(), &known)? == fingerprint(original.curvature.as_ref(), &known)?)
            });
        }
        let mut small = self.start(4)?;
        small.absorb(&self.plain(4).case(Shape::random(3), self.key)?)?;
        let bytes = small.curvature.save()?;
        for length in 0..bytes.len() {
            report.refuses("bytes cut short are refused", length, || (self.claims.load)(&bytes[..length]));
        }
        report.refuses("more bytes than were saved are refused", "one more", || (self.claims.load)(&[&bytes[..], &[0]].concat()));
        for position in 0..bytes.len() {
            for change in [1, 0x80] {
                let mut changed = bytes.clone();
                changed[position] ^= change;
                report.refuses("a changed byte is refused", position, || (self.claims.load)(&changed));
            }
        }
        Ok(())
    }

    fn threads(&self, report: &mut Report) -> Result<()> {
        let d = 300;
        let known = self.some_known(d)?;
        let layers = Form::Layered([(20, 10), (10, 10)]);
        for (form, samples) in [(Form::Kronecker(30, 10), 270), (layers, 270), (self.plain(d), 280)] {
            let case = form.case(Shape::random(samples), self.key)?;
            let run = || {
                let mut tracked = self.start(d)?;
                tracked.absorb(&case)?;
                tracked.decay(0.1)?;
                tracked.absorb(&case)?;
                if self.claims.merge != Merge::Refused {
                    let copy = tracked.curvature.boxed_clone();
                    tracked.curvature.merge(copy.as_ref())?;
                }
                fingerprint(tracked.curvature.as_ref(), &known)
            };
            let reference = par::with_threads(1, run)??;
            for threads in [2, 4] {
                report.holds("the same bits at every thread count", format_args!("{threads} threads"), || {
                    Ok(par::with_threads(threads, run)?? == reference)
                });
            }
        }
        Ok(())
    }

    /// What is refused must leave the estimate as it was.
    fn unchanged(
        &self,
        report: &mut Report,
        case: &str,
        curvature: &mut Box<dyn Curvature>,
        misuse: impl FnOnce(&mut Report, &mut Box<dyn Curvature>),
    ) {
        let before = curvature.save();
        misuse(report, curvature);
        report.holds("what is refused changes nothing", case, || Ok(curvature.save()? == before?));
    }

    fn refusals(&self, report: &mut Report) -> Result<()> {
        let claim = "an estimate of dimension 0 is refused";
        report.refuses(claim, "dim 0", || (self.build)(0, self.key));
        let d = 5;
        report.refuses("an approximation of nothing is refused", "nothing absorbed", || self.start(d)?.curvature.approximate());

        let random = |form: Form| form.case(Shape::random(4), self.key.child(1));
        let mut tracked = self.start(d)?;
        tracked.absorb(&random(self.plain(d))?)?;
        let curvature = &mut tracked.curvature;
        for gamma in [-1e-9, 1.0, 1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            self.unchanged(report, "decay", curvature, |report, c| {
                report.refuses("a decay outside [0, 1) is refused", gamma, || c.decay(gamma));
            });
        }
        let other = random(self.plain(d + 1))?;
        self.unchanged(report, "another dimension", curvature, |report, c| {
            report.refuses("rows of another dimension are refused", d + 1, || c.absorb(&other.block));
        });
        if self.claims.rows == RowsClaim::Factored {
            let stored = random(Form::Stored(d))?;
            self.unchanged(report, "stored rows", curvature, |report, c| {
                report.refuses("rows that are not factored are refused", d, || c.absorb(&stored.block));
            });
        }
        for form in [self.plain(d), Form::Kronecker(d, 1)] {
            // The squares of 1e200 overflow.
            for factor in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e200] {
                let mut poisoned = random(form)?.block;
                poisoned.scale(factor);
                self.unchanged(report, "poisoned rows", curvature, |report, c| {
                    report
                        .refuses("rows that are not finite, or whose squares are not, are refused", factor, || c.absorb(&poisoned));
                });
            }
        }
        let mut larger = (self.build)(d + 1, self.key)?;
        larger.absorb(&other.block)?;
        let stranger = Stranger(Window::new(d, &Default::default(), self.key)?);
        for (case, other) in [("another dimension", larger.as_ref()), ("another family", &stranger as &dyn Curvature)] {
            self.unchanged(report, case, curvature, |report, c| {
                report.refuses("an estimate of another kind does not merge", case, || c.merge(other));
            });
        }
        self.query_refusals(report, curvature.approximate()?.as_ref())
    }

    fn query_refusals(&self, report: &mut Report, approximation: &dyn Approximation) -> Result<()> {
        let d = approximation.dim();
        let (known, b) = (self.some_known(d)?, vec![1.0; d]);
        let claim = "operands of another length are refused";
        report.refuses(claim, "rhs", || approximation.solve(&known, &b[1..]));
        report.refuses(claim, "known curvature", || approximation.solve(&self.some_known(d + 1)?, &b));
        report.refuses(claim, "x of F̂x", || approximation.apply(&vec![1.0; d + 1]));
        for bad in [f64::NAN, f64::INFINITY] {
            let mut poisoned = b.clone();
            poisoned[d - 1] = bad;
            report.refuses("a right-hand side that is not finite is refused", bad, || approximation.solve(&known, &poisoned));
        }
        match self.claims.known {
            KnownClaim::Zero => {
                for known in [KnownCurvature::scalar(d, 1e-3)?, KnownCurvature::diagonal((0..d).map(|i| i as f64).collect())?] {
                    report.refuses("a Λ' that the family cannot take is refused", "Λ' ≠ 0", || approximation.solve(&known, &b));
                }
            }
            KnownClaim::Any | KnownClaim::Scalar => {
                if self.claims.known == KnownClaim::Scalar {
                    let diagonal = KnownCurvature::diagonal((1..=d).map(|i| i as f64).collect())?;
                    report
                        .refuses("a Λ' that the family cannot take is refused", "not λI", || approximation.solve(&diagonal, &b));
                }
                // 4 rows in 5 dimensions: F̂ + 0 is singular.
                let zero = KnownCurvature::scalar(d, 0.0)?;
                report.holds("without Λ' a solve is refused or right, never a NaN", "Λ' = 0", || {
                    let Ok(x) = approximation.solve(&zero, &b) else { return Ok(true) };
                    let f = approximation.to_dense()?;
                    let residual = relative_error(&matvec(&f, &x)?, &b) * norm(&b);
                    Ok(residual <= 1e-10 * (f.norm() * norm(&x) + norm(&b)))
                });
            }
        }
        Ok(())
    }
}

/// A family that no other can be: for merges that must be refused.
#[derive(Clone)]
struct Stranger(Window);

impl Curvature for Stranger {
    fn name(&self) -> &'static str {
        "a stranger"
    }
    fn dim(&self) -> usize {
        self.0.dim()
    }
    fn mass(&self) -> f64 {
        self.0.mass()
    }
    fn absorb(&mut self, block: &crate::gradient::GradientBlock) -> Result<()> {
        self.0.absorb(block)
    }
    fn decay(&mut self, gamma: f64) -> Result<()> {
        self.0.decay(gamma)
    }
    fn merge(&mut self, other: &dyn Curvature) -> Result<()> {
        Err(Error::unsupported(format_args!("merging a `{}` into a stranger", other.name()), "merge estimates of one family"))
    }
    fn approximate(&self) -> Result<Box<dyn Approximation>> {
        self.0.approximate()
    }
    fn trace(&self) -> Option<f64> {
        self.0.trace()
    }
    fn save_to(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        self.0.save_to(out)
    }
    fn boxed_clone(&self) -> Box<dyn Curvature> {
        Box::new(self.clone())
    }
}
