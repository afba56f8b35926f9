//! `rank-one`: the paper's own updates (Kong, Chen, Zhang & Mou 2026, Algorithm 1 and its smoothed form) beside the families that take
//! one row a sample. Three parts, in one table: what averaging a batch before squaring does to the estimate ([`bias`]), how the smoothed
//! inverse winds up where no row points ([`wind_up`]), and what an inverse product costs and is worth as d grows ([`cost`]).

mod bias;
mod cost;
mod wind_up;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::populations::{Population, normal_points, softmax_law};
use crate::bounds::Claim;
use crate::error::{Error, Result, check_count, check_positive};
use crate::experiment::record::Table;
use crate::laboratory::picture::Picture;
use crate::laboratory::{Bench, Concurrency, Experiment, Findings, Pieces, Registered, Size, settings_of};
use crate::rng::Key;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankOne {
    /// The batch sizes B, ascending.
    pub batch_sizes: Vec<usize>,
    /// Batches that an estimate is made of.
    pub batches: usize,
    /// γ of the smoothed update where its bias is measured.
    pub bias_gamma: f64,
    /// Independent streams of batches.
    pub replicates: usize,
    /// The relative difference from a predicted trace that is allowed.
    pub tolerance: f64,
    /// The γ at which the smoothed inverse winds up.
    pub gammas: Vec<f64>,
    /// β there.
    pub start: f64,
    /// How often the watch is waited for.
    pub wind_ups: usize,
    /// Independent streams of rows there.
    pub wind_up_replicates: usize,
    /// The points of the softmax population that batches and rows are drawn from.
    pub softmax_points: usize,
    /// Its features, one of them constant.
    pub softmax_width: usize,
    /// Its classes.
    pub softmax_classes: usize,
    /// The dimensions d at which seconds and errors are taken, ascending.
    pub dims: Vec<usize>,
    /// Rows absorbed there.
    pub rows: usize,
    /// ℓ of the sketches there.
    pub sketch_size: usize,
    /// μ there.
    pub damping: f64,
    /// Independent matrices there.
    pub cost_replicates: usize,
}

impl Registered for RankOne {
    const NAME: &'static str = "rank-one";
    const ABOUT: &'static str = "the paper's updates beside one row a sample: bias by averaging batches, wind-up, cost";

    fn sized(size: Size) -> Self {
        let quick = Self {
            batch_sizes: vec![1, 4, 16, 64],
            batches: 500,
            bias_gamma: 0.02,
            replicates: 24,
            tolerance: 0.05,
            gammas: vec![0.3, 0.1, 0.03, 0.01],
            start: 0.1,
            wind_ups: 2,
            wind_up_replicates: 4,
            softmax_points: 50,
            softmax_width: 4,
            softmax_classes: 3,
            dims: vec![64, 128, 256, 512],
            rows: 512,
            sketch_size: 32,
            damping: 1e-3,
            cost_replicates: 3,
        };
        match size {
            Size::Quick => quick,
            Size::Full => Self {
                replicates: 80,
                gammas: vec![0.3, 0.1, 0.03, 0.01, 0.003, 0.001],
                dims: vec![64, 128, 256, 512, 1024],
                cost_replicates: 5,
                ..quick
            },
        }
    }
}

/// The columns: which part; its place, γ or nothing; the estimator; B, updates or d; the replicate; and what the part says of the last two.
const COLUMNS: [&str; 7] = ["part", "case", "estimator", "x", "replicate", "value", "error"];

/// A softmax population with its generating parameter.
struct Truth {
    population: Population,
    theta: Vec<f64>,
}

impl RankOne {
    fn truth(&self, key: Key) -> Result<Truth> {
        let points = normal_points(self.softmax_points, self.softmax_width, key.named("points"));
        let theta = key.named("truth").stream().normals(self.softmax_width * self.softmax_classes);
        let law = softmax_law(&points, &theta)?;
        Ok(Truth { population: Population::softmax(points, law)?, theta })
    }
}

/// The time that something took by a clock, in seconds, beside its outcome.
fn timed<T>(clock: &dyn Fn() -> Duration, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let begun = clock();
    let outcome = work()?;
    Ok((outcome, clock().saturating_sub(begun).as_secs_f64()))
}

impl Experiment for RankOne {
    fn validate(&self) -> Result<()> {
        for (name, counts) in [("batch_sizes", &self.batch_sizes), ("dims", &self.dims)] {
            if counts.len() < 2 || counts[0] == 0 || counts.windows(2).any(|w| w[0] >= w[1]) {
                return Err(Error::argument(name, "at least 2 ascending counts of at least 1", format_args!("{counts:?}")));
            }
        }
        for gamma in self.gammas.iter().chain([&self.bias_gamma]) {
            if !(1e-6..=0.9).contains(gamma) {
                return Err(Error::argument("gammas", "numbers from 1e-6 to 0.9", gamma));
            }
        }
        let replicates = [
            ("replicates", self.replicates),
            ("wind_up_replicates", self.wind_up_replicates),
            ("cost_replicates", self.cost_replicates),
        ];
        for (name, count) in
            replicates.into_iter().chain([("softmax_width", self.softmax_width), ("softmax_classes", self.softmax_classes)])
        {
            if count < 2 {
                return Err(Error::argument(name, "at least 2", count));
            }
        }
        for (name, count) in [
            ("batches", self.batches),
            ("wind_ups", self.wind_ups),
            ("softmax_points", self.softmax_points),
            ("rows", self.rows),
            ("sketch_size", self.sketch_size),
        ] {
            check_count(name, count)?;
        }
        if self.sketch_size > self.dims[0] {
            return Err(Error::argument(
                "sketch_size",
                format_args!("at most the least of dims, {}", self.dims[0]),
                self.sketch_size,
            ));
        }
        [("tolerance", self.tolerance), ("start", self.start), ("damping", self.damping)]
            .into_iter()
            .try_for_each(|(name, value)| check_positive(name, value))
    }

    fn claims(&self) -> Vec<Claim> {
        [bias::claims(self), wind_up::claims(self), cost::claims(self)].concat()
    }

    fn columns(&self) -> &'static [&'static str] {
        &COLUMNS
    }

    fn pieces(&self) -> usize {
        bias::pieces(self) + wind_up::pieces(self) + cost::pieces(self)
    }

    fn work(&self, piece: usize) -> u64 {
        let (bias, wind_up) = (bias::pieces(self), wind_up::pieces(self));
        match piece {
            _ if piece < bias => bias::work(self),
            _ if piece < bias + wind_up => wind_up::work(self, piece - bias),
            _ => cost::work(self, piece - bias - wind_up),
        }
    }

    /// Seconds are part of the finding.
    fn concurrency(&self) -> Concurrency {
        Concurrency::Alone
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        let truth = self.truth(bench.key)?;
        let (bias, wind_up) = (bias::pieces(self), wind_up::pieces(self));
        Ok(Box::new(move |piece| match piece {
            _ if piece < bias => bias::piece(self, &truth, bench, piece),
            _ if piece < bias + wind_up => wind_up::piece(self, &truth, bench, piece - bias),
            _ => cost::piece(self, bench, piece - bias - wind_up),
        }))
    }

    fn measure(&self, bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        let truth = self.truth(bench.key)?;
        let parts = [bias::measure(self, &truth, rows)?, wind_up::measure(self, rows)?, cost::measure(rows)?];
        let mut findings = Findings::default();
        for part in parts {
            findings.measured.extend(part.measured);
            findings.tables.extend(part.tables);
        }
        Ok(findings)
    }

    fn pictures(&self) -> Vec<Picture> {
        vec![bias::picture(self), wind_up::growth_picture(self), wind_up::error_picture(self), cost::picture(self)]
    }

    fn settings(&self) -> Result<toml::Table> {
        settings_of(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::{Rule, Verdict};
    use crate::laboratory::Rows;
    use crate::laboratory::experiments::replicates::mean;
    use crate::laboratory::memory::Memory;
    use crate::problem::DataSource;

    fn small() -> RankOne {
        RankOne {
            batch_sizes: vec![1, 8],
            batches: 200,
            replicates: 12,
            gammas: vec![0.3, 0.1],
            wind_up_replicates: 2,
            dims: vec![8, 16],
            rows: 64,
            sketch_size: 4,
            cost_replicates: 2,
            ..RankOne::sized(Size::Quick)
        }
    }

    fn table(pieces: impl IntoIterator<Item = Rows>) -> Table {
        let mut table = Table::new(COLUMNS);
        pieces.into_iter().for_each(|rows| rows.cells().iter().for_each(|row| table.push(row).unwrap()));
        table
    }

    /// Small enough for a test, too small to decide every claim; but none fails, and one that is planted does.
    #[test]
    fn no_claim_fails_and_an_unbiased_literal_update_does() {
        let settings = small();
        settings.validate().unwrap();
        let (source, clock) = (DataSource::default(), || Duration::ZERO);
        let bench = Bench { key: Key::new(3), source: &source, clock: &clock, memory: Memory::unknown() };
        let pieces = settings.set_up(bench).unwrap();
        let rows = table((0..settings.pieces()).map(|piece| pieces(piece).unwrap()));
        let findings = settings.measure(bench, &rows).unwrap();
        let claims = settings.claims();
        assert_eq!(findings.measured.len(), claims.len());
        for (claim, measured) in claims.iter().zip(&findings.measured) {
            assert_ne!(claim.judge(*measured).verdict, Verdict::Fails, "{}: {measured:?}", claim.claim);
        }
        let literal = rows.filter("estimator", "rank-one, literal").unwrap().filter("x", "8").unwrap();
        let unbiased = mean(&literal.numbers("value").unwrap()).unwrap();
        let planted = Claim::new("rank-one", "the literal mean is unbiased", Rule::Agrees { predicted: 1.0, relative: 0.5 });
        assert_eq!(planted.judge(unbiased).verdict, Verdict::Fails);
    }

    #[test]
    fn bad_settings_are_refused_by_name() {
        let name = |change: fn(&mut RankOne)| {
            let mut settings = small();
            change(&mut settings);
            settings.validate().map_err(|e| e.offending_argument()).unwrap_err()
        };
        assert_eq!(name(|s| s.batch_sizes = vec![4, 1]), Some("batch_sizes"));
        assert_eq!(name(|s| s.dims = vec![8]), Some("dims"));
        assert_eq!(name(|s| s.gammas = vec![1.0]), Some("gammas"));
        assert_eq!(name(|s| s.bias_gamma = f64::NAN), Some("gammas"));
        assert_eq!(name(|s| s.replicates = 1), Some("replicates"));
        assert_eq!(name(|s| s.sketch_size = 9), Some("sketch_size"));
        assert_eq!(name(|s| s.start = 0.0), Some("start"));
    }
}
