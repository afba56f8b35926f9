//! `fisher-consistency`: at the generating parameter of a correct model, fresh rows, unit weights and no ridge, E‖Fₙ − H‖²_F = C/n with the
//! population Hessian H and a constant C that is a finite sum or a closed form. So ‖Fₙ − H‖ falls as n^−1/2 for all three Fisher
//! kinds; the expected one still has the sampling error of x.

use serde::{Deserialize, Serialize};

use super::populations::{Linear, Population, errors_along, normal_points, softmax_law};
use super::replicates::Curves;
use crate::bounds::{Claim, Measured, Rule, mean_with_limits};
use crate::dense::Matrix;
use crate::error::{Error, Result, check_count, check_positive};
use crate::experiment::record::{Table, cell};
use crate::laboratory::picture::{Axis, Band, Center, Drawing, Layer, Panel, Picture};
use crate::laboratory::{Bench, CONFIDENCE, Experiment, Findings, Pieces, Registered, Rows, Size, rounded, settings_of};
use crate::model::{FisherKind, Model};
use crate::rng::Key;
use crate::samples::Samples;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FisherConsistency {
    /// The numbers n of samples at which the error is taken, ascending.
    pub rows: Vec<usize>,
    /// Independent streams of samples.
    pub replicates: usize,
    /// The slope is fitted from this n on.
    pub slope_from: usize,
    /// The exponent that is claimed.
    pub exponent: f64,
    /// The half-width of what still counts as that exponent.
    pub tolerance: f64,
    /// d of the Gaussian model.
    pub gaussian_dim: usize,
    /// σ² of the Gaussian model.
    pub gaussian_variance: f64,
    /// The points of the softmax model's population.
    pub softmax_points: usize,
    /// The softmax model's features, one of them constant.
    pub softmax_width: usize,
    /// The softmax model's classes.
    pub softmax_classes: usize,
}

impl Registered for FisherConsistency {
    const NAME: &'static str = "fisher-consistency";
    const ABOUT: &'static str =
        "the error of a Fisher estimate against the population Hessian, at the generating parameter: n^−1/2";

    fn sized(size: Size) -> Self {
        let (rows, replicates) = match size {
            Size::Quick => (vec![100, 300, 1000, 3000, 10_000, 30_000], 200),
            Size::Full => (vec![100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000], 250),
        };
        Self {
            rows,
            replicates,
            slope_from: 300,
            exponent: -0.5,
            tolerance: 0.05,
            gaussian_dim: 8,
            gaussian_variance: 0.5,
            softmax_points: 50,
            softmax_width: 4,
            softmax_classes: 3,
        }
    }
}

/// The models of the experiment, in the order of the pieces.
const MODELS: [&str; 2] = ["gaussian", "softmax"];
/// The largest relative difference of n·E‖Fₙ − H‖² from C.
const CONSTANT_TOLERANCE: f64 = 0.1;

/// A well-specified model with its truth.
enum Truth {
    Gaussian(Linear),
    Softmax(Population, Vec<f64>),
}

impl FisherConsistency {
    fn truth(&self, model: &str, key: Key) -> Result<Truth> {
        let key = key.named(model);
        if model == MODELS[0] {
            return Ok(Truth::Gaussian(Linear::new(self.gaussian_dim, self.gaussian_variance, key)?));
        }
        let points = normal_points(self.softmax_points, self.softmax_width, key.named("points"));
        let theta = key.named("truth").stream().normals(self.softmax_width * self.softmax_classes);
        let law = softmax_law(&points, &theta)?;
        Ok(Truth::Softmax(Population::softmax(points, law)?, theta))
    }

    fn replicate(&self, (model, truth, population): (&str, &Truth, &Matrix), replicate: usize, key: Key) -> Result<Rows> {
        let at = (truth.model(), truth.theta());
        let key = key.named(model).named("stream").child(replicate as u64);
        let errors = errors_along(at, population, &self.rows, |count, key| truth.draw(count, key), key)?;
        let mut rows = Rows::default();
        for (kind, errors) in FisherKind::ALL.into_iter().zip(errors) {
            for (n, error) in self.rows.iter().zip(errors) {
                let names = [model.to_owned(), kind.name().to_owned(), replicate.to_string(), n.to_string()];
                rows.push(names.into_iter().chain([rounded(error / population.norm())]));
            }
        }
        Ok(rows)
    }
}

impl Truth {
    fn model(&self) -> &dyn Model {
        match self {
            Self::Gaussian(linear) => linear.model(),
            Self::Softmax(population, _) => population.model(),
        }
    }

    fn theta(&self) -> &[f64] {
        match self {
            Self::Gaussian(linear) => linear.theta(),
            Self::Softmax(_, theta) => theta,
        }
    }

    fn draw(&self, count: usize, key: Key) -> Result<Samples> {
        match self {
            Self::Gaussian(linear) => linear.draw(count, key),
            Self::Softmax(population, _) => population.draw(count, key),
        }
    }

    fn hessian(&self) -> Result<Matrix> {
        match self {
            Self::Gaussian(linear) => Ok(linear.hessian()),
            Self::Softmax(population, theta) => population.hessian(theta),
        }
    }

    /// C of E‖Fₙ − H‖² = C/n.
    fn scatter(&self, kind: FisherKind) -> Result<f64> {
        match self {
            Self::Gaussian(linear) => Ok(linear.scatter(kind)),
            Self::Softmax(population, theta) => population.scatter(theta, kind),
        }
    }
}

/// Model and kind of each pair of claims.
fn settings() -> impl Iterator<Item = (&'static str, FisherKind)> {
    MODELS.into_iter().flat_map(|model| FisherKind::ALL.map(|kind| (model, kind)))
}

impl Experiment for FisherConsistency {
    fn validate(&self) -> Result<()> {
        if self.rows.first().is_none_or(|&n| n == 0) || self.rows.windows(2).any(|w| w[0] >= w[1]) {
            return Err(Error::argument("rows", "ascending counts of at least 1", format_args!("{:?}", self.rows)));
        }
        if self.replicates < 2 {
            return Err(Error::argument("replicates", "at least 2 for limits", self.replicates));
        }
        if self.rows.iter().filter(|&&n| n >= self.slope_from).count() < 2 {
            return Err(Error::argument("slope_from", "at least 2 of the numbers of rows from there on", self.slope_from));
        }
        check_positive("tolerance", self.tolerance)?;
        check_positive("gaussian_variance", self.gaussian_variance)?;
        let counts = [("gaussian_dim", self.gaussian_dim), ("softmax_points", self.softmax_points)];
        counts.into_iter().try_for_each(|(name, count)| check_count(name, count))?;
        for (name, count) in [("softmax_width", self.softmax_width), ("softmax_classes", self.softmax_classes)] {
            if count < 2 {
                return Err(Error::argument(name, "at least 2", count));
            }
        }
        Ok(())
    }

    fn claims(&self) -> Vec<Claim> {
        let slope = Rule::SlopeWithin { predicted: self.exponent, tolerance: self.tolerance };
        let constant = Rule::Agrees { predicted: 1.0, relative: CONSTANT_TOLERANCE };
        let from = self.slope_from;
        let claims = settings().flat_map(|(model, kind)| {
            let kind = kind.name();
            [
                (format!("{model}, {kind}: slope of log ‖Fₙ − H‖ by log n from n = {from} on"), slope),
                (format!("{model}, {kind}: n E‖Fₙ − H‖² over its exact value C"), constant),
            ]
        });
        claims.map(|(claim, rule)| Claim::new(Self::NAME, claim, rule)).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        &["model", "fisher", "replicate", "n", "relative_error"]
    }

    fn pieces(&self) -> usize {
        MODELS.len() * self.replicates
    }

    fn work(&self, _piece: usize) -> u64 {
        self.rows.last().map_or(0, |&n| n as u64)
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        let prepared = |model| {
            let truth = self.truth(model, bench.key)?;
            let hessian = truth.hessian()?;
            Ok((model, truth, hessian))
        };
        let models = MODELS.into_iter().map(prepared).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(move |piece| {
            let (model, truth, hessian) = &models[piece / self.replicates];
            self.replicate((model, truth, hessian), piece % self.replicates, bench.key)
        }))
    }

    fn measure(&self, bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        let mut findings = Findings::default();
        let mut theory = Table::new(["model", "fisher", "n", "relative_error"]);
        for (model, kind) in settings() {
            let truth = self.truth(model, bench.key)?;
            let (scatter, size) = (truth.scatter(kind)?, truth.hessian()?.norm());
            let curves = Curves::read(rows, &[("model", model), ("fisher", kind.name())], "n", "relative_error")?;
            let fitted = curves.between(self.slope_from as f64, f64::INFINITY);
            findings.measured.push(fitted.slope()?.into());
            // One number a replicate, so that the points of a stream count once.
            let constant = |errors: &Vec<f64>| {
                let squares = curves.x.iter().zip(errors).map(|(n, error)| n * (error * size).powi(2) / scatter);
                squares.sum::<f64>() / errors.len() as f64
            };
            let constants: Vec<f64> = curves.y.iter().map(constant).collect();
            let (value, half) = mean_with_limits("replicates", &constants, CONFIDENCE)?;
            findings.measured.push(Measured { value, low: value - half, high: value + half });
            for n in &curves.x {
                let cells = [model.to_owned(), kind.name().to_owned()];
                theory.push(cells.into_iter().chain([*n, (scatter / n).sqrt() / size].map(cell)))?;
            }
        }
        findings.tables.push((format!("{}-theory", Self::NAME), theory));
        Ok(findings)
    }

    fn pictures(&self) -> Vec<Picture> {
        let theory = format!("{}-theory", Self::NAME);
        let panel = |model: &str| Panel {
            title: model.to_owned(),
            x: Axis::log("rows n (count)"),
            layers: vec![
                Layer::new(&theory, "n", "relative_error").only("model", model).by("fisher").theory().named(""),
                Layer::new(Self::NAME, "n", "relative_error")
                    .only("model", model)
                    .by("fisher")
                    .center(Center::RootMeanSquare)
                    .band(Band::Quantiles(0.05, 0.95))
                    .named("{fisher}"),
            ],
            verticals: vec![(self.slope_from as f64, "fit from here".into())],
        };
        vec![Picture {
            file: Self::NAME.into(),
            title: "Fisher estimates against the population Hessian".into(),
            caption: format!(
                "Relative error of Fₙ in the Frobenius norm at the generating parameter, fresh rows, unit weights, no ridge: root \
                 mean square of {} streams with a band from the 5 % to the 95 % quantile. Broken lines: √(C/n)/‖H‖ with \
                 C = n E‖Fₙ − H‖² as a closed form (gaussian) or an exact sum (softmax). The empirical and the sampled kind have one \
                 law here, and their curves coincide.",
                self.replicates
            ),
            drawing: Drawing::Curves {
                y: Axis::log("‖Fₙ − H‖ / ‖H‖ (no unit)"), panels: MODELS.into_iter().map(panel).collect()
            },
        }]
    }

    fn settings(&self) -> Result<toml::Table> {
        settings_of(self)
    }
}
