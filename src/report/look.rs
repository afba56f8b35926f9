//! How curves and boxes look, so that they are told apart with any colour blindness and in black and white: colours with marks,
//! lines broken differently, stripes. `canvas.rs` draws them.

use plotters::style::RGBColor;

/// Whatever is left over.
pub const REST: Fill = Fill { color: RGBColor(0xBB, 0xBB, 0xBB), hatch: Hatch::None };

/// Okabe & Ito's palette, told apart with every common colour blindness, without its yellow, which is too faint on white.
pub const PALETTE: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0x00, 0x00, 0x00),
];

/// The mark at some places of a curve: it tells curves apart without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    None,
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
    Ring,
}

/// How a curve's line is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dash {
    Solid,
    Dashed,
    Dotted,
}

/// How a curve looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub color: RGBColor,
    pub marker: Marker,
    pub dash: Dash,
}

impl Look {
    /// The look of the `index`-th curve: 42 differ.
    pub fn nth(index: usize) -> Self {
        const MARKERS: [Marker; 6] =
            [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Cross, Marker::Ring];
        Self { color: PALETTE[index % PALETTE.len()], marker: MARKERS[index % MARKERS.len()], dash: Dash::Solid }
    }

    /// The same with another line.
    pub fn dashed(self, dash: Dash) -> Self {
        Self { dash, ..self }
    }
}

impl Dash {
    /// The `index`-th style of line.
    pub fn nth(index: usize) -> Self {
        [Self::Solid, Self::Dashed, Self::Dotted][index % 3]
    }
}

/// The stripes over a filled box: they tell boxes apart without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hatch {
    None,
    Rising,
    Falling,
}

/// How a box is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    pub color: RGBColor,
    pub hatch: Hatch,
}

impl Fill {
    /// The fill of the `index`-th box: 21 differ.
    pub fn nth(index: usize) -> Self {
        Self { color: PALETTE[index % PALETTE.len()], hatch: [Hatch::None, Hatch::Rising, Hatch::Falling][index % 3] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_forty_two_looks_differ() {
        let looks: Vec<Look> = (0..42).map(Look::nth).collect();
        assert!((0..42).all(|i| !looks[..i].contains(&looks[i])));
        assert!((0..41).all(|i| looks[i].marker != looks[i + 1].marker), "neighbours differ without colour too");
    }
}
