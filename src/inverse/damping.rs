//! Damping that is chosen, not guessed: the smallest μ whose certificate is good enough for the right-hand side at hand. The certified
//! relative error radius/(‖c‖ − radius) is infinite where nothing is known and falls as Δ/2μ once μ exceeds what the sketch left out, so
//! that a target is always met somewhere; where, depends on the right-hand side.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::{Interval, PathPoint, damping_grid};
use crate::error::{Error, Result, check_nonnegative, check_positive};

/// How much damping. In a configuration a number, `"auto"`, or a table `{ target = 0.05 }` for another target than
/// [`Damping::AUTO`]'s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Damping {
    /// μ.
    Fixed(f64),
    /// The smallest μ whose certified relative error is at most `target`, for each right-hand side anew.
    Auto {
        /// The relative error.
        target: f64,
    },
}

impl Damping {
    /// A certified relative error of 0.1.
    pub const AUTO: Self = Self::Auto { target: 0.1 };

    /// Checks the number, under the setting's name.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn validate(self, setting: &'static str) -> Result<()> {
        match self {
            Self::Fixed(damping) => check_nonnegative(setting, damping),
            Self::Auto { target } => check_positive(setting, target),
        }
    }
}

impl FromStr for Damping {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" {
            return Ok(Self::AUTO);
        }
        let number = text.parse().map_err(|_| Error::argument("damping", "a number, or `auto`", format_args!("`{text}`")))?;
        Self::Fixed(number).validate("damping").map(|()| Self::Fixed(number))
    }
}

impl Serialize for Damping {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(damping) => serializer.serialize_f64(*damping),
            auto if *auto == Self::AUTO => serializer.serialize_str("auto"),
            Self::Auto { target } => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("target", target)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Damping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            target: f64,
        }
        struct NumberOrAuto;
        impl<'de> Visitor<'de> for NumberOrAuto {
            type Value = Damping;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a damping: a number, \"auto\", or a table of `target`")
            }
            fn visit_f64<E>(self, value: f64) -> std::result::Result<Damping, E> {
                Ok(Damping::Fixed(value))
            }
            fn visit_i64<E>(self, value: i64) -> std::result::Result<Damping, E> {
                Ok(Damping::Fixed(value as f64))
            }
            fn visit_u64<E>(self, value: u64) -> std::result::Result<Damping, E> {
                Ok(Damping::Fixed(value as f64))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> std::result::Result<Damping, E> {
                if value == "auto" { Ok(Damping::AUTO) } else { Err(E::invalid_value(de::Unexpected::Str(value), &self)) }
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> std::result::Result<Damping, M::Error> {
                let Table { target } = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Damping::Auto { target })
            }
        }
        deserializer.deserialize_any(NumberOrAuto)
    }
}

/// Where to look for a damping: between two values of λ + μ, λ = λ_min(Λ).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DampingRange {
    known: f64,
    least: f64,
    most: f64,
}

/// The least λ + μ that is tried, relative to tr F̂: below it the rounding of a solve would be seen in a certificate.
const FLOOR: f64 = 1e-10;

/// Dampings that are tried, for each factor of 10.
const PER_DECADE: f64 = 4.0;

/// How closely the smallest damping is found, relative to λ + μ.
const PRECISION: f64 = 1e-3;

impl DampingRange {
    /// μ from `least` to `most`, with λ known besides.
    ///
    /// # Errors
    /// [`Error::Argument`] unless 0 ≤ λ, 0 < λ + least and least ≤ most.
    pub fn new(known: f64, least: f64, most: f64) -> Result<Self> {
        check_nonnegative("known curvature", known)?;
        check_nonnegative("least damping", least)?;
        check_positive("known curvature plus least damping", known + least)?;
        if !(most >= least && most.is_finite()) {
            return Err(Error::argument("most damping", format_args!("a finite number of at least {least:e}"), most));
        }
        Ok(Self { known, least: known + least, most: known + most })
    }

    /// Everything that can make sense for the interval of a residual and tr F̂. The lower end is where the certificate begins to hold
    /// (4·(−lo)) or 1e-10·tr F̂. At the upper end every right-hand side meets the target: radius/‖c‖ ≤ Δ/(2√(a(a + Δ))), a = λ + μ + lo,
    /// for ‖c‖² ≥ x_Uᵀx_L.
    ///
    /// # Errors
    /// [`Error::Argument`] for a target that is not positive, or where λ, tr F̂ and the interval are all 0.
    pub fn of(known: f64, trace: f64, interval: Interval, target: f64) -> Result<Self> {
        check_positive("target", target)?;
        let least = known.max(FLOOR * trace).max(-4.0 * interval.lo);
        let ratio = target / (1.0 + target);
        // a(a + Δ) = (Δ/2r)²
        let needed = 0.5 * (interval.hi - interval.lo) * ((1.0 + 1.0 / (ratio * ratio)).sqrt() - 1.0);
        if least <= 0.0 {
            return Err(Error::argument("damping", "a number: everything absorbed is 0, and nothing gives `auto` a scale", "auto"));
        }
        Ok(Self { known, least, most: (2.0 * (needed - interval.lo)).max(10.0 * least) })
    }

    /// The part of it from a damping on.
    pub fn from(self, damping: f64) -> Self {
        let least = self.least.max(self.known + damping);
        Self { least, most: self.most.max(10.0 * least), ..self }
    }
}

/// The smallest damping of a range, to a thousandth, whose certificate meets the target: the first of a logarithmic grid, refined by
/// bisection. `certificate` says what is certified at a μ, or that nothing is.
///
/// # Errors
/// [`Error::Argument`] where none does, and those of `certificate`.
pub fn choose_damping(
    range: DampingRange,
    target: f64,
    mut certificate: impl FnMut(f64) -> Result<Option<PathPoint>>,
) -> Result<PathPoint> {
    check_positive("target", target)?;
    let DampingRange { known, least, most } = range;
    let count = (PER_DECADE * (most / least).log10()).ceil() as usize + 1;
    let mut failed: Option<f64> = None;
    let mut best = f64::INFINITY;
    let mut at = |total: f64| certificate((total - known).max(0.0));
    for total in damping_grid(least, most, count)? {
        let Some(point) = at(total)? else { continue };
        best = best.min(point.relative_error);
        if point.relative_error > target {
            failed = Some(total);
            continue;
        }
        let mut found = (total, point);
        if let Some(mut low) = failed {
            while found.0 > (1.0 + PRECISION) * low {
                let middle = (low * found.0).sqrt();
                match at(middle)? {
                    Some(point) if point.relative_error <= target => found = (middle, point),
                    _ => low = middle,
                }
            }
        }
        return Ok(found.1);
    }
    let expected = format!("`auto` to find a relative error of {target} up to {:.3e}", most - known);
    let found = format!("{best:.3e} at best; take a larger target or a larger sketch");
    Err(Error::argument("damping", expected, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inverse::Certainty;

    fn point(damping: f64, relative_error: f64) -> PathPoint {
        PathPoint { damping, norm: 1.0, radius: 1.0, relative_error }
    }

    #[test]
    fn the_smallest_damping_that_meets_a_target_is_found_to_a_thousandth() {
        for known in [0.0, 0.03] {
            for threshold in [1e-5_f64, 1e-3, 0.2, 0.9] {
                let range = DampingRange::new(known, 1e-6, 1.0).unwrap();
                let mut calls = 0;
                let found = choose_damping(range, 0.1, |mu| {
                    calls += 1;
                    Ok((mu > 1e-6).then(|| point(mu, 0.1 * threshold / mu)))
                });
                let found = found.unwrap().damping;
                assert!(found >= threshold && found + known <= 1.0011 * (threshold + known), "{found} for {threshold}");
                assert!(calls < 45, "{calls}");
            }
        }
        // The least one meets it at once.
        let range = DampingRange::new(0.5, 0.0, 1.0).unwrap();
        assert_eq!(choose_damping(range, 0.1, |mu| Ok(Some(point(mu, 0.01)))).unwrap().damping, 0.0);
    }

    #[test]
    fn a_target_out_of_reach_is_refused_with_the_best_there_was() {
        let range = DampingRange::new(0.0, 1e-6, 1.0).unwrap();
        let message = choose_damping(range, 0.1, |mu| Ok(Some(point(mu, 0.25 / mu)))).unwrap_err().to_string();
        assert!(message.contains("2.500e-1 at best") && message.contains("larger target"), "{message}");
        let message = choose_damping(range, 0.1, |_| Ok(None)).unwrap_err().to_string();
        assert!(message.contains("inf at best"), "{message}");
        assert!(choose_damping(range, 0.0, |_| Ok(None)).is_err());
        let nothing = Interval { lo: 0.0, hi: 0.0, certainty: Certainty::Deterministic {} };
        assert!(DampingRange::of(0.0, 0.0, nothing, 0.1).unwrap_err().to_string().contains("scale"));
        for (known, least, most) in [(0.0, 0.0, 1.0), (-1.0, 2.0, 3.0), (0.0, 2.0, 1.0), (0.0, 1.0, f64::NAN)] {
            assert!(DampingRange::new(known, least, most).is_err());
        }
    }

    #[cfg(feature = "io")]
    #[test]
    fn settings_are_a_number_a_word_or_a_table() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Settings {
            damping: Damping,
        }
        for (text, damping) in [
            ("damping = 0.5\n", Damping::Fixed(0.5)),
            ("damping = \"auto\"\n", Damping::AUTO),
            ("[damping]\ntarget = 0.05\n", Damping::Auto { target: 0.05 }),
        ] {
            let settings: Settings = toml::from_str(text).unwrap();
            assert_eq!(settings, Settings { damping });
            assert_eq!(toml::to_string(&settings).unwrap(), text);
        }
        assert_eq!(toml::from_str::<Settings>("damping = 2").unwrap().damping, Damping::Fixed(2.0));
        let message = toml::from_str::<Settings>("damping = \"some\"").unwrap_err().to_string();
        assert!(message.contains("a number, \"auto\""), "{message}");
        assert_eq!("auto".parse::<Damping>().unwrap(), Damping::AUTO);
        assert_eq!("1e-3".parse::<Damping>().unwrap(), Damping::Fixed(1e-3));
        for wrong in ["", "Auto", "-1", "nan", "inf"] {
            assert_eq!(wrong.parse::<Damping>().unwrap_err().offending_argument(), Some("damping"), "{wrong}");
        }
    }
}
