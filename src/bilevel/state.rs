//! The state of a run between two outer steps. With the step's number in it and all randomness derived from the run's key, it is
//! all that a checkpoint needs.

use serde::{Deserialize, Serialize};

use crate::curvature::{self, Curvature};
use crate::error::{Error, Result};

/// v, θ and the curvature after `step` outer steps.
pub struct State {
    /// Outer steps taken.
    pub step: u64,
    /// v.
    pub outer_var: Vec<f64>,
    /// θ.
    pub inner_var: Vec<f64>,
    /// The curvature estimate, for methods that keep one.
    pub curvature: Option<Box<dyn Curvature>>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    step: u64,
    outer_var: Vec<f64>,
    inner_var: Vec<f64>,
    curvature: Option<Vec<u8>>,
}

impl State {
    /// The state as bytes.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the encoder fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let curvature = self.curvature.as_ref().map(|c| c.save()).transpose()?;
        let saved = Saved { step: self.step, outer_var: self.outer_var.clone(), inner_var: self.inner_var.clone(), curvature };
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
        Ok(Self { step: saved.step, outer_var: saved.outer_var, inner_var: saved.inner_var, curvature })
    }

    /// Whether every number of v and θ is finite.
    pub fn is_finite(&self) -> bool {
        self.outer_var.iter().chain(&self.inner_var).all(|x| x.is_finite())
    }
}
