//! `machine`: the two roofs that every rate is held against, on one thread and on all. The rate of a large matrix product, 2n³ operations,
//! and the bandwidth of y ← y + αx over vectors far larger than any cache, 24 bytes an entry (McCalpin's STREAM, 1995, without its extra
//! read of what is only written). Other experiments measure them anew as their first piece, since machines have other things to do, too.

use serde::{Deserialize, Serialize};

use super::sweep::median;
use super::usage::{Threads, once};
use crate::bounds::{Claim, Measured, Rule, mean_with_limits};
use crate::dense::{Matrix, axpy, matmul};
use crate::error::{Error, Result, check_count};
use crate::experiment::record::Table;
use crate::laboratory::picture::{Drawing, Picture};
use crate::laboratory::record::SECONDS;
use crate::laboratory::{
    Bench, CONFIDENCE, Concurrency, Experiment, Findings, Pieces, Registered, Rows, Size, Usage, rounded, settings_of,
};
use crate::par;

/// How the roofs are measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Machine {
    /// The order n of the product.
    pub(super) order: usize,
    /// Entries of each of the two vectors.
    pub(super) entries: usize,
    /// Times that each is measured; one more before is left out.
    pub(super) replicates: usize,
}

impl Machine {
    /// As it stands in the configurations of other experiments.
    pub(super) fn beside(size: Size) -> Self {
        Self { replicates: 5, ..Self::sized(size) }
    }

    /// Checks the settings.
    pub(super) fn check(&self) -> Result<()> {
        check_count("order", self.order)?;
        check_count("entries", self.entries)?;
        if self.replicates < 2 {
            return Err(Error::argument("replicates", "at least 2", self.replicates));
        }
        Ok(())
    }
}

impl Registered for Machine {
    const NAME: &'static str = "machine";
    const ABOUT: &'static str =
        "the roofs: the rate of a large matrix product and the bandwidth of memory, on one thread and on all";

    fn sized(size: Size) -> Self {
        let quick = Self { order: 1024, entries: 1 << 23, replicates: 7 };
        match size {
            Size::Quick => quick,
            Size::Full => Self { entries: 1 << 25, replicates: 21, ..quick },
        }
    }
}

/// A roof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Roof {
    /// A product.
    Product,
    /// y ← y + αx.
    Bandwidth,
}

impl Roof {
    const BOTH: [Self; 2] = [Self::Product, Self::Bandwidth];

    /// Its name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Product => "gemm",
            Self::Bandwidth => "triad",
        }
    }
}

/// One measurement of a roof.
pub(super) struct Sample {
    pub(super) roof: Roof,
    pub(super) threads: Threads,
    pub(super) replicate: usize,
    pub(super) flops: f64,
    pub(super) bytes: f64,
    pub(super) usage: Usage,
}

/// Entries that are one piece of work.
const CHUNK: usize = 1 << 16;

impl Machine {
    /// Measures a roof.
    pub(super) fn measure_roof(&self, roof: Roof, threads: Threads, bench: Bench<'_>) -> Result<Vec<Sample>> {
        let (n, entries) = (self.order, self.entries);
        let base = bench.memory.in_use();
        let mut work: Box<dyn FnMut() -> Result<()> + Send> = match roof {
            Roof::Product => {
                let factor = |name: &str| Matrix::from_columns(n, n, bench.key.named(name).stream().normals(n * n));
                let (a, b) = (factor("a")?, factor("b")?);
                Box::new(move || matmul(&a, &b).map(|c| drop(std::hint::black_box(c))))
            }
            Roof::Bandwidth => {
                let (x, mut y) = (vec![1.0; entries], vec![0.5; entries]);
                Box::new(move || {
                    par::for_chunks(&mut y, CHUNK, |chunk, y| axpy(1e-9, &x[chunk * CHUNK..chunk * CHUNK + y.len()], y));
                    std::hint::black_box(&y);
                    Ok(())
                })
            }
        };
        let (order, count) = (n as f64, entries as f64);
        let (flops, bytes) = match roof {
            Roof::Product => (2.0 * order.powi(3), 8.0 * 3.0 * order * order),
            Roof::Bandwidth => (2.0 * count, 24.0 * count),
        };
        threads.run(|| {
            // The first one meets cold memory.
            work()?;
            let sample = |replicate| {
                let ((), usage) = once(bench, base, &mut work)?;
                Ok(Sample { roof, threads, replicate, flops, bytes, usage })
            };
            (0..self.replicates).map(sample).collect()
        })
    }

    /// Measures both, on one thread and on all.
    pub(super) fn roofs(&self, bench: Bench<'_>) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for roof in Roof::BOTH {
            for threads in Threads::BOTH {
                samples.extend(self.measure_roof(roof, threads, bench)?);
            }
        }
        Ok(samples)
    }
}

/// The two roofs of a number of threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Roofs {
    /// Operations a second.
    pub(super) flops: f64,
    /// Bytes a second.
    pub(super) bytes: f64,
}

impl Roofs {
    /// The medians of rows that name the roof in a column; NaN where there are none.
    pub(super) fn read(rows: &Table, column: &str, threads: Threads) -> Result<Self> {
        let bytes = rate(rows, (column, Roof::Bandwidth), threads, "bytes")?;
        Ok(Self { flops: rate(rows, (column, Roof::Product), threads, "flops")?, bytes })
    }
}

/// The median of an amount a second over the rows that name the roof in a column; NaN where there are none.
pub(super) fn rate(rows: &Table, (column, roof): (&str, Roof), threads: Threads, amount: &str) -> Result<f64> {
    let own = rows.filter("threads", threads.name())?.filter(column, roof.name())?;
    let rates: Vec<f64> = own.numbers(amount)?.into_iter().zip(own.numbers(SECONDS)?).map(|(a, s)| a / s).collect();
    Ok(median(&rates))
}

/// The ratio that all threads may be slower by than one.
const NO_SLOWER: f64 = 1.1;

impl Experiment for Machine {
    fn validate(&self) -> Result<()> {
        self.check()
    }

    fn claims(&self) -> Vec<Claim> {
        let claim = |roof: Roof| {
            let claim = format!("{}: seconds on all threads over seconds on one", roof.name());
            Claim::new(Self::NAME, claim, Rule::AtMost { bound: NO_SLOWER })
        };
        Roof::BOTH.map(claim).to_vec()
    }

    fn columns(&self) -> &'static [&'static str] {
        &["roof", "threads", "replicate", "flops", "bytes"]
    }

    fn pieces(&self) -> usize {
        Roof::BOTH.len() * Threads::BOTH.len()
    }

    fn work(&self, piece: usize) -> u64 {
        let each = match Roof::BOTH[piece / Threads::BOTH.len()] {
            Roof::Product => self.order.pow(3) / 25_000,
            Roof::Bandwidth => self.entries / 400,
        };
        (each * (self.replicates + 2)) as u64
    }

    fn concurrency(&self) -> Concurrency {
        Concurrency::Alone
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        Ok(Box::new(move |piece| {
            let (roof, threads) = (Roof::BOTH[piece / Threads::BOTH.len()], Threads::BOTH[piece % Threads::BOTH.len()]);
            let mut rows = Rows::default();
            for Sample { replicate, flops, bytes, usage, .. } in self.measure_roof(roof, threads, bench)? {
                let cells =
                    [roof.name().to_owned(), threads.name().to_owned(), replicate.to_string(), rounded(flops), rounded(bytes)];
                rows.push_used(cells, usage);
            }
            Ok(rows)
        }))
    }

    fn measure(&self, _bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        let mut findings = Findings::default();
        let mut rates = Table::new(["what", "roof", "rate"]);
        for roof in Roof::BOTH {
            let own = rows.filter("roof", roof.name())?;
            let seconds = |threads: Threads| own.filter("threads", threads.name())?.numbers(SECONDS);
            let (one, all) = (seconds(Threads::One)?, seconds(Threads::All)?);
            let ratios: Vec<f64> = one.iter().zip(&all).map(|(one, all)| all / one).filter(|ratio| ratio.is_finite()).collect();
            findings.measured.push(match mean_with_limits("ratios", &ratios, CONFIDENCE) {
                Ok((value, half)) => Measured { value, low: value - half, high: value + half },
                Err(_) => super::sweep::UNKNOWN,
            });
            for (threads, seconds) in [(Threads::One, &one), (Threads::All, &all)] {
                let amount =
                    own.numbers(if roof == Roof::Product { "flops" } else { "bytes" })?.first().copied().unwrap_or(f64::NAN);
                let what =
                    format!("{} on {} thread{}", roof.name(), threads.name(), if threads == Threads::All { "s" } else { "" });
                rates.push([what, roof.name().to_owned(), rounded(amount / median(seconds) / 1e9)])?;
            }
        }
        let each = |roof: Roof| Ok((format!("machine-{}", roof.name()), rates.filter("roof", roof.name())?));
        findings.tables = Roof::BOTH.into_iter().map(each).collect::<Result<_>>()?;
        Ok(findings)
    }

    fn shown(&self) -> &'static [&'static str] {
        &["machine-gemm", "machine-triad"]
    }

    fn pictures(&self) -> Vec<Picture> {
        let picture = |(roof, title, label, caption): (Roof, &str, &str, String)| Picture {
            file: format!("machine-{}", roof.name()),
            title: title.to_owned(),
            caption,
            drawing: Drawing::Bars {
                table: format!("machine-{}", roof.name()),
                bar: "what".into(),
                part: "roof".into(),
                length: "rate".into(),
                label: label.to_owned(),
            },
        };
        let medians = format!("Medians of {}, the first one left out", self.replicates);
        let product = format!("{medians}: a product of two matrices of order {}, 2n³ operations.", self.order);
        let bandwidth = format!("{medians}: y ← y + αx over {} numbers each, 24 bytes an entry.", self.entries);
        vec![
            picture((Roof::Product, "The rate of a large matrix product", "rate (GFLOP/s)", product)),
            picture((Roof::Bandwidth, "The bandwidth of memory", "bandwidth (GB/s)", bandwidth)),
        ]
    }

    fn settings(&self) -> Result<toml::Table> {
        settings_of(self)
    }
}
