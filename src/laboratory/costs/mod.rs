//! What things cost, and how that grows: the experiments of `nhgd scale`, one a file, and their registry. Formulas say beforehand what an
//! operation takes ([`model`]), experiments measure it beside the roofs of the machine in the same run, and fitted power laws
//! say what larger ones would take ([`predict`]). Medians of several, the first one left out.

pub mod curvature;
mod curvature_samples;
pub mod fit;
mod machine;
pub mod model;
pub mod predict;
mod source;
mod steps;
mod sweep;
mod usage;

use super::Entry;

/// Every experiment, in the order in which they are run. Adding one is its file and one line here.
pub const REGISTRY: &[Entry] = &[
    Entry::of::<machine::Machine>(),
    Entry::of::<curvature::Curvature>(),
    Entry::of::<steps::Steps>(),
    Entry::of::<curvature_samples::CurvatureSamples>(),
];
