//! The state of a run between two outer steps. With the step's number in it and all randomness derived from the run's key, it is
//! all that a checkpoint needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::curvature::{self, Curvature};
use crate::error::{Error, Result, all_finite, check_len};

/// v, θ and what else a method keeps, after `step` outer steps.
pub struct State {
    /// Outer steps taken.
    pub step: u64,
    /// v.
    pub outer_var: Vec<f64>,
    /// θ.
    pub inner_var: Vec<f64>,
    /// The curvature estimate, for methods that keep one.
    pub curvature: Option<Box<dyn Curvature>>,
    /// The vectors that a method carries besides.
    pub memory: Memory,
}

/// Vectors by name: the linear system's variable, momenta, earlier points, tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory(BTreeMap<String, Vec<f64>>);

impl Memory {
    /// Puts a vector in the place of the one with that name.
    pub fn put(&mut self, name: &str, vector: Vec<f64>) {
        self.0.insert(name.to_owned(), vector);
    }

    /// Takes a vector out, to be changed and put back.
    ///
    /// # Errors
    /// [`Error::Argument`] where there is none of that name, [`Error::Shape`] for one of another length: a state of another method.
    pub fn take(&mut self, name: &'static str, len: usize) -> Result<Vec<f64>> {
        let vector =
            self.0.remove(name).ok_or_else(|| Error::argument("saved state", format_args!("the vector `{name}`"), "none"))?;
        check_len(name, vector.len(), len)?;
        Ok(vector)
    }
}

#[derive(Serialize, Deserialize)]
struct Saved {
    step: u64,
    outer_var: Vec<f64>,
    inner_var: Vec<f64>,
    curvature: Option<Vec<u8>>,
    memory: Memory,
}

impl State {
    /// The state before the first step of a method that keeps nothing besides.
    pub fn new(outer_var: Vec<f64>, inner_var: Vec<f64>) -> Self {
        Self { step: 0, outer_var, inner_var, curvature: None, memory: Memory::default() }
    }

    /// The state as bytes.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the encoder fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let curvature = self.curvature.as_ref().map(|c| c.save()).transpose()?;
        let saved = Saved {
            step: self.step,
            outer_var: self.outer_var.clone(),
            inner_var: self.inner_var.clone(),
            curvature,
            memory: self.memory.clone(),
        };
        postcard::to_stdvec(&saved).map_err(|e| Error::Numerical { operation: "saving a state", reason: e.to_string() })
    }

    /// The state that [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`Error::Argument`] for bytes of another kind, or cut short.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let saved: Saved =
            postcard::from_bytes(bytes).map_err(|e| Error::argument("saved state", "bytes that `to_bytes` wrote", e))?;
        let curvature = saved.curvature.map(|bytes| curvature::load(&bytes)).transpose()?;
        let Saved { step, outer_var, inner_var, memory, .. } = saved;
        Ok(Self { step, outer_var, inner_var, curvature, memory })
    }

    /// Whether every number of v and θ is finite.
    pub fn is_finite(&self) -> bool {
        all_finite(&self.outer_var) && all_finite(&self.inner_var)
    }
}
