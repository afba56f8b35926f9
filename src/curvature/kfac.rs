//! K-FAC (Martens & Grosse 2015): for each linear layer the Fisher matrix of its weights is taken for A ⊗ B, A the second moment of the layer's
//! inputs and B that of the output derivatives, and layers for independent of each other. A reference for rows that come in factored form:
//! exact only where inputs and derivatives are independent. Damping is added exactly, in the eigenbases of A and B.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{Approximation, Curvature, Interval};
use crate::dense::{Eigh, Matrix, eigh, gram, matmul};
use crate::error::{Error, Result, check_count, check_len};
use crate::gradient::{GradientBlock, KroneckerRows};
use crate::inverse::{Bracket, KnownCurvature};
use crate::operator::LinearOperator;
use crate::rng::Key;

/// [`Kfac`] has no settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {}

impl Config {
    pub(super) fn validate(&self) -> Result<()> {
        Ok(())
    }
}

/// Σ x xᵀ and Σ w δ δᵀ of every layer, with their mass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kfac {
    dim: usize,
    mass: f64,
    /// Empty before the first block, which tells the layers' shapes.
    layers: Vec<Layer>,
}

/// The two sums of one layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Layer {
    /// Σ x xᵀ, p × p.
    inputs: Matrix,
    /// Σ w δ δᵀ, C × C.
    deltas: Matrix,
}

impl Layer {
    fn zeros_like(rows: &KroneckerRows) -> Self {
        let (p, c) = (rows.inputs().nrows(), rows.deltas().nrows());
        Self { inputs: Matrix::zeros(p, p), deltas: Matrix::zeros(c, c) }
    }

    fn shape(&self) -> (usize, usize) {
        (self.inputs.nrows(), self.deltas.nrows())
    }
}

fn layers_of(block: &GradientBlock) -> Result<&[KroneckerRows]> {
    match block {
        GradientBlock::Kronecker(rows) => Ok(std::slice::from_ref(rows)),
        GradientBlock::Layered(rows) => Ok(rows.layers()),
        GradientBlock::Dense(_) => {
            Err(Error::unsupported("`kfac` on rows that are not factored", "take `nystrom` or `frequent-directions`"))
        }
    }
}

impl Kfac {
    /// The registry name.
    pub const NAME: &'static str = "kfac";

    /// An empty estimate for d = `dim`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a dimension of 0.
    pub fn new(dim: usize, _config: &Config, _key: Key) -> Result<Self> {
        check_count("dim", dim)?;
        Ok(Self { dim, mass: 0.0, layers: Vec::new() })
    }

    fn check_shapes(&self, shapes: impl ExactSizeIterator<Item = (usize, usize)>) -> Result<()> {
        if self.layers.is_empty() {
            return Ok(());
        }
        check_len("layers", shapes.len(), self.layers.len())?;
        for (found, layer) in shapes.zip(&self.layers) {
            check_len("layer inputs", found.0, layer.shape().0)?;
            check_len("layer outputs", found.1, layer.shape().1)?;
        }
        Ok(())
    }
}

impl Curvature for Kfac {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn mass(&self) -> f64 {
        self.mass
    }

    fn absorb(&mut self, block: &GradientBlock) -> Result<()> {
        super::check_block(block, self.dim)?;
        let rows = layers_of(block)?;
        self.check_shapes(rows.iter().map(|layer| (layer.inputs().nrows(), layer.deltas().nrows())))?;
        if self.layers.is_empty() {
            self.layers = rows.iter().map(Layer::zeros_like).collect();
        }
        for (layer, rows) in self.layers.iter_mut().zip(rows) {
            layer.inputs.add_scaled(1.0, &gram(rows.inputs()))?;
            layer.deltas.add_scaled(1.0, &gram(rows.deltas()))?;
        }
        self.mass += block.samples() as f64;
        Ok(())
    }

    fn decay(&mut self, gamma: f64) -> Result<()> {
        super::check_decay(gamma)?;
        for layer in &mut self.layers {
            layer.inputs.scale(1.0 - gamma);
            layer.deltas.scale(1.0 - gamma);
        }
        self.mass *= 1.0 - gamma;
        Ok(())
    }

    fn merge(&mut self, other: &dyn Curvature) -> Result<()> {
        let other = super::same_family(self, other)?;
        if other.layers.is_empty() && other.dim == self.dim {
            return Ok(());
        }
        if other.dim != self.dim || self.check_shapes(other.layers.iter().map(Layer::shape)).is_err() {
            let shapes = |s: &Self| s.layers.iter().map(|layer| format!("{:?}", layer.shape())).collect::<Vec<_>>().join(" ");
            let what = format!("merging layers {} (d = {}) into {} (d = {})", shapes(other), other.dim, shapes(self), self.dim);
            return Err(Error::unsupported(what, "use the same layers"));
        }
        if self.layers.is_empty() {
            *self = other.clone();
            return Ok(());
        }
        for (layer, more) in self.layers.iter_mut().zip(&other.layers) {
            layer.inputs.add_scaled(1.0, &more.inputs)?;
            layer.deltas.add_scaled(1.0, &more.deltas)?;
        }
        self.mass += other.mass;
        Ok(())
    }

    fn approximate(&self) -> Result<Box<dyn Approximation>> {
        if self.mass <= 0.0 {
            return Err(super::nothing_absorbed());
        }
        let mean = |sum: &Matrix| {
            let mut mean = sum.clone();
            mean.scale(1.0 / self.mass);
            mean
        };
        let factor = |layer: &Layer| -> Result<Factors> {
            let (inputs, deltas) = (mean(&layer.inputs), mean(&layer.deltas));
            Ok(Factors { inputs_eigen: eigh(&inputs)?, deltas_eigen: eigh(&deltas)?, inputs, deltas })
        };
        Ok(Box::new(KfacApproximation { dim: self.dim, layers: self.layers.iter().map(factor).collect::<Result<_>>()? }))
    }

    /// None: only the factors' own traces are kept.
    fn trace(&self) -> Option<f64> {
        None
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        super::saved::write(Self::NAME, self, out)
    }

    fn boxed_clone(&self) -> Box<dyn Curvature> {
        Box::new(self.clone())
    }
}

/// A and B of one layer, and their eigen-decompositions.
struct Factors {
    inputs: Matrix,
    deltas: Matrix,
    inputs_eigen: Eigh,
    deltas_eigen: Eigh,
}

/// The block-diagonal matrix of A ⊗ B.
struct KfacApproximation {
    dim: usize,
    layers: Vec<Factors>,
}

impl KfacApproximation {
    /// Applies `f` to the p × C matrix of every layer's part of x.
    fn by_layer(&self, x: &[f64], f: impl Fn(&Factors, Matrix) -> Result<Matrix>) -> Result<Vec<f64>> {
        check_len("x", x.len(), self.dim)?;
        let (mut result, mut rest) = (Vec::with_capacity(x.len()), x);
        for layer in &self.layers {
            let (p, c) = (layer.inputs.nrows(), layer.deltas.nrows());
            let (part, others) = rest.split_at(p * c);
            result.extend(f(layer, Matrix::from_columns(p, c, part.to_vec())?)?.into_vec());
            rest = others;
        }
        Ok(result)
    }
}

impl LinearOperator for KfacApproximation {
    fn dim(&self) -> usize {
        self.dim
    }

    /// A W B.
    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        self.by_layer(x, |layer, w| matmul(&matmul(&layer.inputs, &w)?, &layer.deltas))
    }
}

impl Approximation for KfacApproximation {
    fn inverse(&self, known: &KnownCurvature) -> Result<Box<dyn LinearOperator + '_>> {
        check_len("known curvature", known.dim(), self.dim)?;
        known.check_invertible()?;
        let Some(lambda) = known.as_scalar() else {
            return Err(Error::unsupported("`kfac` with a known curvature that is not λI", "take `window` or a sketch"));
        };
        Ok(Box::new(KfacInverse { approximation: self, lambda }))
    }

    fn interval(&self) -> Option<Interval> {
        None
    }

    fn bracket(&self, known: &KnownCurvature, failure: Option<f64>) -> Result<Bracket<'_>> {
        super::bracket(self, known, failure)
    }

    fn trace(&self) -> f64 {
        self.layers.iter().map(|layer| layer.inputs.trace() * layer.deltas.trace()).sum()
    }
}

/// U_A [(U_Aᵀ W U_B)_jk / (a_j b_k + λ)] U_Bᵀ.
struct KfacInverse<'a> {
    approximation: &'a KfacApproximation,
    lambda: f64,
}

impl LinearOperator for KfacInverse<'_> {
    fn dim(&self) -> usize {
        self.approximation.dim
    }

    fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        self.approximation.by_layer(x, |layer, w| {
            let (a, b) = (&layer.inputs_eigen, &layer.deltas_eigen);
            let rotated = matmul(&matmul(a.vectors.t(), &w)?, &b.vectors)?;
            let solved = Matrix::from_fn(rotated.nrows(), rotated.ncols(), |j, k| {
                rotated[(j, k)] / (a.values[j].max(0.0) * b.values[k].max(0.0) + self.lambda)
            });
            matmul(&matmul(&a.vectors, &solved)?, b.vectors.t())
        })
    }
}
