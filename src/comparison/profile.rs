//! The performance profile (Dolan & Moré 2002) of methods over problems and seeds, from the targets that their runs reached.

use std::collections::BTreeMap;

use super::record::PROFILE;
use crate::error::Result;
use crate::experiment::record::{Table, cell};
use crate::laboratory::picture::{Axis, Center, Drawing, Layer, Panel, Picture};

/// The share of the way from the start to the best score that any method reached, left to go at the convergence test (Moré & Wild 2009).
pub const TOLERANCE: f64 = 0.1;
/// The name of that test among the targets.
pub const CONVERGENCE: &str = "convergence";
/// The costs by which methods are compared.
pub(super) const COSTS: [&str; 2] = ["seconds", "gradient_equivalents"];

/// The table `profile` of these methods, from a table `targets`. An instance is a problem and a seed, where `counts` says that it counts:
/// seeds that only some methods have would favour them.
pub(super) fn table(methods: &[&str], targets: &Table, counts: impl Fn(&str, &str) -> bool) -> Result<Table> {
    let mut table = Table::new(["method", "cost", "ratio", "share"]);
    let tests = targets.filter("target", CONVERGENCE)?;
    for cost in COSTS {
        // For every instance the costs of the methods that ran there.
        let mut instances: BTreeMap<(&str, &str), Vec<(&str, f64)>> = BTreeMap::new();
        let (problems, ran, seeds) = (tests.text("problem")?, tests.text("method")?, tests.text("seed")?);
        for (row, spent) in tests.numbers(cost)?.into_iter().enumerate() {
            instances.entry((problems[row], seeds[row])).or_default().push((ran[row], spent.max(f64::MIN_POSITIVE)));
        }
        instances.retain(|(problem, seed), _| counts(problem, seed));
        let least = |costs: &[(&str, f64)]| costs.iter().map(|(_, spent)| *spent).fold(f64::INFINITY, f64::min);
        instances.retain(|_, costs| least(costs).is_finite());
        if instances.is_empty() {
            continue;
        }
        let ratio = |method: &str, costs: &[(&str, f64)]| {
            costs.iter().find(|(own, _)| *own == method).map_or(f64::INFINITY, |(_, spent)| spent / least(costs))
        };
        let ratios = |method: &str| {
            let mut ratios: Vec<f64> =
                instances.values().map(|costs| ratio(method, costs)).filter(|ratio| ratio.is_finite()).collect();
            ratios.sort_by(f64::total_cmp);
            ratios
        };
        let end = methods.iter().flat_map(|method| ratios(method)).fold(1.0, f64::max);
        for method in methods {
            let ratios = ratios(method);
            let solved = |within: f64| ratios.iter().filter(|ratio| **ratio <= within).count();
            let mut steps: Vec<f64> = ratios.iter().copied().filter(|ratio| *ratio > 1.0).collect();
            steps.dedup();
            // Level up to a step, then as high as it is.
            let places = steps.into_iter().flat_map(|step| [step.next_down(), step]).chain((end > 1.0).then_some(end));
            let mut places: Vec<f64> = std::iter::once(1.0).chain(places).collect();
            places.dedup();
            for place in places {
                table.push([method, cost, &cell(place), &cell(solved(place) as f64 / instances.len() as f64)])?;
            }
        }
    }
    Ok(table)
}

/// The picture of that table.
pub(super) fn picture() -> Picture {
    let panel = |(cost, title): (&str, &str)| Panel {
        title: title.to_owned(),
        x: Axis::log("cost over the least, τ"),
        layers: vec![Layer::new(PROFILE, "ratio", "share").only("cost", cost).by("method").named("{method}").center(Center::Mean)],
        verticals: Vec::new(),
    };
    Picture {
        file: "performance-profile".into(),
        title: "Performance profile over all problems".into(),
        caption: format!(
            "The share of all problems and seeds on which a method passed the convergence test (what was left of the way from the start to the best \
             score that any method reached: {TOLERANCE}) within τ times the cost of the cheapest method there."
        ),
        drawing: Drawing::Curves {
            y: Axis::linear("share of problems and seeds solved"),
            panels: COSTS.into_iter().zip(["by time", "by oracle calls"]).map(panel).collect(),
        },
    }
}
