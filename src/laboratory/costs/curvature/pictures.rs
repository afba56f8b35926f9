//! What is drawn of the sweeps: seconds and peaks against d with fitted lines, the sizes, and the roofline.

use super::Curvature;
use super::findings::{FITS, PEAKS, POINTS, RATES, ROOF_LINES, TIMED};
use crate::laboratory::costs::model::Operation;
use crate::laboratory::costs::usage::Threads;
use crate::laboratory::picture::{Axis, Band, Drawing, Layer, Panel, Picture};

pub(super) fn all(settings: &Curvature) -> Vec<Picture> {
    vec![seconds(settings), peaks(settings), sizes(settings), roofline(settings)]
}

fn sweep(settings: &Curvature, operation: Operation, x: &str, fixed: (&str, usize)) -> Layer {
    Layer::new(RATES, x, "seconds")
        .only("operation", operation.name())
        .only("threads", Threads::All.name())
        .only("block_rows", settings.base_block_rows.to_string())
        .only(fixed.0, fixed.1.to_string())
        .by("family")
        .band(Band::Columns("least".into(), "most".into()))
        .named("{family}")
}

/// What a unit of an operation is.
fn titled(operation: Operation) -> String {
    let unit = if operation == Operation::Absorb { " a row" } else { "" };
    format!("{}{unit}", operation.name())
}

fn seconds(settings: &Curvature) -> Picture {
    let panel = |operation: Operation| {
        let fit =
            Layer::new(FITS, "d", "seconds").only("operation", operation.name()).by("family").theory().named("fitted power law");
        Panel {
            title: titled(operation),
            x: Axis::log("dimension d (count)"),
            layers: vec![fit, sweep(settings, operation, "d", ("size", settings.base_size))],
            verticals: Vec::new(),
        }
    };
    Picture {
        file: "curvature-seconds".into(),
        title: "Seconds against the dimension".into(),
        caption: format!(
            "ℓ = {} (a window's samples), stored rows in blocks of {}, all threads: medians of {} with a band from the least to the \
             greatest; broken lines: power laws fitted to the medians. To absorb is taken by the row, to solve is to factorize anew \
             and to solve for one right-hand side.",
            settings.base_size, settings.base_block_rows, settings.replicates
        ),
        drawing: Drawing::Curves { y: Axis::log("time (s)"), panels: TIMED.map(panel).to_vec() },
    }
}

fn peaks(settings: &Curvature) -> Picture {
    let layer = |y: &str| Layer::new(PEAKS, "d", y).by("family");
    Picture {
        file: "curvature-peaks".into(),
        title: "Peak memory against the dimension".into(),
        caption: format!(
            "The most bytes in use at once while an estimate of size ℓ = {} is built, absorbs a block of {} rows, approximates and \
             solves, the block included; broken lines: the formulas by which is decided what fits.",
            settings.base_size, settings.base_block_rows
        ),
        drawing: Drawing::Curves {
            y: Axis::log("peak memory (bytes)"),
            panels: vec![Panel {
                title: String::new(),
                x: Axis::log("dimension d (count)"),
                layers: vec![layer("formula").theory().named("formula"), layer("peak_bytes").named("{family}")],
                verticals: Vec::new(),
            }],
        },
    }
}

fn sizes(settings: &Curvature) -> Picture {
    let panel = |operation: Operation| Panel {
        title: titled(operation),
        x: Axis::log("size ℓ (count)"),
        layers: vec![sweep(settings, operation, "size", ("d", settings.base_dim))],
        verticals: Vec::new(),
    };
    Picture {
        file: "curvature-sizes".into(),
        title: "Seconds against the size of the sketch".into(),
        caption: format!(
            "d = {}, stored rows in blocks of {}, all threads: medians of {} with a band from the least to the greatest. The size is ℓ \
             of a sketch and the samples of a window; `diagonal` has none.",
            settings.base_dim, settings.base_block_rows, settings.replicates
        ),
        drawing: Drawing::Curves { y: Axis::log("time (s)"), panels: TIMED.map(panel).to_vec() },
    }
}

fn roofline(settings: &Curvature) -> Picture {
    let roofs = Layer::new(ROOF_LINES, "flops_per_byte", "gflops").by("name").theory().named("{name}");
    let points = Layer::new(POINTS, "flops_per_byte", "gflops").by("name").points().named("{name}");
    Picture {
        file: "roofline".into(),
        title: "Operations against the roofs of the machine".into(),
        caption: format!(
            "d = {}, ℓ = {}, blocks of {}, all threads. Across: operations a byte that must move at the least, both by the formulas; \
             up: the operations of the formulas over the median seconds. The sloping roof is the bandwidth of memory, the flat one the \
             rate of a large matrix product, both measured in the same run: what lies below the slope waits for memory, what lies right of its end could compute.",
            settings.base_dim, settings.base_size, settings.base_block_rows
        ),
        drawing: Drawing::Curves {
            y: Axis::log("rate (GFLOP/s)"),
            panels: vec![Panel {
                title: String::new(),
                x: Axis::log("operations a byte (flop/byte)"),
                layers: vec![roofs, points],
                verticals: Vec::new(),
            }],
        },
    }
}
