//! The suite of inner models: the oracle's derivative checks, what weights and batches mean, the rows and moments of every Fisher
//! kind, the same bits at every thread count, refusals.

use super::Report;
use super::cases::SIZES;
use crate::dense::{Matrix, axpy, dot, matvec, norm, relative_error};
use crate::error::{Error, Result};
use crate::gradient::GradientBlock;
use crate::model::{FisherKind, Model, Weighted};
use crate::oracle::check_model;
use crate::par;
use crate::rng::Key;
use crate::samples::{Batch, Features, Samples, Targets};

/// Two computations of one number, apart by rounding alone.
pub(super) const ROUNDING: f64 = 1e-11;
/// Standard errors that a mean may lie off: one in two million.
const STANDARD_ERRORS: f64 = 5.0;
/// Draws of labels whose moments are compared.
const DRAWS: u64 = 400;

struct Suite<'a> {
    model: &'a dyn Model,
    samples: &'a Samples,
    theta: Vec<f64>,
    u: Vec<f64>,
    key: Key,
}

/// A model on some data, at a random θ.
pub fn model(model: &dyn Model, samples: &Samples, key: Key) -> Report {
    let mut report = Report::new(model.name());
    let random = |purpose: &str| key.named(purpose).stream().normals(model.dim());
    let suite = Suite { model, samples, theta: random("theta"), u: random("direction"), key };
    report.part("derivatives exist", "all samples", |report| {
        for check in check_model(model, samples, key)? {
            report.check("all samples, random weights", check);
        }
        Ok(())
    });
    for size in SIZES {
        report.part("batches are evaluated", size, |report| suite.batches(report, size));
    }
    report.part("all samples are a batch", "every index", |report| suite.all(report));
    report.part("labels are drawn", "sampled targets", |report| suite.draws(report));
    report.part("threads", "1, 2, 4", |report| suite.threads(report));
    report.part("misuse is answered", "refusals", |report| suite.refusals(report));
    report
}

impl Suite<'_> {
    /// Random samples with repetition, and random weights.
    fn batch(&self, size: usize) -> Result<(Vec<usize>, Vec<f64>)> {
        let mut stream = self.key.named("batch").child(size as u64).stream();
        let indices = stream.indices(self.samples.len(), size)?;
        Ok((indices, (0..size).map(|i| if i % 4 == 3 { 0.0 } else { 2.0 * stream.uniform() }).collect()))
    }

    fn scores(&self, data: Weighted<'_>, kind: FisherKind) -> Result<GradientBlock> {
        self.model.scores(data, &self.theta, kind, self.key.named("labels"))
    }

    /// Every mean over a batch against the mean of its samples one by one, weighted here.
    fn batches(&self, report: &mut Report, size: usize) -> Result<()> {
        let (model, theta, u) = (self.model, &self.theta, &self.u);
        let (indices, weights) = self.batch(size)?;
        let data = Weighted { samples: self.samples, batch: Batch::Indices(&indices), weights: Some(&weights) };
        let (m, d, case) = (size as f64, model.dim(), format!("a batch of {size}"));
        let (mut loss, mut gradient, mut hvp) = (0.0, vec![0.0; d], vec![0.0; d]);
        let (mut losses, mut products, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (index, weight) in indices.iter().zip(&weights) {
            let one = Weighted::ones(self.samples, Batch::Indices(std::slice::from_ref(index)));
            let score = model.gradient(one, theta)?;
            loss += weight / m * model.loss(one, theta)?;
            losses.push(model.loss(one, theta)?);
            products.push(dot(&score, u));
            axpy(weight / m, &score, &mut gradient);
            axpy(weight / m, &model.hvp(one, theta, u)?, &mut hvp);
            rows.extend(score.iter().map(|s| weight.sqrt() * s));
        }
        let mut same = |claim: &str, found: &mut dyn FnMut() -> Result<Vec<f64>>, expected: &[f64]| {
            report.within(claim, &case, ROUNDING, || Ok(relative_error(&found()?, expected)));
        };
        same("losses are those of the samples one by one", &mut || model.losses(self.samples, data.batch, theta), &losses);
        same("the loss is the weighted mean over the batch", &mut || Ok(vec![model.loss(data, theta)?]), &[loss]);
        same("the gradient is the weighted mean over the batch", &mut || model.gradient(data, theta), &gradient);
        same("the Hessian product is the weighted mean over the batch", &mut || model.hvp(data, theta, u), &hvp);
        same("score products are sᵀq", &mut || model.score_products(self.samples, data.batch, theta, u), &products);
        let empirical =
            &mut || Ok(self.scores(data, FisherKind::Empirical)?.project(&Matrix::identity(d))?.t().to_matrix().into_vec());
        same("empirical rows are √w s", empirical, &rows);

        for kind in FisherKind::ALL {
            let block = self.scores(data, kind)?;
            let case = format!("{case}, {}", kind.name());
            report.holds("scores have the batch's samples, whole rows a sample, and the model's dim", &case, || {
                Ok((block.samples(), block.dim(), block.rows() % size) == (size, d, 0))
            });
            report.within("weights enter the rows once, as √w", &case, ROUNDING, || {
                let mut expected = self.scores(Weighted::ones(self.samples, data.batch), kind)?.squared_row_norms();
                let per_sample = expected.len() / size;
                expected.iter_mut().enumerate().for_each(|(row, norm)| *norm *= weights[row / per_sample]);
                Ok(relative_error(&block.squared_row_norms(), &expected))
            });
        }
        report.within("the expected Fisher matrix is that of the expected rows", &case, ROUNDING, || {
            let mut expected = self.scores(data, FisherKind::Expected)?.scatter()?;
            expected.scale(1.0 / m);
            Ok(relative_error(model.expected_fisher(data, theta)?.as_slice(), expected.as_slice()))
        });
        report.within("the Fisher product is the Fisher matrix times u", &case, ROUNDING, || {
            Ok(relative_error(&model.fisher_product(data, theta, u)?, &matvec(&model.expected_fisher(data, theta)?, u)?))
        });
        report.within("the Hessian is symmetric", &case, 1e-13, || {
            let hessian = model.hessian(data, theta)?;
            Ok(relative_error(hessian.t().to_matrix().as_slice(), hessian.as_slice()))
        });
        Ok(())
    }

    fn all(&self, report: &mut Report) -> Result<()> {
        let (model, theta, u) = (self.model, &self.theta, &self.u);
        let indices: Vec<usize> = (0..self.samples.len()).collect();
        let both = [Batch::All, Batch::Indices(&indices)];
        let claim = "a batch of all samples is all samples";
        let mut same = |operation: &str, f: &dyn Fn(Batch<'_>) -> Result<Vec<f64>>| {
            report.within(claim, operation, 1e-13, || Ok(relative_error(&f(both[1])?, &f(both[0])?)));
        };
        same("losses", &|batch| model.losses(self.samples, batch, theta));
        same("loss", &|batch| Ok(vec![model.loss(Weighted::ones(self.samples, batch), theta)?]));
        same("gradient", &|batch| model.gradient(Weighted::ones(self.samples, batch), theta));
        same("hvp", &|batch| model.hvp(Weighted::ones(self.samples, batch), theta, u));
        same("fisher_product", &|batch| model.fisher_product(Weighted::ones(self.samples, batch), theta, u));
        same("hessian", &|batch| Ok(model.hessian(Weighted::ones(self.samples, batch), theta)?.into_vec()));
        same("scores", &|batch| Ok(self.scores(Weighted::ones(self.samples, batch), FisherKind::Expected)?.squared_row_norms()));
        same("accuracy", &|batch| Ok(vec![model.accuracy(self.samples, batch, theta)?.unwrap_or(1.0)]));
        report.holds("accuracy is a share of the samples, or none", "all", || {
            Ok(model.accuracy(self.samples, Batch::All, theta)?.is_none_or(|share| (0.0..=1.0).contains(&share)))
        });
        report.holds("linear in weights of any sign", "gradient", || {
            let (indices, weights) = self.batch(10)?;
            let at = |weights: &[f64]| {
                model.gradient(Weighted { samples: self.samples, batch: Batch::Indices(&indices), weights: Some(weights) }, theta)
            };
            let negated: Vec<f64> = weights.iter().map(|w| -w).collect();
            Ok(relative_error(&at(&negated)?.iter().map(|x| -x).collect::<Vec<_>>(), &at(&weights)?) < ROUNDING)
        });
        Ok(())
    }

    /// Labels drawn from the model make scores of mean zero and a Fisher matrix whose mean is the expected one.
    fn draws(&self, report: &mut Report) -> Result<()> {
        let (model, theta) = (self.model, &self.theta);
        let (indices, weights) = self.batch(self.samples.len().min(40))?;
        let m = indices.len() as f64;
        let data = Weighted { samples: self.samples, batch: Batch::Indices(&indices), weights: Some(&weights) };
        let sampled = |key: Key| model.scores(data, theta, FisherKind::Sampled, key);
        let u = Matrix::column(self.u.clone());
        let mut first = Vec::new();
        let mut second = Vec::new();
        for draw in 0..DRAWS {
            let products = sampled(self.key.named("draws").child(draw))?.project(&u)?;
            first.push(products.as_slice().iter().sum::<f64>() / m);
            second.push(dot(products.as_slice(), products.as_slice()) / m);
        }
        let fisher = model.expected_fisher(data, theta)?;
        let expected = dot(&self.u, &matvec(&fisher, &self.u)?);
        let case = format!("{DRAWS} draws, in standard errors");
        report.within("sampled scores have mean 0", &case, STANDARD_ERRORS, || Ok(standard_errors(&first, 0.0)));
        report.within("sampled Fisher matrices have the expected one as their mean", &case, STANDARD_ERRORS, || {
            Ok(standard_errors(&second, expected))
        });

        // Each sample many times: some of them are far from certain of their label.
        let key = self.key.named("once");
        let many: Vec<usize> = (0..self.samples.len()).flat_map(|i| [i; 16]).collect();
        let rows = |key| {
            let data = Weighted::ones(self.samples, Batch::Indices(&many));
            Ok::<_, Error>(model.scores(data, theta, FisherKind::Sampled, key)?.project(&u)?.into_vec())
        };
        report.holds("the same key draws the same labels, another key others", "scores and targets", || {
            let targets = |key| model.sample_targets(self.samples, Batch::Indices(&many), theta, key);
            let same = rows(key)? == rows(key)? && targets(key)? == targets(key)?;
            Ok(same && rows(key)? != rows(key.child(1))? && targets(key)? != targets(key.child(1))?)
        });
        report.holds("each entry of a batch draws its own label", "every sample 16 times", || {
            Ok(rows(key)?.chunks_exact(16).any(|sample| sample.iter().any(|x| *x != sample[0])))
        });
        report.holds("one target is drawn for each entry, and fits the features", "targets", || {
            let targets = model.sample_targets(self.samples, data.batch, theta, key)?;
            let relabelled = Samples::new(self.samples.features.select(&indices)?, targets)?;
            Ok(model.losses(&relabelled, Batch::All, theta)?.iter().all(|loss| loss.is_finite()))
        });
        Ok(())
    }

    fn threads(&self, report: &mut Report) -> Result<()> {
        // Past every cut of the work.
        let (indices, weights) = self.batch(1100)?;
        let data = Weighted { samples: self.samples, batch: Batch::Indices(&indices), weights: Some(&weights) };
        let run = || {
            let (model, theta, u) = (self.model, &self.theta, &self.u);
            let mut all = model.losses(self.samples, data.batch, theta)?;
            all.extend(model.gradient(data, theta)?);
            all.extend(model.hvp(data, theta, u)?);
            all.extend(model.fisher_product(data, theta, u)?);
            all.extend(model.hessian(data, theta)?.into_vec());
            all.extend(model.score_products(self.samples, data.batch, theta, u)?);
            for kind in FisherKind::ALL {
                all.extend(self.scores(data, kind)?.squared_row_norms());
            }
            let bits: Vec<u64> = all.iter().map(|x| x.to_bits()).collect();
            Ok::<_, Error>((bits, model.sample_targets(self.samples, data.batch, theta, self.key)?))
        };
        let reference = par::with_threads(1, run)??;
        for threads in [2, 4] {
            report.holds("the same bits at every thread count", format_args!("{threads} threads"), || {
                Ok(par::with_threads(threads, run)?? == reference)
            });
        }
        Ok(())
    }

    /// Every operation, told apart by name, with its direction, θ and data replaced.
    fn each_operation(&self, samples: &Samples, batch: Batch<'_>, theta: &[f64], u: &[f64], mut f: impl FnMut(&str, Result<()>)) {
        let (model, key) = (self.model, self.key);
        let data = Weighted::ones(samples, batch);
        f("losses", model.losses(samples, batch, theta).map(drop));
        f("loss", model.loss(data, theta).map(drop));
        f("gradient", model.gradient(data, theta).map(drop));
        f("score_products", model.score_products(samples, batch, theta, u).map(drop));
        for kind in FisherKind::ALL {
            f("scores", model.scores(data, theta, kind, key).map(drop));
        }
        f("sample_targets", model.sample_targets(samples, batch, theta, key).map(drop));
        f("hvp", model.hvp(data, theta, u).map(drop));
        f("hessian", model.hessian(data, theta).map(drop));
        f("expected_fisher", model.expected_fisher(data, theta).map(drop));
        f("fisher_product", model.fisher_product(data, theta, u).map(drop));
        f("accuracy", model.accuracy(samples, batch, theta).map(drop));
    }

    fn refusals(&self, report: &mut Report) -> Result<()> {
        let (samples, all, theta, u) = (self.samples, Batch::All, self.theta.as_slice(), self.u.as_slice());
        let mut all_refuse = |claim: &str, samples: &Samples, batch: Batch<'_>, theta: &[f64]| {
            report.part(claim, "every operation", |report| {
                self.each_operation(samples, batch, theta, u, |operation, result| report.refuses(claim, operation, || result));
                Ok(())
            });
        };
        let claim = "a θ of another length is refused";
        all_refuse(claim, samples, all, &theta[1..]);
        all_refuse(claim, samples, all, &[theta, &[0.0]].concat());
        for bad in [f64::NAN, f64::INFINITY] {
            let mut poisoned = theta.to_vec();
            poisoned[theta.len() - 1] = bad;
            all_refuse("a θ that is not finite is refused", samples, all, &poisoned);
        }
        all_refuse("an empty batch is refused", samples, Batch::Indices(&[]), theta);
        all_refuse("an index that is not there is refused", samples, Batch::Indices(&[0, samples.len()]), theta);
        let n = samples.len();
        let width = samples.features.width();
        let wide = Features::from_f64(self.key.stream().normals(n * (width + 1)), n, width + 1)?;
        let wide = Samples::new(wide, samples.targets.clone())?;
        all_refuse("data of another width are refused", &wide, all, theta);

        let claim = "fewer targets than samples are refused";
        let short = Samples { features: samples.features.clone(), targets: samples.targets.select(&[0])? };
        let last = [n - 1];
        report.refuses(claim, "losses", || self.model.losses(&short, Batch::Indices(&last), theta));
        report.refuses(claim, "gradient", || self.model.gradient(Weighted::ones(&short, Batch::Indices(&last)), theta));
        report.refuses(claim, "accuracy", || self.model.accuracy(&short, Batch::Indices(&last), theta));
        // Other targets have no classes.

        if let Targets::Classes { labels, classes } = &samples.targets {
            let mut beyond = labels.clone();
            beyond[0] = *classes as u32;
            let wrong =
                Samples { features: samples.features.clone(), targets: Targets::Classes { labels: beyond, classes: *classes } };
            let claim = "a label beyond the classes is refused";
            report.refuses(claim, "losses", || self.model.losses(&wrong, all, theta));
            report.refuses(claim, "gradient", || self.model.gradient(Weighted::ones(&wrong, all), theta));
            report.refuses(claim, "score_products", || self.model.score_products(&wrong, all, theta, u));
        }

        let data = Weighted::ones(samples, all);
        let mut poisoned = u.to_vec();
        poisoned[0] = f64::NAN;
        for (claim, u) in
            [("a direction of another length is refused", &u[1..]), ("a direction that is not finite is refused", &poisoned)]
        {
            report.refuses(claim, "hvp", || self.model.hvp(data, theta, u));
            report.refuses(claim, "fisher_product", || self.model.fisher_product(data, theta, u));
            report.refuses(claim, "score_products", || self.model.score_products(samples, all, theta, u));
        }
        let few = vec![1.0; n - 1];
        let nan: Vec<f64> = (0..n).map(|i| if i == n / 2 { f64::NAN } else { 1.0 }).collect();
        for (claim, weights) in [("weights of another number are refused", &few), ("weights that are not finite are refused", &nan)]
        {
            let data = Weighted { weights: Some(weights), ..data };
            report.refuses(claim, "loss", || self.model.loss(data, theta));
            report.refuses(claim, "gradient", || self.model.gradient(data, theta));
            report.refuses(claim, "hvp", || self.model.hvp(data, theta, u));
            report.refuses(claim, "fisher_product", || self.model.fisher_product(data, theta, u));
            report.refuses(claim, "hessian", || self.model.hessian(data, theta));
            report.refuses(claim, "expected_fisher", || self.model.expected_fisher(data, theta));
        }
        let negative: Vec<f64> = (0..n).map(|i| if i == n / 2 { -1e-9 } else { 1.0 }).collect();
        let negative = Weighted { weights: Some(&negative), ..data };
        for kind in FisherKind::ALL {
            report.refuses("negative weights of score rows are refused", kind.name(), || {
                self.model.scores(negative, theta, kind, self.key)
            });
        }
        Ok(())
    }
}

/// |mean − expected| in standard errors of the mean; where nothing varies, what is not rounding is ∞.
fn standard_errors(values: &[f64], expected: f64) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let spread = norm(&values.iter().map(|x| x - mean).collect::<Vec<_>>()) / n;
    let distance = (mean - expected).abs();
    if distance <= 1e-12 * expected.abs() { 0.0 } else { distance / spread }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_errors_are_those_of_the_mean() {
        // Mean 2, standard deviation 1 (of the population), 4 values: 1/√4 a standard error.
        assert!((standard_errors(&[1.0, 3.0, 1.0, 3.0], 1.0) - 2.0).abs() < 1e-15);
        assert_eq!(standard_errors(&[2.0; 5], 2.0), 0.0);
        assert_eq!(standard_errors(&[2.0; 5], 3.0), f64::INFINITY);
    }
}
