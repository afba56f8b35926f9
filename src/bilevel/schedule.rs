//! Two small vocabularies of settings: step sizes that stay or decay, and how many samples an operation uses.

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result, check_count, check_nonnegative, check_positive};
use crate::reused::Reused;
use crate::rng::Key;
use crate::samples::Batch;

/// α_k = initial · (1 + k/offset)^(−power): constant for power 0, and the theory's α ∝ 1/(k + k₀) for power 1 and offset k₀.
/// In a configuration a number (constant) or a table of the three.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSize {
    /// α₀.
    pub initial: f64,
    /// The exponent of the decay.
    pub power: f64,
    /// k₀, in steps.
    pub offset: f64,
}

impl StepSize {
    /// The step size that stays.
    pub const fn constant(value: f64) -> Self {
        Self { initial: value, power: 0.0, offset: 1.0 }
    }

    /// α_k.
    pub fn at(&self, k: u64) -> f64 {
        if self.power == 0.0 { self.initial } else { self.initial * (1.0 + k as f64 / self.offset).powf(-self.power) }
    }

    /// Checks the three numbers, under the setting's name.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument).
    pub fn validate(&self, setting: &'static str) -> Result<()> {
        check_positive(setting, self.initial)?;
        check_nonnegative(setting, self.power)?;
        check_positive(setting, self.offset)
    }
}

impl Serialize for StepSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.power == 0.0 {
            return serializer.serialize_f64(self.initial);
        }
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("initial", &self.initial)?;
        map.serialize_entry("power", &self.power)?;
        map.serialize_entry("offset", &self.offset)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for StepSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            initial: f64,
            #[serde(default)]
            power: f64,
            #[serde(default = "one")]
            offset: f64,
        }
        fn one() -> f64 {
            1.0
        }
        struct NumberOrTable;
        impl<'de> Visitor<'de> for NumberOrTable {
            type Value = StepSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a step size: a number, or a table of `initial`, `power` and `offset`")
            }
            fn visit_f64<E>(self, value: f64) -> std::result::Result<StepSize, E> {
                Ok(StepSize::constant(value))
            }
            fn visit_i64<E>(self, value: i64) -> std::result::Result<StepSize, E> {
                Ok(StepSize::constant(value as f64))
            }
            fn visit_u64<E>(self, value: u64) -> std::result::Result<StepSize, E> {
                Ok(StepSize::constant(value as f64))
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> std::result::Result<StepSize, M::Error> {
                let Table { initial, power, offset } = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(StepSize { initial, power, offset })
            }
        }
        deserializer.deserialize_any(NumberOrTable)
    }
}

/// How many samples an operation uses: so many, drawn with replacement, or every one. In a configuration a number or `"all"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleCount {
    /// All samples, in order.
    All,
    /// So many, drawn with replacement.
    Drawn(usize),
}

impl SampleCount {
    /// Draws sample numbers out of `samples`; `None` for all.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) if there are no samples.
    pub fn draw(self, samples: usize, key: Key) -> Result<Drawn> {
        let Self::Drawn(count) = self else { return Ok(Drawn(None)) };
        let mut indices = Reused::zeros(count);
        key.stream().fill_indices(samples, &mut indices)?;
        Ok(Drawn(Some(indices)))
    }

    /// Checks that the count is neither 0 nor beyond 2³² (nothing could hold such a batch), under the setting's name.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument).
    pub fn validate(self, setting: &'static str) -> Result<()> {
        match self {
            Self::All => Ok(()),
            Self::Drawn(count) if u32::try_from(count).is_err() => Err(Error::argument(setting, "a count below 2^32", count)),
            Self::Drawn(count) => check_count(setting, count),
        }
    }
}

/// Sample numbers that were drawn, owned.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn(Option<Reused<usize>>);

impl Drawn {
    /// As a batch.
    pub fn batch(&self) -> Batch<'_> {
        self.0.as_ref().map_or(Batch::All, |indices| Batch::Indices(indices))
    }

    /// The first `count` of them, or the first `count` of all `samples`.
    pub fn first(&self, count: SampleCount, samples: usize) -> Self {
        match (count, &self.0) {
            (SampleCount::All, _) => self.clone(),
            (SampleCount::Drawn(count), Some(indices)) => {
                let mut first = Reused::with_capacity(count.min(indices.len()));
                first.extend_from_slice(&indices[..count.min(indices.len())]);
                Self(Some(first))
            }
            (SampleCount::Drawn(count), None) => Self(Some((0..count.min(samples)).collect::<Vec<_>>().into())),
        }
    }
}

impl Serialize for SampleCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Drawn(count) => serializer.serialize_u64(*count as u64),
        }
    }
}

impl<'de> Deserialize<'de> for SampleCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct NumberOrAll;
        impl Visitor<'_> for NumberOrAll {
            type Value = SampleCount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number of samples, or \"all\"")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> std::result::Result<SampleCount, E> {
                usize::try_from(value).map(SampleCount::Drawn).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> std::result::Result<SampleCount, E> {
                usize::try_from(value).map(SampleCount::Drawn).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> std::result::Result<SampleCount, E> {
                if value == "all" { Ok(SampleCount::All) } else { Err(E::invalid_value(de::Unexpected::Str(value), &self)) }
            }
        }
        deserializer.deserialize_any(NumberOrAll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_sizes_follow_their_formula() {
        assert_eq!(StepSize::constant(0.5).at(1_000_000), 0.5);
        let decaying = StepSize { initial: 2.0, power: 1.0, offset: 10.0 };
        // 2·10/(k + 10)
        for k in [0, 1, 10, 990] {
            assert!((decaying.at(k) - 20.0 / (k as f64 + 10.0)).abs() < 1e-15);
        }
        assert!(StepSize::constant(-1.0).validate("inner_step_size").is_err());
        assert!(StepSize { power: f64::NAN, ..decaying }.validate("inner_step_size").is_err());
    }

    #[test]
    fn counts_draw_what_they_say() {
        assert_eq!(SampleCount::All.draw(5, Key::new(0)).unwrap().batch().len(5), 5);
        let drawn = SampleCount::Drawn(7).draw(5, Key::new(0)).unwrap();
        assert_eq!(drawn.batch().len(5), 7);
        assert_eq!(drawn.first(SampleCount::Drawn(2), 5).batch().len(5), 2);
        assert_eq!(SampleCount::All.draw(5, Key::new(0)).unwrap().first(SampleCount::Drawn(3), 5).batch().len(5), 3);
        assert!(SampleCount::Drawn(0).validate("batch_size").is_err());
    }
}
