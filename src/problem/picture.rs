//! What there is to see of a problem at a point: numbers on a grid, as an image or as a map. How they are drawn is not known here.

use crate::error::{Error, Result, check_count, check_len};

/// Numbers on a grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// What it shows.
    pub title: String,
    /// How it is to be looked at.
    pub kind: PictureKind,
    /// What the numbers are, with their unit. Pictures of one unit are drawn on one scale, so that they can be compared.
    pub unit: String,
    /// Numbers in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Row by row from the top, each from the left.
    pub values: Vec<f64>,
}

/// How a picture is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureKind {
    /// An image: dark is little, light is much.
    Image,
    /// A field over the unit square at the interior points of an equal grid, in colours; the horizontal coordinate is x, the vertical one y,
    /// upwards.
    Map,
}

impl PictureKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Image, Self::Map];

    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Map => "map",
        }
    }

    /// The kind of this name.
    ///
    /// # Errors
    /// [`Error::Argument`] for a name of none.
    pub fn of(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| Error::argument("kind", "`image` or `map`", format_args!("`{name}`")))
    }
}

impl Picture {
    /// Checks that there is a number for every place. A number may be NaN: nothing is drawn there.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty grid, [`Error::Shape`].
    pub fn check(&self) -> Result<()> {
        check_count("picture width", self.width)?;
        check_count("picture height", self.height)?;
        check_len("picture values", self.values.len(), self.width.saturating_mul(self.height))
    }
}
