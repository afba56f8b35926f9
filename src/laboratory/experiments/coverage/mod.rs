//! `coverage`: does every bound hold as often as it says? Statements that always hold are tried on random cases that are hard for one sketch
//! or another, and none may fail; statements with a probability δ of failure on replicates, and their failure rate may not exceed δ. How far
//! bounds are above the truth is recorded as a distribution. A residual of rank one, and Student's limits of a normal mean, fail
//! with probability δ exactly: there the experiment has the power to tell.

mod deterministic;
mod probabilistic;
mod tally;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use self::deterministic::{FAMILIES, OF_HYPERGRADIENTS, OF_PRODUCTS, SPECTRA};
use self::probabilistic::{BERNSTEIN, HYPERGRADIENT, LIMITS, Population, RADIUS, RANK_ONE};
use self::tally::{COLUMNS, Counts, Statement, Tally};
use crate::bounds::{Claim, FailureRate, Measured, Rule};
use crate::error::{Error, Result, check_count};
use crate::experiment::record::Table;
use crate::laboratory::picture::{Axis, Band, Drawing, Layer, Panel, Picture};
use crate::laboratory::{Bench, CONFIDENCE, Experiment, Findings, Pieces, Registered, Size, cell, settings_of};
use crate::par;
use crate::rng::Key;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// The probabilities of failure, descending.
    pub deltas: Vec<f64>,
    /// Replicates of each probabilistic bound.
    pub replicates: usize,
    /// Random cases of each family and spectrum.
    pub cases: usize,
    /// Random quadratic problems of each family.
    pub hypergradients: usize,
    /// Random data-cleaning problems of each family.
    pub cleanings: usize,
    /// The largest difference of a failure rate that is δ exactly from δ, relative to δ.
    pub exact_tolerance: f64,
}

impl Registered for Coverage {
    const NAME: &'static str = "coverage";
    const ABOUT: &'static str = "how often bounds fail, and how far they are above the truth";

    fn sized(size: Size) -> Self {
        let (replicates, cases, hypergradients, cleanings) = match size {
            Size::Quick => (2000, 200, 300, 6),
            Size::Full => (10_000, 1000, 1500, 30),
        };
        Self { deltas: vec![0.2, 0.1, 0.05, 0.01], replicates, cases, hypergradients, cleanings, exact_tolerance: 0.25 }
    }
}

/// Replicates of a piece: many, since each piece has a histogram of its own.
const BATCH: usize = 1000;
/// The same for data cleaning, whose oracle factorizes a matrix of 650 × 650.
const CLEANING_BATCH: usize = 3;
/// The names under which hypergradients of data cleaning and the limits of the bench itself are counted.
const CLEANING: &str = "data cleaning";
const QUADRATIC: &str = "quadratic";
const PROBED_QUADRATIC: &str = "quadratic with probes";
const STATISTICS: &str = "statistics";
const SAMPLING: &str = "sampling";

/// What is done again and again with fresh random numbers.
#[derive(Clone, Copy)]
enum Kind {
    /// Certificates of an inverse product.
    Product,
    /// Those of a hypergradient of a quadratic problem.
    Hypergradient,
    /// Those of a hypergradient of data cleaning.
    Cleaning,
    /// An interval with probes.
    Probes,
    /// A radius with probes.
    Radius,
    /// A hypergradient with probes.
    ProbedHypergradient,
    /// So many rows drawn from a population.
    Sampling(usize),
    /// Limits of statistics.
    Statistics,
}

/// It, on what, and how often.
#[derive(Clone, Copy)]
struct Trial {
    kind: Kind,
    /// The family, or what else is examined.
    subject: &'static str,
    /// The spectrum, the problem, the number of rows.
    case: &'static str,
    replicates: usize,
}

impl Kind {
    /// Replicates of a piece.
    fn batch(self) -> usize {
        if matches!(self, Self::Cleaning) { CLEANING_BATCH } else { BATCH }
    }

    /// Microseconds of a replicate.
    fn work(self) -> u64 {
        match self {
            Self::Product | Self::Hypergradient | Self::ProbedHypergradient => 1000,
            Self::Cleaning => 100_000,
            Self::Probes | Self::Radius => 2000,
            Self::Sampling(_) | Self::Statistics => 50,
        }
    }
}

/// Bounds with a probability of failure: subject, case and statement.
fn probabilistic() -> Vec<[&'static str; 3]> {
    let mut out = vec![
        ["nystrom", "flat", probabilistic::UPPER],
        ["nystrom", "j⁻¹", probabilistic::UPPER],
        ["nystrom", RANK_ONE, probabilistic::UPPER],
        ["frequent-directions", "flat", probabilistic::UPPER],
        ["nystrom", "j⁻¹", RADIUS[0]],
        ["nystrom", RANK_ONE, RADIUS[1]],
    ];
    out.extend(HYPERGRADIENT.map(|statement| ["nystrom", PROBED_QUADRATIC, statement]));
    out.extend(BERNSTEIN.map(|statement| [SAMPLING, "n = 300", statement]));
    out.extend(LIMITS.map(|statement| [STATISTICS, "", statement]));
    out
}

/// The sketches with probes: family and spectrum.
const PROBED: [(&str, &str); 4] = [("nystrom", "flat"), ("nystrom", "j⁻¹"), ("nystrom", RANK_ONE), ("frequent-directions", "flat")];
/// Those whose probability of failure is δ exactly.
const EXACT: [[&str; 3]; 2] = [["nystrom", RANK_ONE, probabilistic::UPPER], [STATISTICS, "", LIMITS[2]]];
/// At which of the δ that is claimed: those that replicates can tell.
const EXACT_DELTAS: usize = 2;

impl Coverage {
    fn trials(&self) -> Vec<Trial> {
        let mut out = Vec::new();
        let mut add = |kind, subject, case, replicates| out.push(Trial { kind, subject, case, replicates });
        for family in FAMILIES {
            SPECTRA.into_iter().for_each(|spectrum| add(Kind::Product, family, spectrum, self.cases));
            add(Kind::Hypergradient, family, QUADRATIC, self.hypergradients);
            add(Kind::Cleaning, family, CLEANING, self.cleanings);
        }
        for (family, spectrum) in PROBED {
            add(Kind::Probes, family, spectrum, self.replicates);
        }
        for spectrum in ["j⁻¹", RANK_ONE] {
            add(Kind::Radius, "nystrom", spectrum, self.replicates);
        }
        add(Kind::ProbedHypergradient, "nystrom", PROBED_QUADRATIC, self.replicates);
        for (case, rows) in [("n = 30", 30), ("n = 300", 300)] {
            add(Kind::Sampling(rows), SAMPLING, case, self.replicates);
        }
        add(Kind::Statistics, STATISTICS, "", self.replicates);
        out
    }

    /// Trial and replicates of each piece.
    fn plan(&self) -> Vec<(Trial, Range<usize>)> {
        let pieces = |trial: Trial| {
            let blocks = par::blocks(trial.replicates, trial.kind.batch());
            blocks.map(move |replicates| (trial, replicates)).collect::<Vec<_>>()
        };
        self.trials().into_iter().flat_map(pieces).collect()
    }

    fn replicate(&self, trial: &Trial, population: &Population, key: Key) -> Result<Vec<Statement>> {
        let (subject, case, deltas) = (trial.subject, trial.case, &self.deltas[..]);
        match trial.kind {
            Kind::Product => deterministic::inverse_product(subject, case, key),
            Kind::Hypergradient => deterministic::hypergradient(subject, key),
            Kind::Cleaning => deterministic::cleaning(subject, key),
            Kind::Probes => probabilistic::interval(subject, case, deltas, key),
            Kind::Radius => probabilistic::radius(subject, case, deltas, key.named("radius")),
            Kind::ProbedHypergradient => probabilistic::hypergradient(subject, deltas, key),
            Kind::Sampling(rows) => population.bernstein(rows, deltas, key),
            Kind::Statistics => probabilistic::limits(deltas, key),
        }
    }
}

/// What a claim is about: the statement on the rows that have these cells.
struct Question {
    only: Vec<(&'static str, String)>,
    claim: Claim,
}

impl Coverage {
    fn questions(&self) -> Vec<Question> {
        let mut out = Vec::new();
        let mut ask = |only: Vec<(&'static str, String)>, text: String, rule| {
            out.push(Question { only, claim: Claim::new(Self::NAME, text, rule) });
        };
        let never = ("delta", cell(0.0));
        for family in FAMILIES {
            for (end, formula) in [(deterministic::UPPER, "F − F̂ ≼ hi·I"), (deterministic::LOWER, "lo·I ≼ F − F̂")] {
                let only = vec![("subject", family.into()), ("statement", end.into()), never.clone()];
                ask(only, format!("{family}: {formula}, rounding included"), Rule::NoViolation {});
            }
        }
        for statement in OF_PRODUCTS.into_iter().chain(OF_HYPERGRADIENTS) {
            ask(vec![("statement", statement.into()), never.clone()], format!("{statement}, all families"), Rule::NoViolation {});
        }
        for [subject, case, statement] in probabilistic() {
            for &delta in &self.deltas {
                let text = format!("{}: failures at δ = {delta}", label(subject, case, statement));
                ask(place(subject, case, statement, delta), text, Rule::FailureRate { delta });
            }
        }
        for [subject, case, statement] in EXACT {
            for &delta in self.deltas.iter().take(EXACT_DELTAS) {
                let text = format!("{}: failures are δ = {delta}, no fewer", label(subject, case, statement));
                ask(
                    place(subject, case, statement, delta),
                    text,
                    Rule::Agrees { predicted: delta, relative: self.exact_tolerance },
                );
            }
        }
        out
    }
}

/// The cells of the rows of a bound.
fn place(subject: &str, case: &str, statement: &str, delta: f64) -> Vec<(&'static str, String)> {
    vec![("subject", subject.into()), ("case", case.into()), ("statement", statement.into()), ("delta", cell(delta))]
}

/// A bound in a few words: `nystrom, flat: upper end`.
fn label(subject: &str, case: &str, statement: &str) -> String {
    let words: Vec<&str> =
        [subject, case].into_iter().filter(|word| !word.is_empty() && *word != STATISTICS && *word != SAMPLING).collect();
    if words.is_empty() { statement.to_owned() } else { format!("{statement}, {}", words.join(", ")) }
}

/// What a rule is to be held against: a count of violations, or a rate with its limits.
fn judge(rows: &Table, only: &[(&'static str, String)], rule: Rule) -> Result<Measured> {
    let only: Vec<(&str, &str)> = only.iter().map(|(column, value)| (*column, value.as_str())).collect();
    let counts = Counts::of(rows, &only)?;
    match rule {
        // What was never tried did not hold.
        Rule::NoViolation {} if counts.count == 0 => Ok(Measured::exactly(f64::NAN)),
        Rule::NoViolation {} => Ok(Measured::exactly(counts.failures as f64)),
        _ => Measured::rate(FailureRate::new(counts.failures, counts.count)?, CONFIDENCE),
    }
}

/// Failure rates with their limits, and both over δ.
fn rates(rows: &Table) -> Result<Table> {
    let columns = ["bound", "subject", "case", "statement", "delta", "replicates", "failures", "rate", "low", "high"];
    let mut table = Table::new(columns.into_iter().chain(["rate_by_delta", "low_by_delta", "high_by_delta", "allowed"]));
    for delta in rows.distinct("delta")?.into_iter().filter(|delta| *delta != cell(0.0)) {
        let at = rows.filter("delta", &delta)?;
        let number: f64 = at.numbers("delta")?[0];
        for subject in at.distinct("subject")? {
            let of_subject = at.filter("subject", &subject)?;
            for case in of_subject.distinct("case")? {
                let of_case = of_subject.filter("case", &case)?;
                for statement in of_case.distinct("statement")? {
                    let counts = Counts::of(&of_case, &[("statement", &statement)])?;
                    let rate = Measured::rate(FailureRate::new(counts.failures, counts.count)?, CONFIDENCE)?;
                    let names = [label(&subject, &case, &statement), subject.clone(), case.clone(), statement, delta.clone()];
                    let numbers =
                        [rate.value, rate.low, rate.high, rate.value / number, rate.low / number, rate.high / number, 1.0];
                    let counts = [counts.count.to_string(), counts.failures.to_string()];
                    table.push(names.into_iter().chain(counts).chain(numbers.map(cell)))?;
                }
            }
        }
    }
    Ok(table)
}

/// The shares of cases at which quantiles of tightness are taken.
const SHARES: [f64; 12] = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];

/// Quantiles of bound/truth of each statement about each subject, all cases together.
fn tightness(rows: &Table) -> Result<Table> {
    let mut table = Table::new(["subject", "statement", "delta", "count", "failures", "resolved", "share", "tightness"]);
    for subject in rows.distinct("subject")? {
        let of_subject = rows.filter("subject", &subject)?;
        for statement in of_subject.distinct("statement")? {
            let of_statement = of_subject.filter("statement", &statement)?;
            for delta in of_statement.distinct("delta")? {
                let counts = Counts::of(&of_statement, &[("delta", &delta)])?;
                let numbers = [counts.count, counts.failures, counts.resolved()].map(|count| count.to_string());
                for share in SHARES.into_iter().filter(|_| counts.resolved() > 0) {
                    let names = [subject.clone(), statement.clone(), delta.clone()];
                    table.push(names.into_iter().chain(numbers.clone()).chain([share, counts.quantile(share)].map(cell)))?;
                }
            }
        }
    }
    Ok(table)
}

impl Experiment for Coverage {
    fn validate(&self) -> Result<()> {
        let inside = |delta: &f64| *delta > 0.0 && *delta < 1.0;
        if self.deltas.is_empty() || !self.deltas.iter().all(inside) || self.deltas.windows(2).any(|w| w[0] <= w[1]) {
            return Err(Error::argument("deltas", "descending probabilities inside (0, 1)", format_args!("{:?}", self.deltas)));
        }
        crate::error::check_positive("exact_tolerance", self.exact_tolerance)?;
        let counts = [
            ("replicates", self.replicates),
            ("cases", self.cases),
            ("hypergradients", self.hypergradients),
            ("cleanings", self.cleanings),
        ];
        counts.into_iter().try_for_each(|(name, count)| check_count(name, count))
    }

    fn claims(&self) -> Vec<Claim> {
        self.questions().into_iter().map(|question| question.claim).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        &COLUMNS
    }

    fn pieces(&self) -> usize {
        self.trials().iter().map(|trial| trial.replicates.div_ceil(trial.kind.batch())).sum()
    }

    fn work(&self, piece: usize) -> u64 {
        self.plan().get(piece).map_or(0, |(trial, replicates)| replicates.len() as u64 * trial.kind.work())
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        let population = Population::new(bench.key.named("population"))?;
        let plan = self.plan();
        Ok(Box::new(move |piece| {
            let (trial, replicates) = &plan[piece];
            let key = bench.key.named(trial.subject).named(trial.case);
            let mut tally = Tally::default();
            for replicate in replicates.clone() {
                let statements = self.replicate(trial, &population, key.child(replicate as u64))?;
                statements.iter().for_each(|statement| tally.add(statement));
            }
            Ok(tally.rows([trial.subject, trial.case]))
        }))
    }

    fn measure(&self, _bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        let answer = |question: Question| judge(rows, &question.only, question.claim.rule);
        let measured = self.questions().into_iter().map(answer).collect::<Result<_>>()?;
        let tables = [("rates", rates(rows)?), ("tightness", tightness(rows)?)];
        Ok(Findings { measured, tables: tables.map(|(stem, table)| (format!("{}-{stem}", Self::NAME), table)).into() })
    }

    fn pictures(&self) -> Vec<Picture> {
        let stem = |stem: &str| format!("{}-{stem}", Self::NAME);
        let rate = |title: &str, bounds: Vec<[&str; 3]>| {
            let curve = |[subject, case, statement]: [&str; 3]| {
                let layer = Layer::new(stem("rates"), "delta", "rate_by_delta")
                    .band(Band::Columns("low_by_delta".into(), "high_by_delta".into()));
                let layer = layer.only("subject", subject).only("case", case).only("statement", statement);
                layer.named(label(subject, case, statement))
            };
            let allowed = Layer::new(stem("rates"), "delta", "allowed").theory().named("what is allowed: δ");
            let layers = std::iter::once(allowed).chain(bounds.into_iter().map(curve)).collect();
            Panel { title: title.into(), x: Axis::log("δ (no unit)"), layers, verticals: Vec::new() }
        };
        let tight = |family: &'static str| {
            let curve = |statement: &str| {
                let layer =
                    Layer::new(stem("tightness"), "share", "tightness").only("subject", family).only("statement", statement);
                layer.only("delta", cell(0.0)).named(statement)
            };
            let shown = [deterministic::UPPER, OF_PRODUCTS[0], OF_PRODUCTS[1], OF_PRODUCTS[2], OF_PRODUCTS[6], OF_PRODUCTS[7]];
            let layers = shown.into_iter().chain([OF_HYPERGRADIENTS[1], OF_HYPERGRADIENTS[2]]).map(curve).collect();
            Panel { title: family.into(), x: Axis::linear("share of cases (no unit)"), layers, verticals: Vec::new() }
        };
        vec![
            Picture {
                file: stem("rates"),
                title: "How often bounds fail, over what they allow".into(),
                caption: format!(
                    "Failure rate over δ in {} replicates, with Clopper & Pearson's 95 % limits. At 1 a bound fails exactly as often as it \
                     says; far below it is loose. Left: statements of sketches with probes. \
                     Right: sampling and statistics. The other bounds are in the table.",
                    self.replicates
                ),
                drawing: Drawing::Curves {
                    y: Axis::linear("failure rate / δ (no unit)"),
                    panels: vec![
                        rate(
                            "probes",
                            vec![
                                ["nystrom", "j⁻¹", probabilistic::UPPER],
                                ["nystrom", RANK_ONE, probabilistic::UPPER],
                                ["nystrom", RANK_ONE, RADIUS[1]],
                                ["nystrom", PROBED_QUADRATIC, HYPERGRADIENT[0]],
                            ],
                        ),
                        rate(
                            "sampling and statistics",
                            vec![
                                [SAMPLING, "n = 300", BERNSTEIN[2]],
                                [STATISTICS, "", LIMITS[0]],
                                [STATISTICS, "", LIMITS[1]],
                                [STATISTICS, "", LIMITS[2]],
                            ],
                        ),
                    ],
                },
            },
            Picture {
                file: stem("tightness"),
                title: "How far certificates are above the truth".into(),
                caption: format!(
                    "Quantiles of bound/truth over random cases ({} of each of {} spectra, d ≤ 24, any ℓ and scale; {} quadratic problems): the \
                     share of cases in which it is at most so large. Where the truth is within rounding there is no ratio. Robust \
                     Frequent Directions are as the plain ones; a window loses nothing, and its bounds are an allowance for rounding.",
                    self.cases,
                    SPECTRA.len(),
                    self.hypergradients
                ),
                drawing: Drawing::Curves {
                    y: Axis::log("bound / truth (no unit)"),
                    panels: [FAMILIES[0], FAMILIES[2]].map(tight).into(),
                },
            },
        ]
    }

    fn settings(&self) -> Result<toml::Table> {
        settings_of(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Verdict;
    use crate::laboratory::memory::Memory;

    /// What the experiment makes of a trial, from its statements to the verdict.
    fn verdict(
        replicates: u64,
        rule: Rule,
        only: &[(&'static str, String)],
        run: impl Fn(Key) -> Vec<Statement> + Sync,
    ) -> Verdict {
        let mut tally = Tally::default();
        par::map((0..replicates).collect(), |replicate| run(Key::new(1).child(replicate)))
            .iter()
            .flatten()
            .for_each(|s| tally.add(s));
        let mut table = Table::new(COLUMNS);
        tally.rows(["nystrom", RANK_ONE]).cells().iter().for_each(|row| table.push(row).unwrap());
        rule.verdict(judge(&table, only, rule).unwrap())
    }

    /// The χ² quantile at twice the level that it is said to be of: found at every δ; at its own level it stands.
    #[test]
    fn a_probe_bound_at_the_wrong_level_fails() {
        for delta in [0.2, 0.05] {
            let run = |inflation| move |key| probabilistic::intervals_at("nystrom", RANK_ONE, &[delta], inflation, key).unwrap();
            let only = place("nystrom", RANK_ONE, probabilistic::UPPER, delta);
            let rule = Rule::FailureRate { delta };
            assert_ne!(verdict(2000, rule, &only, run(1.0)), Verdict::Fails);
            assert_eq!(verdict(2000, rule, &only, run(2.0)), Verdict::Fails);
        }
    }

    /// Half of the Δ that Frequent Directions certify is too little.
    #[test]
    fn a_halved_width_is_a_violation() {
        let claimed = |factor: f64| {
            move |key: Key| {
                let mut found = deterministic::inverse_product("frequent-directions", "j⁻²", key).unwrap();
                found.retain(|statement| statement.name == deterministic::UPPER);
                // A bound of `factor` times the tightness that it has.
                let scaled = |s: Statement| {
                    let ratio = s.tightness.map_or(1.0, |ratio| factor * ratio);
                    Statement::bound(s.name, 0.0, 1.0, ratio, 1e-12)
                };
                found.into_iter().map(scaled).collect()
            }
        };
        let only = [("statement", deterministic::UPPER.to_owned())];
        assert_eq!(verdict(200, Rule::NoViolation {}, &only, claimed(1.0)), Verdict::Holds);
        assert_eq!(verdict(200, Rule::NoViolation {}, &only, claimed(0.5)), Verdict::Fails);
    }

    #[test]
    fn what_was_never_tried_does_not_hold() {
        let rule = Rule::NoViolation {};
        assert_eq!(
            verdict(3, rule, &[("statement", "nothing".into())], |_| vec![Statement::event("a", 0.0, false)]),
            Verdict::Undecided
        );
    }

    #[test]
    fn every_claim_finds_its_statements() {
        let experiment = Coverage { replicates: 3, cases: 2, hypergradients: 2, cleanings: 1, ..Coverage::sized(Size::Quick) };
        let (source, clock) = (crate::problem::DataSource::default(), || std::time::Duration::ZERO);
        let bench = Bench { key: Key::new(1), source: &source, clock: &clock, memory: Memory::unknown() };
        let pieces = experiment.set_up(bench).unwrap();
        let mut table = Table::new(COLUMNS);
        for piece in 0..experiment.pieces() {
            pieces(piece).unwrap().cells().iter().for_each(|row| table.push(row).unwrap());
        }
        for question in experiment.questions() {
            let measured = judge(&table, &question.only, question.claim.rule).unwrap();
            assert!(measured.value.is_finite(), "{}", question.claim.claim);
        }
    }
}
