//! Cost and accuracy as d grows, on dense rows whose covariance has the eigenvalues 1/j. With β = μm the paper's literal update keeps the
//! inverse of (F_m + μI)·m exactly, so that its product can be held against those of the families that add μ afterwards. An update costs
//! it 10d² flops a row; the sketches' rows cost 4dℓ, the window's a copy.

use super::{RankOne, timed};
use crate::bounds::{Claim, Measured, Rule};
use crate::curvature::{
    CurvatureConfig, DenseConfig, FrequentDirectionsConfig, NystromConfig, OnKnownCurvature, RankOneConfig, WindowConfig,
};
use crate::dense::{Cholesky, Matrix, eigh, matmul, relative_error};
use crate::error::Result;
use crate::experiment::record::Table;
use crate::gradient::{DenseRows, GradientBlock};
use crate::inverse::KnownCurvature;
use crate::laboratory::experiments::replicates::largest;
use crate::laboratory::picture::{Axis, Band, Center, Drawing, Layer, Panel, Picture};
use crate::laboratory::{Bench, Findings, Registered, Rows, cell};

/// The part's name in the table.
const PART: &str = "cost";
/// Rows absorbed at once.
const BLOCK: usize = 32;
/// How many times ε‖F‖/μ an inverse product without a sketch may err by.
const ROUNDING: f64 = 30.0;
/// The families without a sketch's error, and those with one.
const EXACT: [&str; 3] = ["rank-one", "window", "dense"];
const SKETCHES: [&str; 2] = ["nystrom", "frequent-directions"];

fn config(settings: &RankOne, family: &str) -> CurvatureConfig {
    let sketch_size = settings.sketch_size;
    match family {
        "window" => CurvatureConfig::Window(WindowConfig { samples: settings.rows }),
        "dense" => CurvatureConfig::Dense(DenseConfig::default()),
        "nystrom" => CurvatureConfig::Nystrom(NystromConfig { sketch_size, ..Default::default() }),
        "frequent-directions" => {
            CurvatureConfig::FrequentDirections(FrequentDirectionsConfig { sketch_size, ..Default::default() })
        }
        _ => CurvatureConfig::RankOne(RankOneConfig {
            beta: settings.damping * settings.rows as f64,
            known_curvature: OnKnownCurvature::Ignore,
            ..Default::default()
        }),
    }
}

pub(super) fn pieces(settings: &RankOne) -> usize {
    settings.dims.len() * settings.cost_replicates
}

/// 10d² flops a row at a few GFLOP/s, and the dense solves.
pub(super) fn work(settings: &RankOne, piece: usize) -> u64 {
    let d = settings.dims[piece / settings.cost_replicates];
    ((settings.rows * d * d + d * d * d) / 200) as u64
}

/// Every family on one stream of rows: its error over ε‖F‖/μ and as it is, and the seconds of absorbing it.
pub(super) fn piece(settings: &RankOne, bench: Bench<'_>, piece: usize) -> Result<Rows> {
    let (d, replicate) = (settings.dims[piece / settings.cost_replicates], piece % settings.cost_replicates);
    let key = bench.key.named(PART).child(d as u64).child(replicate as u64);
    let mut stream = key.named("rows").stream();
    let g = Matrix::from_fn(d, settings.rows, |j, _| stream.normal() / (j as f64 + 1.0).sqrt());
    let b = key.named("right-hand side").stream().normals(d);

    let mut damped = matmul(&g, g.t())?;
    damped.scale(1.0 / settings.rows as f64);
    let size = eigh(&damped)?.values[0];
    (0..d).for_each(|i| damped[(i, i)] += settings.damping);
    let exact = Cholesky::new(damped)?.solve(&b)?;

    let scores = GradientBlock::from(DenseRows::new(g, 1)?);
    let blocks: Vec<_> = (0..settings.rows).step_by(BLOCK).map(|i| scores.part(i..i + BLOCK)).collect();
    let known = KnownCurvature::scalar(d, settings.damping)?;
    let mut rows = Rows::default();
    for family in EXACT.into_iter().chain(SKETCHES) {
        let mut curvature = config(settings, family).build(d, key.named("sketch"))?;
        let ((), seconds) = timed(bench.clock, || blocks.iter().try_for_each(|block| curvature.absorb(block)))?;
        let error = relative_error(&curvature.approximate()?.solve(&known, &b)?, &exact);
        let names = [PART.to_owned(), String::new(), family.to_owned(), d.to_string(), replicate.to_string()];
        let of_rounding = error / (f64::EPSILON * size / settings.damping);
        rows.push_timed(names.into_iter().chain([of_rounding, error].map(cell)), seconds);
    }
    Ok(rows)
}

pub(super) fn claims(settings: &RankOne) -> Vec<Claim> {
    let claim = |family: &str| {
        let claim = format!("cost: {family}: largest relative error of (F + μI)⁻¹b over ε‖F‖/μ, μ = {}, all d", settings.damping);
        Claim::new(RankOne::NAME, claim, Rule::AtMost { bound: ROUNDING })
    };
    EXACT.map(claim).to_vec()
}

pub(super) fn measure(rows: &Table) -> Result<Findings> {
    let own = rows.filter("part", PART)?;
    let worst = |family: &str| Ok(Measured::exactly(largest(own.filter("estimator", family)?.numbers("value")?)));
    Ok(Findings { measured: EXACT.into_iter().map(worst).collect::<Result<_>>()?, tables: Vec::new() })
}

pub(super) fn picture(settings: &RankOne) -> Picture {
    let layer = |family: &str| {
        let layer = Layer::new(RankOne::NAME, "x", "seconds").only("part", PART).only("estimator", family);
        layer.by("estimator").center(Center::Median).band(Band::Range).named("{estimator}")
    };
    Picture {
        file: "rank-one-cost".into(),
        title: "What absorbing rows costs".into(),
        caption: format!(
            "Seconds for {} dense rows in blocks of {BLOCK}, ℓ = {}: median of {} streams with a band from the smallest to the largest. The dense inverse takes 10d² flops a row, the matrix itself d², the \
             sketches about 4dℓ, the window a copy.",
            settings.rows, settings.sketch_size, settings.cost_replicates
        ),
        drawing: Drawing::Curves {
            y: Axis::log(format!("seconds for {} rows (s)", settings.rows)),
            panels: vec![Panel {
                title: String::new(),
                x: Axis::log("dimension d (count)"),
                layers: EXACT.into_iter().chain(SKETCHES).map(layer).collect(),
                verticals: Vec::new(),
            }],
        },
    }
}
