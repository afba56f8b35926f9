//! `misspecified`: where the model is wrong the Fisher matrix of the observed labels is not the Hessian, and ‖F_n − H‖ flattens at the surrogate
//! term ‖E F_n − H‖. On populations where both expectations are finite sums, five ways of being wrong, each at the minimizer θ of the expected
//! loss (with its ridge, where there is one):
//!
//! - `label noise`: softmax, a share of the labels is drawn uniformly;
//! - `wrong variance`: Gaussian, the true variance is not the assumed one;
//! - `missing features`: Gaussian, y depends on features that the model does not see;
//! - `ridge apart`: softmax, θ is the ridge minimizer; H without the ridge, which is known and kept apart;
//! - `ridge within`: the same against H + λI, as where F_n is taken for the whole Hessian.
//!
//! With a canonical link the drawn and the expected labels give an unbiased F_n at every θ, however wrong the labels are: their error goes on
//! falling as n^−1/2, except where the ridge is left out.

use serde::{Deserialize, Serialize};

use super::populations::{Population, errors_along, normal_points, softmax_law};
use super::replicates::Curves;
use crate::bounds::{Claim, Measured, Rule, mean_with_limits};
use crate::dense::{Matrix, dot};
use crate::error::{Error, Result, check_count, check_nonnegative, check_positive};
use crate::experiment::record::{Table, cell};
use crate::laboratory::picture::{Axis, Band, Center, Drawing, Layer, Panel, Picture};
use crate::laboratory::{Bench, CONFIDENCE, Experiment, Findings, Pieces, Registered, Rows, Size, rounded, settings_of};
use crate::model::FisherKind;
use crate::rng::Key;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Misspecified {
    /// The numbers n of samples at which the error is taken, ascending; the plateau is read off at the last.
    pub rows: Vec<usize>,
    /// Independent streams of samples.
    pub replicates: usize,
    /// Where an error goes on falling, its slope is fitted from this n on.
    pub slope_from: usize,
    /// The half-width of what still counts as the slope −1/2.
    pub tolerance: f64,
    /// The points of the populations.
    pub points: usize,
    /// The features that models see, one of them constant.
    pub width: usize,
    /// The softmax models' classes.
    pub classes: usize,
    /// The share of labels that are drawn uniformly.
    pub label_noise: f64,
    /// σ² as the Gaussian models assume it.
    pub assumed_variance: f64,
    /// σ² as it is.
    pub true_variance: f64,
    /// The features that the model does not see.
    pub missing: usize,
    /// The standard deviation of their coefficients.
    pub missing_effect: f64,
    /// λ.
    pub ridge: f64,
}

impl Registered for Misspecified {
    const NAME: &'static str = "misspecified";
    const ABOUT: &'static str =
        "where Fisher estimates flatten when the model is wrong: at the surrogate term, computed independently";

    fn sized(size: Size) -> Self {
        let (rows, replicates) = match size {
            Size::Quick => (vec![100, 300, 1000, 3000, 10_000, 30_000, 100_000], 80),
            Size::Full => (vec![100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000], 120),
        };
        Self {
            rows,
            replicates,
            slope_from: 300,
            tolerance: 0.05,
            points: 50,
            width: 4,
            classes: 3,
            label_noise: 0.3,
            assumed_variance: 0.5,
            true_variance: 1.0,
            missing: 2,
            missing_effect: 0.5,
            ridge: 0.01,
        }
    }
}

/// A way of being wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    LabelNoise,
    WrongVariance,
    MissingFeatures,
    RidgeApart,
    RidgeWithin,
}

impl Way {
    const ALL: [Self; 5] = [Self::LabelNoise, Self::WrongVariance, Self::MissingFeatures, Self::RidgeApart, Self::RidgeWithin];

    fn name(self) -> &'static str {
        match self {
            Self::LabelNoise => "label noise",
            Self::WrongVariance => "wrong variance",
            Self::MissingFeatures => "missing features",
            Self::RidgeApart => "ridge apart",
            Self::RidgeWithin => "ridge within",
        }
    }

    /// Whether theory has the error of this kind flatten.
    fn flattens(self, kind: FisherKind) -> bool {
        kind == FisherKind::Empirical || self == Self::RidgeWithin
    }
}

/// The largest relative difference of a plateau from its surrogate term.
const PLATEAU_TOLERANCE: f64 = 0.1;

/// A population, the θ at which estimates are taken, and the Hessian that they are taken for.
struct Scene {
    population: Population,
    theta: Vec<f64>,
    target: Matrix,
}

impl Scene {
    fn new(settings: &Misspecified, way: Way, key: Key) -> Result<Self> {
        let Misspecified { points, width, classes, ridge, .. } = *settings;
        // The same points for all, and the same truth for each model.
        let seen = normal_points(points, width, key.named("points"));
        let (population, ridge) = match way {
            Way::LabelNoise | Way::RidgeApart | Way::RidgeWithin => {
                let truth = key.named("softmax truth").stream().normals(width * classes);
                let mut law = softmax_law(&seen, &truth)?;
                if way == Way::LabelNoise {
                    law.scale(1.0 - settings.label_noise);
                    law.as_mut_slice().iter_mut().for_each(|p| *p += settings.label_noise / classes as f64);
                }
                (Population::softmax(seen, law)?, if way == Way::LabelNoise { 0.0 } else { ridge })
            }
            Way::WrongVariance | Way::MissingFeatures => {
                let truth = key.named("gaussian truth").stream().normals(width);
                let mut means: Vec<f64> = (0..points).map(|i| dot(seen.col(i), &truth)).collect();
                let mut variance = settings.true_variance;
                if way == Way::MissingFeatures {
                    let mut stream = key.named("missing features").stream();
                    let effect: Vec<f64> = stream.normals(settings.missing).iter().map(|x| settings.missing_effect * x).collect();
                    means.iter_mut().for_each(|mean| *mean += dot(&stream.normals(settings.missing), &effect));
                    variance = settings.assumed_variance;
                }
                (Population::gaussian(seen, settings.assumed_variance, means, variance)?, 0.0)
            }
        };
        let theta = population.minimizer(ridge)?;
        let mut target = population.hessian(&theta)?;
        if way == Way::RidgeWithin {
            (0..theta.len()).for_each(|j| target[(j, j)] += ridge);
        }
        Ok(Self { population, theta, target })
    }

    /// ‖E F_n − H‖.
    fn surrogate(&self, kind: FisherKind) -> Result<f64> {
        let mut difference = self.population.fisher(&self.theta, kind)?;
        difference.add_scaled(-1.0, &self.target)?;
        Ok(difference.norm())
    }
}

impl Misspecified {
    fn last(&self) -> usize {
        self.rows.last().copied().unwrap_or(0)
    }
}

/// Way and kind of each claim.
fn cases() -> impl Iterator<Item = (Way, FisherKind)> {
    Way::ALL.into_iter().flat_map(|way| FisherKind::ALL.map(|kind| (way, kind)))
}

impl Experiment for Misspecified {
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
        for (name, count) in [("width", self.width), ("classes", self.classes)] {
            if count < 2 {
                return Err(Error::argument(name, "at least 2", count));
            }
        }
        if self.points <= self.width {
            return Err(Error::argument("points", format_args!("more than width = {}", self.width), self.points));
        }
        if !(0.0..=1.0).contains(&self.label_noise) {
            return Err(Error::argument("label_noise", "a share from 0 to 1", self.label_noise));
        }
        check_count("missing", self.missing)?;
        check_positive("missing_effect", self.missing_effect)?;
        check_positive("tolerance", self.tolerance)?;
        check_positive("assumed_variance", self.assumed_variance)?;
        check_nonnegative("true_variance", self.true_variance)?;
        check_positive("ridge", self.ridge)
    }

    fn claims(&self) -> Vec<Claim> {
        let claim = |(way, kind): (Way, FisherKind)| {
            let (subject, from, last) = (format!("{}, {}", way.name(), kind.name()), self.slope_from, self.last());
            let (statement, rule) = if way.flattens(kind) {
                let rule = Rule::Agrees { predicted: 1.0, relative: PLATEAU_TOLERANCE };
                (format!("{subject}: ‖Fₙ − H‖ at n = {last} over the surrogate term ‖E Fₙ − H‖"), rule)
            } else {
                let rule = Rule::SlopeWithin { predicted: -0.5, tolerance: self.tolerance };
                (format!("{subject}: slope of log ‖Fₙ − H‖ by log n from n = {from} on"), rule)
            };
            Claim::new(Self::NAME, statement, rule)
        };
        cases().map(claim).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        &["way", "fisher", "replicate", "n", "relative_error"]
    }

    fn pieces(&self) -> usize {
        Way::ALL.len() * self.replicates
    }

    fn work(&self, _piece: usize) -> u64 {
        self.last() as u64
    }

    fn set_up<'a>(&'a self, bench: Bench<'a>) -> Result<Pieces<'a>> {
        let scenes = Way::ALL.map(|way| Scene::new(self, way, bench.key));
        let scenes = scenes.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(Box::new(move |piece| {
            let (index, replicate) = (piece / self.replicates, piece % self.replicates);
            let (way, scene) = (Way::ALL[index], &scenes[index]);
            let key = bench.key.named(way.name()).child(replicate as u64);
            let size = scene.target.norm();
            let mut rows = Rows::default();
            let at = (scene.population.model(), scene.theta.as_slice());
            let errors = errors_along(at, &scene.target, &self.rows, |count, key| scene.population.draw(count, key), key)?;
            for (kind, errors) in FisherKind::ALL.into_iter().zip(errors) {
                for (n, error) in self.rows.iter().zip(errors) {
                    let names = [way.name().to_owned(), kind.name().to_owned(), replicate.to_string(), n.to_string()];
                    rows.push(names.into_iter().chain([rounded(error / size)]));
                }
            }
            Ok(rows)
        }))
    }

    fn measure(&self, bench: Bench<'_>, rows: &Table) -> Result<Findings> {
        let mut findings = Findings::default();
        let mut theory = Table::new(["way", "fisher", "n", "relative_error", "surrogate"]);
        let mut plateaus =
            Table::new(["way", "fisher", "surrogate", "hessian_norm", "relative_surrogate", "relative_plateau", "low", "high"]);
        for way in Way::ALL {
            let scene = Scene::new(self, way, bench.key)?;
            let size = scene.target.norm();
            for kind in FisherKind::ALL {
                let names = || [way.name().to_owned(), kind.name().to_owned()].into_iter();
                let curves = Curves::read(rows, &[("way", way.name()), ("fisher", kind.name())], "n", "relative_error")?;
                let (surrogate, scatter) = (scene.surrogate(kind)?, scene.population.scatter(&scene.theta, kind)?);
                let (plateau, half) = mean_with_limits("replicates", &curves.at(curves.x.len() - 1), CONFIDENCE)?;
                let numbers = [surrogate, size, surrogate / size, plateau, plateau - half, plateau + half];
                plateaus.push(names().chain(numbers.map(cell)))?;
                for &n in &curves.x {
                    let error = (surrogate * surrogate + scatter / n).sqrt();
                    theory.push(names().chain([n, error / size, surrogate / size].map(cell)))?;
                }
                findings.measured.push(if way.flattens(kind) {
                    let ratio = |error: f64| error * size / surrogate;
                    Measured { value: ratio(plateau), low: ratio(plateau - half), high: ratio(plateau + half) }
                } else {
                    curves.between(self.slope_from as f64, f64::INFINITY).slope()?.into()
                });
            }
        }
        let named = |what: &str, table: Table| (format!("{}-{what}", Self::NAME), table);
        findings.tables = vec![named("theory", theory), named("plateaus", plateaus)];
        Ok(findings)
    }

    fn pictures(&self) -> Vec<Picture> {
        let theory = format!("{}-theory", Self::NAME);
        let panel = |way: Way| Panel {
            title: way.name().into(),
            x: Axis::log("rows n (count)"),
            layers: vec![
                Layer::new(&theory, "n", "relative_error")
                    .only("way", way.name())
                    .by("fisher")
                    .theory()
                    .named("√(surrogate² + C/n)"),
                Layer::new(Self::NAME, "n", "relative_error")
                    .only("way", way.name())
                    .by("fisher")
                    .center(Center::RootMeanSquare)
                    .band(Band::Quantiles(0.05, 0.95))
                    .named("{fisher}"),
            ],
            verticals: vec![],
        };
        let picture = |file: &str, title: &str, what: String, ways: &[Way]| Picture {
            file: file.into(),
            title: title.into(),
            caption: format!(
                "Relative error of Fₙ in the Frobenius norm at the minimizer of the expected loss: root mean square of {} streams with a \
                 band from the 5 % to the 95 % quantile. {what} Broken lines: √(‖E Fₙ − H‖² + C/n)/‖H‖, both terms exact sums over \
                 the population and the law of its labels.",
                self.replicates
            ),
            drawing: Drawing::Curves {
                y: Axis::log("‖Fₙ − H‖ / ‖H‖ (no unit)"),
                panels: ways.iter().copied().map(panel).collect(),
            },
        };
        let wrong = format!(
            "Label noise: {} of the labels drawn uniformly. Wrong variance: {} assumed, {} true. Missing features: {} that the model does \
             not see.",
            self.label_noise, self.assumed_variance, self.true_variance, self.missing
        );
        let ridge = format!(
            "θ is the minimizer with the ridge λ = {}; left the ridge is kept apart from H, right it is part of H and not of Fₙ.",
            self.ridge
        );
        vec![
            picture(
                Self::NAME,
                "Fisher estimates where the model is wrong",
                wrong,
                &[Way::LabelNoise, Way::WrongVariance, Way::MissingFeatures],
            ),
            picture(
                &format!("{}-ridge", Self::NAME),
                "Fisher estimates at a ridge minimizer",
                ridge,
                &[Way::RidgeApart, Way::RidgeWithin],
            ),
        ]
    }

    fn settings(&self) -> Result<toml::Table> {
        settings_of(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is claimed to flatten has a surrogate term, and what is claimed to fall has none.
    #[test]
    fn the_surrogate_is_zero_exactly_where_errors_are_said_to_fall() {
        let settings = Misspecified::sized(Size::Quick);
        for (way, kind) in cases() {
            let scene = Scene::new(&settings, way, Key::new(1)).unwrap();
            let relative = scene.surrogate(kind).unwrap() / scene.target.norm();
            let (zero, large) = (relative < 1e-12, relative > 0.02);
            assert!(if way.flattens(kind) { large } else { zero }, "{way:?}, {kind:?}: {relative}");
        }
    }

    /// F = (σ_t²/σ²)·H for observed labels, so that the surrogate term is |σ_t²/σ² − 1|·‖H‖.
    #[test]
    fn a_wrong_variance_has_its_closed_form() {
        let settings = Misspecified::sized(Size::Quick);
        let scene = Scene::new(&settings, Way::WrongVariance, Key::new(1)).unwrap();
        let ratio = scene.surrogate(FisherKind::Empirical).unwrap() / scene.target.norm();
        assert!((ratio - (settings.true_variance / settings.assumed_variance - 1.0).abs()).abs() < 1e-12, "{ratio}");
    }

    /// λ√d where the ridge is left out.
    #[test]
    fn a_ridge_that_is_left_out_has_its_closed_form() {
        let settings = Misspecified::sized(Size::Quick);
        let scene = Scene::new(&settings, Way::RidgeWithin, Key::new(1)).unwrap();
        let expected = settings.ridge * (scene.theta.len() as f64).sqrt();
        assert!((scene.surrogate(FisherKind::Expected).unwrap() - expected).abs() < 1e-13);
    }
}
