//! Passes through a fully connected network for a block of samples, one column a sample: forward, backward, and their derivatives in a
//! direction U of the weights (Pearlmutter's R-operator, 1994: R{f} = d/dt f(W + tU) at t = 0). With the layers l = 1 … L, a₀ = x,
//! z_l = W_lᵀ(a_{l−1}, 1) and a_l = φ(z_l):
//!
//! ```text
//! forward     z_l = W_lᵀ(a_{l−1}, 1)                       a_l = φ(z_l)
//! tangent     Rz_l = W_lᵀ(Ra_{l−1}, 0) + U_lᵀ(a_{l−1}, 1)  Ra_l = φ'(z_l) ∘ Rz_l
//! backward    β_l = W_{l+1}δ_{l+1}                         δ_l = φ'(z_l) ∘ β_l         ∇_{W_l} = Σ (a_{l−1}, 1) δ_lᵀ
//! both        Rβ_l = W_{l+1}Rδ_{l+1} + U_{l+1}δ_{l+1}      Rδ_l = φ'(z_l) ∘ Rβ_l + R{φ'(z_l)} ∘ β_l
//! ```
//!
//! β_l leaves out the row of the bias. Derivatives of φ are read from its value a, so that no z is kept. Nothing here knows a loss.

use serde::{Deserialize, Serialize};

use crate::dense::{Matrix, View, matmul, matmul_add, matmul_add_slice};
use crate::error::Result;

/// What a hidden unit does with its sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// φ(z) = tanh z.
    Tanh,
    /// φ(z) = max(z, 0); its derivative at the kink is 0 by convention.
    Relu,
}

impl Activation {
    fn value(self, z: f64) -> f64 {
        match self {
            Self::Tanh => z.tanh(),
            // Not `max`, which would turn NaN into 0.
            Self::Relu if z <= 0.0 => 0.0,
            Self::Relu => z,
        }
    }

    /// φ'(z) for a = φ(z).
    fn slope(self, a: f64) -> f64 {
        match self {
            Self::Tanh => 1.0 - a * a,
            Self::Relu if a > 0.0 => 1.0,
            Self::Relu => 0.0,
        }
    }

    /// R{φ'(z)} for a = φ(z) and its tangent Ra: for tanh −2a Ra, since φ' = 1 − a².
    fn slope_tangent(self, a: f64, tangent: f64) -> f64 {
        match self {
            Self::Tanh => -2.0 * a * tangent,
            Self::Relu => 0.0,
        }
    }
}

/// The weights W_l, (p_l + 1) × C_l with the bias as the last row, and the activation between them.
pub(super) struct Network {
    pub(super) weights: Vec<Matrix>,
    pub(super) activation: Activation,
}

/// What a pass leaves behind.
pub(super) struct Pass {
    /// (a_{l−1}, 1), the layers' inputs, (p_l + 1) × m; of a tangent (Ra_{l−1}, 0), the first one empty since Rx = 0.
    pub(super) inputs: Vec<Matrix>,
    /// z_L or Rz_L, C × m.
    pub(super) outputs: Matrix,
}

/// W without the row of the bias.
fn without_bias(weights: &Matrix) -> View<'_> {
    weights.rows(0..weights.nrows() - 1)
}

/// The columns f(0, ·), …, f(m − 1, ·) of height `height`, each with `last` below.
fn extended(height: usize, m: usize, last: f64, f: impl Fn(usize, usize) -> f64) -> Matrix {
    Matrix::from_fn(height + 1, m, |j, i| if j < height { f(j, i) } else { last })
}

impl Network {
    /// z_L for the inputs x, p × m.
    pub(super) fn forward(&self, x: &Matrix) -> Result<Pass> {
        let mut inputs = vec![extended(x.nrows(), x.ncols(), 1.0, |j, i| x[(j, i)])];
        let mut outputs = matmul(self.weights[0].t(), &inputs[0])?;
        for weights in &self.weights[1..] {
            let a = extended(outputs.nrows(), outputs.ncols(), 1.0, |j, i| self.activation.value(outputs[(j, i)]));
            outputs = matmul(weights.t(), &a)?;
            inputs.push(a);
        }
        Ok(Pass { inputs, outputs })
    }

    /// Rz_L = J u for every sample, without a score: the direction's products beside the weights'.
    pub(super) fn tangent(&self, pass: &Pass, direction: &[Matrix]) -> Result<Pass> {
        let m = pass.outputs.ncols();
        let mut inputs = vec![Matrix::zeros(0, 0)];
        let mut outputs = matmul(direction[0].t(), &pass.inputs[0])?;
        for (l, (weights, u)) in self.weights.iter().zip(direction).enumerate().skip(1) {
            let a = &pass.inputs[l];
            let tangent = extended(outputs.nrows(), m, 0.0, |j, i| self.activation.slope(a[(j, i)]) * outputs[(j, i)]);
            outputs = matmul(weights.t(), &tangent)?;
            matmul_add(&mut outputs, 1.0, u.t(), a)?;
            inputs.push(tangent);
        }
        Ok(Pass { inputs, outputs })
    }

    /// δ_1, …, δ_L from δ_L; `rows_per_sample` adjacent columns of it belong to one sample.
    pub(super) fn backward(&self, pass: &Pass, last: Matrix, rows_per_sample: usize) -> Result<Vec<Matrix>> {
        let mut deltas = vec![last];
        for l in (1..self.weights.len()).rev() {
            let mut delta = matmul(without_bias(&self.weights[l]), &deltas[deltas.len() - 1])?;
            for row in 0..delta.ncols() {
                let a = pass.inputs[l].col(row / rows_per_sample);
                delta.col_mut(row).iter_mut().zip(a).for_each(|(d, a)| *d *= self.activation.slope(*a));
            }
            deltas.push(delta);
        }
        deltas.reverse();
        Ok(deltas)
    }

    /// δ_1, …, δ_L and their tangents from δ_L and Rδ_L.
    pub(super) fn backward_tangent(
        &self,
        pass: &Pass,
        tangent: &Pass,
        direction: &[Matrix],
        last: (Matrix, Matrix),
    ) -> Result<(Vec<Matrix>, Vec<Matrix>)> {
        let (mut deltas, mut tangents) = (vec![last.0], vec![last.1]);
        for l in (1..self.weights.len()).rev() {
            let (delta, rdelta) = (&deltas[deltas.len() - 1], &tangents[tangents.len() - 1]);
            let weights = without_bias(&self.weights[l]);
            let mut next = matmul(weights, delta)?;
            let mut rnext = matmul(weights, rdelta)?;
            matmul_add(&mut rnext, 1.0, without_bias(&direction[l]), delta)?;
            for i in 0..next.ncols() {
                let inputs = pass.inputs[l].col(i).iter().zip(tangent.inputs[l].col(i));
                let both = next.col_mut(i).iter_mut().zip(rnext.col_mut(i));
                for ((beta, rbeta), (&a, &ra)) in both.zip(inputs) {
                    let slope = self.activation.slope(a);
                    *rbeta = slope * *rbeta + self.activation.slope_tangent(a, ra) * *beta;
                    *beta *= slope;
                }
            }
            deltas.push(next);
            tangents.push(rnext);
        }
        deltas.reverse();
        tangents.reverse();
        Ok((deltas, tangents))
    }
}

/// Adds Σ (a_{l−1}, 1) δ_lᵀ of every layer to a vector of the length of θ.
pub(super) fn add_gradient(inputs: &[Matrix], deltas: &[Matrix], sum: &mut [f64]) -> Result<()> {
    let mut rest = sum;
    for (inputs, deltas) in inputs.iter().zip(deltas) {
        let (part, others) = rest.split_at_mut(inputs.nrows() * deltas.nrows());
        matmul_add_slice(part, 1.0, inputs.view(), deltas.t())?;
        rest = others;
    }
    Ok(())
}
