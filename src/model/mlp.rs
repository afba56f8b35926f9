//! A fully connected network: any number of hidden layers, tanh or ReLU, with a softmax or a Gaussian head. Not convex: its Hessian
//! is indefinite away from a minimum, and its expected Fisher matrix is the Gauss–Newton matrix (1/m) Σ w_i J_iᵀ H_out J_i, J_i the
//! derivative of the outputs in θ (Martens 2020): both heads are in their natural parameter.
//!
//! θ is the layers' weights one after the other, as in [`LayeredRows`], each a (p + 1) × C matrix column by column, as in
//! [`KroneckerRows`]. **Bias.** Every layer has a constant input 1 after its p inputs, whose weight is the bias: in a layer,
//! θ[k·(p + 1) + j] weighs input j for unit k and θ[k·(p + 1) + p] is the bias of unit k. The rows of a Fisher estimate stay x ⊗ δ, with
//! the constant appended to x. So the features need no intercept of their own.

mod head;
mod network;

use std::ops::Range;

pub use head::Head;
pub use network::Activation;
use network::{Network, Pass, add_gradient};

use super::{FisherIdentity, FisherKind, Model, Weighted};
use crate::dense::{Matrix, axpy, dot};
use crate::error::{Error, Result, check_count, check_finite, check_len};
use crate::gradient::{GradientBlock, KroneckerRows, LayeredRows};
use crate::par;
use crate::rng::Key;
use crate::samples::{Batch, Features, Samples, Targets};

/// Samples of one pass through the network: their activations stay in a core's cache.
const BLOCK: usize = 128;
/// The most pieces of parallel work, each with a sum of the length of θ.
const PIECES: usize = 64;

/// A fully connected network on `inputs` features.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    /// Features, hidden widths, outputs.
    widths: Vec<usize>,
    activation: Activation,
    head: Head,
    dim: usize,
}

/// A block of samples after the forward pass.
struct Block {
    /// Their positions in the batch.
    positions: Range<usize>,
    targets: Targets,
    pass: Pass,
}

impl Mlp {
    /// The registry name.
    pub const NAME: &'static str = "mlp";

    /// The network with these layers; no hidden layer makes it a generalized linear model.
    ///
    /// # Errors
    /// [`Error::Argument`] for a width of 0, fewer than 2 classes, a variance that is not positive with a finite inverse, or more
    /// weights than can be counted.
    pub fn new(inputs: usize, hidden: &[usize], activation: Activation, head: Head) -> Result<Self> {
        check_count("inputs", inputs)?;
        hidden.iter().try_for_each(|&width| check_count("hidden", width))?;
        head.validate()?;
        let widths: Vec<usize> = [&[inputs], hidden, &[head.outputs()]].concat();
        let layers = widths.iter().zip(&widths[1..]).map(|(p, c)| p.checked_add(1)?.checked_mul(*c));
        let dim = layers.reduce(|sum, layer| sum?.checked_add(layer?)).flatten().filter(|d| d.checked_mul(8).is_some());
        let Some(dim) = dim else {
            return Err(Error::argument("widths", "fewer weights than memory has addresses", format_args!("{widths:?}")));
        };
        Ok(Self { widths, activation, head, dim })
    }

    /// The widths of features, hidden layers and outputs.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// What hidden units do with their sums.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The likelihood.
    pub fn head(&self) -> Head {
        self.head
    }

    /// p + 1 and C of every layer.
    fn shapes(&self) -> impl Iterator<Item = (usize, usize)> {
        self.widths.iter().zip(&self.widths[1..]).map(|(p, c)| (p + 1, *c))
    }

    /// A random θ: weights of variance 2/p before ReLU units (He, Zhang, Ren & Sun 2015) and 2/(p + C) elsewhere (Glorot & Bengio
    /// 2010), biases 0.
    pub fn initial_theta(&self, key: Key) -> Vec<f64> {
        let mut theta = Vec::with_capacity(self.dim);
        let last = self.widths.len() - 2;
        for (l, (rows, c)) in self.shapes().enumerate() {
            let p = rows - 1;
            let variance = match self.activation {
                Activation::Relu if l < last => 2.0 / p as f64,
                _ => 2.0 / (p + c) as f64,
            };
            let (mut stream, deviation) = (key.child(l as u64).stream(), variance.sqrt());
            for _ in 0..c {
                theta.extend((0..p).map(|_| deviation * stream.normal()));
                theta.push(0.0);
            }
        }
        theta
    }

    /// θ, or a direction of it, as the layers' matrices.
    fn layers(&self, argument: &'static str, theta: &[f64]) -> Result<Vec<Matrix>> {
        check_len(argument, theta.len(), self.dim)?;
        check_finite(argument, theta)?;
        let mut rest = theta;
        let layer = |(rows, c): (usize, usize)| {
            let (part, others) = rest.split_at(rows * c);
            rest = others;
            Matrix::from_columns(rows, c, part.to_vec())
        };
        self.shapes().map(layer).collect()
    }

    /// Checks data and θ.
    fn network(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Network> {
        check_len("feature width", samples.features.width(), self.widths[0])?;
        self.head.check_targets(samples, batch)?;
        Ok(Network { weights: self.layers("theta", theta)?, activation: self.activation })
    }

    /// The forward pass for some positions of the batch.
    fn block(&self, network: &Network, samples: &Samples, batch: Batch<'_>, positions: Range<usize>) -> Result<Block> {
        let indices: Vec<usize> = positions.clone().map(|position| batch.index(position)).collect();
        let pass = network.forward(&samples.features.gather(Batch::Indices(&indices))?)?;
        check_finite("outputs of the network", pass.outputs.as_slice())?;
        Ok(Block { positions, targets: samples.targets.select(&indices)?, pass })
    }

    /// What `f` makes of every block, one after the other.
    fn map<T: Send>(
        &self,
        samples: &Samples,
        batch: Batch<'_>,
        theta: &[f64],
        f: impl Fn(&Network, Block) -> Result<Vec<T>> + Sync,
    ) -> Result<Vec<T>> {
        let network = self.network(samples, batch, theta)?;
        let part = |positions| f(&network, self.block(&network, samples, batch, positions)?);
        let mut all = Vec::new();
        for part in par::map_blocks(batch.len(samples.len()), BLOCK, part) {
            all.extend(part?);
        }
        Ok(all)
    }

    /// The sum of what `add` adds for every block to a vector of the length of θ.
    fn sum(
        &self,
        data: Weighted<'_>,
        theta: &[f64],
        add: impl Fn(&Network, Block, &mut [f64]) -> Result<()> + Sync,
    ) -> Result<Vec<f64>> {
        data.check()?;
        let network = self.network(data.samples, data.batch, theta)?;
        // Pieces depend on the number of samples alone, and are few: each holds a sum of its own.
        let piece = data.len().div_ceil(PIECES).next_multiple_of(BLOCK);
        let part = |range| {
            let mut sum = vec![0.0; self.dim];
            for positions in par::blocks_of(range, BLOCK) {
                add(&network, self.block(&network, data.samples, data.batch, positions)?, &mut sum)?;
            }
            Ok(sum)
        };
        let sum = par::fold_blocks(data.len(), piece, part, None, |total: Option<Result<Vec<f64>>>, part: Result<Vec<f64>>| {
            let Some(total) = total else { return Some(part) };
            Some(total.and_then(|mut total| {
                axpy(1.0, &part?, &mut total);
                Ok(total)
            }))
        });
        let sum = sum.unwrap_or_else(|| Ok(vec![0.0; self.dim]))?;
        check_finite("sum over the samples", &sum)?;
        Ok(sum)
    }

    /// The outputs z, C × m.
    ///
    /// # Errors
    /// See [`Model`].
    pub fn outputs(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Matrix> {
        let z = self.map(samples, batch, theta, |_, block| Ok(block.pass.outputs.into_vec()))?;
        Matrix::from_columns(self.head.outputs(), batch.len(samples.len()), z)
    }
}

/// Multiplies column i by scale(i).
fn scale_columns(matrix: &mut Matrix, scale: impl Fn(usize) -> f64) {
    for i in 0..matrix.ncols() {
        let factor = scale(i);
        matrix.col_mut(i).iter_mut().for_each(|x| *x *= factor);
    }
}

/// Small instances with random data, for checks: both activations and both heads.
pub(super) fn specimens(key: Key) -> Result<[(Mlp, Samples); 2]> {
    let (n, width) = (20, 4);
    let mut stream = key.stream();
    let features = Features::from_f64(stream.normals(n * width), n, width)?;
    let labels = stream.indices(3, n)?.into_iter().map(|y| y as u32).collect();
    let classes = Samples::new(features.clone(), Targets::classes(labels, 3)?)?;
    let vectors = Samples::new(features, Targets::vectors(stream.normals(2 * n), 2)?)?;
    let softmax = Mlp::new(width, &[5, 4], Activation::Tanh, Head::Softmax { classes: 3 })?;
    let gaussian = Mlp::new(width, &[6], Activation::Relu, Head::Gaussian { outputs: 2, variance: 0.3 })?;
    Ok([(softmax, classes), (gaussian, vectors)])
}

impl Model for Mlp {
    /// With activation and head, so that checks of several networks can be told apart.
    fn name(&self) -> &'static str {
        match (self.activation, self.head) {
            (Activation::Tanh, Head::Softmax { .. }) => "mlp-tanh-softmax",
            (Activation::Tanh, Head::Gaussian { .. }) => "mlp-tanh-gaussian",
            (Activation::Relu, Head::Softmax { .. }) => "mlp-relu-softmax",
            (Activation::Relu, Head::Gaussian { .. }) => "mlp-relu-gaussian",
        }
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn losses(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Vec<f64>> {
        let losses = self.map(samples, batch, theta, |_, block| self.head.losses(block.pass.outputs, &block.targets))?;
        check_finite("losses", &losses)?;
        Ok(losses)
    }

    /// Backpropagation (Rumelhart, Hinton & Williams 1986): 6 flops a weight and sample.
    fn gradient(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Vec<f64>> {
        let m = data.len() as f64;
        self.sum(data, theta, |network, block, sum| {
            let mut deltas = self.head.deltas(block.pass.outputs.clone(), &block.targets)?;
            scale_columns(&mut deltas, |i| data.weight(block.positions.start + i) / m);
            add_gradient(&block.pass.inputs, &network.backward(&block.pass, deltas, 1)?, sum)
        })
    }

    /// δ_iᵀ J_i q with J_i q from one forward pass of tangents: 6 flops a weight and sample, and no score is formed.
    fn score_products(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], q: &[f64]) -> Result<Vec<f64>> {
        let direction = self.layers("direction", q)?;
        let products = self.map(samples, batch, theta, |network, block| {
            let tangents = network.tangent(&block.pass, &direction)?.outputs;
            let deltas = self.head.deltas(block.pass.outputs, &block.targets)?;
            Ok((0..deltas.ncols()).map(|i| dot(deltas.col(i), tangents.col(i))).collect())
        })?;
        check_finite("score products", &products)?;
        Ok(products)
    }

    /// Rows [x_l ⊗ δ_l] over the layers l; for the expected kind C rows a sample, from the columns of a root of H_out: √p_c (p − e_c) for
    /// softmax, e_k/σ for the Gaussian head.
    fn scores(&self, data: Weighted<'_>, theta: &[f64], kind: FisherKind, key: Key) -> Result<GradientBlock> {
        data.check_nonnegative()?;
        let noise = match kind {
            FisherKind::Sampled => self.head.noise(key, data.len()),
            _ => Vec::new(),
        };
        let per_sample = self.head.noise_per_sample();
        let blocks = self.map(data.samples, data.batch, theta, |network, block| {
            let z = block.pass.outputs.clone();
            let (mut deltas, rows_per_sample) = match kind {
                FisherKind::Empirical => (self.head.deltas(z, &block.targets)?, 1),
                FisherKind::Sampled => {
                    let range = block.positions.start * per_sample..block.positions.end * per_sample;
                    (self.head.drawn_deltas(z, &noise[range])?, 1)
                }
                FisherKind::Expected => (self.head.expected_deltas(z), self.head.outputs()),
            };
            scale_columns(&mut deltas, |row| data.weight(block.positions.start + row / rows_per_sample).sqrt());
            let deltas = network.backward(&block.pass, deltas, rows_per_sample)?;
            let layers = block.pass.inputs.into_iter().zip(deltas);
            let layers = layers.map(|(inputs, deltas)| KroneckerRows::new(inputs, deltas, rows_per_sample));
            Ok(vec![GradientBlock::from(LayeredRows::new(layers.collect::<Result<_>>()?)?)])
        })?;
        GradientBlock::stack(&blocks.iter().collect::<Vec<_>>())
    }

    fn sample_targets(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], key: Key) -> Result<Targets> {
        let z = self.outputs(samples, batch, theta)?;
        let noise = self.head.noise(key, z.ncols());
        self.head.draw(z, &noise)
    }

    /// The exact Hessian product by Pearlmutter's R-operator on backpropagation (see `network`): 16 flops a weight and sample.
    fn hvp(&self, data: Weighted<'_>, theta: &[f64], u: &[f64]) -> Result<Vec<f64>> {
        let direction = self.layers("direction", u)?;
        let m = data.len() as f64;
        self.sum(data, theta, |network, block, sum| {
            let weight = |i: usize| data.weight(block.positions.start + i) / m;
            let mut tangent = network.tangent(&block.pass, &direction)?;
            let mut deltas = self.head.deltas(block.pass.outputs.clone(), &block.targets)?;
            scale_columns(&mut deltas, weight);
            let mut last = std::mem::replace(&mut tangent.outputs, Matrix::zeros(0, 0));
            self.head.multiply_hessian(block.pass.outputs.clone(), &mut last, weight);
            let (deltas, tangents) = network.backward_tangent(&block.pass, &tangent, &direction, (deltas, last))?;
            // R{(a, 1) δᵀ} = (a, 1) Rδᵀ + (Ra, 0) δᵀ.
            add_gradient(&block.pass.inputs, &tangents, sum)?;
            let first = network.weights[0].as_slice().len();
            add_gradient(&tangent.inputs[1..], &deltas[1..], &mut sum[first..])
        })
    }

    /// By d Hessian products.
    fn hessian(&self, data: Weighted<'_>, theta: &[f64]) -> Result<Matrix> {
        let column = |j: usize| {
            let mut unit = vec![0.0; self.dim];
            unit[j] = 1.0;
            self.hvp(data, theta, &unit)
        };
        let columns = par::map((0..self.dim).collect(), column).into_iter().collect::<Result<Vec<_>>>()?;
        // Symmetric but for rounding; the mean with its transpose is symmetric to the bit.
        Ok(Matrix::from_fn(self.dim, self.dim, |i, j| 0.5 * (columns[j][i] + columns[i][j])))
    }

    /// The Gauss–Newton product (1/m) Σ w_i J_iᵀ H_out J_i u (Schraudolph 2002): 10 flops a weight and sample, and no row is formed.
    fn fisher_product(&self, data: Weighted<'_>, theta: &[f64], u: &[f64]) -> Result<Vec<f64>> {
        let direction = self.layers("direction", u)?;
        let m = data.len() as f64;
        self.sum(data, theta, |network, block, sum| {
            let mut last = network.tangent(&block.pass, &direction)?.outputs;
            let weight = |i: usize| data.weight(block.positions.start + i) / m;
            self.head.multiply_hessian(block.pass.outputs.clone(), &mut last, weight);
            add_gradient(&block.pass.inputs, &network.backward(&block.pass, last, 1)?, sum)
        })
    }

    fn fisher_identity(&self) -> FisherIdentity {
        FisherIdentity::GaussNewton
    }

    fn accuracy(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64]) -> Result<Option<f64>> {
        let z = self.outputs(samples, batch, theta)?;
        let indices: Vec<usize> = batch.iter(samples.len()).collect();
        self.head.accuracy(&z, &samples.targets.select(&indices)?)
    }
}
